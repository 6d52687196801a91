"""Write the tables of results into the pages, from the files in `benchmarks/results` alone.

python docs/tools/tables.py            write them
python docs/tools/tables.py --check    say which pages are out of date, exit code 1 if any is

A page marks the place of a table with two comments, `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from results import ROOT, Cells, read
from studies import ABLATIONS, STARTS, course, repeats, row_changes, rows_of

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
DEMO_SETS = {"test": "in-domain", "ood_content": "unseen content", "ood_distortion": "unseen distortions"}
DEMO_METRICS = ("srcc", "plcc", "rmse")


def main() -> None:
    """Write or check every marked table."""
    parser = argparse.ArgumentParser(description="Write the tables of results into the pages.")
    parser.add_argument("--check", action="store_true", help="only say which pages are out of date")
    options = parser.parse_args()
    stale = [page for page in PAGES if filled(page) != page.read_text(encoding="utf-8")]
    for page in stale:
        sys.stdout.write(f"{page.relative_to(ROOT)}\n")
        if not options.check:
            page.write_text(filled(page), encoding="utf-8")
    raise SystemExit(1 if options.check and stale else 0)


def filled(page: Path) -> str:
    """Return a page's text with its tables written anew."""

    def replace(found: re.Match[str]) -> str:
        return f"{found[1]}{markdown(TABLES[found[2]]())}{found[3]}"

    return MARKED.sub(replace, page.read_text(encoding="utf-8"))


def markdown(rows: Cells) -> str:
    """Lay out rows, the first of which is the head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    rule = "|---" * len(rows[0]) + "|"
    return "\n".join([lines[0], rule, *lines[1:]]) + "\n"


def demo() -> Cells:
    """The demo's sets: what base, SFT and GRPO reach on average over the seeds, and an ideal scorer."""
    runs = read("demo")["runs"]
    rows = [["set", "metric", "base", "SFT", "GRPO", "ideal scorer"]]
    for name, title in DEMO_SETS.items():
        for metric in DEMO_METRICS:
            means = [
                statistics.mean(run["results"][model][name][metric] for run in runs)
                for model in ("base", "sft", "grpo")
            ]
            ideal = runs[0]["ceilings"][name].get(metric)
            cells = [f"{mean:.3f}" for mean in means] + ["" if ideal is None else f"{ideal:.3f}"]
            rows.append([title, metric.upper(), *cells])
    return rows


def changes() -> Cells:
    """The demo's differences: the mean over the seeds with its 95 % interval."""
    return differences(read("demo")["differences"])


def expected_changes() -> Cells:
    """The same where scores are read as the expectation of their digits."""
    return differences(read("demo")["differences of expectations"])


def differences(found: dict[str, Any]) -> Cells:
    """Differences of models on each set."""
    rows = [["set", "metric", "GRPO − base", "SFT − base", "GRPO − SFT"]]
    for name, title in DEMO_SETS.items():
        for metric in DEMO_METRICS:
            cells = [found[pair][name][metric] for pair in ("grpo - base", "sft - base", "grpo - sft")]
            shown = [f"{c['mean']:+.3f} [{c['low']:+.3f}, {c['high']:+.3f}]" for c in cells]
            rows.append([title, metric.upper(), *shown])
    return rows


def signal() -> Cells:
    """Signal over noise of one step's gradient, for several shapes of the batch."""
    parts = ("all", "attention", "MLP", "motion projector")
    rows = [["weights", "batch", *(f"{part} weights" if part == "all" else part for part in parts)]]
    for found in read("learning")["gradients"]:
        ratios = [f"{found[part]['ratio']:.3f} ± {found[part]['error']:.3f}" for part in parts]
        rows.append([found["weights"], found["batch"], *ratios])
    return rows


def digits() -> Cells:
    """How scores follow the labels by their digits: means over the seeds."""
    columns = ("whole", "first digit", "same first digit")
    rows = [
        ["model", "whole score", "first digit alone", "among equal first digits", "bits of the three digits"]
    ]
    for model, title in {"base": "base", "sft": "SFT", "grpo": "GRPO"}.items():
        found = [one for one in read("learning")["digits"] if one["model"] == model]
        means = [f"{statistics.mean(one[column] for one in found):.3f}" for column in columns]
        bits = [
            f"{statistics.mean(place):.1f}" for place in zip(*(one["bits"] for one in found), strict=True)
        ]
        rows.append([title, *means, ", ".join(bits)])
    return rows


def interval(estimate: dict[str, float]) -> str:
    """A value with its 95 % interval."""
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def speed() -> Cells:
    """The first page's table: what is compared, with what, and the ratio."""
    update = read("train_step")["results"]
    cycle = read("cycle_bfloat16")["results"]
    memory = read("memory")["results"]
    rollout = read("rollout")["results"]["middle"]
    evaluation = read("evaluate")["results"]["middle"]["speedup"]
    reader = read("data")["results"]["reader"]
    published = cycle["released / ours, two videos"]
    return [
        ["what", "compared with", "ratio"],
        ["a whole training step, rollouts by vLLM", "the published way", faster(published)],
        ["an update of one group of 4", "TRL 1.16, row by row", faster(update["TRL / ours"])],
        ["peak memory of that update", "the same", f"{memory['plain']['update_ratio']:.2f}"],
        ["rollouts by vLLM", "Hugging Face", faster(rollout["speedup"])],
        [
            "evaluation with vLLM",
            "one video after the other, or 16 at a time",
            f"{evaluation['published, batch 1']:.1f} or {faster(evaluation['published, batch 16'])}",
        ],
        ["reading keyframes of 1080p files", "decord alone", f"{reader['ours / decord']:.2f} of its time"],
    ]


def faster(ratio: float) -> str:
    """How many times less time."""
    return f"{ratio:.1f} times faster"


def update() -> Cells:
    """One update: time and memory by its variants."""
    results = read("train_step")["results"]
    memory = read("memory")["results"]
    checkpointed = memory["gradient checkpointing"]
    return [
        ["what", "against", "ratio"],
        ["time", "TRL, row by row", f"1 / {results['TRL / ours']:.2f}"],
        ["peak memory", "TRL, row by row", f"{memory['plain']['update_ratio']:.2f}"],
        ["peak memory, checkpointed", "TRL, checkpointed", f"{checkpointed['update_ratio']:.2f}"],
        ["time with 16 responses", "with 4", f"{results['K=16 / K=4']:.2f}"],
        ["time with prompts of 3,200 tokens", "800 tokens", f"{results['P=3200 / P=800']:.2f}"],
        ["time with `--packed_attention dense`", "`segments`", f"{results['dense mask / ours']:.2f}"],
    ]


def cycle() -> Cells:
    """A whole step: decode, rollouts of videos and twins, update."""
    results = read("cycle_bfloat16")["results"]
    two = "released / ours, two videos"
    passes = "released / ours, two videos, two passes"
    one = "released / ours, one video"
    slow = "released / ours, one video, Hugging Face"
    return [
        ["step", "rollouts", "published way's time / ours"],
        ["two videos in one pass", "vLLM", f"{results[two]:.2f}"],
        ["two videos in two passes", "vLLM", f"{results[passes]:.2f}"],
        ["one video", "vLLM", f"{results[one]:.2f}"],
        ["one video", "Hugging Face", f"{results[slow]:.2f}"],
    ]


def rollouts() -> Cells:
    """Rollouts by vLLM against Hugging Face, on the same requests."""
    rows = [["weights", "prompt", "vLLM / Hugging Face", "prefix cache hits", "synchronisation"]]
    for result in read("rollout")["results"].values():
        rows.append(
            [
                millions(result["weights"]),
                f"{result['prompt_tokens']} tokens",
                f"{result['speedup']:.2f}",
                share(result["prefix_hit_rate"]),
                share(result["sync_share"]),
            ]
        )
    return rows


def millions(number: int) -> str:
    """A number of weights."""
    return f"{number / 1e6:.1f} M"


def evaluation() -> Cells:
    """Evaluation with vLLM against one process that decodes, then generates."""
    rows = [["weights", "against batches of 1", "against batches of 16", "share of time waiting for files"]]
    for result in read("evaluate")["results"].values():
        ratios = result["speedup"]
        rows.append(
            [
                millions(result["weights"]),
                f"{ratios['published, batch 1']:.2f}",
                f"{ratios['published, batch 16']:.2f}",
                share(result["wait_share"]),
            ]
        )
    return rows


def share(part: float) -> str:
    """A share that may be tiny."""
    return f"{100 * part:.1f} %" if part >= 0.001 else "below 0.1 %"


def data() -> Cells:
    """Reading 1080p files, and waiting for them."""
    results = read("data")["results"]
    training = results["training"]
    return [
        ["what", "against", "ratio"],
        ["reading keyframes", "decord's bare `get_batch`", f"{results['reader']['ours / decord']:.2f}"],
        ["waiting for files, first step", "the step", share(training["first_step_share"])],
        ["waiting for files, later steps", "the step", share(training["largest_later_share"])],
    ]


def data_engine() -> Cells:
    """Distortions, copies and builds."""
    figures = read("data_engine")["figures"]
    build = read("data_engine")["results"]["build"]
    return [
        ["what", "against", "figure"],
        [
            "a distortion, median of 25",
            "its plainest form, frame by frame",
            f"{figures['kernels, median']:.0f} times faster",
        ],
        ["the least of them", "the same", f"{figures['kernels, least']:.1f} times faster"],
        [
            "a distorted copy, median of six cheap ones",
            "bare decoding and encoding",
            f"{figures['copies / bare, median']:.2f} of its time",
        ],
        ["the most of them", "the same", f"{figures['copies / bare, most']:.2f} of its time"],
        ["copies by two processes", "by one", f"{figures['two workers']:.2f} times faster"],
        [
            "the same, by a pool of the standard library",
            "by one",
            f"{figures['two processes of the standard library']:.2f} times faster",
        ],
        ["peak memory for 300 s of video", "for 10 s", f"{figures['memory, 300 s / 10 s']:.3f}"],
        [
            f"a build of {build['clips']:,} clips, killed {build['kills']} times, and a second one",
            "one that ran through",
            f"{build['differ']} files differ",
        ],
    ]


def multitask() -> Cells:
    """Two tasks at once: the start, and each run's difference from it."""
    found = read("multitask")
    figures = {"kind": "right kind", "kind and degree": "right kind and degree", "srcc": "SRCC of the scores"}
    rows = [["set", "figure", "start", "GRPO on both", "GRPO on scores", "SFT on both"]]
    for place, title in DEMO_SETS.items():
        for figure, name in figures.items():
            cells = [found["changes"][run][f"{place}, {figure}"] for run in ("mixed", "scores", "supervised")]
            shown = [f"{c['mean']:+.3f} [{c['low']:+.3f}, {c['high']:+.3f}]" for c in cells]
            rows.append([title, name, f"{found['results']['start'][place][figure]:.3f}", *shown])
    return rows


def questions() -> Cells:
    """Questions and the page."""
    results = read("questions")["results"]
    return [
        ["what", "against", "ratio"],
        [
            "closed questions, vLLM at batch 16",
            "one after the other, Hugging Face",
            f"{results['questions']['ratio']:.1f} times faster",
        ],
        ["a clip on the page", "the same scorer", f"{results['page']['ratio']:.2f} of its time"],
        [
            "the same",
            "`vqathinker score`, which loads the model",
            f"{results['page']['to the command']:.2f} of its time",
        ],
    ]


def samples() -> Cells:
    """Readings of a score on the demo's model."""
    rows = [["reading", "SRCC", "PLCC"]]
    for row in read("samples")["rows"]:
        if row["combine"] not in {"", "mean"}:
            continue
        name = row["mode"] if not row["combine"] else f"mean of {row['mode']} samples"
        rows.append([name, interval(row["srcc"]), interval(row["plcc"])])
    return rows


def rewards() -> Cells:
    """Milliseconds of the four rewards for a global batch."""
    rows = [["videos × responses", "data sets", "all four rewards", "ranking in plain loops / ours"]]
    for case in read("rewards")["cases"]:
        videos, responses = case["shape"]
        rows.append(
            [
                f"{videos:,} × {responses}",
                str(case["datasets"]),
                f"{case['median_ms']['all four']:.1f} ms",
                f"{case['loop_over_ranking']:.0f}",
            ]
        )
    return rows


TABLES: dict[str, Callable[[], Cells]] = {
    "speed": speed,
    **{f"rows_{table}": partial(rows_of, table) for table in (*ABLATIONS, STARTS)},
    **{f"changes_{table}": partial(row_changes, table) for table in ABLATIONS},
    "repeats": repeats,
    "course": course,
    "demo": demo,
    "changes": changes,
    "expected": expected_changes,
    "signal": signal,
    "digits": digits,
    "update": update,
    "cycle": cycle,
    "rollouts": rollouts,
    "evaluation": evaluation,
    "data": data,
    "data_engine": data_engine,
    "multitask": multitask,
    "questions": questions,
    "samples": samples,
    "rewards": rewards,
}

if __name__ == "__main__":
    main()

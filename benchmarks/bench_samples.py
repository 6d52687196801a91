"""Test-time scaling: SRCC of sampled scores against the number of samples and the way they are combined.

python benchmarks/bench_samples.py --out out/bench_samples

Trains the demo (`recipes/demo.py`) unless `--demo` names a finished run of it, then scores its test clips
greedily, by expected value, and with 2, 4, 8 and 16 samples. Each pass is kept in a file of its own, so an
interrupted command can be repeated.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from common import RECIPES, arguments, environment, write
from rich.console import Console
from rich.table import Table

DEMO = RECIPES / "demo.py"
WAYS = ("mean", "median", "trimmed", "confidence")
PASSES = {"greedy": {}, "expected": {"expected": True}} | {str(n): {"samples": n} for n in (2, 4, 8, 16)}


def main() -> None:
    """Run the missing passes, print a table, write the JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/bench_samples"))
    parser.add_argument("--demo", type=Path, help="OUT of a finished demo; OUT/demo is run if omitted")
    parser.add_argument("--data", type=Path, help="its clips; DEMO/world if omitted")
    options = parser.parse_args()
    demo = options.demo or options.out / "demo"
    if not (demo / "summary.json").exists():
        subprocess.run([sys.executable, str(DEMO), "--out", str(demo)], check=True)
    options.out.mkdir(parents=True, exist_ok=True)
    done = {name: run(options.out, demo, options.data or demo / "world", name) for name in PASSES}
    rows = [row for name, scored in done.items() for row in measure(name, scored)]
    report = {
        "environment": environment(("torch", "transformers")),
        "videos": len(done["greedy"]["targets"]),
        "rows": rows,
        "seconds": {name: scored["seconds"] for name, scored in done.items()},
    }
    show(rows)
    write("samples", report)


def run(out: Path, demo: Path, data: Path, name: str) -> dict:
    """Score the test clips in one mode unless it has been done."""
    path = out / f"{name}.json"
    if not path.exists():
        from vqathinker import Scorer
        from vqathinker.data.dataset import load_labels

        rows = load_labels(data / "test.csv", video_dir=data, mos_range=(1, 5), scale="affine")
        with Scorer.from_pretrained(demo / "grpo/merged", max_new_tokens=48, batch_size=40) as scorer:
            start = time.perf_counter()
            results = list(scorer.stream(rows["path"], **PASSES[name]))
            seconds = time.perf_counter() - start
        kept = {
            "seconds": round(seconds, 1),
            "targets": rows["target"][:],
            "scores": [result.to_dict()["raw"] for result in results],
            "details": [result.to_dict()["details"] for result in results],
        }
        path.write_text(json.dumps(kept) + "\n")
    return json.loads(path.read_text())


def measure(name: str, scored: dict) -> list[dict]:
    """SRCC and PLCC with 95 % bootstrap intervals: one row, or one for each way to combine samples."""
    from vqathinker.metrics import correlations

    columns = {"": scored["scores"]}
    if name.isdigit():
        columns = {way: [detail[way] for detail in scored["details"]] for way in WAYS}
    rows = []
    for way, values in columns.items():
        metrics = correlations(np.array(values, dtype=np.float64), np.array(scored["targets"])).to_dict()
        rows.append({"mode": name, "combine": way, "srcc": metrics["srcc"], "plcc": metrics["plcc"]})
    return rows


def show(rows: list[dict]) -> None:
    """Print one line per mode and way."""
    table = Table("samples", "combined by", "SRCC", "PLCC", title="95 % bootstrap intervals")
    for row in rows:
        cells = ["{value:.3f} [{low:.3f}, {high:.3f}]".format(**row[metric]) for metric in ("srcc", "plcc")]
        table.add_row(row["mode"], row["combine"], *cells)
    Console().print(table)


if __name__ == "__main__":
    main()

"""Tables of the trainings in the small world, from the files of `recipes/ablate.py`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from results import RESULTS, Cells, read

from vqathinker.evaluation.ablations import (
    DOMAINS,
    METRICS,
    Figures,
    compared,
    of_domain,
    reached,
    read_figures,
    read_table,
)

FOLDER = RESULTS / "ablations"
# tables that have been run
ABLATIONS = (
    "4",
    "7",
    "1",
    "gate",
    "opponents",
    "losses",
    "advantages",
    "group_size",
    "start",
    "delta",
    "tau",
    "sigma",
    "alpha",
    "perturbations",
    "parts",
    "rate",
    "beta",
)

FALSE_DISCOVERIES = 0.05
OF_THE_COURSE = ("4", "beta", "rate", "parts")  # tables whose rows say how training went
STARTS = "starts"  # one of the starts alone, which has no differences


def rows_of(table: str) -> Cells:
    """What the rows of an ablation reached."""
    header, rows = reached(read_table(table), figures_of(table))
    return [header, *rows]


def row_changes(table: str) -> Cells:
    """By how much the rows of an ablation differ."""
    header, rows = compared(read_table(table), figures_of(table))
    return [header, *rows]


def repeats() -> Cells:
    """Every row of the ablations against all trainings with the full recipe, by Welch's test.

    Bold where it differs at a false-discovery rate of 5 % over the whole table.
    """
    from scipy import stats

    same = full_trainings()
    header = [
        "row",
        "runs",
        *(f"{title} {metric.upper()}" for title in DOMAINS.values() for metric in METRICS),
    ]
    spread = [f"{mean:.3f} ± {sd:.3f}" for mean, sd in zip(same.mean(0), same.std(0, ddof=1), strict=True)]
    titles = titles_of(ABLATIONS)
    # what the others are compared with
    for repeated in ("full", "gspo"):
        del titles[repeated]
    # one run has no variance to test with
    figures = read_figures([FOLDER], list(titles))
    found = {name: all_figures(one.domains) for name, one in figures.items() if len(one.seeds) > 1}
    p_values = np.array([stats.ttest_ind(one, same, equal_var=False).pvalue for one in found.values()])
    differs = stats.false_discovery_control(p_values.ravel()).reshape(p_values.shape) < FALSE_DISCOVERIES
    rows = [["all rewards", str(len(same)), *spread]]
    for (name, one), marks in zip(found.items(), differs, strict=True):
        changes = [f"{change:+.3f}" for change in one.mean(0) - same.mean(0)]
        shown = [f"**{change}**" if mark else change for change, mark in zip(changes, marks, strict=True)]
        rows.append([titles[name], str(len(one)), *shown])
    return [header, *rows]


def titles_of(tables: Sequence[str]) -> dict[str, str]:
    """The rows of some tables by name, with titles that speak for themselves."""
    titles: dict[str, str] = {}
    for name in tables:
        table = read_table(name)
        prefix = "" if table.source else f"{table.title}: "  # the paper's need none
        for row in table.rows.values():
            titles.setdefault(row.name, prefix + row.title)
    return titles


def full_trainings() -> np.ndarray:
    """What the full recipe reached: its row's runs, GSPO's and the demo's; figures as in `all_figures`.

    With one update for each generation GSPO's gradient is GRPO's, so that its runs repeat the row's but for
    rounding; those that came out bit for bit the same count once.
    """
    rows = read_figures([FOLDER], ["full", "gspo"])
    shown = [run["results"]["grpo"] for run in read("demo")["runs"]]
    runs = {
        domain: np.concatenate(
            [*(row.domains[domain] for row in rows.values()), [of_domain(one, domain) for one in shown]]
        )
        for domain in DOMAINS
    }
    return np.unique(all_figures(runs), axis=0)


def course() -> Cells:
    """How varied scores are in the end, and where training came from and went; means over runs."""
    rows = [["row", "runs", "distinct scores in-domain", "entropy", "KL in the end", "reward"]]
    for name, title in titles_of(OF_THE_COURSE).items():
        files = sorted(FOLDER.glob(f"{name}-*.json"))
        found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        # a run of supervised tuning has none
        known = [one for one in found if "course" in one]
        if not known:
            continue
        ends = {
            key: [statistics.mean(one["course"][key][end] for one in known) for end in (0, 1)]
            for key in ("entropy", "kl", "reward")
            if key in known[0]["course"]  # no KL without a reference
        }
        distinct = statistics.mean(one["results"]["test"]["distinct"] for one in known)
        entropy = "{:.3f} → {:.3f}".format(*ends["entropy"])
        reward = "{:.2f} → {:.2f}".format(*ends["reward"])
        kl = f"{ends['kl'][1]:.3f}" if "kl" in ends else "-"
        rows.append([title, str(len(known)), f"{distinct:.0f}", entropy, kl, reward])
    return rows


def all_figures(domains: Mapping[str, np.ndarray]) -> np.ndarray:
    """The figures of runs in all domains side by side."""
    return np.concatenate([domains[domain] for domain in DOMAINS], axis=1)


def figures_of(table: str) -> dict[str, Figures]:
    """The figures of an ablation's rows."""
    return read_figures([FOLDER], list(read_table(table).rows))

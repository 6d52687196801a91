"""Tables of an ablation: rows over seeds, each compared with another row, the published figures beside.

Reads what `recipes/ablate.py` writes, a file for each row and seed. Needs no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vqathinker.data.benchmarks import BENCHMARKS
from vqathinker.launch.recipes import recipe_folder
from vqathinker.metrics import Estimate, overall
from vqathinker.types import FloatArray

ABLATIONS = "ablations"  # in the folder of the recipes
METRICS = ("srcc", "plcc")
DOMAINS = {"in_domain": "in-domain", "ood": "OOD"}
# the sets of the demo's world: whether they are in-domain
OF_THE_WORLD = {"test": True, "ood_content": False, "ood_distortion": False}
UNTRAINED = "none"  # recipe of a row that is its start
CONFIDENCE = 0.95
Table = tuple[list[str], list[list[str]]]


@dataclass(frozen=True)
class AblationRow:
    """A row of a table, as `tables.yaml` describes it.

    Attributes:
        name: that of its YAML.
        title: what it is called.
        against: name of the row that it is compared with.
        paper: domain to published SRCC and PLCC, where there are some.
        recipe: "grpo" or "sft", or "none" for its start as it is.
        start: name of the checkpoint that it starts from.
        labels: name of the labels that it learns from, empty for the plain ones.
        scale: the only one that has it, empty for any.
    """

    name: str
    title: str
    against: str
    paper: Mapping[str, Sequence[float]] = field(default_factory=dict)
    recipe: str = "grpo"
    start: str = "base"
    labels: str = ""
    scale: str = ""

    @property
    def settings(self) -> Path:
        """The YAML with its difference from the recipe."""
        return recipe_folder() / ABLATIONS / f"{self.name}.yaml"


@dataclass(frozen=True)
class Ablation:
    """A table of `tables.yaml`.

    Attributes:
        title: what it is about.
        source: of the published figures, empty without any.
        rows: by name, in order.
    """

    title: str
    source: str
    rows: Mapping[str, AblationRow]


@dataclass(frozen=True)
class Figures:
    """What a row reached: (seeds, metrics) of each domain, in the order of the seeds."""

    seeds: tuple[int, ...]
    domains: Mapping[str, FloatArray]


@dataclass(frozen=True)
class RowDifference:
    """By how much a row exceeds another in one metric, over the seeds that both have.

    Attributes:
        difference: its mean, with the 95 % t interval.
        p_value: of the paired t-test, two-sided; NaN below two seeds.
        paper: the published difference, NaN where there is none.
    """

    difference: Estimate
    p_value: float
    paper: float

    @property
    def verdict(self) -> str:
        """Whether the sign is the paper's; undecided where the interval holds 0.

        >>> RowDifference(Estimate(-0.02, -0.03, -0.01), 0.01, -0.006).verdict
        'agrees'
        """
        if not np.isfinite(self.paper):
            return ""
        if not (self.difference.low > 0 or self.difference.high < 0):
            return "undecided"
        return "agrees" if self.difference.value * self.paper > 0 else "disagrees"


def read_table(name: str) -> Ablation:
    """A table of the recipes' `ablations/tables.yaml`.

    Raises:
        ValueError: if there is none of this name.
    """
    tables = yaml.safe_load((recipe_folder() / ABLATIONS / "tables.yaml").read_text(encoding="utf-8"))
    if name not in tables:
        raise ValueError(f"--table {name}: expected one of {', '.join(tables)}")
    content = tables[name]
    rows = {
        row: AblationRow(row, **({"against": content["against"]} | entry))
        for row, entry in content["rows"].items()
    }
    return Ablation(content["title"], content.get("source", ""), rows)


def read_figures(folders: Sequence[Path], rows: Sequence[str]) -> dict[str, Figures]:
    """The figures of some rows from the result files in folders; rows without any are left out.

    Raises:
        ValueError: if there is no result of them, a row and seed has two, or they cannot be compared: scales
            or sets differ.
        OSError: if a file cannot be read.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {}
    scales: set[str] = set()
    sets: dict[str, Path] = {}  # their names, and the first file that has them
    for file in sorted(path for folder in folders for path in folder.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("row") not in rows:
            continue
        scales.add(content["scale"])
        sets.setdefault(", ".join(sorted(content["results"])), file)
        seeds = found.setdefault(content["row"], {})
        if content["seed"] in seeds:
            raise ValueError(f"{file}: a second result for {content['row']} and seed {content['seed']}")
        seeds[content["seed"]] = content["results"]
    if not found:
        names = ", ".join(map(str, folders))
        raise ValueError(f"{names}: no result of this table; recipes/ablate.py makes them")
    if len(scales) > 1:
        raise ValueError(f"results of different scales cannot be compared: {', '.join(sorted(scales))}")
    if len(sets) > 1:
        differing = "; ".join(f"{file}: {names}" for names, file in sets.items())
        raise ValueError(f"results on different sets cannot be compared: {differing}")
    return {row: _figures(found[row]) for row in rows if row in found}


def _figures(seeds: Mapping[int, Mapping[str, Any]]) -> Figures:
    order = tuple(sorted(seeds))
    domains = {
        domain: np.array([of_domain(seeds[seed], domain) for seed in order], dtype=np.float64)
        for domain in DOMAINS
    }
    return Figures(order, domains)


def of_domain(results: Mapping[str, Any], domain: str) -> list[float]:
    """The metrics over the sets of a domain, weighted by their numbers of videos; NaN without sets."""
    sets = [found for name, found in results.items() if _is_in_domain(name) == (domain == "in_domain")]
    if not sets:
        return [np.nan] * len(METRICS)
    counts = [found["videos"] for found in sets]
    return [overall([found[metric] for found in sets], counts) for metric in METRICS]


def _is_in_domain(name: str) -> bool:
    if name in BENCHMARKS:
        return BENCHMARKS[name].in_domain
    if name not in OF_THE_WORLD:
        raise ValueError(
            f"{name}: neither a set that `vqathinker datasets` lists nor one of the demo's world"
        )
    return OF_THE_WORLD[name]


def estimate(values: FloatArray) -> Estimate:
    """Mean of (seeds,) values with its 95 % t interval, which is NaN below two seeds.

    >>> found = estimate(np.array([0.7, 0.8]))
    >>> round(found.value, 3), round(found.low, 3), round(found.high, 3)
    (0.75, 0.115, 1.385)
    """
    from scipy import stats

    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean, np.nan, np.nan)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values))
    return Estimate(mean, mean - half, mean + half)


def compare(
    table: Ablation, figures: Mapping[str, Figures], name: str, domain: str
) -> list[RowDifference] | None:
    """How a row differs from the one that it is compared with, a change for each metric; None for itself.

    None too where one of the two has no result or they share no seed.
    """
    from scipy import stats

    row = table.rows[name]
    if name == row.against or name not in figures or row.against not in figures:
        return None
    mine = figures[name]
    other = figures[row.against]
    shared = sorted(set(mine.seeds) & set(other.seeds))
    if not shared:
        return None
    left = mine.domains[domain][[mine.seeds.index(seed) for seed in shared]]
    right = other.domains[domain][[other.seeds.index(seed) for seed in shared]]
    published = _published_difference(table, name, domain)
    p_values = stats.ttest_rel(left, right).pvalue if len(shared) > 1 else [np.nan] * len(METRICS)
    changes = zip((left - right).T, p_values, published, strict=True)
    return [RowDifference(estimate(values), float(p), paper) for values, p, paper in changes]


def _published_difference(table: Ablation, name: str, domain: str) -> list[float]:
    mine = table.rows[name].paper.get(domain)
    against = table.rows[name].against
    other = table.rows[against].paper.get(domain)
    if mine is None or other is None:
        return [np.nan] * len(METRICS)
    return [left - right for left, right in zip(mine, other, strict=True)]


def reached(table: Ablation, figures: Mapping[str, Figures]) -> Table:
    """A row of figures for each row of an ablation: the mean over the seeds with its interval."""
    columns = [(domain, i) for domain in DOMAINS for i in range(len(METRICS))]
    header = [f"{DOMAINS[domain]} {METRICS[i].upper()}" for domain, i in columns]
    has_paper = any(row.paper for row in table.rows.values())
    rows = []
    for name, found in figures.items():
        row = table.rows[name]
        cells = [_mean(estimate(found.domains[domain][:, i]), ".3f") for domain, i in columns]
        if has_paper:
            published = [row.paper[domain][0] if domain in row.paper else None for domain in DOMAINS]
            cells += ["-" if value is None else f"{value:.3f}" for value in published]
        rows.append([row.title, str(len(found.seeds)), *cells])
    papers = [f"published SRCC, {title}" for title in DOMAINS.values()] if has_paper else []
    return ["row", "seeds", *header, *papers], rows


def compared(table: Ablation, figures: Mapping[str, Figures]) -> Table:
    """Differences of each row from the one that it is compared with."""
    rows = []
    for name in figures:
        against = table.rows[table.rows[name].against].title
        for domain, title in DOMAINS.items():
            changes = compare(table, figures, name, domain)
            if changes is None:
                continue
            ours = [_mean(change.difference, "+.3f") + _p_value(change.p_value) for change in changes]
            of_srcc = changes[0]
            paper = f"{of_srcc.paper:+.3f}" if of_srcc.verdict else "-"
            rows.append([f"{table.rows[name].title} − {against}", title, *ours, paper, of_srcc.verdict])
    metrics = [metric.upper() for metric in METRICS]
    return ["difference", "domain", *metrics, "published SRCC", "the sign here"], rows


def _p_value(value: float) -> str:
    """As it stands behind a difference; nothing where there is none."""
    if np.isnan(value):
        return ""
    return " p < .001" if value < 0.001 else f" p = {value:.3f}"


def _mean(value: Estimate, form: str) -> str:
    """A mean over the seeds, with its interval where there is one."""
    interval = "" if np.isnan(value.low) else f" [{value.low:{form}}, {value.high:{form}}]"
    return f"{value.value:{form}}{interval}"

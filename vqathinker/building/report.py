"""What a build has made: a manifest for machines, a page with tables and plots for people."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import chisquare

from vqathinker import __version__
from vqathinker.atomic import remove_leftovers, rewrite_whole, whole_file
from vqathinker.building.run import Build
from vqathinker.building.sheet import draw_sheet
from vqathinker.opinions import level_index
from vqathinker.samples import Sample
from vqathinker.scale import ALIKE, BETTER, SCALE, WORDS, WORSE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANIFEST_FILE = "manifest.json"
REPORT_FILE = "report.md"
PLOTS_FILE = "report.png"
SHEET_FILE = "sheet.png"
VERSIONS = ("numpy", "scipy", "opencv-python-headless", "av", "pillow", "scikit-image")
NUM_BINS = 20
FEW = 12  # kinds of distortion that are named in the plot


@dataclass
class Counts:
    """What there is in the samples that were built.

    Attributes:
        tasks: samples of each task.
        media: of each kind of media.
        modes: worded by a template or by a model.
        kinds: of each distortion.
        severities: of each severity.
        scores: all targets.
        score_levels: targets in each fifth of the scale.
        levels: sum of the distributions over levels, best first.
        words: numbers of words of the answers, by task.
        preferences: pairs whose first is better, worse or alike.
        letters: right ones of closed questions, by the number of options.
        votes: judge to how often it gave which score.
        unanimous: statements that all judges gave the same score in all rounds.
        judged: statements that were judged.
        revised: statements that were corrected.
    """

    tasks: Counter[str] = field(default_factory=Counter)
    media: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    severities: Counter[str] = field(default_factory=Counter)
    scores: list[float] = field(default_factory=list)
    score_levels: Counter[str] = field(default_factory=Counter)
    levels: np.ndarray = field(default_factory=lambda: np.zeros(len(WORDS)))
    words: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    preferences: Counter[float] = field(default_factory=Counter)
    letters: dict[int, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    votes: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    unanimous: int = 0
    judged: int = 0
    revised: int = 0

    def add(self, sample: Sample) -> None:
        """Count a sample."""
        columns = sample.columns
        self.tasks[sample.task] += 1
        self.media[sample.media[0].kind] += 1
        if "mode" in columns:
            self.modes[columns["mode"]] += 1
        if columns.get("distortion"):
            self.kinds[str(columns["distortion"])] += 1
            self.severities[str(columns.get("severity", ""))] += 1
        if sample.target is not None:
            self.scores.append(sample.target)
            self.score_levels[WORDS[level_index(sample.target, *SCALE)]] += 1
        if sample.levels is not None:
            self.levels += sample.levels
        if sample.answer:
            self.words[sample.task].append(len(sample.answer.split()))
        if sample.preference is not None:
            self.preferences[sample.preference] += 1
        if sample.correct is not None:
            self.letters[len(sample.options)][sample.correct] += 1
        if votes := columns.get("votes"):
            self._add_votes(votes)
        if "revised" in columns:
            self.revised += 1

    def _add_votes(self, votes: Mapping[str, Sequence[int]]) -> None:
        self.judged += 1
        given = [score for scores in votes.values() for score in scores]
        if len(set(given)) == 1:
            self.unanimous += 1
        for judge, scores in votes.items():
            self.votes[judge].update(scores)


def write_report(build: Build, samples_file: Path) -> Path:
    """Write manifest, report, plots and contact sheet beside the samples.

    Returns:
        The file of the report.

    Raises:
        OSError: if one cannot be written.
    """
    counts = Counts()
    for sample in build.parts(build.recipe.names[-1]).samples():
        counts.add(sample)
    stages = _stages(build)
    rewrite_whole(build.out / MANIFEST_FILE, _manifest(build, stages, counts))
    for name in (PLOTS_FILE, SHEET_FILE):
        remove_leftovers(build.out / name)
    # without the name of the program, whose version would be in the bytes
    with whole_file(build.out / PLOTS_FILE) as part:
        draw(counts).savefig(part, dpi=100, format="png", metadata={"Software": None})
    with whole_file(build.out / SHEET_FILE) as part:
        index = build.parts(build.recipe.names[-1]).index()
        draw_sheet(index, build).savefig(part, dpi=100, format="png", metadata={"Software": None})
    report = build.out / REPORT_FILE
    rewrite_whole(report, _page(build, stages, counts, samples_file))
    return report


def _stages(build: Build) -> dict[str, dict[str, Any]]:
    """What each stage read, made and rejected."""
    found = {}
    for name in ("media", *build.recipe.names):
        parts = build.parts(name)
        # what stages of all samples leave out stands in their notes, not beside parts
        notes = dict(build.notes.get(name, {}))
        rejected = parts.rejected() + Counter(notes.pop("left out", {}))
        found[name] = {
            "samples": sum(parts.sizes()),
            "rejected": dict(sorted(rejected.items(), key=lambda item: (-item[1], item[0]))),
            **notes,
        }
    return found


def _manifest(build: Build, stages: Mapping[str, Any], counts: Counts) -> str:
    """All that says where the samples come from; nothing that differs when it is built again."""
    content = {
        "about": build.recipe.about,
        "seed": build.recipe.seed,
        "versions": {"vqathinker": __version__, **{name: version(name) for name in VERSIONS}},
        "recipe": {
            plan.name: {"stage": plan.kind, "from": list(plan.sources), **plan.options}
            for plan in build.recipe.stages
        },
        "listing": build.listing.digest,
        "stages": stages,
        "tasks": dict(counts.tasks),
        "distortions": dict(counts.kinds),
        "severities": dict(counts.severities),
        "levels of scores": dict(counts.score_levels),
    }
    return json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"


def _page(build: Build, stages: Mapping[str, dict[str, Any]], counts: Counts, samples_file: Path) -> str:
    """The report."""
    total = counts.tasks.total()
    lines = [f"# {samples_file.parent.resolve().name}", ""]
    if build.recipe.about:
        lines += [build.recipe.about, ""]
    lines += [f"{total:,} samples in `{samples_file.name}`, seed {build.recipe.seed}.", ""]
    rows = [
        (name, f"{stage['samples']:,}", f"{sum(stage['rejected'].values()):,}")
        for name, stage in stages.items()
    ]
    lines += _table("Stages", ("stage", "samples", "rejected"), rows)
    reasons = [
        (name, reason, f"{number:,}")
        for name, stage in stages.items()
        for reason, number in stage["rejected"].items()
    ]
    lines += _table("Rejections", ("stage", "reason", "number"), reasons)
    lines += _table("Tasks", ("task", "samples", "words of an answer, median"), _task_rows(counts))
    lines += _shares("Media", counts.media) + _shares("Worded by", counts.modes)
    lines += _shares("Distortions", counts.kinds) + _shares("Severities", counts.severities)
    lines += _shares("Levels of scores", counts.score_levels)
    if counts.levels.sum():
        shares = counts.levels / counts.levels.sum()
        told = [(word, f"{share:.1%}") for word, share in zip(WORDS, shares, strict=True)]
        lines += _table("Levels, mean of the distributions", ("level", "share"), told)
    if counts.preferences:
        named = {"first better": BETTER, "first worse": WORSE, "alike": ALIKE}
        pairs = Counter({name: counts.preferences[value] for name, value in named.items()})
        lines += _shares("Pairs", pairs)
    lines += _table(
        "Right letters of closed questions",
        ("options", "A, B, C …", "χ² test against chance, p"),
        _letters(counts),
    )
    if counts.judged:
        votes = [
            (judge, *(f"{scores[score]:,}" for score in (2, 1, 0)))
            for judge, scores in sorted(counts.votes.items())
        ]
        lines += _table("Votes on statements that were kept", ("judge", "2", "1", "0"), votes)
        share = counts.unanimous / counts.judged
        lines += [
            f"All votes agree on {share:.1%} of {counts.judged:,}; {counts.revised:,} were corrected.",
            "",
        ]
    lines += [f"![Plots]({PLOTS_FILE})", "", f"![Some of the samples]({SHEET_FILE})", ""]
    return "\n".join(lines)


def _task_rows(counts: Counts) -> list[tuple[str, str, str]]:
    return [
        (task, f"{number:,}", f"{np.median(counts.words[task]):g}" if counts.words.get(task) else "–")
        for task, number in counts.tasks.most_common()
    ]


def _letters(counts: Counts) -> list[tuple[str, str, str]]:
    """How often each letter is right, and whether chance explains that."""
    rows = []
    for number, letters in sorted(counts.letters.items()):
        observed = [letters[place] for place in range(number)]
        rows.append((str(number), " ".join(map(str, observed)), f"{chisquare(observed).pvalue:.2f}"))
    return rows


def _shares(title: str, counts: Counter[Any]) -> list[str]:
    total = counts.total()
    rows = [(str(name), f"{number:,}", f"{number / total:.1%}") for name, number in counts.most_common()]
    return _table(title, (title.lower(), "samples", "share"), rows)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table of Markdown under a heading; nothing where it has no rows."""
    if not rows:
        return []
    lines = [f"## {title}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def draw(counts: Counts) -> Figure:
    """Scores, levels, lengths of answers and kinds of distortion, those that there are."""
    from matplotlib.figure import Figure

    panels: list[Callable[[Axes, Counts], None]] = []
    if counts.scores:
        panels.append(_draw_scores)
    if counts.levels.sum():
        panels.append(_draw_levels)
    if counts.words:
        panels.append(_draw_lengths)
    if counts.kinds:
        panels.append(_draw_kinds)
    figure = Figure(figsize=(5.5 * max(len(panels), 1), 3.6), layout="constrained")
    for place, panel in enumerate(panels, 1):
        panel(figure.add_subplot(1, len(panels), place), counts)
    return figure


def _draw_scores(axes: Axes, counts: Counts) -> None:
    axes.hist(counts.scores, bins=NUM_BINS, range=(1, 5))
    axes.set(title="scores", xlabel="1 to 5", ylabel="samples")


def _draw_levels(axes: Axes, counts: Counts) -> None:
    axes.bar(WORDS, counts.levels / counts.levels.sum())
    axes.set(title="levels, mean of the distributions", ylabel="share")


def _draw_lengths(axes: Axes, counts: Counts) -> None:
    longest = max(max(words) for words in counts.words.values())
    for task, words in sorted(counts.words.items()):
        axes.hist(words, bins=NUM_BINS, range=(0, longest), histtype="step", label=task)
    axes.set(title="lengths of answers", xlabel="words", ylabel="samples")
    axes.legend(fontsize="small")


def _draw_kinds(axes: Axes, counts: Counts) -> None:
    most = counts.kinds.most_common(FEW)
    axes.barh([name for name, _ in most], [number for _, number in most])
    title = "distortions" if len(counts.kinds) <= FEW else f"the {FEW} most frequent distortions"
    axes.set(title=title, xlabel="samples")
    axes.invert_yaxis()

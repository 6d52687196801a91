"""Label files: who rated which video how, read into rows of paths, ids and labels.

Refuses to open a video; a trainer decodes them, `prepare` inspects them. A fault in a file is found before
`datasets` is imported, which takes seconds.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqathinker.data.labels import Labels, decode, read
from vqathinker.data.matching import Matches, match
from vqathinker.data.sample_rows import sample_columns, samples_in
from vqathinker.data.tables import is_number
from vqathinker.media.names import has_video_suffix, is_image_name
from vqathinker.samples import Sample
from vqathinker.scale import DEFAULT_RANGE, SCALES
from vqathinker.types import FloatArray

if TYPE_CHECKING:
    from datasets import Dataset

OWN_COLUMNS = frozenset({"prompt", "video_id", "path", "target", "mos_low", "mos_high", "beside"})
SAMPLE_COLUMNS = frozenset({"task", "question", "answer"})
OTHERWISE_IN_SAMPLES = frozenset({"levels", "preference"})  # numbers there, any text in a table
MOSRange = tuple[float, float]
TEST_FLAGS = {"true": "test", "1": "test", "false": "train", "0": "train"}


@dataclass(frozen=True)
class LabelReading:
    """How a label file is read; what is not said is found in the file.

    Attributes:
        dataset: name of the data set for every row; None takes the column `dataset`, else the file's stem.
        mos_range: lowest and highest possible MOS, or a function that tells them from the (N,) MOS; None
            takes the columns `mos_low` and `mos_high`, without them `usual_range`.
        usual_range: the range of files that tell none; 0 to 100 if omitted.
        scale: one of `SCALES`, native range to the prompt's 1-5 scale.
        split: only rows of this split, by the column `split`, or `is_test` for "train" and "test".
        outside: only rows outside of this split.
        need_split: whether a file that marks no splits is refused then; else all its rows are taken.
        label_format: one of `labels.FORMATS`; None detects it from the content.
        video_column: the column that names the videos, by its name or, from 1, its number; None finds it by
            its name or by what it holds, and refuses to guess.
        mos_column: the column of the MOS, likewise.
        pairs: whether samples may have two media.
    """

    dataset: str | None = None
    mos_range: MOSRange | Callable[[FloatArray], MOSRange] | None = None
    usual_range: MOSRange | Callable[[FloatArray], MOSRange] | None = None
    scale: str = "divide"
    split: str | None = None
    outside: str | None = None
    need_split: bool = True
    label_format: str | None = None
    video_column: str | None = None
    mos_column: str | None = None
    pairs: bool = False


@dataclass(frozen=True)
class LabelTable:
    """What a label file says.

    Attributes:
        columns: those of `load_labels`, by name.
        matches: names whose file was found by stem or in another spelling, or could not be told.
    """

    columns: Mapping[str, Any]
    matches: Matches = field(default_factory=Matches)

    def to_rows(self) -> Dataset:
        """The rows of `load_labels`."""
        from datasets import Dataset  # takes seconds, which a fault in the file should not cost

        return Dataset.from_dict(dict(self.columns))

    def named(self, dataset: str) -> LabelTable:
        """The same rows under the name of another data set."""
        prompts = [_prompt(dataset, video) for video in self.columns["video_id"]]
        names = {"prompt": prompts, "dataset": [dataset] * len(prompts)}
        return replace(self, columns={**self.columns, **names})


def load_labels(
    path: str | os.PathLike[str],
    *,
    video_dir: str | os.PathLike[str] | None = None,
    need_video: bool = False,
    **reading: Any,
) -> Dataset:
    """Read a label file, or a file of samples (`vqathinker.samples`).

    Names whose file was found by stem or in another spelling are logged, and those that could not be told.

    Args:
        path: a file in one of the formats of `labels.FORMATS`, or samples as JSON Lines.
        video_dir: the folder that the names in the file start from; a name without a file there is looked for
            by its stem and in other spellings (see `matching.match`). None leaves names as written.
        need_video: whether at least one of the videos has to be there.
        reading: as `LabelReading` takes it, such as `mos_range=(1, 5)`; it does not concern samples, but for
            `dataset` and `split`.

    Returns:
        One row per video: `prompt` ("dataset/video_id", a name for logs), `video_id`, `dataset`, `path`,
        `mos` as rated, `mos_low`, `mos_high`, `target` on the 1-5 scale, `std` as a number where the file
        gives the spread of the votes, and other columns as text. Samples also have `task`, `question` and
        `answer`, None where nothing is said.

    Raises:
        ValueError: if the file or an argument cannot be right; names the file, the line and the way out.
        OSError: if the file cannot be read.
    """
    table = read_labels(path, video_dir, LabelReading(**reading), need_video=need_video)
    table.matches.log()
    return table.to_rows()


def read_labels(
    path: str | os.PathLike[str],
    video_dir: str | os.PathLike[str] | None = None,
    reading: LabelReading | None = None,
    *,
    need_video: bool = False,
) -> LabelTable:
    """As `load_labels`, with what was matched; a table that needs no `datasets`."""
    reading = reading or LabelReading()
    if reading.scale not in SCALES:
        raise ValueError(f"unknown scale {reading.scale!r}, choose one of {', '.join(SCALES)}")
    path = Path(path)
    content = path.read_bytes()
    matches = Matches()
    try:
        text = decode(content)
        samples = samples_in(text, dataset=path.stem)
        if samples is not None:
            chosen = chosen_samples(samples, reading)
            columns = sample_columns(chosen, video_dir or ".", pairs=reading.pairs)
        else:
            labels = read(
                text,
                reading.label_format,
                video_column=reading.video_column,
                mos_column=reading.mos_column,
            )
            rows = _select(labels, reading)
            labels = labels if rows is None else labels.keep(rows)
            columns = _build(labels, video_dir or ".", path.stem, reading)
            # a name without a file may mean one of another suffix or spelling
            if video_dir is not None:
                names = [_with_suffix(name, labels.suffix) for name in labels.names]
                matches = match(names, video_dir)
                pairs = zip(names, columns["path"], strict=True)
                found = matches.found
                columns["path"] = [found.get(name, place) for name, place in pairs]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    paths = columns["path"]
    if need_video and not any(map(os.path.isfile, paths)):
        raise ValueError(
            f"none of the {len(paths)} videos, such as {paths[0]}, is there: check the folder of the videos "
            "(--videos)"
        )
    return LabelTable(columns, matches)


def chosen_samples(samples: Sequence[Sample], reading: LabelReading) -> Sequence[Sample]:
    """The samples that are to be read, under the name of another data set if there is one."""
    rows = _select(samples, reading)
    samples = samples if rows is None else [samples[row] for row in rows]
    if reading.dataset is None:
        return samples
    counts = Counter(sample.id for sample in samples)
    if counts and max(counts.values()) > 1:
        twice = max(counts, key=lambda name: counts[name])
        raise ValueError(
            f"in one data set {reading.dataset!r} the id {twice!r} would stand for {counts[twice]} samples; "
            "leave the name of the data set out"
        )
    return [replace(sample, dataset=reading.dataset) for sample in samples]


def _select(found: Labels | Sequence[Sample], reading: LabelReading) -> list[int] | None:
    """The rows of the split that is to be read; None for all."""
    wanted = reading.split if reading.outside is None else reading.outside
    if wanted is None:
        return None
    splits = _splits_of_labels(found) if isinstance(found, Labels) else _splits_of_samples(found)
    if splits is None:
        if not reading.need_split:
            return None
        raise ValueError(f"no column is_test or split to select {wanted!r} by; leave the split out")
    is_wanted = [split.casefold() == wanted.casefold() for split in splits]
    rows = [row for row, chosen in enumerate(is_wanted) if chosen == (reading.outside is None)]
    if not rows and reading.outside is not None:
        raise ValueError(f"the file marks no rows outside split {wanted!r}; give other eval_labels")
    if not rows:
        raise ValueError(f"no rows of split {wanted!r}, there are {', '.join(sorted(set(splits)))}")
    return rows


def _splits_of_labels(labels: Labels) -> list[str] | None:
    """The split of each row; None where the file marks none."""
    if "split" in labels.columns:
        return [str(split) for split in labels.columns["split"]]
    if "is_test" not in labels.columns:
        return None
    return [_split_of(flag, labels.at(row)) for row, flag in enumerate(labels.columns["is_test"])]


def _split_of(flag: object, where: str) -> str:
    """The split that a value of `is_test` stands for."""
    told = str(flag).strip().lower()
    if told not in TEST_FLAGS:
        raise ValueError(f"{where}: is_test is {told!r}; write True or False")
    return TEST_FLAGS[told]


def _splits_of_samples(samples: Sequence[Sample]) -> list[str] | None:
    """The split of each sample, by its column `split` or `is_test`; None where no sample has one."""
    if any("split" in sample.columns for sample in samples):
        return [str(sample.columns.get("split")) for sample in samples]
    if not any("is_test" in sample.columns for sample in samples):
        return None
    return [_split_of(one.columns.get("is_test"), f"the sample {one.id!r}") for one in samples]


def _prompt(dataset: str, video: str) -> str:
    """What a row is called in logs."""
    return f"{dataset}/{video}"


def _build(
    labels: Labels, video_dir: str | os.PathLike[str], stem: str, reading: LabelReading
) -> dict[str, Any]:
    """Check the labels and lay them out as columns."""
    others = {
        key: values for key, values in labels.columns.items() if key not in {"dataset", "mos_low", "mos_high"}
    }
    for name in OTHERWISE_IN_SAMPLES & others.keys():
        if f"column_{name}" in others:
            raise ValueError(f"the column {name!r} becomes 'column_{name}', which is there too; rename one")
        others[f"column_{name}"] = others.pop(name)
    for name in SAMPLE_COLUMNS & others.keys():  # of a sample's meaning; an empty cell says nothing
        others[name] = [value or None for value in others[name]]
    if reserved := OWN_COLUMNS & others.keys():
        raise ValueError(f"the column {sorted(reserved)[0]!r} is made by the reader; rename it")
    # a name that the caller gives stands above a column, the file's stem below
    named = labels.columns.get("dataset") or [stem] * len(labels.names)
    datasets = named if reading.dataset is None else [reading.dataset] * len(labels.names)
    _require_distinct(labels, datasets)
    mos = _parse_mos(labels)
    low, high = _native_range(labels, mos, reading)
    _require_in_range(labels, mos, low, high)
    return {
        "prompt": list(map(_prompt, datasets, labels.names)),
        "video_id": labels.names,
        "dataset": datasets,
        "path": [os.path.join(video_dir, _with_suffix(video, labels.suffix)) for video in labels.names],
        "mos": mos,
        "mos_low": low,
        "mos_high": high,
        "target": SCALES[reading.scale](mos, low, high),
        **others,
    }


def _with_suffix(name: str, suffix: str) -> str:
    return name if has_video_suffix(name) or is_image_name(name) else name + suffix


def _native_range(labels: Labels, mos: FloatArray, reading: LabelReading) -> tuple[FloatArray, FloatArray]:
    """(N,) lowest and (N,) highest possible MOS."""
    mos_range = reading.mos_range
    written = [name for name in ("mos_low", "mos_high") if name in labels.columns]
    if written and mos_range is None:
        if len(written) < 2:
            raise ValueError(f"the column {written[0]!r} is alone; write both mos_low and mos_high, or none")
        low, high = (_floats(labels, labels.columns[name], name) for name in written)
    else:
        if written:
            raise ValueError(f"the column {written[0]!r} contradicts the range given; leave one of them out")
        mos_range = mos_range or reading.usual_range
        bounds = mos_range(mos) if callable(mos_range) else mos_range or DEFAULT_RANGE
        low, high = (np.full(len(labels.names), bound, dtype=np.float64) for bound in bounds)
    wrong = np.flatnonzero(~((low < high) & (high > 0) & np.isfinite(low) & np.isfinite(high)))
    if len(wrong):
        row = wrong[0]
        place = labels.at(row) if mos_range is None else "the range given"
        raise ValueError(f"{place}: a MOS range of {low[row]:g} to {high[row]:g} is no range above 0")
    return low, high


def _parse_mos(labels: Labels) -> FloatArray:
    """Return (N,) finite scores."""
    blank = [row for row, value in enumerate(labels.mos) if not value]
    if blank:
        raise ValueError(
            f"{labels.at(blank[0])}: the MOS is blank ({len(blank)} of {len(labels.mos)} are); fill it in or "
            "remove the line"
        )
    mos = _floats(labels, labels.mos, "MOS")
    wrong = np.flatnonzero(~np.isfinite(mos))
    if len(wrong):
        row = wrong[0]
        raise ValueError(f"{labels.at(row)}: the MOS is {labels.mos[row]!r}; correct or remove the line")
    return mos


def _floats(labels: Labels, values: list[str], what: str) -> FloatArray:
    """Parse (N,) numbers, naming the first that is none."""
    try:
        return np.array(values, dtype=np.float64)
    except ValueError:
        row = next(row for row, value in enumerate(values) if not is_number(value))
        way_out = "correct it"
        if re.fullmatch(r"[-+]?\d+,\d+", values[row]):
            way_out = f"write {values[row].replace(',', '.')} with a decimal point"
        raise ValueError(f"{labels.at(row)}: the {what} {values[row]!r} is not a number; {way_out}") from None


def _require_in_range(labels: Labels, mos: FloatArray, low: FloatArray, high: FloatArray) -> None:
    outside = np.flatnonzero((mos < low) | (mos > high))
    if len(outside):
        row = outside[0]
        raise ValueError(
            f"{labels.at(row)}: the MOS {mos[row]:g} lies outside {low[row]:g} to {high[row]:g} "
            f"({len(outside)} of {len(mos)} do); give the native range of the data set"
        )


def _require_distinct(labels: Labels, datasets: list[str]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for row, key in enumerate(zip(datasets, labels.names, strict=True)):
        if (first := seen.setdefault(key, row)) != row:
            place = f"{labels.unit} {labels.places[first]}"
            raise ValueError(f"{labels.at(row)}: already labelled in {place}; remove one of them")

"""Label files: who rated which video how, read into rows of paths, ids and labels.

Refuses to open a video; a trainer decodes them, `prepare` inspects them. A fault in a file is found before
`datasets` is imported, which takes seconds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vqathinker.data.labels import Labels, decode, read
from vqathinker.data.matching import Matches, match
from vqathinker.data.sample_rows import holds_samples, sample_columns
from vqathinker.data.tables import is_number
from vqathinker.media.names import has_video_suffix
from vqathinker.samples import Sample, read_samples
from vqathinker.scale import DEFAULT_RANGE, SCALES
from vqathinker.types import FloatArray

if TYPE_CHECKING:
    from datasets import Dataset

OWN_COLUMNS = frozenset({"prompt", "video_id", "path", "target", "mos_low", "mos_high"})
SAMPLE_COLUMNS = frozenset({"task", "question", "answer"})
TEST_FLAGS = {"true": "test", "1": "test", "false": "train", "0": "train"}


def load_labels(
    path: str | os.PathLike[str],
    *,
    video_dir: str | os.PathLike[str] | None = None,
    dataset: str | None = None,
    mos_range: tuple[float, float] | None = None,
    scale: str = "divide",
    split: str | None = None,
    label_format: str | None = None,
    video_column: str | None = None,
    mos_column: str | None = None,
    on_match: Callable[[Matches], None] = Matches.log,
    need_video: bool = False,
) -> Dataset:
    """Read a label file, or a file of samples (`vqathinker.samples`).

    Args:
        path: a file in one of the formats of `labels.FORMATS`, or samples as JSON Lines.
        video_dir: the folder that the names in the file start from; a name without a file there is looked for
            by its stem and in other spellings (see `matching.match`). None leaves names as written.
        dataset: name of the data set for every row; None takes the column `dataset`, else the file's stem.
        mos_range: lowest and highest possible MOS; None takes the columns `mos_low` and `mos_high`, without
            them 0 to 100.
        scale: one of `SCALES`, native range to the prompt's 1-5 scale.
        split: only rows of this split, by the column `split`, or `is_test` for "train" and "test".
        label_format: one of `labels.FORMATS`; None detects it from the content.
        video_column: the column that names the videos, by its name or, from 1, its number; None finds it by
            its name or by what it holds, and refuses to guess.
        mos_column: the column of the MOS, likewise.
        on_match: called with the names that were matched or could not be; logs them if omitted.
        need_video: whether at least one of the videos has to be there.

    Returns:
        One row per video: `prompt` ("dataset/video_id", a name for logs), `video_id`, `dataset`, `path`,
        `mos` as rated, `mos_low`, `mos_high`, `target` on the 1-5 scale, `std` as a number where the file
        gives the spread of the votes, and other columns as text. Samples also have `task`, `question` and
        `answer`, None where nothing is said; `mos_range` and `scale` do not concern them.

    Raises:
        ValueError: if the file or an argument cannot be right; names the file, the line and the way out.
        OSError: if the file cannot be read.
    """
    columns = read_columns(
        Path(path),
        video_dir=video_dir,
        dataset=dataset,
        mos_range=mos_range,
        scale=scale,
        split=split,
        label_format=label_format,
        video_column=video_column,
        mos_column=mos_column,
        on_match=on_match,
        need_video=need_video,
    )
    from datasets import Dataset  # takes seconds, which a fault in the file or the folder should not cost

    return Dataset.from_dict(columns)


def read_columns(
    path: Path,
    *,
    video_dir: str | os.PathLike[str] | None = None,
    dataset: str | None = None,
    mos_range: tuple[float, float] | None = None,
    scale: str = "divide",
    split: str | None = None,
    label_format: str | None = None,
    video_column: str | None = None,
    mos_column: str | None = None,
    on_match: Callable[[Matches], None] = Matches.log,
    need_video: bool = False,
) -> dict[str, Any]:
    """The columns of `load_labels`, which takes the same arguments, by name."""
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}, choose one of {', '.join(SCALES)}")
    content = path.read_bytes()
    try:
        text = decode(content)
        if holds_samples(text):
            columns = sample_columns(_samples(path, dataset, split), video_dir or ".")
        else:
            labels = read(text, label_format, video_column=video_column, mos_column=mos_column)
            labels = labels if split is None else _select(labels, split)
            columns = _build(
                labels, video_dir or ".", dataset or path.stem, dataset is not None, mos_range, scale
            )
            if video_dir is not None:
                columns["path"] = _locate(columns["path"], labels, video_dir, on_match)
    except ValueError as error:
        told = str(error)
        raise ValueError(told if told.startswith(str(path)) else f"{path}: {told}") from error
    paths = columns["path"]
    if need_video and not any(map(os.path.isfile, paths)):
        raise ValueError(
            f"none of the {len(paths)} videos, such as {paths[0]}, is there: check the folder of the videos "
            "(--videos)"
        )
    return columns


def _samples(path: Path, dataset: str | None, split: str | None) -> list[Sample]:
    """The samples of a file, or those of one split; under the name of another data set if there is one."""
    samples = read_samples(path)
    if dataset is not None:
        samples = [replace(sample, dataset=dataset) for sample in samples]
    if split is None:
        return samples
    splits = {str(sample.columns.get("split")) for sample in samples}
    chosen = [sample for sample in samples if str(sample.columns.get("split")) == split]
    if not chosen:
        raise ValueError(f"no samples of split {split!r}, there are {', '.join(sorted(splits))}")
    return chosen


def _locate(
    paths: list[str], labels: Labels, video_dir: str | os.PathLike[str], on_match: Callable[[Matches], None]
) -> list[str]:
    """Replace the paths of names without a file by those of the files that their stems name."""
    names = [_with_suffix(name, labels.suffix) for name in labels.names]
    matches = match(names, video_dir)
    on_match(matches)
    return [matches.found.get(name, path) for name, path in zip(names, paths, strict=True)]


def _build(
    labels: Labels,
    video_dir: str | os.PathLike[str],
    name: str,
    rename: bool,
    mos_range: tuple[float, float] | None,
    scale: str,
) -> dict[str, Any]:
    """Check the labels and lay them out as columns."""
    low, high = _native_range(labels, mos_range)
    others = {
        key: values for key, values in labels.columns.items() if key not in {"dataset", "mos_low", "mos_high"}
    }
    for name in SAMPLE_COLUMNS & others.keys():  # of a sample's meaning; an empty cell says nothing
        others[name] = [value or None for value in others[name]]
    if reserved := OWN_COLUMNS & others.keys():
        raise ValueError(f"the column {sorted(reserved)[0]!r} is made by the reader; rename it")
    given = labels.columns.get("dataset")
    datasets = [name] * len(labels.names) if rename or given is None else given
    _require_distinct(labels, datasets)
    mos = _parse_mos(labels)
    _require_in_range(labels, mos, low, high)
    return {
        "prompt": [f"{dataset}/{video}" for dataset, video in zip(datasets, labels.names, strict=True)],
        "video_id": labels.names,
        "dataset": datasets,
        "path": [os.path.join(video_dir, _with_suffix(video, labels.suffix)) for video in labels.names],
        "mos": mos,
        "mos_low": low,
        "mos_high": high,
        "target": SCALES[scale](mos, low, high),
        **others,
    }


def _with_suffix(name: str, suffix: str) -> str:
    return name if has_video_suffix(name) else name + suffix


def _native_range(labels: Labels, mos_range: tuple[float, float] | None) -> tuple[FloatArray, FloatArray]:
    """Return (N,) lowest and (N,) highest possible MOS."""
    written = [name for name in ("mos_low", "mos_high") if name in labels.columns]
    if written and mos_range is None:
        if len(written) < 2:
            raise ValueError(f"the column {written[0]!r} is alone; write both mos_low and mos_high, or none")
        low, high = (_floats(labels, labels.columns[name], name) for name in written)
    else:
        if written:
            raise ValueError(f"the column {written[0]!r} contradicts the range given; leave one of them out")
        bounds = mos_range or DEFAULT_RANGE
        low, high = (np.full(len(labels.names), bound, dtype=np.float64) for bound in bounds)
    wrong = np.flatnonzero(~((low < high) & (high > 0) & np.isfinite(low) & np.isfinite(high)))
    if len(wrong):
        row = wrong[0]
        place = "the range given" if mos_range else labels.at(row)
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


def _select(labels: Labels, split: str) -> Labels:
    """Keep the rows of one split."""
    if "split" in labels.columns:
        splits = labels.columns["split"]
    elif "is_test" in labels.columns:
        flags = [str(flag).strip().lower() for flag in labels.columns["is_test"]]
        splits = [TEST_FLAGS.get(flag, flag) for flag in flags]
        for row, value in enumerate(splits):
            if value not in TEST_FLAGS.values():
                raise ValueError(f"{labels.at(row)}: is_test is {value!r}; write True or False")
    else:
        raise ValueError(f"no column is_test or split to select {split!r} by; leave the split out")
    rows = np.flatnonzero([str(value).casefold() == split.casefold() for value in splits])
    if not len(rows):
        raise ValueError(f"no rows of split {split!r}, there are {', '.join(sorted(set(splits)))}")
    return labels.keep(rows)

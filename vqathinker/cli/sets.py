"""The labelled data sets of an evaluation: one from the command line, or several from a YAML file."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vqathinker.cli.datasets import show_differences
from vqathinker.cli.label_options import (
    ColumnOptions,
    LabelOptions,
    read_table,
    require_benchmark,
    require_folder,
    tell,
)
from vqathinker.cli.require import require_label_file
from vqathinker.cli.show import RANGE_DOUBTFUL, fail
from vqathinker.cli.usage import hint, nearest_path
from vqathinker.scale import off_scale

if TYPE_CHECKING:
    from datasets import Dataset

    from vqathinker.data.dataset import LabelReading

RANGE = "range"
# what an entry of the YAML file may say, and the option of the command line that says the same
ENTRY = {
    RANGE: "mos_range",
    "scale": "scale",
    "split": "split",
    "format": "label_format",
    "video_column": "video_column",
    "mos_column": "mos_column",
}


@dataclass(frozen=True)
class LabelledSet:
    """A data set to evaluate on.

    Attributes:
        source: a label file, or the name of a known data set, whose label file `labels` is.
        videos: folder of the videos.
        labels: label file of a named set.
        options: how the labels are read.
        folder: where below the results of all sets those of this one go; "" for a single set.
    """

    source: str
    videos: Path
    labels: Path | None
    options: LabelOptions
    folder: str = ""

    @property
    def label_file(self) -> Path:
        """The file with the labels."""
        return self.labels or Path(self.source)

    def check(self) -> None:
        """Leave if a file or a folder is missing, before anything is read."""
        from vqathinker.data.benchmarks import find

        if self.labels is None and not Path(self.source).is_file() and find(self.source) is not None:
            fail(f"{self.source} needs its label file: --labels FILE")
        require_label_file(self.label_file)
        require_folder(self.videos)
        self.options.check()
        if self.labels is not None and (self.options.dataset or self.options.mos_range or self.options.scale):
            fail(
                f"name, range and scale of {self.source} are known: leave --dataset, --range and --scale out"
            )

    @property
    def reading(self) -> LabelReading:
        """How its labels are read: as the options say, or as the record of a named set."""
        if self.labels is None:
            return self.options.reading()
        columns = {field.name: getattr(self.options, field.name) for field in fields(ColumnOptions)}
        return require_benchmark(self.source).reading(**columns)

    def load(self) -> Dataset:
        """The rows; leave if no video is there."""
        table = read_table(self.label_file, self.videos, self.reading, need_video=True)
        tell(table.matches)
        rows = table.to_rows()
        if self.labels is not None:
            show_differences(require_benchmark(self.source), rows)
        elif 2 * off_scale(rows["target"]).sum() > rows.num_rows:
            typer.echo(RANGE_DOUBTFUL, err=True)
        return rows


def read_sets(file: Path) -> list[LabelledSet]:
    """The sets of a YAML file, a mapping from each set's name to its entry, or leave with what is wrong.

    Paths start from the file's folder. A set that `vqathinker datasets` lists needs `labels` and `videos`
    only; others may say what the options of the command line say.
    """
    import yaml

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        fail(f"--sets {file} cannot be read: {error}{nearest_path(file)}")
    except yaml.YAMLError as error:
        fail(f"--sets {file} is no YAML: {error}")
    if not isinstance(content, dict) or not content:
        fail(f"--sets {file}: expected NAME: {{labels: FILE, videos: FOLDER}} for each set")
    sets = [_entry(file, str(name), entry) for name, entry in content.items()]
    folders = [one.folder for one in sets]
    for folder in folders:
        if folders.count(folder) > 1:
            fail(f"--sets {file}: two names become the folder {folder!r}; rename one")
    return sets


def _entry(file: Path, name: str, entry: Any) -> LabelledSet:  # noqa: ANN401  whatever YAML holds
    """One set, its values checked."""
    from vqathinker.data.benchmarks import find

    place = f"--sets {file}: {name}"
    if not isinstance(entry, dict):
        fail(f"{place}: expected {{labels: FILE, videos: FOLDER}}")
    known = ("labels", "videos", *ENTRY)
    for key in entry:
        if key not in known:
            fail(f"{place}: unknown {key!r}{hint(str(key), known)}; there are {', '.join(known)}")
    for key in ("labels", "videos"):
        if not isinstance(entry.get(key), str):
            fail(f"{place}: {key} is missing, the {'label file' if key == 'labels' else 'folder of videos'}")
    given = {key: option for key, option in ENTRY.items() if entry.get(key) is not None}
    # YAML reads a column's number and a split's year as numbers
    values: dict[str, Any] = {
        option: entry[key] if key == RANGE else str(entry[key]) for key, option in given.items()
    }
    if "mos_range" in values:
        values["mos_range"] = _range(place, values["mos_range"])
    is_known = find(name) is not None
    labels = file.parent / entry["labels"]
    return LabelledSet(
        source=name if is_known else str(labels),
        videos=file.parent / entry["videos"],
        labels=labels if is_known else None,
        options=LabelOptions(dataset=None if is_known else name, **values),
        folder=re.sub(r"[^\w.-]+", "_", name),
    )


def _range(place: str, value: Any) -> tuple[float, float]:  # noqa: ANN401  whatever YAML holds
    is_pair = isinstance(value, list) and len(value) == 2
    if not is_pair or not all(isinstance(bound, int | float) for bound in value):
        fail(f"{place}: range {value!r}, expected [LOW, HIGH]")
    return float(value[0]), float(value[1])

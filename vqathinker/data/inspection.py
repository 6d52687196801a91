"""What to know about a data set before a run: which videos are missing, unreadable or there twice.

Refuses to change anything on disk but its own report.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, Any

import numpy as np

from vqathinker.data.matching import Matches
from vqathinker.data.overlap import same_contents
from vqathinker.media.container import VideoError, require_content
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.medium import read_medium
from vqathinker.media.names import missing_reason
from vqathinker.media.video import Clip, warn_of_faults
from vqathinker.scale import off_scale

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Report:
    """The findings; videos are named "dataset/video_id".

    Attributes:
        num_videos: rows of the data set.
        num_keyframes: frames decoded of each video, 0 if none was.
        missing: video to path, where there is no file.
        unreadable: video to what is wrong with the file.
        damaged: video to the number of frames that cannot be decoded, where the rest is used.
        duplicate_ids: names that several rows share.
        duplicate_paths: groups of videos that are one file.
        duplicate_contents: groups of videos whose files have equal size, head and tail.
        out_of_scale: video to target, where it lies outside 1-5.
        matches: names whose file was found by stem or in another spelling, or could not be told.
        num_unscored: rows without a target, which samples of other tasks have none of.
    """

    num_videos: int
    num_keyframes: int
    missing: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, int] = field(default_factory=dict)
    duplicate_ids: list[str] = field(default_factory=list)
    duplicate_paths: list[list[str]] = field(default_factory=list)
    duplicate_contents: list[list[str]] = field(default_factory=list)
    out_of_scale: dict[str, float] = field(default_factory=dict)
    matches: Matches = field(default_factory=Matches)
    num_unscored: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether every video is usable and there once, and the native range plausible."""
        duplicates = (self.duplicate_ids, self.duplicate_paths, self.duplicate_contents)
        return not any((self.missing, self.unreadable, *duplicates, self.is_range_doubtful))

    @property
    def is_range_doubtful(self) -> bool:
        """Whether more than half of the targets lie outside 1-5: hardly true of the native range."""
        return 2 * len(self.out_of_scale) > self.num_videos - self.num_unscored

    def counts(self) -> dict[str, int]:
        """Return the number of findings of each kind, in words."""
        return {
            "videos": self.num_videos,
            "missing": len(self.missing),
            "unreadable": len(self.unreadable),
            "with lost frames": len(self.damaged),
            "ids given twice": len(self.duplicate_ids),
            "files listed twice": len(self.duplicate_paths),
            "copies of a file": len(self.duplicate_contents),
            "targets outside 1-5": len(self.out_of_scale),
            "files matched by stem": len(self.matches.by_stem),
            "files matched despite their spelling": len(self.matches.by_spelling),
        }

    def faults(self) -> dict[str, str]:
        """Return what is wrong with every video that cannot be used, in words."""
        missing = {name: f"{missing_reason(path)}: {path}" for name, path in self.missing.items()}
        return missing | self.unreadable

    def to_json(self) -> str:
        """Return everything as JSON."""
        content = {"is_clean": self.is_clean, "counts": self.counts(), **asdict(self)}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the report as JSON.

        Raises:
            FileExistsError: if the file exists and `overwrite` is not set.
        """
        with open(path, "w" if overwrite else "x", encoding="utf-8") as file:
            file.write(self.to_json())


def look_at(paths: Iterable[str], num_keyframes: int, num_workers: int) -> Iterator[Clip | VideoError | None]:
    """What each file holds, one after the other: a clip without pixels, or what is wrong with it.

    Files are decoded in guarded processes, so that one which crashes or hangs a decoder is told too.

    Args:
        paths: the files.
        num_keyframes: frames to decode of each; 0 only looks whether it is there and holds something, which
            None stands for.
        num_workers: files looked at at the same time.
    """
    if not num_keyframes:
        yield from map(_content, paths)
        return
    with closing(GuardedReader(num_workers=num_workers)) as reader:
        yield from reader.map(partial(_facts, num_keyframes=num_keyframes), paths)


def sum_up(dataset: Dataset, looks: Mapping[str, Clip | VideoError | None], num_keyframes: int) -> Report:
    """The findings in a data set.

    Args:
        dataset: rows of `load_labels`.
        looks: what `look_at` found of each path.
        num_keyframes: as there.
    """
    names = [f"{name}/{video}" for name, video in zip(dataset["dataset"], dataset["video_id"], strict=True)]
    paths = list(dataset["path"])
    others = dataset["beside"][:] if "beside" in dataset.column_names else []
    beside = [(f"{name} (second)", path) for name, path in zip(names, others, strict=False) if path]
    missing: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    damaged: dict[str, int] = {}
    usable: dict[str, str] = {}
    for name, path in [*zip(names, paths, strict=True), *beside]:
        look = looks[path]
        # a file that is not there is another finding than one that cannot be read
        if not isinstance(look, VideoError):
            usable[os.path.realpath(path)] = name
        elif not os.path.exists(path):
            missing[name] = path
        else:
            unreadable[name] = look.reason
        if isinstance(look, Clip):
            warn_of_faults(look)  # logged here, since the decoding process is silent
            if look.num_lost:
                damaged[name] = look.num_lost
    targets = np.asarray(dataset["target"], dtype=np.float64)
    # samples may ask several things of one file
    places = list(zip(map(os.path.realpath, paths), _asked(dataset), strict=True))
    return Report(
        num_videos=len(names),
        num_keyframes=num_keyframes,
        missing=missing,
        unreadable=unreadable,
        damaged=damaged,
        duplicate_ids=[group[0] for group in _groups(zip(names, names, strict=True))],
        duplicate_paths=_groups(zip(places, names, strict=True)),
        duplicate_contents=_same_contents(usable),
        out_of_scale=dict(compress(zip(names, targets.tolist(), strict=True), off_scale(targets))),
        num_unscored=int(np.isnan(targets).sum()),
    )


def _asked(dataset: Dataset) -> list[tuple[Any, ...]]:
    """The task and the question of each row, where the data set tells them."""
    columns = [dataset[name][:] for name in ("task", "question") if name in dataset.column_names]
    return list(zip(*columns, strict=True)) if columns else [()] * len(dataset)


def _facts(path: str, num_keyframes: int) -> Clip:
    """A file's keyframes without their pixels, which nobody asks for."""
    clip = read_medium(path, num_keyframes=num_keyframes, resize=None)
    return replace(clip, frames=clip.frames[:, :0])


def _content(path: str) -> VideoError | None:
    """Return what is wrong with a file that is not decoded."""
    try:
        require_content(path)
    except VideoError as error:
        return error
    return None


def _groups(pairs: Iterable[tuple[Hashable, str]]) -> list[list[str]]:
    """Return the names that share a key, for each key of several."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for key, name in pairs:
        groups[key].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _same_contents(files: dict[str, str]) -> list[list[str]]:
    """The names of different files with one content."""
    return [[files[path] for path in paths] for paths in same_contents(files)]

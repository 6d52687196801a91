"""Scores of files without labels, each kept as it comes; the same call goes on where the last one stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from vqathinker.atomic import write_table, write_whole
from vqathinker.evaluation.folder import SUMMARY_FILE, Keeping
from vqathinker.journal import Kept, left_to_score
from vqathinker.media.container import VideoError
from vqathinker.scoring.lines import flat_row, json_line
from vqathinker.scoring.result import Reply, Score
from vqathinker.scoring.task import Task

if TYPE_CHECKING:
    from vqathinker.scoring.scorer import Scorer

FORMS = (".csv", ".jsonl")
Results = list[dict[str, Any]]


@dataclass(frozen=True)
class OutputFiles:
    """Where scores are kept: a folder, or one file with a folder of its own beside it.

    Attributes:
        folder: of the journals.
        files: what is written when every video has its result.
    """

    folder: Path
    files: tuple[Path, ...]

    @classmethod
    def of(cls, out: Path) -> OutputFiles:
        """What is written to a path: FILE.csv, FILE.jsonl, or a folder for both and a summary.

        Raises:
            ValueError: for a file of another kind.
        """
        if out.suffix in FORMS and not out.is_dir():
            return cls(out.with_name(out.name + ".journal"), (out,))
        if out.is_file() or out.suffix == ".json":
            raise ValueError(f"--out {out}: give a folder, FILE{FORMS[0]} or FILE{FORMS[1]}")
        return cls(out, (*(out / f"scores{form}" for form in FORMS), out / SUMMARY_FILE))

    def keeping(self, **options: Any) -> Keeping:
        """Where the results are kept; other options as `Keeping` takes them."""
        names = tuple(str(file.absolute()) for file in self.files)  # wherever the folder lies
        return Keeping(self.folder, names, **options)


@dataclass(frozen=True)
class StoredResults:
    """The results that are kept.

    Attributes:
        results: row of a video to its results, as `to_dict` gives them.
        num_videos: how many there are to be.
    """

    results: dict[int, Results]
    num_videos: int

    @property
    def rows(self) -> Results:
        """All results in the order of the videos."""
        return [row for _, rows in sorted(self.results.items()) for row in rows]

    @property
    def num_pending(self) -> int:
        """Videos without a result."""
        return self.num_videos - len(self.results)

    def counts(self) -> dict[str, int]:
        """How many videos there are, and what the rows do not show."""
        unreadable = [rows for rows in self.results.values() if any(row["error"] is not None for row in rows)]
        scores = [row for row in self.rows if row["error"] is None and "score" in row]
        return {
            "videos": self.num_videos,
            "unreadable": len(unreadable),
            "unparsed": sum(row["score"] is None for row in scores),
            "clipped": sum(row["clipped"] for row in scores),
        }


class KeptFiles(Kept):
    """Results by file, as it was when they were made: one or, of windows, several."""

    def key(self, entry: Mapping[str, Any]) -> Hashable:
        """Path, size and time of change."""
        stamp = entry["file"]
        return entry["path"], None if stamp is None else tuple(stamp)

    def has_failed(self, entry: Mapping[str, Any]) -> bool:
        """Whether a part of the file cannot be read."""
        return any(result["error"] is not None for result in entry["results"])


class ScoringFiles:
    """The scoring of files: iterate over it for the results of each as they come, then ask for the `result`.

    A result belongs to a path, and to the file's size and time of change: one that has changed is scored
    again, and so is one that could not be read. More files may be given than the last time.

    Args:
        scorer: the checkpoint with its engine, batch size and reading processes.
        paths: files, and errors for what was found to be none.
        task: what is asked of each.
        output: what is written in the end.
        keeping: where results are kept, as the output tells.

    Attributes:
        kept: positions of the paths whose results stay.
        left: positions of those that this process answers.

    Raises:
        ValueError: if the folder holds results of a run with other settings.
        OSError: if it cannot be written; what was written stays.
    """

    def __init__(
        self,
        scorer: Scorer,
        paths: Sequence[str | VideoError],
        task: Task,
        output: OutputFiles,
        keeping: Keeping,
    ) -> None:
        self.scorer = scorer
        self.paths = paths
        self.task = task
        self.output = output
        self.settings = {**keeping.origin, **task_settings(scorer, task)}
        names = [_name(path) for path in paths]
        stamps = {name: _stamp(name) for name in names}
        self._files = [(name, stamps[name]) for name in names]
        self._results = keeping.open(self.settings, KeptFiles)
        self.kept = {row for row, file in enumerate(self._files) if file in self._results}
        # windows of one video are a batch of their own
        batch_size = 1 if task.window is not None else scorer.batch_size
        self.left = left_to_score(len(paths), batch_size, self.kept, keeping.shard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._results.close()

    def __iter__(self) -> Iterator[list[Score | Reply]]:
        """Answer what is left, keeping the results of a file before they are handed out."""
        answered = self.task.run(self.scorer, [self.paths[row] for row in self.left])
        for row, answers in zip(self.left, answered, strict=True):
            results = list(answers)
            if row not in self.kept:
                name, stamp = self._files[row]
                kept = [result.to_dict() for result in results]
                self._results.add({"path": name, "file": stamp, "results": kept})
            yield results

    def result(self) -> StoredResults:
        """What is kept, with what other shards have found meanwhile; written once every file has its own."""
        self._results.read()
        entries = self._results.entries
        found = {row: entries[file]["results"] for row, file in enumerate(self._files) if file in entries}
        done = StoredResults(found, len(self.paths))
        if not done.num_pending:
            _write(self.output, done, self.settings)
        return done


def task_settings(scorer: Scorer, task: Task) -> dict[str, Any]:
    """What shapes results beside the files."""
    from vqathinker.evaluation.evaluating import scorer_settings

    asked = {"question": task.question, "window": task.window, "stride": task.stride}
    return {**scorer_settings(scorer, task.mode), **asked}


def _name(path: str | VideoError) -> str:
    """What a path is known by, wherever the command is called from."""
    return os.path.abspath(path.path if isinstance(path, VideoError) else path)


def _stamp(name: str) -> tuple[int, int] | None:
    """Size and time of change of a file, None if there is none."""
    try:
        found = os.stat(name)
    except OSError:  # said when it is read
        return None
    return found.st_size, found.st_mtime_ns


def _write(output: OutputFiles, done: StoredResults, settings: Mapping[str, Any]) -> None:
    """Write the files, each in one piece."""
    for file in output.files:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".csv":
            write_table(file, list(done.rows[0]), map(flat_row, done.rows))
        elif file.suffix == ".jsonl":
            write_whole(file, "".join(map(json_line, done.rows)))
        else:
            summary = {**done.counts(), "settings": dict(settings)}
            write_whole(file, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")

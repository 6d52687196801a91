"""A build: its stages one after the other, part by part, each part once."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from vqathinker.atomic import remove_leftovers, rewrite_whole, whole_file
from vqathinker.building.asking import UNANSWERED
from vqathinker.building.listing import Listing, write_listing
from vqathinker.building.parts import SETTINGS_FILE, WHOLE_FILE, Parts, rejections
from vqathinker.building.recipe import MEDIA, Plan, Recipe
from vqathinker.building.stage import MEDIA_FOLDER, EachStage, WholeStage, Workplace
from vqathinker.chat import ChatError
from vqathinker.journal import WORDS, differences
from vqathinker.media.guarded import GuardedReader
from vqathinker.samples import Sample

PART_SIZE = 64  # samples
SAMPLES_FILE = "samples.jsonl"
STAGES_FOLDER = "stages"
FORMAT = 1  # of what stages write; raised where a new version would make something else

Advance = Callable[[int], None]
# runs the parts of a stage that are missing, and tells how many samples are done
RunParts = Callable[["Build", Plan, list[int], Advance], None]


@dataclass(frozen=True)
class Build:
    """A recipe on its way.

    Attributes:
        recipe: what is built.
        listing: what it is built from.
        out: folder of the result; paths in sample files start from it.
        work: folder of the stages.
        media: folder of rendered media, `STAGE/` in it for each stage if `by_stage`.
        by_stage: see there.
        part_size: samples of a part.
        num_workers: files read or rendered at the same time.
        time_limit: seconds to read or render one file.
    """

    recipe: Recipe
    listing: Listing
    out: Path
    work: Path
    media: Path
    by_stage: bool = True
    part_size: int = PART_SIZE
    num_workers: int = 2
    time_limit: float = 600.0
    # one for all stages: its processes take seconds to start
    reader: GuardedReader = field(init=False)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        reader = GuardedReader(num_workers=self.num_workers, time_limit=self.time_limit)
        object.__setattr__(self, "reader", reader)

    @classmethod
    def of(cls, recipe: Recipe, listing: Listing, out: Path, **options: Any) -> Build:
        """A build with all its folders in one."""
        return cls(recipe, listing, out, out / STAGES_FOLDER, out / MEDIA_FOLDER, **options)

    def parts(self, name: str) -> Parts:
        """What a stage has written."""
        return Parts(self.work / name)

    def place(self, name: str) -> Workplace:
        """Where a stage works."""
        return Workplace(
            name=name,
            settings=self.work / name / SETTINGS_FILE,
            by_dataset=self.by_stage,
            root=self.out,
            work=self.work,
            media=self.media / name if self.by_stage else self.media,
            reader=self.reader,
            seed=self.recipe.seed,
        )

    def check(self) -> None:
        """Make every stage once, so that what a recipe has wrong is told before anything runs.

        Raises:
            ValueError: naming the stage.
            ImportError: if something optional that it needs is not installed.
        """
        for plan in self.recipe.stages:
            plan.make(self.place(plan.name))

    def run(
        self,
        *,
        overwrite: bool = False,
        begin: Callable[[str, int, int], Advance] | None = None,
        run_parts: RunParts | None = None,
    ) -> Path:
        """Run what has not run.

        Args:
            overwrite: whether stages with other settings are run again, with those that follow.
            begin: told of each stage its name, the number of samples that it reads and of those done; gives
                what is told of more.
            run_parts: runs the parts of a stage; here and one after the other if omitted.

        Returns:
            The file of the samples that were built.

        Raises:
            ValueError: if an earlier build in this folder had other settings, or a stage cannot go on.
            ChatError: if a language model is gone.
            OSError: if something cannot be written.
        """
        digests = {MEDIA: self.listing.digest}
        listed = {"digest": digests[MEDIA], "part_size": self.part_size}
        self._require_settings(MEDIA, listed, overwrite=overwrite)
        if not self._is_whole(MEDIA):
            write_listing(self.listing, self.parts(MEDIA), self.part_size)
            self._say_whole(MEDIA, {})
        for plan in self.recipe.stages:
            settings = self._settings(plan, digests)
            digests[plan.name] = _digest(settings)
            self._require_settings(plan.name, settings, overwrite=overwrite)
            if plan.is_each:
                self._run_each(plan, begin, run_parts or run_here)
            else:
                self._run_whole(plan)
            self.notes[plan.name] = self._read(plan.name, WHOLE_FILE)
        return self._gather(self.recipe.stages[-1].name)

    def _settings(self, plan: Plan, digests: dict[str, str]) -> dict[str, Any]:
        """What decides what a stage writes."""
        return {
            "format": FORMAT,
            "stage": plan.kind,
            "options": json.loads(json.dumps(plan.options, default=str)),
            "seed": self.recipe.seed,
            "part_size": self.part_size,
            "sources": {name: digests[name] for name in plan.sources},
        }

    def _require_settings(self, name: str, settings: dict[str, Any], *, overwrite: bool) -> None:
        """Bind the folder of a stage to its settings.

        Raises:
            ValueError: if it has others.
        """
        folder = self.work / name
        if (folder / SETTINGS_FILE).is_file():
            there = self._read(name, SETTINGS_FILE)
            different = differences(there, settings)
            if not different:
                return
            if not overwrite:
                key, (before, now) = next(iter(different.items()))
                raise ValueError(
                    f"{folder} was built otherwise: {WORDS.get(key, key)} is {before} there "
                    f"and {now} here; choose another folder, or run it and what follows again (--overwrite)"
                )
        # media first, then the folder: a kill in between leaves nothing that counts as done
        if self.by_stage:
            shutil.rmtree(self.media / name, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        rewrite_whole(folder / SETTINGS_FILE, _json(settings))

    def _run_each(
        self, plan: Plan, begin: Callable[[str, int, int], Advance] | None, run_parts: RunParts
    ) -> None:
        """Run the parts that are missing."""
        source = self.parts(plan.sources[0])
        own = self.parts(plan.name)
        sizes = source.sizes()
        # what a source has become by another try runs again
        missing = [
            number for number, digest in enumerate(source.digests()) if not own.is_done(number, digest)
        ]
        done = sum(sizes) - sum(sizes[number] for number in missing)
        advance = begin(plan.name, sum(sizes), done) if begin is not None else _ignore
        if missing:
            run_parts(self, plan, missing, advance)
        rejected = own.rejected()
        # a small source ends before a server counts as gone
        if rejected[UNANSWERED] and not any(own.sizes()):
            raise ChatError(f"no question of the stage {plan.name!r} was answered")
        self._say_whole(plan.name, {})

    def _run_whole(self, plan: Plan) -> None:
        """Run a stage that needs all samples, unless it has, of the same ones."""
        own = self.parts(plan.name)
        sources = [self.parts(name) for name in plan.sources]
        digest = _digest({"parts": [source.digests() for source in sources]})
        if self._is_whole(plan.name) and self._read(plan.name, WHOLE_FILE).get("source") == digest:
            return
        # of another source there may have been more parts
        for path in own.files():
            path.unlink()
        stage = plan.make(self.place(plan.name))
        assert isinstance(stage, WholeStage)
        made = stage.run(sources)
        for number, samples in enumerate(_batches(made, self.part_size)):
            own.write(number, samples)
        if mappings := stage.notes.get("mappings"):
            rewrite_whole(own.folder / "mappings.json", _json(mappings))
        left_out = {"left out": dict(stage.left_out)} if stage.left_out else {}
        self._say_whole(plan.name, {"source": digest, **stage.notes, **left_out})

    def _gather(self, name: str) -> Path:
        """One file of all samples of the last stage."""
        out = self.out / SAMPLES_FILE
        remove_leftovers(out)
        with whole_file(out) as part, part.open("wb") as file:
            for path in self.parts(name).files():
                file.write(path.read_bytes())
        return out

    def _is_whole(self, name: str) -> bool:
        return (self.work / name / WHOLE_FILE).is_file()

    def _say_whole(self, name: str, notes: dict[str, Any]) -> None:
        rewrite_whole(self.work / name / WHOLE_FILE, _json(notes))

    def _read(self, name: str, file: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.work / name / file).read_text(encoding="utf-8"))
        return content


def run_here(build: Build, plan: Plan, missing: list[int], advance: Advance) -> None:
    """Run parts in this process, one after the other."""
    runner = PartRunner(build, plan)
    try:
        for number in missing:
            runner(number, advance)
    finally:
        for client in runner.stage.clients:
            client.close()


class PartRunner:
    """A stage that is made once and then runs parts, here or on another machine.

    Args:
        build: what it belongs to.
        plan: of the stage.
    """

    def __init__(self, build: Build, plan: Plan) -> None:
        stage = plan.make(build.place(plan.name))
        assert isinstance(stage, EachStage)
        self.stage = stage
        self.source = build.parts(plan.sources[0])
        self.own = build.parts(plan.name)

    def __call__(self, number: int, advance: Advance) -> None:
        """Run a part; it is written when all of it is there."""
        # read before the samples: should they change meanwhile, the part runs once more
        digest = self.source.digest(number)
        samples = self.source.read(number)
        made: list[Sample] = []
        rejected: list[dict[str, Any]] = []
        for sample, built in zip(samples, self.stage.run(samples), strict=True):
            made += built.samples
            rejected += rejections(sample, built)
            advance(1)
        self.own.write(number, made, rejected, digest)


def _batches(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    """So many samples at a time; one empty batch where there is none."""
    batch = list(islice(samples, size))
    yield batch
    while batch := list(islice(samples, size)):
        yield batch


def _ignore(number: int) -> None:
    """Nobody wants to know."""


def _json(value: Any) -> str:  # noqa: ANN401  whatever JSON holds
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _digest(settings: dict[str, Any]) -> str:
    return hashlib.sha256(_json(settings).encode()).hexdigest()[:16]

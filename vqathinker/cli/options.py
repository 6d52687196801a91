"""Arguments and options that several commands share."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from vqathinker.cli.require import require_size
from vqathinker.cli.show import fail
from vqathinker.cli.usage import hint, require_choice
from vqathinker.launch.processes import became_one
from vqathinker.scoring.mode import COMBINATIONS, DTYPES, ENGINES, Mode

if TYPE_CHECKING:
    from vqathinker.evaluation import Keeping
    from vqathinker.scoring import Scorer

DEVICES = ("cuda", "cpu", "mps", "xpu", "npu", "hpu", "mtia", "xla")

CheckpointName = Annotated[
    str, typer.Argument(help="Folder written by training or by `vqathinker init`, or its name on the hub.")
]


@dataclass(frozen=True)
class WriteOptions:
    """How a checkpoint is written."""

    dtype: Annotated[
        str, typer.Option(help="Precision to write: auto (the source's), bfloat16, float16 or float32.")
    ] = "auto"
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier call wrote.")] = (
        False
    )

    def check(self) -> None:
        """Leave if there is no such precision."""
        require_choice("--dtype", self.dtype, DTYPES)


@dataclass(frozen=True)
class ModeOptions:
    """How a score is read from the model."""

    samples: Annotated[int, typer.Option(min=1, help="Sampled responses per video; 1 is greedy.")] = 1
    combine: Annotated[
        str, typer.Option(help="What samples become: mean, median, trimmed or confidence.")
    ] = "mean"
    expected: Annotated[
        bool, typer.Option("--expected", help="Expected value over the digits of the greedy answer.")
    ] = False
    levels: Annotated[
        bool, typer.Option("--levels", help="Expected level from excellent to bad, on 1-5.")
    ] = False
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0

    def to_mode(self) -> Mode:
        """How a score is read; leaves if the options contradict one another."""
        require_choice("--combine", self.combine, COMBINATIONS)
        if self.combine != "mean" and self.samples == 1:
            fail(f"--combine {self.combine} needs --samples 2 or more")
        if self.seed and self.samples == 1:
            fail("--seed needs --samples 2 or more")
        if [self.samples > 1, self.expected, self.levels].count(True) > 1:
            fail("choose one of --samples, --expected and --levels")
        return Mode(**asdict(self))


@dataclass(frozen=True)
class EngineOptions:
    """What answers, from which frames, and how fast."""

    engine: Annotated[str, typer.Option(help="hf or vllm.")] = "hf"
    device: Annotated[str | None, typer.Option(help="cuda:1, cpu, ...; a GPU if there is one.")] = None
    dtype: Annotated[
        str,
        typer.Option("--dtype", help="Precision; auto is the checkpoint's, faster but not batch-invariant."),
    ] = "float32"
    frames: Annotated[
        int | None, typer.Option(min=1, help="Keyframes of a video; the checkpoint's if omitted.")
    ] = None
    size: Annotated[int | None, typer.Option(help="Their side in pixels, a multiple of 28; likewise.")] = None
    time_limit: Annotated[float, typer.Option(min=0.1, max=86400, help="Seconds to read a file.")] = 60
    batch_size: Annotated[int, typer.Option(min=1, help="Videos answered at the same time.")] = 16
    workers: Annotated[int, typer.Option(min=1, help="Videos read at the same time.")] = 4
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest response in tokens.")] = 2048
    answer_only: Annotated[
        bool, typer.Option("--answer-only", help="Also read responses without reasoning, an answer alone.")
    ] = False

    def check(self, mode: ModeOptions) -> None:
        """Leave if a value is none of those there are, or cannot be used here."""
        require_choice("--engine", self.engine, ENGINES)
        require_choice("--dtype", self.dtype, DTYPES)
        kind = (self.device or "cpu").partition(":")[0]
        if kind not in DEVICES:
            meant = hint(kind, DEVICES) or f", it is none of {', '.join(DEVICES)}"
            fail(f"--device {self.device!r} cannot be used{meant}")
        require_size("--size", self.size)
        if self.engine == "vllm":
            if mode.expected or mode.levels:
                fail("--expected and --levels need probabilities that only --engine hf tells")
            if importlib.util.find_spec("vllm") is None:
                fail("vLLM is not installed: pip install 'vqathinker[vllm]', or leave --engine vllm out")

    def load(self, checkpoint: Path) -> Scorer:
        """Load a checkpoint, or leave with what the user can correct."""
        from transformers.utils import logging

        from vqathinker.scoring import Scorer

        if not sys.stderr.isatty():
            logging.disable_progress_bar()  # its signs would fill a log
        try:
            return Scorer.from_pretrained(
                checkpoint,
                engine=self.engine,
                device=self.device or own_gpu(),
                dtype=self.dtype,
                num_frames=self.frames,
                frame_size=self.size,
                time_limit=self.time_limit,
                batch_size=self.batch_size,
                num_workers=self.workers,
                max_new_tokens=self.max_new_tokens,
                think=not self.answer_only,
            )
        except (ValueError, OSError, ImportError) as error:
            fail(error)


def own_gpu() -> str | None:
    """The GPU that a launcher gave this process."""
    import torch

    rank = os.environ.get("LOCAL_RANK")
    return f"cuda:{rank}" if rank is not None and torch.cuda.is_available() else None


@dataclass(frozen=True)
class KeepOptions:
    """Where results are kept, and which of them are this process's."""

    out: Annotated[
        Path | None, typer.Option(help="Where results are kept, each as it comes; the same command goes on.")
    ] = None
    num_shards: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the videos; 1, or those of the launcher.")
    ] = None
    shard: Annotated[int | None, typer.Option(min=0, help="Which of them this is, from 0.")] = None
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run the shards on this Ray cluster; or auto.")
    ] = None
    gpus_per_shard: Annotated[float, typer.Option(min=0, help="GPUs of a shard on a cluster.")] = 0
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")] = False

    def part(self, engine: str) -> tuple[int, int]:
        """Index and number of processes, from the options or the launcher's environment."""
        shard = self.shard
        number = self.num_shards
        if self.ray is not None:
            self._leave_to_cluster(self.ray)
        if (shard is None) != (number is None):
            fail("--shard and --num-shards need one another")
        if shard is None or number is None:
            note = became_one()
            if note:
                typer.echo(note, err=True)
            shard = int(os.environ.get("RANK", 0))
            number = int(os.environ.get("WORLD_SIZE", 1))
            if engine == "vllm" and number > 1:
                fail(
                    "a launcher's vLLM engines would share one GPU: --num-shards and CUDA_VISIBLE_DEVICES "
                    "instead"
                )
        if shard >= number:
            fail(f"--shard {shard} does not exist among --num-shards {number}: they count from 0")
        if number > 1 and self.out is None:
            fail("several processes need --out, the folder where they put their results together")
        return shard, number

    def _leave_to_cluster(self, address: str) -> NoReturn:
        """Run every shard on a cluster, and leave."""
        from vqathinker.cli.shards import run_shards

        if self.out is None or self.shard is not None:
            fail("--ray needs --out, a folder that all machines see, and runs every shard: leave --shard out")
        run_shards(address, self.num_shards, self.gpus_per_shard)


def require_keeping(keeping: Keeping) -> None:
    """Leave if results may not be kept where they are to be."""
    try:
        keeping.check()
    except (ValueError, OSError) as error:
        fail(error)

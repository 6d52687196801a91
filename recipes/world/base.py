"""The base model of the world: it sees distortions and names them, but its scores are crude.

    python -m recipes.world.base out/base

Writes the clips it learns from to `out/base/data`, the checkpoint to `out/base/final` and, with bfloat16
weights, to `out/base/bf16`, which is what `recipes/world/checkpoint` holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from . import SETS_FILE, make_base_set
from .distortions import KINDS
from .runs import evaluate, train
from .words import CLEAN, DEGREES, TIMES

SETTINGS = Path(__file__).with_suffix(".yaml")
NUM_FRAMES = 8
FRAME_SIZE = 56  # pixels


def main(
    out: Annotated[Path, typer.Argument(help="output folder")] = Path("out/base"),
    seed: Annotated[int, typer.Option(help="of the clips, the weights and the training")] = 0,
    world: Annotated[Path | None, typer.Option(help="a world whose sets it then scores")] = None,
) -> None:
    """Make the base model from nothing."""
    from vqathinker.checkpoints.tiny import build_tiny

    labels = make_base_set(out / "data", seed=seed)
    build_tiny(
        out / "init", seed=seed, responses=typical_responses(), num_frames=NUM_FRAMES, frame_size=FRAME_SIZE
    )
    train("sft", [SETTINGS], out / "init", labels, labels.parent, out, seed=seed)
    shrink(out / "final", out / "bf16")
    if world is not None:
        show(evaluate(out / "bf16", world / SETS_FILE, out / "scores"))


def shrink(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint in bfloat16."""
    import torch

    from vqathinker.checkpoints.assemble import load_policy
    from vqathinker.checkpoints.folders import open_to_others

    model, processor = load_policy(checkpoint, dtype=torch.bfloat16)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    open_to_others(out.iterdir())


def show(found: dict[str, Any]) -> None:
    """Print what the base is worth: little, for its scores are nobody's opinion."""
    table = Table("set", *next(iter(found.values())), title="the base model, greedy")
    for name, values in found.items():
        table.add_row(name, *map(str, values.values()))
    Console().print(table)


def typical_responses() -> list[str]:
    """Responses that hold every word, for the tokenizer."""
    from vqathinker import answers

    phrases = [f"{degree} {kind}" for degree in DEGREES for kind in KINDS]
    timed = [f"{degree} freeze {time}" for degree in DEGREES for time in TIMES]
    lists = [f"{first}, {second}" for first, second in zip(phrases, timed * 3, strict=False)]
    lists += [f"{second}, {first}" for first, second in zip(phrases, timed * 3, strict=False)]
    return [answers.render(text, 3.45) for text in [*lists, CLEAN]]


if __name__ == "__main__":
    typer.run(main)

"""Where the rows of an ablation start: the base, and what further supervised tuning makes of it."""

from __future__ import annotations

from pathlib import Path

from . import make_base_set
from .base import FRAME_SIZE, NUM_FRAMES, SETTINGS, typical_responses
from .runs import DONE, RECIPES, train

BASE = Path(__file__).with_name("checkpoint")
STARTS = ("base", "no_motion", "no_reasoning", "sft")
NUM_CLIPS = 4000
# taught on from the base, on clips of the base's own
AGAIN = ("--max_steps", "500", "--learning_rate", "1e-3")


def folder_of(name: str, out: Path) -> Path:
    """Where a checkpoint of `STARTS` is, or will be."""
    return BASE if name == "base" else out / name / "final"


def make_start(name: str, out: Path, *, world: Path, described: Path) -> None:
    """Make a checkpoint of `STARTS` unless it is there.

    Args:
        name: which; "no_motion" has lost the motion branch and was taught again to describe what it sees,
            "no_reasoning" was taught to give the base's crude scores without a description, "sft" is the
            demo's adapter of supervised tuning.
        out: folder of all.
        world: folder of the clips with opinions.
        described: training labels of those with the base's own reasoning.
    """
    if name == "base" or (out / name / DONE).exists():
        return
    if name == "sft":
        settings = [RECIPES / "demo_sft.yaml"]
        train("sft", settings, BASE, described, world, out / name, "--eval_strategy", "no")
        return
    labels = make_base_set(out / "data", num_clips=NUM_CLIPS)
    checkpoint = without_motion(BASE, out / name / "init") if name == "no_motion" else BASE
    think = "false" if name == "no_reasoning" else "true"
    train("sft", [SETTINGS], checkpoint, labels, labels.parent, out / name, *AGAIN, "--think", think)


def without_motion(checkpoint: Path, out: Path) -> Path:
    """Write a checkpoint of the world's again, without SlowFast and the motion token."""
    import torch

    from vqathinker.checkpoints.assemble import load_policy
    from vqathinker.checkpoints.tiny import build_tiny

    sizes = {"num_frames": NUM_FRAMES, "frame_size": FRAME_SIZE}
    build_tiny(out, responses=typical_responses(), motion="none", **sizes)
    model, processor = load_policy(out)
    whole = load_policy(checkpoint, dtype=torch.float32)[0].state_dict()
    model.load_state_dict({name: whole[name] for name in model.state_dict()})
    model.save_pretrained(out)
    processor.save_pretrained(out)
    return out

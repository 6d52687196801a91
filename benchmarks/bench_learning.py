"""What a step of GRPO learns from in the demo's world, and what is learned.

python benchmarks/bench_learning.py --demo out/bench_demo

Takes the finished demos of `bench_demo.py`. Gradients: the trainer's own, of many generation batches at the
same weights, for several shapes of the batch; their mean is the signal, the rest is noise. Digits: how the
scores of in-domain test clips follow the labels by their first digit, and among clips of one first digit.
Training: means over the first and the last tenth of GRPO's steps.
"""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RECIPES, arguments, environment, write
from rich.console import Console
from rich.table import Table
from transformers import TrainerCallback

from vqathinker.evaluation.runs import read_run
from vqathinker.launch.settings import merge
from vqathinker.metrics import srcc

sys.path.append(str(RECIPES))  # they are no installed package

from grpo_lsvq import compose
from world.runs import course
from world.starts import BASE

SETTINGS = RECIPES / "demo_grpo.yaml"
NUM_BATCHES = 16
# videos and responses of each, and other settings
BATCHES: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "16 videos × 8": (16, 8, ()),
    "8 videos × 8": (8, 8, ()),
    "32 videos × 8": (32, 8, ()),
    "64 videos × 2": (64, 2, ()),
    "32 videos × 4": (32, 4, ()),
    "8 videos × 16": (8, 16, ()),
    "16 videos × 8, advantages not scaled": (16, 8, ("--scale_rewards", "none")),
    "16 videos × 8, scaled by the batch": (16, 8, ("--scale_rewards", "batch")),
}
PARTS = {"attention": "self_attn", "MLP": "mlp", "motion projector": "motion_projector"}
MIN_VIDEOS = 20  # with the same first digit, for a rank correlation among them


def main() -> None:
    """Measure what has not been measured, print tables, write the JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--demo", type=Path, default=Path("out/bench_demo"), help="--out of bench_demo.py")
    parser.add_argument("--out", type=Path, default=Path("out/bench_learning"))
    options = parser.parse_args()
    demos = sorted(options.demo.glob("seed*"))
    if not demos:
        raise SystemExit(f"{options.demo} holds no demos; bench_demo.py makes them")
    options.out.mkdir(parents=True, exist_ok=True)
    at = {"base": BASE, "after GRPO": demos[0] / "grpo/final"}
    cases = [("base", name) for name in BATCHES] + [("after GRPO", next(iter(BATCHES)))]
    report = {
        "environment": environment(("torch", "transformers", "trl")),
        "batches": NUM_BATCHES,
        "gradients": [
            {"weights": weights, "batch": name} | kept(options.out, options.demo / "world", at[weights], name)
            for weights, name in cases
        ],
        "digits": [
            {"seed": demo.name.removeprefix("seed"), "model": model} | measure_digits(demo, model)
            for demo in demos
            for model in ("base", "sft", "grpo")
        ],
        "training": [{"seed": demo.name.removeprefix("seed")} | course(demo / "grpo") for demo in demos],
    }
    show(report)
    write("learning", report)


def kept(out: Path, world: Path, checkpoint: Path, name: str) -> dict[str, Any]:
    """The signal and the noise of a batch, from the file of an earlier call if there is one."""
    label = "".join(c if c.isalnum() else "_" for c in f"{checkpoint.parent.name} {name}")
    path = out / f"{label}.json"
    if not path.exists():
        num_videos, num_responses, more = BATCHES[name]
        words = ["--num_generations", num_responses, *more]
        words += ["--per_device_train_batch_size", num_videos * num_responses]
        found = signal_to_noise(record_gradients(checkpoint, world, out / "run", words))
        path.write_text(json.dumps(found) + "\n")
    return json.loads(path.read_text())


class Recorder(TrainerCallback):
    """Takes the gradients of each step and leaves none, so that no weight moves."""

    def __init__(self) -> None:
        self.steps: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, *_: object, model: torch.nn.Module, **__: object) -> None:
        """Record."""
        step = {}
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                step[name] = parameter.grad.detach().flatten().clone()
                parameter.grad.zero_()
        self.steps.append(step)


def record_gradients(
    checkpoint: Path, world: Path, out: Path, words: Sequence[object]
) -> list[dict[str, torch.Tensor]]:
    """Gradients of some generation batches at the same weights, parameter name to (size,) each."""
    shutil.rmtree(out, ignore_errors=True)
    given = {
        "--model_name_or_path": checkpoint,
        "--train_labels": world / "train.csv",
        "--train_videos": world,
        "--output_dir": out,
        "--max_steps": NUM_BATCHES,
        "--max_grad_norm": 0,  # unclipped
        "--eval_strategy": "no",
        "--seed": 0,
    }
    named = [str(word) for pair in given.items() for word in pair]
    settings = merge("grpo", SETTINGS, ["--config", str(SETTINGS), *named, *map(str, words)])
    trainer, _, _ = compose(settings)
    recorder = Recorder()
    trainer.add_callback(recorder)
    trainer.train()
    return recorder.steps


def signal_to_noise(steps: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, Any]:
    """Squared length of the mean gradient over the variance of one, of all weights and of parts of them.

    The squared length is less the part that noise has in it, so a gradient of noise alone has 0 on average.
    The error of the ratio is the jackknife's, which leaves out one batch at a time.
    """
    found: dict[str, Any] = {}
    # adapters keep the names of the layers that they sit on
    for part, marker in {"all": "", **PARTS}.items():
        names = [name for name in steps[0] if marker in name]
        gradients = torch.stack([torch.cat([step[name] for name in names]) for step in steps]).double()
        products = (gradients @ gradients.T).numpy()
        signal, noise = moments(products)
        others = [np.delete(np.delete(products, i, axis=0), i, axis=1) for i in range(len(steps))]
        ratios = np.array([np.divide(*moments(one)) for one in others])
        error = np.sqrt((len(steps) - 1) * ratios.var())
        found[part] = {
            "weights": gradients.shape[1],
            "signal": signal,
            "noise": noise,
            "ratio": signal / noise,
            "error": float(error),
        }
    return found


def moments(products: np.ndarray) -> tuple[float, float]:
    """Squared length of the mean and variance of gradients of which the (n, n) products are known."""
    number = len(products)
    own = float(np.trace(products))
    signal = (float(products.sum()) - own) / (number * (number - 1))
    return signal, own / number - signal


def measure_digits(demo: Path, model: str) -> dict[str, Any]:
    """SRCC of whole scores, of their first digits, and among scores of the same first digit."""
    scores = read_run(demo / "scores" / model / "test")
    found = next(iter(scores.values()))
    valid = np.isfinite(found.predicted)
    predicted = found.predicted[valid]
    target = found.target[valid]
    first = np.floor(predicted)
    within = [
        (int(same.sum()), srcc(predicted[same], target[same]))
        for same in (first == digit for digit in np.unique(first))
        if same.sum() >= MIN_VIDEOS and len(np.unique(predicted[same])) > 1
    ]
    return {
        "whole": srcc(predicted, target),
        "first digit": srcc(first, target),
        "same first digit": float(np.average([s for _, s in within], weights=[n for n, _ in within])),
        "bits": [round(bits, 2) for bits in digit_bits(predicted)],
    }


def digit_bits(scores: np.ndarray) -> Iterator[float]:
    """Entropy in bits of each of the three digits of scores."""
    texts = [f"{score:.2f}" for score in scores]
    for place in (0, 2, 3):
        _, counts = np.unique([text[place] for text in texts], return_counts=True)
        shares = counts / counts.sum()
        yield float(-(shares * np.log2(shares)).sum())


def show(report: dict[str, Any]) -> None:
    """Print the three tables."""
    console = Console()
    table = Table("weights", "batch", *("all", *PARTS), title="signal / noise of one step's gradient")
    for found in report["gradients"]:
        cells = [f"{found[part]['ratio']:.3f} ± {found[part]['error']:.3f}" for part in ("all", *PARTS)]
        table.add_row(found["weights"], found["batch"], *cells)
    console.print(table)
    columns = ("whole", "first digit", "same first digit")
    table = Table("seed", "model", *columns, "bits of the digits", title="SRCC in-domain")
    for found in report["digits"]:
        cells = [f"{found[column]:.3f}" for column in columns]
        table.add_row(found["seed"], found["model"], *cells, str(found["bits"]))
    console.print(table)
    names = [name for name in report["training"][0] if name != "seed"]
    table = Table("seed", *names, title="first and last tenth of GRPO")
    for found in report["training"]:
        table.add_row(found["seed"], *("{} → {}".format(*found[name]) for name in names))
    console.print(table)


if __name__ == "__main__":
    main()

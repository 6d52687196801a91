"""A problem whose best answer is known, through the real trainer with real rollouts.

A response is one token. Dark videos want an even one, bright videos an odd one: what nobody can answer right
who does not look at the video, and what any break between videos, responses, rewards and advantages keeps
from being learned.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from datasets import Dataset

from vqathinker.checkpoints.assemble import load_policy
from vqathinker.data.dataset import load_labels
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.video import read_keyframes
from vqathinker.rollout import HFEngine, Sampling, VideoEncoder
from vqathinker.training import TrainingConfig, VQAThinkerTrainer
from vqathinker.types import FloatArray, RolloutBatch

Fault = Callable[[VQAThinkerTrainer], None]
NUM_VIDEOS = 4
GROUP = 8
SETTINGS: dict[str, Any] = {
    "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none",
    "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True, "decode_workers": 1,
    "num_generations": GROUP, "per_device_train_batch_size": NUM_VIDEOS * GROUP,
    "gradient_accumulation_steps": 1, "max_completion_length": 1, "top_k": 0, "temperature": 1.0,
    "lr_scheduler_type": "constant", "seed": 0,
}  # fmt: skip


class Parity:
    """1 for an even token where the target is below 3, for an odd one elsewhere.

    Args:
        tokenizer: gives the number of the token that a response is.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401
        self.tokenizer = tokenizer

    def __call__(self, batch: RolloutBatch) -> FloatArray:
        parity = np.array([[self.parity(text) for text in texts] for texts in batch.texts])
        return (parity == (batch.target >= 3)[:, None]).astype(np.float64)

    def parity(self, text: str) -> int:
        """0, 1, or -1 for an empty response."""
        ids = self.tokenizer(text)["input_ids"]
        return ids[0] % 2 if ids else -1


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Dark videos with a MOS of 2, bright ones with 4."""
    folder = tmp_path_factory.mktemp("bandit")
    lines = ["video,mos"]
    for number in range(NUM_VIDEOS):
        is_bright = number % 2 == 1
        path = folder / f"{number}.mp4"
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("libx264", rate=8)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            picture = np.full((64, 64, 3), 220 if is_bright else 30, np.uint8)
            for _ in range(8):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        lines.append(f"{path.name},{4 if is_bright else 2}")
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    return load_labels(folder / "train.csv", video_dir=folder, mos_range=(1, 5), scale="affine")


def train(
    checkpoint: Path,
    rows: Dataset,
    out: Path,
    decoders: GuardedReader,
    fault: Fault | None = None,
    **settings: Any,
) -> VQAThinkerTrainer:
    """The trainer after its steps, with a fault put into it before."""
    model, processor = load_policy(checkpoint, dtype=torch.float32)
    trainer = VQAThinkerTrainer(
        model,
        TrainingConfig(**{**SETTINGS, "output_dir": str(out), **settings}),
        processor=processor,
        rewards={"parity": Parity(processor.tokenizer)},
        train_dataset=rows,
        decoders=decoders,
    )
    if fault is not None:
        fault(trainer)
    trainer.train()
    return trainer


def chance_of_right(trainer: VQAThinkerTrainer, rows: Dataset) -> list[float]:
    """For each video the probability that the policy's token is of the wanted parity."""
    processor = trainer.processor
    encoder = VideoEncoder(trainer.model, processor, processor.training)
    frames = [read_keyframes(path, processor.num_frames).frames for path in rows["path"]]
    requests = [encoder.request(video, str(i)) for i, video in enumerate(encoder.encode(frames))]
    vocabulary = list(range(len(processor.tokenizer)))
    engine = HFEngine(trainer.model, processor)
    answers = engine.generate(requests, 1, Sampling(max_new_tokens=1), watched=vocabulary)
    chances = np.exp([answer.watched[0] for (answer,) in answers])
    reward = Parity(processor.tokenizer)
    texts = [processor.tokenizer.decode([token], skip_special_tokens=True) for token in vocabulary]
    parity = np.array([reward.parity(text) for text in texts])
    return [float(chances[i, parity == (target >= 3)].sum()) for i, target in enumerate(rows["target"])]


def permuted(trainer: VQAThinkerTrainer) -> None:
    """Give each response its neighbour's advantage."""
    score = trainer._generate_and_score_completions

    def rolled(inputs: Any) -> Any:  # noqa: ANN401
        batch = score(inputs)
        return {**batch, "advantages": batch["advantages"].roll(1, 0)}

    trainer._generate_and_score_completions = rolled  # type: ignore[method-assign]


def misaligned(trainer: VQAThinkerTrainer) -> None:
    """Give each video its neighbour's rewards."""
    reward = trainer.rewards["parity"]
    trainer.rewards["parity"] = lambda batch: np.roll(reward(batch), 1, axis=0)


def repelled(trainer: VQAThinkerTrainer) -> None:
    """Reward the distance from the reference."""
    trainer.beta = -trainer.beta


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "learns"), [(None, True), (permuted, False), (misaligned, False)])
def test_the_best_answer_is_learned(
    fault: Fault | None,
    learns: bool,
    tiny_checkpoint: Path,
    rows: Dataset,
    tmp_path: Path,
    decoders: GuardedReader,
) -> None:
    """And with a fault put in, it is not: the test would notice."""
    settings = {"max_steps": 60, "learning_rate": 2e-3, "beta": 0.0}
    trainer = train(tiny_checkpoint, rows, tmp_path, decoders, fault, **settings)
    assert (min(chance_of_right(trainer, rows)) > 0.9) == learns


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "stays"), [(None, True), (repelled, False)])
def test_a_strong_anchor_holds_the_policy(
    fault: Fault | None,
    stays: bool,
    tiny_checkpoint: Path,
    rows: Dataset,
    tmp_path: Path,
    decoders: GuardedReader,
) -> None:
    """With a large beta the optimum lies beside the reference; with the other sign it runs away."""
    settings = {"max_steps": 40, "learning_rate": 1e-3, "beta": 20.0}
    trainer = train(tiny_checkpoint, rows, tmp_path, decoders, fault, **settings)
    distances = [entry["kl"] for entry in trainer.state.log_history if "kl" in entry]
    assert (max(distances[-10:]) < 0.2) == stays

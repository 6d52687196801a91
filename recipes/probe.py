"""Train a linear probe on a checkpoint's encoder and measure it: VITAL (arXiv 2511.17962), Table 6.

    python recipes/probe.py CHECKPOINT labels_train_test.csv LSVQ/ --split train \
        --test konvid.csv KoNViD/ --out out/probe

`--full` trains the encoder too. Five epochs of cross entropy on five equal levels, as the paper; the rate is
not published. The probe, scores of the test set and their correlations are in `--out`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import save_file

from vqathinker.checkpoints.assemble import load_policy
from vqathinker.data.dataset import load_labels
from vqathinker.data.overlap import find_overlap
from vqathinker.launch import user_errors
from vqathinker.media.clips import read_clips
from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.metrics import correlations
from vqathinker.model import VQAThinkerProcessor
from vqathinker.model.probe import Probe, expected_scores
from vqathinker.opinions import level_index
from vqathinker.training.packing import IGNORE
from vqathinker.training.unreadable import black_video

RATE = 1e-3
FULL_RATE = 1e-5


class Collator:
    """Pixels of videos and the places of their levels."""

    def __init__(self, processor: VQAThinkerProcessor, decoders: GuardedReader) -> None:
        self.processor = processor
        self.decoders = decoders
        self.unreadable: dict[str, str] = {}

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Build `pixel_values` (B, T, 3, S, S) and `labels` (B,), -100 of what cannot be read."""
        setting = self.processor.training
        pixels = []
        labels = []
        clips = read_clips(self.decoders, [row["path"] for row in rows], setting)
        for row, clip in zip(rows, clips, strict=True):
            if isinstance(clip, VideoError):  # nothing is learned of it, and it gets no score
                self.unreadable[row["path"]] = clip.reason
                pixels.append(black_video(self.processor))
                labels.append(IGNORE)
            else:
                pixels.append(self.processor.pixels(clip.frames, setting.size))
                labels.append(level_index(row["mos"], row["mos_low"], row["mos_high"]))
        return {"pixel_values": torch.stack(pixels), "labels": torch.tensor(labels)}


def main(
    checkpoint: str,
    labels: Path,
    videos: Path,
    test: Annotated[tuple[Path, Path], typer.Option(help="Label file and folder to measure on.")],
    out: Path = Path("out/probe"),
    split: str | None = None,
    test_split: str | None = None,
    mos_range: Annotated[
        tuple[float, float] | None, typer.Option("--range", help="Of both sets; 0 100 unless they say.")
    ] = None,
    full: bool = False,
    epochs: int = 5,
    batch_size: int = 16,
    rate: Annotated[float | None, typer.Option(help="1e-3 for the probe alone, 1e-5 with --full.")] = None,
    seed: int = 42,
) -> None:
    """Train on one set, measure on another."""
    from transformers import Trainer, TrainingArguments

    reading: dict[str, Any] = {"mos_range": mos_range, "need_video": True}
    with user_errors():
        train = load_labels(labels, video_dir=videos, split=split, **reading)
        measured = load_labels(test[0], video_dir=test[1], split=test_split, **reading)
        if overlap := find_overlap(measured, train):
            raise ValueError(f"{overlap.describe()}; give another test set or --test-split")
        policy, processor = load_policy(checkpoint)
        torch.manual_seed(seed)
        probe = Probe(policy.model, full=full)
    args = TrainingArguments(
        str(out), num_train_epochs=epochs, per_device_train_batch_size=batch_size, seed=seed,
        learning_rate=rate or (FULL_RATE if full else RATE), remove_unused_columns=False, report_to="none",
        per_device_eval_batch_size=batch_size, save_strategy="no", logging_steps=10,
        dataloader_pin_memory=torch.accelerator.is_available(),
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)  # nothing makes it on the way, and the end must not fail for it
    with closing(GuardedReader()) as decoders:
        collator = Collator(processor, decoders)
        trainer = Trainer(probe, args, data_collator=collator, train_dataset=train)
        trainer.train()
        save_file(probe.state_dict(), out / "probe.safetensors")
        predicted = trainer.predict(measured).predictions
    scores = expected_scores(torch.from_numpy(predicted))
    lost = [row["path"] in collator.unreadable for row in measured]
    scores = [math.nan if is_lost else score for score, is_lost in zip(scores, lost, strict=True)]
    found = correlations(scores, measured["mos"][:], num_bootstrap=1000)
    result = {"srcc": found.srcc.value, "plcc": found.plcc.value, "weights": trained_weights(probe)}
    rows = [
        {"video": row["video_id"], "score": None if math.isnan(score) else score}
        for row, score in zip(measured, scores, strict=True)
    ]
    kept = result | {"unreadable": collator.unreadable, "scores": rows}
    (out / "probe.json").write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(result))


def trained_weights(probe: Probe) -> int:
    """How many numbers were learned."""
    return sum(weight.numel() for weight in probe.parameters() if weight.requires_grad)


if __name__ == "__main__":
    typer.run(main)

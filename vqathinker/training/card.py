"""The model card of a checkpoint: what it is, from what it was made, its figures, how to score with it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset
from transformers import Trainer

from vqathinker.checkpoints.folders import CHECKPOINT, open_to_others
from vqathinker.launch.resume import PACKAGES
from vqathinker.training.validation import FIGURES, LOSS

CARD_FILE = "README.md"
CACHED = "models--"  # how the hub's cache calls the folder of a model
TITLES = {name: figure.title for name, figure in FIGURES.items()} | {LOSS: "loss"}


@dataclass(frozen=True)
class Origin:
    """What a run was started with.

    Attributes:
        method: how it learns, in a sentence's words.
        base: the checkpoint that it started from, a folder or a name on the hub.
        train: rows of the training data.
        validation: those of the validation data, if any.
        settings: what a reader compares, by name.
        answer_only: whether responses have no think block.
    """

    method: str
    base: str
    train: Dataset
    validation: Dataset | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    answer_only: bool = False


class WritesCard(Trainer, ABC):
    """A trainer whose checkpoints come with a card of ours."""

    @abstractmethod
    def origin(self) -> Origin:
        """What the run was started with."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write the card into the output folder, where TRL writes one of its own and the hub looks for it."""
        if self.is_world_process_zero():
            self._write_card(str(self.args.output_dir))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save as transformers does, in the one process that it calls, and write the card beside."""
        super()._save(output_dir, state_dict)
        folder = str(output_dir or self.args.output_dir)
        open_to_others(Path(folder).glob("*.safetensors"))
        self._write_card(folder)

    def _write_card(self, folder: str) -> None:
        is_adapter = hasattr(self.accelerator.unwrap_model(self.model), "peft_config")
        step = self.state.global_step
        is_last = CHECKPOINT.fullmatch(Path(folder).name) is None
        if is_last and self.args.load_best_model_at_end and step >= self.state.max_steps:
            step = self.state.best_global_step or step  # whose weights were loaded
        text = render(self.origin(), self.state.log_history, step, is_adapter=is_adapter)
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, CARD_FILE).write_text(text, encoding="utf-8")


def render(origin: Origin, history: Sequence[Mapping[str, Any]], step: int, *, is_adapter: bool) -> str:
    """The card's text.

    Args:
        origin: of the run.
        history: what it logged.
        step: whose weights the checkpoint holds.
        is_adapter: whether it holds a LoRA adapter instead of all weights.
    """
    hub_name = _hub_name(origin.base)
    base = hub_name or origin.base
    head: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "video-text-to-text"}
    head |= {"base_model": hub_name} if hub_name else {}
    head |= {"tags": ["video-quality-assessment", "vqathinker"]}
    kind = "A LoRA adapter for a video language model" if is_adapter else "A video language model"
    flag = " --answer-only" if origin.answer_only else ""
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n",
        f"# {kind} that scores video quality\n",
        f"It answers with a score from 1 (bad) to 5 (excellent). {origin.method} from `{base}`, "
        f"{step} steps, on {_sets(origin.train)}.\n",
        "## Score a video\n",
        f"```bash\nvqathinker score PATH/TO/THIS/FOLDER clip.mp4{flag}\n```\n",
        "## Figures\n",
        *_figures(origin, history, step),
        "## Settings\n",
        *(f"* {name}: {value}" for name, value in origin.settings.items()),
        "",
        "Made with " + ", ".join(f"{name} {version(name)}" for name in PACKAGES) + ".",
    ]
    return "\n".join(parts) + "\n"


def _figures(origin: Origin, history: Sequence[Mapping[str, Any]], step: int) -> list[str]:
    """The last validation up to a step, and what training logged last."""
    known = [entry for entry in history if entry.get("step", 0) <= step]
    lines = []
    validations = [entry for entry in known if "eval_srcc" in entry or "eval_loss" in entry]
    if validations and origin.validation is not None:
        last = validations[-1]
        figures = [
            f"{title} {_number(last[f'eval_{name}'])}"
            for name, title in TITLES.items()
            if f"eval_{name}" in last
        ]
        lines.append(
            f"Validation on {_sets(origin.validation)}, at step {last['step']}: {', '.join(figures)}.\n"
        )
    else:
        lines.append("No validation; `vqathinker evaluate` measures it.\n")
    rewards = [entry for entry in known if "reward" in entry]
    if rewards:
        last = rewards[-1]
        parts = [
            f"{key.removeprefix('rewards/').removesuffix('/mean')} {_number(value)}"
            for key, value in last.items()
            if key.startswith("rewards/") and key.endswith("/mean")
        ]
        lines.append(
            f"Reward in training at step {last['step']}: {_number(last['reward'])} ({', '.join(parts)}).\n"
        )
    return lines


def _sets(rows: Dataset) -> str:
    """Data sets with their numbers of videos: "lsvq (28,056 videos)"."""
    videos = (
        rows["path"] if "path" in rows.column_names else range(len(rows))
    )  # several samples may ask of one
    files = set(zip(rows["dataset"], videos, strict=True))
    counts = {name: sum(of == name for of, _ in files) for name in dict.fromkeys(rows["dataset"])}
    return " and ".join(f"{name} ({number:,} videos)" for name, number in counts.items())


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "undefined"
    return f"{value:g}" if float(value).is_integer() else f"{value:.3f}"


def _hub_name(path: str) -> str | None:
    """The hub's name of a model in its cache, None for any other folder.

    >>> _hub_name("/home/me/.cache/huggingface/hub/models--OpenGVLab--InternVL3-1B-hf/snapshots/12ab")
    'OpenGVLab/InternVL3-1B-hf'
    """
    for part in Path(path).parts:
        if part.startswith(CACHED):
            return part.removeprefix(CACHED).replace("--", "/", 1)
    return None

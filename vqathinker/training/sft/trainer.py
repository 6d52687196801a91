"""Supervised examples: the prompt of a video and a templated answer with its MOS.

The paper's SFT baseline, and the warm start of a small model. TRL's `SFTTrainer` does the optimisation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput, TrainOutput
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from vqathinker import answers
from vqathinker.media.clips import read_clips
from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.names import is_image_name
from vqathinker.media.video import Clip
from vqathinker.model import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.scale import level_of
from vqathinker.training.card import Origin, WritesCard
from vqathinker.training.live import SUPERVISED_COLUMNS, log_file, show_live
from vqathinker.training.missing import check_columns, check_precision, check_processes
from vqathinker.training.packing import IGNORE
from vqathinker.training.unreadable import UnreadableVideos, black_video
from vqathinker.training.validation import MORE_IS_BETTER, validate

REASONING = "The quality is {level}."


def templated_answer(target: float, reasoning: str | None = None, *, think: bool = True) -> str:
    """The response that a model should give for a target on the 1-5 scale, with the level if not told why.

    Args:
        target: the score.
        reasoning: what stands before it; the level in words if omitted.
        think: False for the answer block alone.

    >>> templated_answer(3.417)
    '<think>The quality is fair.</think><answer>3.42</answer>'
    >>> templated_answer(3.417, "Slight noise.")
    '<think>Slight noise.</think><answer>3.42</answer>'
    """
    if not think:
        return answers.render(None, target)
    return answers.render(reasoning or REASONING.format(level=level_of(target)), target)


class SupervisedCollator:
    """Turns data set rows into a padded batch with labels on the answer only.

    Args:
        processor: the checkpoint's.
        num_workers: processes that decode.
        decode_seconds: time that reading one video may take.
        unreadable: takes note of unreadable videos, which are left out; None to raise at the first.
        decoders: the processes that decode, if others share them.
        think: False teaches the answer block alone, whatever reasoning the rows hold; a row's own `answer` is
            taught as it is.
    """

    def __init__(
        self,
        processor: VQAThinkerProcessor,
        *,
        num_workers: int = 4,
        decode_seconds: float = 60.0,
        unreadable: UnreadableVideos | None = None,
        decoders: GuardedReader | None = None,
        think: bool = True,
    ) -> None:
        self.processor = processor
        self.think = think
        self.unreadable = unreadable
        self.decoders = decoders or GuardedReader(num_workers=num_workers, time_limit=decode_seconds)

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Build `input_ids`, `attention_mask`, `labels` (B, L) and `pixel_values` (B·T, 3, S, S).

        Where no video of the batch can be read, a black one stands for it, of which nothing is learned.

        Raises:
            VideoError: if a video cannot be read and `unreadable` is None.
            RunStopped: if too many cannot be read.
        """
        read = self._read(rows)
        setting = self.processor.training
        examples = [self._example(row) for row, _ in read] or [self._example(rows[0])]
        pixels = [self.processor.pixels(clip.frames, setting.size) for _, clip in read]
        ids = [torch.tensor(prompt + response) for prompt, response in examples]
        # the prompt is given, only the response is learned
        labels = [torch.tensor([IGNORE] * len(prompt) + response) for prompt, response in examples]
        if not read:
            labels = [torch.full_like(ids[0], IGNORE)]
        pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True)
        padded = pad(ids, padding_value=self.processor.tokenizer.pad_token_id)
        lengths = torch.tensor(list(map(len, ids)))
        return {
            "input_ids": padded,
            "attention_mask": (torch.arange(padded.shape[1]) < lengths[:, None]).long(),
            "labels": pad(labels, padding_value=IGNORE),
            "pixel_values": torch.cat(pixels or [black_video(self.processor)]),
        }

    def _read(self, rows: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], Clip]]:
        """The rows that can be read, with their clips; the others are noted."""
        clips = read_clips(self.decoders, [row["path"] for row in rows], self.processor.training)
        errors = [clip for clip in clips if isinstance(clip, VideoError)]
        if errors and self.unreadable is None:
            raise errors[0]
        if errors and self.unreadable is not None:
            noted = [(error.path, error.reason) for error in errors]
            self.unreadable.add(noted, None, None, write=True)
        return [(row, clip) for row, clip in zip(rows, clips, strict=True) if isinstance(clip, Clip)]

    def _example(self, row: Mapping[str, Any]) -> tuple[list[int], list[int]]:
        """Ids of a row's prompt and of the response to learn, which ends as the model has to end it."""
        setting = self.processor.training
        prompt = self.processor.prompt_ids(
            setting.num_frames, setting.tokens_per_frame, question=row.get("question")
        )
        tokenizer = self.processor.tokenizer
        text = self._answer(row) + tokenizer.eos_token
        return list(prompt), list(tokenizer(text, add_special_tokens=False)["input_ids"])

    def _answer(self, row: Mapping[str, Any]) -> str:
        """What a sample says itself, or the form that its score is told in."""
        if row.get("answer") is not None:
            return str(row["answer"])
        return templated_answer(row["target"], row.get("reasoning"), think=self.think)


def check_samples(dataset: Dataset) -> None:
    """Refuse samples that cannot be taught.

    Raises:
        ValueError: naming the first, and the way out.
    """
    answers_told = dataset["answer"][:] if "answer" in dataset.column_names else [None] * len(dataset)
    columns = zip(dataset["video_id"], dataset["path"], dataset["target"], answers_told, strict=True)
    for name, path, target, answer in columns:
        if is_image_name(path):
            raise ValueError(f"{name}: {path} is a picture, supervised training takes videos; leave it out")
        if answer is None and math.isnan(target):
            raise ValueError(f"{name} has neither an answer nor a target: nothing can be learned from it")


class SupervisedTrainer(WritesCard, SFTTrainer):
    """TRL's supervised trainer on videos with templated answers.

    Args:
        model: loaded from a checkpoint directory.
        args: TRL's settings.
        processor: that of the same checkpoint.
        train_dataset: rows from `vqathinker.data.dataset.load_labels`.
        eval_dataset: rows whose loss and greedy scores are logged at each evaluation.
        max_unreadable: share of the videos that may be missing or unreadable before the run stops.
        think: False teaches the answer block alone.
        eval_num_videos: most validation videos scored at each evaluation, 0 for all.
        eval_max_completion_length: longest response at an evaluation, in tokens.
        decoders: the processes that decode, if others share them.
        base: what the run starts from, for the model card; the model's name if omitted.
        kwargs: passed on to TRL's `SFTTrainer`, e.g. `peft_config`, `callbacks`.
    """

    def __init__(
        self,
        model: VQAThinkerForConditionalGeneration | PeftModel,
        args: SFTConfig,
        *,
        processor: VQAThinkerProcessor,
        train_dataset: Dataset,
        eval_dataset: Dataset | None = None,
        max_unreadable: float = 0.05,
        think: bool = True,
        eval_num_videos: int = 0,
        eval_max_completion_length: int = 2048,
        decoders: GuardedReader | None = None,
        base: str | None = None,
        **kwargs: Any,
    ) -> None:
        metric = str(args.metric_for_best_model).removeprefix("eval_")
        if metric in MORE_IS_BETTER:  # transformers takes more for better, but for the loss
            args.greater_is_better = MORE_IS_BETTER[metric]
        self.base = base or str(model.name_or_path)
        self.rows = (train_dataset, eval_dataset)
        files: set[str] = set()
        for rows in filter(None, self.rows):
            check_columns(rows)
            check_samples(rows)
            files.update(rows["path"])
        self.unreadable = UnreadableVideos(str(args.output_dir), len(files), max_unreadable, is_shared=True)
        self.collator = SupervisedCollator(
            processor, unreadable=self.unreadable, decoders=decoders, think=think
        )
        self._evaluated = torch.zeros(2)  # rows of an evaluation, and those without a readable video
        self.eval_num_videos = eval_num_videos
        self.eval_max_completion_length = eval_max_completion_length
        super().__init__(
            model,
            args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=self.collator,
            processing_class=processor.tokenizer,
            **kwargs,
        )
        show_live(self, SUPERVISED_COLUMNS)
        check_processes(self.accelerator.num_processes)
        policy = self.accelerator.unwrap_model(self.model)
        check_precision(policy, has_master_weights=self.is_deepspeed_enabled)
        self.processing_class = processor  # what is saved with every checkpoint

    def origin(self) -> Origin:
        """What the model card tells."""
        settings = {"learning rate": self.args.learning_rate, "seed": self.args.seed}
        answers_only = not self.collator.think
        return Origin("Fine-tuned on templated answers", self.base, *self.rows, settings, answers_only)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:  # noqa: ANN401  the loss, or with it what the model returned
        """As TRL's; of a batch without a readable video 0, where the mean over nothing would be NaN."""
        labels = inputs["labels"]
        is_blank = not (labels != IGNORE).any()
        if not model.training:
            self._evaluated += torch.tensor([len(labels), len(labels) if is_blank else 0])
        if is_blank and not num_items_in_batch:
            num_items_in_batch = torch.ones((), device=labels.device)
        return super().compute_loss(  # type: ignore[no-untyped-call]
            model, inputs, return_outputs, num_items_in_batch
        )

    def evaluation_loop(self, dataloader: DataLoader[Any], *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As of `transformers.Trainer`, with what `validate` finds beside the loss of what can be read."""
        self._evaluated = torch.zeros(2)
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        counts = self.accelerator.gather(self._evaluated.to(self.accelerator.device)).view(-1, 2).sum(dim=0)
        num_rows, num_blank = counts.tolist()
        prefix = kwargs.get("metric_key_prefix", "eval")
        found = validate(
            self,
            dataloader.dataset,
            self.collator.processor,
            self.collator.decoders,
            num_videos=self.eval_num_videos,
            max_new_tokens=self.eval_max_completion_length,
            think=self.collator.think,
        )
        assert output.metrics is not None  # it has the loss
        num_read = num_rows - num_blank
        output.metrics[f"{prefix}_loss"] *= num_rows / num_read if num_read else math.nan
        output.metrics.update({f"{prefix}_{name}": value for name, value in found.items()})
        return output

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,  # noqa: ANN401  as transformers declares it
        ignore_keys_for_eval: list[str] | None = None,
    ) -> TrainOutput:
        """Train as `transformers.Trainer.train` does; a resumed run counts its unreadable videos on."""
        write = self.accelerator.is_main_process
        self.unreadable.begin(resumes=bool(resume_from_checkpoint), write=write)
        self.accelerator.wait_for_everyone()  # nobody reports before the old report is gone
        with log_file(str(self.args.output_dir), write=write):
            return super().train(resume_from_checkpoint, trial, ignore_keys_for_eval)

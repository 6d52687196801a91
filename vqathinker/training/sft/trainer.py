"""Supervised training: SFT on templated answers, and the stages of tuning on samples of any task.

TRL's `SFTTrainer` does the optimisation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput, TrainOutput
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from vqathinker.data.label_rows import files_of
from vqathinker.media.guarded import GuardedReader
from vqathinker.model import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.training.card import Origin, WritesCard
from vqathinker.training.live import SUPERVISED_COLUMNS, TUNING_COLUMNS, log_file, show_live
from vqathinker.training.missing import check_columns, check_precision, check_processes
from vqathinker.training.packing import IGNORE
from vqathinker.training.sft.collate import SupervisedCollator
from vqathinker.training.sft.objective import LossConfig, Targets, objective
from vqathinker.training.sft.parts import freeze_others, set_rates
from vqathinker.training.sft.rows import check_samples, has_pairs, tell_levels
from vqathinker.training.unreadable import UnreadableVideos
from vqathinker.training.validation import FIGURES, LOSS, find_metric, validate


class SupervisedTrainer(WritesCard, SFTTrainer):
    """TRL's supervised trainer on videos and pictures, with answers of their own or templated ones.

    Args:
        model: loaded from a checkpoint directory.
        args: TRL's settings.
        processor: that of the same checkpoint.
        train_dataset: rows from `vqathinker.data.dataset.load_labels`, also with `pairs`.
        eval_dataset: rows whose loss and greedy scores are logged at each evaluation.
        max_unreadable: share of the videos that may be missing or unreadable before the run stops.
        think: False teaches the answer block alone.
        eval_num_videos: most validation videos scored at each evaluation, 0 for all.
        eval_max_completion_length: longest response at an evaluation, in tokens.
        losses: what samples are learned by; cross entropy of all text if omitted.
        parts: those that are trained, by name (`launch.stages.PARTS`), with a learning rate or None for that
            of `args`; all but SlowFast if omitted.
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
        losses: LossConfig | None = None,
        parts: Mapping[str, float | None] | None = None,
        decoders: GuardedReader | None = None,
        base: str | None = None,
        **kwargs: Any,
    ) -> None:
        if args.metric_for_best_model is not None:
            metric = find_metric(args.metric_for_best_model, LOSS)
            if metric != LOSS:  # transformers takes more for better of all others
                args.greater_is_better = FIGURES[metric].more_is_better
        self.base = base or str(model.name_or_path)
        self.rows = (train_dataset, eval_dataset)
        self.losses = losses or LossConfig()
        self.rates = dict(parts or {})
        if self.rates:
            adapts = isinstance(model, PeftModel) or kwargs.get("peft_config") is not None
            freeze_others(model, list(self.rates), adapts=adapts)
        files = {file for rows in filter(None, self.rows) for file in files_of(rows)}
        for rows in filter(None, self.rows):
            check_columns(rows)
            check_samples(rows, self.losses)
        self.is_plain = _is_plain(self.losses, args, self.rows)
        self.tells_levels = tell_levels(processor, self.losses, train_dataset)
        self.unreadable = UnreadableVideos(str(args.output_dir), len(files), max_unreadable, is_shared=True)
        self.collator = SupervisedCollator(
            processor,
            unreadable=self.unreadable,
            decoders=decoders,
            think=think,
            losses=None if self.is_plain else self.losses,
        )
        self._evaluated = torch.zeros(2)  # batches of an evaluation, and those without a readable file
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
        show_live(self, SUPERVISED_COLUMNS if self.is_plain else TUNING_COLUMNS)
        check_processes(self.accelerator.num_processes)
        policy = self.accelerator.unwrap_model(self.model)
        check_precision(policy, has_master_weights=self.is_deepspeed_enabled)
        self.processing_class = processor  # what is saved with every checkpoint

    def origin(self) -> Origin:
        """What the model card tells."""
        settings: dict[str, Any] = {"learning rate": self.args.learning_rate, "seed": self.args.seed}
        if self.rates:
            rates = self._learning_rates()
            settings["learning rate"] = ", ".join(f"{part} {rate:g}" for part, rate in rates.items())
        answers_only = not self.collator.think
        has_answers = "answer" in self.rows[0].column_names
        method = "Fine-tuned on samples" if has_answers else "Fine-tuned on templated answers"
        return Origin(method, self.base, *self.rows, settings, answers_only)

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """As transformers', with the learning rates of the parts."""
        optimizer: Optimizer = super().create_optimizer(model)
        whole = self.model if model is None else model
        if self.rates and whole is not None:
            set_rates(optimizer, whole, self._learning_rates())
        return optimizer

    def _learning_rates(self) -> dict[str, float]:
        """Of each part that is trained."""
        usual = self.args.learning_rate
        return {part: usual if rate is None else rate for part, rate in self.rates.items()}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:  # noqa: ANN401  the loss, or with it what the model returned
        """As TRL's; of a batch without a readable video 0, where the mean over nothing would be NaN.

        Where levels or pairs are learned, or by the focal loss, it is that of `objective`.
        """
        labels = inputs["labels"]
        is_blank = not (labels != IGNORE).any()
        if not self.is_plain:
            is_blank = is_blank and not (inputs["level_places"] >= 0).any()
        if not model.training:
            self._evaluated += torch.tensor([1, int(is_blank)])
        if not self.is_plain:
            loss = self._objective(model, inputs)
            # transformers divides where it has not counted the tokens
            is_whole = num_items_in_batch is None
            return loss if is_whole else loss / self.current_gradient_accumulation_steps
        if is_blank and not num_items_in_batch:
            num_items_in_batch = torch.ones((), device=labels.device)
        return super().compute_loss(  # type: ignore[no-untyped-call]
            model, inputs, return_outputs, num_items_in_batch
        )

    def _objective(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        """The loss of `objective`; its parts are logged."""
        targets = Targets.take(inputs)
        positions = targets.positions()
        outputs = model(**inputs, use_cache=False, logits_to_keep=positions)
        ids = self.collator.processor.level_ids
        losses = objective(outputs.logits, positions, targets, self.losses, ids)
        metrics = self._metrics["train" if model.training else "eval"]
        for name, (part, number) in losses.parts.items():
            found = torch.stack([part.detach(), part.new_tensor(number)])
            total, count = self.accelerator.gather(found).view(-1, 2).sum(dim=0).tolist()
            if count:
                metrics[f"loss/{name}"].append(total / count)
        return losses.total

    def evaluation_loop(self, dataloader: DataLoader[Any], *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """As of `transformers.Trainer`, with what `validate` finds beside the loss of what can be read."""
        self._evaluated = torch.zeros(2)
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        counts = self.accelerator.gather(self._evaluated.to(self.accelerator.device)).view(-1, 2).sum(dim=0)
        num_batches, num_blank = counts.tolist()
        prefix = kwargs.get("metric_key_prefix", "eval")
        found = validate(
            self,
            dataloader.dataset,
            self.collator.processor,
            self.collator.decoders,
            num_videos=self.eval_num_videos,
            max_new_tokens=self.eval_max_completion_length,
            think=self.collator.think,
            levels=self.tells_levels,
        )
        assert output.metrics is not None  # it has the loss
        num_read = num_batches - num_blank
        output.metrics[f"{prefix}_loss"] *= num_batches / num_read if num_read else math.nan
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


def _is_plain(losses: LossConfig, args: SFTConfig, sets: Iterable[Dataset | None]) -> bool:
    """Whether TRL's cross entropy is all that is asked for.

    Raises:
        ValueError: if it is not, and TRL's settings ask for a loss of its own.
    """
    is_plain = losses.is_plain and not any(map(has_pairs, filter(None, sets)))
    if not is_plain and (args.loss_type != "nll" or args.label_smoothing_factor):
        raise ValueError("loss_type and label_smoothing_factor are for plain cross entropy; leave them out")
    return is_plain

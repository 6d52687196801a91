"""From a recipe's settings to the run that is counted, without torch where arithmetic knows the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from vqathinker.launch import Settings, build_plugins
from vqathinker.launch.build import check_plugins
from vqathinker.launch.checks import out_of_range, split_groups
from vqathinker.launch.effects import without_effect
from vqathinker.launch.fields import UNKNOWN
from vqathinker.launch.settings import merge
from vqathinker.planning.checkpoint import Checkpoint, read_checkpoint
from vqathinker.planning.hardware import GPU
from vqathinker.planning.run import Run
from vqathinker.planning.sizes import BF16, FP32, ModelSizes, Precision, count, is_counted
from vqathinker.training.grpo.batch import draws_twins


@dataclass(frozen=True)
class Launch:
    """What `accelerate launch` decides.

    Attributes:
        num_gpus: processes, one per GPU.
        zero: DeepSpeed's stage, 0 without DeepSpeed.
        offloads: whether DeepSpeed keeps optimiser states in the host's memory.
    """

    num_gpus: int
    zero: int
    offloads: bool = False


def read_launch(file: Path) -> Launch:
    """Read a configuration of `accelerate`.

    Raises:
        ValueError: if GRPO does not run with it, or it says nothing of ZeRO's stage.
        OSError: if it cannot be read.
    """
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{file} is no configuration of accelerate")
    kind = values.get("distributed_type", "NO")
    num_gpus = int(values.get("num_processes", 1))
    if kind == "FSDP":
        raise ValueError(f"{file}: FSDP2 is not counted; zero3.yaml comes close")
    if values.get("use_cpu"):
        raise ValueError(f"{file} is for the CPU, there is nothing to plan")
    if kind != "DEEPSPEED":
        return Launch(num_gpus, 0)
    settings = values.get("deepspeed_config", {})
    if "zero_stage" not in settings:
        raise ValueError(f"{file} names no zero_stage; give --zero and --num-gpus instead of the file")
    return Launch(
        num_gpus, int(settings["zero_stage"]), settings.get("offload_optimizer_device", "none") != "none"
    )


@dataclass(frozen=True)
class Planned:
    """A run and what belongs to it.

    Attributes:
        run: the recipe's.
        checkpoint: configuration and prompt.
        settings: the recipe's.
        precision: of the weights, and LoRA.
    """

    run: Run
    checkpoint: Checkpoint
    settings: Settings
    precision: Precision


def read_options(config: Path, options: Sequence[str], num_gpus: int) -> Settings:
    """A recipe's settings, without its files.

    Raises:
        ValueError: for unknown settings and for values that cannot be.
    """
    settings = merge("grpo", config, options)
    problems = [*without_effect(settings), *out_of_range(settings), *split_groups(settings, num_gpus)]
    if problems:
        raise ValueError("; ".join(problems))
    check_plugins(settings)
    optimiser = settings["optim"]
    if optimiser != UNKNOWN and not optimiser.startswith("adamw_torch"):
        raise ValueError(f"optim={optimiser}: the memory of AdamW's states is known, of no other's")
    return settings


def model_sizes(checkpoint: Checkpoint, precision: Precision, *, has_masters: bool) -> ModelSizes:
    """By arithmetic, or measured on the real classes where it does not know them."""
    if is_counted(checkpoint, precision):
        return count(checkpoint, precision, has_masters=has_masters)
    from trl.trainer.model_config import ModelConfig

    from vqathinker.planning.measure import measure

    return measure(checkpoint, ModelConfig(**vars(precision)), has_masters=has_masters)


def plan(
    model: str, config: Path, options: Sequence[str], *, gpu: GPU, launch: Launch, response: int
) -> Planned:
    """Count a recipe on some GPUs.

    Args:
        model: checkpoint folder, `config.json`, hub id or the name of a published model.
        config: the recipe's YAML.
        options: settings that win over the YAML's, as on the recipe's command line.
        gpu: type of every GPU.
        launch: how many, and ZeRO's stage.
        response: tokens of a response on average.

    Raises:
        ValueError: for settings and models that cannot be.
        OSError: if a file cannot be read.
    """
    told = read_options(config, options, launch.num_gpus)
    checkpoint = read_checkpoint(model)
    precision = Precision(**{name: told[name] for name in Precision.__dataclass_fields__})
    sizes = model_sizes(checkpoint, precision, has_masters=launch.zero > 0)
    rows = told["per_device_train_batch_size"]
    accumulation = told["gradient_accumulation_steps"]
    # a generation batch is told in micro-batches or in rows of all GPUs
    parts = told["steps_per_generation"] or accumulation
    if told["generation_batch_size"]:
        parts = told["generation_batch_size"] // (rows * launch.num_gpus)
    rewards = [plugin.function for plugin in build_plugins(told, "rewards")]
    computes_in_bf16 = told["fp16"] or told["bf16"] is not False or sizes.itemsize == BF16
    run = Run(
        model=sizes,
        gpu=gpu,
        num_gpus=launch.num_gpus,
        zero=launch.zero,
        rows=rows,
        accumulation=accumulation,
        generation_parts=parts,
        iterations=told["num_iterations"],
        group=told["num_generations"],
        longest=told["max_completion_length"],
        response=min(response, told["max_completion_length"]),
        has_twins=draws_twins(rewards, build_plugins(told, "perturbations")),
        packed=told["packed"],
        checkpointing=bool(told["gradient_checkpointing"]),
        has_reference=told["beta"] > 0,
        recomputes_old=bool(accumulation % (parts * told["num_iterations"])),
        itemsize=BF16 if computes_in_bf16 else FP32,
        engine=told["vllm_mode"] if told["use_vllm"] else "hf",
        utilization=told["vllm_gpu_memory_utilization"],
        offloads=launch.offloads,
        offloads_reference=told["offload_reference"],
        sleeps=told["vllm_enable_sleep_mode"],
        gathers=told["ds3_gather_for_generation"],
    )
    return Planned(run, checkpoint, told, precision)


def warnings_of(planned: Planned) -> list[str]:
    """What training would warn of."""
    run = planned.run
    if run.model.trains_low and not run.zero and run.model.has_adapters:
        return ["The adapters are trained in fp32, the motion projector in 16 bits as the model is."]
    if run.model.trains_low and not run.zero:
        return [
            "Weights are trained in 16 bits without fp32 master weights, which rounds most updates of a "
            "small learning rate away: use DeepSpeed (--config_file zero2), or --dtype float32 (--bf16 true "
            "computes in bfloat16)"
        ]
    return []

"""From a recipe's settings to the run that is counted, and to the settings that would make it fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from trl.trainer.model_config import ModelConfig

import rewards
from vqathinker.launch import Settings
from vqathinker.launch.checks import out_of_range
from vqathinker.launch.effects import without_effect
from vqathinker.launch.fields import UNKNOWN
from vqathinker.launch.plugins import check_plugins
from vqathinker.launch.settings import merge
from vqathinker.plugins import build
from vqathinker.training.batch import draws_twins
from vqathinker.training.config import TrainingConfig
from vqathinker.training.hardware import GPU
from vqathinker.training.plan import Run, key_value_bytes, memory
from vqathinker.training.sizes import BF16, FP32, Checkpoint, measure, read_checkpoint

LORA_RANK = 16
Change = tuple[str, Callable[[Run], Run]]


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
    kind, num_gpus = values.get("distributed_type", "NO"), int(values.get("num_processes", 1))
    if kind == "FSDP":
        raise ValueError(f"{file}: FSDP2 is not counted; recipes/accelerate/zero3.yaml comes close")
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
        args: the recipe's settings.
        model_config: precision and LoRA.
    """

    run: Run
    checkpoint: Checkpoint
    args: TrainingConfig
    model_config: ModelConfig


def read_options(config: Path, options: Sequence[str]) -> Settings:
    """A recipe's settings, without its files.

    Raises:
        ValueError: for unknown settings and for values that cannot be.
    """
    settings = merge("grpo", config, options)
    problems = [*without_effect(settings), *out_of_range(settings)]
    if problems:
        raise ValueError("\n".join(problems))
    check_plugins(settings)
    optimiser = settings["optim"]
    if optimiser != UNKNOWN and not optimiser.startswith("adamw_torch"):
        raise ValueError(f"optim={optimiser}: the memory of AdamW's states is known, of no other's")
    return settings


def read_settings(config: Path, options: Sequence[str], num_gpus: int) -> tuple[TrainingConfig, ModelConfig]:
    """Read a recipe's settings as the recipe would on each of `num_gpus`; nothing needs a GPU here.

    Raises:
        ValueError: for unknown settings and for values that cannot be.
    """
    kind = type("Settings", (TrainingConfig,), {"world_size": num_gpus})
    settings = read_options(config, [*options, "--use_cpu", "true"])
    args, model_config = settings.build(kind, ModelConfig)
    return args, model_config


def plan(
    model: str, config: Path, options: Sequence[str], *, gpu: GPU, launch: Launch, response: int
) -> Planned:
    """Count a recipe on some GPUs.

    Args:
        model: checkpoint folder, `config.json` or the name of a published model.
        config: the recipe's YAML.
        options: settings that win over the YAML's, as on the recipe's command line.
        gpu: type of every GPU.
        launch: how many, and ZeRO's stage.
        response: tokens of a response on average.

    Raises:
        ValueError: for settings and models that cannot be.
        OSError: if a file cannot be read.
    """
    args, model_config = read_settings(config, options, launch.num_gpus)
    checkpoint = read_checkpoint(model)
    sizes = measure(checkpoint, model_config, has_masters=launch.zero > 0)
    longest = args.max_completion_length or 0
    assert args.steps_per_generation is not None
    assert args.num_generations is not None
    engine = args.vllm_mode if args.use_vllm else "hf"
    cycle = args.steps_per_generation * args.num_iterations
    reward_plugins = build(args.rewards, rewards.REWARDS, group=rewards.GROUP)
    run = Run(
        model=sizes,
        gpu=gpu,
        num_gpus=launch.num_gpus,
        zero=launch.zero,
        rows=args.per_device_train_batch_size,
        accumulation=args.gradient_accumulation_steps,
        generation_parts=args.steps_per_generation,
        iterations=args.num_iterations,
        group=args.num_generations,
        longest=longest,
        response=min(response, longest),
        has_twins=draws_twins([plugin.function for plugin in reward_plugins], args.perturbations),
        packed=args.packed,
        checkpointing=bool(args.gradient_checkpointing),
        has_reference=args.beta > 0,
        recomputes_old=bool(args.gradient_accumulation_steps % cycle),
        itemsize=BF16 if args.bf16 or args.fp16 or sizes.itemsize == BF16 else FP32,
        engine=engine,
        utilization=args.vllm_gpu_memory_utilization,
        offloads=launch.offloads,
        offloads_reference=args.offload_reference,
        sleeps=args.vllm_enable_sleep_mode,
        gathers=args.ds3_gather_for_generation,
    )
    return Planned(run, checkpoint, args, model_config)


def fits(run: Run) -> bool:
    """Whether the longest step needs no more than the GPU has, and a colocated engine has enough."""
    return memory(run).peak <= run.gpu.memory and (run.engine != "colocate" or engine_fits(run))


def engine_fits(run: Run) -> bool:
    """Whether a colocated vLLM engine's share holds its weights and the cache of one response."""
    model = run.model
    one = (model.prompt_length + run.longest) * key_value_bytes(model, BF16)
    return run.utilization * run.gpu.memory >= BF16 * model.num_language + one


def changes(planned: Planned) -> list[Change]:
    """Settings that save memory: those that change no result first, those that change the training last."""

    def halved(run: Run) -> Run:
        rows = run.rows // 2
        return replace(
            run, rows=rows, accumulation=run.accumulation * 2, generation_parts=run.generation_parts * 2
        )

    def with_adapters(run: Run) -> Run:
        model_config = replace(planned.model_config, use_peft=True, lora_r=LORA_RANK)
        return replace(run, model=measure(planned.checkpoint, model_config, has_masters=run.zero > 0))

    run = planned.run
    found: list[Change] = []
    if not run.checkpointing:
        found.append(("--gradient_checkpointing true", lambda r: replace(r, checkpointing=True)))
    if not run.packed:
        found.append(("--packed true", lambda r: replace(r, packed=True)))
    if run.has_copy and not run.offloads_reference and run.zero < 3:
        found.append(("--offload_reference true", lambda r: replace(r, offloads_reference=True)))
    rows, accumulation = run.rows, run.accumulation
    while rows % 2 == 0:
        rows, accumulation = rows // 2, accumulation * 2
        label = f"--per_device_train_batch_size {rows} --gradient_accumulation_steps {accumulation}"
        found.append((label, halved))
    if 0 < run.zero < 3 and run.num_gpus > 1:
        found.append(
            (
                "recipes/accelerate/zero3.yaml instead (all weights sharded)",
                lambda r: replace(r, zero=3, offloads_reference=False),
            )
        )
    if run.engine == "colocate" and not run.sleeps:
        found.append(("--vllm_enable_sleep_mode true", lambda r: replace(r, sleeps=True)))
    if run.engine == "colocate":
        label = "--vllm_mode server (rollouts on other GPUs)"
        found.append((label, lambda r: replace(r, engine="server", sleeps=False)))
    if run.longest > 1024:
        found.append(("--max_completion_length 1024", lambda r: replace(r, longest=1024)))
    if run.has_copy:
        found.append(("--beta 0 (no reference model)", lambda r: replace(r, has_reference=False)))
    if not run.model.has_adapters:
        found.append((f"--use_peft true --lora_r {LORA_RANK} (LoRA)", with_adapters))
    return found


def remedy(planned: Planned) -> tuple[list[str], Run] | None:
    """The first few changes with which a run fits, without those that prove needless; None if none do."""
    taken: list[Change] = []
    run = planned.run
    for change in changes(planned):
        run = change[1](run)
        taken.append(change)
        if fits(run):
            break
    else:
        return None
    for change in taken[:-1]:
        shorter = [other for other in taken if other is not change]
        candidate = apply(planned.run, shorter)
        if fits(candidate):
            taken, run = shorter, candidate
    return [label for label, _ in taken], run


def apply(run: Run, taken: Sequence[Change]) -> Run:
    """A run after some changes."""
    for _, change in taken:
        run = change(run)
    return run

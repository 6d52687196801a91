"""What can be known to be wrong before torch is imported: files, ranges, plug-ins, missing packages."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from netrc import NetrcParseError, netrc
from pathlib import Path

from vqathinker.checkpoints.folders import ADAPTER_FILE, CONFIG_FILE, is_hub_id
from vqathinker.launch.effects import without_effect
from vqathinker.launch.lora import wrong_adapter
from vqathinker.launch.resume import check_output
from vqathinker.launch.settings import Settings
from vqathinker.launch.stages import wrong_stage
from vqathinker.nearest import or_nearest

HOW_TO_GET = {
    "model_name_or_path": (
        "a checkpoint directory. Put one together from the published parts: vqathinker init --internvl "
        "OpenGVLab/InternVL3-8B-hf --slowfast SLOWFAST_8x8_R50.pyth --out DIR"
    ),
    "train_labels": (
        "a label file. LSVQ: request access from its authors (LIVE, University of Texas at Austin), then "
        "give its labels_train_test.csv; your own videos: a CSV with the columns video,mos"
    ),
    "train_videos": "the directory that the names in the label file are relative to",
    "eval_labels": "a label file as for training, or leave validation out",
    "eval_videos": "the directory that the names in its label file are relative to",
}
REQUIRED = ("model_name_or_path", "train_labels", "train_videos")
MODEL = "model_name_or_path"
FOLDERS = (MODEL, "train_videos", "eval_videos")
CONFIGURATIONS = (CONFIG_FILE, ADAPTER_FILE)

# values that TRL would refuse in the middle of a step
CHOICES = {
    "grpo": {
        "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
        "importance_sampling_level": ("token", "sequence"),
        "scale_rewards": ("group", "batch", "none"),
        "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
        "vllm_mode": ("colocate", "server"),
        "packed_attention": ("segments", "dense", "flex"),
        "vllm_importance_sampling_mode": (
            "token_truncate", "token_mask", "sequence_truncate", "sequence_mask",
        ),
    },
    "sft": {},
    "tune": {},
}  # fmt: skip

Range = tuple[str, Callable[[float], bool]]
POSITIVE: Range = ("above 0", lambda value: value > 0)
NOT_NEGATIVE: Range = ("0 or above", lambda value: value >= 0)
SHARE: Range = ("above 0 and up to 1", lambda value: 0 < value <= 1)
COUNT: Range = ("1 or more", lambda value: value >= 1)
RANGES: dict[str, Range] = {
    "temperature": POSITIVE,
    "top_p": SHARE,
    "top_k": NOT_NEGATIVE,
    "top_entropy_quantile": ("between 0 and 1", lambda value: 0 <= value <= 1),
    "beta": NOT_NEGATIVE,
    "epsilon": POSITIVE,
    "epsilon_high": POSITIVE,
    "learning_rate": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "max_grad_norm": NOT_NEGATIVE,
    "warmup_steps": NOT_NEGATIVE,
    "num_generations": ("2 or more", lambda value: value >= 2),
    "num_iterations": COUNT,
    "steps_per_generation": COUNT,
    "max_completion_length": COUNT,
    "per_device_train_batch_size": COUNT,
    "per_device_eval_batch_size": COUNT,
    "gradient_accumulation_steps": COUNT,
    "num_train_epochs": POSITIVE,
    "max_steps": ("-1 (all epochs) or a number of steps", lambda value: value == -1 or value >= 1),
    "save_total_limit": COUNT,
    "lora_r": COUNT,
    "lora_alpha": POSITIVE,
    "lora_dropout": ("0 or above and below 1", lambda value: 0 <= value < 1),
    "vllm_gpu_memory_utilization": SHARE,
    "max_unreadable": ("a share between 0 and 1", lambda value: 0 <= value <= 1),
    "decode_workers": COUNT,
    "decode_seconds": ("above 0 and finite", lambda value: 0 < value < math.inf),
    "rehearsal_seconds": ("0 (no limit) or a number of seconds", lambda value: 0 <= value < math.inf),
    "motion_cache_gib": NOT_NEGATIVE,
    "eval_num_videos": NOT_NEGATIVE,
    "eval_max_completion_length": COUNT,
    "max_samples": NOT_NEGATIVE,
    "focal_alpha": POSITIVE,
    "focal_beta": NOT_NEGATIVE,
    "prefix_weight": NOT_NEGATIVE,
    "pair_level_weight": NOT_NEGATIVE,
}

# package -> what the names of the optimisers have in common that need it
OPTIMISERS = {
    "bitsandbytes": re.compile(r"(adamw|ademamix|lion)_8bit|lion_32bit|paged_.*|.*bnb.*|galore.*8bit.*"),
    "galore_torch": re.compile(r"galore_.*"),
    "apollo_torch": re.compile(r"apollo_.*"),
    "lomo_optim": re.compile(r"lomo|adalomo"),
    "schedulefree": re.compile(r"schedule_free_.*"),
    "grokadamw": re.compile(r"grokadamw"),
    "torchao": re.compile(r"adamw_torch_[48]bit"),
    "optimi": re.compile(r"stable_adamw"),
}
REPORTERS = {
    "wandb": "wandb", "tensorboard": "tensorboard", "mlflow": "mlflow", "comet_ml": "comet_ml",
    "clearml": "clearml", "trackio": "trackio", "swanlab": "swanlab", "neptune": "neptune",
    "dvclive": "dvclive", "codecarbon": "codecarbon", "azure_ml": "azureml", "flyte": "flytekit",
}  # fmt: skip
FLASH = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
ACCELERATORS = ("nvidiactl", "kfd", "dxg", "dri", "accel", "davinci_manager", "habanalabs")  # in /dev
WITHOUT_DEEPSPEED = (
    "DeepSpeed is not installed; pip install 'vqathinker[deepspeed]', or launch with one_gpu.yaml or "
    "fsdp2.yaml"
)
WANDB_HOST = "api.wandb.ai"


def check(settings: Settings) -> None:
    """Refuse what cannot work.

    Raises:
        ValueError: naming everything that is wrong, a line each.
    """
    problems = [
        *without_effect(settings),
        *out_of_range(settings),
        *missing_files(settings),
        *wrong_adapter(settings),
        *not_installed(settings),
        *contradictions(settings),
        *wrong_stage(settings),
        *check_output(settings),
    ]
    if problems:
        raise ValueError("\n".join(problems))


def out_of_range(settings: Settings) -> Iterator[str]:
    """Numbers and words that would fail later."""
    for name, (words, holds) in RANGES.items():
        value = settings.get(name)
        if isinstance(value, int | float) and not holds(value):
            yield f"{settings.origin.get(name, name)}: is {value}, expected {words}"
    for name, choices in CHOICES[settings.recipe].items():
        value = settings[name]
        if isinstance(value, str) and value not in choices:
            hint = or_nearest(value, choices)
            told = settings.origin.get(name, name)
            yield f"{told}: is {value!r}, expected one of {', '.join(choices)}{hint}"


def missing_files(settings: Settings) -> Iterator[str]:
    """Everything that a run reads and that is not there, with the way to get it."""
    for name, how in HOW_TO_GET.items():
        value = settings[name]
        if isinstance(settings["train_labels"], list) and name.startswith("train_"):
            continue  # each source has its own
        fault = ""
        if value is None:
            fault = "not given" if name in REQUIRED else ""
        elif name == MODEL and is_hub_id(value) and not Path(value).parent.is_dir():
            continue
        elif not Path(value).exists():
            fault = f"{value} does not exist"
        elif name in FOLDERS and not Path(value).is_dir():
            fault = f"{value} is a file"
        elif name not in FOLDERS and Path(value).is_dir():
            fault = f"{value} is a folder"
        elif name == MODEL and not any(Path(value, file).is_file() for file in CONFIGURATIONS):
            fault = f"{value} has neither {' nor '.join(CONFIGURATIONS)}"
        if fault:
            yield f"--{name}: {fault}; give {how}"


def not_installed(settings: Settings) -> Iterator[str]:
    """Packages that the settings ask for, and accounts."""
    if settings.get("use_vllm") and settings["vllm_mode"] == "colocate" and find_spec("vllm") is None:
        yield "--use_vllm true: vLLM is not installed; pip install 'vqathinker[vllm]', or leave it out"
    launched = os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"
    if (launched or settings["deepspeed"]) and find_spec("deepspeed") is None:
        yield WITHOUT_DEEPSPEED
    told = settings["report_to"] or []
    for reporter in [told] if isinstance(told, str) else told:
        package = REPORTERS.get(reporter)
        if package is None and reporter not in {"none", "all"}:
            hint = or_nearest(reporter, list(REPORTERS))
            yield f"--report_to {reporter}: expected none, all or one of {', '.join(REPORTERS)}{hint}"
        elif package is not None and find_spec(package) is None:
            yield f"--report_to {reporter}: not installed; pip install {package}"
        elif reporter == "wandb" and not _has_wandb_account():
            yield "--report_to wandb: not logged in; run `wandb login`, or set WANDB_MODE=offline"
    for package, names in OPTIMISERS.items():
        if names.fullmatch(str(settings["optim"])) and find_spec(package) is None:
            yield f"--optim {settings['optim']}: the package {package} is not installed"
    attention = str(settings["attn_implementation"])
    if attention in FLASH and find_spec(FLASH[attention]) is None:
        yield f"--attn_implementation {attention}: the package {FLASH[attention]} is not installed"


def contradictions(settings: Settings) -> Iterator[str]:
    """Settings that need one another."""
    validates = settings["eval_strategy"] != "no"
    if settings["eval_labels"] and not validates:
        yield "eval_labels are given but never used; add --eval_strategy steps --eval_steps 100"
    if validates and not settings["eval_labels"]:
        yield f"--eval_strategy {settings['eval_strategy']}: nothing to validate on; give --eval_labels FILE"
    if settings["bf16"] is not False and not settings["fp16"] and not settings["use_cpu"] and not has_gpu():
        yield "bf16 needs a GPU, and there is none; on a CPU give --use_cpu true --bf16 false --dtype float32"
    yield from split_groups(settings)


def split_groups(settings: Settings, processes: int | None = None) -> Iterator[str]:
    """Batches that no whole number of groups fills, in this launch or on a number of processes."""
    group = settings.get("num_generations")
    if not group:
        return
    rows = settings["per_device_train_batch_size"]
    processes = processes or int(os.environ.get("WORLD_SIZE", "1"))
    total = settings["generation_batch_size"]
    parts = settings["steps_per_generation"] or settings["gradient_accumulation_steps"]
    local = total / processes if total else rows * parts
    if local % group:
        parts_shown = f"{rows} x {local / rows:g} = {local:g} responses of a generation on each process"
        yield (
            f"per_device_train_batch_size: {parts_shown} are no multiple of num_generations = {group}; "
            "groups would be split"
        )


def has_gpu() -> bool:
    """Whether this machine may have a GPU or another accelerator; only Linux tells without a library."""
    return sys.platform != "linux" or any(Path("/dev", name).exists() for name in ACCELERATORS)


def _has_wandb_account() -> bool:
    """Whether W&B would start without asking; on a terminal it may ask."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode in {"offline", "disabled", "dryrun"} or os.environ.get("WANDB_API_KEY") or sys.stdin.isatty():
        return True
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    host = os.environ.get("WANDB_BASE_URL", WANDB_HOST).removeprefix("https://").strip("/")
    try:
        return file.is_file() and netrc(file).authenticators(host) is not None
    except NetrcParseError:  # W&B could not read it either
        return False

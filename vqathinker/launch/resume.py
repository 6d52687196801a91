"""The output folder: whose it is, what a resumed run would change, and the settings kept in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from vqathinker.checkpoints.folders import CHECKPOINT, SETTINGS_FILE, STATE_FILE, checkpoints_in
from vqathinker.launch.fields import UNKNOWN
from vqathinker.launch.settings import Settings, read_yaml, values_of
from vqathinker.launch.stages import rates_of

PROCESSES = re.compile(r"^# The settings of a run in (one|\d+) process", re.MULTILINE)
OURS = {"DataConfig", "SupervisedDataConfig", "LossConfig", "TrainingConfig"}
PACKAGES = ("vqathinker", "trl", "transformers", "torch")
# about one launch, not about the run; a token is nobody else's to read
OF_A_LAUNCH = {
    "resume_from_checkpoint",
    "overwrite_output_dir",
    "allow_changes",
    "output_dir",
    "hub_token",
}
# the optimiser's saved state brings its own
KEPT_BY_OPTIMISER = {
    "learning_rate",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "optim_args",
}
PARTS_SETTING = "parts"
# what is learned from which data stays the same
HARMLESS = re.compile(
    "save_.*|eval_.*|log_.*|logging_.*|report_to|run_name|project|trackio_.*|hub_.*|push_to_hub|disable_tqdm"
    "|metric_for_best_model|greater_is_better|load_best_model_at_end|max_steps|num_train_epochs"
    "|decode_.*|motion_cache.*|rehearsal_seconds|max_unreadable|max_logp_gap|num_completions_to_print"
    "|per_device_eval_batch_size|packed|packed_attention|offload_reference|gradient_checkpointing.*"
    "|use_vllm|vllm_(?!importance).*|ds3_gather_for_generation|use_cpu|ddp_.*|deepspeed|fsdp.*|debug"
    "|dataloader_(pin_memory|num_workers)|torch_empty_cache_steps|attn_implementation"
)


@dataclass(frozen=True)
class SettingChange:
    """A setting that a resumed run was told otherwise than at its start."""

    name: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.name}: {_shown(self.before)} -> {_shown(self.now)}"


def checkpoint_of(settings: Settings) -> Path | None:
    """The checkpoint to go on from, None for a new run.

    Raises:
        ValueError: if there is none where one is asked for.
    """
    wish = str(settings["resume_from_checkpoint"])
    output = _output(settings)
    if wish.lower() in {"none", "false", ""}:
        return None
    if wish.lower() != "true":
        if not Path(wish, STATE_FILE).is_file():
            raise ValueError(f"resume_from_checkpoint: {wish} is no checkpoint of a run (no {STATE_FILE})")
        return Path(wish)
    found = checkpoints_in(output)
    if not found:
        raise ValueError(f"resume_from_checkpoint: there is no checkpoint in {output}")
    return found[max(found)]


def set_aside(settings: Settings) -> list[Path]:
    """Give checkpoints of an earlier run names under which nothing goes on from them, or removes them."""
    moved = []
    found = [path for path in _output(settings).glob("checkpoint-*") if CHECKPOINT.fullmatch(path.name)]
    for path in sorted(found):
        place = path.with_name(f"earlier-{path.name}")
        number = 2
        while place.exists():
            place = path.with_name(f"earlier-{path.name}-{number}")
            number += 1
        moved.append(path.rename(place))
    return moved


def num_processes_of(settings: Settings) -> int | None:
    """In how many processes the run began that is resumed; None for a new one, or where it is not known."""
    file = _kept(settings)
    if file is None:
        return None
    match = PROCESSES.search(file.read_text(encoding="utf-8"))
    if match is None:
        return None
    return 1 if match[1] == "one" else int(match[1])


def check_output(settings: Settings) -> list[str]:
    """What speaks against writing to the output folder, or against going on from what is there."""
    try:
        checkpoint = checkpoint_of(settings)
    except ValueError as error:
        return [str(error)]
    problems = []
    found = [change for change in changes(settings) if not _is_kept(change)]
    problems += [
        f"{change}: the optimiser of the run that is resumed has other weights; begin a new run"
        for change in found
        if change.name == PARTS_SETTING
    ]
    if checkpoint is not None and not settings["allow_changes"]:
        changed = [change for change in found if _is_serious(change.name) and change.name != PARTS_SETTING]
        problems += [f"{change}: differs from the run that is resumed" for change in changed]
        if changed:
            problems.append(
                "leave these as they were, or give --allow_changes true to go on with the new ones"
            )
    model = str(settings["model_name_or_path"])
    if checkpoint is None and _is_replaced(Path(model), settings):
        problems.append(
            f"model_name_or_path: {model} is of an earlier run in the output folder, whose checkpoints and "
            "result are replaced; choose another --output_dir"
        )
    is_new = checkpoint is None and not settings["overwrite_output_dir"]
    for path in {str(_output(settings)), settings["save_to"]} - {None}:
        if Path(path).is_file():
            problems.append(f"{path} is a file; choose a directory")
        elif is_new and Path(path).is_dir() and any(Path(path).iterdir()):
            problems.append(
                f"{path} is not empty; choose another directory, continue with "
                "--resume_from_checkpoint true, or write beside what is there: --overwrite_output_dir true"
            )
    return problems


def _is_replaced(model: Path, settings: Settings) -> bool:
    """Whether a folder is a checkpoint that would be set aside, or the result that would be replaced."""
    output = _output(settings).resolve()
    place = model.resolve()
    result = Path(settings["save_to"] or output / "final").resolve()
    return place == result or (place.parent == output and CHECKPOINT.fullmatch(place.name) is not None)


def changes(settings: Settings) -> list[SettingChange]:
    """What differs from the settings kept where a run is resumed; nothing where none are kept."""
    file = _kept(settings)
    if file is None:
        return []
    before = values_of(settings.options, read_yaml(file))
    names = [name for name in settings.options if name not in OF_A_LAUNCH]
    found = [SettingChange(name, before.get(name, settings.default(name)), settings[name]) for name in names]
    return [change for change in found if _plain(change.before) != _plain(change.now)]


def _is_kept(change: SettingChange) -> bool:
    """Whether the optimiser's saved state has what it was: a rate, also of a part."""
    if change.name != PARTS_SETTING:
        return change.name in KEPT_BY_OPTIMISER
    return rates_of(change.before or []).keys() == rates_of(change.now or []).keys()


def notes(settings: Settings) -> list[str]:
    """What a resumed run has to be told about itself, a line each."""
    checkpoint = checkpoint_of(settings)
    if checkpoint is None:
        return []
    lines = [f"resumes {checkpoint}"]
    if _kept(settings) is None:
        return [*lines, f"no {SETTINGS_FILE} beside it: whether it began with these settings is not known"]
    for change in changes(settings):
        if _is_kept(change):
            text = "has no effect on a resumed run, the optimiser keeps what it began with"
            lines.append(f"{change}: {text}")
        elif change.name in {"max_steps", "num_train_epochs"}:
            lines.append(f"{change}: the learning rate follows the new length from here on")
        else:
            lines.append(str(change))
    return lines


def record(settings: Settings, num_processes: int) -> Path:
    """Write the settings into the output folder, where older ones are kept under another name."""
    checkpoint = checkpoint_of(settings)
    folder = _output(settings)
    file = folder / SETTINGS_FILE
    changed = changes(settings)
    kept = {change.name: change.before for change in changed if _is_kept(change)}
    if checkpoint is not None and file.exists():
        if len(kept) == len(changed) and num_processes_of(settings) in (None, num_processes):
            return file
        until = folder / f"settings_until_{checkpoint.name}.yaml"
        if not until.exists():  # at a second start from here, what led to the checkpoint is kept already
            file.rename(until)
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(as_yaml(settings, num_processes, kept), encoding="utf-8")
    return file


def as_yaml(settings: Settings, num_processes: int, kept: Mapping[str, Any] | None = None) -> str:
    """Everything told and our own defaults, as a YAML that a recipe reads.

    Args:
        settings: of the run.
        num_processes: that it runs in.
        kept: what holds in spite of the settings, by name.
    """
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    processes = "one process" if num_processes == 1 else f"{num_processes} processes"
    lines = [
        f"# vqathinker train {settings.recipe} --config {_output(settings) / SETTINGS_FILE} --output_dir DIR",
        f"# The settings of a run in {processes}: {versions}",
    ]
    shown = {
        name: settings[name]
        for name, field in settings.options.items()
        if name not in OF_A_LAUNCH - {"output_dir"}
        and (name in settings.given or field.owner in OURS)
        and settings[name] not in (None, UNKNOWN)
    }
    shown |= kept or {}
    shown |= {name: None for name, value in settings.given.items() if value is None}
    return "\n".join([*lines, yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, width=110)])


def _kept(settings: Settings) -> Path | None:
    """The settings of the run that a checkpoint belongs to."""
    checkpoint = checkpoint_of(settings)
    file = None if checkpoint is None else checkpoint.parent / SETTINGS_FILE
    return file if file is not None and file.is_file() else None


def _output(settings: Settings) -> Path:
    return Path(str(settings["output_dir"] or "trainer_output")).expanduser()


def _is_serious(name: str) -> bool:
    return name not in KEPT_BY_OPTIMISER and HARMLESS.fullmatch(name) is None


def _plain(value: object) -> object:
    """A value as it is compared: `format` and `{name: format}` are one reward, 1 and 1.0 one number."""
    if isinstance(value, Mapping):
        mapping = {str(key): _plain(entry) for key, entry in value.items()}
        return mapping["name"] if set(mapping) == {"name"} else mapping
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "nothing" if value is None else str(value)

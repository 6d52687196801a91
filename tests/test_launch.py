"""Settings read from source and checked before torch: against TRL's reader, in processes without torch."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from transformers.trainer_utils import ExplicitEnum
from trl import GRPOConfig, ModelConfig, SFTConfig
from trl.scripts.utils import TrlParser

from vqathinker.launch import effects, read_settings, user_errors
from vqathinker.launch.checks import check, not_installed
from vqathinker.launch.compose import copy_model, is_done
from vqathinker.launch.fields import UNKNOWN, read_fields
from vqathinker.launch.help import show_help
from vqathinker.launch.processes import became_one
from vqathinker.launch.recipes import recipe_file, settings_file
from vqathinker.launch.resume import (
    as_yaml,
    changes,
    check_output,
    checkpoint_of,
    checkpoints_in,
    notes,
    num_processes_of,
    record,
    set_aside,
)
from vqathinker.launch.settings import FIXED, RECIPES, Settings, merge, options_of
from vqathinker.training import TrainingConfig
from vqathinker.training.setup import DataConfig, SupervisedDataConfig, begin
from vqathinker.training.sft.objective import LossConfig

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "recipes"
STAGE = SHIPPED / "stages/vital_pretraining.yaml"
REAL: dict[str, tuple[Any, ...]] = {
    "grpo": (DataConfig, TrainingConfig, ModelConfig),
    "sft": (SupervisedDataConfig, LossConfig, SFTConfig, ModelConfig),
    "tune": (SupervisedDataConfig, LossConfig, SFTConfig, ModelConfig),
}
ON_CPU = ["--use_cpu", "true", "--bf16", "false"]
# the interpreter refuses `import torch`
WITHOUT_TORCH = "import sys, runpy; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
RUN = WITHOUT_TORCH + "runpy.run_path(sys.argv[0], run_name='__main__')"


def settings(recipe: str = "grpo", *options: object) -> Settings:
    """Settings of a shipped recipe on a CPU."""
    words = [*ON_CPU, *map(str, options)]
    own = settings_file(recipe)
    return merge(recipe, STAGE, words, shared=own) if recipe == "tune" else merge(recipe, own, words)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_source_says_what_the_dataclasses_have(recipe: str) -> None:
    for (file, name), real in zip(RECIPES[recipe], REAL[recipe], strict=True):
        found = read_fields(file, name)
        declared = {field.name: field for field in dataclasses.fields(real) if field.init}
        assert set(found) == set(declared)
        for option, field in declared.items():
            default = field.default
            if field.default_factory is not dataclasses.MISSING:
                default = field.default_factory()
            if found[option].default != UNKNOWN:
                assert found[option].default == default, option
        computed = {option for option in found if found[option].default == UNKNOWN}
        assert computed <= {"optim"}


def test_every_option_has_help_but_trls_without() -> None:
    for recipe in RECIPES:
        options = options_of(recipe)
        assert not [name for name, field in options.items() if not field.help]


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("grpo", []),
        ("sft", []),
        ("grpo", ["--rewards", "format", "linear", "--packed", "false"]),
        ("grpo", ["--learning-rate=2e-6", "--lora_target_modules", "q_proj", "v_proj", "--use_peft"]),
        ("grpo", ["--lr_scheduler_kwargs", '{"num_cycles": 2}', "--lr_scheduler_type", "cosine"]),
        (
            "sft",
            ["--max_steps", "-1", "--save_strategy", "no", "--report_to", "none", "--warmup_steps", ".1"],
        ),
    ],
    ids=str,
)
def test_settings_are_those_that_trl_reads(recipe: str, options: list[str]) -> None:
    file = SHIPPED / f"{recipe}_lsvq.yaml"
    fixed = FIXED["sft"] if recipe == "sft" else {}
    ours = merge(recipe, file, [*ON_CPU, *options]).build(*REAL[recipe])
    parser = TrlParser(dataclass_types=list(REAL[recipe]))
    parser.set_defaults_with_config(**fixed)
    theirs = parser.parse_args_and_config(["--config", str(file), *ON_CPU, *options])
    for mine, other in zip(ours, theirs, strict=True):
        for field in dataclasses.fields(mine):
            if field.name != "accelerator_config":  # an object each
                assert getattr(mine, field.name) == getattr(other, field.name), field.name


def test_an_option_is_switched_off() -> None:
    assert settings("grpo", "--no_log_completions")["log_completions"] is False
    with pytest.raises(ValueError, match="takes one value, got false 5"):
        settings("grpo", "--no_packed", "5")


def test_no_token_is_written() -> None:
    told = settings("grpo", "--push_to_hub", "true", "--hub_token", "hf_secret")
    assert "hf_secret" not in as_yaml(told, 1)


def test_bf16_false_holds_whatever_the_launch_file_says(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    given = ["--model_name_or_path", tiny_checkpoint, "--output_dir", tmp_path / "out"]
    given += ["--train_labels", labelled_videos / "train.csv", "--train_videos", labelled_videos]
    read_settings("sft", SHIPPED / "sft_lsvq.yaml", [*ON_CPU, *map(str, given)])
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == "no"


@pytest.mark.parametrize("name", ["demo_grpo", "demo_sft", "grpo_lsvq", "sft_lsvq"])
def test_shipped_settings_have_an_effect(name: str) -> None:
    recipe = "sft" if "sft" in name else "grpo"
    found = merge(recipe, SHIPPED / f"{name}.yaml", [*ON_CPU, "--eval_labels", "val.csv"])
    assert effects.without_effect(found) == []


@pytest.mark.parametrize(
    ("written", "messages"),
    [
        (["--betaa", "1"], ["--betaa: there is no such option; did you mean --beta?"]),
        (
            ["--learning_rate", "fast", "--num_generations", "2.5"],
            ["--learning_rate: is 'fast', expected a n", "--num_generations: is '2.5', expected a w"],
        ),
        (["--use_peft", "perhaps"], ["--use_peft: is 'perhaps', expected true or false"]),
        (["--scale", "afine"], ["expected one of divide, clip, affine; did you mean affine?"]),
        (["--lr_scheduler_type", "cosin"], ["did you mean cosine?"]),
        (["--seed"], ["--seed: expected a whole number after it"]),
        (["--seed", "1", "2"], ["--seed: takes one value, got 1 2"]),
        (["--seed", "1", "--", "extra"], ["--: there is no such option"]),
        (["--lr_scheduler_kwargs", "{num: 1"], ["--lr_scheduler_kwargs: is no JSON"]),
        (["--learning_rate", "nan"], ["--learning_rate: is 'nan', expected a number"]),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_words_are_named(written: list[str], messages: list[str]) -> None:
    for message in messages:  # all are in one error
        with pytest.raises(ValueError, match=re.escape(message)):
            settings("grpo", *written)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bata: 1", "bata (own.yaml): there is no such setting; did you mean beta?"),
        ("beta: high", "beta (own.yaml): is 'high', expected a number"),
        ("num_generations: true", "num_generations (own.yaml): is True, expected a whole number"),
        ("beta:", "beta (own.yaml): is empty, expected a number"),
        ("beta: 1\nbeta: 2", "beta is set twice in the YAML, line 2"),
        ("- beta", "own.yaml: expected a mapping of settings"),
        ("loss_type: grppo", "expected one of grpo, dr_grpo"),
    ],
)
def test_wrong_yaml_is_named(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        check(settings("grpo", "--config", "own.yaml"))


def test_the_last_file_wins(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.yaml" for name in "abc")
    for file, beta in ((first, 0.1), (second, 0.2), (third, 0.3)):
        file.write_text(f"beta: {beta}\n")
    for files, beta in (([first, second], 0.2), ([first, second, first], 0.1)):
        told = merge("grpo", None, ["--config", *map(str, files)], shared=third)
        assert (told["beta"], told.origin["beta"]) == (beta, f"beta ({files[-1]})")


@pytest.mark.parametrize("recipe", RECIPES)
def test_errors_and_help_come_without_torch(recipe: str, tmp_path: Path) -> None:
    """Also an error that lies behind every other check: an argument of a reward."""
    stage = ["--config", "vqa2_3"] if recipe == "tune" else []
    for arguments, status in ((["--help"], 0), (["--bata", "1"], 2), (["--train_labels", "none.csv"], 2)):
        command = [sys.executable, "-c", RUN, str(recipe_file(recipe)), *stage, *arguments]
        beside = os.environ | {"PYTHONPATH": str(SHIPPED)}  # as for a script that is called itself
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=beside)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout if status == 0 else done.stderr.startswith("error: ")


def test_help_has_ours_first_and_a_line_for_each() -> None:
    text = show_help("grpo", "vqathinker train grpo")
    ours, model, trls = (text.index(f"--{name} ") for name in ("train_labels", "lora_r", "adam_beta1"))
    assert ours < model < trls
    for name in ("rewards", "perturbations", "packed", "learning_rate", "use_vllm"):
        assert f"  --{name} " in text
    assert "--load_in_4bit" not in text
    assert "--scale divide|clip|affine [divide]\n      how labels reach the prompt's 1-5 scale." in text


# Effects


def example(recipe: str, name: str) -> object:
    """A value that differs from an option's default."""
    field = options_of(recipe)[name]
    if name in FIXED[recipe]:
        field = dataclasses.replace(field, default=FIXED[recipe][name])
    if field.kind.choices:
        return next(choice for choice in field.kind.choices if choice != field.default)
    if bool in field.kind.scalars:
        return not field.default
    if field.kind.is_mapping:
        return {"a": 1}
    if field.kind.items is not None:
        return [3.5]
    return {int: 7, float: 0.7, str: "word"}[field.kind.scalars[0]]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_option_is_used_or_refused(recipe: str, tmp_path: Path) -> None:
    """A new option of TRL or transformers fails here until it is in one of the lists."""
    refused = set(effects.IGNORED[recipe])
    theirs = (GRPOConfig if recipe == "grpo" else SFTConfig).__dataclass_fields__
    options = set(options_of(recipe)) & {*theirs, *ModelConfig.__dataclass_fields__}
    assert refused <= options
    listed = "grpo" if recipe == "grpo" else "sft"
    used = set((Path(__file__).parent / f"used_options_{listed}.txt").read_text().split())
    assert used | refused == options
    assert not used & refused
    for name in refused:
        own = tmp_path / f"{name}.yaml"
        own.write_text(yaml.safe_dump({name: example(recipe, name)}))
        with pytest.raises(ValueError, match=rf"{name} \(.*\): has no effect here, "):
            check(settings(recipe, "--config", own))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lora_r", 4], "--lora_r: has no effect without --use_peft true"),
        (["--vllm_gpu_memory_utilization", 0.5], "has no effect without --use_vllm true"),
        (["--use_vllm", "true", "--vllm_server_port", 80], "has no effect without --vllm_mode server"),
        (["--eval_steps", 5], "has no effect without --eval_strategy steps"),
        (["--vespo_k_pos", 1], "has no effect without --loss_type vespo"),
        (["--eval_num_videos", 5], "has no effect without --eval_labels FILE"),
    ],
    ids=str,
)
def test_an_option_that_needs_another_says_so(options: list[object], message: str) -> None:
    assert message in "\n".join(effects.without_effect(settings("grpo", *options)))


def test_a_yaml_may_hold_what_another_launch_needs() -> None:
    assert settings("grpo")["lora_dropout"] == 0.0  # for --use_peft true
    assert effects.without_effect(settings("grpo")) == []


def test_what_must_be_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    present: set[str] = set()
    monkeypatch.setattr("vqathinker.launch.checks.find_spec", lambda name: name in present or None)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    options = ["--use_vllm", "true", "--report_to", "wandb", "tensorboard", "--optim", "adamw_8bit"]
    found = "\n".join(not_installed(settings("grpo", *options)))
    for part in ("vqathinker[vllm]", "pip install wandb", "pip install tensorboard", "bitsandbytes"):
        assert part in found
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert "vqathinker[deepspeed]" in "\n".join(not_installed(settings("grpo")))
    present |= {"vllm", "wandb", "tensorboard", "bitsandbytes", "deepspeed"}
    assert "wandb login" in "\n".join(not_installed(settings("grpo", *options)))
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert list(not_installed(settings("grpo", *options))) == []
    server = settings("grpo", "--use_vllm", "true", "--vllm_mode", "server")
    present.clear()
    assert "vLLM" not in "\n".join(not_installed(server))  # it runs elsewhere


# The output folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run with two checkpoints, the second of which was never finished."""
    folder = tmp_path / "run"
    (folder / "checkpoint-3").mkdir(parents=True)
    (folder / "checkpoint-3" / "trainer_state.json").write_text("{}")
    (folder / "checkpoint-10").mkdir()
    return folder


def test_nothing_is_overwritten_without_being_asked(run_folder: Path, tmp_path: Path) -> None:
    (taken,) = check_output(settings("grpo", "--output_dir", run_folder))
    assert "run is not empty; choose another directory, continue with" in taken
    (taken,) = check_output(settings("grpo", "--output_dir", tmp_path / "new", "--save_to", run_folder))
    assert "run is not empty" in taken
    assert not check_output(settings("grpo", "--output_dir", run_folder, "--overwrite_output_dir", "true"))
    assert not check_output(settings("grpo", "--output_dir", tmp_path / "new"))


def test_an_earlier_run_is_set_aside(run_folder: Path) -> None:
    """Nothing goes on from its checkpoints, and the run that overwrites does not count or remove them."""
    for name in ("earlier-checkpoint-3", "earlier-checkpoint-3-2"):
        told = settings("grpo", "--output_dir", run_folder, "--overwrite_output_dir", "true")
        (moved,) = [path for path in set_aside(told) if "checkpoint-3" in path.name]
        assert moved.name == name
        assert (moved / "trainer_state.json").is_file()
        assert checkpoints_in(run_folder) == {}
        (run_folder / "checkpoint-3").mkdir()
        (run_folder / "checkpoint-3" / "trainer_state.json").write_text("{}")


def test_a_run_takes_its_folder_over(run_folder: Path) -> None:
    where = ["--output_dir", run_folder]
    new = settings("grpo", *where, "--overwrite_output_dir", "true")
    assert begin(new) is None
    assert (run_folder / "earlier-checkpoint-3" / "trainer_state.json").is_file()
    (run_folder / "earlier-checkpoint-3").rename(run_folder / "checkpoint-3")
    record(new, 8)
    again = settings("grpo", *where, "--resume_from_checkpoint", "true")
    with pytest.raises(ValueError, match="began in 8 processes, these are 1"):
        begin(again)
    allowed = settings("grpo", *where, "--resume_from_checkpoint", "true", "--allow_changes", "true")
    assert begin(allowed) == str(run_folder / "checkpoint-3")
    assert begin(again) == str(run_folder / "checkpoint-3")  # in one process from now on


def test_what_would_be_replaced_is_no_start(run_folder: Path) -> None:
    checkpoint = ["--model_name_or_path", run_folder / "checkpoint-3"]
    options = ["--output_dir", run_folder, "--overwrite_output_dir", "true"]
    (problem,) = check_output(settings("grpo", *options, *checkpoint))
    assert "is of an earlier run in the output folder" in problem
    (problem,) = check_output(settings("grpo", *options, "--model_name_or_path", run_folder / "final"))
    assert "is of an earlier run in the output folder" in problem
    for start in (run_folder.parent, run_folder / "init"):
        assert check_output(settings("grpo", *options, "--model_name_or_path", start)) == []


@pytest.mark.parametrize(
    ("state", "args", "is_over"),
    [
        ({"global_step": 5, "epoch": 0.5}, {"max_steps": 5, "num_train_epochs": 3}, True),
        ({"global_step": 5, "epoch": 0.5}, {"max_steps": 6, "num_train_epochs": 3}, False),
        ({"global_step": 5, "epoch": 3.0}, {"max_steps": -1, "num_train_epochs": 3}, True),
        ({"global_step": 5, "epoch": 2.9}, {"max_steps": -1, "num_train_epochs": 3}, False),
    ],
)
def test_a_run_that_has_ended(
    run_folder: Path, state: dict[str, Any], args: dict[str, int], is_over: bool
) -> None:
    checkpoint = run_folder / "checkpoint-3"
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    assert not is_done(checkpoint, state, SimpleNamespace(**args))  # it holds no model
    for name in ("model.safetensors", "config.json", "optimizer.pt", "rng_state_0.pth"):
        (checkpoint / name).write_text(name)
    assert is_done(checkpoint, state, SimpleNamespace(**args)) == is_over
    copy_model(checkpoint, state, run_folder / "final", best=False)
    assert {path.name for path in (run_folder / "final").iterdir()} == {"model.safetensors", "config.json"}


def test_the_number_of_processes_is_kept(run_folder: Path) -> None:
    where = ["--output_dir", run_folder]
    again = settings("grpo", *where, "--resume_from_checkpoint", "true")
    assert num_processes_of(again) is None  # not known
    for number in (1, 8):
        record(settings("grpo", *where, "--overwrite_output_dir", "true"), number)
        assert num_processes_of(again) == number


def test_resume(run_folder: Path, tmp_path: Path) -> None:
    last = run_folder / "checkpoint-3"
    for wish in ("true", last):
        told = settings("grpo", "--output_dir", run_folder, "--resume_from_checkpoint", wish)
        assert checkpoint_of(told) == last
        assert check_output(told) == []
    new = ["--output_dir", tmp_path / "new", "--resume_from_checkpoint"]
    assert checkpoint_of(settings("grpo", *new, "false")) is None
    assert "there is no checkpoint in" in check_output(settings("grpo", *new, "true"))[0]
    assert "no checkpoint of a run" in check_output(settings("grpo", *new, tmp_path))[0]


def test_a_resumed_run_says_what_differs(run_folder: Path) -> None:
    where = ["--output_dir", run_folder]
    record(settings("grpo", *where, "--beta", 0.1), 1)
    again = [*where, "--resume_from_checkpoint", "true"]
    same = settings("grpo", *again, "--beta", 0.1)
    assert changes(same) == []
    assert check_output(same) == []
    other = settings(
        "grpo", *again, "--rewards", "format", "ranking", "--save_steps", 5, "--num_generations", 2
    )
    found = "\n".join(check_output(other))
    for part in ("beta: 0.1 -> 0.04", "rewards: ", "num_generations: 4 -> 2", "--allow_changes true"):
        assert part in found
    assert "save_steps" not in found
    assert "save_steps: 200 -> 5" in notes(other)
    rate = settings("grpo", *again, "--beta", 0.1, "--learning_rate", 1e-5)
    assert check_output(rate) == []
    assert "learning_rate: 1e-06 -> 1e-05: has no effect on a resumed run" in "\n".join(notes(rate))
    record(rate, 1)
    assert yaml.safe_load((run_folder / "settings.yaml").read_text())["learning_rate"] == 1e-6
    record(settings("grpo", *again, "--beta", 0.1, "--learning_rate", 1e-5, "--save_steps", 7), 1)
    kept = yaml.safe_load((run_folder / "settings.yaml").read_text())
    assert (kept["learning_rate"], kept["save_steps"]) == (1e-6, 7)
    (run_folder / "settings_until_checkpoint-3.yaml").replace(run_folder / "settings.yaml")
    allowed = settings("grpo", *again, "--allow_changes", "true")
    assert check_output(allowed) == []
    record(allowed, 1)
    assert yaml.safe_load((run_folder / "settings.yaml").read_text())["beta"] == 0.04
    assert yaml.safe_load((run_folder / "settings_until_checkpoint-3.yaml").read_text())["beta"] == 0.1
    assert "allow_changes" not in (run_folder / "settings.yaml").read_text()


@pytest.mark.parametrize("recipe", RECIPES)
def test_settings_are_read_again_as_they_were(recipe: str, tmp_path: Path) -> None:
    own = {"rewards": [{"name": "regression", "sigma": 0.3}, "format"]} if recipe == "grpo" else {}
    own |= {
        "learning_rate": 3e-7,
        "lr_scheduler_kwargs": {"num_cycles": 2},
        "save_strategy": "no",
        "eval_steps": None,
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    options = ["--config", tmp_path / "own.yaml", "--seed", 7, "--output_dir", tmp_path / "out"]
    first = settings(recipe, *options)
    record(first, 2)
    second = merge(recipe, Path("unused"), ["--config", str(tmp_path / "out" / "settings.yaml")])
    assert {name: first[name] for name in first.options} == {name: second[name] for name in second.options}
    opening = as_yaml(first, 2).splitlines()
    assert opening[0].startswith(f"# vqathinker train {recipe} --config ")
    assert opening[1].startswith("# The settings of a run in 2 processes: vqathinker ")


def test_user_errors_leave_with_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for ranks, expected in (("1", "error: no such thing\n"), ("2", "[rank 1] error: no such thing\n")):
        monkeypatch.setenv("WORLD_SIZE", ranks)
        monkeypatch.setenv("RANK", "1")
        with pytest.raises(SystemExit) as caught, user_errors():
            raise ValueError("no such thing")
        assert caught.value.code == 2
        assert capsys.readouterr().err == expected
    monkeypatch.setenv("VQATHINKER_TRACEBACK", "1")
    with pytest.raises(SystemExit), user_errors():
        raise ValueError("no such thing")
    assert "Traceback" in capsys.readouterr().err
    with pytest.raises(RuntimeError), user_errors():
        raise RuntimeError("a fault of ours")


def test_everything_missing_is_named_at_once(tmp_path: Path) -> None:
    options = ["--train_videos", "nowhere", "--eval_labels", "none.csv", "--eval_strategy", "steps"]
    with pytest.raises(ValueError, match="--model_name_or_path: not given") as caught:
        read_settings("grpo", SHIPPED / "grpo_lsvq.yaml", [*ON_CPU, *options])
    for part in ("vqathinker init", "--train_labels: not given", "nowhere does not", "none.csv does not"):
        assert part in str(caught.value)


def test_choices_of_enumerations_are_known() -> None:
    for name, field in options_of("sft").items():
        declared = (
            SFTConfig.__dataclass_fields__[name].type if name in SFTConfig.__dataclass_fields__ else None
        )
        if isinstance(declared, type) and issubclass(declared, ExplicitEnum):
            assert field.kind.choices == tuple(member.value for member in declared)


def test_several_processes_that_became_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the launcher leaves in the environment; `test_recipes` has the launcher itself."""
    for name in ("ACCELERATE_MIXED_PRECISION", "MASTER_PORT", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert became_one() == ""
    monkeypatch.setenv("MASTER_PORT", "29500")  # as a cluster's scripts may
    assert became_one() == ""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert "this is a single process" in became_one()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert became_one() == ""

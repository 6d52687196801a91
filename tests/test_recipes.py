"""The shipped configurations are read by the tools that they are for."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from conftest import in_soak, permissions
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import Tensor
from trl import ModelConfig, SFTConfig

import perturbations
import rewards
from vqathinker.checkpoints.assemble import load_policy
from vqathinker.launch.settings import merge
from vqathinker.plugins import build
from vqathinker.training import TrainingConfig
from vqathinker.training.setup import DataConfig, SupervisedDataConfig

RECIPES = Path(__file__).parents[1] / "recipes"
FOLDER = RECIPES / "accelerate"
CONFIGS = sorted(FOLDER.glob("*.yaml"))

# name -> distributed type, mixed precision, processes
EXPECTED = {
    "cpu": ("NO", "no", 1),
    "cpu_two": ("MULTI_GPU", "no", 2),
    "one_gpu": ("NO", "bf16", 1),
    "zero2": ("DEEPSPEED", "bf16", 8),
    "zero3": ("DEEPSPEED", "bf16", 8),
    "fsdp2": ("FSDP", "bf16", 8),
}


def launch_arguments(path: Path) -> Namespace:
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "train.py"])
    return _validate_launch_command(arguments)[0]


def test_every_config_is_expected_here() -> None:
    assert {path.stem for path in CONFIGS} == set(EXPECTED)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_reads_the_config(path: Path) -> None:
    config = load_config_from_file(str(path))
    found = (config.distributed_type.value, config.mixed_precision, config.num_processes)
    assert found == EXPECTED[path.stem]
    assert config.use_cpu == path.stem.startswith("cpu")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_config_opens_with_its_launch_line(path: Path) -> None:
    opening = path.read_text(encoding="utf-8").splitlines()[0]
    assert opening.startswith(f"# accelerate launch -q --config_file recipes/accelerate/{path.name} ")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_gradient_accumulation_is_left_to_the_trainer(path: Path) -> None:
    assert "gradient_accumulation_steps" not in load_config_from_file(str(path)).deepspeed_config


@pytest.mark.parametrize(("name", "stage"), [("zero2", 2), ("zero3", 3)])
def test_the_launcher_takes_the_zero_stage(name: str, stage: int) -> None:
    arguments = launch_arguments(FOLDER / f"{name}.yaml")
    assert arguments.use_deepspeed
    assert arguments.zero_stage == stage
    assert arguments.gradient_accumulation_steps is None


def test_the_launcher_takes_the_second_fsdp() -> None:
    arguments = launch_arguments(FOLDER / "fsdp2.yaml")
    assert arguments.use_fsdp
    assert str(arguments.fsdp_version) == "2"


KINDS = {"grpo": (DataConfig, TrainingConfig), "sft": (SupervisedDataConfig, SFTConfig)}
SETTINGS = sorted([*RECIPES.glob("*.yaml"), *RECIPES.glob("world/*.yaml")])
ON_CPU = ["--use_cpu", "true", "--bf16", "false", "--dtype", "float32", "--gradient_checkpointing", "false"]
SHORT = ["--max_steps", "1", "--report_to", "none", "--per_device_train_batch_size", "4"]

LORA = ["--use_peft", "true", "--lora_target_modules", "q_proj", "v_proj"]

# Table 6 of the paper and SPEC's additions: key -> value
PAPER = {
    "num_generations": 4,
    "beta": 0.04,
    "epsilon": 0.2,
    "learning_rate": 1e-6,
    "num_train_epochs": 3,
    "max_completion_length": 2048,
    "temperature": 0.9,
    "top_p": 1.0,
    "top_k": 50,
    "bf16": True,
    "gradient_accumulation_steps": 2,
    "loss_type": "grpo",
    "use_bias_correction_kl": False,
}


def read(path: Path, *options: str) -> tuple[DataConfig, TrainingConfig]:
    """Parse a YAML as its recipe does, on a machine without a GPU."""
    recipe = "sft" if path.stem in {"base", "tune"} or "sft" in path.stem else "grpo"
    data, args, _ = merge(recipe, path, [*ON_CPU, *options]).build(*KINDS[recipe], ModelConfig)
    return data, args


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_a_recipe_reads_its_settings(path: Path) -> None:
    _, args = read(path, "--output_dir", "out")
    if isinstance(args, TrainingConfig):
        assert build(
            args.rewards, rewards.REWARDS, group="vqathinker.rewards", declares=("tasks", "datasets")
        )
        build(args.perturbations, perturbations.PERTURBATIONS, group="vqathinker.perturbations")
    assert args.report_to == []  # W&B only when asked


@pytest.mark.parametrize("path", SETTINGS, ids=lambda path: path.stem)
def test_settings_open_with_their_launch_line(path: Path) -> None:
    opening = path.read_text(encoding="utf-8").splitlines()[0]
    assert opening.startswith(
        ("# accelerate launch ", "# python recipes/", "# python -m recipes.", "# python bench")
    )


def test_the_settings_of_the_paper() -> None:
    written = yaml.safe_load((RECIPES / "grpo_lsvq.yaml").read_text(encoding="utf-8"))
    assert {key: written[key] for key in PAPER} == PAPER
    data, args = read(RECIPES / "grpo_lsvq.yaml")
    assert 8 * args.per_device_train_batch_size * args.gradient_accumulation_steps == 64
    assert (data.scale, data.mos_low, data.mos_high) == ("divide", None, None)
    plugins = build(args.rewards, rewards.REWARDS, group="vqathinker.rewards", declares=("tasks", "datasets"))
    assert {plugin.label: plugin.weight for plugin in plugins} == dict.fromkeys(
        ("format", "regression", "ranking", "temporal"), 1.0
    )
    by_label = {plugin.label: plugin.function for plugin in plugins}
    assert (by_label["regression"].alpha, by_label["regression"].sigma) == (0.8, 0.5)
    assert (by_label["temporal"].delta, by_label["temporal"].tau, by_label["temporal"].gate) == (
        0.3, 0.5, "response",
    )  # fmt: skip
    assert args.perturbations == list(perturbations.PERTURBATIONS)


def test_the_command_line_wins(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("beta: 0.1\nnum_generations: 2\noutput_dir: elsewhere\n")
    _, args = read(
        RECIPES / "grpo_lsvq.yaml",
        f"--config={own}",
        "--beta",
        "0.2",
        "--rewards",
        "format",
        "linear",
    )
    assert (args.beta, args.num_generations, args.output_dir) == (0.2, 2, "elsewhere")
    assert args.rewards == ["format", "linear"]


def test_the_later_of_several_files_wins(tmp_path: Path) -> None:
    row = tmp_path / "row.yaml"
    row.write_text("rewards: [format, ranking]\nbeta: 0.1\n")
    files = ["--config", str(RECIPES / "grpo_lsvq.yaml"), str(row)]
    _, args = read(RECIPES / "grpo_lsvq.yaml", *files, "--epsilon", "0.1")
    assert (args.rewards, args.beta, args.epsilon) == (["format", "ranking"], 0.1, 0.1)
    assert args.num_generations == PAPER["num_generations"]  # of the first
    _, args = read(RECIPES / "grpo_lsvq.yaml", "--config", *reversed(files[1:]))
    assert args.beta == PAPER["beta"]
    _, args = read(RECIPES / "grpo_lsvq.yaml", *files[:2], "--config", str(row))
    assert (args.beta, args.num_generations) == (0.1, PAPER["num_generations"])


@pytest.mark.parametrize("options", [["none"], [], [""]], ids=str)
def test_no_perturbations_on_the_command_line(options: list[str]) -> None:
    assert read(RECIPES / "grpo_lsvq.yaml", "--perturbations", *options)[1].perturbations == []


@pytest.mark.parametrize("value", ["none", "[]", "null", "[none]", "''"])
def test_no_perturbations_in_a_yaml(value: str, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(f"perturbations: {value}\noutput_dir: out\n")
    assert read(RECIPES / "grpo_lsvq.yaml", "--config", str(own))[1].perturbations == []


def run_recipe(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *options: object) -> None:
    """Run a recipe in this process, from another directory."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(RECIPES)  # as for a script that is called itself
    decoders = ["--decode_workers", "1"] if "grpo" in name else []
    monkeypatch.setattr(sys, "argv", [name, *ON_CPU, *SHORT, *decoders, *map(str, options)])
    runpy.run_path(str(RECIPES / name), run_name="__main__")


def refusal(*arguments: Any, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a recipe that leaves with status 2; its message."""
    with pytest.raises(SystemExit) as caught:
        run_recipe(*arguments)
    assert caught.value.code == 2
    message = capsys.readouterr().err.partition("error: ")[2]
    assert "Traceback" not in message
    return message


def data_options(folder: Path) -> list[object]:
    labels = ["--train_labels", folder / "train.csv", "--train_videos", folder]
    return [*labels, "--mos_low", 1, "--mos_high", 5]


@pytest.mark.parametrize("recipe", ["grpo_lsvq.py", "sft_lsvq.py"])
def test_without_data_a_recipe_says_what_to_give(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("test_recipes.ON_CPU", [])  # bf16 stays on, with or without a GPU
    message = refusal(recipe, tmp_path, monkeypatch, capsys=capsys)
    for part in (
        "--model_name_or_path: not given",
        "vqathinker init",
        "--train_labels: not given",
        "request",
    ):
        assert part in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rewards", "formatt"], "has no 'formatt' (nearest: format)"),
        (["--rewards", "nowhere:reward"], "there is no module 'nowhere'"),
        (["--per_device_train_batch_size", "7"], "14 responses of a generation on each process are no mult"),
        (
            ["--gradient_accumulation_steps", "1"],
            "'ranking' compares videos and the global batch holds only 1",
        ),
        (["--train_labels", "empty.csv"], "empty.csv: no labels in the file"),
        (["--train_labels", "nan.csv"], "nan.csv: line 2: a.mp4: the MOS is 'nan'"),
        (["--train_videos", "."], "8 of 8 videos do not exist: ./00.mp4, ./01.mp4"),
        (["--model_name_or_path", "."], "--model_name_or_path: . has neither config.json nor"),
        (["--resume_from_checkpoint", "true"], "there is no checkpoint in new"),
        (["--output_dir", "."], ". is not empty; choose another directory"),
        (["--eval_labels", "nan.csv"], "eval_labels are given but never used"),
        (["--attn_implementation", "eager"], "attn_implementation='eager' cannot take packed rows"),
        (["--betaa", "1"], "--betaa: there is no such option; did you mean --beta?"),
        (["--beta", "high"], "--beta: is 'high', expected a number"),
        (["--temperature", "0"], "--temperature: is 0.0, expected above 0"),
        (["--load_in_4bit"], "--load_in_4bit: has no effect here, quantised weights are not supported"),
        (["--config", "broken.yaml"], "while parsing a flow sequence"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--config"], "--config: expected one or more YAML files after it"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_bad_input_is_told_before_the_first_step(
    options: list[str],
    message: str,
    tiny_checkpoint: Path,
    labelled_videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "nan.csv").write_text("video,mos\na.mp4,nan\n")
    (tmp_path / "broken.yaml").write_text("beta: [1\n")
    given = [*data_options(labelled_videos), "--model_name_or_path", tiny_checkpoint, "--output_dir", "new"]
    assert message in refusal("grpo_lsvq.py", tmp_path, monkeypatch, *given, *options, capsys=capsys)
    assert not list(tmp_path.glob("new/*"))  # the same line is free to be tried again


PLUG_IN = """
def short(prompts, completions, **columns):
    assert all(name.startswith("train/") for name in prompts)
    return [-float(len(text)) for text in completions]
"""
WITH_TWINS = """
def short_with_twins(prompts, completions, twin_text, **columns):
    assert all(isinstance(text, str) for text in twin_text) and len(twin_text) == len(completions)
    return short(prompts, completions, **columns)
"""
COMPUTE_IT = """
from vqathinker.training.grpo.adapter import GRPOAdapter

GRPOAdapter._is_on_policy = property(lambda self: False)
"""


def launch_elsewhere(
    folder: Path, options: list[object], launcher: Sequence[str] = (), **environment: str
) -> str:
    """Run the GRPO recipe in processes of its own from a folder whose modules it can import; its messages."""
    done = subprocess.run(
        [sys.executable, *launcher, RECIPES / "grpo_lsvq.py", *map(str, options), "--decode_workers", "1"],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{folder}{os.pathsep}{RECIPES.parent}",
            **environment,
        },
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.mark.slow
def test_a_plug_in_from_elsewhere_trains(
    tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path
) -> None:
    """A function in TRL's style, outside the repository, named by its dotted path in a YAML."""
    (tmp_path / "my_plug_in.py").write_text(PLUG_IN)
    settings = {
        "rewards": ["format", {"name": "my_plug_in:short", "weight": 0.5, "as": "shortness"}],
        "perturbations": [],
        "gradient_accumulation_steps": 1,
        "max_completion_length": 8,
        "log_completions": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "output_dir": "out",
        "model_name_or_path": str(tiny_checkpoint),
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))
    options = ["--config", "mine.yaml", *ON_CPU, *SHORT, *data_options(labelled_videos)]
    assert "starts at 0 by construction" in launch_elsewhere(tmp_path, options)
    shown = pd.read_parquet(tmp_path / "out" / "completions" / "completions_00001.parquet")
    assert shown["shortness"].tolist() == [-len(text) for text in shown["completion"]]
    assert (tmp_path / "out" / "trainer_state.json").is_file()
    load_policy(tmp_path / "out" / "final")


@pytest.mark.slow
def test_too_many_unreadable_videos_end_with_one_message(
    tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    videos = tmp_path / "videos"
    shutil.copytree(labelled_videos, videos)
    for name in ("00.mp4", "03.mp4", "05.mp4"):
        (videos / name).write_bytes(b"no video")
    options = [*data_options(videos), "--model_name_or_path", tiny_checkpoint, "--output_dir", "out"]
    options += ["--max_steps", 2, "--per_device_train_batch_size", 16, "--max_completion_length", 4]
    message = refusal("grpo_lsvq.py", tmp_path, monkeypatch, *options, capsys=capsys)
    assert message.startswith("3 of 8 videos cannot be read, more than max_unreadable=0.05. The last one is")
    assert message.count("\n") == 1


def two_processes(name: str, folder: Path) -> list[str]:
    """The launcher for a shipped configuration, on two processes of this machine."""
    settings = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    settings |= {"num_processes": 2, "use_cpu": True, "mixed_precision": "no"}
    settings["main_process_port"] = 0  # a free one: another run of the tests may be under way
    (folder / "accelerate.yaml").write_text(yaml.safe_dump(settings))
    return ["-m", "accelerate.commands.launch", "--config_file", str(folder / "accelerate.yaml")]


WHO_IS_THERE = """
import os
from pathlib import Path

def short(completions, **columns):
    Path("rank-" + os.environ.get("RANK", "none")).touch()
    return [-float(len(text)) for text in completions]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "ranks"),
    [
        pytest.param(["cpu_two.yaml"], ["rank-0", "rank-1"], id="two processes"),
        in_soak(["cpu.yaml", "--num_processes", "2"], ["rank-none"], name="two that become one"),
    ],
)
def test_processes_on_a_cpu(
    launcher: list[str], ranks: list[str], tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path
) -> None:
    (tmp_path / "my_plug_in.py").write_text(WHO_IS_THERE)
    options = [*ON_CPU, *SHORT, *data_options(labelled_videos), "--model_name_or_path", tiny_checkpoint]
    options += ["--rewards", "my_plug_in:short", "--max_completion_length", 8, "--output_dir", "out"]
    options += ["--save_strategy", "no"]
    start = ["-m", "accelerate.commands.launch", "--config_file", str(FOLDER / launcher[0]), *launcher[1:]]
    said = launch_elsewhere(tmp_path, options, start)
    assert sorted(path.name for path in tmp_path.glob("rank-*")) == ranks
    assert ("this is a single process" in said) == (ranks == ["rank-none"])
    load_policy(tmp_path / "out" / "final")


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.parametrize(
    ("adapter", "processes"),
    [
        in_soak([], "", name="all weights"),
        pytest.param(LORA, "", id="lora"),
        pytest.param([], "cpu_two", id="two processes"),
        in_soak([], "zero2", name="zero2"),
        pytest.param([], "zero3", id="zero3"),
        in_soak(LORA, "zero3", name="lora under zero3"),
    ],
)
def test_rollouts_by_vllm(
    adapter: list[object], processes: str, tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path
) -> None:
    (tmp_path / "my_plug_in.py").write_text(
        PLUG_IN + WITH_TWINS
    )  # tells an untrained model's responses apart
    options = [*ON_CPU, *data_options(labelled_videos), "--model_name_or_path", tiny_checkpoint]
    options += [
        "--rewards",
        "my_plug_in:short_with_twins",
        "--perturbations",
        "reverse",
        "--use_vllm",
        "true",
    ]
    options += ["--max_steps", 3, "--learning_rate", 1e-2, "--logging_steps", 1]
    options += ["--per_device_train_batch_size", 8 if processes else 16, "--gradient_accumulation_steps", 1]
    options += ["--max_completion_length", 8, "--output_dir", "out", "--save_strategy", "no", *adapter]
    # two processes share three validation videos, so they do not generate equally often
    options += ["--eval_labels", labelled_videos / "val.csv", "--eval_strategy", "steps", "--eval_steps", 3]
    options += ["--eval_num_videos", 3, "--per_device_eval_batch_size", 1]
    launcher = two_processes(processes, tmp_path) if processes else []
    launch_elsewhere(tmp_path, options, launcher, VLLM_CPU_KVCACHE_SPACE="1", DS_ACCELERATOR="cpu")
    history = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    gaps = [entry["sampling/logp_gap_max"] for entry in history if "sampling/logp_gap_max" in entry]
    assert len(gaps) == 3
    assert sum("eval_srcc" in entry for entry in history) == 1
    # 0.02 are the share of the forbidden ids in an untrained model; without synchronisation it is 0.8
    assert max(gaps) < 0.05
    (trained, _), (untrained, _) = (load_policy(path) for path in (tmp_path / "out/final", tiny_checkpoint))
    assert any(
        not torch.equal(*pair) for pair in zip(trained.parameters(), untrained.parameters(), strict=True)
    )
    frozen = untrained.model.slowfast.state_dict()
    for name, weight in trained.model.slowfast.state_dict().items():
        assert torch.equal(weight, frozen[name]), name


@pytest.mark.slow
@pytest.mark.vllm  # which DeepSpeed is installed with
@pytest.mark.parametrize("name", [in_soak("zero2", name="zero2"), in_soak("zero3", name="zero3")])
def test_packed_and_plain_rows_under_zero(
    name: str, tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path
) -> None:
    """Two processes, groups split over micro-batches: the same weights after two steps."""
    ends = []
    for packed in ("true", "false"):
        folder = tmp_path / packed
        folder.mkdir()
        (folder / "my_plug_in.py").write_text(PLUG_IN + WITH_TWINS)
        options = [*ON_CPU, *data_options(labelled_videos), "--model_name_or_path", tiny_checkpoint]
        options += [
            "--rewards",
            "my_plug_in:short_with_twins",
            "--perturbations",
            "reverse",
            "--packed",
            packed,
        ]
        options += ["--max_steps", 2, "--optim", "sgd", "--learning_rate", 0.1, "--max_grad_norm", 0]
        options += ["--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 4]
        options += ["--max_completion_length", 8, "--output_dir", "out", "--save_strategy", "no"]
        launch_elsewhere(folder, options, two_processes(name, folder), DS_ACCELERATOR="cpu")
        ends.append(load_policy(folder / "out" / "final")[0].state_dict())
    start = load_policy(tiny_checkpoint)[0].state_dict()
    assert max((ends[0][weight] - value).abs().max() for weight, value in start.items()) > 1e-3
    for weight, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][weight], rtol=0, atol=1e-5, msg=weight)


@pytest.mark.slow
@pytest.mark.vllm
def test_the_old_policys_pass_is_redundant(
    tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path
) -> None:
    """TRL's importance-sampling correction, with the pass it asks for and without: the same weights."""
    ends = []
    for name, more in (("skipped", ""), ("computed", COMPUTE_IT)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "my_plug_in.py").write_text(PLUG_IN + WITH_TWINS + more)
        options = [*ON_CPU, *data_options(labelled_videos), "--model_name_or_path", tiny_checkpoint]
        options += [
            "--rewards",
            "my_plug_in:short_with_twins",
            "--perturbations",
            "reverse",
            "--use_vllm",
            "true",
        ]
        options += ["--max_steps", 2, "--learning_rate", 1e-2, "--per_device_train_batch_size", 16]
        options += ["--gradient_accumulation_steps", 1, "--max_completion_length", 8, "--output_dir", "out"]
        options += ["--save_strategy", "no", "--logging_steps", 1]
        options += ["--vllm_importance_sampling_correction", "true"]
        launch_elsewhere(folder, options, [], VLLM_CPU_KVCACHE_SPACE="1")
        ends.append(load_policy(folder / "out" / "final")[0].state_dict())
    for weight, value in ends[0].items():
        torch.testing.assert_close(value, ends[1][weight], rtol=0, atol=1e-6, msg=weight)


@pytest.mark.slow
def test_supervised_fine_tuning(
    tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*data_options(labelled_videos), "--output_dir", "out", "--use_peft", "true"]
    options += ["--eval_labels", labelled_videos / "val.csv", "--eval_strategy", "steps", "--eval_steps", 1]
    run_recipe("sft_lsvq.py", tmp_path, monkeypatch, *options, "--model_name_or_path", tiny_checkpoint)
    assert (tmp_path / "out" / "final" / "adapter_config.json").is_file()
    validated = (tmp_path / "out" / "trainer_state.json").read_text()
    assert "eval_loss" in validated
    assert "eval_srcc" in validated
    load_policy(tmp_path / "out" / "final")


@torch.no_grad()
def logits(folder: Path) -> Tensor:
    """Of the policy in a folder, for frames and a prompt that are always the same."""
    model, processor = load_policy(folder)
    frames = np.random.default_rng(0).integers(0, 255, (6, 56, 56, 3), dtype=np.uint8)
    return model.eval()(**processor([frames])).logits  # type: ignore[no-any-return]


@pytest.mark.slow
def test_from_one_stage_to_the_next(
    tiny_checkpoint: Path,
    labelled_videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A supervised adapter, trained on by both recipes and merged: each result holds what came before it."""
    common = [*data_options(labelled_videos), "--save_strategy", "no", "--learning_rate", 0.01]
    lora = ["--use_peft", "true", "--lora_r", 4]
    short = ["--max_completion_length", 4, "--rewards", "length", "--gradient_accumulation_steps", 2]
    base, first, second, third, whole = tiny_checkpoint, *(tmp_path / name / "final" for name in "1234")

    def run(recipe: str, start: Path, out: Path, *options: object) -> None:
        where = ["--model_name_or_path", start, "--output_dir", out.parent]
        run_recipe(recipe, tmp_path, monkeypatch, *common, *where, *options)

    run("sft_lsvq.py", base, first, *lora)
    run("sft_lsvq.py", first, second, *lora)
    run("grpo_lsvq.py", second, third, "--use_peft", "true", *short)
    run("sft_lsvq.py", second, whole)
    settings = [json.loads((folder / "adapter_config.json").read_text()) for folder in (first, second, third)]
    assert [own["base_model_name_or_path"] for own in settings] == [str(tiny_checkpoint.resolve())] * 3
    assert [own["r"] for own in settings] == [4] * 3
    assert settings[2]["lora_dropout"] == 0  # the recipe's own, not that of the first stage
    assert not (whole / "adapter_config.json").exists()
    assert not (third / "ref").exists()
    assert all(len(permissions(folder)) == 1 for folder in (third, whole))

    # one step of Adam moves no weight by more than the learning rate, two steps of one direction do
    weights = [dict(load_policy(folder)[0].named_parameters()) for folder in (base, first, second)]
    name = next(name for name in weights[0] if "motion_projector.linear_2.weight" in name)
    assert (weights[1][name] - weights[0][name]).abs().max() < 0.0101
    assert (weights[2][name] - weights[1][name]).abs().max() < 0.0101
    assert (weights[2][name] - weights[0][name]).abs().max() > 0.015
    assert (logits(second) - logits(first)).abs().max() > 1e-3
    assert (logits(whole) - logits(second)).abs().max() > 1e-3

    given = [*common, "--model_name_or_path", first, "--output_dir", "5", "--use_peft", "true", "--lora_r", 8]
    message = refusal("sft_lsvq.py", tmp_path, monkeypatch, *given, capsys=capsys)
    assert f"--lora_r 8 contradicts the adapter {first}, whose r is 4" in message
    assert f"vqathinker merge {first} OUT" in message
    (first / "adapter_config.json").write_text(json.dumps(settings[0] | {"base_model_name_or_path": "/gone"}))
    message = refusal("sft_lsvq.py", tmp_path, monkeypatch, *given[:-2], capsys=capsys)
    assert "was trained on /gone, which is not there" in message


@pytest.mark.slow
def test_grpo_after_a_stage_that_trained_slowfast(
    tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SlowFast is what the stage left, frozen again."""
    options = [*data_options(labelled_videos), "--save_strategy", "no", "--learning_rate", 0.01]
    stage, result = (tmp_path / name / "final" for name in ("stage", "grpo"))
    taught = ["--config", "vqa2_1_motion", "laptop", "--warmup_steps", 0]
    where = ["--model_name_or_path", tiny_checkpoint, "--output_dir", stage.parent]
    run_recipe("tune.py", tmp_path, monkeypatch, *options, *taught, *where)
    short = ["--max_completion_length", 4, "--rewards", "length", "--gradient_accumulation_steps", 2]
    where = ["--model_name_or_path", stage, "--output_dir", result.parent]
    run_recipe("grpo_lsvq.py", tmp_path, monkeypatch, *options, *short, *where)
    models = [load_policy(folder)[0].model for folder in (tiny_checkpoint, stage, result)]
    untaught, left, after = (model.slowfast.state_dict() for model in models)
    assert any(not torch.equal(weight, untaught[name]) for name, weight in left.items())
    assert all(torch.equal(weight, after[name]) for name, weight in left.items())
    assert not torch.equal(*(model.motion_projector.linear_2.weight for model in models[1:]))


@pytest.mark.slow
@pytest.mark.vllm  # which DeepSpeed is installed with
def test_an_adapter_is_trained_on_under_zero3(
    tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path
) -> None:
    """The reference, and without learning the result, are the adapter that was loaded."""
    model, processor = load_policy(tiny_checkpoint)
    torch.manual_seed(0)
    settings = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], modules_to_save=["motion_projector"])
    adapted = get_peft_model(model, settings)
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight += 0.05 * torch.randn_like(weight)
    adapted.save_pretrained(tmp_path / "first")
    processor.save_pretrained(tmp_path / "first")
    (tmp_path / "my_plug_in.py").write_text(PLUG_IN)
    options = [*ON_CPU, *data_options(labelled_videos), "--model_name_or_path", tmp_path / "first"]
    options += ["--use_peft", "true", "--rewards", "my_plug_in:short", "--max_steps", 2, "--logging_steps", 1]
    options += ["--optim", "sgd", "--learning_rate", 0, "--per_device_train_batch_size", 8, "--beta", 0.04]
    options += ["--gradient_accumulation_steps", 1, "--max_completion_length", 8, "--output_dir", "out"]
    launch_elsewhere(tmp_path, options, two_processes("zero3", tmp_path), DS_ACCELERATOR="cpu")
    history = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    assert [entry["kl"] for entry in history if "kl" in entry] == [pytest.approx(0, abs=1e-6)] * 2
    file = "adapter_model.safetensors"
    first, final = (load_file(tmp_path / folder / file) for folder in ("first", "out/final"))
    assert first.keys() == final.keys()
    for name, weight in first.items():
        torch.testing.assert_close(final[name], weight, msg=name)

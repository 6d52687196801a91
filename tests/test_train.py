"""`vqathinker train`: real launches from another folder, and what is refused before any."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vqathinker.checkpoints.assemble import load_policy
from vqathinker.cli.train import plan_launch, split, status
from vqathinker.launch import recipes

ROOT = Path(__file__).parents[1]
ON_CPU = ["--use_cpu", "true", "--bf16", "false", "--dtype", "float32", "--gradient_checkpointing", "false"]
BRIEF = [
    "--max_steps",
    1,
    "--per_device_train_batch_size",
    4,
    "--gradient_accumulation_steps",
    1,
    "--learning_rate",
    1e-2,
    "--save_strategy",
    "no",
    "--max_completion_length",
    8,
    "--decode_workers",
    1,
]
PLUG_IN = """
def short(prompts, completions, **columns):
    return [-float(len(text)) for text in completions]
"""


def call(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command from a folder, without a checkout on the way to it."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HOME": str(folder)}
    command = [sys.executable, "-m", "vqathinker.cli", "train", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=300
    )


def given(checkpoint: Path, videos: Path) -> list[object]:
    """Model, data, and a plug-in that lies in the folder of the call."""
    labels = [
        "--train_labels",
        videos / "train.csv",
        "--train_videos",
        videos,
        "--mos_low",
        1,
        "--mos_high",
        5,
    ]
    return [*ON_CPU, *BRIEF, *labels, "--model_name_or_path", checkpoint, "--rewards", "plug_in:short"]


@pytest.mark.slow
def test_the_written_settings_give_the_same_run_in_two_processes(
    tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path
) -> None:
    (tmp_path / "plug_in.py").write_text(PLUG_IN)
    options = [*given(tiny_checkpoint, labelled_videos), "--output_dir", "one", "--num_processes", 2]
    first = call(tmp_path, "grpo", *options)
    assert first.returncode == 0, first.stderr[-3000:]
    assert "launching with" in first.stderr
    assert "settings of a run in 2 processes" in (tmp_path / "one" / "settings.yaml").read_text()
    written = ["--config", "one/settings.yaml", "--output_dir", "two", "--num_processes", 2]
    again = call(tmp_path, "grpo", *written)
    assert again.returncode == 0, again.stderr[-3000:]
    one, two = (load_policy(tmp_path / name / "final")[0].state_dict() for name in ("one", "two"))
    start = load_policy(tiny_checkpoint)[0].state_dict()
    assert any(not torch.equal(one[name], start[name]) for name in one)
    for name, weight in one.items():
        assert torch.equal(weight, two[name]), name


@pytest.mark.slow
def test_a_late_error_of_the_user_is_status_2(
    tiny_checkpoint: Path, labelled_videos: Path, tmp_path: Path
) -> None:
    """In two processes, whose launcher has a status of its own."""
    (tmp_path / "nan.csv").write_text("video,mos\na.mp4,nan\n")
    options = [*given(tiny_checkpoint, labelled_videos), "--output_dir", "out", "--rewards", "format"]
    done = call(tmp_path, "grpo", *options, "--train_labels", "nan.csv", "--num_processes", 2)
    assert done.returncode == 2, done.stderr[-3000:]
    assert "the MOS is 'nan'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gpro"], "expected one of grpo, sft, tune; did you mean grpo?"),
        (["grpo", "--num_proceses", "2"], "did you mean --num_processes?"),
        (["grpo", "--num_processes", "none"], "--num_processes: is 'none', expected 1 or more"),
        (["grpo", "--config_file", "zero4"], "neither a file nor one of cpu, "),
        (["sft", "--config_file"], "--config_file: expected a value after it"),
        (["grpo", "--config", "none.yaml"], "none.yaml"),
    ],
    ids=str,
)
def test_wrong_arguments_are_told(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = call(tmp_path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help() -> None:
    assert "vqathinker train grpo|sft" in call(ROOT, "--help").stdout
    assert call(ROOT, "sft", "--help").stdout.startswith("usage: vqathinker train sft [--config_file FILE]")


def test_the_launchers_options_are_told_apart() -> None:
    launcher, rest = split(["--beta", "1", "--num-processes=2", "--config_file", "cpu", "--config", "a.yaml"])
    assert launcher == {"num_processes": "2", "config_file": "cpu"}
    assert rest == ["--beta", "1", "--config", "a.yaml"]


def test_a_launch_by_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    found = plan_launch({"num_processes": "2"} if not recipes.has_gpu() else {"config_file": "cpu"})
    assert found.on_cpu
    monkeypatch.setattr(recipes, "has_gpu", lambda: True)
    for devices, name, number in (("0", "one_gpu", 1), ("0,1,2", "zero2", 3)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
        file, processes = recipes.default_launch(None) or (Path(), None)
        assert (file.stem, processes) == (name, number)
    (tmp_path / "accelerate").mkdir()
    (tmp_path / "accelerate" / "default_config.yaml").write_text("distributed_type: 'NO'\n")
    assert plan_launch({}).file is None
    assert (status(2), status(-9)) == (2, 137)


def test_shipped_launch_files_have_names() -> None:
    for name in ("cpu", "cpu_two", "one_gpu", "zero2", "zero3", "fsdp2"):
        assert recipes.launch_file(name) == ROOT / "recipes" / "accelerate" / f"{name}.yaml"
        assert "distributed_type" in recipes.launch_values(recipes.launch_file(name))
    with pytest.raises(ValueError, match="no configuration of accelerate"):
        recipes.launch_values(ROOT / "recipes" / "grpo_lsvq.yaml")


def test_the_users_gpu_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(recipes, "has_gpu", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert plan_launch({}).options == {"gpu_ids": "3"}
    assert plan_launch({"gpu_ids": "1"}).options == {"gpu_ids": "1"}
    own = tmp_path / "own.yaml"
    own.write_text("distributed_type: MULTI_GPU\nnum_processes: 2\ngpu_ids: all\n")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert plan_launch({"config_file": str(own)}).options == {}  # both are used
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert plan_launch({}).on_cpu


def test_processes_are_those_of_all_machines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr(recipes, "has_gpu", lambda: True)
    for devices, number in (("0", 2), ("0,1,2,3", 8)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
        file, processes = recipes.default_launch(None, num_machines=2) or (Path(), None)
        assert (file.stem, processes) == ("zero2", number)

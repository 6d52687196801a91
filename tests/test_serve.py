"""`vqathinker serve`: what vLLM's server is started with. The server itself is tested in `test_vllm`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A package in the place of vLLM whose server prints its arguments and leaves."""
    folder = tmp_path / "vllm" / "entrypoints" / "openai"
    folder.mkdir(parents=True)
    for path in (folder, folder.parent, folder.parent.parent):
        (path / "__init__.py").touch()
    (folder / "api_server.py").write_text("import json, sys; print(json.dumps(sys.argv[1:]))")
    return tmp_path


def serve(path: Path, *arguments: object) -> tuple[dict[str, str], str]:
    """The server's options by name, and what was said."""
    command = [sys.executable, "-m", "vqathinker.cli", "serve", *map(str, arguments)]
    python_path = f"{path}:{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, "PYTHONPATH": python_path}
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    given = json.loads(run.stdout)
    pairs = zip(given, [*given[1:], ""], strict=True)
    return {name: value for name, value in pairs if name.startswith("--")}, run.stderr


def test_only_this_machine_reaches_it_by_default(stand_in: Path, checkpoints: dict[str, Path]) -> None:
    for extra in ([], ["--rollouts"], ["--dtype", "float32"]):
        options, said = serve(stand_in, checkpoints["none"], *extra)
        assert (options["--host"], options["--port"]) == ("127.0.0.1", "8000")
        where = "listening at http://127.0.0.1:8000 when the model is loaded"
        assert said == f"{where}; other machines cannot reach it (--host)\n"
    assert options["--dtype"] == "float32"
    assert options["--model"] == str(checkpoints["none"])


def test_other_addresses_are_asked_for(stand_in: Path, checkpoints: dict[str, Path]) -> None:
    options, said = serve(stand_in, checkpoints["none"], "--host=0.0.0.0", "--port", 9000)
    assert (options["--host"], options["--port"]) == ("0.0.0.0", "9000")
    assert "every machine that reaches this one can use it" in said


def test_a_judge_has_a_name_that_recipes_know(stand_in: Path, tmp_path: Path) -> None:
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge/config.json").write_text('{"model_type": "qwen3"}')
    for model in (str(tmp_path / "judge"), "Qwen/Qwen3-8B"):
        options, _ = serve(stand_in, "--judge", model, "--max-model-len", "4096")
        assert (options["--model"], options["--served-model-name"]) == (model, "judge")
        assert options["--max-model-len"] == "4096"


def test_what_is_no_judge(stand_in: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for words, message in (
        ([checkpoints["none"]], "a checkpoint that scores, no judge: leave --judge out"),
        ([tmp_path / "empty"], "has no config.json"),
        (["Qwen/Qwen3-8B", "--rollouts"], "choose one of --judge and --rollouts"),
    ):
        with pytest.raises(subprocess.CalledProcessError) as ended:
            serve(stand_in, "--judge", *words)
        assert ended.value.returncode == 2
        assert message in ended.value.stderr

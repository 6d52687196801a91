"""The Dockerfile: what it copies exists, what it installs is pinned, what it starts can be parsed."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import typer.main

from vqathinker.cli import app

ROOT = Path(__file__).parents[1]
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / ".ci/dockerfile_steps.py"))
TEXT = (ROOT / "Dockerfile").read_text()
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_the_steps_of_a_variant(variant: str) -> None:
    steps = SCRIPT["steps"](TEXT, variant)
    words = [word for word, _ in steps]
    assert words.count("ENTRYPOINT") == words.count("CMD") == 1
    assert words.index("USER") < words.index("CMD")  # nobody's page runs as root
    for word, rest in steps:
        if word == "COPY":
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources), rest
    installed = " ".join(rest for word, rest in steps if word == "RUN")
    assert ("vllm" in installed) == (variant == "cuda")
    for name, version in re.findall(r"(torch|torchvision)==([\d.]+)", installed):
        assert PINS[name] == version
    extras = re.search(r"'\.\[([\w,]+)\]'", installed)
    assert extras is not None
    settings = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{name} = \[", settings, re.MULTILINE) for name in extras[1].split(","))


def test_the_command_of_the_image() -> None:
    steps = dict(SCRIPT["steps"](TEXT, "cpu"))
    assert json.loads(steps["ENTRYPOINT"]) == ["vqathinker"]
    name, *rest = json.loads(steps["CMD"])
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    command.make_context(name, rest).close()
    assert "7860" in steps["EXPOSE"]


def test_every_package_of_the_library_is_copied() -> None:
    copied = {rest.split()[0] for word, rest in SCRIPT["steps"](TEXT, "cpu") if word == "COPY"}
    packages = re.search(r"packages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text())
    assert packages is not None
    assert set(re.findall(r'"(\w+)"', packages[1])) <= copied

"""Run what the Dockerfile runs, without a container engine: its files copied, its packages installed.

    python .ci/dockerfile_steps.py [cpu|cuda]

Steps of the system (apt-get, useradd) are left out, and torch is the one that the index here has. Ends with
the image's own command asked for its help.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
OF_THE_SYSTEM = ("apt-get", "useradd")


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def steps(text: str, variant: str) -> list[tuple[str, str]]:
    """The instructions that make an image of a variant, in order."""
    stages: dict[str, tuple[str, list[tuple[str, str]]]] = {}
    name = ""
    for word, rest in instructions(text):
        if word == "FROM":
            base, _, name = rest.replace("${VARIANT}", variant).partition(" AS ")
            stages[name] = (base, [])
        elif name in stages:
            stages[name][1].append((word, rest))
    found: list[tuple[str, str]] = []
    while name in stages:
        base, own = stages[name]
        found = own + found
        name = base
    return found


def main(variant: str) -> None:
    """Run the steps in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder, "app")
        work.mkdir()
        venv.create(Path(folder, "venv"), with_pip=True)
        path = f"{folder}/venv/bin:{os.environ['PATH']}"
        for word, rest in steps((ROOT / "Dockerfile").read_text(), variant):
            if word == "COPY":
                copy(shlex.split(rest), work)
            elif word == "RUN" and not rest.startswith(OF_THE_SYSTEM):
                command = re.sub(r"--extra-index-url \S+|\+cpu", "", rest)
                print("RUN", command, flush=True)
                subprocess.run(command, shell=True, check=True, cwd=work, env=os.environ | {"PATH": path})
        subprocess.run(["vqathinker", "web", "--help"], check=True, env={**os.environ, "PATH": path})


def copy(words: list[str], work: Path) -> None:
    """Copy files, or the contents of a folder, as COPY does."""
    *sources, target = words
    for source in sources:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, work / target)
        else:
            shutil.copy(ROOT / source, work / target)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cpu")

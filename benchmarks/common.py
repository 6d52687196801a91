"""What the benchmarks share: their command line and what a report says about where its numbers come from.

Neither host names nor paths are in a report.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
CPU_INFO = Path("/proc/cpuinfo")


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is a benchmark's docstring as it is."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def processor() -> str:
    """Return the processor's model name."""
    lines = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def environment(packages: Sequence[str]) -> dict[str, Any]:
    """Return hardware (processor, cores, system) and versions (Python and the named packages)."""
    return {
        "hardware": {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def write(name: str, report: dict[str, Any]) -> Path:
    """Write a report to `benchmarks/results/<name>.json` and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    return path

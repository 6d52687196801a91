"""What the benchmarks share: command line, what a report says of its origin, comparison with stored figures.

Neither host names nor paths are in a report.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
RECIPES = Path(__file__).parents[1] / "recipes"
CPU_INFO = Path("/proc/cpuinfo")
TOLERANCE = 0.2


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
    """Return the command, hardware (processor, cores, system) and versions (Python, the named packages)."""
    script, *given = (Path(argument).name for argument in sys.argv)
    return {
        "command": " ".join(["python", f"benchmarks/{script}", *given]),
        "hardware": {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def write(name: str, report: dict[str, Any]) -> Path:
    """Write a report to `benchmarks/results/<name>.json` and return its path."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    return path


def check(
    name: str,
    results: dict[str, Any],
    figures: Callable[[dict[str, Any]], Mapping[str, float]],
    *,
    more: Iterable[str] = (),
    less: Iterable[str] = (),
    limits: Mapping[str, float] | None = None,
) -> None:
    """Leave with status 1 and the figures' names if some are worse than they should be.

    Args:
        name: of the stored report.
        results: found now.
        figures: finds name → value in results, stored ones and those found now.
        more: figures that may not be over a fifth below the stored ones.
        less: those that may not be over a fifth above.
        limits: those that have a largest value, whatever is stored.
    """
    stored = figures(json.loads((RESULTS / f"{name}.json").read_text())["results"])
    found = figures(results)
    worse = [f for f in more if not found[f] >= (1 - TOLERANCE) * stored[f]]  # a NaN is worse, too
    worse += [f for f in less if not found[f] <= (1 + TOLERANCE) * stored[f]]
    lines = [f"{f}: {found[f]:.3g}, stored {stored[f]:.3g}" for f in worse]
    over = {f: limit for f, limit in (limits or {}).items() if not found[f] <= limit}
    lines += [f"{f}: {found[f]:.3g}, at most {limit:.3g}" for f, limit in over.items()]
    if lines:
        raise SystemExit("worse than it should be:\n" + "\n".join(lines))

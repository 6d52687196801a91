"""`vqathinker doctor`: what is installed, what works here, what would fail and the way out."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

FAILED = 1
MARKS = {"ok": "ok  ", "note": "note", "fails": "FAIL"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Every finding as JSON.")] = False,
) -> None:
    """Check versions, GPU, codecs, vLLM, caches, disk and memory; nothing is changed, no network is used.

    Exit code 0: what is needed works. 1: something needed fails.
    """
    from vqathinker.cli.checkup import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            typer.echo(f"{MARKS[finding.state]}  {finding.name}: {finding.value}")
            if finding.way_out:
                typer.echo(f"      {finding.way_out}")
    failed = [finding.name for finding in findings if finding.state == "fails"]
    if as_json:
        content = {"works": not failed, "findings": [asdict(finding) for finding in findings]}
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        typer.echo(f"needed and failing: {', '.join(failed)}" if failed else "everything needed works")
    raise typer.Exit(FAILED if failed else 0)

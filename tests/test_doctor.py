"""`vqathinker doctor`: what works is said to work, what does not has a reason and ends with code 1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vqathinker import __version__
from vqathinker.cli import app
from vqathinker.cli.codecs import NUM_FRAMES, brightness, codecs, try_decord, try_pyav, write_clip


def doctor(path: Path | None = None) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code and findings by name, with a folder in front of all packages."""
    environment = {**os.environ, "PYTHONPATH": f"{path}:{os.environ.get('PYTHONPATH', '')}"}
    command = [sys.executable, "-m", "vqathinker.cli", "doctor", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    content = json.loads(run.stdout)
    assert content["works"] is (run.returncode == 0)
    return run.returncode, {finding["name"]: finding for finding in content["findings"]}


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"vqathinker {__version__}\n")


def test_both_decoders_are_tried_on_every_codec() -> None:
    findings = {finding.name: finding for finding in codecs()}
    assert list(findings) == ["H.264", "HEVC", "VP9", "AV1"]
    assert findings["H.264"].value == "read by PyAV and decord"
    # decord 0.6 brings an FFmpeg without AV1
    assert findings["AV1"].value == "read by PyAV, in order and slower; not by decord"
    assert all(finding.state == "ok" for finding in findings.values())


def test_wrong_frames_are_no_success(tmp_path: Path) -> None:
    path = str(tmp_path / "clip.mp4")
    write_clip(path, "libx264")
    assert (try_pyav(path), try_decord(path)) == (None, None)
    import av

    with av.open(path) as container:
        means = [frame.to_ndarray(format="gray").mean() for frame in container.decode(video=0)]
    assert np.diff(means) == pytest.approx([50] * (NUM_FRAMES - 1), abs=12)
    assert brightness(1) - brightness(0) == 50
    other = tmp_path / "other.mp4"
    with av.open(str(other), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(NUM_FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    for attempt in (try_pyav, try_decord):
        fault = attempt(str(other))
        assert fault is not None
        assert "not [40, 90, 140, 190]" in fault


def test_what_cannot_be_imported_fails(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    code, findings = doctor(tmp_path)
    assert code == 1
    fault = findings["importing torch and its neighbours"]
    assert fault["state"] == "fails"
    assert fault["value"] == "RuntimeError: operator torchvision::nms does not exist"
    assert "constraints.txt" in fault["way_out"]
    assert findings["Python"]["state"] == "ok"
    assert "GiB free" in findings["disk, current folder"]["value"]


def test_versions_are_compared_with_what_the_package_names(tmp_path: Path) -> None:
    """A package of this name whose metadata ask for versions that are not there."""
    metadata = tmp_path / "vqathinker-0.1.0.dist-info"
    metadata.mkdir()
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('not needed here')")
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: vqathinker\nVersion: 0.1.0\n"
        "Requires-Dist: numpy>=2\nRequires-Dist: scipy>=99\nRequires-Dist: no-such-package-here>=1\n"
        "Requires-Dist: pytest>=99; extra == 'vllm'\nRequires-Dist: ruff>=99; extra == 'dev'\n"
    )
    code, findings = doctor(tmp_path)
    assert code == 1
    assert findings["numpy"]["state"] == "ok"
    assert findings["scipy"]["value"].endswith(", needed is >=99")
    assert findings["scipy"]["way_out"] == "pip install 'scipy>=99'"
    assert findings["no-such-package-here"]["value"] == "not installed"
    assert (findings["pytest"]["state"], findings["pytest"]["way_out"]) == (
        "note",
        "pip install 'vqathinker[vllm]'",
    )
    assert "ruff" not in findings


@pytest.mark.slow
def test_here_everything_needed_works() -> None:
    code, findings = doctor()
    assert code == 0, [finding for finding in findings.values() if finding["state"] == "fails"]
    assert findings["motion features (VQATHINKER_CACHE)"]["value"].startswith(os.environ["VQATHINKER_CACHE"])

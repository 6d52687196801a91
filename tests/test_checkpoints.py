"""Folders and names on the hub. The hub is a small one of our own, over HTTP."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from vqathinker.checkpoints.assemble import load_policy
from vqathinker.checkpoints.folders import checkpoint_file, checkpoint_folder, is_hub_file

COMMIT = "0" * 39 + "1"
NAME = "someone/tiny-policy"


class Hub(BaseHTTPRequestHandler):
    """Serves one model: its list of files, and the files."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.folder = folder
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.path.startswith(f"/api/models/{NAME}/revision/main"):
            files = [{"rfilename": path.name} for path in self.folder.iterdir()]
            return self.answer(200, json.dumps({"id": NAME, "sha": COMMIT, "siblings": files}).encode())
        if self.path.startswith(f"/api/models/{NAME}/tree/{COMMIT}"):
            entries = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": path.name}
                for path in self.folder.iterdir()
            ]
            return self.answer(200, json.dumps(entries).encode())
        if self.path.startswith("/api/models/someone/gated"):
            return self.answer(403, b"", **{"X-Error-Code": "GatedRepo"})
        file = self.folder / self.path.rpartition("/")[2].replace(".pyth", ".safetensors")
        places = tuple(f"/{NAME}/resolve/{revision}/" for revision in (COMMIT, "main"))
        if not self.path.startswith(places) or not file.is_file():
            return self.answer(404, b"", **{"X-Error-Code": "RepoNotFound"})
        body = file.read_bytes()
        return self.answer(200, body, ETag=hashlib.sha256(body).hexdigest(), **{"X-Repo-Commit": COMMIT})

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub that has `NAME`; the folder of its cache here."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, tiny_checkpoint))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    files = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "cache"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_name_on_the_hub_is_fetched(hub: Path, tiny_checkpoint: Path) -> None:
    folder = checkpoint_folder(NAME)
    assert folder.is_relative_to(hub)
    for path in tiny_checkpoint.iterdir():
        assert (folder / path.name).read_bytes() == path.read_bytes()
    model, processor = load_policy(NAME)
    assert model.config.motion == processor.motion == "slowfast"


def test_a_folder_of_that_name_wins(hub: Path, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir(parents=True)
    assert checkpoint_folder(NAME) == Path(NAME)
    assert not hub.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("someone/else", r"not a directory here, and the Hugging Face hub has no model of that name"),
        ("someone/gated", r"hub gives it only to those who accepted its terms"),
        ("missing", r"missing is not a directory; give a checkpoint's folder, or its owner/name"),
        ("./someone/else", r"is not a directory; give"),
        ("file/weights", r"is a file, not a directory"),
    ],
)
def test_what_is_nowhere_is_told(hub: Path, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").mkdir()
    (tmp_path / "file" / "weights").touch()
    with pytest.raises(ValueError, match=message):
        checkpoint_folder(name)


def test_without_a_network_the_cache_counts(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint_folder(NAME)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert checkpoint_folder(NAME) == folder
    with pytest.raises(ValueError, match="cannot be reached; fetch it where there is a network"):
        checkpoint_folder("someone/else")


def test_a_file_on_the_hub_is_fetched(hub: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    (own,) = tiny_checkpoint.glob("*.safetensors")
    found = checkpoint_file(f"{NAME}/model.pyth")
    assert found.is_relative_to(hub)
    assert found.read_bytes() == own.read_bytes()
    assert is_hub_file(f"{NAME}/model.pyth")
    assert not is_hub_file("my/weights/of/mine")
    with pytest.raises(ValueError, match=r"x\.pyth is not a file here, and .* hub has no model"):
        checkpoint_file("someone/else/x.pyth")
    (tmp_path / NAME).mkdir(parents=True)
    (tmp_path / NAME / "model.pyth").touch()
    assert checkpoint_file(f"{NAME}/model.pyth") == Path(NAME, "model.pyth")
    assert not is_hub_file(f"{NAME}/other.pyth")  # a mistyped name beside it


def test_no_torch_is_loaded() -> None:
    program = (
        "import sys; from vqathinker.checkpoints.folders import checkpoint_folder; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

"""Servers as processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest


@dataclass(frozen=True)
class Server:
    """One that runs."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_up(self) -> None:
        """However loaded the machine is; one that has ended is not waited for."""
        while self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health", timeout=10, trust_env=False).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.5)
        pytest.fail(f"the server has ended: {self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def start(command: Sequence[str], folder: Path) -> Server:
    """Start a server on a free port and wait for it; what it says goes to a file of the folder."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    log = folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"},
        )
    started = Server(f"http://localhost:{port}", process, log)
    started.wait_until_up()
    return started

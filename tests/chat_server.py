"""A server of the OpenAI protocol that answers by a function, and misbehaves as told."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Answer = Callable[[str], str]
REFUSALS = ("429", "500", "400")
SILENCE = 3.0  # seconds without an answer


class ChatServer:
    """Serves on a free port of this machine.

    Args:
        answer: from the text of a question to that of the answer.
        fault: from the text of a question, and how often it was asked before, to a fault: "429", "500",
            "400", "garbage", "half", "empty", "silence"; None for an answer.

    Attributes:
        root: what the name "judge" stands for.
        answered: how often each question got its answer.
        asked: how often each came.
        seen: the bodies of all requests.
        most_at_once: requests that were open at the same time.
        num_lists: how often the list of models was asked for.
    """

    def __init__(self, answer: Answer, fault: Callable[[str, int], str | None] | None = None) -> None:
        self.root = "models/first"
        self.num_lists = 0
        self.answer = answer
        self.fault = fault or (lambda text, times: None)
        self.answered: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.seen: list[dict[str, Any]] = []
        self.most_at_once = 0
        self._open = 0
        self._lock = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                owner.serve(self)

            def do_GET(self) -> None:
                """The list of models, as vLLM's."""
                owner.num_lists += 1
                model = {"id": "judge", "object": "model", "created": 0, "owned_by": "us", "root": owner.root}
                body = json.dumps({"object": "list", "data": [model]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                """Nothing is said."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        text = text_of(body)
        with self._lock:
            self.seen.append(body)
            times = self.asked[text]
            self.asked[text] += 1
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)
        fault = self.fault(text, times)
        try:
            reply = None if fault in REFUSALS else self._reply(text, fault)
        finally:
            with self._lock:  # before the client knows that it may ask again
                self._open -= 1
        with suppress(BrokenPipeError, ConnectionResetError):  # the client did not wait
            self._send(request, text, fault, reply)

    def _reply(self, text: str, fault: str | None) -> bytes | None:
        """The body of an answer; nothing for silence."""
        if fault == "silence":
            time.sleep(SILENCE)
            return None
        return json.dumps(completion(self.answer(text))).encode()

    def _send(
        self, request: BaseHTTPRequestHandler, text: str, fault: str | None, reply: bytes | None
    ) -> None:
        if fault in REFUSALS:
            send(request, int(fault), json.dumps({"error": {"message": f"fault {fault}"}}).encode())
        elif reply is None:
            return
        elif fault == "garbage":
            send(request, 200, b"<html>no JSON</html>")
        elif fault == "empty":
            send(request, 200, b'{"choices": []}')
        elif fault == "half":
            send(request, 200, reply[: len(reply) // 2], length=len(reply))
        else:
            send(request, 200, reply)
            with self._lock:
                self.answered[text] += 1


def text_of(body: dict[str, Any]) -> str:
    """The words of the last turn."""
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return next(part["text"] for part in content if part["type"] == "text")


def completion(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "0",
        "object": "chat.completion",
        "created": 0,
        "model": "test",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }


def send(request: BaseHTTPRequestHandler, status: int, body: bytes, length: int | None = None) -> None:
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body) if length is None else length))
    if status == 429:
        request.send_header("Retry-After", "0")
    request.end_headers()
    request.wfile.write(body)
    request.wfile.flush()
    if length is not None:
        request.connection.close()

"""The client of language models: any server of the OpenAI protocol, a cloud's or `vllm serve` beside.

Builders of training data, judges and rewards ask through it. Every answer goes to a journal by what was asked
of whom, so that a killed run asks nothing twice.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqathinker.journal import Lines, read_lines
from vqathinker.types import RunStopped

if TYPE_CHECKING:
    from openai import OpenAI

JOURNAL_FILES = "answers-*.jsonl"
MALFORMED_TRIES = 3  # of a reply that is none: not JSON, or without a text
NO_KEY = "none"  # servers of one's own ask for none, the client does


class ChatError(Exception):
    """A question that was not answered, whatever the cause."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        text: the user's turn.
        images: JPEG or PNG files, shown before the text.
        system: the system's turn, none if empty.
        schema: JSON schema that the answer keeps to, where the server can make it.
        round: of questions that are asked several times, which time.
    """

    text: str
    images: tuple[bytes, ...] = ()
    system: str = ""
    schema: Mapping[str, Any] | None = None
    round: int = 0

    def messages(self) -> list[dict[str, Any]]:
        """As the protocol takes it."""
        turns: list[dict[str, Any]] = []
        if self.system:
            turns.append({"role": "system", "content": self.system})
        content: Any = self.text
        if self.images:
            shown = [{"type": "image_url", "image_url": {"url": _data_url(image)}} for image in self.images]
            content = [*shown, {"type": "text", "text": self.text}]
        return [*turns, {"role": "user", "content": content}]


class ChatClient:
    """Asks one model; safe in threads.

    Args:
        model: its name at the server.
        url: of the server, up to `/v1`; the variable OPENAI_BASE_URL, or OpenAI's, if omitted.
        key_variable: environment variable with the key; servers of one's own need none.
        concurrency: questions that wait for an answer at the same time.
        retries: after refusals (429), faults of the server, broken connections and silence, with back-off.
        time_limit: seconds to wait for an answer.
        max_tokens: longest answer.
        temperature: 0 for the likeliest answer.
        journal: folder of the answers; none are kept if omitted.

    Raises:
        ImportError: if the package `openai` is not installed.
        ValueError: if a line of the journal is damaged.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        key_variable: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        retries: int = 5,
        time_limit: float = 60.0,
        max_tokens: int = 512,
        temperature: float = 0.0,
        journal: str | os.PathLike[str] | None = None,
    ) -> None:
        self.model = model
        self.concurrency = concurrency
        self.max_tokens = max_tokens
        self.temperature = temperature
        self.counts: Counter[str] = Counter()
        self._server = _connect(url, key_variable, retries, time_limit)
        self._takes_schemas = True
        self._free = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()
        self._waiting: dict[str, Future[str]] = {}
        self._known: dict[str, str] = {}
        self._folder = None if journal is None else Path(journal)
        self._lines: Lines | None = None  # of the journal, when there is something to write
        self.served_model: str | None = None  # what the server said that the name stands for
        self._is_known = False  # whether the server was asked that
        self._kept_of: set[str] = set()  # models whose answers the journal has, as `served` names them
        if self._folder is not None:
            for path in sorted(self._folder.glob(JOURNAL_FILES)):
                entries = [entry for entry in read_lines(path) if entry["model"] == self.model]
                self._known |= {entry["key"]: entry["answer"] for entry in entries}
                self._kept_of |= {entry["served"] for entry in entries if entry.get("served")}

    def ask(self, question: Question) -> str:
        """The answer to a question; one that was answered before is not asked again.

        Raises:
            ChatError: if the server gives none.
            RunStopped: as `require_same_model`.
        """
        key = self._key(question)
        own: Future[str] = Future()
        with self._lock:
            if key in self._known:
                self.counts["kept"] += 1
                return self._known[key]
            # whoever asks the same meanwhile waits for the first one's answer
            future = self._waiting.setdefault(key, own)
        if future is own:
            self._answer(key, question, future)
        return future.result()

    def ask_json(self, question: Question) -> dict[str, Any]:
        """As `ask`, for an answer that is a JSON object.

        Raises:
            ChatError: if the server gives no answer.
            ValueError: if the answer is none.
        """
        return parse_object(self.ask(question))

    def ask_all(self, questions: Sequence[Question]) -> list[str | ChatError]:
        """The answers to N questions, several at a time; an error for each that got none."""

        def attempt(question: Question) -> str | ChatError:
            try:
                return self.ask(question)
            except ChatError as error:
                return error

        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="chat") as pool:
            return list(pool.map(attempt, questions))

    def served(self) -> str | None:
        """What the server says that this name stands for, as vLLM does; None where it does not say.

        Raises:
            ChatError: if the server does not answer.
        """
        import openai

        try:
            models = self._server.with_options(max_retries=0).models.list()
        except (openai.APIConnectionError, openai.APITimeoutError) as error:
            raise ChatError(f"{self.model}: {_reason(error)}") from error
        except (openai.OpenAIError, ValueError, AttributeError):  # it has no such list
            return None
        roots = [getattr(one, "root", None) for one in models.data or () if one.id == self.model]
        return next((str(root) for root in roots if root), None)

    def require_same_model(self) -> None:
        """Refuse a server where the name stands for another model than that of the answers which are kept.

        Raises:
            ChatError: if the server does not answer.
            RunStopped: if it is another one.
        """
        served = self.served()
        others = self._kept_of - {served}
        if served is not None and others:
            raise RunStopped(
                f"{self.model}: {served} is served there, and the answers in {self._folder} are of "
                f"{others.pop()}; choose another folder for them, or another name at the server"
            )
        self.served_model = served
        self._is_known = True

    def close(self) -> None:
        """Let another process write the journal."""
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def _answer(self, key: str, question: Question, future: Future[str]) -> None:
        """Ask the server; whoever waits for the same answer gets it too."""
        try:
            with self._free:
                if self._folder is not None and not self._is_known:
                    with suppress(ChatError):  # the question itself is tried again, and tells why
                        self.require_same_model()
                answer = self._request(question)
            with self._lock:
                self._known[key] = answer
                self.counts["asked"] += 1
                self._keep({"key": key, "round": question.round, "question": question.text, "answer": answer})
        except BaseException as error:  # also an interrupt: others wait for this answer
            self.counts["failed"] += 1
            future.set_exception(error)
            raise
        else:
            future.set_result(answer)
        finally:
            with self._lock:
                del self._waiting[key]

    def _keep(self, entry: dict[str, Any]) -> None:
        """Write an answer into the journal, if there is one."""
        if self._folder is None:
            return
        if self._lines is None:
            self._lines = _own_lines(self._folder)
        self._lines.append({"model": self.model, "served": self.served_model, **entry})

    def _request(self, question: Question) -> str:
        """One question to the server.

        Raises:
            ChatError: if it gives no answer.
        """
        import openai

        has_schema = bool(question.schema) and self._takes_schemas
        for _ in range(MALFORMED_TRIES):
            try:
                reply: Any = self._server.chat.completions.create(**self._arguments(question, has_schema))
                text = reply.choices[0].message.content
            except openai.BadRequestError as error:
                if not has_schema:
                    raise ChatError(f"{self.model}: {_reason(error)}") from error
                # it may be the schema that is refused; the prompt asks for JSON too
                answer = self._request(replace(question, schema=None))
                self._takes_schemas = False
                return answer
            except openai.OpenAIError as error:
                raise ChatError(f"{self.model}: {_reason(error)}") from error
            except (ValueError, AttributeError, IndexError, TypeError):
                continue  # a body that is no JSON, or none of a reply
            if isinstance(text, str):
                return text
        raise ChatError(f"{self.model}: {MALFORMED_TRIES} replies were none of the protocol's")

    def _arguments(self, question: Question, has_schema: bool) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self.model,
            "messages": question.messages(),
            "temperature": self.temperature,
            "max_completion_tokens": self.max_tokens,
            "seed": question.round,
        }
        if has_schema:
            form = {"name": "answer", "schema": question.schema, "strict": True}
            arguments["response_format"] = {"type": "json_schema", "json_schema": form}
        return arguments

    def _key(self, question: Question) -> str:
        """What an answer is known by: all that shapes it."""
        images = [hashlib.sha256(image).hexdigest() for image in question.images]
        parts = [self.model, self.temperature, self.max_tokens, question.system, question.text, images]
        known_by = json.dumps([*parts, question.schema, question.round], sort_keys=True)
        return hashlib.sha256(known_by.encode()).hexdigest()


def folder_of(model: str, url: str | None) -> str:
    """The name of the folder that keeps the answers of a model at an address.

    >>> folder_of("judge", "http://localhost:8000/v1"), folder_of("gpt-5", None)
    ('judge-http-localhost-8000-v1', 'gpt-5')
    """
    return re.sub(r"[^\w.]+", "-", f"{model}@{url or ''}").strip("-")


def parse_object(text: str) -> dict[str, Any]:
    """The JSON object in an answer, whatever words or fence stand around it.

    Raises:
        ValueError: if there is none.

    >>> parse_object('Sure: {"score": 2}.')
    {'score': 2}
    """
    start = text.find("{")
    if start < 0:
        raise ValueError("the answer holds no JSON object")
    try:
        # vLLM's structured output has line breaks and the like inside of strings as they are
        value, _ = json.JSONDecoder(strict=False).raw_decode(text[start:])
    except ValueError as error:
        raise ValueError(f"the answer holds no whole JSON object ({error})") from error
    assert isinstance(value, dict)
    return value


def _connect(url: str | None, key_variable: str, retries: int, time_limit: float) -> OpenAI:
    try:
        import openai
    except ModuleNotFoundError as error:
        raise ImportError(
            "language models are asked through the package openai: pip install openai"
        ) from error
    key = os.environ.get(key_variable, NO_KEY)
    return openai.OpenAI(base_url=url, api_key=key, max_retries=retries, timeout=time_limit)


def _own_lines(folder: Path) -> Lines:
    """The first file of a folder that no other process writes."""
    number = 0
    while True:
        try:
            return Lines(folder / JOURNAL_FILES.replace("*", str(number)))
        except ValueError:  # another process has it
            number += 1


def _reason(error: Exception) -> str:
    """What went wrong, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _data_url(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"

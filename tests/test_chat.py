"""Every question gets its answer once, whatever the server does meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatServer
from conftest import rounds

from vqathinker.chat import ChatClient, ChatError, Question, parse_object
from vqathinker.journal import read_lines
from vqathinker.types import RunStopped

FAULTS = ("429", "500", "garbage", "half", "empty", "silence", None)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package waits half a second before it tries again."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    return None


def client(server: ChatServer, **options: Any) -> ChatClient:
    return ChatClient("tiny", url=server.url, **{"time_limit": 5.0, **options})


def upper(text: str) -> str:
    return text.upper()


def test_an_answer_and_what_was_asked(tmp_path: Path) -> None:
    with ChatServer(upper) as server:
        asked = client(server, journal=tmp_path, max_tokens=7)
        question = Question("is it sharp?", (b"\x89PNGone", b"two"), "You judge.", round=2)
        assert asked.ask(question) == "IS IT SHARP?"
    (body,) = server.seen
    system, user = body["messages"]
    assert system == {"role": "system", "content": "You judge."}
    urls = [part["image_url"]["url"] for part in user["content"][:-1]]
    assert urls == ["data:image/png;base64,iVBOR29uZQ==", "data:image/jpeg;base64,dHdv"]
    assert (body["model"], body["max_completion_tokens"], body["seed"]) == ("tiny", 7, 2)
    (entry,) = read_lines(tmp_path / "answers-0.jsonl")
    assert (entry["question"], entry["answer"], entry["round"]) == ("is it sharp?", "IS IT SHARP?", 2)


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    with ChatServer(upper) as server:
        for _ in range(2):
            asked = client(server, journal=tmp_path)
            assert asked.ask_all([Question(text) for text in "abab"]) == ["A", "B", "A", "B"]
            asked.close()
    assert server.answered == {"a": 1, "b": 1}
    assert asked.counts == {"kept": 4}


def test_another_model_by_the_same_name_is_not_taken_for_the_first(tmp_path: Path) -> None:
    with ChatServer(upper) as server:
        for text in ("a", "b"):
            with closing(ChatClient("judge", url=server.url, journal=tmp_path)) as asked:
                assert asked.ask(Question(text)) == text.upper()
        server.root = "models/second"
        asked = ChatClient("judge", url=server.url, journal=tmp_path)
        assert asked.ask(Question("a")) == "A"  # nobody is asked
        with pytest.raises(RunStopped, match=r"judge: models/second is served there, .* are of models/first"):
            asked.ask(Question("c"))
        with pytest.raises(RunStopped):
            asked.ask_all([Question("c"), Question("d")])
        other = ChatClient("judge", url=server.url, journal=tmp_path / "other")
        assert other.ask(Question("c")) == "C"


def test_a_server_is_asked_once_what_it_serves(tmp_path: Path) -> None:
    """Also one that does not say."""
    with ChatServer(upper) as server:
        for name in ("tiny", "judge"):  # which it knows nothing of, and which it knows
            before = server.num_lists
            asked = ChatClient(name, url=server.url, journal=tmp_path / name)
            for text in "abcd":
                asked.ask(Question(text))
            assert server.num_lists == before + 1
            ChatClient(name, url=server.url).ask(Question("a"))  # without a journal nobody needs to know
            assert server.num_lists == before + 1


def test_anything_that_shapes_an_answer_makes_another_question(tmp_path: Path) -> None:
    with ChatServer(upper) as server:
        asked = client(server, journal=tmp_path)
        schema = {"type": "object"}
        for question in (
            Question("a"), Question("a", round=1), Question("a", (b"x",)), Question("a", (b"y",)),
            Question("a", system="s"), Question("a", schema=schema),
        ):  # fmt: skip
            asked.ask(question)
        client(server, journal=tmp_path, temperature=0.7).ask(Question("a"))
    assert server.answered == {"a": 7}


def test_one_question_asked_by_many_threads_is_asked_once() -> None:
    def slowly(text: str) -> str:
        time.sleep(0.2)
        return text

    with ChatServer(slowly) as server:
        assert client(server).ask_all([Question("a")] * 20) == ["a"] * 20
    assert server.answered == {"a": 1}


def test_no_more_at_a_time_than_told() -> None:
    def slowly(text: str) -> str:
        time.sleep(0.05)
        return text

    with ChatServer(slowly) as server:
        client(server, concurrency=3).ask_all([Question(str(number)) for number in range(20)])
    assert server.most_at_once == 3


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault])
def test_a_passing_fault_costs_nothing(fault: str) -> None:
    with ChatServer(upper, lambda text, times: fault if times == 0 else None) as server:
        asked = client(server, time_limit=0.5)
        assert asked.ask(Question("a")) == "A"
    assert server.answered == {"a": 1}
    assert asked.counts == {"asked": 1}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("429", "fault 429"), ("500", "fault 500"), ("400", "fault 400"), ("garbage", "none of the protocol"),
        ("empty", "none of the protocol"), ("half", "onnection"), ("silence", "timed out"),
    ],
)  # fmt: skip
def test_a_lasting_fault_is_that_questions_alone(fault: str, words: str) -> None:
    with ChatServer(upper, lambda text, times: fault if text == "bad" else None) as server:
        asked = client(server, retries=1, time_limit=0.3)
        good, bad = asked.ask_all([Question("good"), Question("bad")])
    assert good == "GOOD"
    assert isinstance(bad, ChatError)
    assert words in str(bad)
    assert asked.counts == {"asked": 1, "failed": 1}


def test_many_faults_lose_and_double_nothing(tmp_path: Path) -> None:
    faults = cycle(FAULTS)
    with ChatServer(upper, lambda text, times: next(faults) if times < 2 else None) as server:
        asked = client(server, journal=tmp_path, time_limit=0.5)
        texts = [f"question {number}" for number in range(rounds(40, 400))]
        answers = asked.ask_all([Question(text) for text in texts])
    assert answers == [text.upper() for text in texts]
    assert set(server.answered.values()) == {1}
    kept = read_lines(tmp_path / "answers-0.jsonl")
    assert sorted(entry["question"] for entry in kept) == sorted(texts)


def test_a_server_that_is_not_there_is_named() -> None:
    with ChatServer(upper) as server:
        url = server.url
    with pytest.raises(ChatError, match="tiny: Connection error"):
        ChatClient("tiny", url=url, retries=0).ask(Question("a"))


def test_a_server_without_structured_output_is_asked_without() -> None:
    with ChatServer(lambda text: 'Here: {"score": 2}', lambda text, times: None) as server:
        server.fault = lambda text, times: "400" if "response_format" in server.seen[-1] else None
        asked = client(server)
        question = Question("a", schema={"type": "object"})
        assert asked.ask_json(question) == {"score": 2}
        assert asked.ask_json(Question("b", schema={"type": "object"})) == {"score": 2}
    assert server.asked == {"a": 2, "b": 1}


def test_two_processes_share_a_journal(tmp_path: Path) -> None:
    with ChatServer(upper) as server:
        one = client(server, journal=tmp_path)
        other = client(server, journal=tmp_path)
        one.ask(Question("a"))
        other.ask(Question("b"))
        assert client(server, journal=tmp_path).ask_all([Question("a"), Question("b")]) == ["A", "B"]
    assert server.answered == {"a": 1, "b": 1}


PROGRAM = """
import sys
from vqathinker.chat import ChatClient, Question
client = ChatClient("tiny", url=sys.argv[1], journal=sys.argv[2], concurrency=4)
client.ask_all([Question(f"question {number}") for number in range(60)])
"""


def test_kills_double_no_answered_question(tmp_path: Path) -> None:
    """An answer that came just before the kill is lost with it; what is in the journal is not asked again."""

    def slowly(text: str) -> str:
        time.sleep(0.02)
        return text.upper()

    command = [sys.executable, "-c", PROGRAM]
    with ChatServer(slowly) as server:
        for _ in range(rounds(3, 20)):
            number = server.answered.total()
            process = subprocess.Popen([*command, server.url, str(tmp_path)])
            while server.answered.total() < number + 8:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        before = {entry["question"]: server.asked[entry["question"]] for entry in _all_lines(tmp_path)}
        subprocess.run([*command, server.url, str(tmp_path)], check=True, timeout=60)
        assert before
        assert {text: server.asked[text] for text in before} == before
    assert len({entry["key"] for entry in _all_lines(tmp_path)}) == 60


def _all_lines(folder: Path) -> list[dict[str, Any]]:
    return [entry for path in folder.glob("*.jsonl") for entry in read_lines(path)]


@pytest.mark.parametrize(
    ("text", "words"), [("no", "no JSON object"), ('{"a": 1', "no whole"), ("[1]", "no JSON object")]
)
def test_an_answer_that_is_no_object(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_object(text)


def test_an_object_with_line_breaks_in_its_strings() -> None:
    assert parse_object('{"reason": "one\ntwo\tthree"}') == {"reason": "one\ntwo\tthree"}


def test_an_object_in_a_fence() -> None:
    said = {"question": "Is {it} sharp?", "answer": "no"}
    assert parse_object(f"```json\n{json.dumps(said)}\n```") == said


def test_questions_at_once_to_a_server_without_structured_output_all_get_answers() -> None:
    def slowly(text: str) -> str:
        time.sleep(0.05)
        return '{"score": 1}'

    with ChatServer(slowly) as server:
        server.fault = lambda text, times: "400" if times == 0 else None
        asked = client(server, concurrency=4)
        found = asked.ask_all([Question(f"{n}", schema={"type": "object"}) for n in range(4)])
    assert found == ['{"score": 1}'] * 4


def test_a_question_that_is_refused_does_not_cost_others_their_structure() -> None:
    with ChatServer(lambda text: "{}", lambda text, times: "400" if text == "bad" else None) as server:
        asked = client(server)
        schema = {"type": "object"}
        assert isinstance(asked.ask_all([Question("bad", schema=schema)])[0], ChatError)
        asked.ask(Question("good", schema=schema))
    assert "response_format" in server.seen[-1]

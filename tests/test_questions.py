"""Questions about media: put, answered, judged and counted."""

from __future__ import annotations

import csv
import json
import math
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import ChatServer
from conftest import call, rounds
from filelock import FileLock
from scipy import stats

from vqathinker.chat import ChatClient
from vqathinker.evaluation import Keeping
from vqathinker.evaluation.question_report import QuestionReport
from vqathinker.evaluation.question_run import QuestionRun
from vqathinker.evaluation.questions import is_closed, is_open, is_right, wording
from vqathinker.grading import Grade, Grader, read_vote
from vqathinker.journal import Lines
from vqathinker.metrics import kappa, mean_of_answers
from vqathinker.published import parse_published
from vqathinker.samples import Media, Sample, write_samples
from vqathinker.scoring import Asked, Scorer
from vqathinker.scoring.sources import cut_batches

# of Q-Bench-Video's dev set, single videos: the letter that is right, by type
QBENCH = {"yes-or-no": {"A": 143, "B": 151}, "what/how": {"A": 84, "B": 76, "C": 88, "D": 80}}
NUM_OPEN = 270
# of FineVD's yes/no questions: Yes and No for each kind, of 5,080
FINEVD = {
    "artifact": (446, 570), "blur": (657, 359), "noise": (277, 739), "color distortion": (269, 747),
    "temporal distortion": (133, 883),
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package waits half a second before it tries again."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    return None


def qbench() -> list[dict[str, Any]]:
    """Rows in the form and the proportions of the published file."""
    rows = []
    for kind, letters in QBENCH.items():
        answers = ["Yes", "No", "", ""] if kind == "yes-or-no" else ["blur", "noise", "darkness", "haze"]
        for letter in chain.from_iterable(repeat(letter, number) for letter, number in letters.items()):
            correct = answers["ABCD".index(letter)]
            rows.append(
                {"answers": answers, "question_type": kind, "correct_choice": letter, "correct_ans": correct}
            )
    answer = ["The light flickers.", "", "", ""]
    rows += [{"answers": answer, "question_type": "open_ended", "correct_choice": "A"}] * NUM_OPEN
    shared = {"question": "What is it like?", "video_type": "Natural", "context": "Global"}
    concern = "CONCERN_Technical_Temporal"
    return [{"video": f"{i}.mp4", **shared, "quality_concern": concern, **row} for i, row in enumerate(rows)]


def finevd() -> list[dict[str, Any]]:
    """Likewise, a conversation each."""
    rows = []
    for kind, (yes, no) in FINEVD.items():
        asked = f"If there is no {kind} in the video, please answer [No]. If there is, please answer [Yes]."
        for answer in [*repeat("Yes", yes), *repeat("No", no)]:
            turns = [{"from": "human", "value": asked}, {"from": "ai", "value": answer}]
            rows.append({"video": f"{len(rows)}.mp4", "conversations": turns})
    return rows


def report_of(samples: list[Sample], text: str) -> QuestionReport:
    """All questions answered alike."""
    return QuestionReport(samples, dict.fromkeys(range(len(samples)), text), {}, {})


def parsed(rows: list[dict[str, Any]]) -> list[Sample]:
    samples = parse_published(json.dumps(rows), dataset="set")
    assert samples is not None
    return samples


def test_always_a_on_q_bench_video() -> None:
    """227 of the 622 closed questions; the first letter of any text would earn as much, and so would A."""
    samples = parsed(qbench())
    assert sum(map(is_closed, samples)) == 622
    assert sum(map(is_open, samples)) == NUM_OPEN
    parts = {(part.name, part.value): part for part in report_of(samples, "A").parts()}
    assert parts["question_type", "yes-or-no"].points.value == pytest.approx(143 / 294)
    assert parts["question_type", "what/how"].points.value == pytest.approx(84 / 328)
    assert parts["", "all"].points.value == pytest.approx(227 / 622)  # open ones wait for a judge
    assert parts["", "all"].chance == pytest.approx((294 / 2 + 328 / 4) / 622)
    assert parts["question_type", "yes-or-no"].majority == "No"
    assert parts["question_type", "yes-or-no"].majority_share == pytest.approx(151 / 294)
    # a row belongs to each concern in its name
    assert parts["quality_concern", "Technical"].num_questions == 622
    assert parts["quality_concern", "Temporal"].num_questions == 622
    for text in ("", "A lot of blur.", "Any", "A or B"):
        (whole, *_) = report_of(samples, text).parts()
        assert (whole.points.value, whole.num_unparsed) == (0.0, 622)


def test_always_no_on_finevd() -> None:
    samples = parsed(finevd())
    (whole, *_) = report_of(samples, "No").parts()
    assert whole.num_questions == 5080
    assert whole.points.value == pytest.approx(3298 / 5080)
    assert (whole.majority, whole.majority_share) == ("No", pytest.approx(3298 / 5080))
    (empty, *_) = report_of(samples, "").parts()
    assert empty.points.value == 0


def test_letters_in_the_text_of_a_question() -> None:
    """FineVD's options, between brackets and behind letters; nothing is listed twice."""
    asked = (
        "Which one? A.Blur B.Artifact C.Noise D.Video quality is good (Just answer the corresponding letter)"
    )
    types = (
        "Which type? {A:[None], B:[gussian noise], C:[over dark], D:[shaking], E:[motion blur]}"
        "Just answer the corresponding letter."
    )
    rows = [
        {
            "video": "0.mp4",
            "conversations": [{"from": "human", "value": text}, {"from": "ai", "value": letter}],
        }
        for text, letter in ((asked, "D"), (types, "E"), ("Rate it.", "C"), ("A. one C. two", "A"))
    ]
    first, second, third, fourth = parsed(rows)
    assert (first.options, first.correct) == (("Blur", "Artifact", "Noise", "Video quality is good"), 3)
    assert second.options == ("None", "gussian noise", "over dark", "shaking", "motion blur")
    assert (second.correct, third.options, fourth.options) == (4, (), ())
    assert wording(first) == asked
    assert is_right(first, "D. Video quality is good")
    assert not is_right(first, "Video quality")


def test_options_are_shown_once() -> None:
    sample = Sample(
        "1", "d", (Media("a.mp4"),), "question", "How is it?", options=("sharp", "soft"), correct=1
    )
    assert wording(sample).splitlines()[:3] == ["How is it?", "A. sharp", "B. soft"]
    listed = Sample("2", "d", sample.media, "question", wording(sample), options=sample.options, correct=1)
    assert wording(listed) == wording(sample)


def test_names_of_distortions() -> None:
    sample = Sample("1", "d", (Media("a.mp4"),), "recognition", "", "mild Gaussian blur")
    assert is_right(sample, "severe Gaussian blur")  # the kind
    assert not is_right(sample, "mild blur")
    assert not is_right(sample, "")


def test_intervals_are_of_media() -> None:
    """Ten answers about each of some media are no ten independent ones."""
    rng = np.random.default_rng(0)
    per_medium = rng.random(60) < 0.5
    media = np.repeat(np.arange(60), 10)
    found = mean_of_answers(np.repeat(per_medium, 10).astype(float), media.tolist(), num_bootstrap=4000)
    low, high = stats.bootstrap(
        (per_medium.astype(float),), np.mean, method="percentile", rng=0
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    assert math.isnan(mean_of_answers([], []).value)


def test_kappa_by_its_table() -> None:
    """Cohen's own example has κ = .492 from three by three shares, here in 200 answers."""
    table = [[88, 10, 2], [14, 40, 6], [18, 10, 12]]
    pairs = [(i, j) for i, row in enumerate(table) for j, number in enumerate(row) for _ in range(number)]
    first, second = zip(*pairs, strict=True)
    assert kappa(first, second) == pytest.approx(0.492, abs=5e-4)
    assert kappa(first, first) == 1.0
    assert math.isnan(kappa([1, 1], [1, 1]))


def words_shared(text: str) -> str:
    """A judge by the number of words that an answer has of its reference."""
    reference, answer = (
        set(line.partition(": ")[2].lower().strip(".").split())
        for line in text.splitlines()
        if line.startswith(("Reference", "Answer"))
    )
    share = len(reference & answer) / len(reference)
    return json.dumps({"score": round(2 * share), "reason": "words"})


def grader(server: ChatServer, **options: Any) -> Grader:
    rounds_each = options.pop("rounds", 5)
    return Grader(ChatClient("judge", url=server.url, **{"time_limit": 5.0, **options}), rounds_each)


def test_grades() -> None:
    with ChatServer(words_shared) as server:
        judge = grader(server)

        def grades(*answers: str) -> list[Grade]:
            return judge.grade_all(("?", "the light flickers", answer) for answer in answers)

        whole, part = grades("The light flickers.", "<think>noise</think><answer>the sky</answer>")
        assert whole == Grade((2, 2, 2, 2, 2))
        assert part.value == 0.5
        asked = len(server.seen)
        empty = grades("", "  ", "<think>The light flickers.</think>", "<answer></answer>")
        assert empty == [Grade((0,))] * 4
        assert len(server.seen) == asked  # nobody is asked about nothing


def test_a_judge_that_fails_costs_its_answer_alone() -> None:
    def fault(text: str, times: int) -> str | None:
        return "silence" if "Answer to grade: slow" in text else None

    def answer(text: str) -> str:
        return "no score" if "Answer to grade: odd" in text else words_shared(text)

    with ChatServer(answer, fault) as server:
        judge = grader(server, time_limit=0.3, retries=1, rounds=2)
        asked = [("?", "good light", text) for text in ("good light", "slow", "odd")]
        good, slow, odd = judge.grade_all(asked)
    assert good == Grade((2, 2))
    assert slow.error is not None
    assert "timed out" in slow.error
    assert odd.error == "no reply holds a score of 0, 1 or 2"
    assert math.isnan(slow.value)


@pytest.fixture(scope="module")
def checkpoint(checkpoints: dict[str, Path]) -> Path:
    return checkpoints["slowfast"]


NAMES = ("00.mp4", "01.mp4", "02.mp4")


def sample(number: int, *names: str, **changes: Any) -> Sample:
    media = tuple(map(Media, names))
    return Sample(str(number), "set", media, "question", f"What is it like, {number}?", **changes)


def questions() -> list[Sample]:
    """Several about each video, in no order, one about two and one that is none."""
    choice = {"options": ("sharp", "soft"), "correct": 0}
    found = [sample(number, name, **choice) for number, name in enumerate(NAMES * 3)]
    found.append(sample(20, *NAMES[:2], **choice))
    found.append(sample(21, NAMES[0], answer="The light flickers."))
    found.append(sample(22, "missing.mp4", **choice))
    found.append(sample(23, NAMES[0]))
    return found


def test_a_medium_is_read_and_encoded_once(
    checkpoint: Path, labelled_videos: Path, encoded: list[int]
) -> None:
    with Scorer.from_pretrained(checkpoint, batch_size=4, max_new_tokens=6) as scorer:
        run = QuestionRun(scorer, questions(), labelled_videos, Keeping())
        assert (len(run.samples), run.num_left_out) == (12, 1)
        together = [reply for replies in run for reply in replies]
        report = run.report()
        # three videos, and two of them in the question about both
        assert len(encoded) == 3 + 2
        assert (len(report.texts), list(report.errors)) == (11, [11])
        assert "no such file" in report.errors[11]
    assert len(together) == 12


def test_the_order_of_two_media_matters(checkpoint: Path, labelled_videos: Path) -> None:
    one, other = (str(labelled_videos / name) for name in NAMES[:2])
    with Scorer.from_pretrained(checkpoint, max_new_tokens=8) as scorer:
        requests: list[Any] = []
        generate = scorer.engine.generate

        def spy(batch: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            requests.extend(batch)
            return generate(batch, *arguments, **options)

        scorer.engine.generate = spy  # type: ignore[method-assign]
        list(
            scorer.interview(
                [
                    Asked((one, other), ("Which?",)),
                    Asked((other, one), ("Which?",)),
                    Asked((one,), ("Which?",)),
                ]
            )
        )
    both, turned, single = requests
    assert both.prompt_ids == turned.prompt_ids
    half = len(single.embeds)
    assert len(both.embeds) == 2 * half
    np.testing.assert_array_equal(both.embeds[:half].numpy(), turned.embeds[half:].numpy())
    # placeholders of frames come before that of the motion, medium by medium
    np.testing.assert_array_equal(both.embeds[:half].numpy(), single.embeds.numpy())


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    write_samples(tmp_path / "set.jsonl", questions())
    return tmp_path / "set.jsonl"


LIMITS = ["--max-new-tokens", "6", "--batch-size", "4", "--workers", "1"]


def test_the_command(checkpoint: Path, labelled_videos: Path, asked: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    human = tmp_path / "human.csv"
    human.write_text("id,grade\n21,0\n")
    with ChatServer(lambda text: '{"score": 1, "reason": "a part"}') as server:
        options = ["--videos", labelled_videos, "--out", out, *LIMITS, "--judge", f"judge@{server.url}"]
        options += ["--human", human, "--price", 2, 10]
        first = call("ask-set", checkpoint, asked, *options)
        assert first.exit_code == 1, first.output  # a file is missing
        num_asked = len(server.seen)
        again = call("ask-set", checkpoint, asked, *options)
        assert len(server.seen) == num_asked == 5
    assert "11 of 12 questions are answered already" in again.stderr
    assert "5 questions about 1 answers" in first.stderr
    assert re.search(r"2,560 out: at most about 0\.03$", first.stderr, re.MULTILINE)
    assert "κ of judge" in first.stdout
    with (out / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert rows[10]["points"] == "0.5"
    assert rows[11]["error"]
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["questions"], summary["unreadable"], summary["ungraded"]) == (12, 1, 0)
    (judge,) = summary["judges"].values()
    assert (judge["rounds"], judge["served"]) == (5, "models/first")
    assert (out / "table.md").read_text().startswith("| questions |")


def test_shards_fit_together(checkpoint: Path, labelled_videos: Path, asked: Path, tmp_path: Path) -> None:
    for shard in (1, 0):
        options = ["--out", tmp_path / "out", *LIMITS, "--num-shards", 2, "--shard", shard]
        result = call("ask-set", checkpoint, asked, "--videos", labelled_videos, *options)
    assert "shard" not in result.stdout
    whole = call(
        "ask-set", checkpoint, asked, "--videos", labelled_videos, "--out", tmp_path / "one", *LIMITS
    )
    assert whole.exit_code == 1
    assert (tmp_path / "out/answers.csv").read_text() == (tmp_path / "one/answers.csv").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"human": "id,mark\n21,1\n"}, "expected the columns id and grade"),
        ({"human": "id,grade\n21,7\n"}, "KeyError('7')"),
        ({"human": "id,grade\nunknown,1\n"}, "expected the columns id and grade"),
        ({"judge": "@http://127.0.0.1:9/v1"}, "expected MODEL or MODEL@URL"),
        ({"judge": "judge@localhost"}, "expected MODEL or MODEL@URL"),
        ({"set": '{"id": "1", "media": "a.mp4", "target": 3}\n'}, "none of 1 samples is a question"),
        ({"set": "nothing"}, "line 1"),
    ],
)
def test_wrong_files(
    change: dict[str, str], message: str, checkpoint: Path, labelled_videos: Path, asked: Path, tmp_path: Path
) -> None:
    options = ["--videos", labelled_videos, *LIMITS]
    if "human" in change:
        (tmp_path / "human.csv").write_text(change["human"])
        options += ["--human", tmp_path / "human.csv", "--judge", "judge@http://127.0.0.1:9/v1"]
    if "judge" in change:
        options += ["--judge", change["judge"]]
    if "set" in change:
        asked.write_text(change["set"])
    result = call("ask-set", checkpoint, asked, *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_judge_without_open_answers(checkpoint: Path, labelled_videos: Path, tmp_path: Path) -> None:
    write_samples(tmp_path / "set.jsonl", questions()[:3])
    with ChatServer(lambda text: '{"score": 1}') as server:
        options = ["--videos", labelled_videos, *LIMITS, "--judge", f"judge@{server.url}"]
        result = call("ask-set", checkpoint, tmp_path / "set.jsonl", *options)
        assert not server.seen
    assert result.exit_code == 0, result.output
    assert "no answer is open, there is nothing to judge" in result.stderr


def set_when_waited_for(event: threading.Event) -> None:
    """Set an event as soon as the command that runs in this process says that it waits, or after a minute."""
    end = time.monotonic() + 60
    said = b""
    while b"waiting for another process" not in said and time.monotonic() < end:
        time.sleep(0.1)
        said = getattr(getattr(sys.stderr, "buffer", None), "getvalue", bytes)()
    event.set()


def test_one_process_judges_at_a_time(
    checkpoint: Path, labelled_videos: Path, asked: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with ChatServer(lambda text: '{"score": 1}') as server:
        options = ["--videos", labelled_videos, "--out", out, *LIMITS]
        call("ask-set", checkpoint, asked, *options)
        held = threading.Event()
        done = threading.Event()

        def judge() -> None:
            with FileLock(out / ".judging.lock"):
                held.set()
                done.wait()

        threading.Thread(target=judge).start()
        held.wait()
        refused = call("ask-set", checkpoint, asked, *options, "--overwrite")
        threading.Thread(target=set_when_waited_for, args=(done,)).start()
        result = call("ask-set", checkpoint, asked, *options, "--judge", f"judge@{server.url}")
        assert len(server.seen) == 5
    assert refused.exit_code == 2
    assert "another process judges the answers in" in refused.stderr
    assert "waiting for another process" in result.stderr
    assert "11 of 12 questions are answered already" in result.stderr


def test_another_model_by_a_judges_name(
    checkpoint: Path, labelled_videos: Path, asked: Path, tmp_path: Path
) -> None:
    with ChatServer(lambda text: '{"score": 1}') as server:
        options = ["--videos", labelled_videos, "--out", tmp_path / "out", *LIMITS]
        options += ["--judge", f"judge@{server.url}"]
        assert call("ask-set", checkpoint, asked, *options).exit_code == 1  # a file is missing
        server.root = "models/second"
        other = call("ask-set", checkpoint, asked, *options)
        assert other.exit_code == 2
        assert "models/second is served there, and the answers in" in other.stderr
        assert call("ask-set", checkpoint, asked, *options, "--overwrite").exit_code == 1


def test_grades_stay_until_the_answers_are_replaced(
    checkpoint: Path, labelled_videos: Path, asked: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with ChatServer(lambda text: '{"score": 1}') as server:
        options = ["--videos", labelled_videos, "--out", out, *LIMITS, "--judge", f"judge@{server.url}"]
        call("ask-set", checkpoint, asked, *options)
        grades = next(out.glob("judges/*/answers-0.jsonl"))
        with Lines(out / "journal-0-of-1.jsonl"):  # another process answers
            refused = call("ask-set", checkpoint, asked, *options, "--overwrite")
        assert refused.exit_code == 2
        assert grades.is_file()
        num_asked = len(server.seen)
        call("ask-set", checkpoint, asked, *options, "--overwrite")
        assert len(server.seen) == 2 * num_asked


def test_a_run_that_goes_on_asks_in_the_same_batches(
    checkpoint: Path, labelled_videos: Path, tmp_path: Path
) -> None:
    with Scorer.from_pretrained(checkpoint, batch_size=6, max_new_tokens=6) as scorer:
        whole = QuestionRun(scorer, questions(), labelled_videos, Keeping()).left
        run = QuestionRun(scorer, questions(), labelled_videos, Keeping(tmp_path))
        with run as replies:
            next(iter(replies))  # of the first medium, whose batch has another one
        again = QuestionRun(scorer, questions(), labelled_videos, Keeping(tmp_path))
        again.__exit__()
        assert again.left == whole
        shards = [
            QuestionRun(scorer, questions(), labelled_videos, Keeping(shard=(number, 2))).left
            for number in range(2)
        ]
    first = cut_batches([len(rows) for rows in whole], 6)[0]
    assert whole[first] == shards[0][first]
    assert sorted(shards[0] + shards[1]) == sorted(whole)


JUDGING = """
import sys
from vqathinker.chat import ChatClient
from vqathinker.evaluation.question_report import QuestionReport
from vqathinker.grading import Grader
from vqathinker.samples import read_samples
samples = read_samples(sys.argv[1])
client = ChatClient("judge", url=sys.argv[2], journal=sys.argv[3], concurrency=4)
report = QuestionReport(samples, dict.fromkeys(range(len(samples)), "The light is good."), {}, {})
for row in report.open_rows:
    report.judge("judge", Grader(client, 3), [row])
report.write(__import__("pathlib").Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_judging_survives_kills(tmp_path: Path) -> None:
    """No question is answered twice, whenever the process is ended."""
    write_samples(
        tmp_path / "set.jsonl", [sample(i, "a.mp4", answer=f"Light {i} is good.") for i in range(120)]
    )
    rng = np.random.default_rng(0)

    def slowly(text: str) -> str:
        time.sleep(0.02)
        return words_shared(text)

    with ChatServer(slowly) as server:
        command = [
            sys.executable,
            "-c",
            JUDGING,
            str(tmp_path / "set.jsonl"),
            server.url,
            str(tmp_path / "out"),
        ]
        kills = 0
        while kills < rounds(6, 60):
            process = subprocess.Popen(command)
            journal = tmp_path / "out/answers-0.jsonl"
            before = journal.stat().st_size if journal.exists() else 0
            while process.poll() is None and (not journal.exists() or journal.stat().st_size == before):
                time.sleep(0.01)
            time.sleep(float(rng.random()) * 0.1)
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        assert kills == rounds(6, 60)
        subprocess.run(command, check=True)
        # an answer that a kill kept from the journal is asked for once more
        assert sum(server.answered.values()) - 3 * 120 <= 4 * kills
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert (summary["ungraded"], summary["questions"]) == (0, 120)
    keys = [json.loads(line)["key"] for line in journal.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 3 * 120


def test_a_file_is_checked_against_its_record(tmp_path: Path) -> None:
    """Q-Bench-Video's dev set has 882 videos for its 892 questions."""
    rows = qbench()
    for number, row in enumerate(rows):
        row["video"] = f"{min(number, 881)}.mp4"
    file = tmp_path / "dev.json"
    file.write_text(json.dumps(rows))
    right = call("datasets", "q-bench-video-dev-single", "--labels", file)
    assert right.exit_code == 0, right.output
    file.write_text(json.dumps(rows[:-1]))
    wrong = call("datasets", "Q-Bench-Video-dev-single", "--labels", file, "--videos", tmp_path)
    assert wrong.exit_code == 1
    assert "891 questions, Q-Bench-Video-dev-single has 892" in wrong.stderr
    assert "'open_ended': 269" in wrong.stderr
    assert "0.mp4: no such file" in wrong.stderr
    assert "and 872 more" in wrong.stderr
    (tmp_path / "yesno.jsonl").write_text("\n".join(map(json.dumps, finevd())))
    odd = call("datasets", "FineVD-test-yes-no", "--labels", tmp_path / "yesno.jsonl")
    assert odd.stderr == "5080 videos, FineVD-test-yes-no has 1016\n"


@pytest.mark.vllm
@pytest.mark.filterwarnings("default")  # vLLM's own imports warn
def test_vllm_answers_as_hugging_face_does(
    checkpoint: Path, labelled_videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also about two videos, and with several questions about one."""
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    found = []
    for engine in ("hf", "vllm"):
        limits = {"max_new_tokens": 8, "batch_size": 4, "num_workers": 1}
        with Scorer.from_pretrained(checkpoint, engine=engine, **limits) as scorer:
            run = QuestionRun(scorer, questions(), labelled_videos, Keeping())
            found.append([reply.text for replies in run for reply in replies])
    assert found[0] == found[1]
    assert len(set(found[0])) > 1


def test_judges_of_one_name_have_their_own_votes(
    checkpoint: Path, labelled_videos: Path, asked: Path, tmp_path: Path
) -> None:
    """Two servers, each with a model that it calls judge: nothing of one counts for the other."""
    out = tmp_path / "out"
    with ChatServer(lambda text: '{"score": 0}') as strict, ChatServer(lambda text: '{"score": 2}') as mild:
        options = ["--videos", labelled_videos, "--out", out, *LIMITS, "--rounds", 2]
        options += ["--judge", f"judge@{strict.url}", "--judge", f"judge@{mild.url}"]
        for _ in range(2):
            call("ask-set", checkpoint, asked, *options)
            with (out / "answers.csv").open(newline="") as file:
                row = list(csv.DictReader(file))[10]
            votes = [value for name, value in row.items() if name.startswith("votes")]
            assert (row["points"], votes) == ("0.5", ["0 0", "2 2"])
        assert len(strict.seen) == len(mild.seen) == 2
        call("ask-set", checkpoint, asked, *options, "--overwrite")
        assert len(strict.seen) == 4  # nothing of before is left


def test_a_judge_that_writes_nonsense_is_asked_again_and_named(
    checkpoint: Path, labelled_videos: Path, asked: Path, tmp_path: Path
) -> None:
    with ChatServer(lambda text: "What a question!") as server:
        options = ["--videos", labelled_videos, "--out", tmp_path / "out", *LIMITS, "--rounds", 2]
        result = call("ask-set", checkpoint, asked, *options, "--judge", f"judge@{server.url}")
        assert len(server.seen) == 4
    assert result.exit_code == 1
    assert "no reply holds a score of 0, 1 or 2" in result.stderr
    assert "1 answers not graded" in result.stderr


def test_a_single_readable_round_is_a_part() -> None:
    """An empty answer has its one grade whole: nobody is asked about it."""
    replies = iter(["no score", "no score", '{"score": 2}', "none", "none"])
    with ChatServer(lambda text: next(replies)) as server:
        report = report_of([sample(1, "a.mp4", answer="light")], "light")
        report.judge("judge", grader(server, rounds=3, concurrency=1), [0])
    assert report.grades["judge"][0] == Grade((2,), num_unread=2)
    assert (report.judging("judge")["graded"], report.judging("judge")["partly graded"]) == (1, 1)
    with ChatServer(words_shared) as server:
        empty = report_of([sample(1, "a.mp4", answer="light")], "")
        empty.judge("judge", grader(server), [0])
    assert empty.judging("judge")["partly graded"] == 0


def test_one_missing_judge_leaves_an_answer_ungraded() -> None:
    samples = [sample(1, "a.mp4", answer="light")]
    report = report_of(samples, "light")
    for name, grade in (("one", Grade((2, 2))), ("other", Grade(error="silence"))):
        report.grades[name] = {0: grade}
        report.judges[name] = {"rounds": 2}
    assert (math.isnan(report.points(0)), report.num_ungraded) == (True, 1)
    assert list(report.agreement()) == []
    assert report.faults("other") == ["silence"]


def test_few_questions_are_counted_one_by_one() -> None:
    """FineVD asks the same five of each video."""
    parts = [part for part in report_of(parsed(finevd()), "No").parts() if part.name == "question"]
    assert [part.num_questions for part in parts] == [1016] * 5
    assert parts[0].points.value == pytest.approx(570 / 1016)


@pytest.mark.parametrize(
    ("question", "answer", "options", "correct"),
    [
        ("Which?\nA. blur\nB. noise\nAnswer with the letter.", "B", ("blur", "noise"), 1),
        ("Is it (A) blur, (B) noise or (C) both?", "C", ("blur", "noise", "both"), 2),
        ("Which?\nA. blur\nB. noise", "B. noise", ("blur", "noise"), 1),
        ("Which?\nA. blur\nB. noise", "(A)", ("blur", "noise"), 0),
        ("Which?\nA. blur\nB. noise", "B. blur", (), None),
    ],
)
def test_options_of_conversations(
    question: str, answer: str, options: tuple[str, ...], correct: int | None
) -> None:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    (found,) = parsed([{"video": "a.mp4", "conversations": turns}])
    assert (found.options, found.correct) == (options, correct)


def test_questions_that_only_seem_to_list_their_options() -> None:
    for question, options in (
        ("Are the eyes noticeable?", ("Yes", "No")),
        ("Are there 12 frames?", ("1", "2")),
    ):
        asked = Sample("1", "d", (Media("a.mp4"),), "question", question, options=options, correct=0)
        assert (wording(asked) or "").splitlines()[1:3] == [f"A. {options[0]}", f"B. {options[1]}"]
    labelled = Sample(
        "1", "d", (Media("a.mp4"),), "question", "Which?", options=("A. blur", "B. fog"), correct=0
    )
    assert (wording(labelled) or "").splitlines()[1] == "A. blur"


@pytest.mark.slow
def test_an_interrupt_keeps_the_answers(checkpoint: Path, labelled_videos: Path, tmp_path: Path) -> None:
    write_samples(tmp_path / "set.jsonl", [sample(i, f"{i:02}.mp4", answer="light") for i in range(12)])
    command = [
        sys.executable,
        "-m",
        "vqathinker.cli",
        "ask-set",
        str(checkpoint),
        str(tmp_path / "set.jsonl"),
    ]
    command += ["--videos", str(labelled_videos), "--out", str(tmp_path / "out"), "--batch-size", "1"]
    process = subprocess.Popen([*command, "--max-new-tokens", "600"], stderr=subprocess.PIPE, text=True)
    journal = tmp_path / "out/journal-0-of-1.jsonl"
    while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "results are in" in said


@pytest.mark.parametrize(
    ("reply", "vote"),
    {
        '{"score": "2"}': 2, "**Score**: 2": 2, "Score is 2": 2, "score = 1": 1, "Score: 1.5": None,
        "score: 0.8": None, "score = 2/10": None, '{"score": true}': None,
        '{"score": 1, "reason": "score: 2 would be too much"}': 1,
        '<think>score: 1?</think>{"score": 2}': 2, '{"score": 7}': None, "2": None, "": None,
    }.items(),
)  # fmt: skip
def test_votes_in_replies(reply: str, vote: int | None) -> None:
    assert read_vote(reply) == vote


def test_a_mistyped_set_of_questions() -> None:
    result = call("datasets", "q bench video dv")
    assert result.exit_code == 2
    assert "did you mean Q-Bench-Video-dev-single?" in result.stderr

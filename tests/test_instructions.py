"""What builders make of what is known: true to it, without leaks, and no letter right too often."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from chat_server import ChatServer
from scipy.stats import chisquare

from vqathinker.chat import ChatClient, ChatError
from vqathinker.distortions import DISTORTIONS
from vqathinker.instructions import BUILDERS, Built
from vqathinker.instructions.chain import chain_text, ratings
from vqathinker.instructions.depiction import split
from vqathinker.instructions.dimensions import DIMENSIONS
from vqathinker.instructions.facts import facts_of
from vqathinker.instructions.judging import Judging
from vqathinker.instructions.leaks import gives_away
from vqathinker.instructions.recognition import MOTION, SPATIAL, vqa2_name
from vqathinker.instructions.stalls import Stalls
from vqathinker.samples import Media, Sample
from vqathinker.seeds import rng_of

VIDEO = Sample("clip", "set", (Media("clip.mp4"),), "medium")


def known(path: str = "clip.mp4", *, target: float | None = None, **columns: Any) -> Sample:
    return Sample("clip", "set", (Media(path),), "medium", target=target, columns=columns)


def build(name: str, sample: Sample, seed: int = 0, **options: Any) -> Built:
    return BUILDERS[name](**options)(sample, rng_of(seed, *sample.key))


def one(name: str, sample: Sample, **options: Any) -> Sample:
    built = build(name, sample, **options)
    assert not built.rejections
    return built.samples[0]


def reasons(built: Built) -> list[str]:
    return [rejection.reason for rejection in built.rejections]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


@pytest.fixture
def asking() -> Iterator[Callable[..., ChatClient]]:
    """A client of a server that answers by a function."""
    servers: list[ChatServer] = []

    def ask(answer: Callable[[str], str], **options: Any) -> ChatClient:
        servers.append(ChatServer(answer).__enter__())
        return ChatClient("tiny", url=servers[-1].url, **options)

    yield ask
    for server in servers:
        server.__exit__(None, None, None)


# --- recognition -----------------------------------------------------------------------------------------


def test_vital_names_severity_and_kind_and_asks_nothing() -> None:
    made = one("recognition", known(distortion="h264", severity="mild"))
    assert (made.question, made.answer, made.task) == ("", "mild H264 compression", "recognition")
    made = one("recognition", known("a_11_03.png", distortion="white_noise", severity="relatively severe"))
    assert made.answer == "relatively severe white noise"


def test_what_cannot_be_seen_is_not_taught() -> None:
    unchanged = known(distortion="gaussian_blur", severity="unnoticeable", level=1)
    assert reasons(build("recognition", unchanged)) == ["the distortion changes nothing"]
    assert reasons(build("understanding", unchanged)) == ["nothing is known of its quality"]


@pytest.mark.parametrize(
    ("kind", "name", "right_too"),
    [
        ("noise", "noise", "noise"),
        ("low contrast", "low contrast", "contrast change"),
        ("white_noise", "white noise", "^noise$"),
    ],
)
def test_one_option_alone_is_right(kind: str, name: str, right_too: str) -> None:
    """White noise is noise, but not the other way round."""
    told = known(distortion=kind, severity="mild")
    made = [one for seed in range(30) for one in build("understanding", told, seed).samples]
    asked = [one for one in made if name in one.options]
    assert asked
    for one in asked:
        others = [option for place, option in enumerate(one.options) if place != one.correct]
        assert not any(re.search(right_too, option) for option in others)


def test_is_test_stays_with_what_is_made() -> None:
    assert one("recognition", known(distortion="h264", is_test=True)).columns["is_test"] is True


@pytest.mark.parametrize("kind", DISTORTIONS)
def test_every_kind_has_a_name_in_vital_and_many_in_vqa2(kind: str) -> None:
    assert one("recognition", known(distortion=kind, severity="mild")).answer
    names = {vqa2_name(kind, level) for level in range(1, 6)} - {None}
    assert names <= {*SPATIAL, *MOTION}


def test_a_shift_of_brightness_goes_both_ways() -> None:
    made = [one("recognition", known(distortion="mean_shift", level=level), style="vqa2") for level in (1, 5)]
    assert [sample.answer for sample in made] == ["overexposure", "underexposure"]
    assert all(sample.question for sample in made)


def test_what_has_no_name_is_said() -> None:
    assert reasons(build("recognition", known())) == ["no distortion is known"]
    built = build("recognition", known(distortion="jitter", level=2), style="vqa2")
    assert (reasons(built), built.rejections[0].detail) == (["the distortion has no name in VQA²"], "jitter")
    assert one("recognition", known(distortion="block effect"), style="vqa2").answer == "block effect"


# --- scoring ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "level"),
    [(5.0, "high"), (4.2, "high"), (4.19, "good"), (3.0, "fair"), (1.8, "poor"), (1.79, "low")],
)
def test_levels_are_fifths_of_the_scale(target: float, level: str) -> None:
    made = one("scoring", known(target=target))
    assert (made.question, made.answer) == ("", f"The quality of the video is {level}.")
    assert (made.target, made.task) == (target, "score")
    ours = one("scoring", known("a.png", target=5.0), style="vqa2", words="ours")
    assert ours.answer == "The quality of the image is excellent."
    assert ours.question


def test_no_score_no_sample() -> None:
    assert reasons(build("scoring", known())) == ["no score is known"]


STREAMED = {"seconds": 10, "fps": 4, "stalls": [[0, 1], [4, 2.5]]}


def test_stalls_in_both_forms() -> None:
    built = build("scoring", known(target=2.0, **STREAMED), style="streaming")
    sequence, summary = built.samples
    assert "1111000000000000" + "1" * 10 + "0" * 14 in str(sequence.question)
    for part in ("waits 1 s", "stalls 1 times", "for 2.5 s", "35.0% of its 10 s", "3.5 s pass"):
        assert part in str(summary.question)
    assert {sample.answer for sample in built.samples} == {"The quality of the video is poor."}


def test_marks_against_a_slow_count() -> None:
    stalls = Stalls.from_columns({"seconds": 7.3, "fps": 23.976, "stalls": [[1.1, 0.77], [5, 1.2]]})
    marks = stalls.marks()
    assert len(marks) == round(7.3 * 23.976)
    assert marks.count("1") / 23.976 == pytest.approx(0.77 + 1.2, abs=2 / 23.976)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stalls": [[8, 5]]}, "does not fit"), ({"stalls": [[1, 2], [2, 1]]}, "does not fit"),
        ({"stalls": "often"}, "pairs of start"), ({"fps": 0}, "frames a second"), ({"fps": None}, "pairs"),
    ],
)  # fmt: skip
def test_stalls_that_cannot_be(change: dict[str, Any], words: str) -> None:
    built = build("scoring", known(target=2.0, **(STREAMED | change)), style="streaming")
    assert reasons(built) == ["its stalls are not known"]
    assert words in built.rejections[0].detail


# --- questions -------------------------------------------------------------------------------------------


def distorted(seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    kinds = list(DISTORTIONS)
    kind = kinds[int(rng.integers(len(kinds)))]
    distortion = DISTORTIONS[kind]()
    level = int(rng.choice(distortion.drawn_levels))
    columns = {"distortion": kind, "level": level, "severity": distortion.severity(level)}
    if rng.integers(2):
        columns |= {"place": "in the upper left", "time": f"from second {seed % 7} to second {seed % 7 + 2}"}
    return Sample(f"clip-{seed}", "set", (Media("clip.mp4"),), "medium", target=3.0, columns=columns)


@pytest.fixture(scope="module")
def questions() -> list[tuple[Sample, Sample]]:
    """Two thousand questions with what they were made of."""
    builder = BUILDERS["understanding"]()
    sources = [distorted(seed) for seed in range(400)]
    return [(source, made) for source in sources for made in builder(source, rng_of(0, *source.key)).samples]


def test_no_letter_is_right_more_often_than_chance(questions: list[tuple[Sample, Sample]]) -> None:
    letters: dict[int, Counter[int]] = defaultdict(Counter)
    for _, made in questions:
        if made.correct is not None:
            letters[len(made.options)][made.correct] += 1
    assert set(letters) >= {2, 4}
    for number, counts in letters.items():
        observed = [counts[place] for place in range(number)]
        assert chisquare(observed).pvalue > 0.01, (number, observed)


def test_yes_is_right_as_often_as_no(questions: list[tuple[Sample, Sample]]) -> None:
    said = Counter(
        made.options[made.correct or 0] for _, made in questions if set(made.options) == {"Yes", "No"}
    )
    assert chisquare(list(said.values())).pvalue > 0.01, said


def test_the_right_option_is_what_is_known(questions: list[tuple[Sample, Sample]]) -> None:
    for source, made in questions:
        name = made.id.partition("#")[2]
        severity = source.columns["severity"]
        if name == "choice":
            assert made.options[made.correct or 0] == severity
        if name == "binary":
            assert (f" {severity}?" in str(made.question)) == (made.options[made.correct or 0] == "Yes")
        if made.correct is not None:
            assert made.answer == f"{'ABCD'[made.correct]}. {made.options[made.correct]}"
            assert len(set(made.options)) == len(made.options)
        if name == "temporal":
            assert source.columns["time"] in str(made.answer)


def test_no_question_gives_its_answer_away(questions: list[tuple[Sample, Sample]]) -> None:
    asked = 0
    for source, made in questions:
        if made.correct is None and made.question:
            assert not gives_away(made.question, str(made.answer)), (made.question, made.answer)
            asked += 1
        if made.id.endswith("#choice"):
            stem = str(made.question).partition("\n")[0]
            assert source.columns["severity"] not in stem
    assert asked > 800


def test_all_forms_are_there(questions: list[tuple[Sample, Sample]]) -> None:
    forms = Counter(made.id.partition("#")[2] for _, made in questions)
    assert set(forms) == {"binary", "choice", "open", "which", "temporal", "extended", "causal"}


def test_the_causal_form_ends_with_the_level() -> None:
    sample = known(target=1.5, depiction=[{"attribute": "noise", "degree": "severe", "time": "at the end"}])
    made = build("understanding", sample).samples[-1]
    assert made.answer == "The video shows severe noise at the end. Hence, the quality of this video is low."


def test_depictions_of_attributes_that_may_be_good() -> None:
    sample = known("a.png", depiction=[{"attribute": "sharpness", "degree": "good"}])
    (fact,) = facts_of(sample)
    assert (fact.is_problem, fact.statement("image")) == (False, "The sharpness of the image is good.")


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({}, "nothing is known of its quality"),
        ({"depiction": "It is blurred."}, "a depiction in prose needs a model"),
        ({"depiction": [{"attribute": "noise"}]}, "its facts cannot be read"),
        ({"dimensions": {"shrpness": 0.5}}, "its facts cannot be read"),
        ({"dimensions": {"sharpness": 3}}, "its facts cannot be read"),
    ],
)
def test_what_cannot_be_asked_about(columns: dict[str, Any], reason: str) -> None:
    assert reasons(build("understanding", known(**columns))) == [reason]


def test_a_model_rewrites_a_depiction(asking: Callable[..., ChatClient]) -> None:
    def answer(text: str) -> str:
        if "about time" in text:
            entries = [{"question": "When does it shake?", "options": [], "answer": "In the second half."}]
        elif "goes beyond" in text:
            entries = [
                {"question": "What helps against severe shake?", "options": [], "answer": "severe shake"}
            ]
        else:
            entries = [
                {"question": "Is it stable?", "options": ["A. Yes", "B. No"], "answer": "B. No"},
                {"question": "How sharp?", "options": ["high", "low"], "answer": "medium"},
                {"question": "How is the depiction?", "options": [], "answer": "fine"},
                {"question": "", "options": [], "answer": "fine"},
            ]
        return json.dumps({"questions": entries})

    sample = known(depiction="The camera shakes severely in the second half.")
    built = build("understanding", sample, model=asking(answer))
    stable, time = built.samples
    assert (set(stable.options), stable.options[stable.correct or 0]) == ({"Yes", "No"}, "No")
    assert (time.question, time.answer) == ("When does it shake?", "In the second half.")
    assert {made.columns["mode"] for made in built.samples} == {"model"}
    assert sorted(reasons(built)) == [
        "the model left question or answer out",
        "the model mentions the depiction",
        "the model's answer is none of its options",
        "the question gives its answer away",
    ]


def test_a_model_that_says_no_json_is_counted(asking: Callable[..., ChatClient]) -> None:
    built = build("understanding", known(depiction="It is dark."), model=asking(lambda text: "It is dark."))
    assert set(reasons(built)) == {"the model's answer has another form"}


# --- chains ----------------------------------------------------------------------------------------------

SHARES = {"sharpness": 0.1, "noise": 0.9, "colour": 0.5, "composition": 0.7}


def test_a_chain_goes_from_dimensions_over_groups_to_the_whole() -> None:
    text = chain_text(known(target=2.5, dimensions=SHARES), SHARES)
    # dimensions, their group, dimensions, their group, the whole
    assert ratings(text) == ["bad", "excellent", "fair", "good", "fair", "good", "poor"]
    for name in SHARES:
        assert DIMENSIONS[name].definition[1:] in text
    assert "texture is lost" in text


def test_dimension_questions_ask_by_definition() -> None:
    built = build("chain", known(target=2.5, dimensions=SHARES), num_questions=4)
    chain, *asked = built.samples
    assert (chain.task, chain.target) == ("description", 2.5)
    assert {made.columns["dimension"] for made in asked} == set(SHARES)
    for made in asked:
        dimension = DIMENSIONS[made.columns["dimension"]]
        assert dimension.definition in str(made.question)
        assert not ratings(str(made.question))


def test_rewording_keeps_ratings_or_the_template_stays(asking: Callable[..., ChatClient]) -> None:
    sample = known(target=2.5, dimensions=SHARES)
    template = chain_text(sample, SHARES)

    def true(text: str) -> str:
        return "In other words: " + text.partition("\n\n")[2]

    def untrue(text: str) -> str:
        return true(text).replace("excellent", "good")

    reworded = build("chain", sample, model=asking(true))
    assert reworded.samples[0].answer == "In other words: " + template
    assert reworded.samples[0].columns["mode"] == "model"
    kept = build("chain", sample, model=asking(untrue))
    assert (kept.samples[0].answer, kept.samples[0].columns["mode"]) == (template, "template")
    assert reasons(kept) == ["rewording changed a rating: the template stays"]


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (known(target=3.0), "no dimensions are known"),
        (known(dimensions=SHARES), "no score is known"),
        (known(target=3.0, dimensions={"shrpness": 1}), "its dimensions cannot be read"),
    ],
)
def test_what_has_no_chain(sample: Sample, reason: str) -> None:
    assert reasons(build("chain", sample)) == [reason]


def test_there_are_fourteen_dimensions_in_two_groups() -> None:
    groups = Counter(dimension.group for dimension in DIMENSIONS.values())
    assert groups == {"technical": 9, "aesthetic": 5}
    assert len({dimension.definition for dimension in DIMENSIONS.values()}) == 14


# --- statements and judges -------------------------------------------------------------------------------


def shown(media: Sequence[Media]) -> tuple[bytes, ...]:
    return (b"picture",)


def test_a_description_becomes_statements(asking: Callable[..., ChatClient]) -> None:
    model = asking(lambda text: "It is blurred and dark, so the quality is bad.")
    editor = asking(
        lambda text: (
            "1. Edges are soft.\n2. The scene is dark at the end.\n"
            "3. Thus the quality of the video is bad.\nOk."
        )
    )
    built = build("depiction", VIDEO, model=model, editor=editor, show=shown)
    assert [made.answer for made in built.samples] == ["Edges are soft.", "The scene is dark at the end."]
    assert {(made.question, made.task) for made in built.samples} == {("", "description")}
    assert reasons(built) == ["the statement concludes on the whole", "the statement says nothing"]


def test_without_a_model_what_is_known_is_stated() -> None:
    made = one("depiction", known(distortion="stutter", severity="mild", time="at the end"))
    assert made.answer == "The video shows mild stutter at the end."
    assert reasons(build("depiction", VIDEO)) == ["nothing is known of its quality"]


def test_sentences_of_any_list() -> None:
    assert split("- One is so. Two is so!\n* Three?\n\n1) Four.\n1) Four.") == [
        "One is so.",
        "Two is so!",
        "Three?",
        "Four.",
    ]


STATEMENT = Sample("clip#statement-0", "set", (Media("clip.mp4"),), "description", "", "Edges are soft.")


def judging(
    asking: Callable[..., ChatClient],
    judges: list[Callable[[str], str]],
    own: Callable[[str], str] | None = None,
) -> Judging:
    clients = {f"judge-{number}": asking(judge) for number, judge in enumerate(judges)}
    return Judging(clients, shown, self_judge=None if own is None else asking(own))


def vote(score: int, correction: str = "", reason: str = "") -> Callable[[str], str]:
    return lambda text: json.dumps({"score": score, "correction": correction, "reason": reason})


def test_what_all_judges_keep_in_all_rounds_is_kept(asking: Callable[..., ChatClient]) -> None:
    (kept,) = judging(asking, [vote(2), vote(2)], lambda text: "A. Yes")(STATEMENT).samples
    assert kept.answer == "Edges are soft."
    assert kept.columns["votes"] == {"judge-0": [2, 2, 2], "judge-1": [2, 2, 2]}


def test_one_judge_in_one_round_discards(asking: Callable[..., ChatClient]) -> None:
    count = iter(range(100))

    def last_round(text: str) -> str:
        return vote(0 if next(count) == 2 else 2, reason="edges are sharp")(text)

    built = judging(asking, [vote(2), last_round])(STATEMENT)
    assert not built.samples
    assert (reasons(built), built.rejections[0].detail) == (["a judge disagrees"], "judge-1: edges are sharp")


def test_a_correction_is_taken_over(asking: Callable[..., ChatClient]) -> None:
    built = judging(asking, [vote(2), vote(1, "Edges are slightly soft.")], lambda text: "A")(STATEMENT)
    (kept,) = built.samples
    assert (kept.answer, kept.columns["revised"]) == ("Edges are slightly soft.", "Edges are soft.")
    assert reasons(judging(asking, [vote(1)])(STATEMENT)) == ["a judge corrects, and does not say how"]


@pytest.mark.parametrize("said", ["B. No", "I do not agree", "", "Both A and B", "Maybe"])
def test_the_annotator_itself_has_to_agree_each_time(said: str, asking: Callable[..., ChatClient]) -> None:
    count = iter(range(100))
    built = judging(asking, [vote(2)], lambda text: said if next(count) == 1 else "A. Yes")(STATEMENT)
    assert reasons(built) == ["its own annotator does not agree"]


@pytest.mark.parametrize("said", ["two", '{"score": 3}', '{"score": true}', '{"reason": ""}'])
def test_a_judge_that_cannot_be_read_is_asked_once_more(said: str, asking: Callable[..., ChatClient]) -> None:
    assert reasons(judging(asking, [lambda text: said])(STATEMENT)) == ["a judge's answer cannot be read"]
    count = iter(range(100))
    built = judging(asking, [lambda text: said if next(count) == 0 else vote(2)(text)])(STATEMENT)
    assert len(built.samples) == 1


def test_a_judge_that_is_gone_is_an_error_of_its_own() -> None:
    with ChatServer(vote(2)) as server:
        url = server.url
    client = ChatClient("tiny", url=url, retries=0)
    with pytest.raises(ChatError):
        Judging({"gone": client}, shown)(STATEMENT)


def test_a_middle_degree_of_three_is_not_always_right() -> None:
    sample = known(distortion="stutter", severity="noticeable")
    said = Counter(
        made.options[made.correct or 0]
        for seed in range(60)
        for made in build("understanding", sample, seed).samples
        if made.id.endswith("#binary")
    )
    assert min(said["Yes"], said["No"]) > 15


@pytest.mark.parametrize("options", [4, "A", {"A": 1}, None])
def test_options_of_another_form_are_none(options: object, asking: Callable[..., ChatClient]) -> None:
    told = json.dumps({"questions": [{"question": "Why?", "options": options, "answer": "Too dark."}]})
    built = build("understanding", known(depiction="It is dark."), model=asking(lambda text: told))
    assert {made.options for made in built.samples} == {()}


def test_a_dimension_without_a_number_is_a_rejection() -> None:
    assert reasons(build("chain", known(target=3.0, dimensions={"sharpness": None}))) == [
        "its dimensions cannot be read"
    ]

"""Files of other projects load as samples, and ours go out as conversations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vqathinker.data.dataset import load_labels
from vqathinker.published import export, parse_maxwell, parse_published
from vqathinker.samples import IMAGE, VIDEO, Media, Sample, read_samples, write_samples


def written(tmp_path: Path, content: object, name: str = "set.json") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def turn(asked: str, said: str, answerer: str = "gpt") -> list[dict[str, str]]:
    return [{"from": "human", "value": asked}, {"from": answerer, "value": said}]


def test_vqa2_conversations(tmp_path: Path) -> None:
    """The key `image` holds a video where there are frames per second; each turn is a sample."""
    path = written(
        tmp_path,
        [
            {
                "image": "LSVQ/a.mp4", "frames per sec": 30,
                "conversations": [
                    *turn("<image>\nHow is it?", "Good."), *turn("When does it shake?", "At the end."),
                ],
            },
            {"image": "KonIQ/b.jpg", "conversations": turn("<image>\nWhich distortion?", "noise")},
        ],
    )  # fmt: skip
    first, second, third = read_samples(path)
    assert (first.media, first.question, first.answer) == (
        (Media("LSVQ/a.mp4", VIDEO),),
        "How is it?",
        "Good.",
    )
    assert (second.question, second.answer) == ("When does it shake?", "At the end.")
    assert (third.media[0].kind, third.answer, third.dataset) == (IMAGE, "noise", "set")
    assert len({sample.key for sample in (first, second, third)}) == 3
    assert first.columns["frames per sec"] == 30


def vital_item(path: str, level: str, **more: Any) -> dict[str, Any]:
    return {
        "video": path,
        "mos": [66.0, 70.0, 61.0, 65.0, 71.0, 67.458],
        "id": f"{path}->66.743",
        "gt_score": 66.743,
        "gt_score_norm": 3.5795,
        "target_dist": [0.1487, 0.7786, 0.0751, 0, 0],
        "std": 3.831,
        "std_norm": 0.4043,
        "conversations": turn("", f"The quality of the video is {level}"),
        **more,
    }


def test_vital_list_of_lists(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        [
            [vital_item("a.mp4", "good")],
            [vital_item("a.mp4", "good", label=2), vital_item("b.mp4", "good")],
            [{"image": "x_11_03.jpg", "conversations": turn("", "relatively severe white noise")}],
            [{"video": "c.mp4", "quality": "Low sharpness makes the picture blurry."}],
        ],
    )
    score, pair, distortion, description = read_samples(path)
    assert (score.task, score.question, score.answer) == ("score", "", "The quality of the video is good")
    assert score.target == pytest.approx(1 + 4 * 3.5795 / 5)
    assert score.spread == pytest.approx(0.4043 * 4 / 5)
    assert score.levels is not None
    assert sum(score.levels) == pytest.approx(1)
    assert score.levels[1] == pytest.approx(0.7786 / 1.0024)
    assert list(score.columns["opinions"].values()) == [66.0, 70.0, 61.0, 65.0, 71.0, 67.458]
    assert (pair.task, pair.preference, [m.path for m in pair.media]) == ("pair", 0.5, ["a.mp4", "b.mp4"])
    assert (distortion.task, distortion.answer) == ("recognition", "relatively severe white noise")
    assert (description.task, description.question) == ("description", "")
    assert description.answer == "Low sharpness makes the picture blurry."


@pytest.mark.parametrize(("label", "preference"), [(1, 1.0), (0, 0.0), (2, 0.5)])
def test_vital_pairs(label: int, preference: float) -> None:
    text = json.dumps([[vital_item("a.mp4", "good", label=label), vital_item("b.mp4", "good")]])
    (pair,) = parse_published(text, dataset="vital") or []
    assert pair.preference == preference


def test_deqa_labels(tmp_path: Path) -> None:
    entry = {
        "id": "a.jpg->71.5", "image": "a.jpg", "gt_score": 71.5, "gt_score_norm": 4.1,
        "level_probs_org": [0.2, 0.6, 0.2, 0, 0], "level_probs": [0.25, 0.6, 0.15, 0, 0],
        "std": 10.0, "std_norm": 0.5,
        "conversations": turn("How good is it?\n<|image|>", "The quality of the image is good."),
    }  # fmt: skip
    (sample,) = read_samples(written(tmp_path, [entry]))
    assert (sample.task, sample.target, sample.spread) == ("score", 4.1, 0.5)
    assert sample.levels == (0.25, 0.6, 0.15, 0, 0)
    assert sample.columns["level_probs_org"] == [0.2, 0.6, 0.2, 0, 0]


def test_finevd_lines_with_a_mark_in_a_name(tmp_path: Path) -> None:
    lines = [
        {"video": "a.mp4", "conversations": turn("Is there blur?", "Yes", "ai")},
        {"video": "\ufeffb.mp4", "conversations": turn("Is there blur?", "No", "ai")},
    ]
    path = tmp_path / "yesno_test.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    one, other = read_samples(path)
    assert (one.answer, other.answer, other.media[0].path) == ("Yes", "No", "b.mp4")


def test_q_bench_video(tmp_path: Path) -> None:
    closed = {
        "video": "a.mp4", "question": "How is the light?", "answers": ["Good", "Fair", "Poor", "Bad"],
        "video_type": "Natural", "quality_concern": "CONCERN_Technical", "question_type": "what/how",
        "context": "Global", "correct_choice": "C", "correct_ans": "Poor",
    }  # fmt: skip
    opened = {
        **closed, "question": "What is wrong?", "answers": ["It is dark.", "", "", ""],
        "question_type": "open_ended", "correct_choice": "A", "correct_ans": "It is dark.",
    }  # fmt: skip
    two = {**closed, "video": "a.mp4_cat_b.mp4", "answers": ["Yes", "No", "", ""], "correct_choice": "B"}
    one, other, pair = read_samples(written(tmp_path, [closed, opened, two]))
    assert (one.options, one.correct, one.answer) == (("Good", "Fair", "Poor", "Bad"), 2, "Poor")
    assert (other.options, other.correct, other.answer) == ((), None, "It is dark.")
    assert [medium.path for medium in pair.media] == ["a.mp4", "b.mp4"]
    assert (pair.options, pair.correct) == (("Yes", "No"), 1)
    assert one.columns["quality_concern"] == "CONCERN_Technical"


def test_maxwell() -> None:
    axes = [f"A-{n}" for n in range(1, 6)], [f"T-{n}" for n in range(1, 9)]
    header = ["O", *axes[0], "A-all", *axes[1], "T-all"]
    row = [3.2, *[0.0] * 5, 3.1, 1.0, -1.0, *[0.5] * 6, 2.9]
    text = ",".join(header) + "\n" + ",".join(map(str, row)) + "\n"
    (sample,) = parse_maxwell(text, ["0001.mp4"])
    assert (sample.target, sample.columns["technical"]) == (3.2, 2.9)
    shares = sample.columns["dimensions"]
    assert (shares["sharpness"], shares["focus"], shares["content"], shares["fluency"]) == (
        1.0,
        0.0,
        0.5,
        0.75,
    )
    assert len(shares) == 13
    with pytest.raises(ValueError, match="2 names for 1 rows"):
        parse_maxwell(text, ["a", "b"])
    with pytest.raises(ValueError, match="missing"):
        parse_maxwell("a,b\n1,2\n", ["a"])


@pytest.mark.parametrize(
    "text",
    [
        '{"video": "a.mp4", "mos": 3}',
        '[{"img_path": "a.jpg", "mos": 3.0}]',
        "name,mos\na.mp4,3\n",
        "",
        "[1, 2]",
    ],
)
def test_labels_are_no_samples(text: str) -> None:
    assert parse_published(text, dataset="set") is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([{"video": "a.mp4", "conversations": turn("a", "b")[:1]}], "entry 1: 1 turns"),
        (
            [{"video": "a.mp4", "conversations": [{"from": "gpt", "value": "a"}] * 2}],
            "entry 1: a turn of 'gpt'",
        ),
        ([[{"conversations": turn("", "noise")}]], "entry 1: no medium"),
        ([[{"video": "a.mp4"}]], "entry 1: no 'quality'"),
    ],
)
def test_an_entry_that_cannot_be_read_is_named(content: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        read_samples(written(tmp_path, content))
    assert "set.json" in str(caught.value)


def test_lines_are_named_and_end_where_they_end(tmp_path: Path) -> None:
    lines = [
        json.dumps({"video": "a.mp4", "conversations": turn("Rate?\n<|image|>", said)}, ensure_ascii=False)
        for said in ("soft\u2028edges", "Good.")
    ]
    first, _ = parse_published("\n\n".join(lines), dataset="set") or [None, None]
    assert first is not None
    assert (first.question, first.answer) == ("Rate?", "soft\u2028edges")
    path = tmp_path / "set.jsonl"
    path.write_text("\n\n".join([*lines, '{"video": "b.mp4"}']))
    with pytest.raises(ValueError, match="line 5: no 'conversations'"):
        read_samples(path)
    path.write_text("\n".join([*lines, lines[0][:40]]))
    with pytest.raises(ValueError, match="line 3: no JSON"):
        read_samples(path)


def test_what_is_named_as_ours_becomes_a_column_of_another_name(tmp_path: Path) -> None:
    asked = {
        "video_name": "a.mp4", "question_type": "yes-or-no", "question": "Blurred?", "answers": ["Yes", "No"],
        "correct_choice": "A", "task": "x", "target": "y", "mos": 4, "extra": 1,
    }  # fmt: skip
    (sample,) = parse_published(json.dumps([asked]), dataset="set") or []
    told = {
        "column_task": "x",
        "column_target": "y",
        "column_mos": 4,
        "extra": 1,
        "question_type": "yes-or-no",
    }
    assert sample.columns == told
    write_samples(tmp_path / "set.jsonl", [sample])
    assert read_samples(tmp_path / "set.jsonl") == [sample]
    assert load_labels(tmp_path / "set.jsonl")["column_target"][:] == ["y"]


def test_published_samples_go_where_labels_go(tmp_path: Path) -> None:
    path = written(tmp_path, [{"video": "a.mp4", "conversations": turn("<video>\nIs it sharp?", "No.")}])
    rows = load_labels(path, video_dir=tmp_path)
    assert (rows[0]["task"], rows[0]["question"], rows[0]["answer"]) == ("question", "Is it sharp?", "No.")


SAMPLES = [
    Sample("a", "set", (Media("a.mp4"),), "question", "Is it sharp?", "No."),
    Sample("b", "set", (Media("b.png"),), "recognition", "", "mild noise"),
    Sample("c", "set", (Media("a.mp4"), Media("b.mp4")), "pair", "", preference=1.0),
    Sample("d", "set", (Media("a.mp4"),), "score", None, None, 3.0),
]


def test_llama_factory() -> None:
    one, other = export(SAMPLES, "llama-factory", root="data")
    assert one == {
        "conversations": [{"from": "human", "value": "<video>Is it sharp?"}, {"from": "gpt", "value": "No."}],
        "videos": ["data/a.mp4"],
    }
    assert other["images"] == ["data/b.png"]
    assert other["conversations"][0]["value"] == "<image>"


def test_swift() -> None:
    one, _ = export(SAMPLES, "swift")
    assert one == {
        "messages": [
            {"role": "user", "content": "<video>Is it sharp?"},
            {"role": "assistant", "content": "No."},
        ],
        "videos": ["a.mp4"],
    }


def test_llava_reads_back(tmp_path: Path) -> None:
    path = written(tmp_path, list(export(SAMPLES, "llava")))
    found = read_samples(path)
    assert [(s.media, s.question, s.answer) for s in found] == [
        (s.media, s.question, s.answer) for s in SAMPLES[:2]
    ]


def test_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'sharegpt'.*llava, llama-factory, swift"):
        list(export(SAMPLES, "sharegpt"))


def test_our_own_files_are_read_as_before(tmp_path: Path) -> None:
    write_samples(tmp_path / "own.jsonl", SAMPLES)
    assert read_samples(tmp_path / "own.jsonl") == SAMPLES

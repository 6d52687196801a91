"""Scores of real files: what is counted, clipped and written, and the two commands around it."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import call
from datasets import Dataset

from vqathinker.data.dataset import load_labels
from vqathinker.evaluation import COLUMNS, Evaluating, Evaluation, Keeping, evaluate
from vqathinker.samples import Media, Sample, write_samples
from vqathinker.scoring import Mode, Scorer

REPLIES = ("<think>sharp</think><answer>4.20</answer>", "<think></think><answer>9.00</answer>", "3.00", "")
NAMES = ("00.mp4", "01.mp4", "broken.mp4", "02.mp4", "03.mp4")


@pytest.fixture(scope="module")
def folder(labelled_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good files, one unreadable, and their labels."""
    folder = tmp_path_factory.mktemp("evaluation")
    for name in NAMES:
        if name != "broken.mp4":
            shutil.copy(labelled_videos / name, folder)
    (folder / "broken.mp4").write_text("no video")
    lines = [f"{name},{1 + i / 2}" for i, name in enumerate(NAMES)]
    (folder / "own.csv").write_text("\n".join(["video,mos", *lines]) + "\n")
    return folder


@pytest.fixture
def rows(folder: Path) -> Dataset:
    return load_labels(folder / "own.csv", video_dir=folder, mos_range=(1, 5))


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets every engine give these responses, one after the other, through the real tokenizer."""
    from vqathinker.rollout import HFEngine, Response

    def use(*texts: str) -> None:
        replies: Iterator[str] = iter(texts)

        def generate(self: HFEngine, requests: list[Any], number: int, *_: object) -> list[list[Response]]:
            ids = (
                [self.processor.tokenizer(next(replies))["input_ids"] for _ in range(number)]
                for _ in requests
            )
            return [[Response(tokens, [0.0] * len(tokens)) for tokens in row] for row in ids]

        monkeypatch.setattr(HFEngine, "generate", generate)

    return use


def strict(text: str) -> Any:  # noqa: ANN401
    """Parse JSON without the NaN that Python alone allows."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def scorer(policies: Callable[..., Any], *, think: bool = True) -> Scorer:
    return Scorer(*policies("none"), think=think, max_new_tokens=4, batch_size=2, num_workers=1)


def run(policies: Callable[..., Any], rows: Dataset, *, think: bool = True, **options: Any) -> Evaluation:
    with scorer(policies, think=think) as ours:
        return evaluate(ours, rows, **options)


def test_counts_and_clipping(policies: Callable[..., Any], rows: Dataset, say: Callable[..., None]) -> None:
    say(*REPLIES)
    with scorer(policies) as ours, Evaluating(ours, rows, Keeping(), Mode()) as scores:
        assert [score.path for score in scores] == rows["path"][:]
    result = scores.result()
    assert (result.num_unreadable, result.num_clipped) == (1, 1)
    assert (result.metrics.num_videos, result.metrics.num_failed) == (4, 2)
    assert [row["score"] for row in result.rows[:2]] == [4.2, 5.0]
    assert all(math.isnan(row["score"]) for row in result.rows[2:])
    assert [row["error"] is None for row in result.rows] == [name != "broken.mp4" for name in NAMES]
    assert result.rows[1]["text"] == REPLIES[1]


def test_an_answer_alone(policies: Callable[..., Any], rows: Dataset, say: Callable[..., None]) -> None:
    replies = [f"<answer>{score}</answer>" for score in ("1.00", "2.00", "3.00", "4.00")]
    say(*replies)
    assert run(policies, rows).metrics.num_failed == 4
    say(*replies)
    metrics = run(policies, rows, think=False).metrics
    assert metrics.num_failed == 0
    assert metrics.srcc.value == pytest.approx(1)


def test_samples(
    policies: Callable[..., Any], rows: Dataset, say: Callable[..., None], tmp_path: Path
) -> None:
    """The combination counts as the score; every sample stays on disk."""
    say(*(f"<think>{i}</think><answer>{score}</answer>" for i, score in enumerate((1, 2, 2, 3, 3, 3, 5, 4))))
    result = run(policies, rows, out=tmp_path, samples=2)
    assert [row["score"] for row in result.rows if row["error"] is None] == [1.5, 2.5, 3.0, 4.5]
    assert result.rows[0]["text"].count("<think>") == 2
    entries = [json.loads(line) for line in (tmp_path / "journal-0-of-1.jsonl").read_text().splitlines()[1:]]
    assert [entry.get("samples") for entry in entries] == [[1, 2], [2, 3], None, [3, 3], [5, 4]]
    with pytest.raises(ValueError, match=r"mode\.samples is 2 there and 1 here"):
        run(policies, rows, out=tmp_path)


def test_a_label_names_one_file(policies: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    """A name with brackets is no pattern: another file's score under this label would be wrong."""
    shutil.copy(folder / "00.mp4", tmp_path / "a1.mp4")
    (tmp_path / "own.csv").write_text("video,mos\na[1].mp4,3\n")
    rows = load_labels(tmp_path / "own.csv", video_dir=tmp_path, mos_range=(1, 5))
    assert run(policies, rows).num_unreadable == 1


def test_settings(policies: Callable[..., Any], rows: Dataset) -> None:
    settings = run(policies, rows, origin={"checkpoint": "mine", "labels": "own.csv"}).settings
    _, processor = policies("none")
    assert settings["checkpoint"] == "mine"
    assert settings["labels"] == "own.csv"
    assert (settings["num_frames"], settings["size"]) == (6, processor.scoring.size)
    assert settings["image_mean"] == processor.image_mean
    assert settings["image_std"] == processor.image_std
    assert settings["dtype"] == "float32"
    assert settings["native_ranges"] == {"own": [[1.0, 5.0]]}
    assert settings["sampling"]["max_new_tokens"] == 4
    assert settings["engine"] == "HFEngine"
    assert settings["mode"]["samples"] == 1
    assert settings["think"] is True
    assert settings["versions"]["torch"] == torch.__version__


def test_files(policies: Callable[..., Any], rows: Dataset, say: Callable[..., None], tmp_path: Path) -> None:
    say(*REPLIES)
    result = run(policies, rows)
    out = tmp_path / "a" / "b"
    result.write(out)
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == list(COLUMNS)
    assert [row["video_id"] for row in table] == list(NAMES)
    summary = strict((out / "summary.json").read_text(encoding="utf-8"))
    assert (summary["unreadable"], summary["clipped"]) == (1, 1)
    assert summary["metrics"]["srcc"] == {"value": None, "low": None, "high": None}  # two scores only
    header, line = [
        row.strip("| \n").split(" | ") for row in (out / "table.md").read_text().splitlines()[::2]
    ]
    assert dict(zip(header, line, strict=True))["unparsed"] == "2"
    assert r"\begin{tabular}{lrrrrrrrrr}" in (out / "table.tex").read_text()
    assert (out / "scatter.png").read_bytes().startswith(b"\x89PNG")
    (out / "summary.json").write_text("precious")
    with pytest.raises(ValueError, match=r"predictions.csv exists; choose another folder"):
        result.write(out)
    assert (out / "summary.json").read_text() == "precious"
    result.write(out, overwrite=True)
    assert strict((out / "summary.json").read_text())["unreadable"] == 1
    with pytest.raises(ValueError, match="is not a directory"):
        result.write(out / "summary.json")


def test_evaluate_command(checkpoints: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["evaluate", checkpoints["none"], folder / "own.csv", "--videos", folder, "--range", 1, 5]
    options = ["--dataset", "mine", "--out", out, "--max-new-tokens", 4, "--batch-size", 2, "--workers", 1]
    result = call(*arguments, *options)
    assert result.exit_code == 1, result.output  # one file is unreadable
    for name in ("srcc", "plcc_logistic", "rmse", "unreadable files", "unparsed responses", "clipped scores"):
        assert name in result.stdout
    summary = strict((out / "summary.json").read_text())
    assert summary["unreadable"] == 1
    settings = summary["settings"]
    assert settings["checkpoint"] == str(checkpoints["none"])
    assert (settings["labels"], settings["scale"]) == ("own.csv", "divide")
    assert settings["native_ranges"] == {"mine": [[1, 5]]}
    assert f"{folder / 'broken.mp4'}: " in result.stdout
    written = (out / "summary.json").read_bytes()
    again = call(*arguments, *options)
    assert again.exit_code == 1, again.output
    assert "4 of 5 videos have their results already" in again.stderr
    assert (out / "summary.json").read_bytes() == written
    other = call(*arguments, *options, "--answer-only")
    assert other.exit_code == 2
    assert other.stderr.splitlines()[-1].startswith(
        f"Error: {out}/journal-0-of-1.jsonl belongs to another run: "
    )
    assert "(--answer-only) is true there and false here" in other.stderr
    assert call(*arguments, *options, "--overwrite", "--answer-only").exit_code == 1
    assert strict((out / "summary.json").read_text())["settings"]["think"] is False


@pytest.mark.parametrize("command", ["evaluate", "score"])
def test_a_wrong_checkpoint_is_one_line(command: str, folder: Path, tmp_path: Path) -> None:
    rest = [folder / "own.csv", "--videos", folder, "--range", 1, 5] if command == "evaluate" else ["a.mp4"]
    result = call(command, tmp_path / "none", *rest)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {tmp_path / 'none'} is not a directory")
    assert result.stderr.count("\n") == 1


def test_wrong_labels_are_told_before_the_model_is_loaded(
    checkpoints: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    result = call("evaluate", tmp_path, folder / "none.csv", "--videos", folder)
    assert result.exit_code == 2
    assert "none.csv" in result.stderr
    assert call("evaluate", tmp_path, folder / "own.csv", "--videos", folder / "none").exit_code == 2
    result = call("evaluate", checkpoints["none"], folder / "own.csv", "--videos", tmp_path)
    assert result.exit_code == 2
    assert "is there: check the folder of the videos (--videos)" in result.stderr
    limits = ["--max-new-tokens", 2, "--workers", 1]
    result = call("evaluate", checkpoints["none"], folder / "own.csv", "--videos", folder, *limits)
    assert "more than half of the targets lie outside 1-5: give the native range" in result.stderr


def test_a_named_data_set(checkpoints: dict[str, Path], labelled_videos: Path, tmp_path: Path) -> None:
    """Its name, range and scale come from the record; what differs from the record is said."""
    labels, videos = tmp_path / "cgvds.csv", tmp_path / "videos"
    videos.mkdir()
    shutil.copy(labelled_videos / "00.mp4", videos / "Fifa_30_1280x720_60_6000_h264_nvenc.mkv")
    labels.write_text("video,mos\nFifa_30_1280x720_60_6000_h264_nvenc.mp4,7\n")
    arguments = ["evaluate", checkpoints["none"], "cgvds", "--videos", videos, "--max-new-tokens", 2]
    result = call(*arguments, "--labels", labels, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "1 labels, CGVDS has 357\n" in result.stderr
    assert "1 videos matched by stem: Fifa_30_1280x720_60_6000_h264_nvenc.mp4 is " in result.stderr
    settings = strict((tmp_path / "out" / "summary.json").read_text())["settings"]
    assert settings["native_ranges"] == {"CGVDS": [[1, 7]]}
    assert (settings["labels"], settings["scale"]) == ("cgvds.csv", "affine")
    for options, message in (
        ([], "cgvds needs its label file: --labels FILE"),
        (["--labels", labels, "--scale", "clip"], "name, range and scale of cgvds are known"),
    ):
        result = call(*arguments, *options)
        assert result.exit_code == 2
        assert result.stderr.startswith(f"Error: {message}")
    result = call("evaluate", checkpoints["none"], "mine", "--labels", labels, "--videos", videos)
    assert (result.exit_code, result.stderr[:26]) == (2, "Error: no data set 'mine';")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard", 0], "--shard and --num-shards need one another"),
        (["--shard", 2, "--num-shards", 2, "--out", "x"], "--shard 2 does not exist among --num-shards 2"),
        (["--shard", 1, "--num-shards", 2], "several processes need --out"),
    ],
)
def test_wrong_shards(options: list[Any], message: str, folder: Path) -> None:
    result = call("evaluate", "none", folder / "own.csv", "--videos", folder, *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {message}")


def test_shards_do_not_overwrite_one_another(
    checkpoints: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    arguments = ["evaluate", checkpoints["none"], folder / "own.csv", "--videos", folder, "--range", 1, 5]
    options = ["--out", tmp_path / "out", "--max-new-tokens", 2, "--num-shards", 2, "--batch-size", 1]
    first = call(*arguments, *options, "--shard", 0)
    assert (first.exit_code, first.stdout) == (0, "shard 0 of 2 is done, 2 videos are left to the others\n")
    second = call(*arguments, *options, "--shard", 1, "--overwrite")
    assert second.exit_code == 2
    assert "shards cannot overwrite" in second.stderr


def test_repaired_files_are_scored_by_the_next_run(
    policies: Callable[..., Any], folder: Path, say: Callable[..., None], tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    shutil.copytree(folder, videos)
    rows = load_labels(videos / "own.csv", video_dir=videos, mos_range=(1, 5))
    say(*REPLIES)
    assert run(policies, rows, out=tmp_path / "out").num_unreadable == 1
    shutil.copy(videos / "00.mp4", videos / "broken.mp4")
    say("<think></think><answer>2.50</answer>", "")  # its batch is answered again, only it is new
    with scorer(policies) as ours, Evaluating(ours, rows, Keeping(tmp_path / "out"), Mode()) as scores:
        assert (scores.kept, scores.left) == ({0, 1, 3, 4}, [2, 3])
        assert len(list(scores)) == 2
    result = scores.result()
    assert result.num_unreadable == 0
    assert [row["score"] for row in result.rows][:3] == [4.2, 5.0, 2.5]


def test_what_a_fingerprint_sees(policies: Callable[..., Any], tmp_path: Path) -> None:
    from vqathinker.checkpoints.assemble import load_policy
    from vqathinker.model.fingerprint import fingerprint

    model, processor = policies()
    name = fingerprint(model, processor)
    assert fingerprint(*policies()) == name
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    processor.save_pretrained(tmp_path)
    assert fingerprint(*load_policy(tmp_path)) == name
    assert fingerprint(*policies("none")) != name
    for parameter in model.parameters():
        with torch.no_grad():
            kept = parameter.clone()
            parameter.mul_(1.001).add_(1e-6)
        assert fingerprint(model, processor) != name
        with torch.no_grad():
            parameter.copy_(kept)
    assert fingerprint(model, processor) == name
    processor.tokenizer.chat_template += " "
    assert fingerprint(model, processor) != name


def test_several_data_sets(policies: Callable[..., Any], folder: Path, say: Callable[..., None]) -> None:
    (folder / "two.csv").write_text(
        "video,mos,dataset\n" + "".join(f"0{i % 4}.mp4,{i % 4 + 1},{'ab'[i // 4]}\n" for i in range(8))
    )
    rows = load_labels(folder / "two.csv", video_dir=folder, mos_range=(1, 5))
    say(*(f"<think></think><answer>{score}.00</answer>" for score in (1, 2, 3, 4, 4, 3, 2, 1)))
    result = run(policies, rows)
    assert {name: metrics.srcc.value for name, metrics in result.datasets.items()} == pytest.approx(
        {"a": 1, "b": -1}
    )
    summary = result.summary()
    assert summary["datasets"]["a"]["videos"] == 4
    assert summary["videos"] == summary["metrics"]["num_videos"] == 8
    assert summary["overall"]["srcc"] == pytest.approx(0)
    assert [row[:2] for row in result.table()[1]] == [["a", "4"], ["b", "4"], ["overall", "8"]]


def test_the_picture_says_what_is_what(
    policies: Callable[..., Any], rows: Dataset, say: Callable[..., None]
) -> None:
    from vqathinker.evaluation.plot import draw

    say(*(f"<think></think><answer>{score}.00</answer>" for score in (1, 2, 3, 4)))
    result = run(policies, rows)
    (axes,) = draw(result.rows, result.metrics).axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["own", "logistic mapping", "equal"]


def test_the_title_counts_scores(
    checkpoints: dict[str, Path], folder: Path, say: Callable[..., None]
) -> None:
    say("<think></think><answer>2.00</answer>", "none", "<think></think><answer>3.00</answer>", "none")
    result = call(
        "evaluate",
        checkpoints["none"],
        folder / "own.csv",
        "--videos",
        folder,
        "--range",
        1,
        5,
        "--workers",
        1,
    )
    assert "2 of 5 videos have a score" in result.stdout


def test_nothing_that_is_there_is_replaced(
    policies: Callable[..., Any], rows: Dataset, say: Callable[..., None], tmp_path: Path
) -> None:
    say(*REPLIES)
    result = run(policies, rows)
    for name in ("table.md", "scatter.png"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(ValueError, match=f"{name} exists"):
            result.write(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        (tmp_path / name).unlink()


def test_samples_depend_on_the_batch_and_are_not_mixed(
    policies: Callable[..., Any], rows: Dataset, tmp_path: Path
) -> None:
    with scorer(policies) as ours:
        evaluate(ours, rows, out=tmp_path / "greedy")
        evaluate(ours, rows, out=tmp_path / "sampled", samples=2)
        ours.batch_size = 3
        evaluate(ours, rows, out=tmp_path / "greedy")
        with pytest.raises(ValueError, match=r"on which samples depend .* is 2 there and 3 here"):
            evaluate(ours, rows, out=tmp_path / "sampled", samples=2)


def test_a_file_that_has_changed_is_scored_again(
    policies: Callable[..., Any], folder: Path, say: Callable[..., None], tmp_path: Path
) -> None:
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(folder / "00.mp4", tmp_path / name)
    (tmp_path / "own.csv").write_text("video,mos\na.mp4,3\nb.mp4,4\n")
    rows = load_labels(tmp_path / "own.csv", video_dir=tmp_path, mos_range=(1, 5))
    said = [f"<think></think><answer>{score}</answer>" for score in (2, 3, 4, 5)]
    say(*said)
    assert [row["score"] for row in run(policies, rows, out=tmp_path / "out").rows] == [2, 3]
    shutil.copy(folder / "01.mp4", tmp_path / "b.mp4")
    # both are answered, for they are of one batch; the other one's result stays
    assert [row["score"] for row in run(policies, rows, out=tmp_path / "out").rows] == [2, 5]
    say()
    assert [row["score"] for row in run(policies, rows, out=tmp_path / "out").rows] == [2, 5]


def test_pairs_are_left_out(
    policies: Callable[..., Any], folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file of a build has all tasks in it."""
    video = Media("00.mp4")
    samples = [
        Sample("a", "set", (video,), "score", target=3.0),
        Sample("b", "set", (Media("01.mp4"),), "score", target=4.0),
        Sample("c", "set", (video, Media("nowhere.mp4")), "pair", "", preference=1.0),
    ]
    write_samples(tmp_path / "built.jsonl", samples)
    policies("none")[0].save_pretrained(tmp_path / "model")
    policies("none")[1].save_pretrained(tmp_path / "model")
    found = call(
        "evaluate", tmp_path / "model", tmp_path / "built.jsonl", "--videos", folder, "--max-new-tokens", 2
    )
    assert found.exit_code == 0, found.output
    assert "1 samples of pair are left out" in caplog.text
    inspected = call("prepare", tmp_path / "built.jsonl", "--videos", folder)
    assert inspected.exit_code == 1
    assert "set/c (second): no such file" in inspected.output

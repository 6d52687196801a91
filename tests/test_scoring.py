"""Scores against the model itself: every mode, every batch, every kind of source."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import rounds, write_video
from hypothesis import given
from hypothesis import strategies as st

from vqathinker import answers
from vqathinker.checkpoints.assemble import load_policy
from vqathinker.checkpoints.tiny import build_tiny
from vqathinker.media.container import VideoError
from vqathinker.media.video import read_keyframes, read_spans
from vqathinker.rollout import HFEngine, Response, Sampling, VideoEncoder
from vqathinker.rollout.answer import Answerer, Asking, Viewing
from vqathinker.scoring import Mode, Score, Scorer
from vqathinker.scoring.reading import combine, expected_value, read

SCORES = (1.27, 2.35, 3.48, 4.61, 5.82, 3.04)  # one beyond the scale
LIMIT = 32


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six videos from dark to bright, of different lengths and sizes."""
    folder = tmp_path_factory.mktemp("clips")
    paths = []
    for i in range(len(SCORES)):
        path = folder / f"{i}.mp4"
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("libx264", rate=10 + 5 * i, options={"g": "12"})
            stream.width, stream.height, stream.pix_fmt = 64 + 16 * i, 48 + 8 * i, "yuv420p"
            for step in range(8 + 9 * i):
                image = np.full((stream.height, stream.width, 3), 20 + 40 * i, np.uint8)
                image[:, : 8 + step % 16] = 255 - 40 * i
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def checkpoint(clips: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint that has learned a score for each of the clips."""
    folder = tmp_path_factory.mktemp("learned") / "checkpoint"
    build_tiny(folder)
    model, processor = load_policy(folder, dtype=torch.float32)
    encoder = VideoEncoder(model, processor, processor.scoring)
    videos = encoder.encode([read_keyframes(path, 6).frames for path in clips])
    prompt = processor.prompt_ids(6, processor.scoring.tokens_per_frame)
    replies = [processor.tokenizer(answers.render("fair", s))["input_ids"] for s in SCORES]
    replies = [[*reply, processor.tokenizer.eos_token_id] for reply in replies]
    ids = torch.tensor([[*prompt, *reply] for reply in replies])
    labels = ids.clone()
    labels[:, : len(prompt)] = -100
    inputs = {
        "input_ids": ids,
        "pixel_values": torch.cat([video.pixels for video in videos]),
        "motion_features": torch.stack([video.motion_features for video in videos]),
        "placeholders": (torch.arange(ids.shape[1]) < len(prompt)).expand(len(ids), -1),
    }
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    for _ in range(400):
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scorer(checkpoint: Path) -> Iterator[Scorer]:
    with Scorer.from_pretrained(checkpoint, num_workers=2, max_new_tokens=LIMIT) as made:
        yield made


def prompt_of(scorer: Scorer, question: str | None = None) -> list[int]:
    return scorer.processor.prompt_ids(6, scorer.setting.tokens_per_frame, question=question)


@torch.no_grad()
def next_probabilities(scorer: Scorer, path: Path, ids: list[int], prompt_length: int) -> torch.Tensor:
    """(L, V) probabilities after each of the ids, by one plain forward pass over the whole video."""
    model, processor = scorer.model, scorer.processor
    pixels = processor.pixels(read_keyframes(path, 6).frames, scorer.setting.size)
    logits = model(
        input_ids=torch.tensor([ids]),
        pixel_values=pixels,
        placeholders=torch.arange(len(ids))[None] < prompt_length,
    ).logits[0]
    return logits.double().softmax(-1)


def greedy(scorer: Scorer, path: Path | str, question: str | None = None) -> str:
    """The response to one video, read in this process and answered alone."""
    encoder = VideoEncoder(scorer.model, scorer.processor, scorer.setting)
    request = encoder.request(*encoder.encode([read_keyframes(path, 6).frames]), "", question)
    engine = HFEngine(scorer.model, scorer.processor)
    ((response,),) = engine.generate([request], 1, Sampling(max_new_tokens=LIMIT))
    return str(scorer.processor.tokenizer.decode(response.token_ids, skip_special_tokens=True))


def test_three_lines(checkpoint: Path, clips: list[Path], scorer: Scorer, tmp_path: Path) -> None:
    script = tmp_path / "three.py"  # without a guard for its main part
    script.write_text(
        "from vqathinker import Scorer\n"
        f"result = Scorer.from_pretrained({str(checkpoint)!r}, max_new_tokens=32).score({str(clips[1])!r})\n"
        "print(result.score, result.reasoning)\n"
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert run.stdout == f"{SCORES[1]} fair\n"


def test_everything_that_shaped_a_score(scorer: Scorer, clips: list[Path]) -> None:
    results = scorer.score(clips)
    for result, path, value, i in zip(results, clips, SCORES, range(6), strict=True):
        keyframes = read_keyframes(path, 6)
        assert result.texts == (f"<think>fair</think><answer>{value}</answer>",)
        assert (result.raw, result.score, result.clipped) == (value, min(value, 5.0), value > 5)
        assert result.samples == (value,)
        assert (result.reasoning, result.mode, result.error) == ("fair", "greedy", None)
        assert math.isnan(result.spread)
        assert (result.path, result.indices) == (str(path), tuple(keyframes.indices.tolist()))
        assert (result.num_frames, result.fps, result.size) == (8 + 9 * i, 10 + 5 * i, 56)
        assert (result.start, result.end) == (0.0, pytest.approx((8 + 9 * i) / (10 + 5 * i)))
        assert 0 < result.seconds < 60
        row = result.to_dict()
        assert (row["score"], row["spread"], row["clipped"]) == (result.score, None, result.clipped)


def values(results: list[Score]) -> list[float]:
    return [result.raw for result in results]


@pytest.mark.parametrize("mode", [{}, {"expected": True}, {"levels": True}])
def test_neither_batch_nor_order_matters(scorer: Scorer, clips: list[Path], mode: dict[str, Any]) -> None:
    alone = [scorer.score(clip, **mode).raw for clip in clips]
    assert len({round(value, 2) for value in alone}) > 3  # they could differ
    order = [3, 0, 5, 2, 4, 1, 3, 3]
    with Scorer(scorer.model, scorer.processor, batch_size=3, num_workers=1, max_new_tokens=LIMIT) as other:
        mixed = values(other.score([clips[i] for i in order], **mode))
    np.testing.assert_allclose(mixed, [alone[i] for i in order], rtol=0, atol=1e-4)
    np.testing.assert_allclose(values(scorer.score(clips, **mode)), alone, rtol=0, atol=1e-4)


@pytest.mark.vllm
@pytest.mark.filterwarnings("default")  # vLLM's own imports warn
def test_neither_does_the_engine(
    checkpoint: Path, scorer: Scorer, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    with Scorer.from_pretrained(checkpoint, engine="vllm", max_new_tokens=LIMIT, batch_size=4) as other:
        np.testing.assert_allclose(values(other.score(clips)), values(scorer.score(clips)), atol=1e-4)
        sampled = other.score(clips[0], samples=4)
        assert len(sampled.samples) == 4
        asked = list(other.ask(clips[:2], "How sharp?")), list(scorer.ask(clips[:2], "How sharp?"))
        assert [reply.text for reply in asked[0]] == [reply.text for reply in asked[1]]
        for mode in ("expected", "levels"):
            with pytest.raises(ValueError, match=f"{mode} needs probabilities that only engine='hf' tells"):
                other.score(clips[0], **{mode: True})


def test_expected_value(scorer: Scorer, clips: list[Path]) -> None:
    tokenizer, prompt = scorer.processor.tokenizer, prompt_of(scorer)
    digit_ids = tokenizer.convert_tokens_to_ids(list("0123456789"))
    for path, written in zip(clips, SCORES, strict=True):
        head = tokenizer("<think>fair</think><answer>")["input_ids"]
        ids = [*prompt, *head, *tokenizer(f"{written:.2f}")["input_ids"]]
        first = len(prompt) + len(head) - 1
        p = next_probabilities(scorer, path, ids, len(prompt))[:, digit_ids]
        p = (p / p.sum(-1, keepdim=True)) @ torch.arange(10.0).double()
        expected = p[first] + p[first + 2] / 10 + p[first + 3] / 100
        result = scorer.score(path, expected=True)
        assert result.raw == pytest.approx(float(expected), abs=1e-4)
        assert result.details == {"greedy": written}
        assert result.mode == "expected"
        assert result.raw != written


def test_levels(scorer: Scorer, clips: list[Path]) -> None:
    tokenizer = scorer.processor.tokenizer
    prompt = prompt_of(scorer, "How would you rate the quality of this video?")
    ids = [*prompt, *tokenizer("The quality of the video is")["input_ids"]]
    words = ["excellent", "good", "fair", "poor", "bad"]
    for path in clips:
        p = next_probabilities(scorer, path, ids, len(prompt))[-1]
        p = p[[tokenizer(f" {word}")["input_ids"][0] for word in words]]
        p = p / p.sum()
        result = scorer.score(path, levels=True)
        assert list(result.details.values()) == pytest.approx(p.tolist(), abs=1e-4)
        level = float(p @ torch.tensor([1, 0.75, 0.5, 0.25, 0]).double())
        assert result.score == pytest.approx(1 + 4 * level, abs=1e-4)
        assert result.texts == (f"The quality of the video is {words[int(p.argmax())]}",)
    assert scorer.processor.level_words == words


def test_samples(scorer: Scorer, clips: list[Path]) -> None:
    first, again = (scorer.score(clips[:3], samples=12) for _ in range(2))
    other = scorer.score(clips[:3], samples=12, seed=1)
    assert [r.texts for r in first] == [r.texts for r in again] != [r.texts for r in other]
    for result in first:
        drawn = [answers.score(text) for text in result.texts]
        valid = [min(max(score, 1.0), 5.0) for score in drawn if not math.isnan(score)]
        assert len(drawn) == 12
        assert len(valid) > 2
        np.testing.assert_equal(result.samples, drawn)
        assert result.raw == pytest.approx(mean(valid))
        assert result.spread == pytest.approx(stdev(valid))
        assert result.details["median"] == pytest.approx(median(valid))
        assert result.mode == "samples"
    assert scorer.score(clips[0], samples=12, combine="median").raw == first[0].details["median"]


def test_confidence_weighs_by_the_probability_per_token(scorer: Scorer) -> None:
    tokenizer = scorer.processor.tokenizer
    said = [(f"<think></think><answer>{s}</answer>", p) for s, p in (("2.0", 0.2), ("4.0", 0.6), ("x", 0.9))]
    ids = [(tokenizer(text)["input_ids"], p) for text, p in said]
    responses = [Response(tokens, [math.log(p)] * len(tokens)) for tokens, p in ids]
    reading = read(responses, scorer.processor, Mode(samples=3, combine="confidence"))
    assert reading.raw == pytest.approx((2.0 * 0.2 + 4.0 * 0.6) / 0.8)
    np.testing.assert_equal(reading.samples, (2.0, 4.0, math.nan))


def test_a_sample_off_the_scale_weighs_no_more_than_its_end(scorer: Scorer) -> None:
    tokenizer = scorer.processor.tokenizer
    texts = [f"<think></think><answer>{s}</answer>" for s in ("2.0", "35", "3.5")]
    responses = [Response(ids, [-1.0] * len(ids)) for ids in (tokenizer(text)["input_ids"] for text in texts)]
    reading = read(responses, scorer.processor, Mode(samples=3))
    assert (reading.raw, reading.samples) == (pytest.approx(3.5), (2.0, 35.0, 3.5))
    assert (reading.score, reading.clipped) == (pytest.approx(3.5), True)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=20))
def test_trimmed_mean_leaves_a_quarter_out_at_each_end(scores: list[float]) -> None:
    cut = len(scores) // 4
    kept = sorted(scores)[cut : len(scores) - cut]
    result = combine([*scores, math.nan], [1.0] * (len(scores) + 1))
    assert result["trimmed"] == pytest.approx(sum(kept) / len(kept))
    assert min(scores) - 1e-9 <= result["mean"] <= max(scores) + 1e-9


def test_no_sample_with_a_score() -> None:
    assert all(math.isnan(value) for value in combine([math.nan] * 3, [1.0] * 3).values())


@pytest.mark.parametrize("written", ["3", "3.50", "12.5", "-1.5", "0.125", "3.", ".5"])
def test_certain_digits_give_the_number_itself(scorer: Scorer, written: str) -> None:
    tokenizer = scorer.processor.tokenizer
    ids = tokenizer(f"<think>3 of 4</think><answer> {written} </answer>")["input_ids"]
    digits = tokenizer.convert_tokens_to_ids(list("0123456789"))
    watched = [[0.0 if token == digit else -99.0 for digit in digits] for token in ids]
    answer = answers.parse(tokenizer.decode(ids))
    assert answer is not None
    assert expected_value(Response(ids, [0.0] * len(ids), watched), tokenizer, answer) == pytest.approx(
        float(written)
    )
    assert math.isnan(expected_value(Response(ids, [], watched), tokenizer, None))


def test_frames_in_memory(scorer: Scorer, clips: list[Path]) -> None:
    with av.open(str(clips[2])) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    result, of_file = scorer.score(frames), scorer.score(clips[2])
    assert (result.raw, result.indices, result.num_frames) == (of_file.raw, of_file.indices, 26)
    assert (result.path, result.to_dict()["fps"]) == ("<frames>", None)
    mixed = scorer.score([frames, clips[0], frames[:1], clips[1]])
    assert values(mixed[:2]) == [of_file.raw, SCORES[0]]
    assert mixed[2].indices == (0,) * 6
    for wrong in (frames[0], frames.astype(np.float32), frames[:0], frames[..., :1]):
        with pytest.raises(ValueError, match="expected uint8"):
            scorer.score(wrong)


def test_sources(scorer: Scorer, clips: list[Path], tmp_path: Path, broken_videos: dict[str, Path]) -> None:
    folder = clips[0].parent
    (folder / "notes.txt").touch()
    assert [r.path for r in scorer.score(folder)] == [str(clip) for clip in clips]
    assert [r.path for r in scorer.score(str(folder / "[01].mp4"))] == [str(clip) for clip in clips[:2]]
    (result,) = scorer.score([tmp_path])
    assert (result.error, result.path) == ("the folder holds no video files", str(tmp_path))
    assert math.isnan(result.score)
    odd = tmp_path / "a[1].mp4"  # a file's own name is no pattern
    odd.write_bytes(clips[0].read_bytes())
    assert scorer.score(odd).raw == SCORES[0]
    with pytest.raises(VideoError, match="the file is empty"):
        scorer.score(broken_videos["empty"])
    assert list(scorer.stream([])) == []
    assert [r.raw for r in scorer.stream(str(clips[0]))] == [SCORES[0]]
    for wrong in (None, [3], torch.zeros(2, 4, 4, 3, dtype=torch.uint8)):
        with pytest.raises(TypeError, match="is no video: give paths, or uint8 arrays"):
            scorer.score(wrong)


def test_timeline(scorer: Scorer, make_video: Callable[..., Path], tmp_path: Path) -> None:
    path = make_video(tmp_path / "long.mp4", 100)  # four seconds
    with av.open(str(path)) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    windows = list(scorer.timeline(path, 1.0, 0.5, expected=True))
    assert [(w.start, w.end) for w in windows] == [(i / 2, i / 2 + 1) for i in range(7)]
    for i, window in enumerate(windows):
        first = i * 25 // 2  # the frame shown at i/2 seconds
        part = frames[first : -(-(i + 2) * 25 // 2)]
        alone = scorer.score(part, expected=True)
        np.testing.assert_allclose(window.raw, alone.raw, atol=1e-4)
        assert window.indices == tuple(first + np.array(alone.indices))
    assert [(w.start, w.end) for w in scorer.timeline(path, 9.0)] == [(0.0, 4.0)]
    per_frame = list(scorer.timeline(make_video(tmp_path / "short.mp4", 3), 1 / 25))
    assert [set(w.indices) for w in per_frame] == [{0}, {1}, {2}]
    (failed,) = scorer.timeline(tmp_path / "none.mp4", 1.0)
    assert failed.error == "no such file"
    with pytest.raises(ValueError, match="both must be positive"):
        scorer.timeline(path, 0.0)


def test_questions_are_kept_apart_from_scores(scorer: Scorer, clips: list[Path], tmp_path: Path) -> None:
    replies = list(scorer.ask([*clips, tmp_path / "none.mp4"], "How sharp?"))
    for reply, path in zip(replies, clips, strict=False):
        assert reply.text == greedy(scorer, path, "How sharp?")
        assert (reply.question, reply.path) == ("How sharp?", str(path))
        assert not hasattr(reply, "score")
    assert replies[-1].error == "no such file"
    assert "sharpness" in next(scorer.describe(clips)).question
    assert [reply.path for reply in scorer.ask(str(clips[0]), "How sharp?")] == [str(clips[0])]


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ({"samples": 0}, "0 samples"),
        ({"samples": 2, "levels": True}, "choose one of"),
        ({"expected": True, "levels": True}, "choose one of"),
        ({"combine": "median"}, "combine='median' needs several samples"),
        ({"combine": "mode"}, "unknown combination 'mode': one of mean, median, trimmed, confidence"),
    ],
)
def test_impossible_modes(mode: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mode(**mode)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "tgi"}, "unknown engine 'tgi'"),
        ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"device": "toaster"}, "device 'toaster' cannot be used"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"num_workers": 0}, "num_workers=0"),
    ],
)
def test_impossible_options(checkpoint: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scorer.from_pretrained(checkpoint, **options)


UNUSUAL = {
    "one.mp4": {"num_frames": 1},
    "rotated.mp4": {"rotation": 90},
    "odd.avi": {"size": (131, 97), "codec": "ffv1"},
    "deep.mp4": {"codec": "libx265", "pix_fmt": "yuv420p10le"},
    "huge.mp4": {"num_frames": 2, "size": (7680, 4320), "codec": "mpeg2video"},
}


def test_unusual_videos_are_scored(scorer: Scorer, video: Path, tmp_path: Path) -> None:
    paths = [write_video(tmp_path / name, **{"num_frames": 8, **how}) for name, how in UNUSUAL.items()]
    mislabelled = tmp_path / "really_mp4.avi"
    mislabelled.write_bytes(video.read_bytes())
    results = scorer.score([*paths, mislabelled])
    assert {r.path: r.error for r in results if r.error} == {}
    for result in results:
        assert result.texts == (greedy(scorer, result.path),)


RESIDENT = """
import sys
from vqathinker import Scorer
scorer = Scorer.from_pretrained(sys.argv[2], max_new_tokens=4, num_workers=2)
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])
for i, result in enumerate(scorer.stream(sys.argv[3:] * (int(sys.argv[1]) // 4))):
    if i in (400, int(sys.argv[1]) - 1):
        print(resident())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_flat_over_many_videos(checkpoints: dict[str, Path], clips: list[Path]) -> None:
    number = str(rounds(1000, 10000))
    command = [sys.executable, "-c", RESIDENT, number, str(checkpoints["none"]), *map(str, clips[:4])]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(int, run.stdout.split())
    assert after < 1.02 * before


def test_a_single_file_that_cannot_be_used_raises(scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "dangling.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "clip.yuv").write_bytes(bytes(100))
    for name in ("dangling.mp4", "clip.yuv", "gone.mp4"):
        with pytest.raises(VideoError):
            scorer.score(tmp_path / name)
        assert [score.error is None for score in scorer.score([tmp_path / name])] == [False]


def test_a_wrong_call_is_told_when_it_is_made(scorer: Scorer, checkpoint: Path) -> None:
    with pytest.raises(TypeError, match="a int is no video"):
        scorer.ask(3, "Is it sharp?")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frame size 0 is not a multiple"):
        Scorer.from_pretrained(checkpoint, frame_size=0)


def test_batches_draw_on_their_own(scorer: Scorer, clips: list[Path], tmp_path: Path) -> None:
    """Copies of one clip under other names: what is drawn for one says nothing of another."""
    answerer = Answerer(scorer.model, scorer.processor)
    asking = Asking(num_responses=4, sampling=Sampling(max_new_tokens=8, temperature=3.0))

    def drawn(name: str) -> list[list[int]]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        ((responses,),) = answerer.answer(
            [Viewing((read_keyframes(shutil.copy(clips[0], path), 6),), (None,))], asking
        )
        return [response.token_ids for response in responses]

    assert drawn("a/1.mp4") == drawn("b/1.mp4")  # wherever it lies
    assert drawn("a/1.mp4") != drawn("a/2.mp4")
    windows = [read_spans(clips[0], [(start, start + 6)], 6)[0] for start in (0, 3, 6)]
    texts = [[one.token_ids for one in answerer.answer([Viewing((clip,))], asking)[0][0]] for clip in windows]
    assert len({str(text) for text in texts}) == 3  # of one file

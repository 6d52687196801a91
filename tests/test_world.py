"""The small world: labels follow the distortions, workers leave no trace, the base has no opinion."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import typer
from conftest import decode_all, read_rows
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "recipes"))  # they are no installed package

import demo  # noqa: E402
from world import build, observers, runs, words  # noqa: E402
from world.distortions import KINDS, distort, encode, shown_frames  # noqa: E402
from world.scenes import CONTRAST, FAMILIES, NUM_FRAMES, SIDE, render_scene  # noqa: E402

strengths_of_all = st.fixed_dictionaries({kind: st.floats(0, 1) for kind in KINDS})
few_distortions = st.dictionaries(st.sampled_from(KINDS), st.floats(words.WEAKEST, 1), max_size=3)


decode = partial(decode_all, codec="h264")


def distorted(position: float = 0.5, **strengths: float) -> np.ndarray:
    """One fixed scene under these distortions."""
    scene = render_scene("shapes", np.random.default_rng(0))
    return distort(scene, strengths, position, np.random.default_rng(1))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clips in each set."""
    sets = {name: dataclasses.replace(wanted, num_clips=2) for name, wanted in build.SETS.items()}
    monkeypatch.setattr(build, "SETS", sets)
    monkeypatch.setattr(build, "BASE", dataclasses.replace(build.BASE, num_clips=2))


@given(strengths=strengths_of_all, kind=st.sampled_from(KINDS), step=st.floats(1e-3, 1))
def test_quality_falls_with_each_strength(strengths: dict[str, float], kind: str, step: float) -> None:
    low = strengths | {kind: strengths[kind] * (1 - step)}
    high = strengths | {kind: low[kind] + step * (1 - low[kind])}
    assert 1 < observers.quality(high) <= observers.quality(low) <= 5
    if high[kind] - low[kind] > 0.05:
        assert observers.quality(high) < observers.quality(low)


def test_quality_by_hand() -> None:
    assert observers.quality({}) == 5
    assert observers.quality({"freeze": 0.5}) == 3  # an annoyance of 1 is half way
    pooled = (1.0**1.5 + 0.7**1.5) ** (1 / 1.5)
    assert observers.quality({"freeze": 0.5, "flicker": 1.0}) == pytest.approx(1 + 4 / (1 + pooled**2))


def test_votes_are_whole_and_their_mean_is_near_the_truth() -> None:
    biases = np.random.default_rng(0).normal(0, observers.BIAS_STD, observers.NUM_OBSERVERS)
    rng = np.random.default_rng(1)
    means = []
    for true in np.repeat([2.0, 3.0, 4.0], 200):
        votes = observers.rate(true, biases - biases.mean(), rng)
        assert set(votes) <= {1, 2, 3, 4, 5}
        assert len(votes) == observers.NUM_RATERS
        means.append(votes.mean() - true)
    assert abs(np.mean(means)) < 0.05


def test_the_ceiling_is_that_of_scipy() -> None:
    true, mos = [1.0, 2.0, 3.0, 4.0], [1.5, 1.2, 3.3, 4.9]
    srcc, plcc = observers.ceiling(true, mos)
    assert srcc == pytest.approx(stats.spearmanr(true, mos)[0])
    assert plcc == pytest.approx(np.corrcoef(true, mos)[0, 1])


@given(strengths=few_distortions, position=st.floats(0, 1))
def test_words_tell_kind_degree_and_time(strengths: dict[str, float], position: float) -> None:
    said = words.describe(strengths, position)
    phrases = [] if said == words.CLEAN else said.split(", ")
    assert {phrase.split()[1] for phrase in phrases} == set(strengths)
    degrees = [words.DEGREES.index(phrase.split()[0]) for phrase in phrases]
    assert degrees == sorted(degrees, reverse=True)
    for phrase in phrases:
        degree, kind = phrase.split()[:2]
        lowest = words.WEAKEST + (1 - words.WEAKEST) * words.DEGREES.index(degree) / 4
        assert lowest - 1e-9 <= strengths[kind] <= lowest + 0.2125 + 1e-9
        assert phrase.endswith(words.TIMES) == (kind == "freeze")


def test_the_crude_score_has_no_opinion() -> None:
    """Any two kinds of the same strength get the same."""
    scores = [words.crude_score({kind: 0.7}, np.random.default_rng(0)) for kind in KINDS]
    assert len(set(scores)) == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_scenes_move_and_have_one_contrast(family: str) -> None:
    scenes = [render_scene(family, np.random.default_rng(seed)) for seed in range(3)]
    for scene in scenes:
        assert scene.shape == (NUM_FRAMES, SIDE, SIDE, 3)
        assert scene.std() == pytest.approx(CONTRAST, rel=0.15)
        assert np.abs(np.diff(scene, axis=0)).mean(axis=(1, 2, 3)).min() > 0.005
    assert not np.allclose(scenes[0], scenes[1], atol=0.05)


def test_distortions_do_what_their_names_say() -> None:
    clean = distorted()
    assert np.array_equal(clean, render_scene("shapes", np.random.default_rng(0)))
    detail = np.abs(np.diff(clean, axis=2)).mean()
    assert np.abs(np.diff(distorted(blur=1.0), axis=2)).mean() < 0.5 * detail
    assert distorted(contrast=1.0).std() == pytest.approx(0.25 * clean.std(), rel=1e-3)
    assert (distorted(noise=1.0) - clean).std() == pytest.approx(45 / 255, rel=1e-2)
    squares = distorted(pixels=1.0)
    assert (np.diff(squares, axis=2) == 0).mean() > 0.85
    brightness = distorted(flicker=1.0).mean(axis=(1, 2, 3)) - clean.mean(axis=(1, 2, 3))
    assert np.ptp(brightness) > 0.4


@pytest.mark.parametrize(
    ("freeze", "stutter", "shown"),
    [
        (0.0, 0.0, range(NUM_FRAMES)),
        (1.0, 0.0, [*range(2), *[2] * 20, 22, 23]),
        (0.0, 1.0, [0] * 12 + [12] * 12),
        (0.0, 0.1, [index // 4 * 4 for index in range(NUM_FRAMES)]),
    ],
)
def test_frames_repeat(freeze: float, stutter: float, shown: list[int]) -> None:
    assert shown_frames(freeze, stutter, 0.5).tolist() == list(shown)


def test_compression_costs_detail(tmp_path: Path) -> None:
    frames = np.rint(255 * distorted()).astype(np.uint8)
    errors = []
    for compression in (0.0, 0.5, 1.0):
        encode(tmp_path / "clip.mp4", frames, compression)
        errors.append(np.abs(decode(tmp_path / "clip.mp4").astype(int) - frames).mean())
    assert errors == sorted(errors)
    assert errors[2] > 2 * errors[0]


def test_sets_hold_what_they_say_and_share_no_scene() -> None:
    scenes = set()
    for name, wanted in build.SETS.items():
        clips = build.plan(name, wanted, seed=0)
        assert {clip.family for clip in clips} == set(wanted.families)
        assert {kind for clip in clips for kind in clip.strengths} == set(wanted.kinds)
        shares = np.bincount([len(clip.strengths) for clip in clips], minlength=3) / len(clips)
        assert shares[: len(wanted.counts)] == pytest.approx(wanted.counts, abs=0.07)
        found = {clip.generator(build.SCENE).bytes(8) for clip in clips}
        assert len(found) == len(clips) // build.CLIPS_PER_SCENE
        assert not scenes & found
        scenes |= found


def test_out_of_domain_is_unseen() -> None:
    seen, content, distortion = (build.SETS[name] for name in ("train", "ood_content", "ood_distortion"))
    assert not set(seen.families) & set(content.families)
    assert set(distortion.kinds) - set(seen.kinds)
    for clip in build.plan("ood_distortion", distortion, seed=0):
        assert set(clip.strengths) & {"freeze", "stutter"}


@pytest.mark.usefixtures("small")
def test_the_same_data_for_any_number_of_workers_and_after_an_interruption(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    ceilings = build.make_world(one, seed=3, num_workers=1)
    assert set(ceilings) == set(build.SETS)
    assert build.make_world(two, seed=3, num_workers=2) == ceilings
    lost = two / "clips" / "test-00001.mp4"
    kept = two / "clips" / "test-00000.mp4"
    written = kept.stat().st_mtime_ns
    lost.unlink()
    lost.with_suffix(".part").write_bytes(b"half a clip")
    build.make_world(two, seed=3, num_workers=1)
    assert kept.stat().st_mtime_ns == written
    for name in build.SETS:
        rows = read_rows(one / f"{name}.csv")
        assert rows == read_rows(two / f"{name}.csv")
        for row in rows:
            frames = decode(one / row["video"])
            assert frames.shape == (NUM_FRAMES, SIDE, SIDE, 3)
            assert np.array_equal(frames, decode(two / row["video"]))
            strengths = {kind: float(row[kind]) for kind in KINDS}
            assert float(row["quality"]) == pytest.approx(observers.quality(strengths), abs=1e-3)
            assert float(row["mos"]) * observers.NUM_RATERS == pytest.approx(
                round(float(row["mos"]) * observers.NUM_RATERS), abs=1e-2
            )


@pytest.mark.usefixtures("small")
def test_another_world_is_refused(tmp_path: Path) -> None:
    build.make_base_set(tmp_path / "base", num_workers=1)
    with pytest.raises(ValueError, match="holds the world"):
        build.make_world(tmp_path / "base", seed=1, num_workers=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds something else"):
        build.make_world(tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_every_word_of_the_base_is_a_token() -> None:
    from world.base import typical_responses

    from vqathinker import answers
    from vqathinker.checkpoints.tiny import PROMPT, build_tokenizer

    tokenizer = build_tokenizer(PROMPT, responses=typical_responses())
    for kind, degree, time in itertools.product(KINDS, words.DEGREES, words.TIMES):
        said = f"{degree} {kind}" + (f" {time}" if kind == "freeze" else "")
        ids = tokenizer(answers.render(f"slight blur, {said}", 1.23))["input_ids"]
        pieces = [tokenizer.decode([token]).strip() for token in ids]
        assert {degree, kind} <= set(pieces)
        assert {"1", ".", "2", "3"} <= set(pieces)


@pytest.mark.usefixtures("small")
def test_sets_are_scored(tiny_checkpoint: Path, tmp_path: Path) -> None:
    world = tmp_path / "world"
    build.make_world(world, num_workers=1)
    found = runs.evaluate(tiny_checkpoint, world / build.SETS_FILE, tmp_path / "out")
    assert set(found) == set(build.SCORED)
    assert found["test"]["unparsed"] == found["test"]["videos"] == 2  # random weights
    assert found["test"]["distinct"] == 0
    assert (tmp_path / "out" / "test" / "predictions.csv").is_file()


def test_measures_are_those_of_the_predictions(tmp_path: Path) -> None:
    score = [1.5, 2.5, 2.5, 4.0, 3.0]
    target = [1.0, 2.0, 3.0, 5.0, 4.0]
    lines = [f"{i},a,v,0,{t},{s},,said" for i, (s, t) in enumerate(zip(score, target, strict=True))]
    (tmp_path / "predictions.csv").write_text(
        "\n".join(["video_id,dataset,path,mos,target,score,error,text", *lines, "9,a,v,0,3.0,nan,,no number"])
        + "\n"
    )
    found = runs.measure(tmp_path)["a"]
    assert found["srcc"] == pytest.approx(stats.spearmanr(score, target)[0], abs=1e-4)
    assert found["plcc"] == pytest.approx(stats.pearsonr(score, target)[0], abs=1e-4)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(np.subtract(score, target) ** 2)), abs=1e-4)
    assert (found["videos"], found["distinct"], found["unparsed"]) == (6, 4, 1)


def test_a_start_without_motion_is_the_base_for_the_rest(tmp_path: Path) -> None:
    from world.starts import BASE, without_motion

    from vqathinker.checkpoints.assemble import load_policy

    whole, _ = load_policy(BASE, dtype=torch.float32)
    model, processor = load_policy(without_motion(BASE, tmp_path / "start"))
    assert processor.motion == model.config.motion == "none"
    kept = model.state_dict()
    assert not any("motion" in name or "slowfast" in name for name in kept)
    assert all(torch.equal(value.float(), whole.state_dict()[name]) for name, value in kept.items())


@pytest.mark.usefixtures("small")
def test_descriptions_become_reasoning(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from world.starts import BASE

    world = tmp_path / "world"
    build.make_world(world, num_workers=1)
    runs.add_reasoning(BASE, world / "train.csv", world, tmp_path / "described.csv")
    plain = pd.read_csv(world / "train.csv")
    described = pd.read_csv(tmp_path / "described.csv")
    pd.testing.assert_frame_equal(described[plain.columns], plain)
    assert all(any(kind in said for kind in [*KINDS, words.CLEAN]) for said in described["reasoning"])


@pytest.mark.usefixtures("small")
def test_scores_after_reasoning(tmp_path: Path) -> None:
    """After its own reasoning a model says what it said; after another one something else."""
    from world.reasoning import after_reasoning, exchange
    from world.starts import BASE

    from vqathinker import answers

    world = tmp_path / "world"
    build.make_world(world, num_workers=1)
    runs.evaluate(BASE, world / build.SETS_FILE, tmp_path / "out")
    table = pd.concat([pd.read_csv(tmp_path / "out" / name / "predictions.csv") for name in build.SCORED])
    said = [answers.parse(text).reasoning for text in table["text"]]
    paths = table["path"].tolist()
    np.testing.assert_array_equal(after_reasoning(BASE, paths, said), table["score"])
    for reasoning, low, high in (("no distortion", 3.5, 5), ("severe noise, severe blur", 1, 3)):
        scores = after_reasoning(BASE, paths, [reasoning] * len(paths))
        assert np.all((scores > low) & (scores < high))
    folder = tmp_path / "all"
    folder.mkdir()
    table.to_csv(folder / "predictions.csv", index=False)
    found = exchange(BASE, folder)
    assert found["own"] == pytest.approx(stats.spearmanr(table["score"], table["target"])[0], abs=1e-4)
    assert -1 <= found["other"] <= 1


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_the_whole_demo(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights, one step and two clips in each set: every stage runs, and a second time none."""
    import demo

    short = ["--max_steps", 1, "--per_device_train_batch_size"]
    sizes = {"sft": 2, "grpo": 16}
    train = demo.train
    monkeypatch.setattr(demo, "BASE", tiny_checkpoint)
    monkeypatch.setattr(
        demo, "train", lambda name, *more, **named: train(name, *more, *short, sizes[name], **named)
    )
    demo.run(tmp_path, tmp_path / "world", 0, demo.Engine.HF)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["results"]) == ["base", "sft", "grpo"]
    assert all(set(found) == set(build.SCORED) for found in summary["results"].values())
    assert len(summary["rewards"]) == 1
    names = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert names == {"reward", "scores", "temporal_win_rate", "validation"}
    said = (tmp_path / "responses.md").read_text().splitlines()
    assert len(said) == 2 + 2 * len(build.SCORED)
    monkeypatch.setattr(demo, "train", None)
    demo.main(out=tmp_path)


def test_a_folder_is_of_one_demo(tmp_path: Path) -> None:
    demo.require_same(tmp_path, {"seed": 0, "engine": "hf"})
    demo.require_same(tmp_path, {"seed": 0, "engine": "hf"})
    with pytest.raises(typer.BadParameter, match="holds a demo of seed 0 and engine hf"):
        demo.require_same(tmp_path, {"seed": 1, "engine": "hf"})
    (tmp_path / "demo.json").rename(tmp_path / "summary.json")  # of a demo that says it there alone
    with pytest.raises(typer.BadParameter, match="holds a demo of seed 0"):
        demo.require_same(tmp_path, {"seed": 0, "engine": "vllm"})

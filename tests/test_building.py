"""Builds: every stage, what is kept of them, and what stops them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from chat_server import ChatServer
from conftest import decode_all, frame_number, rounds
from PIL import Image
from typer.testing import CliRunner

from vqathinker.building.asking import MOST_IN_A_ROW
from vqathinker.building.listing import Listing, list_labels, list_media, short_names
from vqathinker.building.recipe import Recipe
from vqathinker.building.report import write_report
from vqathinker.building.run import Build
from vqathinker.building.stages import STAGES
from vqathinker.chat import ChatError
from vqathinker.cli import app
from vqathinker.data.dataset import LabelReading, load_labels
from vqathinker.launch.recipes import recipe_folder
from vqathinker.opinions.annotators.command import CommandAnnotator
from vqathinker.samples import Media, Sample, read_samples

MakeVideo = Callable[..., Path]
SHIPPED = sorted(recipe_folder().glob("build/*.yaml"))
SMALL = {"seconds": None, "smallest": None}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos, three pictures, and two files that are neither."""
    from conftest import write_video

    folder = tmp_path_factory.mktemp("data") / "media"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.mp4", "sub/b.mp4", "sub/a.mov")):
        write_video(folder / name, 10 + 8 * number, options={"crf": str(15 + 15 * number)})
    rng = np.random.default_rng(0)
    for number in range(3):
        picture = rng.integers(0, 80 + 80 * number, (64, 96, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"still{number}.png")
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "notes.txt").write_text("nothing")
    return folder


def recipe(stages: dict[str, Any], **more: Any) -> Recipe:
    return Recipe.from_dict({"stages": stages, **more})


def make(stages: dict[str, Any], media: Path, out: Path, seed: int = 0, **options: Any) -> Build:
    return Build.of(recipe(stages, seed=seed), list_media(media, out), out, part_size=4, **options)


def reasons(build: Build, name: str) -> Counter[str]:
    return build.parts(name).rejected()


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


WHOLE_RECIPE = {
    "pool": {"stage": "select", **SMALL},
    "distorted": {"stage": "distort", "draw_from": ["white_noise", "pixelate", "stutter"], "number": 2},
    "recognition": {"stage": "build", "builder": "recognition"},
    "opinions": {"stage": "annotate", "from": "pool", "annotators": ["measures"]},
    "scores": {"stage": "level", "opinions": ["blur", "noise", "contrast"], "dimensions": "measures"},
    "scoring": {"stage": "build", "builder": "scoring"},
    "chains": {"stage": "build", "from": "scores", "builder": "describe_scores"},
    "samples": {"stage": "mix", "parts": {"recognition": 2, "scoring": 1, "chains": 1}},
}


@pytest.fixture(scope="module")
def built(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The whole recipe, built once."""
    build = make(WHOLE_RECIPE, media, media.parent / "built")
    write_report(build, build.run())
    return build


def test_what_is_built(built: Build) -> None:
    samples = read_samples(built.out / "samples.jsonl")
    tasks = Counter(sample.id.rpartition("#")[2].partition("-")[0] for sample in samples)
    assert tasks["recognition"] == 12
    assert tasks["score"] == 6
    assert reasons(built, "pool") == {"unreadable": 1}
    for sample in samples:
        for medium in sample.media:
            assert (built.out / medium.path).is_file()
        if sample.task == "score":
            assert sample.levels is not None
            assert sample.target is not None


def test_copies_are_distorted_and_named(built: Build) -> None:
    samples = list(built.parts("distorted").samples())
    assert len(samples) == 12
    for sample in samples:
        path = built.out / sample.media[0].path
        assert sample.columns["distortion"] in path.name
        assert path.suffix == (".png" if sample.media[0].kind == "image" else ".mp4")
        if sample.media[0].kind == "image":
            assert sample.columns["distortion"] != "stutter"
    stuttered = next(sample for sample in samples if sample.columns["distortion"] == "stutter")
    numbers = [frame_number(frame) for frame in decode_all(built.out / stuttered.media[0].path)]
    assert len(numbers) in {10, 18, 26}
    assert numbers == sorted(numbers)
    assert len(set(numbers)) < len(numbers)


def test_a_second_run_writes_the_same_bytes(built: Build, media: Path) -> None:
    again = make(WHOLE_RECIPE, media, media.parent / "again", num_workers=1)
    write_report(again, again.run())
    one, other = tree(built.out), tree(again.out)
    assert {name for name in one if one[name] != other.get(name)} <= {
        "report.md"
    }  # whose title is the folder's
    assert set(one) == set(other)


def test_a_run_that_is_done_does_nothing(built: Build) -> None:
    before = {path: path.stat().st_mtime_ns for path in (built.out / "stages").rglob("part-*")}
    built.run()
    assert {path: path.stat().st_mtime_ns for path in (built.out / "stages").rglob("part-*")} == before


def test_the_report_counts(built: Build) -> None:
    text = (built.out / "report.md").read_text()
    assert "| pool | 6 | 1 |" in text
    assert "| pool | unreadable | 1 |" in text
    assert "report.png" in text
    manifest = json.loads((built.out / "manifest.json").read_text())
    assert manifest["stages"]["distorted"]["samples"] == 12
    assert manifest["versions"]["vqathinker"]
    assert sum(manifest["distortions"].values()) == sum(manifest["severities"].values()) > 0
    for name in ("report.png", "sheet.png"):
        with Image.open(built.out / name) as picture:
            assert min(picture.size) > 300


def test_what_is_built_goes_where_labels_go(built: Build) -> None:
    rows = load_labels(built.out / "samples.jsonl", video_dir=built.out, need_video=True)
    assert set(rows["task"]) >= {"score", "recognition"}


# --- what is changed, and what is kept -------------------------------------------------------------------


def test_another_option_is_refused_or_run_again_from_there(media: Path, tmp_path: Path) -> None:
    stages = {
        "pool": {"stage": "select", **SMALL},
        "distorted": {"stage": "distort", "kinds": ["pixelate"], "levels": [2]},
        "samples": {"stage": "build", "builder": "recognition"},
    }
    out = tmp_path / "out"
    make(stages, media, out).run()
    kept = (out / "stages" / "pool" / "part-000000.jsonl").stat().st_mtime_ns
    stages["distorted"] = {"stage": "distort", "kinds": ["pixelate"], "levels": [3]}
    with pytest.raises(
        ValueError, match=r"distorted was built otherwise: options.levels is \[2\] there and \[3\] here"
    ):
        make(stages, media, out).run()
    make(stages, media, out).run(overwrite=True)
    assert {sample.columns["level"] for sample in read_samples(out / "samples.jsonl")} == {3}
    assert (out / "stages" / "pool" / "part-000000.jsonl").stat().st_mtime_ns == kept
    assert not list((out / "media").rglob("*_pixelate_2*"))


def test_other_media_are_another_build(media: Path, tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    for name in ("still0.png", "still1.png"):
        (tmp_path / "media" / name).write_bytes((media / name).read_bytes())
    stages = {"samples": {"stage": "select", **SMALL}}
    make(stages, tmp_path / "media", tmp_path / "out").run()
    (tmp_path / "media" / "still2.png").write_bytes((media / "still2.png").read_bytes())
    with pytest.raises(ValueError, match="media was built otherwise: what it is built from"):
        make(stages, tmp_path / "media", tmp_path / "out").run()


def test_every_named_kind_at_every_named_level(media: Path, tmp_path: Path) -> None:
    stages = {
        "samples": {
            "stage": "distort",
            "kinds": ["white_noise", {"name": "pixelate", "stretch": True}],
            "levels": [1, 4],
        }
    }
    make(stages, media, tmp_path / "out").run()
    found = Counter(
        (s.columns["distortion"], s.columns["level"])
        for s in read_samples(tmp_path / "out" / "samples.jsonl")
    )
    assert found == {(kind, level): 6 for kind in ("white_noise", "pixelate") for level in (1, 4)}


def test_draws_depend_on_seed_and_medium_alone(media: Path, tmp_path: Path) -> None:
    stages = {"samples": {"stage": "distort", "draw_from": ["white_noise", "pixelate", "darken"]}}
    drawn = {}
    for name, seed, folder in (("one", 0, media), ("other", 1, media), ("fewer", 0, media / "sub")):
        build = make(stages, folder, tmp_path / name, seed)
        stage = build.recipe.stages[0].make(build.place("samples"))
        drawn[name] = {
            os.path.basename(sample.media[0].path): [(t.label, t.level) for t in stage.treatments(sample)]  # type: ignore[union-attr]
            for sample in build.listing.samples
        }
    assert drawn["one"] != drawn["other"]


def test_local_distortions_say_where_and_when(make_video: MakeVideo, tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    make_video(tmp_path / "media" / "a.mp4", 100, options={"crf": "10"})
    stages = {
        "pool": {"stage": "select", **SMALL},
        "samples": {"stage": "distort", "kinds": ["color_block"], "levels": [5], "local": True},
    }
    make(stages, tmp_path / "media", tmp_path / "out").run()
    (sample,) = read_samples(tmp_path / "out" / "samples.jsonl")
    words = sample.columns["time"].split()
    start, stop = int(words[2]), int(words[5])
    before = decode_all(tmp_path / "media" / "a.mp4").astype(float)
    after = decode_all(tmp_path / "out" / sample.media[0].path).astype(float)
    change = np.abs(after - before).max(axis=-1) > 60
    changed = np.flatnonzero(change.any(axis=(1, 2)))
    assert (changed.min() / 25, (changed.max() + 1) / 25) == (start, stop)
    rows, columns = (np.flatnonzero(change.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    middle = ((rows.min() + rows.max()) / 2 / 96, (columns.min() + columns.max()) / 2 / 128)
    assert np.ptp(rows) <= 48
    assert np.ptp(columns) <= 64
    assert ("upper" in sample.columns["place"]) == (middle[0] < 0.5)
    assert ("left" in sample.columns["place"]) == (middle[1] < 0.5)


# --- opinions, levels, pairs, mixtures -------------------------------------------------------------------


def labelled(folder: Path, media: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def test_labels_are_the_first_samples(media: Path, tmp_path: Path) -> None:
    labels = labelled(
        tmp_path, media,
        'name,mos,std,stalls,seconds,fps\na.mp4,80,10,"[[0, 1]]",4,25\nsub/b.mp4,40,20,[],4,25\n'
        "gone.mp4,50,1,[],4,25\n",
    )  # fmt: skip
    listing = list_labels(labels, media, tmp_path / "out", LabelReading(scale="affine"))
    first, second = listing.samples
    assert (first.id, first.target, first.spread) == ("a", pytest.approx(4.2), pytest.approx(0.4))
    assert (first.columns["stalls"], first.columns["fps"]) == ([[0, 1]], 25.0)
    assert second.target == pytest.approx(2.6)
    assert list(listing.lost.values()) == ["no such file"]
    build = Build.of(
        recipe({"samples": {"stage": "build", "builder": "scoring", "style": "streaming"}}),
        listing,
        tmp_path / "out",
    )
    build.run()
    assert len(read_samples(tmp_path / "out" / "samples.jsonl")) == 4
    assert build.parts("media").rejected() == {"missing": 1}


def test_names_stay_different() -> None:
    assert short_names(["a.mp4", "a.mov", "b.mp4", "b", "c.mp4"]) == ["a.mp4", "a.mov", "b.mp4", "b", "c"]


def opinions(build: Build, name: str = "samples") -> dict[str, dict[str, float]]:
    return {sample.id: sample.columns["opinions"] for sample in build.parts(name).samples()}


def test_annotators_of_all_sorts(media: Path, tmp_path: Path) -> None:
    table = labelled(tmp_path, media, "name,mos\na.mp4,3.5\nsub/b.mp4,2\nstill0.png,1\n")
    command = f'{sys.executable} -c "import sys; print(*[len(line) for line in sys.stdin], sep=chr(10))"'
    annotators = [
        {"name": f"csv:{table}", "folder": str(media), "as": "people"},
        {"name": f"command:{command}", "as": "lengths"},
        "measures:contrast,luminance",
    ]
    build = make(
        {"pool": {"stage": "select", **SMALL}, "samples": {"stage": "annotate", "annotators": annotators}},
        media,
        tmp_path / "out",
    )
    build.run()
    found = opinions(build)
    assert found["a"]["people"] == 3.5
    assert found["sub/b"]["people"] == 2
    assert "people" not in found["still2"]
    assert found["a"]["lengths"] == len(os.path.normpath(str(media / "a.mp4"))) + 1
    picture = np.asarray(Image.open(media / "still2.png")) @ [0.299, 0.587, 0.114]
    assert found["still2"]["contrast"] == pytest.approx(picture.std())
    assert found["still2"]["luminance"] == pytest.approx(picture.mean())


@pytest.mark.parametrize(
    ("annotator", "words"),
    [
        ("mesures", "nearest: measures"), ("measures:blr", "no measure 'blr'"),
        ("csv:nowhere.csv", "nowhere.csv"),
        ("command:false", "ended with code 1"), ("command:echo 1", "wrote 1 lines for 4 paths"),
        ("command:tr a-z b", "could not convert"), ("pyiqa:musiq", "pip install pyiqa"),
    ],
)  # fmt: skip
def test_an_annotator_that_cannot_be_used(annotator: str, words: str, media: Path, tmp_path: Path) -> None:
    build = make({"samples": {"stage": "annotate", "annotators": [annotator]}}, media, tmp_path / "out")
    with pytest.raises((ValueError, ImportError, OSError), match=words):
        build.run()


def scored(number: int, seed: int = 0) -> list[Sample]:
    """Media with two opinions of a hidden quality; some have a label."""
    rng = np.random.default_rng(seed)
    samples = []
    for row in range(number):
        quality = float(rng.uniform(1, 5))
        seen = {"linear": 10 * quality + rng.normal(), "falling": -np.exp(-quality) + rng.normal() / 200}
        target = quality if row % 3 == 0 else None
        columns = {"opinions": {name: float(value) for name, value in seen.items()}, "hidden": quality}
        samples.append(
            Sample.from_dict(
                {
                    "id": f"{row}",
                    "dataset": "set",
                    "media": f"{row}.mp4",
                    "task": "medium",
                    "target": target,
                    **columns,
                }
            )
        )
    return samples


def level(samples: list[Sample], tmp_path: Path, **options: Any) -> list[Sample]:
    build = Build.of(
        recipe({"samples": {"stage": "level", **options}}), Listing(samples, {}), tmp_path, part_size=50
    )
    return read_samples(build.run())


def test_mappings_are_fitted_to_what_has_labels(tmp_path: Path) -> None:
    samples = scored(300)
    found = level(samples, tmp_path / "one", fit=True)
    hidden = np.array([sample.columns["hidden"] for sample in found])
    fitted = np.array([sample.target is not None and sample.target for sample in found], float)
    assert np.abs(fitted - hidden).mean() < 0.12
    assert [s.target for s in found[::3]] == [round(s.target or 0, 6) for s in samples[::3]]  # labels stay
    kept = tmp_path / "one" / "stages" / "samples" / "mappings.json"
    assert set(json.loads(kept.read_text())) == {"video/linear", "video/falling"}
    without = [Sample.from_dict({**sample.to_dict(), "target": None}) for sample in samples]
    again = level(without, tmp_path / "two", mappings=str(kept))
    assert [s.target for s in again[1::3]] == [s.target for s in found[1::3]]


def test_without_labels_the_range_of_the_scores_is_the_scale(tmp_path: Path) -> None:
    samples = [Sample.from_dict({**sample.to_dict(), "target": None}) for sample in scored(40)]
    found = level(samples, tmp_path, opinions=["linear"])
    values = np.array([sample.columns["opinions"]["linear"] for sample in found])
    shares = (values - values.min()) / np.ptp(values)
    np.testing.assert_allclose([sample.target for sample in found], 1 + 4 * shares, atol=1e-5)  # type: ignore[misc]
    assert {sample.spread for sample in found} == {None}
    for sample in found:
        assert sample.levels is not None
        # VITAL's axis: the levels in the middle of five intervals from 0 to 5
        mean = float(np.dot(sample.levels, [4.5, 3.5, 2.5, 1.5, 0.5]))
        assert mean == pytest.approx(np.clip(5 * ((sample.target or 0) - 1) / 4, 0.5, 4.5), abs=1e-5)


def test_dimensions_are_ranks_of_measures(tmp_path: Path) -> None:
    samples = [
        Sample.from_dict(
            {"id": f"{n}", "dataset": "s", "media": f"{n}.png", "opinions": {"blur": -float(n), "noise": 1.0}}
        )
        for n in range(10)
    ]
    found = level(samples, tmp_path, dimensions="measures")
    np.testing.assert_allclose(
        [s.columns["dimensions"]["sharpness"] for s in found], 0.95 - np.arange(10) / 10
    )
    assert {sample.columns["dimensions"]["noise"] for sample in found} == {0.5}


def test_pairs_and_what_is_known_of_both(tmp_path: Path) -> None:
    samples = [
        Sample.from_dict(
            {"id": f"{n}", "dataset": "s", "media": f"{n}.png", "target": 1 + n / 50, "spread": 0.3}
        )
        for n in range(200)
    ]
    stages = {"scores": {"stage": "level"}, "samples": {"stage": "pair", "share": 3}}
    build = Build.of(recipe(stages), Listing(samples, {}), tmp_path)
    found = read_samples(build.run())
    counts = Counter(sample.preference for sample in found)
    assert (counts[1], counts[0], counts[0.5]) == (240, 240, 120)
    for sample in found[:50]:
        first, second = (sample.columns[name]["target"] for name in ("first", "second"))
        difference = first - second
        margin = np.hypot(0.3, 0.3)
        assert sample.preference == (1 if difference > margin else 0 if -difference > margin else 0.5)
        assert [medium.path for medium in sample.media] == [
            f"{round((t - 1) * 50)}.png" for t in (first, second)
        ]


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({}, (40, 20)), ({"total": 30}, (20, 10)), ({"fill": True}, (40, 90)),
        ({"fill": True, "total": 30}, (20, 10)),
    ],
)  # fmt: skip
def test_a_mixture_keeps_its_proportions(
    options: dict[str, Any], numbers: tuple[int, int], tmp_path: Path
) -> None:
    samples = [
        Sample.from_dict(
            {"id": f"{n}", "dataset": "s", "media": f"{n}.mp4", "target": 3, "distortion": "jpeg"}
        )
        for n in range(90)
    ]
    stages = {
        "one": {"stage": "pair", "share": 40 / 90, "ratio": [0, 0, 1]},
        "other": {"stage": "build", "from": "media", "builder": "scoring"},
        "samples": {"stage": "mix", "parts": {"one": 2, "other": 1}, **options},
    }
    found = read_samples(Build.of(recipe(stages), Listing(samples, {}), tmp_path).run())
    counts = Counter(sample.task for sample in found)
    assert (counts["pair"], counts["score"]) == numbers
    assert [sample.task for sample in found] != sorted(sample.task for sample in found)


def test_what_cannot_be_mixed(tmp_path: Path) -> None:
    samples = [
        Sample.from_dict({"id": f"{n}", "dataset": "s", "media": f"{n}.mp4", "target": 3}) for n in range(5)
    ]
    twice = {
        "one": {"stage": "build", "builder": "scoring"},
        "other": {"stage": "build", "from": "media", "builder": "scoring", "style": "vqa2"},
        "samples": {"stage": "mix", "parts": {"one": 1, "other": 1}},
    }
    with pytest.raises(ValueError, match=r"both (one|other) and (one|other) have a sample"):
        Build.of(recipe(twice), Listing(samples, {}), tmp_path / "twice").run()
    empty = {**twice, "other": {"stage": "build", "from": "media", "builder": "recognition"}}
    with pytest.raises(ValueError, match="'other' has no samples"):
        Build.of(recipe(empty), Listing(samples, {}), tmp_path / "empty").run()


# --- language models -------------------------------------------------------------------------------------


def statements(url: str, **options: Any) -> dict[str, Any]:
    model = {"model": "tiny", "url": url, "retries": 0, "time_limit": 5}
    return {
        "pool": {"stage": "select", **SMALL},
        "statements": {"stage": "build", "builder": "depiction", "model": model, "num_frames": 2},
        "samples": {
            "stage": "judge",
            "judges": {"one": {**model, "model": "judge"}},
            "num_frames": 2,
            **options,
        },
    }


def talk(text: str) -> str:
    if "Answer as JSON" in text:
        return json.dumps({"score": 2, "correction": "", "reason": ""})
    return "Edges are soft throughout. Colours are pale and flat." if "Turn it" in text else "Soft and pale."


def test_statements_are_made_judged_and_asked_once(media: Path, tmp_path: Path) -> None:
    with ChatServer(talk) as server:
        stages = statements(server.url)
        found = read_samples(make(stages, media, tmp_path / "out").run())
        assert len(found) == 12
        assert {tuple(sample.columns["votes"]["one"]) for sample in found} == {(2, 2, 2)}
        pictures = [
            part
            for body in server.seen
            for part in body["messages"][0]["content"]
            if isinstance(part, dict) and part["type"] == "image_url"
        ]
        assert pictures
        before = server.asked.total()
        for part in (tmp_path / "out" / "stages" / "samples").glob("part-*"):
            part.unlink()
        assert read_samples(make(stages, media, tmp_path / "out").run()) == found
        assert server.asked.total() == before


def test_what_got_no_answer_is_tried_again(media: Path, tmp_path: Path) -> None:
    with ChatServer(
        talk, lambda text, times: "500" if "Answer as JSON" in text and "pale" in text else None
    ) as server:
        build = make(statements(server.url), media, tmp_path / "out")
        assert len(read_samples(build.run())) == 6
        assert reasons(build, "samples") == {"a model did not answer": 6}
        server.fault = lambda text, times: None
        answered = dict(server.answered)
        assert len(read_samples(build.run())) == 12
        assert not reasons(build, "samples")
        for text, times in answered.items():
            assert server.answered[text] == times


def test_a_server_that_is_gone_stops_the_build(media: Path, tmp_path: Path) -> None:
    samples = [
        Sample.from_dict({"id": f"{n}", "dataset": "s", "media": f"{n}.mp4", "depiction": f"dark {n}"})
        for n in range(60)
    ]
    with ChatServer(talk) as server:
        url = server.url
    model = {"model": "tiny", "url": url, "retries": 0}
    stages = {"samples": {"stage": "build", "builder": "understanding", "model": model}}
    with pytest.raises(ChatError, match=f"{MOST_IN_A_ROW} samples in a row got no answer; the last: tiny"):
        Build.of(recipe(stages), Listing(samples, {}), tmp_path).run()


# --- recipes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_can_be_read(path: Path) -> None:
    assert path.read_text().startswith(f"# vqathinker build {path.stem} ")
    for laptop in (False, True):
        found = Recipe.from_file(path, laptop=laptop)
        assert found.names[-1] == "samples"
        assert {plan.kind for plan in found.stages} <= set(STAGES)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipes_build_their_laptop_size(path: Path, media: Path, tmp_path: Path) -> None:
    found = Recipe.from_file(path, laptop=True)
    build = Build.of(found, list_media(media, tmp_path / "out"), tmp_path / "out")
    build.check()
    samples = build.run()
    write_report(build, samples)
    assert read_samples(samples)
    assert (tmp_path / "out" / "sheet.png").is_file()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "no stages"),
        ({"stagse": {}}, "no key 'stagse'; did you mean stages"),
        ({"stages": {"a": {"stage": "distrot"}}}, "no stage 'distrot'; did you mean distort"),
        (
            {"stages": {"a": {"stage": "distort", "kindes": []}}},
            "stage 'a' has no key 'kindes'; did you mean kinds",
        ),
        (
            {"stages": {"a": {"stage": "distort", "from": "medai"}}},
            "no 'medai' before it; did you mean media",
        ),
        ({"stages": {"a": {}}}, "needs a key 'stage'"),
        ({"stages": {"a": {"stage": "annotate"}}}, "annotate needs 'annotators'"),
        ({"stages": {"a b": {"stage": "distort"}}}, "cannot be the name"),
        ({"stages": {"media": {"stage": "distort"}}}, "cannot be the name"),
        ({"stages": {"a": {"stage": "pair", "from": ["media", "media"]}}}, "takes one source"),
    ],
)
def test_a_wrong_recipe_is_told_with_the_nearest(content: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=words) as caught:
        Recipe.from_file(tmp_path / "recipe.yaml")
    assert "recipe.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stage": "distort", "kinds": ["jpg"]}, "nearest: jpeg"),
        ({"stage": "distort", "kinds": ["jpeg"], "levels": [6]}, "levels 1 to 5, not 6"),
        ({"stage": "distort", "levels": "some"}, "numbers from 1"),
        ({"stage": "level", "axis": "middle"}, "choose one of ends, intervals"),
        ({"stage": "level", "mappings": "nowhere.json"}, "nowhere.json"),
        ({"stage": "build", "builder": "scorign"}, "nearest: scoring"),
        ({"stage": "build", "builder": "scoring", "stlye": "vqa2"}, "stlye"),
        ({"stage": "build", "builder": "understanding", "model": {"modle": "x"}}, "modle"),
        ({"stage": "mix", "parts": {"media": 0}}, "positive weights"),
        ({"stage": "pair", "ratio": [1, 2]}, "three numbers"),
    ],
)
def test_an_option_that_cannot_be_is_told_before_anything_runs(
    options: dict[str, Any], words: str, media: Path, tmp_path: Path
) -> None:
    build = make({"samples": options}, media, tmp_path / "out")
    with pytest.raises(ValueError, match=words) as caught:
        build.check()
    assert "stage 'samples'" in str(caught.value)


def test_values_are_laid_over_a_recipe(tmp_path: Path) -> None:
    found = Recipe.from_file(SHIPPED[0], changes=["seed=7", "samples.num_questions=3"])
    assert (found.seed, found.stages[-1].options["num_questions"]) == (7, 3)
    for change, words in (
        ("sampels.x=1", "did you mean samples"),
        ("x=1", "expected seed"),
        ("samples.x", "expected seed"),
    ):
        with pytest.raises(ValueError, match=words):
            Recipe.from_file(SHIPPED[0], changes=[change])


# --- from outside ----------------------------------------------------------------------------------------


def call(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def test_the_commands(media: Path, tmp_path: Path) -> None:
    code, said = call(
        "distort", media, tmp_path / "d", "--kind", "pixelate", "--kind", "darken", "--level", 2
    )
    assert (code, "12 samples" in said) == (0, True)
    assert (tmp_path / "d" / "sub" / "b_darken_2.mp4").is_file()
    code, said = call("distort", media / "a.mp4", tmp_path / "one.mp4", "--kind", "h264", "--level", 3)
    assert (code, "severe h264" in said) == (0, True)
    code, said = call(
        "opinions", media, "--annotator", "measures", "--of", "blur", "--of", "noise", "--out", tmp_path / "o"
    )
    assert (code, "6 samples" in said) == (0, True)
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"stages": {"samples": {"stage": "select", **SMALL}}}))
    code, said = call("build", tmp_path / "r.yaml", "--media", media, "--out", tmp_path / "b")
    assert (code, "6 samples" in said, "1 rejections" in said) == (0, True, True)
    code, said = call(
        "export", tmp_path / "d" / "samples.jsonl", tmp_path / "e.json", "--form", "llama-factory"
    )
    assert (code, len(json.loads((tmp_path / "e.json").read_text()))) == (0, 12)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("distort", "nowhere", "out"), "nowhere: no such file"),
        (("distort", "MEDIA", "out", "--kind", "pixlate"), "nearest: pixelate"),
        (("distort", "MEDIA", "out", "--level", "much"), "numbers from 1"),
        (("distort", "MEDIA/a.mp4", "x.mp4"), "needs one --kind and one --level"),
        (("distort", "MEDIA/a.mp4", "x.png", "--kind", "jpeg", "--level", "1"), "is written as .mp4"),
        (("build", "vitl", "--media", "MEDIA", "--out", "out"), "did you mean vital"),
        (("build", "vital", "--media", "nowhere", "--out", "out"), "nowhere is not a folder"),
        (
            ("build", "vital", "--media", "MEDIA", "--out", "out", "--labels", "no.csv"),
            "no.csv: no such label file",
        ),
        (("opinions", "MEDIA", "--out", "out", "--annotator", "mesures"), "nearest: measures"),
        (("export", "no.jsonl", "x.json"), "no.jsonl"),
    ],
)
def test_a_wrong_argument_is_one_line(
    words: tuple[str, ...], said: str, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = call(*(word.replace("MEDIA", str(media)) for word in words))
    assert (code, said in " ".join(output.split())) == (2, True), output
    assert output.strip().count("\n") == 0


PROGRAM = """
import sys
from pathlib import Path
from vqathinker.building.listing import list_media
from vqathinker.building.recipe import Recipe
from vqathinker.building.run import Build
from vqathinker.building.report import write_report
recipe, media, out = map(Path, sys.argv[1:])
build = Build.of(Recipe.from_file(recipe), list_media(media, out), out, part_size=3)
write_report(build, build.run())
"""


@pytest.mark.slow
def test_kills_lose_double_and_change_nothing(media: Path, tmp_path: Path) -> None:
    many = tmp_path / "media"
    many.mkdir()
    for number in range(rounds(30, 120)):
        source = ("a.mp4", "sub/b.mp4", "still0.png")[number % 3]
        (many / f"{number}{Path(source).suffix}").write_bytes((media / source).read_bytes())
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"stages": WHOLE_RECIPE}, sort_keys=False))
    command = [sys.executable, "-c", PROGRAM, str(path), str(many)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True)
    rng = np.random.default_rng(0)
    kills = 0
    while True:
        process = subprocess.Popen([*command, str(tmp_path / "killed")], start_new_session=True)
        try:
            process.wait(1.5 + 2 * rng.random() + 0.2 * kills)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        break
    assert process.returncode == 0
    assert kills >= 2
    one, other = tree(tmp_path / "whole"), tree(tmp_path / "killed")
    assert set(other) == set(one)
    assert {name for name in one if one[name] != other[name]} <= {"report.md"}


def interrupt(process: subprocess.Popen[str]) -> str:
    """Interrupt a process until it ends, as a person would: Python loses one that falls into a finaliser."""
    while True:
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=10)[1]
        except subprocess.TimeoutExpired:
            continue


def test_an_interrupt_is_one_line(media: Path, tmp_path: Path) -> None:
    program = "from vqathinker.cli import app; app()"
    # what the interrupt is to end says that it has begun
    annotator = f"command:touch {tmp_path}/begun; sleep 60"
    stages = {"samples": {"stage": "annotate", "annotators": [annotator]}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"stages": stages}))
    words = ["build", str(tmp_path / "recipe.yaml"), "--media", str(media), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    started = time.monotonic()
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        assert time.monotonic() - started < 120
        time.sleep(0.05)
    time.sleep(0.5)
    said = interrupt(process)
    assert process.returncode == 130
    assert "interrupted; what is done is kept" in said
    assert "Traceback" not in said


def test_a_full_disk_is_one_line_and_the_rest_is_kept(media: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump({"stages": {"samples": {"stage": "distort", "kinds": ["white_noise"], "levels": [5]}}})
    )
    program = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30000, 30000)); from vqathinker.cli import app; app()"
    )
    words = ["build", str(tmp_path / "recipe.yaml"), "--media", str(media), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "File too large" in done.stderr
    assert "the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").rglob(".*.mp4*"))


# --- what went wrong once --------------------------------------------------------------------------------


def of(samples: list[dict[str, Any]], stages: dict[str, Any], out: Path, part_size: int = 50) -> Build:
    """A build of samples that are given."""
    found = [Sample.from_dict({"dataset": "s", "media": f"{entry['id']}.mp4", **entry}) for entry in samples]
    return Build.of(recipe(stages), Listing(found, {}), out, part_size=part_size)


def test_a_second_try_reaches_the_stages_that_follow(tmp_path: Path) -> None:
    samples = [{"id": f"{n}", "depiction": f"It is dark, {n}.", "target": 3} for n in range(8)]
    told = json.dumps({"questions": [{"question": "Why so?", "options": [], "answer": "Too little light."}]})
    with ChatServer(lambda text: told, lambda text, times: "500" if "dark, 3." in text else None) as server:
        model = {"model": "tiny", "url": server.url, "retries": 0}
        stages = {
            "questions": {"stage": "build", "builder": "understanding", "model": model},
            "samples": {"stage": "mix", "parts": {"questions": 1}},
        }
        build = of(samples, stages, tmp_path, part_size=3)
        first = read_samples(build.run())
        server.fault = lambda text, times: None
        second = read_samples(build.run())
    assert {sample.columns["source"] for sample in second} - {s.columns["source"] for s in first} == {"3"}


def test_splits_of_sample_files_are_kept_apart(media: Path, tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    lines = [
        {"id": "1", "media": "a.mp4", "split": "train"},
        {"id": "2", "media": "still0.png", "split": "test"},
    ]
    path.write_text("".join(json.dumps(line | {"target": 3}) + "\n" for line in lines))
    listing = list_labels(path, media, tmp_path / "out", LabelReading(split="train", dataset="other"))
    assert [sample.key for sample in listing.samples] == [("other", "1")]


def test_levels_of_labels_are_fifths_of_their_range(media: Path, tmp_path: Path) -> None:
    labels = labelled(tmp_path, media, "name,mos\na.mp4,35\nstill0.png,10\nsub/b.mp4,50\n")
    listing = list_labels(labels, media, tmp_path / "out", LabelReading())
    stages = {"samples": {"stage": "build", "builder": "scoring"}}
    found = read_samples(Build.of(recipe(stages), listing, tmp_path / "out").run())
    assert [str(sample.answer).split()[-1] for sample in found] == ["poor.", "low.", "fair."]


def test_two_data_sets_may_share_ids(media: Path, tmp_path: Path) -> None:
    samples = [
        Sample("1", name, (Media(os.path.relpath(media / f"still{n}.png", tmp_path)),), "medium")
        for n, name in enumerate(("x", "y"))
    ]
    stages = {"samples": {"stage": "distort", "kinds": ["darken"], "levels": [1]}}
    found = read_samples(Build.of(recipe(stages), Listing(samples, {}), tmp_path).run())
    one, other = (tmp_path / sample.media[0].path for sample in found)
    assert one.read_bytes() != other.read_bytes()


def test_another_seed_renders_again(media: Path, tmp_path: Path) -> None:
    words = ["distort", media, tmp_path / "out", "--kind", "white_noise", "--level", 5]
    assert call(*words)[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*white_noise*")}
    assert call(*words, "--seed", 1)[0] == 2
    assert call(*words, "--seed", 1, "--overwrite")[0] == 0
    assert not any(path.read_bytes() == content for path, content in before.items())


def test_copies_do_not_have_the_quality_of_their_source(media: Path, tmp_path: Path) -> None:
    path = os.path.relpath(media / "still0.png", tmp_path)
    entry = {"id": "1", "media": path, "dimensions": {"noise": 0.9}, "opinions": {"blur": 1.0}, "width": 96}
    stages = {"samples": {"stage": "distort", "kinds": ["white_noise"], "levels": [5]}}
    (copy,) = read_samples(of([entry], stages, tmp_path).run())
    assert not {"dimensions", "opinions"} & copy.columns.keys()
    assert copy.columns["width"] == 96


def test_another_part_size_is_another_build(tmp_path: Path) -> None:
    samples = [{"id": f"{n}", "target": 3} for n in range(8)]
    stages = {"samples": {"stage": "build", "builder": "scoring"}}
    of(samples, stages, tmp_path, part_size=4).run()
    with pytest.raises(ValueError, match="part_size is 4 there and 3 here"):
        of(samples, stages, tmp_path, part_size=3).run()
    found = of(samples, stages, tmp_path, part_size=3)
    found.run(overwrite=True)
    assert len(read_samples(tmp_path / "samples.jsonl")) == 8


def test_what_is_built_inside_the_media_is_no_medium(media: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.png").write_bytes((media / "still0.png").read_bytes())
    words = ["distort", folder, folder / "copies", "--kind", "darken", "--level", 2]
    for _ in range(2):
        code, said = call(*words)
        assert (code, "1 samples" in said) == (0, True), said


def test_where_the_result_may_lie(media: Path, tmp_path: Path) -> None:
    source = tmp_path / "all" / "in"
    source.mkdir(parents=True)
    (source / "a.png").write_bytes((media / "still0.png").read_bytes())
    around = ["distort", source, tmp_path / "all", "--kind", "darken", "--level", 2]
    beside = ["distort", source / "a.png", source, "--kind", "darken", "--level", 3]
    for words in (around, around, beside, beside):
        assert call(*words)[0] == 0
    assert (tmp_path / "all" / "a_darken_2.png").is_file()
    assert (source / "a_darken_3.png").is_file()
    with pytest.raises(ValueError, match="is the folder of the media itself"):
        list_media(media, media)


def test_a_server_that_is_gone_is_noticed_over_parts(tmp_path: Path) -> None:
    with ChatServer(talk) as server:
        url = server.url
    model = {"model": "tiny", "url": url, "retries": 0, "concurrency": 2}
    stages = {"samples": {"stage": "build", "builder": "understanding", "model": model}}
    samples = [{"id": f"{n}", "depiction": f"dark {n}"} for n in range(30)]
    with pytest.raises(ChatError, match="20 samples in a row"):
        of(samples, stages, tmp_path / "many", part_size=7).run()
    with pytest.raises(ChatError, match="no question of the stage 'samples' was answered"):
        of(samples[:5], stages, tmp_path / "few").run()


def test_what_a_whole_stage_leaves_out_is_counted(tmp_path: Path) -> None:
    build = of([{"id": "1", "target": 3}, {"id": "2"}], {"samples": {"stage": "level"}}, tmp_path)
    write_report(build, build.run())
    text = (tmp_path / "report.md").read_text()
    assert "| samples | neither a score nor an opinion is known | 1 |" in text
    assert json.loads((tmp_path / "manifest.json").read_text())["levels of scores"] == {"fair": 1}
    assert "fair" in text.partition("Levels of scores")[2]


def test_a_name_with_signs_of_formulas_is_drawn(tmp_path: Path) -> None:
    build = of([{"id": "$a_{$", "target": 3}], {"samples": {"stage": "level"}}, tmp_path)
    write_report(build, build.run())
    drawn = re.findall(r"!\[.*?\]\((.+?)\)", (tmp_path / "report.md").read_text())
    assert drawn
    assert all((tmp_path / name).stat().st_size for name in drawn)


def test_a_table_may_have_columns_of_any_name(media: Path, tmp_path: Path) -> None:
    labels = labelled(tmp_path, media, "name,mos,id,levels\na.mp4,35,7,x\n")
    (sample,) = list_labels(labels, media, tmp_path, LabelReading()).samples
    assert (sample.columns["column_id"], sample.columns["column_levels"]) == ("7", "x")


@pytest.mark.parametrize(
    ("command", "number", "scores"),
    [
        ("cat > /dev/null; printf '1.5\\n\\n'", 2, [1.5, np.nan]),
        ("exit 1", 0, []),
        ("cat > /dev/null; echo nan", 1, [np.nan]),
    ],
)
def test_a_command_may_have_no_score(command: str, number: int, scores: list[float]) -> None:
    np.testing.assert_array_equal(CommandAnnotator(command)(["a"] * number), scores)


def test_a_command_that_takes_too_long_ends_with_its_children() -> None:
    with pytest.raises(ValueError, match=r"longer than 0\.3 s"):
        CommandAnnotator("sleep 471; true", time_limit=0.3)(["a"])
    assert not subprocess.run(["pgrep", "-f", "sleep 471"], capture_output=True).stdout


def test_kinds_are_drawn_that_have_the_level(media: Path, tmp_path: Path) -> None:
    build = make({"samples": {"stage": "distort", "levels": [5, 5]}}, media, tmp_path)
    stage: Any = build.recipe.stages[0].make(build.place("samples"))
    for sample in build.listing.samples:
        (treatment,) = stage.treatments(sample)
        assert treatment.level == 5


def test_one_copy_is_of_one_kind(media: Path, tmp_path: Path) -> None:
    code, said = call("distort", media / "still0.png", tmp_path / "x.png", "--kind", "all", "--level", 1)
    assert (code, "needs one --kind" in " ".join(said.split())) == (2, True)


def test_a_source_that_has_changed_is_not_taken_for_the_old_one(media: Path, tmp_path: Path) -> None:
    shutil.copytree(media, tmp_path / "media")
    Image.new("RGB", (64, 48), "blue").save(tmp_path / "media/flat.bmp")
    stages = {"samples": {"stage": "distort", "kinds": ["gaussian_blur"], "levels": [5], "media": "image"}}
    make(stages, tmp_path / "media", tmp_path / "out").run()
    Image.new("RGB", (64, 48), "red").save(tmp_path / "media/flat.bmp")  # of the same size
    with pytest.raises(ValueError, match="media was built otherwise"):
        make(stages, tmp_path / "media", tmp_path / "out").run()
    make(stages, tmp_path / "media", tmp_path / "out").run(overwrite=True)
    (copy,) = (tmp_path / "out/media").rglob("flat_gaussian_blur_5.png")
    assert np.asarray(Image.open(copy))[20, 20].tolist() == [255, 0, 0]


def test_a_picture_too_small_for_a_distortion_is_not_unreadable(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "media/a.png")
    build = make(
        {"samples": {"stage": "distort", "kinds": ["patches"], "levels": [1]}},
        tmp_path / "media",
        tmp_path / "out",
    )
    build.run()
    assert build.parts("samples").rejected() == {"the distortion does not suit it": 1}


def test_a_column_of_numbers_that_holds_none_is_named(media: Path, tmp_path: Path) -> None:
    for column in ("std", "seconds"):
        labels = labelled(tmp_path, media, f"name,mos,{column}\na.mp4,35,n/a\n")
        with pytest.raises(
            ValueError, match=f"a: the column '{column}' holds 'n/a', a number is expected"
        ) as error:
            list_labels(labels, media, tmp_path, LabelReading())
        assert str(labels) in str(error.value)

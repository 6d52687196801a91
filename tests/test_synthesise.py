"""The synthetic data set: labels that follow the distortions, real clips, no trace of the workers."""

import importlib.util
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import decode_all, read_rows
from hypothesis import given
from hypothesis import strategies as st

RECIPE = Path(__file__).parents[1] / "recipes" / "synthesise.py"


def load_recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("synthesise", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["synthesise"] = module  # dataclasses and pickle look the module up by its name
    spec.loader.exec_module(module)
    return module


sys.path.append(str(RECIPE.parent))  # it imports the world's scenes from beside it
recipe = load_recipe()
NAMES = tuple(recipe.WEIGHTS)
COUNTS = {"num_train": 4, "num_val": 2, "num_test": 2}
strength_lists = st.lists(st.floats(0, 1), min_size=len(NAMES), max_size=len(NAMES))


decode = partial(decode_all, codec="h264")


def distorted(**strengths: float) -> np.ndarray:
    """Return one fixed scene in [0, 1] under these distortions."""
    scene = recipe.render_scene("shapes", np.random.default_rng(0))
    return recipe.distort(scene, dict.fromkeys(NAMES, 0.0) | strengths, np.random.default_rng(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out_dir = tmp_path_factory.mktemp("synthetic")
    recipe.synthesise(out_dir, **COUNTS, num_workers=1)
    return out_dir


@given(strengths=strength_lists, name=st.sampled_from(NAMES), step=st.floats(1e-6, 1))
def test_mos_falls_with_each_strength(strengths: list[float], name: str, step: float) -> None:
    low = dict(zip(NAMES, strengths, strict=True))
    low[name] *= 1 - step
    high = low | {name: low[name] + step * (1 - low[name])}
    assert 0 < recipe.mos(high) < recipe.mos(low) <= 100


def test_mos_formula_by_hand() -> None:
    assert recipe.mos({}) == 100
    assert recipe.mos({"blur": 0.5, "drop": 1.0}) == pytest.approx(100 * (1 - 0.4) * 0.9)


@pytest.mark.parametrize("strengths", [{"blur": 1.1}, {"noise": float("nan")}, {"glare": 0.5}])
def test_mos_refuses_unknown_strengths(strengths: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(strengths))):
        recipe.mos(strengths)


def test_mos_spreads_over_the_range() -> None:
    labels = [recipe.mos(clip.strengths) for clip in recipe.plan("train", 2000, seed=0)]
    shares = np.histogram(labels, bins=5, range=(0, 100))[0] / len(labels)
    assert shares.min() > 0.05
    assert shares.max() < 0.35


def test_content_says_nothing_about_the_mos() -> None:
    labels = np.array([recipe.mos(clip.strengths) for clip in recipe.plan("train", 4000, seed=0)])
    same_scene = np.corrcoef(labels[0::2], labels[1::2])[0, 1]
    assert abs(same_scene) < 0.07  # three standard errors


def test_distortions_do_what_their_names_say() -> None:
    clean = distorted()
    assert np.array_equal(clean, recipe.render_scene("shapes", np.random.default_rng(0)))
    assert np.abs(np.diff(distorted(blur=1.0), axis=2)).mean() < 0.5 * np.abs(np.diff(clean, axis=2)).mean()
    assert distorted(contrast=1.0).std() == pytest.approx(0.25 * clean.std(), rel=1e-3)
    assert (distorted(noise=1.0) - clean).std() == pytest.approx(45 / 255, rel=1e-2)


@pytest.mark.parametrize(("name", "num_repeated"), [("freeze", 19), ("drop", 11)])
def test_frames_repeat(name: str, num_repeated: int) -> None:
    shown = recipe.shown_frames(dict.fromkeys(NAMES, 0.0) | {name: 1.0}, np.random.default_rng(0))
    assert len(shown) == recipe.NUM_FRAMES
    assert (np.diff(shown) == 0).sum() == num_repeated
    assert (shown <= np.arange(recipe.NUM_FRAMES)).all()


def test_files_are_h264_with_all_frames(folder: Path) -> None:
    for split in recipe.SPLITS:
        rows = read_rows(folder / f"{split}.csv")
        assert len(rows) == COUNTS[f"num_{split}"]
        assert list(rows[0]) == ["video", "mos", "scene", *NAMES]
        for row in rows:
            frames = decode(folder / row["video"])
            assert frames.shape == (recipe.NUM_FRAMES, 112, 112, 3)
            assert float(row["mos"]) == pytest.approx(
                recipe.mos({name: float(row[name]) for name in NAMES}), abs=1e-4
            )


def test_splits_share_no_scene() -> None:
    keys = [{clip.scene_key for clip in recipe.plan(split, 20, seed=0)} for split in recipe.SPLITS]
    names = [{clip.scene for clip in recipe.plan(split, 20, seed=0)} for split in recipe.SPLITS]
    assert len(set.union(*keys)) == len(set.union(*names)) == 30


def test_same_seed_gives_the_same_data_for_any_number_of_workers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(RECIPE.parent))  # spawned workers import the recipe by its name
    recipe.synthesise(tmp_path, **COUNTS, num_workers=2)
    for split in recipe.SPLITS:
        assert (folder / f"{split}.csv").read_bytes() == (tmp_path / f"{split}.csv").read_bytes()
        for row in read_rows(folder / f"{split}.csv"):
            assert np.array_equal(decode(folder / row["video"]), decode(tmp_path / row["video"]))


def test_restart_keeps_finished_files(folder: Path) -> None:
    kept, lost, table = (
        folder / name for name in ("videos/train-00000.mp4", "videos/val-00001.mp4", "val.csv")
    )
    expected, written = decode(lost), kept.stat().st_mtime_ns
    lost.unlink()
    table.unlink()
    lost.with_name(f"{lost.name}.part").write_bytes(b"half a clip")
    recipe.synthesise(folder, **COUNTS, num_workers=1)
    assert kept.stat().st_mtime_ns == written
    assert np.array_equal(decode(lost), expected)
    assert len(read_rows(table)) == COUNTS["num_val"]
    assert not list(folder.rglob("*.part"))


def test_other_parameters_are_refused_unless_overwritten(tmp_path: Path) -> None:
    counts = {"num_train": 1, "num_val": 0, "num_test": 0, "num_workers": 1}
    train = recipe.synthesise(tmp_path, **counts)["train"]
    before = train.read_bytes()
    with pytest.raises(ValueError, match="another data set"):
        recipe.synthesise(tmp_path, **counts, seed=1)
    assert train.read_bytes() == before
    recipe.synthesise(tmp_path, **counts, seed=1, overwrite=True)
    assert train.read_bytes() != before


def test_a_foreign_data_set_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("video,mos\n", encoding="utf-8")
    with pytest.raises(ValueError, match="another data set"):
        recipe.synthesise(tmp_path, num_workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["test.csv"]


@pytest.mark.parametrize("wrong", [{"num_val": -1}, {"num_workers": 0}, {"seed": -1}])
def test_wrong_arguments_write_nothing(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"at least|non-negative"):
        recipe.synthesise(tmp_path, **wrong)
    assert not list(tmp_path.iterdir())

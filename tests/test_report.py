"""Runs side by side: weights, pairing and significance against independent computations."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import conftest
import numpy as np
import pytest
from scipy import stats

from vqathinker.evaluation.compare import RunScores, Scores, differences, overall_of, read_run
from vqathinker.journal import Journal

call = partial(conftest.call, columns=250)


def scores(num_videos: int, noise: float, seed: int = 0, label_seed: int = 0) -> Scores:
    target = np.random.default_rng(label_seed).uniform(1, 5, num_videos)
    predicted = target + np.random.default_rng(seed + 1).normal(0, noise, num_videos)
    return Scores(tuple(f"{i}.mp4" for i in range(num_videos)), predicted, target)


def write(folder: Path, run: RunScores) -> Path:
    folder.mkdir(parents=True)
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "dataset", "path", "mos", "target", "score", "error", "text"])
        for name, part in run.items():
            for video, target, score in zip(part.videos, part.target, part.predicted, strict=True):
                writer.writerow([video, name, f"v/{video}", target, target, score, "", "said"])
    return folder


def test_long_texts_are_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", {"a": scores(5, 0.5)})
    text = (folder / "predictions.csv").read_text()
    (folder / "predictions.csv").write_text(text.replace("said", "said " * 40_000))
    limit = csv.field_size_limit()
    assert read_run(folder)["a"].videos == tuple(f"{i}.mp4" for i in range(5))
    assert csv.field_size_limit() == limit


def test_overall_is_weighted_by_the_numbers_of_videos() -> None:
    run = {"a": scores(300, 0.5), "b": scores(100, 2.0, seed=5)}
    srcc, plcc = (
        np.average([metric(part.predicted, part.target)[0] for part in run.values()], weights=[300, 100])
        for metric in (stats.spearmanr, stats.pearsonr)
    )
    assert overall_of([run], ["a", "b"])[0] == pytest.approx((srcc, plcc))


def test_the_paired_bootstrap_agrees_with_scipys() -> None:
    base, other = {"a": scores(200, 1.0)}, {"a": scores(200, 0.5, seed=7)}
    found = differences(base, other, {"a": ["a"]}, num_bootstrap=1000)["a"]
    for i, metric in enumerate((stats.spearmanr, stats.pearsonr)):

        def change(one: np.ndarray, two: np.ndarray, label: np.ndarray, metric=metric) -> float:  # noqa: ANN001
            return float(metric(two, label)[0] - metric(one, label)[0])

        data = (base["a"].predicted, other["a"].predicted, base["a"].target)
        result = stats.bootstrap(
            data, change, paired=True, vectorized=False, n_resamples=1000, method="percentile", rng=1
        )
        estimate = found.change[i]
        assert estimate.value == pytest.approx(change(*data))
        width = result.confidence_interval.high - result.confidence_interval.low
        assert estimate.low == pytest.approx(result.confidence_interval.low, abs=0.15 * width)
        assert estimate.high == pytest.approx(result.confidence_interval.high, abs=0.15 * width)
    assert found.num_videos == 200
    assert max(found.p_value) < 0.05


def test_equal_runs_and_chance_are_not_significant() -> None:
    base = {"a": scores(100, 1.0)}
    same = differences(base, base, {"a": ["a"]}, num_bootstrap=200)["a"]
    assert same.p_value == (1.0, 1.0)
    assert [(c.value, c.low, c.high) for c in same.change] == [(0, 0, 0)] * 2
    p_values = [
        differences(
            {"a": scores(60, 1.0, seed=2 * i + 10, label_seed=i)},
            {"a": scores(60, 1.0, seed=2 * i + 11, label_seed=i)},
            {"a": ["a"]},
            num_bootstrap=100,
        )["a"].p_value[0]
        for i in range(20)
    ]
    assert sum(p < 0.05 for p in p_values) <= 4  # 1 of 20 by chance; more than 4 in one case of 400


def test_only_videos_that_both_have_scored_are_paired() -> None:
    base, other = scores(50, 0.5), scores(50, 0.5, seed=3)
    base.predicted[:5] = np.nan
    order = np.random.default_rng(0).permutation(50)[:40]
    part = Scores(tuple(other.videos[i] for i in order), other.predicted[order], other.target[order])
    found = differences({"a": base}, {"a": part}, {"a": ["a"]}, num_bootstrap=10)["a"]
    both = [i for i in order if i >= 5]
    assert found.num_videos == len(both)
    expected = stats.spearmanr(other.predicted[both], other.target[both])[0]
    expected -= stats.spearmanr(base.predicted[both], base.target[both])[0]
    assert found.change[0].value == pytest.approx(expected)
    none = Scores(("x",), np.array([3.0]), np.array([3.0]))
    found = differences({"a": base}, {"a": none}, {"a": ["a"]}, num_bootstrap=10)["a"]
    assert found.num_videos == 0
    assert np.isnan(found.change[0].value)
    other.target[7] += 0.5
    with pytest.raises(
        ValueError, match=r"a: 7\.mp4 has the label .* in one run and .* in the other; evaluate"
    ):
        differences({"a": base}, {"a": other}, {"a": ["a"]}, num_bootstrap=10)


def test_a_run_may_be_spread_over_folders(tmp_path: Path) -> None:
    for name in ("LIVE-VQC", "VDPVE"):
        write(tmp_path / "run" / name, {name: scores(5, 0.1)})
    run = read_run(tmp_path / "run")
    assert sorted(run) == ["LIVE-VQC", "VDPVE"]
    assert run["VDPVE"].predicted == pytest.approx(scores(5, 0.1).predicted)
    write(tmp_path / "run" / "again", {"VDPVE": scores(5, 0.1)})
    with pytest.raises(ValueError, match="run holds two results for VDPVE; move one of them away"):
        read_run(tmp_path / "run")


def test_report(tmp_path: Path) -> None:
    sizes = {"LIVE-VQC": 30, "KoNViD-1k": 60, "VDPVE": 40}
    good = {name: scores(size, 0.3) for name, size in sizes.items()}
    bad = {name: scores(size, 1.5, seed=4) for name, size in sizes.items()} | {"own": scores(9, 1.0)}
    first, second = write(tmp_path / "first", bad), write(tmp_path / "second", good)
    result = call("report", first, second, "--markdown", "--paper", "--resamples", 200)
    assert result.exit_code == 0, result.output
    lines = {line.split(" | ")[0].lstrip("| "): line for line in result.stdout.splitlines() if "|" in line}
    konvid = f"{bad['KoNViD-1k'].measure()[0]:.3f} / {bad['KoNViD-1k'].measure()[1]:.3f}"
    assert f"| KoNViD-1k | {konvid} | " in result.stdout
    assert "| 0.881 / 0.884 |" in result.stdout  # as published
    names = list(lines)
    assert names.index("KoNViD-1k") < names.index("LIVE-VQC") < names.index("VDPVE")
    in_domain = overall_of([bad, good], ["KoNViD-1k", "LIVE-VQC"])
    cells = " | ".join(f"{srcc:.3f} / {plcc:.3f}" for srcc, plcc in in_domain)
    assert f"| in-domain overall (2 of 5 sets) | {cells} | " in result.stdout
    assert f"| own | {bad['own'].measure()[0]:.3f}" in result.stdout
    assert lines["own"].endswith("| - | - |")
    assert f"{second} minus {first}" in result.stdout
    assert lines["overall (3 sets)"].startswith("| overall (3 sets) | 130 | +0.")
    assert "arXiv 2508.06051, Table 8" in result.stderr
    alone = write(tmp_path / "alone", {"own": scores(9, 1.0)})
    assert "no data set is in all runs" in call("report", second, alone).stderr
    plain = call("report", first)
    assert plain.exit_code == 0
    assert "OOD overall (1 of 5 sets)" in plain.stdout
    assert "minus" not in plain.stdout
    assert r"\begin{tabular}{lrr}" in call("report", first, second, "--latex", "--resamples", 9).stdout


def test_names_are_no_markup(tmp_path: Path) -> None:
    runs = [write(tmp_path / f"run[lr={rate}]", {"set[old]": scores(9, 1.0)}) for rate in ("1e-6", "1e-5")]
    shown = call("report", *runs, "--resamples", 9).stdout.replace("\n", "")
    assert "set[old]" in shown
    assert "[lr=1e-6]" in shown


def test_user_errors(tmp_path: Path) -> None:
    run = write(tmp_path / "run", {"a": scores(9, 1.0)})
    with Journal(tmp_path / "half", {}):
        pass
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "predictions.csv").write_text("video,score\na,3\n")
    for arguments, message in (
        ((tmp_path / "none",), "none is not a folder"),
        ((tmp_path / "half",), "half is not finished, go on with the same `vqathinker evaluate`"),
        ((tmp_path / "other",), "predictions.csv is no result of `vqathinker evaluate`"),
        ((run, run), "a run is given twice"),
        ((run, "--markdown", "--latex"), "choose one of --markdown and --latex"),
    ):
        result = call("report", *arguments)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1

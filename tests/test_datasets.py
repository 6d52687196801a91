"""The records of the ten test sets, and checks of labels and folders against them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import conftest
import pytest
from typer.testing import CliRunner

from vqathinker.cli import app
from vqathinker.data.benchmarks import BENCHMARKS, Benchmark, find, findings
from vqathinker.data.dataset import read_labels
from vqathinker.metrics import overall
from vqathinker.scale import SCALES

# SPEC: name, videos; an example of a published name, and of one that is not
KNOWN = {
    "LSVQ-test": (7182, "yfcc-batch1/747.mp4", "747.mp4"),
    "LSVQ-1080p": (3573, "ia-batch24/youtube-CJyByjS_0HM.mp4", "backup.mp4"),
    "KoNViD-1k": (1200, "8129160337.mp4", "B155.mp4"),
    "LIVE-VQC": (585, "B155.mp4", "8129160337.mp4"),
    "YouTube-UGC": (1020, "Animation_1080P-05f8_crf_10_ss_00_t_20.0.mp4", "Animation_05f8.mp4"),
    "LIVE-YT-Gaming": (600, "ARKSuvivalEvolved-001.mp4", "Roblox.mp4"),
    "CGVDS": (357, "Overwatch_30_30fps_640x480_30_300_h264_nvenc.mp4", "Overwatch-001.mp4"),
    "LIVE-YT-HFR": (480, "1Runner_crf_0_24fps.mp4", "1Runner_24fps.mp4"),
    "Waterloo-IVC-4K": (1200, "HEVC_01_960x540_1.mp4", "H266_01_960x540_1.mp4"),
    "VDPVE": (839, "A0023_01.mp4", "D0023_01.mp4"),
}


call = partial(conftest.call, columns=200)


def write(folder: Path, names: list[str], mos: list[float]) -> Path:
    """Write labels in the format of the published files."""
    rows = [
        {"image_id": name, "ann_type": "score", "score": str(score)}
        for name, score in zip(names, mos, strict=True)
    ]
    path = folder / "labels.json"
    path.write_text(json.dumps({"annotations": rows}))
    return path


def konvid(folder: Path, num_videos: int = 1200, low: float = 24.4, high: float = 92.8) -> Path:
    step = (high - low) / (num_videos - 1)
    mos = [low + i * step for i in range(num_videos - 1)]
    return write(folder, [f"{8129160337 + i}.mp4" for i in range(num_videos)], [*mos, high])


def test_the_ten() -> None:
    assert {name: record.num_videos for name, record in BENCHMARKS.items()} == {
        name: known[0] for name, known in KNOWN.items()
    }
    assert [record.in_domain for record in BENCHMARKS.values()] == [True] * 5 + [False] * 5


@pytest.mark.parametrize("record", BENCHMARKS.values(), ids=BENCHMARKS)
def test_records(record: Benchmark) -> None:
    _, name, strange = KNOWN[record.name]
    assert record.is_name(name)
    assert record.is_name(name.removesuffix(".mp4"))
    assert record.is_name(f"folder/{name}")
    assert not record.is_name(strange)
    assert record.low < record.high
    assert record.higher_is_better
    assert record.scale in SCALES
    assert record.source.startswith("http")
    assert find(record.name.upper().replace("-", "_")) is record


def test_the_papers_overall_results() -> None:
    """Its own averages follow from its rows and the numbers of videos: .855/.866 and .662/.698."""
    for in_domain, expected in ((True, (0.855, 0.866)), (False, (0.662, 0.698))):
        records = [record for record in BENCHMARKS.values() if record.in_domain is in_domain]
        for values, value in zip(zip(*(r.paper for r in records), strict=True), expected, strict=True):
            assert overall(values, [r.num_videos for r in records]) == pytest.approx(value, abs=6e-4)


@pytest.mark.parametrize("factor", [1, 20])
def test_both_published_scales_give_the_same_targets(factor: int, tmp_path: Path) -> None:
    path = konvid(tmp_path, low=1.22 * factor, high=4.64 * factor)
    rows = read_labels(path, None, BENCHMARKS["KoNViD-1k"].reading()).to_rows()
    assert (rows["mos_low"][0], rows["mos_high"][0]) == (factor, 5 * factor)
    assert min(rows["target"]) == pytest.approx(1.22)
    assert set(rows["dataset"]) == {"KoNViD-1k"}
    assert findings(BENCHMARKS["KoNViD-1k"], rows) == []


def test_seven_points_reach_one_to_five(tmp_path: Path) -> None:
    names = [f"Fifa_30_1280x720_60_{i}000_h264_nvenc.mp4" for i in range(3)]
    path = write(tmp_path, names, [1, 4, 7])
    rows = read_labels(path, None, BENCHMARKS["CGVDS"].reading()).to_rows()
    assert rows["target"][:] == [1, 3, 5]


def test_list() -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["datasets"])
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    for name, (num_videos, *_) in KNOWN.items():
        line = next(line for line in result.stdout.splitlines() if line.startswith(f"{name} "))
        assert f" {num_videos} " in line
        assert BENCHMARKS[name].label_file in line
    one = call("datasets", "konvid1k")
    assert one.exit_code == 0
    for part in ("1200", "1 to 5 or 20 to 100, higher is better", "http", "Konvid-1k_total_ds_score.json"):
        assert part in one.stdout


def test_a_right_copy(tmp_path: Path) -> None:
    path = konvid(tmp_path)
    assert call("datasets", "KoNViD-1k", "--labels", path).exit_code == 0
    videos = tmp_path / "videos"
    videos.mkdir()
    for i in range(1200):
        (videos / f"{8129160337 + i}.mp4").touch()
    result = call("datasets", "KoNViD-1k", "--labels", path, "--videos", videos)
    assert result.exit_code == 0, result.output
    assert "1200 labels, 24.4 to 92.8 on a scale of 20 to 100, higher is better" in result.stdout
    assert "1200 of 1200 videos are there" in result.stdout
    (videos / "8129160340.mp4").unlink()
    (videos / "8129160341.mp4").rename(videos / "8129160341.avi")
    result = call("datasets", "KoNViD-1k", "--labels", path, "--videos", videos)
    assert result.exit_code == 1
    assert "1199 of 1200 videos are there" in result.stdout
    assert "8129160340.mp4: no such file" in result.stderr
    assert f"1 videos matched by stem: 8129160341.mp4 is {videos}/8129160341.avi" in result.stderr


def test_another_file(tmp_path: Path) -> None:
    result = call("datasets", "KoNViD-1k", "--labels", konvid(tmp_path, num_videos=7))
    assert result.exit_code == 1
    assert result.stderr == "7 labels, KoNViD-1k has 1200\n"
    result = call("datasets", "LIVE-VQC", "--labels", konvid(tmp_path, num_videos=585))
    assert result.exit_code == 1
    assert result.stderr.startswith("585 names are not those of LIVE-VQC: 8129160337.mp4, 8129160338.mp4,")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no data set 'nothing'; choose one of LSVQ-test, LSVQ-1080p, KoNViD-1k"),
        (
            ["YouTube-UGC", "--labels", "labels.json"],
            "MOS run from 24.4 to 92.8, those of YouTube-UGC from 1 to 5",
        ),
        (["KoNViD-1k", "--labels", "none.json"], "none.json"),
        (["KoNViD-1k", "--labels", "labels.json", "--videos", "none"], "--videos none is not a folder"),
        (["KoNViD-1k", "--videos", "."], "--videos needs --labels FILE"),
        (["--labels", "labels.json"], "name the data set"),
    ],
)
def test_user_errors(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    konvid(tmp_path)
    result = call("datasets", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1

"""Reports as pages: they hold what the results hold, need nothing else, and sort."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import call, read_rows

from vqathinker.web.html import Card, ReportPage, ReportTable, sparkline

LIMITS = ["--max-new-tokens", "40", "--workers", "1", "--answer-only"]
BASE = Path(__file__).parents[1] / "recipes/world/checkpoint"


@pytest.fixture(scope="module")
def folder(labelled_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("folder")
    for name in ("00.mp4", "01.mp4", "02.mp4", "03.mp4"):
        shutil.copy(labelled_videos / name, folder)
    (folder / "<b>no video.mp4").write_text("no video")
    return folder


def outside(text: str) -> list[str]:
    """Addresses that a browser would fetch."""
    found = re.findall(r"""(?:src|href)=["']([^"']+)""", text) + re.findall(r"url\(([^)]+)\)", text)
    return [address for address in found if not address.startswith(("data:", "#"))]


@pytest.fixture(scope="module")
def scored(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("pages") / "scores.html"
    result = call("score", BASE, folder, "--timeline", 0.8, "--html", page, *LIMITS)
    assert result.exit_code == 1, result.output  # one is no video
    return page


def test_scores(scored: Path, folder: Path) -> None:
    text = scored.read_text()
    assert not outside(text)
    assert text.count("data:image/jpeg;base64,") >= 4
    assert "&lt;b&gt;no video.mp4" in text
    assert "<b>no video" not in text
    assert 1 <= text.count("<polyline") <= 4  # of files with several scored windows


def test_scores_that_were_kept_give_the_same_page(folder: Path, tmp_path: Path) -> None:
    call("score", BASE, folder, "--out", tmp_path / "out", "--html", tmp_path / "one.html", *LIMITS)
    again = call("report", tmp_path / "out", "--html", tmp_path / "two.html")
    assert again.exit_code == 0, again.output
    one, two = ((tmp_path / name).read_text() for name in ("one.html", "two.html"))
    assert one.replace(">one<", "><") == two.replace(">out<", "><")


def test_an_evaluation(labelled_videos: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("video,mos\n" + "".join(f"0{number}.mp4,{1 + number}\n" for number in range(5)))
    out = tmp_path / "out"
    options = ["--videos", labelled_videos, "--range", 1, 5, "--out", out]
    assert call("evaluate", BASE, labels, *options, *LIMITS).exit_code == 0
    assert call("report", out, "--html", tmp_path / "page.html").exit_code == 0
    text = (tmp_path / "page.html").read_text()
    assert not outside(text)
    summary = json.loads((out / "summary.json").read_text())
    assert f"{summary['metrics']['rmse']['value']:.3f}" in text
    for row in read_rows(out / "predictions.csv"):
        assert f'data-value="{round(float(row["score"]), 3)}"' in text


def test_a_run_of_training(tmp_path: Path) -> None:
    log = [{"step": n, "reward": n / 10, "rewards/format/mean": 1.0, "kl": 0.1} for n in range(1, 6)]
    log.append({"step": 5, "eval_srcc": 0.61, "eval_plcc": 0.58})
    checkpoint = tmp_path / "run/checkpoint-5"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": 5, "log_history": log}))
    (tmp_path / "run/settings.yaml").write_text("# launched so\nbeta: 0.04\nrewards:\n- format\n- ranking\n")
    assert call("report", tmp_path / "run", "--html", tmp_path / "page.html").exit_code == 0
    text = (tmp_path / "page.html").read_text()
    assert text.count("<figure") == 4  # reward, its parts, KL, validation
    assert "0.61" in text
    assert "<td>0.04</td>" in text
    assert "<td>[format, ranking]</td>" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "--html", "page.html"], "nowhere is not a folder"),
        (["empty", "--html", "page.htm"], "expected FILE.html"),
        (["empty", "--html", "nowhere/page.html"], "nowhere is not a folder"),
        (["empty", "--html", "there.html"], "there.html exists; give --overwrite to replace it"),
        (["empty", "--html", "page.html"], "holds neither predictions.csv"),
        (["empty", "empty", "--html", "page.html"], "about one folder"),
    ],
)
def test_wrong_arguments(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.html").write_text("mine")
    result = call("report", *words)
    assert result.exit_code == 2
    assert message in result.stderr


def test_what_is_in_a_page_is_escaped(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    page = ReportPage(
        bad, [(bad, bad)], [], [(bad, [Card(bad, bad, bad)])], [ReportTable(bad, [bad], [[bad]])]
    )
    page.write(tmp_path / "page.html")
    assert bad not in (tmp_path / "page.html").read_text()


def test_a_line_over_time() -> None:
    assert 'points="60.0,14.0 120.0,28.0"' in sparkline([(1.0, 3.0), (2.0, 1.0)])


@pytest.mark.browser
@pytest.mark.filterwarnings("default")
def test_a_table_sorts_by_its_columns(browser: Any, scored: Path) -> None:  # noqa: ANN401
    tab = browser.new_page()
    tab.goto(f"file://{scored}")

    def column(number: int) -> list[str]:
        return [cell.inner_text() for cell in tab.query_selector_all(f"tbody tr td:nth-child({number})")]

    tab.click("th button >> text=score")
    scores = column(3)
    known = [float(score) for score in scores if score]
    assert known == sorted(known)
    assert scores[-1] == ""  # without a score comes last
    tab.click("th button >> text=score")
    assert [float(score) for score in column(3) if score] == sorted(known, reverse=True)
    tab.close()

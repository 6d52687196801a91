"""The page in a browser, with a real checkpoint behind it."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_video
from PIL import Image
from typer.testing import CliRunner

from vqathinker.cli import app
from vqathinker.scoring import Score, Scorer
from vqathinker.web.desk import Desk, Limits, Refused, interval_of
from vqathinker.web.page import launch_options, make_page, preview_of

BASE = Path(__file__).parents[1] / "recipes/world/checkpoint"
LIMITS = Limits(megabytes=1, seconds=20, samples=4, windows=10, files=4)
WAIT = 60_000  # milliseconds, on a loaded machine


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with Scorer.from_pretrained(BASE, max_new_tokens=48, num_workers=1) as scorer:
        yield Desk(scorer, LIMITS)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips, a long one, a picture, and a file that is none of them."""
    folder = tmp_path_factory.mktemp("media")
    write_video(folder / "one.mp4", 50)
    write_video(folder / "two & more.mp4", 30)
    write_video(folder / "long.mp4", 100, fps=1)
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(folder / "grey.png")
    (folder / "none.mp4").write_bytes(b"no video")
    (folder / "large.mp4").write_bytes(bytes(3 * 2**20))
    return folder


def test_a_score_with_its_interval_and_timeline(desk: Desk, media: Path) -> None:
    path = str(media / "one.mp4")
    once = desk.score(path)
    assert once.score.value == desk.scorer.score(path).score  # type: ignore[union-attr]
    assert math.isnan(once.score.low)
    several = desk.score(path, samples=4, window=0.5)
    assert several.score.low <= several.score.value <= several.score.high
    assert [round(second, 2) for second, _ in several.timeline] == [0.25, 0.75, 1.25, 1.75]
    assert desk.score(str(media / "grey.png"), window=1.0).timeline == ()


def test_the_interval_is_that_of_the_mean() -> None:
    score = Score(score=4.9, samples=(4.0, 5.0, 5.0, math.nan, 5.6), spread=0.66, mode="samples")
    found = interval_of(score)
    assert found.low == pytest.approx(4.9 - 1.96 * 0.66 / 2)
    assert found.high == 5.0  # the end of the scale


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (lambda desk, media: desk.score(str(media / "long.mp4")), "100 s, at most 20 are taken"),
        (lambda desk, media: desk.score(str(media / "large.mp4")), "3 MB, at most 1 are taken"),
        (lambda desk, media: desk.score(str(media / "none.mp4")), "none.mp4: "),
        (lambda desk, media: desk.score(str(media / "one.mp4"), samples=5), "5 samples: at most 4"),
        (lambda desk, media: desk.score(str(media / "one.mp4"), window=0.1), "20 windows: at most 10"),
        (lambda desk, media: desk.ask(str(media / "one.mp4"), "  "), "ask something"),
        (lambda desk, media: desk.table([str(media / "one.mp4")] * 5), "5 files: at most 4"),
        (lambda desk, media: desk.compare(str(media / "one.mp4"), str(media / "none.mp4"), 2), "none.mp4"),
    ],
)
def test_what_is_refused(
    request_: Callable[[Desk, Path], object], message: str, desk: Desk, media: Path
) -> None:
    with pytest.raises(Refused, match=message):
        request_(desk, media)


def test_a_table_has_every_file(desk: Desk, media: Path) -> None:
    paths = [str(media / name) for name in ("one.mp4", "none.mp4", "long.mp4", "grey.png")]
    found = desk.table(paths)
    assert [score.path for score in found] == paths
    assert [score.error is None for score in found] == [True, False, False, True]


def test_previews_are_escaped() -> None:
    assert 'src="/gradio_api/file=/tmp/a%20%22b%26.mp4"' in preview_of('/tmp/a "b&.mp4')
    assert preview_of("/tmp/a.png").startswith("<img")
    assert preview_of(None) == ""


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["web", str(tmp_path / "nothing")])
    assert result.exit_code == 2
    assert "nothing" in result.stderr


@pytest.fixture(scope="module")
def address(desk: Desk) -> Iterator[str]:
    page = make_page(desk)
    _, url, _ = page.launch(prevent_thread_lock=True, server_name="127.0.0.1", **launch_options(desk))
    yield url
    page.close()


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Any]:  # noqa: ANN401
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(WAIT)
    page.goto(address)
    yield page
    page.close()


def upload(tab: Any, box: str, *files: Path) -> None:  # noqa: ANN401
    tab.set_input_files(f"#{box} input[type=file]", [str(file) for file in files])
    tab.wait_for_selector(f"#{box} .file-preview")


pytestmark = pytest.mark.filterwarnings("default")  # of Gradio's own


@pytest.mark.browser
def test_score_and_ask(tab: Any, desk: Desk, media: Path) -> None:  # noqa: ANN401
    upload(tab, "medium", media / "one.mp4")
    tab.click("#score")
    tab.wait_for_selector(".score-number")
    score = desk.scorer.score(str(media / "one.mp4"))
    assert isinstance(score, Score)
    assert tab.inner_text(".score-number") == f"{score.score:.2f}"
    assert tab.input_value("#reasoning textarea") == score.reasoning
    # a file name with a space is shown and plays
    tab.click("#medium button[aria-label*=lear]")
    upload(tab, "medium", media / "two & more.mp4")
    tab.wait_for_function("document.querySelector('video.preview')?.readyState >= 2")
    tab.get_by_role("tab", name="Ask").click()
    tab.fill("#question textarea", "What is wrong?")
    tab.press("#question textarea", "Enter")
    tab.wait_for_selector("#chat .bot")
    assert "What is wrong?" in tab.inner_text("#chat")


@pytest.mark.browser
def test_compare(tab: Any, media: Path) -> None:  # noqa: ANN401
    tab.get_by_role("tab", name="Compare").click()
    upload(tab, "first", media / "one.mp4")
    upload(tab, "second", media / "grey.png")
    tab.click("#compare")
    tab.wait_for_selector("#verdict h3")
    said = tab.inner_text("#verdict")
    assert "one.mp4" in said
    assert "grey.png" in said


@pytest.mark.browser
def test_a_table_to_take_home(tab: Any, media: Path, tmp_path: Path) -> None:  # noqa: ANN401
    tab.get_by_role("tab", name="Table").click()
    upload(tab, "files", media / "one.mp4", media / "none.mp4", media / "grey.png")
    tab.click("#score-all")
    with tab.expect_download() as download:
        tab.click("#download a")
    download.value.save_as(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"one.mp4", "none.mp4", "grey.png"}
    assert float(rows["one.mp4"]["score"]) >= 1
    assert rows["none.mp4"]["error"]
    assert "one.mp4" in tab.inner_text("#table")


@pytest.mark.browser
def test_errors_and_limits_are_said(tab: Any, media: Path) -> None:  # noqa: ANN401
    tab.click("#score")
    tab.wait_for_selector("text=choose a video or a picture first")
    upload(tab, "medium", media / "long.mp4")
    tab.click("#score")
    tab.wait_for_selector("text=100 s, at most 20 are taken; cut it")
    # a file over the size limit is refused before it is here
    tab.reload()
    tab.set_input_files("#medium input[type=file]", str(media / "large.mp4"))
    tab.wait_for_selector("text=/exceed|too large|maximum/i")


@pytest.mark.browser
def test_eight_sessions_lose_nothing(browser: Any, address: str, desk: Desk, tmp_path: Path) -> None:  # noqa: ANN401
    """Each of eight sessions, which ask at the same time, gets the answer about its own file."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(8):
        path = tmp_path / f"{number}.png"
        noise = rng.integers(0, 256, (56, 56, 3)) * number // 8 + 60
        Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(path)
        files.append(path)
    tabs = [browser.new_context().new_page() for _ in files]
    for tab, path in zip(tabs, files, strict=True):
        tab.set_default_timeout(WAIT)
        tab.goto(address)
        upload(tab, "medium", path)
    for tab in tabs:
        tab.click("#score")
    found = []
    for tab in tabs:
        tab.wait_for_selector(".score-number")
        found.append((tab.inner_text(".score-number"), tab.input_value("#reasoning textarea")))
        tab.context.close()
    expected = [desk.score(str(path)) for path in files]
    assert found == [(f"{opinion.score.value:.2f}", opinion.reasoning) for opinion in expected]
    assert len(set(found)) > 1

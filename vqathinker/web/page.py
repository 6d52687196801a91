"""The page: score, ask, compare, and a table of many files. Made by Gradio; the desk does the work."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from vqathinker.media.names import VIDEO_SUFFIXES, is_image_name
from vqathinker.samples import IMAGE_SUFFIXES
from vqathinker.scale import ALIKE
from vqathinker.scoring import Score
from vqathinker.web.desk import Desk, Refused

T = TypeVar("T")

TITLE = "vqathinker"
FILE_TYPES = sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES)
COLUMNS = ("file", "score", "reasoning", "error")
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}
WAITING = 64  # requests in the queue, all sessions together
CSS = """
.score-number { font-size: 2.5rem; font-weight: 600; line-height: 1.2; }
.score-range { opacity: .75; }
.preview { height: 16rem; max-width: 100%; margin: auto; object-fit: contain; }
"""


def make_page(desk: Desk) -> Any:  # noqa: ANN401  gradio.Blocks, imported when it is made
    """The page as Gradio's blocks, whose queue lets one request at a time to the model.

    Raises:
        ImportError: if Gradio is not installed.
    """
    try:
        import gradio as gr
    except ImportError as error:
        raise ImportError("Gradio is not installed: pip install 'vqathinker[web]'") from error

    limits = desk.limits
    page = gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 3600))
    with page:
        gr.Markdown(
            f"# {TITLE}\nScores of video quality from 1 (very poor) to 5 (excellent), with reasons. "
            f"Files of up to {limits.megabytes} MB and {limits.seconds:.0f} s."
        )
        with gr.Tab("Score"):
            with gr.Row():
                with gr.Column():
                    medium = gr.File(label="Video or picture", file_types=FILE_TYPES, elem_id="medium")
                    preview = gr.HTML(elem_id="preview")
                    samples = gr.Slider(1, limits.samples, 1, step=1, label="Responses (1 is the likeliest)")
                    window = gr.Number(0, minimum=0, label="Timeline: seconds of a window (0 for none)")
                    button = gr.Button("Score", variant="primary", elem_id="score")
                with gr.Column():
                    number = gr.HTML(label="Score", elem_id="number")
                    reasoning = gr.Textbox(label="Reasoning", lines=6, elem_id="reasoning")
                    timeline = gr.Plot(label="Score over time", show_label=False, visible=False)
            shown = [preview, number, reasoning, timeline]
            button.click(
                _score(gr, desk), [medium, samples, window], [number, reasoning, timeline], **ONE_AT_A_TIME
            )
        with gr.Tab("Ask"):
            gr.Markdown("Questions about the video or picture of the first tab. Each is answered by itself.")
            chat = gr.Chatbot(label="Answers", elem_id="chat")
            question = gr.Textbox(label="Question", elem_id="question")
            medium.change(_preview(gr), medium, [*shown, chat])
            question.submit(_ask(gr, desk), [medium, question, chat], [question, chat], **ONE_AT_A_TIME)
        with gr.Tab("Compare"):
            with gr.Row():
                first = gr.File(label="First", file_types=FILE_TYPES, elem_id="first")
                second = gr.File(label="Second", file_types=FILE_TYPES, elem_id="second")
            rounds = gr.Slider(
                1, limits.samples, min(8, limits.samples), step=1, label="Responses about each"
            )
            against = gr.Button("Compare", variant="primary", elem_id="compare")
            verdict = gr.Markdown(elem_id="verdict")
            against.click(_compare(gr, desk), [first, second, rounds], verdict, **ONE_AT_A_TIME)
        with gr.Tab("Table"):
            files = gr.File(label="Files", file_count="multiple", file_types=FILE_TYPES, elem_id="files")
            all_of_them = gr.Button("Score all", variant="primary", elem_id="score-all")
            table = gr.Dataframe(headers=list(COLUMNS), interactive=False, wrap=True, elem_id="table")
            download = gr.File(label="As CSV", visible=False, interactive=False, elem_id="download")
            all_of_them.click(_table(gr, desk), files, [table, download], **ONE_AT_A_TIME)
    page.queue(max_size=WAITING)
    return page


def launch_options(desk: Desk) -> dict[str, Any]:
    """What `launch` is given beside an address."""
    return {
        "css": CSS,
        "max_file_size": f"{desk.limits.megabytes}mb",
        "share": False,  # whatever the environment says
        "mcp_server": False,
        "show_error": False,  # what is not meant for visitors is in the log
        "quiet": True,
        "footer_links": [],
        "ssr_mode": False,
        "enable_monitoring": False,
    }


def _showing_refusals(gr: Any, work: Callable[..., T]) -> Callable[..., T]:  # noqa: ANN401
    """A handler whose refusals are shown on the page."""

    @wraps(work)
    def handler(*arguments: Any) -> T:
        try:
            return work(*arguments)
        except Refused as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from error

    return handler


def _needed(path: str | None, what: str = "a video or a picture") -> str:
    if not path:
        raise Refused(f"choose {what} first")
    return path


def _preview(gr: Any) -> Callable[..., Any]:  # noqa: ANN401
    def show(path: str | None) -> tuple[Any, ...]:
        return preview_of(path), "", "", gr.Plot(visible=False), []

    return show


def preview_of(path: str | None) -> str:
    """A medium as the browser shows it; nothing is converted, so that some formats it may not."""
    if not path:
        return ""
    source = f"/gradio_api/file={quote(path)}"
    if is_image_name(path):
        return f'<img class="preview" src="{source}" alt="the picture">'
    return f'<video class="preview" src="{source}" controls muted loop></video>'


def _score(gr: Any, desk: Desk) -> Callable[..., Any]:  # noqa: ANN401
    def score(path: str | None, samples: int, window: float | None) -> tuple[str, str, Any]:
        opinion = desk.score(_needed(path), int(samples), window or 0.0)
        plot = _plot(opinion.timeline) if opinion.timeline else None
        value = opinion.score
        if math.isnan(value.value):
            return (
                "<p>The response holds no score.</p>",
                opinion.reasoning,
                gr.Plot(plot, visible=plot is not None),
            )
        between = ""
        if not math.isnan(value.low):
            between = f'<div class="score-range">95 % interval {value.low:.2f} to {value.high:.2f}</div>'
        html = f'<div class="score-number">{value.value:.2f}</div>{between}'
        return html, opinion.reasoning, gr.Plot(plot, visible=plot is not None)

    return _showing_refusals(gr, score)


def _ask(gr: Any, desk: Desk) -> Callable[..., Any]:  # noqa: ANN401
    def ask(
        path: str | None, question: str, history: list[dict[str, Any]]
    ) -> tuple[str, list[dict[str, Any]]]:
        answer = desk.ask(_needed(path), question)
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return "", [*history, *turns]

    return _showing_refusals(gr, ask)


def _compare(gr: Any, desk: Desk) -> Callable[..., Any]:  # noqa: ANN401
    def compare(first: str | None, second: str | None, samples: int) -> str:
        paths = (_needed(first, "the first"), _needed(second, "the second"))
        votes = desk.compare(*paths, int(samples))
        preference = votes.preference()
        names = [
            f"{Path(path).name} ({place})" for path, place in zip(paths, ("first", "second"), strict=True)
        ]
        won, alike, lost = votes.rounds()
        lines = [f"{names[0]} wins {won} rounds, {names[1]} {lost}, {alike} alike."]
        if not math.isnan(preference.low):
            lines.append(f"Share of the first: 95 % interval {preference.low:.2f} to {preference.high:.2f}.")
        lines += [f"**{name}**: {reason or '–'}" for name, reason in zip(names, votes.reasons, strict=True)]
        said = "\n\n".join(lines)
        if preference.value == ALIKE:
            return f"### {names[0]} and {names[1]} are alike\n\n{said}"
        better, worse = names if preference.value > ALIKE else names[::-1]
        return f"### {better} is better than {worse}\n\n{said}"

    return _showing_refusals(gr, compare)


def _table(gr: Any, desk: Desk) -> Callable[..., Any]:  # noqa: ANN401
    from gradio.processing_utils import save_bytes_to_cache
    from gradio.utils import get_upload_folder

    def table(paths: list[str] | None) -> tuple[list[list[Any]], Any]:
        if not paths:
            raise Refused("choose files first")
        rows = [_row(score) for score in desk.table(paths)]
        content = io.StringIO(newline="")
        writer = csv.writer(content)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
        # among what visitors have uploaded, which is removed after an hour
        path = save_bytes_to_cache(content.getvalue().encode(), "scores.csv", get_upload_folder())
        return rows, gr.File(path, visible=True)

    return _showing_refusals(gr, table)


def _row(score: Score) -> list[Any]:
    value = "" if math.isnan(score.score) else round(score.score, 2)
    return [Path(score.path).name, value, score.reasoning, score.error or ""]


def _plot(timeline: tuple[tuple[float, float], ...]) -> Any:  # noqa: ANN401  a figure of matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*timeline, strict=True), marker="o", markersize=3)
    axes.set(title="score over time", xlabel="seconds", ylabel="score", ylim=(0.9, 5.1))
    axes.grid(alpha=0.3)
    return figure

"""A report as one HTML file that needs nothing else: facts, figures, galleries, sortable tables."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vqathinker import __version__
from vqathinker.atomic import write_whole
from vqathinker.media.container import VideoError
from vqathinker.media.guarded import GuardedReader
from vqathinker.media.medium import read_medium

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATE = Path(__file__).with_name("report.html.j2")
THUMBNAIL = 224  # pixels of the longer side
QUALITY = 70  # of its JPEG


@dataclass(frozen=True)
class Card:
    """A medium in a gallery.

    Attributes:
        name: of the file.
        value: what is large.
        text: what is small.
        picture: address of its picture, which may hold it.
    """

    name: str
    value: str
    text: str = ""
    picture: str = ""


@dataclass(frozen=True)
class ReportTable:
    """A table whose columns sort.

    Attributes:
        title: above it.
        header: of the columns.
        rows: cells: text, numbers, `{"picture": address}` or `{"svg": drawing}`.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class ReportPage:
    """What a report holds.

    Attributes:
        title: of the page.
        facts: names and values.
        figures: captions and SVG drawings.
        galleries: titles and cards.
        tables: below.
    """

    title: str
    facts: Sequence[tuple[str, Any]] = ()
    figures: Sequence[tuple[str, str]] = ()
    galleries: Sequence[tuple[str, Sequence[Card]]] = ()
    tables: Sequence[ReportTable] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the file, in one piece.

        Raises:
            OSError: if it cannot be written.
        """
        from jinja2 import Environment

        environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
        write_whole(path, template.render(page=self, version=__version__))


def svg(figure: Figure) -> str:
    """A figure of matplotlib as an SVG element."""
    from matplotlib import rc_context

    content = io.StringIO()
    with rc_context({"svg.hashsalt": "vqathinker"}):  # names inside are the same each time
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    text = content.getvalue()
    return text[text.index("<svg") :]


def histogram(scores: Sequence[float]) -> str:
    """How often which score is given."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(scores, bins=32, range=(1, 5))
    axes.set(xlabel="score", ylabel="videos", xlim=(1, 5))
    return svg(figure)


def sparkline(points: Sequence[tuple[float, float]]) -> str:
    """Scores over time as a small drawing, from 1 at the bottom to 5 at the top.

    >>> sparkline([(0.0, 1.0), (2.0, 5.0)])[-45:]
    'points="0.0,28.0 120.0,0.0"></polyline></svg>'
    """
    end = max((second for second, _ in points), default=0.0) or 1.0
    places = " ".join(f"{120 * second / end:.1f},{28 - 7 * (score - 1):.1f}" for second, score in points)
    return (
        '<svg width="120" height="30" viewBox="0 -1 120 30" role="img" aria-label="score over time">'
        f'<polyline fill="none" stroke="currentColor" points="{places}"></polyline></svg>'
    )


def thumbnails(paths: Sequence[str], reader: GuardedReader) -> Mapping[str, str]:
    """The middle of each file as a picture in an address; files that cannot be read are left out."""
    shrink = partial(_shrunk, side=THUMBNAIL)
    clips = reader.map(partial(read_medium, num_keyframes=1, resize=shrink), paths)
    return {
        path: _address(clip.frames[0])
        for path, clip in zip(paths, clips, strict=True)
        if not isinstance(clip, VideoError)
    }


def _shrunk(frames: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = frames.shape[1:3]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]).astype(
        np.uint8
    )


def _address(frame: NDArray[np.uint8]) -> str:
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"

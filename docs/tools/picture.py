"""Draw the first page's picture: what one step of training does.

python docs/tools/picture.py

Writes `docs/pictures/training.svg`, plain SVG that looks the same on light and on dark pages.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

PICTURE = Path(__file__).parents[1] / "pictures" / "training.svg"

WIDTH = 960
HEIGHT = 400
INK = "#1f2430"
SOFT = "#5b6472"
LINE = "#aeb6c2"
PAPER = "#ffffff"
BLUE = "#2b5fb8"
ORANGE = "#b85c1e"
GREEN = "#2f7d4f"
TINTS = {BLUE: "#e8effa", ORANGE: "#fbeee4", GREEN: "#e6f3ea", LINE: "#f5f6f8"}

TIP = 'marker-end="url(#tip)"'

CLEAN = (0, 1, 2, 3, 4, 5)
SHUFFLED = (3, 0, 5, 1, 4, 2)
REWARDS = (
    ("format", "one think block, one answer"),
    ("regression", "how near the MOS"),
    ("ranking", "the right side of every other video"),
    ("temporal", "the video beats its twin"),
    ("your own", "any function of the batch"),
)


def main() -> None:
    """Write the picture."""
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(), encoding="utf-8")


def draw() -> str:
    """Return the picture as the text of an SVG file."""
    parts = [
        *strip(40, 92, CLEAN, "a video, MOS 3.4", BLUE),
        *strip(40, 246, SHUFFLED, "its twin, frames out of order", ORANGE),
        *model(),
        *answers(496, 66, "K responses", ("3.35", "3.52", "2.90"), BLUE),
        *answers(496, 220, "K responses to the twin", ("2.10", "2.45", "1.80"), ORANGE),
        *rewards(),
        *arrow((196, 118), (250, 150)),
        *arrow((196, 272), (250, 240)),
        *arrow((440, 150), (486, 118)),
        *arrow((440, 240), (486, 272)),
        *arrow((664, 118), (710, 150)),
        *arrow((664, 272), (710, 240)),
        *update(),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif" role="img" aria-label="One step of training">'
    )
    size = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
    tip = f'<marker id="tip" {size} orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{SOFT}"/></marker>'
    paper = box(0, 0, WIDTH, HEIGHT, PAPER, PAPER, radius=14)
    return "\n".join([head, f"<defs>{tip}</defs>", paper, *parts, "</svg>"]) + "\n"


def strip(x: int, y: int, order: tuple[int, ...], title: str, colour: str) -> list[str]:
    """Six frames with a ball that falls along its way, in the given order."""
    parts = [text(x, y - 12, title, colour=colour, weight="bold")]
    for place, frame in enumerate(order):
        left = x + 26 * place
        parts.append(box(left, y, 24, 52, TINTS[colour], colour, radius=3))
        centre = y + 10 + 6.4 * frame
        parts.append(f'<circle cx="{left + 12}" cy="{centre:g}" r="5" fill="{colour}"/>')
    return parts


def model() -> list[str]:
    """The network that answers."""
    return [
        box(256, 112, 178, 166, TINTS[LINE], LINE),
        text(345, 136, "the policy, InternVL3", anchor="middle", weight="bold"),
        *row(160, "vision tower", "frames"),
        *row(198, "SlowFast", "motion, frozen"),
        *row(236, "language model", "answers"),
    ]


def row(y: int, name: str, note: str) -> list[str]:
    """One part of the network."""
    return [
        box(268, y - 12, 154, 30, PAPER, LINE, radius=5),
        text(276, y + 8, name, size=12),
        text(414, y + 8, note, size=11, anchor="end", colour=SOFT),
    ]


def answers(x: int, y: int, title: str, scores: tuple[str, ...], colour: str) -> list[str]:
    """A stack of responses."""
    parts = [text(x, y, title, colour=colour, weight="bold")]
    for place, score in enumerate(scores):
        top = y + 12 + 26 * place
        parts.append(box(x, top, 164, 22, TINTS[colour], colour, radius=4))
        parts.append(text(x + 8, top + 15, f"<think>…<answer>{score}", size=12, family="monospace"))
    return parts


def rewards() -> list[str]:
    """The list of what a response is rewarded for."""
    parts = [box(716, 64, 214, 262, TINTS[GREEN], GREEN)]
    parts.append(text(730, 88, "rewards", colour=GREEN, weight="bold"))
    for place, (name, note) in enumerate(REWARDS):
        top = 116 + 44 * place
        parts.append(text(730, top, name, size=13, weight="bold"))
        parts.append(text(730, top + 16, note, size=11, colour=SOFT))
    return parts


def update() -> list[str]:
    """The way back: the policy's step."""
    title = "One step of training: 16 videos of 4 responses each, over all GPUs"
    rule = "GRPO: responses better than their group's mean become likelier"
    way = f'<path d="M823 326 V362 H345 V286" fill="none" stroke="{SOFT}" stroke-width="1.5" {TIP}/>'
    return [
        way,
        text(584, 354, rule, size=12, anchor="middle", colour=SOFT),
        text(480, 34, title, anchor="middle", size=15, weight="bold"),
    ]


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str, radius: int = 8) -> str:
    """A rectangle with round corners."""
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}"'
    return f'<rect {place} fill="{fill}" stroke="{stroke}"/>'


def text(
    x: float,
    y: float,
    words: str,
    *,
    size: int = 13,
    colour: str = INK,
    anchor: str = "start",
    weight: str = "normal",
    family: str = "",
) -> str:
    """A line of text."""
    font = f' font-family="{family}"' if family else ""
    style = f'font-size="{size}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}"{font}'
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(words)}</text>'


def arrow(start: tuple[int, int], end: tuple[int, int]) -> list[str]:
    """A straight arrow."""
    (x1, y1) = start
    (x2, y2) = end
    ends = f'x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"'
    return [f'<line {ends} stroke="{SOFT}" stroke-width="1.5" {TIP}/>']


if __name__ == "__main__":
    main()

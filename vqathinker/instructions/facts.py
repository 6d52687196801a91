"""What is known of a medium's quality, as single facts that templates put into words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vqathinker.distortions import DISTORTIONS
from vqathinker.distortions.base import TEMPORAL_WORDS
from vqathinker.instructions.dimensions import DIMENSIONS, rate
from vqathinker.instructions.recognition import name_of
from vqathinker.instructions.wording import RATED_STATEMENT, STATEMENT
from vqathinker.samples import VIDEO, Sample
from vqathinker.scale import SEVERITIES, UNSEEN, WORDS

THROUGHOUT = "throughout the whole playback"


@dataclass(frozen=True)
class Fact:
    """One attribute of a medium.

    Attributes:
        attribute: what, as "motion blur" or "sharpness".
        degree: how much of a problem, as "severe", or how good an attribute, as "fair".
        time: when, in words; empty if it is not told.
        place: where in the picture, likewise.
        degrees: the words that `degree` is one of.
        is_problem: whether it is a problem, not an attribute that may be good.
    """

    attribute: str
    degree: str
    time: str = ""
    place: str = ""
    degrees: tuple[str, ...] = SEVERITIES
    is_problem: bool = True

    def phrase(self) -> str:
        """A problem in the middle of a sentence."""
        return " ".join(part for part in (self.degree, self.attribute, self.place, self.time) if part)

    def statement(self, kind: str) -> str:
        """A whole sentence about a medium of a kind."""
        if self.is_problem:
            return STATEMENT.format(kind=kind, fact=self.phrase())
        degree = " ".join(part for part in (self.degree, self.place, self.time) if part)
        return RATED_STATEMENT.format(kind=kind, attribute=self.attribute, degree=degree)


def facts_of(sample: Sample) -> list[Fact]:
    """The facts in a sample's columns, those of a depiction first.

    Columns: `depiction`, a list of objects with `attribute`, `degree` and if need be `time` and `place`;
    `distortion` with `severity`; `dimensions` with a share from 0 to 1 each.

    Raises:
        ValueError: if a column cannot be read so.
    """
    columns = sample.columns
    facts = []
    if isinstance(columns.get("depiction"), list):
        facts += [_depicted(entry) for entry in columns["depiction"]]
    if columns.get("distortion") and columns.get("severity") != UNSEEN:
        kind = str(columns["distortion"])
        needs_time = kind in DISTORTIONS and getattr(DISTORTIONS[kind], "needs_time", False)
        facts.append(
            Fact(
                name_of(kind),
                str(columns.get("severity", "")),
                time=str(columns.get("time", THROUGHOUT)) if sample.media[0].kind == VIDEO else "",
                place=str(columns.get("place", "")),
                degrees=TEMPORAL_WORDS if needs_time else SEVERITIES,
            )
        )
    for name, share in dimensions_of(columns).items():
        facts.append(Fact(DIMENSIONS[name].title, rate(share), degrees=WORDS, is_problem=False))
    return facts


def _depicted(entry: Any) -> Fact:  # noqa: ANN401  what a file holds
    if not isinstance(entry, Mapping) or not {"attribute", "degree"} <= set(entry):
        raise ValueError(
            f"a part of the depiction is {entry!r}: expected an object with attribute and degree"
        )
    degree = str(entry["degree"])
    is_problem = degree not in WORDS
    told = {name: str(entry.get(name, "")) for name in ("time", "place")}
    degrees = SEVERITIES if is_problem else WORDS
    return Fact(str(entry["attribute"]), degree, degrees=degrees, is_problem=is_problem, **told)


def dimensions_of(columns: Mapping[str, Any]) -> dict[str, float]:
    """The scores of dimensions, those that there are.

    Raises:
        ValueError: for an unknown dimension or a score outside 0 to 1.
    """
    found = columns.get("dimensions") or {}
    if not isinstance(found, Mapping):
        raise ValueError(f"dimensions is {found!r}: expected an object of scores")
    for name, share in found.items():
        if name not in DIMENSIONS:
            raise ValueError(f"there is no dimension {name!r}, but {', '.join(DIMENSIONS)}")
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(f"the dimension {name!r} has {share!r}: expected a share from 0 to 1")
    return {name: float(share) for name, share in found.items()}

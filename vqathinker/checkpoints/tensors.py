"""Which stored tensor becomes which weight, and the report of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor

from vqathinker.checkpoints import layouts
from vqathinker.checkpoints.storage import EMBEDDINGS, HEAD, Stored, same_values, write_json

NUM_NAMED = 3


@dataclass
class Conversion:
    """What became of every tensor.

    Attributes:
        source: path or hub id.
        layout: of the source: "internvl_chat", "internvl" or "vqathinker".
        target: "vqathinker" or "internvl-hf".
        used: new names by stored name.
        left_out: stored names that the target does without: a motion branch, a head tied to the embeddings.
        added: new names that the source lacks: SlowFast from its file, a random motion projector.
        unused: stored names without a place in the target.
        missing: new names that nothing fills.
        mismatched: what is wrong with a tensor, by stored name.
        files: what was written.
    """

    source: str
    layout: str
    target: str
    used: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        """One phrase for each kind of fault, naming its first tensors."""
        wrong = [f"{name} ({fault})" for name, fault in self.mismatched.items()]
        kinds = {"unused": self.unused, "missing": self.missing, "mismatched": wrong}
        return [
            f"{len(names)} {kind}: {', '.join(names[:NUM_NAMED])}{', …' if len(names) > NUM_NAMED else ''}"
            for kind, names in kinds.items()
            if names
        ]

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        write_json(path, asdict(self))


class ConversionError(ValueError):
    """Tensors and configuration of a checkpoint do not match; `report` names all of them."""

    def __init__(self, report: Conversion) -> None:
        self.report = report
        super().__init__(
            f"the tensors of {report.source} are not those of its config.json: {'; '.join(report.faults())}; "
            "nothing was written, take both from the same checkpoint"
        )


@dataclass(frozen=True)
class Piece:
    """A stored tensor, or one of its equal parts, that becomes one of our weights."""

    stored: Stored
    part: int = 0
    num_parts: int = 1

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of the part; None if the tensor cannot be cut."""
        return self.stored.part_shape(self.num_parts)

    def read(self) -> Tensor:
        """The data of the part."""
        return self.stored.read(self.part, self.num_parts)


def assign(stored: Mapping[str, Stored], report: Conversion) -> dict[str, Piece]:
    """Pieces by the names of our weights; reports what has no such name, or one that is taken."""
    pieces: dict[str, Piece] = {}
    for tensor in stored.values():
        names = layouts.our_names(tensor.name, report.layout)
        if not names:
            report.unused.append(tensor.name)
        for part, name in enumerate(names):
            if name in pieces:
                report.mismatched[tensor.name] = f"the same weight as {pieces[name].stored.name}"
            pieces[name] = Piece(tensor, part, len(names))
    return pieces


def leave_out(pieces: dict[str, Piece], report: Conversion) -> None:
    """Remove the motion branch from `pieces`."""
    for name in [name for name in pieces if name.startswith(layouts.MOTION_PARTS)]:
        report.left_out.append(pieces.pop(name).stored.name)


def find_tie(pieces: dict[str, Piece], report: Conversion, *, in_text: bool | None, at_top: bool) -> bool:
    """Whether the language model's head is its embeddings; removes such a head from `pieces`.

    A head that is stored and differs is none, whatever a default says. One that is stored in spite of the
    language model's own settings is mismatched.

    Args:
        pieces: by the names of our weights.
        report: takes note of the head.
        in_text: what the language model's settings say, None if nothing.
        at_top: what those of the whole say, which may be a default.
    """
    is_tied = at_top if in_text is None else in_text
    if not is_tied or HEAD not in pieces or EMBEDDINGS not in pieces:
        return is_tied
    head = pieces[HEAD].stored
    is_same = same_values(head, pieces[EMBEDDINGS].stored)
    if not is_same and in_text is None:
        return False
    del pieces[HEAD]
    if is_same:
        report.left_out.append(head.name)
    else:
        report.mismatched[head.name] = "not the embeddings, in spite of tie_word_embeddings"
    return True


def check(
    pieces: dict[str, Piece],
    extras: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    report: Conversion,
    *,
    is_tied: bool,
) -> None:
    """Complete the report.

    Args:
        pieces: by the names of our weights.
        extras: further weights by name.
        expected: state of the target model; shapes and types count.
        report: is filled in.
        is_tied: whether the language model's head is its embeddings.

    Raises:
        ConversionError: if anything is unused, missing or mismatched.
    """
    wanted = {name: weight for name, weight in expected.items() if not (is_tied and name == HEAD)}
    for name, piece in pieces.items():
        if name not in wanted:
            report.unused.append(piece.stored.name)
        else:
            report.used.setdefault(piece.stored.name, []).append(name)
            fault = _fault(piece, wanted[name])
            if fault:
                report.mismatched[piece.stored.name] = fault
    report.added.extend(extras)
    report.missing.extend(name for name in wanted if name not in pieces and name not in extras)
    if report.faults():
        raise ConversionError(report)


def _fault(piece: Piece, weight: Tensor) -> str | None:
    """What keeps a piece from being this weight."""
    if piece.shape != tuple(weight.shape):
        parts = f" for {piece.num_parts} weights" if piece.num_parts > 1 else ""
        return f"shape {piece.stored.shape}{parts}, expected {tuple(weight.shape)}"
    if piece.stored.dtype.is_floating_point != weight.dtype.is_floating_point:
        return f"{piece.stored.dtype} values, expected {weight.dtype}"
    return None

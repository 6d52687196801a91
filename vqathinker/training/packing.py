"""A group's prompt once, its K completions as branches: pure tensor functions.

A row of B becomes a branch that forks one token before its first completion token, so that every packed
position predicts exactly one label: `prompt[:-1] ⧺ Σᵢ (prompt[-1] ⧺ completionᵢ[:-1])`. Positions restart at
the fork and a branch sees the prefix and itself, so log-probabilities and gradients equal those of the
separate rows.
Source: Prefix Grouper (arXiv 2506.05433); here for groups of any size, empty branches included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vqathinker.model.attention import PADDING, PREFIX

IGNORE = -100  # label of a position that predicts nothing


@dataclass(frozen=True)
class PackedGroups:
    """G groups of the B rows as G packed rows of length T.

    Attributes:
        input_ids: (G, T).
        position_ids: (G, T), counted within prompt + branch.
        segments: (G, T), 0 for the prefix, from 1 for the branches, -1 for padding; a query sees the prefix
            and its own branch before it.
        shift_labels: (G, T), the token each position predicts, -100 for none.
        first_rows: for each group the index of one of its B rows.
        source: (S,) flat positions in (G, T) of the S labelled tokens.
        row: (S,) their rows in (B, C).
        column: (S,) their columns in (B, C).
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: Tensor
    shift_labels: Tensor
    first_rows: list[int]
    source: Tensor
    row: Tensor
    column: Tensor

    @property
    def prefix(self) -> Tensor:
        """(G, T) bool, the positions of the shared prompt."""
        return self.segments == PREFIX

    def unpack(self, values: Tensor, shape: tuple[int, int]) -> Tensor:
        """Bring (G, T) values of the labelled positions back to (B, C), 0 elsewhere; differentiable."""
        empty = values.new_zeros(shape)
        return empty.index_put((self.row, self.column), values.flatten()[self.source])


def pack(
    input_ids: Tensor,
    attention_mask: Tensor,
    completion_length: int,
    groups: Sequence[int],
    pad_id: int,
    *,
    multiple: int = 1,
) -> PackedGroups:
    """Pack rows that share a prompt.

    Args:
        input_ids: (B, P+C): prompts padded on the left, completions padded on the right.
        attention_mask: (B, P+C), 0 on padding and on completions that are masked out.
        completion_length: C.
        groups: B group numbers; rows of one group have the same prompt.
        pad_id: fills the ends of the packed rows.
        multiple: their length is a multiple of this.
    """
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    mask = attention_mask.bool()
    parts = [_pack_group(input_ids, mask, completion_length, rows) for rows in members.values()]
    # packed rows differ in length by their responses
    longest = max(len(part.input_ids) for part in parts)
    length = math.ceil(longest / multiple) * multiple
    labels = _padded([part.labels for part in parts], length, IGNORE)
    source = (labels.flatten() != IGNORE).nonzero()[:, 0]
    return PackedGroups(
        input_ids=_padded([part.input_ids for part in parts], length, pad_id),
        position_ids=_padded([part.position_ids for part in parts], length, 0),
        segments=_padded([part.segments for part in parts], length, PADDING),
        shift_labels=labels,
        first_rows=[rows[0] for rows in members.values()],
        source=source,
        row=_padded([part.rows for part in parts], length, IGNORE).flatten()[source],
        column=_padded([part.columns for part in parts], length, IGNORE).flatten()[source],
    )


@dataclass(frozen=True)
class _PackedRow:
    """One group: (T,) ids, positions, segments, labels, and the row and column of each label."""

    input_ids: Tensor
    position_ids: Tensor
    segments: Tensor
    labels: Tensor
    rows: Tensor
    columns: Tensor


def _pack_group(input_ids: Tensor, mask: Tensor, completion_length: int, rows: Sequence[int]) -> _PackedRow:
    """The prompt without its last token, then a branch for each response that is not masked out."""
    prompt = input_ids[rows[0], :-completion_length][mask[rows[0], :-completion_length]]
    fork = len(prompt) - 1
    device = input_ids.device
    unlabelled = torch.full((fork,), IGNORE, device=device)
    ids = [prompt[:-1]]
    positions = [torch.arange(fork, device=device)]
    segments = [torch.full((fork,), PREFIX, device=device)]
    labels = [unlabelled]
    label_rows = [unlabelled]
    columns = [unlabelled]
    for branch, row in enumerate(rows, start=1):
        kept = mask[row, -completion_length:]
        completion = input_ids[row, -completion_length:][kept]
        if len(completion) == 0:
            continue
        # the prompt's last token predicts the first of the response, so each branch has one of its own
        ids += [prompt[-1:], completion[:-1]]
        positions.append(torch.arange(fork, fork + len(completion), device=device))
        segments.append(torch.full((len(completion),), branch, device=device))
        labels.append(completion)
        label_rows.append(torch.full((len(completion),), row, device=device))
        columns.append(kept.nonzero()[:, 0])
    return _PackedRow(
        input_ids=torch.cat(ids),
        position_ids=torch.cat(positions),
        segments=torch.cat(segments),
        labels=torch.cat(labels),
        rows=torch.cat(label_rows),
        columns=torch.cat(columns),
    )


def _padded(rows: Sequence[Tensor], length: int, fill: int) -> Tensor:
    """Rows of different lengths as one (G, length) tensor, filled at their ends."""
    return torch.stack([torch.nn.functional.pad(row, (0, length - len(row)), value=fill) for row in rows])


def whole_groups(groups: Sequence[int], size: int) -> list[slice]:
    """Cut rows into parts of at least `size` rows, but for the last, each ending where a group does.

    >>> whole_groups([0, 0, 0, 1, 1, 1, 2], 2)
    [slice(0, 3, None), slice(3, 6, None), slice(6, 7, None)]
    """
    parts = []
    start = 0
    for end in range(1, len(groups) + 1):
        if end == len(groups) or (groups[end] != groups[end - 1] and end - start >= size):
            parts.append(slice(start, end))
            start = end
    return parts

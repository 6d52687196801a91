"""Attention of packed rows: a shared prefix and branches that do not see one another.

The prefix attends causally to itself; every branch attends to the prefix and, causally, to itself. Computing
the two apart skips the pairs that a mask over the whole row only hides: P²/2 + Σ R(P+R) of (P+ΣR)².
On a CPU the branches' own part is computed apart as well, so that a prefix is read once for all of them.
Source: Prefix Grouper (arXiv 2506.05433), equation 3; here for rows of several lengths and empty branches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vqathinker.model.prefix import PrefixAndOwn, RowBranches

PACKED = "vqathinker_packed"  # the name under which transformers knows it
# segment numbers; the branches count from 1
PREFIX = 0
PADDING = -1


@dataclass(frozen=True)
class Branches:
    """Where N branches lie in G packed rows.

    Attributes:
        prefix_length: P, that of the longest prefix.
        rows: (N,) the packed row of each branch, ascending.
        columns: (N, R) positions in that row, ends filled with any.
        valid: (N, R) bool, False at the filled ends.
        in_prefix: (N, P) bool, False where a row's prefix is shorter than the longest.
        by_row: the rows that have branches and a prefix.
    """

    prefix_length: int
    rows: Tensor
    columns: Tensor
    valid: Tensor
    in_prefix: Tensor
    by_row: tuple[RowBranches, ...]

    @cached_property
    def mask(self) -> Tensor:
        """(N, 1, R, P+R) bool, what each query sees of its prefix and of its branch."""
        number, num_queries = self.columns.shape
        causal = self.valid.new_ones(num_queries, num_queries).tril()
        seen = (self.in_prefix[:, None].expand(-1, num_queries, -1), causal.expand(number, -1, -1))
        return torch.cat(seen, dim=-1)[:, None]


def dense_mask(segments: Tensor) -> Tensor:
    """(G, 1, T, T) bool of (G, T) segment numbers: causal, and key in the prefix or in the query's branch."""
    causal = torch.ones(segments.shape[1], segments.shape[1], dtype=torch.bool, device=segments.device).tril()
    shared = (segments[:, None, :] == PREFIX) | (segments[:, :, None] == segments[:, None, :])
    return (causal & shared)[:, None]


def block_mask(segments: Tensor) -> BlockMask:
    """As `dense_mask`, for FlexAttention, which skips the blocks that nobody sees."""

    def visible(row: Tensor, _: Tensor, query: Tensor, key: Tensor) -> Tensor:
        shared = (segments[row, key] == PREFIX) | (segments[row, key] == segments[row, query])
        return shared & (query >= key)

    rows, length = segments.shape
    return create_block_mask(visible, rows, None, length, length, device=segments.device)


def find_branches(segments: Tensor) -> Branches:
    """As `dense_mask`, for attention by segment."""
    device = segments.device
    found = [(row, number) for row, ids in enumerate(segments) for number in ids[ids > PREFIX].unique()]
    places = [(segments[row] == number).nonzero()[:, 0] for row, number in found]
    rows = torch.tensor([row for row, _ in found], dtype=torch.long, device=device)
    lengths = torch.tensor([len(place) for place in places], dtype=torch.long, device=device)
    columns = nn.utils.rnn.pad_sequence(places, batch_first=True) if places else rows[:, None]
    num_queries = columns.shape[1]
    prefix = (segments == PREFIX).sum(dim=1)
    counts = rows.bincount(minlength=len(prefix))
    in_prefix = torch.arange(int(prefix.max()), device=device) < prefix[rows, None]
    return Branches(
        prefix_length=in_prefix.shape[1],
        rows=rows,
        columns=columns,
        valid=torch.arange(num_queries, device=device) < lengths[:, None],
        in_prefix=in_prefix,
        by_row=tuple(
            RowBranches(slice(end - count, end), (slice(row, row + 1), slice(None), slice(length)))
            for row, (end, count, length) in enumerate(
                torch.stack([counts.cumsum(0), counts, prefix], dim=1).tolist()
            )
            if count and length
        ),
    )


# How packed rows may be attended to, each from their (G, T) segment numbers
MASKS = {"segments": find_branches, "dense": dense_mask, "flex": block_mask}


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | Branches | BlockMask | None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend in the way that the mask asks for: by segments, by blocks (FlexAttention) or densely.

    Args:
        module: the attention layer.
        query: (G, heads, T, D).
        key: (G, key heads, T, D).
        value: as `key`.
        attention_mask: which keys each query sees.
        kwargs: passed on, e.g. `scaling`.

    Returns:
        (G, T, heads, D) and no weights.
    """
    if isinstance(attention_mask, Branches):
        return _by_segment(module, query, key, value, attention_mask, **kwargs), None
    if isinstance(attention_mask, BlockMask):
        return flex_attention_forward(module, query, key, value, attention_mask, **kwargs)[0], None
    if query.shape[2] == 1 and not kwargs.get("dropout"):
        return _one_token(query, key, value, attention_mask, kwargs.get("scaling")), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def _one_token(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None
) -> Tensor:
    """As `sdpa_attention_forward` for one query per row, without a copy of the keys for every head.

    The heads that share a key head go as its queries.
    """
    grouped = query.unflatten(1, (key.shape[1], -1)).squeeze(3)
    answer = nn.functional.scaled_dot_product_attention(grouped, key, value, attn_mask=mask, scale=scaling)
    return answer.flatten(1, 2)[:, None]


def _by_segment(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, branches: Branches, **kwargs: Any
) -> Tensor:
    """(G, T, heads, D); zero where neither prefix nor branch is."""
    length = branches.prefix_length
    rows = branches.rows
    columns = branches.columns
    valid = branches.valid
    prefixes = (key[:, :, :length], value[:, :, :length])
    prefix, _ = sdpa_attention_forward(module, query[:, :, :length], *prefixes, None, **kwargs)
    output = nn.functional.pad(prefix, (0, 0, 0, 0, 0, query.shape[2] - length))
    if not len(rows):
        return output
    # under autocast the states may be fp32, which only PyTorch's own attention lowers
    states = [state.to(output.dtype) for state in (query, key, value)]
    own = [state.transpose(1, 2)[rows[:, None], columns].transpose(1, 2) for state in states]
    attend: Callable[..., Tensor] = BRANCH_ATTENTION.get(query.device.type, _masked)
    answer = attend(module, own, states[1:], branches, **kwargs)
    return output.index_put((rows[:, None].expand_as(columns)[valid], columns[valid]), answer[valid])


def _masked(
    module: nn.Module, own: Sequence[Tensor], shared: Sequence[Tensor], branches: Branches, **kwargs: Any
) -> Tensor:
    """(N, R, heads, D) of (N, ·, R, D) own states: every branch has its prefix's keys before its own."""
    keys, values = (
        # the backward of shared[rows] is serial
        torch.cat((states[:, :, : branches.prefix_length].index_select(0, branches.rows), mine), dim=2)
        for states, mine in zip(shared, own[1:], strict=True)
    )
    return sdpa_attention_forward(module, own[0], keys, values, branches.mask, **kwargs)[0]


def _merged(
    module: nn.Module, own: Sequence[Tensor], shared: Sequence[Tensor], branches: Branches, **kwargs: Any
) -> Tensor:
    """As `_masked`, without a copy of the prefix for every branch."""
    if kwargs.get("dropout"):
        return _masked(module, own, shared, branches, **kwargs)
    scale = kwargs.get("scaling")
    answer: Tensor = PrefixAndOwn.apply(*own, *shared, branches.by_row, scale)  # type: ignore[no-untyped-call]
    return answer.transpose(1, 2)


# How branches attend, by device; elsewhere `_masked`
BRANCH_ATTENTION: dict[str, Callable[..., Tensor]] = {"cpu": _merged}

AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)  # of rows that are not packed

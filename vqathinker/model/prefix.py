"""Attention of branches to a prefix that their row holds once, on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_attend_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class RowBranches:
    """The branches of one packed row.

    Attributes:
        branches: which of all N they are.
        prefix: where their prefix lies in (G, key heads, T, D).
    """

    branches: slice
    prefix: tuple[slice, slice, slice]


class PrefixAndOwn(torch.autograd.Function):
    """Attention of branches to their row's prefix and, causally, to themselves, by the CPU's flash kernel.

    Prefix and own tokens are attended to apart, giving outputs oᵢ and log-sums of exponentials lᵢ; merged
    they are o = Σ exp(lᵢ − l) oᵢ with l = log Σ exp lᵢ. The kernel's backward pass recomputes probabilities
    from the log-sum that it is given, so that with o and l each of the two yields its share of the gradients,
    equal to those of the whole up to rounding (FlashAttention-2, arXiv 2307.08691, algorithm 2). To the
    prefix all branches of a row are one sequence of queries. All tensors have one dtype; there is no dropout.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  what autograd hands over
        query: Tensor,
        key: Tensor,
        value: Tensor,
        row_keys: Tensor,
        row_values: Tensor,
        rows: Sequence[RowBranches],
        scale: float | None,
    ) -> Tensor:
        """Attend.

        Args:
            ctx: what the backward pass needs.
            query: (N, heads, R, D) of the branches.
            key: (N, key heads, R, D) of the branches.
            value: as `key`.
            row_keys: (G, key heads, T, D) of the packed rows.
            row_values: as `row_keys`.
            rows: the rows that have branches and a prefix.
            scale: of the products; 1/√D if None.

        Returns:
            (N, heads, R, D).
        """
        group = query.shape[1] // key.shape[1]
        expanded = (state.repeat_interleave(group, dim=1) for state in (key, value))
        own, own_log = _attend(query, *expanded, is_causal=True, scale=scale)
        shared = torch.zeros_like(own)
        shared_log = torch.full_like(own_log, -torch.inf)
        for row in rows:
            mine = query[row.branches]
            prefix = _of_group(row, row_keys, row_values, group)
            found, found_log = _attend(_fold(mine, group), *prefix, scale=scale)
            shared[row.branches] = _unfold(found, mine)
            shared_log[row.branches] = _unfold(found_log[..., None], mine)[..., 0]
        log = torch.logaddexp(own_log, shared_log)
        weights = ((part_log - log).exp()[..., None] for part_log in (own_log, shared_log))
        merged = sum(weight * part for weight, part in zip(weights, (own, shared), strict=True))
        output: Tensor = merged.to(query.dtype)
        ctx.save_for_backward(query, key, value, row_keys, row_values, output, log)
        ctx.rows = rows
        ctx.scale = scale
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Gradients of the five tensors."""
        query, key, value, row_keys, row_values, output, log = ctx.saved_tensors
        group = query.shape[1] // key.shape[1]
        expanded = (state.repeat_interleave(group, dim=1) for state in (key, value))
        of_query, *of_expanded = _attend_backward(
            gradient, query, *expanded, output, log, 0.0, True, scale=ctx.scale
        )
        of_own = (state.unflatten(1, (-1, group)).sum(dim=2) for state in of_expanded)
        of_rows = torch.zeros_like(row_keys), torch.zeros_like(row_values)
        for row in ctx.rows:
            mine = query[row.branches]
            prefix = _of_group(row, row_keys, row_values, group)
            found, *of_prefix = _attend_backward(
                _fold(gradient[row.branches], group),
                _fold(mine, group),
                *prefix,
                _fold(output[row.branches], group),
                _fold(log[row.branches][..., None], group)[..., 0],
                0.0,
                False,
                scale=ctx.scale,
            )
            of_query[row.branches] += _unfold(found, mine)
            for whole, share in zip(of_rows, of_prefix, strict=True):
                whole[row.prefix] = share.sum(dim=0, keepdim=True)
        return of_query, *of_own, *of_rows, None, None


def _of_group(row: RowBranches, keys: Tensor, values: Tensor, group: int) -> list[Tensor]:
    """The prefix's keys and values (group, key heads, P, D) without a copy, for what `_fold` makes."""
    return [states[row.prefix].expand(group, -1, -1, -1) for states in (keys, values)]


def _fold(states: Tensor, group: int) -> Tensor:
    """(group, heads / group, n · R, D) of (n, heads, R, D): heads that share a key head, side by side."""
    grouped: Tensor = states.unflatten(1, (-1, group))
    return grouped.permute(2, 1, 0, 3, 4).flatten(2, 3)


def _unfold(folded: Tensor, states: Tensor) -> Tensor:
    """(n, heads, R, D) in the order of `states` (n, heads, R, ·) of what `_fold` made."""
    n, _, length, _ = states.shape
    grouped: Tensor = folded.unflatten(2, (n, length))
    return grouped.permute(2, 1, 0, 3, 4).flatten(1, 2)

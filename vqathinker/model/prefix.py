"""Attention of branches to a prefix that their row holds once, on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

_attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_attend_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Part(NamedTuple):
    """Some of the N branches, and where their prefix lies in (G, key heads, T, D)."""

    branches: slice
    prefix: tuple[slice, slice, slice]


class PrefixAndOwn(torch.autograd.Function):
    """Attention of branches to their row's prefix and, causally, to themselves, by the CPU's flash kernel.

    Both parts are computed apart and merged by their log-sums of exponentials. The kernel's backward pass
    recomputes probabilities from the log-sum that it is given, so that each part, given the merged output and
    log-sum, yields its share of the exact gradients (FlashAttention-2, arXiv 2307.08691, algorithm 2). To the
    prefix all branches of a row, and all heads that share a key head, are one long sequence of queries.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401  what autograd hands over
        query: Tensor,
        key: Tensor,
        value: Tensor,
        row_keys: Tensor,
        row_values: Tensor,
        parts: Sequence[Part],
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
            parts: the branches of each row, with the place of its prefix.
            scale: of the products.

        Returns:
            (N, heads, R, D).
        """
        group = query.shape[1] // key.shape[1]
        expanded = (state.repeat_interleave(group, dim=1) for state in (key, value))
        own, own_log = _attend(query, *expanded, is_causal=True, scale=scale)
        shared, shared_log = torch.zeros_like(own), torch.full_like(own_log, -torch.inf)
        for part, prefix in parts:
            found, found_log = _attend(
                _fold(query[part], group), row_keys[prefix], row_values[prefix], scale=scale
            )
            shared[part] = _unfold(found, query[part])
            shared_log[part] = _unfold(found_log[..., None], query[part])[..., 0]
        log = torch.logaddexp(own_log, shared_log)
        weights = ((part_log - log).exp()[..., None] for part_log in (own_log, shared_log))
        merged = sum(weight * part for weight, part in zip(weights, (own, shared), strict=True))
        output: Tensor = merged.to(query.dtype)
        ctx.save_for_backward(query, key, value, row_keys, row_values, output, log)
        ctx.parts, ctx.scale = parts, scale
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
        for part, prefix in ctx.parts:
            found, *of_prefix = _attend_backward(
                _fold(gradient[part], group),
                _fold(query[part], group),
                row_keys[prefix],
                row_values[prefix],
                _fold(output[part], group),
                _fold(log[part][..., None], group)[..., 0],
                0.0,
                False,
                scale=ctx.scale,
            )
            of_query[part] += _unfold(found, query[part])
            for whole, share in zip(of_rows, of_prefix, strict=True):
                whole[prefix] = share
        return of_query, *of_own, *of_rows, None, None


def _fold(states: Tensor, group: int) -> Tensor:
    """(1, heads / group, group · n · R, D) of (n, heads, R, D)."""
    grouped: Tensor = states.unflatten(1, (-1, group))
    return grouped.permute(1, 2, 0, 3, 4).flatten(1, 3)[None]


def _unfold(folded: Tensor, states: Tensor) -> Tensor:
    """(n, heads, R, D) in the order of `states` (n, heads, R, ·) of what `_fold` made."""
    n, heads, length, _ = states.shape
    grouped: Tensor = folded[0].unflatten(1, (-1, n, length))
    return grouped.permute(2, 0, 1, 3, 4).reshape(n, heads, length, -1)

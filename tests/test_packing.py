"""Packed groups compute what separate rows compute; the oracle is the plain model, one row at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vqathinker.checkpoints.assemble import load_policy
from vqathinker.checkpoints.tiny import build_tiny
from vqathinker.model import VQAThinkerForConditionalGeneration, VQAThinkerProcessor
from vqathinker.model.attention import BRANCH_ATTENTION, dense_mask, find_branches, packed_attention
from vqathinker.model.modeling import LANGUAGE_MODELS
from vqathinker.training.grpo.rows import arrange
from vqathinker.training.packing import pack

Ragged = tuple[list[list[int]], list[int], list[list[bool]], list[list[int]]]
PAD = 0
# prompts by their number of frames; groups of the rows; kept completion tokens of the rows
CASES = {
    "equal groups": ([6, 6], [0, 0, 0, 1, 1, 1], [5, 5, 5, 5, 5, 5]),
    "truncated branches": ([6, 6], [0, 0, 0, 1, 1], [7, 1, 3, 2, 7]),
    "empty branches": ([6, 6], [0, 0, 0, 1, 1], [0, 4, 0, 3, 0]),
    "an empty group": ([6, 6], [0, 0, 1, 1], [0, 0, 3, 4]),
    "prompts of different lengths": ([6, 3, 4], [0, 0, 1, 1, 2], [4, 2, 7, 1, 5]),
    "groups of different sizes": ([6, 6, 6], [0, 1, 1, 1, 2, 2], [3, 4, 5, 6, 1, 2]),
    "scattered groups": ([6, 3], [0, 1, 0, 1, 0], [3, 4, 5, 2, 6]),
    "one row": ([6], [0], [4]),
}


class Batch:
    """Rows as TRL makes them, for the videos of a tiny model."""

    def __init__(
        self,
        processor: VQAThinkerProcessor,
        frames: Sequence[int],
        groups: Sequence[int],
        lengths: Sequence[int],
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        self.groups, self.width = list(groups), max(lengths)
        self.prompts = [processor.prompt_ids(n, 4) for n in frames]
        self.pixels = [torch.randn(n, 3, 56, 56, generator=generator) for n in frames]
        self.weights = torch.randn(len(groups), self.width, generator=generator)
        image, motion = processor.placeholder_ids
        self.rows = []
        for group, length in zip(groups, lengths, strict=True):
            reply = torch.randint(7, 300, (length,), generator=generator).tolist()
            if length > 2:
                reply[1] = (image, motion)[group % 2]  # outside the prompt these are ordinary tokens
            self.rows.append((self.prompts[group], reply))
        longest = max(len(prompt) for prompt, _ in self.rows)
        self.input_ids = torch.full((len(groups), longest + self.width), PAD)
        self.mask = torch.zeros_like(self.input_ids)
        for i, (prompt, reply) in enumerate(self.rows):
            place = slice(longest - len(prompt), longest + len(reply))
            self.input_ids[i, place] = torch.tensor([*prompt, *reply])
            self.mask[i, place] = 1

    def separately(self, model: VQAThinkerForConditionalGeneration) -> Tensor:
        """(B, C) log-probabilities from one causal forward pass per row."""
        out = torch.zeros(len(self.rows), self.width)
        for i, (prompt, reply) in enumerate(self.rows):
            if reply:
                ids = torch.tensor([[*prompt, *reply]])
                in_prompt = torch.arange(ids.shape[1])[None] < len(prompt)
                pixels = self.pixels[self.groups[i]]
                logits = model(input_ids=ids, pixel_values=pixels, placeholders=in_prompt).logits[0]
                logps = logits.log_softmax(-1)[len(prompt) - 1 : -1]
                out[i, : len(reply)] = logps[torch.arange(len(reply)), reply]
        return out

    def packed(
        self, model: VQAThinkerForConditionalGeneration, rows: Sequence[int], attention: str = "segments"
    ) -> Tensor:
        """(B, C) log-probabilities of some rows from one packed forward pass."""
        chosen = list(rows)
        groups = [self.groups[i] for i in chosen]
        packed = pack(self.input_ids[chosen], self.mask[chosen], self.width, groups, PAD)
        videos = [self.pixels[groups[i]] for i in packed.first_rows]
        logits = model(
            input_ids=packed.input_ids,
            position_ids=packed.position_ids,
            segments=packed.segments,
            packed_attention=attention,
            placeholders=packed.prefix,
            pixel_values=torch.cat(videos),
            motion_features=torch.cat([model.model.motion_features(video[None]) for video in videos]),
        ).logits
        labels = packed.shift_labels.clamp(min=0)[..., None]
        values = logits.log_softmax(-1).gather(-1, labels)[..., 0]
        return packed.unpack(values, (len(chosen), self.width))


def gradients(model: VQAThinkerForConditionalGeneration, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal to 1e-5 of each tensor's largest entry."""
    for name, gradient in expected.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(got[name], gradient, rtol=0, atol=1e-5 * scale + 1e-8, msg=name)


@pytest.mark.parametrize("attention", ["segments", "masked", "dense"])
@pytest.mark.parametrize("case", CASES)
def test_packed_equals_separate(
    policies: Callable[..., tuple[Any, Any]], case: str, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if attention == "masked":  # the segments' way on a GPU
        attention = "segments"
        monkeypatch.delitem(BRANCH_ATTENTION, "cpu")
    model, processor = policies()
    batch = Batch(processor, *CASES[case])
    expected = batch.separately(model)
    wanted = gradients(model, (expected * batch.weights).sum())
    got = batch.packed(model, range(len(batch.rows)), attention)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert_same(gradients(model, (got * batch.weights).sum()), wanted)


@pytest.mark.parametrize("kind", LANGUAGE_MODELS)
def test_every_accepted_language_model_packs(kind: str, tmp_path: Path) -> None:
    build_tiny(tmp_path, text={"model_type": kind, "head_dim": 32})
    model, processor = load_policy(tmp_path)
    assert type(model.model.language_model).__name__.lower() == f"{kind}model"
    batch = Batch(processor, *CASES["scattered groups"])
    expected = batch.separately(model.eval())
    wanted = gradients(model, (expected * batch.weights).sum())
    got = batch.packed(model, range(len(batch.rows)))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    assert_same(gradients(model, (got * batch.weights).sum()), wanted)


def test_layers_that_see_a_window_only_do_not_pack(tmp_path: Path) -> None:
    window = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}
    build_tiny(tmp_path, text=window)
    model, processor = load_policy(tmp_path)
    batch = Batch(processor, *CASES["one row"])
    with pytest.raises(ValueError, match="has layers of 'sliding_attention'; packed rows need full"):
        batch.packed(model, [0])


ROWS = [[[3, 4, 2]], [[5, 2, 0, 1], [0, 3], [2], [0]], [[4], [1, 1]], [[600, 40, 33]]]


@dataclass(frozen=True)
class Attended:
    """Rows of (prefix, branches …) tokens and random states of them."""

    rows: list[list[int]]
    group: int
    dtype: torch.dtype = torch.float64

    @property
    def segments(self) -> Tensor:
        segments = torch.full((len(self.rows), max(map(sum, self.rows))), -1)
        for row, (prefix, *branches) in zip(segments, self.rows, strict=True):
            numbers = [0] * prefix + [i + 1 for i, length in enumerate(branches) for _ in range(length)]
            row[: len(numbers)] = torch.tensor(numbers)
        return segments

    def by(self, mask: Any, **options: Any) -> list[Tensor]:  # noqa: ANN401  what the mask is
        """Output, and gradients of queries, keys and values."""
        torch.manual_seed(0)
        heads, (count, length) = 2 * self.group, self.segments.shape
        drawn = [torch.randn(count, number, length, 8) for number in (heads, 2, 2)]
        states = [state.to(self.dtype).requires_grad_() for state in drawn]
        weights = (self.segments >= 0)[..., None, None] * torch.randn(count, length, heads, 8)
        layer = torch.nn.Module()
        layer.num_key_value_groups = self.group  # type: ignore[assignment]
        output, _ = packed_attention(layer, *states, mask, scaling=0.3, **options)
        output = torch.where(weights != 0, output, 0.0)
        return [output, *torch.autograd.grad((output * weights.to(self.dtype)).sum(), states)]


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("group", [1, 3])
def test_branches_merged_equal_a_dense_mask(rows: list[list[int]], group: int) -> None:
    """In double precision, also without a prefix or without a branch."""
    attended = Attended(rows, group)
    found = attended.by(find_branches(attended.segments))
    for got, expected in zip(found, attended.by(dense_mask(attended.segments)), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rows", ROWS)
def test_branches_merged_round_as_masked_ones_do(
    rows: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = Attended(rows, 3).by(dense_mask(Attended(rows, 3).segments))
    low = Attended(rows, 3, torch.bfloat16)
    merged = low.by(find_branches(low.segments))
    monkeypatch.delitem(BRANCH_ATTENTION, "cpu")
    masked = low.by(find_branches(low.segments))
    for got, other, expected in zip(merged, masked, exact, strict=True):
        error, usual = ((low - expected).norm() for low in (got, other))
        assert error <= 1.5 * usual + 1e-3 * expected.norm()


def test_branches_with_dropout() -> None:
    """The kernel has none; it must not be left out."""
    attended = Attended(ROWS[0], 3, torch.float32)
    plain, *_ = attended.by(find_branches(attended.segments))
    dropped, *_ = attended.by(find_branches(attended.segments), dropout=0.5)
    in_branches = attended.segments > 0
    assert (plain[in_branches] != dropped[in_branches]).any()


@pytest.mark.parametrize("case", ["truncated branches", "prompts of different lengths"])
def test_packed_under_autocast(policies: Callable[..., tuple[Any, Any]], case: str) -> None:
    """Weights in fp32, products in bf16; the distance from fp32 is that of rounding."""
    model, processor = policies()
    batch = Batch(processor, *CASES[case])
    expected = batch.separately(model)
    wanted = gradients(model, (expected * batch.weights).sum())
    with torch.autocast("cpu", torch.bfloat16):
        got = batch.packed(model, range(len(batch.rows))).float()
    torch.testing.assert_close(got, expected, rtol=0, atol=0.1)
    found = gradients(model, (got * batch.weights).sum())
    norms = [float(torch.stack([g.norm() for g in side.values()]).norm()) for side in (found, wanted)]
    assert norms[0] == pytest.approx(norms[1], rel=0.05)


@pytest.mark.slow  # FlexAttention compiles; on a CPU it has no backward pass
@pytest.mark.parametrize("case", ["truncated branches", "prompts of different lengths"])
def test_flex_attention(policies: Callable[..., tuple[Any, Any]], case: str) -> None:
    model, processor = policies()
    batch = Batch(processor, *CASES[case])
    with torch.no_grad():
        got = batch.packed(model, range(len(batch.rows)), "flex")
        torch.testing.assert_close(got, batch.separately(model), rtol=0, atol=1e-5)


def test_groups_split_over_micro_batches(policies: Callable[..., tuple[Any, Any]]) -> None:
    model, processor = policies()
    batch = Batch(processor, [6, 4], [0, 0, 0, 1, 1, 1], [3, 5, 0, 6, 2, 4])
    expected = batch.separately(model)
    wanted = gradients(model, (expected * batch.weights).sum())
    parts = [[0, 1], [2, 3], [5, 4]]
    got = torch.zeros_like(expected)
    total = {name: torch.zeros_like(gradient) for name, gradient in wanted.items()}
    for part in parts:
        values = batch.packed(model, part)
        got[part] = values.detach()
        for name, gradient in gradients(model, (values * batch.weights[part]).sum()).items():
            total[name] += gradient
    torch.testing.assert_close(got, expected.detach(), rtol=0, atol=1e-5)
    assert_same(total, wanted)


def test_other_attention_is_refused(policies: Callable[..., tuple[Any, Any]]) -> None:
    model, processor = policies()
    model.set_attn_implementation("eager")
    batch = Batch(processor, [6], [0, 0], [3, 5])
    assert batch.separately(model).isfinite().all()
    with pytest.raises(ValueError, match=r"attn_implementation='eager'.*sdpa"):
        batch.packed(model, range(2))


@pytest.mark.parametrize("motion", ["fast", "none"])
def test_other_motion_variants(policies: Callable[..., tuple[Any, Any]], motion: str) -> None:
    model, processor = policies(motion)
    batch = Batch(processor, [6, 6], [0, 0, 1, 1], [3, 5, 2, 4])
    with torch.no_grad():
        torch.testing.assert_close(batch.packed(model, range(4)), batch.separately(model), rtol=0, atol=1e-5)


@st.composite
def ragged(draw: st.DrawFn) -> Ragged:
    """Prompts per group, group of each row, kept columns and ids of the completions."""
    tokens = st.integers(1, 50)
    prompts = draw(st.lists(st.lists(tokens, min_size=2, max_size=6), min_size=1, max_size=4))
    groups = draw(st.lists(st.integers(0, len(prompts) - 1), min_size=1, max_size=8))
    width = draw(st.integers(1, 5))
    row = st.lists(st.booleans(), min_size=width, max_size=width)
    kept = draw(st.lists(row, min_size=len(groups), max_size=len(groups)))
    ids = st.lists(tokens, min_size=width, max_size=width)
    return prompts, groups, kept, draw(st.lists(ids, min_size=len(groups), max_size=len(groups)))


@settings(deadline=None)
@given(ragged())
def test_every_label_sees_its_own_past(rows: Ragged) -> None:
    prompts, groups, kept, replies = rows
    width, longest = len(kept[0]), max(len(prompt) for prompt in prompts)
    ids = torch.full((len(groups), longest + width), PAD)
    mask = torch.zeros_like(ids)
    for i, group in enumerate(groups):
        ids[i, longest - len(prompts[group]) :] = torch.tensor([*prompts[group], *replies[i]])
        mask[i, longest - len(prompts[group]) : longest] = 1
        mask[i, longest:] = torch.tensor(kept[i])
    packed = pack(ids, mask, width, groups, PAD)

    order = list(dict.fromkeys(groups))
    shape = (
        len(order),
        max(
            len(prompts[g]) - 1 + sum(sum(kept[i]) for i in range(len(groups)) if groups[i] == g)
            for g in order
        ),
    )
    assert packed.input_ids.shape == packed.position_ids.shape == packed.shift_labels.shape == shape
    visible = dense_mask(packed.segments)
    assert visible.shape == (shape[0], 1, shape[1], shape[1])
    assert visible.any(-1).all()  # no query without a key
    assert [groups[i] for i in packed.first_rows] == order
    for g, group in enumerate(order):
        assert packed.input_ids[g][packed.prefix[g]].tolist() == prompts[group][:-1]

    labels = {(i, c) for i, row in enumerate(kept) for c, keep in enumerate(row) if keep}
    assert set(zip(packed.row.tolist(), packed.column.tolist(), strict=True)) == labels
    assert len(packed.source) == len(labels) == (packed.shift_labels != -100).sum()
    for flat, i, c in zip(packed.source.tolist(), packed.row.tolist(), packed.column.tolist(), strict=True):
        g, t = divmod(flat, shape[1])
        past = prompts[groups[i]] + [
            token for token, keep in zip(replies[i][:c], kept[i], strict=False) if keep
        ]
        seen = visible[g, 0, t]
        assert packed.input_ids[g][seen].tolist() == past
        assert packed.position_ids[g][seen].tolist() == list(range(len(past)))
        assert packed.shift_labels[g, t] == replies[i][c]

    unpacked = packed.unpack(packed.shift_labels.float(), (len(groups), width))
    assert torch.equal(unpacked, torch.tensor(replies).float() * torch.tensor(kept))


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=20), st.integers(1, 20), st.integers(0, 1000), st.data()
)
def test_arranged_groups_stay_together(
    groups: list[int], rows_per_step: int, seed: int, data: st.DataObject
) -> None:
    lengths = data.draw(st.lists(st.integers(0, 9), min_size=len(groups), max_size=len(groups)))
    generator = torch.Generator().manual_seed(seed)
    order = arrange(groups, torch.tensor(lengths), rows_per_step, generator).tolist()
    assert sorted(order) == list(range(len(groups)))
    shuffled = [groups[i] for i in order]
    assert sum(a != b for a, b in pairwise(shuffled)) == len(set(groups)) - 1
    for group in set(groups):  # within a group the order stays
        rows = [i for i in order if groups[i] == group]
        assert rows == sorted(rows)


def test_groups_reach_every_step() -> None:
    orders = {
        tuple(arrange([0, 0, 1, 1, 2], torch.ones(5), 1, torch.Generator().manual_seed(seed)).tolist())
        for seed in range(60)
    }
    assert len(orders) == 6


def test_groups_of_a_step_go_by_length() -> None:
    groups, lengths = [i // 2 for i in range(16)], torch.tensor([20, 20, 900, 800] * 4)
    for seed in range(20):
        order = arrange(groups, lengths, 8, torch.Generator().manual_seed(seed)).view(2, 4, 2)
        sums = lengths[order].sum(dim=2)  # of the four groups of both steps
        assert torch.equal(sums, sums.sort(dim=1, descending=True).values)
        # in micro-batches of two groups no more than one can hold a long and a short one
        padded = 2 * sums.view(2, 2, 2).amax(dim=2).sum(dim=1) - sums.sum(dim=1)
        assert (padded <= 1700 - 40).all()


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("case", ["truncated branches", "prompts of different lengths"])
def test_packed_with_gradient_checkpointing(
    policies: Callable[..., tuple[Any, Any]], case: str, reentrant: bool
) -> None:
    model, processor = policies()
    batch = Batch(processor, *CASES[case])
    wanted = gradients(model, (batch.separately(model) * batch.weights).sum())
    model.train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    counted = 0

    def count(*_: object) -> None:
        nonlocal counted
        counted += 1

    model.model.language_model.layers[0].self_attn.register_forward_hook(count)
    got = batch.packed(model, range(len(batch.rows)))
    assert_same(gradients(model, (got * batch.weights).sum()), wanted)
    assert counted == 2  # computed again in the backward pass


@pytest.mark.parametrize("masked", [True, False])
def test_one_token_attends_as_many_heads_would(masked: bool) -> None:
    """Four heads of two key heads, against PyTorch's attention of repeated keys."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(3, 4, 1, 8, generator=generator)
    key, value = torch.randn(2, 3, 2, 5, 8, generator=generator)
    mask = torch.rand(3, 1, 1, 5, generator=generator) < 0.7 if masked else None
    if mask is not None:
        mask[..., -1] = True
    found, _ = packed_attention(nn.Module(), query, key, value, mask, scaling=0.3)
    repeated = (states.repeat_interleave(2, dim=1) for states in (key, value))
    expected = nn.functional.scaled_dot_product_attention(query, *repeated, attn_mask=mask, scale=0.3)
    torch.testing.assert_close(found, expected.transpose(1, 2))

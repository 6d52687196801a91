"""The gap between engine and policy, and TRL's correction of it; the oracle loops over single tokens."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from vqathinker.training import TrainingConfig
from vqathinker.training.grpo.gap import check_gap, importance_ratio, measure_gap

POLICY = torch.tensor([[-1.0, -2.0, -3.0], [-0.5, -4.0, -1.0]])
SAMPLED = torch.tensor([[-1.5, -1.0, -9.0], [-0.5, math.nan, -700.0]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])
NO_BOUND = None


def test_measure_gap() -> None:
    total, count, largest = measure_gap(POLICY, SAMPLED, MASK).tolist()
    assert (total, count, largest) == pytest.approx((0.5 + 1.0 + 0.0 + 699.0, 4, 699.0))
    assert measure_gap(POLICY, SAMPLED, torch.zeros_like(MASK)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("gap", [0.51, math.nan])
def test_an_engine_with_other_weights_stops_the_run(gap: float) -> None:
    check_gap(0.49, 0.5)
    with pytest.raises(RuntimeError, match="the engine has other weights"):
        check_gap(gap, 0.5)


def expected_ratio(mode: str, low: float | None, high: float | None) -> list[list[float]]:
    """One ratio per token or per row, bounded as TRL's documentation says."""

    def bounded(value: float) -> float:
        inside = (low is None or value >= low) and (high is None or value <= high)
        if inside:
            return value
        if mode.endswith("mask"):
            return 0.0
        return high if high is not None and value > high else float(low or 0.0)

    rows = []
    for policy, sampled, mask in zip(POLICY.tolist(), SAMPLED.tolist(), MASK.tolist(), strict=True):
        logs = [
            p - s if m and not math.isnan(s) else 0.0 for p, s, m in zip(policy, sampled, mask, strict=True)
        ]
        logs = [sum(logs)] if mode.startswith("sequence") else logs
        rows.append([bounded(math.exp(value) if value < 80 else math.inf) for value in logs])
    return rows


@pytest.mark.parametrize("mode", ["token_mask", "token_truncate", "sequence_mask", "sequence_truncate"])
@pytest.mark.parametrize(("low", "high"), [(None, 3.0), (0.5, 3.0), (0.5, NO_BOUND)])
def test_importance_ratio(tmp_path: Path, mode: str, low: float | None, high: float | None) -> None:
    args = TrainingConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=4,
        vllm_importance_sampling_mode=mode,
        vllm_importance_sampling_clip_min=low,
        vllm_importance_sampling_clip_max=high,
    )
    got = importance_ratio(POLICY, SAMPLED, MASK, args)
    torch.testing.assert_close(got, torch.tensor(expected_ratio(mode, low, high)))

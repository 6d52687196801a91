"""SlowFast never trains, never changes precision, and pools as the published code does."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorchvideo.models.slowfast import create_slowfast
from torch import Tensor, nn

from vqathinker.model import VQAThinkerForConditionalGeneration
from vqathinker.model.slowfast import SlowFast, slow_indices, temporal_repeats

TINY = {"depth": 18, "stem_dim": 16}
TINY_NETWORK = {"model_depth": 18, "stem_dim_outs": (16, 2)}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Pytorchvideo's own tiny network, head included, with BatchNorm statistics unlike the initial ones."""
    return random_network(**TINY_NETWORK)


@pytest.fixture(scope="module")
def published(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file laid out like `SLOWFAST_8x8_R50.pyth`."""
    path = tmp_path_factory.mktemp("slowfast") / "SLOWFAST.pyth"
    torch.save({"model_state": network.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def slowfast(published: Path) -> SlowFast:
    module = SlowFast(**TINY)
    module.load_published(published)
    return module


def random_network(**sizes: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = create_slowfast(**sizes)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


def clips(batch: int, num_frames: int, side: int) -> Tensor:
    return torch.randn(batch, num_frames, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def released_features(network: nn.Module, frames: Tensor, slow: list[int], repeats: int) -> Tensor:
    """The released feature extractor, literally: stages, repetition, average pool, adaptive pool."""
    x = frames.transpose(1, 2)
    x = [x[:, :, slow], x]
    for block in network.blocks[:5]:
        x = block(x)
    slow_feature = x[0].repeat_interleave(repeats, dim=2)
    fast_feature = x[1].repeat_interleave(repeats, dim=2)
    slow_feature = nn.AvgPool3d((8, 7, 7), stride=1, padding=0)(slow_feature)
    fast_feature = nn.AvgPool3d((32, 7, 7), stride=1, padding=0)(fast_feature)
    adaptive = nn.AdaptiveAvgPool3d(1)
    return torch.cat([adaptive(slow_feature), adaptive(fast_feature)], dim=1).flatten(1)


@pytest.mark.parametrize(("num_frames", "slow", "repeats"), [(6, [0, 5], 6), (12, [0, 5, 11], 4)])
def test_features_equal_the_released_code(
    network: nn.Module, slowfast: SlowFast, num_frames: int, slow: list[int], repeats: int
) -> None:
    frames = clips(2, num_frames, 256)  # 8 x 8 positions: the pools have four places
    expected = released_features(network, frames, slow, repeats)
    torch.testing.assert_close(slowfast(frames)[:, 0], expected, rtol=1e-4, atol=1e-6)
    assert expected.std(0).max() > 1e-4  # the clips differ


@pytest.mark.slow
def test_features_equal_the_released_code_at_full_size(tmp_path: Path) -> None:
    network = random_network(model_depth=50)
    torch.save({"model_state": network.state_dict()}, tmp_path / "SLOWFAST_8x8_R50.pyth")
    slowfast = SlowFast()
    slowfast.load_published(tmp_path / "SLOWFAST_8x8_R50.pyth")
    frames = clips(1, 6, 224)
    features = slowfast(frames)
    assert features.shape == (1, 1, 2304)
    torch.testing.assert_close(
        features[:, 0], released_features(network, frames, [0, 5], 6), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("num_frames", range(1, 65))
def test_pathways_fit_each_other_and_the_pools(num_frames: int) -> None:
    slow = slow_indices(num_frames)
    fused = nn.Conv3d(1, 1, (7, 1, 1), stride=(4, 1, 1), padding=(3, 0, 0))  # the lateral connection
    assert len(slow) == fused(torch.zeros(1, 1, num_frames, 1, 1)).shape[2]
    assert slow[0] == 0
    assert len(slow) == 1 or slow[-1] == num_frames - 1
    assert (slow.diff() >= 1).all()
    repeats = temporal_repeats(num_frames)
    assert repeats * num_frames >= 32
    assert repeats * len(slow) >= 8


@pytest.mark.parametrize("num_frames", [1, 3, 5, 8])
def test_any_number_of_frames(slowfast: SlowFast, num_frames: int) -> None:
    frames = clips(1, num_frames, 56)
    assert slowfast(frames).shape == (1, 1, 16 * 36)
    assert slowfast.fast_features(frames).shape == (1, num_frames, 64)


def test_fast_features_are_one_per_frame(network: nn.Module, slowfast: SlowFast) -> None:
    frames = clips(1, 6, 64)
    x = [frames.transpose(1, 2)[:, :, [0, 5]], frames.transpose(1, 2)]
    with torch.no_grad():
        for block in network.blocks[:5]:
            x = block(x)
    expected = torch.stack([x[1][:, :, t].flatten(2).mean(-1) for t in range(6)], dim=1)
    torch.testing.assert_close(slowfast.fast_features(frames), expected, rtol=1e-4, atol=1e-6)


def test_one_video_equals_many(slowfast: SlowFast) -> None:
    frames = clips(3, 6, 56)
    single = torch.cat([slowfast(clip[None]) for clip in frames])
    torch.testing.assert_close(slowfast(frames), single, rtol=1e-5, atol=1e-6)


def test_weights_are_buffers(slowfast: SlowFast, network: nn.Module) -> None:
    assert list(slowfast.parameters()) == []
    assert not any(tensor.requires_grad for tensor in slowfast.buffers())
    names = {name for name in network.state_dict() if int(name.split(".")[1]) < 5}
    assert set(slowfast.state_dict()) == names


def test_features_carry_no_gradient(slowfast: SlowFast) -> None:
    assert not slowfast(clips(1, 6, 56).requires_grad_()).requires_grad


def test_statistics_do_not_drift(slowfast: SlowFast) -> None:
    before = {name: tensor.clone() for name, tensor in slowfast.state_dict().items()}
    parent = nn.Sequential(slowfast).train()
    assert parent.training
    assert not any(module.training for module in slowfast.modules())
    slowfast(clips(2, 6, 56))
    for name, tensor in slowfast.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("cast", ["bfloat16", "half", "double"])
def test_precision_stays(slowfast: SlowFast, cast: str) -> None:
    frames = clips(1, 6, 56)
    expected = slowfast(frames)
    slowfast = deepcopy(slowfast)
    parent = nn.Sequential(slowfast, nn.Linear(2, 2))
    getattr(parent, cast)()
    parent.to("cpu", parent[1].weight.dtype)
    assert parent[1].weight.dtype != torch.float32
    assert {t.dtype for t in slowfast.buffers() if t.is_floating_point()} == {torch.float32}
    assert torch.equal(slowfast(frames), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(slowfast(frames), expected)


def test_precision_stays_in_a_checkpoint(checkpoints: dict[str, Path]) -> None:
    full = VQAThinkerForConditionalGeneration.from_pretrained(checkpoints["slowfast"])
    half = VQAThinkerForConditionalGeneration.from_pretrained(checkpoints["slowfast"], dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    for name, tensor in half.model.slowfast.state_dict().items():
        assert torch.equal(tensor, full.model.slowfast.state_dict()[name]), name
    half.train()
    assert not any(module.training for module in half.model.slowfast.modules())


def test_load_published_takes_a_bare_state_too(
    network: nn.Module, slowfast: SlowFast, tmp_path: Path
) -> None:
    torch.save(network.state_dict(), tmp_path / "bare.pyth")
    other = SlowFast(**TINY)
    other.load_published(tmp_path / "bare.pyth")
    frames = clips(1, 6, 56)
    assert torch.equal(other(frames), slowfast(frames))


def test_wrong_checkpoints_are_refused(network: nn.Module, published: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"SLOWFAST\.pyth is not a SlowFast checkpoint.*blocks\.0"):
        SlowFast(depth=18, stem_dim=8).load_published(published)
    state = network.state_dict()
    del state["blocks.4.multipathway_blocks.1.res_blocks.0.branch2.conv_a.weight"]
    torch.save({"model_state": state}, tmp_path / "cut.pyth")
    with pytest.raises(ValueError, match=r"1 tensors such as 'blocks.4"):
        SlowFast(**TINY).load_published(tmp_path / "cut.pyth")

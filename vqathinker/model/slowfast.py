"""The motion encoder: SlowFast-R50 up to its last residual stage, frozen unless a stage of tuning asks.

Knows nothing of language models. Source: Feichtenhofer et al., "SlowFast Networks for Video Recognition"
(2019), as published in pytorchvideo; pooled the way the VQAThinker weights were trained with
(arXiv 2508.06051, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from pytorchvideo.models.slowfast import create_slowfast
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

NUM_STAGES = 5
SLOW_STRIDE = 4  # the lateral connections take every fourth frame of the fast pathway
CHANNEL_RATIO = 8  # the fast pathway has an eighth of the slow pathway's channels
EXPANSION = 32  # channels after stage 4 per channel of the stem
# the published head's average pools
SLOW_POOL = 8
FAST_POOL = 32
SPACE_POOL = 7
FAST_PATHWAY = ".multipathway_blocks.1."
# by kind of module, what its weights are called
FROZEN = {nn.Conv3d: ("weight", "bias"), nn.BatchNorm3d: ("weight", "bias")}
TRAINED_REPEATS = {6: 6, 12: 4}  # how often the released code repeats the features of T frames in time


def slow_indices(num_frames: int) -> Tensor:
    """Indices of the frames that the slow pathway sees, evenly spaced over `num_frames`.

    >>> slow_indices(6).tolist(), slow_indices(12).tolist()
    ([0, 5], [0, 5, 11])
    """
    return torch.linspace(0, num_frames - 1, (num_frames - 1) // SLOW_STRIDE + 1).long()


def temporal_repeats(num_frames: int) -> int:
    """How often every time step is repeated so that the head's pools fit.

    >>> [temporal_repeats(t) for t in (1, 6, 12, 40)]
    [32, 6, 4, 1]
    """
    return TRAINED_REPEATS.get(num_frames, -(-FAST_POOL // num_frames))


def published_state(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a published checkpoint by name, the classifier's among them; unpickles no code.

    Raises:
        ValueError: if the file holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what is no pickle can fail in any way
        reason = str(error).splitlines()[:1] or ["it is empty"]
        raise ValueError(f"{path} is not a file of tensors: {reason[0]}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, not tensors by name")
    tensors = state.get("model_state", state)
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}


class SlowFast(nn.Module):
    """Frozen SlowFast: weights are buffers, the mode is always eval, the precision always fp32.

    `unfreeze` makes weights of them again; mode and precision stay, and with them BatchNorm's statistics.

    Args:
        depth: depth of the residual network, 50 for the published weights.
        stem_dim: channels of the slow pathway's stem, 64 for the published weights.
    """

    def __init__(self, depth: int = 50, stem_dim: int = 64) -> None:
        super().__init__()
        fast_dim = max(1, stem_dim // CHANNEL_RATIO)
        network = create_slowfast(model_depth=depth, stem_dim_outs=(stem_dim, fast_dim), model_num_class=1)
        network.float()  # also where a checkpoint in another precision is being loaded around it
        self.blocks = nn.ModuleList(network.blocks[:NUM_STAGES])
        self.slow_dim = stem_dim * EXPANSION
        self.fast_dim = fast_dim * EXPANSION
        self.train()
        for module in self.modules():
            _freeze(module)

    @property
    def is_trained(self) -> bool:
        """Whether it has weights to train."""
        return any(weight.requires_grad for weight in self.parameters())

    def unfreeze(self, *, fast: bool = False) -> None:
        """Make weights of the buffers that were weights in the published network.

        Args:
            fast: only those of the fast pathway, all that `fast_features` depends on.
        """
        for place, module in self.named_modules():
            for name in FROZEN.get(type(module), ()):
                if fast and FAST_PATHWAY not in place:
                    continue
                buffer = module._buffers.pop(name, None)
                if buffer is not None:  # a convolution without bias, or a weight already
                    module.register_parameter(name, nn.Parameter(buffer))

    def train(self, mode: bool = True) -> SlowFast:
        """Stay in eval mode: BatchNorm statistics must not drift."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SlowFast:
        """Move between devices, but never to another precision: bf16 would round the frozen weights."""

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def load_published(self, path: str | Path) -> None:
        """Load the published `SLOWFAST_8x8_R50` checkpoint (pickle-free loading of tensors only).

        Raises:
            ValueError: if a tensor of the five stages is missing or has another shape.
        """
        state = published_state(path)
        wanted = self.state_dict()
        wrong = [k for k, v in wanted.items() if k not in state or state[k].shape != v.shape]
        if wrong:
            raise ValueError(
                f"{path} is not a SlowFast checkpoint of this size: {len(wrong)} tensors such as {wrong[0]!r}"
            )
        self.load_state_dict({k: state[k] for k in wanted})

    def stages(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Run the five stages, without gradient while they are frozen.

        Args:
            frames: (B, T, 3, H, W) normalised frames.

        Returns:
            Slow features (B, 32·stem, ⌊(T−1)/4⌋+1, H/32, W/32) and fast features (B, 32·stem/8, T, H/32,
            W/32).
        """
        learns = torch.is_grad_enabled() and self.is_trained
        with torch.autocast(frames.device.type, enabled=False), torch.set_grad_enabled(learns):
            fast = frames.to(torch.float32).transpose(1, 2)  # (B, 3, T, H, W)
            pathways = [fast[:, :, slow_indices(fast.shape[2])], fast]
            for block in self.blocks:
                pathways = in_fp32(block, pathways)
        return pathways[0], pathways[1]

    def forward(self, frames: Tensor) -> Tensor:
        """One motion feature per video.

        Args:
            frames: (B, T, 3, H, W) normalised frames.

        Returns:
            (B, 1, slow_dim + fast_dim), 2304 wide for the published weights.
        """
        repeats = temporal_repeats(frames.shape[1])
        pooled = [
            pool(features.repeat_interleave(repeats, dim=2), length)
            for features, length in zip(self.stages(frames), (SLOW_POOL, FAST_POOL), strict=True)
        ]
        return torch.cat(pooled, dim=1)[:, None]

    def fast_features(self, frames: Tensor) -> Tensor:
        """One motion feature per frame, from the fast pathway (VQA², arXiv 2411.03795).

        Args:
            frames: (B, T, 3, H, W) normalised frames.

        Returns:
            (B, T, fast_dim).
        """
        return self.stages(frames)[1].mean(dim=(3, 4)).transpose(1, 2)


def in_fp32(block: nn.Module, pathways: list[Tensor]) -> list[Tensor]:
    """Run a block in fp32, also where an optimizer keeps its weights in less, as DeepSpeed does."""
    low = {name: weight.float() for name, weight in block.named_parameters() if weight.dtype != torch.float32}
    found: list[Tensor] = functional_call(block, low, (pathways,)) if low else block(pathways)
    return found


def _freeze(module: nn.Module) -> None:
    """Turn weights into buffers: optimisers and adapters miss them, checkpoints keep their names."""
    for name, weight in list(module.named_parameters(recurse=False)):
        delattr(module, name)
        module.register_buffer(name, _whole(weight))
    module._is_hf_initialized = True  # type: ignore[assignment]  # its own initialisation is kept


def _whole(weight: nn.Parameter) -> Tensor:
    """The tensor of a weight, also where DeepSpeed's ZeRO-3 has split it over the processes."""
    if not hasattr(weight, "ds_shape"):
        return weight.detach()
    from deepspeed import zero

    with zero.GatheredParameters([weight]):
        return weight.detach().clone()


def pool(features: Tensor, length: int) -> Tensor:
    """Average over windows of `length` × 7 × 7 positions, then over the windows: (B, C, T, H, W) → (B, C)."""
    height, width = (min(SPACE_POOL, side) for side in features.shape[3:])
    return F.avg_pool3d(features, (length, height, width), stride=1).mean(dim=(2, 3, 4))

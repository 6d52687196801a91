"""The memory of a GRPO run on each GPU, by arithmetic on the model's widths and the run's settings.

Weights, gradients, optimiser states and the key-value cache are exact, activations estimated; the allowance
for CUDA and for fragmentation is an assumption. Knows no files and computes no tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from vqathinker.planning.activations import autocast_bytes, head_bytes, kept_bytes, layer_bytes
from vqathinker.planning.hardware import GIB, GPU
from vqathinker.planning.sizes import BF16, FP32, ModelSizes

ADAM_STATES = 2
BUCKET = 500_000_000  # elements of DeepSpeed's buffer for the reduction of gradients
PREFETCH = 50_000_000  # elements that ZeRO-3 gathers ahead
LIVE = 1_000_000_000  # and at a time
HF_SEQUENCES = 256  # responses that the embedded engine generates at a time
FRAMES_PER_CALL = 96  # that the rollout encodes at a time
CUDA_BYTES = 1.5 * GIB  # context, cuBLAS and NCCL
FRAGMENTATION = 0.05  # of what PyTorch holds


@dataclass(frozen=True)
class Run:
    """One run on equal GPUs.

    Attributes:
        model: its sizes.
        gpu: type of every GPU.
        num_gpus: processes, one per GPU.
        zero: DeepSpeed's stage, 0 without DeepSpeed.
        rows: responses per GPU and micro-batch.
        accumulation: micro-batches per optimiser step.
        generation_parts: micro-batches that one generation feeds.
        iterations: how often each generation is learned from.
        group: K, responses per video.
        longest: tokens of the longest response.
        response: tokens of a response on average.
        has_twins: whether a perturbed copy of each video is answered too.
        packed: whether a group's prompt is computed once.
        checkpointing: whether activations are computed again in the backward pass.
        has_reference: whether log-probabilities of the starting weights are needed.
        recomputes_old: whether a forward pass of its own gives the old log-probabilities.
        itemsize: bytes of a number in the large multiplications, 2 in bf16.
        engine: "hf", "colocate" or "server".
        utilization: share of the GPU's memory that a colocated vLLM engine takes.
        sleeps: whether that engine gives its share back between generations.
        offloads: whether optimiser states and fp32 weights lie in the host's memory.
        offloads_reference: whether the reference model lies in the host's memory but for its pass.
        gathers: whether ZeRO-3 gathers all weights for the rollouts.
    """

    model: ModelSizes
    gpu: GPU
    num_gpus: int = 8
    zero: int = 2
    rows: int = 4
    accumulation: int = 2
    generation_parts: int = 2
    iterations: int = 1
    group: int = 4
    longest: int = 2048
    response: int = 250
    has_twins: bool = True
    packed: bool = True
    checkpointing: bool = True
    has_reference: bool = True
    recomputes_old: bool = False
    itemsize: int = BF16
    engine: str = "hf"
    utilization: float = 0.3
    sleeps: bool = False
    offloads: bool = False
    offloads_reference: bool = False
    gathers: bool = True

    @property
    def num_prompts(self) -> int:
        """Most prompts of a micro-batch: groups, whole or in part, or rows where nothing is shared."""
        if not self.packed:
            return self.rows
        firsts = range(0, self.rows * self.generation_parts, self.rows)
        return max((row + self.rows - 1) // self.group - row // self.group + 1 for row in firsts)

    @property
    def without_gradients(self) -> Run:
        """A micro-batch of the passes without gradients, whose packed groups are whole."""
        rows = self.rows + (-self.rows % self.group if self.packed else 0)
        return replace(self, rows=rows, generation_parts=1)

    @property
    def num_videos(self) -> int:
        """Videos per GPU and generation."""
        return math.ceil(self.rows * self.generation_parts / self.group)

    @property
    def num_requests(self) -> int:
        """Videos and twins per GPU and generation."""
        return self.num_videos * (2 if self.has_twins else 1)

    def num_tokens(self, response: int) -> int:
        """Positions of the language model in one micro-batch."""
        return self.num_prompts * (self.model.prompt_length - 1) + self.rows * response

    @property
    def has_copy(self) -> bool:
        """Whether the reference is a model of its own; with adapters it is the policy without them."""
        return self.has_reference and not self.model.has_adapters

    @property
    def num_frames(self) -> int:
        """Frames that one micro-batch encodes; none where the features of the rollout stay."""
        return self.num_prompts * self.model.num_frames if self.model.trains_vision else 0

    @property
    def num_patches(self) -> int:
        """Positions of the vision tower in one micro-batch."""
        return self.num_frames * self.model.patches_per_frame


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU.

    Attributes:
        held: what stays from the first step on, by name.
        phases: for each phase what comes on top, by name.
    """

    held: dict[str, float]
    phases: dict[str, dict[str, float]] = field(default_factory=dict)

    def phase_bytes(self, phase: str) -> float:
        """Everything held during one phase."""
        return sum(self.held.values()) + sum(self.phases[phase].values())

    @property
    def largest_phase(self) -> str:
        """The phase that decides whether a run fits."""
        return max(self.phases, key=self.phase_bytes)

    @property
    def allowance(self) -> float:
        """For CUDA itself and for memory that lies between tensors."""
        largest = self.largest_phase
        torch_bytes = self.phase_bytes(largest) - (self.held | self.phases[largest]).get(VLLM, 0)
        return CUDA_BYTES + FRAGMENTATION * torch_bytes

    @property
    def peak(self) -> float:
        """Bytes that the GPU must have."""
        return self.phase_bytes(self.largest_phase) + self.allowance


VLLM = "vLLM engine (its share of the GPU)"


def memory(run: Run) -> Memory:
    """Add up what each phase of a step holds."""
    phases = {"rollout": _rollout(run), "update": _update(run), "optimiser": _step(run)}
    if run.has_reference or run.recomputes_old:
        phases["log-probabilities"] = _log_probabilities(run)
    return Memory(
        held={name: size for name, size in _held(run).items() if size},
        phases={
            phase: {name: size for name, size in parts.items() if size} for phase, parts in phases.items()
        },
    )


def _shards(run: Run, stage: int) -> int:
    """Among how many GPUs something is split that ZeRO splits from a stage on."""
    return run.num_gpus if run.zero >= stage else 1


def _held(run: Run) -> dict[str, float]:
    model = run.model
    weights = model.weight_bytes / _shards(run, 3)
    has_copy = run.has_copy
    states = ADAM_STATES * FP32 * model.num_trained if run.zero else ADAM_STATES * model.trained_bytes
    on_gpu = 0 if run.offloads else 1
    return {
        "weights": weights,
        "fp32 master weights": on_gpu * FP32 * model.num_trained / _shards(run, 1) if run.zero else 0,
        "Adam states": on_gpu * states / _shards(run, 1),
        "reference model": weights if has_copy and not run.offloads_reference else 0,
        "SlowFast, fp32": model.slowfast_bytes * (2 if has_copy else 1),
        VLLM: 0 if run.sleeps else _engine_share(run),
    }


def _engine_share(run: Run) -> float:
    return run.utilization * run.gpu.memory if run.engine == "colocate" else 0


def _log_probabilities(run: Run) -> dict[str, float]:
    """The passes of reference and old policy; the reference model may lie in the host's memory otherwise."""
    text = run.model.text
    lent = run.offloads_reference and run.has_copy
    tokens = run.without_gradients.num_tokens(run.longest)
    return {
        "reference model": run.model.weight_bytes if lent else 0,
        "working memory": run.itemsize * tokens * (4 * text.width + 3 * text.mlp),
    }


def _gradients(run: Run) -> float:
    return run.model.trained_bytes / _shards(run, 2)


def _rollout(run: Run) -> dict[str, float]:
    model = run.model
    sequences = min(run.num_requests * run.group, max(HF_SEQUENCES, run.group))
    cache = key_value_bytes(model, run.itemsize) * (model.prompt_length + run.longest)
    frames = min(run.num_videos * model.num_frames, FRAMES_PER_CALL)
    vision = frames * model.patches_per_frame * (4 * model.vision.width + 2 * model.vision.mlp)
    prefill = run.num_requests * model.prompt_length * (4 * model.text.width + 3 * model.text.mlp)
    own = run.engine == "hf"
    return {
        VLLM: _engine_share(run) if run.sleeps else 0,
        "all weights gathered": model.weight_bytes if run.zero == 3 and run.gathers else 0,
        "key-value cache of the longest responses": sequences * cache if own else 0,
        "working memory": run.itemsize * max(vision, prefill if own else 0),
    }


def _update(run: Run) -> dict[str, float]:
    """What the backward pass of the longest micro-batch holds."""
    buckets = BF16 * min(BUCKET, run.model.num_trained) if run.zero else 0
    if run.zero == 3:
        gathered = min(LIVE, run.model.num_weights) + min(PREFETCH, run.model.num_weights)
        buckets = 2 * buckets + BF16 * gathered
    if not run.zero and run.num_gpus > 1:
        buckets = run.model.trained_bytes
    return {
        "gradients": _gradients(run),
        "communication buffers": buckets,
        "bf16 copies of fp32 weights": 0 if run.checkpointing else autocast_bytes(run),
        "activations kept": kept_bytes(run),
        "largest layer or logits": max(
            head_bytes(run), layer_bytes(run), autocast_bytes(run) if run.checkpointing else 0
        ),
    }


def _step(run: Run) -> dict[str, float]:
    """DeepSpeed brings its share of the gradients to fp32."""
    fp32 = FP32 * run.model.num_trained / _shards(run, 1) if run.zero and not run.offloads else 0
    return {"gradients": _gradients(run), "fp32 gradients of the own share": fp32}


def key_value_bytes(model: ModelSizes, itemsize: int) -> int:
    """Of one token: keys and values of all layers."""
    return 2 * model.text.layers * model.text.key * itemsize

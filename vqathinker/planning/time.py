"""The time of a step: operations and bytes moved, divided by an assumed share of the GPU's peak rates.

The floating-point operations are exact for the large multiplications; the shares are assumptions, and so are
the times. Left out: SlowFast (below 1 % of the operations), communication, the optimiser, rewards and the
decoding of videos.
"""

from __future__ import annotations

from dataclasses import dataclass

from vqathinker.planning.run import HF_SEQUENCES, Run, key_value_bytes
from vqathinker.planning.sizes import BF16, ModelSizes, Tower

VISION_MERGE = 4  # vision positions that become one visual token
FORWARD = 1  # passes
BACKWARD = 2  # it multiplies with the weights and for the weights


@dataclass(frozen=True)
class Assumptions:
    """Shares of the GPU's peak rates that a run reaches.

    Attributes:
        mfu: of the multiplications, where much is computed at a time.
        bandwidth_use: of the memory's rate, while responses are generated token by token.
    """

    mfu: float
    bandwidth_use: float


@dataclass(frozen=True)
class Phase:
    """One part of a generation and the steps that learn from it, on one GPU."""

    flops: float
    seconds: float


def linear_flops(tower: Tower) -> int:
    """Of one position in the attention's matrices of one layer."""
    return 2 * tower.width * (2 * tower.query + 2 * tower.key)


def text_flops(model: ModelSizes) -> int:
    """Of one position in the matrices of the language model, head excluded."""
    text = model.text
    return text.layers * (linear_flops(text) + 2 * 3 * text.width * text.mlp)


def head_flops(model: ModelSizes) -> int:
    """Of one labelled position in the head."""
    return 2 * model.text.width * model.vocabulary


def attention_flops(tower: Tower, pairs: float) -> float:
    """Of queries with keys and weights with values, over pairs of a query and a key it sees."""
    return tower.layers * 4 * tower.query * pairs


def visible_pairs(prompt: int, response: int, branches: float) -> float:
    """A causal prompt, and branches that each see the prompt and themselves: P²/2 + Σ R·(P+R)."""
    return prompt**2 / 2 + branches * response * (prompt + response)


def vision_flops(model: ModelSizes) -> float:
    """Of one frame: patches, vision tower and projector."""
    vision = model.vision
    text = model.text
    positions = model.patches_per_frame
    per_layer = linear_flops(vision) + 2 * 2 * vision.width * vision.mlp
    tower = vision.layers * positions * per_layer + attention_flops(vision, positions**2)
    patches = 2 * (positions - 1) * 3 * 14**2 * vision.width
    projector = 2 * model.tokens_per_frame * text.width * (VISION_MERGE * vision.width + text.width)
    return tower + patches + projector


def forward_flops(run: Run) -> tuple[float, float, float]:
    """Of one forward pass over the micro-batch: language model, head, vision."""
    model = run.model
    prompts = run.num_prompts
    pairs = prompts * visible_pairs(model.prompt_length - 1, run.response, run.rows / prompts)
    text = run.num_tokens(run.response) * text_flops(model) + attention_flops(model.text, pairs)
    head = run.rows * run.response * head_flops(model)
    return text, head, run.num_frames * vision_flops(model)


def update_flops(run: Run) -> float:
    """Of forward and backward pass of one micro-batch."""
    model = run.model
    text, head, vision = forward_flops(run)
    again = FORWARD if run.checkpointing else 0
    # PyTorch stops before a layer's last product, of which nothing is kept; an adapter comes after it
    last = run.num_tokens(run.response) * model.text.layers * 2 * model.text.width * model.text.mlp
    last = 0 if model.has_adapters else last
    # frozen weights take part in the gradient of what lies before them, but have none of their own
    backward = BACKWARD - 1 if model.has_adapters else BACKWARD
    of_vision = FORWARD + again + backward if model.trains_tower else FORWARD
    # the fused head computes its logits again in any case
    of_text = text * (FORWARD + again + backward) - last * again
    return of_text + head * (2 * FORWARD + backward) + vision * of_vision


def scoring_flops(run: Run) -> float:
    """Of a pass without gradients over one generation."""
    part = run.without_gradients
    return sum(forward_flops(part)) * run.rows * run.generation_parts / part.rows


def phases(run: Run, assumed: Assumptions) -> dict[str, Phase]:
    """The parts of one generation and of the steps that learn from it, on one GPU."""
    model = run.model
    rate = run.gpu.tflops * 1e12 * assumed.mfu
    prompt = model.prompt_length
    encode = run.num_videos * model.num_frames * vision_flops(model)
    prefill = run.num_requests * (prompt * text_flops(model) + attention_flops(model.text, prompt**2 / 2))
    no_grad = int(run.has_reference) + int(run.recomputes_old)
    computed = {
        "encode videos": encode,
        "prefill": prefill,
        "reference and old log-probabilities": no_grad * scoring_flops(run),
        "update": run.iterations * run.generation_parts * update_flops(run),
    }
    result = {name: Phase(flops, flops / rate) for name, flops in computed.items() if flops}
    return result | {"decode": decode(run, assumed)}


def decode(run: Run, assumed: Assumptions) -> Phase:
    """Token by token: all weights and the cache are read for every token, whatever is computed with them."""
    model = run.model
    sequences = run.num_requests * run.group
    at_a_time = sequences if run.engine != "hf" else min(sequences, max(HF_SEQUENCES, run.group))
    seen = model.prompt_length + run.response / 2
    flops = text_flops(model) + head_flops(model) + attention_flops(model.text, seen)
    matrices = BF16 if run.itemsize == BF16 and run.engine != "hf" else model.itemsize
    rounds = run.response * sequences / at_a_time
    read = model.num_language * matrices + at_a_time * seen * key_value_bytes(model, run.itemsize)
    computing = at_a_time * flops / (run.gpu.tflops * 1e12 * assumed.mfu)
    reading = read / (run.gpu.bandwidth * 1e9 * assumed.bandwidth_use)
    return Phase(sequences * run.response * flops, rounds * max(computing, reading))


@dataclass(frozen=True)
class Schedule:
    """Steps and hours of a whole run.

    Attributes:
        step_seconds: of one optimiser step.
        step_tokens: positions of the language model in one optimiser step's updates, on all GPUs.
        videos_per_hour: learned from, on all GPUs.
        num_steps: of the run.
    """

    step_seconds: float
    step_tokens: float
    videos_per_hour: float
    num_steps: int

    @property
    def hours(self) -> float:
        """Of the whole run."""
        return self.num_steps * self.step_seconds / 3600


def schedule(
    run: Run, parts: dict[str, Phase], *, num_videos: int, epochs: float, max_steps: int
) -> Schedule:
    """Spread the parts over the steps of a run.

    Args:
        run: one run.
        parts: as `phases` returns them.
        num_videos: in the training data.
        epochs: passes over them.
        max_steps: ends the run earlier or later, if positive.
    """
    seconds = sum(phase.seconds for phase in parts.values())
    steps_per_generation = run.generation_parts * run.iterations / run.accumulation
    rows_per_step = run.rows * run.accumulation * run.num_gpus
    rows = num_videos * run.group * run.iterations * epochs
    return Schedule(
        step_seconds=seconds / steps_per_generation,
        step_tokens=run.num_tokens(run.response) * run.accumulation * run.num_gpus,
        videos_per_hour=run.rows * run.generation_parts / run.group * run.num_gpus / seconds * 3600,
        num_steps=max_steps if max_steps > 0 else round(rows / rows_per_step),
    )

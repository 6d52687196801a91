"""The memory of activations: what the layers of both towers keep for their backward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vqathinker.planning.sizes import BF16, FP32, Tower
from vqathinker.types import PIXELS_PER_TOKEN

if TYPE_CHECKING:
    from vqathinker.planning.run import Run

# a tile of logits in TRL's fused head
HEAD_TOKENS = 4096
HEAD_COLUMNS = 32768


def autocast_bytes(run: Run) -> float:
    """Autocast makes a bf16 copy of every fp32 matrix that lives to the end of the forward pass.

    The backward pass needs it too, or with checkpointing computes it again.
    """
    return BF16 * run.model.num_trained if run.model.itemsize > run.itemsize else 0


def text_layer_bytes(run: Run) -> float:
    """Kept by a layer of the language model.

    Of every position two RMSNorms (their input in fp32, the normalised input, their output), and the MLP's
    gate, activation, up-projection and product. Under autocast each projection keeps a copy of its input.
    """
    tower = run.model.text
    weight = run.model.itemsize
    itemsize = run.itemsize
    norms = 2 * tower.width * (FP32 + weight + itemsize)
    casts = 3 * tower.width * itemsize if weight > itemsize else 0
    mlp = itemsize * 4 * tower.mlp
    return run.num_tokens(run.longest) * (norms + casts + mlp) + itemsize * _attention_numbers(run)


def _attention_numbers(run: Run) -> int:
    """Numbers that a layer's attention by segments keeps.

    Queries, keys, values and outputs of all positions, the prompts' outputs, and of each response its
    queries, outputs, mask, and the keys and values of prompt and response, shared heads repeated.
    """
    text = run.model.text
    prompt = run.model.prompt_length - 1
    response = run.longest
    everywhere = 2 * run.num_tokens(response) * (text.query + text.key)
    own = 2 * text.query * (response + prompt + response) + response * (prompt + response)
    return everywhere + run.num_prompts * prompt * text.query + run.rows * own


def vision_layer_bytes(tower: Tower, weight: int, itemsize: int) -> int:
    """Kept for one position: two LayerNorms, queries, keys, values, both branches' outputs, the MLP."""
    norms = 2 * tower.width * (weight + itemsize)
    if tower.normalises_keys:
        norms += 2 * tower.width * (FP32 + weight)
    norms += 2 * tower.width * itemsize if weight > itemsize else 0
    return norms + itemsize * (6 * tower.width + 2 * tower.mlp)


def kept_bytes(run: Run) -> float:
    """What the forward pass of the longest micro-batch keeps for its backward pass."""
    model = run.model
    weight = run.model.itemsize
    itemsize = run.itemsize
    tokens = run.num_tokens(run.longest)
    text = model.text
    vision = model.vision
    labelled = run.rows * run.longest
    visual = run.num_frames * model.tokens_per_frame
    pixels = 3 * PIXELS_PER_TOKEN**2 * visual
    ends = tokens * text.width * (FP32 + 2 * weight) + itemsize * (labelled * text.width + pixels)
    projector = visual * (4 * vision.width * (weight + itemsize) + 2 * text.width * itemsize)
    if run.checkpointing:
        layers = text.layers * tokens * text.width + vision.layers * run.num_patches * vision.width
        return ends + projector + weight * layers
    of_text = text.layers * text_layer_bytes(run)
    of_vision = vision.layers * run.num_patches * vision_layer_bytes(vision, weight, itemsize)
    return ends + projector + of_text + (of_vision if model.trains_tower else 0)


def layer_bytes(run: Run) -> float:
    """What the backward pass of one layer adds: its gradients, and with checkpointing its activations.

    When it reaches the vision tower, what the language model's layers kept is free again.
    """
    weight = run.model.itemsize
    itemsize = run.itemsize
    text = run.model.text
    vision = run.model.vision
    tokens = run.num_tokens(run.longest)
    of_text: float = tokens * (itemsize * text.mlp + weight * 2 * text.width)
    of_vision: float = run.num_patches * (itemsize * vision.mlp + weight * 2 * vision.width)
    if run.checkpointing:
        of_text += text_layer_bytes(run)
        of_vision += run.num_patches * vision_layer_bytes(vision, weight, itemsize)
        of_vision -= weight * text.layers * tokens * text.width
    return max(of_text, of_vision)


def head_bytes(run: Run) -> float:
    """What TRL's fused head adds in its backward pass: a tile of logits and fp32 gradients."""
    model = run.model
    labelled = run.rows * run.longest
    tile = min(labelled, HEAD_TOKENS) * HEAD_COLUMNS * run.itemsize
    matrix = model.vocabulary * model.text.width
    of_matrix = 0 if model.has_adapters else (FP32 + (0 if model.itemsize == FP32 else BF16)) * matrix
    return tile + FP32 * labelled * model.text.width + of_matrix

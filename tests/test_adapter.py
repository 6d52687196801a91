"""The private names of TRL that the adapter stands on, word for word, and the version they were read in."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
import torch
from trl.generation.vllm_generation import VLLMGeneration
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from vqathinker.training.grpo import adapter, rows
from vqathinker.training.grpo.adapter import GRPOAdapter
from vqathinker.training.grpo.rows import VideoInputs

PARAMETERS = {
    GRPOTrainer._get_train_sampler: ["self", "dataset=None"],
    GRPOTrainer._prepare_inputs: ["self", "generation_batch"],
    GRPOTrainer._calculate_rewards: ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    GRPOTrainer._generate_and_score_completions: ["self", "inputs"],
    GRPOTrainer._compute_loss: ["self", "model", "inputs"],
    GRPOTrainer._get_per_token_logps_and_entropies: [
        "self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size=None",
        "compute_entropy=False", "compute_aux_loss=False", "pixel_values=None", "image_grid_thw=None",
        "num_images=None", "pixel_attention_mask=None", "spatial_shapes=None", "num_tiles=None",
        "image_sizes=None", "token_type_ids=None", "mm_token_type_ids=None", "image_position_ids=None",
    ],
    GRPOTrainer._log_completion_extra: ["self", "column", "values"],
    unwrap_model_for_generation: [
        "model", "accelerator", "gather_deepspeed3_params=True", "generation_kwargs=None",
        "gradient_checkpointing_kwargs=None",
    ],
    VLLMGeneration._init_vllm: ["self"],
    VLLMGeneration._iter_named_params: ["self"],
    VLLMGeneration.sync_weights: ["self"],
    split_tensor_dict: ["tensor_dict", "num_chunks"],
}  # fmt: skip
ATTRIBUTES = ("_metrics", "_step", "_buffered_inputs", "_tokenizer", "num_iterations", "num_generations")
# What TRL's own code says where the adapter relies on it
STATEMENTS = {
    "_generate_and_score_completions": [
        "rewards_per_func = self._calculate_rewards(inputs, prompts, completions, completion_ids_list)",
        "unscorable_mask = torch.isnan(rewards_per_func).all(dim=1)",
        'output["sampling_per_token_logps"] = sampling_per_token_logps',
    ],
    "__init__": ["self.vllm_generation = VLLMGeneration("],
    "_generate": ["self.vllm_generation.sync_weights()", "self.rollout_func(prompts, self)"],
    "_prepare_inputs": [
        "if self._step % generate_every == 0 or self._buffered_inputs is None:",
        "inputs = self._buffered_inputs[self._step % self.args.steps_per_generation]",
    ],
}


def spelled(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters]


@pytest.mark.parametrize("function", PARAMETERS, ids=lambda function: function.__name__)
def test_signatures(function: Callable[..., Any]) -> None:
    assert spelled(function) == PARAMETERS[function]


def test_attributes() -> None:
    source = inspect.getsource(GRPOTrainer)
    assert [name for name in ATTRIBUTES if f"self.{name} = " not in source] == []


@pytest.mark.parametrize("name", STATEMENTS)
def test_statements(name: str) -> None:
    source = inspect.getsource(getattr(GRPOTrainer, name))
    assert [statement for statement in STATEMENTS[name] if statement not in source] == []


def test_every_private_name_is_listed_here() -> None:
    """The adapter alone touches what TRL calls private."""
    known = {function.__name__ for function in PARAMETERS} | {*ATTRIBUTES, *STATEMENTS}
    ours = {name for cls in (GRPOAdapter, adapter) for name in vars(cls)}
    folder = Path(adapter.__file__).parent
    private = {name for name in dir(GRPOTrainer) if re.fullmatch("_[a-z]\\w+", name)} | set(ATTRIBUTES)
    for path in folder.glob("*.py"):
        used = set(re.findall(r"self\.(_[a-z]\w+)", path.read_text(encoding="utf-8"))) & private
        assert used <= known | ours if path.stem == "adapter" else not used, path.name
    overridden = {name for name in vars(GRPOAdapter) if name in private and not name.startswith("_abc")}
    assert overridden <= known


def test_trl_is_pinned_to_the_version_that_was_read() -> None:
    asked = next(line for line in requires("vqathinker") or [] if line.startswith("trl"))
    assert set(asked.removeprefix("trl").split(",")) == {">=1.16", "<1.17"}
    assert version("trl").startswith("1.16.")
    assert "TRL 1.16" in (adapter.__doc__ or "")


def test_rows_of_a_group_share_their_video() -> None:
    one, other = (VideoInputs(torch.zeros(1), torch.zeros(1)) for _ in range(2))
    assert rows.group_numbers([one, other, one, one]) == [0, 1, 0, 0]


def test_rows_are_taken_in_another_order() -> None:
    order = torch.tensor([2, 0, 1])
    assert rows.take(["a", "b", "c"], order) == ["c", "a", "b"]
    assert rows.take(torch.tensor([1, 2, 3]), order).tolist() == [3, 1, 2]
    assert rows.take(torch.tensor(5), order).item() == 5
    assert rows.take(None, order) is None

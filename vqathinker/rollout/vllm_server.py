"""The engine of a separate `vllm serve`: embeddings go in, token ids and log-probabilities come out.

Read against vLLM 0.31. Weights travel as a safetensors file that trainer and server both see. Every weight
update has a tag, and the server must show the last one before and after each generation: one that was
restarted, or that another run uses, is found out.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import torch
from safetensors.torch import save_file
from torch import Tensor

import vqathinker
from vqathinker.checkpoints.folders import open_to_others
from vqathinker.model import VQAThinkerConfig, VQAThinkerProcessor
from vqathinker.rollout.engine import (
    DIVERGED,
    Response,
    RolloutRequest,
    Sampling,
    check_room,
    checked_response,
)
from vqathinker.rollout.vllm import USED, vllm_options, vllm_version
from vqathinker.rollout.vllm_worker import shape_of
from vqathinker.types import RunStopped

ATTEMPTS = 3
HOW_TO_START = "start it with `vqathinker serve CHECKPOINT --rollouts` (--host ADDRESS for other machines)"
GENERATE = "/inference/v1/generate"
NO_LIMITS = httpx.Limits(max_connections=None)
CHECK_EVERY = 10.0  # seconds between signs of life
ANSWER_WITHIN = 20.0  # until one counts as missing


class RolloutServerError(RunStopped):
    """The rollout server is gone, or is not the one that this run needs."""


class ServerEngine:
    """Rollouts by a server that `vqathinker serve CHECKPOINT --rollouts` started.

    Args:
        url: of the server, e.g. `http://localhost:8000`.
        config: of the policy.
        processor: that of the same checkpoint.
        weights_folder: for the file of weights; the server must see it under the same path.
        start_within: seconds to wait until the server answers.
        sends_weights: whether this process is the one that sends them.

    Raises:
        RolloutServerError: if no server answers, or one of another version or with another model.
    """

    tells_probabilities = False

    def __init__(
        self,
        url: str,
        config: VQAThinkerConfig,
        processor: VQAThinkerProcessor,
        *,
        weights_folder: str | os.PathLike[str],
        start_within: float = 240.0,
        sends_weights: bool = True,
    ) -> None:
        self.url = url.rstrip("/")
        self.processor = processor
        self.folder = Path(weights_folder).resolve()
        self.sends_weights = sends_weights
        self.tag = ""
        self._wait_until_up(start_within)
        self._check_server(config)

    def versions(self) -> dict[str, str]:
        """vLLM's, which is the server's too."""
        return {"vllm": vllm_version()}

    def synchronise(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replace the language model's weights and forget everything computed with the old ones.

        Args:
            weights: names as in the checkpoint; those of vision and motion are skipped. Every process must go
                through them, since sharded weights are gathered on the way.

        Raises:
            RolloutServerError: if the server does not take them.
            RuntimeError: if no weights of a language model are among them, or one is no number.
        """
        state = {
            n: w.detach().to("cpu", copy=True).contiguous()  # gathered ones are let go before the end
            for n, w in weights
            if self.sends_weights and n.startswith(USED)
        }
        if not self.sends_weights:
            return
        if not any(name.startswith(USED[0]) for name in state):
            raise RuntimeError(f"no weights of a language model among those given: expected {USED[0]}*")
        broken = next((name for name, weight in state.items() if not torch.isfinite(weight).all()), None)
        if broken:
            raise RuntimeError(f"{broken} holds values that are no numbers: {DIVERGED}")
        tag = uuid.uuid4().hex
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"rollout-weights-{tag}.safetensors"
        try:
            save_file(state, file)
            open_to_others([file])  # the server may run as somebody else
            self._rpc("load_rollout_weights", path=str(file), tag=tag)
        finally:
            file.unlink(missing_ok=True)
        self._ask("POST", "/reset_encoder_cache")
        if not self._ask("POST", "/reset_prefix_cache")["success"]:
            raise RolloutServerError(
                f"{self.url} kept its prefix cache after new weights: it is still answering"
            )
        self.tag = tag

    def generate(
        self, requests: Sequence[RolloutRequest], num_responses: int, sampling: Sampling
    ) -> list[list[Response]]:
        """Return `num_responses` responses for every request, in order.

        Raises:
            ValueError: if a prompt leaves no room for the longest response.
            RolloutServerError: if the server is gone or has other weights than the last synchronised ones.
        """
        check_room(requests, sampling, self.max_length)
        drawn = sampling.num_drawn(num_responses)
        before = self._rpc("describe_rollouts", temperature=str(sampling.logit_temperature))["weights"]
        bodies = [self._body(request, vllm_options(sampling, drawn)) for request in requests]
        answers = self._run(
            lambda client: asyncio.gather(*(ask(client, "POST", GENERATE, json=body) for body in bodies))
        )
        after = self._rpc("describe_rollouts")["weights"]
        if not before == after == (self.tag if self.sends_weights else before):
            raise RolloutServerError(
                f"{self.url} has other weights than this run gave it: it was restarted or serves another run"
            )
        groups = [
            [
                checked_response(
                    choice["token_ids"], [entry["logprob"] for entry in choice["logprobs"]["content"]]
                )
                for choice in answer["choices"]
            ]
            for answer in answers
        ]
        return sampling.repeated(groups, num_responses)

    def _body(self, request: RolloutRequest, options: dict[str, Any]) -> dict[str, Any]:
        """A request as the server takes it: one item of embeddings for every run of placeholders."""
        from vllm.entrypoints.scale_out.token_in_token_out.mm_serde import encode_mm_kwargs_item
        from vllm.multimodal.inputs import (
            MultiModalBatchedField,
            MultiModalFieldElem,
            MultiModalKwargsItem,
        )

        marks = self.processor.placeholder_ids
        spans = []
        start = 0
        used = 0
        data = []
        # frames and motion are runs of placeholders, whose embeddings lie one after the other
        for is_mark, tokens in groupby(request.prompt_ids, key=lambda token: token in marks):
            length = len(list(tokens))
            if is_mark:
                spans.append({"offset": start, "length": length})
                part = request.embeds[used : used + length].detach().cpu().contiguous()
                item = MultiModalKwargsItem(
                    {"video_embeds": MultiModalFieldElem(data=part, field=MultiModalBatchedField())}
                )
                data.append(encode_mm_kwargs_item(item))
                used += length
            start += length
        body = {"token_ids": list(request.prompt_ids), "sampling_params": options}
        if spans:
            body["features"] = {
                "mm_hashes": {"video": [f"{request.cache_key}/{i}" for i in range(len(spans))]},
                "mm_placeholders": {"video": spans},
                "kwargs_data": {"video": data},
            }
        return body

    def _run(self, work: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:  # noqa: ANN401  what work returns
        """Do the work while the server shows signs of life; in a thread, as notebooks have loops."""

        async def watched() -> Any:  # noqa: ANN401
            async with httpx.AsyncClient(
                base_url=self.url, timeout=None, limits=NO_LIMITS, trust_env=False
            ) as client:
                tasks = [asyncio.ensure_future(work(client)), asyncio.ensure_future(watch(client))]
                done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in pending:
                    task.cancel()
                return done.pop().result()

        with ThreadPoolExecutor(1, thread_name_prefix="rollout") as pool:
            return pool.submit(asyncio.run, watched()).result()

    def _ask(self, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401  JSON
        return self._run(lambda client: ask(client, method, path, **options))

    def _rpc(self, name: str, **arguments: str) -> Any:  # noqa: ANN401  JSON
        results = self._ask("POST", "/collective_rpc", json={"method": name, "kwargs": arguments})
        return results["results"][0] if results else None

    def _wait_until_up(self, seconds: float) -> None:
        """Wait for a server that is still loading."""
        end = time.monotonic() + seconds
        while True:
            try:
                if httpx.get(f"{self.url}/health", timeout=ANSWER_WITHIN, trust_env=False).is_success:
                    return
                reason = "it is not healthy"
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
            if time.monotonic() > end:
                raise RolloutServerError(
                    f"no rollout server answers at {self.url} after {seconds:.0f} s ({reason}); "
                    f"{HOW_TO_START}, or give its address (--vllm_server_base_url)"
                )
            time.sleep(1.0)

    def _check_server(self, config: VQAThinkerConfig) -> None:
        """Compare versions and models."""
        found = self._rpc("describe_rollouts")
        theirs = {"vllm": self._ask("GET", "/version")["version"], "vqathinker": found["version"]}
        ours = {"vllm": vllm_version(), "vqathinker": vqathinker.__version__}
        if theirs != ours:
            raise RolloutServerError(
                f"{self.url} runs {theirs}, this process {ours}: install the same versions on both sides"
            )
        if found["model"] != shape_of(config):
            raise RolloutServerError(
                f"{self.url} serves another model than the policy's: {found['model']}, not {shape_of(config)}"
            )
        self.max_length = int(self._ask("GET", "/v1/models")["data"][0]["max_model_len"])


async def watch(client: httpx.AsyncClient) -> None:
    """Return never; raise a RolloutServerError when the server shows no sign of life."""
    while True:
        await asyncio.sleep(CHECK_EVERY)
        await ask(client, "GET", "/health", timeout=ANSWER_WITHIN)


async def ask(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401  JSON
    """Send a request, again if the connection breaks.

    Raises:
        RolloutServerError: if there is no answer, or it is a refusal.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            answer = await client.request(method, path, **options)
            break
        except httpx.TransportError as error:
            if attempt == ATTEMPTS or isinstance(error, httpx.TimeoutException):
                raise RolloutServerError(
                    f"the rollout server at {client.base_url} does not answer "
                    f"({str(error) or type(error).__name__}); {HOW_TO_START}"
                ) from error
            await asyncio.sleep(attempt)
    if answer.status_code == httpx.codes.NOT_FOUND:
        raise RolloutServerError(
            f"the server at {client.base_url} knows no {path}, it serves no rollouts: {HOW_TO_START}"
        )
    if answer.is_error:
        raise RolloutServerError(
            f"the server at {client.base_url} refuses {path} ({answer.status_code}): {answer.text[:500]}"
        )
    return answer.json() if answer.content else None

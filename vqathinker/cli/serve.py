"""`vqathinker serve`: vLLM's own server with the options that our checkpoints need."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Annotated

import typer

from vqathinker.cli.options import Checkpoint
from vqathinker.cli.show import fail

# answers are greedy where a request does not say otherwise
ANSWERS = ["--override-generation-config", '{"temperature": 0.0}']
ROLLOUTS = [
    "--enable-scale-out", "--enable-mm-embeds", "--limit-mm-per-prompt", '{"image": 0, "video": 0}',
    "--skip-mm-profiling", "--mm-processor-cache-gb", "0", "--logprobs-mode", "raw_logprobs",
    "--worker-extension-cls", "vqathinker.rollout.vllm_worker.RolloutWorker",
]  # fmt: skip


def serve(
    context: typer.Context,
    checkpoint: Checkpoint,
    rollouts: Annotated[
        bool, typer.Option("--rollouts", help="Serve a training run (vllm_mode=server), not people.")
    ] = False,
) -> None:
    """Answer OpenAI chat requests about videos with vLLM; further options are those of `vllm serve`.

    With --rollouts whoever reaches the port can replace the weights: keep it inside your network.

    Exit code 2: a wrong checkpoint, or no vLLM.
    """
    if not (checkpoint / "config.json").is_file():
        extra = (
            ": it holds an adapter, merge it first" if (checkpoint / "adapter_config.json").is_file() else ""
        )
        fail(f"{checkpoint} is no checkpoint that vLLM can serve{extra}")
    if importlib.util.find_spec("vllm") is None:
        fail("vLLM is not installed: pip install 'vqathinker[vllm]'")
    if rollouts:
        os.environ["VLLM_SERVER_DEV_MODE"] = "1"  # the address by which weights are replaced
    # the module, since the CPU build's command `vllm` does not start
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
    os.execv(command[0], [*command, *(ROLLOUTS if rollouts else ANSWERS), *context.args])

"""`vqathinker serve`: vLLM's own server with the options that our checkpoints need."""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vqathinker.checkpoints.folders import CONFIG_FILE, HOW_TO_MERGE, is_adapter
from vqathinker.cli.require import MODEL_TYPE, require_checkpoint
from vqathinker.cli.show import fail
from vqathinker.cli.usage import nearest_path

# answers are greedy where a request does not say otherwise
ANSWERS = ["--override-generation-config", '{"temperature": 0.0}']
ROLLOUTS = [
    "--enable-scale-out", "--enable-mm-embeds", "--limit-mm-per-prompt", '{"image": 0, "video": 0}',
    "--skip-mm-profiling", "--mm-processor-cache-gb", "0", "--logprobs-mode", "raw_logprobs",
    "--worker-extension-cls", "vqathinker.rollout.vllm_worker.RolloutWorker",
]  # fmt: skip


# a judge answers as asked, not as its authors' generation settings say, under a name that recipes know
JUDGE = ["--served-model-name", "judge", "--generation-config", "vllm"]

OWN = ("--rollouts", "--judge")
ServedName = Annotated[
    str,
    typer.Argument(metavar="CHECKPOINT", help="Folder or name on the hub; with --judge a language model's."),
]
LOCAL = ("127.0.0.1", "localhost", "::1")
LOOPBACK = "127.0.0.1"
PORT = 8000


def serve(
    context: typer.Context,
    checkpoint: ServedName,
    rollouts: Annotated[
        bool, typer.Option("--rollouts", help="Serve a training run (vllm_mode=server), not people.")
    ] = False,
    judge: Annotated[
        bool, typer.Option("--judge", help="Serve a language model that judges; any that vLLM knows.")
    ] = False,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 for every machine that reaches this one.")
    ] = LOOPBACK,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = PORT,
) -> None:
    """Answer OpenAI chat requests about videos with vLLM; further options are those of `vllm serve`.

    With --judge a language model answers, by the name "judge": as the reward and `ask-set` ask it.

    Only this machine reaches it unless --host says otherwise. With --rollouts whoever reaches the port can
    replace the weights: keep it inside your network.

    Exit code 2: a wrong checkpoint, or no vLLM.
    """
    for wrong in context.args:
        if meant := difflib.get_close_matches(wrong, OWN, 1, 0.8):
            fail(f"serve has no option {wrong}, did you mean {meant[0]}?")
    if judge and rollouts:
        fail("choose one of --judge and --rollouts")
    served = _judge_name(checkpoint) if judge else str(_own_folder(checkpoint))
    if importlib.util.find_spec("vllm") is None:
        fail("vLLM is not installed: pip install 'vqathinker[vllm]'")
    if rollouts:
        os.environ["VLLM_SERVER_DEV_MODE"] = "1"  # the address by which weights are replaced
    typer.echo(f"listening at http://{host}:{port} when the model is loaded{reach(host)}", err=True)
    # the module, since the CPU build's command `vllm` does not start
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", served]
    command += ["--host", host, "--port", str(port)]
    own = JUDGE if judge else ROLLOUTS if rollouts else ANSWERS
    os.execv(command[0], [*command, *own, *context.args])


def _own_folder(checkpoint: str) -> Path:
    """The folder of a checkpoint of ours, or leave."""
    folder = require_checkpoint(checkpoint)
    if is_adapter(folder):
        how = HOW_TO_MERGE.format(adapter=folder)
        fail(f"{folder} holds an adapter, which vLLM cannot serve: merge it into its model first ({how})")
    return folder


def _judge_name(model: str) -> str:
    """A language model's folder or name on the hub, or leave if it is none."""
    folder = Path(model)
    if not folder.exists() and (model.startswith((".", "/", "~")) or model.count("/") > 1):
        fail(f"{model} is not a folder{nearest_path(folder)}")
    if not folder.exists():
        return model
    if not (folder / CONFIG_FILE).is_file():
        fail(f"{model} has no {CONFIG_FILE}: a judge is a language model of the Hugging Face format")
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        fail(f"{folder / CONFIG_FILE} cannot be read: {error}")
    if isinstance(config, dict) and config.get("model_type") == MODEL_TYPE:
        fail(f"{model} is a checkpoint that scores, no judge: leave --judge out")
    return model


def reach(host: str) -> str:
    """Who reaches an address, where that is worth a word."""
    if host in LOCAL:
        return "; other machines cannot reach it (--host)"
    return "; every machine that reaches this one can use it"

"""What a vLLM server started for rollouts can do beside answering: our methods on its workers.

Read against vLLM 0.31. `vqathinker serve --rollouts` names the class; `vllm_server` calls it by
`/collective_rpc`, whose arguments are strings.
"""

from __future__ import annotations

from typing import Any

from safetensors import safe_open

import vqathinker


def shape_of(config: Any) -> dict[str, Any]:  # noqa: ANN401  a configuration of transformers
    """What two checkpoints must share for one to take the other's weights and embeddings."""
    text = config.text_config
    return {
        "layers": text.num_hidden_layers,
        "width": text.hidden_size,
        "vocabulary": text.vocab_size,
        "motion": config.motion,
    }


class RolloutWorker:
    """Methods that vLLM adds to its worker class."""

    model_runner: Any
    reload_weights: Any

    def describe_rollouts(self, temperature: str = "") -> dict[str, Any]:
        """Tell version, model and weights; a temperature given is set."""
        model = self.model_runner.get_model()
        if temperature:
            model.temperature = float(temperature)
        return {
            "version": vqathinker.__version__,
            "model": shape_of(model.config),
            "weights": model.weights_tag,
        }

    def load_rollout_weights(self, path: str, tag: str) -> None:
        """Take the weights of a safetensors file that trainer and server both see."""
        with safe_open(path, framework="pt") as file:
            self.reload_weights(weights_iterator=((name, file.get_tensor(name)) for name in file.keys()))  # noqa: SIM118
        self.model_runner.get_model().weights_tag = tag

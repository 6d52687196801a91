"""The entry point `vllm.general_plugins`: makes vLLM know our checkpoints, in each of its processes."""

MODEL = "vqathinker.rollout.vllm_model:VQAThinkerForVLLM"


def register() -> None:
    """Register configuration, processor and model; may be called again."""
    from vllm import ModelRegistry

    import vqathinker.model  # noqa: F401  registers configuration and processor with transformers

    name = "VQAThinkerForConditionalGeneration"
    if name not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(name, MODEL)

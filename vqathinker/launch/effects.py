"""Settings that TRL and transformers know and a recipe would ignore. They are refused by name.

`tests/used_options_grpo.txt` and `used_options_sft.txt` list those that are used; an option of a new version
that is in neither list fails in `tests/test_launch.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from vqathinker.launch.settings import Settings

OWN_GENERATION = "it belongs to TRL's own generation, which is never called"
OWN_VALIDATION = "validation scores videos greedily in its own way"
OWN_LOADING = "the checkpoint is loaded by its own classes"
OWN_PROMPTS = "prompts and answers are made by the checkpoint's processor"
OWN_COLLATOR = "the recipe makes its batches from videos itself"
NO_QUANTISATION = "quantised weights are not supported; use bf16 weights with --use_peft true"
NO_LOADER = "videos are decoded by processes of their own (decode_workers), not by loader processes"
NOT_CALLED = "only scripts of transformers read it"
NO_LIGER = "there are no Liger kernels for this model"
NO_METRICS = "validation computes the loss and scores videos greedily, nothing else"

ANY: dict[str, str] = {
    "model_revision": "checkpoints are folders; download the revision first",
    "load_in_8bit": NO_QUANTISATION,
    "load_in_4bit": NO_QUANTISATION,
    "bnb_4bit_quant_type": NO_QUANTISATION,
    "use_bnb_nested_quant": NO_QUANTISATION,
    "bnb_4bit_quant_storage": NO_QUANTISATION,
    "do_train": NOT_CALLED,
    "do_eval": "eval_strategy decides",
    "do_predict": NOT_CALLED,
    "local_rank": "the launcher tells the processes their ranks",
    "use_liger_kernel": NO_LIGER,
    "liger_kernel_config": NO_LIGER,
    "prediction_loss_only": NO_METRICS,
    "eval_do_concat_batches": NO_METRICS,
    "eval_accumulation_steps": NO_METRICS,
    "include_for_metrics": NO_METRICS,
    "batch_eval_metrics": NO_METRICS,
    "model_init_kwargs": OWN_LOADING,
    "trust_remote_code": "code from checkpoints is never run",
    "router_aux_loss_coef": "the model is no mixture of experts",
    "remove_unused_columns": "the recipe needs all columns",
}
IGNORED: dict[str, dict[str, str]] = {
    "grpo": ANY
    | dict.fromkeys(
        (
            "min_p", "repetition_penalty", "generation_kwargs", "cache_implementation",
            "use_transformers_continuous_batching", "transformers_continuous_batching_config",
            "use_transformers_paged", "max_tool_calling_iterations", "vllm_tensor_parallel_size",
            "vllm_model_impl", "vllm_structured_outputs_regex", "vllm_group_port",
        ),
        OWN_GENERATION,
    )
    | dict.fromkeys(
        (
            "num_generations_eval", "prediction_loss_only", "eval_do_concat_batches",
            "eval_accumulation_steps", "eval_use_gather_object", "include_for_metrics", "batch_eval_metrics",
            "bf16_full_eval", "fp16_full_eval", "label_names",
        ),
        OWN_VALIDATION,
    )
    | dict.fromkeys(
        (
            "dataloader_num_workers", "dataloader_persistent_workers", "dataloader_prefetch_factor",
            "dataloader_multiprocessing_context", "dataloader_in_order",
        ),
        NO_LOADER,
    )
    | {
        "chat_template_kwargs": OWN_PROMPTS,
        "log_multimodal": "the table of responses holds text alone",
        "reward_weights": "weights stand beside the rewards: `- name: ranking`, `  weight: 0.5`",
        "data_seed": "the order of the videos follows from seed",
        "train_sampling_strategy": "groups are drawn at random; their lengths are balanced later",
        "length_column_name": "groups are drawn at random; their lengths are balanced later",
        "label_smoothing_factor": "GRPO has no labels",
        "average_tokens_across_devices": "GRPO's loss counts its tokens itself (loss_type)",
        "include_num_input_tokens_seen": "rows become tokens in the trainer; see num_tokens in the log",
        "auto_find_batch_size": "GRPO needs whole groups; lower per_device_train_batch_size",
    },
    "sft": ANY
    | dict.fromkeys(
        (
            "dataset_text_field", "dataset_num_proc", "dataset_kwargs", "shuffle_dataset", "packing",
            "packing_strategy", "padding_free", "eval_packing", "completion_only_loss",
            "assistant_only_loss", "truncation_mode", "max_length", "pad_to_multiple_of", "pad_token",
        ),
        OWN_COLLATOR,
    )
    | {"chat_template_path": OWN_PROMPTS, "eos_token": OWN_PROMPTS},
}  # fmt: skip
IGNORED["tune"] = IGNORED["sft"]

# options -> what else must be told: on the command line without it, they do nothing
Needs = tuple[tuple[str, ...], dict[str, tuple[object, ...]]]
NEEDS: tuple[Needs, ...] = (
    (
        (
            "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_target_parameters",
            "lora_modules_to_save", "lora_task_type", "use_rslora", "use_dora",
        ),
        {"use_peft": (True,)},
    ),
    (
        (
            "vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_server_timeout",
            "vllm_server_weights",
        ),
        {"use_vllm": (True,), "vllm_mode": ("server",)},
    ),
    (
        (
            "vllm_gpu_memory_utilization", "vllm_max_model_length", "vllm_enable_sleep_mode",
            "vllm_enforce_eager",
        ),
        {"use_vllm": (True,), "vllm_mode": ("colocate",)},
    ),
    (("vllm_mode", "vllm_importance_sampling_correction"), {"use_vllm": (True,)}),
    (
        (
            "vllm_importance_sampling_mode", "vllm_importance_sampling_clip_max",
            "vllm_importance_sampling_clip_min", "vllm_importance_sampling_cap",
        ),
        {"vllm_importance_sampling_correction": (True,)},
    ),
    (
        (
            "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo", "hub_always_push",
            "hub_revision",
        ),
        {"push_to_hub": (True,)},
    ),
    (
        ("entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"),
        {"use_adaptive_entropy": (True,)},
    ),
    (("sapo_temperature_neg", "sapo_temperature_pos"), {"loss_type": ("sapo",)}),
    (
        ("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"),
        {"loss_type": ("vespo",)},
    ),
    (("ref_model_mixup_alpha", "ref_model_sync_steps"), {"sync_ref_model": (True,)}),
    (("packed_attention",), {"packed": (True,)}),
    (("focal_alpha", "focal_beta"), {"text_loss": ("focal",)}),
    (("prefix_weight", "pair_level_weight"), {"level_loss": ("words", "vocabulary")}),
    (("num_completions_to_print", "log_unique_prompts"), {"log_completions": (True,)}),
    (
        ("eval_steps", "eval_delay", "eval_on_start", "load_best_model_at_end"),
        {"eval_strategy": ("steps", "epoch")},
    ),
    (("torch_compile_backend", "torch_compile_mode"), {"torch_compile": (True,)}),
)  # fmt: skip
NEEDED_LABELS = (
    "eval_videos", "eval_split", "eval_video_column", "eval_mos_column", "eval_mos_low", "eval_mos_high",
    "eval_num_videos", "eval_max_completion_length", "allow_overlap",
)  # fmt: skip


def without_effect(settings: Settings) -> list[str]:
    """One line for each setting that would do nothing."""
    reasons: Mapping[str, str] = IGNORED[settings.recipe]
    found = [
        f"{settings.origin[name]}: has no effect here, {reasons[name]}"
        for name in settings.given
        if name in reasons and settings.is_told(name)
    ]
    for names, others in NEEDS:
        for name in filter(settings.is_on_command_line, names):
            found += [
                f"--{name}: has no effect without --{other} {_word(values[0])}"
                for other, values in others.items()
                if other in settings.options and settings[other] not in values and settings.is_told(name)
            ]
    for name in NEEDED_LABELS:
        if settings.is_told(name) and settings.is_on_command_line(name) and not settings["eval_labels"]:
            found.append(f"--{name}: has no effect without --eval_labels FILE")
    return found


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

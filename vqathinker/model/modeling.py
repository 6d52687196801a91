"""InternVL3 with a motion branch, in the Hugging Face format.

The inner model merges frame features and motion tokens into the prompt; it knows nothing of files, prompts or
rewards. Source: VQAThinker (arXiv 2508.06051), section 3.2; variant `motion="fast"`: VQA² (arXiv 2411.03795).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLModel,
)
from transformers.models.internvl.modeling_internvl import InternVLModelOutputWithPast

from vqathinker.checkpoints.folders import CONFIG_FILE
from vqathinker.checkpoints.storage import EMBEDDINGS, HEAD, same_values, scan
from vqathinker.model.attention import MASKS, PACKED
from vqathinker.model.slowfast import CHANNEL_RATIO, EXPANSION, SlowFast

Motion = Literal["slowfast", "fast", "none"]


def check_motion(motion: str) -> None:
    """Raise a ValueError unless `motion` names a variant."""
    if motion not in get_args(Motion):
        raise ValueError(f"motion={motion!r}: expected one of {', '.join(get_args(Motion))}")


# Language models that take a mask of our own making, which packed rows need
LANGUAGE_MODELS = ("qwen2", "qwen3")


def check_language_model(settings: Mapping[str, Any]) -> None:
    """Raise a ValueError unless packed rows can go through the language model of these settings."""
    kind = settings["model_type"]
    if kind not in LANGUAGE_MODELS:
        raise ValueError(
            f"the language model is a {kind!r}; those whose attention takes packed rows are "
            f"{', '.join(LANGUAGE_MODELS)}"
        )
    others = sorted(set(settings.get("layer_types") or ()) - {"full_attention"})
    if others:
        raise ValueError(f"the language model has layers of {others[0]!r}; packed rows need full attention")


class VQAThinkerConfig(InternVLConfig):
    """An InternVL configuration with the motion branch.

    Attributes:
        motion: "slowfast" (one token per video), "fast" (one token per frame) or "none".
        motion_token_id: the reserved token whose embedding is replaced by a motion feature.
        slowfast_depth: depth of the SlowFast network.
        slowfast_stem_dim: channels of its slow stem; the motion feature has 36 times as many.
        max_frames: number of learned positions of the "fast" variant.
    """

    model_type = "vqathinker"
    auto_map: ClassVar[dict[str, str]] = {}  # TRL looks for this attribute when it loads the reference model
    motion: str = "slowfast"
    motion_token_id: int = 151656
    slowfast_depth: int = 50
    slowfast_stem_dim: int = 64
    max_frames: int = 64

    def __post_init__(self, **kwargs: Any) -> None:
        check_motion(self.motion)
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]

    @property
    def motion_dim(self) -> int:
        """Width of a motion feature: 2304 for "slowfast" with the published weights, 256 for "fast"."""
        fast = self.slowfast_stem_dim // CHANNEL_RATIO * EXPANSION
        return fast if self.motion == "fast" else self.slowfast_stem_dim * EXPANSION + fast


class MotionProjector(nn.Module):
    """LayerNorm → Linear → GELU → Linear from motion features to the language model's width."""

    def __init__(self, config: VQAThinkerConfig) -> None:
        super().__init__()
        width: int = config.text_config.hidden_size  # type: ignore[union-attr]
        self.layer_norm = nn.LayerNorm(config.motion_dim)
        self.linear_1 = nn.Linear(config.motion_dim, width)
        self.linear_2 = nn.Linear(width, width)
        self.positions = (
            nn.Embedding(config.max_frames, config.motion_dim) if config.motion == "fast" else None
        )

    def forward(self, features: Tensor) -> Tensor:
        """Project (B, M, motion_dim) features of M tokens per video to (B, M, d).

        Raises:
            ValueError: if there are positions, and not so many.
        """
        features = features.to(self.linear_1.weight.dtype)
        if self.positions is not None:
            if features.shape[1] > self.positions.num_embeddings:
                raise ValueError(
                    f"{features.shape[1]} frames: this checkpoint knows {self.positions.num_embeddings} "
                    "places of frames (max_frames); take fewer, or make one for more: vqathinker init "
                    "--scoring-num-frames"
                )
            features = features + self.positions.weight[: features.shape[1]]
        hidden: Tensor = self.linear_1(self.layer_norm(features))
        return self.linear_2(nn.functional.gelu(hidden))  # type: ignore[no-any-return]


class VQAThinkerModel(InternVLModel):
    """InternVL's backbone plus a frozen SlowFast and its projector."""

    config_class = VQAThinkerConfig
    _keep_in_fp32_modules_strict = ["slowfast"]  # noqa: RUF012  as the base class declares it

    def __init__(self, config: VQAThinkerConfig) -> None:
        super().__init__(config)
        language = self.language_model.config
        if language._attn_implementation == "sdpa":
            language._attn_implementation = PACKED  # the same, and packed rows
        if config.motion != "none":
            self.motion_projector = MotionProjector(config)
            self.slowfast = SlowFast(config.slowfast_depth, config.slowfast_stem_dim)
        self.post_init()  # type: ignore[no-untyped-call]

    @property
    def trains_vision(self) -> bool:
        """Whether the features of a frame change in training."""
        parts = (self.vision_tower, self.multi_modal_projector)
        return any(weight.requires_grad for part in parts for weight in part.parameters())

    def frame_features(self, frames: Tensor) -> Tensor:
        """Vision tokens of single frames: (F, 3, S, S) normalised pixels → (F, (S/28)², d)."""
        output = self.get_image_features(
            pixel_values=frames,
            vision_feature_layer=-1,
            vision_feature_select_strategy="default",
            return_dict=True,
        )
        return output.pooler_output  # type: ignore[no-any-return]

    def motion_features(self, frames: Tensor) -> Tensor:
        """Frozen fp32 motion features of videos: (B, T, 3, S, S) → (B, M, motion_dim), M = 1, T or 0."""
        if self.config.motion == "none":
            return frames.new_zeros(len(frames), 0, self.config.motion_dim, dtype=torch.float32)
        if self.config.motion == "fast":
            return self.slowfast.fast_features(frames)
        return self.slowfast(frames)  # type: ignore[no-any-return]

    def merge(
        self,
        input_ids: Tensor,
        frame_features: Tensor,
        motion_tokens: Tensor,
        placeholders: Tensor | None = None,
    ) -> Tensor:
        """Embed the ids and put visual features in the place of the placeholder tokens.

        Args:
            input_ids: (B, L).
            frame_features: (F, n, d) for all frames of the batch in order.
            motion_tokens: (B, M, d).
            placeholders: (B, L) bool; placeholder ids outside stay ordinary tokens. All positions if omitted.

        Returns:
            (B, L, d) embeddings.

        Raises:
            ValueError: if the numbers of placeholders and features differ.
        """
        embeds: Tensor = self.get_input_embeddings()(input_ids)
        for name, token_id, features in (
            ("frame", self.config.image_token_id, frame_features),
            ("motion", self.config.motion_token_id, motion_tokens),
        ):
            mask = input_ids == token_id
            if placeholders is not None:
                mask = mask & placeholders
            features = features.reshape(-1, embeds.shape[-1]).to(embeds.dtype)
            if mask.sum() != len(features):
                raise ValueError(f"{int(mask.sum())} {name} placeholders for {len(features)} {name} features")
            embeds = embeds.masked_scatter(mask[..., None], features)
        return embeds

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        frame_features: Tensor | None = None,
        frame_order: Tensor | None = None,
        motion_features: Tensor | None = None,
        video_frames: Tensor | None = None,
        placeholders: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        segments: Tensor | None = None,
        packed_attention: str = "segments",
        **kwargs: Any,
    ) -> InternVLModelOutputWithPast | tuple[Any, ...]:
        """Run the language model over a prompt with its video merged in.

        Args:
            input_ids: (B, L).
            pixel_values: (F, 3, S, S) frames of all videos of the batch in order.
            frame_features: (F, n, d) in their place, as `frame_features()` returns them.
            frame_order: positions in F of the frames of the rows one after the other, if rows share frames.
            motion_features: (B, M, motion_dim), as `motion_features()` returns them, of the rows that have a
                motion token; computed here if omitted, which needs pixels.
            video_frames: (V, T) positions in F of the frames of each video, where there are pictures too; all
                rows have videos of T frames if omitted.
            placeholders: (B, L) bool, the positions where placeholder ids stand for features.
            inputs_embeds: (B, L, d), instead of all above.
            attention_mask: (B, L).
            segments: (B, L) in its place for packed rows: 0 the shared prefix, from 1 the branches after it,
                which do not see one another, -1 padding.
            packed_attention: how packed rows are computed, a key of `vqathinker.model.attention.MASKS`.
            kwargs: passed on to the language model.

        Raises:
            ValueError: if a video comes without ids or without what its motion is known by, or packed rows
                meet an attention that cannot take them.
        """
        if segments is not None:
            check_packed_attention(self)
            attention_mask = {"full_attention": MASKS[packed_attention](segments)}  # type: ignore[assignment]
        if pixel_values is not None:
            if input_ids is None:
                raise ValueError("pixel_values need input_ids to be merged into")
            if motion_features is None and self.config.motion != "none":
                if video_frames is None:
                    videos = pixel_values.unflatten(0, (len(input_ids), -1))
                else:
                    videos = pixel_values[video_frames]
                motion_features = self.motion_features(videos)
            frame_features = self.frame_features(pixel_values) if frame_features is None else frame_features
        if frame_features is not None:
            if frame_order is not None:
                frame_features = frame_features[frame_order]
            motion = frame_features.new_zeros(0)
            if input_ids is None or (motion_features is None and self.config.motion != "none"):
                raise ValueError("frame_features need input_ids to be merged into, and motion_features")
            if self.config.motion != "none":
                motion = self.motion_projector(motion_features)
            inputs_embeds = self.merge(input_ids, frame_features, motion, placeholders)
            input_ids = None
        return super().forward(  # type: ignore[no-any-return]
            input_ids=input_ids, inputs_embeds=inputs_embeds, attention_mask=attention_mask, **kwargs
        )


def has_own_head(folder: Path) -> bool:
    """Whether a checkpoint of ours stores a language-model head that is not its embeddings."""
    stored = scan(folder)
    return HEAD in stored and not same_values(stored[HEAD], stored[EMBEDDINGS])


def check_packed_attention(model: VQAThinkerModel) -> None:
    """Raise a ValueError if the language model's attention cannot take packed rows."""
    check_language_model(model.language_model.config.to_dict())
    attention = model.language_model.config._attn_implementation
    if attention != PACKED:
        raise ValueError(f"attn_implementation={attention!r} cannot take packed rows; use 'sdpa'")


class VQAThinkerForConditionalGeneration(InternVLForConditionalGeneration):
    """The backbone with its language-model head; `generate` takes `inputs_embeds` from `model.merge`."""

    config_class = VQAThinkerConfig
    _keep_in_fp32_modules_strict = ["slowfast"]  # noqa: RUF012  as the base class declares it

    def __init__(self, config: VQAThinkerConfig) -> None:
        super().__init__(config)
        self.model = VQAThinkerModel(config)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        path: Any,  # noqa: ANN401  as the base class takes them
        *args: Any,
        config: Any = None,  # noqa: ANN401
        **kwargs: Any,
    ) -> Any:  # noqa: ANN401
        """As transformers', but a stored head that differs from the embeddings stays a head of its own.

        Transformers, too, goes by the tensors where a configuration says otherwise, but for ZeRO-3, under
        which it cannot compare them and ties the head to the embeddings.
        """
        if path is not None and (Path(path) / CONFIG_FILE).is_file():
            config = config or VQAThinkerConfig.from_pretrained(path)
            if config.tie_word_embeddings and has_own_head(Path(path)):
                config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
        return super().from_pretrained(path, *args, config=config, **kwargs)


AutoConfig.register(VQAThinkerConfig.model_type, VQAThinkerConfig)
AutoModel.register(VQAThinkerConfig, VQAThinkerModel)
AutoModelForCausalLM.register(VQAThinkerConfig, VQAThinkerForConditionalGeneration)
AutoModelForImageTextToText.register(VQAThinkerConfig, VQAThinkerForConditionalGeneration)

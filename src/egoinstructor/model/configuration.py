"""The shape of the model: nothing that has a number in it is written down anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, CLIPVisionConfig, PreTrainedConfig, ResNetConfig

from egoinstructor.errors import InputError

IGNORE = -100
"""The label of a token that is not learned."""

VISION_CONFIGS: dict[str, Any] = {config.model_type: config for config in (CLIPVisionConfig, ResNetConfig)}
"""The frame encoders that a model may have, by `model_type`; `model.vision` builds them."""


@strict
class EgoInstructorTextConfig(PreTrainedConfig):
    """The decoder (MosaicGPT). The defaults are MPT-1B RedPajama's.

    Args:
        vocab_size: rows of the embedding, padding rows included.
        hidden_size: D.
        num_hidden_layers: decoder layers.
        num_attention_heads: H of the self-attention.
        mlp_ratio: width of the MLP over D.
        max_position_embeddings: the longest text in tokens; ALiBi has no table of positions, this is a limit.
        alibi_bias_max: ALiBi slope of head i (from 1) is 2^(−alibi_bias_max·i/H).
        layer_norm_eps: of every LayerNorm in the decoder.
        initializer_range: standard deviation of new weights.
    """

    model_type = "egoinstructor_text"
    base_config_key = "text_config"

    vocab_size: int = 50432
    hidden_size: int = 2048
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    mlp_ratio: int = 4
    max_position_embeddings: int = 2048
    alibi_bias_max: int | float = 8
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02

    def validate_architecture(self) -> None:
        """D must divide into H heads."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of {self.num_attention_heads} heads.")


@strict
class EgoInstructorConfig(PreTrainedConfig):
    """The whole model. The defaults are the published sizes (reference: OTTER-MPT1B with EgoInstructor's 32 frames).

    Args:
        vision_config: the frame encoder: a CLIP vision tower (ViT-L/14; also where a dictionary has no `model_type`) or a
            ResNet, which learns from nothing where a ViT needs more data.
        text_config: the decoder.
        num_latents: L, what the resampler makes of each clip.
        max_num_frames: the most frames a clip may have: the resampler has an embedding for each.
        resampler_depth: Perceiver layers.
        resampler_heads: attention heads of each.
        resampler_head_dim: width of each head.
        resampler_ff_mult: width of its feed-forward over V.
        cross_attention_every_n_layers: decoder layer i has gated cross-attention where (i + 1) % n == 0.
        cross_attention_heads: attention heads of each.
        cross_attention_head_dim: width of each head.
        cross_attention_ff_mult: width of its feed-forward over D.
        image_token_id: `<image>`, the place of a clip in the text.
        end_of_chunk_token_id: `<|endofchunk|>`, the end of an answer.
        answer_token_id: `<answer>`, the start of an answer.
        pad_token_id: `<PAD>`.
        bos_token_id: `<|endoftext|>`.
    """

    model_type = "egoinstructor"
    sub_configs: ClassVar[dict[str, Any]] = {"text_config": EgoInstructorTextConfig, "vision_config": AutoConfig}

    text_config: Any = None  # given as a dict or a configuration, always a configuration afterwards
    vision_config: Any = None
    num_latents: int = 64
    max_num_frames: int = 32
    resampler_depth: int = 6
    resampler_heads: int = 8
    resampler_head_dim: int = 64
    resampler_ff_mult: int = 4
    cross_attention_every_n_layers: int = 1
    cross_attention_heads: int = 8
    cross_attention_head_dim: int = 64
    cross_attention_ff_mult: int = 4
    image_token_id: int = 50278
    end_of_chunk_token_id: int = 50277
    answer_token_id: int = 50279
    pad_token_id: int | None = 50280
    bos_token_id: int | None = 0
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        """Turn the parts' dictionaries into configurations."""
        if self.text_config is None or isinstance(self.text_config, dict):
            self.text_config = EgoInstructorTextConfig(**(self.text_config or {}))
        if self.vision_config is None:
            self.vision_config = CLIPVisionConfig(
                hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14
            )
        elif isinstance(self.vision_config, dict):
            self.vision_config = vision_config(self.vision_config)
        super().__post_init__(**kwargs)

    def has_cross_attention(self, layer: int) -> bool:
        """Whether decoder layer `layer` (from 0) reads the clips."""
        return (layer + 1) % self.cross_attention_every_n_layers == 0


def vision_config(values: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration of a frame encoder from a dictionary, such as a part of a `config.json`.

    Raises:
        InputError: another `model_type` than `VISION_CONFIGS` has.
    """
    kind = values.get("model_type") or CLIPVisionConfig.model_type
    if kind not in VISION_CONFIGS:
        raise InputError(
            f"vision_config has model_type {kind!r}; it must be one of {', '.join(VISION_CONFIGS)}. "
            "Use a model whose frame encoder is one of these."
        )
    found: PreTrainedConfig = VISION_CONFIGS[kind](**values)
    return found

"""Frames → patch tokens and one vector a frame, by either kind of frame encoder: a CLIP vision tower or a ResNet.

N frames, P patches, V vision width, h·w the places of a ResNet's last feature map: its patches.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import CLIPVisionModel, PreTrainedConfig, PreTrainedModel, ResNetConfig, ResNetModel

VISION_ENCODERS: dict[str, Any] = {"clip_vision_model": CLIPVisionModel, "resnet": ResNetModel}
"""Classes by `model_type`, those of `configuration.VISION_CONFIGS`."""


def vision_width(config: PreTrainedConfig) -> int:
    """V of a frame encoder with this configuration."""
    sizes: Any = config
    return int(sizes.hidden_sizes[-1] if isinstance(config, ResNetConfig) else sizes.hidden_size)


def build_vision_encoder(config: PreTrainedConfig, attn_implementation: str | None = None) -> PreTrainedModel:
    """A frame encoder with random weights.

    Args:
        config: of one of `configuration.VISION_CONFIGS`.
        attn_implementation: "sdpa" or "eager"; None for the configuration's own. A ResNet has no attention.
    """
    if isinstance(config, ResNetConfig):
        return ResNetModel._from_config(config, attn_implementation="eager")
    options = {} if attn_implementation is None else {"attn_implementation": attn_implementation}
    return CLIPVisionModel._from_config(config, **options)


def frame_features(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """One pass of a frame encoder.

    Args:
        model: what `build_vision_encoder` makes.
        images: `(N, 3, H, W)`, normalised, in the model's number format.

    Returns:
        Patch tokens `(N, P, V)`: of CLIP after its last layer, before the final LayerNorm, without CLS; of a ResNet the
        last feature map, row by row. And a vector a frame `(N, V)`: of CLIP its CLS behind that LayerNorm; of a ResNet
        the mean of its patches.
    """
    output = model(images)
    hidden: Tensor = output.last_hidden_state
    # A feature map (N, V, h, w) → (N, h·w, V), or tokens (N, 1 + P, V) → (N, P, V)
    patches = hidden.flatten(2).transpose(1, 2) if hidden.ndim == 4 else hidden[:, 1:]
    return patches, output.pooler_output.flatten(1)


def is_frozen(model: nn.Module) -> bool:
    """Whether none of its weights is trained."""
    return not any(weight.requires_grad for weight in model.parameters())


def described(config: PreTrainedConfig) -> str:
    """A frame encoder's size, for people."""
    sizes: Any = config
    if isinstance(config, ResNetConfig):
        return f"ResNet of {sum(sizes.depths)} blocks, {vision_width(config)} wide"
    return f"{sizes.num_hidden_layers} layers of {vision_width(config)}"

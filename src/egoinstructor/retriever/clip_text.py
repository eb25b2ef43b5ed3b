"""The cross-view model's text tower started from CLIP's, with a longer context."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from egoinstructor.errors import InputError
from egoinstructor.retriever.cross_view import CrossViewModel

_LAYER: dict[str, str] = {
    "attention_norm": "layer_norm1",
    "output": "self_attn.out_proj",
    "mlp_norm": "layer_norm2",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
}
"""Part of a layer of ours → of transformers' CLIP; queries, keys and values are fused besides."""


def text_sizes(clip_config: Any) -> dict[str, Any]:
    """The options of a `CrossViewConfig` whose text tower takes a CLIP's weights.

    Args:
        clip_config: transformers' `CLIPConfig` or `CLIPTextConfig`.
    """
    text = getattr(clip_config, "text_config", clip_config)
    return {
        "text_vocab_size": text.vocab_size,
        "text_hidden_size": text.hidden_size,
        "text_num_layers": text.num_hidden_layers,
        "text_num_heads": text.num_attention_heads,
        "projection_dim": clip_config.projection_dim,
        "hidden_act": text.hidden_act,
        "layer_norm_eps": text.layer_norm_eps,
    }


@torch.no_grad()
def load_clip_text(model: CrossViewModel, clip: nn.Module) -> None:
    """Put the weights of a CLIP text tower into a model; its positions are interpolated to the model's context.

    Args:
        model: whose text tower gets them.
        clip: transformers' `CLIPModel` or `CLIPTextModelWithProjection`.

    Raises:
        InputError: its sizes are not the model's.
    """
    theirs: dict[str, Tensor] = {name.removeprefix("text_model."): tensor for name, tensor in clip.state_dict().items()}
    ours: dict[str, Tensor] = {
        "embed_tokens.weight": theirs["embeddings.token_embedding.weight"],
        "positions": interpolated(theirs["embeddings.position_embedding.weight"], model.config.text_context),
        "norm.weight": theirs["final_layer_norm.weight"],
        "norm.bias": theirs["final_layer_norm.bias"],
        "projection.weight": theirs["text_projection.weight"],
    }
    depth = len({name.split(".")[2] for name in theirs if name.startswith("encoder.layers.")})
    for i in range(depth):
        there, here = f"encoder.layers.{i}.", f"layers.{i}."
        for kind in ("weight", "bias"):
            ours[f"{here}qkv.{kind}"] = torch.cat([theirs[f"{there}self_attn.{part}_proj.{kind}"] for part in "qkv"])
            ours |= {f"{here}{name}.{kind}": theirs[f"{there}{part}.{kind}"] for name, part in _LAYER.items()}
    mine = {name: tuple(tensor.shape) for name, tensor in model.text.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in ours.items()}
    if mine != given:
        wrong = next(name for name in sorted(mine.keys() | given.keys()) if mine.get(name) != given.get(name))
        raise InputError(
            f"the CLIP text tower's {wrong} has shape {given.get(wrong)}, this model's {mine.get(wrong)}. Make the model "
            "with the sizes of that tower."
        )
    model.text.load_state_dict(ours)


def interpolated(positions: Tensor, length: int) -> Tensor:
    """Position embeddings `(n, width)` → `(length, width)`, linearly; as they are where the length is theirs."""
    if len(positions) == length:
        return positions
    stretched = F.interpolate(positions.T[None].float(), size=length, mode="linear", align_corners=False)
    return stretched[0].T.to(positions)

"""Gated cross-attention: where the text reads the clips.

B samples, R rows of text a sample (its beams), T tokens, C clips, L latents, V vision width, D text width, H heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from egoinstructor.model.configuration import EgoInstructorConfig
from egoinstructor.model.layers import FeedForward, attend, merge_heads, split_heads
from egoinstructor.model.vision import vision_width


class ClipView(NamedTuple):
    """What the tokens of one forward pass may see of the clips. An argument, never state: two requests can't mix.

    Args:
        latents: `(B, C, L, V)`.
        mask: `clip_mask` `(B·R, 1, T, C·L)`.
        has_clip: `(B·R, T, 1)`, 0 where a token has no clip and 1 elsewhere.
    """

    latents: Tensor
    mask: Tensor
    has_clip: Tensor


class GatedCrossAttention(nn.Module):
    """`x + tanh(gate)·attention(x, latents)`, then `x + tanh(gate)·feed_forward(x)`; gates start at zero (Flamingo)."""

    def __init__(self, config: EgoInstructorConfig) -> None:
        super().__init__()
        width = config.text_config.hidden_size
        inner = config.cross_attention_heads * config.cross_attention_head_dim
        self.config = config
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(vision_width(config.vision_config), 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)
        self.attention_gate = nn.Parameter(torch.empty(1))
        self.feed_forward = FeedForward(width, config.cross_attention_ff_mult)
        self.feed_forward_gate = nn.Parameter(torch.empty(1))

    def project(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the clips `(B, C, L, V)` → two of `(B, H, C·L, d)`; they don't change while text grows."""
        key, value = self.to_kv(latents.flatten(1, 2)).chunk(2, dim=-1)
        return split_heads(key, self.config.cross_attention_heads), split_heads(
            value, self.config.cross_attention_heads
        )

    def forward(self, x: Tensor, view: ClipView, key_value: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Let the text read the clips.

        Args:
            x: `(B·R, T, D)`: R consecutive rows share a sample's clips, whose keys and values are not repeated.
            view: the clips and who may see which.
            key_value: what `project` made of them before.

        Returns:
            `(B·R, T, D)`.
        """
        attended = self._read(self.norm(x), view, key_value or self.project(view.latents))
        x = x + self.attention_gate.tanh() * self.to_out(attended)
        return x + self.feed_forward_gate.tanh() * self.feed_forward(x)

    def _read(self, x: Tensor, view: ClipView, key_value: tuple[Tensor, Tensor]) -> Tensor:
        """`(B·R, T, D)` → `(B·R, T, H·d)`."""
        key, value = key_value  # (B, H, C·L, d)
        samples, rows, tokens = len(key), len(x), x.shape[1]
        query = self.to_q(x)  # (B·R, T, H·d)
        if key.shape[2] == 0:
            return torch.zeros_like(query)
        # The beams of a sample are further queries to the same keys: (B·R, T) → (B, R·T).
        query = split_heads(query.view(samples, -1, query.shape[-1]), self.config.cross_attention_heads)
        mask = view.mask.view(samples, 1, -1, view.mask.shape[-1])  # (B, 1, R·T, C·L)
        attended = attend(query, key, value, mask, self.config._attn_implementation)
        return merge_heads(attended).view(rows, tokens, -1) * view.has_clip

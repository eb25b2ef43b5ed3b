"""Perceiver resampler: however many frames and patches a clip has, L latents come out.

B clips, F frames, P patches, V vision width, L latents.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from egoinstructor.model.configuration import EgoInstructorConfig
from egoinstructor.model.layers import FeedForward, attend, merge_heads, split_heads
from egoinstructor.model.vision import vision_width


class ResamplerLayer(GradientCheckpointingLayer):
    """Latents look at the patches and at themselves, then pass a feed-forward; both with residuals."""

    def __init__(self, config: EgoInstructorConfig) -> None:
        super().__init__()
        width = vision_width(config.vision_config)
        inner = config.resampler_heads * config.resampler_head_dim
        self.config = config
        self.media_norm = nn.LayerNorm(width)
        self.latent_norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)
        self.feed_forward = FeedForward(width, config.resampler_ff_mult)

    def forward(self, latents: Tensor, media: Tensor) -> Tensor:
        """`latents` `(B, L, V)` reading `media` `(B, F·P, V)` → `(B, L, V)`."""
        normed = self.latent_norm(latents)
        context = torch.cat((self.media_norm(media), normed), dim=1)  # (B, F·P + L, V)
        key, value = self.to_kv(context).chunk(2, dim=-1)
        heads = self.config.resampler_heads
        attended = attend(
            split_heads(self.to_q(normed), heads),
            split_heads(key, heads),
            split_heads(value, heads),
            mask=None,
            implementation=self.config._attn_implementation,
        )
        latents = latents + self.to_out(merge_heads(attended))
        return latents + self.feed_forward(latents)


class PerceiverResampler(nn.Module):
    """Flamingo's resampler with OTTER's frame embeddings (reference: the published `perceiver.*`)."""

    def __init__(self, config: EgoInstructorConfig) -> None:
        super().__init__()
        width = vision_width(config.vision_config)
        self.latents = nn.Parameter(torch.empty(config.num_latents, width))
        self.frame_embeddings = nn.Parameter(torch.empty(config.max_num_frames, width))
        self.layers = nn.ModuleList([ResamplerLayer(config) for _ in range(config.resampler_depth)])
        self.norm = nn.LayerNorm(width)

    def forward(self, patches: Tensor) -> Tensor:
        """`(B, F, P, V)` patch tokens → `(B, L, V)` latents."""
        num_frames = patches.shape[1]
        patches = patches + self.frame_embeddings[:num_frames, None]
        media = patches.flatten(1, 2)  # (B, F·P, V)
        latents = self.latents.expand(len(media), -1, -1)  # (B, L, V)
        for layer in self.layers:
            latents = layer(latents, media)
        return self.norm(latents)

"""The decoder: MosaicGPT with a gated cross-attention before its blocks.

Pre-LayerNorm blocks, fused query-key-value projection, LayerNorm on the full query and key vectors, ALiBi, GELU MLP, and
no bias anywhere. (transformers' MPT ignores `qk_ln` without a word, so this is our own.)

B rows of text, T new tokens, S tokens so far (T included), D text width, H heads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from egoinstructor.model.cache import CaptionCache
from egoinstructor.model.configuration import EgoInstructorConfig, EgoInstructorTextConfig
from egoinstructor.model.cross_attention import ClipView, GatedCrossAttention
from egoinstructor.model.layers import attend, merge_heads, split_heads


def alibi_bias(
    config: EgoInstructorTextConfig, attention_mask: Tensor | None, new: int, total: int, like: Tensor
) -> Tensor:
    """The self-attention bias: ALiBi where a token may look, the lowest number where it may not.

    The bias of a key is slope × (key − query); the original has slope × (key − last key), which differs by a constant per
    query that the softmax cancels, and ours stays exact for near keys in half precision. Only distances count, so left
    padding moves nothing. A padding query has no key of its own to see and reads all of them evenly: its output is
    never used.

    Args:
        config: of the decoder.
        attention_mask: `(B, S)`, 0 at padding; None where there is none.
        new: T.
        total: S.
        like: a tensor of the dtype and device that the bias is to have.

    Returns:
        `(B or 1, H, T, S)`.
    """
    heads = torch.arange(1, config.num_attention_heads + 1, device=like.device, dtype=torch.float32)
    slopes = torch.exp2(-config.alibi_bias_max * heads / config.num_attention_heads)
    keys = torch.arange(total, device=like.device)
    distance = keys[None, :] - keys[total - new :, None]  # (T, S), 0 at the token itself
    allowed = (distance <= 0)[None]  # (1, T, S)
    if attention_mask is not None:
        allowed = allowed & attention_mask[:, None, :].bool()  # (B, T, S)
    bias = (slopes[:, None, None] * distance).to(like.dtype)  # (H, T, S)
    return bias.masked_fill(~allowed[:, None], torch.finfo(like.dtype).min)


class SelfAttention(nn.Module):
    """Causal self-attention with LayerNorm on the full-width queries and keys (`attn_qk_ln`)."""

    def __init__(self, config: EgoInstructorConfig, layer: int) -> None:
        super().__init__()
        text = config.text_config
        self.config = config
        self.layer = layer
        self.qkv = nn.Linear(text.hidden_size, 3 * text.hidden_size, bias=False)
        self.query_norm = nn.LayerNorm(text.hidden_size, eps=text.layer_norm_eps, bias=False)
        self.key_norm = nn.LayerNorm(text.hidden_size, eps=text.layer_norm_eps, bias=False)
        self.output = nn.Linear(text.hidden_size, text.hidden_size, bias=False)

    def forward(self, x: Tensor, bias: Tensor, cache: CaptionCache | None) -> Tensor:
        """`(B, T, D)` → `(B, T, D)`, without the residual."""
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        heads = self.config.text_config.num_attention_heads
        query = split_heads(self.query_norm(query), heads)
        key = split_heads(self.key_norm(key), heads)
        value = split_heads(value, heads)  # (B, H, T, d)
        if cache is not None:
            key, value = cache.update(key, value, self.layer)  # (B, H, S, d)
        attended = attend(query, key, value, bias, self.config._attn_implementation)
        return self.output(merge_heads(attended))


class MLP(nn.Module):
    """Linear → GELU → Linear."""

    def __init__(self, config: EgoInstructorTextConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.hidden_size, config.mlp_ratio * config.hidden_size, bias=False)
        self.down = nn.Linear(config.mlp_ratio * config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(…, D)` → `(…, D)`, without the residual."""
        return self.down(F.gelu(self.up(x)))


class DecoderLayer(GradientCheckpointingLayer):
    """Read the clips (where this layer does), then the text, then think."""

    def __init__(self, config: EgoInstructorConfig, layer: int) -> None:
        super().__init__()
        text = config.text_config
        self.layer = layer
        self.cross_attention = GatedCrossAttention(config) if config.has_cross_attention(layer) else None
        self.attention_norm = nn.LayerNorm(text.hidden_size, eps=text.layer_norm_eps, bias=False)
        self.attention = SelfAttention(config, layer)
        self.mlp_norm = nn.LayerNorm(text.hidden_size, eps=text.layer_norm_eps, bias=False)
        self.mlp = MLP(text)

    def forward(self, x: Tensor, view: ClipView, bias: Tensor, cache: CaptionCache | None = None) -> Tensor:
        """`(B, T, D)` → `(B, T, D)`."""
        if self.cross_attention is not None:
            key_value = None if cache is None else cache.clips(self.layer, self.cross_attention, view.latents)
            x = self.cross_attention(x, view, key_value)
        x = x + self.attention(self.attention_norm(x), bias, cache)
        return x + self.mlp(self.mlp_norm(x))


class MosaicDecoder(nn.Module):
    """Embeddings, layers, final norm; the head is tied to the embeddings and lives in the model."""

    def __init__(self, config: EgoInstructorConfig) -> None:
        super().__init__()
        text = config.text_config
        self.config = config
        self.embed_tokens = nn.Embedding(text.vocab_size, text.hidden_size)
        self.layers = nn.ModuleList([DecoderLayer(config, layer) for layer in range(text.num_hidden_layers)])
        self.norm = nn.LayerNorm(text.hidden_size, eps=text.layer_norm_eps, bias=False)

    def forward(
        self, input_ids: Tensor, view: ClipView, attention_mask: Tensor | None, cache: CaptionCache | None
    ) -> Tensor:
        """Token ids `(B, T)` → hidden states `(B, T, D)`; the mask `(B, S)` covers the cached tokens too."""
        new = input_ids.shape[1]
        total = new + (0 if cache is None else cache.get_seq_length())
        x = self.embed_tokens(input_ids)
        bias = alibi_bias(self.config.text_config, attention_mask, new, total, like=x)
        for layer in self.layers:
            x = layer(x, view, bias, cache=cache)
        return self.norm(x)

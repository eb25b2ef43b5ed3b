"""The two pieces that the resampler, the decoder and the cross-attention share: attention and feed-forward."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """`(B, N, H·d)` → `(B, H, N, d)`."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """`(B, H, N, d)` → `(B, N, H·d)`."""
    return x.transpose(1, 2).flatten(2)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, implementation: str | None) -> Tensor:
    """Scaled dot-product attention.

    Args:
        query: `(B, H, N, d)`.
        key: `(B, H, M, d)`.
        value: `(B, H, M, d)`.
        mask: None, a bias that is added to the scores, or booleans that are True where a query may look; it broadcasts to
            `(B, H, N, M)`. Every query must be allowed at least one key.
        implementation: "sdpa", or "eager" for a softmax in plain sight (debugging, exotic devices).

    Returns:
        `(B, H, N, d)`.
    """
    if implementation != "eager":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5  # (B, H, N, M)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype) @ value


class FeedForward(nn.Module):
    """LayerNorm → Linear → GELU → Linear, no biases in the linears (OTTER's, in resampler and cross-attention)."""

    def __init__(self, width: int, mult: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, width * mult, bias=False)
        self.down = nn.Linear(width * mult, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(…, width)` → `(…, width)`, without the residual."""
        return self.down(F.gelu(self.up(self.norm(x))))

"""Which clip each text token may look at: the one whose `<image>` came last.

B rows, T tokens, C clips, L latents.
"""

from __future__ import annotations

import torch
from torch import Tensor


def clip_index(input_ids: Tensor, image_token_id: int, previous: Tensor | None = None) -> Tensor:
    """The clip that each token belongs to: how many `<image>` there are at or before it, less one.

        <image> so let's open it <|endofchunk|> <image> #C C …
           0     0   0    0   0         0           1   1  1

    Args:
        input_ids: `(B, T)`.
        image_token_id: the id of `<image>`.
        previous: the clip of the token before these `(B,)`, when they continue a text; None at its start.

    Returns:
        `(B, T)` int64; −1 before the first `<image>`.
    """
    counted = (input_ids == image_token_id).long().cumsum(dim=1)  # (B, T)
    return counted + (-1 if previous is None else previous[:, None])


def clip_mask(index: Tensor, num_clips: int, num_latents: int) -> Tensor:
    """The cross-attention mask: a token sees the latents of its own clip and of no other.

    With 2 clips of 2 latents (· hidden, x seen):

                    clip 0   clip 1
        bos          x x      x x     before any clip: sees all, for a softmax needs something to sum over;
        <image>      x x      · ·     `GatedCrossAttention` sets what comes of it to zero
        open         x x      · ·
        <image>      · ·      x x
        #C           · ·      x x

    Args:
        index: `clip_index` `(B, T)`.
        num_clips: C.
        num_latents: L.

    Returns:
        bool `(B, 1, T, C·L)`, True where a token may look.
    """
    own = index[:, :, None] == torch.arange(num_clips, device=index.device)  # (B, T, C)
    seen = own | ~own.any(dim=-1, keepdim=True)
    return seen.repeat_interleave(num_latents, dim=-1).unsqueeze(1)

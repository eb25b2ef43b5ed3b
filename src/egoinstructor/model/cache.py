"""What generation keeps between steps: the text's keys and values, the clips' keys and values, and the current clip.

The original had to run without a cache: with one, its cross-attention looked for `<image>` in the single new token, did
not find it, and went silent. Here the cache remembers which clip the text is at.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache

from egoinstructor.model.cross_attention import GatedCrossAttention


class CaptionCache(DynamicCache):
    """A `DynamicCache` for the text, and beside it what belongs to the clips.

    The clips' keys and values `(B, H, C·L, d)` are held once a sample, whatever the beams, and so need no reordering:
    beams move within their sample. `clip_index` `(B·R,)` is the clip of the last token of each row.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clip_index: Tensor | None = None
        self._clips: dict[int, tuple[Tensor, Tensor]] = {}

    def clips(self, layer: int, attention: GatedCrossAttention, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The clips' keys and values for one layer, projected at the first call."""
        if layer not in self._clips:
            self._clips[layer] = attention.project(latents)
        return self._clips[layer]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Follow the beams."""
        super().reorder_cache(beam_idx)
        if self.clip_index is not None:
            self.clip_index = self.clip_index.index_select(0, beam_idx.to(self.clip_index.device))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Give each row `repeats` copies, one for each beam; the clips stay one a sample."""
        super().batch_repeat_interleave(repeats)
        if self.clip_index is not None:
            self.clip_index = torch.repeat_interleave(self.clip_index, repeats, dim=0)

"""How sure a model was of the captions that it wrote: the probability of their tokens.

N captions, T generated tokens, R rows that were generated at once (N, or N · beams).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

WANTED = {"return_dict_in_generate": True, "output_logits": True}
"""What `generate` must be asked for. It keeps a step's logits for every row: R · vocabulary floats."""


def caption_scores(outputs: Any, prompt_length: int, end_token_id: int) -> tuple[Tensor, Tensor]:
    """Mean natural-log probability of each caption's tokens `(N,)`, its end token included, and how many they are `(N,)`.

    By the model itself: what sampling, beams or forbidden words made of the probabilities changes which caption is
    written, not what a caption scores.

    Args:
        outputs: of `generate`, asked for `WANTED`.
        prompt_length: tokens of the prompts, padding included.
        end_token_id: ends a caption; what follows it isn't counted.
    """
    tokens = outputs.sequences[:, prompt_length:]  # (N, T)
    beams = getattr(outputs, "beam_indices", None)  # (N, T): the row that each token was written in; -1 behind the end
    rows = torch.arange(len(tokens), device=tokens.device)
    scores = torch.zeros(tokens.shape, device=tokens.device)
    for step in range(tokens.shape[1]):
        logits = outputs.logits[step][rows if beams is None else beams[:, step].clamp(min=0)]  # (N, vocabulary)
        scores[:, step] = logits.gather(1, tokens[:, step, None])[:, 0] - logits.logsumexp(-1)
    ends = (tokens == end_token_id).long()
    counted = ends.cumsum(1) - ends == 0  # up to the first end
    lengths = counted.sum(1)
    return (scores * counted).sum(1) / lengths, lengths

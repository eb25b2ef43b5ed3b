"""How often the right one is among the first few: what a retriever's training watches.

N queries, M of the gallery, D width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

CHUNK = 1024
"""Queries compared at a time: their similarities to the whole gallery are held."""


@torch.no_grad()
def index_recall_at(
    queries: Tensor, gallery: Tensor, answers: Sequence[Collection[int]], ks: Sequence[int]
) -> dict[int, float]:
    """The share of queries with a right answer among the first k.

    What is as near as the best right answer is ranked before it: embeddings that are all the same find nothing.

    Args:
        queries: unit vectors `(N, D)`.
        gallery: unit vectors `(M, D)`.
        answers: for each query, the places of the right ones in the gallery; a query without any counts as not found.
        ks: the numbers of first places.

    Returns:
        By k; NaN without queries.
    """
    ranks: list[Tensor] = []
    for start in range(0, len(queries), CHUNK):
        scores = queries[start : start + CHUNK] @ gallery.T  # (n, M)
        right = torch.zeros_like(scores, dtype=torch.bool)
        for row, places in enumerate(answers[start : start + CHUNK]):
            right[row, list(places)] = True
        best = scores.masked_fill(~right, float("-inf")).amax(dim=1, keepdim=True)
        before = ((scores >= best) & ~right).sum(dim=1)
        ranks.append(torch.where(right.any(dim=1), before, torch.iinfo(before.dtype).max))
    found = torch.cat(ranks) if ranks else torch.empty(0)
    return {k: (found < k).double().mean().item() for k in ks}

"""EgoExoNCE (arXiv 2401.00789, §3): a contrastive loss in which all that show the same action belong together.

N rows of the batch of all processes (each item's clip and the clip paired with it), D width of an embedding.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

NO_ID = -1
"""Fills lists of ids up to one length."""


def egoexonce(a: Tensor, b: Tensor, positives: Tensor, scale: Tensor | float) -> Tensor:
    """−mean over rows of log Σ over the row's positives of softmax(scale · a bᵀ), and the same from b to a, summed.

    Args:
        a: unit vectors `(N, D)`: of clips.
        b: unit vectors `(M, D)`: of texts, or of clips of the other view.
        positives: booleans `(N, M)`; each row and each column must have one.
        scale: the inverse temperature.

    Returns:
        `()`, fp32; 0 for a batch of nothing.
    """
    with torch.autocast(a.device.type, enabled=False):
        logits = scale * (a.float() @ b.float().T)  # (N, M)
        if not logits.numel():
            return logits.sum()
        return _one_way(logits, positives) + _one_way(logits.T, positives.T)


def _one_way(logits: Tensor, positives: Tensor) -> Tensor:
    right = logits.masked_fill(~positives, float("-inf")).logsumexp(dim=1)
    return (logits.logsumexp(dim=1) - right).mean()


def noun_nce(video: Tensor, vectors: Tensor, nouns: Tensor, scale: Tensor | float) -> Tensor:
    """−mean over clips of log Σ over the clip's nouns of softmax(scale · video vectorsᵀ): its nouns among all there are.

    A batch has few things that look alike; here each clip is compared with all of them (Zhai and Wu, arXiv 1811.12649).

    Args:
        video: unit vectors `(N, D)`.
        vectors: one of each noun's id, of any length `(V, D)`.
        nouns: ids of each clip `(N, K)`, filled up with `NO_ID`; a clip without any is left out.
        scale: the inverse temperature.

    Returns:
        `()`, fp32; 0 where no clip has a noun.
    """
    with torch.autocast(video.device.type, enabled=False):
        named = (nouns != NO_ID).any(dim=1)
        nouns = nouns[named]
        logits = scale * (video[named].float() @ F.normalize(vectors.float(), dim=1).T)  # (N, V)
        if not logits.numel():
            return logits.sum()
        positives = torch.zeros(len(nouns), 1 + len(vectors), dtype=torch.bool, device=nouns.device)
        positives.scatter_(1, nouns - NO_ID, True)  # the first column is `NO_ID`'s
        return _one_way(logits, positives[:, 1:])


def same_item(items: Tensor) -> Tensor:
    """Positives of plain InfoNCE: the rows of one item, the clip and its pair. `(N,)` → `(N, N)`."""
    return items[:, None] == items[None, :]


def same_action(nouns: Tensor, verbs: Tensor) -> Tensor:
    """Rows whose noun vectors' cosine × verb vectors' cosine is above zero; a row without any has none, itself included.

    Args:
        nouns: ids `(N, K)`, filled up with `NO_ID`.
        verbs: ids `(N, L)`, likewise.

    Returns:
        `(N, N)`.
    """
    # Vectors of ones and zeros: their cosine is above zero where they share a one.
    return _share(nouns) & _share(verbs)


def egoexo_positives(items: Tensor, nouns: Tensor, verbs: Tensor) -> Tensor:
    """Positives of EgoExoNCE: itself, the rows of its own item, and every row that shows the same action.

    Args:
        items: the item of each row `(N,)`.
        nouns: as of `same_action`.
        verbs: as of `same_action`.

    Returns:
        `(N, N)`.
    """
    return same_item(items) | same_action(nouns, verbs)


def _share(ids: Tensor) -> Tensor:
    kinds, places = torch.unique(ids, return_inverse=True)  # only those of the batch: a vocabulary may be long
    vectors = torch.zeros(len(ids), len(kinds), device=ids.device)
    vectors.scatter_(1, places, 1.0)  # (N, kinds)
    vectors[:, kinds == NO_ID] = 0
    return vectors @ vectors.T > 0


def gather(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The rows of all processes, in the order of processes, of tensors with as many rows each; alike everywhere.

    A process may have fewer rows than another, or none. Gradients are exact under DDP, which takes the mean over
    processes, if every process computes the same loss of what it gets: no process then needs another's gradients.

    Args:
        *tensors: `(rows, …)`, as wide on every process.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return tensors
    mine = torch.tensor([len(tensors[0])], device=tensors[0].device)
    counts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, mine)
    sizes = [int(count) for count in counts]
    return tuple(_Gather.apply(tensor, sizes) for tensor in tensors)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        filled = rows.new_zeros(max(sizes), *rows.shape[1:])
        filled[: len(rows)] = rows
        parts = [torch.empty_like(filled) for _ in sizes]
        dist.all_gather(parts, filled)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # Each process has the same gradient of the same loss: their sum is this one as often as there are processes.
        (gradient,) = gradients
        return gradient.split(ctx.sizes)[dist.get_rank()] * len(ctx.sizes), None

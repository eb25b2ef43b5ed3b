"""How well embeddings find each other: `evaluate_retrieval`, in chunks of queries.

N queries, M items, D the embedding's width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.evaluation import chance, ranking
from egoinstructor.evaluation.relevancy import Relevancy

RECALL_AT = (1, 5, 10)
CELLS = 2**23
"""Similarities held at a time; with what ranking makes of them, some 500 MB."""


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """One direction, in shares of 1.

    Args:
        queries: that were counted.
        unanswered: that were left out, since nothing in the gallery answers them.
        ungraded: of those counted, which nDCG leaves out, since nothing in the gallery has a relevancy above 0 to them.
        gallery: items that were searched.
        metrics: R@1, R@5, R@10, MedR, mAP and nDCG.
        chance: of the same, what random rankings would score.
    """

    queries: int
    unanswered: int
    ungraded: int
    gallery: int
    metrics: dict[str, float]
    chance: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "queries": self.queries,
            "unanswered": self.unanswered,
            "ungraded": self.ungraded,
            "gallery": self.gallery,
            "metrics": self.metrics,
            "chance": self.chance,
        }


def evaluate_retrieval(
    queries: Tensor, gallery: Tensor, answers: Relevancy, graded: Relevancy | None = None, *, chunk: int | None = None
) -> RetrievalScores:
    """Search for every query; see `ranking` for each metric and for ties, `chance` for what they are compared with.

    Args:
        queries: embeddings `(N, D)`; similarity is the dot product.
        gallery: embeddings `(M, D)`.
        answers: what has a relevancy of 1 here is an answer; a query without one is left out.
        graded: relevancies for nDCG; `answers` if not given.
        chunk: queries at a time; by default as many as bounded memory allows. The result does not depend on it.

    Raises:
        InputError: shapes that don't belong together, embeddings that are not finite, no query with an answer.
    """
    _check(queries, gallery, answers, graded)
    chunk = chunk or max(1, CELLS // len(gallery))
    parts = list(_parts(queries.float(), gallery.float(), answers, graded, chunk))
    ranks, precisions, gains, counts, random_gains = (torch.cat(part) for part in zip(*parts, strict=True))
    if not len(ranks):
        raise InputError(
            f"none of {len(queries)} queries has an answer among {len(gallery)} items: nothing to measure."
        )
    size = len(gallery)
    metrics = {f"R@{k}": float(ranking.recall_at(ranks, k).mean()) for k in RECALL_AT}
    metrics |= {"MedR": float(np.median(ranks.numpy())), "mAP": float(precisions.mean())}
    by_chance = {f"R@{k}": float(chance.expected_recall_at(counts, size, k).mean()) for k in RECALL_AT}
    by_chance |= {
        "MedR": float(chance.median_rank(counts, size)),
        "mAP": float(chance.average_precision(counts, size).mean()),
    }
    if len(gains):
        metrics["nDCG"], by_chance["nDCG"] = float(gains.mean()), float(random_gains.mean())
    return RetrievalScores(len(ranks), len(queries) - len(ranks), len(ranks) - len(gains), size, metrics, by_chance)


def _parts(
    queries: Tensor, gallery: Tensor, answers: Relevancy, graded: Relevancy | None, chunk: int
) -> Iterator[tuple[Tensor, ...]]:
    """Of each chunk's answered queries: first rank, average precision, nDCG, number of answers, nDCG by chance."""
    for first in range(0, len(queries), chunk):
        last = min(first + chunk, len(queries))
        relevancy = answers.rows(first, last)
        relevant = relevancy >= 1
        kept = relevant.any(1)
        relevant = relevant[kept]
        similarity = queries[first:last][kept] @ gallery.T  # (n, M)
        degrees = relevancy[kept] if graded is None else graded.rows(first, last)[kept]
        some = degrees.any(1)
        order = ranking.falling(similarity)
        yield (
            ranking.first_ranks(similarity, relevant),
            ranking.average_precision(similarity, relevant, order),
            ranking.ndcg(similarity[some], degrees[some], order[some]),
            relevant.sum(1),
            chance.ndcg(degrees[some]),
        )


def _check(queries: Tensor, gallery: Tensor, answers: Relevancy, graded: Relevancy | None) -> None:
    shapes = tuple(queries.shape), tuple(gallery.shape)
    if queries.ndim != 2 or gallery.ndim != 2 or shapes[0][1] != shapes[1][1] or 0 in shapes[0] + shapes[1]:
        raise InputError(f"queries {shapes[0]} and gallery {shapes[1]} must be (N, D) and (M, D), of the same D.")
    for relevancy in (answers, graded):
        if relevancy is not None and relevancy.shape != (len(queries), len(gallery)):
            raise InputError(
                f"a relevancy of shape {relevancy.shape} for {len(queries)} queries and {len(gallery)} items; it must "
                "have a row for each query and a column for each item."
            )
    for name, embeddings in (("queries", queries), ("gallery", gallery)):
        if not bool(embeddings.isfinite().all()):
            raise InputError(f"embeddings of the {name} are not finite: {int((~embeddings.isfinite()).sum())} values.")

"""What random rankings would score, in closed form: every order of the M items is as likely as any other.

n queries, M items, P answers of a query.
"""

from __future__ import annotations

import torch
from torch import Tensor

from egoinstructor.evaluation.ranking import best_dcg, discounts


def expected_recall_at(answers: Tensor, num_items: int, k: int) -> Tensor:
    """1 − C(M − P, k) / C(M, k) for each query `(n,)`.

    Args:
        answers: P of each query `(n,)`.
        num_items: M.
        k: from 1.
    """
    wrong = num_items - answers.double()
    drawn = torch.arange(min(k, num_items), dtype=torch.double)  # one after another, each not an answer
    missed = ((wrong[:, None] - drawn).clamp(min=0) / (num_items - drawn)).prod(1)
    return 1 - missed


def median_rank(answers: Tensor, num_items: int) -> int:
    """The smallest k at which the mean of `recall_at` over the queries reaches a half."""
    low, high = 1, num_items
    counts, times = answers.unique(return_counts=True)
    while low < high:  # recall rises with k
        middle = (low + high) // 2
        recall = (expected_recall_at(counts, num_items, middle) * times).sum() / times.sum()
        low, high = (low, middle) if recall >= 0.5 else (middle + 1, high)
    return low


def average_precision(answers: Tensor, num_items: int) -> Tensor:
    """(P − 1) / (M − 1) · (1 − H / M) + H / M for each query `(n,)`, H the M-th harmonic number."""
    first = float((1 / torch.arange(1, num_items + 1, dtype=torch.double)).sum()) / num_items
    return (answers.double() - 1) / max(num_items - 1, 1) * (1 - first) + first


def ndcg(relevancy: Tensor) -> Tensor:
    """Mean relevancy times the sum of the counted discounts, over the best possible DCG, for each query `(n,)`.

    Args:
        relevancy: `(n, M)`.
    """
    return relevancy.double().mean(1) * discounts(relevancy).sum(1) / best_dcg(relevancy)

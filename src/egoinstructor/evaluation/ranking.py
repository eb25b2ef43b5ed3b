"""What rankings are worth: each function takes a few queries' similarities to all items, and says so for each query.

Ties are read against the ranking: among items of the same similarity the less relevant stands first. So embeddings
that are all alike get the worst figures, not the best, and the order of the files plays no part.

n queries, M items. `similarity (n, M)`, `relevant (n, M)` of bool, `relevancy (n, M)` from 0 to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def first_ranks(similarity: Tensor, relevant: Tensor) -> Tensor:
    """The place, from 1, of each query's first answer `(n,)`; M + 1 for a query without one."""
    best = similarity.masked_fill(~relevant, -torch.inf).amax(1, keepdim=True)  # (n, 1)
    return 1 + ((similarity >= best) & ~relevant).sum(1)


def recall_at(ranks: Tensor, k: int) -> Tensor:
    """1 where an answer is among the first k, else 0 `(n,)`: at least one answer, not the share of them.

    Args:
        ranks: of `first_ranks`.
        k: from 1.
    """
    return (ranks <= k).double()


def falling(similarity: Tensor) -> Tensor:
    """Items by falling similarity, among equals by their place `(n, M)`: the sort that several metrics share."""
    return similarity.argsort(dim=1, descending=True, stable=True)


def average_precision(similarity: Tensor, relevant: Tensor, order: Tensor | None = None) -> Tensor:
    """The mean, over a query's answers, of the share of answers among all items down to that one `(n,)`.

    Args:
        similarity: `(n, M)`.
        relevant: `(n, M)`.
        order: what `falling` makes of the similarity, if it is at hand.
    """
    found = relevant.gather(1, pessimistic_order(similarity, relevant, order))
    query, place = found.nonzero(as_tuple=True)  # (answers of all queries,): query by query, places rising
    answers = found.sum(1)
    before = answers.cumsum(0) - answers  # of the queries before
    nth = torch.arange(len(query), device=query.device) - before[query] + 1
    sums = torch.zeros(len(found), dtype=torch.double, device=found.device)
    return sums.index_add_(0, query, nth.double() / (place + 1)) / answers


def ndcg(similarity: Tensor, relevancy: Tensor, order: Tensor | None = None) -> Tensor:
    """Normalised discounted cumulative gain as EPIC-KITCHENS-100's multi-instance retrieval has it `(n,)`.

    DCG = Σ_{i ≤ K} relevancy of the i-th item / log2(i + 1), over the best possible DCG; the gain is linear, and K is the
    query's number of items of a relevancy above 0. (Over all M items even a bad ranking would come close to 1.)

    Args:
        similarity: `(n, M)`.
        relevancy: `(n, M)`.
        order: what `falling` makes of the similarity, if it is at hand.
    """
    counted = discounts(relevancy)
    order = pessimistic_order(similarity, relevancy, order)[:, : counted.shape[1]]
    return (relevancy.gather(1, order).double() * counted).sum(1) / best_dcg(relevancy)


def best_dcg(relevancy: Tensor) -> Tensor:
    """The DCG of a ranking that nothing could be better than `(n,)`."""
    counted = discounts(relevancy)
    best = relevancy.topk(counted.shape[1], 1).values.double()  # far cheaper than to sort all where few are relevant
    return (best * counted).sum(1)


def discounts(relevancy: Tensor) -> Tensor:
    """What nDCG multiplies the gain at each place with `(n, largest K)`: 0 below the query's own K-th."""
    counts = (relevancy > 0).sum(1, keepdim=True)
    places = torch.arange(int(counts.amax()) if len(counts) else 0, device=relevancy.device)
    return (places < counts) / torch.log2(places.double() + 2)


def pessimistic_order(similarity: Tensor, relevancy: Tensor, order: Tensor | None = None) -> Tensor:
    """Items by falling similarity, among equals by rising relevancy, among those by their place `(n, M)`.

    Args:
        similarity: `(n, M)`.
        relevancy: `(n, M)`.
        order: what `falling` makes of the similarity, if it is at hand.
    """
    order = falling(similarity) if order is None else order
    scores, values = similarity.gather(1, order), relevancy.gather(1, order)
    # It is that order already but for the queries where a tie stands with the more relevant item before the less.
    wrong = ((scores[:, 1:] == scores[:, :-1]) & (values[:, 1:] < values[:, :-1])).any(1)
    if bool(wrong.any()):
        worst_first = relevancy[wrong].argsort(dim=1, stable=True)
        order = order.clone()
        order[wrong] = worst_first.gather(1, falling(similarity[wrong].gather(1, worst_first)))
    return order

"""CIDEr by its two formulas, on pycocoevalcap's counts of words.

What coco-caption and nlg-eval print as "CIDEr", and so the papers, is the CIDEr paper's CIDEr-D: a repeated word counts no
more often than in the reference (clipping), and captions longer or shorter than the reference lose. Here it is `CIDEr` too,
so that it stands beside published figures; `CIDEr-D` names the same. `CIDEr-plain` is the cosine without either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from egoinstructor.evaluation.metrics.base import Metric

ORDERS = 4
SIGMA = 6.0
"""How far apart two lengths may be, in words, before the penalty bites."""

NGram = tuple[str, ...]
Counts = Mapping[NGram, int]
Vector = tuple[list[dict[NGram, float]], list[float], int]
"""Of a text: for 1- to 4-grams the tf-idf weights and their norm; the number of its 2-grams."""


def cider(captions: Sequence[str], references: Sequence[Sequence[str]], names: Sequence[str]) -> list[Metric]:
    """CIDEr by each of the names; document frequencies are those of the given references.

    Args:
        captions: N texts, treated.
        references: one or more for each.
        names: of `CIDEr`, `CIDEr-D`, `CIDEr-plain`.
    """
    from pycocoevalcap.cider.cider_scorer import CiderScorer

    scorer = CiderScorer(n=ORDERS)
    for caption, truths in zip(captions, references, strict=True):
        scorer += (caption, truths)
    scorer.compute_doc_freq()
    documents = math.log(len(captions))
    rarity = {words: documents - math.log(count) for words, count in scorer.document_frequency.items()}
    scores = []
    for caption, truths in zip(scorer.ctest, scorer.crefs, strict=True):
        ours = _vector(caption, rarity, documents)
        pairs = [_similarity(ours, _vector(truth, rarity, documents)) for truth in truths]
        scores.append(10 * np.mean(pairs, axis=0))
    clipped, plain = np.array(scores).T
    return [Metric.mean(name, plain if name == "CIDEr-plain" else clipped) for name in names]


def _vector(counts: Counts, rarity: Mapping[NGram, float], unseen: float) -> Vector:
    weights: list[dict[NGram, float]] = [{} for _ in range(ORDERS)]
    pairs = 0
    for words, count in counts.items():
        weights[len(words) - 1][words] = count * rarity.get(words, unseen)
        pairs += count if len(words) == 2 else 0
    return weights, [math.sqrt(sum(w * w for w in some.values())) for some in weights], pairs


def _similarity(caption: Vector, reference: Vector) -> tuple[float, float]:
    """Mean cosine over the orders: clipped and penalised, and plain."""
    (ours, our_norms, our_pairs), (theirs, their_norms, their_pairs) = caption, reference
    clipped = plain = 0.0
    for a, b, our_norm, their_norm in zip(ours, theirs, our_norms, their_norms, strict=True):
        if norms := our_norm * their_norm:
            shared = [(weight, b[words]) for words, weight in a.items() if words in b]
            clipped += sum(min(w, v) * v for w, v in shared) / norms
            plain += sum(w * v for w, v in shared) / norms
    # The reference implementation takes the 2-grams for the length.
    penalty = math.exp(-((our_pairs - their_pairs) ** 2) / (2 * SIGMA**2))
    return clipped * penalty / ORDERS, plain / ORDERS

"""One caption metric over a set: a score of each sample, and the parts whose sum over samples gives the set's score.

N samples, K parts. A set's BLEU is no mean of its sentences' BLEUs: counts are summed first. So every metric keeps its
counts, and whatever resamples (`statistics.py`) sums those and combines the sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Combine = Callable[[Array], Array]
"""Sums of parts `(..., K)` → scores `(...)`."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What one metric says of a set.

    Args:
        name: as tables print it.
        samples: the score of each sample `(N,)`; NaN where it has none.
        parts: `(N, K)`, K as the metric's family has it.
    """

    name: str
    samples: Array
    parts: Array

    @classmethod
    def mean(cls, name: str, samples: Array) -> Metric:
        """A metric that is the mean of its samples' scores, of those that have one."""
        return cls(name, samples, parts_of_mean(samples))

    @property
    def value(self) -> float:
        """Of the whole set; NaN if no sample has a score."""
        return float(combine_of(self.name)(self.parts.sum(0)))


def parts_of_mean(samples: Array) -> Array:
    """The parts of a mean `(N, 2)`, of scores `(N,)`: the score and 1, or twice 0 where it is NaN."""
    scored = ~np.isnan(samples)
    return np.stack([np.where(scored, samples, 0), scored.astype(float)], axis=1)


def combine_mean(sums: Array) -> Array:
    """Of (sum of scores, number of scores)."""
    return _ratio(sums[..., 0], sums[..., 1])


def combine_bleu(sums: Array, order: int) -> Array:
    """BLEU as coco-caption has it, of (correct 1 … 4, guessed 1 … 4, length, closest reference length).

    Its small constants are kept: they decide what a set without any match of four words gets.
    """
    correct, guessed, length, reference = sums[..., :4], sums[..., 4:8], sums[..., 8], sums[..., 9]
    precisions = (correct + 1e-15) / (guessed + 1e-9)
    score = precisions[..., :order].prod(-1) ** (1 / order)
    ratio = (length + 1e-15) / (reference + 1e-9)
    return score * np.exp(np.minimum(0, 1 - 1 / ratio))


# METEOR 1.5 for English: how much recall counts over precision, how fragmentation counts (exponent, weight), how much
# content words count over function words, and the weights of exact, stem, synonym and paraphrase matches.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_MATCHERS = np.array([1.0, 0.6, 0.8, 0.6])


def combine_meteor(sums: Array) -> Array:
    """METEOR 1.5 of its own 23 statistics.

    They are: words and function words of caption and reference; for each of the four matchers the content and function
    words matched in both; chunks, none where all words match in order; words matched in both.
    """
    lengths = sums[..., [0, 1]]
    function = sums[..., [2, 3]]
    matched = sums[..., 4:20].reshape(*sums.shape[:-1], 4, 2, 2)  # matcher, content or function, caption or reference
    weighted = (matched * _MATCHERS[:, None, None]).sum(-3)
    hits = _DELTA * weighted[..., 0, :] + (1 - _DELTA) * weighted[..., 1, :]
    share = _ratio(hits, _DELTA * (lengths - function) + (1 - _DELTA) * function, empty=0.0)
    precision, recall = share[..., 0], share[..., 1]
    mean = _ratio(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall, empty=0.0)
    fragments = _ratio(sums[..., 20], sums[..., [21, 22]].mean(-1), empty=0.0)
    return mean * (1 - _GAMMA * fragments**_BETA)


def combine_overlap(sums: Array, kind: str) -> Array:
    """Precision, recall or F1 of (found, predicted, true)."""
    found, predicted, true = sums[..., 0], sums[..., 1], sums[..., 2]
    of = {"precision": (found, predicted), "recall": (found, true), "F1": (2 * found, predicted + true)}[kind]
    return _ratio(*of)


BLEU = tuple(f"BLEU-{order}" for order in (1, 2, 3, 4))
NOUNS = tuple(f"noun {kind}" for kind in ("precision", "recall", "F1"))

_SUMMED: dict[str, tuple[str, Combine]] = {
    **{name: ("BLEU", partial(combine_bleu, order=order)) for order, name in enumerate(BLEU, 1)},
    "METEOR": ("METEOR", combine_meteor),
    **{name: ("nouns", partial(combine_overlap, kind=name.removeprefix("noun "))) for name in NOUNS},
}


def family_of(name: str) -> str | None:
    """Under which name a metric's parts are kept; None if it is a mean, whose parts follow from the scores."""
    return _SUMMED[name][0] if name in _SUMMED else None


def combine_of(name: str) -> Combine:
    """How a metric's summed parts make its score."""
    return _SUMMED[name][1] if name in _SUMMED else combine_mean


def _ratio(above: Array, below: Array, empty: float = np.nan) -> Array:
    """A ratio, and `empty` where there is nothing to divide by."""
    return np.where(below == 0, empty, above / np.where(below == 0, 1, below))

"""How far a score can be trusted: bootstrap intervals, and the difference of two runs, both by whole videos.

Clips of one video resemble each other, so videos are drawn, with all their clips; drawing clips would make intervals too
narrow. N samples, K parts, G clusters, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egoinstructor.errors import InputError
from egoinstructor.evaluation.metrics.base import Array, Combine, combine_mean, parts_of_mean

RESAMPLES = 2000
CONFIDENCE = 0.95
_CELLS = 4_000_000
"""Of resamples × clusters at once: bounds memory."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A score and where its like from other videos of the same kind would lie.

    Args:
        value: of all samples.
        low: lower end.
        high: upper end.
        clusters: G.
    """

    value: float
    low: float
    high: float
    clusters: int


@dataclass(frozen=True, slots=True)
class Paired:
    """Two runs on the same samples.

    Args:
        a: the score of the first.
        b: of the second.
        difference: b − a, with its interval.
        p_value: how often swapping the two runs' captions at random, video by video, makes a difference as large.
    """

    a: float
    b: float
    difference: Interval
    p_value: float


def bootstrap(
    values: ArrayLike,
    clusters: Sequence[str] | None = None,
    *,
    combine: Combine | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """A percentile bootstrap interval.

    Args:
        values: a score of each sample `(N,)`, NaN where it has none, whose mean is asked for; or, with `combine`, the
            parts of each sample `(N, K)`.
        clusters: the video of each sample; without, each sample stands alone.
        combine: makes scores of summed parts, as `metric.combine_of` gives it.
        resamples: R.
        confidence: the interval's share of the resamples.
        seed: of the draws.

    Raises:
        InputError: fewer than two clusters, or lists of different lengths.
    """
    combine = combine or combine_mean
    sums = _by_cluster(_parts(values), clusters)  # (G, K)
    scores = np.concatenate([combine(draws @ sums) for draws in _draws(len(sums), resamples, seed)])  # (R,)
    return _interval(float(combine(sums.sum(0))), scores, confidence, len(sums))


def compare_paired(
    a: ArrayLike,
    b: ArrayLike,
    clusters: Sequence[str] | None = None,
    *,
    combine: Combine | None = None,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Paired:
    """The difference of two runs over the same samples: a paired bootstrap interval, and the p-value of a permutation test.

    Args:
        a: as `bootstrap`'s values, of the first run.
        b: of the second, in the same order.
        clusters: as `bootstrap`.
        combine: as `bootstrap`.
        resamples: as `bootstrap`; as many swaps are tried.
        confidence: as `bootstrap`.
        seed: as `bootstrap`.

    Raises:
        InputError: fewer than two clusters, or lists of different lengths.
    """
    combine = combine or combine_mean
    first, second = _parts(a), _parts(b)
    if first.shape != second.shape:
        raise InputError(f"the runs have {len(first)} and {len(second)} samples; compare runs over the same samples.")
    one, two = _by_cluster(first, clusters), _by_cluster(second, clusters)  # (G, K)
    before, after = float(combine(one.sum(0))), float(combine(two.sum(0)))
    drawn = [combine(draws @ two) - combine(draws @ one) for draws in _draws(len(one), resamples, seed)]
    difference = _interval(after - before, np.concatenate(drawn), confidence, len(one))
    gain = two - one
    as_far = 0
    for swaps in _swaps(len(one), resamples, seed):
        moved = swaps @ gain  # (R, K)
        swapped = combine(two.sum(0) - moved) - combine(one.sum(0) + moved)
        as_far += int((~(np.abs(swapped) < abs(after - before) - 1e-12)).sum())  # NaN, of no score, counts too
    return Paired(before, after, difference, (1 + as_far) / (1 + resamples))


def _parts(values: ArrayLike) -> Array:
    """`(N, K)`; of scores `(N,)` those of a mean."""
    array = np.asarray(values, dtype=np.float64)
    return parts_of_mean(array) if array.ndim == 1 else array


def _by_cluster(parts: Array, clusters: Sequence[str] | None) -> Array:
    """Sums over each cluster's samples `(G, K)`."""
    if clusters is not None:
        if len(clusters) != len(parts):
            raise InputError(f"{len(parts)} values and {len(clusters)} clusters; give the cluster of each value.")
        index = {name: i for i, name in enumerate(dict.fromkeys(clusters))}
        sums = np.zeros((len(index), parts.shape[1]))
        np.add.at(sums, [index[name] for name in clusters], parts)
        parts = sums
    if len(parts) < 2:
        raise InputError(f"an interval needs two videos or more to draw from; there is {len(parts)}.")
    return parts


def _draws(clusters: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each cluster is drawn `(some of R, G)`."""
    random = np.random.default_rng(seed)
    for size in _sizes(clusters, resamples):
        yield random.multinomial(clusters, np.full(clusters, 1 / clusters), size=size)


def _swaps(clusters: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Whether each cluster's captions are swapped `(some of R, G)`."""
    random = np.random.default_rng((seed, 1))
    for size in _sizes(clusters, resamples):
        yield random.integers(0, 2, size=(size, clusters))


def _sizes(clusters: int, resamples: int) -> Iterator[int]:
    step = max(1, _CELLS // clusters)
    for first in range(0, resamples, step):
        yield min(step, resamples - first)


def _interval(value: float, scores: Array, confidence: float, clusters: int) -> Interval:
    scores = scores[~np.isnan(scores)]
    if not len(scores):
        return Interval(value, np.nan, np.nan, clusters)
    low, high = np.quantile(scores, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high), clusters)

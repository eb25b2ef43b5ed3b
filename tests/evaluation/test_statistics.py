"""Intervals and comparisons: known cases, whole videos, the same draws every time."""

from __future__ import annotations

import numpy as np
import pytest

from egoinstructor.errors import InputError
from egoinstructor.evaluation.metrics.base import combine_of
from egoinstructor.evaluation.statistics import bootstrap, compare_paired


def scores(seed=0, videos=100, clips=5):
    """Clips of a video resemble each other; the mean is 0."""
    random = np.random.default_rng(seed)
    values = np.repeat(random.normal(0, 1, videos), clips) + random.normal(0, 0.2, videos * clips)
    return values, [f"v{i // clips}" for i in range(videos * clips)]


def test_the_interval_is_that_of_the_theory():
    values = np.random.default_rng(1).normal(3, 2, 400)
    interval = bootstrap(values)
    assert interval.value == pytest.approx(values.mean())
    half = 1.96 * values.std() / 20
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.1)
    narrow = bootstrap(values, confidence=0.5)
    assert interval.low < narrow.low < narrow.high < interval.high


def test_clips_of_one_video_count_together():
    values, videos = scores()
    by_video, by_clip = bootstrap(values, videos), bootstrap(values)
    assert by_video.clusters == 100
    assert (by_video.high - by_video.low) / (by_clip.high - by_clip.low) == pytest.approx(np.sqrt(5), rel=0.15)


def test_a_metric_of_counts_is_resampled_by_its_counts():
    parts = np.tile([1.0, 2.0, 4.0], (30, 1))  # each sample: 1 found of 2 predicted, of 4 true
    parts[:15] = [3, 3, 3]
    interval = bootstrap(parts, combine=combine_of("noun precision"))
    assert interval.value == pytest.approx(4 / 5)
    assert 1 / 2 < interval.low < 4 / 5 < interval.high < 1


def test_samples_without_a_score_are_left_out():
    with_gaps = np.array([1.0, np.nan, 3.0, np.nan] * 10)
    assert bootstrap(with_gaps).value == 2
    assert np.isnan(bootstrap(np.full(5, np.nan)).low)


def test_constant_scores_have_no_width():
    interval = bootstrap([0.5] * 12, list("aabbccddeeff"))
    assert (interval.low, interval.high, interval.clusters) == (0.5, 0.5, 6)


def test_draws_depend_on_the_seed_alone(monkeypatch):
    values, videos = scores()
    whole = bootstrap(values, videos)
    assert bootstrap(values, videos) == whole
    assert bootstrap(values, videos, seed=1) != whole
    paired = compare_paired(values, values + 0.1, videos)
    monkeypatch.setattr("egoinstructor.evaluation.statistics._CELLS", 700)  # a few resamples at a time
    pieces = bootstrap(values, videos)
    assert (pieces.low, pieces.high) == pytest.approx((whole.low, whole.high))
    assert compare_paired(values, values + 0.1, videos).p_value == paired.p_value


def test_two_runs():
    values, videos = scores()
    better = values + np.random.default_rng(2).normal(0.1, 0.2, len(values))
    gain = compare_paired(values, better, videos)
    assert gain.difference.value == pytest.approx(gain.b - gain.a)
    assert 0 < gain.difference.low < gain.difference.high  # although each run's own interval is ten times wider
    assert gain.p_value < 0.01
    back = compare_paired(better, values, videos)
    assert back.difference.value == pytest.approx(-gain.difference.value)
    assert back.p_value == pytest.approx(gain.p_value, abs=0.005)
    same = compare_paired(values, values, videos)
    assert (same.difference.low, same.difference.high, same.p_value) == (0, 0, 1)


def test_the_p_value_is_the_share_of_swaps():
    # Two videos that both gain 1: of the four ways to swap, two make a difference as large.
    assert compare_paired([0, 0], [1, 1], resamples=4000).p_value == pytest.approx(0.5, abs=0.03)
    assert compare_paired([0, 0, 0], [1, 1, 1], resamples=4000).p_value == pytest.approx(0.25, abs=0.03)


def test_a_swap_without_a_score_counts_against_the_difference():
    """Noun precision: all of one run's nouns may come to stand in the other."""
    one, two = np.array([[0.0, 1, 1], [0, 0, 1]]), np.array([[1.0, 1, 1], [0, 0, 1]])
    swapped = compare_paired(one, two, combine=combine_of("noun precision")).p_value
    assert swapped == 1
    empty = one * [1, 0, 1]
    assert compare_paired(empty, two, combine=combine_of("noun precision")).p_value == 1


def test_without_a_difference_p_values_are_even():
    random = np.random.default_rng(3)
    runs = [random.normal(0, 1, (2, 30)) for _ in range(300)]
    found = [compare_paired(a, b, resamples=100).p_value for a, b in runs]
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)
    assert np.mean(np.array(found) < 0.1) == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap([1.0]), "two videos or more .* there is 1"),
        (lambda: bootstrap([1.0, 2.0], ["a", "a"]), "two videos or more"),
        (lambda: bootstrap([1.0, 2.0], ["a"]), "2 values and 1 clusters"),
        (lambda: compare_paired([1.0, 2.0], [1.0]), "2 and 1 samples"),
    ],
)
def test_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()

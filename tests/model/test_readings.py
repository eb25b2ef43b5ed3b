"""Which of a clip's references are read, and which caption is kept."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egoinstructor.model.likeliest import (
    ALONE,
    NONE,
    TEMPERATURE,
    TOGETHER,
    ReferenceSubset,
    likeliest_of,
    reference_subsets,
)

SCORES = st.lists(st.one_of(st.none(), st.floats(-1, 1)), max_size=8)


@given(SCORES)
def test_every_reading_once_and_nothing_is_lost(scores):
    ways = reference_subsets(scores)
    places = range(len(scores))
    assert [way.places for way in ways] == list(dict.fromkeys([tuple(places), *((place,) for place in places), ()]))
    assert sum(way.weight for way in ways) == pytest.approx(1)
    assert all(way.weight >= 0 for way in ways)


def test_the_more_like_the_clip_the_more_probable():
    together, first, second, none = reference_subsets([0.9, 0.9 - TEMPERATURE])
    assert (together.weight, none.weight) == (TOGETHER, NONE)
    assert first.weight == pytest.approx(math.e * second.weight)
    assert first.weight + second.weight == pytest.approx(ALONE)
    unscored = [way.weight for way in reference_subsets([0.9, None])[1:3]]
    assert unscored == [ALONE / 2] * 2, "what has no score is as good as any"
    one = [ReferenceSubset(TOGETHER + ALONE, (0,)), ReferenceSubset(NONE, ())]
    assert reference_subsets([0.1]) == reference_subsets([None]) == one
    assert reference_subsets([]) == [ReferenceSubset(1.0, ())]


def test_readings_that_write_the_same_add_up():
    ways = [
        ReferenceSubset(0.2, (0, 1)),
        ReferenceSubset(0.25, (0,)),
        ReferenceSubset(0.25, (1,)),
        ReferenceSubset(0.3, ()),
    ]
    logs = [math.log(share) for share in (0.5, 0.5, 0.6, 0.6)]
    # cup 0.1 + 0.125, pan 0.15, pot 0.18
    assert likeliest_of(ways, list(zip(["cup", "cup", "pan", "pot"], logs, strict=True))) == 1
    assert likeliest_of(ways, list(zip(["cup", "jar", "pan", "pot"], logs, strict=True))) == 3
    assert likeliest_of([ReferenceSubset(1.0, ())], [("cup", -900.0)]) == 0


def test_a_reading_without_weight_is_never_kept_alone():
    far = reference_subsets([1.0, -100.0])  # exp underflows
    assert far[2].weight == 0
    assert likeliest_of(far, [("a", -50.0), ("b", -50.0), ("c", 0.0), ("d", -60.0)]) == 1


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.floats(-2000, 0)), min_size=6, max_size=6), st.permutations(range(6))
)
def test_the_order_of_the_readings_does_not_matter(written, order):
    ways = reference_subsets([0.9, 0.8, 0.7, 0.6])
    kept = likeliest_of(ways, written)
    again = likeliest_of([ways[place] for place in order], [written[place] for place in order])
    one, other = written[kept], written[order[again]]
    assert one[0] == other[0] or one[1] == pytest.approx(other[1])

"""Cues → clips: every word once, no overlap, lengths within bounds; and borders where a person would put them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egoinstructor.errors import InputError
from egoinstructor.library.merging import Merging, merge_cues
from egoinstructor.library.subtitles import Cue

EXACT = 2e-3  # times are rounded to the millisecond


@st.composite
def cue_lists(draw, gaps):
    """Cues with numbered words, separated by gaps; negative ones overlap."""
    cues, time = [], 0.0
    for number in range(draw(st.integers(0, 30))):
        start = max(time + draw(gaps), 0.0)
        end = start + draw(st.floats(0.01, 12))
        mark = draw(st.sampled_from(["", ".", "?"]))
        cues.append(Cue(start, end, f"w{number} x{number}{mark}"))
        time = end
    return sorted(cues, key=lambda cue: (cue.start, cue.end))


def words(cues):
    return [word for cue in cues for word in cue.text.split()]


@given(cue_lists(st.floats(-3, 8)))
def test_every_word_is_in_one_clip_in_order_and_clips_do_not_overlap(cues):
    duration = max((cue.end for cue in cues), default=0.0)
    clips = merge_cues(cues, duration)
    assert words(clips) == words(cues)
    assert all(clip.start < clip.end for clip in clips)
    assert all(left.end <= right.start for left, right in pairwise(clips))
    assert all(clip.start >= 0 and clip.end <= duration + EXACT for clip in clips)


@given(cue_lists(st.floats(0, 8)), st.floats(0.1, 4), st.floats(1, 4))
def test_lengths_are_within_bounds_where_they_can_be(cues, shortest, ratio):
    limits = Merging(shortest, shortest * ratio)
    duration = max((cue.end for cue in cues), default=0.0) + 1
    clips = merge_cues(cues, duration, limits)
    ends = [0.0, *(end for clip in clips for end in (clip.start, clip.end)), duration]
    for i, clip in enumerate(clips):
        length = clip.end - clip.start
        inside = [cue for cue in cues if set(cue.text.split()) <= set(clip.text.split())]
        if len(inside) > 1:
            assert length <= max(limits.longest, shortest) + EXACT
        if length < shortest - EXACT:
            # Nothing could have mended it: no neighbour is near enough to be joined, and half of the silence around it,
            # which is its share, was used up.
            for j in (i - 1, i + 1):
                if 0 <= j < len(clips):
                    both = [
                        cue for cue in cues if set(cue.text.split()) <= set((clip.text + " " + clips[j].text).split())
                    ]
                    assert max(cue.end for cue in both) - min(cue.start for cue in both) > limits.longest - EXACT
            before, after = ends[2 * i], ends[2 * i + 3]
            told = min(cue.start for cue in inside), max(cue.end for cue in inside)
            silence = told[0] - before, after - told[1]
            assert length >= told[1] - told[0] + sum(silence) / 2 - EXACT


@given(cue_lists(st.floats(0, 8)))
def test_a_clip_holds_the_time_of_its_words(cues):
    clips = merge_cues(cues, 1e4)
    where = {word: clip for clip in clips for word in clip.text.split()}
    for cue in cues:
        clip = where[cue.text.split()[0]]
        assert clip.start <= cue.start + EXACT
        assert cue.end <= clip.end + EXACT


def said(*cues):
    return [Cue(*cue) for cue in cues]


def test_sentences_stay_whole():
    cues = said(
        (0, 2, "Take the"), (2, 3.5, "knife."), (3.5, 5, "Now cut"), (5, 7.5, "the onion"), (7.5, 9, "in half.")
    )
    assert [clip.text for clip in merge_cues(cues, 9)] == ["Take the knife.", "Now cut the onion in half."]


def test_without_punctuation_pauses_are_borders():
    cues = said((0, 2, "take"), (2.05, 4, "the knife"), (5, 7, "now cut"), (7.05, 9, "the onion"))
    assert [clip.text for clip in merge_cues(cues, 9)] == ["take the knife", "now cut the onion"]


def test_a_lone_short_cue_is_widened_into_the_silence_around_it():
    (clip,) = merge_cues(said((10, 10.5, "Stir.")), 60)
    assert clip == Cue(9.25, 11.25, "Stir.")
    (clip,) = merge_cues(said((0.1, 0.5, "Stir.")), 60)
    assert (clip.start, clip.end) == (0, 2)
    (clip,) = merge_cues(said((9.5, 10, "Stir.")), 10)
    assert (clip.start, clip.end) == (8, 10)
    (clip,) = merge_cues(said((0.5, 1, "Stir.")), 1.2)
    assert (clip.start, clip.end) == (0, 1.2)


def test_cues_that_overlap_are_cut_at_the_next_and_those_that_begin_together_are_one():
    clips = merge_cues(said((0, 5, "One."), (3, 6, "Two."), (10, 12, "a"), (10, 13, "b")), 20)
    assert clips == said((0, 3, "One."), (3, 6, "Two."), (10, 13, "a b"))


def test_a_cue_that_is_too_long_stays_as_it_is():
    assert merge_cues(said((0, 30, "on and on")), 30) == said((0, 30, "on and on"))


@pytest.mark.parametrize("bounds", [(0, 8), (-1, 8), (3, 2), (float("nan"), 8)])
def test_impossible_bounds_are_refused(bounds):
    with pytest.raises(InputError, match="the shorter first"):
        Merging(*bounds)

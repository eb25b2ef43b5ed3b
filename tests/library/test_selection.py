"""Which hits become references: each rule alone, and what always holds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from egoinstructor.errors import InputError
from egoinstructor.library.records import ClipEntry, Hit
from egoinstructor.library.selection import SelectionRules, select


def hit(score: float, video: str, start: float = 0.0, end: float = 4.0, said: str = "cut it") -> Hit:
    return Hit(ClipEntry(f"{video}.mp4", start, end, said, "howto", video), score)


def apart(count: int) -> torch.Tensor:
    return torch.eye(count)


HITS = [hit(0.9, "a"), hit(0.8, "b"), hit(0.7, "c"), hit(0.6, "d")]


def test_the_most_similar_are_chosen_in_order() -> None:
    selection = select(HITS, apart(4), 2)
    assert selection.chosen == tuple(HITS[:2])
    assert selection.passed_over == ()


@pytest.mark.parametrize(
    ("hits", "rules", "reason"),
    [
        ([hit(0.9, "a"), hit(0.8, "a", 10, 14)], SelectionRules(), "1 of its video already"),
        ([hit(0.9, "a"), hit(0.8, "a", 1, 5)], SelectionRules(per_video=2), "the same moment as reference 1"),
        ([hit(0.9, "a"), hit(0.4, "b")], SelectionRules(min_score=0.5), "score 0.400 below 0.5"),
        ([hit(0.9, "a"), hit(0.8, "b", said=" ")], SelectionRules(), "nothing is said in it"),
    ],
)
def test_each_rule_passes_over_what_it_names(hits: list[Hit], rules: SelectionRules, reason: str) -> None:
    selection = select(hits, apart(2), 2, rules)
    assert selection.chosen == (hits[0],)
    assert selection.passed_over == ((hits[1], reason),)


def test_copies_are_passed_over_and_near_ones_by_a_threshold() -> None:
    vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), dim=-1)
    selection = select(HITS[:3], vectors, 3)
    assert selection.chosen == (HITS[0], HITS[2])
    assert selection.passed_over == ((HITS[1], "looks the same as reference 1"),)
    assert select(HITS[:3], vectors, 3, SelectionRules(near_duplicate=1)).chosen == tuple(HITS[:3])


def test_the_querys_own_video_and_unreadable_clips_are_never_references() -> None:
    selection = select(
        HITS,
        apart(4),
        4,
        own=lambda entry: entry.video == "a.mp4",
        unreadable=lambda entry: "gone" if entry.video == "b.mp4" else None,
    )
    assert selection.chosen == tuple(HITS[2:])
    assert [reason for _, reason in selection.passed_over] == ["of the query's own video", "gone"]


def test_refined_narration_counts_as_words() -> None:
    entry = ClipEntry("a.mp4", 0, 4, "", "howto", "a", refined="cut the leek")
    assert select([Hit(entry, 0.9)], apart(1), 1).chosen


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.sampled_from("abcd"), st.integers(0, 9)), max_size=12),
    st.integers(0, 5),
    st.integers(1, 3),
)
def test_what_always_holds(found: list[tuple[float, str, int]], k: int, per_video: int) -> None:
    ordered = enumerate(sorted(found, reverse=True))
    hits = [hit(score, video, start, start + 4, f"cut {i}") for i, (score, video, start) in ordered]
    rules = SelectionRules(per_video=per_video, min_score=0.0)
    selection = select(hits, apart(len(hits)), k, rules)
    videos = [chosen.entry.video for chosen in selection.chosen]
    assert len(videos) <= k
    assert all(videos.count(video) <= per_video for video in videos)
    assert all(chosen.score >= 0 for chosen in selection.chosen)
    assert list(selection.chosen) == [one for one in hits if one in selection.chosen]
    if len(videos) < k:  # then each hit is accounted for
        assert len(videos) + len(selection.passed_over) == len(hits)


@pytest.mark.parametrize("rules", [{"per_video": 0}, {"overlap": 2.0}, {"near_duplicate": -2.0}, {"min_score": 3.0}])
def test_rules_out_of_range_are_refused(rules: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(rules))):
        SelectionRules(**rules)  # type: ignore[arg-type]


def test_each_hit_needs_its_vector() -> None:
    with pytest.raises(InputError, match="4 hits with 3 vectors"):
        select(HITS, apart(3), 1)

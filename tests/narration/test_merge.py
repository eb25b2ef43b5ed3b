"""What is said of windows, and the segments that it becomes."""

from __future__ import annotations

import pytest

from egoinstructor.narration.captions import Segment, Skipped, WindowCaption, line_from
from egoinstructor.narration.merge import MOST_REFERENCES, Merger
from egoinstructor.narration.windows import Window, fixed_windows


def reference(name, score, said="do it"):
    return {"video": name, "start": 0.0, "end": 1.0, "narration": said, "score": score}


def told(start, end, caption="", confidence=0.5, references=(), skipped=None):
    return WindowCaption(Window(start, end), caption, -1.0, confidence, tuple(references), skipped)


def merged(*windows, **options):
    merger = Merger(**options)
    lines = [line for window in windows for line in merger.take(window)]
    return [*lines, *merger.close()], merger


def test_neighbours_that_say_the_same_become_one():
    lines, counts = merged(
        told(0, 2, "Stir  the soup.", 0.9, [reference("a", 0.9), reference("b", 0.5)]),
        told(2, 3, "stir the soup", 0.3, [reference("b", 0.7), reference("c", None)]),
        told(3, 4, "add salt", 0.4),
    )
    assert [(line.start, line.end, line.caption) for line in lines] == [(0, 3, "Stir  the soup."), (3, 4, "add salt")]
    assert lines[0].confidence == pytest.approx((2 * 0.9 + 0.3) / 3)
    assert lines[0].score == pytest.approx(-1)
    assert [(r["video"], r["score"]) for r in lines[0].references] == [("a", 0.9), ("b", 0.7), ("c", None)]
    assert (counts.windows, counts.captions, counts.merged, counts.silent, counts.skipped) == (3, 2, 1, 0, 0)


def test_a_long_segment_keeps_the_best_references():
    lines, _ = merged(*(told(i, i + 1, "wait", references=[reference(f"{i}", i / 100)]) for i in range(50)))
    assert [r["video"] for r in lines[0].references] == [f"{i}" for i in range(49, 49 - MOST_REFERENCES, -1)]


def test_apart_where_asked_or_where_something_lies_between():
    same = [told(0, 2, "stir"), told(2, 4, "stir")]
    assert len(merged(*same, merge=False)[0]) == 2
    assert len(merged(told(0, 2, "stir"), told(3, 4, "stir"))[0]) == 2
    assert len(merged(told(0, 2, "stir"), told(2, 4, ""), told(4, 6, "stir"))[0]) == 2
    assert len(merged(told(0, 2, "stir"), told(2, 4, skipped="gone"), told(4, 6, "stir"))[0]) == 3


def test_nothing_is_said_below_the_threshold():
    lines, counts = merged(told(0, 1, "stir", 0.5), told(1, 2, "cut", 0.49), told(2, 3, "...", 0.9), threshold=0.5)
    assert [line.caption for line in lines] == ["stir"]
    assert counts.silent == 2


def test_each_of_two_windows_that_overlap_has_its_half():
    windows = [told(w.start, w.end, f"step {i}") for i, w in enumerate(fixed_windows(8, 4, 2))]
    lines, _ = merged(*windows)
    assert [(line.start, line.end) for line in lines] == [(0, 3), (3, 5), (5, 8)]
    lines, _ = merged(told(0, 1.2, "stir"), told(1.0, 2.2, "cut"), told(2, 3, "wash"))
    assert [line.start for line in lines] == [0, 1.1, 2.1]  # to the millisecond


def test_segments_come_as_soon_as_they_are_settled():
    merger = Merger()
    assert list(merger.take(told(0, 2, "stir"))) == []
    assert list(merger.take(told(2, 4, "stir"))) == []
    assert list(merger.take(told(4, 6, "cut"))) == []
    assert [line.end for line in merger.take(told(6, 8, "wash"))] == [4]
    assert [line.end for line in merger.close()] == [6, 8]


def test_stretches_that_cannot_be_read_are_joined():
    lines, counts = merged(told(0, 2, skipped="no"), told(2, 4, skipped="neither"), told(4, 6, "stir"))
    assert lines[0] == Skipped(0, 4, "no", 2)
    assert counts.skipped == 2


def test_there_and_back():
    window = told(0, 1.5, "stir", 0.25, [reference("a", 0.5)])
    assert WindowCaption.from_dict(window.as_dict()) == window
    gone = WindowCaption(Window(0, 1), skipped="gone")
    assert WindowCaption.from_dict(gone.as_dict()) == gone
    for line in (Segment(0, 1, "stir", -0.1, None, (reference("a", 0.5),)), Skipped(0, 1, "gone", 3)):
        assert line_from(line.as_dict()) == line

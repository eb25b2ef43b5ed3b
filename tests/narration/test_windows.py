"""Where recordings are cut."""

from __future__ import annotations

import shutil
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from egoinstructor.errors import InputError
from egoinstructor.narration.thumbnails import Thumbnail, thumbnails
from egoinstructor.narration.windows import Window, change_windows, cut_times, fixed_windows


def spans(windows):
    return [(window.start, window.end) for window in windows]


def test_fixed_windows():
    assert spans(fixed_windows(6, 2)) == [(0, 2), (2, 4), (4, 6)]
    assert spans(fixed_windows(6.9, 2)) == [(0, 2), (2, 4), (4, 6.9)]  # a short rest goes with the last
    assert spans(fixed_windows(7, 2)) == [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert spans(fixed_windows(5, 2, 0.5)) == [(0, 2), (1.5, 3.5), (3, 5)]
    assert spans(fixed_windows(0.5, 2)) == [(0, 0.5)]
    assert spans(fixed_windows(9, 2, start=4.5)) == [(4.5, 6.5), (6.5, 9)]


@given(st.floats(0.01, 500), st.floats(0.2, 20), st.floats(0, 0.9), st.floats(0, 100))
@example(51.0, 0.99999, 0.0, 0.0)  # 49 · 0.99999 + 0.99999 is rounded to 49.999, 50 · 0.99999 to 50
def test_fixed_windows_cover_the_recording(length, seconds, share, start):
    windows = list(fixed_windows(start + length, seconds, share * seconds, start=start))
    assert windows[0].start == round(start, 3)
    assert windows[-1].end == round(start + length, 3)
    for before, then in pairwise(windows):
        assert before.start < then.start <= before.end < then.end
        if not share:
            assert before.end == then.start


@pytest.mark.parametrize(("seconds", "overlap"), [(0, 0), (-1, 0), (2, 2), (2, -1), (float("inf"), 0)])
def test_windows_that_are_none(seconds, overlap):
    with pytest.raises(InputError, match="overlap"):
        list(fixed_windows(10, seconds, overlap))


def near(cuts, wanted, tolerance=0.3):
    return len(cuts) == len(wanted) and np.allclose(cuts, wanted, atol=tolerance)


def test_hard_cuts_are_found(recording):
    windows = list(change_windows(recording, 11.0, 2.0))
    assert near([window.start for window in windows], [0, 3, 5, 7, 8.5])
    assert windows[-1].end == 11
    assert all(before.end == then.start for before, then in pairwise(windows))


def test_motion_changes_are_found(make_recording, tmp_path):
    path = make_recording(tmp_path / "motion.mp4", [(4, 1, 0), (4, 1, 7), (4, 1, 0)])
    windows = list(change_windows(path, 12.0, 4.0))
    assert near([window.start for window in windows], [0, 4, 8], tolerance=0.4)


def test_nothing_changes(make_recording, tmp_path):
    path = make_recording(tmp_path / "still.mp4", [(9, 1, 0)])
    assert spans(change_windows(path, 8.75, 2.0)) == [
        (0, 4),
        (4, 8.75),
    ]  # the rest, shorter than 1 s, goes with the last
    assert spans(change_windows(path, 9.0, 1.5)) == [(0, 3), (3, 6), (6, 9)]


def test_from_the_end_of_any_window_on_the_same_windows_follow(recording, make_recording, tmp_path):
    moving = make_recording(tmp_path / "moving.mp4", [(4, 1, 0), (3, 1, 7), (5.3, 1, 0), (2, 2, 5)], gop=250)
    for path, duration in ((recording, 11.0), (moving, 14.25)):
        windows = list(change_windows(path, duration, 1.7))
        assert len(windows) > 3
        for number, window in enumerate(windows[:-1], 1):
            assert list(change_windows(path, duration, 1.7, start=window.end)) == windows[number:]


def test_a_thumbnail_on_the_latest_cut_belongs_to_what_follows():
    """As it does for a run that begins there."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        picture, noise, seen = rng.random((8, 8)), 0.05, []
        for number in range(8 * 60):  # 8 a second: every longest window ends on a thumbnail
            noise = rng.choice([0.0, 0.02, 0.1, 0.4]) if rng.random() < 1 / 40 else noise
            picture = rng.random((8, 8)) * rng.random() if rng.random() < 1 / 80 else picture
            picture = np.clip(picture + noise * rng.normal(size=(8, 8)), 0, 1)
            seen.append(Thumbnail(number / 8, picture.astype(np.float32)))
        cuts = list(cut_times(seen, 0.0, 60.0, 1.0, 4.0))
        for number, cut in enumerate(cuts, 1):
            assert list(cut_times([g for g in seen if g.time >= cut], cut, 60.0, 1.0, 4.0)) == cuts[number:]


@given(st.lists(st.tuples(st.floats(0.02, 3), st.integers(0, 255)), max_size=60), st.floats(0.5, 30))
def test_cuts_keep_their_distance(steps, end):
    time, seen = 0.0, []
    for step, grey in steps:
        time += step
        seen.append(Thumbnail(time, np.full((4, 4), grey / 255, np.float32)))
    cuts = [0.0, *cut_times(seen, 0.0, end, 0.5, 2.0), end]
    lengths = np.diff(cuts)
    assert (lengths[:-1] >= 0.499).all()
    assert (lengths <= 2.001).all()
    assert (lengths > 0).all()


def test_a_recording_whose_end_is_missing_is_cut_up_to_its_end(recording):
    windows = list(change_windows(recording, 30.0, 2.0))
    assert windows[-1].end == 30
    assert all(window.end - window.start <= 5 for window in windows)


def test_thumbnails_are_the_same_wherever_one_starts(recording):
    every = list(thumbnails(recording))
    assert len(every) == 88
    for start in (0.3, 2.5, 7.126, 10.9):
        late = list(thumbnails(recording, start))
        assert [g.time for g in late] == [g.time for g in every if g.time >= start]
        assert all((a.picture == b.picture).all() for a, b in zip(reversed(late), reversed(every), strict=False))


def test_pieces_are_looked_at_as_one_recording(make_recording, recording, tmp_path):
    folder = tmp_path / "15s" / "video"
    make_recording(folder / "0000.mp4", [(4, 1, 1), (11, 2, 1)])
    shutil.copy(recording, folder / "0002.mp4")
    seen = list(thumbnails(folder))
    assert [g.time for g in (seen[0], seen[120], seen[-1])] == [0, 30, 30 + 10.875]  # the second piece is missing
    assert [g.time for g in thumbnails(folder, 39.5)] == [g.time for g in seen if g.time >= 39.5]
    windows = list(change_windows(folder, 41.0, 3.0))
    assert windows[0] == Window(0.0, 4.0)
    assert near([w.start for w in windows if w.start > 31], [33, 35, 37, 38.5])


def test_damage_is_passed_over(make_recording, tmp_path):
    path = make_recording(tmp_path / "long.mp4", [(3, 1, 1), (6, 2, 1), (3, 3, 1)])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    cuts = [window.start for window in change_windows(path, 12.0, 3.0)]
    assert any(abs(cut - 3) < 0.3 for cut in cuts)
    assert any(abs(cut - 9) < 0.3 for cut in cuts)

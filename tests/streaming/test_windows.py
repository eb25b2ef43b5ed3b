"""A stream is cut as a file of the same frames would be, and pixels that nobody looks at are never made."""

from __future__ import annotations

import weakref

import av
import numpy as np
import pytest

from egoinstructor.errors import InputError
from egoinstructor.records import Frames
from egoinstructor.streaming.windows import WindowCutter
from egoinstructor.video.decode import load_video, probe


def stream(count, rate, *, start=0.0):
    """Frames that show their own number."""
    return [(start + i / rate, np.full((4, 6, 3), i % 256, np.uint8)) for i in range(count)]


def cut(items, *arguments, **options):
    cutter = WindowCutter(*arguments, **{"num_frames": 4, **options})
    return [window for item in items for window in cutter.add(item)] + list(cutter.finish())


def numbers(window):
    assert window.frames.pixels[:, 0, 0, 0].tolist() == [number % 256 for number in window.frames.indices]
    return window.frames.indices.tolist()


@pytest.mark.parametrize("policy", ["segment_center", "linspace"])
@pytest.mark.parametrize(("seconds", "overlap", "count"), [(1.0, 0.0, 4), (1.2, 0.5, 8), (0.5, 0.0, 16), (3.0, 0.0, 7)])
def test_windows_have_the_frames_that_a_file_has(short_videos, policy, seconds, overlap, count):
    """16 frames of half a second at 10 a second: a window is stretched over what follows, as in a file."""
    path = short_videos["ego"]
    with av.open(path) as container:
        items = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    windows = cut(items, seconds, overlap, num_frames=count, policy=policy, rate=10)
    duration = probe(path).duration
    whole = [w for w in windows if w.start + max(seconds, count / 10) <= duration + 1e-6]
    assert len(whole) == int((duration - max(seconds, count / 10)) / (seconds - overlap) + 1e-6) + 1
    for window in whole:
        of_file = load_video(path, start=window.start, end=window.end, num_frames=count, sampling=policy)
        assert window.frames.indices.tolist() == of_file.indices.tolist()
        assert np.array_equal(window.frames.pixels, of_file.pixels)


def test_the_frames_of_a_varying_rate_are_those_on_the_screen():
    times = [0, 0.1, 0.2, 0.95, 1.0, 1.05, 1.9, 2.0]
    windows = cut([(t, np.full((2, 2, 3), i, np.uint8)) for i, t in enumerate(times)], 1.0, rate=20, num_frames=4)
    # Looked at about 0.1, 0.35, 0.6, 0.8 s into each second: between 0.2 and 0.95 s frame 2 is shown.
    assert [numbers(w) for w in windows] == [[1, 2, 2, 2], [5, 5, 5, 5]]
    assert [(w.first, w.beyond) for w in windows] == [(0, 4), (4, 7)]


def test_a_stream_may_begin_at_any_time():
    first, later = cut(stream(40, 10), 2.0, rate=10), cut(stream(40, 10, start=1000.05), 2.0, rate=10)
    assert [numbers(w) for w in first] == [numbers(w) for w in later]
    assert [(w.start, w.end) for w in later] == [(1000.05, 1002.05), (1002.05, 1004.05)]


def test_windows_of_a_gap_are_passed_over_however_long_it_is():
    items = [*stream(20, 10), *stream(20, 10, start=1e9)]
    windows = cut(items, 1.0, rate=10)
    assert len(windows) == 4
    assert [w.start for w in windows] == [0, 1, 1e9, 1e9 + 1]


def test_the_rest_is_cut_to_the_end_or_left_out():
    assert [(w.start, w.end) for w in cut(stream(14, 10), 1.0, rate=10)] == [(0, 1)]
    rest = cut(stream(16, 10), 1.0, rate=10)
    assert [(w.start, w.end) for w in rest] == [(0, 1), (1, 1.6)]
    assert set(numbers(rest[1])) <= set(range(10, 16))
    assert len(rest[1].frames) == 4
    assert [(w.start, w.end) for w in cut(stream(2, 10), 1.0, rate=10)] == [(0, 0.2)], "all there is"
    assert [(w.start, w.end) for w in cut(stream(20, 10), 1.0, 0.5, rate=10)] == [(0, 1), (0.5, 1.5), (1, 2)]
    assert cut([], 1.0) == []


def test_pieces_of_several_frames_are_as_good_as_single_ones():
    items = stream(30, 10)
    pieces = [
        Frames(
            np.stack([p for _, p in items[i : i + 7]]),
            np.array([t for t, _ in items[i : i + 7]]),
            np.arange(i, min(i + 7, 30)),
            "camera",
        )
        for i in range(0, 30, 7)
    ]
    assert [numbers(w) for w in cut(pieces, 1.0, rate=10)] == [numbers(w) for w in cut(items, 1.0, rate=10)]


def test_only_sampled_frames_are_made_and_each_once_and_few_are_kept():
    made, most = [], 0
    cutter = WindowCutter(10.0, 5.0, num_frames=4, rate=10)

    def give():
        picture = np.zeros((2, 2, 3), np.uint8)
        made.append(weakref.ref(picture))
        return picture

    for i in range(1000):
        for _ in cutter.add((i / 10, give)):
            pass
        most = max(most, sum(picture() is not None for picture in made))
    assert 4 * 10 <= len(made) < 4 * 20, "4 for each of 20 windows; overlapping ones share some"
    assert most <= 2 * 4 + 1


def test_a_new_picture_size_begins_anew():
    items = [(i / 10, np.full((4, 4, 3) if i < 13 else (8, 2, 3), i, np.uint8)) for i in range(30)]
    windows = cut(items, 1.0, rate=10)
    assert [w.frames.pixels.shape[1:3] for w in windows] == [(4, 4), (8, 2), (8, 2)]
    assert min(numbers(windows[1])) >= 13


@pytest.mark.parametrize("times", [[0.5, 0.4], [float("nan")], [-1.0], [0.0, float("inf")]])
def test_times_that_fall_or_are_none_are_refused(times):
    with pytest.raises(InputError, match="never fall"):
        cut([(t, np.zeros((2, 2, 3), np.uint8)) for t in times], 1.0)


@pytest.mark.parametrize("pixels", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3)), np.zeros((0, 2, 3), np.uint8)])
def test_pixels_of_another_kind_are_refused(pixels):
    with pytest.raises(InputError, match="uint8"):
        cut([(0.0, pixels)], 1.0)


@pytest.mark.parametrize(
    "options",
    [{"seconds": 0}, {"seconds": float("inf")}, {"overlap": 1.0}, {"overlap": -1}, {"rate": 0}, {"num_frames": 0}],
)
def test_values_that_make_no_windows_are_refused(options):
    with pytest.raises(InputError, match=next(iter(options))):
        WindowCutter(**{"seconds": 1.0, "num_frames": 4, **options})

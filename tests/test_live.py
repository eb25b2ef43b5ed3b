"""Captions of a stream: the newest window first, what there was no time for dropped and counted. None waits for a clock."""

from __future__ import annotations

import gc
import json
import threading
from queue import Queue

import numpy as np
import pytest

from egoinstructor.errors import InputError, VideoError
from egoinstructor.records import Caption, Clip
from egoinstructor.streaming.captions import LiveCaptions, LiveTotals
from egoinstructor.streaming.windows import WindowCutter

RATE = 10
PATIENCE = 300  # seconds after which a test that hangs fails


class Feed:
    """A stream that the test gives frame by frame, and which knows when all that it gave was dealt with."""

    def __init__(self):
        self._items, self._asked = Queue(), threading.Semaphore(0)
        self._number = 0

    def __iter__(self):
        while True:
            self._asked.release()
            item = self._items.get()
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    def _give(self, item):
        assert self._asked.acquire(timeout=PATIENCE)
        self._items.put(item)

    def seconds(self, count):
        """That many seconds of frames, each of which shows which second it is of."""
        for _ in range(round(count * RATE)):
            pixels = np.full((2, 2, 3), self._number // RATE, np.uint8)
            self._give((self._number / RATE, pixels))
            self._number += 1
        assert self._asked.acquire(timeout=PATIENCE)
        self._asked.release()

    def end(self, error=None):
        self._give(error)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def say(frames):
    """Which second the frames are of."""
    return Caption(f"second {frames.pixels[0, 0, 0, 0]}", Clip(frames))


def open_stream(frames, caption=say, *, clock=None, max_latency=5.0, seconds=1.0, overlap=0.0):
    cutter = WindowCutter(seconds, overlap, num_frames=2, rate=RATE)
    return LiveCaptions(frames, cutter, caption, max_latency=max_latency, clock=clock or Clock())


@pytest.fixture
def feed():
    feed = Feed()
    yield feed
    feed._items.put(None)


def test_a_model_that_keeps_up_drops_nothing(feed):
    with open_stream(feed) as captions:
        feed.seconds(1.1)
        for second in range(3):
            live = next(captions)
            assert (live.text, live.start, live.end, live.latency) == (f"second {second}", second, second + 1, 0)
            assert (live.dropped_windows, live.dropped_frames) == (0, 0)
            feed.seconds(1)
        feed.end()
        assert [live.text for live in captions] == ["second 3"], "and of the tenth of a second after it, nothing"
        assert captions.totals == LiveTotals(frames=41, windows=4, captions=4, dropped_windows=0, dropped_frames=0)


def test_a_slow_model_gets_the_newest_window_and_the_others_are_dropped(feed):
    clock = Clock()
    during = iter([3, 1, 0])  # seconds of stream while each caption is written

    def slow(frames):
        if passed := next(during):
            feed.seconds(passed)
        clock.now += passed
        return say(frames)

    with open_stream(feed, slow, clock=clock) as captions:
        feed.seconds(1.1)
        first, second = next(captions), next(captions)
        feed.end()
        third, *more = captions
    assert [live.text for live in (first, second, third, *more)] == ["second 0", "second 3", "second 4"]
    assert [live.dropped_windows for live in (first, second, third)] == [0, 2, 0]
    assert [live.dropped_frames for live in (first, second, third)] == [0, 20, 0]
    assert [live.latency for live in (first, second, third)] == [3, 4, 1], "from the coming of the last frame"
    assert captions.totals == LiveTotals(frames=51, windows=5, captions=3, dropped_windows=2, dropped_frames=20)


def test_frames_that_another_window_shows_are_not_dropped(feed):
    def slow(frames):
        feed.seconds(2)
        return say(frames)

    with open_stream(feed, slow, seconds=2.0, overlap=1.0) as captions:
        feed.seconds(2.1)
        next(captions)  # 0–2 s; meanwhile 1–3 s and 2–4 s are complete
        live = next(captions)
        assert (live.start, live.dropped_windows, live.dropped_frames) == (2, 1, 0)
        feed.end()


def test_a_window_that_waited_too_long_is_dropped_and_the_next_one_is_not(feed):
    clock = Clock()
    asked = threading.Event()

    def now():
        if threading.current_thread() is threading.main_thread():
            asked.set()  # how old the window is: the lock is held until it is dropped
        return clock.now

    def more():
        assert asked.wait(PATIENCE)
        feed.seconds(1)

    with open_stream(feed, clock=now, max_latency=0.5) as captions:
        feed.seconds(1.1)
        clock.now = 0.6
        helper = threading.Thread(target=more)
        helper.start()
        live = next(captions)
        helper.join()
        feed.end()
    assert (live.text, live.latency) == ("second 1", 0)
    assert (live.dropped_windows, live.dropped_frames) == (1, 10)


def test_what_is_dropped_at_the_end_is_in_the_totals(feed):
    clock = Clock()
    with open_stream(feed, clock=clock, max_latency=0.5) as captions:
        feed.seconds(1.1)
        clock.now = 0.6
        feed.end()
        assert list(captions) == []
        assert captions.totals == LiveTotals(frames=11, windows=1, captions=0, dropped_windows=1, dropped_frames=10)


def test_without_a_latency_nothing_is_dropped_and_the_stream_waits():
    taken, ahead = 0, []

    def frames():
        nonlocal taken
        for i in range(200):
            taken += 1
            yield i / RATE, np.full((2, 2, 3), i // RATE, np.uint8)

    def caption(of):
        ahead.append(taken - RATE * len(ahead))
        return say(of)

    with open_stream(frames(), caption, max_latency=None) as captions:
        assert [live.text for live in captions] == [f"second {i}" for i in range(20)]
        assert captions.totals == LiveTotals(200, 20, 20, 0, 0)
    assert max(ahead) <= 3 * RATE + 1, "one window captioned, one waiting, one not yet taken by who waits"


def test_what_the_stream_raises_comes_after_its_captions(feed):
    with open_stream(feed) as captions:
        feed.seconds(1.8)
        assert next(captions).text == "second 0"
        feed.end(VideoError("the cable was pulled"))
        assert next(captions).text == "second 1"
        with pytest.raises(VideoError, match="cable"):
            next(captions)
        assert list(captions) == []


def test_frames_that_cannot_be_cut_are_an_error_where_captions_are_taken():
    with open_stream([(1.0, np.zeros((2, 2, 3), np.uint8)), (0.0, np.zeros((2, 2, 3), np.uint8))]) as captions:
        assert next(captions).start == 1.0
        with pytest.raises(InputError, match="never fall"):
            next(captions)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_caption_that_fails_ends_the_stream_and_the_count_is_right(feed, error):
    def fail(frames):
        feed.seconds(1)
        feed.end()
        raise error

    captions = open_stream(feed, fail)
    feed.seconds(1.1)
    with pytest.raises(error):
        next(captions)
    captions.close()
    assert not captions._reader._thread.is_alive()
    assert captions.totals == LiveTotals(frames=21, windows=2, captions=0, dropped_windows=2, dropped_frames=20)
    assert list(captions) == []


def watched(closed):
    """Endless; says when it is closed."""
    try:
        for i in range(10**9):
            yield i / RATE, np.zeros((2, 2, 3), np.uint8)
    finally:
        closed.set()


def test_closing_stops_the_reader_and_its_generator():
    closed = threading.Event()
    with open_stream(watched(closed)) as captions:
        next(captions)
    assert closed.is_set()
    assert not captions._reader._thread.is_alive()
    captions.close()
    assert list(captions) == []


def test_who_stops_iterating_leaves_no_reader_behind():
    closed = threading.Event()
    for _ in open_stream(watched(closed), max_latency=None):
        break
    gc.collect()
    assert closed.wait(PATIENCE)


@pytest.mark.parametrize("value", [-1, 0, float("nan"), float("inf")])
def test_a_latency_that_means_nothing_is_refused(value):
    with pytest.raises(InputError, match="max_latency"):
        open_stream([], max_latency=value)


def test_a_live_caption_as_json(feed):
    with open_stream(feed) as captions:
        feed.seconds(1.1)
        found = json.loads(json.dumps(next(captions).as_dict()))
        feed.end()
    assert found["caption"] == "second 0"
    assert {name: found[name] for name in ("start", "end", "latency", "dropped_windows", "dropped_frames")} == {
        "start": 0.0, "end": 1.0, "latency": 0.0, "dropped_windows": 0, "dropped_frames": 0,
    }  # fmt: skip


def test_a_captioner_says_of_a_stream_what_it_says_of_the_file(toy, short_videos):
    import av

    from egoinstructor.captioners.egoinstructor import Captioner

    captioner, path = Captioner(*toy), short_videos["ego"]
    with av.open(path) as container:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    with captioner.stream(iter(frames), seconds=1.0, rate=10, max_latency=None, max_new_tokens=8) as captions:
        found = [(live.start, live.end, live.text, live.caption.score) for live in captions]
    expected = [captioner.caption(path, start=i, end=i + 1, num_beams=1, max_new_tokens=8) for i in range(3)]
    assert found == [(i, i + 1, caption.text, caption.score) for i, caption in enumerate(expected)]
    assert len({text for _, _, text, _ in found}) > 1

"""Frames as they come, cut into windows, each with the frames that stand for it: no threads, no clock, no model.

Windows lie as in a file of the same frames, and the frames that stand for one are those that `load_video` would choose
there. A frame that no window samples is let go at once, and its pixels are never asked for.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from egoinstructor.errors import InputError
from egoinstructor.records import Frames
from egoinstructor.video import sampling
from egoinstructor.video.file import Sampling

Pixels = np.ndarray | Callable[[], np.ndarray]
"""uint8 RGB `(H, W, 3)`, upright; or what gives them, called only for a frame that a window samples."""

LiveFrame = tuple[float, Pixels]
"""Seconds, never falling, and pixels. Each frame has an array of its own: it may be looked at after the next one came."""

LiveFrames = Iterable[LiveFrame | Frames]
"""A stream: frames one by one, or in pieces of several."""

SECONDS = 5.0
"""Length of a window unless another one is asked for."""

NOMINAL_RATE = 30.0
"""Frames per second that times are counted at where a stream doesn't say: Ego4D's."""


@dataclass(frozen=True, slots=True)
class LiveWindow:
    """A window that is complete.

    Args:
        frames: that stand for it, `num_frames` of them.
        start: seconds, as the stream counts.
        end: seconds.
        first: number of its first frame in the stream, from 0.
        beyond: number of the first frame after it.
    """

    frames: Frames
    start: float
    end: float
    first: int
    beyond: int


@dataclass(slots=True)
class _Seen:
    """A frame that came: its number in the stream, its time, its pixels."""

    number: int
    time: float
    pixels: Pixels

    def array(self) -> np.ndarray:
        """The pixels, made once for all windows that sample the frame."""
        self.pixels = np.asarray(self.pixels() if callable(self.pixels) else self.pixels)
        return self.pixels


@dataclass(slots=True)
class _Open:
    """A window that still gets frames, and the times at which it looks, the next one last."""

    start: float
    end: float
    first: int
    times: list[float]
    taken: list[_Seen] = field(default_factory=list)


class WindowCutter:
    """Cuts a stream into windows. Holds at most `num_frames` pictures for each window that is open, and one more.

    Args:
        seconds: length of a window.
        overlap: seconds that a window shares with the one before.
        num_frames: frames that stand for a window.
        policy: which ones, as for `load_video`.
        rate: frames per second that times are counted at: with the stream's own, the frames are exactly those of a file.
        name: the stream as a message names it.

    Raises:
        InputError: a value that is not allowed.
    """

    def __init__(
        self,
        seconds: float,
        overlap: float = 0.0,
        *,
        num_frames: int,
        policy: Sampling = "segment_center",
        rate: float = NOMINAL_RATE,
        name: str = "stream",
    ) -> None:
        if not (math.isfinite(seconds) and seconds > 0):
            raise InputError(f"seconds={seconds}: a window lasts more than 0 seconds.")
        if not 0 <= overlap <= 0.9 * seconds:  # more would keep many windows open at a time
            raise InputError(f"overlap={overlap}: windows of {seconds:g} s can share 0 s to nine tenths of that.")
        if not (math.isfinite(rate) and rate > 0):
            raise InputError(f"rate={rate}: give frames per second, more than 0.")
        if num_frames < 1:
            raise InputError(f"num_frames={num_frames}: at least 1 frame must be asked for.")
        self._seconds, self._step = seconds, seconds - overlap
        self._num_frames, self._policy, self._rate, self._name = num_frames, policy, rate, name
        self._open: deque[_Open] = deque()
        self._next = 0  # the window to be opened next
        self._origin: float | None = None
        self._shown: _Seen | None = None
        self._given = False
        self.frames = 0
        """Frames that came so far."""

    def add(self, item: LiveFrame | Frames) -> Iterator[LiveWindow]:
        """Take a frame, or several; give the windows that are complete with it.

        Raises:
            InputError: a time that isn't a number of seconds from 0 on, or lies before the last one; pixels that aren't
                uint8 `(H, W, 3)`.
        """
        if isinstance(item, Frames):
            for time, pixels in zip(item.timestamps, item.pixels, strict=True):
                yield from self._add(float(time), pixels.copy)  # a view would keep its whole piece in memory
        else:
            yield from self._add(float(item[0]), item[1])

    def _add(self, time: float, pixels: Pixels) -> Iterator[LiveWindow]:
        before = self._shown
        if not math.isfinite(time) or time < 0 or (before is not None and time < before.time):
            after = "" if before is None else f" after one at {before.time:g} s"
            raise InputError(
                f"{self._name}: a frame at {time} s{after}; times must be seconds from 0 on that never fall. Drop the "
                "frame, or number the times anew."
            )
        self._origin = time if self._origin is None else self._origin
        # The frame before is on the screen until this one is, and a frame is in place half a frame around its time.
        now = time - 0.5 / self._rate
        if before is not None:
            for window in self._open:
                _look(window, before, now)
        while self._open and self._open[0].end <= time + 0.5 / self._rate and not self._open[0].times:
            yield self._give(self._open.popleft(), self.frames)
        frame = _Seen(self.frames, time, pixels)
        self.frames += 1
        self._begin(frame)
        for window in self._open:
            _look(window, before or frame, now)  # of one that begins in a gap
        self._shown = frame

    def finish(self) -> Iterator[LiveWindow]:
        """The stream is over: give what is left, cut to its end.

        A rest shorter than half of the step from window to window isn't given, unless there is nothing else. A shorter
        window has the frames that were kept for a whole one.
        """
        last = self._shown
        if last is None:
            return
        end = last.time + 1 / self._rate
        while self._open:
            window = self._open.popleft()
            if window.end > end + 0.5 / self._rate:
                new = end - window.start - (self._seconds - self._step)
                if self._given and new < self._step / 2:
                    continue
                kept, window.taken = [*window.taken, last], []
                window.end = end
                window.times = self._times(window.start, end)
                for frame, following in zip(kept, [*kept[1:], None], strict=True):
                    _look(window, frame, math.inf if following is None else following.time - 0.5 / self._rate)
            _look(window, last, math.inf)
            yield self._give(window, self.frames)

    def _begin(self, frame: _Seen) -> None:
        """Open the windows that this frame is in and none before was. Those that no frame is in are passed over."""
        assert self._origin is not None
        since = frame.time - self._origin + 0.5 / self._rate
        self._next = max(self._next, math.floor((since - self._seconds) / self._step) + 1)
        while self._next * self._step <= since:
            start = self._origin + self._next * self._step
            end = start + self._seconds
            self._open.append(_Open(start, end, frame.number, self._times(start, end)))
            self._next += 1

    def _times(self, start: float, end: float) -> list[float]:
        """When a window looks, the last time first."""
        assert self._origin is not None
        start, end = start - self._origin, end - self._origin
        rate, count = self._rate, self._num_frames
        endless = math.ceil(end * rate) + count + 1  # no window is cut short by the number of frames
        if self._policy == "linspace":
            numbers = sampling.linspace_segment(start, end, rate, endless, count)
        else:
            numbers = sampling.exo_segment(start, end, rate, endless, count)
        return [self._origin + number / rate for number in reversed(numbers)]

    def _give(self, window: _Open, beyond: int) -> LiveWindow:
        # Where the picture size changes (a camera that came back), only the new one counts.
        size = window.taken[-1].array().shape
        whole = [frame for frame in window.taken if frame.array().shape == size]
        taken = [*[whole[0]] * (self._num_frames - len(whole)), *whole]
        frames = Frames(
            np.stack([frame.array() for frame in taken]),
            np.array([frame.time for frame in taken]),
            np.array([frame.number for frame in taken], dtype=np.int64),
            self._name,
        )
        self._given = True
        return LiveWindow(frames, window.start, window.end, window.first, beyond)


def _look(window: _Open, frame: _Seen, until: float) -> None:
    """Take the frame for each time before `until` that the window looks at."""
    while window.times and window.times[-1] < until:
        window.times.pop()
        frame.array()  # now: a decoder's frame waits in a format of its own
        window.taken.append(frame)

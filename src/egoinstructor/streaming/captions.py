"""Captions of a stream: what is read and what is written go on at once, and what there is no time for is left out.

A thread takes frames as they come and cuts them into windows. Whoever iterates captions the newest complete window; the
windows that became complete meanwhile are dropped and counted. Nothing here knows of models: a function captions.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from threading import Condition, Thread
from types import TracebackType
from typing import Any

from egoinstructor.errors import InputError
from egoinstructor.records import Caption, Frames
from egoinstructor.streaming.windows import LiveFrames, LiveWindow, WindowCutter

MAX_LATENCY = 5.0
"""Seconds that a window may wait for its turn unless others are asked for."""

_JOIN = 2.0
"""Seconds to wait for the reader when a stream is closed; it may be waiting for a frame."""


@dataclass(frozen=True, slots=True)
class LiveCaption:
    """The caption of a window of a stream.

    Args:
        caption: its clip is the frames that stand for the window.
        start: of the window, in seconds as the stream counts.
        end: of the window.
        latency: seconds from the coming of the window's last frame until the caption was there.
        dropped_windows: windows left out since the caption before.
        dropped_frames: frames since the caption before that are in no captioned window.
    """

    caption: Caption
    start: float
    end: float
    latency: float
    dropped_windows: int = 0
    dropped_frames: int = 0

    @property
    def text(self) -> str:
        """What the caption says."""
        return self.caption.text

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return self.caption.as_dict() | {
            "start": self.start,
            "end": self.end,
            "latency": self.latency,
            "dropped_windows": self.dropped_windows,
            "dropped_frames": self.dropped_frames,
        }


@dataclass(frozen=True, slots=True)
class LiveTotals:
    """What became of a stream so far.

    Args:
        frames: that came.
        windows: that were complete.
        captions: windows that were captioned.
        dropped_windows: windows that were not.
        dropped_frames: frames of those that are in no captioned window.
    """

    frames: int
    windows: int
    captions: int
    dropped_windows: int
    dropped_frames: int

    def as_dict(self) -> dict[str, int]:
        """For JSON."""
        return asdict(self)


class LiveCaptions(Iterator[LiveCaption]):
    """The captions of a stream, as they come. Close it, or use it in a `with` block: its reader is then stopped.

    Reading begins at once. What the stream raises is raised here, when what came before it is captioned.

    Args:
        frames: the stream. One that has an end ends the captions.
        cutter: how it is cut.
        caption: captions the frames that stand for a window.
        max_latency: seconds that a window may wait for its turn; one that waited longer is dropped, and so is one that is
            complete before its predecessor had its turn. None: drop nothing, and let the stream wait instead.
        clock: seconds, never falling.

    Raises:
        InputError: a latency that is not allowed.
    """

    def __init__(
        self,
        frames: LiveFrames,
        cutter: WindowCutter,
        caption: Callable[[Frames], Caption],
        *,
        max_latency: float | None = MAX_LATENCY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_latency is not None and not (math.isfinite(max_latency) and max_latency > 0):
            raise InputError(
                f"max_latency={max_latency}: give seconds, more than 0; or None, so that the stream waits and nothing is "
                "dropped."
            )
        self._caption, self._clock = caption, clock
        self._reader = _Reader(frames, cutter, max_latency, clock)
        self._captions = self._dropped_frames = self._reported = self._covered = 0
        # Who stops iterating half-way and lets go of this must not leave a reader behind.
        self._finalizer = weakref.finalize(self, self._reader.stop)
        self._reader.start()

    def __next__(self) -> LiveCaption:
        """Wait for the next window in time, and caption it.

        Raises:
            StopIteration: the stream is over, or closed.
            InputError: what came can't be cut into windows, or the stream can't be read any more.
        """
        window = None
        try:
            taken = self._reader.take()
            if taken is None:
                raise StopIteration
            window, arrived, dropped = taken
            caption = self._caption(window.frames)
        except BaseException:
            self._reader.stop(window)  # and wait for it in close(): it may wait for a frame until its source is closed
            raise
        missed = max(window.first - self._covered, 0)
        live = LiveCaption(caption, window.start, window.end, self._clock() - arrived, dropped - self._reported, missed)
        self._captions += 1
        self._dropped_frames += missed
        self._reported, self._covered = dropped, max(self._covered, window.beyond)
        return live

    @property
    def totals(self) -> LiveTotals:
        """The counts so far; of a stream that is over, the last."""
        frames, windows, dropped, beyond = self._reader.counts()
        missed = self._dropped_frames + max(beyond - self._covered, 0)
        return LiveTotals(frames, windows, self._captions, dropped, missed)

    def close(self) -> None:
        """Stop reading, and end the captions. A second time does nothing."""
        self._reader.stop()
        self._reader.join()

    def __enter__(self) -> LiveCaptions:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


class _Reader:
    """Takes frames on a thread, and holds the newest complete window until it is taken."""

    def __init__(
        self, frames: LiveFrames, cutter: WindowCutter, max_latency: float | None, clock: Callable[[], float]
    ) -> None:
        self._frames, self._cutter, self._max_latency, self._clock = frames, cutter, max_latency, clock
        self._changed = Condition()
        self._waiting: tuple[LiveWindow, float] | None = None
        self._failure: Exception | None = None
        self._over = self._stopped = False
        self._windows = self._dropped = self._dropped_beyond = 0
        self._thread = Thread(target=self._read, name="egoinstructor-live", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, given_up: LiveWindow | None = None) -> None:
        """End, and drop what waits; and a window that was taken, but whose caption came to nothing."""
        with self._changed:
            self._stopped = True
            for window in (given_up, self._waiting[0] if self._waiting else None):
                if window is not None:
                    self._drop(window)
            self._waiting = None
            self._changed.notify_all()

    def join(self) -> None:
        self._thread.join(_JOIN)

    def counts(self) -> tuple[int, int, int, int]:
        """Frames, windows, dropped windows, and the number of the first frame after the last dropped one."""
        with self._changed:
            return self._cutter.frames, self._windows, self._dropped, self._dropped_beyond

    def take(self) -> tuple[LiveWindow, float, int] | None:
        """The newest window, when its last frame came, and how many were dropped so far; None at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._over or self._stopped)
                if self._stopped:
                    return None
                if self._waiting is None:
                    if self._failure is not None:
                        raise self._failure
                    return None
                (window, arrived), self._waiting = self._waiting, None
                self._changed.notify_all()
                if self._max_latency is None or self._clock() - arrived <= self._max_latency:
                    return window, arrived, self._dropped
                self._drop(window)

    def _read(self) -> None:
        try:
            try:
                for item in self._frames:
                    if self._stopped:
                        return
                    for window in self._cutter.add(item):
                        self._offer(window)
            except Exception as error:  # noqa: BLE001  whatever it is, it is raised where the captions are taken
                self._failure = error
            for window in self._cutter.finish():
                self._offer(window)
        except Exception as error:  # noqa: BLE001  as above
            self._failure = self._failure or error
        finally:
            if isinstance(self._frames, Generator):  # which only the thread that runs it can close
                self._frames.close()
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _offer(self, window: LiveWindow) -> None:
        with self._changed:
            arrived = self._clock()
            if self._max_latency is None:
                self._changed.wait_for(lambda: self._waiting is None or self._stopped)
            if self._stopped:
                return
            self._windows += 1
            if self._waiting is not None:
                self._drop(self._waiting[0])
            self._waiting = (window, arrived)
            self._changed.notify_all()

    def _drop(self, window: LiveWindow) -> None:
        self._dropped += 1
        self._dropped_beyond = max(self._dropped_beyond, window.beyond)

"""Where a recording is cut: into windows of one length, or at scene and motion changes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from egoinstructor.errors import InputError
from egoinstructor.narration.thumbnails import GRACE, Thumbnail, thumbnails

DECIMALS = 3
"""Of a window's times: players count in milliseconds."""

SHORTEST, LONGEST = 0.5, 2.0
"""How long windows between changes are, as shares of the length that was asked for."""

JUMP, JUMP_RATIO = 0.2, 3.0
"""Scene cut: so much of a brightness histogram differs from the one before (a turning head changes it little),
and this many times as much as on average since the last cut."""

MOTION, MOTION_RATIO, MOTION_SECONDS = 0.02, 3.0, 1.0
"""Change of motion: for so many seconds, thumbnails have differed from the one before by so much more or less per pixel (1:
black from white) than earlier since the last cut, and by so many times."""


@dataclass(frozen=True, slots=True)
class Window:
    """A span that is captioned at once, in seconds of the recording."""

    start: float
    end: float


def fixed_windows(duration: float, seconds: float, overlap: float = 0.0, *, start: float = 0.0) -> Iterator[Window]:
    """Windows of one length, each beginning `seconds - overlap` after the one before.

    A rest shorter than half of that step is added to the last window; a longer one is a shorter window of its own.

    Args:
        duration: where the last window ends, seconds.
        seconds: length of a window.
        overlap: of two neighbours, seconds.
        start: where the first window begins.

    Raises:
        InputError: values that make no windows.
    """
    if not 0 < seconds < math.inf or not 0 <= overlap < seconds:
        raise InputError(
            f"windows of {seconds:g} s that overlap by {overlap:g} s; they must last, and longer than the overlap."
        )
    step = seconds - overlap
    count = max(math.floor((duration - start - overlap) / step + 0.5), 1)
    begins = [start + number * step for number in range(count)]
    # A window's end is told from the next one's beginning: reckoned apart, the two may be rounded apart.
    ends = [*(begin + overlap for begin in begins[1:]), duration]
    for begin, end in zip(begins, ends, strict=True):
        yield Window(round(begin, DECIMALS), round(end, DECIMALS))


def change_windows(recording: Path, duration: float, seconds: float, *, start: float = 0.0) -> Iterator[Window]:
    """Windows that begin where the scene or the motion changes, of half to twice the length asked for.

    The last one takes in a rest shorter than half of that length, and may so be two and a half times as long.

    The recording is read once, in order and in constant memory. What comes after a cut doesn't depend on what was before:
    from the end of any window on, the same windows follow.

    Args:
        recording: file or folder of pieces.
        duration: where the last window ends, seconds.
        seconds: length asked for.
        start: where the first window begins.

    Raises:
        VideoError: a file that can't be opened.
        InputError: a length that isn't more than 0.
    """
    if not 0 < seconds < math.inf:
        raise InputError(f"windows of {seconds:g} s; the length must be more than 0.")
    seen = thumbnails(recording, start)
    cuts = cut_times(seen, start, duration, SHORTEST * seconds, LONGEST * seconds)
    begin, end = start, None
    for cut in cuts:
        if end is not None:
            yield Window(begin, end)
            begin = end
        end = cut
    last = round(duration, DECIMALS)
    if end is not None and last - end >= SHORTEST * seconds:
        yield Window(begin, end)
        begin = end
    yield Window(begin, last)


def cut_times(seen: Iterable[Thumbnail], start: float, end: float, shortest: float, longest: float) -> Iterator[float]:
    """When the scene or the motion changes, or nothing has for too long.

    Args:
        seen: in order of time, none before `start`.
        start: where the first scene begins, seconds.
        end: where the last one ends.
        shortest: seconds from one cut to the next, at least; changes before that are passed over.
        longest: at most.

    Yields:
        Seconds, rising, each more than `start` and less than `end`.
    """
    coming, again = iter(seen), deque[Thumbnail]()
    scene = _Scene(start)
    while (thumbnail := again.popleft() if again else next(coming, None)) is not None and thumbnail.time < end:
        while (cut := round(scene.start + longest, DECIMALS)) < end and thumbnail.time >= cut - GRACE:
            scene = _Scene(cut)
            yield cut
        change = scene.look(thumbnail)
        if change is not None and (cut := round(change.time, DECIMALS)) - scene.start >= shortest:
            again.extendleft(reversed([g for g in scene.latest if g.time >= cut - GRACE]))
            scene = _Scene(cut)
            yield cut
    while (cut := round(scene.start + longest, DECIMALS)) < end:  # where pictures end before the recording does
        scene = _Scene(cut)
        yield cut


class _Scene:
    """What is known of the time since the last cut, however long that is."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.latest: deque[Thumbnail] = deque()  # the last second's
        self._motion: deque[float] = deque()  # between each of them and the one before
        self._earlier = _Mean()  # motion before that
        self._change = _Mean()  # of the histogram, since the last cut

    def look(self, thumbnail: Thumbnail) -> Thumbnail | None:
        """The thumbnail with which another scene or motion began, if by now one has."""
        if self.latest:
            before, usual = self.latest[-1], self._change.value
            self._motion.append(float(np.abs(thumbnail.picture - before.picture).mean()))
            change = float(np.abs(thumbnail.histogram - before.histogram).sum()) / 2
            self._change.add(change)
            if usual is not None and change > JUMP and change > JUMP_RATIO * usual:
                self.latest.append(thumbnail)
                return thumbnail
        self.latest.append(thumbnail)
        while thumbnail.time - self.latest[0].time > MOTION_SECONDS:
            self.latest.popleft()
            self._earlier.add(self._motion.popleft())
        return self._motion_change()

    def _motion_change(self) -> Thumbnail | None:
        """Where in the last second motion became another than it was, for at least a second, before."""
        earlier = self._earlier.value
        if earlier is None or not self._motion or self.latest[0].time - self.start < MOTION_SECONDS:
            return None
        low, high = sorted((earlier, sum(self._motion) / len(self._motion)))
        if high - low <= MOTION or high <= MOTION_RATIO * low:
            return None
        differs = (
            thumbnail for thumbnail, m in zip(self.latest, self._motion, strict=False) if abs(m - earlier) > MOTION
        )
        return next(differs, None)


class _Mean:
    """Of numbers that are not kept."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, number: float) -> None:
        self._sum += number
        self._count += 1

    @property
    def value(self) -> float | None:
        return self._sum / self._count if self._count else None

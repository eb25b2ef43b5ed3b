"""The clock of a stream: seconds from the first frame on, whatever the stream's own times do.

Frames come in the order in which they are shown, so their times rise, and by steps like those before. A damaged time stamp
goes back, or jumps ahead. A frame whose time does either waits for the ones after it: if they go on from there, the jump is
believed; if they go on from before, the frame's time was damaged, and it is left out.

What can't be told from a stream that is whole:
- a time that is wrong by less than `STEADY` usual steps;
- a jump ahead, by less than the longest that there can be, that several frames in a row share;
- the first frame's time, which all others count from, and the last one's where it is wrong by less than `LAST`;
- a frame that was lost with all trace of it, which is not counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Generic, TypeVar

from egoinstructor.video.timeline import LONGEST

Item = TypeVar("Item")

STEADY = 2.5
"""Usual steps that a time may be ahead of the one before, to be believed at once."""

LATE = 1.0
"""Seconds. Behind damage a decoder may give a frame again late, by less; a stream that counts anew goes further back."""

LAST = 10.0
"""Seconds that the last frame may be ahead of the one before, as behind a picture that stood still: none bears it out.
More, where steps were longer lately."""

_STEPS = 9
_BEAR_OUT = 3
_WAITING = 3


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Item]):
    """A frame whose time is not believed yet: that time, the longest step to it, the frame."""

    own: float
    longest: float
    item: Item


class StreamClock(Generic[Item]):
    """Gives each frame its time. Seconds never fall; the first frame is at 0.

    Where a stream counts anew, or jumps further ahead than can be, the next frame follows the last one as if no more
    were missing than what was left out. At most three frames wait.

    Args:
        rate: frames per second; what is usual is measured as frames come.
    """

    def __init__(self, rate: float) -> None:
        self.left_out = 0
        """Frames that are damaged, or whose times are."""
        self._steps = deque([1 / rate], _STEPS)  # the last ones
        self._waiting: deque[_Waiting[Item]] = deque()  # of rising times
        self._own: float | None = None  # the stream's own time of the frame that was given last
        self._last: float | None = None  # when it is shown
        self._shift: float | None = None  # from the one to the other; None: to be found
        self._since = 0  # frames left out after it
        self._from = 0.0

    def leave_out(self) -> None:
        """Count a frame that is damaged."""
        self.left_out += 1
        self._since += 1

    def take(self, own: float | None, item: Item, longest: float = LONGEST) -> Iterator[tuple[float, Item]]:
        """The next frame: gives those whose times are known with it.

        Args:
            own: when it is shown by the stream's own times, seconds; None where it has none.
            item: the frame.
            longest: seconds that it can be ahead of the one before.
        """
        if own is None:
            while self._waiting:
                yield self._place_waiting()
            yield self._place(None, item, longest)
            return
        self._put_right(own)
        now = _Waiting(own, longest, item)
        if self._waiting:
            self._waiting.append(now)
            borne_out = self._borne_out()
            while self._waiting and (borne_out or len(self._waiting) > _WAITING or self._ahead(self._waiting[0])):
                yield self._place_waiting()
        elif self._ahead(now):
            yield self._place(own, item, longest)
        elif self._own is not None and -LATE < own - self._own < 0:
            self.leave_out()
        else:
            self._waiting.append(now)

    def end(self) -> Iterator[tuple[float, Item]]:
        """The stream is over, or was lost: gives what waits, unless its time can't be believed."""
        while self._waiting:
            assert self._own is not None
            followed = len(self._waiting) > 1 and self._steady(self._waiting[1].own - self._waiting[0].own)
            if followed or 0 <= self._waiting[0].own - self._own <= max(LAST, *self._steps):
                yield self._place_waiting()
            else:
                self._waiting.popleft()
                self.leave_out()

    def resume(self, seconds: float) -> None:
        """The next frame comes so long after the first one, by the clock; the stream counts anew."""
        self._from, self._own, self._shift, self._since = seconds, None, None, 0

    def _put_right(self, own: float) -> None:
        """Leave out what waits and is out of order, as a frame at `own` tells."""
        waiting = self._waiting
        while waiting and own < waiting[-1].own:
            waiting.pop()
            self.leave_out()
        while waiting and self._own is not None and waiting[0].own < self._own <= own:
            waiting.popleft()
            self.leave_out()

    def _borne_out(self) -> bool:
        """Whether the last ones that wait go on steadily: damage is seldom shared by so many."""
        if len(self._waiting) < _BEAR_OUT:
            return False
        last = [waiting.own for waiting in self._waiting][-_BEAR_OUT:]
        return all(self._steady(late - early) for early, late in pairwise(last))

    def _ahead(self, waiting: _Waiting[Item]) -> bool:
        """Whether it goes on from the last frame that was given."""
        return self._own is None or self._steady(waiting.own - self._own)

    def _steady(self, step: float) -> bool:
        return 0 <= step <= STEADY * median(self._steps)

    def _place_waiting(self) -> tuple[float, Item]:
        waiting = self._waiting.popleft()
        return self._place(waiting.own, waiting.item, waiting.longest)

    def _place(self, own: float | None, item: Item, longest: float) -> tuple[float, Item]:
        following = self._from
        if self._last is not None:
            following = max(self._last + (1 + self._since) * median(self._steps), self._from)
        seconds = following
        if own is not None:
            jumped = self._own is not None and not 0 <= own - self._own <= longest
            if self._shift is None or jumped:
                self._shift = following - own
            seconds = max(own + self._shift, self._last or 0.0)  # one without a time may have been put after this one
            self._own = own
        if self._last is not None and seconds > self._last:
            self._steps.append(seconds - self._last)
        self._last, self._since = seconds, 0
        return seconds, item

"""What is said of windows → segments: overlaps are split, what is not sure enough is left out, neighbours are merged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from egoinstructor.narration.captions import Line, Segment, Skipped, WindowCaption
from egoinstructor.narration.windows import DECIMALS

MOST_REFERENCES = 8
"""Kept of a merged segment, the best; a still scene could otherwise gather thousands."""


class Merger:
    """Takes windows in order; gives each segment when it is settled, and remembers nothing else.

    Of two windows that overlap, each stands for its own half of the overlap. Neighbours that say the same (but for case,
    spacing and a full stop) become one segment: its references are the best of all of theirs, its score and confidence
    their means, weighted by time.

    Args:
        threshold: nothing is said of a window whose confidence is below; None for no such limit.
        merge: whether neighbours are merged.
    """

    def __init__(self, threshold: float | None = None, *, merge: bool = True) -> None:
        self._threshold = threshold
        self._merge = merge
        self._waiting: tuple[WindowCaption, float] | None = None  # the window before, and from when on it is its own
        self._open: Line | None = None
        self.windows = 0
        self.captions = 0
        self.silent = 0
        self.merged = 0
        self.skipped = 0

    def take(self, told: WindowCaption) -> Iterator[Line]:
        """The segments that are settled by the next window."""
        start = told.window.start
        if self._waiting is not None:
            before, since = self._waiting
            overlap = before.window.end - start
            start = round(start + max(overlap, 0.0) / 2, DECIMALS)
            yield from self._settle(before, since, before.window.end if overlap < 0 else start)
        self._waiting = (told, start)
        self.windows += 1

    def close(self) -> Iterator[Line]:
        """The segments that are settled by there being no more windows."""
        if self._waiting is not None:
            told, since = self._waiting
            self._waiting = None
            yield from self._settle(told, since, told.window.end)
        yield from self._finish()

    def _settle(self, told: WindowCaption, start: float, end: float) -> Iterator[Line]:
        """One window that stands for this stretch."""
        if told.skipped is not None:
            self.skipped += 1
            if isinstance(self._open, Skipped) and self._open.end == start:
                self._open = replace(self._open, end=end, windows=self._open.windows + 1)
                return
            yield from self._finish()
            self._open = Skipped(start, end, told.skipped)
        elif not any(map(str.isalnum, told.caption)) or self._unsure(told):
            self.silent += 1
            yield from self._finish()
        else:
            segment = Segment(start, end, told.caption, told.score, told.confidence, told.references)
            if self._merge and isinstance(self._open, Segment) and _says_the_same(self._open, segment):
                self.merged += 1
                self._open = _joined(self._open, segment)
                return
            yield from self._finish()
            self.captions += 1
            self._open = segment

    def _unsure(self, told: WindowCaption) -> bool:
        return self._threshold is not None and (told.confidence is None or told.confidence < self._threshold)

    def _finish(self) -> Iterator[Line]:
        if self._open is not None:
            yield self._open
        self._open = None


def _says_the_same(first: Segment, then: Segment) -> bool:
    return first.end == then.start and normalised(first.caption) == normalised(then.caption)


def normalised(caption: str) -> str:
    """What two captions that say the same have in common."""
    return re.sub(r"\s+", " ", caption).strip(" .").casefold()


def _joined(first: Segment, then: Segment) -> Segment:
    share = (then.end - then.start) / (then.end - first.start)
    return Segment(
        first.start,
        then.end,
        first.caption,
        _mean(first.score, then.score, share),
        _mean(first.confidence, then.confidence, share),
        _best((*first.references, *then.references)),
    )


def _mean(first: float | None, then: float | None, share: float) -> float | None:
    return None if first is None or then is None else first + (then - first) * share


def _best(references: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Each clip once with its best score, best first."""
    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    for reference in sorted(references, key=_score, reverse=True):
        best.setdefault((reference["video"], reference["start"], reference["end"], reference["narration"]), reference)
    return tuple(best.values())[:MOST_REFERENCES]


def _score(reference: dict[str, Any]) -> float:
    return float("-inf") if reference["score"] is None else reference["score"]

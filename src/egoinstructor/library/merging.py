"""Cues → clips of a few seconds that begin and end where a sentence or a pause does: pure arithmetic.

Subtitles are cut by what fits on a screen. A clip should hold one saying and the action that goes with it, and be long
enough to show one. Among all ways to join neighbouring cues, the one with the least cost is found, border by border.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from egoinstructor.errors import InputError
from egoinstructor.library.subtitles import Cue

_SENTENCE_END = re.compile(r"[.?!…。？！][\"'”’»)\]]*$")

PAUSE = 0.6  # seconds; a silence as good as a full stop
TARGET = 4.0  # seconds; HowTo100M's clips last so long on average
# Costs. A second of silence within a clip, above PAUSE, costs 1.
LENGTH = 0.5  # of a second away from TARGET
WIDENED = 1.5  # of a second of silence that a short clip is widened by
WITHIN_SENTENCE = 1.5  # of a border within a sentence, where there is no pause
IMPOSSIBLE = 1e3  # of a clip that is too short, with no silence around it to widen it


@dataclass(frozen=True, slots=True)
class Merging:
    """How long clips may be, in seconds.

    Args:
        shortest: below this, cues are joined, or the clip is widened into the silence around it.
        longest: above this, cues are not joined. A single cue may last longer.

    Raises:
        InputError: not `0 < shortest <= longest`.
    """

    shortest: float = 2.0
    longest: float = 8.0

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 < self.shortest <= self.longest:
            raise InputError(f"clips of {self.shortest} to {self.longest} s: give lengths above 0, the shorter first.")


def merge_cues(cues: Sequence[Cue], duration: float, merging: Merging | None = None) -> list[Cue]:
    """Join cues to clips. Every word is in exactly one clip, in order; clips don't overlap.

    A clip is longer than allowed only if it is a single cue, and shorter only where both its neighbours are too near
    and too long to give or take anything.

    Args:
        cues: sorted by start, each longer than 0 s; they may overlap.
        duration: of the video: no clip is widened beyond it.
        merging: how long clips may be.
    """
    limits = merging or Merging()
    pieces = _apart(cues)
    count = len(pieces)
    # Half of the silence on each side of a piece is its own, to be widened into.
    floor = [0.0, *((a.end + b.start) / 2 for a, b in pairwise(pieces))]
    ceiling = [*floor[1:], max(duration, pieces[-1].end)] if pieces else []
    best, cut = [0.0], [0]  # least cost of the first i pieces, and where their last clip begins
    for end in range(1, count + 1):
        costs = []
        silence = 0.0  # of the pauses within the clip, what is above PAUSE each
        for begin in range(end - 1, -1, -1):
            if begin < end - 1:
                if pieces[end - 1].end - pieces[begin].start > limits.longest:
                    break
                silence += max(pieces[begin + 1].start - pieces[begin].end - PAUSE, 0.0)
            room = ceiling[end - 1] - floor[begin]
            cost = best[begin] + silence + _cost(pieces[begin].start, pieces[end - 1].end, room, limits)
            costs.append((cost, -begin))  # of equals, the shortest
        cost, begin = min(costs)
        best.append(cost + _border(pieces, end))
        cut.append(-begin)
    clips = []
    end = count
    while end:
        begin = cut[end]
        clips.append(_clip(pieces[begin:end], floor[begin], ceiling[end - 1], limits.shortest))
        end = begin
    return clips[::-1]


def _apart(cues: Sequence[Cue]) -> list[Cue]:
    """Cues that don't overlap: one ends where the next begins, and those that begin together are one."""
    pieces: list[Cue] = []
    for cue in cues:
        if pieces and cue.start <= pieces[-1].start:
            before = pieces.pop()
            cue = Cue(before.start, max(before.end, cue.end), f"{before.text} {cue.text}")
        elif pieces and cue.start < pieces[-1].end:
            pieces[-1] = replace(pieces[-1], end=cue.start)
        pieces.append(cue)
    return pieces


def _cost(start: float, end: float, room: float, limits: Merging) -> float:
    """What a clip costs by its length, and by the silence that it has to be widened into."""
    lacking = max(limits.shortest - (end - start), 0.0)
    cost = lacking * WIDENED + LENGTH * abs(end - start + lacking - TARGET)
    return cost if room >= limits.shortest else cost + IMPOSSIBLE


def _border(pieces: Sequence[Cue], at: int) -> float:
    """What it costs that a clip begins with a piece: nothing after a full stop, and less the longer the pause is."""
    if at == len(pieces) or _SENTENCE_END.search(pieces[at - 1].text):
        return 0.0
    return WITHIN_SENTENCE * max(1 - (pieces[at].start - pieces[at - 1].end) / PAUSE, 0.0)


def _clip(pieces: Sequence[Cue], floor: float, ceiling: float, shortest: float) -> Cue:
    """The clip of some pieces, widened evenly where it is too short; to the millisecond, as a clip's id counts."""
    start, end = pieces[0].start, pieces[-1].end
    lacking = max(shortest - (end - start), 0.0)
    after = min(max(lacking / 2, lacking - (start - floor)), ceiling - end)
    start = max(start - (lacking - after), floor) if lacking else start
    return Cue(round(start, 3), round(end + after if lacking else end, 3), " ".join(piece.text for piece in pieces))

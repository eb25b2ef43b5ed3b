"""What every source gives: videos with rows of times and words, and what it could not use. Rows → clips is arithmetic."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from egoinstructor.errors import InputError
from egoinstructor.library.merging import Merging, merge_cues
from egoinstructor.library.speech import spoken
from egoinstructor.library.subtitles import Cue
from egoinstructor.video.sampling import END_SLACK

FORMAT = 2  # raise it when the same rows and settings would give other clips
_NO_CHARACTER = re.compile(r"[\ud800-\udfff]")  # how Python reads the bytes of a file's name that is not UTF-8


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should know of.

    Args:
        kind: "failure" for a file or clip that can't be read, "row" for a row that was left out or cut, "note" for what
            was guessed or left aside without loss.
        video: the file, as the source names it.
        where: the place: a line, or the times of a clip; "" for all of it.
        reason: what is wrong.
    """

    kind: Literal["failure", "row", "note"]
    video: str
    where: str
    reason: str

    def __post_init__(self) -> None:
        """Make it text that can be printed and kept: it may speak of a file whose name is not UTF-8."""
        for name in ("video", "where", "reason"):
            object.__setattr__(self, name, _NO_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", getattr(self, name)))

    def __str__(self) -> str:
        """One line."""
        return ": ".join(part for part in (self.video, self.where, self.reason) if part)


@dataclass(frozen=True, slots=True)
class Row:
    """A span of a video with what is said in it; a time that is None is the video's own start or end."""

    start: float | None
    end: float | None
    narration: str
    refined: str = ""
    where: str = ""


@dataclass(frozen=True, slots=True, order=True)
class SourceClip:
    """A span that is to be a clip of the library, times to the millisecond."""

    start: float
    end: float
    narration: str = ""
    refined: str = ""


@dataclass(frozen=True, slots=True)
class SourceVideo:
    """A video and the rows that belong to it.

    Args:
        source: the collection that it is of.
        video: its file, relative to the source's root; absolute only where that was allowed.
        rows: in any order.
        merging: rows are subtitle cues, to be joined to clips so long; None for rows that are clips.
        window: seconds; length of the clips of a video in which nothing is said. None for no such clips.
        notes: what is known of its rows already.
    """

    source: str
    video: str
    rows: tuple[Row, ...]
    merging: Merging | None = None
    window: float | None = None
    notes: tuple[Finding, ...] = ()

    @property
    def fingerprint(self) -> str:
        """A digest of all that decides its clips, but for the video itself."""
        rows = [(row.start, row.end, row.narration, row.refined) for row in self.rows]
        decides = (FORMAT, rows, self.merging and astuple(self.merging), self.window)
        return hashlib.blake2b(repr(decides).encode(errors="surrogatepass"), digest_size=16).hexdigest()

    def clips(self, duration: float, first: float = 0.0) -> tuple[list[SourceClip], list[Finding]]:
        """The clips of the video, in order; and the rows that were left out or cut.

        Args:
            duration: of the video, in seconds.
            first: when its first picture is shown, in seconds.
        """
        kept: list[SourceClip] = []
        findings = list(self.notes)
        wordless = 0
        for given in self.rows:
            row = replace(given, narration=spoken(given.narration), refined=spoken(given.refined))
            if (given.narration or given.refined) and not (row.narration or row.refined):
                wordless += 1  # no clip: of those without words, nothing was written down to begin with
                continue
            try:
                fitted, reason = _fit(row, duration, first)
            except InputError as error:
                findings.append(Finding("row", self.video, row.where, because(error, "")))
                continue
            if reason:
                findings.append(Finding("row", self.video, row.where, reason))
            kept.append(fitted)
        if wordless:
            reason = f"{wordless} rows without words, such as [Music]; left out"
            findings.append(Finding("note", self.video, "", reason))
        kept.sort()
        if self.merging is not None:
            cues = [Cue(clip.start, clip.end, clip.narration) for clip in kept if clip.narration]
            kept = [SourceClip(cue.start, cue.end, cue.text) for cue in merge_cues(cues, duration, self.merging)]
        if not kept and self.window is not None:
            kept = [SourceClip(start, end) for start, end in windows(duration, self.window, first)]
        return kept, findings


class Source(Protocol):
    """Videos under one root."""

    @property
    def root(self) -> Path:
        """The folder that the videos' paths start from."""

    def __len__(self) -> int:
        """Number of videos."""

    def __iter__(self) -> Iterator[SourceVideo | Finding]:
        """The videos, and what can't be used."""


def _fit(row: Row, duration: float, first: float) -> tuple[SourceClip, str]:
    """A row as a clip that lies in the video, and why it was cut, if it was.

    Raises:
        InputError: it can't be made to.
    """
    start = 0.0 if row.start is None else row.start
    end = duration if row.end is None else row.end
    if not (math.isfinite(start) and math.isfinite(end)) or start < 0:
        raise InputError(f"from {start:g} to {end:g} s: a time must be a number of 0 or more seconds")
    if start >= end:
        raise InputError(f"from {start:g} to {end:g} s: its end must lie after its start")
    if end <= first:
        raise InputError(f"to {end:g} s: the first picture is shown at {first:.2f} s")
    if start >= duration:
        raise InputError(f"from {start:g} s: the video ends at {duration:.2f} s")
    reason = f"to {end:g} s: cut to the end of the video at {duration:.2f} s" if end > duration + END_SLACK else ""
    start, end = round(start, 3), math.floor(min(end, duration) * 1000 + 1e-6) / 1000
    if start >= end:
        raise InputError(f"from {start:g} s: nothing of it lies in the video, which ends at {duration:.3f} s")
    return SourceClip(start, end, row.narration, row.refined), reason


def windows(duration: float, length: float, first: float = 0.0) -> list[tuple[float, float]]:
    """Spans of equal length; a rest of less than half of it goes with the last one.

    Args:
        duration: of the video, seconds.
        length: of a span, seconds; a shorter video is one span.
        first: when the first picture is shown; spans start there if that is more than `END_SLACK` after 0.
    """
    start = first if first > END_SLACK else 0.0
    count = max(math.floor((duration - start) / length + 0.5), 1)
    end = math.floor(duration * 1000) / 1000
    borders = [round(start + i * length, 3) for i in range(count)]
    return list(zip(borders, [*borders[1:], end], strict=True)) if end > 0 else []


def clean(text: str) -> str:
    """Words with single spaces between them."""
    return " ".join(text.split())


def because(error: Exception, where: str) -> str:
    """An error's message without the place, which a finding names by itself."""
    return f"{str(error).removeprefix(where).lstrip(' .:').rstrip('.')}; left out"

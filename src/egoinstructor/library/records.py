"""What is in a library, and what a search finds."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

from egoinstructor.errors import InputError
from egoinstructor.records import Clip


@dataclass(frozen=True, slots=True)
class ClipEntry:
    """A how-to clip as a library keeps it, without its vectors.

    Args:
        video: its file, relative to the root of its source, with forward slashes; absolute only where that was allowed.
        start: seconds.
        end: seconds, above `start`.
        narration: what is said; "" where nothing is.
        refined: the narration as somebody rewrote it for reading, "" if nobody did; a caption's references use it first.
        source: the name of the collection that it came from.
        video_digest: digest of the file's content.

    Raises:
        InputError: times that a `Clip` refuses.
    """

    video: str
    start: float
    end: float
    narration: str
    source: str
    video_digest: str
    refined: str = ""

    def __post_init__(self) -> None:
        """Check the times."""
        Clip(self.video, self.start, self.end)  # type: ignore[arg-type]  # Clip makes a path of a string

    @property
    def id(self) -> str:
        """A key of the content: the same clip of the same video with the same words has the same id wherever it lies."""
        said = "\0".join((self.video_digest, f"{self.start:.3f}", f"{self.end:.3f}", self.narration, self.refined))
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()

    @property
    def text(self) -> str:
        """What a prompt shows: the refined narration, or the narration."""
        return self.refined or self.narration


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """What an ingest has finished with: one video.

    Args:
        source: name of the collection.
        video: path of the file in it, as `ClipEntry.video`.
        digest: of the file's content; "" where it couldn't be read.
        fingerprint: of the rows and settings that its clips were made by: another one means that it is to be done anew.
        clips: how many clips of it are in the library.
        error: why there are none, or why some are missing; "" if nothing went wrong.
        stamp: size and time of change that the file had when its digest was taken, so that it need not be read again.
    """

    source: str
    video: str
    digest: str
    fingerprint: str
    clips: int
    error: str = ""
    stamp: str = ""

    @property
    def key(self) -> str:
        """What tells it from the others: source and video."""
        return hashlib.blake2b(f"{self.source}\0{self.video}".encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Hit:
    """A clip that a search found.

    Args:
        entry: the clip.
        score: similarity to the query, of which the results are ordered.
        video_score: cosine of the query with the clip's video, where the query has a vector.
        narration_score: cosine of the query with the clip's narration, where both have a vector.
        text_rank: place among the full-text matches from 1, where a text was searched for and matched.
    """

    entry: ClipEntry
    score: float
    video_score: float | None = None
    narration_score: float | None = None
    text_rank: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        entry = self.entry
        return {
            "id": entry.id,
            "video": entry.video,
            "start": entry.start,
            "end": entry.end,
            "narration": entry.narration,
            "refined": entry.refined,
            "source": entry.source,
            "score": self.score,
            "video_score": self.video_score,
            "narration_score": self.narration_score,
            "text_rank": self.text_rank,
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """Which clips a search may find.

    Args:
        sources: only of these collections; empty for all.
        min_seconds: not shorter.
        max_seconds: not longer.
        contains: only clips in whose narration, or refined narration, this text stands, in any case.
        narrated: only clips in which something is said.
        exclude_digests: never clips of these videos, by the digest of their content.
        videos: only of these files, as `ClipEntry.video`; empty for all.

    Raises:
        InputError: a duration that is none, or a shortest above the longest.
    """

    sources: tuple[str, ...] = ()
    min_seconds: float | None = None
    max_seconds: float | None = None
    contains: str | None = None
    narrated: bool = False
    exclude_digests: tuple[str, ...] = field(default=(), repr=False)
    videos: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Check the range."""
        for name, seconds in (("min_seconds", self.min_seconds), ("max_seconds", self.max_seconds)):
            if seconds is not None and not 0 <= seconds < math.inf:
                raise InputError(f"{name}={seconds}; it must be 0 or more seconds.")
        if self.min_seconds is not None and self.max_seconds is not None and self.min_seconds > self.max_seconds:
            raise InputError(f"min_seconds={self.min_seconds} is above max_seconds={self.max_seconds}; give a range.")

"""Plain records of the service's inputs and answers, shared by the page and the API."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from egoinstructor.errors import InputError

OWN = "upload"
"""The source of a reference that the user brought."""

MAX_SHOTS = 16
MAX_OWN = 8
MAX_BEAMS = 8
MAX_HITS = 100
MAX_TEXT = 1000
MAX_NARRATIONS = 100


@dataclass(frozen=True, slots=True)
class FoundClip:
    """A how-to clip: a hit of a search, or a reference of a caption.

    Args:
        id: of the library's clip; of a user's own reference, the id of its upload.
        narration: what is said in it.
        score: similarity to the query, where the library was searched with it.
        start: seconds.
        end: seconds; None for the end of the video.
        source: name of the collection, or `OWN`.
        video: name of the video, without folders: to show, not to open.
        playable: whether the library's video is there in a form that browsers play.
    """

    id: str
    narration: str
    score: float | None
    start: float | None
    end: float | None
    source: str
    video: str
    playable: bool

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class OwnReference:
    """A how-to clip of the user's own: an upload, and what is said in it."""

    upload: str
    narration: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """A caption, and how it came about.

    Args:
        caption: the text.
        score: mean natural-log probability of its tokens.
        confidence: probability that it is right; None for a model that is not calibrated.
        references: what the model read, most relevant first.
        seconds: from the request to the answer.
    """

    caption: str
    score: float | None
    confidence: float | None
    references: tuple[FoundClip, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Narration:
    """What is said in a span of a video, for the library.

    Raises:
        InputError: times that are no span, or nothing said.
    """

    start: float
    end: float
    text: str

    def __post_init__(self) -> None:
        """Check it."""
        if not (math.isfinite(self.start) and math.isfinite(self.end)) or not 0 <= self.start < self.end:
            raise InputError(f"from {self.start:g} to {self.end:g} s: the start must be 0 or more, the end after it.")
        if not self.text.strip():
            raise InputError(f"nothing is said from {self.start:g} to {self.end:g} s; give a narration in words.")


@dataclass(frozen=True, slots=True)
class AddReport:
    """What became of a video for the library: the ids of its clips, and how many of them were new."""

    clips: tuple[str, ...]
    added: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def check_range(name: str, value: int, least: int, most: int) -> None:
    """Refuse a number that is out of its range.

    Raises:
        InputError: naming it.
    """
    if not least <= value <= most:
        raise InputError(f"{name} is {value}; it must lie between {least} and {most}.")


def check_text(name: str, text: str) -> None:
    """Refuse a text that is too long.

    Raises:
        InputError: naming it.
    """
    if len(text) > MAX_TEXT:
        raise InputError(f"{name} has {len(text)} characters; at most {MAX_TEXT} are taken.")

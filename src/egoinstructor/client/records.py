"""What goes between the client and the server: videos, how-to clips, captions, narrations."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Video:
    """A video that the server has: what it is, and the id by which it is named."""

    id: str
    name: str
    bytes: int
    duration: float
    width: int
    height: int
    fps: float
    num_frames: int
    codec: str


@dataclass(frozen=True, slots=True)
class FoundClip:
    """A how-to clip.

    Args:
        id: of the library's clip; of a reference of one's own, of its video.
        narration: what is said in it.
        score: similarity to the query, where there is one.
        start: seconds.
        end: seconds; None for the end of the video.
        source: name of the collection, or `upload`.
        video: name of the video.
        playable: whether the server can show it.
    """

    id: str
    narration: str
    score: float | None
    start: float | None
    end: float | None
    source: str
    video: str
    playable: bool


@dataclass(frozen=True, slots=True)
class CaptionResult:
    """A caption.

    Args:
        caption: the text.
        score: mean natural-log probability of its tokens.
        confidence: probability that it is right; None where the model is not calibrated.
        references: what the model read, most relevant first.
        seconds: the server took.
    """

    caption: str
    score: float | None
    confidence: float | None
    references: tuple[FoundClip, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class OwnReference:
    """A how-to clip of one's own: a video that was sent, and what is said in it."""

    video: str
    narration: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Narration:
    """How far a narration is.

    Args:
        id: to ask for it again.
        state: where it stands.
        progress: from 0 to 1.
        eta: seconds that are left, where that can be told.
        speed: seconds of the recording narrated in a second.
        captions: how many there are so far.
        error: why it failed.
    """

    id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    progress: float
    eta: float | None
    speed: float | None
    captions: int
    error: str

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.state not in ("queued", "running")


@dataclass(frozen=True, slots=True)
class Health:
    """What the server has.

    Args:
        status: "ok".
        version: of egoinstructor.
        model: as it was named.
        library: whether there is one.
        writable: whether videos can be added to it.
        calibrated: whether captions have a confidence.
        waiting: requests that wait for the model.
    """

    status: str
    version: str
    model: str
    library: bool
    writable: bool
    calibrated: bool
    waiting: int


def record(kind: type[Record], values: dict[str, Any]) -> Record:
    """An answer as a record; what a newer server adds is passed over."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]  # they are dataclasses
    return kind(**{name: value for name, value in values.items() if name in names})

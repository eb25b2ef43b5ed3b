"""What flows through the system: frames, a clip of a video, a reference, a caption.

Frozen dataclasses that validate themselves. They know nothing of files' contents, models or tokens, and importing them
imports neither numpy nor torch.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egoinstructor.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True, eq=False)
class Frames:
    """Decoded frames of one clip, upright, in display order; and a video in memory, wherever one is asked for.

    They may be few of many, each with its own time. Arrays are not copied: don't write into them afterwards.

    Args:
        pixels: uint8 RGB `(F, H, W, 3)`.
        timestamps: seconds from the start of the video `(F,)`, never decreasing.
        indices: position of each frame in the video, counted from 0 in display order `(F,)`.
        source: the video as a message names it.

    Raises:
        InputError: shapes or types that don't belong together.
    """

    pixels: np.ndarray
    timestamps: np.ndarray
    indices: np.ndarray
    source: str

    def __post_init__(self) -> None:
        """Check shapes and types."""
        shape = self.pixels.shape
        if self.pixels.dtype.name != "uint8" or len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise InputError(
                f"frames of {self.source}: {self.pixels.dtype} {shape}; they must be uint8 of shape (F, H, W, 3), F >= 1."
            )
        if not (self.timestamps.shape == self.indices.shape == shape[:1]):
            raise InputError(
                f"frames of {self.source}: {shape[0]} frames with {self.timestamps.shape} timestamps "
                f"and {self.indices.shape} indices; there must be one of each for every frame."
            )

    def __len__(self) -> int:
        """Number of frames F."""
        return int(self.pixels.shape[0])

    @cached_property
    def digest(self) -> str:
        """Of pixels and times: the same for the same frames, whatever the video's name. Computed once."""
        digest = hashlib.blake2b(f"{self.pixels.shape} {self.timestamps.dtype}".encode(), digest_size=16)
        for array in (self.pixels, self.timestamps):
            digest.update(array.data if array.flags.c_contiguous else array.tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        """Shapes, not numbers."""
        return (
            f"Frames({self.source}, {tuple(self.pixels.shape)}, "
            f"{float(self.timestamps[0]):.2f}s–{float(self.timestamps[-1]):.2f}s)"
        )


EncodedVideo = Path | bytes
"""A video file, a folder of fixed-length pieces (Ego4D), or an encoded video in memory."""

VideoSource = EncodedVideo | Frames
"""A video: encoded, or frames of it that are decoded already."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A span of one video, in seconds; without `start` and `end`, the whole of it.

    Of `Frames` the times count as their `timestamps` do: from the start of the video that they were cut from.

    Raises:
        InputError: a time that is negative or not finite, or `start >= end`.
    """

    video: VideoSource
    start: float | None = None
    end: float | None = None

    def __post_init__(self) -> None:
        """Accept a path as a string, and check the times."""
        object.__setattr__(self, "video", as_source(self.video))
        for name, seconds in (("start", self.start), ("end", self.end)):
            if seconds is not None and (not math.isfinite(seconds) or seconds < 0):
                raise InputError(f"{name}={seconds} of {self.name}: a time must be 0 or more seconds.")
        if self.end is not None and (self.start or 0.0) >= self.end:
            raise InputError(
                f"start={self.start or 0.0} and end={self.end} of {self.name}: the start must lie before the end."
            )

    @property
    def name(self) -> str:
        """The video as a message names it."""
        return source_name(self.video)

    def __repr__(self) -> str:
        """Name and span."""
        if self.start is None and self.end is None:
            return f"Clip({self.name})"
        return f"Clip({self.name}, {self.start or 0.0:g}s–{'end' if self.end is None else f'{self.end:g}s'})"


@dataclass(frozen=True, slots=True)
class Reference:
    """An exocentric how-to clip with what is said in it: one in-context example.

    Args:
        video: the file, the encoded bytes, or frames.
        narration: what is said.
        start: seconds, or None for the start of the video.
        end: seconds, or None for its end.
        score: similarity to the query, where a retriever gave one.
        latents: what the captioner's vision side made of the clip `(L, V)`, where it is at hand: the clip is then not
            decoded again.

    Raises:
        InputError: an empty narration, or times that a `Clip` refuses.
    """

    video: VideoSource
    narration: str
    start: float | None = None
    end: float | None = None
    score: float | None = None
    latents: torch.Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Accept a path as a string; check times and narration."""
        object.__setattr__(self, "video", self.clip.video)
        if not isinstance(self.narration, str) or not self.narration.strip():
            raise InputError(
                f"narration {self.narration!r} of {self.clip.name}: a reference needs a narration in words."
            )

    @property
    def clip(self) -> Clip:
        """Where the reference is seen."""
        return Clip(self.video, self.start, self.end)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything but the latents."""
        return {
            "video": self.clip.name,
            "start": self.start,
            "end": self.end,
            "narration": self.narration,
            "score": self.score,
        }


@dataclass(frozen=True, slots=True)
class Dropped:
    """A how-to clip that could have been a reference and was not read, with the reason."""

    clip: Clip
    narration: str
    reason: str
    score: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "video": self.clip.name,
            "start": self.clip.start,
            "end": self.clip.end,
            "narration": self.narration,
            "score": self.score,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption and what it was written from.

    Args:
        text: the caption.
        clip: the egocentric clip.
        references: the references that the model read, most relevant first.
        dropped: references that were given or found but not read, each with the reason.
        prompt: the text that the model read, `<image>` standing for each clip.
        score: mean natural-log probability of the caption's tokens, its end included: 0 at best.
        confidence: probability that the caption is right, between 0 and 1; None where the model is not calibrated.
    """

    text: str
    clip: Clip
    references: tuple[Reference, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    prompt: str = field(default="", repr=False)
    score: float | None = None
    confidence: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "caption": self.text,
            "video": self.clip.name,
            "start": self.clip.start,
            "end": self.clip.end,
            "score": self.score,
            "confidence": self.confidence,
            "references": [reference.as_dict() for reference in self.references],
            "dropped": [dropped.as_dict() for dropped in self.dropped],
        }


def as_source(video: str | os.PathLike[str] | bytes | Frames) -> VideoSource:
    """A path as `Path`, bytes and frames as they are.

    Raises:
        InputError: something else.
    """
    if isinstance(video, bytes | Frames):
        return video
    if isinstance(video, str | os.PathLike):
        return Path(video)
    raise InputError(
        f"video {video!r} is a {type(video).__name__}; give a path, the bytes of an encoded video, or Frames."
    )


def source_name(source: VideoSource) -> str:
    """A video as a message names it."""
    if isinstance(source, Frames):
        return source.source
    return f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source)

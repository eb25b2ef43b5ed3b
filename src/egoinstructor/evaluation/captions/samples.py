"""What is captioned: the samples of a split, as metadata has them, and the how-to clips that may be their references."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from egoinstructor.library.records import ClipEntry
from egoinstructor.records import Clip, Reference

Shown = tuple[Path, float | None, float | None, str]
"""A how-to clip's video, times and narration."""


class Segment(Protocol):
    """A part of a video; times are None for the whole."""

    @property
    def id(self) -> str:
        """A name of its own."""

    @property
    def video(self) -> Path:
        """A file, or a folder of pieces."""

    @property
    def start(self) -> float | None:
        """Seconds."""

    @property
    def end(self) -> float | None:
        """Seconds."""


class HowTo(Segment, Protocol):
    """A how-to clip with its words."""

    @property
    def narration(self) -> str:
        """What is said."""


class Sample(Segment, Protocol):
    """An egocentric clip with what a person wrote of it."""

    @property
    def instruction(self) -> str:
        """What the prompt asks."""

    @property
    def answer(self) -> str:
        """What a caption is compared with."""

    @property
    def references(self) -> Sequence[HowTo]:
        """The references that the metadata lists, best first."""


@dataclass(frozen=True, slots=True)
class PooledClip:
    """A `HowTo` out of a library."""

    id: str
    video: Path
    start: float | None
    end: float | None
    narration: str
    entry: ClipEntry


def clip_of(sample: Sample) -> Clip:
    """Where a sample is seen.

    Raises:
        InputError: impossible times.
    """
    return Clip(sample.video, sample.start, sample.end)


def reference_of(how_to: HowTo) -> Reference:
    """A how-to clip as the captioner reads it.

    Raises:
        InputError: impossible times, or no words.
    """
    return Reference(how_to.video, how_to.narration, how_to.start, how_to.end)


def pool_of(samples: Sequence[Sample]) -> list[HowTo]:
    """Every how-to clip that any sample lists, once, in order, whatever ids it goes by."""
    pool: dict[Shown, HowTo] = {}
    for sample in samples:
        for how_to in sample.references:
            pool.setdefault(shown(how_to), how_to)
    return list(pool.values())


def shown(how_to: HowTo) -> Shown:
    """What a prompt shows of a how-to clip. A JSONL gives a clip another id for each sample that lists it."""
    return how_to.video, how_to.start, how_to.end, how_to.narration


def digest(samples: Sequence[Sample]) -> str:
    """What tells one set of samples from another: ids, times and texts, wherever the videos lie."""
    found = hashlib.blake2b(digest_size=16)
    for sample in samples:
        row = [sample.id, sample.video.name, sample.start, sample.end, sample.instruction, sample.answer]
        listed = [[r.id, r.video.name, r.start, r.end, r.narration] for r in sample.references]
        found.update(json.dumps([row, listed], ensure_ascii=False).encode() + b"\n")
    return found.hexdigest()

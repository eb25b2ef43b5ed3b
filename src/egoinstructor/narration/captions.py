"""Records of a narration: the caption of each window, and the segments that windows are merged to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from egoinstructor.narration.windows import Window


@dataclass(frozen=True, slots=True)
class WindowCaption:
    """What was made of one window, before anything is merged or left out.

    Args:
        window: where it is.
        caption: what the model says.
        score: mean natural-log probability of the caption's tokens.
        confidence: calibrated; None for a model without calibration.
        references: those that the model read, as `Reference.as_dict` has them, most relevant first.
        skipped: why the window could not be read; None where it was.
    """

    window: Window
    caption: str = ""
    score: float | None = None
    confidence: float | None = None
    references: tuple[dict[str, Any], ...] = ()
    skipped: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        times = {"start": self.window.start, "end": self.window.end}
        if self.skipped is not None:
            return times | {"skipped": self.skipped}
        return times | {
            "caption": self.caption,
            "score": self.score,
            "confidence": self.confidence,
            "references": list(self.references),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WindowCaption:
        """What `as_dict` made."""
        window = Window(values["start"], values["end"])
        if "skipped" in values:
            return cls(window, skipped=values["skipped"])
        return cls(
            window, values["caption"], values["score"], values["confidence"], references=tuple(values["references"])
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """A caption and the time that it stands for.

    Args:
        start: seconds.
        end: seconds.
        caption: what is said.
        score: mean natural-log probability of the caption's tokens; of merged windows their mean, weighted by time.
        confidence: calibrated probability that the caption is right, meant likewise; None for a model without calibration.
        references: what it was written from, as `Reference.as_dict` has them; of merged windows the best of all.
    """

    start: float
    end: float
    caption: str
    score: float | None = None
    confidence: float | None = None
    references: tuple[dict[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "start": self.start,
            "end": self.end,
            "caption": self.caption,
            "score": self.score,
            "confidence": self.confidence,
            "references": list(self.references),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Segment:
        """What `as_dict` made."""
        return cls(**{**values, "references": tuple(values["references"])})


@dataclass(frozen=True, slots=True)
class Skipped:
    """A stretch that could not be read.

    Args:
        start: seconds.
        end: seconds.
        skipped: why, of its first window.
        windows: how many it has.
    """

    start: float
    end: float
    skipped: str
    windows: int = 1

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"start": self.start, "end": self.end, "skipped": self.skipped, "windows": self.windows}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Skipped:
        """What `as_dict` made."""
        return cls(**values)


Line = Segment | Skipped
"""A line of the `.jsonl`."""


def line_from(values: Mapping[str, Any]) -> Line:
    """A line of the `.jsonl`, read back."""
    return Skipped.from_dict(values) if "skipped" in values else Segment.from_dict(values)

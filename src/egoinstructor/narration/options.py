"""How a recording is narrated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from egoinstructor.assets import shipped
from egoinstructor.errors import InputError

Cut = Literal["fixed", "changes"]

SECONDS, NANO_SECONDS = 5.0, 2.0
"""Length of a window: in Ego4D somebody does something else every 4 to 5 seconds; SimKitchen's clips last 2."""

MOST_AT_ONCE = 64
"""Windows of a batch: this batch, the next and the one after it must stay within the clips that a captioner keeps."""


def default_seconds(model: str | Path | None) -> float:
    """Length of a window for a model, as it was named."""
    return SECONDS if model is None or shipped(model) is None else NANO_SECONDS


@dataclass(frozen=True, slots=True)
class NarrationOptions:
    """How a recording is narrated.

    Args:
        seconds: length of a window; with `cut="changes"` windows last from half of it to twice as long.
        overlap: of two neighbouring windows, seconds; each then stands for its half of the overlap.
        cut: windows of one length, or from one change of scene or motion to the next.
        start: where to begin, seconds.
        end: where to end; None for the end of the recording.
        shots: references for each window; None for 4. Without a library there are none.
        num_beams: beams.
        max_new_tokens: longest caption.
        num_frames: frames a window; None for the model's own.
        instruction: what the model is asked; None for what it was trained with.
        batch_size: windows captioned at once.
        likeliest: as `Captioner.caption_batch` has it: of each window's references as many are read as help.
        threshold: say nothing where the caption's confidence is below; None to say it all.
        merge: make one segment of neighbours that say the same.

    Raises:
        InputError: a value that is not allowed.
    """

    seconds: float = SECONDS
    overlap: float = 0.0
    cut: Cut = "fixed"
    start: float = 0.0
    end: float | None = None
    shots: int | None = None
    num_beams: int = 3
    max_new_tokens: int = 64
    num_frames: int | None = None
    instruction: str | None = None
    batch_size: int = 8
    likeliest: bool = False
    threshold: float | None = None
    merge: bool = True

    def __post_init__(self) -> None:
        """Check."""
        if self.cut not in get_args(Cut):
            raise InputError(f"cut={self.cut!r}: choose from {', '.join(get_args(Cut))}.")
        if not 0.1 <= self.seconds < math.inf:
            raise InputError(f"windows of {self.seconds:g} s: give 0.1 s or more.")
        if not 0 <= self.overlap <= 0.9 * self.seconds:
            raise InputError(
                f"windows of {self.seconds:g} s that overlap by {self.overlap:g} s: give an overlap from 0 to nine tenths "
                "of a window."
            )
        if self.overlap and self.cut == "changes":
            raise InputError(
                f"an overlap of {self.overlap:g} s is of fixed windows; leave it out, or cut at fixed times."
            )
        if not 0 <= self.start < math.inf or (self.end is not None and not self.start < self.end):
            raise InputError(f"from {self.start:g} s to {self.end} s: the start must be 0 or more, the end after it.")
        if not 1 <= self.batch_size <= MOST_AT_ONCE:
            raise InputError(f"{self.batch_size} windows at once: give 1 to {MOST_AT_ONCE}.")
        if self.shots is not None and self.shots < 0:
            raise InputError(f"{self.shots} shots: give 0 (no references) or more.")
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InputError(f"a threshold of {self.threshold:g}: a confidence lies between 0 and 1.")

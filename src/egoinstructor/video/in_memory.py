"""Frames in memory as a video, sampled as a file of them would be."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from egoinstructor.errors import InputError, VideoError
from egoinstructor.records import Clip, Frames
from egoinstructor.video import sampling
from egoinstructor.video.file import Backend, Sampling, VideoInfo

_STILL_RATE = 25.0
"""Frames per second where times don't tell: of a single frame."""


@dataclass(frozen=True, slots=True)
class InMemoryVideo:
    """A video that is `Frames`; its times are theirs, so it may begin later than at 0."""

    frames: Frames

    @property
    def rate(self) -> float:
        """Frames per second; the mean one where the rate varies."""
        times = self.frames.timestamps
        span = float(times[-1] - times[0])
        # Times are decimals: 29.99999 is 30. Every common rate has a denominator of at most 1001.
        return float(Fraction((len(times) - 1) / span).limit_denominator(1001)) if span > 0 else _STILL_RATE

    @property
    def span(self) -> tuple[float, float]:
        """When the first frame starts and the last one ends, in seconds of the video that they were cut from."""
        first = float(self.frames.timestamps[0])
        return first, first + len(self.frames) / self.rate

    @property
    def constant(self) -> bool:
        """Whether each frame is less than half a frame from its place at a constant rate."""
        times = self.frames.timestamps
        return bool((np.abs((times - times[0]) * self.rate - np.arange(len(times))) < 0.5).all())

    def info(self) -> VideoInfo:
        """What the video is."""
        first, last = self.span
        return VideoInfo(
            width=self.frames.pixels.shape[2],
            height=self.frames.pixels.shape[1],
            fps=self.rate,
            num_frames=len(self.frames),
            duration=last - first,
            start=0.0,
            codec="rawvideo",
            rotation=0,
            variable_frame_rate=not self.constant,
            mirrored=False,
        )

    def choose(self, clip: Clip, num_frames: int, policy: Sampling, rng: random.Random | None = None) -> list[int]:
        """Which of the frames stand for a clip. As many as are asked for are taken as they are, for want of times.

        Raises:
            InputError: frames whose times fall or aren't finite.
            VideoError: the clip isn't in the frames.
        """
        if len(self.frames) == num_frames and clip.start is None and clip.end is None:
            return list(range(num_frames))
        start, end = self._times(clip)
        if not self.constant:
            return self._on_screen(start, end, num_frames, policy, rng)
        # Numbers count from the start of the whole video, so that rounding is what it would be in a file.
        rate, total = self.rate, len(self.frames)
        begin = round(float(self.frames.timestamps[0]) * rate)
        if policy == "linspace":
            numbers = sampling.linspace_segment(start, end, rate, begin + total, num_frames)
        else:
            numbers = sampling.exo_segment(start, end, rate, begin + total, num_frames, rng)
        return [max(number - begin, 0) for number in numbers]

    def read(self, indices: Sequence[int], backend: Backend = "auto") -> Frames:
        """The frames at those places, in that order; nothing is decoded, whatever the backend.

        Raises:
            InputError: no indices, or one outside the frames.
        """
        frames, total = self.frames, len(self.frames)
        outside = [index for index in indices if not 0 <= index < total]
        if outside or not len(indices):
            raise InputError(
                f"frames {outside} of {frames.source}: give at least one index, each from 0 to {total - 1}."
            )
        chosen = list(indices)
        if chosen == list(range(total)):
            return frames
        return Frames(frames.pixels[chosen], frames.timestamps[chosen], frames.indices[chosen], frames.source)

    def _times(self, clip: Clip) -> tuple[float, float]:
        """The clip's start and end, cut to the frames; a frame's worth over, or what a file allows, is let pass."""
        times = self.frames.timestamps
        if not np.isfinite(times).all() or (np.diff(times) < 0).any() or times[0] < 0:
            raise InputError(
                f"frames of {self.frames.source}: their times must be seconds from 0 on that never fall. Sort them, or "
                "give each frame its time."
            )
        first, last = self.span
        start = first if clip.start is None else clip.start
        end = last if clip.end is None else clip.end
        slack = max(sampling.END_SLACK, 1 / self.rate)
        if not first - slack <= start < last or not first < end <= last + slack:
            raise VideoError(
                f"{clip}: its frames in memory are of {first:.2f} s to {last:.2f} s; choose a start and an end in that."
            )
        return max(start, first), min(end, last)

    def _on_screen(
        self, start: float, end: float, num_frames: int, policy: Sampling, rng: random.Random | None
    ) -> list[int]:
        """The frames on the screen at times that a policy chooses, as in a file of varying rate."""
        times = self.frames.timestamps
        grace = 1e-3 / self.rate  # times are decimals
        if policy == "linspace":
            chosen = np.minimum(sampling.linspace_times(start, end, num_frames), end - 2 * grace)
        else:
            chosen = np.array(sampling.segment_times(start, end, num_frames, rng))
        found: list[int] = np.maximum(np.searchsorted(times, chosen + grace, side="right") - 1, 0).tolist()
        return found

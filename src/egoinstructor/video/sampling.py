"""Frame sampling policies: pure arithmetic, no I/O.

At a constant rate a policy returns `num_frames` frame numbers, counted from 0, never decreasing. Rounding is to the nearest
integer, halves to even, as the original (numpy) rounds; the tests compare each policy with the original's numbers. At a
varying rate a policy returns times, and the frames are those on the screen then.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise

from egoinstructor.errors import InputError, VideoError
from egoinstructor.records import Clip

END_SLACK = 0.5
"""Seconds by which a segment may overshoot the video. Annotations carry rounded times and are often measured on the
audio track, which outlasts the pictures by a fraction of a second; more than that is another video or a wrong time."""


LOWEST_WIDENED_RATE = 24.0
"""Frames per second from which a segment of fewer frames than are asked for is widened, as the original does: the published
data has 24 or more, where 32 frames last 1.3 s at most. Below, frames from long after the segment would represent it."""


def linspace(total_frames: int, num_frames: int) -> list[int]:
    """Spread frames evenly from the first to the last.

    Args:
        total_frames: frames to choose from.
        num_frames: frames to choose; more than there are repeats some.

    Raises:
        InputError: either is below 1.
    """
    _check_num_frames(num_frames)
    if total_frames < 1:
        raise InputError(f"total_frames={total_frames}: there must be at least one frame to choose from.")
    # Float steps cut to integers, as numpy.linspace(...).astype(int): dividing exactly would differ by one here and there.
    step = (total_frames - 1) / max(num_frames - 1, 1)
    frames = [int(i * step) for i in range(num_frames)]
    return frames if num_frames == 1 else [*frames[:-1], total_frames - 1]


def segment_centers(start_frame: int, end_frame: int, num_frames: int, rng: random.Random | None = None) -> list[int]:
    """Cut `[start_frame, end_frame)` in equal parts and take one frame of each.

    Args:
        start_frame: first frame of the segment.
        end_frame: the frame after its last.
        num_frames: parts.
        rng: for training: a random frame of each part. Without it, the middle one.

    Raises:
        InputError: an empty segment, or `num_frames` below 1.
    """
    _check_num_frames(num_frames)
    if not 0 <= start_frame < end_frame:
        raise InputError(
            f"frames {start_frame} to {end_frame}: a segment starts at 0 or later and ends after its start."
        )
    length = (end_frame - start_frame - 1) / num_frames
    bounds = [round(length * i) + start_frame for i in range(num_frames + 1)]
    return [(low + high) // 2 if rng is None else rng.randint(low, high) for low, high in pairwise(bounds)]


def ego_segment(
    start_second: float, end_second: float, num_frames: int, fps: float = 30.0, rng: random.Random | None = None
) -> list[int]:
    """Frames of a segment of a video stored in pieces (Ego4D), numbered through all pieces.

    A segment shorter than a second is stretched to one, and has a frame even where that rounds to none (1.5 to 2.5 s at one
    frame a second: both are 2).
    """
    end_second = max(end_second, start_second + 1)
    start_frame = round(start_second * fps)
    return segment_centers(start_frame, max(round(end_second * fps), start_frame + 1), num_frames, rng)


def exo_segment(
    start_second: float,
    end_second: float,
    fps: float,
    total_frames: int,
    num_frames: int,
    rng: random.Random | None = None,
) -> list[int]:
    """Frames of a segment of a whole file.

    A segment of fewer frames than `num_frames` is widened to that many, as far as the file goes. Below
    `LOWEST_WIDENED_RATE` its own frames are repeated instead.
    """
    _check_num_frames(num_frames)
    end_second = min(end_second, total_frames / fps)
    length = int((end_second - start_second) * fps)
    if length < num_frames and fps < LOWEST_WIDENED_RATE and start_second < end_second:
        # Those on the screen in the segment; a time within a millionth of a frame of another is that time.
        start_frame = min(math.floor(start_second * fps + 1e-6), total_frames - 1)
        end_frame = min(max(math.ceil(end_second * fps - 1e-6), start_frame + 1), total_frames)
        return segment_centers(start_frame, end_frame, num_frames, rng)
    # The original lets a start within half a frame of the end round to the frame after the last; it ends up on the last.
    start_frame = min(round(start_second * fps), total_frames - 1)
    return segment_centers(start_frame, min(start_frame + max(length, num_frames), total_frames), num_frames, rng)


def linspace_segment(
    start_second: float, end_second: float, fps: float, total_frames: int, num_frames: int
) -> list[int]:
    """`linspace` over the frames of a segment of a video; of one without a frame of its own, the frame on the screen."""
    start_frame = min(round(start_second * fps), total_frames - 1)
    end_frame = min(round(end_second * fps), total_frames)
    if end_frame <= start_frame:
        start_frame = min(int(start_second * fps), total_frames - 1)
        end_frame = start_frame + 1
    return [start_frame + i for i in linspace(end_frame - start_frame, num_frames)]


def segment_times(
    start_second: float, end_second: float, num_frames: int, rng: random.Random | None = None
) -> list[float]:
    """Cut a segment in equal parts and take one time of each, in seconds.

    Args:
        start_second: where the segment starts.
        end_second: where it ends, later.
        num_frames: parts.
        rng: for training: a random time of each part. Without it, the middle.
    """
    _check_num_frames(num_frames)
    part = (end_second - start_second) / num_frames
    return [start_second + part * (i + (0.5 if rng is None else rng.random())) for i in range(num_frames)]


def linspace_times(start_second: float, end_second: float, num_frames: int) -> list[float]:
    """Times spread evenly from a segment's start to its end, both included, in seconds; of one, the start."""
    _check_num_frames(num_frames)
    step = (end_second - start_second) / max(num_frames - 1, 1)
    times = [start_second + step * i for i in range(num_frames)]
    return times if num_frames == 1 else [*times[:-1], end_second]


def clip_span(clip: Clip, duration: float, first: float = 0.0) -> tuple[float, float]:
    """The clip's start and end in a video, cut to where the video has pictures.

    Args:
        clip: the clip, its times in seconds from the start of the presentation.
        duration: of the presentation, seconds.
        first: when the first frame is shown, seconds.

    Raises:
        VideoError: the clip ends before the first frame, or lies past the end, by more than `END_SLACK` at its end.
    """
    start = max(clip.start or 0.0, first)
    end = duration if clip.end is None else clip.end
    if end <= first and clip.end is not None:
        raise VideoError(f"{clip}: the first picture is shown at {first:.2f} s; choose an end after that.")
    if start >= duration or end > duration + END_SLACK:
        raise VideoError(
            f"{clip}: the video lasts {duration:.2f} s; choose a start before its end, and an end of at most that."
        )
    return start, min(end, duration)


def _check_num_frames(num_frames: int) -> None:
    if num_frames < 1:
        raise InputError(f"num_frames={num_frames}: at least 1 frame must be asked for.")

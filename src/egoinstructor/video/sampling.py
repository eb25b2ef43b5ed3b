"""Which frames of a video are looked at: pure arithmetic, no I/O.

Every policy returns `num_frames` frame numbers, counted from 0, never decreasing. Rounding is to the nearest integer,
halves to even, as the original (numpy) rounds; the tests hold each policy to the original's numbers.
"""

from __future__ import annotations

import random
from itertools import pairwise

from egoinstructor.errors import InputError, VideoError
from egoinstructor.records import Clip

END_SLACK = 0.5
"""Seconds by which a segment may overshoot the video. Annotations carry rounded times and are often measured on the
audio track, which outlasts the pictures by a fraction of a second; more than that is another video or a wrong time."""


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

    The segment is stretched to `num_frames` frames where it is shorter, as far as the file goes.
    """
    _check_num_frames(num_frames)
    end_second = min(end_second, total_frames / fps)
    # The original lets a start within half a frame of the end round to the frame after the last; it ends up on the last.
    start_frame = min(round(start_second * fps), total_frames - 1)
    length = max(int((end_second - start_second) * fps), num_frames)
    return segment_centers(start_frame, min(start_frame + length, total_frames), num_frames, rng)


def linspace_segment(
    start_second: float, end_second: float, fps: float, total_frames: int, num_frames: int
) -> list[int]:
    """`linspace` over the frames of a segment of a video."""
    start_frame = min(round(start_second * fps), total_frames - 1)
    end_frame = min(max(round(end_second * fps), start_frame + 1), total_frames)
    return [start_frame + i for i in linspace(end_frame - start_frame, num_frames)]


def clip_span(clip: Clip, duration: float) -> tuple[float, float]:
    """The clip's start and end in a video that lasts `duration` seconds, its end cut to the video's.

    Raises:
        VideoError: the clip lies past the end, by more than `END_SLACK` at its end.
    """
    start = clip.start or 0.0
    end = duration if clip.end is None else clip.end
    if start >= duration or end > duration + END_SLACK:
        raise VideoError(
            f"{clip}: the video lasts {duration:.2f} s; choose a start before its end, and an end of at most that."
        )
    return start, min(end, duration)


def _check_num_frames(num_frames: int) -> None:
    if num_frames < 1:
        raise InputError(f"num_frames={num_frames}: at least 1 frame must be asked for.")

"""What a server takes from strangers: every limit in one place, each named in the error that it gives."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NoReturn

from egoinstructor.errors import InputError


class LimitError(InputError):
    """Something that is too large, too long or too slow for this server.

    Args:
        limit: name of the field of `Limits`.
        message: what was given, what is allowed, what to do.
    """

    def __init__(self, limit: str, message: str) -> None:
        super().__init__(f"{message} (limit {limit})")
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server process takes; every number must be positive.

    Raises:
        InputError: a limit of 0 or less, or not finite.
    """

    upload_bytes: int = 200_000_000
    """Of one uploaded video."""
    upload_seconds: float = 600.0
    """From the first byte of an upload to its last."""
    upload_stall_seconds: float = 20.0
    """Between two pieces of an upload."""
    uploads: int = 256
    """Videos kept; the one that was used longest ago goes first."""
    uploads_bytes: int = 4_000_000_000
    """Of all videos kept."""
    uploads_at_once: int = 16
    """Uploads on their way."""
    additions: int = 10_000
    """Clips that users add to the library, all together; 0.14 MB each in its own files, at published size."""
    additions_bytes: int = 10_000_000_000
    """Of the folder for the videos that users add to the library."""
    body_bytes: int = 1_000_000
    """Of a request without a video."""
    duration: float = 3600.0
    """Seconds that a video lasts."""
    pixels: int = 3840 * 2160
    """Width times height of a video."""
    video_frames: int = 432_000
    """Frames of a video: an hour at 120 a second."""
    frames_per_request: int = 64
    """Frames taken of one clip."""
    frame_bytes: int = 1_073_741_824
    """Of the decoded frames of one clip, 3 for each pixel."""
    decoders: int = 2
    """Processes that decode, each one video at a time."""
    decode_seconds: float = 30.0
    """That one decode may take."""
    decode_memory: int = 2_147_483_648
    """Bytes of address space of a process that decodes."""
    request_seconds: float = 60.0
    """From a request to its answer."""
    queue: int = 64
    """Requests that wait for the model."""

    def __post_init__(self) -> None:
        """Check that every limit lets something through."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise InputError(f"limit {field.name}={value!r}: a limit must be a number above 0.")

    def check_video(self, width: int, height: int, duration: float, num_frames: int) -> None:
        """Refuse a video by what is known of it; 0 for what isn't.

        Raises:
            LimitError: it has more pixels, seconds or frames than are taken.
        """
        if width * height > self.pixels:
            raise LimitError(
                "pixels",
                f"the video is {width}×{height}, {width * height} pixels; at most {self.pixels} are taken. Scale it down.",
            )
        if duration > self.duration:
            raise LimitError(
                "duration", f"the video lasts {duration:.0f} s; at most {self.duration:g} s are taken. Cut it."
            )
        if num_frames > self.video_frames:
            raise LimitError(
                "video_frames",
                f"the video has {num_frames} frames; at most {self.video_frames} are taken. Cut it, or lower its rate.",
            )

    def check_frames(self, num_frames: int, width: int = 0, height: int = 0) -> None:
        """Refuse to decode more than a request may hold.

        Raises:
            LimitError: more frames, or more bytes of them, than are taken.
            InputError: no frame at all.
        """
        if num_frames < 1:
            raise InputError(f"num_frames={num_frames}: at least 1 frame must be asked for.")
        if num_frames > self.frames_per_request:
            raise LimitError(
                "frames_per_request",
                f"num_frames={num_frames}; at most {self.frames_per_request} are taken. Ask for fewer.",
            )
        if num_frames * width * height * 3 > self.frame_bytes:
            raise LimitError(
                "frame_bytes",
                f"{num_frames} frames of {width}×{height} are {num_frames * width * height * 3} bytes; at most "
                f"{self.frame_bytes} are taken. Ask for fewer frames, or scale the video down.",
            )

    def check_additions(self, clips: int, size: int) -> None:
        """Refuse more additions to the library than are kept.

        Args:
            clips: that users have added, with the new ones.
            size: bytes of their videos, with the new one.

        Raises:
            LimitError: that is more clips, or more bytes, than are kept.
        """
        advice = "The library takes no more; its operator can make room or raise the limit."
        if clips > self.additions:
            raise LimitError(
                "additions",
                f"with this, users would have added {clips} clips; at most {self.additions} are kept. {advice}",
            )
        if size > self.additions_bytes:
            raise LimitError(
                "additions_bytes",
                f"with this, the videos that users added would have {size} bytes; at most {self.additions_bytes} are "
                f"kept. {advice}",
            )

    def decoding_too_slow(self) -> NoReturn:
        """Say that a decode was ended for its time.

        Raises:
            LimitError: always.
        """
        raise LimitError(
            "decode_seconds",
            f"decoding took more than {self.decode_seconds:g} s and was ended. Choose a shorter segment, or encode the "
            "video smaller or with more keyframes.",
        )

    def decoding_too_large(self) -> NoReturn:
        """Say that a decode was ended for its memory.

        Raises:
            LimitError: always.
        """
        raise LimitError(
            "decode_memory",
            f"decoding needs more than {self.decode_memory} bytes of memory. Ask for fewer frames, or scale the video "
            "down; a damaged file can be the reason too.",
        )

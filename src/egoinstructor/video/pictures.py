"""Frames of a clip as small pictures that stand in a page itself. PyAV makes them: no further package is needed."""

from __future__ import annotations

import base64
import math
from fractions import Fraction
from pathlib import Path

from av.codec import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from egoinstructor.errors import InputError
from egoinstructor.video.decode import load_video

QUALITY = 5
"""FFmpeg's, from 2 (best) to 31."""


def stills(
    video: Path, start: float | None, end: float | None, count: int, *, width: int, height: float = math.inf
) -> list[str]:
    """Frames as `data:` addresses of JPEGs; none where the video can't be read.

    Args:
        video: a file, or a folder of pieces.
        start: seconds, or None for the start of the video.
        end: seconds, or None for its end.
        count: how many, spread over the clip.
        width: of a picture, at most.
        height: of a picture, at most. Its proportions stay, and it is never enlarged.
    """
    try:
        frames = load_video(video, start=start, end=end, num_frames=count).pixels
    except InputError:
        return []
    scale = min(1, width / frames.shape[2], height / frames.shape[1])
    size = max(round(frames.shape[2] * scale), 1), max(round(frames.shape[1] * scale), 1)
    jpegs = (_jpeg(VideoFrame.from_ndarray(frame, format="rgb24"), *size) for frame in frames)
    return ["data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii") for jpeg in jpegs]


def _jpeg(frame: VideoFrame, width: int, height: int) -> bytes:
    small = frame.reformat(width=width, height=height, format="yuvj420p", interpolation="AREA")
    encoder = CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "yuvj420p", Fraction(1)
    encoder.qmin = encoder.qmax = QUALITY
    small.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(small), *encoder.encode(None)])

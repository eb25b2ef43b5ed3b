"""A clip as a small picture that stands in a page itself. PyAV makes it: no further package is needed."""

from __future__ import annotations

import base64
from fractions import Fraction
from pathlib import Path

from av.codec import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from egoinstructor.errors import InputError
from egoinstructor.video.decode import load_video

WIDTH = 192
QUALITY = 5
"""FFmpeg's, from 2 (best) to 31."""


def still(video: Path, start: float | None, end: float | None) -> str:
    """The middle frame of a clip as a `data:` address; empty where it can't be read.

    Args:
        video: a file, or a folder of pieces.
        start: seconds, or None for the start of the video.
        end: seconds, or None for its end.
    """
    try:
        pixels = load_video(video, start=start, end=end, num_frames=1).pixels[0]
    except InputError:
        return ""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(VideoFrame.from_ndarray(pixels, format="rgb24"))).decode()


def jpeg(frame: VideoFrame, width: int = WIDTH) -> bytes:
    """A frame as a JPEG of at most this width."""
    width = min(width, frame.width)
    height = max(round(frame.height * width / frame.width), 1)
    small = frame.reformat(width=width, height=height, format="yuvj420p", interpolation="AREA")
    encoder = CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = width, height, "yuvj420p", Fraction(1)
    encoder.qmin = encoder.qmax = QUALITY
    small.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(small), *encoder.encode(None)])

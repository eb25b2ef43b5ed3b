"""Frames as a small MP4 file that is there whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from egoinstructor.video.h264 import REPEATABLE

SECONDS = 2.0
"""How long a clip lasts, whatever its number of frames."""
ENCODER = {"preset": "medium", "crf": "20", "threads": "1", "bf": "0", **REPEATABLE}


def write_clip(path: Path, frames: NDArray[np.uint8]) -> None:
    """Write frames `(F, H, W, 3)` as H.264.

    Raises:
        OSError: it can't be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    count, height, width, _ = frames.shape
    rate = Fraction(count) / Fraction(SECONDS)
    try:
        with av.open(partial, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=rate, options=ENCODER)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.gop_size = 8
            for number, frame in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
                picture.pts, picture.time_base = number, 1 / rate
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)

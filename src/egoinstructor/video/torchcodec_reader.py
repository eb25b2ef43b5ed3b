"""Frames by display index through torchcodec, where a user asks for it: the same frames as `reader` gives.

It is not what `backend="auto"` takes: `benchmarks/decode.py` finds it no faster, importing it takes seconds, and it
conceals damaged pictures where `reader` raises.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from egoinstructor.errors import MissingExtraError, VideoError, require_extra
from egoinstructor.records import EncodedVideo, source_name


def read(source: EncodedVideo, indices: Sequence[int]) -> np.ndarray:
    """Decode frames.

    Returns:
        uint8 RGB `(F, H, W, 3)`, upright, in the order of `indices`.

    Raises:
        MissingExtraError: torchcodec, or the FFmpeg that it needs, is not installed.
        VideoError: the file can't be decoded.
    """
    require_extra("torchcodec", "torchcodec", "backend='torchcodec'")
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingExtraError(
            "backend='torchcodec': torchcodec is installed but can't be loaded; it needs FFmpeg's shared libraries and "
            "the torch that it was built for. Install them, or use backend='pyav'."
        ) from error
    try:
        decoder = VideoDecoder(source if isinstance(source, bytes) else str(source), dimension_order="NHWC")
        pixels: np.ndarray = decoder.get_frames_at(list(indices)).data.numpy()
    except (IndexError, RuntimeError, ValueError) as error:
        raise VideoError(
            f"video {source_name(source)}: torchcodec can't decode it ({str(error).splitlines()[0]}). "
            "Check that it plays, or use backend='pyav'."
        ) from error
    return pixels

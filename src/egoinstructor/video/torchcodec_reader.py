"""Frames by display index through torchcodec, where a user asks for it: the same frames as `reader` gives, or an error.

It is not what `backend="auto"` takes: `benchmarks/decode.py` finds it no faster, importing it takes seconds, and it
conceals damaged pictures where `reader` raises. It neither mirrors nor tone-maps, and finds other frames in containers
without an index.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from egoinstructor.errors import MissingExtraError, VideoError, require_extra
from egoinstructor.records import EncodedVideo, source_name
from egoinstructor.video.container import OpenVideo
from egoinstructor.video.display import is_hdr, orientation
from egoinstructor.video.reader import first_frame
from egoinstructor.video.timeline import Timeline


def read(source: EncodedVideo, video: OpenVideo, timeline: Timeline, indices: Sequence[int]) -> np.ndarray:
    """Decode frames.

    Args:
        source: the file, or its bytes.
        video: the same, open.
        timeline: of that file.
        indices: display indices, in any order, repeats allowed.

    Returns:
        uint8 RGB `(F, H, W, 3)`, upright, in the order of `indices`.

    Raises:
        MissingExtraError: torchcodec, or the FFmpeg that it needs, is not installed.
        VideoError: the file can't be decoded, or torchcodec would give other frames than `reader`.
    """
    require_extra("torchcodec", "torchcodec", "backend='torchcodec'")
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingExtraError(
            "backend='torchcodec': torchcodec is installed but can't be loaded; it needs FFmpeg's shared libraries and "
            "the torch that it was built for. Install them, or use backend='pyav'."
        ) from error
    name = source_name(source)
    first = first_frame(video, name)
    if orientation(first, name).mirrored or is_hdr(first) or timeline.stored or not timeline.ordered:
        raise _other_frames(name)
    try:
        decoder = VideoDecoder(
            source if isinstance(source, bytes) else str(source), stream_index=video[1].index, dimension_order="NHWC"
        )
        frames = decoder.get_frames_at(list(indices))
    except (IndexError, RuntimeError, ValueError) as error:
        raise VideoError(
            f"video {name}: torchcodec can't decode it ({str(error).splitlines()[0]}). "
            "Check that it plays, or use backend='pyav'."
        ) from error
    expected = [float(timeline.pts[index] * timeline.tick) for index in indices]
    if np.abs(frames.pts_seconds.numpy() - expected).max() > 1e-3 + float(timeline.tick):
        raise _other_frames(name)
    pixels: np.ndarray = frames.data.numpy()
    return pixels


def _other_frames(name: str) -> VideoError:
    return VideoError(
        f"video {name}: torchcodec gives other frames than players show: it doesn't mirror or tone-map, and loses count "
        "where pictures are missing or have no index. Use backend='pyav'."
    )

"""A decoded frame as a player displays it: upright, and in the colours of an ordinary screen.

Shapes: **H**, **W** height and width in pixels.
"""

from __future__ import annotations

import logging
import math
import os
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
from av.buffer import Buffer
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc

logger = logging.getLogger(__name__)

_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)  # PQ, HLG
_BT2020, _UNSPECIFIED = 9, 2  # colour matrices, as FFmpeg numbers them
_TONE_MAPPING = "out_primaries=bt709:out_transfer=bt709:intent=perceptual"
_TOLERANCE = 1.0
"""Degrees by which a display matrix may be off a quarter turn, as in FFmpeg."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight ways to turn and mirror a picture.

    Args:
        turns: quarter turns counter-clockwise, 0 to 3.
        mirrored: exchange left and right, before turning.
    """

    turns: int = 0
    mirrored: bool = False

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Turn a stored picture `(H, W, …)` upright; the result is a view."""
        return np.rot90(pixels[:, ::-1] if self.mirrored else pixels, self.turns)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the upright picture, from those of the stored one."""
        return (height, width) if self.turns % 2 else (width, height)


def orientation(frame: VideoFrame, name: str) -> Orientation:
    """Read how a player turns and mirrors a frame, from its display matrix.

    An angle between two quarter turns is rounded to the nearest, and reported once for each file. Scaling and shifting are
    ignored, as FFmpeg ignores them.

    Args:
        frame: a decoded frame.
        name: the video as a message names it.
    """
    try:
        matrix = bytes(cast("Mapping[str, Buffer]", frame.side_data)["DISPLAYMATRIX"])
    except KeyError:
        return Orientation()
    except ValueError:  # of PyAV, at another kind of side data that it doesn't know; the angle it still gives
        return Orientation(round(frame.rotation / 90) % 4)
    # A point (x, y), y downwards, is displayed at (a·x + c·y, b·x + d·y); the other numbers shift and distort.
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    mirrored = a * d < b * c
    if mirrored:
        a, b = -a, -b
    across, down = math.hypot(a, c), math.hypot(b, d)
    if not across or not down:
        return Orientation()
    degrees = -math.degrees(math.atan2(b / down, a / across))
    turns = round(degrees / 90)
    if abs(degrees - 90 * turns) > _TOLERANCE:
        _report_angle(name, round(degrees))
    return Orientation(turns % 4, mirrored)


def to_rgb(frame: VideoFrame, name: str) -> np.ndarray:
    """Convert a frame to what a player displays: uint8 RGB `(H, W, 3)`, upright, SDR.

    Args:
        frame: a decoded frame.
        name: the video as a message names it.
    """
    return orientation(frame, name).apply(to_sdr(frame).to_ndarray(format="rgb24", threads=1))


def is_hdr(frame: VideoFrame) -> bool:
    """Check whether a frame is HDR: its transfer curve is PQ or HLG."""
    return frame.color_trc in _HDR


def to_sdr(frame: VideoFrame) -> VideoFrame:
    """Tone-map a frame of HDR to RGB of BT.709; any other frame is returned as it is."""
    if not is_hdr(frame):
        return frame
    if frame.color_primaries == ColorPrimaries.UNSPECIFIED:
        frame.color_primaries = ColorPrimaries.BT2020
    if frame.colorspace == _UNSPECIFIED:
        frame.colorspace = _BT2020
    colours = frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range
    graphs = _tone_mappers(os.getpid(), frame.width, frame.height, frame.format.name, *colours)
    try:
        graph = graphs.pop()
    except IndexError:
        graph = _tone_mapper(frame)
    graph.vpush(frame)
    mapped = graph.vpull()
    graphs.append(graph)
    return mapped


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Scale a picture, uint8 RGB `(H, W, 3)`, to another size; its proportions aren't kept."""
    if pixels.shape[1::-1] == (width, height):
        return pixels
    frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    return frame.reformat(width, height, interpolation="BICUBIC", threads=1).to_ndarray()


@lru_cache(maxsize=8)
def _tone_mappers(*_: int | str) -> deque[Graph]:
    """The idle tone mappers of one process and one kind of frames.

    FFmpeg computes for seconds to make one, so they are kept. Each is used by one thread at a time, and has threads of its
    own, which a forked process lacks.
    """
    return deque(maxlen=4)


def _tone_mapper(frame: VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        colorspace=str(int(frame.colorspace)),
        range=str(int(frame.color_range)),
        time_base="1/1",
    )
    graph.link_nodes(
        source, graph.add("scale", _TONE_MAPPING), graph.add("format", "rgb24"), graph.add("buffersink")
    ).configure()
    return graph


@lru_cache(maxsize=1024)
def _report_angle(name: str, degrees: int) -> None:
    logger.warning("video %s asks to be turned by %d degrees; turned by the nearest quarter turn", name, degrees)

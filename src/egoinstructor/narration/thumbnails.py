"""Small grey thumbnails of a recording, in order, a few a second, to detect scene and motion changes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from egoinstructor.errors import VideoError
from egoinstructor.video.chunked import open_pieces
from egoinstructor.video.container import rewind
from egoinstructor.video.file import VideoFile, open_file
from egoinstructor.video.interlaced import demux
from egoinstructor.video.reader import enter

PER_SECOND = 8
SIDE = 32
"""Pixels, in both directions: only what is large counts."""

SHADES = 16

GRACE = 0.0005
"""Half of the millisecond that windows' times are rounded to."""


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """A small picture, and when it is shown.

    Args:
        time: seconds.
        picture: grey `(H, W)`, from 0 to 1.
    """

    time: float
    picture: NDArray[np.float32]

    @cached_property
    def histogram(self) -> NDArray[np.float64]:
        """The share of pixels in each of `SHADES` ranges of brightness."""
        return np.histogram(self.picture, SHADES, (0, 1))[0] / self.picture.size


def thumbnails(recording: Path, start: float = 0.0) -> Iterator[Thumbnail]:
    """Small pictures from `start` on, at most `PER_SECOND`: the same ones wherever one starts.

    Damaged pictures are taken as well as they can be had, and pieces that can't be read are passed over.

    Args:
        recording: file, or folder of pieces.
        start: seconds.

    Raises:
        VideoError: a file that can't be opened, or a folder without pieces.
    """
    if not recording.is_dir():
        yield from _of_file(recording, start, 0.0)
        return
    pieces = open_pieces(recording)
    for number in range(int(start // pieces.seconds), pieces.last + 1):
        with suppress(VideoError):
            yield from _of_file(recording / f"{number:04d}.mp4", start, float(number * pieces.seconds))


def _of_file(path: Path, start: float, offset: float) -> Iterator[Thumbnail]:
    """Of one file, whose first frame is shown at `offset`."""
    with open_file(path) as file:
        cell = -1
        for seconds, frame in _frames(file, max(start - offset, 0.0)):
            # A grid of time that doesn't depend on where one starts; the first frame in each of its cells is looked at.
            if (now := math.floor(seconds * PER_SECOND + 1e-6)) == cell:
                continue
            cell = now
            if (time := seconds + offset) >= start - GRACE:
                yield Thumbnail(time, _small(frame))


def _frames(file: VideoFile, start: float) -> Iterator[tuple[float, VideoFrame]]:
    """Frames with their times, from the beginning of the cell of `start`, or earlier, to where nothing more can be read."""
    line = file.timeline
    file.video[1].codec_context.options = {}  # unlike who reads frames to caption them: here damage may be concealed
    number = 0
    for packet in _packets(file, line.index_at(Fraction(math.floor(start * PER_SECOND), PER_SECOND))):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        for frame in frames:
            if not line.ordered and number < len(line.pts):
                yield line.seconds(number), frame
            elif line.ordered and frame.pts is not None and line.pts[0] <= frame.pts <= line.pts[-1]:
                yield float((frame.pts - line.origin) * line.tick), frame
            number += 1


def _packets(file: VideoFile, first: int) -> Iterator[Packet[VideoStream]]:
    """Packets from which frame `first` can be decoded, or from the start, up to the end or to where the file is cut off."""
    with suppress(av.error.InvalidDataError):
        if file.timeline.ordered and file.timeline.keyframes:
            packets = enter(file.video, file.timeline, first)
            if (key := next(packets, None)) is not None:
                yield from chain((key,), packets)
                return
        rewind(file.video)
        yield from demux(file.video)


def _small(frame: VideoFrame) -> NDArray[np.float32]:
    grey = frame.reformat(width=SIDE, height=SIDE, format="gray", interpolation="AREA").to_ndarray()
    return grey.astype(np.float32) / np.float32(255)

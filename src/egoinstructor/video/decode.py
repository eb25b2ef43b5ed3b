"""The door to video: look at a video, read frames of it, sample a segment.

A source is a path, the bytes of an encoded video, a folder of fixed-length pieces (see `chunked`), or frames that are
decoded already (see `held`).
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from egoinstructor.errors import InputError
from egoinstructor.records import Clip, Frames, as_source
from egoinstructor.video.chunked import ChunkedVideo, open_pieces
from egoinstructor.video.file import Backend, Sampling, VideoFile, VideoInfo, open_file
from egoinstructor.video.in_memory import InMemoryVideo

__all__ = ["Backend", "Sampling", "VideoInfo", "load_video", "probe", "read_frames"]

VideoLike = str | os.PathLike[str] | bytes | Frames


def probe(source: VideoLike) -> VideoInfo:
    """Look at a video; one frame is decoded.

    Raises:
        VideoError: it can't be read.
    """
    with _open(source) as video:
        return video.info()


def read_frames(source: VideoLike, indices: Sequence[int], *, backend: Backend = "auto") -> Frames:
    """Exactly the frames with those display indices (from 0), in that order; repeats are allowed.

    Args:
        source: the video.
        indices: positions in display order, as a decode from the start would count them; in a folder of pieces,
            counted through all pieces; in `Frames`, among the frames that there are.
        backend: who decodes, as in `load_video`.

    Raises:
        InputError: no indices, or one outside the video.
        VideoError: the video can't be read, or a frame is damaged or missing.
        MissingExtraError: a backend that isn't installed.
    """
    _check("backend", backend, get_args(Backend))
    with _open(source) as video:
        return video.read(indices, backend)


def load_video(
    source: VideoLike,
    *,
    start: float | None = None,
    end: float | None = None,
    num_frames: int = 32,
    sampling: Sampling = "segment_center",
    backend: Backend = "auto",
    rng: random.Random | None = None,
) -> Frames:
    """Sample frames of a segment of a video, or of the whole.

    `Frames` are chosen from as a file of them would be, and times count as theirs do. As many of them as are asked for
    are taken as they are, unless a start or an end is given: whoever made them has sampled already.

    Args:
        source: the video.
        start: seconds from the start of the presentation, as players and subtitles count; None for the beginning.
        end: seconds; None for the end. Up to half a second past the end is taken for the end.
        num_frames: F; where the segment has fewer, some are repeated or, by "segment_center" at a constant rate of 24 frames
            per second or more, later ones are taken, as the original does.
        sampling: "segment_center" cuts the segment in F equal parts and takes the middle frame of each (how the
            published model was trained); "linspace" goes from the segment's first frame to its last.
        backend: "pyav"; "torchcodec", which must be installed and gives the same frames; "auto" takes the faster one
            that reports damaged pictures, which is PyAV by `benchmarks/decode.py`.
        rng: for training with "segment_center": a random frame of each part instead of the middle one.

    Returns:
        Full-size, upright RGB frames.

    Raises:
        InputError: a value that is not allowed.
        VideoError: the video can't be read, the segment isn't in it, or a frame is damaged or missing.
        MissingExtraError: a backend that isn't installed.
    """
    _check("sampling", sampling, get_args(Sampling))
    _check("backend", backend, get_args(Backend))
    if num_frames < 1:
        raise InputError(f"num_frames={num_frames}: at least 1 frame must be asked for.")
    clip = Clip(as_source(source), start, end)
    with _open(source) as video:
        return video.read(video.choose(clip, num_frames, sampling, rng), backend)


@contextmanager
def _open(source: VideoLike) -> Iterator[VideoFile | ChunkedVideo | InMemoryVideo]:
    video = as_source(source)
    if isinstance(video, Frames):
        yield InMemoryVideo(video)
    elif isinstance(video, Path) and video.is_dir():
        yield open_pieces(video)
    else:
        with open_file(video) as file:
            yield file


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name}={value!r}: choose from {', '.join(allowed)}.")

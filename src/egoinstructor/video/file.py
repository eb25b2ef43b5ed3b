"""One open video file: what it is, which frames a segment means, and those frames."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from egoinstructor.errors import InputError, VideoError
from egoinstructor.records import Clip, EncodedVideo, Frames, source_name
from egoinstructor.video import reader, sampling, torchcodec_reader
from egoinstructor.video.container import OpenVideo, open_video
from egoinstructor.video.display import orientation
from egoinstructor.video.timeline import Timeline, read_timeline
from egoinstructor.video.timeline_cache import TimelineCache

Backend = Literal["auto", "pyav", "torchcodec"]
Sampling = Literal["segment_center", "linspace"]

_TIMELINES = TimelineCache()


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Facts of a video. Times count from the start of the presentation, as in players and subtitles.

    Args:
        width: pixels, as displayed (after rotation); of the first frame, to which the others are scaled.
        height: pixels, as displayed.
        fps: frames per second; the mean one where the rate varies.
        num_frames: frames that can be shown.
        duration: seconds of the presentation, as ffprobe gives them: the last frame stays until the file ends.
        start: seconds from the start of the presentation to the first frame.
        codec: FFmpeg's name of it, such as `h264`.
        rotation: quarter turns counter-clockwise that the file asks a player for, in degrees: 0, 90, 180 or 270.
        variable_frame_rate: whether some frame is half a frame or more from its place at a constant rate.
        mirrored: whether the file asks a player to exchange left and right, before it rotates; front cameras do.
    """

    width: int
    height: int
    fps: float
    num_frames: int
    duration: float
    start: float
    codec: str
    rotation: int
    variable_frame_rate: bool
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class VideoFile:
    """An open file and its timeline; made by `open_file`, before anything is decoded."""

    source: EncodedVideo
    video: OpenVideo
    timeline: Timeline
    stored_size: reader.Size = field(init=False)
    """By the header; a decoder changes it with the pictures."""

    def __post_init__(self) -> None:
        """Read the size."""
        codec = self.video[1].codec_context
        object.__setattr__(self, "stored_size", (codec.width, codec.height))

    @property
    def fps(self) -> float:
        """Frames per second, the mean one where the rate varies."""
        return float(self.timeline.rate)

    def info(self) -> VideoInfo:
        """What the video is; decodes one frame.

        Raises:
            VideoError: the first frame is damaged.
        """
        name = source_name(self.source)
        frame = reader.first_frame(self.video, name)
        upright = orientation(frame, name)
        width, height = upright.size(frame.width, frame.height)
        return VideoInfo(
            width=width,
            height=height,
            fps=self.fps,
            num_frames=len(self.timeline.pts),
            duration=float(self.timeline.duration),
            start=float(self.timeline.start),
            codec=self.video[1].codec.canonical_name,
            rotation=90 * upright.turns,
            variable_frame_rate=not self.timeline.constant,
            mirrored=upright.mirrored,
        )

    def choose(self, clip: Clip, num_frames: int, policy: Sampling, rng: random.Random | None = None) -> list[int]:
        """Display indices of the frames that represent a clip.

        At a constant rate, policies count frames from the start of the presentation. Where the rate varies they choose times
        in the clip, and the frames on the screen then.

        Raises:
            VideoError: the clip isn't in the video, or not in the part that can be read.
        """
        line = self.timeline
        end = float(line.declared) if clip.end is None else clip.end
        if end > line.duration + sampling.END_SLACK and end <= line.declared:
            raise VideoError(
                f"{clip}: the file is cut off: of {float(line.declared):.2f} s only the first "
                f"{float(line.duration):.2f} s can be read. Choose an end within those, or fetch it again."
            )
        start, end = sampling.clip_span(clip, float(line.duration), float(line.start))
        if line.constant and policy == "linspace":
            numbers = sampling.linspace_segment(start, end, self.fps, line.nominal_frames, num_frames)
        elif line.constant:
            numbers = sampling.exo_segment(start, end, self.fps, line.nominal_frames, num_frames, rng)
        elif policy == "linspace":
            last = line.index_before(end)
            return [min(line.index_at(time), last) for time in sampling.linspace_times(start, end, num_frames)]
        else:
            return [line.index_at(time) for time in sampling.segment_times(start, end, num_frames, rng)]
        return [line.display_index(number) for number in numbers]

    def read(self, indices: Sequence[int], backend: Backend = "auto") -> Frames:
        """Exactly the frames with those display indices, in that order.

        Raises:
            InputError: no indices, or one outside the video.
            VideoError: a frame, or one that it depends on, is damaged or missing.
        """
        name, total = source_name(self.source), len(self.timeline.pts)
        outside = [index for index in indices if not 0 <= index < total]
        if outside or not len(indices):
            raise InputError(f"frames {outside} of {name}: give at least one index, each from 0 to {total - 1}.")
        if backend == "torchcodec":
            pixels = torchcodec_reader.read(self.source, self.video, self.timeline, indices)
        else:
            pixels = reader.read(self.video, self.timeline, indices, name, self.stored_size)
        timestamps = np.array([self.timeline.seconds(index) for index in indices])
        return Frames(pixels, timestamps, np.array(indices, dtype=np.int64), name)


@contextmanager
def open_file(source: EncodedVideo) -> Iterator[VideoFile]:
    """Open a file or encoded bytes. A file that was opened lately, and has not changed, opens at the cost of its header.

    Raises:
        VideoError: not there, not readable, no video, or damaged.
    """
    with open_video(source) as video:
        timeline = _TIMELINES.get(source, lambda: read_timeline(video, source_name(source)))
        yield VideoFile(source, video, timeline)

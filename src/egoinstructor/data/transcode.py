"""Transcode one video into the form that training reads: smaller, or cut into pieces of equal length.

Both operations write H.264 in MP4, upright, without sound (nothing here listens), and what is encoded has a keyframe every
second, so that a short segment is reached by decoding little. Times stay those of the source's presentation: pictures that
start late or end early, beside sound that is left out, are extended by copies of the first or last one. What was written is
read again, every frame of it. Folders, processes and resuming are `prepare`'s business.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from egoinstructor.errors import InputError, VideoError
from egoinstructor.video.container import OpenVideo, open_video
from egoinstructor.video.display import Orientation, is_hdr, orientation, to_sdr
from egoinstructor.video.h264 import REPEATABLE
from egoinstructor.video.leading import decode_all
from egoinstructor.video.reader import decode_shown
from egoinstructor.video.timeline import Timeline, read_timeline

ENCODER = {
    "preset": "veryfast",
    "crf": "20",
    "sc_threshold": "0",  # no extra keyframes: they stay on the seconds
    **REPEATABLE,
}
COPYABLE = {"mp4", "matroska"}  # containers whose H.264 packets fit an MP4 as they are
LONGEST_STILL = 600.0  # seconds; a longer gap between two frames is a broken clock, not a slide


@dataclass(frozen=True, slots=True)
class Resize:
    """Make the shorter side of a video `shorter_side` pixels, unless it is smaller: every frame, at its own time."""

    name: ClassVar[str] = "resize"
    shorter_side: int = 320

    def __post_init__(self) -> None:
        """Check the size."""
        if self.shorter_side < 16 or self.shorter_side % 2:
            raise InputError(f"shorter side {self.shorter_side}: give an even number of pixels from 16 up.")

    def output(self, video: Path) -> Path:
        """The same name, as MP4."""
        return video.with_name(f"{video.stem}.mp4")

    def write(self, source: Path, target: Path) -> str:
        """Write the smaller video as the file `target`."""
        with _open(source) as video:
            stream, timeline = video[1], _timeline(video, source)
            clock = _clock(stream)
            size = _target_size(stream, self.shorter_side)
            frames = ((round(time / clock), frame) for time, frame in _presented(video, timeline, source))
            _encode(_increasing(frames), target, stream, size, clock, stream.average_rate or Fraction(30))
        return "re-encoded"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Cut a video into pieces `0000.mp4`, `0001.mp4`, … of `seconds` at a constant `fps`.

    Ego4D is read by index, frame = round(second × 30), in pieces of 300 s: so the pieces must have that rate, and each
    but the last exactly `seconds × fps` frames. A video that has the rate keeps each of its frames once; one of another
    or a changing rate is shown at that rate, its frames held or dropped, at most half a frame from their own time.
    """

    name: ClassVar[str] = "chunk"
    seconds: int = 300
    fps: int = 30

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.seconds < 1 or self.fps < 1:
            raise InputError(f"pieces of {self.seconds} s at {self.fps} frames a second: both must be 1 or more.")

    def output(self, video: Path) -> Path:
        """A folder of the video's name."""
        return video.with_suffix("")

    def write(self, source: Path, target: Path) -> str:
        """Write the pieces into the new folder `target`."""
        target.mkdir()
        stored, timeline = self._stored_frames(source)
        numbers = [number for number, _ in stored]
        regular = sorted(numbers) == list(range(timeline.nominal_frames))
        if regular and self._can_cut(stored) and _can_copy(source):
            self._copy(source, target, numbers)
            return "copied"
        with _open(source) as video:
            stream = video[1]
            frames = _at_rate(_presented(video, timeline, source), self.fps, _end(timeline))
            size = _target_size(stream, None)
            for piece, group in itertools.groupby(frames, key=lambda numbered: numbered[0] // self._frames_per_piece):
                first = piece * self._frames_per_piece
                local = ((number - first, frame) for number, frame in group)
                _encode(local, _piece(target, piece), stream, size, Fraction(1, self.fps), Fraction(self.fps))
        return "re-encoded" if regular else f"resampled to {self.fps} frames/s"

    @property
    def _frames_per_piece(self) -> int:
        return self.seconds * self.fps

    def _stored_frames(self, source: Path) -> tuple[list[tuple[int, bool]], Timeline]:
        """Of each frame, in stored order, its number at the constant rate (-1 without a time), and if it is a key."""
        with _open(source) as video:
            timeline = _timeline(video, source)
        with _open(source) as (container, stream):
            stored = [(packet.pts, packet.is_keyframe) for packet in _packets(container, stream)]
            clock = _clock(stream)
            first = min((pts for pts, _ in stored if pts is not None), default=0)
        return [(-1 if pts is None else _slot((pts - first) * clock, self.fps), key) for pts, key in stored], timeline

    def _can_cut(self, stored: list[tuple[int, bool]]) -> bool:
        """Whether pieces can be cut without decoding.

        They can where each begins with a keyframe that is also its first frame shown, and frames of two pieces are not
        stored among each other (in an open group of pictures, frames shown before the keyframe are stored after it).
        """
        size = self._frames_per_piece
        return all(
            stored[cut] == (cut, True) and max(stored[cut : cut + size])[0] < cut + size
            for cut in range(0, len(stored), size)
        )

    def _copy(self, source: Path, target: Path, numbers: list[int]) -> None:
        tick = Fraction(1, self.fps)
        delay = max(place - number for place, number in enumerate(numbers))  # a frame is stored before it is shown
        with _open(source) as (container, stream):
            packets = zip(itertools.count(), numbers, _packets(container, stream), strict=False)
            for piece, group in itertools.groupby(packets, key=lambda packet: packet[0] // self._frames_per_piece):
                path, first, count = _piece(target, piece), piece * self._frames_per_piece, 0
                with _mp4(path) as output:
                    copy = output.add_stream_from_template(stream)
                    copy.time_base = tick
                    for place, number, packet in group:
                        packet.stream, packet.time_base, packet.duration = copy, tick, 1
                        packet.pts, packet.dts = number - first, place - first - delay
                        output.mux(packet)
                        count += 1
                _verify(path, count, (count - 1) * tick)


Operation = Resize | Chunk
"""What `prepare` does to each video. The fields are the settings that an output was made with; `output` is where the
result of a video lies, both relative to their folders; `write` makes it at `target`, synced to disk and checked, and
says how."""


def _piece(folder: Path, number: int) -> Path:
    return folder / f"{number:04d}.mp4"


@contextmanager
def _open(source: Path) -> Iterator[OpenVideo]:
    with open_video(source) as (container, stream):
        stream.thread_count = 1  # the processes are the parallelism
        yield container, stream


def _clock(stream: VideoStream) -> Fraction:
    """Seconds of one tick."""
    assert stream.time_base is not None  # every stream of a container has one
    return stream.time_base


def _can_copy(source: Path) -> bool:
    """Whether the packets fit an MP4 as they are."""
    with _open(source) as (container, stream):
        fits = stream.codec_context.name == "h264" and not COPYABLE.isdisjoint(container.format.name.split(","))
        first = next(decode_all((container, stream)), None)
        return fits and first is not None and orientation(first, str(source)) == Orientation() and not is_hdr(first)


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """The packets that are shown, in stored order, without the empty one at the end."""
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard:
            yield packet


def _timeline(video: OpenVideo, source: Path) -> Timeline:
    """The timeline of a whole file.

    Raises:
        VideoError: no frames, or a file that ends well before the end it states: a download that broke off.
    """
    timeline = read_timeline(video, str(source))
    if timeline.duration < Fraction(99, 100) * timeline.declared - 1:
        raise VideoError(
            f"{source} ends at {float(timeline.duration):.1f} s, and should last {float(timeline.declared):.1f} s: it is "
            "cut off, or its clock is broken. Fetch it again."
        )
    return timeline


def _end(timeline: Timeline) -> Fraction:
    """Seconds until which the last frame is shown; sound that outlasts it by a fraction of a second isn't counted."""
    return timeline.nominal_frames / timeline.rate if timeline.constant else timeline.duration


def _presented(video: OpenVideo, timeline: Timeline, source: Path) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Every frame with its seconds in the presentation, the first and the last one repeated where pictures are missing.

    Raises:
        VideoError: no frames, frames without times, or damaged ones.
    """
    step, tick = 1 / timeline.rate, timeline.tick
    first = time = last = None
    for number, frame in enumerate(decode_shown(video, timeline)):
        pts = frame.pts if timeline.ordered or number >= len(timeline.pts) else timeline.pts[number]
        if pts is None:
            raise VideoError(f"{source} has frames without a time. Convert it to MP4 first.")
        if timeline.stored and pts in timeline.stored.spoiled:
            raise VideoError(
                f"{source} lacks pictures at {float(pts * tick):.1f} s, which others refer to. Fetch it again."
            )
        if first is None:
            # A lead of less than half a frame is none: rates are then constant from the start.
            first = pts * tick
            lead = round(timeline.start * timeline.rate)
            start = timeline.start if lead else Fraction(0)
            for number in range(lead):
                yield number * start / lead, frame
        time, last = start + pts * tick - first, frame
        yield time, frame
    if time is None or last is None:
        raise VideoError(f"{source} has no frames.")
    while (time := time + step) < _end(timeline) - step / 2:
        yield time, last


def _increasing(frames: Iterable[tuple[int, VideoFrame]]) -> Iterator[tuple[int, VideoFrame]]:
    """The frames, a tick later where a broken clock stands still or runs back: none is lost."""
    last = -1
    for time, frame in frames:
        last = max(time, last + 1)
        yield last, frame


def _slot(time: Fraction, fps: int) -> int:
    """The number, at a constant rate, of the frame nearest to a time."""
    return math.floor(time * fps + Fraction(1, 2))


def _at_rate(
    frames: Iterable[tuple[Fraction, VideoFrame]], fps: int, end: Fraction
) -> Iterator[tuple[int, VideoFrame]]:
    """Frames at a constant rate, numbered from 0: each number shows the last frame due by then.

    Args:
        frames: frames and their seconds.
        fps: the rate.
        end: seconds until which the last frame is shown.
    """
    number, shown = 0, None
    for time, frame in frames:
        due = _slot(time, fps)
        if due - number > LONGEST_STILL * fps:
            raise VideoError(f"no frame between seconds {number / fps:.1f} and {float(time):.1f}: its clock is broken.")
        while shown is not None and number < due:
            yield number, shown
            number += 1
        shown = frame
    while shown is not None and number < max(1, _slot(end, fps)):
        yield number, shown
        number += 1


def _target_size(stream: VideoStream, shorter_side: int | None) -> tuple[int, int]:
    """Width and height, as stored, for the encoder: even, no larger than they are."""
    width, height = stream.codec_context.width, stream.codec_context.height
    if min(width, height) < 2:
        raise VideoError(f"a picture of {width}x{height} pixels: H.264 needs 2x2 or more.")
    scale = min(1.0, (shorter_side or min(width, height)) / min(width, height))
    return max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2)


def _upright(frame: VideoFrame, size: tuple[int, int], name: str) -> VideoFrame:
    """The frame as it is displayed, in the encoder's format and in SDR; `size` is that before it is turned."""
    width, height = size
    upright = orientation(frame, name)
    if is_hdr(frame):
        frame = to_sdr(frame.reformat(width, height, interpolation="AREA"))
        frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
    else:
        frame = frame.reformat(width, height, "yuv420p", interpolation="AREA")
    return frame if upright == Orientation() else _turned(frame, upright)


def _turned(frame: VideoFrame, upright: Orientation) -> VideoFrame:
    """A frame of yuv420p and even size, turned plane by plane."""
    width, height = upright.size(frame.width, frame.height)
    planes = frame.to_ndarray().reshape(6, -1)  # of the luma four parts, of each chroma one
    shapes = ((planes[:4], 1), (planes[4], 2), (planes[5], 2))
    turned = [upright.apply(plane.reshape(frame.height // by, frame.width // by)).ravel() for plane, by in shapes]
    result = VideoFrame.from_ndarray(np.concatenate(turned).reshape(height * 3 // 2, width), "yuv420p")
    result.colorspace, result.color_range = frame.colorspace, frame.color_range
    result.color_primaries, result.color_trc = frame.color_primaries, frame.color_trc
    return result


def _encode(
    frames: Iterable[tuple[int, VideoFrame]],
    path: Path,
    source: VideoStream,
    size: tuple[int, int],
    clock: Fraction,
    rate: Fraction,
) -> None:
    """Encode and verify one file.

    Args:
        frames: frames with their times in ticks of `clock`, increasing from 0.
        path: the file, new.
        source: the stream that the frames come from.
        size: width and height before turning.
        clock: seconds of one tick.
        rate: frames a second, for the encoder's choices.
    """
    count, ticks, encoder = 0, 0, None
    with _mp4(path) as output:
        for ticks, frame in frames:
            picture = _upright(frame, size, source.container.name)
            if encoder is None:
                encoder = _encoder(output, source, picture, clock, rate)
            picture.pts, picture.time_base, picture.pict_type = ticks, clock, PictureType.NONE
            output.mux(encoder.encode(picture))
            count += 1
        if encoder is not None:
            output.mux(encoder.encode(None))
    _verify(path, count, ticks * clock)


def _encoder(
    output: OutputContainer, source: VideoStream, picture: VideoFrame, clock: Fraction, rate: Fraction
) -> VideoStream:
    encoder = output.add_stream("libx264", rate=rate, options=ENCODER)
    context = encoder.codec_context
    context.width, context.height, context.pix_fmt = picture.width, picture.height, "yuv420p"
    context.time_base, context.thread_count = clock, 1
    context.gop_size = max(1, round(rate))
    # Without these, a player takes the colours of HD for those of SD.
    context.color_range, context.colorspace = picture.color_range, picture.colorspace
    context.color_primaries, context.color_trc = picture.color_primaries, picture.color_trc
    return encoder


@contextmanager
def _mp4(path: Path) -> Iterator[OutputContainer]:
    """A new MP4, on the disk when the block ends. A Python file, so that a full disk raises where it is met."""
    with path.open("xb") as file:
        try:
            with av.open(file, "w", format="mp4") as container:
                yield container
        except av.error.PyAVCallbackError as error:
            # After a write that failed, closing fails too: the first failure is the one to tell.
            raise error.__context__ or error from None
        file.flush()
        os.fsync(file.fileno())


def _verify(path: Path, frames: int, last: Fraction) -> None:
    """Read a file that was just written: every frame decodes, there are so many, the last shows at `last` seconds."""
    try:
        with _open(path) as (container, stream):
            times = [(frame.pts or 0) * _clock(stream) for frame in container.decode(stream)]
    except VideoError as error:
        raise VideoError(
            f"{path.name} can't be read back: the source holds damaged pictures, or the disk fails."
        ) from error
    if len(times) != frames or times[0] != 0 or abs(times[-1] - last) > Fraction(1, 100):
        raise VideoError(
            f"{path.name} was written with {len(times)} frames up to {float(times[-1]) if times else 0:.3f} s "
            f"in place of {frames} up to {float(last):.3f} s."
        )

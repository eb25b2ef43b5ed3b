"""Frames by display index, exactly those that a decode from the start would give, without that decode.

Wanted frames fall into runs. A run starts at a keyframe and ends with the last wanted frame before the next run's
keyframe; what lies between runs is skipped. Within a run, pictures that nobody asked for and that no other picture
refers to are left out, and only wanted frames are converted to RGB.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain

import av
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from egoinstructor.errors import VideoError
from egoinstructor.video.container import OpenVideo
from egoinstructor.video.h264 import is_reference, nal_length_size
from egoinstructor.video.timeline import Timeline, from_packets

MIN_JUMP = 8
"""Frames that a jump to a keyframe must save: decoding so few costs less than emptying the decoder's threads."""


def read(video: OpenVideo, timeline: Timeline, indices: Sequence[int], name: str) -> np.ndarray:
    """Decode frames.

    Args:
        video: an open file.
        timeline: of that file.
        indices: display indices within the file, in any order, repeats allowed.
        name: the video as a message names it.

    Returns:
        uint8 RGB `(F, H, W, 3)`, upright, in the order of `indices`.

    Raises:
        VideoError: a wanted frame, or one that it depends on, is damaged or missing.
    """
    wanted = sorted(set(indices))
    found = _Collector(wanted, name)
    try:
        if not (timeline.ordered and timeline.keyframes and _read_by_seeking(video, timeline, wanted, found)):
            found = _Collector(wanted, name)
            _read_from_start(video, wanted, found)
    except av.error.InvalidDataError as error:
        raise _damaged(name, timeline, wanted) from error
    if not found.complete:
        raise _damaged(name, timeline, wanted)
    if list(indices) == wanted:
        return found.pixels
    rows = {index: row for row, index in enumerate(wanted)}
    return found.pixels[[rows[index] for index in indices]]


class _UnforeseenError(Exception):
    """A seek or a run didn't give what the timeline foresees."""


class _Collector:
    """Turns wanted frames upright and to RGB, each straight into its place."""

    def __init__(self, wanted: list[int], name: str) -> None:
        self.rows = {index: row for row, index in enumerate(wanted)}
        self.pixels = np.empty((0, 0, 0, 3), np.uint8)
        self.name = name

    @property
    def complete(self) -> bool:
        return not self.rows

    def add(self, index: int, frame: VideoFrame) -> None:
        """Take the frame of that display index if it is wanted."""
        row = self.rows.pop(index, None)
        if row is None:
            return
        rgb = np.rot90(frame.to_ndarray(format="rgb24", threads=1), quarter_turns(frame))
        if not self.pixels.size:
            self.pixels = np.empty((len(self.rows) + 1, *rgb.shape), np.uint8)
        if rgb.shape != self.pixels.shape[1:]:
            raise VideoError(f"video {self.name}: its picture size changes at frame {index}. Encode it in one size.")
        self.pixels[row] = rgb


def quarter_turns(frame: VideoFrame) -> int:
    """Quarter turns counter-clockwise that put a frame upright, by its display matrix."""
    return round(frame.rotation / 90) % 4


def _read_by_seeking(video: OpenVideo, timeline: Timeline, wanted: list[int], found: _Collector) -> bool:
    """Run by run; False where a run didn't give what the timeline foresees, and only a full decode can tell."""
    try:
        for key, run in _runs(timeline, wanted):
            _decode_run(video, timeline, key, run, found)
    except (av.error.FFmpegError, _UnforeseenError):
        return False
    return found.complete


def _runs(timeline: Timeline, wanted: list[int]) -> Iterator[tuple[int, list[int]]]:
    """Wanted indices grouped by the keyframe (its position in the list) that they are decoded from."""
    key, run = 0, list[int]()
    for index in wanted:
        nearest = max(bisect_right(timeline.keyframes, index, key=lambda entry: entry[0]) - 1, 0)
        if run and timeline.keyframes[nearest][0] - run[-1] <= MIN_JUMP:
            run.append(index)
            continue
        if run:
            yield key, run
        key, run = nearest, [index]
    yield key, run


def _decode_run(video: OpenVideo, timeline: Timeline, key: int, run: list[int], found: _Collector) -> None:
    """Decode from a keyframe to the last frame of the run.

    Raises:
        _UnforeseenError: the packets aren't where the timeline has them, or one of them gave no frame.
    """
    codec = video[1].codec_context
    length_size = nal_length_size(codec)
    index_at = {timeline.pts[index]: index for index in run}
    pending, undecoded = set(index_at), set[int | None]()

    def decode(packet: Packet[VideoStream] | None) -> None:
        for frame in codec.decode(packet):
            undecoded.discard(frame.pts)
            if frame.pts in index_at:
                found.add(index_at[frame.pts], frame)

    start, packets = _seek(video, timeline, key, run[0])
    for packet in packets:
        # After a seek, pictures shown before the keyframe may refer to ones before it: they can't be decoded here.
        if packet.pts is None or packet.pts < start:
            continue
        if packet.pts not in pending and not is_reference(memoryview(packet), length_size):
            continue
        if not packet.is_discard:
            undecoded.add(packet.pts)
        decode(packet)
        pending.discard(packet.pts)
        if not pending:
            break
    decode(None)
    # With threads, a decoder's error can get lost between two frames (PyAV reports one thing per call). The damaged
    # picture is still missing from what came out, and later ones may build on it.
    if pending or undecoded:
        raise _UnforeseenError


def _seek(video: OpenVideo, timeline: Timeline, key: int, first: int) -> tuple[int, Iterator[Packet[VideoStream]]]:
    """Go to a keyframe from which frame `first` can be decoded: its presentation time, and the packets from it on.

    Containers seek by decoding time, and a keyframe of an open group is shown after pictures that follow it in the
    file: where we land too late, the keyframe before is tried.
    """
    container, stream = video
    for position in range(key, -1, -1):
        container.seek(timeline.keyframes[position][1], stream=stream)
        packets = container.demux(stream)
        packet = next(packets)
        if packet.is_keyframe and packet.pts is not None and packet.pts <= timeline.pts[first]:
            return packet.pts, chain((packet,), packets)
    raise _UnforeseenError


def _read_from_start(video: OpenVideo, wanted: list[int], found: _Collector) -> None:
    """Decode everything up to the last wanted frame: slow, and right where a seek isn't.

    Met with H.264 in avi, with headers that lie about times, and with open groups of H.264 (broadcast cameras): after a
    seek their pictures refer to ones that were skipped, which can't be told from damage.
    """
    container, stream = video
    timeline = from_packets(video)
    if timeline is None:
        return
    if not timeline.ordered:  # then nothing but their number tells frames apart, and a lost error would shift them all
        stream.codec_context.thread_count = 1
    container.seek(min([timeline.pts[0], *(time for _, time in timeline.keyframes[:1])]), stream=stream)
    for index, (frame, time) in enumerate(zip(container.decode(stream), timeline.pts, strict=False)):
        if timeline.ordered and frame.pts != time:
            return
        found.add(index, frame)
        if index == wanted[-1]:
            return


def _damaged(name: str, timeline: Timeline, wanted: list[int]) -> VideoError:
    first, last = timeline.seconds(wanted[0]), timeline.seconds(wanted[-1])
    return VideoError(
        f"video {name}: between {first:.2f} s and {last:.2f} s pictures are damaged or missing. "
        "Fetch the file again, or choose a segment that plays."
    )

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
from egoinstructor.video.container import OpenVideo, rewind
from egoinstructor.video.display import orientation, resize, to_rgb
from egoinstructor.video.h264 import is_reference, nal_length_size
from egoinstructor.video.interlaced import demux
from egoinstructor.video.leading import decode_all
from egoinstructor.video.timeline import Timeline, from_packets

MIN_JUMP = 8
"""Frames that a jump to a keyframe must save: decoding so few costs less than emptying the decoder's threads."""


Size = tuple[int, int]
"""Width and height in pixels."""


def read(video: OpenVideo, timeline: Timeline, indices: Sequence[int], name: str, size: Size) -> np.ndarray:
    """Decode frames.

    Where the picture size changes within the file, every frame is scaled to the size of the file's first one, whichever
    frames are asked for.

    Args:
        video: an open file.
        timeline: of that file.
        indices: display indices within the file, in any order, repeats allowed.
        name: the video as a message names it.
        size: of its pictures as they are stored, by its header.

    Returns:
        uint8 RGB `(F, H, W, 3)`, upright, SDR, in the order of `indices`.

    Raises:
        VideoError: a wanted frame, or one that it depends on, is damaged or missing.
    """
    wanted = sorted(set(indices))
    if timeline.stored and any(timeline.pts[index] in timeline.stored.spoiled for index in wanted):
        raise _damaged(name, timeline, wanted)
    try:
        try:
            found = _collect(video, timeline, _Collector(wanted, name, stored=size))
        except _OtherSizeError:
            first = first_frame(video, name)
            displayed = orientation(first, name).size(first.width, first.height)
            found = _collect(video, timeline, _Collector(wanted, name, displayed=displayed))
    except av.error.InvalidDataError as error:
        raise _damaged(name, timeline, wanted) from error
    if not found.complete:
        raise _damaged(name, timeline, wanted)
    pixels = found.pixels
    if list(indices) == wanted:
        return pixels
    rows = {index: row for row, index in enumerate(wanted)}
    return pixels[[rows[index] for index in indices]]


def first_frame(video: OpenVideo, name: str) -> VideoFrame:
    """Decode the first frame of a file: its size, upright, is that of the video.

    Raises:
        VideoError: it can't be decoded.
    """
    frame = next(decode_all(video), None)
    if frame is None:
        raise VideoError(f"video {name}: its first frame can't be decoded. Fetch it again.")
    return frame


class _UnforeseenError(Exception):
    """A seek or a run didn't give what the timeline foresees."""


class _OtherSizeError(Exception):
    """A frame hasn't the size that was expected of all."""


class _Collector:
    """Converts wanted frames to upright RGB, each straight into its place.

    Args:
        wanted: display indices, rising.
        name: the video as a message names it.
        stored: size that every picture must have as it is stored.
        displayed: size that every upright frame is scaled to.
    """

    def __init__(
        self, wanted: list[int], name: str, *, stored: Size | None = None, displayed: Size | None = None
    ) -> None:
        self.wanted, self.name, self.stored, self.displayed = wanted, name, stored, displayed
        self.clear()

    def clear(self) -> None:
        """Forget the frames that were taken."""
        self.rows = {index: row for row, index in enumerate(self.wanted)}
        self.pixels = np.empty((0, 0, 0, 3), np.uint8)

    @property
    def complete(self) -> bool:
        return not self.rows

    def add(self, index: int, frame: VideoFrame) -> None:
        """Take the frame of that display index if it is wanted.

        Raises:
            _OtherSizeError: it hasn't the size `stored`, or is turned otherwise than those before.
        """
        row = self.rows.pop(index, None)
        if row is None:
            return
        if self.stored and self.stored != (frame.width, frame.height):
            raise _OtherSizeError
        rgb = to_rgb(frame, self.name)
        if self.displayed:
            rgb = resize(rgb, *self.displayed)
        if not self.pixels.size:
            self.pixels = np.empty((len(self.wanted), *rgb.shape), np.uint8)
        elif rgb.shape != self.pixels.shape[1:]:
            raise _OtherSizeError
        self.pixels[row] = rgb


def _collect(video: OpenVideo, timeline: Timeline, found: _Collector) -> _Collector:
    """Run by run where the timeline allows it, else by decoding from the start."""
    if not (timeline.ordered and timeline.keyframes and _read_by_seeking(video, timeline, found)):
        found.clear()
        _read_from_start(video, found)
    return found


def _read_by_seeking(video: OpenVideo, timeline: Timeline, found: _Collector) -> bool:
    """Run by run; False where a run didn't give what the timeline foresees, and only a full decode can tell."""
    try:
        for run in _runs(timeline, found.wanted):
            _decode_run(video, timeline, run, found)
    except (av.error.FFmpegError, _UnforeseenError):
        return False
    return found.complete


def _runs(timeline: Timeline, wanted: list[int]) -> Iterator[list[int]]:
    """Wanted indices grouped by the keyframe that they are decoded from."""
    run = list[int]()
    for index in wanted:
        if run and timeline.keyframes[_nearest(timeline, index)][0] - run[-1] > MIN_JUMP:
            yield run
            run = []
        run.append(index)
    yield run


def _decode_run(video: OpenVideo, timeline: Timeline, run: list[int], found: _Collector) -> None:
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

    start: int | None = None
    for packet in enter(video, timeline, run[0]):
        # After a seek, pictures shown before the keyframe may refer to ones before it: they can't be decoded here.
        start = packet.pts if start is None else start
        if packet.pts is None or start is None or packet.pts < start:
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


def enter(video: OpenVideo, timeline: Timeline, first: int) -> Iterator[Packet[VideoStream]]:
    """Seek to a keyframe from which frame `first` can be decoded.

    Containers seek by decoding time, and a keyframe of an open group is shown after pictures that follow it in the file;
    those without an index are entered anywhere near the time. Where a seek ends too late, earlier keyframes are tried, and
    at last the start of the file; what is stored before the first keyframe is left out.

    Returns:
        the packets, the keyframe's first; none where no seek leads to one.
    """
    container, stream = video
    nearest = _nearest(timeline, first)
    tries = [nearest, *(nearest - 2**i for i in range(nearest.bit_length())), -1]
    for position in tries:
        if position >= 0:
            container.seek(timeline.keyframes[position][1], stream=stream)
        else:
            rewind(video)
        packets = demux(video)
        if timeline.stored:
            packets = timeline.stored.restamp(packets, entered=position >= 0)
        key = next((packet for packet in packets if packet.is_keyframe), None)
        if key is not None and key.pts is not None and key.pts <= timeline.pts[first]:
            return chain((key,), packets)
    return iter(())


def _nearest(timeline: Timeline, index: int) -> int:
    """The last keyframe that isn't shown after a frame, by its position in the list."""
    return max(bisect_right(timeline.keyframes, index, key=lambda entry: entry[0]) - 1, 0)


def _read_from_start(video: OpenVideo, found: _Collector) -> None:
    """Decode everything up to the last wanted frame: slow, and right where a seek isn't.

    Met with H.264 in avi, with headers that lie about times, and with open groups of H.264 (broadcast cameras): after a
    seek their pictures refer to ones that were skipped, which can't be told from damage.
    """
    timeline = from_packets(video)
    if timeline is None:
        return
    for index, frame in enumerate(decode_shown(video, timeline)):
        if timeline.ordered and frame.pts != timeline.pts[index]:
            return
        found.add(index, frame)
        if index == found.wanted[-1]:
            return


def decode_shown(video: OpenVideo, timeline: Timeline) -> Iterator[VideoFrame]:
    """Decode the frames of a timeline from the start of the file on; without the leading pictures that it leaves out.

    Raises:
        av.error.InvalidDataError: one is damaged.
    """
    first = timeline.pts[0]
    leads = timeline.ordered and bool(timeline.keyframes) and timeline.keyframes[0][1] >= first
    # Without times nothing but their number tells frames apart, and a lost error would shift them all.
    for frame in decode_all(video, threads=timeline.ordered):
        if not (leads and frame.pts is not None and frame.pts < first):
            yield frame


def _damaged(name: str, timeline: Timeline, wanted: list[int]) -> VideoError:
    first, last = timeline.seconds(wanted[0]), timeline.seconds(wanted[-1])
    return VideoError(
        f"video {name}: between {first:.2f} s and {last:.2f} s pictures are damaged or missing. "
        "Fetch the file again, or choose a segment that plays."
    )

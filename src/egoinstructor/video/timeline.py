"""When each frame of a file is shown, without decoding: display index ↔ time.

Two ways to find out. An mp4 of constant rate says it in its header (its index), and reading the header of an hour of
video takes milliseconds. For everything else the packets are read once, undecoded.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import av
from av.video.stream import VideoStream

from egoinstructor.errors import VideoError
from egoinstructor.video.container import OpenVideo, rewind
from egoinstructor.video.leading import undecodable

LONGEST = 3600
"""Seconds from a frame to the next, at most. A camera may stop for minutes; what a damaged time stamp says may be a century
off, and would be narrated as a still picture."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """The frames of a file in display order.

    Args:
        pts: presentation time of each frame, in ticks, rising.
        keyframes: where decoding can start: (display index, presentation time), rising.
        tick: seconds per tick.
        rate: frames per second; the mean one where the rate varies.
        duration: seconds from the first frame's start to the last frame's end.
        declared: the duration that the header promises; more than `duration` where the file is cut off.
        constant: no frame is half a frame or more away from its place at a constant rate.
        ordered: the times are the frames' own. Without it (H.264 in avi) they only count packets, and nothing but a
            decode from the start tells which frame is which.
    """

    pts: Sequence[int]
    keyframes: Sequence[tuple[int, int]]
    tick: Fraction
    rate: Fraction
    duration: Fraction
    declared: Fraction
    constant: bool = True
    ordered: bool = True

    @property
    def nominal_frames(self) -> int:
        """Frames that a constant rate would show in the same time."""
        return len(self.pts) if self.constant else max(round(self.duration * self.rate), 1)

    def display_index(self, nominal: int) -> int:
        """The frame that is on the screen at `nominal / rate`; at a constant rate, that frame number itself."""
        if self.constant:
            return min(nominal, len(self.pts) - 1)
        # Half a tick of grace: a frame due at this very time may be written down rounded up.
        time = self.pts[0] + (Fraction(nominal) / self.rate) / self.tick + Fraction(1, 2)
        return bisect_right(self.pts, time) - 1

    def seconds(self, index: int) -> float:
        """When a frame is shown, from the first frame on."""
        return float((self.pts[index] - self.pts[0]) * self.tick)


def read_timeline(video: OpenVideo, name: str) -> Timeline:
    """The timeline of an open file.

    Raises:
        VideoError: no frame can be read.
    """
    timeline = _from_index(video) or from_packets(video)
    if timeline is None:
        raise VideoError(f"video {name}: not one frame can be read; it is cut off or damaged. Fetch it again.")
    return timeline


def _from_index(video: OpenVideo) -> Timeline | None:
    """The timeline that an mp4's header tells, where it is sure: constant rate, complete, no edits."""
    container, stream = video
    entries = stream.index_entries
    if not container.format.name.startswith("mov") or len(entries) < 2 or len(entries) != stream.frames:
        return None
    first, step = entries[0].timestamp, entries[1].timestamp - entries[0].timestamp
    keyframes, file_size = [], container.size
    for number, entry in enumerate(entries):
        beyond_end = entry.pos + entry.size > file_size
        if entry.timestamp != first + number * step or entry.is_discard or beyond_end:
            return None
        if entry.is_keyframe:
            keyframes.append(number)
    if step <= 0 or not keyframes or keyframes[0] or stream.start_time is None or stream.time_base is None:
        return None
    if step * stream.time_base > LONGEST:
        return None
    # Decoding times this regular are those of a constant rate, so the frames are shown at the same steps. The reader
    # holds each frame to the time foreseen here; if one isn't there, it asks the packets.
    pts = range(stream.start_time, stream.start_time + len(entries) * step, step)
    rate = 1 / (step * stream.time_base)
    duration = len(entries) / rate
    return Timeline(pts, [(k, pts[k]) for k in keyframes], stream.time_base, rate, duration, duration)


def from_packets(video: OpenVideo) -> Timeline | None:
    """The timeline from one pass over the packets; it ends where the file is cut off. None where nothing is there."""
    container, stream = video
    times = array("q")  # in an eighth of a list's memory: timelines are kept
    starts: list[int] = []
    ordered = not (container.format.name == "avi" and stream.codec_context.name in ("h264", "hevc"))
    cut_off, last_dts, end = False, None, 0
    try:
        rewind(video)
        for packet in container.demux(stream):
            cut_off = packet.is_corrupt
            if cut_off:
                break
            if not packet.size:
                continue
            ordered &= packet.pts is not None
            time = next(stamp for stamp in (packet.pts, packet.dts, len(times)) if stamp is not None)
            if packet.is_keyframe:
                starts.append(time)
            if not packet.is_discard:  # frames before an edit's start are decoded but never shown
                times.append(time)
            last_dts, end = packet.dts, max(end, time + (packet.duration or 0))
    except av.error.InvalidDataError:
        cut_off = True
    tick, declared = stream.time_base or Fraction(1, 1000), _declared(stream)
    if starts and ordered and min(times, default=starts[0]) < starts[0]:
        lost = undecodable(video)
        times = array("q", (time for time in times if time not in lost))
    times = _believable(array("q", sorted(times)), round(LONGEST / tick))
    if times and not 0 <= end - times[-1] <= LONGEST / tick:
        end = times[-1]
    # Some containers just end. Headers are a frame or two off, not a second.
    cut_off = cut_off or (bool(times) and (end - times[0]) * tick < declared - 1)
    if cut_off and last_dts is not None:
        # What is missing would have been decoded, and so shown, after the last packet that is there.
        times = times[: bisect_right(times, last_dts)]
    if not times:
        return None
    keyframes = [(bisect_left(times, time), time) for time in sorted(starts) if time <= times[-1]]
    length = len(times)
    span = (times[-1] - times[0]) * tick
    stated = stream.average_rate or Fraction(25)
    if stated * LONGEST < 1:  # of damaged times
        stated = Fraction(25)
    for rate in (stated, (length - 1) / span if span else stated):
        if _is_constant(times, rate * tick):
            duration = length / rate
            return Timeline(times, keyframes, tick, rate, duration, max(declared, duration), True, ordered)
    duration = max((end - times[0]) * tick, span * length / (length - 1))
    return Timeline(times, keyframes, tick, length / duration, duration, max(declared, duration), False, ordered)


def _believable(times: array[int], longest: int) -> array[int]:
    """The most of the frames that have no gap between them longer than that, in ticks: stamps beyond one are damaged.

    None of them where that is not most of all frames: nobody can tell then which are right.
    """
    gaps = [i for i, (early, late) in enumerate(pairwise(times), 1) if late - early > longest]
    if not gaps:
        return times
    first, beyond = max(pairwise([0, *gaps, len(times)]), key=lambda span: span[1] - span[0])
    return times[first:beyond] if 2 * (beyond - first) > len(times) else array("q")


def _is_constant(pts: Sequence[int], frames_per_tick: Fraction) -> bool:
    """Whether each frame is less than half a frame from its place at a constant rate, in whole numbers for speed."""
    frames, ticks = frames_per_tick.numerator, frames_per_tick.denominator
    return all(2 * abs((time - pts[0]) * frames - i * ticks) < ticks for i, time in enumerate(pts))


def _declared(stream: VideoStream) -> Fraction:
    """Seconds of pictures that the header promises; 0 where it doesn't say."""
    start = (stream.start_time or 0) * (stream.time_base or Fraction(0))
    if stream.duration is not None and stream.time_base is not None:
        return stream.duration * stream.time_base
    # What FFmpeg writes for each track of mkv and webm: when it ends, as 00:01:02.345000000.
    stated = stream.metadata.get("DURATION", "")
    try:
        hours, minutes, seconds = (Fraction(part) for part in stated.split(":"))
        return hours * 3600 + minutes * 60 + seconds - start
    except ValueError:
        return Fraction(0)

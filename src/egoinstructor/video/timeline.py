"""When each frame of a file is shown, without decoding: display index ↔ time.

Seconds count from the start of the presentation, as players, subtitles and speech recognition count them: from FFmpeg's
`start_time` of the container, not from the first frame. A frame stays on the screen until the next one, the last one
until the file ends, sound included.

Two ways to find out. An mp4 of constant rate has it in its header (its index), and reading the header of an hour of
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
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from egoinstructor.errors import VideoError
from egoinstructor.video.container import OpenVideo, rewind
from egoinstructor.video.interlaced import demux
from egoinstructor.video.leading import undecodable
from egoinstructor.video.sampling import END_SLACK
from egoinstructor.video.stamps import STREAMED, StoredPictures

LONGEST = 3600
"""Seconds from a frame to the next, at most. A camera may stop for minutes; what a damaged time stamp says may be a century
off, and would be narrated as a still picture."""

MOST_REORDERED = 16
"""Pictures that may be decoded between a picture's decoding and its display, in H.264 and HEVC."""

_SLACK = Fraction(END_SLACK)
_ROUNDING = Fraction(2, av.time_base)  # of a container's times, which are in microseconds
_ROUNDED = Fraction(1, 50)  # of durations that add up, seconds


@dataclass(frozen=True, slots=True)
class Timeline:
    """The frames of a file in display order.

    Args:
        pts: presentation time of each frame, in ticks, rising.
        keyframes: where decoding can start: (display index, presentation time), rising.
        tick: seconds per tick.
        rate: frames per second; the mean one where the rate varies.
        origin: start of the presentation, in ticks; at most the first frame's time.
        duration: seconds from the start of the presentation to its end.
        declared: the duration that the header promises; more than `duration` where the file is cut off.
        constant: no frame is half a frame or more away from its place at a constant rate.
        ordered: the times are the frames' own. Without it (H.264 in avi) they only count packets, and nothing but a
            decode from the start tells which frame is which.
        stored: the pictures in stored order, in a container without an index.
    """

    pts: Sequence[int]
    keyframes: Sequence[tuple[int, int]]
    tick: Fraction
    rate: Fraction
    origin: Fraction
    duration: Fraction
    declared: Fraction
    constant: bool = True
    ordered: bool = True
    stored: StoredPictures | None = None

    @property
    def lead(self) -> int:
        """Frames that a constant rate would show from the start of the presentation to the first frame."""
        return round((self.pts[0] - self.origin) * self.tick * self.rate)

    @property
    def start(self) -> Fraction:
        """Seconds from the start of the presentation to the first frame; at a constant rate, a whole number of frames."""
        return self.lead / self.rate if self.constant else (self.pts[0] - self.origin) * self.tick

    @property
    def nominal_frames(self) -> int:
        """Frames that a constant rate would show in the presentation.

        Sound that outlasts the pictures by a fraction of a second adds none: every frame is then shown once.
        """
        shown, stored = round(self.duration * self.rate), self.lead + len(self.pts)
        return max(shown, 1) if not self.constant or shown - stored > _SLACK * self.rate else stored

    def display_index(self, nominal: int) -> int:
        """The frame that is on the screen in the middle of a frame's time at a constant rate.

        Args:
            nominal: number of that frame, counted from the start of the presentation.
        """
        if self.constant:
            return min(max(nominal - self.lead, 0), len(self.pts) - 1)
        return self.index_at((nominal + Fraction(1, 2)) / self.rate)

    def index_at(self, seconds: Fraction | float) -> int:
        """The frame that is on the screen at a time; the first one before it is shown."""
        # Half a tick of grace: a frame due at this very time may be written down rounded up.
        return max(bisect_right(self.pts, self.origin + Fraction(seconds) / self.tick + Fraction(1, 2)) - 1, 0)

    def index_before(self, seconds: Fraction | float) -> int:
        """The last frame that is on the screen before a time; the first one before it is shown."""
        return max(bisect_left(self.pts, self.origin + Fraction(seconds) / self.tick - Fraction(1, 2)) - 1, 0)

    def seconds(self, index: int) -> float:
        """Seconds from the start of the presentation to a frame."""
        return float((self.pts[index] - self.origin) * self.tick)


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
    """Read the timeline from an mp4's header, where that is certain: constant rate, complete, no edits."""
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
    tick = stream.time_base
    if step * tick > LONGEST:
        return None
    sound_end = Fraction(0)
    for sound in container.streams.audio:
        index = sound.index_entries
        if not index or sound.time_base is None:
            continue
        last, before = index[len(index) - 1], index[max(len(index) - 2, 0)]
        if last.pos + last.size > file_size:
            return None
        sound_end = max(sound_end, (2 * last.timestamp - before.timestamp) * sound.time_base)
    # Decoding times this regular are those of a constant rate, so the frames are shown at the same steps: but for the last
    # few, whose steps come after the end of the decoding times. The reader compares each frame with the time foreseen here;
    # if one isn't there, it asks the packets.
    pts = range(stream.start_time, stream.start_time + len(entries) * step, step)
    container.seek(entries[max(len(entries) - MOST_REORDERED - 1, 0)].timestamp, stream=stream, any_frame=True)
    if max(packet.pts or 0 for packet in container.demux(stream)) != pts[-1]:
        return None
    rate, origin = 1 / (step * tick), _origin(container, pts[0], tick)
    duration = _duration(container, origin * tick, (pts[-1] + step) * tick, pts[-1] * tick, sound_end, rate)
    return Timeline(pts, [(k, pts[k]) for k in keyframes], tick, rate, origin, duration, duration)


@dataclass(slots=True)
class _Scan:
    """Facts of one pass over the packets; times in ticks, in stored order.

    Args:
        times: display times of the frames that are shown.
        keyframes: display times of those that decoding can start from.
        ordered: as in `Timeline`.
        first_dts: decoding time of the first packet, if any has one.
        last_dts: of the last.
        last_duration: of the last packet; 0 where it has none.
        decoded_end: end of the last packet in decoding order.
        end: end of the last packet in display order.
        sound_end: end of the sound, seconds.
        cut_off: the file breaks off.
        stored: its pictures, in a container without an index.
    """

    times: array[int]  # in an eighth of a list's memory: timelines are kept
    keyframes: list[int]
    ordered: bool
    first_dts: int | None = None
    last_dts: int | None = None
    last_duration: int = 0
    decoded_end: int = 0
    end: int = 0
    sound_end: Fraction = Fraction(0)
    cut_off: bool = False
    stored: StoredPictures | None = None

    def add(self, packet: Packet[VideoStream]) -> None:
        """Take the next packet with a picture."""
        self.ordered &= packet.pts is not None
        time = next(stamp for stamp in (packet.pts, packet.dts, len(self.times)) if stamp is not None)
        if packet.is_keyframe:
            self.keyframes.append(time)
        if not packet.is_discard:  # frames before an edit's start are decoded but never shown
            self.times.append(time)
        self.last_dts, self.last_duration = packet.dts, packet.duration or 0
        self.first_dts = self.last_dts if self.first_dts is None else self.first_dts
        self.decoded_end = max(self.decoded_end, (self.last_dts or 0) + self.last_duration)
        self.end = max(self.end, time + self.last_duration)
        if self.stored:
            self.stored.add(packet)


def _scan(video: OpenVideo) -> _Scan:
    container, stream = video
    unordered = container.format.name == "avi" and stream.codec_context.name in ("h264", "hevc")
    found = _Scan(array("q"), [], not unordered)
    if container.format.name in STREAMED:
        found.stored = StoredPictures(stream.time_base or Fraction(1, 1000))
    try:
        rewind(video)
        for packet in demux(video, *container.streams.audio):
            if packet.stream_index != stream.index:
                if packet.pts is not None and packet.time_base is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    found.sound_end = max(found.sound_end, end)
                continue
            found.cut_off = packet.is_corrupt and not found.stored  # of a broadcast, some is lost on the way
            if found.cut_off:
                break
            if packet.size:
                found.add(packet)
    except av.error.InvalidDataError:
        found.cut_off = True
    if found.stored and not found.stored.reliable:
        found.times, found.ordered = found.stored.made_up_times(), False
        found.end = found.times[-1] + found.last_duration
    elif found.keyframes and min(found.times, default=found.keyframes[0]) < found.keyframes[0]:
        lost = undecodable(video)
        found.times = array("q", (time for time in found.times if time not in lost))
    return found


def from_packets(video: OpenVideo) -> Timeline | None:
    """The timeline from one pass over the packets; it ends where the file is cut off. None where nothing is there."""
    container, stream = video
    tick, found, declared = stream.time_base or Fraction(1, 1000), _scan(video), _declared_end(stream)
    times, end = _believable(array("q", sorted(found.times)), round(LONGEST / tick)), found.end
    if times and not 0 <= end - times[-1] <= LONGEST / tick:
        end = times[-1]
    # Some containers just end. Headers are a frame or two off, not a second.
    cut_off = found.cut_off or (bool(times) and max(end * tick, found.sound_end) < declared - 1)
    if cut_off and found.last_dts is not None:
        # What is missing would have been decoded, and so shown, after the last packet that is there.
        times = times[: bisect_right(times, found.last_dts)]
    if not times:
        return None
    if not cut_off and any(late < early for early, late in pairwise(found.times)):
        # Then a packet's duration is the step to the next picture in decoding order, wherever that is shown; only the last
        # one's is a frame's own. A header is believed where packets add up to it.
        end = times[-1] + found.last_duration
        added_up = (found.decoded_end - (found.first_dts or 0)) * tick
        if stream.duration is not None and abs(stream.duration * tick - added_up) <= _SLACK:
            end = max(end, times[0] + stream.duration)
    rate, constant, pictures_end = _rate(times, end, tick, stream.average_rate)
    origin = _origin(container, times[0], tick)
    duration = (
        pictures_end - origin * tick
        if cut_off
        else _duration(container, origin * tick, pictures_end, times[-1] * tick, found.sound_end, rate)
    )
    return Timeline(
        times,
        [(bisect_left(times, time), time) for time in sorted(found.keyframes) if time <= times[-1]],
        tick,
        rate,
        origin,
        duration,
        max(declared - origin * tick, duration),
        constant,
        found.ordered,
        found.stored,
    )


def _rate(times: Sequence[int], end: int, tick: Fraction, stated: Fraction | None) -> tuple[Fraction, bool, Fraction]:
    """Frames per second, whether they are constant, and when the last frame ends, in seconds of the container's clock.

    Args:
        times: of the frames, in ticks, rising.
        end: of the last frame, by its packet; its own time where that has no duration.
        tick: seconds per tick.
        stated: the rate that the header has.
    """
    length, span = len(times), (times[-1] - times[0]) * tick
    if stated is None or stated * LONGEST < 1:  # of damaged times
        stated = Fraction(25)
    for rate in (stated, (length - 1) / span if span else stated):
        if _is_constant(times, rate * tick):
            regular = times[0] * tick + length / rate  # packets' durations are rounded to ticks
            return rate, True, regular if end * tick <= regular + 1 / (2 * rate) else end * tick
    # Where no packet has a duration, the last frame gets the mean one.
    shown = end * tick if end > times[-1] else times[-1] * tick + span / (length - 1)
    return length / (shown - times[0] * tick), False, shown


def _origin(container: InputContainer, first: int, tick: Fraction) -> Fraction:
    """The start of the presentation, in ticks.

    Args:
        container: the open file.
        first: time of its first frame, ticks.
        tick: seconds per tick.
    """
    # avi has no presentation times: a first frame after 0 is the delay of a decoder that reorders pictures.
    if container.start_time is None or container.format.name == "avi":
        return Fraction(first)
    origin = Fraction(container.start_time, av.time_base) / tick
    return origin if _ROUNDING < (first - origin) * tick <= LONGEST else Fraction(first)


def _duration(
    container: InputContainer,
    origin: Fraction,
    shown: Fraction,
    last: Fraction,
    sound_end: Fraction,
    rate: Fraction,
) -> Fraction:
    """Seconds from the start of the presentation to its end; times are seconds of the container's clock.

    Args:
        container: the open file.
        origin: when the presentation starts.
        shown: when the last frame ends, by the pictures alone.
        last: when it starts.
        sound_end: when the sound ends; 0 without any.
        rate: frames per second.
    """
    measured = max(shown, min(sound_end, last + LONGEST)) - origin
    if container.duration is None:
        return measured
    # Headers are wrong by factors (a time scale that is not the file's) or right to the tick, which packets are not: some
    # containers leave the last duration out. Within their rounding the pictures' own arithmetic is the exact one.
    stated = Fraction(container.duration, av.time_base)
    believed = min(_ROUNDED, 1 / (2 * rate)) < abs(stated - measured) <= max(_SLACK, 1 / rate)
    return stated if believed and origin + stated >= last else measured


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


def _declared_end(stream: VideoStream) -> Fraction:
    """The end of the pictures by the header, in seconds of the container's clock; 0 where it isn't given."""
    # What FFmpeg writes for each track of mkv and webm: its end, as 00:01:02.345000000.
    stated = stream.metadata.get("DURATION", "")
    try:
        hours, minutes, seconds = (Fraction(part) for part in stated.split(":"))
        return hours * 3600 + minutes * 60 + seconds
    except ValueError:
        pass
    if stream.duration is None or stream.time_base is None:
        return Fraction(0)
    return ((stream.start_time or 0) + stream.duration) * stream.time_base

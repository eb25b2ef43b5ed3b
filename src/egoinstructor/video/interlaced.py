"""Interlaced H.264 of broadcasts and camcorders: its two fields, each a picture of its own, as one packet.

Decoders give one frame for both, so that packets could not be counted as frames. MP4 and Matroska store the two as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from egoinstructor.video.container import OpenVideo
from egoinstructor.video.stamps import STREAMED

_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)
_FRAME_TYPES = (1, 2, 5)  # slices; data partition A; slices of an IDR picture
_SPS = 7

_Field = tuple[int, int]
"""Number of the frame that it is of, and whether it is the bottom field."""


def demux(video: OpenVideo, *others: Stream) -> Iterator[Packet[VideoStream]]:
    """Demux from the current position: packets with a whole picture each, and those of other streams among them."""
    container, stream = video
    packets = cast("Iterator[Packet[VideoStream]]", container.demux(stream, *others))
    fields = container.format.name in STREAMED and stream.codec_context.name == "h264"
    return _joined(packets, stream) if fields else packets


def _joined(packets: Iterable[Packet[VideoStream]], stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    parser = _Parser(stream.codec_context.extradata or b"")
    first: tuple[Packet[VideoStream], _Field] | None = None
    for packet in packets:
        if packet.stream_index != stream.index:
            yield packet
            continue
        field = parser.field(packet)
        if first and field and first[1][0] == field[0] and first[1][1] != field[1]:
            yield _join(first[0], packet, stream)
            first = None
            continue
        if first:
            yield first[0]
        first = (packet, field) if field else None
        if not field:
            yield packet
    if first:
        yield first[0]


def _join(first: Packet[VideoStream], second: Packet[VideoStream], stream: VideoStream) -> Packet[VideoStream]:
    # Not made of Python's bytes: a decoder's thread would need the interpreter to free those, and can wait for ever.
    both = cast("Packet[VideoStream]", Packet(first.size + second.size))
    both.update(bytes(first) + bytes(second))
    both.stream, both.time_base, both.pts, both.dts = stream, first.time_base, first.pts, first.dts
    both.is_keyframe, both.is_corrupt = first.is_keyframe, first.is_corrupt or second.is_corrupt
    both.duration = first.duration or 0
    if first.dts is not None and second.dts is not None and second.dts > first.dts:
        both.duration = second.dts - first.dts + (second.duration or 0)
    return both


class _Parser:
    """Parser of slice headers, for which pictures are fields (ITU-T H.264, 7.3.2.1 and 7.3.3).

    Args:
        extradata: the stream's parameter sets, with start codes.
    """

    def __init__(self, extradata: bytes) -> None:
        self._number_bits = 0  # of a frame's number; 0 where no picture is a field
        self._planes = False
        for kind, unit in _units(extradata):
            if kind == _SPS:
                self._read_parameters(unit)

    def field(self, packet: Packet[VideoStream]) -> _Field | None:
        """Read which field a picture is; None of a whole frame."""
        if not self._number_bits and not packet.is_keyframe:
            return None
        for kind, unit in _units(bytes(packet)):
            if kind == _SPS:
                self._read_parameters(unit)
            elif kind in _FRAME_TYPES:
                return self._read_slice(unit) if self._number_bits else None
        return None

    def _read_slice(self, unit: bytes) -> _Field | None:
        bits = _Bits(unit[:64])
        for _ in range(3):  # first macroblock, kind of slice, picture parameter set
            bits.unsigned()
        bits.take(2 * self._planes)
        number = bits.take(self._number_bits)
        return (number, bits.take(1)) if bits.take(1) else None

    def _read_parameters(self, unit: bytes) -> None:
        bits = _Bits(unit)
        profile = bits.take(24) >> 16
        bits.unsigned()
        self._planes = False
        if profile in _HIGH_PROFILES:
            if (chroma := bits.unsigned()) == 3:
                self._planes = bool(bits.take(1))
            bits.unsigned()
            bits.unsigned()
            bits.take(1)
            if bits.take(1):
                for number in range(12 if chroma == 3 else 8):
                    if bits.take(1):
                        bits.skip_scaling_list(16 if number < 6 else 64)
        number_bits = bits.unsigned() + 4
        order = bits.unsigned()
        if order == 0:
            bits.unsigned()
        elif order == 1:
            bits.take(1)
            bits.unsigned()
            bits.unsigned()
            for _ in range(min(bits.unsigned(), 255)):
                bits.unsigned()
        bits.unsigned()
        bits.take(1)
        bits.unsigned()
        bits.unsigned()
        only_frames = bits.take(1)
        self._number_bits = 0 if only_frames else number_bits


class _Bits:
    """The bits of a NAL unit; zeros after its end."""

    def __init__(self, unit: bytes) -> None:
        unit = unit.replace(b"\0\0\3", b"\0\0") + bytes(16)
        self._value, self._left = int.from_bytes(unit, "big"), 8 * len(unit)

    def take(self, count: int) -> int:
        """A number of so many bits."""
        self._left = max(self._left - count, 0)
        return self._value >> self._left & (1 << count) - 1

    def unsigned(self) -> int:
        """An exponential Golomb code; a signed one has as many bits."""
        zeros = 0
        while not self.take(1) and zeros < 32:
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def skip_scaling_list(self, size: int) -> None:
        """A list of quantiser steps, each as the difference to the one before."""
        last = 8
        for _ in range(size):
            code = self.unsigned()
            last = (last + (code + 1) // 2 * (1 if code % 2 else -1)) % 256
            if last == 0:
                return


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """NAL units with their kinds, parted by start codes."""
    at = data.find(b"\0\0\1")
    while at >= 0 and at + 3 < len(data):
        following = data.find(b"\0\0\1", at + 3)
        unit = data[at + 3 : following if following >= 0 else len(data)]
        yield unit[0] & 31, unit[1:]
        at = following

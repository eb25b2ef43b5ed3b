"""Pictures at the start of a file that refer to ones that were cut away.

A file that was cut without decoding, or a broadcast that was joined on its way, begins between two keyframes, or with the
keyframe of an open group. Decoders give no frame for most of these leading pictures, and some report them as damaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice, pairwise
from typing import cast

import av
from av.codec import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from egoinstructor.video.container import OpenVideo, rewind


def decode_all(video: OpenVideo, *, threads: bool = True) -> Iterator[VideoFrame]:
    """Decode a file from its start, without the leading pictures that can't be decoded.

    Args:
        video: an open file.
        threads: decode in threads, whose errors can get lost between two frames (PyAV reports one thing per call).

    Raises:
        av.error.InvalidDataError: another picture is damaged.
    """
    stream, packets = video[1], _from_start(video)
    first = list(islice(packets, 2))
    key = first[0].pts if first[0].is_keyframe else None
    leads = key is None or any(packet.pts is not None and packet.pts < key for packet in first)
    # A decoder with threads gives nothing more after an error.
    decoder = stream.codec_context if threads and not leads else _decoder(stream)
    for packet in chain(first, packets):
        if key is None and packet.is_keyframe:
            key = packet.pts
        try:
            yield from decoder.decode(packet)
        except av.error.InvalidDataError:
            if not leads or (key is not None and (packet.pts is None or packet.pts >= key)):
                raise


def undecodable(video: OpenVideo) -> set[int]:
    """Presentation times, in ticks, of the leading pictures that give no frame."""
    decoder, key = _decoder(video[1]), None
    times, shown = set[int](), list[int]()
    for packet in _from_start(video):
        beyond = key is not None and packet.pts is not None and packet.pts > key
        if packet.pts is not None and not beyond:
            times.add(packet.pts)
            key = packet.pts if key is None and packet.is_keyframe else key
        with suppress(av.error.InvalidDataError):  # which is what is asked for
            shown += [frame.pts for frame in decoder.decode(None if beyond else packet) if frame.pts is not None]
        if beyond:
            break
    # MPEG-4 part 2 makes up what leading pictures refer to, and gives them in disorder.
    ordered = all(early < late for early, late in pairwise(shown))
    return times - {*(shown if ordered else ()), key}


def _from_start(video: OpenVideo) -> Iterator[Packet[VideoStream]]:
    rewind(video)
    return video[0].demux(video[1])


def _decoder(stream: VideoStream) -> VideoCodecContext:
    """A second decoder of a stream, without threads."""
    codec = stream.codec_context
    decoder = cast(VideoCodecContext, CodecContext.create(codec.codec.name, "r"))
    decoder.extradata, decoder.options, decoder.thread_count = codec.extradata, codec.options, 1
    decoder.width, decoder.height, decoder.codec_tag = codec.width, codec.height, codec.codec_tag
    return decoder

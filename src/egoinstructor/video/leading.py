"""Decoding a file from its start, which may refer to pictures that were cut away.

A file that was cut without decoding, or a broadcast that was joined on its way, begins between two keyframes, or with the
keyframe of an open group. For most of the leading pictures, those stored or shown before the first keyframe, decoders give
no frame, and report some of them as damaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice, pairwise
from typing import cast

import av
from av.codec import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from egoinstructor.video.container import OpenVideo, rewind
from egoinstructor.video.interlaced import demux


def decode_all(video: OpenVideo, *, threads: bool = True) -> Iterator[VideoFrame]:
    """Decode a file from its start, without the leading pictures that can't be decoded.

    Args:
        video: an open file.
        threads: decode in threads, whose errors can get lost between two frames (PyAV reports one thing per call).

    Raises:
        av.error.InvalidDataError: another picture is damaged.
    """
    decoder = video[1].codec_context if threads else _decoder(video[1])
    keys, given, last = list[int](), 0, None
    try:
        for packet in _from_start(video):
            if len(keys) < 2 and packet.is_keyframe and packet.pts is not None:
                keys.append(packet.pts)
            for frame in decoder.decode(packet):
                given, last = given + 1, frame.pts
                yield frame
        return
    except av.error.InvalidDataError:
        if len(keys) > 1 and last is not None and last >= keys[1]:
            raise
    yield from islice(_decode_beginning(video), given, None)


def _decode_beginning(video: OpenVideo) -> Iterator[VideoFrame]:
    """Decode from the start, without threads: with them, everything after an error fails too.

    Up to the second keyframe an error doesn't count where every picture comes out from the first keyframe on. H.264 has
    decoders forget pictures, and reports it as damage of a whole picture where those were cut away.
    """
    decoder, keys, owed = _decoder(video[1]), list[int](), set[int]()
    error: av.error.InvalidDataError | None = None
    for packet in _from_start(video):
        if len(keys) < 2 and packet.is_keyframe and packet.pts is not None:
            keys.append(packet.pts)
        if len(keys) == 1 and packet.pts is not None and packet.pts >= keys[0] and not packet.is_discard:
            owed.add(packet.pts)
        try:
            frames = decoder.decode(packet)
        except av.error.InvalidDataError as reported:
            if len(keys) > 1:
                raise
            error = reported
            continue
        for frame in frames:
            owed.discard(frame.pts or 0)
            if error and any(pts < (frame.pts or 0) for pts in owed):
                raise error
            yield frame
    if error and owed:
        raise error


def undecodable(video: OpenVideo) -> set[int]:
    """Presentation times, in ticks, of the leading pictures that give no frame."""
    decoder, key = _decoder(video[1]), None
    times, shown = set[int](), list[int]()
    with suppress(av.error.InvalidDataError):  # of a file that is cut off there
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
    return demux(video)


def _decoder(stream: VideoStream) -> VideoCodecContext:
    """A second decoder of a stream, without threads."""
    codec = stream.codec_context
    decoder = cast(VideoCodecContext, CodecContext.create(codec.codec.name, "r"))
    decoder.extradata, decoder.options, decoder.thread_count = codec.extradata, codec.options, 1
    decoder.width, decoder.height, decoder.codec_tag = codec.width, codec.height, codec.codec_tag
    return decoder

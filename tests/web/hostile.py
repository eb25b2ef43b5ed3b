"""Files that mean harm, made here: real little videos damaged by a seeded chance, and others built on purpose."""

from __future__ import annotations

import gzip
import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

FRAMES = 24
VIDEOS = {
    "h264.mp4": ("mp4", "libx264", {"preset": "veryfast"}, {"movflags": "faststart"}),
    "h264_pieces.mp4": ("mp4", "libx264", {"preset": "veryfast"}, {"movflags": "frag_keyframe+empty_moov"}),
    "mpeg4.mov": ("mov", "mpeg4", {}, {}),
    "h264.mkv": ("matroska", "libx264", {"preset": "veryfast"}, {}),
    "vp8.webm": ("webm", "libvpx", {"deadline": "realtime", "cpu-used": "8"}, {}),
    "vp9.webm": ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, {}),
    "mpeg4.avi": ("avi", "mpeg4", {}, {}),
    "mjpeg.mkv": ("matroska", "mjpeg", {}, {}),
    "hevc.mp4": ("mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none:pools=none"}, {}),
    "av1.mp4": ("mp4", "libsvtav1", {"preset": "10", "svtav1-params": "lp=1"}, {}),
    "h264.ts": ("mpegts", "libx264", {"preset": "veryfast"}, {}),
    "mpeg2.mpg": ("mpeg", "mpeg2video", {"bf": "2"}, {}),
    "h264.flv": ("flv", "libx264", {"preset": "veryfast"}, {}),
    "wmv2.wmv": ("asf", "wmv2", {}, {}),
    "vp8.ogv": ("ogg", "libvpx", {"deadline": "realtime", "cpu-used": "8"}, {}),
}
EXTREMES = [0, 1, 7, 255, 65535, 100_000, 2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]

Rng = random.Random


def video(container: str, codec: str, options: dict[str, str], container_options: dict[str, str]) -> bytes:
    """A moving picture of 64×48, 24 frames at 10 a second, a keyframe every 8."""
    picture = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    folder = TemporaryDirectory()
    path = Path(folder.name, "video")
    with av.open(path, "w", format=container, options=container_options) as output:
        stream = output.add_stream(codec, rate=25 if container == "mpeg" else 10, options=options)
        stream.width, stream.height, stream.gop_size, stream.thread_count = 64, 48, 8, 1
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for i in range(FRAMES):
            image = np.roll(picture, i, axis=1).repeat(4, 0).repeat(4, 1)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode(None))
    with folder:
        return path.read_bytes()


def spoil(seed: int, content: bytes, other: bytes) -> bytes:
    """One to three kinds of damage, the same for the same seed."""
    rng = random.Random(seed)
    for _ in range(rng.choice([1, 1, 2, 3])):
        content = rng.choice(DAMAGES)(rng, content, other) or b"\0"
    return content


def flip_bits(rng: Rng, content: bytes, other: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 3, 10, 100])):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def flip_bits_of_the_head(rng: Rng, content: bytes, other: bytes) -> bytes:
    return flip_bits(rng, content[:1500], other) + content[1500:]


def cut_off(rng: Rng, content: bytes, other: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def lose_the_start(rng: Rng, content: bytes, other: bytes) -> bytes:
    return content[rng.randrange(len(content)) :]


def lose_a_piece(rng: Rng, content: bytes, other: bytes) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randint(1, 3000) :]


def repeat_a_piece(rng: Rng, content: bytes, other: bytes) -> bytes:
    start = rng.randrange(len(content))
    piece = content[start : start + rng.randint(1, 3000)]
    return content[:start] + piece * rng.choice([2, 3, 500]) + content[start:]


def overwrite(rng: Rng, content: bytes, other: bytes) -> bytes:
    start, length = rng.randrange(len(content)), rng.randint(1, 600)
    filling = rng.choice([bytes(length), b"\xff" * length, rng.randbytes(length), other[:length]])
    return content[:start] + filling + content[start + length :]


def wrong_header(rng: Rng, content: bytes, other: bytes) -> bytes:
    length = rng.choice([4, 12, 64, 400])
    return other[:length] + content[length:]


def two_in_one(rng: Rng, content: bytes, other: bytes) -> bytes:
    cut = rng.randrange(len(content))
    return rng.choice([content + other, content[:cut] + other, other[:2000] + content])


_PARTS = [
    *b"ftyp moov mvhd trak tkhd mdia mdhd minf stbl stsd avc1 avcC stts stsc stsz stco ctts elst mdat moof trun".split(),
    *b"RIFF LIST avih strh strf movi 00dc idx1".split(),
    *map(bytes.fromhex, ["18538067", "1549A966", "1654AE6B", "4489", "1F43B675", "63A2", "2AD7B1"]),
]


def places(content: bytes) -> list[int]:
    """Where sizes, counts and dimensions stand: beside each name of a part."""
    return [match.start() for name in _PARTS for match in re.finditer(re.escape(name), content[:100_000])]


def blow_up_a_size(rng: Rng, content: bytes, other: bytes) -> bytes:
    """Before the name stands an mp4 box's size, behind it an avi chunk's or a mkv element's."""
    found = places(content)
    if not found:
        return flip_bits(rng, content, other)
    place = rng.choice(found)
    value = struct.pack(rng.choice("<>") + "I", rng.choice(EXTREMES))
    place = max(place + rng.choice([-4, 4]), 0)
    return content[:place] + value + content[place + 4 :]


def blow_up_a_field(rng: Rng, content: bytes, other: bytes) -> bytes:
    """Behind a part's name stand its counts, durations and dimensions."""
    found = places(content)
    if not found:
        return flip_bits(rng, content, other)
    place = rng.choice(found) + 4 + 2 * rng.randrange(30)
    size = rng.choice([2, 4, 8])
    value = (rng.choice(EXTREMES) % 2 ** (8 * size)).to_bytes(size, rng.choice(["big", "little"]))
    return content[:place] + value + content[place + size :]


DAMAGES: list[Callable[[Rng, bytes, bytes], bytes]] = [
    flip_bits, flip_bits_of_the_head, cut_off, lose_the_start, lose_a_piece, repeat_a_piece, overwrite, wrong_header,
    two_in_one, blow_up_a_size, blow_up_a_size, blow_up_a_field, blow_up_a_field,
]  # fmt: skip


def box(kind: bytes, *parts: bytes) -> bytes:
    """A part of an mp4."""
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def element(id: str, payload: bytes | int) -> bytes:
    """A part of a mkv."""
    payload = payload.to_bytes(8, "big") if isinstance(payload, int) else payload
    return bytes.fromhex(id) + (1 << 56 | len(payload)).to_bytes(8, "big") + payload


def matroska(
    pictures: list[bytes],
    *,
    codec: bytes = b"V_MJPEG",
    width: int = 64,
    height: int = 48,
    step: int = 10,
    title: bytes = b"",
    zlib_coded: bool = False,
) -> bytes:
    """Pictures, one each `step` milliseconds, in a file that says what it is told to say."""
    header = element("4286", 1) + element("42F7", 1) + element("42F2", 4) + element("42F3", 8)
    header += element("4282", b"matroska") + element("4287", 4) + element("4285", 2)
    track = element("D7", 1) + element("73C5", 1) + element("83", 1) + element("86", codec)
    track += element("E0", element("B0", width) + element("BA", height))
    if zlib_coded:
        coding = element("5031", 0) + element("5032", 1) + element("5033", 0) + element("5034", element("4254", 0))
        track += element("6D80", element("6240", coding))
    clusters = b"".join(
        element("1F43B675", element("E7", step * i) + element("A3", b"\x81\0\0\x80" + picture))
        for i, picture in enumerate(pictures)
    )
    body = (
        element("1549A966", element("2AD7B1", 1_000_000) + element("7BA9", title))
        + element("1654AE6B", element("AE", track))
        + clusters
    )
    return element("1A45DFA3", header) + element("18538067", body)


def jpeg(width: int, height: int) -> bytes:
    """A grey picture."""
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "yuvj420p", Fraction(1, 10)
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 99, np.uint8), format="rgb24")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame.reformat(format="yuvj420p")), *codec.encode(None)])


def resized(picture: bytes, width: int, height: int) -> bytes:
    """A JPEG whose head says another size."""
    place = picture.index(b"\xff\xc0") + 5
    return picture[:place] + struct.pack(">HH", height, width) + picture[place + 4 :]


def set_field(content: bytes, name: bytes, offset: int, value: bytes) -> bytes:
    """Bytes `offset` behind the first part of that name, overwritten."""
    place = content.index(name) + len(name) + offset
    return content[:place] + value + content[place + len(value) :]


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("video.mp4", content)
    return file.getvalue()


def texts(path: str, url: str) -> Iterator[tuple[str, bytes]]:
    """Lists and scripts that name another file or address: none may be followed."""
    yield "playlist of a file", f"#EXTM3U\n#EXTINF:10,\nfile://{path}\n#EXT-X-ENDLIST\n".encode()
    yield "playlist of an address", f"#EXTM3U\n#EXTINF:10,\n{url}/x.ts\n#EXT-X-ENDLIST\n".encode()
    yield "playlist of a key", f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{url}/key"\n#EXTINF:1,\n{path}\n'.encode()
    yield "concat script", f"ffconcat version 1.0\nfile '{path}'\n".encode()
    yield "concat script of an address", f"ffconcat version 1.0\nfile {url}/x.mp4\n".encode()
    yield "dash", f'<?xml version="1.0"?><MPD><Period><BaseURL>{url}/x.mp4</BaseURL></Period></MPD>'.encode()
    yield "sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
    yield (
        "reference movie",
        box(b"ftyp", b"qt  \0\0\0\0")
        + box(
            b"moov",
            box(b"rmra", box(b"rmda", box(b"rdrf", b"\0\0\0\0url ", struct.pack(">I", len(url)), url.encode()))),
        ),
    )
    yield "svg", f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'.encode()
    yield "html", b"<!doctype html><script>alert(1)</script>"
    yield "path", path.encode()
    yield "address", url.encode()


def built(videos: dict[str, bytes], path: str, url: str) -> Iterator[tuple[str, bytes]]:
    """Files made on purpose."""
    mp4, mkv, avi = videos["h264.mp4"], videos["h264.mkv"], videos["mpeg4.avi"]
    yield from texts(path, url)
    yield "data in another file", set_field(mp4, b"url ", 0, b"\0\0\0\0" + f"file://{path}\0".encode())
    # Two things at once
    yield "mp4 and zip", mp4 + zipped(b"x")
    yield "zip and mp4", zipped(b"x") + mp4
    yield "html before mp4", b"<html><!--" + mp4
    yield "html in mp4", box(b"ftyp", b"isom\0\0\2\0isom") + box(b"free", b"<script>alert(1)</script>") + mp4
    yield "pdf and mp4", b"%PDF-1.7\n" + mp4
    yield "mkv and playlist", mkv + b"\n#EXTM3U\n"
    yield "program and avi", b"\x7fELF\2\1\1" + avi
    # Small outside, large inside
    yield "zip bomb", zipped(bytes(20_000_000))
    yield "gzip bomb", gzip.compress(bytes(20_000_000))
    yield "gzipped mp4", gzip.compress(mp4)
    moov = mp4[mp4.index(b"moov") - 4 :][: struct.unpack(">I", mp4[mp4.index(b"moov") - 4 : mp4.index(b"moov")])[0]]
    for name, head, said in [
        ("compressed header", moov, None),
        ("compressed header bomb", box(b"moov", moov[8:], box(b"free", bytes(50_000_000))), None),
        ("compressed header that says 4 GB", moov, 2**32 - 1),
    ]:
        small = zlib.compress(head)
        coded = box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", struct.pack(">I", said or len(head)), small))
        yield name, mp4[: mp4.index(b"moov") - 4] + box(b"moov", coded) + mp4[mp4.index(b"moov") - 4 + len(moov) :]
    picture = jpeg(64, 48)
    yield "compressed pictures", matroska([zlib.compress(picture)] * 20, zlib_coded=True)
    yield "compressed picture bomb", matroska([zlib.compress(picture + bytes(50_000_000))] * 20, zlib_coded=True)
    # Sizes that nobody has
    for width, height in [(65500, 65500), (16000, 16000), (65500, 1), (1, 65500), (0, 0)]:
        yield f"pictures that say {width}×{height}", matroska([resized(picture, width, height)] * 20)
    for width, height in [(2**31 - 1, 2**31 - 1), (2**32 - 1, 1), (100_000, 100_000), (0, 0)]:
        yield f"a track that says {width}×{height}", matroska([picture] * 20, width=width, height=height)
        yield (
            f"raw pictures of {width}×{height}",
            matroska([picture] * 20, codec=b"V_UNCOMPRESSED", width=width, height=height),
        )
    yield "avc1 of 65535×65535", set_field(mp4, b"avc1", 24, b"\xff\xff\xff\xff")
    yield "a stream that grows", matroska([picture] * 10 + [jpeg(2048, 1536)] * 10)
    yield "a stream that grows beyond all limits", matroska([picture] * 10 + [jpeg(4096, 2304)] * 10)
    yield "a stream that changes size", matroska([picture, jpeg(48, 64)] * 10)
    yield "a stream that shrinks to nothing", matroska([picture] * 10 + [resized(picture, 0, 0)] * 10)
    # Counts and times that nobody has
    yield "100,000 frames declared in stsz", set_field(mp4, b"stsz", 8, struct.pack(">I", 100_000))
    yield "4 billion frames of 1 byte in stsz", set_field(mp4, b"stsz", 4, struct.pack(">II", 1, 2**32 - 1))
    yield "100,000 frames declared in stts", set_field(mp4, b"stts", 8, struct.pack(">I", 100_000))
    yield "4 billion entries in stts", set_field(mp4, b"stts", 4, b"\xff\xff\xff\xff")
    yield "4 billion entries in stco", set_field(mp4, b"stco", 4, b"\xff\xff\xff\xff")
    yield "a movie of 2^32 ticks", set_field(mp4, b"mvhd", 16, b"\xff\xff\xff\xff")
    yield "a track of 2^32 ticks", set_field(mp4, b"mdhd", 16, b"\xff\xff\xff\xff")
    yield "no ticks a second", set_field(mp4, b"mdhd", 12, b"\0\0\0\0")
    yield "an edit of 2^32 ticks", set_field(mp4, b"elst", 8, b"\xff\xff\xff\xff\x7f\xff\xff\xff")
    yield "100,000 frames declared in avih", set_field(avi, b"avih", 4 + 16, struct.pack("<I", 100_000))
    yield "100,000 frames declared in strh", set_field(avi, b"strh", 4 + 32, struct.pack("<I", 100_000))
    yield "no time a frame in avi", set_field(avi, b"strh", 4 + 20, bytes(8))
    yield "an hour and a second", matroska([picture] * 25, step=3_601_000 // 24)
    yield "100,000 frames", matroska([picture] * 100_000)
    yield "frames that are all shown at once", matroska([picture] * 1000, step=0)
    yield "a frame each million years", matroska([picture] * 9, step=2**55)
    # Shapes that tire a parser
    nested, deep = b"", b""
    for _ in range(20_000):
        deep = struct.pack(">I4s", 2**31 - 1, b"moov") + deep
    yield "boxes in boxes", box(b"ftyp", b"isom\0\0\2\0isom") + deep
    for _ in range(3_000):
        nested = element("18538067", nested)
    yield "segments in segments", matroska([picture])[:90] + nested
    trak = moov[moov.index(b"trak") - 4 :]
    trak = trak[: struct.unpack(">I", trak[:4])[0]]
    yield (
        "3,000 tracks",
        mp4[: mp4.index(b"moov") - 4] + box(b"moov", moov[8:116], trak * 3000) + box(b"mdat", bytes(9)),
    )
    yield "sound and nothing else", matroska([bytes(99)] * 9, codec=b"A_PCM/INT/LIT")
    yield "a codec that nobody uses", matroska([bytes(99)] * 9, codec=b"V_QUICKTIME")
    yield "a title that is no text", matroska([picture] * 9, title=b"\xff\xfe\x80")
    yield "pictures of nothing", matroska([b""] * 50)
    yield "heads without bodies", mp4[:32]
    yield "no bytes but zeros", bytes(100_000)
    yield "noise", random.Random(0).randbytes(100_000)

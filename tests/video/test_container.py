"""Which stream of a file is read, where reading starts, and what is said of a file that can't be read."""

from __future__ import annotations

import io
import struct
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from egoinstructor.errors import VideoError
from egoinstructor.video.container import open_video
from egoinstructor.video.decode import load_video, probe, read_frames
from egoinstructor.video.formats import READABLE

SIZES = [(64, 48), (96, 64), (128, 96)]


def several_streams(path: Path, streams: list[tuple[tuple[int, int], Disposition]]) -> Path:
    """A file of several videos, each of one colour: 50, 100, 150, …"""
    with av.open(path, "w") as container:
        added = []
        for (width, height), disposition in streams:
            stream = container.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
            stream.width, stream.height, stream.pix_fmt, stream.disposition = width, height, "yuv420p", disposition
            added.append(stream)
        for number, stream in enumerate(added, 1):
            picture = np.full((stream.height, stream.width, 3), 50 * number, np.uint8)
            for time in range(5):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = time, Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def chosen(path: Path) -> int:
    """Number of the stream that is read, from 0."""
    return round(read_frames(path, [2]).pixels.mean() / 50) - 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(streams=st.lists(st.tuples(st.sampled_from(SIZES), st.booleans()), min_size=1, max_size=3))
def test_the_default_stream_is_read_then_the_largest_then_the_first(tmp_path, streams):
    none = Disposition(0)
    dispositions = [(size, Disposition.default if default else none) for size, default in streams]
    path = several_streams(tmp_path / "several.mkv", dispositions)
    expected = max(range(len(streams)), key=lambda i: (streams[i][1], streams[i][0], -i))
    assert chosen(path) == expected
    assert (probe(path).width, probe(path).height) == streams[expected][0]


def test_cover_art_is_never_the_video(cases, read_barcode):
    # FFmpeg lists the cover, 600x600, before the video.
    path = cases / "cover-first" / "cover_udta_first.mp4"
    assert (probe(path).width, probe(path).height, probe(path).num_frames) == (320, 240, 90)
    frames = load_video(path, start=1, end=2, num_frames=4)
    assert [read_barcode(image) for image in frames.pixels] == frames.indices.tolist()


def test_cover_art_alone_is_no_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(path, "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1, options={"strict": "unofficial"})
        cover.width, cover.height, cover.pix_fmt, cover.disposition = 64, 64, "yuvj420p", Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        container.mux([*sound.encode(frame), *sound.encode(None)])
        container.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(cover.encode(None))
    with pytest.raises(VideoError, match="no pictures"):
        probe(path)


def test_a_file_that_begins_between_two_keyframes_is_read(cases, read_barcode):
    # `-copyinkf -ss 0.5 -c copy`: the first of 75 packets refers to a picture that was cut away.
    path = cases / "seek-permission" / "midgop.mp4"
    assert probe(path).num_frames == 74
    with av.open(path) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frames = read_frames(path, range(74))
    np.testing.assert_array_equal(frames.pixels, expected)
    numbers = [read_barcode(image) for image in frames.pixels]
    assert numbers == list(range(numbers[0], numbers[0] + 74))
    np.testing.assert_allclose(frames.timestamps, (np.arange(74) + 1) / 30, atol=1e-3)
    for index in (0, 40, 73):
        np.testing.assert_array_equal(read_frames(path, [index]).pixels[0], expected[index])


CODERS = {
    "h264": ("libx264", {"preset": "veryfast", "sc_threshold": "0", "bf": "3"}),
    "h264 open": ("libx264", {"preset": "veryfast", "sc_threshold": "0", "bf": "3", "x264-params": "open-gop=1"}),
    "hevc open": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:open-gop=1:bframes=2"}),
    "mpeg2": ("mpeg2video", {"bf": "2"}),
}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    coder=st.sampled_from(sorted(CODERS)),
    keyframes=st.sets(st.integers(1, 39), max_size=5),
    gop=st.integers(5, 30),
    first=st.integers(0, 30),
    suffix=st.sampled_from(["mp4", "mkv"]),
    data=st.data(),
)
def test_whatever_the_cut_every_frame_is_that_of_a_decode_from_the_start(
    tmp_path, make_video, without_packets, read_number, coder, keyframes, gop, first, suffix, data
):
    codec, options = CODERS[coder]
    name = f"{coder} {sorted(keyframes)} {gop}.mkv"
    whole = make_video(name, 40, codec=codec, options=options, gop=gop, keyframes=keyframes)
    try:
        path = without_packets(whole, tmp_path / f"cut.{suffix}", first)
    except av.error.ArgumentError:  # the times of what is left can't be written
        reject()
    expected = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            expected += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
    if not expected:  # no keyframe was left
        with pytest.raises(VideoError):
            read_frames(path, [0])
        return
    assert probe(path).num_frames == len(expected)
    wanted = data.draw(st.lists(st.integers(0, len(expected) - 1), min_size=1, max_size=4))
    for indices in (range(len(expected)), wanted):
        frames = read_frames(path, indices)
        np.testing.assert_array_equal(frames.pixels, [expected[index] for index in indices])
        assert (np.diff(frames.timestamps) > 0).all() or indices is wanted


def test_permission_is_spoken_of_only_where_a_file_is_opened(long_gop):
    with pytest.raises(VideoError, match="damaged or cut off") as caught, open_video(long_gop):
        raise av.error.PermissionError(1, "Operation not permitted")
    assert "permission denied" not in str(caught.value)


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("video.mp4", b"\0" * 100)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"#EXTM3U\n#EXTINF:10,\nfile:///video.ts\n", "an HLS playlist, a text that names other files. Download"),
        (b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">', "a DASH manifest"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "a list of files"),
        (b"\n\n<!DOCTYPE html><html><head>", r"a web page \(HTML\). A page was saved"),
        (b"\xef\xbb\xbf<html lang=en>", r"a web page \(HTML\)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer.*git lfs pull"),
        (archive(), "an archive. Unpack it"),
        (b"GIF89a" + bytes(100), "a GIF. Convert it: ffmpeg"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "a JPEG picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG picture"),
        (b"RIFF\x00\x10\x00\x00WAVEfmt " + bytes(100), "sound without pictures"),
        (b"ID3\x04" + bytes(100), "sound without pictures"),
        (b"%PDF-1.7\n" + bytes(100), "a PDF document"),
        (b"\x06\x0e\x2b\x34\x02\x05\x01\x01" + bytes(100), "MXF. Convert it: ffmpeg -i INPUT -c copy OUTPUT.mp4"),
        (b"\0\0\0\x01\x67\x64\0\x1f" + bytes(100), "an H.264 or HEVC stream without a container"),
        ("Schnittplan für Küche\n".encode() * 60, "it is a text file"),
        (b"\x1a\x45\xdf\xa3" + bytes(100), "it begins as mkv or webm, and is damaged"),
        (b"\0\0\x01\xba" + bytes(100), "it begins as MPEG-PS, and is damaged"),
        (b"\0\0\0\x18ftypmp42" + bytes(16), "it begins as mp4 or mov, and is damaged, cut off or unfinished"),
        (bytes(range(256)) * 8, "not mp4, mov, .*-c copy"),
    ],
)
def test_what_a_file_is_that_is_no_video(tmp_path, content, found):
    path = tmp_path / "download.mp4"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(VideoError, match=f"can't be read as a video.*{found}"):
            probe(source)


@given(st.binary(max_size=200), st.sampled_from([b"", b"#EXTM3U", b"<html", b"RIFF", b"\x47", b"\0\0\0\x01"]))
def test_any_bytes_are_an_error_that_says_what_to_do(tail, head):
    with pytest.raises(VideoError, match=r"Check that it plays|Give a video|Download|page|Convert it|Fetch it again"):
        probe(head + tail)


def with_reference(content: bytes, other: Path) -> bytes:
    """A mov whose pictures are, by its data reference, those of another file in the same folder."""
    name, path = other.name.encode(), str(other).encode()
    alias = bytes(10) + bytes([0]) + bytes(27) + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16)
    path = b"/" * (len(path) % 2) + path  # of even length
    alias += struct.pack(">HH", 1, 1) + bytes(16) + struct.pack(">HH", 2, len(path)) + path
    alias += struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    old = b"\0\0\0\x0curl \0\0\0\x01"
    at = content.index(old)
    grown = len(entry) - len(old)
    changed = bytearray(content[:at] + entry + content[at + len(old) :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = changed.index(box) - 4
        size = int.from_bytes(changed[start : start + 4], "big")
        changed[start : start + 4] = (size + grown).to_bytes(4, "big")
    return bytes(changed)


def test_a_mov_opens_no_other_file(make_video, read_number):
    raw = {"codec": "rawvideo", "options": {}, "pix_fmt": "rgb24"}  # so that pictures lie at the same places
    own, other = (make_video(f"raw_{first}.mov", 3, first=first, **raw) for first in (0, 500))
    pointed = own.with_name("pointed.mov")
    pointed.write_bytes(with_reference(own.read_bytes(), other))
    with av.open(pointed, options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        shown = [read_number(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert shown == [500, 501, 502], "the reference works where it is followed"
    with pytest.raises(VideoError, match="not one frame can be read"):
        probe(pointed)


def test_no_readable_format_opens_other_files():
    readable = set(READABLE.split(","))
    assert not readable & {
        "hls",
        "dash",
        "concat",
        "image2",
        "sdp",
        "rtsp",
        "lavfi",
        "vobsub",
        "imf",
        "webm_dash_manifest",
    }
    assert readable <= {name for names in av.formats_available for name in names.split(",")}

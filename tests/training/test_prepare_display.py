"""What is prepared looks as a player shows the source: turned, mirrored, of one size, in SDR, of the right stream."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from egoinstructor.data.transcode import Chunk, Resize
from egoinstructor.errors import VideoError
from egoinstructor.video.decode import probe, read_frames

CASES = Path(__file__).parents[1] / "data" / "cases"
MATRICES = [
    (1, 0, 0, 1),
    (-1, 0, 0, 1),
    (-1, 0, 0, -1),
    (1, 0, 0, -1),
    (0, 1, -1, 0),
    (0, -1, 1, 0),
    (0, 1, 1, 0),
    (0, -1, -1, 0),
]
OPERATIONS = pytest.mark.parametrize("operation", [Resize(), Chunk(1)], ids=["resize", "chunk"])


def prepared(operation: Resize | Chunk, source: Path, tmp_path: Path) -> tuple[str, Path]:
    """How it was made, and the file, or the first piece."""
    how = operation.write(source, tmp_path / "out")
    return how, tmp_path / "out" if isinstance(operation, Resize) else tmp_path / "out" / "0000.mp4"


def quarters(_: int) -> np.ndarray:
    """Red, green and blue, and black in the lower right."""
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[:48, :80], picture[:48, 80:], picture[48:, :80] = (200, 0, 0), (0, 200, 0), (0, 0, 200)
    return picture


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Write another matrix into the track header of an mp4."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    matrix = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)
    return path


@OPERATIONS
@pytest.mark.parametrize("matrix", MATRICES, ids=str)
def test_each_orientation_is_written_upright(videos, tmp_path, matrix, operation):
    source = with_matrix(videos.write(tmp_path / "a.mp4", 20, size=(160, 96), pixels=quarters), *matrix)
    how, made = prepared(operation, source, tmp_path)
    assert (how == "copied") == (isinstance(operation, Chunk) and matrix == (1, 0, 0, 1))
    info = probe(made)
    assert (info.rotation, info.mirrored) == (0, False)
    shown, expected = (read_frames(path, [10]).pixels[0].astype(int) for path in (made, source))
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean() < 4


def test_a_turned_video_keeps_its_colours_and_their_names(tmp_path):
    source = tmp_path / "a.mp4"
    with av.open(source, "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.codec_context.colorspace = stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
        for number in range(5):
            frame = av.VideoFrame(160, 96, "yuv420p")
            for plane, value in zip(frame.planes, (90, 80, 200), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with_matrix(source, 0, 1, -1, 0)
    Resize(48).write(source, tmp_path / "b.mp4")
    with av.open(tmp_path / "b.mp4") as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (1, 1, 1)
    before, after = (read_frames(path, [2]).pixels[0].mean((0, 1)) for path in (source, tmp_path / "b.mp4"))
    assert after == pytest.approx(before, abs=2)


@OPERATIONS
@pytest.mark.parametrize("transfer", [16, 18], ids=["pq", "hlg"])
def test_hdr_becomes_sdr_and_says_so(tmp_path, transfer, operation):
    source = tmp_path / "a.mov"
    with av.open(source, "w") as container:
        options = {"preset": "ultrafast", "x265-params": "log-level=none"}
        stream = container.add_stream("libx265", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 9, 9, transfer, 1
        for number in range(5):
            frame = av.VideoFrame(160, 96, "yuv420p10le")
            for plane, value in zip(frame.planes, (400, 450, 640), strict=True):
                plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    _, made = prepared(operation, source, tmp_path)
    with av.open(made) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name == "yuv420p"
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)
        plain = frame.to_ndarray(format="rgb24").mean((0, 1))
    assert plain == pytest.approx(read_frames(source, [2]).pixels[0].mean((0, 1)), abs=3)


@OPERATIONS
def test_pictures_of_several_sizes_become_one_size(tmp_path, operation):
    source = CASES / "size-change" / "mr_resize.webm"
    _, made = prepared(operation, source, tmp_path)
    assert (probe(made).width, probe(made).height) == (320, 240)
    if isinstance(operation, Resize):
        before, after = (read_frames(path, range(68)).pixels.astype(int) for path in (source, made))
        assert np.abs(before - after).mean() < 6


@OPERATIONS
@pytest.mark.parametrize(
    ("case", "frames"), [("cover-first/cover_udta_first.mp4", 90), ("seek-permission/midgop.mp4", 74)]
)
def test_the_frames_of_the_source_s_video_and_no_others(tmp_path, case, frames, operation):
    source = CASES / case
    _, made = prepared(operation, source, tmp_path)
    pieces = [made] if isinstance(operation, Resize) else sorted(made.parent.iterdir())
    shown = np.concatenate([read_frames(piece, range(probe(piece).num_frames)).pixels for piece in pieces]).astype(int)
    expected = read_frames(source, range(frames)).pixels.astype(int)
    lead = len(shown) - frames  # the first frame is held where pictures were cut away
    assert lead in (0, 1)
    assert np.abs(shown[lead:] - expected).mean() < 4


@OPERATIONS
def test_a_broadcast_is_prepared_whole_or_not_at_all(videos, tmp_path, operation):
    source = videos.write(tmp_path / "a.ts", 120, options={"preset": "ultrafast", "g": "30", "bf": "2"})
    _, made = prepared(operation, source, tmp_path)
    pieces = [made] if isinstance(operation, Resize) else sorted(made.parent.iterdir())
    assert [number for piece in pieces for number in videos.numbers(piece)] == list(range(120))
    data = source.read_bytes()
    places = [at for at in range(0, len(data), 188) if data[at + 1] & 31 == 1 and data[at + 2] == 0]
    middle = places[len(places) // 2]
    source.write_bytes(data[:middle] + data[middle + 188 :])
    (tmp_path / "second").mkdir()
    with pytest.raises(VideoError, match=r"a\.ts|can't be read back"):
        prepared(operation, source, tmp_path / "second")

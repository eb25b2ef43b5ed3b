"""Pictures as players show them: turned, mirrored, of one size, and in the colours of an ordinary screen."""

from __future__ import annotations

import logging
import math
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorTrc
from hypothesis import given
from hypothesis import strategies as st

from egoinstructor.video.decode import load_video, probe, read_frames
from egoinstructor.video.display import Orientation, orientation, resize, to_sdr

ONE, UNIT = 1 << 16, 1 << 30
MATRICES = {  # (a, b, c, d): how a matrix shows the point (x, y), y downwards, at (a·x + c·y, b·x + d·y)
    "as it is": (1, 0, 0, 1),
    "left and right exchanged": (-1, 0, 0, 1),
    "upside down": (-1, 0, 0, -1),
    "top and bottom exchanged": (1, 0, 0, -1),
    "clockwise": (0, 1, -1, 0),
    "counter-clockwise": (0, -1, 1, 0),
    "transposed, as front cameras write": (0, 1, 1, 0),
    "transposed about the other diagonal": (0, -1, -1, 0),
}


def display_matrix(a: float, b: float, c: float, d: float) -> list[int]:
    return [round(a * ONE), round(b * ONE), 0, round(c * ONE), round(d * ONE), 0, 0, 0, UNIT]


def shown(picture: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """A picture with each pixel where the matrix has it, in plain arithmetic."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    new_x, new_y = a * x + c * y, b * x + d * y
    new_x, new_y = new_x - new_x.min(), new_y - new_y.min()
    result = np.empty((new_y.max() + 1, new_x.max() + 1, *picture.shape[2:]), picture.dtype)
    result[new_y, new_x] = picture
    return result


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_each_of_the_eight_orientations(make_video, sequential, matrix, suffix):
    path = make_video(f"turned_{matrix}.{suffix}", 12, matrix=display_matrix(*matrix))
    stored = sequential(path)
    frames = read_frames(path, [0, 11])
    np.testing.assert_array_equal(frames.pixels, [shown(stored[index], *matrix) for index in (0, 11)])
    info = probe(path)
    assert (info.height, info.width) == frames.pixels.shape[1:3]
    assert info.mirrored == (matrix[0] * matrix[3] - matrix[1] * matrix[2] < 0)
    upright = np.rot90(stored[0][:, ::-1] if info.mirrored else stored[0], info.rotation // 90)
    np.testing.assert_array_equal(frames.pixels[0], upright)


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES)
def test_as_the_ffmpeg_program_shows_it(make_video, matrix, suffix):
    if shutil.which("ffmpeg") is None:
        pytest.skip("the ffmpeg program is not installed")
    path = make_video(f"turned_{matrix}.{suffix}", 12, matrix=display_matrix(*matrix))
    ours = read_frames(path, [0]).pixels[0].astype(int)
    command = ["ffmpeg", "-v", "error", "-i", path, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    theirs = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, np.uint8)
    assert np.abs(ours - theirs.reshape(ours.shape)).mean() < 2


def frame_with(matrix: list[int]) -> SimpleNamespace:
    return SimpleNamespace(side_data={"DISPLAYMATRIX": struct.pack("=9i", *matrix)})


@given(
    turns=st.integers(0, 3),
    mirrored=st.booleans(),
    off=st.floats(-44, 44),
    scale=st.floats(0.05, 20),
    shift=st.tuples(st.integers(-1000, 1000), st.integers(-1000, 1000)),
)
def test_a_matrix_is_read_as_the_nearest_orientation(turns, mirrored, off, scale, shift):
    angle = math.radians(-90 * turns + off)  # clockwise, as y points downwards
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    c, d = -b, a
    matrix = display_matrix(*((-a, -b, c, d) if mirrored else (a, b, c, d)))
    matrix[6:8] = shift
    assert orientation(frame_with(matrix), "clip.mp4") == Orientation(turns, mirrored)


@pytest.mark.parametrize("matrix", [[0] * 9, [ONE, 0, 0, 0, 0, 0, 0, 0, UNIT]])
def test_a_matrix_that_shows_nothing_is_ignored(matrix):
    assert orientation(frame_with(matrix), "clip.mp4") == Orientation()


def test_side_data_that_pyav_cannot_name_leaves_the_rotation():
    class Frame:
        rotation = -90

        @property
        def side_data(self):
            raise ValueError("31 is not a valid Type")

    assert orientation(Frame(), "clip.mp4") == Orientation(3)


def test_an_angle_between_quarter_turns_is_reported_once_for_each_file(make_video, caplog):
    angle = math.radians(20)
    a, b = math.cos(angle), math.sin(angle)
    path = make_video("tilted.mp4", 12, matrix=display_matrix(a, b, -b, a))
    with caplog.at_level(logging.WARNING, "egoinstructor"):
        for _ in range(2):
            assert load_video(path, num_frames=4).pixels.shape[1:3] == (96, 160)
    assert [record.getMessage() for record in caplog.records] == [
        f"video {path} asks to be turned by -20 degrees; turned by the nearest quarter turn"
    ]


def test_frames_have_one_size_whichever_are_asked_for(cases, read_barcode):
    # Chromium's MediaRecorder while its canvas goes from 320x240 to 240x320, at frame 34 of 68.
    path = cases / "size-change" / "mr_resize.webm"
    info = probe(path)
    assert (info.width, info.height, info.num_frames) == (320, 240, 68)
    with av.open(path) as container:
        stored = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [picture.shape[:2] for picture in stored] == [(240, 320)] * 34 + [(320, 240)] * 34
    every = read_frames(path, range(68)).pixels
    assert every.shape == (68, 240, 320, 3)
    np.testing.assert_array_equal(every[:34], stored[:34])
    np.testing.assert_array_equal(every[34:], [resize(picture, 320, 240) for picture in stored[34:]])
    for indices in ([0], [40], [67, 3], range(50, 60), range(20, 40)):
        np.testing.assert_array_equal(read_frames(path, indices).pixels, every[list(indices)])
    numbers = [read_barcode(image) for image in every]
    assert numbers == sorted(numbers)
    assert numbers[-1] > numbers[40] > numbers[33]


def test_resize_keeps_a_picture_of_that_size_and_scales_any_other():
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:20] = 200
    assert resize(picture, 80, 40) is picture
    smaller = resize(picture, 20, 60)
    assert smaller.shape == (60, 20, 3)
    assert smaller[:25].min() >= 195
    assert smaller[35:].max() <= 5


BT2020_OF_709 = np.array(  # ITU-R BT.2087
    [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
)


def pq(nits: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: linear light to signal."""
    y = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


def hlg(nits: np.ndarray) -> np.ndarray:
    """ARIB STD-B67: the light of a scene, 1000 for its brightest, to signal. (Colours of equal brightness only.)"""
    e = nits / 1000
    a = 0.17883277
    return np.where(e <= 1 / 12, np.sqrt(3 * e), a * np.log(np.maximum(12 * e - (1 - 4 * a), 1e-9)) + 0.55991073)


CURVES = {"pq": (ColorTrc.SMPTE2084, pq), "hlg": (ColorTrc.ARIB_STD_B67, hlg)}
PATCHES = {  # linear light of BT.709, in nits
    "black": (0, 0, 0),
    "grey": (20, 20, 20),
    "white": (200, 200, 200),
    "highlight": (900, 900, 900),
    "red": (100, 0, 0),
    "green": (0, 100, 0),
    "blue": (0, 0, 100),
}


def write_hdr(path: Path, curve: str, *, tagged: bool = True) -> Path:
    """Patches side by side, 32 pixels each, in 10 bits of BT.2020."""
    transfer, encode = CURVES[curve]
    signal = encode(np.array(list(PATCHES.values()), float) @ BT2020_OF_709.T)
    luma = signal @ (0.2627, 0.6780, 0.0593)
    planes = [64 + 876 * luma, 512 + 896 * (signal[:, 2] - luma) / 1.8814, 512 + 896 * (signal[:, 0] - luma) / 1.4746]
    width, height = 32 * len(PATCHES), 64
    frame = av.VideoFrame(width, height, "yuv420p10le")
    for plane, values, by in zip(frame.planes, planes, (1, 2, 2), strict=True):
        rows = np.zeros((height // by, plane.line_size // 2), np.uint16)
        rows[:, : width // by] = np.repeat(np.round(values).astype(np.uint16), 32 // by)
        plane.update(rows.tobytes())
    with av.open(path, "w") as container:
        options = {"preset": "ultrafast", "x265-params": "log-level=none:lossless=1"}
        stream = container.add_stream("libx265", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_range = transfer, 1
        if tagged:
            context.color_primaries, context.colorspace = ColorPrimaries.BT2020, 9
        for number in range(4):
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def patches(image: np.ndarray) -> dict[str, np.ndarray]:
    return {name: image[16:48, 32 * i + 8 : 32 * i + 24].mean((0, 1)) for i, name in enumerate(PATCHES)}


@pytest.mark.parametrize("tagged", [True, False], ids=["tagged", "only the curve is tagged"])
@pytest.mark.parametrize("curve", CURVES)
def test_hdr_is_mapped_to_the_colours_and_brightness_of_an_ordinary_screen(tmp_path, curve, tagged):
    path = write_hdr(tmp_path / "hdr.mov", curve, tagged=tagged)
    frames = read_frames(path, [0, 3])
    np.testing.assert_array_equal(frames.pixels[0], frames.pixels[1])
    found = patches(frames.pixels[0])
    for name in ("black", "grey", "white", "highlight"):
        assert np.ptp(found[name]) <= 3, "greys stay grey"
    levels = [found[name].mean() for name in ("black", "grey", "white", "highlight")]
    assert levels[0] <= 2
    assert levels[1] > 30
    assert 120 <= levels[2] <= 235
    assert levels[2] + 15 < levels[3] <= 255, "highlights are not cut off"
    for channel, name in enumerate(("red", "green", "blue")):
        own, others = found[name][channel], np.delete(found[name], channel)
        # In light, whose curve is about a square. Unmapped, other colours make up a third to two thirds (PQ).
        assert ((others / own) ** 2 < 0.2).all(), f"{name} is {found[name]}"


def test_sdr_is_left_as_it_is(long_gop, make_video, sequential):
    for path in (long_gop, make_video("h264_10bit.mp4", pix_fmt="yuv420p10le")):
        with av.open(path) as container:
            frame = next(container.decode(video=0))
            assert to_sdr(frame) is frame
        np.testing.assert_array_equal(read_frames(path, [7]).pixels[0], sequential(path)[7])

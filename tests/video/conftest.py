"""Videos made on the spot, each frame carrying its number as a pattern that survives lossy coding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.frame import PictureType

BITS = 10
BLOCK = 16
SIZE = (BITS * BLOCK, 6 * BLOCK)  # width, height

X264 = {"preset": "veryfast", "bf": "3", "sc_threshold": "0"}
CODECS: dict[str, dict[str, Any]] = {
    "h264_long_gop.mp4": {"codec": "libx264", "options": X264},
    "h264_open_gop.mkv": {"codec": "libx264", "options": X264 | {"x264-params": "open-gop=1"}, "gop": 24},
    "h264_short_gop.mov": {"codec": "libx264", "options": X264, "gop": 5},
    "h264_all_intra.mp4": {"codec": "libx264", "options": X264, "gop": 1},
    "h264_444.mp4": {"codec": "libx264", "options": X264, "pix_fmt": "yuv444p", "size": (161, 97)},
    "h264_10bit.mp4": {"codec": "libx264", "options": X264, "pix_fmt": "yuv420p10le"},
    "h264.avi": {"codec": "libx264", "options": X264, "gop": 24},
    "hevc.mp4": {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": "log-level=none"}, "gop": 24},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "8"}},
    "vp9_odd_size.webm": {
        "codec": "libvpx-vp9",
        "options": {"deadline": "realtime", "cpu-used": "8"},
        "size": (161, 97),
        "gop": 24,
    },
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "10", "svtav1-params": "lp=1"}, "gop": 24},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"bf": "2"}, "gop": 12},
}

Maker = Callable[..., Path]


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A frame that says its number: white blocks for ones on a background that moves. uint8 (H, W, 3)."""
    width, height = size
    ramp = np.add.outer(np.arange(height), np.arange(width)) + 3 * number
    image = np.repeat((ramp % 200)[..., None], 3, axis=2).astype(np.uint8)
    for bit in range(BITS):
        image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
    return image


def number_of(image: np.ndarray) -> int:
    """The number that a frame says."""
    blocks = image[4 : BLOCK - 4, : BITS * BLOCK].mean((0, 2)).reshape(BITS, BLOCK)[:, 4:-4].mean(1)
    return sum(int(block > 128) << bit for bit, block in enumerate(blocks))


def write_video(
    path: Path,
    num_frames: int = 90,
    *,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    gop: int = 250,
    fps: Fraction | int = 30,
    size: tuple[int, int] = SIZE,
    pix_fmt: str = "yuv420p",
    times_ms: Sequence[int] | None = None,
    rotation: int = 0,
    matrix: Sequence[int] | None = None,
    keyframes: Sequence[int] = (),
    first: int = 0,
    container_format: str | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode numbered frames.

    `times_ms` gives each its own time in milliseconds, `first` the first one's number, `keyframes` the frames that become
    keyframes besides those of the `gop`, and `matrix` a display matrix.
    """
    with av.open(path, "w", format=container_format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=dict(X264 if options is None else options))
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        stream.gop_size = gop
        stream.thread_count = 1
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for i in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(first + i, size), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            if i in keyframes:
                frame.pict_type = PictureType.I
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode_sequentially(path: Path) -> list[np.ndarray]:
    """Every frame, by the plainest loop there is: what all else is held to."""
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def cut_packets(source: Path, target: Path, first: int) -> Path:
    """Copy a video without its first packets, undecoded."""
    with av.open(source) as container, av.open(target, "w") as output:
        stream = container.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for number, packet in enumerate(container.demux(stream)):
            if packet.size and number >= first:
                packet.stream = copy
                output.mux(packet)
    return target


def barcode(image: np.ndarray) -> int:
    """The number of a frame of a case file: ten blocks, the lowest bit first."""
    height, width = image.shape[:2]
    block = 13 * width // 160
    row = image[3 * height // 8, :, 1]
    return sum(int(row[block * (bit + 1) + block // 2] > 128) << bit for bit in range(10))


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """`make_video(name, **what write_video takes)`; the same name is made once."""
    folder = tmp_path_factory.mktemp("videos")

    def make(name: str, num_frames: int = 90, **kwargs: Any) -> Path:
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_video(path, num_frames, **kwargs)
        return path

    return make


@pytest.fixture(scope="session", params=sorted(CODECS))
def coded_video(request: pytest.FixtureRequest, make_video: Maker) -> Path:
    """One video of each codec and container."""
    spec = CODECS[request.param]
    if spec["codec"] not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no encoder {spec['codec']}")
    return make_video(request.param, **spec)


@pytest.fixture(scope="session")
def long_gop(make_video: Maker) -> Path:
    """3 s of H.264 at 30 fps with B-frames and one keyframe."""
    return make_video("h264_long_gop.mp4", **CODECS["h264_long_gop.mp4"])


@pytest.fixture(scope="session")
def read_number() -> Callable[[np.ndarray], int]:
    """Reads a frame's number from its pixels."""
    return number_of


@pytest.fixture(scope="session")
def sequential() -> Callable[[Path], list[np.ndarray]]:
    """Decodes every frame from the start."""
    return decode_sequentially


@pytest.fixture(scope="session")
def without_packets() -> Callable[[Path, Path, int], Path]:
    """Cuts the first packets off a video, as `ffmpeg -c copy` does."""
    return cut_packets


@pytest.fixture(scope="session")
def read_barcode() -> Callable[[np.ndarray], int]:
    """Reads a frame's number from the pixels of a case file."""
    return barcode


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of the case files: videos as people in the field have them."""
    return Path(__file__).parents[1] / "data" / "cases"

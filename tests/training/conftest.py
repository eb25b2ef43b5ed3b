"""Tiny videos whose frames carry their own number, so that a lost, doubled or moved frame shows in the pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

BITS = 10


def paint(number: int, size: tuple[int, int] = (80, 48)) -> np.ndarray:
    """A picture that shows a number in binary, as black and white columns."""
    width, height = size
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    row = np.array(bits, np.uint8)[np.arange(width) * BITS // width] * 255
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def read(picture: np.ndarray) -> int:
    """The number that a picture shows."""
    row = picture.mean(axis=(0, 2))
    columns = (np.arange(BITS) + 0.5) * len(row) / BITS
    return sum(int(row[int(column)] > 127) << bit for bit, column in enumerate(columns))


def write_video(
    path: Path,
    times: int | Iterable[Fraction] = 90,
    *,
    size: tuple[int, int] = (80, 48),
    fps: int = 30,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    start: Fraction = Fraction(0),
    pixels: Callable[[int], np.ndarray] | None = None,
    sound: bool = False,
) -> Path:
    """Write frames 0, 1, … at given times, or so many at `fps`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = [Fraction(n, fps) for n in range(times)] if isinstance(times, int) else list(times)
    clock = Fraction(1, 90000)
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {"preset": "ultrafast", "g": "30"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps) if codec == "mpeg4" else clock
        stream.codec_context.thread_count = 1
        if sound:
            audio = container.add_stream("aac", rate=8000, layout="mono")
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000 * 4), np.float32), "fltp", "mono")
            silence.sample_rate = 8000
            container.mux(audio.encode(silence))
            container.mux(audio.encode(None))
        for number, time in enumerate(times):
            picture = paint(number, size) if pixels is None else pixels(number)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=stream.pix_fmt)
            frame.time_base = stream.codec_context.time_base
            frame.pts = round((time + start) / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_frames(path: Path) -> list[tuple[float, np.ndarray]]:
    """Every frame of a video: seconds and upright pixels."""
    with av.open(path) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def read_numbers(path: Path) -> list[int]:
    """The number that each frame of a video shows."""
    return [read(picture) for _, picture in read_frames(path)]


def turn(path: Path, degrees: int) -> None:
    """Make an MP4 say that it is to be shown turned clockwise, as phones do: the matrix in its track header."""
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    matrix = [cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)


def write_noise(path: Path, frames: int) -> Path:
    """A video that doesn't compress."""
    noise = np.random.default_rng(0)
    return write_video(
        path, frames, size=(320, 240), pixels=lambda _: noise.integers(0, 255, (240, 320, 3), dtype=np.uint8)
    )


class Videos:
    """The helpers of this file, for test modules."""

    write = staticmethod(write_video)
    frames = staticmethod(read_frames)
    numbers = staticmethod(read_numbers)
    read = staticmethod(read)
    noise = staticmethod(write_noise)
    turn = staticmethod(turn)


@pytest.fixture(scope="session")
def videos() -> type[Videos]:
    return Videos

"""Interlaced H.264 whose fields are pictures of their own, as camcorders and broadcasters write it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from egoinstructor.video.decode import probe, read_frames

WIDTH, HEIGHT, FRAMES, GROUP = 48, 64, 32, 8


class Bits:
    """Writes the payload of a NAL unit (ITU-T H.264, 7.3)."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def u(self, count: int, *values: int) -> Bits:
        for value in values:
            self.bits += [value >> place & 1 for place in reversed(range(count))]
        return self

    def ue(self, *values: int) -> Bits:
        for value in values:
            self.u(2 * (value + 1).bit_length() - 1, value + 1)
        return self

    def macroblock(self, samples: bytes) -> None:
        """One that isn't compressed (I_PCM)."""
        self.ue(25)
        self.u(1, *[0] * (-len(self.bits) % 8))
        self.bits += np.unpackbits(np.frombuffer(samples, np.uint8)).tolist()

    def unit(self, head: int) -> bytes:
        self.u(1, 1, *[0] * (-(len(self.bits) + 1) % 8))
        payload = bytearray()
        for value in np.packbits(np.array(self.bits, np.uint8)).tobytes():
            if payload.endswith(b"\0\0") and value <= 3:
                payload.append(3)
            payload.append(value)
        return b"\0\0\0\1" + bytes([head]) + payload


DELIMITER = b"\0\0\0\1\x09\x10"
PARAMETERS = Bits().u(8, 77, 0, 30).ue(0, 0, 0, 0, 1).u(1, 0).ue(WIDTH // 16 - 1, HEIGHT // 32 - 1).u(
    1, 0, 0, 1, 0, 0
).unit(0x67) + Bits().ue(0, 0).u(1, 0, 0).ue(0, 0, 0).u(1, 0).u(2, 0).ue(0, 0, 0).u(1, 1, 0, 0).unit(0x68)


def coded(rows: np.ndarray, number: int, field: int | None) -> bytes:
    """A picture: a whole frame, or its top (0) or bottom (1) field."""
    key = number % GROUP == 0 and field != 1
    bits = Bits().ue(0, 7, 0).u(4, number % GROUP)
    bits.u(1, *([0] if field is None else [1, field]))
    if key:
        bits.ue(0)
    bits.u(4, (2 * (number % GROUP) + (field or 0)) % 16).u(1, *([0, 0] if key else [0])).ue(0, 1)
    for top in range(0, rows.shape[0], 16):
        for left in range(0, WIDTH, 16):
            bits.macroblock(rows[top : top + 16, left : left + 16].tobytes() + b"\x80" * 128)
    return bits.unit(0x65 if key else 0x61)


def picture(number: int) -> np.ndarray:
    """Six columns that show a number; rows alternate a little, so that exchanged fields would show."""
    row = np.array([235 if number >> bit & 1 else 30 for bit in range(6)], np.uint8).repeat(WIDTH // 6)
    return row[None] - np.arange(HEIGHT, dtype=np.uint8)[:, None] % 2 * 10


def write(path: Path, *, stamped: bool, every: int) -> Path:
    """A recording at 25 frames a second; each `every`th is coded as a frame, the others as two fields."""
    with av.open(path, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            rows = picture(number)
            head = DELIMITER + (PARAMETERS if number % GROUP == 0 else b"")
            if every and number % every == 0:
                parts = [head + coded(rows, number, None)]
            else:
                parts = [head + coded(rows[::2], number, 0), DELIMITER + coded(rows[1::2], number, 1)]
            for half, data in enumerate(parts if stamped else [b"".join(parts)]):
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, Fraction(1, 90_000)
                packet.pts = packet.dts = 3600 * number + 1800 * half
                packet.is_keyframe = number % GROUP == 0 and not half
                container.mux(packet)
    return path


@pytest.mark.parametrize("every", [0, 3, 1], ids=["all fields", "some fields", "all frames"])
@pytest.mark.parametrize("stamped", [True, False], ids=["each stamped", "pairs stamped"])
def test_two_fields_are_one_frame(tmp_path, stamped, every):
    path = write(tmp_path / "camcorder.mts", stamped=stamped, every=every)
    with av.open(path) as container:
        packets = sum(bool(packet.size) for packet in container.demux(video=0))
    assert packets == sum(1 if every and number % every == 0 else 2 for number in range(FRAMES))
    info = probe(path)
    assert (info.num_frames, info.fps, info.duration) == (FRAMES, 25, pytest.approx(FRAMES / 25))
    for indices in (range(FRAMES), [5], [31], [17, 3, 30]):
        frames = read_frames(path, indices)
        np.testing.assert_allclose(frames.timestamps, np.array(indices) / 25, atol=1e-6)
        for image, index in zip(frames.pixels, indices, strict=True):
            luma = picture(index).astype(float)
            expected = ((luma - 16) * 255 / 219).clip(0, 255)
            assert np.abs(image.mean(2) - expected).max() <= 2


def test_interlaced_frames_are_not_taken_for_fields(make_video, read_number):
    options = {"preset": "veryfast", "x264-params": "tff=1:keyint=24:cqm=jvt"}
    path = make_video("interlaced.ts", options=options)
    assert probe(path).num_frames == 90
    assert [read_number(image) for image in read_frames(path, range(90)).pixels] == list(range(90))

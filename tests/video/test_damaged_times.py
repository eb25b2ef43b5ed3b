"""Files whose time stamps are damaged: a recording doesn't become a century long."""

from __future__ import annotations

import struct

import av
import numpy as np
import pytest

from egoinstructor.errors import VideoError
from egoinstructor.narration.windows import change_windows, fixed_windows
from egoinstructor.video.decode import load_video, probe


def recording(path, **options):
    """Four seconds at 10 a second, keyframes every 5; frame i has the brightness 6 i."""
    with av.open(path, "w", options=options) as container:
        coding = {"threads": "1", "g": "5", "bf": "0", "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=10, options=coding)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 6 * i, np.uint8))))
        container.mux(stream.encode(None))
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("bit", [27, 40, 55])
def test_a_fragment_that_says_it_comes_after_years_is_not_part_of_the_recording(tmp_path, bit):
    path = tmp_path / "damaged.mp4"
    content = recording(path, movflags="frag_keyframe+empty_moov")
    place = -1
    for _ in range(4):
        place = content.index(b"tfdt", place + 1)
    (time,) = struct.unpack_from(">Q", content, place + 8)
    struct.pack_into(">Q", content, place + 8, time + (1 << bit))
    path.write_bytes(content)
    info = probe(path)
    assert info.duration == pytest.approx(4, abs=0.2)
    frames = load_video(path, start=2.5, end=3.2, num_frames=4)
    assert [round(float(image.mean()) / 6) for image in frames.pixels] == pytest.approx(frames.timestamps * 10, abs=0.6)
    assert len(list(fixed_windows(info.duration, 1.0))) == 4
    windows = list(change_windows(path, info.duration, 1.0))
    assert len(windows) <= 8
    assert windows[-1].end == pytest.approx(info.duration, abs=1e-3)


def test_steps_that_no_camera_makes_are_not_believed(tmp_path):
    path = tmp_path / "damaged.mp4"
    content = recording(path)
    place = content.index(b"stts") + 16  # one entry: so many frames, each lasting so long
    content[place : place + 4] = b"\x7f\xff\xff\xff"
    path.write_bytes(content)
    assert probe(path).duration <= 1


def test_frames_of_which_each_comes_years_after_the_last_are_refused(tmp_path):
    """Which of their times is right, nobody can tell."""
    path = tmp_path / "damaged.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
        for i in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 60 * i, np.uint8))
            for packet in stream.encode(frame):
                packet.pts = packet.dts = i << 36
                container.mux(packet)
    with pytest.raises(VideoError, match="damaged"):
        probe(path)

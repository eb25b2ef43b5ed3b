"""Containers without an index of their pictures: MPEG-TS, MPEG-PS, and others that cameras and recorders write."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from egoinstructor.errors import VideoError
from egoinstructor.video import reader
from egoinstructor.video.decode import load_video, probe, read_frames

X264 = {"preset": "veryfast", "bf": "3", "sc_threshold": "0"}
OPEN = X264 | {"x264-params": "open-gop=1"}
X265 = {"preset": "ultrafast", "x265-params": "log-level=none"}
MPEG2 = {"codec": "mpeg2video", "options": {"bf": "2"}, "gop": 12}
VIDEOS = {
    "h264.ts": {"options": X264, "gop": 24},
    "open_groups.ts": {"options": OPEN, "gop": 24},
    "hevc.ts": {"codec": "libx265", "options": X265, "gop": 24},
    "mpeg2.ts": MPEG2,
    "named_mp4.mp4": {"options": X264, "gop": 24, "container_format": "mpegts"},
    "camera.m2ts": {"options": X264, "gop": 24, "container_options": {"mpegts_m2ts_mode": "1"}},
    # The clock has 33 bits and 90,000 ticks a second: it starts anew after 95,443.7 s.
    "wraps.ts": {"options": X264, "gop": 24, "container_options": {"output_ts_offset": "95442"}},
    "near_the_wrap.ts": {"options": X264, "gop": 24, "container_options": {"output_ts_offset": "95440.5"}},
    "mpeg2.mpg": MPEG2,
    "dvd.vob": MPEG2,
    "mpeg1.mpg": MPEG2 | {"codec": "mpeg1video"},
    "stamps_missing.vob": {"options": X264, "gop": 24},
    "h264.flv": {"options": X264, "gop": 24},
    "wmv2.wmv": {"codec": "wmv2", "options": {}, "gop": 24},
    "vp8.ogv": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}, "gop": 24},
    "phone.3gp": {"options": X264, "gop": 24},
    "action_camera.LRV": {"options": X264, "gop": 24, "container_format": "mp4"},
    "sphere.insv": {"options": X264, "gop": 24, "container_format": "mp4"},
}
COUNTED = ("mpeg1.mpg", "stamps_missing.vob")
"""Their pictures have no display times of their own: they are counted from the start."""


@pytest.mark.parametrize("name", VIDEOS)
def test_exactly_the_frames_of_a_sequential_decode(make_video, sequential, read_number, name):
    path = make_video(name, **VIDEOS[name])
    expected = sequential(path)
    info = probe(path)
    assert len(expected) == info.num_frames == 90
    assert info.fps == pytest.approx(30, abs=0.01)
    assert info.duration == pytest.approx(info.start + 3, abs=0.07)
    for indices in (range(90), [89], [0], [60, 3, 3, 89, 60], [2, 40, 41, 88]):
        frames = read_frames(path, indices)
        assert [read_number(image) for image in frames.pixels] == list(indices)
        np.testing.assert_array_equal(frames.pixels, [expected[index] for index in indices])
        np.testing.assert_allclose(frames.timestamps, info.start + np.array(indices) / 30, atol=0.002)


@pytest.mark.parametrize("name", sorted(set(VIDEOS) - {*COUNTED, "open_groups.ts"}))
def test_a_segment_is_decoded_from_a_keyframe_near_it(make_video, monkeypatch, name):
    path = make_video(name, **VIDEOS[name])
    sent = []
    is_reference = reader.is_reference
    monkeypatch.setattr(reader, "is_reference", lambda *args: sent.append(1) or is_reference(*args))
    load_video(path, start=2.5, end=2.9, num_frames=4, sampling="linspace")
    assert 0 < len(sent) <= 40


def test_files_joined_end_to_end_are_one_video(make_video, tmp_path, sequential):
    part = make_video("h264.ts", **VIDEOS["h264.ts"])
    path = tmp_path / "joined.ts"
    path.write_bytes(2 * part.read_bytes())
    expected = 2 * sequential(part)
    info = probe(path)
    assert info.num_frames == 180
    assert info.duration == pytest.approx(info.start + 6, abs=0.1)
    frames = load_video(path, start=2, end=5, num_frames=6)
    np.testing.assert_array_equal(frames.pixels, [expected[index] for index in frames.indices])
    np.testing.assert_allclose(frames.timestamps, info.start + frames.indices / 30, atol=0.002)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lost=st.integers(20, 500))
@example(lost=62)  # the beginning of a keyframe
def test_where_a_packet_was_lost_a_frame_is_whole_or_an_error(make_video, tmp_path, sequential, lost):
    whole = make_video("long.ts", 300, options=X264, gop=30)
    content = whole.read_bytes()
    path = tmp_path / "lost.ts"
    path.write_bytes(content[: 188 * lost] + content[188 * (lost + 1) :])
    expected = sequential(whole)
    assert probe(path).duration == pytest.approx(10, abs=0.1)
    refused = 0
    for start in np.arange(0, 10, 0.5):
        try:
            frames = load_video(path, start=start, end=start + 0.5, num_frames=15)
        except VideoError:
            refused += 1
            continue
        numbers = np.round(frames.timestamps * 30).astype(int)
        np.testing.assert_array_equal(frames.pixels, [expected[number] for number in numbers])
    video = (content[188 * lost + 1] & 31, content[188 * lost + 2]) == (1, 0)
    assert refused <= (3 if video else 0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["h264.ts", "hevc.ts", "mpeg2.ts", "camera.m2ts", "wraps.ts"]),
    start=st.integers(0, 25_000),
    end=st.integers(0, 10_000),
    data=st.data(),
)
def test_a_recording_cut_anywhere_gives_the_frames_that_a_sequential_decode_gives(
    make_video, tmp_path, name, start, end, data
):
    content = make_video(name, **VIDEOS[name]).read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(content[start : len(content) - end])
    expected = []
    try:
        with av.open(path, format="mpegts") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            for packet in container.demux(stream):
                expected += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
    except (av.error.FFmpegError, IndexError):
        expected = []
    if not expected:
        with pytest.raises(VideoError):
            read_frames(path, [0])
        return
    try:
        count = probe(path).num_frames
    except VideoError:  # too little is left to recognise the format by
        assert len(expected) < 45
        return
    # The last picture may be cut off: a decoder conceals what it lacks, and here it is damaged.
    assert count - 1 <= len(expected) <= count
    wanted = data.draw(st.lists(st.integers(0, count - 2), min_size=1, max_size=4)) if count > 1 else []
    if wanted:
        pixels = read_frames(path, wanted).pixels
        np.testing.assert_array_equal(pixels, [expected[index] for index in wanted])

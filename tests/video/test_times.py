"""Seconds count from the start of the presentation, and a frame is on the screen until the next one."""

from __future__ import annotations

import json
import shutil
import subprocess
from bisect import bisect_right
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egoinstructor.errors import VideoError
from egoinstructor.video.decode import load_video, probe, read_frames
from egoinstructor.video.sampling import linspace_times, segment_times

CASES = Path(__file__).parents[1] / "data" / "cases"


def barcode(image: np.ndarray) -> int:
    """The number of a frame of a case file: ten blocks, the lowest bit first."""
    height, width = image.shape[:2]
    block = 13 * width // 160
    row = image[3 * height // 8, :, 1]
    return sum(int(row[block * (bit + 1) + block // 2] > 128) << bit for bit in range(10))


def numbers(path: Path, **kwargs) -> list[int]:
    return [barcode(image) for image in load_video(path, **kwargs).pixels]


def test_a_video_that_starts_after_its_sound_counts_from_the_sound():
    # Cut with `-ss 1 -c copy`: the sound starts at 0.02 s, the pictures at the next keyframe, frame 150, at 4 s.
    path = CASES / "late-video" / "late.mp4"
    info = probe(path)
    assert info.start == pytest.approx(3.98, abs=1 / 60)
    assert info.duration == pytest.approx(14.98, abs=0.03)
    frames = load_video(path, start=7, end=10, num_frames=4)
    assert [barcode(image) for image in frames.pixels] == [252, 274, 296, 319]
    shown = [4 + (number - 150) / 30 - 0.020998 for number in (252, 274, 296, 319)]
    np.testing.assert_allclose(frames.timestamps, shown, atol=1e-5)


def test_the_part_of_a_clip_before_the_first_picture_is_cut_off():
    path = CASES / "late-video" / "late.mp4"
    assert numbers(path, start=0, end=6, num_frames=4) == numbers(path, start=probe(path).start, end=6, num_frames=4)
    assert numbers(path, num_frames=330, sampling="linspace") == list(range(150, 480))
    with pytest.raises(VideoError, match=r"the first picture is shown at 3\.97 s; choose an end after that"):
        load_video(path, start=0, end=3, num_frames=4)


def test_the_sound_goes_on_while_the_picture_is_still():
    path = CASES / "still-screen" / "slide.webm"
    info = probe(path)
    assert info.duration == pytest.approx(5.96, abs=0.01)
    still = load_video(path, start=2, end=4, num_frames=4)
    assert still.indices.tolist() == [info.num_frames - 1] * 4
    with pytest.raises(VideoError, match=r"lasts 5\.96 s"):
        load_video(path, start=2, end=7, num_frames=4)


@pytest.mark.parametrize(("name", "seconds", "count"), [("twoparts.mp4", 16.0, 119), ("hole530.mp4", 533.0, 90)])
def test_reordered_pictures_of_varying_rate_end_with_the_last_one(name, seconds, count):
    info = probe(CASES / "vfr-duration" / name)
    assert (info.duration, info.num_frames) == (pytest.approx(seconds, abs=0.001), count)
    assert info.fps == pytest.approx(count / seconds)
    assert info.variable_frame_rate


def test_a_clip_of_a_varying_rate_has_its_own_frames():
    # 2 s at 30 frames a second, 530 s of nothing, then a second more.
    path = CASES / "vfr-duration" / "hole530.mp4"
    first = load_video(path, start=0, end=1, num_frames=8)
    assert first.indices.tolist() == [1, 5, 9, 13, 16, 20, 24, 28]
    np.testing.assert_allclose(first.timestamps, first.indices / 30, atol=1e-3)
    hole = load_video(path, start=100, end=400, num_frames=4)
    assert len(set(hole.indices.tolist())) == 1
    assert hole.timestamps[0] < 100


@pytest.mark.parametrize("sampling", ["segment_center", "linspace"])
def test_at_a_low_rate_a_clip_repeats_its_frames_and_takes_none_from_after_its_end(sampling):
    path = CASES / "low-rate" / "mr_1fps.webm"  # a picture a second
    assert probe(path).duration == pytest.approx(6.0, abs=0.01)
    assert set(load_video(path, start=1, end=3, num_frames=32, sampling=sampling).timestamps) == {1.0, 2.0}
    assert set(load_video(path, start=1.6, end=1.9, num_frames=4, sampling=sampling).timestamps) == {1.0}


def write(path: Path, times_ms: list[int], sound: tuple[int, int] | None, pictures: dict) -> Path:
    """Frames at given times that differ in brightness, and sound from one time to another, in milliseconds."""
    with av.open(path, "w") as container:
        stream = container.add_stream(
            "libx264", rate=30, options={"preset": "veryfast", "sc_threshold": "0"} | pictures
        )
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 32, 32, "yuv420p", 12
        stream.thread_count, stream.codec_context.time_base = 1, Fraction(1, 1000)
        packets = []
        if sound is not None:
            voice = container.add_stream("aac", rate=16000, layout="mono")
            for number in range(16 * sound[0] // 1024, 16 * sound[1] // 1024):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
                frame.sample_rate, frame.pts, frame.time_base = 16000, number * 1024, Fraction(1, 16000)
                packets += voice.encode(frame)
            packets += voice.encode(None)
        for number, time in enumerate(times_ms):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 40 + 5 * (number % 40), np.uint8), format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            packets += stream.encode(picture)
        packets += stream.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


@st.composite
def recordings(draw):
    """Times of frames in milliseconds, and of the sound."""
    steps = st.one_of(st.integers(20, 60), st.just(33), st.integers(200, 4000))
    gaps = draw(st.lists(steps, min_size=2, max_size=40))
    lead = draw(st.sampled_from([0, 0, 40, 700, 5000]))
    times = [lead + sum(gaps[:i]) for i in range(len(gaps))]
    sound = (0, max(times[-1] + draw(st.sampled_from([40, 1500, 6000])), 500)) if lead or draw(st.booleans()) else None
    pictures = draw(
        st.sampled_from([{"bf": "0"}, {"bf": "3", "b-adapt": "0"}, {"bf": "2", "x264-params": "b-pyramid=none"}])
    )
    return times, sound, pictures, draw(st.sampled_from([".mp4", ".mkv"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recording=recordings(), data=st.data())
def test_every_time_means_the_frame_on_the_screen(tmp_path, recording, data):
    times, sound, pictures, suffix = recording
    path = write(tmp_path / f"recording{suffix}", times, sound, pictures)
    info = probe(path)
    with av.open(path) as container:
        frames = list(container.decode(video=0))
        origin = frames[0].time if container.start_time is None else container.start_time / av.time_base
        decoded = [(frame.time - origin, frame.to_ndarray(format="rgb24")) for frame in frames]
    shown = [time for time, _ in decoded]
    frames = read_frames(path, range(len(shown)))
    np.testing.assert_allclose(frames.timestamps, shown, atol=2e-6)
    np.testing.assert_array_equal(frames.pixels, np.stack([image for _, image in decoded]))
    assert info.num_frames == len(times) == len(shown)
    assert shown[-1] < info.duration
    if sound is not None:
        assert info.duration >= sound[1] / 1000 - 0.1
    # Any clip has frames that are on the screen in it.
    start = data.draw(st.floats(0, max(info.duration - 0.2, 0)))
    end = data.draw(st.floats(start + 0.1, max(info.duration, start + 0.1)))
    policy = data.draw(st.sampled_from(["segment_center", "linspace"]))
    if end <= info.start:
        with pytest.raises(VideoError, match="the first picture is shown at"):
            load_video(path, start=start, end=end, num_frames=5, sampling=policy)
        return
    chosen = load_video(path, start=start, end=end, num_frames=5, sampling=policy)
    if info.variable_frame_rate:
        begin, last = max(start, info.start), min(end, info.duration)
        choose = segment_times if policy == "segment_center" else linspace_times
        due = [min(time, last - 1e-3) for time in choose(begin, last, 5)]
        on_screen = [max(bisect_right(shown, time + 1e-3) - 1, 0) for time in due]
        assert np.abs(np.array(chosen.indices) - on_screen).max() <= 1, (chosen.indices, on_screen)


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="the ffprobe program is not installed")
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recording=recordings())
def test_durations_are_ffprobes(tmp_path, recording):
    times, sound, pictures, suffix = recording
    path = write(tmp_path / f"recording{suffix}", times, sound, pictures)
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration,start_time", "-of", "json", str(path)]
    stated = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)["format"]
    assert probe(path).duration == pytest.approx(float(stated["duration"]), abs=0.1)

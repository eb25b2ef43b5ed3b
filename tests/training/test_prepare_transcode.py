"""One video: which frames come out, where, when, and how they were made."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from egoinstructor.data.transcode import Chunk, Resize
from egoinstructor.errors import InputError, VideoError
from egoinstructor.video.decode import probe

BFRAMES = {"preset": "veryfast", "g": "30", "sc_threshold": "0", "bf": "3"}


def chunk(source, tmp_path, seconds=1, fps=30):
    target = tmp_path / "pieces"
    how = Chunk(seconds, fps).write(source, target)
    return how, sorted(target.iterdir())


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_keyframes_on_the_cuts_copies_every_frame_once(videos, tmp_path, name):
    source = videos.write(tmp_path / name, 100, options=BFRAMES)
    how, pieces = chunk(source, tmp_path)
    assert how == "copied"
    assert [piece.name for piece in pieces] == ["0000.mp4", "0001.mp4", "0002.mp4", "0003.mp4"]
    assert [videos.numbers(piece) for piece in pieces] == [
        list(range(30)), list(range(30, 60)), list(range(60, 90)), list(range(90, 100))
    ]  # fmt: skip
    for piece in pieces:
        assert [time for time, _ in videos.frames(piece)] == pytest.approx(
            [n / 30 for n in range(len(videos.numbers(piece)))], abs=0.002
        )


def test_a_copy_holds_the_source_s_pixels(videos, tmp_path):
    source = videos.write(tmp_path / "a.mp4", 60, options=BFRAMES)
    _, pieces = chunk(source, tmp_path)
    copied = [picture for piece in pieces for _, picture in videos.frames(piece)]
    assert np.array_equal(copied, [picture for _, picture in videos.frames(source)])


@pytest.mark.parametrize(
    ("case", "write"),
    [
        ("keyframes off the cuts", {"options": {"preset": "ultrafast", "g": "20", "sc_threshold": "0"}}),
        ("open groups of pictures", {"options": BFRAMES | {"x264-params": "open-gop=1"}}),
        ("another codec", {"codec": "mpeg4", "options": {"g": "30"}}),
        ("odd size", {"size": (81, 49)}),
    ],
)
def test_otherwise_reencodes_every_frame_once(videos, tmp_path, case, write):
    source = videos.write(tmp_path / "a.mp4", 100, **write)
    how, pieces = chunk(source, tmp_path, fps=30)
    if case != "odd size":
        assert how == "re-encoded"
    assert [number for piece in pieces for number in videos.numbers(piece)] == list(range(100))
    assert [len(videos.numbers(piece)) for piece in pieces] == [30, 30, 30, 10]


def test_a_late_start_moves_no_frame(videos, tmp_path):
    source = videos.write(tmp_path / "a.mkv", 60, start=Fraction(7, 2))
    _, pieces = chunk(source, tmp_path)
    assert [videos.numbers(piece) for piece in pieces] == [list(range(30)), list(range(30, 60))]
    assert videos.frames(pieces[0])[0][0] == 0


@pytest.mark.parametrize("operation", [Chunk(1, 30), Resize(48)])
def test_pictures_that_start_after_the_sound_keep_their_times(videos, tmp_path, operation):
    source = videos.write(tmp_path / "a.mkv", 60, start=Fraction(7, 2), sound=True)
    operation.write(source, tmp_path / "out")
    pieces = sorted((tmp_path / "out").iterdir()) if (tmp_path / "out").is_dir() else [tmp_path / "out"]
    # The first 0.128 s of the sound are the encoder's delay: the presentation starts after them.
    assert [number for piece in pieces for number in videos.numbers(piece)] == [0] * 101 + list(range(60))
    assert len(pieces) in (1, 6)
    with av.open(pieces[0]) as container:
        assert not container.streams.audio
        assert next(container.decode(video=0)).pts == 0


def test_the_last_picture_stays_until_the_sound_ends(videos, tmp_path):
    case = Path(__file__).parents[1] / "data" / "cases" / "still-screen" / "slide.webm"
    Resize(48).write(case, tmp_path / "small.mp4")
    assert probe(tmp_path / "small.mp4").duration == pytest.approx(probe(case).duration, abs=0.05)
    _, pieces = chunk(case, tmp_path, seconds=3)
    assert [len(videos.frames(piece)) for piece in pieces] == [90, 89]


@pytest.mark.parametrize(("fps", "frames"), [(25, 50), (60, 120), (15, 30), (24, 48)])
def test_another_rate_is_shown_at_30(videos, tmp_path, fps, frames):
    source = videos.write(tmp_path / "a.mp4", frames, fps=fps)
    how, pieces = chunk(source, tmp_path)
    shown = [number for piece in pieces for number in videos.numbers(piece)]
    assert how == "resampled to 30 frames/s"
    assert len(shown) == 60
    assert all(abs(n / 30 - number / fps) <= 1 / 60 + 1 / fps for n, number in enumerate(shown))
    assert shown == sorted(shown)


def test_a_varying_rate_is_shown_at_30(videos, tmp_path):
    times = [Fraction(t, 60) for t in (0, 1, 2, 60, 61, 90, 118)]  # two bursts and a still of a second
    how, pieces = chunk(videos.write(tmp_path / "a.mp4", times), tmp_path)
    shown = [number for piece in pieces for number in videos.numbers(piece)]
    assert how == "resampled to 30 frames/s"
    assert shown[0] in (0, 1)
    assert shown[1:30] == [2] * 29
    assert shown[45:59] == [5] * 14
    assert shown[59] == 6


def test_the_rate_is_a_setting(videos, tmp_path):
    how, pieces = chunk(
        videos.write(tmp_path / "a.mp4", 50, fps=25, options={"preset": "ultrafast", "g": "25"}), tmp_path, fps=25
    )
    assert how == "copied"
    assert [len(videos.numbers(piece)) for piece in pieces] == [25, 25]


def test_resized_videos_are_cut_by_copying(videos, tmp_path):
    source = videos.write(tmp_path / "a.mkv", 90, size=(160, 96), options={"preset": "ultrafast", "g": "250"})
    Resize(48).write(source, tmp_path / "small.mp4")
    how, pieces = chunk(tmp_path / "small.mp4", tmp_path)
    assert how == "copied"
    assert [number for piece in pieces for number in videos.numbers(piece)] == list(range(90))


@pytest.mark.parametrize(
    ("size", "side", "made"),
    [((160, 96), 48, (80, 48)), ((96, 160), 48, (48, 80)), ((80, 48), 320, (80, 48)), ((81, 49), 320, (80, 48))],
)
def test_the_shorter_side_shrinks_and_never_grows(videos, tmp_path, size, side, made):
    source = videos.write(tmp_path / "a.mp4", 20, size=size)
    assert Resize(side).write(source, tmp_path / "b.mp4") == "re-encoded"
    assert videos.numbers(tmp_path / "b.mp4") == list(range(20))
    assert videos.frames(tmp_path / "b.mp4")[0][1].shape[1::-1] == made


def test_resize_keeps_each_frame_s_time(videos, tmp_path):
    times = [Fraction(t, 60) for t in (0, 1, 2, 60, 61, 90, 118)]
    source = videos.write(tmp_path / "a.mkv", times, start=Fraction(2))
    Resize(32).write(source, tmp_path / "b.mp4")
    assert [time for time, _ in videos.frames(tmp_path / "b.mp4")] == pytest.approx(list(map(float, times)), abs=0.001)
    assert videos.numbers(tmp_path / "b.mp4") == list(range(7))


def corner(_):
    """Red in the upper left, else blue."""
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[..., 2] = 200
    picture[:48, :80] = (200, 0, 0)
    return picture


@pytest.mark.parametrize(("degrees", "red"), [(90, (0, 1)), (180, (1, 1)), (270, (1, 0))])
@pytest.mark.parametrize("operation", [Resize(48), Chunk(1)], ids=["resize", "chunk"])
def test_a_turned_video_comes_out_upright(videos, tmp_path, degrees, red, operation):
    source = videos.write(tmp_path / "a.mp4", 20, size=(160, 96), pixels=corner)
    videos.turn(source, degrees)
    operation.write(source, tmp_path / "out")
    made = tmp_path / "out" if isinstance(operation, Resize) else tmp_path / "out" / "0000.mp4"
    picture = videos.frames(made)[0][1].astype(int)
    height, width = picture.shape[:2]
    assert (width < height) == (degrees != 180)
    quarters = {
        (y, x): picture[height // 4 + y * height // 2, width // 4 + x * width // 2] for y in (0, 1) for x in (0, 1)
    }
    assert [place for place, (r, _, b) in quarters.items() if r > b] == [red]


def test_colours_stay_those_of_the_source(tmp_path, videos):
    source = tmp_path / "a.mp4"
    with av.open(source, "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.codec_context.colorspace = stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
        for n in range(5):
            frame = av.VideoFrame(160, 96, "yuv420p")
            for plane, value in zip(frame.planes, (90, 80, 200), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts, frame.time_base = n, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    Resize(48).write(source, tmp_path / "b.mp4")
    before, after = (videos.frames(path)[0][1].mean((0, 1)) for path in (source, tmp_path / "b.mp4"))
    assert after == pytest.approx(before, abs=2)


@pytest.mark.parametrize("operation", [Resize(32), Chunk(1)], ids=["resize", "chunk"])
@pytest.mark.parametrize("damage", ["text", "empty", "cut off", "overwritten", "sound only"])
def test_a_broken_file_is_an_error(videos, tmp_path, operation, damage):
    source = videos.write(tmp_path / "a.mkv", 300, options={"preset": "ultrafast", "g": "30"})
    data = source.read_bytes()
    if damage == "sound only":
        with av.open(source, "w") as container:
            audio = container.add_stream("aac", rate=8000, layout="mono")
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
            silence.sample_rate = 8000
            container.mux(audio.encode(silence))
            container.mux(audio.encode(None))
    else:
        middle = len(data) // 2
        source.write_bytes(
            {
                "text": b"not a video\n" * 100,
                "empty": b"",
                "cut off": data[:middle],
                "overwritten": data[:middle] + bytes(range(256)) * 20 + data[middle + 5120 :],
            }[damage]
        )
    with pytest.raises(VideoError, match=r"a\.mkv"):
        operation.write(source, tmp_path / "out")


def test_damaged_pictures_are_not_copied(videos, tmp_path):
    source = videos.noise(tmp_path / "a.mp4", 30)
    data = bytearray(source.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20_000] = bytes(range(250)) * 80
    source.write_bytes(data)
    with pytest.raises(VideoError, match="damaged"):
        Chunk(1).write(source, tmp_path / "out")


def test_a_broken_clock_is_an_error(videos, tmp_path):
    source = videos.write(tmp_path / "a.mkv", [Fraction(0), Fraction(1), Fraction(100_000)])
    with pytest.raises(VideoError, match="clock is broken"):
        Chunk(300).write(source, tmp_path / "out")


def test_impossible_settings_are_refused():
    for make in (lambda: Resize(0), lambda: Resize(33), lambda: Chunk(0), lambda: Chunk(1, 0)):
        with pytest.raises(InputError):
            make()


def test_encoding_is_repeatable(videos, tmp_path):
    source = videos.write(tmp_path / "a.mp4", 40, size=(160, 96))
    Resize(48).write(source, tmp_path / "b.mp4")
    shutil.copy(source, tmp_path / "c.mp4")
    Resize(48).write(tmp_path / "c.mp4", tmp_path / "d.mp4")
    assert (tmp_path / "b.mp4").read_bytes() == (tmp_path / "d.mp4").read_bytes()

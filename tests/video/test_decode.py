import dataclasses
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest

from egoinstructor.errors import InputError
from egoinstructor.video import file, reader, timeline
from egoinstructor.video.container import open_video
from egoinstructor.video.decode import load_video, probe, read_frames
from egoinstructor.video.sampling import exo_segment, linspace
from egoinstructor.video.timeline_cache import TimelineCache

REQUESTS = [list(range(90)), [89], [0], [60, 3, 3, 89, 60], [2, 40, 41, 88], list(range(0, 90, 7))]


def test_exactly_the_frames_of_a_sequential_decode(coded_video, sequential, read_number):
    expected = sequential(coded_video)
    assert len(expected) == probe(coded_video).num_frames == 90
    for indices in REQUESTS:
        frames = read_frames(coded_video, indices)
        assert frames.indices.tolist() == indices
        assert [read_number(image) for image in frames.pixels] == indices
        for image, index in zip(frames.pixels, indices, strict=True):
            np.testing.assert_array_equal(image, expected[index])
        np.testing.assert_allclose(frames.timestamps, np.array(indices) / 30, atol=0.001)


def test_no_video_is_decoded_from_the_start(coded_video, monkeypatch):
    if coded_video.name in ("h264.avi", "h264_open_gop.mkv"):
        pytest.skip("counted from the start: avi has no display times; open groups of H.264 raise errors after a seek")
    monkeypatch.setattr(reader, "_read_from_start", lambda *_: pytest.fail("decoded from the start"))
    for indices in REQUESTS:
        read_frames(coded_video, indices)


def test_bytes_give_what_the_file_gives(coded_video):
    from_file, from_bytes = load_video(coded_video, num_frames=4), load_video(coded_video.read_bytes(), num_frames=4)
    np.testing.assert_array_equal(from_file.pixels, from_bytes.pixels)
    assert from_bytes.source == f"<{coded_video.stat().st_size} bytes>"


def test_a_segment_is_decoded_from_its_keyframe_to_its_last_frame(make_video, monkeypatch):
    path = make_video("ten_gops.mp4", 300, gop=30)
    sent = []
    is_reference = reader.is_reference
    monkeypatch.setattr(reader, "is_reference", lambda *args: sent.append(1) or is_reference(*args))
    load_video(path, start=7.0, end=8.0, num_frames=4)
    assert 0 < len(sent) <= 35


def test_pictures_that_none_refers_to_are_left_out(long_gop, sequential, monkeypatch):
    left_out = []
    is_reference = reader.is_reference

    def spy(packet, size):
        left_out.append(not is_reference(packet, size))
        return not left_out[-1]

    monkeypatch.setattr(reader, "is_reference", spy)
    frames = read_frames(long_gop, [85])
    assert sum(left_out) > 20
    np.testing.assert_array_equal(frames.pixels[0], sequential(long_gop)[85])


def test_probe(make_video):
    info = probe(make_video("ntsc.mkv", 60, fps=Fraction(30000, 1001)))
    assert (info.width, info.height, info.num_frames, info.codec) == (160, 96, 60, "h264")
    assert info.fps == pytest.approx(30000 / 1001)
    assert info.duration == pytest.approx(60 * 1001 / 30000)
    assert not info.variable_frame_rate
    assert info.rotation == 0


def test_segment_center_is_the_exo_rule(long_gop):
    assert load_video(long_gop, num_frames=8).indices.tolist() == exo_segment(0, 3, 30, 90, 8)
    frames = load_video(long_gop, start=1.0, end=2.5, num_frames=8)
    assert frames.indices.tolist() == exo_segment(1, 2.5, 30, 90, 8)


def test_linspace_goes_from_first_to_last(long_gop):
    assert load_video(long_gop, num_frames=8, sampling="linspace").indices.tolist() == linspace(90, 8)
    frames = load_video(long_gop, start=1.0, end=2.0, num_frames=4, sampling="linspace")
    assert frames.indices.tolist() == [30, 39, 49, 59]


def test_an_end_a_fraction_past_the_end_is_the_end(long_gop):
    over, at = load_video(long_gop, start=1.0, end=3.4, num_frames=4), load_video(long_gop, start=1.0, num_frames=4)
    assert over.indices.tolist() == at.indices.tolist()


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_videos_come_out_upright(make_video, sequential, rotation):
    # A phone stores the sensor's picture and asks the player to turn it; 90 turns it counter-clockwise.
    path = make_video(f"rotated_{rotation}.mp4", 12, rotation=rotation)
    info = probe(path)
    assert info.rotation == rotation
    assert (info.width, info.height) == ((160, 96) if rotation == 180 else (96, 160))
    frames = read_frames(path, [0, 11])
    assert frames.pixels.shape[1:3] == (info.height, info.width)
    np.testing.assert_array_equal(frames.pixels[1], np.rot90(sequential(path)[11], rotation // 90))


def test_frames_cut_away_by_an_edit_list_are_not_counted(make_video, tmp_path, sequential):
    cut = tmp_path / "cut.mp4"
    with av.open(make_video("to_cut.mp4", 90, gop=250)) as source, av.open(cut, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.pts -= 15360  # one second of frames is decoded but lies before time 0
                packet.dts -= 15360
                packet.stream = stream
                target.mux(packet)
    expected = sequential(cut)
    assert probe(cut).num_frames == len(expected)
    for index in (0, 10, len(expected) - 1):
        np.testing.assert_array_equal(read_frames(cut, [index]).pixels[0], expected[index])


def test_file_names_are_only_names(long_gop, tmp_path):
    odd = tmp_path / "concat:a|b 100%.mp4"
    shutil.copy(long_gop, odd)
    assert probe(odd).num_frames == 90


def test_values_that_are_not_allowed(long_gop):
    for arguments, message in (
        ({"num_frames": 0}, "num_frames=0"),
        ({"sampling": "random"}, "choose from segment_center, linspace"),
        ({"backend": "opencv"}, "choose from auto, pyav, torchcodec"),
        ({"start": 2.0, "end": 1.0}, "start must lie before the end"),
        ({"start": -1.0}, "start=-1"),
    ):
        with pytest.raises(InputError, match=message):
            load_video(long_gop, **arguments)
    for indices in ([], [90], [-1]):
        with pytest.raises(InputError, match="from 0 to 89"):
            read_frames(long_gop, indices)


def test_a_header_that_lies_about_times_is_found_out(long_gop, sequential, monkeypatch):
    def shifted(video):
        truth = timeline._from_index(video)
        return dataclasses.replace(truth, pts=range(truth.pts[0] + 7, truth.pts[-1] + 8, truth.pts.step))

    monkeypatch.setattr(file, "_TIMELINES", TimelineCache())
    monkeypatch.setattr(file, "read_timeline", lambda video, _: shifted(video))
    np.testing.assert_array_equal(read_frames(long_gop, [3, 80]).pixels, [sequential(long_gop)[i] for i in (3, 80)])


def test_the_header_alone_tells_an_mp4s_timeline_as_the_packets_do(long_gop):
    with open_video(long_gop) as video:
        by_header, by_packets = timeline._from_index(video), timeline.from_packets(video)
    times = [list(line.pts) for line in (by_header, by_packets)]
    assert times[0] == times[1]
    assert dataclasses.replace(by_header, pts=[]) == dataclasses.replace(by_packets, pts=[])


@pytest.mark.parametrize("name", ["single.mp4", "single.mkv"])
def test_a_video_of_one_frame(make_video, name):
    path = make_video(name, 1)
    assert probe(path).num_frames == 1
    assert load_video(path, num_frames=4).indices.tolist() == [0, 0, 0, 0]

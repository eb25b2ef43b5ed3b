import shutil

import numpy as np
import pytest

from egoinstructor.errors import InputError, VideoError
from egoinstructor.video.decode import load_video, probe, read_frames
from egoinstructor.video.sampling import ego_segment, linspace


@pytest.fixture(scope="module")
def pieces(tmp_path_factory, make_video):
    """Three pieces of 15 s, 15 s and 4 s at 10 frames per second, numbered through."""
    folder = tmp_path_factory.mktemp("chunks_15s") / "video"
    folder.mkdir()
    for number, length in enumerate((150, 150, 40)):
        made = make_video(f"piece{number}.mp4", length, fps=10, first=150 * number, gop=50)
        shutil.copy(made, folder / f"{number:04d}.mp4")
    return folder


def copy(pieces, tmp_path):
    return shutil.copytree(pieces, tmp_path / "15s" / "video")


def test_probe(pieces):
    info = probe(pieces)
    assert (info.num_frames, info.fps, info.duration) == (340, 10, 34)


def test_a_segment_within_a_piece(pieces, read_number):
    frames = load_video(pieces, start=16.0, end=20.0, num_frames=8)
    assert frames.indices.tolist() == ego_segment(16.0, 20.0, 8, fps=10)
    assert [read_number(image) for image in frames.pixels] == frames.indices.tolist()


@pytest.mark.parametrize(("start", "end"), [(13.2, 16.9), (14.95, 15.05), (1.0, 33.0)])
def test_a_segment_that_straddles_pieces(pieces, read_number, start, end):
    frames = load_video(pieces, start=start, end=end, num_frames=32)
    assert frames.indices.tolist() == ego_segment(start, end, 32, fps=10)
    assert [read_number(image) for image in frames.pixels] == frames.indices.tolist()
    np.testing.assert_allclose(frames.timestamps, frames.indices / 10)


def test_the_whole(pieces, read_number):
    frames = load_video(pieces, num_frames=12, sampling="linspace")
    assert [read_number(image) for image in frames.pixels] == frames.indices.tolist() == linspace(340, 12)


def test_read_frames_keeps_order_and_repeats_across_pieces(pieces, read_number):
    indices = [310, 2, 149, 150, 2, 299, 300]
    assert [read_number(image) for image in read_frames(pieces, indices).pixels] == indices
    with pytest.raises(InputError, match="from 0 to 339"):
        read_frames(pieces, [340])


def test_a_clip_shorter_than_a_second_at_the_very_end(pieces, read_number):
    frames = load_video(pieces, start=33.8, end=34.0, num_frames=8)
    assert [read_number(image) for image in frames.pixels] == [min(i, 339) for i in ego_segment(33.8, 34.0, 8, fps=10)]


def test_past_the_end(pieces):
    with pytest.raises(VideoError, match=r"lasts 34\.00 s"):
        load_video(pieces, start=34.5)


def test_a_missing_piece_is_named_where_it_is_needed(pieces, tmp_path):
    folder = copy(pieces, tmp_path)
    (folder / "0001.mp4").unlink()
    with pytest.raises(VideoError, match=r"0001\.mp4 is missing"):
        load_video(folder, start=14.0, end=17.0)
    assert len(load_video(folder, start=2.0, end=9.0)) == 32


def test_a_short_piece_holds_its_last_frame_for_half_a_second_at_most(pieces, tmp_path, make_video, read_number):
    folder = copy(pieces, tmp_path)
    shutil.copy(make_video("short.mp4", 147, fps=10), folder / "0000.mp4")
    assert [read_number(image) for image in read_frames(folder, [145, 148, 150]).pixels] == [145, 146, 150]
    shutil.copy(make_video("shorter.mp4", 100, fps=10), folder / "0000.mp4")
    with pytest.raises(VideoError, match=r"0000\.mp4 lasts 10\.00 s instead of 15 s"):
        load_video(folder, start=12.0, end=16.0)


def test_pieces_that_differ_in_size_come_in_that_of_the_last(pieces, tmp_path, make_video, read_number):
    folder = copy(pieces, tmp_path)
    shutil.copy(make_video("wide.mp4", 150, fps=10, first=150, size=(320, 192)), folder / "0001.mp4")
    assert (probe(folder).width, probe(folder).height) == (160, 96)
    for start, end in ((14.0, 17.0), (16.0, 20.0), (2.0, 3.0)):
        frames = load_video(folder, start=start, end=end)
        assert frames.pixels.shape[1:3] == (96, 160)
        assert frames.indices.tolist() == ego_segment(start, end, 32, fps=10)
    halved = read_frames(folder, [150]).pixels[0].astype(int)
    wide = read_frames(folder / "0001.mp4", [0]).pixels[0]
    assert np.abs(halved - wide.reshape(96, 2, 160, 2, 3).mean((1, 3))).mean() < 3


def test_without_15s_in_the_path_a_piece_lasts_five_minutes(tmp_path, make_video):
    shutil.copy(make_video("slow.mp4", 30, fps=10), tmp_path / "0002.mp4")
    folder = tmp_path.rename(tmp_path.with_name("long_pieces"))
    frames = load_video(folder, start=601.0, end=602.5, num_frames=4)
    assert frames.indices.tolist() == ego_segment(601.0, 602.5, 4, fps=10)
    assert frames.timestamps[0] == pytest.approx(frames.indices[0] / 10)

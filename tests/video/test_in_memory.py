"""Frames in memory are a video: chosen from as the file that they were decoded from."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egoinstructor.errors import InputError, VideoError
from egoinstructor.records import Clip, Frames, Reference, as_source, source_name
from egoinstructor.video.decode import load_video, probe, read_frames
from egoinstructor.video.identity import content_digest, content_identity


def held(times, source="camera", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (len(times), 4, 6, 3), dtype=np.uint8)
    return Frames(pixels, np.array(times, dtype=float), np.arange(len(times)), source)


@pytest.fixture(scope="module")
def decoded(long_gop):
    """The file's 90 frames, all of them."""
    return read_frames(long_gop, range(90))


@pytest.mark.parametrize("policy", ["segment_center", "linspace"])
@settings(max_examples=40, deadline=None)
@given(
    start=st.one_of(st.none(), st.integers(0, 290)),
    length=st.one_of(st.none(), st.integers(2, 300)),
    num_frames=st.integers(1, 40),
)
def test_every_frame_of_a_file_is_chosen_from_as_the_file_is(decoded, long_gop, policy, start, length, num_frames):
    end = None if length is None else min((start or 0) + length, 350) / 100
    start = None if start is None else start / 100
    options = {"start": start, "end": end, "num_frames": num_frames, "sampling": policy}
    assert load_video(decoded, **options).indices.tolist() == load_video(long_gop, **options).indices.tolist()


@pytest.mark.parametrize("policy", ["segment_center", "linspace"])
@pytest.mark.parametrize("span", [(1.0, 2.0), (1.5, 1.9), (1.0, 1.05), (1.23, 1.98)])
def test_a_part_keeps_the_times_of_the_whole(decoded, long_gop, policy, span):
    part = read_frames(long_gop, range(30, 61))
    options = {"start": span[0], "end": span[1], "num_frames": 4, "sampling": policy}
    from_part, from_file = load_video(part, **options), load_video(long_gop, **options)
    assert from_part.indices.tolist() == from_file.indices.tolist()
    np.testing.assert_array_equal(from_part.pixels, from_file.pixels)
    np.testing.assert_array_equal(from_part.timestamps, from_file.timestamps)


@pytest.mark.parametrize("policy", ["segment_center", "linspace"])
def test_frames_that_were_sampled_already_are_taken_as_they_are(decoded, policy):
    sampled = load_video(decoded, start=0.5, end=2.5, num_frames=8)
    assert load_video(sampled, num_frames=8, sampling=policy) is sampled
    repeated = read_frames(decoded, [5, 5, 5, 9])  # a short clip: some stand twice
    assert load_video(repeated, num_frames=4, sampling=policy) is repeated


def test_more_and_fewer_than_there_are():
    frames = held([4, 5, 6, 7])
    assert load_video(frames, num_frames=2).indices.tolist() == [1, 2]
    assert load_video(frames, num_frames=8).indices.tolist() == [0, 0, 1, 1, 2, 2, 2, 3]
    assert load_video(held([4]), num_frames=3).indices.tolist() == [0, 0, 0]
    assert load_video(held([4, 4, 4]), num_frames=2, start=4).indices.tolist() == [2, 2]


def test_uneven_times_mean_the_frame_on_the_screen():
    frames = held([0, 1, 2, 3, 10, 11])  # a camera that stood still
    assert probe(frames).variable_frame_rate
    chosen = load_video(frames, start=0, end=13, num_frames=6, sampling="linspace")
    assert chosen.indices.tolist() == [0, 2, 3, 3, 4, 5]  # on the screen at 0, 2.6, 5.2, 7.8, 10.4 and 13 s


def test_what_it_is(long_gop, decoded):
    of_file, of_frames = probe(long_gop), probe(decoded)
    assert (of_frames.width, of_frames.height, of_frames.fps) == (of_file.width, of_file.height, of_file.fps)
    assert (of_frames.num_frames, of_frames.duration) == (of_file.num_frames, pytest.approx(of_file.duration))
    assert not of_frames.variable_frame_rate
    assert source_name(held([0])) == "camera"
    assert as_source(decoded) is decoded
    assert Reference(decoded, "you stir").as_dict()["video"] == str(long_gop)


@pytest.mark.parametrize("span", [(None, 3.0), (7.0, None), (None, 9.6), (8.0, 9.0), (3.2, 5.0)])
def test_a_segment_that_is_not_in_the_frames(span):
    with pytest.raises(VideoError, match=r"camera.*its frames in memory are of 4.00 s to 7.00 s"):
        load_video(held(np.arange(4, 7, 0.1)), start=span[0], end=span[1], num_frames=4)


def test_times_that_make_no_sense():
    for times in ([1, 0, 2], [0, float("nan"), 2], [-1, 0, 1]):
        with pytest.raises(InputError, match="frames of camera: their times must be seconds"):
            load_video(held(times), start=0, end=1, num_frames=2)
    for indices in ([], [3], [-1]):
        with pytest.raises(InputError, match="each from 0 to 2"):
            read_frames(held([0, 1, 2]), indices)


def test_identity_is_that_of_pixels_and_times():
    one, same, other_times, other_pixels = held([0, 1]), held([0, 1], "elsewhere"), held([0, 2]), held([0, 1], seed=1)
    assert content_identity(one) == content_identity(same)
    assert len({content_digest(frames) for frames in (one, other_times, other_pixels)}) == 3
    turned = Frames(one.pixels[:, ::-1], one.timestamps, one.indices, "camera")  # not contiguous
    assert content_digest(turned) == content_digest(
        Frames(turned.pixels.copy(), turned.timestamps, turned.indices, "camera")
    )
    assert {Clip(one): 1}[Clip(one)] == 1


def test_records_need_neither_numpy_nor_torch():
    code = "import sys, egoinstructor.records; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

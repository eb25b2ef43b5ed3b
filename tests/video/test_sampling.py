import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from egoinstructor.errors import InputError, VideoError
from egoinstructor.records import Clip
from egoinstructor.video.sampling import (
    clip_span,
    ego_segment,
    exo_segment,
    linspace,
    linspace_segment,
    segment_centers,
)

CASES = json.loads((Path(__file__).parents[1] / "golden" / "frame_ids.json").read_text())
RULES = {"ego_chunked_300s": ego_segment, "exo_whole_file": exo_segment, "uniform_linspace": linspace}

frames = st.integers(1, 100)
seconds = st.floats(0, 3600)
seeds = st.one_of(st.none(), st.integers(0, 99))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']}-{case['num_frames']}")
def test_the_originals_frame_numbers(case):
    arguments = {name: value for name, value in case.items() if name not in ("kind", "frame_ids")}
    assert RULES[case["kind"]](**arguments) == case["frame_ids"]


def test_the_golden_file_covers_every_rule():
    assert {case["kind"] for case in CASES} == set(RULES)


@given(total=st.integers(1, 10**6), num_frames=frames)
def test_linspace_is_numpys(total, num_frames):
    assert linspace(total, num_frames) == np.linspace(0, total - 1, num_frames).astype(int).tolist()


def check(chosen, num_frames, first, last):
    assert len(chosen) == num_frames
    assert chosen == sorted(chosen)
    assert first <= chosen[0] <= chosen[-1] <= last


@given(start=st.integers(0, 10**6), length=st.integers(1, 10**5), num_frames=frames, seed=seeds)
def test_segment_centers_stay_in_the_segment_and_in_order(start, length, num_frames, seed):
    rng = None if seed is None else random.Random(seed)
    check(segment_centers(start, start + length, num_frames, rng), num_frames, start, start + length - 1)


@given(start=seconds, length=st.floats(0, 100), num_frames=frames, fps=st.floats(0.1, 120), seed=seeds)
@example(start=1.5, length=0.0, num_frames=1, fps=1.0, seed=None)
def test_ego_segment(start, length, num_frames, fps, seed):
    rng = None if seed is None else random.Random(seed)
    last = round(max(start + length, start + 1) * fps)
    check(ego_segment(start, start + length, num_frames, fps, rng), num_frames, round(start * fps), last)


@given(
    start=st.floats(0, 0.999),
    length=st.floats(0, 100),
    fps=st.floats(1, 120),
    total=st.integers(1, 10**5),
    num_frames=frames,
    seed=seeds,
)
def test_exo_segment_stays_in_the_file(start, length, fps, total, num_frames, seed):
    rng = None if seed is None else random.Random(seed)
    start *= total / fps
    check(exo_segment(start, start + length, fps, total, num_frames, rng), num_frames, 0, total - 1)


@given(start=st.floats(0, 0.999), length=st.floats(0, 99), fps=st.floats(1, 120), total=st.integers(1, 9999), n=frames)
def test_linspace_segment_stays_in_the_file(start, length, fps, total, n):
    start *= total / fps
    check(linspace_segment(start, start + length, fps, total, n), n, 0, total - 1)


def test_jitter_takes_every_frame_of_a_part_and_no_other():
    rng = random.Random(0)
    drawn = [segment_centers(0, 41, 4, rng) for _ in range(500)]
    assert {numbers[1] for numbers in drawn} == set(range(10, 21))
    assert segment_centers(0, 41, 4, random.Random(7)) == segment_centers(0, 41, 4, random.Random(7))


@pytest.mark.parametrize("num_frames", [0, -1])
def test_no_frames_asked_for(num_frames):
    for choose in (
        lambda: linspace(10, num_frames),
        lambda: segment_centers(0, 10, num_frames),
        lambda: exo_segment(0, 1, 30, 90, num_frames),
    ):
        with pytest.raises(InputError, match=f"num_frames={num_frames}"):
            choose()


def test_empty_segments():
    with pytest.raises(InputError, match="frames 5 to 5"):
        segment_centers(5, 5, 4)
    with pytest.raises(InputError, match="total_frames=0"):
        linspace(0, 4)


def test_clip_span():
    assert clip_span(Clip("a.mp4"), 10.0) == (0.0, 10.0)
    assert clip_span(Clip("a.mp4", 2.0, 4.0), 10.0) == (2.0, 4.0)
    assert clip_span(Clip("a.mp4", 2.0, 10.4), 10.0) == (2.0, 10.0)
    for start, end in ((10.0, 11.0), (2.0, 10.6), (12.0, None)):
        with pytest.raises(VideoError, match=r"lasts 10\.00 s"):
            clip_span(Clip("a.mp4", start, end), 10.0)

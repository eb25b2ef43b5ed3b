"""The clock of a stream: which times are believed, which are damage, and what is waited for."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest

from egoinstructor.streaming.clock import STEADY, StreamClock

RATE = 10
TICK = 1 / 90_000


def given(own, rate=RATE, longest=3600.0):
    """Number → seconds of the frames that are given, and how many were left out."""
    times = StreamClock(rate)
    frames = [frame for number, time in enumerate(own) for frame in times.take(time, number, longest)]
    frames += times.end()
    seconds = [second for second, _ in frames]
    assert all(early <= late for early, late in pairwise(seconds)), "they never fall"
    numbers = [number for _, number in frames]
    assert numbers == sorted(set(numbers)), "each once, in order"
    assert len(frames) + times.left_out == len(own)
    return {number: second for second, number in frames}, times.left_out


def steady(count, start=0.0, rate=RATE):
    return [start + i / rate for i in range(count)]


def flipped(seconds, bit):
    """A time of a mpegts stream that began at 7 hours, with one of its 33 bits changed."""
    began = 25_200
    return (round((seconds + began) / TICK) ^ (1 << bit)) * TICK - began


@pytest.mark.parametrize("where", [[20], [20, 21], [20, 25], [58]])
def test_a_flipped_bit_costs_that_frame_and_no_other_moves(where):
    for bit in range(32):
        own = steady(60)
        for number in where:
            own[number] = flipped(own[number], bit + (number == 21))
        seconds, _ = given(own)
        assert set(range(60)) - set(seconds) <= set(where), bit
        assert all(abs(second * RATE - number) < STEADY for number, second in seconds.items()), bit


@pytest.mark.parametrize("jump", [-100.0, -90_000.0, 3601.0, 95_443.7, 1.4e8])
def test_where_no_gap_can_be_the_next_frame_follows(jump):
    """The camera began to count anew, or FFmpeg took a damaged stamp for the next round of its bits."""
    seconds, left_out = given([*steady(30, 100), *steady(30, 103 + jump)])
    assert left_out == 0
    assert list(seconds.values()) == pytest.approx(steady(60))


def test_what_is_left_out_before_a_jump_has_had_its_time():
    times = StreamClock(RATE)
    frames = [frame for number in range(10) for frame in times.take(number / RATE, number)]
    for _ in range(4):
        times.leave_out()
    frames += [frame for number in range(14, 20) for frame in times.take(5e6 + number / RATE, number)]
    assert [second * RATE for second, _ in frames] == pytest.approx([number for _, number in frames])


@pytest.mark.parametrize("gap", [0.3, 7.0, 300.0, 3599.0])
def test_a_camera_that_stopped_for_minutes_goes_on_later(gap):
    own = [*steady(30), *steady(30, 2.9 + gap)]
    seconds, left_out = given(own)
    assert left_out == 0
    assert list(seconds.values()) == pytest.approx(own)


def test_of_a_live_stream_no_gap_is_longer_than_the_wait_for_it():
    seconds, left_out = given([*steady(30), *steady(30, 303.0)], longest=10.0)
    assert left_out == 0
    assert list(seconds.values()) == pytest.approx(steady(60))


@pytest.mark.parametrize(
    "steps",
    [
        [0.04, 0.2, 0.01, 1.5, 0.03] * 8,  # a screen that is recorded when it changes
        [30.0, 45.0, 20.0, 60.0] * 8,  # a camera that looks twice a minute
        [0.2] * 40,  # half of the rate that was declared
        [*[1 / 30] * 20, 9.0],  # the last picture stood still
        [0.0, 0.1] * 20,  # two at a time
    ],
)
def test_a_varying_rate_loses_nothing(steps):
    own = list(accumulate(steps, initial=77.0))
    seconds, left_out = given(own, rate=30)
    assert left_out == 0
    assert list(seconds.values()) == pytest.approx([time - 77 for time in own])


@pytest.mark.parametrize(("last", "kept"), [(12.0, True), (20.0, False), (-50.0, False), (5e6, False)])
def test_the_last_frame_is_believed_for_some_seconds(last, kept):
    seconds, left_out = given([*steady(30), last])
    assert (30 in seconds, left_out) == (kept, not kept)


def test_a_frame_that_is_given_again_late_is_left_out():
    seconds, left_out = given([0.0, 0.1, 0.2, 0.1, 0.15, 0.3])
    assert list(seconds) == [0, 1, 2, 5]
    assert left_out == 2


def test_frames_wait_only_while_a_jump_is_in_doubt():
    times = StreamClock(RATE)
    waits = []
    for number, own in enumerate([*steady(5), *steady(6, 60)]):
        waits.append(len(list(times.take(own, number))))
    assert waits == [1, 1, 1, 1, 1, 0, 0, 3, 1, 1, 1]


def test_a_stream_without_times_or_with_few_is_counted_at_its_rate():
    assert list(given([None] * 5)[0].values()) == pytest.approx(steady(5))
    seconds, left_out = given([50.0, 50.1, None, 50.3, 7.0, 7.1, 9.0])
    assert left_out == 0
    assert list(seconds.values()) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 2.4])
    own = [i / RATE if i % 10 == 0 else None for i in range(60)]
    assert list(given(own)[0].values()) == pytest.approx(steady(60))


def test_after_a_reconnection_times_go_on_by_the_clock():
    times = StreamClock(RATE)
    seconds = [second for second, _ in [*times.take(50.0, 0), *times.take(50.1, 1), *times.end()]]
    times.resume(10.0)
    seconds += [second for second, _ in [*times.take(0.0, 2), *times.take(0.1, 3)]]
    times.resume(3.0)
    seconds += [second for second, _ in times.take(5.0, 4)]
    assert seconds == pytest.approx([0, 0.1, 10.0, 10.1, 10.2]), "never back"

"""Batching: what comes together is done together, each gets its own, the queue is bounded, nothing is lost."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from time import monotonic

import pytest

from egoinstructor.errors import InputError
from egoinstructor.web.batcher import Batcher
from egoinstructor.web.errors import Busy, Unavailable


class Desk:
    """Work that waits for leave, and remembers its batches. A request is a number; its group is its tens."""

    def __init__(self):
        self.go, self.at_work = threading.Event(), threading.Event()
        self.batches = []

    def __call__(self, requests):
        self.batches.append(list(requests))
        self.at_work.set()
        assert self.go.wait(60)
        if 13 in requests:
            raise InputError("13 is unlucky")
        return [-request for request in requests]


@pytest.fixture
def desk():
    made = Desk()
    yield made
    made.go.set()


@pytest.fixture
def batcher(desk):
    made = Batcher(desk, lambda request: request // 10, max_batch=3, queue=4, wait=0.0)
    yield made
    desk.go.set()
    made.close()


def occupied(batcher, desk):
    """The thread is at work on something, so that what is lined up now waits."""
    first = batcher.submit(0)
    assert desk.at_work.wait(60)
    return first


def test_what_waits_is_done_together_by_groups_and_in_order(batcher, desk):
    first = occupied(batcher, desk)
    futures = [batcher.submit(request) for request in (1, 20, 2, 3)]
    desk.go.set()
    assert [future.result(60) for future in (first, *futures)] == [0, -1, -20, -2, -3]
    assert desk.batches == [[0], [1, 2, 3], [20]]


def test_a_batch_is_bounded(batcher, desk):
    occupied(batcher, desk)
    futures = [batcher.submit(request) for request in (1, 2, 3, 4)]
    desk.go.set()
    assert [future.result(60) for future in futures] == [-1, -2, -3, -4]
    assert desk.batches == [[0], [1, 2, 3], [4]]


def test_an_idle_thread_waits_a_moment_for_more(desk):
    desk.go.set()
    batcher = Batcher(desk, lambda _: None, max_batch=2, queue=4, wait=60.0)
    try:
        futures = [batcher.submit(1), batcher.submit(2)]
        assert [future.result(60) for future in futures] == [-1, -2]
        assert desk.batches == [[1, 2]], "and goes on as soon as the batch is full"
    finally:
        batcher.close()


def test_a_bad_request_fails_alone(batcher, desk):
    occupied(batcher, desk)
    good, bad, other = (batcher.submit(request) for request in (12, 13, 14))
    desk.go.set()
    assert (good.result(60), other.result(60)) == (-12, -14)
    with pytest.raises(InputError, match="unlucky"):
        bad.result(60)
    assert desk.batches == [[0], [12, 13, 14], [12], [13], [14]]


def test_an_error_in_place_of_a_result_is_that_requests_alone():
    batches = []

    def work(requests):
        batches.append(list(requests))
        return [InputError("bad") if request < 0 else request for request in requests]

    batcher = Batcher(work, lambda _: None, max_batch=2, queue=4, wait=60.0)
    bad, good = batcher.submit(-1), batcher.submit(1)
    assert good.result(60) == 1
    with pytest.raises(InputError, match="bad"):
        bad.result(60)
    assert batches == [[-1, 1]]
    batcher.close()


def test_a_full_queue_refuses_and_says_when_to_come_back(batcher, desk):
    occupied(batcher, desk)
    for request in (1, 2, 3, 4):
        batcher.submit(request)
    with pytest.raises(Busy, match="4 requests wait") as refused:
        batcher.submit(5)
    assert int(refused.value.headers["Retry-After"]) >= 1


def test_who_has_gone_costs_nothing_and_takes_no_place(batcher, desk):
    first = occupied(batcher, desk)
    futures = [batcher.submit(request) for request in (1, 2, 3, 4)]
    assert futures[1].cancel()
    assert batcher.waiting == 3
    late = batcher.submit(5)
    desk.go.set()
    assert [late.result(60), first.result(60)] == [-5, 0]
    with pytest.raises(CancelledError):
        futures[1].result(60)
    assert 2 not in [request for batch in desk.batches for request in batch]


def test_a_function_runs_alone_and_its_error_is_its_callers(batcher, desk):
    first = occupied(batcher, desk)
    fine, broken = batcher.call(lambda: "done"), batcher.call(lambda: 1 // 0)
    after = batcher.submit(1)
    desk.go.set()
    assert (first.result(60), fine.result(60), after.result(60)) == (0, "done", -1)
    with pytest.raises(ZeroDivisionError):
        broken.result(60)


def test_closing_finishes_what_waits_and_takes_no_more(batcher, desk):
    futures = [occupied(batcher, desk), *(batcher.submit(request) for request in (1, 2))]
    closing = threading.Thread(target=batcher.close)
    closing.start()
    until = monotonic() + 60
    while monotonic() < until:
        try:
            batcher.submit(3).cancel()
        except Unavailable:
            break
    else:
        pytest.fail("it still takes requests")
    desk.go.set()
    closing.join(60)
    assert [future.result(0) for future in futures] == [0, -1, -2]
    batcher.close()


def test_too_few_results_are_an_error_and_not_another_ones_answer():
    batcher = Batcher(lambda requests: [1], lambda _: None, max_batch=2, queue=4, wait=60.0)
    futures = [batcher.submit(1), batcher.submit(2)]
    assert [future.result(60) for future in futures] == [1, 1], "each was asked alone"
    batcher.close()


def test_an_error_of_the_counter_is_no_end_of_the_thread():
    def broken(size):
        raise RuntimeError("the counter")

    batcher = Batcher(lambda requests: requests, lambda _: None, max_batch=2, queue=4, wait=0.0, observe=broken)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the counter"):
            batcher.submit(1).result(60)
    batcher.close()


def test_retry_after_follows_the_rate():
    batcher = Batcher(lambda requests: requests, lambda _: None, max_batch=2, queue=4)
    assert batcher.retry_after(4) == 1
    batcher._seconds_each = 2.5
    assert batcher.retry_after(4) == 10
    assert batcher.retry_after(1000) == 60
    batcher.close()

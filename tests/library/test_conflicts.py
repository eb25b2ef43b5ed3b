"""Commits that other writers get ahead of are repeated, and what can't be written says why."""

from __future__ import annotations

import multiprocessing

import pytest
import torch

from egoinstructor.errors import InputError
from egoinstructor.library.conflicts import LONGEST_WAIT, ConflictError, retry_conflicts
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import ClipEntry, VideoRecord
from egoinstructor.library.store import Store

# As Lance words them.
TOO_MANY = (
    "lance error: Too many concurrent writers. Attempted 2 times, but failed on retry_timeout of 30.000 seconds., "
    "/root/.cargo/registry/src/lance-1.0/src/dataset/write/retry.rs:71:9"
)
PREEMPTED = "lance error: Retryable commit conflict for version 5: This Delete was preempted by concurrent transaction"


class Clock:
    """Time that passes in sleep only."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


def failing(times: int, message: str = TOO_MANY):
    left = [times]

    def commit() -> str:
        if left[0]:
            left[0] -= 1
            raise RuntimeError(message)
        return "done"

    return commit


@pytest.mark.parametrize("message", [TOO_MANY, PREEMPTED])
def test_conflicts_are_retried_with_waits_that_grow_up_to_a_limit(message):
    clock = Clock()
    highest = lambda low, high: high  # noqa: E731
    assert retry_conflicts(failing(10, message), clock=clock, sleep=clock.sleep, draw=highest) == "done"
    assert clock.slept[:4] == [0.25, 0.5, 1.0, 2.0]
    assert clock.slept[-1] == LONGEST_WAIT


def test_waits_differ_between_processes():
    first, second = Clock(), Clock()
    for clock in (first, second):
        retry_conflicts(failing(5), clock=clock, sleep=clock.sleep)
    assert first.slept != second.slept


def test_after_minutes_it_is_given_up():
    clock = Clock()
    with pytest.raises(ConflictError, match=r"\d+ attempts in \d+ s"):
        retry_conflicts(failing(10**6), seconds=300, clock=clock, sleep=clock.sleep)
    assert 300 <= clock.now <= 300 + LONGEST_WAIT


def test_other_errors_are_not_retried():
    clock = Clock()
    with pytest.raises(RuntimeError, match="file is damaged"):
        retry_conflicts(failing(1, "file is damaged"), clock=clock, sleep=clock.sleep)
    assert clock.slept == []


def test_the_message_of_a_conflict_does_not_speak_of_damage(library):
    store = Store.open(library.uri)

    def conflict() -> None:
        raise ConflictError(37, 600)

    with pytest.raises(InputError, match="other processes wrote to it at each of 37 attempts in 600 s") as caught:
        store.commit("written to", conflict)
    assert "run the same command again" in str(caught.value)
    assert "restore" not in str(caught.value)

    def damage() -> None:
        raise RuntimeError("Not found: /data/0.lance")

    with pytest.raises(InputError, match="restore them"):
        store.commit("written to", damage)


def test_a_part_of_the_log_reads_the_records_of_its_videos_and_of_their_copies(library, monkeypatch):
    """However many others the library has."""
    records = [VideoRecord("howto", f"{i}.mp4", f"digest {i // 2}", "rows", 1) for i in range(300)]
    library.log_videos(records)
    read = []
    rows = Store.rows
    monkeypatch.setattr(Store, "rows", lambda *a, **kw: read.append(found := rows(*a, **kw)) or found)
    part = library.part_of_log()
    part.read([("howto", "10.mp4"), ("howto", "13.mp4"), ("howto", "new.mp4")])
    assert part.get(("howto", "10.mp4")) == records[10]
    assert part.get(("howto", "new.mp4")) is None
    assert part.copies("digest 5") == {("howto", "10.mp4"), ("howto", "11.mp4")}
    assert part.copies("another digest") == set()
    assert sum(table.num_rows for table in read) == 2 + 4


def write(uri: str, writer: int, commits: int) -> None:
    library = ExoLibrary.open(uri)
    for commit in range(commits):
        entries = [ClipEntry("v.mp4", 10 * writer + commit, 10 * writer + commit + n, "stir", "s", "d") for n in (1, 2)]
        vectors = torch.nn.functional.one_hot(torch.tensor([0, 1]), library.identity.dimension).float()
        library.add(entries, vectors, vectors)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_many_writers_at_once_lose_no_commit(library):
    library.add_source("s", "/videos")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(library.uri, number, 4)) for number in range(24)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * len(writers)
    assert len(library) == 24 * 4 * 2
    assert library.verify().ok

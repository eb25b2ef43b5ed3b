"""Makers that a worker process imports. A job is Python to run; its result is what it assigns to `result`."""

from __future__ import annotations

import signal


def runner(rank: int, workers: int):
    def run(job: str) -> object:
        names = {"rank": rank, "workers": workers, "result": None}
        exec(job, names)
        return names["result"]

    return run


def stateful(rank: int, workers: int):
    seen = []

    def run(job: str) -> list[str]:
        seen.append(job)
        return list(seen)

    return run


def broken(rank: int, workers: int):
    raise KeyError("no model here")


def signals(rank: int, workers: int):
    def run(job: object) -> list[str]:
        return [number.name for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]

    return run

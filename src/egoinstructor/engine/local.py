"""Worker processes on this machine. Each keeps what its maker made, such as an open model, and does one job at a time.

A job that raises is `Failed`. A job whose process dies (a crash in a codec, the kernel for want of memory) is given to a
fresh process, `ATTEMPTS` times at most, and is `Died` then; the others are done all the same. Workers compute; whoever
iterates the outcomes is the only one to write results down.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from egoinstructor.engine.signals import deferred_interrupt

Job = TypeVar("Job")
Result = TypeVar("Result")

ATTEMPTS = 3
"""Processes that may die of a job before it is given up: a death may also be the machine's fault."""


@dataclass(frozen=True, slots=True)
class Done(Generic[Job, Result]):
    """A job with its result."""

    job: Job
    result: Result


@dataclass(frozen=True, slots=True)
class Failed(Generic[Job]):
    """A job with the exception that it raised."""

    job: Job
    error: Exception


@dataclass(frozen=True, slots=True)
class Died(Generic[Job]):
    """A job whose processes died.

    Args:
        job: the job.
        exit_code: of the last process; the negative signal number where one ended it.
    """

    job: Job
    exit_code: int | None


Outcome = Done[Job, Result] | Failed[Job] | Died[Job]

Maker = Callable[[int, int], Callable[[Job], Result]]
"""Makes, in a worker process, what does its jobs; called with the worker's rank and the number of workers."""


@dataclass(eq=False, slots=True)
class _Worker(Generic[Job]):
    """A process, its end of the pipe, and the job that it is at: its number and the job."""

    rank: int
    process: BaseProcess
    connection: Connection[Any, Any]
    task: tuple[int, Job] | None = None


def each(make: Maker[Job, Result], jobs: Iterable[Job], *, workers: int) -> Generator[Outcome[Job, Result]]:
    """Do jobs in worker processes; yield the outcome of each as it comes, in any order.

    Jobs are taken from the iterable as workers are free, so that there are never more than `workers` under way. Closing the
    generator kills the workers, and so does the death of this process. Ctrl-C reaches this process alone.

    Args:
        make: function of a module, which a worker calls once.
        jobs: picklable.
        workers: processes.

    Raises:
        Exception: what `make` raised in a worker.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([make.__module__])
    tasks, again, deaths = enumerate(jobs), list[tuple[int, Job]](), Counter[int]()
    idle, busy = list[_Worker[Job]](), list[_Worker[Job]]()
    ranks = list(reversed(range(workers)))
    try:
        while True:
            while len(busy) < workers and (task := again.pop() if again else next(tasks, None)) is not None:
                worker = idle.pop() if idle else _start(context, make, ranks.pop(), workers)
                busy.append(worker)
                worker.task = task
                try:
                    worker.connection.send(task[1])
                except OSError:  # it died idle, or while it was made: met below, where its answer is waited for
                    continue
            if not busy:
                break
            ready = set(wait([worker.connection for worker in busy]))
            for worker in [worker for worker in busy if worker.connection in ready]:
                busy.remove(worker)
                assert worker.task is not None
                number, job = worker.task
                try:
                    kind, value = worker.connection.recv()
                except (EOFError, OSError):
                    worker.connection.close()
                    worker.process.join()
                    ranks.append(worker.rank)
                    deaths[number] += 1
                    if deaths[number] == ATTEMPTS:
                        yield Died(job, worker.process.exitcode)
                    else:
                        again.append((number, job))
                    continue
                idle.append(worker)
                if kind == "made":
                    raise value
                yield Done(job, value) if kind == "done" else Failed(job, value)
    finally:
        for worker in busy:
            worker.process.kill()
        for worker in [*idle, *busy]:
            worker.connection.close()  # an idle one ends by itself
            worker.process.join()


def _start(context: Any, make: Maker[Job, Result], rank: int, workers: int) -> _Worker[Job]:
    with deferred_interrupt():  # a process that is started is noted, and so is stopped
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, make, rank, workers), daemon=True)
        process.start()
        there.close()
        return _Worker(rank, process, here)


def _serve(connection: Connection[Any, Any], make: Maker[Job, Result], rank: int, workers: int) -> None:
    """Do jobs until the pipe is closed; in a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where others had started the server that this was forked from
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        work = make(rank, workers)
    except Exception as error:  # noqa: BLE001 - raised again in the process that asked for the worker
        _answer(connection, "made", error)
        return
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        try:
            kind, value = "done", work(job)
        except Exception as error:  # noqa: BLE001 - handed to whoever iterates, as `Failed`
            kind, value = "failed", error  # type: ignore[assignment]
        _answer(connection, kind, value)


def _answer(connection: Connection[Any, Any], kind: str, value: object) -> None:
    try:
        connection.send((kind, value))
    except OSError:  # nobody waits any more
        os._exit(1)
    except Exception as error:  # noqa: BLE001 - what can't be pickled may be of any kind
        connection.send(("failed" if kind == "done" else kind, RuntimeError(f"{value!r} can't be sent: {error}")))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

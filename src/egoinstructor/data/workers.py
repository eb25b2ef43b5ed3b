"""Run each job in a worker process, so that one that crashes or exhausts the memory costs no other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from egoinstructor.engine.signals import deferred_interrupt

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Crash:
    """In place of a result: the process ended without one."""

    exit_code: int | None


def run_each(work: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Generator[tuple[Job, Result | Crash]]:
    """Do jobs in processes, at most `workers` at a time; yield each with its result as it ends.

    Closing the iterator kills what still runs; so does the death of this process, however it dies.

    Args:
        work: a function of a module, so that another process can import it.
        jobs: its arguments, one each.
        workers: how many at a time.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    waiting = iter(jobs)
    running: dict[
        Connection[None, Any], tuple[BaseProcess, Job]
    ] = {}  # by the end of the pipe that the result comes through
    try:
        while True:
            for job in islice(waiting, workers - len(running)):
                with deferred_interrupt():  # a process that is started is noted, and so is stopped
                    receiver, sender = context.Pipe(duplex=False)
                    process = context.Process(target=_run, args=(sender, work, job), daemon=True)
                    process.start()
                    sender.close()
                    running[receiver] = process, job
            if not running:
                return
            ready = set(wait(list(running)))
            for receiver in [receiver for receiver in running if receiver in ready]:
                ended, job = running.pop(receiver)
                try:
                    result = receiver.recv()
                except EOFError:
                    result = None
                receiver.close()
                ended.join()
                yield job, Crash(ended.exitcode) if result is None else result
    finally:
        for left, _ in running.values():
            left.kill()
        for left, _ in running.values():
            left.join()


def _run(sender: Connection[Result, None], work: Callable[[Job], Result], job: Job) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where others had started the server that this was forked from
    threading.Thread(target=_die_with_parent, daemon=True).start()
    sender.send(work(job))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

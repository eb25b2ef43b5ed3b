"""Jobs in a few processes that stay: one that dies takes nothing with it but what it was at, and that is done again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from egoinstructor.engine.signals import deferred_interrupt

Job = TypeVar("Job")

ATTEMPTS = 3
"""How often a job may be there when a process dies; it may be another's fault, or the machine's."""


def do_all(
    work: Callable[[Job], None], jobs: Iterable[Job], workers: int, *, preload: str
) -> Generator[tuple[Job, bool]]:
    """Do jobs; yield each as it ends, with whether it was done: not, if processes died of it again and again.

    What a job raises is raised here. Closing the iterator ends the processes; so does the death of this one.

    Args:
        work: a function of a module.
        jobs: its arguments, each of which can be a key.
        workers: how many processes.
        preload: a module that all need.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([preload])
    waiting, again, deaths = iter(jobs), list[Job](), Counter[Job]()
    pool: ProcessPoolExecutor | None = None
    running: dict[Future[None], Job] = {}
    try:
        while True:
            if pool is None:
                pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_set_up)
            # After a death, one job at a time, so that the next one tells whose fault it is.
            room = (1 if again else workers + 1) - len(running)
            more = [again.pop()] if again and room > 0 else list(islice(waiting, max(0, room)))
            try:
                with deferred_interrupt():
                    for job in more:
                        running[pool.submit(work, job)] = job
            except BrokenProcessPool:
                again += [job for job in more if job not in running.values()]
            if not running and not again:
                return
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            broken = any(isinstance(future.exception(), BrokenProcessPool) for future in ended)
            for future in list(running) if broken else ended:
                job = running.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    deaths[job] += 1
                    if deaths[job] == ATTEMPTS:
                        yield job, False
                    else:
                        again.append(job)
                else:
                    future.result()
                    yield job, True
            if broken:
                pool.shutdown(wait=True)
                pool = None
    finally:
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


def _set_up() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

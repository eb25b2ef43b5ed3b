"""Several processes on one machine, each with its own model and its own share of the batches."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from egoinstructor.engine.signals import deferred_interrupt
from egoinstructor.errors import InputError
from egoinstructor.evaluation.captions.run import alone, await_all, begin, forget_failures, work_share
from egoinstructor.evaluation.captions.samples import Sample
from egoinstructor.evaluation.captions.writer import CaptionWriter
from egoinstructor.video.folder import ProgressCallback

Opened = tuple[CaptionWriter, dict[str, Any]]
Opener = Callable[[int, int], Opened]
"""Opens what captions with, and says what it is made with, for `begin`; given a process's rank and how many there are."""


def caption_all(
    out: Path,
    opener: Opener,
    samples: Sequence[Sample],
    batch_size: int,
    *,
    workers: int = 1,
    progress: ProgressCallback | None = None,
) -> None:
    """Caption what is not yet captioned or could not be read, in this process or in several others.

    Args:
        out: the run's folder.
        opener: with several workers something that another process can import.
        samples: of the split.
        batch_size: samples at a time.
        workers: processes; with 1, this one.
        progress: called after each batch.

    Raises:
        InputError: as `begin` and `alone`, what a worker met, or one that was killed. What was finished before is kept.
    """
    with alone(out):
        forget_failures(out)
        if workers == 1:
            _share(out, opener, samples, batch_size, 0, 1, progress)
            return
        try:
            with _pool(workers) as pool, _killed_unless_done():
                with deferred_interrupt():
                    shares = [
                        pool.submit(_share, out, opener, samples, batch_size, rank, workers, None)
                        for rank in range(workers)
                    ]
                await_all(out, samples, batch_size, progress=progress, check=lambda: _raise_failures(shares))
                for share in shares:
                    share.result()
        except BrokenProcessPool as error:
            raise InputError(
                f"one of {workers} workers was killed, perhaps for want of memory. What was captioned is kept in {out}; run "
                "the same command again, with fewer --workers."
            ) from error


def share_machine(device: str | None, rank: int, workers: int) -> str | None:
    """The device of a worker, each GPU being given to as many; and its share of the CPU's threads.

    Args:
        device: where the user wants it; None for wherever it can be.
        rank: of the worker, from 0.
        workers: how many there are.
    """
    import torch

    if workers > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))
        if device is None and (count := torch.cuda.device_count()) > 1:
            return f"cuda:{rank % count}"
    return device


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_die_with_parent)


@contextmanager
def _killed_unless_done() -> Iterator[None]:
    """Processes that are started in the block end at once where it fails or is interrupted, not with their shares."""
    others = set(multiprocessing.active_children())
    try:
        yield
    except BaseException:
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()
        raise


def _share(
    out: Path,
    opener: Opener,
    samples: Sequence[Sample],
    batch_size: int,
    rank: int,
    workers: int,
    progress: ProgressCallback | None,
) -> None:
    writer, settings = opener(rank, workers)
    begin(out, settings)
    work_share(out, writer, samples, batch_size, rank=rank, processes=workers, progress=progress)


def _raise_failures(shares: Sequence[Future[None]]) -> None:
    for share in shares:
        if share.done():
            share.result()


def _die_with_parent() -> None:
    """A worker must not go on writing when the run is killed and started again."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()

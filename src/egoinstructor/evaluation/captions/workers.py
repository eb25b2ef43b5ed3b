"""Caption a split in worker processes on one machine, each with its own model; this process alone writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egoinstructor.engine import ATTEMPTS, Died, Failed, each
from egoinstructor.errors import InputError
from egoinstructor.evaluation.captions.run import (
    add_batch,
    alone,
    batches,
    begin,
    finished,
    forget_failures,
    journal_of,
    work_share,
)
from egoinstructor.evaluation.captions.samples import Sample
from egoinstructor.evaluation.captions.writer import CaptionWriter, Record
from egoinstructor.video.folder import ProgressCallback

Opened = tuple[CaptionWriter, dict[str, Any]]
Opener = Callable[[int, int], Opened]
"""Opens a caption writer, and says what it is made with, for `begin`; given a process's rank and how many there are."""

_Batch = tuple[int, Sequence[Sample]]
"""Number and samples."""


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
        InputError: as `begin` and `alone`, what a worker met, or a batch that workers died of. What was finished before is
            kept.
    """
    with alone(out):
        forget_failures(out)
        if workers == 1:
            writer, settings = opener(0, 1)
            begin(out, settings)
            work_share(out, writer, samples, batch_size, progress=progress)
            return
        journal, done = journal_of(out), finished(out)
        total = batches(samples, batch_size)
        left = [
            (number, samples[number * batch_size : (number + 1) * batch_size])
            for number in range(total)
            if number not in done
        ]
        ready = total - len(left)
        with closing(each(_Maker(out, opener), left, workers=workers)) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, Failed):
                    raise outcome.error
                if isinstance(outcome, Died):
                    raise InputError(
                        f"batch {outcome.job[0]} ended one of {workers} workers {ATTEMPTS} times (exit code "
                        f"{outcome.exit_code}), perhaps for want of memory. What was captioned is kept in {out}; run the "
                        "same command again, with fewer --workers."
                    )
                add_batch(journal, outcome.job[0], outcome.result)
                ready += 1
                if progress is not None:
                    progress(min(ready * batch_size, len(samples)), len(samples), "captioning")


@dataclass(frozen=True, slots=True)
class _Maker:
    """Opens what captions, in a worker process, once it is sure that the run has its settings."""

    out: Path
    opener: Opener

    def __call__(self, rank: int, workers: int) -> Callable[[_Batch], list[Record]]:
        writer, settings = self.opener(rank, workers)
        begin(self.out, settings)
        return lambda batch: writer.write(batch[1])


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

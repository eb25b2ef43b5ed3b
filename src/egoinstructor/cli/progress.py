"""A bar on standard error for work that tells how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from egoinstructor.video.folder import ProgressCallback

Result = TypeVar("Result")


def with_progress(work: Callable[[ProgressCallback], Result], task: str) -> Result:
    """Do the work under a bar with the time that has passed and the time that is left.

    Args:
        work: is given what it is to call after each video.
        task: what stands before the first.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task(task, total=None)

        def report(done: int, total: int, name: str) -> None:
            bar.update(shown, completed=done, total=total, description=name)

        return work(report)

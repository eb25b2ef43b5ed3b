"""A split on disk: clips rendered in several processes, then the metadata. A run that was stopped goes on where it was."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av

from egoinstructor import fields
from egoinstructor.engine import Died, Failed, each
from egoinstructor.errors import InputError
from egoinstructor.files import atomic_file, exclusive
from simkitchen.encoding import write_clip
from simkitchen.events import Event, View, generate
from simkitchen.metadata import clip_name, write_metadata
from simkitchen.rendering import Settings, render_view
from simkitchen.screen import set_up_rendering
from simkitchen.splits import SPLITS, Split

FORMAT = 2
"""Counts what changes a clip of the same name, so that two kinds are never mixed."""
STATE = "simulation.json"

ProgressCallback = Callable[[int, int, str], None]
"""Told of how many events are finished, of how many, and the id of the last one."""


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """What was done.

    Args:
        folder: of the split.
        rendered: events whose clips were made.
        found: events whose clips were there.
        failed: ids of events that processes died of; they are in no metadata.
    """

    folder: Path
    rendered: int
    found: int
    failed: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all is there."""
        return not self.failed

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": str(self.folder),
            "rendered": self.rendered,
            "found": self.found,
            "failed": list(self.failed),
        }

    def __str__(self) -> str:
        """A line of totals, then one of failures."""
        totals = f"{self.folder}: {self.rendered} events rendered, {self.found} were there, {len(self.failed)} failed"
        return "\n".join([totals, *(f"  {event}: its process died, again and again" for event in self.failed)])


@dataclass(frozen=True, slots=True)
class _Job:
    """An event whose clips are wanted."""

    event: Event
    settings: Settings
    folder: Path


def simulate(
    out: str | os.PathLike[str],
    split: Split,
    events: int,
    *,
    seed: int = 0,
    settings: Settings | None = None,
    workers: int = 1,
    progress: ProgressCallback | None = None,
) -> SimulationReport:
    """Render the first events of a split into `out/split`, as far as they are not there, and write their metadata.

    Args:
        out: the data set's folder.
        split: train, validation or test.
        events: how many.
        seed: of the data set.
        settings: how clips are rendered.
        workers: processes.
        progress: told after each event.

    Raises:
        MissingExtraError: MuJoCo is not installed.
        InputError: numbers that make no sense, a folder that can't be written or holds clips of other settings, another
            run on it, rendering that doesn't work here, a full disk.
    """
    if split not in SPLITS:
        raise InputError(f"split {split!r}: it must be one of {', '.join(SPLITS)}.")
    if events < 1 or workers < 1:
        raise InputError(f"{events} events with {workers} workers: both must be 1 or more.")
    set_up_rendering()
    settings = settings or Settings()
    folder = Path(out) / split
    wanted = list(generate(split, events, seed))
    with _exclusive(folder, {"format": FORMAT, "split": split, "seed": seed, **asdict(settings)}):
        jobs = [_Job(event, settings, folder) for event in wanted if any(_missing(event, folder))]
        found, failed, done = len(wanted) - len(jobs), list[str](), 0
        with closing(each(_renderer, jobs, workers=workers)) as ended:
            for end in ended:
                if isinstance(end, Failed):
                    raise end.error
                if isinstance(end, Died):
                    failed.append(end.job.event.id)
                else:
                    done += 1
                if progress is not None:
                    progress(found + done + len(failed), len(wanted), end.job.event.id)
        lost = set(failed)
        write_metadata(folder, [event for event in wanted if event.id not in lost])
    return SimulationReport(folder, done, found, tuple(sorted(failed)))


def _missing(event: Event, folder: Path) -> Iterator[View]:
    """The views that are not on disk."""
    for view in event.views:
        if not _path(event, view, folder).exists():
            yield view


def _path(event: Event, view: View, folder: Path) -> Path:
    return folder / f"{clip_name(event, view.camera)}.mp4"


def _renderer(rank: int, workers: int) -> Callable[[_Job], None]:
    """Renders events, in a worker process."""
    return _render


def _render(job: _Job) -> None:
    """Make what is missing of an event."""
    av.logging.set_level(None)
    for view in _missing(job.event, job.folder):
        write_clip(_path(job.event, view, job.folder), render_view(job.event, view, job.settings))


@contextmanager
def _exclusive(folder: Path, made_with: dict[str, Any]) -> Iterator[None]:
    """A split's folder, for one run at a time and one kind of clips."""
    with exclusive(folder):
        state = folder / STATE
        if state.exists():
            _check_same(fields.read_object(state), made_with, folder)
        else:
            with atomic_file(state) as partial:
                partial.write_text(json.dumps(made_with) + "\n")
        try:
            for camera in ("ego", "exo"):
                (folder / camera).mkdir(exist_ok=True)
            for left in folder.rglob(".*.partial"):  # of processes that were killed
                left.unlink(missing_ok=True)
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise InputError(f"no space is left for {folder}. Make room and run the same command again.") from error
            raise InputError(
                f"{folder} can't be written to: {error}. Make it writable, or choose another folder."
            ) from error


def _check_same(there: dict[str, Any], made_with: dict[str, Any], folder: Path) -> None:
    differs = [
        f"{key} {there.get(key)!r}, not {value!r}" for key, value in made_with.items() if there.get(key) != value
    ]
    if differs:
        raise InputError(
            f"{folder} holds clips made with {'; '.join(differs)}. Choose another folder, or the same settings."
        )

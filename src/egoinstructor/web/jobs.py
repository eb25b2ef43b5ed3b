"""Narrations of whole recordings in the background: one at a time, the others wait, and each can be looked at."""

from __future__ import annotations

import logging
import re
import secrets
import shutil
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from threading import Condition, Thread
from typing import Any, Literal

from egoinstructor.narration.captions import Line, Segment
from egoinstructor.narration.narrate import NarrationProgress
from egoinstructor.narration.options import NarrationOptions
from egoinstructor.narration.tracks import jsonl, srt, vtt
from egoinstructor.web.errors import Busy, NotFound, Unavailable, as_service_error
from egoinstructor.web.uploads import Upload

logger = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed", "cancelled"]

WAITING = 16
"""Narrations that may wait."""

KEPT = 64
"""Narrations that are remembered; of those that are over the oldest go first."""

KEPT_LINES = 100_000
"""Of all narrations together, likewise; the one that runs may have more."""

_ID = re.compile(r"[A-Za-z0-9_-]{22}")


@dataclass(slots=True)
class Job:
    """One narration, as far as it is. Its fields are read by anybody, and written by `Jobs` alone.

    Args:
        upload: the recording.
        options: how it is narrated.
        id: random; whoever has it may look at the captions.
        state: where it stands.
        progress: of the whole, from 0 to 1.
        eta: seconds that are left, where that can be told.
        speed: seconds of the recording narrated in a second, where that can be told.
        lines: what is said so far, and stretches that couldn't be read.
        error: why it failed.
    """

    upload: Upload
    options: NarrationOptions
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: State = "queued"
    progress: float = 0.0
    eta: float | None = None
    speed: float | None = None
    lines: list[Line] = field(default_factory=list)
    error: str = ""
    stopped: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.state not in ("queued", "running")

    @property
    def segments(self) -> list[Segment]:
        """What is said so far."""
        return [line for line in list(self.lines) if isinstance(line, Segment)]

    def srt(self) -> str:
        """The captions so far as SubRip."""
        return srt(self.segments)

    def vtt(self) -> str:
        """The captions so far as WebVTT."""
        return vtt(self.segments)

    def jsonl(self) -> str:
        """A JSON object a line: a caption with its confidence and references, or a stretch that couldn't be read."""
        return jsonl(list(self.lines))

    def as_dict(self) -> dict[str, Any]:
        """How far it is, for JSON."""
        return {
            "id": self.id,
            "state": self.state,
            "progress": self.progress,
            "eta": self.eta,
            "speed": self.speed,
            "captions": len(self.segments),
            "error": self.error,
        }


Narrate = Callable[[Job, Path, Callable[[NarrationProgress], None]], bool]
"""Narrates a job's recording, with files that begin so; whether it came to the end."""


class Jobs:
    """The narrations of one service, and the thread that they run on.

    Args:
        narrate: does one.
        folder: for files on the way; theirs are removed when a job is over.
    """

    def __init__(self, narrate: Narrate, folder: Path) -> None:
        self._narrate, self._folder = narrate, folder
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[tuple[Job, ExitStack]] = deque()
        self._changed = Condition()
        self._closed = False
        self._thread: Thread | None = None

    def start(self, upload: Upload, options: NarrationOptions, held: ExitStack) -> Job:
        """Line a narration up.

        Args:
            upload: the recording.
            options: how it is narrated.
            held: what it needs, let go of when it is over.

        Raises:
            Busy: too many wait already.
            Unavailable: closed.
        """
        job = Job(upload, options)
        with self._changed:
            if self._closed:
                raise Unavailable("the server is going down. Try again later.")
            if len(self._waiting) >= WAITING:
                raise Busy(f"{WAITING} narrations wait already, which is the limit. Try again later.", retry_after=60)
            self._forget()
            self._jobs[job.id] = job
            self._waiting.append((job, held))
            if self._thread is None:
                self._thread = Thread(target=self._run, name="egoinstructor-narration", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return job

    def get(self, id: str) -> Job:
        """A job by its id.

        Raises:
            NotFound: there is none, or no longer.
        """
        job = self._jobs.get(id) if _ID.fullmatch(id) else None
        if job is None:
            raise NotFound("there is no such narration here, or no longer.", code="no_such_narration")
        return job

    def cancel(self, id: str) -> Job:
        """End a job, one that runs after the batch that it is at; what it has said so far stays. One that is over stays so.

        Raises:
            NotFound: there is none.
        """
        job = self.get(id)
        with self._changed:
            job.stopped = True
            for waiting in self._waiting:
                if waiting[0] is job:
                    job.state = "cancelled"
                    self._waiting.remove(waiting)
                    waiting[1].close()
                    break
        return job

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._changed:
            states = [job.state for job in self._jobs.values()]
        return {state: states.count(state) for state in ("queued", "running", "done", "failed", "cancelled")}

    def close(self) -> None:
        """End all jobs, and take no more. May be called again."""
        with self._changed:
            self._closed = True
            for job, held in self._waiting:
                job.state = "cancelled"
                held.close()
            self._waiting.clear()
            for job in self._jobs.values():
                job.stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _forget(self) -> None:
        """Make room for another one: there always is an old one, as those that wait are few."""
        over = deque(job for job in self._jobs.values() if job.over)
        while over and (len(self._jobs) >= KEPT or sum(len(job.lines) for job in self._jobs.values()) > KEPT_LINES):
            del self._jobs[over.popleft().id]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                job, held = self._waiting.popleft()
                job.state = "running"
            with held:
                self._do(job)

    def _do(self, job: Job) -> None:
        folder = self._folder / f"narration-{job.id}"
        try:
            folder.mkdir(mode=0o700)
            complete = self._narrate(job, folder / "captions", lambda progress: _note(job, progress))
            job.eta = 0.0 if complete else None
            job.state = "done" if complete else "cancelled"
        except Exception as error:  # the job's own, whatever it is
            told = as_service_error(error)
            if told.status >= 500:
                logger.error("a narration failed", exc_info=error)
            job.eta, job.error, job.state = None, told.message.replace(str(job.upload.path), job.upload.name), "failed"
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _note(job: Job, progress: NarrationProgress) -> None:
    """How far a job is, and what it has said, without paths of this machine."""
    for line in progress.segments:
        if isinstance(line, Segment):
            shown = tuple(one | {"video": PurePath(str(one.get("video", ""))).name} for one in line.references)
            line = replace(line, references=shown)
        job.lines.append(line)
    job.progress, job.eta, job.speed = progress.fraction, progress.eta, progress.speed

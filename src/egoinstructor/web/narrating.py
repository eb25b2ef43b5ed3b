"""Whole recordings narrated for users: what may be asked, and frames that come out of the sandbox."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from egoinstructor.captioners.egoinstructor import SHOTS, Captioner
from egoinstructor.errors import InputError, VideoError
from egoinstructor.library.references import Retrieval
from egoinstructor.model.prompt import TRAINING
from egoinstructor.narration.narrate import NarrationProgress, narrate
from egoinstructor.narration.options import NarrationOptions
from egoinstructor.records import Clip, Frames
from egoinstructor.video.identity import content_digest
from egoinstructor.video.sampling import clip_span
from egoinstructor.web.errors import Busy
from egoinstructor.web.jobs import Job
from egoinstructor.web.limits import LimitError
from egoinstructor.web.results import MAX_BEAMS, MAX_SHOTS, check_range
from egoinstructor.web.sandbox import Sandbox
from egoinstructor.web.uploads import Upload

if TYPE_CHECKING:
    from egoinstructor.library.library import ExoLibrary

MAX_TOKENS = 128
MAX_WINDOWS = 20_000

GIVE_WAY = 0.5
"""Seconds that a narration waits before each window while there are requests."""

_LOOK_AGAIN = 0.01


class Narrator:
    """Narrates the recordings of one service, beside its model's thread.

    Args:
        captioner: that writes.
        library: opened with its retriever; None for none.
        retrieval: how references are looked for.
        sandbox: decodes.
        idle: whether no request wants the models.
    """

    def __init__(
        self,
        captioner: Captioner,
        library: ExoLibrary | None,
        retrieval: Retrieval | None,
        sandbox: Sandbox,
        idle: Callable[[], bool],
    ) -> None:
        self._captioner, self._library, self._retrieval = captioner, library, retrieval
        self._sandbox, self._idle = sandbox, idle

    def check(self, upload: Upload, options: NarrationOptions) -> None:
        """Refuse at once what would fail later.

        Raises:
            InputError: naming it.
        """
        check_range("shots", SHOTS if options.shots is None else options.shots, 0, MAX_SHOTS)
        check_range("num_beams", options.num_beams, 1, MAX_BEAMS)
        check_range("max_new_tokens", options.max_new_tokens, 1, MAX_TOKENS)
        if options.cut != "fixed":
            raise InputError(f"cut={options.cut!r}: this server cuts windows of fixed length. Leave it out.")
        if options.num_frames is not None:
            self._sandbox.limits.check_frames(options.num_frames, upload.info.width, upload.info.height)
        if options.threshold is not None and self._captioner.calibration is None:
            raise InputError("a threshold needs a calibrated model, and this one is not. Leave it out.")
        span = Clip(Path(upload.name), options.start, options.end)
        start, end = clip_span(span, upload.info.duration, upload.info.start)
        windows = (end - start) / (options.seconds - options.overlap)
        check_range("the number of windows", math.ceil(windows), 1, MAX_WINDOWS)

    def narrate(self, job: Job, out: Path, progress: Callable[[NarrationProgress], None]) -> bool:
        """A job's work; whether it came to the end."""
        asked = job.options.num_frames
        frames = self._captioner.processor.num_frames if asked is None else asked

        def read(clip: Clip) -> Frames:
            self._give_way(job)
            while True:
                try:
                    return self._sandbox.frames(job.upload.path, clip.start, clip.end, frames, TRAINING.sampling)
                except LimitError as error:  # this window can't be read, others may
                    raise VideoError(str(error)) from error
                except Busy:  # it has waited for a decoder already
                    if job.stopped:
                        raise

        retrieval = self._retrieval or Retrieval()  # what the recording itself shows is no reference for it
        own = content_digest(job.upload.path)
        where = replace(retrieval.where, exclude_digests=(*retrieval.where.exclude_digests, own))
        return narrate(
            self._captioner,
            job.upload.path,
            out,
            library=self._library,
            retrieval=replace(retrieval, where=where),
            options=job.options,
            progress=progress,
            stop=lambda: job.stopped,
            read=read,
            info=job.upload.info,
        ).complete

    def _give_way(self, job: Job) -> None:
        """Let requests go first for a while."""
        until = monotonic() + GIVE_WAY
        while not self._idle() and not job.stopped and monotonic() < until:
            sleep(_LOOK_AGAIN)

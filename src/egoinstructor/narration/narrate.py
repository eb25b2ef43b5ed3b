"""Narrate a recording: windows → captions → segments → tracks, in constant memory, from where an earlier run stopped.

    PREFIX.journal                   what was made of each window: a run that was stopped is gone on with from here
    PREFIX.srt  PREFIX.vtt  PREFIX.jsonl   the tracks, written anew out of the journal, then as captions come

While the model writes a batch's captions, a thread decodes, encodes and looks up references for the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from egoinstructor.captioners.egoinstructor import Captioner, Query
from egoinstructor.errors import InputError, VideoError
from egoinstructor.files import exclusive
from egoinstructor.library.references import Retrieval
from egoinstructor.narration.captions import Line, WindowCaption
from egoinstructor.narration.journal import NarrationJournal, describe
from egoinstructor.narration.merge import Merger
from egoinstructor.narration.options import NarrationOptions
from egoinstructor.narration.tracks import Files, Tracks
from egoinstructor.narration.windows import DECIMALS, Window, change_windows, fixed_windows
from egoinstructor.records import Caption, Clip, Frames
from egoinstructor.video.decode import VideoInfo, probe
from egoinstructor.video.identity import content_identity
from egoinstructor.video.prefetch import prefetch
from egoinstructor.video.sampling import END_SLACK

if TYPE_CHECKING:
    from egoinstructor.library.library import ExoLibrary

__all__ = ["NarrationOptions", "NarrationProgress", "Read", "Report", "narrate"]

Read = Callable[[Clip], Frames]
"""Samples the frames of a clip of the recording, wherever that is done."""

_REPLAYED = 1000
"""Windows of an earlier run after which its segments are handed on: a long recording has many."""

Looked = list[tuple[Window, Query | str]]
"""A batch's windows, each with what its caption is written from, or with why it can't be read."""


@dataclass(frozen=True, slots=True)
class NarrationProgress:
    """How far a narration is.

    Args:
        done: seconds of the recording that are narrated.
        total: seconds to narrate.
        elapsed: seconds that this run has taken.
        speed: seconds of the recording that this run narrates in a second; None before the first batch.
        segments: that were settled since the last time; those of an earlier run come first.
    """

    done: float
    total: float
    elapsed: float
    speed: float | None
    segments: tuple[Line, ...]

    @property
    def fraction(self) -> float:
        """Of the whole, from 0 to 1."""
        return min(self.done / self.total, 1.0)

    @property
    def eta(self) -> float | None:
        """Seconds that are left; None where that can't be told yet."""
        return (self.total - self.done) / self.speed if self.speed else None


@dataclass(frozen=True, slots=True)
class Report:
    """What a narration has come to.

    Args:
        complete: whether it reached the end; if not, the same call goes on.
        windows: captioned or skipped, by this run and those before.
        captions: segments that say something.
        silent: windows without words, or with too little confidence.
        merged: windows that said the same as their neighbour.
        skipped: windows that could not be read.
        seconds: of the recording that this run narrated.
        elapsed: seconds that this run took.
    """

    complete: bool
    windows: int
    captions: int
    silent: int
    merged: int
    skipped: int
    seconds: float
    elapsed: float

    @property
    def speed(self) -> float | None:
        """Seconds of the recording narrated in a second; None where this run had nothing to do."""
        return self.seconds / self.elapsed if self.seconds and self.elapsed else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"speed": self.speed}


def narrate(
    captioner: Captioner,
    recording: Path,
    out: Path,
    *,
    library: ExoLibrary | None = None,
    retrieval: Retrieval | None = None,
    options: NarrationOptions | None = None,
    overwrite: bool = False,
    progress: Callable[[NarrationProgress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    read: Read | None = None,
    info: VideoInfo | None = None,
) -> Report:
    """Caption a whole recording, and write its tracks.

    Args:
        captioner: writes the captions.
        recording: file, or folder of Ego4D pieces.
        out: what the files' names begin with. What an earlier run with the same arguments has finished is not done again.
        library: where references are found, opened with its retriever; None for none.
        retrieval: how they are looked for; None for the defaults.
        options: None for the defaults.
        overwrite: begin anew, whatever is there.
        progress: called when the finished part was read, and after each batch.
        stop: asked between batches whether to stop; the same call goes on later.
        read: decodes the windows, somewhere else; the recording is then never opened here.
        info: facts of the recording; None to probe it. Needed with `read`.

    Raises:
        VideoError: the recording can't be opened at all, or has changed on the way.
        InputError: options that don't fit the recording or the model, files in the way, a narration begun in another way.
    """
    options = options or NarrationOptions()
    if options.threshold is not None and captioner.calibration is None:
        raise InputError(
            f"a threshold of {options.threshold:g} was given, and this model is not calibrated: its captions have no "
            "confidence. Leave the threshold out, or measure the model with benchmarks/calibration.py."
        )
    if read is not None and (info is None or options.cut == "changes"):
        raise InputError("frames that are read elsewhere need the recording's facts, and windows of fixed length.")
    info = probe(recording) if info is None else info
    end = info.duration if options.end is None else min(options.end, info.duration)
    start = max(options.start, info.start if info.start > END_SLACK else 0.0)
    if start >= end:
        raise InputError(
            f"from {options.start:g} to {end:g} s: {recording} lasts {info.duration:.2f} s, with pictures from "
            f"{info.start:.2f} s on; choose a part of that."
        )
    files = Files(out)
    with exclusive(out, files.lock):
        if not overwrite:
            _refuse_strange(files)
        record = NarrationJournal(files.journal)
        record.begin(describe(captioner, recording, end, options, library, retrieval), overwrite=overwrite)
        eyes = _Prefetcher(captioner, recording, library, retrieval, options, read)
        with Tracks(files) as tracks:
            return _Run(captioner, eyes, record, tracks, options, (start, end), progress).work(stop or (lambda: False))


def _refuse_strange(files: Files) -> None:
    """Refuse to write over somebody else's files.

    Raises:
        InputError: naming the first.
    """
    there = [path for path in (files.srt, files.vtt, files.jsonl, files.html) if path.exists()]
    if there and not files.journal.exists():
        raise InputError(
            f"{there[0]} is there, and no narration was begun beside it. Name another --out, or add --overwrite."
        )


class _Prefetcher:
    """What is done with windows before they are captioned, on a thread of its own."""

    def __init__(
        self,
        captioner: Captioner,
        recording: Path,
        library: ExoLibrary | None,
        retrieval: Retrieval | None,
        options: NarrationOptions,
        read: Read | None,
    ) -> None:
        self.recording = recording
        self._captioner, self._library, self._retrieval = captioner, library, retrieval
        self._options, self._read = options, read
        self._identity = content_identity(recording)

    def look(self, windows: Iterator[Window]) -> Generator[Looked, None, None]:
        """Batches, one ahead of whoever takes them."""
        stopped = Event()

        def next_batch(_: int) -> Looked:
            return [] if stopped.is_set() else self._look(list(islice(windows, self._options.batch_size)))

        with closing(prefetch(next_batch, count(), threads=1)) as batches:  # type: ignore[type-var]
            try:
                for batch in batches:
                    if not batch:
                        return
                    yield batch
            finally:
                stopped.set()

    def _look(self, windows: list[Window]) -> Looked:
        """A batch; of one with windows that can't be read, each by itself."""
        try:
            return list(zip(windows, self._queries(windows), strict=True))
        except VideoError as error:
            if len(windows) > 1:
                return [looked for window in windows for looked in self._look([window])]
            self._check_there()
            return [(windows[0], str(error))]

    def _queries(self, windows: list[Window]) -> list[Query]:
        """The windows' clips, encoded, with their references.

        Raises:
            VideoError: one that can't be read.
        """
        options = self._options
        clips = [Clip(self.recording, window.start, window.end) for window in windows]
        if self._read is not None:
            clips = [Clip(self._read(clip)) for clip in clips]
        self._captioner.encode(clips, num_frames=options.num_frames)  # which keeps what it made
        if self._library is None:
            return [(clip, ()) for clip in clips]
        found = self._captioner.find(
            clips, self._library, options.shots, self._retrieval, num_frames=options.num_frames
        )
        return [(clip, references) for clip, (references, _) in zip(clips, found, strict=True)]

    def _check_there(self) -> None:
        """A window that can't be read is passed over; a recording that is gone is not.

        Raises:
            VideoError: it is gone, or is another one now.
        """
        if content_identity(self.recording) != self._identity:
            raise VideoError(
                f"video {self.recording}: it was changed while it was narrated. Start anew with --overwrite."
            )


class _Run:
    """One run: what it writes, and how far it is."""

    def __init__(
        self,
        captioner: Captioner,
        eyes: _Prefetcher,
        record: NarrationJournal,
        tracks: Tracks,
        options: NarrationOptions,
        span: tuple[float, float],
        progress: Callable[[NarrationProgress], None] | None,
    ) -> None:
        self._captioner, self._eyes, self._record, self._tracks = captioner, eyes, record, tracks
        self._options, self._progress = options, progress
        self._start, self._end = span
        self._merger = Merger(options.threshold, merge=options.merge)
        self._settled: list[Line] = []
        self._began = time.monotonic()
        self._at = self._from = self._start  # what is narrated, and where this run began

    def work(self, stop: Callable[[], bool]) -> Report:
        """Go on from what the journal holds, to the end or until told to stop."""
        for number, told in enumerate(self._record.told(), 1):
            self._tell(told)
            self._from = self._at
            if number % _REPLAYED == 0:
                self._show()
        self._show()
        complete = True
        with closing(self._eyes.look(self._windows())) as batches:
            for looked in batches:
                if stop():
                    complete = False
                    break
                batch = self._caption(looked)
                self._record.add(batch)
                for told in batch:
                    self._tell(told)
                self._show()
        self._write(self._merger.close())
        self._show()
        return self._report(complete)

    def _windows(self) -> Iterator[Window]:
        """Those that are still to be captioned."""
        options = self._options
        if options.cut == "fixed":
            windows = fixed_windows(self._end, options.seconds, options.overlap, start=self._start)
            return islice(windows, self._merger.windows, None)
        if self._at >= round(self._end, DECIMALS):
            return iter(())
        return change_windows(self._eyes.recording, self._end, options.seconds, start=self._at)

    def _caption(self, looked: Looked) -> list[WindowCaption]:
        options = self._options
        queries = [query for _, query in looked if not isinstance(query, str)]
        captions = iter(
            self._captioner.caption_batch(
                queries,
                num_frames=options.num_frames,
                instruction=options.instruction,
                likeliest=options.likeliest,
                num_beams=options.num_beams,
                max_new_tokens=options.max_new_tokens,
            )
        )
        return [
            WindowCaption(window, skipped=query) if isinstance(query, str) else _told(window, next(captions))
            for window, query in looked
        ]

    def _tell(self, told: WindowCaption) -> None:
        self._write(self._merger.take(told))
        self._at = told.window.end

    def _write(self, lines: Iterator[Line]) -> None:
        for line in lines:
            self._tracks.add(line)
            if self._progress is not None:
                self._settled.append(line)

    def _show(self) -> None:
        self._tracks.flush()
        if self._progress is None:
            return
        start, elapsed, here = self._start, time.monotonic() - self._began, self._at - self._from
        speed = here / elapsed if here > 0 and elapsed else None
        settled, self._settled = tuple(self._settled), []
        self._progress(NarrationProgress(self._at - start, self._end - start, elapsed, speed, settled))

    def _report(self, complete: bool) -> Report:
        told = self._merger
        return Report(
            complete=complete,
            windows=told.windows,
            captions=told.captions,
            silent=told.silent,
            merged=told.merged,
            skipped=told.skipped,
            seconds=self._at - self._from,
            elapsed=time.monotonic() - self._began,
        )


def _told(window: Window, caption: Caption) -> WindowCaption:
    references = tuple(reference.as_dict() for reference in caption.references)
    return WindowCaption(window, caption.text, caption.score, caption.confidence, references)

"""What the page and the API both call: uploads in, references, captions and search results out.

    upload → sandbox (frames) → look (encode, find references) → write (captions, in batches) → answer

A request is let in while there are few enough, has so many seconds, and holds its frames only while it runs. All methods
that are awaited belong to one event loop. What goes wrong is a `ServiceError`, whose message names no path of this machine.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from egoinstructor.errors import InputError, VideoError
from egoinstructor.narration.options import NarrationOptions
from egoinstructor.records import Reference
from egoinstructor.web import additions
from egoinstructor.web.batcher import Batcher
from egoinstructor.web.clips import ClipReader, Segment
from egoinstructor.web.errors import Forbidden, NotFound
from egoinstructor.web.jobs import Job, Jobs
from egoinstructor.web.limiter import Admission
from egoinstructor.web.limits import Limits
from egoinstructor.web.model_work import Captioned, CaptionWork, ModelWork, WritingWork
from egoinstructor.web.narrating import Narrator
from egoinstructor.web.results import (
    MAX_BEAMS,
    MAX_HITS,
    MAX_NARRATIONS,
    MAX_OWN,
    MAX_SHOTS,
    OWN,
    AddReport,
    CaptionResult,
    FoundClip,
    Narration,
    OwnReference,
    check_range,
    check_text,
)
from egoinstructor.web.sandbox import Sandbox
from egoinstructor.web.uploads import Upload, Uploads, clean_name

if TYPE_CHECKING:
    from egoinstructor.captioners.egoinstructor import Captioner
    from egoinstructor.library.library import ExoLibrary
    from egoinstructor.library.references import Retrieval

__all__ = ["AddReport", "CaptionResult", "FoundClip", "Job", "Narration", "NarrationOptions", "OwnReference", "Service"]

logger = logging.getLogger(__name__)

Anything = TypeVar("Anything")

ID = re.compile(r"(?<=video )[A-Za-z0-9_-]{22}(?=:)")
"""Of an upload, in the sandbox's errors."""


class Service:
    """A captioner and a library for many at once.

    Args:
        captioner: that writes.
        library: opened with its retriever; None for captions without references from a library.
        retrieval: how references are looked for; None for the defaults.
        limits: what is taken from strangers.
        model_name: as the model was named.
        max_batch: clips captioned together.
        writable: a folder for the videos that users add to the library; None if they may not.

    Raises:
        InputError: a folder that additions can't be kept in.
    """

    def __init__(
        self,
        captioner: Captioner,
        library: ExoLibrary | None,
        *,
        retrieval: Retrieval | None = None,
        limits: Limits | None = None,
        model_name: str = "",
        max_batch: int = 8,
        writable: Path | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.captioner, self.library, self.model_name = captioner, library, model_name
        self.writable = writable
        if writable is not None:
            if library is None:
                raise InputError(
                    f"{writable} is for additions to a library, and there is none. Name one, or leave it out."
                )
            additions.check_folder(library, writable)
        self._work = ModelWork(captioner, library, retrieval)
        self.batch_sizes: list[Callable[[int], None]] = []
        self.sandbox = Sandbox(self.limits)
        self.uploads = Uploads(self.sandbox, self.limits)
        self._threads = ThreadPoolExecutor(self.limits.decoders + 4, thread_name_prefix="egoinstructor-io")
        self._clips = ClipReader(captioner, library, self.sandbox, self._threads)
        queue = self.limits.queue
        self._looking: Batcher[CaptionWork, WritingWork] = Batcher(
            self._work.look, lambda _: None, max_batch=max_batch, queue=queue, name="look"
        )
        self._writing: Batcher[WritingWork, Captioned] = Batcher(
            self._work.write,
            lambda work: work.num_beams,
            max_batch=max_batch,
            queue=queue,
            observe=self._observe_batch,
            name="write",
        )
        paths = _paths(library, writable) | {str(self.uploads.folder): "the uploads"}
        self._admission = Admission(self.limits, self._writing.retry_after, paths)
        self._narrator = Narrator(captioner, library, retrieval, self.sandbox, self._idle)
        self._jobs = Jobs(self._narrator.narrate, self.uploads.folder)

    async def __aenter__(self) -> Service:
        """Itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let those finish who are present, then close, without holding the event loop up."""
        self._admission.closed = True
        while self.present:  # each has its time limit
            await asyncio.sleep(0.01)
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Take no more, finish what is at work, remove all files. May be called again."""
        self._admission.closed = True
        self._jobs.close()
        self._looking.close()
        self._writing.close()
        self._threads.shutdown()
        self.uploads.close()
        self.sandbox.close()

    @property
    def present(self) -> int:
        """Requests that are waited for."""
        return self._admission.present

    @property
    def waiting(self) -> int:
        """Requests that wait for the models."""
        return self._looking.waiting + self._writing.waiting

    # Requests

    async def upload(self, stream: AsyncIterator[bytes], name: str) -> Upload:
        """Take a video in.

        Args:
            stream: its bytes.
            name: what the user calls it; only to be shown.

        Raises:
            ServiceError: it is too large or slow, is no video, or there are too many.
        """
        with self._admission.told():
            self._admission.check_open()
            try:
                return await self.uploads.create(stream, name)
            except VideoError as error:  # which knows it by its id
                raise VideoError(ID.sub(clean_name(name), str(error), count=1)) from error

    async def references(
        self, upload_id: str, *, start: float | None = None, end: float | None = None, shots: int = 4
    ) -> list[FoundClip]:
        """The how-to clips that a caption of this segment would read, most relevant first.

        Args:
            upload_id: of the ego video.
            start: seconds; None for its start.
            end: seconds; None for its end.
            shots: at most so many.

        Raises:
            ServiceError: an unknown upload, a value out of its range, or a server that is busy or has no library.
        """
        async with self._admission.request() as request:
            check_range("shots", shots, 1, MAX_SHOTS)
            self._need_library()
            segment = self._clips.segment(request.enter_context(self.uploads.hold(upload_id)), start, end)
            await self._clips.hold(request, [segment])
            query = await self._clips.query(segment)
            return await self._run(lambda: self._work.found(query, shots))

    async def caption(
        self,
        upload_id: str,
        *,
        start: float | None = None,
        end: float | None = None,
        shots: int = 4,
        num_beams: int = 3,
        references: Sequence[str] | None = None,
        own: Sequence[OwnReference] = (),
    ) -> CaptionResult:
        """Caption a segment of an upload.

        Args:
            upload_id: of the ego video.
            start: seconds; None for its start.
            end: seconds; None for its end.
            shots: references to look for in the library.
            num_beams: beams.
            references: ids of clips of the library to read instead, most relevant first; () for none.
            own: the user's references, which are read first.

        Raises:
            ServiceError: an unknown upload or clip, a value out of its range, a time limit, or a server that is busy.
        """
        began = monotonic()
        async with self._admission.request() as request:
            work = await self._caption_work(request, upload_id, start, end, shots, num_beams, references, own)
            looked = await asyncio.wrap_future(self._looking.submit(work))
            return _result(await asyncio.wrap_future(self._writing.submit(looked)), began)

    async def caption_stream(
        self,
        upload_id: str,
        *,
        start: float | None = None,
        end: float | None = None,
        shots: int = 4,
        references: Sequence[str] | None = None,
        own: Sequence[OwnReference] = (),
    ) -> AsyncIterator[str | CaptionResult]:
        """Caption a segment greedily: the text so far, again and again, and at last the result.

        Takes what `caption` takes but for the beams, and raises what it raises.
        """
        began = monotonic()
        deadline = began + self.limits.request_seconds
        with self._admission.told(), self._admission.place():
            async with AsyncExitStack() as request:
                # Whoever iterates may do each step in another task, so that no `asyncio.timeout` can span them.
                prepared = self._caption_work(request, upload_id, start, end, shots, 1, references, own)
                work = await asyncio.wait_for(prepared, self.limits.request_seconds)
                looking = asyncio.wrap_future(self._looking.submit(work))
                looked = await asyncio.wait_for(looking, max(deadline - monotonic(), 0))
                async for piece in self._stream(looked, deadline):
                    yield _result(piece, began) if isinstance(piece, Captioned) else piece

    async def search(
        self,
        *,
        text: str | None = None,
        upload_id: str | None = None,
        start: float | None = None,
        end: float | None = None,
        k: int = 10,
        source: str | None = None,
    ) -> list[FoundClip]:
        """The library's clips that are nearest to a text, to a segment of an upload, or to both.

        Args:
            text: words.
            upload_id: of an ego video.
            start: seconds of it.
            end: seconds of it.
            k: at most so many.
            source: only of this collection.

        Raises:
            ServiceError: nothing to search by, an unknown upload, a value out of its range, or a server that is busy or
                has no library.
        """
        async with self._admission.request() as request:
            self._need_library()
            check_range("k", k, 1, MAX_HITS)
            if text is not None:
                check_text("text", text)
            if upload_id is None and (start is not None or end is not None):
                raise InputError("start and end are of a video, and none was named. Name one, or leave them out.")
            query = None
            if upload_id is not None:
                segment = self._clips.segment(
                    request.enter_context(self.uploads.hold(upload_id)), start, end, captioned=False
                )
                await self._clips.hold(request, [segment])
                query = await self._clips.query(segment)
            return await self._run(lambda: self._work.search(query, text, k, source))

    async def clip_file(self, id: str) -> Path | None:
        """The video of a clip of the library, for a player; None if there is none that plays."""
        with self._admission.told():
            self._admission.check_open()
            if self.library is None:
                return None
            try:
                return await asyncio.to_thread(self._work.file, id)  # not behind those that decode
            except NotFound:
                return None

    async def add_to_library(self, upload_id: str, narrations: Sequence[Narration]) -> AddReport:
        """Add an upload to the library: one clip for each narration.

        Args:
            upload_id: of the how-to video.
            narrations: what is said in it, and when.

        Raises:
            ServiceError: a library that may not be written or has no room for it, an unknown upload, times outside of the
                video, or a server that is busy.
        """
        async with self._admission.request() as request:
            library, folder = self._need_library(), self.writable
            if folder is None:
                raise Forbidden("this library is read-only. The server's operator allows additions.", code="read_only")
            check_range("the number of narrations", len(narrations), 1, MAX_NARRATIONS)
            upload = request.enter_context(self.uploads.hold(upload_id))
            for one in narrations:
                check_text("a narration", one.text)
            segments = [self._clips.segment(upload, one.start, one.end) for one in narrations]
            digest = await self._clips.digest(upload)
            await self._run(  # before anything is decoded for it
                lambda: additions.check_room(library, folder, upload.path, digest, narrations, self.limits)
            )
            await self._clips.hold(request, segments, one_by_one=True)
            clips = [await self._look(library, one, segment) for one, segment in zip(narrations, segments, strict=True)]
            return await self._run(
                lambda: additions.add(self.captioner, library, folder, upload.path, digest, clips, self.limits)
            )

    def library_stats(self) -> dict[str, Any]:
        """What the library holds, in numbers; reads all of its clips' facts.

        Raises:
            ServiceError: there is no library.
        """
        with self._admission.told():
            stats = self._need_library().stats().as_dict()
            return {key: value for key, value in stats.items() if key != "uri"}

    # Narrations of whole recordings

    def start_narration(self, upload_id: str, options: NarrationOptions) -> Job:
        """Narrate a recording in the background.

        Args:
            upload_id: of the recording.
            options: how; windows of fixed length only, since the recording is never opened in this process.

        Raises:
            ServiceError: an unknown upload, options that can't be, or too many narrations that wait.
        """
        with self._admission.told():
            self._admission.check_open()
            held = ExitStack()  # until the narration is over
            try:
                upload = held.enter_context(self.uploads.hold(upload_id))
                self._narrator.check(upload, options)
                return self._jobs.start(upload, options, held)
            except BaseException:
                held.close()
                raise

    def job(self, id: str) -> Job:
        """A narration that was started.

        Raises:
            ServiceError: there is none of that id.
        """
        return self._jobs.get(id)

    def cancel(self, id: str) -> Job:
        """End a narration; what it has said so far stays.

        Raises:
            ServiceError: there is none of that id.
        """
        return self._jobs.cancel(id)

    def job_counts(self) -> dict[str, int]:
        """Narrations in each state."""
        return self._jobs.counts()

    # The way of a request

    def _need_library(self) -> ExoLibrary:
        if self.library is None:
            raise NotFound("this server has no library. Its operator can name one.", code="no_library")
        return self.library

    async def _run(self, function: Callable[[], Anything]) -> Anything:
        """Call a function on the thread that looks."""
        return await asyncio.wrap_future(self._looking.call(function))

    def _idle(self) -> bool:
        return self._looking.idle and self._writing.idle

    async def _look(self, library: ExoLibrary, narration: Narration, segment: Segment) -> additions.Seen:
        clip, seen = await self._clips.decode(segment)
        return await self._run(lambda: additions.look(self.captioner, library, narration, clip, seen))

    async def _caption_work(
        self,
        request: AsyncExitStack,
        upload_id: str,
        start: float | None,
        end: float | None,
        shots: int,
        num_beams: int,
        references: Sequence[str] | None,
        own: Sequence[OwnReference],
    ) -> CaptionWork:
        """Check what was asked, and decode all that it names; the frames are held until the request ends."""
        check_range("shots", shots, 0, MAX_SHOTS)
        check_range("num_beams", num_beams, 1, MAX_BEAMS)
        check_range("the number of references", len(references or ()), 0, MAX_SHOTS)
        check_range("the number of own references", len(own), 0, MAX_OWN)
        if references:
            self._need_library()
        searched = self.library is not None and references is None and shots > 0
        upload = request.enter_context(self.uploads.hold(upload_id))
        segments = [self._clips.segment(upload, start, end, searched=searched)]
        for one in own:
            check_text("a narration", one.narration)
            segments.append(
                self._clips.segment(
                    request.enter_context(self.uploads.hold(one.upload)), one.start, one.end, searched=False
                )
            )
        await self._clips.hold(request, segments)
        query, others = await asyncio.gather(
            self._clips.query(segments[0]), asyncio.gather(*map(self._clips.decode, segments[1:]))
        )
        brought = []
        for one, segment, (clip, _) in zip(own, segments[1:], others, strict=True):
            name = segment.upload.name
            told = FoundClip(one.upload, one.narration, None, one.start, one.end, OWN, name, playable=False)
            brought.append((told, Reference(clip.video, one.narration)))
        chosen = None if references is None else tuple(references)
        return CaptionWork(query, shots, num_beams, chosen, tuple(brought))

    async def _stream(self, work: WritingWork, deadline: float) -> AsyncIterator[str | Captioned]:
        """What the model writes, piece by piece. It is stopped if nobody wants the rest."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | Captioned | None] = asyncio.Queue()
        stopped = Event()

        def hand_over(piece: str | Captioned | None) -> None:
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        def write() -> None:
            for piece in self._work.write_stream(work, stopped.is_set):
                hand_over(piece)

        done: Future[None] = self._writing.call(write)
        done.add_done_callback(lambda _: hand_over(None))
        try:
            while (piece := await asyncio.wait_for(pieces.get(), max(deadline - monotonic(), 0))) is not None:
                yield piece
            done.result()
        finally:
            stopped.set()
            done.cancel()

    def _observe_batch(self, size: int) -> None:
        for observe in self.batch_sizes:
            observe(size)


def _result(captioned: Captioned, began: float) -> CaptionResult:
    caption = captioned.caption
    return CaptionResult(caption.text, caption.score, caption.confidence, captioned.references, monotonic() - began)


def _paths(library: ExoLibrary | None, writable: Path | None) -> dict[str, str]:
    """What errors call the folders of this machine."""
    names = {} if writable is None else {str(writable): "the folder for additions"}
    if library is not None:
        names |= {str(root): f"source {name}" for name, root in library.sources().items()}
        names[library.uri] = "of this server"
    return names

"""Segments of uploads → clips of frames, decoded in the sandbox off the event loop; what all requests hold is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from egoinstructor.errors import VideoError
from egoinstructor.model.prompt import TRAINING
from egoinstructor.records import Clip
from egoinstructor.video.decode import Sampling
from egoinstructor.video.identity import content_digest
from egoinstructor.video.sampling import clip_span
from egoinstructor.web.budget import Budget
from egoinstructor.web.limits import LimitError
from egoinstructor.web.model_work import Query
from egoinstructor.web.sandbox import Sandbox
from egoinstructor.web.uploads import Upload

if TYPE_CHECKING:
    from egoinstructor.captioners.egoinstructor import Captioner
    from egoinstructor.library.library import ExoLibrary

Anything = TypeVar("Anything")


class Sampled(NamedTuple):
    """How a model takes its frames."""

    num_frames: int
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Segment:
    """A span of an upload, and the ways in which it is to be decoded.

    Args:
        upload: the video.
        start: seconds; None for its start.
        end: seconds; None for its end.
        ways: without repeats; the captioner's first where it is among them.
    """

    upload: Upload
    start: float | None
    end: float | None
    ways: tuple[Sampled, ...]

    @property
    def bytes(self) -> int:
        """Of its frames."""
        info = self.upload.info
        return sum(way.num_frames for way in self.ways) * info.width * info.height * 3


class ClipReader:
    """Decodes for one service.

    Args:
        captioner: that will read the clips.
        library: whose retriever will embed them; None if there is none.
        sandbox: decodes.
        threads: wait for it.
    """

    def __init__(
        self, captioner: Captioner, library: ExoLibrary | None, sandbox: Sandbox, threads: ThreadPoolExecutor
    ) -> None:
        self._sandbox, self._threads = sandbox, threads
        self.captioned = Sampled(captioner.processor.num_frames, TRAINING.sampling)
        identity = None if library is None else library.need_retriever().identity
        self.searched = Sampled(identity.num_frames, identity.sampling) if identity else self.captioned
        self._memory = Budget(sandbox.limits.frame_bytes)

    def segment(
        self, upload: Upload, start: float | None, end: float | None, *, captioned: bool = True, searched: bool = True
    ) -> Segment:
        """A span that is to be decoded for the captioner, for the retriever, or for both.

        Raises:
            InputError: times that are no span.
            VideoError: a span that is not in the video.
        """
        clip_span(Clip(Path(upload.name), start, end), upload.info.duration, upload.info.start)
        ways = [self.captioned] * captioned + [self.searched] * searched
        return Segment(upload, start, end, tuple(dict.fromkeys(ways)))

    async def hold(self, request: AsyncExitStack, segments: Sequence[Segment], *, one_by_one: bool = False) -> None:
        """Wait until there is room for the frames of all segments; it is given back when the request ends.

        A request calls this once: who held some and waited for more could wait for ever.

        Args:
            request: that holds them.
            segments: what it decodes.
            one_by_one: it forgets each before it decodes the next.

        Raises:
            LimitError: that is more than all requests may hold together.
        """
        sizes = [segment.bytes for segment in segments]
        needed = max(sizes) if one_by_one else sum(sizes)
        if needed > self._memory.total:
            raise LimitError(
                "frame_bytes",
                f"the frames of all videos of this request are {needed} bytes; at most {self._memory.total} are taken. Give "
                "fewer references of your own, or scale the videos down.",
            )
        await request.enter_async_context(self._memory.take(needed))

    async def decode(self, segment: Segment) -> tuple[Clip, Clip]:
        """A segment as the captioner and as the retriever take it; twice the same where that is the same, or only one."""
        clips = await asyncio.gather(*(self.in_thread(self._decode, segment, way) for way in segment.ways))
        return clips[0], clips[-1]

    async def query(self, segment: Segment) -> Query:
        """An ego clip."""
        clip, seen = await self.decode(segment)
        return Query(clip, seen, await self.digest(segment.upload))

    async def digest(self, upload: Upload) -> str:
        """Of the content of an upload, as libraries know it; it is read once."""
        return await self.in_thread(content_digest, upload.path)

    def in_thread(self, function: Callable[..., Anything], *values: Any) -> Awaitable[Anything]:
        """Call a function that blocks."""
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *values)

    def _decode(self, segment: Segment, way: Sampled) -> Clip:
        upload, start, end = segment.upload, segment.start, segment.end
        try:
            return Clip(self._sandbox.frames(upload.path, start, end, way.num_frames, way.sampling))
        except VideoError as error:  # which knows it by its id
            raise VideoError(str(error).replace(upload.id, upload.name)) from error

"""Uploaded videos: in a folder of this process alone, under names that nobody chose, for as long as there is room."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
import unicodedata
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from egoinstructor.video.file import VideoInfo
from egoinstructor.web.errors import BadRequest, Busy, NotFound, TooSlow, Unavailable
from egoinstructor.web.limits import LimitError, Limits
from egoinstructor.web.sandbox import Sandbox

_PREFIX = "egoinstructor-uploads-"
_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_NAME_LENGTH = 100
_WRITE_BYTES = 1 << 20
_STALE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Upload:
    """A video that somebody sent.

    Args:
        id: random; whoever has it may use the video.
        name: what the sender called it, for display only.
        path: where it lies; never told to anybody.
        info: what the video is.
        size: bytes.
    """

    id: str
    name: str
    path: Path
    info: VideoInfo
    size: int


class Uploads:
    """The videos that were sent to this process; safe under threads.

    The folder can be entered by this user only. It is removed by `close`, with this object, or when the process ends;
    one that was left by a process that was killed is removed by the next.

    Args:
        sandbox: looks at each video before it is taken.
        limits: of size, time and number.
        parent: where the folder is made; None for the system's place for temporary files.
    """

    def __init__(self, sandbox: Sandbox, limits: Limits | None = None, parent: Path | None = None) -> None:
        self.limits = limits or sandbox.limits
        self._sandbox = sandbox
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        _remove_stale(parent)
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        # Held as long as this process lives, however it ends: by it others see that the folder is in use.
        lock = os.open(self.folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self._lock = threading.Lock()
        self._kept: dict[str, Upload] = {}  # the one used longest ago first
        self._held: dict[str, int] = {}
        self._sizes: dict[str, int] = {}  # bytes on disk, of uploads on their way too
        self._closed = False
        # Of their own: a probe may wait for a decoder, and what arrives is written meanwhile.
        self._probes = ThreadPoolExecutor(self.limits.decoders, "probe")
        self._end = weakref.finalize(self, _remove, self.folder, lock)

    async def create(self, stream: AsyncIterator[bytes], name: str) -> Upload:
        """Take a video; what comes is counted as it comes, and written to disk.

        Args:
            stream: its bytes.
            name: what the sender calls it: for display, never a path, and no hint at what the file is.

        Raises:
            VideoError: it isn't a video that can be read.
            LimitError: it is over a limit.
            BadRequest: nothing came.
            TooSlow: it took too long, as a whole or between two pieces.
            Busy: too many uploads are on their way, or all that are kept are in use.
            Unavailable: closed, or no room on the disk.
        """
        id = secrets.token_urlsafe(16)
        path = self.folder / id
        self._begin(id)
        try:
            with _disk_errors():
                await self._write(stream, id, path)
            if not self._sizes[id]:
                raise BadRequest("the upload is empty (0 bytes). Send a video.")
            info = await self._probe(path)
            upload = Upload(id, clean_name(name), path, info, self._sizes[id])
            with self._lock:
                if self._closed:
                    raise _closed()
                self._make_room()
                self._kept[id] = upload
            return upload
        except BaseException:
            with self._lock:
                self._sizes.pop(id, None)
            path.unlink(missing_ok=True)
            raise

    def get(self, id: str) -> Upload:
        """The upload of that id, which counts as used.

        Raises:
            NotFound: there is none, or no longer.
        """
        with self._lock:
            return self._used(id)

    @contextmanager
    def hold(self, id: str) -> Iterator[Upload]:
        """The upload of that id, which isn't removed to make room within the `with` block.

        Raises:
            NotFound: as in `get`.
        """
        with self._lock:
            upload = self._used(id)
            self._held[id] = self._held.get(id, 0) + 1
        try:
            yield upload
        finally:
            with self._lock:
                self._held[id] -= 1
                if not self._held[id]:
                    del self._held[id]

    def remove(self, id: str) -> None:
        """Forget an upload and remove its file.

        Raises:
            NotFound: as in `get`.
        """
        with self._lock:
            self._used(id)
            self._drop(id)

    def stats(self) -> dict[str, int]:
        """How many are kept (`videos`), how many are on their way (`arriving`), and their `bytes` on disk."""
        with self._lock:
            arriving = len(self._sizes) - len(self._kept)
            return {"videos": len(self._kept), "arriving": arriving, "bytes": sum(self._sizes.values())}

    def close(self) -> None:
        """Remove the folder and all that is in it; uploads on their way fail with `Unavailable`."""
        with self._lock:
            self._closed = True
            self._kept.clear()
            self._probes.shutdown(wait=False)
        self._end()

    def __enter__(self) -> Uploads:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    async def _write(self, stream: AsyncIterator[bytes], id: str, path: Path) -> None:
        """The stream to a new file, piece by piece."""
        deadline = time.monotonic() + self.limits.upload_seconds
        waiting = bytearray()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            while (piece := await self._next(stream, deadline)) is not None:
                self._count(id, len(piece))
                waiting += piece
                if len(waiting) >= _WRITE_BYTES:
                    await _written(descriptor, bytes(waiting))
                    waiting.clear()
            await _written(descriptor, bytes(waiting))
        finally:
            os.close(descriptor)

    async def _probe(self, path: Path) -> VideoInfo:
        with self._lock:
            if self._closed:
                raise _closed()
            probe = self._probes.submit(self._sandbox.probe, path)
        return await asyncio.wrap_future(probe)

    async def _next(self, stream: AsyncIterator[bytes], deadline: float) -> bytes | None:
        """The next piece; None at the end."""
        seconds = min(deadline - time.monotonic(), self.limits.upload_stall_seconds)
        try:
            return await asyncio.wait_for(anext(stream, None), max(seconds, 0))
        except TimeoutError:
            if time.monotonic() >= deadline:
                limit, allowed = "upload_seconds", self.limits.upload_seconds
            else:
                limit, allowed = "upload_stall_seconds", self.limits.upload_stall_seconds
            raise TooSlow(
                f"the upload took more than {allowed:g} s (limit {limit}). Try again over a better connection, or send "
                "a smaller file.",
                code=f"limit_{limit}",
            ) from None

    def _begin(self, id: str) -> None:
        with self._lock:
            if self._closed:
                raise _closed()
            if len(self._sizes) - len(self._kept) >= self.limits.uploads_at_once:
                raise Busy(
                    "too many uploads are on their way (limit uploads_at_once). Try again a little later.",
                    retry_after=1,
                )
            self._sizes[id] = 0

    def _count(self, id: str, size: int) -> None:
        """Make room for so many more bytes of an upload."""
        with self._lock:
            if self._closed:
                raise _closed()
            self._sizes[id] += size
            allowed = min(self.limits.upload_bytes, self.limits.uploads_bytes)
            if self._sizes[id] > allowed:
                raise LimitError(
                    "upload_bytes",
                    f"the upload has more than {allowed} bytes; that many are taken. Cut the video, or encode it smaller.",
                )
            while sum(self._sizes.values()) > self.limits.uploads_bytes:
                self._drop_oldest("uploads_bytes")

    def _used(self, id: str) -> Upload:
        upload = self._kept.pop(id, None) if isinstance(id, str) and _ID.fullmatch(id) else None
        if upload is None:
            raise NotFound("there is no such video here, or no longer. Upload it (again).", code="no_such_video")
        self._kept[id] = upload
        return upload

    def _make_room(self) -> None:
        while len(self._kept) >= self.limits.uploads:
            self._drop_oldest("uploads")

    def _drop_oldest(self, limit: str) -> None:
        for id in self._kept:
            if id not in self._held:
                self._drop(id)
                return
        raise Busy(f"there is no room for another video (limit {limit}). Try again later.", retry_after=30)

    def _drop(self, id: str) -> None:
        upload = self._kept.pop(id, None)
        if upload is not None:
            self._sizes.pop(id, None)
            upload.path.unlink(missing_ok=True)


def clean_name(name: str) -> str:
    """What a sender calls a file, fit to be shown: its last part, without control, format and bidi characters.

    At most 100 characters; `video` where nothing is left.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name[:4000]))[-1]
    letters = (" " if letter.isspace() else letter for letter in last)
    shown = "".join(letter for letter in letters if unicodedata.category(letter)[0] != "C")
    return " ".join(shown.split()).strip(". ")[:_NAME_LENGTH].rstrip() or "video"


def _closed() -> Unavailable:
    return Unavailable("the server is going down. Try again later.")


@contextmanager
def _disk_errors() -> Iterator[None]:
    """A disk without room, or a folder that is gone, as an answer."""
    try:
        yield
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        message = "the server's disk is full" if full else "the server can't keep the upload"
        raise Unavailable(f"{message}. Try again later.") from error


async def _written(descriptor: int, content: bytes) -> None:
    """Write in a thread, and see its end even if whoever waits is cancelled: then the descriptor is closed."""
    work = asyncio.ensure_future(asyncio.to_thread(_write_all, descriptor, content))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with contextlib.suppress(asyncio.CancelledError):  # cancelled once more
                await asyncio.wait([work])
        raise


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def _remove_stale(parent: Path) -> None:
    """Remove the folders of processes that are gone: ours, not new, and locked by nobody."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            stat = folder.lstat()
            if folder.is_symlink() or stat.st_uid != os.getuid() or time.time() - stat.st_mtime < _STALE_SECONDS:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)

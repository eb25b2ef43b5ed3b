"""Decoding away from the server: a hostile file can bring down a process that nobody misses, and nothing else.

Each video is opened by one of a few processes that run `decoder`, with limits on memory, CPU time, files and open
descriptors that the kernel holds. One that takes too long is killed, one that dies is replaced. What they answer is
checked like anything else that comes from outside.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import weakref
from collections import Counter
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, get_args

import numpy as np

from egoinstructor.errors import InputError, VideoError, require_extra
from egoinstructor.records import Clip, Frames
from egoinstructor.video.file import Sampling, VideoInfo
from egoinstructor.web.decoder_process import DecoderProcess, LostError, end_all, spread_cpus
from egoinstructor.web.errors import Busy, Unavailable
from egoinstructor.web.limits import LimitError, Limits

_log = logging.getLogger(__name__)

_JPEG_BYTES = 4_000_000
_HEIGHT = 1080


class Sandbox:
    """Decodes videos in other processes; safe under threads, each call waits for its answer.

    The processes start when they are first needed and end with `close`, with this object, or with this process.

    Args:
        limits: what a video may be, and what decoding it may cost.

    Raises:
        MissingExtraError: the extra `web` is not installed.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        require_extra("PIL", "web", "A server")
        self.limits = limits or Limits()
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._closed = False
        self._decoders = [DecoderProcess(self.limits, cpus) for cpus in spread_cpus(self.limits.decoders)]
        self._idle: queue.LifoQueue[DecoderProcess] = queue.LifoQueue()
        for decoder in self._decoders:
            self._idle.put(decoder)
        self._end = weakref.finalize(self, end_all, self._decoders)

    def probe(self, path: Path) -> VideoInfo:
        """What a video is, its first frame decoded.

        Raises:
            VideoError: it can't be read, or the decoder crashed on it.
            LimitError: the video, or what decoding it takes, is over a limit.
            Busy: no decoder was free within `request_seconds`.
            Unavailable: the sandbox is closed.
        """
        head, _ = self._ask({"do": "probe", "path": str(path)}, path, 0)
        return _info(head, path)

    def frames(
        self,
        path: Path,
        start: float | None = None,
        end: float | None = None,
        num_frames: int = 32,
        sampling: Sampling = "segment_center",
        *,
        max_side: int | None = None,
    ) -> Frames:
        """Sample frames of a segment, as `load_video` does.

        Args:
            path: the video.
            start: seconds; None for the beginning.
            end: seconds; None for the end.
            num_frames: F.
            sampling: which frames, as in `load_video`.
            max_side: pixels; frames that are wider or higher are scaled down to it. None for full size.

        Returns:
            `num_frames` frames whose `source` is the file's name without its folder.

        Raises:
            InputError: times or a number of frames that make no sense.
            VideoError, LimitError, Busy, Unavailable: as in `probe`.
        """
        Clip(path, start, end)
        self.limits.check_frames(num_frames)
        if sampling not in get_args(Sampling):
            raise InputError(f"sampling={sampling!r}: choose from {', '.join(get_args(Sampling))}.")
        if max_side is not None and max_side < 1:
            raise InputError(f"max_side={max_side}: at least 1 pixel.")
        request = {
            "do": "frames", "path": str(path), "start": start, "end": end,
            "num_frames": num_frames, "sampling": sampling, "max_side": max_side,
        }  # fmt: skip
        head, body = self._ask(request, path, self.limits.frame_bytes + 16 * num_frames)
        return _frames(head, body, path, num_frames, self.limits)

    def thumbnail(self, path: Path, seconds: float = 0.0, height: int = 180) -> bytes:
        """One frame as a JPEG of that height.

        Raises:
            InputError: a height that is not from 1 to 1080.
            VideoError, LimitError, Busy, Unavailable: as in `probe`.
        """
        Clip(path, seconds)
        if not 1 <= height <= _HEIGHT:
            raise InputError(f"height={height}: choose one from 1 to {_HEIGHT} pixels.")
        request = {"do": "thumbnail", "path": str(path), "seconds": seconds, "height": height}
        _, body = self._ask(request, path, _JPEG_BYTES)
        if bytes(body[:3]) != b"\xff\xd8\xff":
            raise _crash(path)
        return bytes(body)

    def stats(self) -> dict[str, int]:
        """How often each happened: `answered`, `refused` (bad video), `over_limit`, `crashed`, `killed` (time or memory)."""
        with self._lock:
            return {name: self._counts[name] for name in ("answered", "refused", "over_limit", "crashed", "killed")}

    def close(self) -> None:
        """End the processes; what they are at fails with `Unavailable`."""
        self._closed = True
        self._end()

    def __enter__(self) -> Sandbox:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _ask(self, request: dict[str, Any], path: Path, room: int) -> tuple[dict[str, Any], np.ndarray]:
        """One request's JSON and bytes, at most `room` of them; whatever went wrong as its error."""
        if self._closed:
            raise _closed()
        try:
            decoder = self._idle.get(timeout=self.limits.request_seconds)
        except queue.Empty:
            raise Busy("all decoders are at work. Try again a little later.") from None
        try:
            head, body = decoder.ask(request, room)
        except LostError as lost:
            if self._closed:
                raise _closed() from None
            if lost.reason == "start":
                _log.error("no decoder starts (%s)", lost.detail or "it ended at once, or took too long")
                raise Unavailable(
                    "the process that decodes videos does not start. The server's log says why."
                ) from None
            self._count("crashed" if lost.reason == "crash" else "killed")
            if lost.reason == "time":
                self.limits.decoding_too_slow()
            _log.warning("a decoder crashed (%s) and was replaced", lost.detail)
            raise _crash(path) from None
        finally:
            self._idle.put(decoder)
        if "ok" in head:
            self._count("answered")
            return head["ok"], body
        self._refuse(head, path)

    def _refuse(self, head: dict[str, Any], path: Path) -> NoReturn:
        message = _clean(head.get("message"), path)
        match head.get("error"):
            case "memory":
                self._count("killed")
                self.limits.decoding_too_large()
            case "limit":
                self._count("over_limit")
                limit = head.get("limit")
                known = limit if limit in {field.name for field in fields(Limits)} else "decode_memory"
                raise LimitError(known, message.removesuffix(f" (limit {known})"))
            case "video":
                self._count("refused")
                raise VideoError(message)
            case _:
                self._count("crashed")
                _log.warning("a decoder failed (%s) and was replaced", message)
                raise _crash(path)

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1


def _info(head: dict[str, Any], path: Path) -> VideoInfo:
    kinds = {"int": int, "float": float, "str": str, "bool": bool}
    values: dict[str, Any] = {}
    for field in fields(VideoInfo):
        value = head.get(field.name)
        if type(value) is not kinds[str(field.type)] or (isinstance(value, float) and not math.isfinite(value)):
            raise _crash(path)
        values[field.name] = _clean(value, path)[:40] if isinstance(value, str) else value
    return VideoInfo(**values)


def _frames(head: dict[str, Any], body: np.ndarray, path: Path, num_frames: int, limits: Limits) -> Frames:
    shape = head.get("shape")
    if not isinstance(shape, list) or len(shape) != 4 or not all(type(n) is int and n > 0 for n in shape):
        raise _crash(path)
    height, width = shape[1:3]
    if shape[0] != num_frames or shape[3] != 3 or height * width > limits.pixels:
        raise _crash(path)
    if len(body) != num_frames * (16 + height * width * 3):
        raise _crash(path)
    times, indices = body[: 8 * num_frames].view("<f8"), body[8 * num_frames : 16 * num_frames].view("<i8")
    if not (np.isfinite(times).all() and (times >= 0).all() and (indices >= 0).all()):
        raise _crash(path)
    return Frames(body[16 * num_frames :].reshape(shape), times, indices, path.name)


def _clean(message: object, path: Path) -> str:
    """A message of the other process: one line, with the file's name in place of where it lies."""
    text = str(message).replace(str(path), path.name)[:1000]
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _crash(path: Path) -> VideoError:
    return VideoError(f"video {path.name}: the decoder crashed on this file; it is damaged. Encode it again.")


def _closed() -> Unavailable:
    return Unavailable("the server is going down. Try again later.")

"""Streams to caption: a camera, an address, a file that is still being written, a file played at its own pace.

Each gives `(seconds, pixels)` from its first frame on, in times that never fall, and can be closed from another thread.
An address is opened only where its host was allowed by name. That host is trusted: FFmpeg follows RTSP's redirects, and
can't be told not to.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Lock
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from egoinstructor.errors import InputError, VideoError
from egoinstructor.narration.addresses import allowed_address, masked
from egoinstructor.video.container import OpenVideo, open_video
from egoinstructor.video.live import NOMINAL_RATE, LiveFrame
from egoinstructor.video.reader import quarter_turns

logger = logging.getLogger(__name__)

IDLE = 10.0
"""Seconds without growth after which a file counts as finished, unless others are given."""

RECONNECTS = 5
"""Attempts to connect again, one after the other, unless another number is given."""

TIMEOUT = 10.0
"""Seconds to wait for an address or a camera to answer."""

MAX_PIXELS = 4096 * 2304
"""Of a picture. A stream that declares larger ones is refused before they are decoded."""

_MAX_DELAY = 30.0
_POLL = 0.1
# Formats that hold the pictures themselves: a playlist could make FFmpeg open other files and addresses.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,flv,mpjpeg"
_DECODER = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}

Opener = Callable[[], AbstractContextManager[OpenVideo]]


def open_source(
    name: str,
    *,
    allow_hosts: Sequence[str] = (),
    paced: bool = False,
    idle: float = IDLE,
    reconnects: int = RECONNECTS,
) -> Source:
    """Open a stream by its name.

    Args:
        name: a camera (`/dev/video0`), an address (`rtsp://…`, `http://…`), or a file, which may still be growing.
        allow_hosts: hosts that an address may name.
        paced: play a finished file at its own pace, rather than follow one that grows.
        idle: seconds without growth after which a file is finished.
        reconnects: attempts to connect again when an RTSP stream is lost or ends; 0: none.

    Raises:
        InputError: a value that is not allowed, or a host that was not.
        VideoError: it can't be opened, or isn't video.
    """
    if not 0 < idle < float("inf"):
        raise InputError(f"idle={idle}: give seconds, more than 0.")
    if reconnects < 0:
        raise InputError(f"reconnects={reconnects}: give a number of attempts, 0 or more.")
    check_source(name, allow_hosts)
    stop = Event()
    address, camera = "://" in name, _is_camera(name)
    if paced and (address or camera):
        raise InputError(f"{masked(name)} comes at its own pace; leave 'paced' out, which is for files.")
    if address:
        url, shown = allowed_address(name, allow_hosts)
        lost = reconnects if url.startswith("rtsp:") else 0
        return Source(partial(_open_address, url, shown), shown, stop=stop, reconnects=lost)
    if camera:
        return Source(partial(_open_camera, name), name, stop=stop)
    if paced:
        return Source(partial(open_video, Path(name)), name, stop=stop, paced=True)
    return Source(partial(_open_growing, Path(name), idle, stop), name, stop=stop)


def check_source(name: str, allow_hosts: Sequence[str] = ()) -> None:
    """Look whether a stream can be meant by a name, without opening it.

    Args:
        name: as for `open_source`.
        allow_hosts: as for `open_source`.

    Raises:
        InputError: an address that is not allowed.
        VideoError: no such file.
    """
    if "://" in name:
        allowed_address(name, allow_hosts)
    elif not _is_camera(name) and not Path(name).is_file():
        raise VideoError(
            f"{name}: there is no such file. Name a file, a camera (/dev/video0) or an address (rtsp://…)."
        )


class Source:
    """A stream of `(seconds, pixels)`; pixels are made when they are asked for. One iteration; close it after.

    Args:
        opener: opens it, at first and again.
        name: as a message names it, without secrets.
        stop: set when it is closed: ends every wait.
        reconnects: attempts to open it again, one after the other, when it fails or ends.
        paced: wait until each frame is due.
        clock: seconds, never falling.
        wait: waits for some seconds; true where the source was closed meanwhile.

    Raises:
        VideoError: it can't be opened.
    """

    def __init__(
        self,
        opener: Opener,
        name: str,
        *,
        stop: Event | None = None,
        reconnects: int = 0,
        paced: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self.name = name
        self.damaged = 0
        """Pictures that could not be decoded, and were left out."""
        self.reconnected = 0
        """Times that the connection was lost and found again."""
        self._opener, self._attempts, self._paced, self._clock = opener, reconnects, paced, clock
        self._stop = stop or Event()
        self._wait = wait or self._stop.wait
        self._lock = Lock()
        self._opened: ExitStack | None = None
        self._video = self._open()
        stream = self._video[1]
        self.rate = float(stream.average_rate or stream.guessed_rate or NOMINAL_RATE)
        """Frames per second, as the stream declares them."""
        # JPEGs over HTTP bear no times, and FFmpeg makes up some.
        self._untimed = self._video[0].format.name == "mpjpeg"

    def __iter__(self) -> Iterator[LiveFrame]:
        """The frames, as they come.

        Raises:
            VideoError: it failed, and could not be opened again.
        """
        times = _Times(self.rate)
        began = failed = None
        attempt = 0
        while not self._stop.is_set():
            reason = "the stream ended"
            try:
                with self._take():
                    for frame in self._decoded():
                        began = self._clock() if began is None else began
                        own = self._clock() if self._untimed else frame.time
                        seconds, attempt = times.of(own), 0
                        if self._paced and self._wait(max(began + seconds - self._clock(), 0)):
                            return
                        yield seconds, partial(_upright, frame)
                if self._attempts == 0:
                    return
            except VideoError as error:
                if self._attempts == 0:
                    raise
                reason, failed = str(error), error
            while not self._stop.is_set():
                attempt += 1
                if attempt > self._attempts:
                    raise VideoError(
                        f"{self.name}: lost, and not found again in {self._attempts} attempts ({reason})."
                    ) from failed
                delay = min(2.0 ** (attempt - 1), _MAX_DELAY)
                logger.warning("%s; connecting again in %g s (%d of %d)", reason, delay, attempt, self._attempts)
                if self._wait(delay):
                    return
                try:
                    self._video = self._open()
                except VideoError as error:
                    reason, failed = str(error), error
                    continue
                self.reconnected += 1
                times.resume(0.0 if began is None else self._clock() - began)
                break

    def close(self) -> None:
        """End the iteration as soon as what it waits for comes or its time is over. A second time does nothing."""
        self._stop.set()
        self._take().close()

    def __enter__(self) -> Source:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _open(self) -> OpenVideo:
        with ExitStack() as stack:
            video = stack.enter_context(self._opener())
            with self._lock:
                if not self._stop.is_set():  # else it is closed at once: who closed this is gone
                    self._opened = stack.pop_all()
        return video

    def _take(self) -> ExitStack:
        """What is to be closed, for whoever asks first: the thread that reads, else the one that closes."""
        with self._lock:
            opened, self._opened = self._opened, None
        return opened or ExitStack()

    def _decoded(self) -> Iterator[VideoFrame]:
        """Frames in display order. What is damaged is left out, with all that may refer to it: up to the next keyframe."""
        container, stream = self._video
        whole, since = False, None  # since a keyframe at this time
        last: int | None = None  # time of the frame that was given last
        second = 1 / stream.time_base if stream.time_base else 0  # in ticks
        for packet in container.demux(stream):
            if self._stop.is_set():
                return
            if packet.is_keyframe and not packet.is_corrupt and not whole:
                stream.codec_context.flush_buffers()
                whole, since = True, packet.pts
            elif packet.is_corrupt:
                whole = False
            if not whole and packet.size:
                self.damaged += since is not None  # a stream may be entered between keyframes
                continue
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                self.damaged += 1
                whole = False
                continue
            for frame in frames:
                assert isinstance(frame, VideoFrame)
                early = frame.pts is not None and since is not None and frame.pts < since
                # Behind damage a decoder may give a frame again late. A clock that starts anew goes back further.
                late = frame.pts is not None and last is not None and 0 < last - frame.pts < second
                if frame.is_corrupt or early or late:
                    self.damaged += 1
                elif not self._stop.is_set():
                    last = frame.pts
                    yield frame


class _Times:
    """Seconds from the first frame on, whatever the stream's own times do."""

    def __init__(self, rate: float) -> None:
        self._frame = 1 / rate
        self._last: float | None = None
        self._shift: float | None = None  # of the stream's own times; None: to be found
        self._from = 0.0

    def of(self, own: float | None) -> float:
        """When a frame is shown that is at `own` by the stream's own times."""
        following = self._from if self._last is None else max(self._last + self._frame, self._from)
        if own is None:
            seconds = following
        else:
            if self._shift is None:
                self._shift = following - own
            seconds = own + self._shift
            if self._last is not None and seconds < self._last:  # it began to count anew
                self._shift, seconds = following - own, following
        self._last = seconds
        return seconds

    def resume(self, seconds: float) -> None:
        """The next frame comes so long after the first one, by the clock; the stream counts anew."""
        self._from, self._shift = seconds, None


def _is_camera(name: str) -> bool:
    return "://" not in name and (name.startswith("/dev/video") or Path(name).is_char_device())


@contextmanager
def _open_address(url: str, shown: str) -> Iterator[OpenVideo]:
    microseconds = str(round(TIMEOUT * 1e6))
    if url.startswith("rtsp:"):
        how: dict[str, Any] = {
            "format": "rtsp",
            "options": {
                "rtsp_transport": "tcp",  # UDP loses packets, and a server could have them sent anywhere
                "allowed_media_types": "video",
                "protocol_whitelist": "rtsp,rtp,tcp",
                "timeout": microseconds,
            },
        }
    else:
        how = {
            "options": {
                "protocol_whitelist": "http,tcp",
                "format_whitelist": _FORMATS,
                "max_redirects": "0",  # to a host that nobody allowed
                "timeout": microseconds,
                "analyzeduration": "2000000",
            }
        }
    with _opened(url, shown, "Check the address, and that it is on air", timeout=(TIMEOUT, TIMEOUT), **how) as video:
        yield video


@contextmanager
def _open_camera(path: str) -> Iterator[OpenVideo]:
    if "v4l2" not in ",".join(av.formats_available):
        raise InputError(f"{path}: cameras are read by Video4Linux, which this PyAV has not. Use Linux, or an address.")
    advice = "Check that it is plugged in, that you may read it (group video), and that nobody else uses it"
    with _opened(path, path, advice, format="v4l2", timeout=(TIMEOUT, TIMEOUT)) as video:
        yield video


@contextmanager
def _open_growing(
    path: Path, idle: float, stop: Event, clock: Callable[[], float] = time.monotonic
) -> Iterator[OpenVideo]:
    try:
        with path.open("rb", buffering=0) as file:
            advice = (
                "A file that is still being written must be mkv, webm, mpegts or fragmented mp4, which can be read from "
                "the start; a finished mp4 can be played with --paced"
            )
            growing = _Growing(file.read, idle, stop.wait, clock)
            options = {"format_whitelist": _FORMATS, "analyzeduration": "2000000"}
            with _opened(growing, str(path), advice, options=options) as video:
                yield video
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror}. Check the path and its permissions.") from error


class _Growing:
    """What is in a file now, then what is added, until nothing was for a while."""

    def __init__(
        self,
        read: Callable[[int], bytes | None],
        idle: float,
        wait: Callable[[float], bool],
        clock: Callable[[], float],
    ) -> None:
        self._read, self._idle, self._wait, self._clock = read, idle, wait, clock
        self._grew = clock()

    def read(self, size: int) -> bytes:
        """Some bytes, waiting for them; none at the end."""
        while not (data := self._read(size)):
            if self._clock() - self._grew >= self._idle or self._wait(_POLL):
                return b""
        self._grew = self._clock()
        return data


@contextmanager
def _opened(source: Any, shown: str, advice: str, **how: Any) -> Iterator[OpenVideo]:
    """Open a stream for reading once, in order; errors of FFmpeg within the `with` block become `VideoError` too."""
    try:
        with av.open(source, "r", **how) as container:
            if not container.streams.video:
                raise VideoError(f"{shown}: it has no pictures (audio only?). Name a stream with a video track.")
            stream = container.streams.video[0]
            stream.codec_context.options = _DECODER
            stream.thread_type = "SLICE"  # threads by frame would hold each frame back for as many others
            yield container, stream
    except av.error.ExitError as error:
        raise VideoError(f"{shown}: no answer for {TIMEOUT:g} s. {advice}.") from error
    except av.error.FFmpegError as error:
        raise VideoError(f"{shown}: it can't be read ({error.strerror}). {advice}.") from error


def _upright(frame: VideoFrame) -> np.ndarray:
    return np.rot90(frame.to_ndarray(format="rgb24", threads=1), quarter_turns(frame))

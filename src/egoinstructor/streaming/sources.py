"""Streams to caption: a camera, an address, a file that is still being written, a file played at its own pace.

Each gives `(seconds, pixels)` in times that never fall, and can be closed from another thread. Seconds count from the first
frame of what is live, and from the start of a file's presentation.
An address is opened only where its host was allowed by name. That host is trusted: FFmpeg follows RTSP's redirects, and
can't be told not to.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Lock
from types import TracebackType
from typing import Any

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from egoinstructor.errors import InputError, VideoError
from egoinstructor.streaming.addresses import allowed_address, masked
from egoinstructor.streaming.clock import StreamClock
from egoinstructor.streaming.windows import NOMINAL_RATE, LiveFrame
from egoinstructor.video.container import OpenVideo, choose_stream, open_video
from egoinstructor.video.display import to_rgb
from egoinstructor.video.formats import READABLE
from egoinstructor.video.timeline import LONGEST

logger = logging.getLogger(__name__)

IDLE = 10.0
"""Seconds without growth after which a file counts as finished, unless others are given."""

RECONNECTS = 5
"""Attempts to connect again, one after the other, unless another number is given."""

TIMEOUT = 10.0
"""Seconds to wait for an address or a camera to answer."""

RATES = (1 / 60, 1000.0)
"""Frames per second that a stream may declare; damaged times make it seem to have others."""

MAX_PIXELS = 4096 * 2304
"""Of a picture. A stream that declares larger ones is refused before they are decoded."""

_MAX_DELAY = 30.0
_POLL = 0.1
_FORMATS = f"{READABLE},mpjpeg"
_DECODER = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}

Opener = Callable[[], AbstractContextManager[OpenVideo]]


def open_stream(
    name: str,
    *,
    allow_hosts: Sequence[str] = (),
    paced: bool = False,
    idle: float = IDLE,
    reconnects: int = RECONNECTS,
) -> StreamSource:
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
    check_stream(name, allow_hosts)
    stop = Event()
    address, camera = "://" in name, _is_camera(name)
    if paced and (address or camera):
        raise InputError(f"{masked(name)} comes at its own pace; leave 'paced' out, which is for files.")
    if address:
        url, shown = allowed_address(name, allow_hosts)
        live = url.startswith("rtsp:")  # what HTTP gives may be a file
        lost = reconnects if live else 0
        return StreamSource(partial(_open_address, url, shown), shown, stop=stop, reconnects=lost, live=live)
    if camera:
        return StreamSource(partial(_open_camera, name), name, stop=stop, live=True)
    if paced:
        return StreamSource(partial(open_video, Path(name)), name, stop=stop, paced=True)
    return StreamSource(partial(_open_growing, Path(name), idle, stop), name, stop=stop)


def check_stream(name: str, allow_hosts: Sequence[str] = ()) -> None:
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


class StreamSource:
    """A stream of `(seconds, pixels)`; pixels are made when they are asked for. One iteration; close it after.

    Args:
        opener: opens it, at first and again.
        name: as a message names it, without secrets.
        stop: set when it is closed: ends every wait.
        reconnects: attempts to open it again, one after the other, when it fails or ends.
        paced: wait until each frame is due.
        live: frames come as they are seen, so that none is further ahead of the one before than it was waited for.
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
        live: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self.name = name
        self.reconnected = 0
        """Times that the connection was lost and found again."""
        self._opener, self._attempts, self._paced, self._live, self._clock = opener, reconnects, paced, live, clock
        self._stop = stop or Event()
        self._wait = wait or self._stop.wait
        self._lock = Lock()
        self._opened: ExitStack | None = None
        self._video = self._open()
        stream = self._video[1]
        declared = [float(rate) for rate in (stream.average_rate, stream.guessed_rate) if rate]
        self.rate = next((rate for rate in declared if RATES[0] <= rate <= RATES[1]), NOMINAL_RATE)
        """Frames per second, as the stream declares them."""
        self._times: StreamClock[VideoFrame] = StreamClock(self.rate)
        if not live and not reconnects:  # a file counts from the start of its presentation, as everywhere
            self._times.resume(_lead(self._video))
        self._began: float | None = None  # when the first frame came
        # JPEGs over HTTP bear no times, and FFmpeg makes up some.
        self._untimed = self._video[0].format.name == "mpjpeg"

    @property
    def damaged(self) -> int:
        """Pictures that could not be decoded, or whose times are wrong, and that were left out."""
        return self._times.left_out

    def __iter__(self) -> Iterator[LiveFrame]:
        """The frames, as they come.

        Raises:
            VideoError: it failed, and could not be opened again.
        """
        failed = None
        attempt = 0
        while not self._stop.is_set():
            reason = "the stream ended"
            try:
                with self._take():
                    for seconds, frame in self._timed():
                        attempt = 0
                        if self._paced and self._wait(max(self._due(seconds), 0)):
                            return
                        yield seconds, partial(to_rgb, frame, self.name)
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
                self._times.resume(max(-self._due(0.0), 0))
                break

    def close(self) -> None:
        """End the iteration as soon as what it waits for comes or its time is over. A second time does nothing."""
        self._stop.set()
        self._take().close()

    def __enter__(self) -> StreamSource:
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

    def _due(self, seconds: float) -> float:
        """In how long a frame is due that is shown so long after the first one."""
        now = self._clock()
        return seconds + (now if self._began is None else self._began) - now

    def _timed(self) -> Iterator[tuple[float, VideoFrame]]:
        """Frames with their times, to where the stream ends or is lost."""
        before = None
        try:
            for frame in self._decoded():
                came = self._clock()
                self._began = came if self._began is None else self._began
                if self._untimed:
                    yield came - self._began, frame
                    continue
                # Some may have been under way for long, as long as the connection was not given up.
                longest = TIMEOUT + came - (came if before is None else before) if self._live else LONGEST
                before = came
                yield from self._times.take(frame.time, frame, longest)
        except (VideoError, av.error.FFmpegError):
            yield from self._times.end()
            raise
        if not self._stop.is_set():
            yield from self._times.end()

    def _decoded(self) -> Iterator[VideoFrame]:
        """Frames in display order. What is damaged is left out, with all that may refer to it: up to the next keyframe."""
        stream = self._video[1]
        entered = whole = leading = False
        since: int | None = None  # when the keyframe is shown that was entered at
        for packet in self._packets():
            if self._stop.is_set():
                return
            if packet.is_keyframe and not packet.is_corrupt and not whole:
                stream.codec_context.flush_buffers()
                entered, whole, leading, since = True, True, True, packet.pts
            elif packet.is_corrupt:
                whole = False
            if not whole and packet.size:
                if entered:  # a stream may be entered between keyframes
                    self._times.leave_out()
                continue
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                self._times.leave_out()
                whole = False
                continue
            for frame in frames:
                assert isinstance(frame, VideoFrame)
                # Pictures that are shown before the keyframe may refer to ones before it. Its own time may be damaged.
                early = frame.pts is not None and since is not None and frame.pts < since
                leading = leading and early and not frame.key_frame
                if frame.is_corrupt or leading:
                    self._times.leave_out()
                elif not self._stop.is_set():
                    yield frame

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        container, stream = self._video
        # PyAV fails at the very end of a stream that was joined by another one on the way.
        with suppress(IndexError):
            yield from container.demux(stream)


def _lead(video: OpenVideo) -> float:
    """Seconds from the start of a file's presentation to its pictures, by its header; 0 where that doesn't say."""
    container, stream = video
    if container.start_time is None or stream.start_time is None or stream.time_base is None:
        return 0.0
    lead = float(stream.start_time * stream.time_base) - container.start_time / av.time_base
    return lead if 0 < lead <= LONGEST else 0.0


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
            stream = choose_stream(container, shown)
            stream.codec_context.options = _DECODER
            stream.thread_type = "SLICE"  # threads by frame would hold each frame back for as many others
            yield container, stream
    except av.error.ExitError as error:
        raise VideoError(f"{shown}: no answer for {TIMEOUT:g} s. {advice}.") from error
    except av.error.FFmpegError as error:
        raise VideoError(f"{shown}: it can't be read ({error.strerror}). {advice}.") from error

"""The process that decodes for `sandbox`: it opens files that strangers sent, so it may do nothing else.

It speaks over its standard input and output. A request is a line of JSON. An answer is `HEAD` (the lengths of its two
parts), JSON, and raw bytes; nothing in it is a pickle, since whoever breaks this process writes the answers.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pkgutil
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import av
import numpy as np

from egoinstructor.errors import InputError
from egoinstructor.records import Clip
from egoinstructor.video.container import open_video
from egoinstructor.video.file import Sampling, VideoFile, open_file
from egoinstructor.video.timeline import Timeline, read_timeline
from egoinstructor.video.timeline_cache import TimelineCache
from egoinstructor.web.limits import LimitError, Limits

HEAD = struct.Struct("<IQ")
"""Bytes of JSON, bytes that follow it."""
GRACE = 5
"""Seconds after its time limit at which a decode ends itself, should nobody be left to end it."""

_DECODERS = (
    "h264", "hevc", "vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d", "libaom-av1", "mpeg4", "mjpeg",
    "mpeg2video", "mpeg1video", "h263", "prores", "theora", "flv", "wmv1", "wmv2", "wmv3", "vc1",
)  # fmt: skip
"""What cameras, phones, browsers and editors write. FFmpeg has hundreds more, most of them old and seldom looked after."""

_TIMELINES = TimelineCache(files=4)


def main() -> None:
    """Answer requests until the other end is closed. Arguments: the limits and the CPUs to run on, as JSON."""
    limits, cpus = Limits(**json.loads(sys.argv[1])), json.loads(sys.argv[2])
    answers = os.dup(1)
    os.dup2(2, 1)  # nothing but answers may reach the other end
    _prepare()
    _restrict(limits, cpus)
    _send(answers, {"ok": {}})
    for line in sys.stdin:
        _allow_time(limits, len(cpus))
        head, body, go_on = _answer(json.loads(line), limits)
        signal.setitimer(signal.ITIMER_REAL, limits.decode_seconds + GRACE)
        _send(answers, head, body)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if not go_on:
            return


def _prepare() -> None:
    """Import what libraries import late, and use each path once: afterwards there is no file to spare."""
    av.logging.set_level(None)
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in ("av.__main__", "av.datasets"):
            import_module(module.name)
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as container:
        stream = container.add_stream("mjpeg", rate=10, options={"strict": "unofficial"})
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuvj420p"
        for picture in np.zeros((3, 16, 16, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    request = {"num_frames": 2, "sampling": "linspace", "start": None, "end": None, "max_side": 8}
    with open_file(file.getvalue()) as video:
        video.info()
        _frames(video, request, Limits())
        _thumbnail(video, {"seconds": 0.0, "height": 8})


def _restrict(limits: Limits, cpus: Sequence[int]) -> None:
    """Take from this process what decoding doesn't need.

    One file descriptor is left: while the video is open, no other file and no connection can be opened, whatever a
    file asks FFmpeg for. Few CPUs mean few threads of FFmpeg, whose memory grows with them.
    """
    if hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, cpus)
    os.nice(1)
    spare = os.dup(2)
    os.close(spare)
    for what, value in (
        (resource.RLIMIT_AS, limits.decode_memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, spare + 1),
    ):
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


def _allow_time(limits: Limits, cpus: int) -> None:
    """Time for one request, held by the kernel: as a last resort should the other end not hold it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(usage.ru_utime + usage.ru_stime + limits.decode_seconds * cpus) + GRACE
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    signal.setitimer(signal.ITIMER_REAL, limits.decode_seconds + GRACE)


Body = Sequence[np.ndarray]


def _answer(request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], Body, bool]:
    """What comes of a request: the JSON, the bytes, and whether this process is still sound."""
    try:
        return *_work(request, limits), True
    except MemoryError:
        return {"error": "memory"}, (), False
    except LimitError as error:
        return {"error": "limit", "limit": error.limit, "message": str(error)[:2000]}, (), True
    except InputError as error:
        if isinstance(error.__cause__, MemoryError):  # FFmpeg's own
            return {"error": "memory"}, (), False
        return {"error": "video", "message": str(error)[:2000]}, (), True
    except Exception as error:  # noqa: BLE001 - whatever a hostile file brings about, it is that file's fault
        return {"error": "failed", "message": type(error).__name__}, (), False


def _work(request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], Body]:
    with open_video(Path(request["path"]), decoders=_DECODERS) as (container, stream):
        codec = stream.codec_context
        if stream.duration is not None and stream.time_base is not None:
            seconds = float(stream.duration * stream.time_base)
        else:
            seconds = (container.duration or 0) / av.time_base
        limits.check_video(codec.width, codec.height, seconds, stream.frames)  # what the header says
        # A stream may grow on its way. Decoders compare the padded size, hence the slack; what comes out is measured.
        codec.options = {**codec.options, "max_pixels": str(2 * limits.pixels + 2**16)}

        def read() -> Timeline:
            timeline = read_timeline((container, stream), request["path"])
            limits.check_video(0, 0, float(timeline.duration), len(timeline.pts))
            return timeline

        timeline = _TIMELINES.get(Path(request["path"]), read)
        video = VideoFile(Path(request["path"]), (container, stream), timeline)
        match request["do"]:
            case "probe":
                info = video.info()
                limits.check_video(info.width, info.height, 0, 0)
                return {"ok": asdict(info)}, ()
            case "frames":
                limits.check_frames(request["num_frames"], codec.width, codec.height)
                return _frames(video, request, limits)
            case _:
                return _thumbnail(video, request)


def _frames(video: VideoFile, request: dict[str, Any], limits: Limits) -> tuple[dict[str, Any], Body]:
    clip = Clip(video.source, request["start"], request["end"])
    frames = video.read(video.choose(clip, request["num_frames"], _sampling(request["sampling"])))
    height, width = frames.pixels.shape[1:3]
    limits.check_video(width, height, 0, 0)
    if request["max_side"] is not None and max(width, height) > request["max_side"]:
        frames = replace(frames, pixels=np.stack([_scaled(picture, request["max_side"]) for picture in frames.pixels]))
    pixels = np.ascontiguousarray(frames.pixels)
    timestamps, indices = frames.timestamps.astype("<f8"), frames.indices.astype("<i8")
    return {"ok": {"shape": pixels.shape}}, (timestamps, indices, pixels)


def _sampling(name: str) -> Sampling:
    return "linspace" if name == "linspace" else "segment_center"


def _scaled(picture: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _thumbnail(video: VideoFile, request: dict[str, Any]) -> tuple[dict[str, Any], Body]:
    from PIL import Image

    clip = Clip(video.source, request["seconds"], None)
    picture = video.read(video.choose(clip, 1, "linspace")).pixels[0]
    height, width = picture.shape[:2]
    size = min(max(round(width * request["height"] / height), 1), 4 * request["height"]), request["height"]
    jpeg = io.BytesIO()
    Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC).save(jpeg, "JPEG", quality=85)
    return {"ok": {}}, (np.frombuffer(jpeg.getvalue(), np.uint8),)


def _send(answers: int, head: dict[str, Any], body: Body = ()) -> None:
    text = json.dumps(head).encode()
    parts = [part.data.cast("B") for part in body]
    for part in [memoryview(HEAD.pack(len(text), sum(map(len, parts))) + text), *parts]:
        while part:
            part = part[os.write(answers, part) :]


if __name__ == "__main__":
    main()

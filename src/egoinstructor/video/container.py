"""Opening a video: a file or bytes → its first video stream, and every way in which that fails as one clear error."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from egoinstructor.errors import VideoError
from egoinstructor.records import EncodedVideo, source_name

OpenVideo: TypeAlias = tuple[InputContainer, VideoStream]

_FORMATS = "mp4, mov, mkv, webm or avi"
# Without this list a text file could be taken for a playlist that makes FFmpeg open other files or addresses.
_OPTIONS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"}


@contextmanager
def open_video(source: EncodedVideo, *, decoders: Sequence[str] = ()) -> Iterator[OpenVideo]:
    """Open a video; errors of FFmpeg within the `with` block become `VideoError` too.

    Args:
        source: a file, or its bytes.
        decoders: FFmpeg's names of those that may be used; none for all.

    Raises:
        VideoError: not there, not readable, no video, or damaged.
    """
    name = source_name(source)
    if isinstance(source, bytes):
        file: io.BytesIO | str = io.BytesIO(source)
        empty = not source
    else:
        try:
            empty = source.stat().st_size == 0
        except FileNotFoundError as error:
            raise VideoError(f"video {name}: there is no such file. Check the path.") from error
        except OSError as error:
            raise VideoError(f"video {name}: {error.strerror}. Check the path and its permissions.") from error
        file = f"file:{source}"  # the prefix keeps a name like `concat:a` from being taken for a protocol
    if empty:
        raise VideoError(f"video {name}: it is empty (0 bytes). Fetch it again.")
    options = _OPTIONS | ({"codec_whitelist": ",".join(decoders)} if decoders else {})
    try:
        with av.open(file, "r", options=options, metadata_errors="replace") as container:
            if not container.streams.video:
                raise VideoError(f"video {name}: it has no pictures (audio only?). Give a file with a video track.")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise VideoError(
                    f"video {name}: its pictures are in a coding that is not known here. Encode it as H.264."
                )
            if decoders and stream.codec_context.codec.name not in decoders:
                raise VideoError(
                    f"video {name}: its pictures are coded as {stream.codec_context.codec.name}, and only "
                    f"{', '.join(decoders)} are taken. Encode it as H.264."
                )
            # A damaged picture must be an error: without this, decoders conceal the damage and hand out a wrong frame.
            stream.codec_context.options = {"err_detect": "explode"}
            stream.thread_type = "AUTO"
            yield container, stream
    except av.error.PermissionError as error:
        raise VideoError(f"video {name}: permission denied. Make the file readable for this user.") from error
    except av.error.FFmpegError as error:
        raise VideoError(
            f"video {name}: it can't be read as a video ({error.strerror}); it is damaged, cut off, or not {_FORMATS}. "
            "Check that it plays, or fetch it again."
        ) from error

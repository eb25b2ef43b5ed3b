"""Opening a video: a file or bytes → its video stream, and every way in which that fails as one clear error."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from egoinstructor.errors import VideoError
from egoinstructor.records import EncodedVideo, source_name
from egoinstructor.video.formats import HEAD, READABLE, explain

OpenVideo: TypeAlias = tuple[InputContainer, VideoStream]

# mov can refer to other files too. FFmpeg follows that only where these are set; they are said here, lest that change.
_OPTIONS = {"format_whitelist": READABLE, "enable_drefs": "0", "use_absolute_path": "0"}
_PICTURES = Disposition.attached_pic | Disposition.timed_thumbnails
_BEFORE_ALL = -(2**62)  # ticks


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
        head = source[:HEAD]
    else:
        try:
            with source.open("rb") as start:
                head = start.read(HEAD)
        except FileNotFoundError as error:
            raise VideoError(f"video {name}: there is no such file. Check the path.") from error
        except PermissionError as error:
            raise _denied(name) from error
        except OSError as error:
            raise VideoError(f"video {name}: {error.strerror}. Check the path and its permissions.") from error
        file = f"file:{source}"  # the prefix keeps a name like `concat:a` from being taken for a protocol
    if not head:
        raise VideoError(f"video {name}: it is empty (0 bytes). Fetch it again.")
    options = _OPTIONS | ({"codec_whitelist": ",".join(decoders)} if decoders else {})
    try:
        container = av.open(file, "r", options=options, metadata_errors="replace")
    except av.error.PermissionError as error:
        raise _denied(name) from error
    except av.error.FFmpegError as error:
        raise VideoError(f"video {name}: it can't be read as a video{explain(head, str(error.strerror))}") from error
    try:
        with container:
            stream = choose_stream(container, f"video {name}")
            if decoders and stream.codec_context.codec.name not in decoders:
                raise VideoError(
                    f"video {name}: its pictures are coded as {stream.codec_context.codec.name}, and only "
                    f"{', '.join(decoders)} are taken. Encode it as H.264."
                )
            # A damaged picture must be an error: without this, decoders conceal the damage and hand out a wrong frame.
            stream.codec_context.options = {"err_detect": "explode"}
            stream.thread_type = "AUTO"
            yield container, stream
    except av.error.FFmpegError as error:
        raise VideoError(
            f"video {name}: it can't be read as a video ({error.strerror}); it is damaged or cut off. Check that it "
            "plays, or fetch it again."
        ) from error


def choose_stream(container: InputContainer, name: str) -> VideoStream:
    """Choose the video stream that a player shows.

    Cover art and thumbnails are passed over. Of several videos, those with the default flag come first, then the one with
    the largest pictures, then the one that the file lists first.

    Args:
        container: an open file or stream.
        name: what a message calls it.

    Raises:
        VideoError: there is no video, or its coding isn't known.
    """
    videos = [stream for stream in container.streams.video if not stream.disposition & _PICTURES]
    if not videos:
        only = "only cover art" if container.streams.video else "audio only?"
        raise VideoError(f"{name}: it has no pictures ({only}). Give one with a video track.")

    def rank(stream: VideoStream) -> tuple[bool, int]:
        codec = stream.codec_context
        return bool(stream.disposition & Disposition.default), 0 if codec is None else codec.width * codec.height

    stream = max(videos, key=rank)
    if stream.codec_context is None:
        raise VideoError(f"{name}: its pictures are in a coding that is not known here. Encode it as H.264.")
    return stream


def rewind(video: OpenVideo) -> None:
    """Go to the start of a file, whether or not it begins with a keyframe."""
    container, stream = video
    # FFmpeg looks for a keyframe at or before a time, and answers EPERM where there is none. Of most demuxers a time before
    # all gives the first packet; of avi and flv any packet at the first time does.
    try:
        container.seek(_BEFORE_ALL, stream=stream)
    except av.error.PermissionError:
        container.seek(stream.start_time or 0, stream=stream, any_frame=True)


def _denied(name: str) -> VideoError:
    return VideoError(f"video {name}: permission denied. Make the file readable for this user.")

"""What tells one video's content from another's: caches are keyed by what costs nothing, libraries by the bytes."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from egoinstructor.errors import VideoError
from egoinstructor.records import Frames, VideoSource


def content_identity(video: VideoSource) -> tuple[str | int, ...]:
    """A digest of bytes or of frames; of a file its name, size and time of change; of a folder of pieces those of each.

    The folder that a file is in doesn't count: a copy that keeps the time of change is the same video. A file that was
    written anew is another one.

    Raises:
        VideoError: it isn't there.
    """
    if isinstance(video, bytes):
        return (hashlib.blake2b(video).hexdigest(),)
    if isinstance(video, Frames):
        return (video.digest,)
    try:
        files = sorted(video.glob("*.mp4")) if video.is_dir() else [video]
        stats = [(file.name, file.stat()) for file in files]
    except OSError as error:
        raise VideoError(f"video {video}: {error.strerror}. Check the path.") from error
    parts = ((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    return (video.name, *(value for part in parts for value in part))


def stamp(video: Path) -> str:
    """Size and time of change: a file with the same ones is taken to have the same content.

    Raises:
        VideoError: it isn't there.
    """
    try:
        stat = video.stat()
    except OSError as error:
        raise VideoError(f"video {video}: {error.strerror}. Check the path.") from error
    return f"{stat.st_size} {stat.st_mtime_ns}"


def content_digest(video: VideoSource) -> str:
    """A digest of a video's bytes: the same wherever the file lies and whenever it was copied; or of frames.

    Raises:
        VideoError: it can't be read, or is a folder.
    """
    if isinstance(video, bytes):
        return hashlib.blake2b(video, digest_size=16).hexdigest()
    if isinstance(video, Frames):
        return video.digest
    try:
        stat = video.stat()
        return _file_digest(video, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise VideoError(f"video {video}: {error.strerror}. Check the path.") from error


@lru_cache(maxsize=4096)
def _file_digest(video: Path, size: int, changed: int) -> str:
    """Of a file of this size that was changed at this time; it is read once a process."""
    with video.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()

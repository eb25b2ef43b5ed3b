"""What tells one video's content from another's without reading it: caches are keyed by this."""

from __future__ import annotations

import hashlib

from egoinstructor.errors import VideoError
from egoinstructor.records import VideoSource


def content_identity(video: VideoSource) -> tuple[str | int, ...]:
    """A digest of bytes; of a file its name, size and time of change; of a folder of pieces those of each.

    The folder that a file is in doesn't count: a copy that keeps the time of change is the same video. A file that was
    written anew is another one.

    Raises:
        VideoError: it isn't there.
    """
    if isinstance(video, bytes):
        return (hashlib.blake2b(video).hexdigest(),)
    try:
        files = sorted(video.glob("*.mp4")) if video.is_dir() else [video]
        stats = [(file.name, file.stat()) for file in files]
    except OSError as error:
        raise VideoError(f"video {video}: {error.strerror}. Check the path.") from error
    parts = ((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    return (video.name, *(value for part in parts for value in part))

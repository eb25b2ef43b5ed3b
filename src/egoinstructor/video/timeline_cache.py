"""LRU cache of timelines: a long recording is opened for every clip of it, and scanned once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from egoinstructor.records import EncodedVideo
from egoinstructor.video.timeline import Timeline

FILES = 32
"""An hour of video takes a megabyte at most, unless every frame is a keyframe."""

_Key = tuple[str, int, int, int]


class TimelineCache:
    """The timelines of a few files, each for as long as its file stays what it is. Several threads may use one.

    Args:
        files: how many.
    """

    def __init__(self, files: int = FILES) -> None:
        self._files = files
        self._kept: OrderedDict[_Key, Timeline] = OrderedDict()
        self._lock = Lock()

    def get(self, source: EncodedVideo, read: Callable[[], Timeline]) -> Timeline:
        """The timeline of an open file; of bytes it is read each time.

        Args:
            source: the file, by its path.
            read: reads it from the open file.
        """
        key = _key(source)
        if key is None:
            return read()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        timeline = read()
        if key == _key(source):  # not of a file that is being written
            with self._lock:
                self._kept[key] = timeline
                while len(self._kept) > self._files:
                    self._kept.popitem(last=False)
        return timeline


def _key(source: EncodedVideo) -> _Key | None:
    """Path, which file lies there, its size and time of change; None of bytes and of what is gone."""
    if not isinstance(source, Path):
        return None
    try:
        stat = source.stat()
    except OSError:
        return None
    return str(source.absolute()), stat.st_ino, stat.st_size, stat.st_mtime_ns

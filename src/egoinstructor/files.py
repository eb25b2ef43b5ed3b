"""Files of long work that survive a kill: append-only JSONL logs, atomic files, a folder locked by one run."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from egoinstructor.errors import InputError


class JsonlLog:
    """What long work has finished: one JSON line a piece, on disk before the next piece begins.

    A last line that was cut off by a kill is dropped.

    Args:
        path: the file; need not exist.

    Raises:
        InputError: it can't be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[dict[str, Any]] = list(read_log(path))

    def add(self, *lines: dict[str, Any]) -> None:
        """Write lines; when this returns they are on disk.

        Raises:
            OSError: they can't be written.
        """
        append_log(self.path, *lines)
        self.lines.extend(lines)


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal, one at a time; a last one that was cut off by a kill is removed from the file.

    Args:
        path: the file; need not exist.

    Raises:
        InputError: it can't be read.
    """
    try:
        if not path.exists():
            return
        whole = 0
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield json.loads(line)
                    whole += len(line)
        if whole != path.stat().st_size:
            os.truncate(path, whole)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be read: {error}. Remove it to start over.") from error


def append_log(path: Path, *lines: dict[str, Any]) -> None:
    """Add lines to a journal; when this returns they are on disk.

    Raises:
        OSError: they can't be written.
    """
    # A file's name that isn't UTF-8 has signs that can't be encoded; JSON's own escape for them is the same.
    with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def exclusive(folder: Path, lock: Path | None = None, *, waits: Callable[[], None] | None = None) -> Iterator[None]:
    """A folder, which is made, for one run at a time. A run that is killed leaves it free.

    Args:
        folder: as messages name it.
        lock: a file of its own for this; None for `.lock` in the folder.
        waits: called before the end of another run is waited for; None for an error instead.

    Raises:
        InputError: another run has the folder, or it can't be written.
    """
    import fcntl  # which Windows lacks, where the rest of this serves too

    lock = lock or folder / ".lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise InputError(f"{folder} can't be written to: {error}. Make it writable, or name another folder.") from error
    with file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if waits is None:
                    raise InputError(
                        f"another run is writing to {folder}. Wait for its end, or name another folder."
                    ) from error
                waits()
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # a file system without locks
                raise
        yield


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A path beside this one to write to; it takes this one's place when the block ends, and is removed if it fails.

    Raises:
        InputError: the file can't be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error}. Free some space, or name another file.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)

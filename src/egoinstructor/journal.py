"""What outlives a kill: a journal of finished work, and files that are there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from egoinstructor.errors import InputError


class Journal:
    """What long work has finished: one JSON line a piece, on disk before the next piece begins.

    A last line that was cut off by a kill is dropped.

    Args:
        path: the file; need not exist.

    Raises:
        InputError: it can't be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lines: list[dict[str, Any]] = []
        try:
            text = path.read_bytes() if path.exists() else b""
            whole = text[: text.rfind(b"\n") + 1]
            if whole != text:
                os.truncate(path, len(whole))
            self.lines = [json.loads(line) for line in whole.splitlines()]
        except (OSError, ValueError) as error:
            raise InputError(f"{path} can't be read: {error}. Remove it to start over.") from error

    def add(self, *lines: dict[str, Any]) -> None:
        """Write lines; when this returns they are on disk.

        Raises:
            OSError: they can't be written.
        """
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
        self.lines.extend(lines)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
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

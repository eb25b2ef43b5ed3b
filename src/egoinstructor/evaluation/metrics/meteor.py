"""METEOR 1.5 in a Java process of its own: pairs of texts → the statistics that its score is made of.

Starting takes seconds (it reads its paraphrases), so one process serves any number of calls; `close` ends it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import IO, Self

import numpy as np

from egoinstructor.evaluation.metrics.base import Array, Metric, combine_meteor
from egoinstructor.evaluation.metrics.java import JavaError, complaint, find_java, packaged

STATISTICS = 23
_JAR = "meteor/meteor-1.5.jar"
_SEPARATOR = "|||"


class Meteor:
    """A running METEOR, to be closed, or used as a context.

    Raises:
        MissingExtraError: without pycocoevalcap or Java.
        JavaError: it can't be started.
    """

    def __init__(self) -> None:
        self._failure: str | None = None
        self._home, jar = _without_spaces(packaged(_JAR, "METEOR"))
        command = [
            find_java("METEOR"),
            "-Dfile.encoding=UTF-8",
            "-Xmx2G",
            "-jar",
            str(jar),
            "-",
            "-",
            "-stdio",
            "-l",
            "en",
            "-norm",
        ]
        # Not a pipe: nobody reads it while METEOR works, and a full pipe would stop it for ever.
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._complaints}
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(command, **pipes)  # type: ignore[call-overload]
        except OSError as error:
            self._complaints.close()
            _remove(self._home)
            raise JavaError(f"METEOR: {command[0]} can't be started: {error}.") from error
        self._lock = Lock()
        # At the latest when Python ends.
        self._end = weakref.finalize(self, _end, self._process, self._complaints, self._home)

    def score(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> Metric:
        """METEOR of each caption and of the set.

        Raises:
            JavaError: METEOR stopped, or answered with something else.
        """
        parts = self.statistics(captions, references)
        return Metric("METEOR", combine_meteor(parts), parts)

    def statistics(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> Array:
        """METEOR's counts for each caption `(N, 23)`, against the reference that fits best.

        Args:
            captions: N texts of one line.
            references: one or more for each.

        Raises:
            JavaError: METEOR stopped, or answered with something else.
        """
        lines = [_line(caption, truths) for caption, truths in zip(captions, references, strict=True)]
        with self._lock:
            if not self._end.alive:
                raise JavaError(self._failure or "METEOR was closed; open another.")
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            # Written while the answers are read: with both in one thread each side could wait for the other to read.
            writer = Thread(target=_write, args=(self._process.stdin, lines), daemon=True)
            writer.start()
            rows = [self._row(self._process.stdout.readline()) for _ in lines]
            writer.join()
        parts = np.array(rows, dtype=np.float64).reshape(len(rows), STATISTICS)
        whole = (parts[:, 20] == 1) & (parts[:, [21, 22]] == parts[:, [0, 1]]).all(1)
        parts[whole, 20] = 0  # one chunk that is the whole text is no fragment: so METEOR counts when it sums up
        return parts

    def close(self) -> None:
        """End the process and wait for it. May be called again."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _row(self, answer: bytes) -> list[float]:
        try:
            row = [float(number) for number in answer.split()]
        except ValueError:
            row = []
        if len(row) != STATISTICS:
            self._process.kill()  # out of step: what it says next belongs to another caption
            self._process.wait()
            self._complaints.seek(0)
            said = answer.decode("utf-8", "replace").strip()
            self._failure = (
                f"METEOR answered {said!r}; {STATISTICS} numbers were expected. {complaint(self._complaints.read())}"
            )
            self.close()
            raise JavaError(self._failure)
        return row


def _without_spaces(jar: Path) -> tuple[tempfile.TemporaryDirectory[str] | None, Path]:
    """A path to the jar without spaces, and the folder to remove later: METEOR 1.5 can't read its own files under a space.

    Java follows symbolic links, so the files are hard links, or copies (66 MB) on another file system.

    Raises:
        JavaError: the folder for temporary files has a space in its path, too, or no room.
    """
    if " " not in str(jar):
        return None, jar
    folder = tempfile.TemporaryDirectory(prefix="egoinstructor-meteor-")
    if " " in folder.name:
        folder.cleanup()
        raise JavaError(
            f"METEOR can't run from {jar.parent}: the path has a space, and so has that of temporary files. Set TMPDIR to a "
            "folder without one."
        )
    home = Path(folder.name, "meteor")
    try:
        shutil.copytree(jar.parent, home, copy_function=_link)
    except (OSError, shutil.Error) as error:
        folder.cleanup()
        raise JavaError(
            f"METEOR's files can't be copied to {home}: {error}. Make room there, or set TMPDIR."
        ) from error
    return folder, home / jar.name


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _line(caption: str, references: Sequence[str]) -> str:
    *truths, said = (text.replace(_SEPARATOR, "") for text in (*references, caption))
    return f" {_SEPARATOR} ".join(["SCORE", *truths, said.replace("  ", " ")])  # as pycocoevalcap does


def _write(stdin: IO[bytes], lines: Sequence[str]) -> None:
    with suppress(OSError, ValueError):  # it died or was closed: the reader sees that
        for line in lines:
            stdin.write(line.encode("utf-8", "replace") + b"\n")
        stdin.flush()


def _end(
    process: subprocess.Popen[bytes], complaints: IO[bytes], home: tempfile.TemporaryDirectory[str] | None
) -> None:
    with suppress(OSError):
        assert process.stdin is not None
        process.stdin.close()
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    complaints.close()
    _remove(home)


def _remove(home: tempfile.TemporaryDirectory[str] | None) -> None:
    if home is not None:
        home.cleanup()

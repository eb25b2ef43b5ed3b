"""Segments as tracks: `.srt` and `.vtt` for players, `.jsonl` with everything that is known of each."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from egoinstructor.errors import InputError
from egoinstructor.narration.captions import Line, Segment

VTT_HEADER = "WEBVTT\n\n"
_SIMILAR = str.maketrans("<>{}", "‹›()")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one narration, which share the beginning of their names.

    Args:
        prefix: what they begin with, such as `out/kitchen`.
    """

    prefix: Path

    @property
    def srt(self) -> Path:
        """Subtitles for any player."""
        return self._named(".srt")

    @property
    def vtt(self) -> Path:
        """Subtitles for browsers."""
        return self._named(".vtt")

    @property
    def jsonl(self) -> Path:
        """A line a segment, with its confidence and references, or a stretch that could not be read."""
        return self._named(".jsonl")

    @property
    def html(self) -> Path:
        """The timeline page."""
        return self._named(".html")

    @property
    def journal(self) -> Path:
        """What was made of each window so far: what a run goes on from."""
        return self._named(".journal")

    @property
    def lock(self) -> Path:
        """What keeps a second run away."""
        return self.prefix.with_name(f".{self.prefix.name}.lock")

    def _named(self, suffix: str) -> Path:
        return self.prefix.with_name(self.prefix.name + suffix)


class Tracks:
    """The three tracks, written anew from the first segment on; whole at each `flush`.

    Args:
        files: where.

    Raises:
        InputError: a file can't be written; so for each method.
    """

    def __init__(self, files: Files) -> None:
        self._prefix = files.prefix
        self._cues = 0
        self._opened = ExitStack()
        with self._written():
            self._srt, self._vtt, self._jsonl = (
                # A file's name that isn't UTF-8 has signs that can't be encoded; JSON's own escape for them is the same.
                self._opened.enter_context(path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n"))
                for path in (files.srt, files.vtt, files.jsonl)
            )
            self._vtt.write(VTT_HEADER)

    def __enter__(self) -> Tracks:
        return self

    def __exit__(self, *_: object) -> None:
        with self._written():
            self._opened.close()

    def add(self, line: Line) -> None:
        """Write one segment, or stretch that could not be read."""
        with self._written():
            self._jsonl.write(jsonl([line]))
            if isinstance(line, Segment):
                self._cues += 1
                self._srt.write(_srt_cue(self._cues, line))
                self._vtt.write(_vtt_cue(line))

    def flush(self) -> None:
        """Let others see what was written."""
        with self._written():
            for file in (self._srt, self._vtt, self._jsonl):
                file.flush()

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"the tracks {self._prefix}.* can't be written: {error}. Make room, and run the same command again to go on."
            ) from error


def srt(segments: Iterable[Segment]) -> str:
    """SubRip. It has no escapes: what players would take for times or markup (`-->`, `<i>`, `{…}`) gets similar signs."""
    return "".join(_srt_cue(number, segment) for number, segment in enumerate(segments, 1))


def vtt(segments: Iterable[Segment]) -> str:
    """WebVTT."""
    return VTT_HEADER + "".join(map(_vtt_cue, segments))


def jsonl(lines: Iterable[Line]) -> str:
    """A JSON object a line."""
    return "".join(json.dumps(line.as_dict(), ensure_ascii=False) + "\n" for line in lines)


def timestamp(seconds: float, mark: str = ".") -> str:
    """A time as `01:02:03.450`, with this decimal mark."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"


def _srt_cue(number: int, segment: Segment) -> str:
    text = _one_line(segment.caption).replace("-->", "→").translate(_SIMILAR)
    return f"{number}\n{timestamp(segment.start, ',')} --> {timestamp(segment.end, ',')}\n{text}\n\n"


def _vtt_cue(segment: Segment) -> str:
    text = _one_line(segment.caption).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"{timestamp(segment.start)} --> {timestamp(segment.end)}\n{text}\n\n"


def _one_line(text: str) -> str:
    """An empty line would end the cue."""
    return " ".join(_CONTROL.sub(" ", text).split())

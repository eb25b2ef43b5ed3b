"""The timeline page: the recording with its captions as a track, and the references beside it. One file, no network.

It is written out of the `.jsonl`, a segment at a time. The recording is not in it: the page plays the file where it lies.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from html import escape
from importlib.resources import files as resources
from pathlib import Path
from string import Template
from typing import Any, TextIO
from urllib.parse import quote

from egoinstructor.files import atomic_file
from egoinstructor.narration.captions import Line, Segment, line_from
from egoinstructor.narration.tracks import Files
from egoinstructor.video.decode import probe
from egoinstructor.video.pictures import stills

MOST_PICTURES = 2000
"""Of different references, some 5 kB each; further ones are shown by their words alone."""

_PART = re.compile(r"^<!-- (\w+) -->\n", re.MULTILINE)


def write_timeline(files: Files, recording: Path) -> None:
    """Write the page beside the tracks that a narration wrote.

    Args:
        files: of the narration, finished.
        recording: that it is of.

    Raises:
        InputError: the page can't be written.
        VideoError: the recording can't be opened.
    """
    page = _Page(files, recording)
    template = Template(resources("egoinstructor.narration").joinpath("timeline.html").read_text(encoding="utf-8"))
    text = template.substitute(page.facts())
    with atomic_file(files.html) as partial, partial.open("w", encoding="utf-8", errors="backslashreplace") as out:
        for number, part in enumerate(_PART.split(text)):
            if number % 2:
                getattr(page, f"write_{part}")(out)
            else:
                out.write(part)


class _Page:
    """What is in it, in the order of the template's parts."""

    def __init__(self, files: Files, recording: Path) -> None:
        self._files, self._recording = files, recording
        self._duration = probe(recording).duration
        self._references: dict[tuple[Any, ...], int] = {}  # where each clip stands in the page's list

    def facts(self) -> dict[str, str]:
        """What stands in the template."""
        captions = sum(isinstance(line, Segment) for line in self._lines())
        name = self._recording.name
        where = os.path.relpath(self._recording, self._files.html.parent)
        player = (
            f'<video id="video" controls preload="metadata" playsinline src="{_address(Path(where).as_posix())}" '
            f'aria-label="{escape(name)}">'
            '<track id="track" kind="captions" srclang="en" label="Captions" default '
            f'src="{_address(self._files.vtt.name)}">'
            "</video>"
        )
        if self._recording.is_dir():
            player = "<p>A folder of pieces can't be played as one video. Its captions are here all the same.</p>"
        return {
            "name": escape(name),
            "player": player,
            "captions": f"{captions:,} captions",
            "length": _short(self._duration),
            "duration": f"{self._duration:.3f}",
        }

    def write_strip(self, out: TextIO) -> None:
        """Where something is said: the surer, the darker."""
        for line in self._lines():
            x, width = (1000 * seconds / self._duration for seconds in (line.start, line.end - line.start))
            if isinstance(line, Segment):
                sure = 0.6 if line.confidence is None else 0.25 + 0.75 * line.confidence
                out.write(f'<rect x="{x:.2f}" width="{width:.2f}" height="24" opacity="{sure:.2f}"/>\n')
            else:
                out.write(f'<rect class="skipped" x="{x:.2f}" width="{width:.2f}" height="24"/>\n')

    def write_list(self, out: TextIO) -> None:
        """The captions."""
        for line in self._lines():
            time = f'<time datetime="PT{line.start:.3f}S">{_short(line.start)}</time>'
            times = f'data-start="{line.start:.3f}" data-end="{line.end:.3f}"'
            if isinstance(line, Segment):
                sure = "" if line.confidence is None else f'<span class="sure">{line.confidence:.0%}</span>'
                said = f'<span class="said">{escape(line.caption)}</span>'
                out.write(f'<li><button type="button" {times}>{time}{said}{sure}</button></li>\n')
            else:
                span = f"{_short(line.start)} to {_short(line.end)}"
                out.write(f'<li class="skipped">{span} could not be read: {escape(line.skipped)}</li>\n')

    def write_used(self, out: TextIO) -> None:
        """For each caption its references, by number, with their similarity."""
        rows = ([[self._number(one), one["score"]] for one in line.references] for line in self._lines(said=True))
        out.write(",\n".join(map(_json, rows)))

    def write_references(self, out: TextIO) -> None:
        """Each reference once, with its picture."""
        for number, (video, start, end, narration) in enumerate(self._references):
            pictures = stills(Path(video), start, end, 1, width=192) if number < MOST_PICTURES else []
            span = "" if start is None or end is None else f"{_short(start)}–{_short(end)}"
            shown = {"said": narration, "video": Path(video).name, "span": span, "picture": "".join(pictures)}
            out.write((",\n" if number else "") + _json(shown))

    def _number(self, reference: dict[str, Any]) -> int:
        key = tuple(reference[name] for name in ("video", "start", "end", "narration"))
        return self._references.setdefault(key, len(self._references))

    def _lines(self, *, said: bool = False) -> Iterator[Any]:
        with self._files.jsonl.open(encoding="utf-8") as file:
            for text in file:
                line: Line = line_from(json.loads(text))
                if not said or isinstance(line, Segment):
                    yield line


def _address(path: str) -> str:
    """A path as an address, byte by byte: a file's name need not be UTF-8."""
    return quote(os.fsencode(path))


def _json(value: Any) -> str:
    """JSON that can stand within a script element."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def _short(seconds: float) -> str:
    """A time as `1:02:03`, or `2:03`."""
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"

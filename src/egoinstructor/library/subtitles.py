"""Subtitle files (.srt, .vtt) → cues: what is said, and when.

Our own reader, since those on PyPI don't say what they leave out: pysubs2 1.8 takes a malformed block or a comment for
words of the cue before it and reads 100 hours as 0, webvtt-py 0.6 drops malformed blocks in silence or stops at the first.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from egoinstructor.errors import InputError
from egoinstructor.library.encodings import decode_text
from egoinstructor.library.speech import spoken

SUBTITLE_SUFFIXES = (".srt", ".vtt")
"""The files taken for subtitles, in any case; the first is preferred where a video has several."""

_TIME = r"(?:(\d{1,6}):)?([0-5]?\d):([0-5]?\d)(?:[.,](\d{1,9}))?"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_BROKEN_TIMING = re.compile(r".*-->|\s*-?\d+:\d.*-\s*>")
_NOT_CUES = re.compile(r"(?:WEBVTT|NOTE|STYLE|REGION)(?:\s|$)")
# <i>, </i>, <c.yellow>, <v Ann>, <font color="red">, <00:01.500>, {\an8}; but not the < and > of "x<y heat > 100"
_TAG = re.compile(
    r"</?(?:[ibuscv]|em|rt|br|ruby|font|lang|span|strong)(?:[. \t][^<>]*)?/?>|<[\d:.]+>|\{\\[^}]*\}", re.IGNORECASE
)
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_TOUCHING = 0.1  # seconds between two cues of captions that roll
_GLIMPSE = 0.05  # seconds; YouTube shows each line of rolling captions alone for 0.01 s


@dataclass(frozen=True, slots=True)
class Cue:
    """Words and the time at which they are shown, in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Subtitles:
    """A subtitle file as it was read.

    Args:
        cues: in order of their start; each has words and lasts, some may overlap.
        lost: which words were left out and why, one sentence each.
        notes: what was guessed, and what was left out without loss.
    """

    cues: tuple[Cue, ...]
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Block:
    """A timing line and the lines below it; without times, a block that is left out.

    Args:
        line: number of the timing line, or of the entry, from 1.
        times: start and end in seconds.
        lines: words, with markup.
        unit: what `line` counts, as a message names it.
    """

    line: int
    times: tuple[float, float] | None
    lines: list[str]
    unit: str = "line"


def read_subtitles(path: Path, language: str = "") -> Subtitles:
    """Read a file.

    Args:
        path: of the file.
        language: of its words, by which an encoding that isn't Unicode is told; "" where it isn't known.

    Raises:
        InputError: it can't be read, isn't text, or is in an encoding that can't be told.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}. Check the path and its permissions.") from error
    text, notes = decode_text(data, path, language)
    return parse_subtitles(text, notes)


def parse_subtitles(text: str, notes: Sequence[str] = ()) -> Subtitles:
    """Read a text; the two formats are told apart only where they have to be, so a wrong suffix does no harm.

    Args:
        text: the file's.
        notes: what is known of it already.
    """
    return cues_of(_blocks(text), notes)


def cues_of(blocks: Iterable[Block], notes: Sequence[str] = ()) -> Subtitles:
    """The words of blocks: without markup, then without repeats of rolling captions, then without sounds and labels.

    Args:
        blocks: in the file's order.
        notes: what is known of the file already.
    """
    lost, said = [], list(notes)
    timed: list[tuple[float, float, list[str]]] = []
    for block in blocks:
        lines = [line for line in map(_plain, block.lines) if line]
        where = f"{block.unit} {block.line}"
        if block.times is None:
            lost.append(f"{where}: no times can be read there; left out: {' '.join(block.lines)[:60]!r}")
        elif not lines:
            continue
        elif block.times[0] >= block.times[1]:
            start, end = block.times
            lost.append(f"{where}: it ends at {end:g} s, not after its start at {start:g} s; left out")
        else:
            timed.append((*block.times, lines))
    timed.sort(key=lambda cue: cue[:2])
    fresh, repeats = _without_repeats(timed)
    cues, sounds, labels = [], 0, 0
    for start, end, words in fresh:
        text = spoken(words)
        sounds += not text
        labels += bool(text) and text != " ".join(words.split())
        if text:
            cues.append(Cue(start, end, text))
    if sounds:
        said.append(f"{sounds} cues without words, such as [Music], left out")
    if labels:
        said.append(f"sounds, song or names of speakers taken out of {labels} cues")
    if repeats:
        said.append(f"{repeats} repeats of rolling captions left out")
    if not cues:
        said.append("nothing is said in it")
    return Subtitles(tuple(cues), tuple(lost), tuple(said))


def _blocks(text: str) -> list[Block]:
    """A block for each timing line, with the lines down to the next one; and for lines that belong to none.

    An empty line ends a block's words in WebVTT. In SubRip words may go on after one: converters write such files. A
    line of spaces is no empty line: YouTube has them within a cue.
    """
    webvtt = text.lstrip().startswith("WEBVTT")
    blocks: list[Block] = []
    for first, lines in _paragraphs(text):
        timings = [i for i, line in enumerate(lines) if _TIMING.fullmatch(line) or _BROKEN_TIMING.match(line)]
        above = lines[: timings[0]] if timings else lines
        if webvtt and _NOT_CUES.match(lines[0]):
            above = []
        elif above and (above[-1].strip().isdecimal() or (webvtt and timings)):
            above = above[:-1]  # the number or name of the next cue
        if above and not webvtt and blocks and blocks[-1].times:
            blocks[-1].lines += above
        elif above:
            blocks.append(Block(first, None, above))
        for i, until in pairwise([*timings, len(lines)]):
            below = lines[i + 1 : until]
            if until < len(lines) and below and below[-1].strip().isdecimal():
                below = below[:-1]  # the empty line above the next cue's number is missing
            timing = _TIMING.fullmatch(lines[i])
            if timing:
                parts = timing.groups()
                blocks.append(Block(first + i, (_seconds(*parts[:4]), _seconds(*parts[4:])), below))
            else:
                blocks.append(Block(first + i, None, [lines[i], *below]))
    return blocks


def _paragraphs(text: str) -> Iterator[tuple[int, list[str]]]:
    """Lines between empty lines, with the number of the first, from 1."""
    lines: list[str] = []
    number = 0
    for number, line in enumerate([*text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), ""], 1):
        if line:
            lines.append(line)
        elif lines:
            yield number - len(lines), lines
            lines = []


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    return (int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds) + float(f"0.{fraction or 0}")


def _plain(line: str) -> str:
    """A line without markup."""
    line = html.unescape(_TAG.sub("", line)).replace("\\N", " ").replace("\\h", " ")
    return " ".join(_INVISIBLE.sub("", line).split())


def _without_repeats(timed: Sequence[tuple[float, float, list[str]]]) -> tuple[list[tuple[float, float, str]], int]:
    """Start, end and lines of cues without the words that the cue before them showed, and how many had such words.

    Rolling captions show each line twice or more while new ones come in below. Somebody who says "stir" twice is not
    rolling: words are taken for repeats where the two cues overlap in time, or where half of the file's cues repeat. A cue
    that only repeats keeps the one that it repeats on the screen: so a sentence whose words are highlighted one by one
    lasts until the last of them.
    """
    repeated = [0, *(_repeated_words(before, cue) for before, cue in pairwise(timed))][: len(timed)]
    rolling = 2 * sum(map(bool, repeated)) >= len(timed)
    fresh: list[tuple[float, float, str]] = []
    repeats, last_end, shown = 0, 0.0, 0.0

    def extend() -> None:
        if fresh and shown - fresh[-1][1] >= _GLIMPSE:
            fresh[-1] = (fresh[-1][0], shown, fresh[-1][2])

    for (start, end, lines), count in zip(timed, repeated, strict=True):
        repeats_only = False
        if count and (rolling or start < last_end):
            lines, repeats = _after_words(lines, count), repeats + 1
            repeats_only = not lines
        if repeats_only:
            shown = max(shown, end)
        else:
            extend()
            fresh.append((start, end, "\n".join(lines)))
            shown = end
        last_end = end
    extend()
    return fresh, repeats


def _after_words(lines: Sequence[str], count: int) -> list[str]:
    """The lines without their first words."""
    left = []
    for line in lines:
        words = line.split()
        if len(words) > count:
            left.append(" ".join(words[count:]))
        count = max(count - len(words), 0)
    return left


def _repeated_words(before: tuple[float, float, list[str]], cue: tuple[float, float, list[str]]) -> int:
    """How many of a cue's first words are the last ones of the cue before: whole lines of it, or all that cue's words."""
    if cue[0] > before[1] + _TOUCHING:
        return 0
    old, new = " ".join(before[2]).split(), " ".join(cue[2]).split()
    whole_lines = {len(" ".join(cue[2][:count]).split()) for count in range(1, len(cue[2]) + 1)}
    for count in sorted(whole_lines | {len(old)}, reverse=True):
        if count <= min(len(old), len(new)) and old[-count:] == new[:count]:
            return count
    return 0

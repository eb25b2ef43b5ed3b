"""Transcripts of speech recognition (.json, .tsv) → cues: of Whisper, faster-whisper, WhisperX and whisper.cpp."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from egoinstructor.errors import InputError
from egoinstructor.library.encodings import decode_text
from egoinstructor.library.subtitles import Block, Subtitles, cues_of

TRANSCRIPT_SUFFIXES = (".json", ".tsv")
"""The files taken for transcripts where their content is one, in any case."""


def read_transcript(path: Path, language: str = "") -> Subtitles | None:
    """Read a file; None for JSON or a table of another kind.

    Args:
        path: of the file.
        language: as for `read_subtitles`.

    Raises:
        InputError: it can't be read, or isn't text, or is JSON that can't be parsed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}. Check the path and its permissions.") from error
    text, notes = decode_text(data, path, language)
    found = parse_transcript(text, path)
    return None if found is None else replace(found, notes=(*notes, *found.notes))


def parse_transcript(text: str, path: Path) -> Subtitles | None:
    """Read a transcript; None for JSON or a table of another kind.

        Whisper     {"segments": [{"start": 1.0, "end": 4.0, "text": " now we peel"}]}      seconds
        whisper.cpp {"transcription": [{"offsets": {"from": 0, "to": 3000}, "text": "…"}]}  milliseconds
        .tsv        start, end, text, under a line that says so                             milliseconds

    Args:
        text: the file's.
        path: of the file; its suffix tells the form.

    Raises:
        InputError: JSON that can't be parsed.
    """
    return _table(text) if path.suffix.lower() == ".tsv" else _json(text, path)


def _json(text: str, path: Path) -> Subtitles | None:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}. Write it anew, or remove it.") from error
    if isinstance(data, dict) and isinstance(data.get("segments"), list):
        entries, scale = data["segments"], 1.0
    elif isinstance(data, dict) and isinstance(data.get("transcription"), list):
        offsets = [entry.get("offsets") if isinstance(entry, dict) else None for entry in data["transcription"]]
        entries = [
            {"start": span.get("from"), "end": span.get("to"), "text": entry.get("text")}
            for entry, span in zip(data["transcription"], offsets, strict=True)
            if isinstance(span, dict)
        ]
        scale = 1e-3
    elif isinstance(data, list) and data and all(isinstance(entry, dict) for entry in data):
        entries, scale = data, 1.0
    else:
        return None
    blocks = [_block(entry, place, scale) for place, entry in enumerate(entries, 1)]
    return cues_of(blocks) if any(block.times for block in blocks) or not blocks else None


def _block(entry: Any, place: int, scale: float) -> Block:
    """One entry; without times where it has none."""
    values = entry if isinstance(entry, dict) else {}
    words = values.get("text")
    times = _times(values.get("start"), values.get("end"), scale)
    lines = words.split("\n") if isinstance(words, str) else []
    return Block(place, times if isinstance(words, str) else None, lines, "entry")


def _table(text: str) -> Subtitles | None:
    lines = text.splitlines()
    if not lines or [name.strip().lower() for name in lines[0].split("\t")] != ["start", "end", "text"]:
        return None
    blocks = []
    for number, line in enumerate(lines[1:], 2):
        start, end, words = [*line.split("\t", 2), "", "", ""][:3]
        if line.strip():
            blocks.append(Block(number, _times(start, end, 1e-3), [words]))
    return cues_of(blocks)


def _times(start: Any, end: Any, scale: float) -> tuple[float, float] | None:
    try:
        seconds = float(start) * scale, float(end) * scale
    except (TypeError, ValueError):
        return None
    right = all(math.isfinite(time) and time >= 0 for time in seconds) and not isinstance(start, bool)
    return seconds if right else None

"""Narration text → what was said: without sounds in brackets, song, speaker labels and dialogue marks.

Captions for the deaf and speech recognition write more than words: `[Music]`, `(APPLAUSE)`, `♪ la la ♪`, `*sizzling*`,
`[SPEAKER_00]:`, `>> ANN:`. Repeats of rolling captions are to be removed before, since what repeats may be a sound.
"""

from __future__ import annotations

import re

_BRACKETS = re.compile(r"\[[^\[\]]*\]|【[^【】]*】|〔[^〔〕]*〕|［[^［］]*］")  # always a label or a sound
_SONG = re.compile(r"[♪♫♬][^♪♫♬]*[♪♫♬]")
_OPEN_SONG = re.compile(r"[♪♫♬].*")
_ASIDE = re.compile(r"[(（]([^()（）]*)[)）]|\*([^*\s][^*]*)\*")
_SOUNDS = re.compile(
    r"\b(?:music\w*|applau\w*|laugh\w*|chuckl\w*|giggl\w*|cheer\w*|clap\w*|sigh\w*|cough\w*|gasp\w*|groan\w*|sniff\w*|"
    r"sizzl\w*|sing(?:s|ing)|song|hum(?:s|ming)|whistl\w*|inaudible|indistinct|unintelligible|crosstalk|silence|"
    r"knock\w*|bang(?:s|ing)|beep\w*|click\w*|buzz\w*|clatter\w*|clank\w*|chatter\w*|bark(?:s|ing)|speak(?:s|ing)|"
    r"foreign language|narrator|voice-?over|off-?screen|noise\w*|sound\w*|blank_audio|instrumental\w*)\b",
    re.IGNORECASE,
)
_DASH = re.compile(r"^\s*[-–—‐]+\s+")
_CHEVRONS = re.compile(r"(?:>>+|&gt;&gt;)\s*")
_LABEL = re.compile(
    r"^\s*(?:(?i:speaker)[ _]?\w{1,3}|[A-ZÀ-Þ][A-ZÀ-Þ.'’&-]+(?: [A-ZÀ-Þ.'’&-]+){0,2})\s*[:：]\s+", re.ASCII
)
_LEFT_BY_LABEL = re.compile(r"^\s*[:：]\s*")


def spoken(text: str) -> str:
    """The words of a narration that were said, with single spaces; "" where nothing was.

    Round brackets and asterisks are removed where they hold a sound, hold capitals only, or hold the whole line: "add it
    (about a cup)" stays. Song is between notes, or after one to the end of its line. Applying it twice changes nothing.

    Args:
        text: one cue or narration; lines count, since labels stand at their beginnings.
    """
    said = " ".join(part for line in text.splitlines() if (part := _spoken_line(line)))
    return said if said == text else spoken(said)  # brackets may span lines


def _spoken_line(line: str) -> str:
    before = None
    while line != before:  # a label may hide another: "- [Ann]: >> now"
        before = line
        line = _OPEN_SONG.sub(" ", _SONG.sub(" ", line))
        line = _BRACKETS.sub(" ", line)
        line = _ASIDE.sub(_aside, line)
        line = _CHEVRONS.sub(" ", _DASH.sub("", _LEFT_BY_LABEL.sub("", line)))
        line = _LABEL.sub("", line)
        line = " ".join(line.split())
    return line if any(map(str.isalnum, line)) else ""


def _aside(match: re.Match[str]) -> str:
    """Replace words in round brackets or between asterisks: by a space where they are a sound, else by themselves."""
    said = match.group(1) if match.group(1) is not None else match.group(2)
    whole = not match.string[: match.start()].strip(" -–>") and not match.string[match.end() :].strip(" .!?")
    letters = [letter for letter in said if letter.isalpha()]
    shouted = len(letters) > 1 and all(map(str.isupper, letters))
    return " " if whole or shouted or _SOUNDS.search(said) else match.group(0)

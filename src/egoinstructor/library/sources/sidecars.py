"""Files of words beside a video: which video a file belongs to by its name, and which of several is read.

Tools name them in many ways: `a.srt`, `a.mp4.srt` (whisper.cpp), `a_en.vtt` (faster-whisper), `a.English.srt`,
`a.en.sdh.srt`, `a.en.forced.srt` (Plex, Jellyfin), `a.pt-BR.vtt` (yt-dlp), `a.json` (WhisperX).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from egoinstructor.library.subtitles import SUBTITLE_SUFFIXES
from egoinstructor.library.transcripts import TRANSCRIPT_SUFFIXES

SUFFIXES = (*SUBTITLE_SUFFIXES, *TRANSCRIPT_SUFFIXES)
"""The files that are read for words, in any case; where a video has several, the first is preferred."""

UNREAD = (
    ".ass",
    ".ssa",
    ".sub",
    ".sbv",
    ".ttml",
    ".dfxp",
    ".lrc",
    ".smi",
    ".stl",
    ".srv1",
    ".srv2",
    ".srv3",
    ".json3",
    ".txt",
)
"""Files that may hold words in a form that isn't read."""

_CODE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{2,8})*", re.IGNORECASE)
_NAMES = {
    "english": "en", "german": "de", "deutsch": "de", "french": "fr", "francais": "fr", "français": "fr",
    "spanish": "es", "espanol": "es", "español": "es", "italian": "it", "italiano": "it", "portuguese": "pt",
    "russian": "ru", "chinese": "zh", "mandarin": "zh", "japanese": "ja", "korean": "ko", "dutch": "nl",
    "polish": "pl", "turkish": "tr", "arabic": "ar", "hindi": "hi", "swedish": "sv", "danish": "da", "norwegian": "no",
    "finnish": "fi", "greek": "el", "hebrew": "he", "czech": "cs", "hungarian": "hu", "romanian": "ro",
    "ukrainian": "uk", "vietnamese": "vi", "thai": "th", "indonesian": "id", "bulgarian": "bg", "persian": "fa",
}  # fmt: skip
_FLAGS = {
    "sdh",
    "cc",
    "hi",
    "forced",
    "foreign",
    "default",
    "auto",
    "asr",
    "orig",
    "original",
    "full",
    "whisper",
    "whisperx",
}


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A file of words beside a video.

    Args:
        path: relative to the folder that was searched.
        language: by its name, such as "en" or "pt-br"; "" where that doesn't tell.
        forced: holds only what is said in a foreign language.
        described: holds sounds and speakers too.
        strange: parts of the name that are neither a language nor a known mark.
    """

    path: Path
    language: str
    forced: bool = False
    described: bool = False
    strange: int = 0


def owner(file: PurePath, videos: Mapping[str, Collection[Path]]) -> tuple[Collection[Path], Sidecar] | None:
    """The videos that a file of words belongs to: those whose whole name it begins with, the longest such name.

    Args:
        file: its path.
        videos: by name, with and without suffix, of the same folder.
    """
    name = file.stem
    whole = videos.get(name)
    if whole:
        return whole, Sidecar(Path(file), "")
    for end in range(len(name) - 1, 0, -1):
        if name[end] in "._" and (found := videos.get(name[:end])):
            sidecar = _read(file, name[end:])
            if sidecar.strange and "_" in name[end:]:
                return None  # soup_2.srt is of soup_2.mp4, wherever that is
            return found, sidecar
    return None


def _read(file: PurePath, rest: str) -> Sidecar:
    """Parse the parts of a name after the video's."""
    language, flags, strange = "", set(), 0
    for part in re.split(r"[._]", rest.replace("_", "-", 0).strip("._")):
        word = part.lower()
        if word in _NAMES and not language:
            language = _NAMES[word]
        elif word in _FLAGS and (language or word != "hi"):
            flags.add(word)
        elif _CODE.fullmatch(word) and not language:
            language = word
        elif re.fullmatch(r"[a-z]{2}|[a-z]{4}|[0-9]{3}", word) and language and "-" not in language:
            language = f"{language}-{word}"  # pt_BR
        else:
            strange += 1
    described = bool(flags & {"sdh", "cc", "hi"})
    return Sidecar(Path(file), language, bool(flags & {"forced", "foreign"}), described, strange)


def ranked(sidecars: Collection[Sidecar], language: str | None) -> list[Sidecar]:
    """The files to read, the best first: in the language asked for (`en` is `en-US` too), or of none that the name tells.

    Without a language: those whose name tells none, then English, then the others by name. Complete ones go before forced
    ones, plain ones before those for the deaf, `.srt` before `.vtt`, `.json` and `.tsv`.
    """
    wanted = (language or "en").replace("_", "-").lower()

    def fit(sidecar: Sidecar) -> int:
        if language is None and not sidecar.language:
            return -1
        if sidecar.language == wanted:
            return 0
        return 1 if sidecar.language.startswith(f"{wanted}-") else 3 if sidecar.language else 2

    def rank(sidecar: Sidecar) -> tuple[bool, bool, int, str, int, bool, int, str]:
        suffix, tongue = SUFFIXES.index(sidecar.path.suffix.lower()), sidecar.language
        # What isn't named as words of the video, such as yt-dlp's a.info.json, comes last.
        strange, order = bool(sidecar.strange), sidecar.strange
        return sidecar.forced, strange, fit(sidecar), tongue, order, sidecar.described, suffix, str(sidecar.path)

    return sorted((sidecar for sidecar in sidecars if language is None or fit(sidecar) < 3), key=rank)

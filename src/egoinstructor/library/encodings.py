"""Bytes of a subtitle file → text. What can't be decoded for certain is refused: mojibake is worse than no words.

UTF-8 and UTF-16 are certain. A legacy encoding is one of those that the file's language is written in, chosen by
charset-normalizer where there are several; without a language, Windows-1252 for text that looks Western in it, or, of long
texts in another script, what charset-normalizer finds.
"""

from __future__ import annotations

import codecs
import unicodedata
from itertools import pairwise
from pathlib import Path

from egoinstructor.errors import InputError, require_extra

_CYRILLIC = ("cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic")
_CENTRAL = ("cp1250", "iso8859_2", "cp852")
_WESTERN = ("cp1252", "mac_roman")
_BY_LANGUAGE = {
    **dict.fromkeys(("ru", "uk", "be", "bg", "sr", "mk"), _CYRILLIC),
    **dict.fromkeys(("pl", "cs", "sk", "hu", "sl", "hr", "ro", "bs", "sq"), _CENTRAL),
    **dict.fromkeys(("en", "de", "fr", "es", "it", "pt", "nl", "sv", "da", "no", "nb", "fi", "is", "ca"), _WESTERN),
    "zh": ("gb18030", "big5hkscs"),
    "ja": ("cp932", "euc_jp", "iso2022_jp"),
    "ko": ("cp949",),
    "el": ("cp1253", "iso8859_7"),
    "tr": ("cp1254",),
    "he": ("cp1255",),
    "ar": ("cp1256", "iso8859_6"),
    "fa": ("cp1256",),
    "lt": ("cp1257",),
    "lv": ("cp1257",),
    "et": ("cp1257",),
    "vi": ("cp1258",),
    "th": ("cp874",),
}
_SCRIPTS = {
    "zh": ("CJK",), "ja": ("CJK", "HIRAGANA", "KATAKANA"), "ko": ("HANGUL", "CJK"), "el": ("GREEK",), "he": ("HEBREW",),
    "ar": ("ARABIC",), "fa": ("ARABIC",), "th": ("THAI",),
    **dict.fromkeys(("ru", "uk", "be", "bg", "sr", "mk"), ("CYRILLIC",)),
}  # fmt: skip
"""Beginnings of the Unicode names of a language's letters; Latin where it isn't listed."""

_COMMON = {"gb18030": ("gb2312", 0xB0, 0xD7), "big5hkscs": ("big5", 0xA4, 0xC6)}
"""For each Chinese encoding: the base encoding, and the range of first bytes that its common characters have there."""

_NAMES = {"cp1252": "Windows-1252", "cp1251": "Windows-1251", "cp1250": "Windows-1250"}
_LONG, _SURE = 100, 50  # bytes beyond ASCII, and per cent of the detector's measure, that are believed


def decode_text(data: bytes, path: Path, language: str = "") -> tuple[str, list[str]]:
    """Decode a text file.

    Args:
        data: its bytes.
        path: as a message names it.
        language: of its words, such as "ru" or "pt-br"; "" where it isn't known.

    Returns:
        The text, and a note where the encoding isn't marked or usual.

    Raises:
        InputError: no text, or one whose encoding can't be told.
        MissingExtraError: charset-normalizer is needed and not installed.
    """
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return data.decode(encoding, "replace"), []
    if b"\0" in data:  # UTF-16 without its mark: every second byte of times and line ends is 0
        even, odd = data[::2].count(0), data[1::2].count(0)
        encoding = "utf-16-le" if odd > even else "utf-16-be"
        if max(even, odd) * 4 < len(data) or min(even, odd) * 50 > len(data):
            raise InputError(f"{path} is no text file. Replace it by subtitles (.srt or .vtt), or remove it.")
        return data.decode(encoding, "replace"), [f"no mark of its encoding; read as {encoding}"]
    try:
        return data.decode(), []
    except UnicodeDecodeError:
        pass
    found = _legacy(data, language.partition("-")[0])
    if found is None:
        raise InputError(
            f"{path} is not UTF-8, and its encoding can't be told{f' for language {language!r}' if language else ''}; its "
            "words are left out. Save it as UTF-8, or put the language in its name, as in a.ru.srt."
        )
    text, encoding = found
    return text, [f"not UTF-8; read as {_NAMES.get(encoding, encoding)}"]


def _legacy(data: bytes, language: str) -> tuple[str, str] | None:
    """Text and encoding, where they can be told."""
    require_extra("charset_normalizer", "library", "Subtitles that are not UTF-8")
    from charset_normalizer import from_bytes

    if language in _BY_LANGUAGE:
        usual = [name for name in _BY_LANGUAGE[language] if _fits(data, name, language)]
        if len(usual) > 1:
            best = from_bytes(data, cp_isolation=usual, threshold=1.0).best()
            # KOI8 has capitals where Windows-1251 has small letters, so that both decode to words.
            usual.sort(key=lambda name: (_shouts(data.decode(name)), best is None or best.encoding != name))
        return (data.decode(usual[0]), usual[0]) if usual else None
    if _fits(data, "cp1252", "en"):
        return data.decode("cp1252"), "cp1252"
    # Most bytes are letters in several encodings. Only of long texts in another script the detector's choice is believed.
    fitting = sorted({name for tongue in _SCRIPTS for name in _BY_LANGUAGE[tongue] if _fits(data, name, tongue)})
    if language or not fitting or sum(byte > 127 for byte in data) < _LONG:
        return None
    best = from_bytes(data, cp_isolation=fitting).best()
    return None if best is None or best.percent_coherence < _SURE else (str(best), best.encoding)


def _are_common(letters: list[str], encoding: str, first: int, last: int) -> bool:
    """Check that most Chinese characters are common ones: bytes of another script decode to rare ones."""
    characters = [letter.encode(encoding, "ignore") for letter in letters if letter.isalpha()]
    return 10 * sum(code != b"" and first <= code[0] <= last for code in characters) >= 7 * len(characters)


def _shouts(text: str) -> bool:
    """Check if most letters are capitals."""
    return sum(map(str.isupper, text)) > sum(map(str.islower, text))


def _fits(data: bytes, encoding: str, language: str) -> bool:
    """Check that bytes decode to words in a language's own letters."""
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return False
    strange = [letter for letter in text if ord(letter) > 127]
    if any(unicodedata.category(letter) in ("Cc", "Co", "Cn") for letter in strange):
        return False
    scripts = _SCRIPTS.get(language, ("LATIN",))
    foreign = [c for c in strange if c.isalpha() and not unicodedata.name(c, "").startswith(scripts)]
    if len(foreign) * 20 > len(strange):
        return False
    if scripts != ("LATIN",):
        # The same bytes in another Cyrillic encoding give letters too, but with capitals within words.
        inner = sum(a.islower() and b.isupper() for a, b in pairwise(text))
        return inner * 20 <= len(strange) and (encoding not in _COMMON or _are_common(strange, *_COMMON[encoding]))
    # Western text has few letters beyond ASCII, and no signs within words.
    letters = sum(map(str.isalpha, text))
    inner = sum(
        a.isalpha() and b.isalpha() and not s.isalpha() and ord(s) > 127 and s not in "’‘­·"
        for a, s, b in zip(text, text[1:], text[2:], strict=False)
    )
    return inner == 0 and 3 * sum(map(str.isalpha, strange)) <= letters

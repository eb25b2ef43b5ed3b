"""Values of the right type out of files that people write: each check names the place, the value and what is allowed."""

from __future__ import annotations

import codecs
import io
import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from egoinstructor.errors import InputError

_CLOCK = re.compile(r"(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:[.,]\d*)?)")
_NUMBER = re.compile(r"[-+]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][-+]?\d+)?")


def parse_seconds(text: str) -> float:
    """Read a time: seconds (`62.5`, `62,5`) or a clock time (`1:02.5`, `00:01:02,500`).

    Raises:
        ValueError: neither of them.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return float(text.replace(",", "."))
    clock = _CLOCK.fullmatch(text)
    if clock is None:
        raise ValueError(f"{text!r} is no time; give seconds, as 62.5, or a clock time, as 1:02.5")
    hours, minutes, seconds = clock.groups()
    return (int(hours or 0) * 60 + int(minutes)) * 60 + float(seconds.replace(",", "."))


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without its mark, or in UTF-16 with it.

    Raises:
        InputError: it can't be read.
    """
    try:
        data = path.read_bytes()
        encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        return io.TextIOWrapper(io.BytesIO(data), encoding).read()  # line ends as in a file that is read as text
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}. Save it as UTF-8.") from error


def parse_json(text: str, where: str) -> Any:
    """Any JSON value.

    Raises:
        InputError: it is not JSON, or an object in it has a key twice, of which one would be lost.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise InputError(f"{where} has {twice!r} twice; each may be there once. Remove or rename one.")
        return record

    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not JSON: {error}.") from error


def check(right: bool, value: object, where: str, allowed: str) -> None:
    """Refuse a value.

    Raises:
        InputError: it is not right.
    """
    if not right:
        raise InputError(f"{where}: {reprlib.repr(value)} is of type {type(value).__name__}; it must be {allowed}.")


def json_lines(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """The objects of a JSONL, each with its line number from 1 and its place as a message names it; blank lines pass.

    Raises:
        InputError: it can't be read, or a line is not an object.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):  # not at U+2028, which a text may hold
        if line.strip():
            where = f"{path}, line {number}"
            yield number, where, as_object(parse_json(line, where), where)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
        InputError: it can't be read, or holds something else.
    """
    return as_object(parse_json(read_text(path), str(path)), str(path))


def as_object(value: Any, where: str) -> dict[str, Any]:
    """The value, which must be an object."""
    check(isinstance(value, dict), value, where, "an object")
    return cast(dict[str, Any], value)


def as_list(value: Any, where: str) -> list[Any]:
    """The value, which must be a list."""
    check(isinstance(value, list), value, where, "a list")
    return cast(list[Any], value)


def only(record: dict[str, Any], keys: tuple[str, ...], where: str) -> dict[str, Any]:
    """The record, which must have no other keys."""
    if unknown := sorted(record.keys() - set(keys)):
        raise InputError(f"{where}: unknown key {unknown[0]!r}; allowed are {', '.join(keys)}.")
    return record


def get(record: dict[str, Any], key: str, where: str) -> Any:
    """The value of a key that must be there."""
    if key not in record:
        raise InputError(f"{where} has no {key!r}; it has {', '.join(map(repr, record)) or 'nothing'}.")
    return record[key]


def text(record: dict[str, Any], key: str, where: str) -> str:
    """The text of a key that must be there."""
    value = get(record, key, where)
    check(isinstance(value, str), value, f"{where}.{key}", "text")
    return cast(str, value)


def number(record: dict[str, Any], key: str, where: str) -> float:
    """A finite number."""
    value = get(record, key, where)
    right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    check(right, value, f"{where}.{key}", "a number")
    return float(value)


def seconds(record: dict[str, Any], key: str, where: str) -> float:
    """A time in seconds; as text too, also a clock time: see `parse_seconds`."""
    value = get(record, key, where)
    try:
        seconds = (
            math.nan if isinstance(value, bool) else parse_seconds(value) if isinstance(value, str) else float(value)
        )
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    check(math.isfinite(seconds), value, f"{where}.{key}", "a number of seconds, or a clock time such as 1:02.5")
    return seconds

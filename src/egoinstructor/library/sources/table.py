"""Tables of clips: CSV, TSV or JSONL with `video, start, end, narration`, and `refined` and `source` if there are any.

As spreadsheets and pandas write them: fields apart by comma, semicolon or tab, a line `sep=;`, UTF-8 or UTF-16, decimal
commas, clock times, an index column, `NaN` for nothing.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from egoinstructor import fields
from egoinstructor.errors import InputError
from egoinstructor.library.sources.paths import Names
from egoinstructor.library.sources.rows import Finding, Row, SourceVideo, because, clean

REQUIRED = ("video", "start", "end")
COLUMNS = (*REQUIRED, "narration", "refined", "source")
TABLE_SUFFIXES = (".csv", ".tsv")
DELIMITERS = (",", ";", "\t")
NOTHING = frozenset(("nan", "none", "null", "<na>", "n/a", "nat"))
"""Words that stand for no words, in any case."""

_Place = tuple[int, str]  # a line's number, and how a message names it


class TableSource:
    """The rows of a table, by video. One that can't be used is a finding; the others go in.

    Args:
        path: a file that ends in `.csv`, `.tsv` or `.jsonl`.
        root: the folder that the videos' paths start from.
        name: of the collection, where a row names none.
        allow_outside: let videos lie outside the root.

    Raises:
        InputError: it can't be read, or its columns are others.
    """

    def __init__(self, path: Path, root: Path, name: str, *, allow_outside: bool = False) -> None:
        self.root = root
        self._findings: list[Finding] = []
        self._rows: dict[tuple[str, str], list[Row]] = defaultdict(list)
        names = Names(root, allow_outside=allow_outside)
        records = _json_records(path) if path.suffix.lower() == ".jsonl" else self._csv_records(path)
        for (number, where), record in records:
            try:
                if isinstance(record, InputError):
                    raise record
                video = names.find(fields.text(record, "video", where))
                row = _row(record, where, f"{path.name}, line {number}")
                self._rows[clean(_optional(record, "source", where)) or name, video].append(row)
            except InputError as error:
                self._findings.append(Finding("row", path.name, f"line {number}", because(error, where)))

    def __len__(self) -> int:
        """Number of videos."""
        return len(self._rows)

    def __iter__(self) -> Iterator[SourceVideo | Finding]:
        """The videos in the order of their first rows."""
        yield from self._findings
        for (source, video), rows in self._rows.items():
            yield SourceVideo(source, video, tuple(rows))

    def _csv_records(self, path: Path) -> Iterator[tuple[_Place, dict[str, Any] | InputError]]:
        """The records of a CSV or TSV whose first line names the columns; a finding for columns that aren't read."""
        text, skipped = fields.read_text(path), 0
        if text[:4].lower() == "sep=":  # written for Excel
            skipped, text = 1, text.partition("\n")[2]
        reader = csv.reader(io.StringIO(text), delimiter=_delimiter(text))
        try:
            header = [column.strip().lower() for column in next(reader, [])]
            while header and not header[-1]:
                header.pop()
            _check_columns(header, path)
            if unread := [column or "(no name)" for column in header if column not in COLUMNS]:
                reason = f"columns that aren't read: {', '.join(unread)}"
                self._findings.append(Finding("note", path.name, "", reason))
            for values in reader:
                number = reader.line_num + skipped
                where = f"{path}, line {number}"
                if not any(values):
                    continue
                while len(values) > len(header) and not values[-1]:
                    values.pop()
                if len(values) != len(header):
                    error = InputError(f"{len(values)} fields; there must be {len(header)}: {', '.join(header)}.")
                    yield (number, where), error
                else:
                    yield (number, where), dict(zip(header, values, strict=True))
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num + skipped}: {error}. Correct it.") from error


def _row(record: dict[str, Any], where: str, short: str) -> Row:
    start, end = (
        None if record.get(key) in (None, "") else fields.seconds(record, key, where) for key in ("start", "end")
    )
    narration, refined = (clean(_optional(record, key, where)) for key in ("narration", "refined"))
    return Row(start, end, narration, refined, short)


def _optional(record: dict[str, Any], key: str, where: str) -> str:
    value = record.get(key)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = fields.text(record, key, where)
    return "" if text.strip().lower() in NOTHING else text


def _delimiter(text: str) -> str:
    """The delimiter with which most of the header's column names are known."""
    first = text.partition("\n")[0]

    def known(delimiter: str) -> int:
        return sum(column.strip().lower() in COLUMNS for column in next(csv.reader([first], delimiter=delimiter), []))

    return max(DELIMITERS, key=known)


def _check_columns(header: list[str], path: Path) -> None:
    known = [column for column in header if column in COLUMNS]
    absent = [column for column in COLUMNS if column not in header]
    typos = [column for column in header if column not in COLUMNS and get_close_matches(column, absent, 1, 0.8)]
    if typos or not set(REQUIRED) <= set(known) or len(set(known)) < len(known):
        meant = f" {typos[0]!r} may be meant for {get_close_matches(typos[0], absent, 1, 0.8)[0]!r}." if typos else ""
        raise InputError(
            f"{path}: its first line names the columns {', '.join(map(repr, header)) or 'none'}; it must name "
            f"{', '.join(REQUIRED)}, and may name {', '.join(COLUMNS[len(REQUIRED) :])}, each once.{meant}"
        )


def _json_records(path: Path) -> Iterator[tuple[_Place, dict[str, Any] | InputError]]:
    """The records of a JSONL."""
    for number, line in enumerate(fields.read_text(path).split("\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                record = fields.only(fields.as_object(fields.parse_json(line, where), where), COLUMNS, where)
            except InputError as error:
                yield (number, where), error
            else:
                yield (number, where), record

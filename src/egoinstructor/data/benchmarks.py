"""The benchmarks that the paper's retriever is measured on, in the original's files: what is asked of each.

youcook2       JSON  {"0": {"video_id", "start_second", "end_second", "task", "text"}, …}
features or videos in {task}/{video_id}; exo clips ↔ their texts
charades-ego   JSON  {"0": {"ego_vid", "ego_start_second", "ego_end_second", "exo_vid", …}, …}; ego ↔ exo, row by row
egolearner     JSON  {"0": {"query": {"video_id", "start_second", "end_second"}, "choices": {"0": {…}, …}, "answer": 2,
"types": 1}, …}; which choice shows what the query shows: 1 ego → exo, 2 exo → ego
ek100-mir      CSV   EPIC_100_retrieval_test.csv, with …_sentence.csv beside it, and a relevancy matrix (videos,
sentences); ego clips ↔ sentences
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal, get_args

from egoinstructor import fields
from egoinstructor.data.clips import Span
from egoinstructor.errors import InputError
from egoinstructor.retriever.interface import View

Benchmark = Literal["ek100-mir", "youcook2", "charades-ego", "egolearner"]
BENCHMARKS: tuple[Benchmark, ...] = get_args(Benchmark)

_TYPES: dict[int, View] = {1: "ego", 2: "exo"}
_SUFFIXES = (".mp4", ".mkv", ".webm")


@dataclass(frozen=True, slots=True)
class NarratedSpan:
    """Clips and texts.

    Args:
        clips: of one view.
        texts: as many, each a clip's own; or others, which a relevancy matrix says the answers among.
    """

    clips: list[Span]
    texts: list[str]


@dataclass(frozen=True, slots=True)
class Choice:
    """A clip, and clips of the other view of which one shows the same.

    Args:
        view: of the query.
        query: the clip.
        choices: of the other view.
        answer: the right one's place.
    """

    view: View
    query: Span
    choices: tuple[Span, ...]
    answer: int


def read_youcook2(path: str | os.PathLike[str]) -> NarratedSpan:
    """Exo clips, each with its text.

    Raises:
        InputError: it can't be read, or a value is missing or of the wrong type.
    """

    def clip(record: dict[str, Any], where: str) -> tuple[Span, str]:
        task = fields.get(record, "task", where)
        fields.check(
            isinstance(task, str | int) and not isinstance(task, bool), task, f"{where}.task", "text or a number"
        )
        name, start, end = _span(record, where)
        return (f"{task}/{name}", start, end), fields.text(record, "text", where)

    rows = _numbered(path, clip)
    return NarratedSpan([span for span, _ in rows], [text for _, text in rows])


def read_charades_ego(path: str | os.PathLike[str]) -> tuple[list[Span], list[Span]]:
    """Ego clips and exo clips; row i of one shows what row i of the other shows.

    Raises:
        InputError: as `read_youcook2`.
    """

    def pair(record: dict[str, Any], where: str) -> tuple[Span, Span]:
        ego, exo = (
            _span(record, where, f"{view}_vid", f"{view}_start_second", f"{view}_end_second") for view in ("ego", "exo")
        )
        return ego, exo

    rows = _numbered(path, pair)
    return [ego for ego, _ in rows], [exo for _, exo in rows]


def read_egolearner(path: str | os.PathLike[str]) -> list[Choice]:
    """The questions.

    Raises:
        InputError: as `read_youcook2`, or an answer that is no choice.
    """

    def question(record: dict[str, Any], where: str) -> Choice:
        kind, answer = (fields.get(record, key, where) for key in ("types", "answer"))
        fields.check(type(kind) is int and kind in _TYPES, kind, f"{where}.types", "1 (ego → exo) or 2 (exo → ego)")
        choices = _in_order(fields.as_object(fields.get(record, "choices", where), f"{where}.choices"), where)
        right = type(answer) is int and 0 <= answer < len(choices)
        fields.check(right, answer, f"{where}.answer", f"a whole number from 0 to {len(choices) - 1}")
        return Choice(
            view=_TYPES[kind],
            query=_span(fields.as_object(fields.get(record, "query", where), f"{where}.query"), f"{where}.query"),
            choices=tuple(_span(choice, f"{where}.choices.{i}") for i, choice in enumerate(choices)),
            answer=answer,
        )

    return _numbered(path, question)


def read_ek100_mir(path: str | os.PathLike[str]) -> NarratedSpan:
    """Ego clips of the CSV, and the sentences of the CSV of sentences beside it.

    Raises:
        InputError: one of them can't be read, or lacks a column.
    """
    path = Path(path)
    clips = [
        (_name(row["video_id"]), _clock(row, "start_timestamp", where), _clock(row, "stop_timestamp", where))
        for where, row in _csv_rows(path, ("video_id", "start_timestamp", "stop_timestamp"))
    ]
    beside = path.with_name(f"{path.stem}_sentence.csv")
    return NarratedSpan(clips, [row["narration"] for _, row in _csv_rows(beside, ("narration",))])


def _numbered(path: str | os.PathLike[str], read: Callable[[dict[str, Any], str], Any]) -> list[Any]:
    """The values of an object whose keys count from 0, in that order."""
    records = _in_order(fields.read_object(Path(path)), str(path))
    return [read(record, f"{path}: {number}") for number, record in enumerate(records)]


def _in_order(content: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    if not content:
        raise InputError(f"{where} is empty.")
    if missing := next((str(i) for i in range(len(content)) if str(i) not in content), None):
        raise InputError(f"{where} has {len(content)} entries, but none has the key '{missing}'; keys count from '0'.")
    return [fields.as_object(content[str(i)], f"{where}: {i}") for i in range(len(content))]


def _span(
    record: dict[str, Any], where: str, name: str = "video_id", start: str = "start_second", end: str = "end_second"
) -> Span:
    video = _name(fields.text(record, name, where))
    return video, fields.seconds(record, start, where), fields.seconds(record, end, where)


def _name(video: str) -> str:
    """Without the suffix, which the original drops too."""
    return str(PurePath(video).with_suffix("")) if PurePath(video).suffix in _SUFFIXES else video


def _csv_rows(path: Path, columns: tuple[str, ...]) -> list[tuple[str, dict[str, str]]]:
    table = csv.DictReader(io.StringIO(fields.read_text(path), newline=""))
    if missing := [column for column in columns if column not in (table.fieldnames or ())]:
        raise InputError(f"{path} has no column {missing[0]!r}; it has {', '.join(table.fieldnames or ())}.")
    rows = []
    for row in table:
        where = f"{path}, line {table.line_num}"
        if short := [column for column in columns if row[column] is None]:
            raise InputError(f"{where} has no value for {short[0]!r}; it is too short.")
        rows.append((where, row))
    if not rows:
        raise InputError(f"{path} has no rows.")
    return rows


def _clock(row: Mapping[str, str], column: str, where: str) -> float:
    """Seconds of "hh:mm:ss.s"."""
    try:
        hours, minutes, seconds = row[column].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except (ValueError, AttributeError) as error:
        raise InputError(f"{where}: {column} is {row[column]!r}; it must be a time as 00:01:02.5.") from error

"""HowTo100M's files as the original reads them.

    refined  {"0": {"vid", "uid", "start_second", "end_second", "text", "refined_text", …}, …}    clips
    raw      {vid: {"start": […], "end": […], "text": […]}, …}                                    cues of the captions

A file is held in memory as a whole: split one of many gigabytes by videos.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from egoinstructor import fields
from egoinstructor.errors import InputError
from egoinstructor.library.merging import Merging
from egoinstructor.library.sources.paths import Names
from egoinstructor.library.sources.rows import Finding, Row, SourceVideo, because, clean


class HowTo100MSource:
    """The clips of a refined file, or those that the cues of a raw one are joined to.

    Args:
        path: the JSON.
        root: the folder of the videos, `{vid}.mp4` or with another video suffix.
        name: of the collection.
        merging: how long the clips of a raw file may be.
        allow_outside: let videos lie outside the root.

    Raises:
        InputError: it can't be read, or is neither of the two.
    """

    def __init__(
        self, path: Path, root: Path, name: str, *, merging: Merging | None = None, allow_outside: bool = False
    ) -> None:
        self.root = root
        self._findings: list[Finding] = []
        self._rows: dict[str, list[Row]] = defaultdict(list)
        self._name = name
        data = fields.read_object(path)
        first = next(iter(data.values()), None)
        refined = isinstance(first, dict) and "vid" in first
        if not refined and not (isinstance(first, dict) and {"start", "end", "text"} <= first.keys()):
            raise InputError(
                f"{path} is none of HowTo100M's files: its first entry must have 'vid', 'start_second', 'end_second' and "
                "'text', or lists 'start', 'end' and 'text'. Tables of your own go in as CSV or JSONL."
            )
        self._merging = None if refined else merging or Merging()
        names = Names(root, allow_outside=allow_outside)
        for key in list(data):
            record, where = data.pop(key), f"{path}: {key}"  # popped: the file's form and ours need not both be held
            try:
                record = fields.as_object(record, where)
                vid = fields.text(record, "vid", where) if refined else key
                rows = [_refined(record, where)] if refined else list(self._raw(record, key, path.name))
                self._rows[names.find(vid)] += rows
            except InputError as error:
                self._findings.append(Finding("row", path.name, key, because(error, where)))

    def __len__(self) -> int:
        """Number of videos."""
        return len(self._rows)

    def __iter__(self) -> Iterator[SourceVideo | Finding]:
        """The videos in the file's order."""
        yield from self._findings
        for video, rows in self._rows.items():
            yield SourceVideo(self._name, video, tuple(rows), self._merging)

    def _raw(self, record: dict[str, Any], key: str, file: str) -> Iterator[Row]:
        """The cues of one video."""
        where = f"{file}: {key}"
        columns = [fields.as_list(fields.get(record, name, where), where) for name in ("start", "end", "text")]
        if len({len(column) for column in columns}) > 1:
            raise InputError(
                f"lists of {', '.join(str(len(column)) for column in columns)} values; they must be equal."
            )
        for place, values in enumerate(zip(*columns, strict=True)):
            cue = dict(zip(("start", "end", "text"), values, strict=True))
            at = f"{where}, cue {place}"
            try:
                start, end = (fields.seconds(cue, name, at) for name in ("start", "end"))
                yield Row(start, end, clean(fields.text(cue, "text", at)), where=at)
            except InputError as error:
                self._findings.append(Finding("row", file, f"{key}, cue {place}", because(error, at)))


def _refined(record: dict[str, Any], where: str) -> Row:
    start, end = (fields.seconds(record, f"{name}_second", where) for name in ("start", "end"))
    text = clean(fields.text(record, "text", where))
    refined = clean(fields.text(record, "refined_text", where)) if record.get("refined_text") is not None else ""
    return Row(start, end, text, refined, where)

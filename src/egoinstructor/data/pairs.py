"""Clips with what is done in them, and which exo clips show the same as an ego clip: what a retriever is trained on.

Read and written in the original's form, one file for each view:

    {"0": {"vid", "uid", "start_second", "end_second", "text", "refined_text", "noun": [ids], "verb": [ids],
           "nv_index": [indices into the exo file]}, "1": …}
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from egoinstructor import fields
from egoinstructor.errors import InputError
from egoinstructor.files import atomic_file


@dataclass(frozen=True, slots=True)
class PairRecord:
    """A clip of either view.

    Args:
        video: its name (`vid`): that of its features, or of its file without suffix.
        start: seconds.
        end: seconds; what is made of one that is not after the start is `features.frame_rows`'s.
        text: its narration.
        uid: a name of its own, "" without one.
        refined: the narration as somebody rewrote it, "" if nobody did.
        nouns: ids of what is handled, sorted.
        verbs: ids of what is done, sorted.
        paired: indices into the exo records of clips that show the same; none for an exo clip.
    """

    video: str
    start: float
    end: float
    text: str
    uid: str = ""
    refined: str = ""
    nouns: tuple[int, ...] = ()
    verbs: tuple[int, ...] = ()
    paired: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """The narration that is learned: the refined one where there is one."""
        return self.refined or self.text

    def same_action(self, other: PairRecord) -> bool:
        """Whether the two share a noun and a verb: the cosines of their noun and of their verb vectors are above zero."""
        return not set(self.nouns).isdisjoint(other.nouns) and not set(self.verbs).isdisjoint(other.verbs)

    def as_dict(self) -> dict[str, Any]:
        """In the original's names."""
        record: dict[str, Any] = {"vid": self.video, "uid": self.uid}
        record |= {"start_second": self.start, "end_second": self.end, "text": self.text}
        if self.refined:
            record["refined_text"] = self.refined
        record |= {"noun": list(self.nouns), "verb": list(self.verbs)}
        if self.paired:
            record["nv_index"] = list(self.paired)
        return record


def read_pairs(path: str | os.PathLike[str]) -> list[PairRecord]:
    """The clips of one view, in the order of their indices: a JSON object by index, or a list.

    Raises:
        InputError: it can't be read, an index is missing, or a value is of the wrong type.
    """
    path = Path(path)
    content = fields.parse_json(fields.read_text(path), str(path))
    if isinstance(content, dict):
        missing = next((i for i in range(len(content)) if str(i) not in content), None)
        if missing is not None:
            raise InputError(f"{path} has {len(content)} clips, but none has the key '{missing}'; keys count from '0'.")
        content = [content.pop(str(i)) for i in range(len(content))]
    records = fields.as_list(content, str(path))
    return [_record(value, f"{path}: {index}") for index, value in enumerate(records)]


def write_pairs(path: str | os.PathLike[str], records: Iterable[PairRecord]) -> None:
    """Write clips so that `read_pairs` and the original read them; the file is there whole or not at all.

    Raises:
        InputError: it can't be written.
    """
    with atomic_file(Path(path)) as partial, partial.open("w", encoding="utf-8") as file:
        file.write("{")
        for index, record in enumerate(records):
            separator = ",\n" if index else "\n"
            file.write(f'{separator}"{index}": {json.dumps(record.as_dict(), ensure_ascii=False)}')
        file.write("\n}\n")


def check_paired(ego: Sequence[PairRecord], exo: Sequence[PairRecord], where: str) -> None:
    """Check that each pair of an ego clip exists.

    Raises:
        InputError: an index outside the exo clips; `where` names the ego file.
    """
    for index, record in enumerate(ego):
        if wrong := [i for i in record.paired if not 0 <= i < len(exo)]:
            raise InputError(
                f"{where}: {index}.nv_index has {wrong[0]}, but the exo file has {len(exo)} clips. Give the exo file "
                "that the pairs were made with."
            )


def draw_pair(ego: PairRecord, exo: Sequence[PairRecord], rng: random.Random) -> tuple[int | None, bool]:
    """Draw one of the paired clips of an ego clip.

    Returns:
        Its index, or None where the clip is its own pair; and whether one was drawn that shares no noun or no verb, which
        is no pair: the clip is its own then too, as in the original.
    """
    if not ego.paired:
        return None, False
    index = rng.choice(ego.paired)
    return (index, False) if ego.same_action(exo[index]) else (None, True)


def _record(value: Any, where: str) -> PairRecord:
    record = fields.as_object(value, where)
    refined = record.get("refined_text")
    fields.check(refined is None or isinstance(refined, str), refined, f"{where}.refined_text", "text")
    uid = record.get("uid")
    fields.check(uid is None or isinstance(uid, str | int), uid, f"{where}.uid", "text or a number")
    return PairRecord(
        video=fields.text(record, "vid", where),
        start=fields.seconds(record, "start_second", where),
        end=fields.seconds(record, "end_second", where),
        text=fields.text(record, "text", where),
        uid="" if uid is None else str(uid),
        refined=cast(str, refined or "").strip(),
        nouns=tuple(sorted(set(_ids(record, "noun", where)))),
        verbs=tuple(sorted(set(_ids(record, "verb", where)))),
        paired=tuple(dict.fromkeys(_ids(record, "nv_index", where))),
    )


def _ids(record: dict[str, Any], key: str, where: str) -> list[int]:
    """A list of indices; none where there is no such key."""
    values = fields.as_list(record.get(key) or [], f"{where}.{key}")
    for value in values:
        right = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        fields.check(right, value, f"{where}.{key}", "numbers from 0")
    return values

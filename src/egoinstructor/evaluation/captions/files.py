"""Captions and references out of files: ours, COCO's, or plain ones that a few lines of anyone's code write.

- JSON, id → text or texts: `{"clip1": "cuts a leek", "clip2": ["opens the fridge", "a fridge is opened"]}`
- JSON, COCO's results: `[{"image_id": 1, "caption": "cuts a leek"}, …]`
- JSON, COCO's annotations: `{"annotations": [{"image_id": 1, "caption": "…"}, …], …}`
- JSONL, an object a line: `{"id": "clip1", "prediction": "cuts a leek", "video": "P01_02"}`
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from egoinstructor import fields
from egoinstructor.errors import InputError

FileKind = Literal["prediction", "reference"]

IDS = ("id", "image_id")
TEXTS: dict[FileKind, tuple[str, ...]] = {
    "prediction": ("prediction", "caption"),
    "reference": ("ground_truth", "references", "reference", "captions", "caption"),
}
VIDEO = "video"

_SURROGATES = re.compile("[\ud800-\udfff]")  # halves that JSON may hold and UTF-8 can't


@dataclass(frozen=True, slots=True)
class Texts:
    """What a file holds.

    Args:
        by_id: the texts of each sample.
        videos: of samples that name one, the video.
    """

    by_id: dict[str, list[str]] = field(default_factory=dict)
    videos: dict[str, str] = field(default_factory=dict)


def read_predictions(path: str | os.PathLike[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The caption of each sample, and the videos of those that name one.

    Raises:
        InputError: the file can't be read, has another form, or has two captions for a sample.
    """
    found = _read(Path(path), "prediction")
    if twice := [i for i, texts in found.by_id.items() if len(texts) != 1]:
        raise InputError(
            f"{path}: sample {twice[0]!r} has {len(found.by_id[twice[0]])} predictions; give one for each."
        )
    return {i: texts[0] for i, texts in found.by_id.items()}, found.videos


def read_references(path: str | os.PathLike[str]) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The references of each sample, and the videos of those that name one.

    Raises:
        InputError: the file can't be read or has another form.
    """
    found = _read(Path(path), "reference")
    return found.by_id, found.videos


def _read(path: Path, kind: FileKind) -> Texts:
    found = Texts()
    for where, name, texts, video in _entries(path, kind):
        several = texts if isinstance(texts, list) else [texts]
        for text in several:
            fields.check(isinstance(text, str), text, where, "text")
            fields.check(text.isascii() or not _SURROGATES.search(text), text, where, "text without half characters")
        found.by_id.setdefault(name, []).extend(several)
        if video is not None:
            fields.check(isinstance(video, str), video, f"{where}.{VIDEO}", "text")
            if found.videos.setdefault(name, video) != video:
                raise InputError(f"{where}: sample {name!r} is of video {video!r} and of {found.videos[name]!r}.")
    if not found.by_id:
        raise InputError(f"{path} holds no {kind}s.")
    return found


def _entries(path: Path, kind: FileKind) -> Iterator[tuple[str, str, Any, Any]]:
    """Place, id, text or texts, video."""
    if path.suffix.lower() == ".jsonl":
        for _, where, record in fields.json_lines(path):
            yield _entry(record, where, kind)
        return
    content = fields.parse_json(fields.read_text(path), str(path))
    if isinstance(content, dict) and isinstance(content.get("annotations"), list):
        content = content["annotations"]
    if isinstance(content, list):
        for number, record in enumerate(content):
            where = f"{path}: [{number}]"
            yield _entry(fields.as_object(record, where), where, kind)
        return
    for name, texts in fields.as_object(content, str(path)).items():
        yield f"{path}: {name}", name, texts, None


def _entry(record: dict[str, Any], where: str, kind: FileKind) -> tuple[str, str, Any, Any]:
    name = _first(record, IDS, where)
    fields.check(
        isinstance(name, str | int) and not isinstance(name, bool), name, f"{where}: id", "text or a whole number"
    )
    return where, str(name), _first(record, TEXTS[kind], where), record.get(VIDEO)


def _first(record: dict[str, Any], keys: tuple[str, ...], where: str) -> Any:
    for key in keys:
        if key in record:
            return record[key]
    has = ", ".join(map(repr, record)) or "nothing"
    raise InputError(f"{where} has none of {', '.join(map(repr, keys))}; it has {has}.")

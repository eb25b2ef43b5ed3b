"""The original's inference JSON: ego clips, each with its reference clips and their narrations.

    [{"ego_video": path, "exo_video": [{"path": path, "caption": narration}, …]}, …]

`start` and `end` (seconds) may stand beside either path: an addition of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from egoinstructor.errors import InputError
from egoinstructor.records import Clip, Reference


def read_inference_file(path: str | Path) -> list[tuple[Clip, list[Reference]]]:
    """Read the file; a relative path is looked for from the working directory, then from the file's own folder.

    Args:
        path: the JSON file.

    Returns:
        Ego clips with their references, in the file's order.

    Raises:
        InputError: an unreadable file, malformed JSON, or an entry of the wrong type; the message names the place.
    """
    file = Path(path)
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} can't be read: {error}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{file} is no valid JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{file} holds {type(entries).__name__} {str(entries)[:40]}; it must be a list of samples.")
    return [_sample(entry, f"{file}, sample {i}", file.parent) for i, entry in enumerate(entries)]


def _sample(entry: Any, where: str, folder: Path) -> tuple[Clip, list[Reference]]:
    ego = Clip(_path(_field(entry, "ego_video", str, where), folder), *_span(entry, where))
    references = []
    for j, exo in enumerate(_field(entry, "exo_video", list, where)):
        at = f"{where}, exo_video {j}"
        video = _path(_field(exo, "path", str, at), folder)
        references.append(Reference(video, _field(exo, "caption", str, at), *_span(exo, at)))
    return ego, references


def _field(entry: Any, name: str, kind: type, where: str) -> Any:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} is {entry!r}; it must be an object with {name!r}.")
    value = entry.get(name)
    if not isinstance(value, kind):
        raise InputError(f"{where} has {name} = {value!r}; it must be a {kind.__name__}.")
    return value


def _span(entry: Mapping[str, Any], where: str) -> tuple[float | None, float | None]:
    span = entry.get("start"), entry.get("end")
    for seconds in span:
        if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float)):
            raise InputError(f"{where} has the time {seconds!r}; times are seconds.")
    return span


def _path(name: str, folder: Path) -> Path:
    beside = folder / name
    return beside if not Path(name).exists() and beside.exists() else Path(name)

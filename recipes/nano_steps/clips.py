"""The clips of a rendered split, with what is done in them and what is said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from egoinstructor import fields
from simkitchen.catalogue import nouns
from simkitchen.encoding import SECONDS as SECONDS

Camera = Literal["ego", "exo"]


@dataclass(frozen=True, slots=True)
class KitchenClip:
    """One view of an event.

    Args:
        event: its id.
        camera: "ego" or "exo".
        bucket: "seen", "novel words" or "long tail".
        verb: what is done.
        noun: what it is done to.
        target: where it goes; None for most verbs.
        kitchen: where it happens.
        narration: what is said.
    """

    event: str
    camera: Camera
    bucket: str
    verb: str
    noun: str
    target: str | None
    kitchen: str
    narration: str

    @property
    def name(self) -> str:
        """Its file in the split's folder, without suffix."""
        return f"{self.camera}/{self.event}"


def read_clips(split: Path, limit: int | None = None) -> list[KitchenClip]:
    """The clips of a split, in the order of its events.

    Args:
        split: the folder, with `events.jsonl`.
        limit: only of the first so many events.

    Raises:
        InputError: the file can't be read.
    """
    clips = []
    for number, where, event in fields.json_lines(split / "events.jsonl"):
        if limit is not None and number > limit:
            break
        for value in fields.as_list(event["views"], where):
            view: dict[str, Any] = fields.as_object(value, where)
            told = {key: event[key] for key in ("bucket", "verb", "noun", "target")}
            seen = {key: view[key] for key in ("camera", "kitchen", "narration")}
            clips.append(KitchenClip(event=event["id"], **told, **seen))
    return clips


def of_camera(clips: Iterable[KitchenClip], camera: Camera) -> list[KitchenClip]:
    """Those of one view."""
    return [clip for clip in clips if clip.camera == camera]


def is_invented(noun: str) -> bool:
    """Whether a noun is no English word."""
    return bool(nouns()[noun].rule)

"""The ego clips that the demo captions: those that come with the package, or the user's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from egoinstructor.assets import demo_files
from egoinstructor.errors import InputError
from egoinstructor.records import Clip
from egoinstructor.video.decode import probe


@dataclass(frozen=True, slots=True)
class DemoClip:
    """An ego clip to caption.

    Args:
        clip: where it is.
        name: as it is shown.
        truth: what happens in it, if that is known.
        bucket: of the test split that it is from, if any: "seen", "novel words", "long tail".
    """

    clip: Clip
    name: str
    truth: str = ""
    bucket: str = ""


def shipped_queries() -> list[DemoClip]:
    """The clips that come with the package.

    Raises:
        InputError: they aren't there.
    """
    folder = demo_files()
    try:
        clips = json.loads((folder / "clips.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"the demo's files are not in this installation: {error}. Install egoinstructor anew."
        ) from error
    return [DemoClip(Clip(folder / one["video"]), one["video"], one["caption"], one["bucket"]) for one in clips]


def own_queries(videos: Sequence[str]) -> list[DemoClip]:
    """The user's videos.

    Raises:
        VideoError: one that can't be read.
    """
    for video in videos:
        probe(video)
    return [DemoClip(Clip(Path(video)), video) for video in videos]

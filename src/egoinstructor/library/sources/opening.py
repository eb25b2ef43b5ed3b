"""What a person points at → the source that reads it."""

from __future__ import annotations

import math
from pathlib import Path

from egoinstructor.errors import InputError
from egoinstructor.library.merging import Merging
from egoinstructor.library.sources.folder import FolderSource
from egoinstructor.library.sources.howto100m import HowTo100MSource
from egoinstructor.library.sources.rows import Source
from egoinstructor.library.sources.table import TABLE_SUFFIXES, TableSource


def open_source(
    path: str | Path,
    *,
    name: str | None = None,
    root: str | Path | None = None,
    language: str | None = None,
    merging: Merging | None = None,
    window: float = 4.0,
    allow_outside: bool = False,
) -> Source:
    """Open a folder of videos, a table of clips, or one of HowTo100M's files.

    Args:
        path: a folder; a file that ends in `.csv`, `.tsv` or `.jsonl`; or HowTo100M's `.json`.
        name: of the collection; None for the folder's or file's own.
        root: where the videos of a table lie; None for the table's folder.
        language: see `FolderSource`.
        merging: how long the clips may be that subtitle cues are joined to.
        window: seconds; length of the clips of a video in which nothing is said.
        allow_outside: let videos lie outside the root.

    Raises:
        InputError: it can't be used.
    """
    path = Path(path)
    if not (math.isfinite(window) and window > 0):
        raise InputError(f"window={window}: give a length above 0 seconds.")
    if path.is_dir():
        if root is not None and Path(root).resolve() != path.resolve():
            raise InputError(f"root={root} with the folder {path}: a folder of videos is its own root; leave root out.")
        name = name or path.resolve().name
        return FolderSource(path, name, language=language, merging=merging, window=window, allow_outside=allow_outside)
    videos = path.parent if root is None else Path(root)
    if not path.exists():
        raise InputError(f"{path}: there is no such folder or file. Check the path.")
    if not videos.is_dir():
        raise InputError(f"root={videos} is not a folder. Give the folder that the videos lie in.")
    suffix = path.suffix.lower()
    if suffix == ".json":
        return HowTo100MSource(path, videos, name or path.stem, merging=merging, allow_outside=allow_outside)
    if suffix in (*TABLE_SUFFIXES, ".jsonl"):
        return TableSource(path, videos, name or path.stem, allow_outside=allow_outside)
    raise InputError(
        f"{path} ends in {suffix!r}; give a folder of videos, a table (.csv, .tsv, .jsonl), or HowTo100M's .json."
    )

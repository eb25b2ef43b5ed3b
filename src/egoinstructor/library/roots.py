"""Where a clip's file lies: under the root of its source, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

from egoinstructor.errors import InputError
from egoinstructor.library.records import ClipEntry
from egoinstructor.library.sql import one_of, quote
from egoinstructor.library.store import KEYS_AT_ONCE, Store


def add_source(store: Store, name: str, root: Path) -> None:
    """Say where the videos of a collection lie; see `ExoLibrary.add_source`.

    Raises:
        InputError: an empty name.
    """
    if not name:
        raise InputError("name='' of a source; give it a name.")
    path, home = root.absolute(), store.folder
    kept = path.relative_to(home).as_posix() if home is not None and path.is_relative_to(home) else str(path)
    store.merge("sources", store.records("sources", [{"name": name, "root": kept}]), update=True)


def read_sources(store: Store) -> dict[str, Path]:
    """The root of each collection, by name."""
    rows = store.rows("sources", ["name", "root"]).to_pylist()
    home = store.folder or Path()
    return {row["name"]: home / row["root"] for row in sorted(rows, key=lambda row: row["name"])}


def entry_path(entry: ClipEntry, roots: Mapping[str, Path]) -> Path:
    """The file of a clip; whether it is there is not looked up.

    Raises:
        InputError: a source that isn't among the roots, or a path that leads out of its root.
    """
    if entry.source not in roots:
        raise InputError(
            f"source {entry.source!r} of {entry.video} is not known; known are {', '.join(roots) or 'none'}."
        )
    if ".." in PurePath(entry.video).parts:
        raise InputError(f"video {entry.video!r} leads out of the root of source {entry.source!r}. Ingest it anew.")
    return roots[entry.source] / entry.video  # an absolute path, which ingest allows only when told, stays itself


def relocate_clips(store: Store, digest: str, source: str, video: str, ids: Iterable[str] | None) -> int:
    """Say that the file of clips lies elsewhere now; see `ExoLibrary.relocate`.

    Raises:
        InputError: the library can't be written.
    """
    place = {"source": source, "video": video}
    content = f"video_digest = {quote(digest)}"
    if ids is not None:
        some = list(dict.fromkeys(ids))
        parts = [some[first : first + KEYS_AT_ONCE] for first in range(0, len(some), KEYS_AT_ONCE)]
        return sum(store.update("clips", f"{content} AND {one_of('id', part)}", place) for part in parts)
    moved = store.update("clips", content, place)
    here = f"source = {quote(source)} AND video = {quote(video)}"
    store.delete("videos", f"digest = {quote(digest)} AND NOT ({here})")
    return moved

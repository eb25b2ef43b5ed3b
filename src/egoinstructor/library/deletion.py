"""Deleting clips with all that hangs on them, in an order in which a kill leaves nothing dangling."""

from __future__ import annotations

from collections.abc import Iterable

from egoinstructor.errors import InputError
from egoinstructor.library.sql import both, one_of, quote
from egoinstructor.library.store import KEYS_AT_ONCE, Store


def delete_clips(store: Store, ids: Iterable[str] | None, source: str | None, video: str | None) -> int:
    """Delete clips, their latents, and their videos in the log; see `ExoLibrary.delete`.

    Raises:
        InputError: nothing was named, or the library can't be written.
    """
    if ids is None and source is None and video is None:
        raise InputError("nothing to delete: name clips by ids, source or video.")
    place = both(
        f"source = {quote(source)}" if source is not None else None,
        f"video = {quote(video)}" if video is not None else None,
    )
    if place is not None:
        store.delete("videos", place)  # the failed ones too, which have no clips
    wanted = list(dict.fromkeys(ids)) if ids is not None else []
    parts = [one_of("id", part) for part in _split(wanted)] if ids is not None else [None]
    return sum(_delete(store, both(part, place)) for part in parts)


def _delete(store: Store, where: str | None) -> int:
    """First what says that the clips are there, then what hangs on them, then they."""
    rows = store.rows("clips", ["id", "video_digest"], where)
    ids = rows["id"].to_pylist()
    for part in _split(sorted(set(rows["video_digest"].to_pylist()))):
        store.delete("videos", one_of("digest", part))
    for part in _split(ids):
        store.delete("latents", one_of("clip", part))
    return sum(store.delete("clips", one_of("id", part)) for part in _split(ids))


def _split(values: list[str]) -> list[list[str]]:
    return [values[first : first + KEYS_AT_ONCE] for first in range(0, len(values), KEYS_AT_ONCE)]

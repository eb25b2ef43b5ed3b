"""The log of ingests: a record of each video that one has finished with, by its source and path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import fields
from threading import Lock

from egoinstructor.library.records import VideoRecord
from egoinstructor.library.schema import video_rows
from egoinstructor.library.sql import quote
from egoinstructor.library.store import Store

COLUMNS = [field.name for field in fields(VideoRecord)]

Place = tuple[str, str]
"""A video's source, and its path there."""


def write_log(store: Store, records: Iterable[VideoRecord]) -> None:
    """Note videos, in one commit; see `ExoLibrary.log_videos`."""
    latest = {record.key: record for record in records}
    store.merge("videos", video_rows(store.table("videos").schema, latest.values()), update=True)


def read_log(store: Store) -> dict[tuple[str, str], VideoRecord]:
    """All records, by source and video."""
    records = (VideoRecord(**row) for row in store.rows("videos", COLUMNS).to_pylist())
    return {(record.source, record.video): record for record in records}


def read_record(store: Store, source: str, video: str) -> VideoRecord | None:
    """The record of one video; None if no ingest has finished with it."""
    return next(iter(_records(store, "key", [_key((source, video))])), None)


class PartOfLog:
    """The records that an ingest of some videos needs: theirs, and those of files with the same content.

    Several threads may use one. The rest of the log isn't read, however large the library is.

    Args:
        store: the library's tables.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._records: dict[Place, VideoRecord] = {}
        self._copies: dict[str, set[Place]] = defaultdict(set)
        self._read: set[str] = set()  # digests whose records were read
        self._lock = Lock()

    def read(self, places: Iterable[Place]) -> None:
        """Read the records of videos, in few queries, before they are asked for one by one."""
        records = _records(self._store, "key", map(_key, places))
        with self._lock:
            self._records |= {(record.source, record.video): record for record in records}
        self._read_copies({record.digest for record in records})

    def get(self, place: Place) -> VideoRecord | None:
        """The record of a video that `read` was called with."""
        return self._records.get(place)

    def copies(self, digest: str) -> set[Place]:
        """Places of files with this content, by the log and by calls of `moved` and `found`."""
        self._read_copies({digest})
        with self._lock:
            return set(self._copies[digest])

    def found(self, digest: str, place: Place) -> None:
        """A file with this content is there."""
        self._read_copies({digest})
        with self._lock:
            self._copies[digest].add(place)

    def moved(self, digest: str, place: Place) -> None:
        """All other files with this content are gone."""
        with self._lock:
            self._copies[digest] = {place}

    def marked(self, ending: str) -> list[Place]:
        """The videos whose fingerprint ends so."""
        rows = self._store.rows("videos", ["source", "video"], f"ends_with(fingerprint, {quote(ending)})")
        return [(row["source"], row["video"]) for row in rows.to_pylist()]

    def latest(self, places: Iterable[Place]) -> list[VideoRecord]:
        """The records of videos as they are now."""
        return _records(self._store, "key", map(_key, places))

    def _read_copies(self, digests: set[str]) -> None:
        with self._lock:
            new = digests - self._read - {""}  # that of files that couldn't be read
        if not new:
            return
        records = _records(self._store, "digest", new)
        with self._lock:
            for record in records:
                if record.digest not in self._read:
                    self._copies[record.digest].add((record.source, record.video))
            self._read |= new


def _key(place: Place) -> str:
    return VideoRecord(*place, "", "", 0).key


def _records(store: Store, column: str, values: Iterable[str]) -> list[VideoRecord]:
    """The records with one of these values."""
    parts = store.by_value("videos", COLUMNS, column, values)
    return [VideoRecord(**row) for part in parts for row in part.to_pylist()]

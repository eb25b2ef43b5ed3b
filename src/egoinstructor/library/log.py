"""What ingests have finished with: a record of each video, by its source and path."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

from egoinstructor.library.records import VideoRecord
from egoinstructor.library.schema import video_rows
from egoinstructor.library.store import Store

COLUMNS = [field.name for field in fields(VideoRecord)]


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
    key = VideoRecord(source, video, "", "", 0).key
    rows = [row for part in store.by_key("videos", COLUMNS, [key]) for row in part.to_pylist()]
    return VideoRecord(**rows[0]) if rows else None

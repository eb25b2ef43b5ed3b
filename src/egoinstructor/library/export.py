"""A library's clips as a file: facts as JSONL or CSV, vectors too as Parquet or safetensors."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from egoinstructor.errors import InputError
from egoinstructor.library.exact import to_vectors
from egoinstructor.library.schema import ENTRY_COLUMNS, NARRATION_VECTOR, TEXTS, VIDEO_VECTOR, to_entries
from egoinstructor.library.store import Store


def export_library(store: Store, path: Path) -> int:
    """Write all clips to a file, which appears when it is whole.

    Args:
        store: the library's tables.
        path: `.jsonl` and `.csv` get the facts; `.parquet` and `.safetensors` the vectors too, in fp16. A safetensors
            file is put together in memory; its clips are in its metadata, in the order of its rows, and the rows of
            narrations that aren't there are zeros.

    Returns:
        How many clips.

    Raises:
        InputError: another suffix, or a file that can't be written.
    """
    writers: dict[str, Callable[[Store, Path], int]] = {
        ".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet, ".safetensors": _safetensors
    }  # fmt: skip
    if path.suffix not in writers:
        raise InputError(f"{path} ends in {path.suffix!r}; it must end in {', '.join(writers)}.")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        try:
            count = writers[path.suffix](store, Path(name))
            Path(name).chmod(0o644)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error}. Make room, or name another place.") from error
    return count


def _jsonl(store: Store, path: Path) -> int:
    with path.open("w", encoding="utf-8") as file:
        return _facts(store, lambda row: file.write(json.dumps(row, ensure_ascii=False) + "\n"))


def _csv(store: Store, path: Path) -> int:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", *ENTRY_COLUMNS])
        writer.writeheader()
        return _facts(store, writer.writerow)


def _facts(store: Store, write: Callable[[dict[str, object]], object]) -> int:
    count = 0
    for batch in store.batches("clips", ENTRY_COLUMNS):
        for entry in to_entries(batch):
            write({"id": entry.id, **asdict(entry)})
            count += 1
    return count


def _parquet(store: Store, path: Path) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    columns = ["id", *ENTRY_COLUMNS, VIDEO_VECTOR, NARRATION_VECTOR]
    schema = pa.schema([store.table("clips").schema.field(name) for name in columns])
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        for batch in store.batches("clips", columns):
            texts = {name: pc.fill_null(batch[name], "") for name in TEXTS}
            values = [texts.get(name, batch[name]) for name in columns]
            writer.write_batch(pa.record_batch(values, schema=schema))
            count += batch.num_rows
    return count


def _safetensors(store: Store, path: Path) -> int:
    from safetensors.torch import save_file

    rows = store.rows("clips", [*ENTRY_COLUMNS, VIDEO_VECTOR, NARRATION_VECTOR])
    clips = [{"id": entry.id, **asdict(entry)} for entry in to_entries(rows)]
    vectors = {name: to_vectors(rows[name]) for name in (VIDEO_VECTOR, NARRATION_VECTOR)}
    save_file(vectors, path, {"clips": json.dumps(clips, ensure_ascii=False)})
    return len(clips)

"""What a library's tables hold, and how records become their rows.

    about    key, value             format, the retriever's identity, what the index was measured to find
    sources  name, root             where the files of each collection lie
    clips    a row for each clip    its facts, `video_vector`, and `narration_vector` where something is said
    videos   a row for each video   what an ingest has finished with
    latents  clip, captioner, bytes what a captioner's vision side made of clips

Vectors are kept in fp16: half of fp32's bytes, and 99.9 % of the ten nearest among a million are the same
(`benchmarks/RESULTS.md`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from torch import Tensor

from egoinstructor.library.records import ClipEntry, VideoRecord

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1  # raise it when a library written by this code could not be read by the last
VIDEO_VECTOR, NARRATION_VECTOR = "video_vector", "narration_vector"
KEYS = {"about": "key", "sources": "name", "clips": "id", "videos": "key", "latents": "key"}
"""The column of each table by which a row is told from the others, also when two processes write at once."""
TEXTS = ("narration", "refined")
NULLABLE = (NARRATION_VECTOR, *TEXTS)  # texts that aren't there are null: Lance reads a column of equal texts slowly
ENTRY_COLUMNS = ["video", "start", "end", "narration", "source", "video_digest", "refined"]


def schemas(dimension: int) -> dict[str, pa.Schema]:
    """The columns of each table.

    Args:
        dimension: the embedding's width.
    """
    import pyarrow as pa

    def columns(**types: Any) -> pa.Schema:
        return pa.schema([pa.field(name, kind, nullable=name in NULLABLE) for name, kind in types.items()])

    text, number, vector = pa.string(), pa.float64(), pa.list_(pa.float16(), dimension)
    return {
        "sources": columns(name=text, root=text),
        "clips": columns(
            id=text, video=text, start=number, end=number, seconds=number, narration=text, refined=text, source=text,
            video_digest=text, video_vector=vector, narration_vector=vector,
        ),
        "videos": columns(
            key=text, source=text, video=text, digest=text, fingerprint=text, clips=pa.int64(), error=text,
            stamp=text,
        ),
        "latents": columns(key=text, clip=text, captioner=text, shape=pa.list_(pa.int32(), 2), data=pa.large_binary()),
        "about": columns(key=text, value=text),
    }  # fmt: skip


def clip_rows(schema: pa.Schema, entries: Sequence[ClipEntry], video: Tensor, narration: Tensor | None) -> pa.Table:
    """Clips as rows.

    Args:
        schema: of the table.
        entries: the clips.
        video: their embeddings `(N, D)`.
        narration: embeddings of what is said `(N, D)`; not kept for clips in which nothing is.
    """
    import pyarrow as pa

    silent = [not entry.text for entry in entries]
    columns: dict[str, Any] = {name: [getattr(entry, name) for entry in entries] for name in ["id", *ENTRY_COLUMNS]}
    for name in TEXTS:
        columns[name] = [text or None for text in columns[name]]
    columns["seconds"] = [entry.end - entry.start for entry in entries]
    columns[VIDEO_VECTOR] = vector_column(video)
    columns[NARRATION_VECTOR] = vector_column(video if narration is None else narration, absent=silent)
    return pa.table(columns, schema=schema)


def vector_column(vectors: Tensor, absent: Sequence[bool] | None = None) -> pa.FixedSizeListArray:
    """Vectors `(N, D)` as a column in fp16; null where they are absent."""
    import pyarrow as pa

    mask = None if absent is None else pa.array(absent, pa.bool_())
    numbers = pa.array(vectors.half().flatten().numpy())
    return pa.FixedSizeListArray.from_arrays(numbers, vectors.shape[1], mask=mask)


def to_entries(rows: pa.Table | pa.RecordBatch) -> Iterator[ClipEntry]:
    """Rows, of which `ENTRY_COLUMNS` at least were read, as clips."""
    for row in rows.select(ENTRY_COLUMNS).to_pylist():
        yield ClipEntry(**row | {name: row[name] or "" for name in TEXTS})


def video_rows(schema: pa.Schema, records: Iterable[VideoRecord]) -> pa.Table:
    """The log's records as rows."""
    import pyarrow as pa

    return pa.Table.from_pylist([asdict(record) | {"key": record.key} for record in records], schema=schema)

"""Exact search: every vector against the query, by our own matrix product. What the index is measured by.

Small tables are kept in memory, in fp16 as they are stored; larger ones pass through it in parts. Parts are widened to
fp32 in a buffer that stays in the processor's cache: nearly as fast as fp32 throughout, in half of its memory.

Shapes: **N** clips, **D** width of the embeddings.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.library.schema import NARRATION_VECTOR, VIDEO_VECTOR
from egoinstructor.library.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_AT_ONCE = 2048
MARGIN = 1e-5  # above the rounding of fp32 sums: whatever is this near to the last place is looked at in fp64
DIGITS = 9  # scores are rounded so that equal vectors score equally wherever their rows lie


@dataclass(frozen=True, slots=True)
class VectorQuery:
    """What clips are compared with: score = (1 − w)·cos(video) + w·cos(narration).

    The cosine of a narration that isn't there is 0: where nothing is said, nothing fits.

    Args:
        vector: unit `(D,)`, fp32.
        narration_weight: w, from 0 to 1.

    Raises:
        InputError: a weight out of its range.
    """

    vector: Tensor
    narration_weight: float = 0.0

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 <= self.narration_weight <= 1:
            raise InputError(f"narration_weight={self.narration_weight}; it must lie between 0 and 1.")

    @property
    def weights(self) -> dict[str, float]:
        """By column; only those that count."""
        weights = {VIDEO_VECTOR: 1 - self.narration_weight, NARRATION_VECTOR: self.narration_weight}
        return {column: weight for column, weight in weights.items() if weight}


@dataclass(frozen=True, slots=True)
class Block:
    """Some clips' vectors.

    Args:
        ids: of the clips.
        vectors: by column, fp16 `(N, D)`; zeros where there is none.
        rows: where they stand in the version of the table that was read, if that is known.
    """

    ids: pa.ChunkedArray
    vectors: dict[str, Tensor]
    rows: pa.ChunkedArray | None = None

    def best(self, query: VectorQuery, k: int, allowed: pa.ChunkedArray | None = None) -> list[tuple[float, str]]:
        """The k best clips, each as −score and id, in order: of equal ones those with the smaller ids first.

        Args:
            query: what they are compared with.
            k: at most so many.
            allowed: ids of the clips that may be found; None for all.
        """
        import pyarrow.compute as pc

        rows = torch.arange(len(self.ids))
        if allowed is not None:
            rows = rows[torch.from_numpy(pc.is_in(self.ids, allowed).to_numpy())]
        if not len(rows):
            return []
        scores = torch.zeros(len(self.ids))
        for column, weight in query.weights.items():
            scores += weight * products(self.vectors[column], query.vector)
        scores = scores[rows]
        last = scores.topk(min(k, len(scores))).values[-1]
        found: list[tuple[float, str]] = []
        for part in rows[scores >= last - MARGIN].split(ROWS_AT_ONCE):
            exact = score({column: self.vectors[column][part] for column in query.weights}, query)
            ids = self.ids.take(part.numpy()).to_pylist()
            found = sorted([*found, *zip((-exact).tolist(), ids, strict=True)])[:k]
        return found


def score(vectors: dict[str, Tensor], query: VectorQuery) -> Tensor:
    """Scores `(N,)` in fp64 of vectors `(N, D)` by column."""
    total = sum(weight * cosines(vectors[column], query.vector) for column, weight in query.weights.items())
    assert isinstance(total, Tensor)
    return total.round(decimals=DIGITS)


def cosines(vectors: Tensor, query: Tensor) -> Tensor:
    """Dot products `(N,)` in fp64 of stored vectors `(N, D)` with a query `(D,)`."""
    return (vectors.double() * query.double()).sum(1)


def products(vectors: Tensor, query: Tensor) -> Tensor:
    """Dot products `(N,)` in fp32 of fp16 vectors `(N, D)` with a query `(D,)`."""
    out = torch.empty(len(vectors))
    buffer = torch.empty(min(ROWS_AT_ONCE, len(vectors)), vectors.shape[1])
    for first in range(0, len(vectors), ROWS_AT_ONCE):
        part = vectors[first : first + ROWS_AT_ONCE]
        wide = buffer[: len(part)].copy_(part)
        torch.mv(wide, query, out=out[first : first + len(part)])
    return out


def to_block(rows: pa.Table, columns: Sequence[str]) -> Block:
    """Rows as a block."""
    places = rows["_rowid"] if "_rowid" in rows.column_names else None
    return Block(rows["id"], {column: to_vectors(rows[column]) for column in columns}, places)


def to_vectors(column: pa.ChunkedArray) -> Tensor:
    """A column of vectors as a tensor, fp16 `(N, D)`; zeros for null."""
    from numpy import float16, zeros

    rows = zeros((len(column), column.type.list_size), float16)
    first = 0
    for chunk in column.chunks:
        here = rows[first : first + len(chunk)]
        if chunk.null_count:
            present = chunk.is_valid().to_numpy(zero_copy_only=False)
            here[present] = chunk.flatten().to_numpy().reshape(-1, rows.shape[1])  # flatten leaves null out
        else:
            here[:] = chunk.flatten().to_numpy().reshape(-1, rows.shape[1])
        first += len(chunk)
    return torch.from_numpy(rows)


class ExactSearch:
    """Exact search over a library's clips.

    Args:
        store: its tables.
        rows_in_memory: a table of at most so many rows is kept in memory (1.5 kB for each row and column at width 768).
    """

    def __init__(self, store: Store, rows_in_memory: int) -> None:
        self._store, self._limit = store, rows_in_memory
        self._lock = threading.Lock()
        self._kept: tuple[int, Block] | None = None  # with the table's version

    def best(self, query: VectorQuery, k: int, where: str | None = None) -> list[tuple[float, str]]:
        """The k best clips that fulfil a condition, each as −score and id, in order."""
        if self._store.count("clips") <= self._limit:
            allowed = self._store.rows("clips", ["id"], where)["id"] if where else None
            return self._in_memory(list(query.weights)).best(query, k, allowed)
        found: list[tuple[float, str]] = []
        for block in self.blocks(list(query.weights), where):
            found = sorted([*found, *block.best(query, k)])[:k]
        return found

    def blocks(self, columns: Sequence[str], where: str | None = None) -> Iterator[Block]:
        """The vectors of all clips that fulfil a condition, in parts."""
        import pyarrow as pa

        for batch in self._store.batches("clips", ["id", *columns], where):
            yield to_block(pa.Table.from_batches([batch]), columns)

    def _in_memory(self, columns: Sequence[str]) -> Block:
        """All vectors; read anew when the table has changed, or a column is needed for the first time."""
        with self._lock:
            version = self._store.version("clips")
            if self._kept is None or self._kept[0] != version or not set(columns) <= self._kept[1].vectors.keys():
                before = self._kept[1].vectors.keys() if self._kept is not None else ()
                self._kept = None  # makes room before the new one is read
                wanted = list(dict.fromkeys([*before, *columns]))
                self._kept = version, to_block(self._store.rows("clips", ["id", *wanted]), wanted)
            return self._kept[1]

"""The approximate index over a library's vectors: built, tuned by its own check, asked.

IVF with 4-bit RaBitQ codes (Lance's IVF_RQ). The codes only choose candidates, `oversample` times as many as are
wanted; those are compared exactly, by their own vectors. How many partitions are probed and how large `oversample` is,
`tune` finds out against exact search. Rows that came after the index was built are searched too, one by one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import torch
from torch import Tensor

from egoinstructor.library.exact import Block, ExactSearch, VectorQuery, to_block
from egoinstructor.library.schema import NARRATION_VECTOR, VIDEO_VECTOR
from egoinstructor.library.store import Store

logger = logging.getLogger(__name__)

K = 10  # recall is that of the ten nearest
WANTED, ENOUGH = 0.98, 0.95  # recall that tuning looks for on one half of the queries, and that the other must show
NPROBES, OVERSAMPLE = (4, 8, 16, 32, 64, 128), (2, 4, 8, 16)
QUERIES = 200
NOISE = 0.5  # length of what is added to a stored vector to make a query: their cosine is then about 0.9
BITS, ITERATIONS, SAMPLES = 4, 10, 64  # of the codes; of k-means; vectors that k-means sees for each partition
ROWS_A_PARTITION, LEAST_PARTITIONS = 4096, 16
DISTANCE: Final = "l2"  # of unit vectors the same order as their cosines; Lance's fp16 "dot" takes one number at a time
GROWN = 2.0  # partitions are chosen anew for a table that has grown so many times


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """What is known of the index over one column.

    Args:
        rows: vectors when its partitions were chosen.
        partitions: how many.
        nprobes: how many of them are searched.
        oversample: candidates compared exactly for each hit wanted.
        recall: share of the true ten nearest that it found, on queries that it was not tuned with.
        checked_rows: vectors when that was measured.
    """

    rows: int
    partitions: int
    nprobes: int
    oversample: int
    recall: float
    checked_rows: int


def read_facts(store: Store) -> dict[str, IndexFacts]:
    """What is known of each column's index; empty where there is none."""
    return {column: IndexFacts(**facts) for column, facts in store.about().get("index", {}).items()}


def nearest(
    store: Store,
    column: str,
    query: VectorQuery,
    count: int,
    facts: IndexFacts,
    where: str | None = None,
    *,
    late: bool = False,
) -> Block:
    """The clips that the index takes for the nearest, with the vectors that count.

    Args:
        store: the library's tables.
        column: whose index is asked.
        query: what they are near to.
        count: at most so many.
        facts: of that index.
        where: what they must fulfil.
        late: apply that to the nearest of all, of which few may be left, rather than look for the nearest of those that
            fulfil it, for which every row of the table is tried.
    """
    columns = list(dict.fromkeys([column, *query.weights]))
    with store.explained("searched"):
        search = store.table("clips").search(query.vector.numpy(), vector_column_name=column).distance_type(DISTANCE)
        search = search.limit(count).select(["id", *columns, "_distance"]).with_row_id(True).nprobes(facts.nprobes)
        if where:
            search = search.where(where, prefilter=not late)
            if not late:  # where a condition leaves few, more partitions are searched, up to all
                search = search.maximum_nprobes(0)
        return to_block(search.to_arrow(), columns)


def update_index(store: Store, exact: ExactSearch, least_rows: int) -> dict[str, IndexFacts]:
    """Compact the tables, bring every index up to date, and see that those over vectors find what they should.

    Args:
        store: the library's tables.
        exact: what they are measured by.
        least_rows: of vectors for which an index is built; it stays when there are fewer again.

    Raises:
        InputError: the library can't be written.
    """
    store.compact()
    known = read_facts(store)
    for column in (VIDEO_VECTOR, NARRATION_VECTOR):
        rows = store.count("clips", f"{column} IS NOT NULL")
        facts = known.get(column)
        if rows < least_rows and facts is None:
            continue
        fresh = facts is None or rows > GROWN * facts.rows
        if fresh or facts is None:
            facts = _build(store, column, rows)
        elif facts.checked_rows == rows:
            continue
        facts = tune(store, exact, column, facts, rows)
        if facts.recall < ENOUGH and not fresh:
            facts = tune(store, exact, column, _build(store, column, rows), rows)
        if facts.recall < ENOUGH:
            logger.warning(
                "the index over %s finds %.1f %% of the ten nearest, fewer than the %.0f %% that are aimed at; "
                "search with exact=True finds all", column, 100 * facts.recall, 100 * ENOUGH,
            )  # fmt: skip
        known[column] = facts
        store.tell("index", {name: asdict(value) for name, value in known.items()})
    return known


def _build(store: Store, column: str, rows: int) -> IndexFacts:
    from lancedb.index import IvfRq

    partitions = max(rows // ROWS_A_PARTITION, LEAST_PARTITIONS)
    config = IvfRq(
        distance_type=DISTANCE, num_partitions=partitions, num_bits=BITS, max_iterations=ITERATIONS, sample_rate=SAMPLES
    )
    store.commit("indexed", lambda: store.table("clips").create_index(column, config=config, replace=True))
    return IndexFacts(rows, partitions, NPROBES[-1], OVERSAMPLE[-1], 0.0, 0)


def tune(store: Store, exact: ExactSearch, column: str, facts: IndexFacts, rows: int) -> IndexFacts:
    """Find the cheapest setting with enough recall, and measure it.

    Queries are stored vectors with noise; the settings are chosen on one half of them and measured on the other.
    """
    queries = sample_queries(store, column, QUERIES)
    truth = true_neighbours(exact, column, queries)
    half = len(queries) // 2

    def recall(first: int, last: int, nprobes: int, oversample: int) -> float:
        tried = IndexFacts(facts.rows, facts.partitions, nprobes, oversample, 0.0, rows)
        found = [approximate(store, column, query, tried) for query in queries[first:last]]
        return overlap(found, truth[first:last])

    nprobes = next((n for n in NPROBES if recall(0, half, n, OVERSAMPLE[-1]) >= WANTED), NPROBES[-1])
    oversample = next((n for n in OVERSAMPLE if recall(0, half, nprobes, n) >= WANTED), OVERSAMPLE[-1])
    measured = recall(half, len(queries), nprobes, oversample)
    return IndexFacts(facts.rows, facts.partitions, nprobes, oversample, measured, rows)


def sample_queries(store: Store, column: str, count: int) -> Tensor:
    """Unit vectors `(Q, D)` near stored ones, the same for the same table."""
    generator = torch.Generator().manual_seed(0)
    there = store.count("clips")
    # Twice as many as are wanted, since a narration's vector may not be there.
    offsets = torch.randint(there, (2 * count,), generator=generator).unique().tolist()
    with store.explained("read"):
        rows = store.table("clips").take_offsets(offsets).select(["id", column]).to_arrow()
    vectors = to_block(rows.filter(rows[column].is_valid()), [column]).vectors[column].float()
    vectors = vectors[torch.randperm(len(vectors), generator=generator)[:count]]
    noise = torch.randn(vectors.shape, generator=generator) * (NOISE / vectors.shape[1] ** 0.5)
    return torch.nn.functional.normalize(vectors + noise, dim=1)


def true_neighbours(exact: ExactSearch, column: str, queries: Tensor) -> list[list[str]]:
    """Ids of the nearest of each query, in one pass over the table."""
    best = torch.full((len(queries), K), -2.0)
    names: list[list[str]] = [[""] * K for _ in queries]
    for block in exact.blocks([column], f"{column} IS NOT NULL"):
        scores = queries @ block.vectors[column].float().T  # (Q, N)
        top = scores.topk(min(K, scores.shape[1]))
        for row in (top.values[:, 0] > best[:, -1]).nonzero().flatten().tolist():
            ids = names[row] + block.ids.take(top.indices[row].numpy()).to_pylist()
            merged = torch.cat([best[row], top.values[row]]).sort(descending=True)
            best[row] = merged.values[:K]
            names[row] = [ids[place] for place in merged.indices[:K].tolist()]
    return names


def approximate(store: Store, column: str, query: Tensor, facts: IndexFacts) -> list[str]:
    """Ids of the ten nearest by the index, candidates compared exactly."""
    asked = VectorQuery(query, narration_weight=float(column == NARRATION_VECTOR))
    return [key for _, key in nearest(store, column, asked, K * facts.oversample, facts).best(asked, K)]


def overlap(found: Sequence[Sequence[str]], truth: Sequence[Sequence[str]]) -> float:
    """Share of the true neighbours that were found."""
    wanted = [{name for name in names if name} for names in truth]
    hit = sum(len(names & set(got)) for names, got in zip(wanted, found, strict=True))
    return hit / max(sum(map(len, wanted)), 1)

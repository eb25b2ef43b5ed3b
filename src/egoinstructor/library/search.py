"""Search: candidates from the exact product, the index or full-text search; compared exactly; fused; in a fixed order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from egoinstructor.errors import InputError
from egoinstructor.library.exact import Block, ExactSearch, VectorQuery, cosines, score, to_block
from egoinstructor.library.index import IndexFacts, nearest, read_facts
from egoinstructor.library.records import Filter, Hit
from egoinstructor.library.schema import ENTRY_COLUMNS, NARRATION_VECTOR, TEXTS, VIDEO_VECTOR, to_entries
from egoinstructor.library.sql import condition
from egoinstructor.library.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

ROWS_READ = ["id", *ENTRY_COLUMNS, VIDEO_VECTOR, NARRATION_VECTOR]
LOOSE = 4  # under a filter, so many times the candidates are first looked for without it: most filters leave enough
FEW = 20_000  # clips that a filter leaves: up to so many are compared one by one, since an index would miss some
DEPTH = 100  # places of a ranking that count when several are fused, if more aren't asked for
FUSION = 60.0  # reciprocal ranks are 1 / (60 + rank), as in Cormack et al., SIGIR 2009
MIXED = 4  # with a narration weight, so many times the candidates from either index: the best of a mix may lead neither


class Searcher:
    """Searches one library.

    Args:
        store: its tables.
        exact_rows: up to so many clips, search is exact unless told otherwise.
    """

    def __init__(self, store: Store, exact_rows: int) -> None:
        self.exact = ExactSearch(store, exact_rows)
        self._store, self._exact_rows = store, exact_rows
        self._known: tuple[int, dict[str, IndexFacts]] | None = None  # with the version of the table they stand in

    def search(
        self, queries: Sequence[VectorQuery], text: str | None, k: int, where: Filter, exact: bool | None
    ) -> list[Hit]:
        """The k best hits.

        Args:
            queries: vectors; hits tell their cosines with the first.
            text: words to look for in the narrations as well.
            k: 1 or more.
            where: which clips may be found.
            exact: compare with every clip; None where there are few, or no index.

        Raises:
            InputError: `exact=False` without an index.
        """
        allowed = condition(where)
        if text is None and len(queries) == 1:
            return self._dense(queries[0], k, allowed, exact)
        depth = max(k, DEPTH)
        rankings = [[hit.entry.id for hit in self._dense(q, depth, allowed, exact)] for q in queries]
        matches = self._matches(text, depth, allowed) if text is not None else []
        total: dict[str, float] = {}
        for ranking in [*rankings, matches]:
            for rank, key in enumerate(ranking, 1):
                total[key] = total.get(key, 0.0) + 1 / (FUSION + rank)
        best = sorted(total, key=lambda key: (-total[key], key))[:k]
        places = {key: rank for rank, key in enumerate(matches, 1)}
        hits = {hit.entry.id: hit for hit in self._hits(self._store.by_key("clips", ROWS_READ, best), queries[0])}
        return [replace(hits[key], score=total[key], text_rank=places.get(key)) for key in best if key in hits]

    def _dense(self, query: VectorQuery, k: int, allowed: str | None, exact: bool | None) -> list[Hit]:
        """The k nearest by score, of equal ones those with the smaller ids first."""
        facts = self._facts()
        indexed = query.weights.keys() <= facts.keys()
        if exact is False and not indexed:
            raise InputError(
                f"exact=False: library {self._store.uri} has no index yet. Call optimize(), or leave it out."
            )
        if exact is None:
            exact = not indexed or self._store.count("clips") <= self._exact_rows
        blocks = None if exact else self._candidates(query, k, allowed, facts)
        if blocks is None:
            best = [key for _, key in self.exact.best(query, k, allowed)]
        else:
            scored = {key: score for block in blocks for score, key in block.best(query, len(block.ids))}
            best = sorted(scored, key=lambda key: (scored[key], key))[:k]
        hits = self._hits(self._rows(best, blocks or ()), query)
        return sorted(hits, key=lambda hit: (-hit.score, hit.entry.id))

    def _rows(self, ids: Sequence[str], blocks: Iterable[Block]) -> Iterable[pa.Table]:
        """The rows of clips: from where the index found them, which is fast, unless the table has changed since."""
        places: dict[str, int] = {}
        for block in blocks:
            if block.rows is not None:
                places |= zip(block.ids.to_pylist(), block.rows.to_pylist(), strict=True)
        if places:
            rows = self._store.take("clips", ROWS_READ, [places[key] for key in ids])
            if rows is not None and sorted(rows["id"].to_pylist()) == sorted(ids):
                return [rows]
        return self._store.by_key("clips", ROWS_READ, ids)

    def _candidates(
        self, query: VectorQuery, k: int, allowed: str | None, facts: dict[str, IndexFacts]
    ) -> list[Block] | None:
        """What the indices take for near; None where so few clips are allowed that comparing each is better."""
        more = MIXED if len(query.weights) > 1 else 1
        counts = {column: k * facts[column].oversample * more for column in query.weights}

        def ask(times: int = 1, where: str | None = None, late: bool = False) -> list[Block]:
            return [nearest(self._store, c, query, times * n, facts[c], where, late=late) for c, n in counts.items()]

        if allowed is None:
            return ask()
        left = ask(LOOSE, allowed, late=True)
        if all(len(block.ids) >= count for block, count in zip(left, counts.values(), strict=True)):
            return left
        return None if self._leaves_few(allowed) else ask(1, allowed)

    def _facts(self) -> dict[str, IndexFacts]:
        version = self._store.version("about")
        if self._known is None or self._known[0] != version:
            self._known = version, read_facts(self._store)
        return self._known[1]

    def _leaves_few(self, allowed: str) -> bool:
        """Whether so few clips fulfil a condition that comparing each is best."""
        with self._store.explained("searched"):
            query = self._store.table("clips").search().select(["id"]).where(allowed).limit(FEW + 1)
            return query.to_arrow().num_rows <= FEW

    def _matches(self, text: str, count: int, allowed: str | None) -> list[str]:
        """Ids of the clips that full-text search finds by narration or refined narration, best first."""
        with self._store.explained("searched"):
            query = self._store.table("clips").search(text, query_type="fts", fts_columns=list(TEXTS))
            query = query.select(["id", "_score"]).limit(count)
            rows = (query.where(allowed) if allowed else query).to_arrow()
        order = zip(rows["_score"].to_pylist(), rows["id"].to_pylist(), strict=True)
        return [key for _, key in sorted(order, key=lambda pair: (-pair[0], pair[1]))]

    @staticmethod
    def _hits(parts: Iterable[pa.Table], query: VectorQuery) -> Iterable[Hit]:
        """Rows as hits, compared with the query exactly."""
        for rows in parts:
            vectors = to_block(rows, [VIDEO_VECTOR, NARRATION_VECTOR]).vectors
            said = rows[NARRATION_VECTOR].is_valid().to_pylist()
            scores = score(vectors, query).tolist()
            video = cosines(vectors[VIDEO_VECTOR], query.vector).tolist()
            narration = cosines(vectors[NARRATION_VECTOR], query.vector).tolist()
            for row, entry in enumerate(to_entries(rows)):
                yield Hit(entry, scores[row], video[row], narration[row] if said[row] else None)

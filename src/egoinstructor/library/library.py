"""ExoLibrary: the how-to clips that references come from, with their embeddings, in one folder or on object storage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.library.adding import add_clips, check_unit
from egoinstructor.library.deletion import delete_clips
from egoinstructor.library.exact import VectorQuery, to_vectors
from egoinstructor.library.export import export_library
from egoinstructor.library.index import IndexFacts, update_index
from egoinstructor.library.ingest import BATCH, LatentsEncoder, ingest
from egoinstructor.library.latents import get_latents, put_latents
from egoinstructor.library.log import PartOfLog, read_log, read_record, write_log
from egoinstructor.library.records import ClipEntry, Filter, Hit, VideoRecord
from egoinstructor.library.report import IngestReport
from egoinstructor.library.roots import add_source, entry_path, read_sources, relocate_clips
from egoinstructor.library.schema import ENTRY_COLUMNS, VIDEO_VECTOR, to_entries
from egoinstructor.library.search import Searcher
from egoinstructor.library.sources.opening import open_source
from egoinstructor.library.sources.rows import Source
from egoinstructor.library.sql import condition
from egoinstructor.library.stats import LibraryStats, library_stats
from egoinstructor.library.store import Store
from egoinstructor.library.verify import VerifyReport, verify_library
from egoinstructor.records import Clip
from egoinstructor.retriever.interface import Retriever, RetrieverIdentity
from egoinstructor.video.folder import ProgressCallback
from egoinstructor.video.prefetch import DECODE_THREADS

EXACT_ROWS = 200_000
"""Up to so many clips, search compares the query with each: some 30 ms on one core at width 768, and nothing is missed."""


class ExoLibrary:
    """A library of how-to clips. Any number of processes may read and write one at once.

    Make one with `create`, or open one with `open`.
    """

    def __init__(self, store: Store, retriever: Retriever | None, exact_rows: int = EXACT_ROWS) -> None:
        about = store.about()
        self.retriever = retriever
        self.retriever_name = str(about["retriever_name"])
        self.retriever_options: dict[str, Any] = about["retriever_options"]
        self.identity = RetrieverIdentity(**about["identity"])
        self._store, self._exact_rows = store, exact_rows
        self._searcher = Searcher(store, exact_rows)
        if retriever is not None:
            self.identity.check_same(retriever.identity, f"library {store.uri}")

    @classmethod
    def create(
        cls, uri: str | Path, retriever: Retriever, *, retriever_name: str = "", exact_rows: int = EXACT_ROWS
    ) -> ExoLibrary:
        """Make an empty library.

        Args:
            uri: a new or empty folder, or a URI of object storage as `lancedb.connect` takes it.
            retriever: what will embed its clips; it remembers which one.
            retriever_name: folder or Hub id to open the retriever from again, for those who open the library later.
            exact_rows: see `open`.

        Raises:
            InputError: a library is there already, other files are, or it can't be written.
        """
        about = {
            "identity": retriever.identity.as_dict(),
            "retriever_name": retriever_name,
            "retriever_options": retriever.options,
        }
        return cls(Store.create(uri, retriever.identity.dimension, about), retriever, exact_rows)

    @classmethod
    def open(cls, uri: str | Path, retriever: Retriever | None = None, *, exact_rows: int = EXACT_ROWS) -> ExoLibrary:
        """Open a library.

        Args:
            uri: its folder or URI.
            retriever: needed to search by clip or text, and to ingest.
            exact_rows: up to so many clips search is exact, and their vectors are kept in memory once it was used;
                beyond, `optimize` builds an index.

        Raises:
            InputError: no library, a damaged one, one of a newer format, or one that another retriever made.
        """
        return cls(Store.open(uri), retriever, exact_rows)

    @property
    def uri(self) -> str:
        """Where it is."""
        return self._store.uri

    def __len__(self) -> int:
        """Number of clips."""
        return self._store.count("clips")

    def count(self, where: Filter) -> int:
        """Number of clips that fulfil this."""
        return self._store.count("clips", condition(where))

    def __repr__(self) -> str:
        """Where it is, and how much."""
        return f"ExoLibrary({self.uri}, {len(self):,} clips)"

    # Where the files are

    def add_source(self, name: str, root: str | Path) -> None:
        """Say where the videos of a collection lie; said again, where they lie now.

        Args:
            name: of the collection.
            root: the folder that its videos' paths start from. One inside the library's own folder is kept relative to
                it, so that both can be moved together.

        Raises:
            InputError: an empty name.
        """
        add_source(self._store, name, Path(root))

    def sources(self) -> dict[str, Path]:
        """The root of each collection, by name."""
        return read_sources(self._store)

    def path(self, entry: ClipEntry) -> Path:
        """The file of a clip; whether it is there is not looked up.

        Raises:
            InputError: a source that isn't known, or a path that leads out of its root.
        """
        return entry_path(entry, self.sources())

    # Writing

    def known(self, ids: Iterable[str]) -> set[str]:
        """Which of these clips are in the library."""
        return {key for part in self._store.by_key("clips", ["id"], ids) for key in part["id"].to_pylist()}

    def add(self, entries: Sequence[ClipEntry], video: Tensor, narration: Tensor | None = None) -> int:
        """Add clips in one commit; those that are there already are left as they are.

        Args:
            entries: the clips, of sources that were added.
            video: their embeddings `(N, D)`, each of length 1.
            narration: embeddings of what is said `(N, D)`; rows of clips without narration are not looked at. None
                where no clip has one.

        Returns:
            How many were new.

        Raises:
            InputError: shapes that don't fit, values that aren't unit vectors, a source that isn't known, or a library
                that can't be written: nothing was added then.
        """
        return add_clips(self._store, self.sources(), self.identity.dimension, entries, video, narration)

    def ingest(
        self,
        source: str | Path | Source,
        *,
        latents: LatentsEncoder | None = None,
        batch: int = BATCH,
        workers: int = DECODE_THREADS,
        replace: bool = False,
        progress: ProgressCallback | None = None,
    ) -> IngestReport:
        """Bring videos into the library; see `ingest.ingest`.

        Args:
            source: a folder or a table, or what `sources.opening.open_source` made of one with options of its own.
            latents: see `ingest.ingest`, as for what follows.
            batch: clips embedded and committed together.
            workers: files read, and clips decoded, at a time.
            replace: remove clips that are no longer named.
            progress: called when a video is dealt with.

        Raises:
            InputError: a source that can't be used, or a library that can't be written or has no retriever.
        """
        opened = open_source(source) if isinstance(source, str | Path) else source
        return ingest(self, opened, latents=latents, batch=batch, workers=workers, replace=replace, progress=progress)

    def relocate(self, digest: str, source: str, video: str, *, ids: Iterable[str] | None = None) -> int:
        """Say that the file of a video lies elsewhere now; the log forgets where it lay.

        Args:
            digest: of the file's content, by which its clips are known.
            source: name of the collection.
            video: path in it.
            ids: only these of its clips, where the file still lies at the other place too; the log then forgets nothing.

        Returns:
            How many clips that were.
        """
        return relocate_clips(self._store, digest, source, video, ids)

    def log_videos(self, records: Iterable[VideoRecord]) -> None:
        """Note what an ingest has finished with, in one commit; a later record of the same video replaces the earlier."""
        write_log(self._store, records)

    def video_log(self) -> dict[tuple[str, str], VideoRecord]:
        """What ingests have finished with, by source and video."""
        return read_log(self._store)

    def part_of_log(self) -> PartOfLog:
        """The log, of which only the records that are asked for are read."""
        return PartOfLog(self._store)

    def video_record(self, source: str, video: str) -> VideoRecord | None:
        """What an ingest has noted of one video."""
        return read_record(self._store, source, video)

    def delete(self, *, ids: Iterable[str] | None = None, source: str | None = None, video: str | None = None) -> int:
        """Delete clips, with their latents; the log forgets their videos, so that an ingest takes them up again.

        Args:
            ids: of the clips.
            source: all clips of this collection.
            video: all clips of the video of this path, in `source` if that is given.

        Returns:
            How many there were.

        Raises:
            InputError: nothing was named, or the library can't be written.
        """
        return delete_clips(self._store, ids, source, video)

    def put_latents(self, latents: Mapping[str, Tensor], key: str) -> int:
        """Keep what a captioner's vision side made of clips, in bf16; what is there already stays.

        Args:
            latents: `(L, V)` by the clip's id.
            key: of the captioner, its frames and sampling.

        Returns:
            How many were new.

        Raises:
            InputError: clips that aren't in the library, another shape, or a library that can't be written.
        """
        return put_latents(self._store, latents, key, self.known(latents))

    def optimize(self) -> dict[str, IndexFacts]:
        """Join small files and bring the indices up to date; in a large library build those over vectors, and tune them.

        Call it after much was added. Others may read and write meanwhile.

        Returns:
            What is known of the index over each column of vectors; empty where there is none, since search is exact.

        Raises:
            InputError: the library can't be written.
        """
        return update_index(self._store, self._searcher.exact, self._exact_rows)

    # Reading

    def search(
        self,
        query: Clip | Tensor | None = None,
        *,
        text: str | None = None,
        k: int = 10,
        narration_weight: float = 0.0,
        where: Filter | None = None,
        exact: bool | None = None,
    ) -> list[Hit]:
        """The k best clips, in a fixed order.

        A clip's score is `(1 − w)·cos(video) + w·cos(narration)`, where the cosine of a narration that isn't there is 0.
        With a text, several rankings are fused by reciprocal rank: that of `query`, that of the text's embedding, and
        that of full-text search in the narrations; the score is then the sum of the reciprocal ranks.

        Args:
            query: an ego clip, or an embedding `(D,)`.
            text: words, to search by with or without a query.
            k: at most so many.
            narration_weight: w, from 0 to 1.
            where: which clips may be found.
            exact: compare with every clip; None for that in libraries without an index, and where few clips are left.

        Raises:
            InputError: nothing to search by, a value out of its range, or a clip or text without a retriever.
            VideoError: a clip that can't be read.
        """
        if k < 1:
            raise InputError(f"k={k}; ask for 1 hit or more.")
        if query is None and text is None:
            raise InputError("nothing to search by: give a clip, an embedding or a text.")
        if text is not None and not text.strip():
            raise InputError(f"text={text!r} is empty; give words to search by.")
        vectors = []
        if isinstance(query, Tensor):
            check_unit("query", query[None], (1, self.identity.dimension))
            vectors.append(query.detach().float().cpu())
        elif query is not None:
            vectors.append(self.need_retriever().encode_video([query], view="ego")[0])
        if text is not None:
            vectors.append(self.need_retriever().encode_text([text])[0])
        queries = [VectorQuery(vector, narration_weight) for vector in vectors]
        return self._searcher.search(queries, text, k, where or Filter(), exact)

    def need_retriever(self) -> Retriever:
        """The retriever that the library was opened with.

        Raises:
            InputError: it was opened without.
        """
        if self.retriever is None:
            raise InputError(
                f"library {self.uri} was opened without its retriever, and without a retriever nothing can be embedded; "
                "open it with the one that made it."
            )
        return self.retriever

    def vectors(self, ids: Sequence[str]) -> Tensor:
        """The embeddings `(N, D)` of clips' videos, in fp32, in the order of the ids.

        Raises:
            InputError: a clip that isn't there.
        """
        found: dict[str, Tensor] = {}
        for rows in self._store.by_key("clips", ["id", VIDEO_VECTOR], ids):
            found |= zip(rows["id"].to_pylist(), to_vectors(rows[VIDEO_VECTOR]), strict=True)
        if missing := set(ids) - found.keys():
            raise InputError(f"clip {min(missing)} is not in library {self.uri}.")
        return torch.stack([found[key].float() for key in ids]) if ids else torch.zeros(0, self.identity.dimension)

    def latents(self, ids: Iterable[str], key: str) -> dict[str, Tensor]:
        """The latents `(L, V)` in bf16 of those of these clips that have some under this key, by id."""
        return get_latents(self._store, ids, key)

    def verify(self, files: bool = False) -> VerifyReport:
        """Look at every row, and say what is wrong.

        Args:
            files: also read every video, and compare its digest.
        """
        return verify_library(self._store, self.sources(), files=files)

    def stats(self) -> LibraryStats:
        """What it holds, in numbers."""
        return library_stats(self._store, f"{self.identity.name} {self.identity.revision[:12]}")

    def export(self, path: str | Path) -> int:
        """Write all clips to a file: facts as `.jsonl` or `.csv`, vectors too as `.parquet` or `.safetensors`.

        Returns:
            How many clips.

        Raises:
            InputError: another suffix, or a file that can't be written.
        """
        return export_library(self._store, Path(path))

    def entries(self, ids: Iterable[str] | None = None, where: Filter | None = None) -> Iterator[ClipEntry]:
        """Clips: all, or those of these ids in their order; ids that aren't there are left out.

        Args:
            ids: which.
            where: of them, those that fulfil this.
        """
        wanted = condition(where or Filter())
        if ids is None:
            for batch in self._store.batches("clips", ENTRY_COLUMNS, wanted):
                yield from to_entries(batch)
            return
        order = list(ids)
        allowed = {
            entry.id: entry
            for part in self._store.by_key("clips", ENTRY_COLUMNS, order, wanted)
            for entry in to_entries(part)
        }
        yield from (allowed[key] for key in order if key in allowed)

"""The tables of one library on Lance: opened, read and written, with errors that say what to do.

    LIBRARY/about.lance  sources.lance  clips.lance  videos.lance  latents.lance

Every write is one commit of Lance: it is there as a whole or not at all, whenever the process is killed; what a killed
one left behind is removed by `compact` a week later. Rows enter through a merge on the table's key, which Lance knows
as the primary key: of two processes that insert the same key at once the second meets a conflict and merges anew, so
that no key is there twice, on object storage too, and without a lock.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from egoinstructor.errors import InputError, require_extra
from egoinstructor.library.conflicts import ConflictError, retry_conflicts
from egoinstructor.library.schema import FORMAT, KEYS, TEXTS, schemas
from egoinstructor.library.sql import both, one_of

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

INDEX_CACHE_BYTES = 256 * 2**20
METADATA_CACHE_BYTES = 128 * 2**20
KEYS_AT_ONCE = 2000  # of one condition
COMMITS_BETWEEN_COMPACTIONS = 256
KEPT = timedelta(hours=1)  # versions that another process may still be reading
Result = TypeVar("Result")
_FULL = ("os error 28", "os error 122", "os error 27", "no space left")
_READ_ONLY = ("os error 30", "os error 13", "os error 1)", "permission denied", "read-only", "accessdenied")


class Store:
    """The tables of a library.

    Args:
        uri: a folder, or a URI of object storage as `lancedb.connect` takes it.

    Raises:
        MissingExtraError: LanceDB is not installed.
    """

    def __init__(self, uri: str | Path) -> None:
        require_extra("lancedb", "library", "A library")
        from lancedb import Session, connect

        self.uri = str(uri)
        self.folder = local_folder(self.uri)
        self._tables: dict[str, Any] = {}
        self._commits: Counter[str] = Counter()
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"library {self.uri} is a file. Name a folder.")
        # Other processes' writes are seen at once; caches are bounded, or they would grow with the table.
        session = Session(index_cache_size_bytes=INDEX_CACHE_BYTES, metadata_cache_size_bytes=METADATA_CACHE_BYTES)
        with self.explained("opened"):
            target = self.uri if self.folder is None else str(self.folder)
            self._database = connect(target, read_consistency_interval=timedelta(0), session=session)

    @classmethod
    def create(cls, uri: str | Path, dimension: int, about: Mapping[str, Any]) -> Store:
        """Make the tables; the library is one when `about`, the last, is there.

        Args:
            uri: see `Store`.
            dimension: the embedding's width.
            about: values by key, for JSON.

        Raises:
            InputError: a library is there already, or other files are.
        """
        require_extra("pyarrow", "library", "A library")
        import pyarrow as pa
        from lancedb.index import FTS, BTree

        folder = local_folder(str(uri))
        if folder is not None and folder.is_dir():
            strange = sorted({path.name for path in folder.iterdir()} - {f"{name}.lance" for name in KEYS})
            if strange:
                raise InputError(f"{uri} is not empty: it holds {strange[0]}. Name a new folder for the library.")
        store = cls(uri)
        if store.has("about"):
            raise InputError(f"{uri} is a library already. Open it, or name a new folder.")
        rows = [{"key": key, "value": json.dumps(value)} for key, value in {"format": FORMAT, **about}.items()]
        for name, schema in schemas(dimension).items():
            if name != "about" and store.has(name):  # a creation was killed, or `about` is lost
                if store.count(name):
                    raise InputError(f"{uri} holds {name} of a library that has lost about.lance. Restore that.")
                del store._tables[name]
                store._database.drop_table(name)
            with store.explained("created"):
                first = pa.Table.from_pylist(rows, schema=schema) if name == "about" else None
                table: Any = store._database.create_table(name, first, schema=schema)
                table.set_unenforced_primary_key(KEYS[name])
                if name in ("clips", "latents"):
                    table.create_index(KEYS[name], config=BTree())
                if name == "clips":
                    for column in TEXTS:
                        table.create_index(column, config=FTS())
        return store

    @classmethod
    def open(cls, uri: str | Path) -> Store:
        """Open the tables.

        Raises:
            InputError: it is no library, a damaged one, or one of a newer format.
        """
        folder = local_folder(str(uri))
        if folder is not None and not (folder / "about.lance").is_dir():  # connecting would make the folder
            raise InputError(
                f"{uri} is not a library. Check the path, or make one with 'egoinstructor library create'."
            )
        store = cls(uri)
        if not store.has("about"):
            raise InputError(
                f"{uri} is not a library. Check the path, or make one with 'egoinstructor library create'."
            )
        made = store.about().get("format")
        if made != FORMAT:
            raise InputError(
                f"library {uri} has format {made}; this version of egoinstructor reads {FORMAT}. "
                "Update egoinstructor, or make the library anew."
            )
        return store

    def has(self, name: str) -> bool:
        """Whether a table is there."""
        try:
            self.table(name)
        except InputError as error:
            if isinstance(error.__cause__, ValueError) and "was not found" in str(error.__cause__):
                return False
            raise
        return True

    def table(self, name: str) -> Any:
        """A table as LanceDB has it, opened once."""
        if name not in self._tables:
            with self.explained("opened"):
                self._tables[name] = self._database.open_table(name)
        return self._tables[name]

    def about(self) -> dict[str, Any]:
        """The library's own facts by key."""
        rows = self.rows("about", ["key", "value"]).to_pylist()
        return {row["key"]: json.loads(row["value"]) for row in rows}

    def tell(self, key: str, value: Any) -> None:
        """Keep a fact about the library."""
        self.merge("about", self.records("about", [{"key": key, "value": json.dumps(value)}]), update=True)

    def records(self, name: str, rows: list[dict[str, Any]]) -> pa.Table:
        """Rows for a table."""
        import pyarrow as pa

        return pa.Table.from_pylist(rows, schema=self.table(name).schema)

    def merge(self, name: str, rows: pa.Table, *, update: bool = False) -> int:
        """Insert the rows whose key is new, in one commit; with `update`, replace the others.

        Args:
            name: the table.
            rows: no key twice.
            update: what happens to rows whose key is there.

        Returns:
            How many were new.
        """
        if not rows.num_rows:
            return 0

        def merge() -> int:
            builder = self.table(name).merge_insert(KEYS[name]).when_not_matched_insert_all()
            if update:
                builder = builder.when_matched_update_all()
            # LanceDB's check of vectors takes null for a bad one; told to make bad ones null, it leaves them alone.
            return int(builder.execute(rows, on_bad_vectors="null").num_inserted_rows)

        added = self.commit("written to", merge)
        self._commits[name] += 1
        if self._commits[name] % COMMITS_BETWEEN_COMPACTIONS == 0:
            self._compact(name)
        return added

    def rows(self, name: str, columns: list[str], where: str | None = None) -> pa.Table:
        """Rows that fulfil a condition, all at once."""
        with self.explained("read"):
            return self._query(name, columns, where).to_arrow()

    def batches(self, name: str, columns: list[str], where: str | None = None) -> Iterator[pa.RecordBatch]:
        """Rows that fulfil a condition, a few thousand at a time."""
        with self.explained("read"):
            batches = self._query(name, columns, where).to_batches(4096)
        while True:
            with self.explained("read"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def by_key(
        self, name: str, columns: list[str], keys: Iterable[str], where: str | None = None
    ) -> Iterator[pa.Table]:
        """The rows of these keys that fulfil a condition, in parts, in no order."""
        return self.by_value(name, columns, KEYS[name], keys, where)

    def by_value(
        self, name: str, columns: list[str], column: str, values: Iterable[str], where: str | None = None
    ) -> Iterator[pa.Table]:
        """The rows with one of these values in a column that fulfil a condition, in parts, in no order."""
        wanted = list(dict.fromkeys(values))
        for first in range(0, len(wanted), KEYS_AT_ONCE):
            yield self.rows(name, columns, both(one_of(column, wanted[first : first + KEYS_AT_ONCE]), where))

    def take(self, name: str, columns: list[str], places: Sequence[int]) -> pa.Table | None:
        """The rows at these places, as a search told them; None where one is gone. Others may have come there since."""
        try:
            return self.table(name).take_row_ids(list(places)).select(columns).to_arrow()
        except (
            OSError,
            RuntimeError,
            ValueError,
        ):  # what Lance raises for a place in a file that was joined with others
            return None

    def _query(self, name: str, columns: list[str], where: str | None) -> Any:
        query = self.table(name).search().select(columns)
        return query.where(where) if where else query

    def version(self, name: str) -> int:
        """Rises with every change of a table."""
        with self.explained("read"):
            return int(self.table(name).version)

    def count(self, name: str, where: str | None = None) -> int:
        """Number of rows that fulfil a condition."""
        with self.explained("read"):
            return int(self.table(name).count_rows(where))

    def delete(self, name: str, where: str) -> int:
        """Delete the rows that fulfil a condition, in one commit; how many there were."""
        return self.commit("written to", lambda: int(self.table(name).delete(where).num_deleted_rows))

    def update(self, name: str, where: str, values: Mapping[str, str]) -> int:
        """Change the rows that fulfil a condition, in one commit; how many there were."""

        def update() -> int:
            return int(self.table(name).update(where=where, values=dict(values)).rows_updated)

        return self.commit("written to", update)

    def compact(self) -> None:
        """Join small files, bring the indices that are there up to date, drop versions older than an hour.

        Raises:
            InputError: the library can't be written.
        """
        for name in KEYS:
            small = self.table(name).stats()["fragment_stats"]["num_small_fragments"]
            if name != "latents" or small >= COMMITS_BETWEEN_COMPACTIONS:  # these are large: joining them costs
                self.commit("compacted", partial(self.table(name).optimize, cleanup_older_than=KEPT))

    def _compact(self, name: str) -> None:
        """On the way: many small files make every further commit slower."""
        try:
            self.table(name).optimize(cleanup_older_than=KEPT)
        except (OSError, RuntimeError, ValueError) as error:  # another process did the same, or will
            logger.info("table %s of library %s was not compacted: %s", name, self.uri, error)

    def unindexed(self, name: str) -> int:
        """Rows that came after the indices were last brought up to date."""
        with self.explained("read"):
            table = self.table(name)
            return max((table.index_stats(index.name).num_unindexed_rows for index in table.list_indices()), default=0)

    def commit(self, action: str, work: Callable[[], Result]) -> Result:
        """Run one commit, repeated while other writers are ahead: the way of every write into a table that is there.

        Args:
            action: the participle that a message says can't be done, such as "written to".
            work: writes all or nothing.

        Raises:
            InputError: anything failed; what was in the library before is still there.
        """
        with self.explained(action):
            return retry_conflicts(work)

    @contextmanager
    def explained(self, action: str) -> Iterator[None]:
        """LanceDB's errors, which are of any builtin kind, as one that says what to do.

        Raises:
            InputError: anything failed; what was in the library before is still there.
        """
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            if isinstance(error, ConflictError):
                raise InputError(
                    f"library {self.uri} can't be {action}: other processes wrote to it at each of {error}. Nothing of it "
                    "is damaged. Let fewer processes write at a time (up to 8 is fast), and run the same command again: "
                    "what is finished is kept."
                ) from error
            said = str(error).lower()
            reason = re.sub(r"\s+", " ", re.sub(r", \S+\.rs:.*", "", str(error), flags=re.DOTALL))[:500]
            if any(sign in said for sign in _FULL):
                advice = "The disk is full, or a limit reached. Make room and repeat: what was there is unharmed."
            elif any(sign in said for sign in _READ_ONLY):
                advice = "Its files can't be written. Correct their permissions, or copy the library."
            elif self.folder is None:
                advice = "Check the URI, the credentials and the connection."
            else:
                advice = (
                    "Where files of it were damaged or deleted, restore them; 'egoinstructor library verify' looks."
                )
            raise InputError(f"library {self.uri} can't be {action}: {reason}. {advice}") from error


def local_folder(uri: str) -> Path | None:
    """The folder that a URI means; None where it is on object storage or in memory."""
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://")).absolute()
    return None if "://" in uri else Path(uri).absolute()

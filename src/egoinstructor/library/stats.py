"""What a library holds, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.table import Table

from egoinstructor.library.index import IndexFacts, read_facts
from egoinstructor.library.latents import count_latents
from egoinstructor.library.records import Filter
from egoinstructor.library.sql import condition
from egoinstructor.library.store import Store


@dataclass(frozen=True, slots=True)
class LibraryStats:
    """What a library holds.

    Args:
        uri: of the library.
        retriever: name and revision of what made the embeddings.
        clips: how many.
        videos: different videos of them, by content.
        sources: clips of each collection.
        hours: length of the clips together.
        narrated: share of the clips in which something is said.
        latents: clips with latents, by the captioner's key.
        bytes: size of its files; None on object storage.
        index: of each column of vectors, what is known of its index; empty where search is exact.
        unindexed: clips that came after the index was last brought up to date.
    """

    uri: str
    retriever: str
    clips: int
    videos: int
    sources: dict[str, int]
    hours: float
    narrated: float
    latents: dict[str, int]
    bytes: int | None
    index: dict[str, IndexFacts]
    unindexed: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A table."""
        table = Table("", "", title=escape(self.uri), show_header=False)
        table.add_row("retriever", escape(self.retriever))
        table.add_row("clips", f"{self.clips:,} of {self.videos:,} videos, {self.hours:,.2f} hours")
        for name, count in self.sources.items():
            table.add_row(f"  of {escape(name)}", f"{count:,}")
        table.add_row("narrated", f"{self.narrated:.1%}")
        for key, count in self.latents.items():
            table.add_row(f"latents of {escape(key[:12])}", f"{count:,}")
        if self.bytes is not None:
            table.add_row("on disk", f"{self.bytes / 1e6:,.1f} MB")
        for column, facts in self.index.items():
            table.add_row(
                f"index, {column.removesuffix('_vector')}",
                f"IVF_RQ, {facts.partitions} partitions, {facts.nprobes} probed, recall@10 {facts.recall:.3f} "
                f"at {facts.checked_rows:,} rows",
            )
        table.add_row("search", f"by index, {self.unindexed:,} clips not in it yet" if self.index else "exact")
        yield table


def library_stats(store: Store, retriever: str) -> LibraryStats:
    """Read all clips' facts, without their vectors."""
    sources: Counter[str] = Counter()
    videos: set[str] = set()
    seconds = 0.0
    for rows in store.batches("clips", ["source", "video_digest", "seconds"]):
        sources.update(rows["source"].to_pylist())
        videos.update(rows["video_digest"].to_pylist())
        seconds += sum(rows["seconds"].to_pylist())
    narrated = store.count("clips", condition(Filter(narrated=True)))
    clips = sum(sources.values())
    folder = store.folder
    return LibraryStats(
        uri=store.uri,
        retriever=retriever,
        clips=clips,
        videos=len(videos),
        sources=dict(sorted(sources.items())),
        hours=seconds / 3600,
        narrated=narrated / max(clips, 1),
        latents=count_latents(store),
        bytes=None if folder is None else sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        index=read_facts(store),
        unindexed=store.unindexed("clips"),
    )

"""Fill a library from a source: resumable, idempotent, and nothing is left out in silence.

    video file ─threads─▶ digest, duration, rows ─▶ clips that are new ─▶ batches ─▶ embed ─▶ commit ─▶ note the video

A clip is in the library from its batch's commit on. A video is noted as finished when all of its clips are, so whenever
a run is killed the next one goes on: it skips finished videos, and of the others encodes only clips that aren't there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from egoinstructor.errors import InputError, VideoError
from egoinstructor.library.obsolete import ObsoleteClips
from egoinstructor.library.records import ClipEntry, VideoRecord
from egoinstructor.library.report import IngestReport
from egoinstructor.library.scan import ScannedVideo, holds, scan_video
from egoinstructor.library.sources.rows import Finding, Source, SourceVideo
from egoinstructor.records import Clip
from egoinstructor.video.folder import ProgressCallback
from egoinstructor.video.prefetch import DECODE_THREADS, prefetch

if TYPE_CHECKING:
    from egoinstructor.library.library import ExoLibrary
    from egoinstructor.retriever.interface import Retriever

BATCH = 256
"""Clips embedded and committed together: what a kill can cost. Smaller commits make more, and slower, files."""

VIDEOS_AT_ONCE = 1000
"""Videos whose records of the log are read together."""

PORTION = 64
"""Of a commit, clips embedded before their latents are made: so few that an encoder that serves both still has them."""

MANY_COMMITS = 20
"""After so many a run ends with compacting the library's files and bringing its index up to date."""

TOO_MANY_COMMITS = 1000
"""After so many it does that on the way, as commits become slower with the number of files."""


class LatentsEncoder(Protocol):
    """What makes clips' latents; a captioner does."""

    @property
    def latents_key(self) -> str:
        """What decides the latents beside the clip."""

    def encode(self, clips: Sequence[Clip]) -> dict[Clip, Tensor]:
        """Latents `(L, V)` of each distinct clip.

        Raises:
            VideoError: a clip that can't be read.
        """


@dataclass(slots=True)
class _Item:
    """A clip that is to be embedded, or whose latents are to be made, or both."""

    video: ScannedVideo
    entry: ClipEntry
    embed: bool
    encode: bool

    @property
    def clip(self) -> Clip:
        return Clip(self.video.path, self.entry.start, self.entry.end)


def ingest(
    library: ExoLibrary,
    source: Source,
    *,
    latents: LatentsEncoder | None = None,
    batch: int = BATCH,
    workers: int = DECODE_THREADS,
    replace: bool = False,
    progress: ProgressCallback | None = None,
) -> IngestReport:
    """Bring the videos of a source into a library. Several processes may do so at once.

    Args:
        library: opened with its retriever.
        source: see `sources.opening.open_source`.
        latents: makes each clip's latents too, for captions that need not encode their references.
        batch: clips embedded and committed together.
        workers: threads that read files ahead, and that decode clips while the retriever encodes.
        replace: remove clips that a changed video or table no longer names; otherwise they are counted.
        progress: called when a video is dealt with.

    Raises:
        InputError: a library without its retriever, one that can't be written, a source whose name another folder has.
    """
    retriever = library.need_retriever()
    if batch < 1 or workers < 1:
        raise InputError(f"batch={batch}, workers={workers}: give 1 or more.")
    for encoder in retriever.frame_encoders:
        encoder.threads = workers
    run = _Run(library, retriever, source, latents, batch, replace)
    total, done = len(source), 0
    for item in prefetch(run.look_at, run.with_records(source), threads=workers):
        if isinstance(item, Finding):
            run.report.findings.append(item)
            if item.kind != "failure":
                continue
            done, name = done + 1, item.video
        else:
            run.take(item)
            done, name = done + 1, item.of.video
        if progress is not None:
            progress(done, total, name)
    run.finish()
    return run.report


class _Run:
    """One ingest under way. All but `look_at` runs on one thread."""

    def __init__(
        self,
        library: ExoLibrary,
        retriever: Retriever,
        source: Source,
        latents: LatentsEncoder | None,
        batch: int,
        replace: bool,
    ) -> None:
        self.report = IngestReport()
        self._library = library
        self._retriever = retriever
        self._root = source.root
        self._latents = latents
        self._batch = batch
        self._commits = 0
        self._items: list[_Item] = []
        self._open: list[ScannedVideo] = []
        self._log = library.part_of_log()
        self._roots = library.sources()
        self._named: set[str] = set()
        self._stale = ObsoleteClips(library, self._log, replace, self.report)

    def with_records(self, source: Source) -> Iterator[SourceVideo | Finding]:
        """The source's videos, the log's records of so many at a time read before them."""
        items = iter(source)
        while part := list(islice(items, VIDEOS_AT_ONCE)):
            self._log.read((item.source, item.video) for item in part if not isinstance(item, Finding))
            yield from part

    def look_at(self, item: SourceVideo | Finding) -> ScannedVideo | Finding:
        """Read a video's file, unless it is finished, and make its rows clips; on any thread."""
        if isinstance(item, Finding):
            return item
        key = self._latents.latents_key if self._latents is not None else ""
        return scan_video(item, self._root, key, self._log.get((item.source, item.video)), self._stale.shared)

    def take(self, video: ScannedVideo) -> None:
        """Line up what of a video is new, and commit what makes a full batch."""
        self._name_source(video.of.source)
        if any(item.entry.id in video.entries for item in self._items):
            self._commit_items(1)  # a copy of a video that is under way
        self._stale.see(video)
        known = self._library.known(video.entries) if video.entries else set()
        self._follow(video, known)
        if video.finished_before:
            self.report.skipped += 1
            return
        kept = self._with_latents(sorted(known))
        for key, entry in video.entries.items():
            item = _Item(video, entry, key not in known, self._latents is not None and key not in kept)
            if item.embed or item.encode:
                self._items.append(item)
                video.waiting += 1
        self.report.known += len(known)
        self._open.append(video)
        self._commit_items(self._batch)
        if len(self._open) >= self._batch:
            self._note()

    def _with_latents(self, ids: Sequence[str]) -> set[str]:
        """Which of these clips have latents; read in parts, as they are large."""
        if self._latents is None:
            return set()
        parts = (ids[first : first + self._batch] for first in range(0, len(ids), self._batch))
        return {key for part in parts for key in self._library.latents(part, self._latents.latents_key)}

    def finish(self) -> None:
        """Commit and note what is left."""
        self._commit_items(1)
        self._note()
        self._stale.settle()
        self._optimize(MANY_COMMITS)

    def _optimize(self, least: int) -> None:
        """Compact after so many commits. All clips are in already: what goes wrong here is told, and stops nothing."""
        if self._commits < least:
            return
        self._commits = 0
        try:
            self._library.optimize()
        except InputError as error:  # no room, or another ingest does the same at this moment
            self.report.findings.append(Finding("note", self._library.uri, "", f"every clip is in, but: {error}"))

    def _name_source(self, name: str) -> None:
        """Make the root of a collection known, unless another folder has its name."""
        if name in self._named:
            return
        root, known = self._root.resolve(), self._roots.get(name)
        if known is not None and known.resolve() != root and known.is_dir():
            raise InputError(
                f"source {name!r} of library {self._library.uri} lies in {known}, not in {self._root}. Give this one "
                "another name; or if its videos have moved here, say so first, with 'egoinstructor library sources'."
            )
        if known is None or known.resolve() != root:
            self._library.add_source(name, self._root)
            self._roots = self._library.sources()
        self._named.add(name)

    def _follow(self, video: ScannedVideo, known: set[str]) -> None:
        """Where all other places of a video's content are gone, its clips are here now."""
        if not video.digest:
            return
        others = self._stale.others(video)
        if not others and known:  # clips of a run that was stopped before it could note their video
            some = self._library.entries([min(known)])
            others = {(entry.source, entry.video) for entry in some} - {video.place}
        places = [self._roots[name] / path for name, path in others if name in self._roots]
        if others and not any(holds(place, video.digest) for place in places):
            self._library.relocate(video.digest, *video.place)
            self._stale.moved(video)
            self.report.moved += 1

    def _commit_items(self, least: int) -> None:
        """Commit batches while there are so many items."""
        while len(self._items) >= least:
            items, self._items = self._items[: self._batch], self._items[self._batch :]
            self._commit(items)
            self._note()
            self._optimize(TOO_MANY_COMMITS)

    def _commit(self, items: Sequence[_Item]) -> None:
        """Embed clips and make their latents, portion by portion; commit the clips, then the latents."""
        embedded: list[tuple[_Item, Tensor]] = []
        encoded: list[tuple[_Item, Tensor]] = []
        for first in range(0, len(items), PORTION):
            portion = items[first : first + PORTION]
            seen = self._readable([item for item in portion if item.embed], self._embed)
            lost = {item.entry.id for item in portion if item.embed} - {item.entry.id for item, _ in seen}
            left = [item for item in portion if item.encode and item.entry.id not in lost]
            encoded += self._readable(left, self._encode)
            embedded += seen
        if embedded:
            entries = [item.entry for item, _ in embedded]
            spoken = [i for i, entry in enumerate(entries) if entry.text]
            narration = torch.zeros(len(entries), self._retriever.identity.dimension)  # (N, D)
            if spoken:
                narration[spoken] = self._retriever.encode_text([entries[i].text for i in spoken]).float()
            self.report.added += self._library.add(entries, torch.stack([vector for _, vector in embedded]), narration)
            self._commits += 1
        unreadable = {item.entry.id for item in items if item.embed} - {item.entry.id for item, _ in embedded}
        if encoded and self._latents is not None:
            self._library.put_latents({item.entry.id: kept for item, kept in encoded}, self._latents.latents_key)
            self.report.latents += len(encoded)
        for item in items:
            item.video.waiting -= 1
            item.video.missing += item.entry.id in unreadable

    def _readable(
        self, items: Sequence[_Item], work: Callable[[list[Clip]], Iterable[Tensor]]
    ) -> list[tuple[_Item, Tensor]]:
        """What `work` makes of each clip that can be read; halved where it can't, until the culprits are found."""
        if not items:
            return []
        try:
            return list(zip(items, work([item.clip for item in items]), strict=True))
        except VideoError as error:
            if len(items) == 1:
                entry = items[0].entry
                items[0].video.fail(str(error), f"{entry.start:g}–{entry.end:g} s")
                return []
            middle = len(items) // 2
            return self._readable(items[:middle], work) + self._readable(items[middle:], work)

    def _embed(self, clips: list[Clip]) -> Iterable[Tensor]:
        return self._retriever.encode_video(clips, view="exo")

    def _encode(self, clips: list[Clip]) -> Iterable[Tensor]:
        assert self._latents is not None
        encoded = self._latents.encode(clips)
        return [encoded[clip] for clip in clips]

    def _note(self) -> None:
        """Write down the videos of which nothing is waiting any more."""
        done = [video for video in self._open if not video.waiting]
        self._open = [video for video in self._open if video.waiting]
        records = []
        for video in done:
            clips = len(video.entries) - video.missing
            error = "; ".join(dict.fromkeys(video.errors))[:1000]
            records.append(VideoRecord(*video.place, video.digest, video.fingerprint, clips, error, video.stamp))
            self.report.findings += video.findings
            self.report.finished += not video.errors
            self.report.failed += bool(video.errors)
        self._stale.log(done, records)

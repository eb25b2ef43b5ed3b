"""Clips that a changed video no longer names: a copy of the file may name them still, or they go.

A clip is known by its content, so it is in the library once however many files have that content, at the place of the one
that came first. What its own video no longer names is therefore looked for among the copies: of those in the run, by what
they name, once all have been seen; of others, whose words nobody can see now, by their file being there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from egoinstructor.library.log import PartOfLog, Place
from egoinstructor.library.records import ClipEntry, Filter, VideoRecord
from egoinstructor.library.report import IngestReport
from egoinstructor.library.scan import LEFT, ScannedVideo, holds
from egoinstructor.library.sources.rows import Finding

if TYPE_CHECKING:
    from egoinstructor.library.library import ExoLibrary

VIDEOS_AT_ONCE = 1000  # of one condition


class ObsoleteClips:
    """What earlier rows or content of the videos in one run have left in the library.

    Args:
        library: that is filled.
        log: of its videos, as the run found them.
        remove: the clips that nobody names; otherwise they are counted.
        report: of the run.
    """

    def __init__(self, library: ExoLibrary, log: PartOfLog, remove: bool, report: IngestReport) -> None:
        self._library, self._log, self._remove, self._report = library, log, remove, report
        self._left_before = {entry.video_digest for entry in self._at(log.marked(LEFT))}
        self._named: dict[str, Place] = {}  # clips of shared content that a video of this run names
        self._seen: set[Place] = set()  # which videos that takes in
        self._open: dict[str, ClipEntry] = {}  # what only the end of the run can decide
        self._left: set[Place] = set()  # videos with clips that stay, though they don't name them

    def shared(self, digest: str) -> bool:
        """Whether clips of this content may lie at another place than that of a file with it; on any thread."""
        return len(self._log.copies(digest)) > 1 or digest in self._left_before

    def see(self, video: ScannedVideo) -> None:
        """Keep where a video lies, and what it names where others have its content."""
        if not video.digest:
            return
        self._log.found(video.digest, video.place)
        if self.shared(video.digest) and video.entries:
            self._named |= dict.fromkeys(video.entries, video.place)
            self._seen.add(video.place)

    def others(self, video: ScannedVideo) -> set[Place]:
        """The other places at which a file with a video's content lies, or lay."""
        return self._log.copies(video.digest) - {video.place}

    def moved(self, video: ScannedVideo) -> None:
        """All other files with a video's content are gone."""
        self._log.moved(video.digest, video.place)

    def log(self, done: Sequence[ScannedVideo], records: Sequence[VideoRecord]) -> None:
        """Note videos that are finished. Those with clips that they don't name are marked, for a run to look again.

        Args:
            done: the videos.
            records: what is to be noted of them.
        """
        named = {video.place: video.entries for video in done if video.changed(self._log.get(video.place))}
        marked, gone = set(), []
        for entry in self._at(list(named)):
            place = entry.source, entry.video
            if place not in named or entry.id in named[place]:
                continue
            if self._log.copies(entry.video_digest) - {place}:
                self._open[entry.id] = entry
            else:
                self._report.stale += 1
                if self._remove:
                    gone.append(entry.id)
                    continue
                self._left.add(place)
            marked.add(place)
        self._delete(gone)
        if records:
            self._library.log_videos(_marked(record, (record.source, record.video) in marked) for record in records)

    def settle(self) -> None:
        """Now that every video was seen: what a copy names is put in its place, and what nobody names goes."""
        if not self._open:
            return
        roots, gone = self._library.sources(), []
        there = cache(lambda name, path, digest: name in roots and holds(roots[name] / path, digest))
        moves: dict[tuple[str, Place], list[str]] = defaultdict(list)
        kept: Counter[Place] = Counter()
        for entry in self._open.values():
            digest, place = entry.video_digest, (entry.source, entry.video)
            to = self._named.get(entry.id)
            if to is None and not self._remove:
                self._report.stale += 1
                self._left.add(place)
                continue
            if to is None:
                unseen = sorted(self._log.copies(digest) - self._seen - {place})
                to = next((copy for copy in unseen if there(*copy, digest)), None)
                if to is None:
                    self._report.stale += 1
                    gone.append(entry)
                    continue
                kept[to] += 1
            moves[digest, to].append(entry.id)
        for (digest, to), ids in moves.items():
            self._library.relocate(digest, *to, ids=ids)
        places, digests = {(e.source, e.video) for e in self._open.values()}, {entry.video_digest for entry in gone}
        mended = places - self._left
        # Deleting makes the log forget every video with that content; those that were seen have lost nothing by it.
        touched = places | {place for digest in digests for place in self._log.copies(digest) & self._seen}
        records = self._log.latest(touched) if gone or mended else []
        self._delete([entry.id for entry in gone])
        self._library.log_videos(_marked(r, False) if (r.source, r.video) in mended else r for r in records)
        for (_, path), count in sorted(kept.items()):
            reason = f"{count:,} clips that a copy of it no longer names are kept: this run could not see what it names"
            self._report.findings.append(Finding("note", path, "", reason))

    def _at(self, places: Sequence[Place]) -> Iterator[ClipEntry]:
        """The clips of videos, and perhaps of others of the same name in other collections."""
        for first in range(0, len(places), VIDEOS_AT_ONCE):
            sources, videos = zip(*places[first : first + VIDEOS_AT_ONCE], strict=True)
            where = Filter(sources=tuple(set(sources)), videos=tuple(dict.fromkeys(videos)))
            yield from self._library.entries(where=where)

    def _delete(self, ids: Sequence[str]) -> None:
        if ids:
            self._report.removed += self._library.delete(ids=ids)


def _marked(record: VideoRecord, left: bool) -> VideoRecord:
    return replace(record, fingerprint=record.fingerprint.removesuffix(LEFT) + (LEFT if left else ""))

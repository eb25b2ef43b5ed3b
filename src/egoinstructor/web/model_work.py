"""What the models do for requests: look (encode clips, find references, search), and write captions, in batches.

Everything here blocks. One thread looks and one writes, so that a batch's references are found while the one before it is
written. Each request carries its own clips, and gets its own answer: nothing of one is seen by another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from egoinstructor.errors import EgoInstructorError, InputError
from egoinstructor.library.records import ClipEntry, Filter
from egoinstructor.library.references import Retrieval, find_references
from egoinstructor.library.roots import entry_path
from egoinstructor.library.selection import Selection
from egoinstructor.records import Caption, Clip, Reference
from egoinstructor.web.errors import NotFound
from egoinstructor.web.results import FoundClip

if TYPE_CHECKING:
    from torch import Tensor

    from egoinstructor.captioners.egoinstructor import Captioner
    from egoinstructor.library.library import ExoLibrary

PLAYABLE = (".mp4", ".m4v", ".webm")
"""Endings of files that browsers play."""


Pairs = Sequence[tuple[FoundClip, Reference]]
"""References, each as the service tells it and as the captioner reads it."""


@dataclass(frozen=True, slots=True)
class Query:
    """An ego clip.

    Args:
        clip: its frames, as the captioner samples them.
        seen: its frames, as the library's retriever samples them; often the same.
        digest: of the content of the video that it was cut from: what that shows is no reference for it.
    """

    clip: Clip
    seen: Clip
    digest: str


@dataclass(frozen=True, slots=True)
class CaptionWork:
    """A clip that is to be captioned.

    Args:
        query: the ego clip.
        shots: references to look for in the library.
        num_beams: beams.
        chosen: ids of the library's clips to read instead; None to look for some.
        own: the user's references, which are read first.
    """

    query: Query
    shots: int
    num_beams: int
    chosen: tuple[str, ...] | None
    own: Pairs = ()


@dataclass(frozen=True, slots=True)
class WritingWork:
    """A clip whose references are found, for the captioner to write of."""

    clip: Clip
    pairs: Pairs
    num_beams: int


@dataclass(frozen=True, slots=True)
class Captioned:
    """A caption, with what the model read as the service tells it."""

    caption: Caption
    references: tuple[FoundClip, ...]


class ModelWork:
    """A captioner and its library, for the one thread that uses them.

    Args:
        captioner: that writes.
        library: opened with its retriever; None for captions without references from a library.
        retrieval: how references are looked for; None for the defaults.
    """

    def __init__(self, captioner: Captioner, library: ExoLibrary | None, retrieval: Retrieval | None) -> None:
        self.captioner, self.library = captioner, library
        self._retrieval = retrieval or Retrieval()

    def look(self, works: Sequence[CaptionWork]) -> list[WritingWork | Exception]:
        """Encode the clips, and find what the model is to read of each: the user's references, then the library's.

        Returns:
            For each clip what is needed to write of it; or the error, where a clip was chosen that isn't there.
        """
        looking = [work for work in works if work.chosen is None and work.shots > 0 and self.library is not None]
        found = iter(self._find(looking))
        # Most are encoded by now, as the retriever looks through the captioner's eyes; they are kept for the writing.
        self.captioner.encode([work.query.clip for work in works] + [r.clip for work in works for _, r in work.own])
        looked: list[WritingWork | Exception] = []
        for work in works:
            more: Pairs = ()
            try:
                if work.chosen:
                    more = self._chosen(work.chosen)
                elif work.chosen is None and work.shots > 0 and self.library is not None:
                    more = next(found)
            except EgoInstructorError as error:
                looked.append(error)
                continue
            looked.append(WritingWork(work.query.clip, [*work.own, *more], work.num_beams))
        return looked

    def write(self, works: Sequence[WritingWork]) -> list[Captioned]:
        """Caption clips with the same number of beams.

        Raises:
            InputError: a prompt that doesn't fit.
        """
        queries = [(work.clip, [reference for _, reference in work.pairs]) for work in works]
        captions = self.captioner.caption_batch(queries, num_beams=works[0].num_beams)
        return [_told(caption, work.pairs) for caption, work in zip(captions, works, strict=True)]

    def write_stream(self, work: WritingWork, stopped: Callable[[], bool]) -> Iterator[str | Captioned]:
        """Caption one clip greedily: the text so far as it grows, then the caption. Ends early when it is stopped."""
        if stopped():
            return
        for piece in self.captioner.caption_stream(work.clip.video, [reference for _, reference in work.pairs]):
            if stopped():
                return  # which ends the captioner's own thread, as nobody holds its iterator any more
            yield _told(piece, work.pairs) if isinstance(piece, Caption) else piece

    def found(self, query: Query, shots: int) -> list[FoundClip]:
        """The references that a caption would read."""
        (selection,) = self._select([(query, shots)], {})
        return self.tell([(hit.entry, hit.score) for hit in selection.chosen])

    def search(self, query: Query | None, text: str | None, k: int, source: str | None) -> list[FoundClip]:
        """The k nearest clips of the library.

        Raises:
            InputError: nothing to search by, or an unknown collection.
        """
        library = self._need_library()
        if source is not None and source not in (names := library.sources()):
            raise InputError(f"source {source!r}: the library has {', '.join(names) or 'none'}.")
        where = Filter(sources=() if source is None else (source,))
        hits = library.search(None if query is None else query.seen, text=text, k=k, where=where)
        return self.tell([(hit.entry, hit.score) for hit in hits])

    def file(self, id: str) -> Path:
        """The video of a clip of the library, if a browser can play it.

        Raises:
            NotFound: no such clip, or its video is gone or of another kind.
        """
        library = self._need_library()
        roots = library.sources()
        for entry in library.entries([id]):
            path = entry_path(entry, roots)
            if _plays(path):
                return path
        raise NotFound(f"clip {id!r}: the library has no such clip with a video that can be played.")

    def tell(self, clips: Sequence[tuple[ClipEntry, float | None]]) -> list[FoundClip]:
        """Clips of the library, with their scores, as the service tells them: no path of this machine."""
        roots = self._need_library().sources()
        return [
            FoundClip(
                id=entry.id,
                narration=entry.text,
                score=score,
                start=entry.start,
                end=entry.end,
                source=entry.source,
                video=PurePosixPath(entry.video).name,
                playable=_plays(entry_path(entry, roots)),
            )
            for entry, score in clips
        ]

    def _need_library(self) -> ExoLibrary:
        if self.library is None:
            raise NotFound("this server has no library. Start it with --library.", code="no_library")
        return self.library

    def _chosen(self, ids: Sequence[str]) -> Pairs:
        library = self._need_library()
        entries = list(library.entries(dict.fromkeys(ids)))
        if missing := set(ids) - {entry.id for entry in entries}:
            raise NotFound(f"reference {min(missing)!r}: the library has no such clip.")
        for entry in entries:
            if not entry.text.strip():
                raise InputError(f"reference {entry.id!r}: nothing is said in it, so that it can't be a reference.")
        latents, failures = self.captioner.read_entries(library, entries)
        if failures:
            raise InputError(f"reference {min(failures)!r}: its video can't be read any more. Leave it out.")
        return self._pairs([(entry, None) for entry in entries], latents)

    def _find(self, works: Sequence[CaptionWork]) -> list[Pairs]:
        """As `Captioner.find` does, with what tells one clip of the library from another."""
        if not works:
            return []
        library = self._need_library()
        broken: dict[str, str] = {}
        while True:  # until no clip that was chosen turns out to be unreadable
            selections = self._select([(work.query, work.shots) for work in works], broken)
            entries = [hit.entry for selection in selections for hit in selection.chosen]
            latents, failures = self.captioner.read_entries(library, entries)
            if not failures:
                break
            broken |= failures
        pairs = self._pairs([(hit.entry, hit.score) for selection in selections for hit in selection.chosen], latents)
        rest = iter(pairs)
        return [list(islice(rest, len(selection.chosen))) for selection in selections]

    def _select(self, queries: Sequence[tuple[Query, int]], broken: dict[str, str]) -> list[Selection]:
        """One pass embeds all clips; each is then searched for on its own."""
        library = self._need_library()
        embedded = library.need_retriever().encode_video([query.seen for query, _ in queries], view="ego")

        def select(rows: Sequence[int], shots: int, retrieval: Retrieval) -> list[Selection]:
            clips = [queries[row][0].seen for row in rows]
            key = self.captioner.latents_key
            return find_references(
                library, clips, shots, retrieval, latents_key=key, broken=broken, queries=embedded[list(rows)]
            )

        selections: dict[int, Selection] = {}
        for shots in dict.fromkeys(shots for _, shots in queries):
            rows = [row for row, (_, wanted) in enumerate(queries) if wanted == shots]
            selections |= zip(rows, select(rows, shots, self._retrieval), strict=True)
        for row, (query, shots) in enumerate(queries):  # frames don't tell of which video of the library they are
            if any(hit.entry.video_digest == query.digest for hit in selections[row].chosen):
                where = self._retrieval.where
                others = replace(where, exclude_digests=(*where.exclude_digests, query.digest))
                (selections[row],) = select([row], shots, replace(self._retrieval, where=others))
        return [selections[row] for row in range(len(queries))]

    def _pairs(self, clips: Sequence[tuple[ClipEntry, float | None]], latents: Mapping[str, Tensor]) -> Pairs:
        """Clips of the library as the service tells them, and as the captioner reads them."""
        roots = self._need_library().sources()
        references = [
            Reference(entry_path(entry, roots), entry.text, entry.start, entry.end, score, latents[entry.id])
            for entry, score in clips
        ]
        return list(zip(self.tell(clips), references, strict=True))


def _plays(path: Path) -> bool:
    return path.suffix.lower() in PLAYABLE and path.is_file()


def _told(caption: Caption, pairs: Pairs) -> Captioned:
    """A caption with those of the references that it read; some may not have fitted in the prompt."""
    read = {id(reference) for reference in caption.references}
    return Captioned(caption, tuple(found for found, reference in pairs if id(reference) in read))

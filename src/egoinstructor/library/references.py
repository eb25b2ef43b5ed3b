"""The references of ego clips, out of a library: search, then selection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from egoinstructor.errors import InputError, VideoError
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import ClipEntry, Filter, Hit
from egoinstructor.library.roots import entry_path
from egoinstructor.library.selection import Selection, SelectionRules, select
from egoinstructor.records import Clip, VideoSource
from egoinstructor.video.identity import content_digest, stamp

HITS_PER_REFERENCE = 8
"""Hits looked at for each reference wanted, in each round."""

ROUNDS = 4
"""Rounds of search, if the rules leave too few; from the second on without the videos that can give no more."""

MOST_DIGESTS = 65_536

_DIGESTS: dict[tuple[Path, str], str] = {}
"""Of files as they were at a time of change: a library is asked once a process, which takes longer than a search."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How references are looked for.

    Args:
        narration_weight: how much the similarity of the clip to the references' *narrations* counts, from 0 to 1; the
            rest is the similarity to their videos.
        where: which clips may be references at all.
        rules: what a reference must fulfil.
    """

    narration_weight: float = 0.0
    where: Filter = field(default_factory=Filter)
    rules: SelectionRules = field(default_factory=SelectionRules)


def find_references(
    library: ExoLibrary,
    clips: Sequence[Clip],
    k: int,
    retrieval: Retrieval | None = None,
    *,
    latents_key: str | None = None,
    broken: Mapping[str, str] | None = None,
    queries: Tensor | None = None,
) -> list[Selection]:
    """The k best references of each ego clip; fewer where the rules allow no more of what is nearest.

    A clip whose video is gone, or is another one than was ingested, is passed over: its words would be told to other
    pictures.

    Args:
        library: opened with its retriever.
        clips: egocentric.
        k: references for each.
        retrieval: None for the defaults.
        latents_key: of the captioner that is to read them: a clip whose latents are kept under it needs no video.
        broken: clips that could not be read, by id, with the reason.
        queries: the clips' embeddings `(N, D)`, if they are at hand.

    Raises:
        InputError: a library without its retriever, or a negative k.
        VideoError: an ego clip that can't be read.
    """
    if k < 0:
        raise InputError(f"{k} references were asked for; ask for 0 or more.")
    retriever = library.need_retriever()
    if not clips or k == 0:
        return [Selection()] * len(clips)
    if queries is None:
        queries = retriever.encode_video(clips, view="ego")
    roots = library.sources()

    @cache  # each round asks anew
    def unreadable(entry: ClipEntry) -> str | None:
        if broken and entry.id in broken:
            return broken[entry.id]
        reason = gone(library, entry, entry_path(entry, roots))
        kept = reason is not None and latents_key is not None and library.latents([entry.id], latents_key)
        return None if kept else reason

    return [
        _select(library, query, k, retrieval or Retrieval(), _own(clip.video, roots), unreadable)
        for clip, query in zip(clips, queries, strict=True)
    ]


def _select(
    library: ExoLibrary,
    query: Tensor,
    k: int,
    retrieval: Retrieval,
    own: Callable[[ClipEntry], bool],
    unreadable: Callable[[ClipEntry], str | None],
) -> Selection:
    """Search and select, in rounds."""
    hits: list[Hit] = []
    vectors = torch.zeros(0, len(query))
    where, wanted = retrieval.where, k * HITS_PER_REFERENCE
    for _ in range(ROUNDS):
        seen = {hit.entry.id for hit in hits}
        found = library.search(query, k=wanted, narration_weight=retrieval.narration_weight, where=where)
        fresh = [hit for hit in found if hit.entry.id not in seen]
        hits += fresh
        vectors = torch.cat([vectors, library.vectors([hit.entry.id for hit in fresh])])
        selection = select(hits, vectors, k, retrieval.rules, own=own, unreadable=unreadable)
        least = retrieval.rules.min_score
        if len(selection.chosen) == k or len(found) < wanted or (least is not None and found[-1].score < least):
            break
        taken = Counter(hit.entry.video_digest for hit in selection.chosen)
        done = {digest for digest, count in taken.items() if count >= retrieval.rules.per_video}
        done |= {hit.entry.video_digest for hit in hits if own(hit.entry)}
        where = replace(
            retrieval.where, narrated=True, exclude_digests=(*retrieval.where.exclude_digests, *sorted(done))
        )
    return selection


def gone(library: ExoLibrary, entry: ClipEntry, path: Path) -> str | None:
    """Why a clip's video can't be shown, or None. A file that looks as it did at ingest isn't read."""
    try:
        now = stamp(path)
        digest = _DIGESTS.get((path, now), "")
        if not digest:
            record = library.video_record(entry.source, entry.video)
            known = record.digest if record is not None and record.stamp == now else ""
            digest = known or content_digest(path)
            if len(_DIGESTS) >= MOST_DIGESTS:
                _DIGESTS.clear()
            _DIGESTS[path, now] = digest
    except VideoError:
        return f"its video is missing: {path}"
    return None if digest == entry.video_digest else f"its video is another one now: {path}"


def _own(video: VideoSource, roots: Mapping[str, Path]) -> Callable[[ClipEntry], bool]:
    """Whether a clip is of the query's own video, or of a piece of it."""
    if isinstance(video, Path) and video.is_dir():
        folder = video.resolve()
        return lambda entry: entry_path(entry, roots).resolve().is_relative_to(folder)
    digest = content_digest(video)
    return lambda entry: entry.video_digest == digest

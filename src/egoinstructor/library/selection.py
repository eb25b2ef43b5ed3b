"""Which k of a search's hits become references. Each rule is on its own, and each hit passed over says by which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.library.records import ClipEntry, Hit


@dataclass(frozen=True, slots=True)
class SelectionRules:
    """What a reference must fulfil, beside being similar.

    Args:
        per_video: at most so many clips of one video: four views of one kitchen say less than four kitchens.
        overlap: clips of one video that share more than this of the shorter one's time are duplicates.
        near_duplicate: clips whose videos' embeddings have a higher cosine are taken for copies of each other, as when
            one upload stands in a library twice, re-encoded; 1 for none.
        min_score: clips below are too dissimilar to help: fewer references are used, or none. None for no limit.

    Raises:
        InputError: a value out of its range.
    """

    per_video: int = 1
    overlap: float = 0.5
    near_duplicate: float = 0.98
    min_score: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.per_video < 1:
            raise InputError(f"per_video={self.per_video}; allow 1 clip of a video or more.")
        for name, low in (("overlap", 0.0), ("near_duplicate", -1.0), ("min_score", -1.0)):
            value = getattr(self, name)
            if value is not None and not low <= value <= 1:
                raise InputError(f"{name}={value}; it must lie between {low:g} and 1.")


@dataclass(frozen=True, slots=True)
class Selection:
    """What was chosen of the hits, most similar first, and what was passed over before the last was found, and why."""

    chosen: tuple[Hit, ...] = ()
    passed_over: tuple[tuple[Hit, str], ...] = ()


def select(
    hits: Sequence[Hit],
    vectors: Tensor,
    k: int,
    rules: SelectionRules | None = None,
    *,
    own: Callable[[ClipEntry], bool] = lambda _: False,
    unreadable: Callable[[ClipEntry], str | None] = lambda _: None,
) -> Selection:
    """Go through the hits from the most similar, and take what no rule forbids, until there are k.

    Args:
        hits: most similar first.
        vectors: the embeddings of their videos `(N, D)`, unit norm.
        k: how many are wanted.
        rules: None for the defaults.
        own: whether a clip is of the query's own video: its neighbours show the same hands, and say nothing new.
        unreadable: why a clip can't be shown, or None if it can.

    Raises:
        InputError: as many vectors as hits are needed, or k is negative.
    """
    if len(vectors) != len(hits) or k < 0:
        raise InputError(
            f"{len(hits)} hits with {len(vectors)} vectors and k={k}; each hit needs one, and k is 0 or more."
        )
    rules = rules or SelectionRules()
    chosen: list[int] = []
    passed_over: list[tuple[Hit, str]] = []
    of_video: Counter[str] = Counter()
    for i, hit in enumerate(hits):
        if len(chosen) == k:
            break
        entry = hit.entry
        if own(entry):
            reason: str | None = "of the query's own video"
        elif rules.min_score is not None and hit.score < rules.min_score:
            reason = f"score {hit.score:.3f} below {rules.min_score:g}"
        elif not entry.text.strip():
            reason = "nothing is said in it"
        elif (twin := _overlapping(entry, [hits[j].entry for j in chosen], rules.overlap)) is not None:
            reason = f"the same moment as reference {twin + 1}"
        elif of_video[entry.video_digest] >= rules.per_video:
            reason = f"{rules.per_video} of its video already"
        elif (twin := _copy_of(vectors[i], vectors[chosen], rules.near_duplicate)) is not None:
            reason = f"looks the same as reference {twin + 1}"
        else:
            reason = unreadable(entry)
        if reason is not None:
            passed_over.append((hit, reason))
            continue
        chosen.append(i)
        of_video[entry.video_digest] += 1
    return Selection(tuple(hits[i] for i in chosen), tuple(passed_over))


def _overlapping(entry: ClipEntry, chosen: Sequence[ClipEntry], share: float) -> int | None:
    """The first chosen clip that shows the same moment of the same video."""
    for place, other in enumerate(chosen):
        shared = min(entry.end, other.end) - max(entry.start, other.start)
        shorter = min(entry.end - entry.start, other.end - other.start)
        if other.video_digest == entry.video_digest and shared > share * shorter:
            return place
    return None


def _copy_of(vector: Tensor, chosen: Tensor, cosine: float) -> int | None:
    """The chosen clip that looks most alike, if it looks alike enough to be a copy."""
    if cosine >= 1 or not len(chosen):
        return None
    best, place = torch.max(chosen @ vector, dim=0)
    return int(place) if best > cosine else None

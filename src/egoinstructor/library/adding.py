"""Clips into the table: each once, with vectors that search can compare.

Shapes: **N** clips, **D** width of the embeddings.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.library.records import ClipEntry
from egoinstructor.library.schema import clip_rows
from egoinstructor.library.store import Store

LENGTH_TOLERANCE = 1e-2


def add_clips(
    store: Store,
    sources: Collection[str],
    dimension: int,
    entries: Sequence[ClipEntry],
    video: Tensor,
    narration: Tensor | None,
) -> int:
    """Add clips in one commit; see `ExoLibrary.add`.

    Args:
        store: the library's tables.
        sources: names of the collections that are known.
        dimension: D.
        entries: the clips.
        video: `(N, D)`.
        narration: `(N, D)`, or None where nothing is said in any.

    Returns:
        How many were new.

    Raises:
        InputError: what doesn't fit, or a library that can't be written: nothing was added then.
    """
    told = torch.tensor([bool(entry.text) for entry in entries], dtype=torch.bool)
    check_unit("video", video, (len(entries), dimension))
    if narration is not None:
        check_unit("narration", narration, (len(entries), dimension), told)
    elif told.any():
        raise InputError("narration=None for clips in which something is said; give embeddings of what is said.")
    if strange := {entry.source for entry in entries} - set(sources):
        raise InputError(f"source {min(strange)!r} is not known to library {store.uri}. Call add_source first.")
    if not entries:
        return 0
    first = {entry.id: row for row, entry in reversed(list(enumerate(entries)))}
    rows = clip_rows(store.table("clips").schema, entries, video.cpu(), None if narration is None else narration.cpu())
    return store.merge("clips", rows.take(sorted(first.values())))


def check_unit(name: str, vectors: Tensor, shape: tuple[int, int], used: Tensor | None = None) -> None:
    """Refuse embeddings that can't be compared.

    Args:
        name: what they are of, as the message names it.
        vectors: them.
        shape: `(N, D)`.
        used: which rows are looked at `(N,)`; None for all.

    Raises:
        InputError: another shape, or a row whose length isn't 1.
    """
    if tuple(vectors.shape) != shape:
        raise InputError(f"{name} embeddings of shape {tuple(vectors.shape)}; they must be {shape}.")
    lengths = vectors.float().norm(dim=1).cpu()  # (N,)
    wrong = ~((lengths - 1).abs() < LENGTH_TOLERANCE)  # NaN is wrong too
    if (bad := wrong if used is None else wrong & used).any():
        row = int(bad.nonzero()[0])
        raise InputError(f"{name} embedding {row} has length {lengths[row]:.4g}; each must have length 1.")

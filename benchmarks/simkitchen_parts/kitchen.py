"""A rendered split as this benchmark sees it, and the library of its how-to clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import ClipEntry
from egoinstructor.records import Clip
from egoinstructor.retriever.interface import Retriever
from nano_steps.clips import KitchenClip, of_camera, read_clips
from nano_steps.embedding import embed_split, file_of


@dataclass(frozen=True, slots=True)
class Kitchen:
    """A split.

    Args:
        folder: where its clips are.
        queries: the ego clips.
        howto: the how-to clips by event.
    """

    folder: Path
    queries: tuple[KitchenClip, ...]
    howto: Mapping[str, KitchenClip]

    @classmethod
    def read(cls, folder: Path, first: int | None = None) -> Kitchen:
        """Read a split.

        Args:
            folder: where its clips are.
            first: of only so many events, from the first on, the ego clips are queries; None for all. How-to clips are
                those of all events.

        Raises:
            InputError: no ego clips, or fewer events than that.
        """
        clips = read_clips(folder)
        howto = {clip.event: clip for clip in of_camera(clips, "exo")}
        events = len({clip.event for clip in clips})
        if first is not None and not 1 <= first <= events:
            raise InputError(f"queries of the first {first} events: {folder} has {events}; give 1 to {events}.")
        queries = tuple(of_camera(clips if first is None else read_clips(folder, first), "ego"))
        if not queries:
            raise InputError(f"{folder} has no ego clips; render it with 'egoinstructor simulate'.")
        return cls(folder, queries, howto)

    def clip(self, clip: KitchenClip) -> Clip:
        return file_of(clip, self.folder)


@dataclass(frozen=True, slots=True)
class KitchenLibrary:
    """A split's how-to clips in a library, and the split's ego clips as its retriever embeds them.

    Args:
        library: opened with its retriever.
        entries: its clips by event.
        ego: of each ego clip's event the embedding `(D,)`.
    """

    library: ExoLibrary
    entries: Mapping[str, ClipEntry]
    ego: Mapping[str, Tensor]


def open_library(kitchen: Kitchen, retriever: Retriever, folder: Path, asked: Path | None = None) -> KitchenLibrary:
    """Make the library, or find the one that was made before.

    Args:
        kitchen: the split.
        retriever: embeds both views.
        folder: keeps the library.
        asked: keeps the embeddings of the ego clips; None for the same folder.

    Raises:
        InputError: one that another retriever made, or clips that can't be read.
    """
    where = folder / "library"
    library = ExoLibrary.open(where, retriever) if where.exists() else ExoLibrary.create(where, retriever)
    if len(library) < len(kitchen.howto):
        library.ingest(kitchen.folder / "library.csv")
    entries = {Path(entry.video).stem: entry for entry in library.entries()}
    if missing := sorted(kitchen.howto.keys() - entries.keys()):
        raise InputError(
            f"{len(missing)} how-to clips could not be read, the first is {missing[0]}. Render them again."
        )
    kept = (asked or folder) / "ego.safetensors"
    rows = embed_split(retriever, kitchen.queries, kitchen.folder, kept, ("ego",))["ego"]
    return KitchenLibrary(library, entries, dict(zip((q.event for q in kitchen.queries), rows, strict=True)))


def library_vectors(shelf: KitchenLibrary, events: Sequence[str]) -> Tensor:
    """Embeddings of how-to clips `(N, D)`."""
    ids = [shelf.entries[event].id for event in events]
    return shelf.library.vectors(ids) if ids else torch.zeros(0, 0)

"""What the trained retriever makes of a split's clips: computed once, and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from egoinstructor.files import atomic_file
from egoinstructor.records import Clip
from egoinstructor.retriever.interface import Retriever, View
from nano_steps.clips import SECONDS, Camera, KitchenClip, of_camera

NEIGHBOURS = 40
"""How-to clips that count as looking alike."""


def files(clips: Sequence[KitchenClip], split: Path) -> list[Clip]:
    """The clips as files."""
    return [file_of(clip, split) for clip in clips]


def file_of(clip: KitchenClip, split: Path) -> Clip:
    """A clip of a split's folder as a file."""
    return Clip(split / f"{clip.name}.mp4", 0.0, SECONDS)


def embed_split(
    retriever: Retriever,
    clips: Sequence[KitchenClip],
    split: Path,
    kept: Path,
    views: Sequence[Camera] = ("ego", "exo"),
) -> dict[View, Tensor]:
    """Embeddings `(N, D)` of a split's clips of each view, in their order.

    Args:
        retriever: makes them.
        clips: of the split.
        split: its folder.
        kept: a file with those that were made before; made anew if they are of another retriever, or of other clips.
        views: those that are wanted.
    """
    wanted = {view: of_camera(clips, view) for view in views}
    revision = retriever.identity.revision
    found = _kept(kept, {view: len(some) for view, some in wanted.items()}, revision)
    if found is None:
        made = {view: retriever.encode_video(files(some, split), view).contiguous() for view, some in wanted.items()}
        with atomic_file(kept) as partial:
            save_file(made, partial, {"revision": revision})
        return dict(made)
    return found


def _kept(file: Path, rows: Mapping[Camera, int], revision: str) -> dict[View, Tensor] | None:
    if not file.exists():
        return None
    with safe_open(file, "pt") as kept:
        found: dict[View, Tensor] = {view: kept.get_tensor(view) for view in rows if view in kept.keys()}  # noqa: SIM118
        same = (kept.metadata() or {}).get("revision") == revision
    return found if same and {view: len(values) for view, values in found.items()} == rows else None


def neighbours(clips: Sequence[KitchenClip], rows: dict[View, Tensor]) -> dict[str, list[str]]:
    """For each clip's name the names of the how-to clips from elsewhere that are nearest to it, nearest first.

    Elsewhere is in another kitchen, and in another event.
    """
    exo = of_camera(clips, "exo")
    ids = {
        place: i for i, place in enumerate(sorted({place for clip in clips for place in (clip.kitchen, clip.event)}))
    }
    kitchens, events = (torch.tensor([ids[getattr(clip, place)] for clip in exo]) for place in ("kitchen", "event"))
    found = {}
    for view, vectors in rows.items():
        queries = of_camera(clips, view)
        for first in range(0, len(queries), 1024):
            some = queries[first : first + 1024]
            scores = vectors[first : first + 1024] @ rows["exo"].T  # (n, M)
            here = torch.tensor([ids[clip.kitchen] for clip in some])[:, None] == kitchens
            here |= torch.tensor([ids[clip.event] for clip in some])[:, None] == events
            best = scores.masked_fill(here, -torch.inf).topk(min(NEIGHBOURS, len(exo)))
            for clip, places, values in zip(some, best.indices.tolist(), best.values.tolist(), strict=True):
                found[clip.name] = [
                    exo[i].name for i, value in zip(places, values, strict=True) if value > float("-inf")
                ]
    return found


def similarity(
    clips: Sequence[KitchenClip], rows: Mapping[View, Tensor]
) -> Callable[[KitchenClip, KitchenClip], float]:
    """The cosine of two of the clips, as a library has it."""
    vectors = {
        clip.name: vector
        for view, of_view in rows.items()
        for clip, vector in zip(of_camera(clips, view), of_view, strict=True)
    }
    return lambda a, b: float(vectors[a.name] @ vectors[b.name])

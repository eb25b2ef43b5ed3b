"""What a captioner's vision side made of clips, kept with the library so that references needn't be decoded again.

bf16, whatever they were computed in: 131 kB for a clip's 64 latents of width 1024. They are filed under the clip and a
key that says which captioner, frames and sampling they are of.

Shapes: **L** latents, **V** vision width.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.library.store import Store

ROWS_AT_ONCE = 256  # of one commit: 34 MB at published size


def get_latents(store: Store, ids: Iterable[str], key: str) -> dict[str, Tensor]:
    """The latents `(L, V)` of those of these clips that have some under this key, in bf16, by id."""
    found = {}
    for rows in store.by_key("latents", ["clip", "shape", "data"], (_row_key(clip, key) for clip in ids)):
        for row in rows.to_pylist():
            values = torch.frombuffer(bytearray(row["data"]), dtype=torch.bfloat16)
            found[row["clip"]] = values.view(*row["shape"])
    return found


def put_latents(store: Store, latents: Mapping[str, Tensor], key: str, known: set[str]) -> int:
    """Keep clips' latents; those that are there already stay as they are.

    Args:
        store: the library's tables.
        latents: `(L, V)` by the clip's id.
        key: of the captioner.
        known: which of the clips are in the library.

    Returns:
        How many were new.

    Raises:
        InputError: clips that aren't in the library, or latents of another shape.
    """
    if strange := latents.keys() - known:
        raise InputError(f"clip {min(strange)} is not in library {store.uri}. Add clips before their latents.")
    rows = []
    for clip, values in latents.items():
        if values.ndim != 2:
            raise InputError(f"latents of clip {clip} have shape {tuple(values.shape)}; they must be (L, V).")
        data = values.detach().cpu().bfloat16().contiguous().view(torch.uint8).numpy().tobytes()
        rows.append(
            {"key": _row_key(clip, key), "clip": clip, "captioner": key, "shape": list(values.shape), "data": data}
        )
    parts = (rows[first : first + ROWS_AT_ONCE] for first in range(0, len(rows), ROWS_AT_ONCE))
    return sum(store.merge("latents", store.records("latents", part)) for part in parts)


def count_latents(store: Store) -> dict[str, int]:
    """How many clips have latents, by key."""
    counts: Counter[str] = Counter()
    for rows in store.batches("latents", ["captioner"]):
        counts.update(rows["captioner"].to_pylist())
    return dict(sorted(counts.items()))


def _row_key(clip: str, key: str) -> str:
    return hashlib.blake2b(f"{clip}\0{key}".encode(), digest_size=16).hexdigest()

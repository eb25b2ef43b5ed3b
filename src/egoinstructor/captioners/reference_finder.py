"""The references of an ego clip out of a library: found, their videos looked after, and encoded once for all captions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from egoinstructor.captioners.clip_encoder import ClipEncoder
from egoinstructor.errors import InputError, VideoError
from egoinstructor.library.records import ClipEntry, Hit
from egoinstructor.library.references import Retrieval, find_references, gone
from egoinstructor.library.roots import entry_path
from egoinstructor.model.prompt import TRAINING
from egoinstructor.records import Clip, Dropped, Reference
from egoinstructor.video.decode import Sampling

if TYPE_CHECKING:
    from egoinstructor.library.library import ExoLibrary

logger = logging.getLogger(__name__)

FoundReferences = tuple[tuple[Reference, ...], tuple[Dropped, ...]]
"""References out of a library, most relevant first; and the hits that were passed over."""

SHOTS = 4
"""References looked for in a library unless another number is asked for: what the published model was trained with."""


class ReferenceFinder:
    """Finds references in libraries, and reads them through a captioner's vision side. Several threads may use one.

    Args:
        encoder: encodes the clips.
        dtype: the captioner's number format.
    """

    def __init__(self, encoder: ClipEncoder, dtype: torch.dtype) -> None:
        self._encoder = encoder
        self._dtype = dtype

    @torch.inference_mode()
    def find(
        self,
        clips: Sequence[Clip],
        library: ExoLibrary,
        shots: int | None = None,
        retrieval: Retrieval | None = None,
        *,
        num_frames: int | None = None,
        sampling: Sampling = TRAINING.sampling,
    ) -> list[FoundReferences]:
        """The references of each ego clip out of a library, their latents with them; and the hits that were passed over.

        Args:
            clips: egocentric.
            library: opened with its retriever.
            shots: references for each; None for 4. A library may have fewer.
            retrieval: how they are looked for; None for the defaults.
            num_frames: frames a clip; None for the model's own.
            sampling: the policy that chooses them.

        Raises:
            InputError: a library without its retriever, or a negative number of shots.
            VideoError: an ego clip that can't be read.
        """
        shots = SHOTS if shots is None else shots
        if shots < 0:
            raise InputError(f"{shots} shots; ask for 0 (the clip alone) or more.")
        key, roots = self._encoder.latents_key(num_frames, sampling), library.sources()
        retriever = library.need_retriever()
        embedded = retriever.encode_video(clips, view="ego") if shots > 0 else None
        broken: dict[str, str] = {}
        while True:  # until no clip that was chosen turns out to be unreadable
            selections = find_references(
                library, clips, shots, retrieval, latents_key=key, broken=broken, queries=embedded
            )
            entries = [hit.entry for selection in selections for hit in selection.chosen]
            latents, failures = self.read_entries(library, entries, num_frames=num_frames, sampling=sampling)
            if not failures:
                break
            broken |= failures

        def reference(hit: Hit) -> Reference:
            entry = hit.entry
            return Reference(entry_path(entry, roots), entry.text, entry.start, entry.end, hit.score, latents[entry.id])

        def dropped(hit: Hit, reason: str) -> Dropped:
            entry = hit.entry
            return Dropped(Clip(entry_path(entry, roots), entry.start, entry.end), entry.text, reason, hit.score)

        return [
            (
                tuple(reference(hit) for hit in selection.chosen),
                tuple(dropped(hit, why) for hit, why in selection.passed_over),
            )
            for selection in selections
        ]

    def read_entries(
        self,
        library: ExoLibrary,
        entries: Sequence[ClipEntry],
        *,
        num_frames: int | None = None,
        sampling: Sampling = TRAINING.sampling,
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Latents of a library's clips, by id: those that it keeps, and the others encoded now and kept there.

        Fresh ones are rounded as kept ones are, so that a clip's first caption is that of every later time.

        Args:
            library: that has the clips.
            entries: the clips; duplicates are fine.
            num_frames: frames a clip; None for the model's own.
            sampling: the policy that chooses them.

        Returns:
            Id → latents `(L, V)` in the model's number format; and of clips that can't be read, id → the reason.
        """
        key, roots = self._encoder.latents_key(num_frames, sampling), library.sources()
        wanted = {entry.id: entry for entry in entries}
        latents = library.latents(list(wanted), key)
        clips: dict[str, Clip] = {}
        failures: dict[str, str] = {}
        for id, entry in wanted.items():
            if id not in latents:
                path = entry_path(entry, roots)
                if (reason := gone(library, entry, path)) is not None:
                    failures[id] = reason
                else:
                    clips[id] = Clip(path, entry.start, entry.end)
        fresh, broken = self._encode_readable(clips, num_frames, sampling)
        if fresh:
            _keep(library, fresh, key)
        return {id: one.to(self._dtype) for id, one in (latents | fresh).items()}, failures | broken

    def _encode_readable(
        self, clips: Mapping[str, Clip], num_frames: int | None, sampling: Sampling
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Latents in bf16 of the clips that can be read, and why the others can't, by id."""
        try:
            encoded = self._encoder.encode(list(clips.values()), num_frames=num_frames, sampling=sampling)
            return {id: encoded[clip].to(torch.bfloat16) for id, clip in clips.items()}, {}
        except VideoError as error:
            if len(clips) == 1:
                return {}, dict.fromkeys(clips, str(error))
        fresh: dict[str, Tensor] = {}
        failures: dict[str, str] = {}
        for id, clip in clips.items():
            read, failed = self._encode_readable({id: clip}, num_frames, sampling)
            fresh |= read
            failures |= failed
        return fresh, failures


def _keep(library: ExoLibrary, latents: Mapping[str, Tensor], key: str) -> None:
    """Keep latents in a library, if it can be written."""
    try:
        library.put_latents(latents, key)
    except InputError as error:
        logger.warning("latents of %d clips could not be kept, and will be computed again: %s", len(latents), error)

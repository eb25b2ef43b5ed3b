"""Clips → what the model's vision side makes of them, each clip decoded and encoded once.

One pass through the vision encoder gives both what the captioner reads (latents) and what a retriever that looks
through the same encoder embeds (a vector a frame).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.model.cpu import fast_linears
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.prompt import TRAINING
from egoinstructor.model.revision import weights_revision
from egoinstructor.records import Clip
from egoinstructor.retriever.interface import FrameSpec, Retriever
from egoinstructor.retriever.opening import open_retriever
from egoinstructor.retriever.preprocessing import Preprocessing
from egoinstructor.video.decode import Sampling, load_video
from egoinstructor.video.identity import content_identity
from egoinstructor.video.prefetch import DECODE_THREADS, prefetch


class Encoded(NamedTuple):
    """What one vision pass makes of a clip: latents `(L, V)`, and the pooled vector of each frame `(F, V)`."""

    latents: Tensor
    pooled: Tensor


class ClipEncoder:
    """A model's vision side, with the clips that it encoded last. Several threads may use one.

    Args:
        model: on the device that it is to run on, in evaluation mode.
        processor: its processor.
        cached_clips: how many encoded clips to keep (0.4 MB each at published size in fp32).
    """

    def __init__(
        self,
        model: EgoInstructorForConditionalGeneration,
        processor: EgoInstructorProcessor,
        *,
        cached_clips: int = 256,
    ) -> None:
        self._model = model
        self._processor = processor
        self._kept = _EncodedClips(cached_clips)
        self.threads = DECODE_THREADS

    def encode(
        self, clips: Sequence[Clip], *, num_frames: int | None = None, sampling: Sampling = TRAINING.sampling
    ) -> dict[Clip, Tensor]:
        """Latents of each distinct clip, the next ones being decoded meanwhile.

        Args:
            clips: duplicates are fine.
            num_frames: frames a clip; None for the model's own.
            sampling: the policy that chooses them.

        Returns:
            Clip → latents `(L, V)`, on the model's device.

        Raises:
            VideoError: a clip that can't be read.
        """
        return {clip: encoded.latents for clip, encoded in self._encode(clips, num_frames, sampling).items()}

    def encode_clips(self, clips: Sequence[Clip]) -> Tensor:
        """One vector a frame, for a retriever's head: with `spec`, this is a `retriever.interface.FrameEncoder`.

        Returns:
            `(N, F, V)`, with the model's own number of frames and sampling.

        Raises:
            VideoError: a clip that can't be read.
        """
        encoded = self._encode(clips, None, TRAINING.sampling)
        return torch.stack([encoded[clip].pooled for clip in clips])  # (N, F, V)

    def open_retriever(self, clip: str | Path) -> Retriever:
        """CLIP as this captioner looks through it: one vision pass of a clip then serves retrieval and captioning.

        Args:
            clip: folder or Hub id of the CLIP that the captioner was built on, for its text tower and projections.

        Raises:
            CheckpointError: the folder can't be used.
            InputError: another CLIP, or a captioner in int8.
        """
        weight = next(self._model.vision_encoder.parameters())
        retriever = open_retriever(
            clip,
            device=weight.device,
            dtype=weight.dtype,
            num_frames=self._processor.num_frames,
            sampling=TRAINING.sampling,
            preprocessing=Preprocessing.of_captioner(self._processor),
        )
        if not retriever.look_through(self):
            raise InputError(
                f"the vision tower of {clip} is not this captioner's. Give the CLIP that the captioner was built on, with a "
                "captioner that is not in int8; or open it as a retriever of its own."
            )
        return retriever

    @property
    def spec(self) -> FrameSpec:
        """What decides the vectors of frames."""
        processor = self._processor
        preprocessing = str(Preprocessing.of_captioner(processor))
        return FrameSpec(self._vision_revision, preprocessing, processor.num_frames, TRAINING.sampling)

    def latents_key(self, num_frames: int | None = None, sampling: Sampling = TRAINING.sampling) -> str:
        """What decides a clip's latents beside the clip itself: a library keeps them under this."""
        spec = self.spec
        frames = spec.num_frames if num_frames is None else num_frames
        return f"{spec.revision} {self._resampler_revision} {spec.preprocessing} {frames} {sampling}"

    @cached_property
    def _vision_revision(self) -> str:
        return weights_revision(self._model.vision_encoder)

    @cached_property
    def _resampler_revision(self) -> str:
        return weights_revision(self._model.resampler)

    @torch.inference_mode()
    def _encode(self, clips: Sequence[Clip], num_frames: int | None, sampling: Sampling) -> dict[Clip, Encoded]:
        frames = self._processor.num_frames if num_frames is None else num_frames
        keys = {
            clip: (content_identity(clip.video), clip.start, clip.end, frames, sampling)
            for clip in dict.fromkeys(clips)
        }
        found = {clip: self._kept.get(key) for clip, key in keys.items()}

        def pixels(clip: Clip) -> Tensor:
            return self._processor.pixels(
                load_video(clip.video, start=clip.start, end=clip.end, num_frames=frames, sampling=sampling)
            )

        missing = [clip for clip, encoded in found.items() if encoded is None]
        decoded = prefetch(pixels, missing, threads=self.threads)
        for clip, clip_pixels in zip(missing, decoded, strict=True):  # (F, 3, H, W)
            with fast_linears(self._model.device):
                patches, pooled = self._model.read_frames(clip_pixels[None, None].to(self._model.device))
                latents = self._model.resample(patches)  # (1, 1, L, V)
            found[clip] = encoded = Encoded(latents[0, 0], pooled[0, 0])
            self._kept.put(keys[clip], encoded)
        return {clip: encoded for clip, encoded in found.items() if encoded is not None}


class _EncodedClips:
    """The clips encoded last; safe under threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[tuple[Any, ...], Encoded] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[Any, ...]) -> Encoded | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: tuple[Any, ...], encoded: Encoded) -> None:
        with self._lock:
            self._kept[key] = encoded
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)

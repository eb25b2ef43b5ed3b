"""Clips → one vector a frame, by a vision tower of transformers: the backbone below a retriever's head.

Shapes: **N** clips, **F** frames, **W** width of a frame's features, **H**, **W** of pixels only in `(F, 3, H, W)`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPModel, CLIPVisionModel, ResNetModel, SiglipModel, SiglipVisionModel

from egoinstructor.checkpoints.loading import load_vision_encoder
from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.model.configuration import EgoInstructorConfig
from egoinstructor.model.cpu import fast_linears
from egoinstructor.model.device import place
from egoinstructor.model.modeling import FRAMES_PER_PASS
from egoinstructor.model.revision import weights_revision
from egoinstructor.model.vision import vision_width
from egoinstructor.records import Clip
from egoinstructor.retriever.interface import FrameSpec
from egoinstructor.retriever.loading import find_model, load_model, model_type
from egoinstructor.retriever.preprocessing import CONFIG, Preprocessing
from egoinstructor.video.decode import Sampling, load_video
from egoinstructor.video.prefetch import DECODE_THREADS, prefetch

_TOWERS: dict[str, Any] = {
    "clip": CLIPModel,
    "clip_vision_model": CLIPVisionModel,
    "resnet": ResNetModel,
    "siglip": SiglipModel,
    "siglip_vision_model": SiglipVisionModel,
}
"""The backbones that a folder may hold, by `model_type`; of a dual encoder, its vision tower is taken."""

_CAPTIONER = EgoInstructorConfig.model_type
"""A captioner's folder serves too: its own vision encoder is then the backbone."""


class TowerFrameEncoder:
    """A `FrameEncoder`: decodes clips, prepares their frames, and takes a vision tower's pooled vector of each.

    Args:
        tower: a vision model of transformers, on the device that it is to run on; it is put in evaluation mode.
        preprocessing: as the tower was trained.
        num_frames: F.
        sampling: the policy that chooses them.
        whole_clips: the tower looks at all frames of a clip together (X-CLIP), rather than at each alone.
        frames_per_pass: frames that go through the tower at once: bounds memory, not speed.
        source: the folder or Hub id that it came from, where a saved retriever may find it again.

    Raises:
        InputError: less than one frame.
        CheckpointError: pictures of another size than the tower takes, or a tower that pools nothing.
    """

    def __init__(
        self,
        tower: nn.Module,
        preprocessing: Preprocessing,
        *,
        num_frames: int,
        sampling: Sampling = "segment_center",
        whole_clips: bool = False,
        frames_per_pass: int = FRAMES_PER_PASS,
        source: str = "",
    ) -> None:
        if num_frames < 1:
            raise InputError(f"num_frames={num_frames}: at least 1 frame must be looked at.")
        config: Any = tower.config
        side = getattr(config, "image_size", None)  # a ResNet takes pictures of any size
        if side is not None and preprocessing.shape != (side, side):
            raise CheckpointError(
                f"the pictures are prepared as {preprocessing}; the vision tower takes {side}×{side}. The files belong to "
                "different models."
            )
        if not getattr(config, "vision_use_head", True):
            raise CheckpointError("the vision tower has no pooling head, so it gives no vector a frame; use another.")
        self.tower = tower.eval()
        self.preprocessing = preprocessing
        self.num_frames = num_frames
        self.sampling: Sampling = sampling
        self.whole_clips = whole_clips
        self.frames_per_pass = frames_per_pass
        self.source = source
        self.threads = DECODE_THREADS

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        num_frames: int,
        sampling: Sampling = "segment_center",
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> TowerFrameEncoder:
        """Open the vision tower of a CLIP or SigLIP checkpoint, a ResNet, or a captioner's own vision encoder.

        Args:
            folder: folder or Hub id.
            num_frames: F.
            sampling: the policy that chooses them.
            device: where to run; None for the first accelerator, else the CPU.
            dtype: number format; None for the files' own.

        Raises:
            CheckpointError: the folder can't be used, or holds another kind of model.
            InputError: a device that can't be used.
        """
        path = find_model(folder)
        kind = model_type(path)
        if kind == _CAPTIONER:
            tower, processor = load_vision_encoder(path, dtype)
            preprocessing = Preprocessing.of_captioner(processor)
        elif kind in _TOWERS:
            model = load_model(_TOWERS[kind], path, dtype)
            tower = getattr(model, "vision_model", model)
            preprocessing = Preprocessing.from_folder(path)
        else:
            known = ", ".join((*_TOWERS, _CAPTIONER))
            raise CheckpointError(f"{folder} holds a {kind!r}; a backbone must be one of {known}.")
        tower = place(tower, device)
        return cls(tower, preprocessing, num_frames=num_frames, sampling=sampling, source=str(folder))

    def save_pretrained(self, folder: Path) -> None:
        """Write the tower and its preprocessing, for `from_pretrained`."""
        tower: Any = self.tower
        tower.save_pretrained(folder)
        (folder / CONFIG).write_text(json.dumps(self.preprocessing.as_config(), indent=1), encoding="utf-8")

    @cached_property
    def revision(self) -> str:
        """Digest of the tower's weights."""
        return weights_revision(self.tower)

    @property
    def spec(self) -> FrameSpec:
        """What decides the features."""
        return FrameSpec(self.revision, str(self.preprocessing), self.num_frames, self.sampling)

    @property
    def width(self) -> int:
        """W."""
        config: Any = self.tower.config
        return vision_width(config)

    def encode_clips(self, clips: Sequence[Clip]) -> Tensor:
        """Features `(N, F, W)` on the tower's device, in its number format; the next clips are decoded meanwhile.

        Raises:
            VideoError: a clip that can't be read.
        """
        weight = next(self.tower.parameters())

        def pixels(clip: Clip) -> Tensor:
            frames = load_video(
                clip.video, start=clip.start, end=clip.end, num_frames=self.num_frames, sampling=self.sampling
            )
            return self.preprocessing(frames).to(weight.dtype)  # (F, 3, H, W)

        waiting = prefetch(pixels, clips, threads=self.threads)
        clips_per_pass = max(1, self.frames_per_pass // self.num_frames)
        features = [weight.new_empty(0, self.num_frames, self.width)]
        with torch.inference_mode(), fast_linears(weight.device):
            while some := list(islice(waiting, clips_per_pass)):
                images = torch.cat(some).to(weight.device)  # (clips·F, 3, H, W)
                passes = [images] if self.whole_clips else images.split(self.frames_per_pass)
                pooled = torch.cat([self.tower(part).pooler_output.flatten(1) for part in passes])  # (clips·F, W)
                features.append(pooled.unflatten(0, (len(some), self.num_frames)))
        return torch.cat(features)  # (N, F, W)

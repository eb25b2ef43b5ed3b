"""A cross-view model together with the backbone below it, for training both from frames.

B clips, F frames, H, W height and width in pixels, V width of a frame's features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn

from egoinstructor.errors import InputError
from egoinstructor.model.configuration import vision_config
from egoinstructor.model.vision import build_vision_encoder, frame_features
from egoinstructor.retriever.cross_view import CrossViewModel, CrossViewOutput
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.retriever.preprocessing import Preprocessing
from egoinstructor.training.augment import shifted
from egoinstructor.training.retriever_arguments import RetrieverModelArguments
from egoinstructor.video.transforms import PUBLISHED


class VideoCrossViewModel(nn.Module):
    """Frames of both views → one backbone → `CrossViewModel`.

    Args:
        backbone: what looks at frames, of both views.
        cross_view: the model on top; the width of both views' features is the backbone's.
        nouns: how many ids of nouns get a vector, which only the loss needs (`noun_nce`).
    """

    accepts_loss_kwargs = False  # as the cross-view model's
    mean: Tensor  # of red, green, blue, in bytes
    std: Tensor

    def __init__(self, backbone: TowerFrameEncoder, cross_view: CrossViewModel, nouns: int = 0) -> None:
        super().__init__()
        self.encoder = backbone  # no module: what a finished retriever sees through
        self.backbone = backbone.tower
        self.cross_view = cross_view
        self.config = cross_view.config
        width = self.config.projection_dim
        self.noun_vectors = nn.Parameter(torch.randn(nouns, width) * width**-0.5) if nouns else None
        way = backbone.preprocessing
        self.register_buffer("mean", 255 * torch.tensor(way.mean), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(way.std), persistent=False)

    @property
    def logit_scale(self) -> nn.Parameter:
        """The logarithm of the inverse temperature."""
        return self.cross_view.logit_scale

    def forward(
        self,
        input_ids: Tensor,
        frames: Tensor,
        places: Tensor,
        shifts: Tensor,
        colours: Tensor,
        is_ego: Tensor,
    ) -> CrossViewOutput:
        """Embed a batch of clips of both views with their texts.

        Args:
            input_ids: `(B, T)`.
            frames: bytes `(B, F, H, W, 3)`.
            places: which frames of the clip they are `(B, F)`.
            shifts: of each clip, `(B, 2)`; see `augment.shifted`.
            colours: of each clip, gain and bias of red, green and blue, `(B, 2, 3)`.
            is_ego: `(B,)`, True where a clip is an ego clip.
        """
        gain, bias = (colours / self.std).unbind(1)  # (B, 3) each
        bias = bias - self.mean / self.std
        pixels = shifted(frames, shifts) * gain[:, None, None, None] + bias[:, None, None, None]
        # Contiguous: oneDNN's AVX2 code writes out of bounds in the weight gradient of a strided 1×1 convolution over
        # channels-last images (torch 2.13, oneDNN 3.12).
        images = pixels.flatten(0, 1).permute(0, 3, 1, 2).contiguous()  # (B·F, 3, H, W)
        _, pooled = frame_features(self.backbone, images)  # (B·F, V)
        features = pooled.unflatten(0, frames.shape[:2])  # (B, F, V)
        output: CrossViewOutput = self.cross_view(input_ids, features[is_ego], features[~is_ego], is_ego, places=places)
        output.noun_vectors = self.noun_vectors
        return output


def open_backbone(options: RetrieverModelArguments, num_frames: int) -> TowerFrameEncoder:
    """The backbone that a run on videos starts from, in fp32 and trained.

    Args:
        options: the run's.
        num_frames: frames of a clip.

    Raises:
        CheckpointError: a folder that can't be used.
        InputError: a configuration that can't be used.
    """
    if options.backbone:
        backbone = TowerFrameEncoder.from_pretrained(
            options.backbone, num_frames=num_frames, device="cpu", dtype=torch.float32
        )
    else:
        values = _mapping(str(options.backbone_config))
        side = values.get("image_size")
        if not isinstance(side, int) or side < 1:
            raise InputError(f"backbone_config: image_size={side!r}; it must be the side of a frame in pixels.")
        mean, std = values.pop("image_mean", PUBLISHED.mean), values.pop("image_std", PUBLISHED.std)
        try:
            preprocessing = Preprocessing((side, side), None, _triple(mean), _triple(std), antialias=False)
            tower = build_vision_encoder(vision_config(values))
        except (TypeError, ValueError, KeyError, StrictDataclassError) as error:
            raise InputError(f"backbone_config={options.backbone_config}: {error}") from error
        backbone = TowerFrameEncoder(tower, preprocessing, num_frames=num_frames)
    backbone.tower.requires_grad_(True)
    return backbone


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)


def _mapping(given: str) -> dict[str, Any]:
    """A mapping that is written out, or stands in a file."""
    try:
        text = given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"backbone_config={given!r} can't be read as YAML or JSON: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"backbone_config={given!r} holds a {type(values).__name__}; it must be a mapping.")
    return values

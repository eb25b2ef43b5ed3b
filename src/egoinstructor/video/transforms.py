"""Frames → pixel values: resize and normalise, as the published model saw its videos.

Shapes: **F** frames, **H**, **W** the video's height and width in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from egoinstructor.errors import InputError
from egoinstructor.records import Frames

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class PixelNormalization:
    """Mean and standard deviation of red, green and blue, on a scale of 0 to 1."""

    mean: Triple
    std: Triple


PUBLISHED = PixelNormalization(mean=(0.481, 0.458, 0.408), std=(0.269, 0.261, 0.276))
"""Of the published model: CLIP's, cut to three digits."""


def to_pixel_values(
    frames: Frames,
    size: int = 224,
    mean: Triple = PUBLISHED.mean,
    std: Triple = PUBLISHED.std,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Resize to a square, the aspect ratio not kept, and normalise.

    Bicubic without antialias on values of 0 to 255, not clamped afterwards: so the published model's training did it.

    Args:
        frames: uint8 RGB `(F, H, W, 3)`.
        size: side of the square in pixels.
        mean: of red, green, blue, on a scale of 0 to 1.
        std: standard deviation of red, green, blue, on the same scale.
        dtype: of the result; arithmetic is in float32.

    Returns:
        `(F, 3, size, size)`.

    Raises:
        InputError: a size below 1, or a standard deviation that isn't positive.
    """
    if size < 1 or min(std) <= 0:
        raise InputError(f"size={size}, std={std}: the size must be at least 1 and every std above 0.")
    scale = torch.tensor(std).view(1, 3, 1, 1) * 255
    shift = torch.tensor(mean).view(1, 3, 1, 1) * 255
    resized = []
    for frame in torch.from_numpy(frames.pixels):  # one by one: a frame in float32 fits the cache, all 32 don't
        image = frame.permute(2, 0, 1).unsqueeze(0).float()  # (1, 3, H, W)
        image = F.interpolate(image, size=(size, size), mode="bicubic", align_corners=False, antialias=False)
        resized.append(((image - shift) / scale).to(dtype))
    return torch.cat(resized)  # (F, 3, size, size)

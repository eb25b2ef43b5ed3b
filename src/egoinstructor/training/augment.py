"""Small changes of a clip's pictures in training, drawn for each clip, the same for all of its frames; and of its features.

B clips, F frames, H, W height and width in pixels; of features C clips a sample, P patches, V width.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = 128.0
"""The byte around which contrast is changed."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a clip is changed; as it is, nothing is.

    Args:
        shift: pixels down and to the right from where the picture is taken.
        gain: what red, green and blue are multiplied with.
        bias: what is added to them then, in bytes.
    """

    shift: tuple[int, int] = (0, 0)
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Augment:
    """How much clips are changed. They are not mirrored: turning on and turning off may mirror each other.

    Args:
        shift: pixels, at most, up, down and to the sides.
        colour: strength of contrast (×e^±colour), brightness (±colour · 128) and each channel's own gain (×e^±colour/2).
    """

    shift: int = 0
    colour: float = 0.0

    def draw(self, rng: random.Random) -> Look:
        """One clip's change."""
        shift = rng.randint(-self.shift, self.shift), rng.randint(-self.shift, self.shift)
        contrast = math.exp(rng.uniform(-self.colour, self.colour))
        brightness = rng.uniform(-self.colour, self.colour) * GREY
        red, green, blue = (contrast * math.exp(rng.uniform(-self.colour, self.colour) / 2) for _ in range(3))
        bias = [GREY * (1 - gain) + brightness for gain in (red, green, blue)]
        return Look(shift, (red, green, blue), (bias[0], bias[1], bias[2]))


UNCHANGED = Look()


def shifted(frames: Tensor, shifts: Tensor) -> Tensor:
    """Move each clip's pictures; what comes in at an edge is the edge's pixel.

    Args:
        frames: `(B, F, H, W, 3)`.
        shifts: `(B, 2)`, down and to the right from where the picture is taken.

    Returns:
        `(B, F, H, W, 3)`.
    """
    if not bool(shifts.any()):
        return frames
    clips, count, height, width, _ = frames.shape
    here = frames.device
    rows = (torch.arange(height, device=here) + shifts[:, :1]).clamp(0, height - 1)  # (B, H)
    columns = (torch.arange(width, device=here) + shifts[:, 1:]).clamp(0, width - 1)  # (B, W)
    clip = torch.arange(clips, device=here)[:, None, None, None]
    frame = torch.arange(count, device=here)[None, :, None, None]
    return frames[clip, frame, rows[:, None, :, None], columns[:, None, None, :]]


def drop_features(patches: Tensor, features: float, frames: float) -> Tensor:
    """Leave out some of what a vision encoder has seen: kept outputs, which no change of pictures can vary.

    Args:
        patches: `(B, C, F, P, V)`.
        features: share of the numbers that become 0; the others are scaled up.
        frames: share of the frames that become 0; of a clip that would lose all, the first stays.

    Returns:
        `(B, C, F, P, V)`.
    """
    if features:
        patches = F.dropout(patches, features)
    if frames:
        kept = torch.rand(patches.shape[:3], device=patches.device) >= frames  # (B, C, F)
        kept[..., 0] |= ~kept.any(-1)
        patches = patches * kept[..., None, None]
    return patches

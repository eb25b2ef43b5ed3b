"""Frames → pixel values as a backbone's checkpoint says: resize, crop the middle, normalise.

With torch alone: Pillow's resizing of bytes, which the checkpoints were trained on, is what torch does to bytes within one
or two of 255 levels, and neither Pillow nor torchvision is needed.

Shapes: **F** frames, **H**, **W** height and width in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from egoinstructor.checkpoints.reading import read_json
from egoinstructor.errors import CheckpointError
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.records import Frames
from egoinstructor.video.transforms import Triple, to_pixel_values

Filter = Literal["bilinear", "bicubic"]

CONFIG = "preprocessor_config.json"
_WHOLE_CONFIG = "processor_config.json"
"""Where transformers 5 keeps an image processor's settings together with a tokenizer's."""
_PILLOW: dict[int, Filter] = {2: "bilinear", 3: "bicubic"}
"""Pillow's numbers for its filters, which configurations use."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a frame becomes pixel values. Its text stands in a retriever's identity.

    Args:
        size: height and width, the aspect ratio not kept; or the length of the shorter side, the aspect ratio kept.
        crop: height and width of what is taken of the middle; None for everything.
        mean: of red, green, blue, on a scale of 0 to 1.
        std: standard deviation of red, green, blue, on the same scale.
        filter: how pictures are resized.
        antialias: resize bytes as Pillow does. Without it, as the captioner: `to_pixel_values`.

    Raises:
        CheckpointError: pictures that would differ in size, or a crop that is larger than they are.
    """

    size: tuple[int, int] | int
    crop: tuple[int, int] | None
    mean: Triple
    std: Triple
    filter: Filter = "bicubic"
    antialias: bool = True

    def __post_init__(self) -> None:
        """Check that every picture comes out the same size."""
        whole = (self.size, self.size) if isinstance(self.size, int) else self.size
        if min(whole) < 1 or min(self.std) <= 0:
            raise CheckpointError(f"{self}: the size must be at least 1 and every std above 0.")
        if self.crop is None and isinstance(self.size, int):
            raise CheckpointError(f"{self}: pictures of another shape would come out in another size; set a crop.")
        if self.crop is not None and not (1 <= self.crop[0] <= whole[0] and 1 <= self.crop[1] <= whole[1]):
            raise CheckpointError(f"{self}: the crop must lie within the resized picture.")
        if not self.antialias and (self.crop is not None or whole[0] != whole[1] or self.filter != "bicubic"):
            raise CheckpointError(f"{self}: without antialias there is only the captioner's way, a bicubic square.")

    def __str__(self) -> str:
        """One line that tells any two apart."""
        size = f"shorter side {self.size}" if isinstance(self.size, int) else f"{self.size[0]}×{self.size[1]}"
        crop = "" if self.crop is None else f", middle {self.crop[0]}×{self.crop[1]}"
        antialias = "with" if self.antialias else "without"
        return f"{size}{crop}, {self.filter} {antialias} antialias, mean {self.mean}, std {self.std}"

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of what comes out."""
        if self.crop is not None:
            return self.crop
        assert not isinstance(self.size, int)
        return self.size

    def __call__(self, frames: Frames) -> Tensor:
        """Pixel values `(F, 3, H, W)` in fp32."""
        if not self.antialias:
            return to_pixel_values(frames, self.shape[0], self.mean, self.std)
        scale = torch.tensor(self.std).view(1, 3, 1, 1) * 255
        shift = torch.tensor(self.mean).view(1, 3, 1, 1) * 255
        size = self._resized(*frames.pixels.shape[1:3])
        height, width = self.shape
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        values = []
        for frame in torch.from_numpy(frames.pixels):  # one by one: a frame fits the cache
            image = frame.permute(2, 0, 1).unsqueeze(0)  # (1, 3, H, W), bytes
            image = F.interpolate(image, size=size, mode=self.filter, align_corners=False, antialias=True)
            values.append((image[..., top : top + height, left : left + width].float() - shift) / scale)
        return torch.cat(values)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """The size that a picture is resized to, before the crop; a longer side is cut to whole pixels, as Pillow's is."""
        if not isinstance(self.size, int):
            return self.size
        if width <= height:
            return int(self.size * height / width), self.size
        return self.size, int(self.size * width / height)

    # ------------------------------------------------------------------ files

    @classmethod
    def of_captioner(cls, processor: EgoInstructorProcessor) -> Preprocessing:
        """As a captioner's processor does it."""
        side = processor.image_size
        return cls((side, side), None, _triple(processor.image_mean), _triple(processor.image_std), antialias=False)

    @classmethod
    def from_folder(cls, folder: Path) -> Preprocessing:
        """What a checkpoint's image processor does, of any of transformers' versions.

        Raises:
            CheckpointError: no such configuration, or one that asks for something else.
        """
        file = folder / _WHOLE_CONFIG
        config = read_json(file).get("image_processor") if file.is_file() else None
        if config is None:
            file = folder / CONFIG
            config = read_json(file)
        return cls.from_config(config, str(file))

    @classmethod
    def from_config(cls, config: dict[str, Any], where: str) -> Preprocessing:
        """What an image processor's configuration says, which stands in `where`.

        Raises:
            CheckpointError: it asks for something else.
        """
        try:
            return _from_config(config)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise CheckpointError(
                f"{where} does not say how pictures are prepared: {reason}. Needed are size, resample, image_mean, "
                "image_std and, with do_center_crop, crop_size."
            ) from error

    def as_config(self) -> dict[str, Any]:
        """What `from_folder` reads, and transformers too (which always resizes with antialias)."""
        size = {"shortest_edge": self.size} if isinstance(self.size, int) else _height_width(self.size)
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_resize": True,
            "size": size,
            "resample": next(number for number, name in _PILLOW.items() if name == self.filter),
            "antialias": self.antialias,
            "do_center_crop": self.crop is not None,
            "crop_size": _height_width(self.crop or self.shape),
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }


def _from_config(config: dict[str, Any]) -> Preprocessing:
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if not config.get(step, True):
            raise ValueError(f"{step} is false, and every checkpoint that this reads was trained with it")
    if abs(config.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise ValueError(f"rescale_factor is {config['rescale_factor']}, not 1/255")
    if config["resample"] not in _PILLOW:
        raise ValueError(f"resample is {config['resample']}; it must be 2 (bilinear) or 3 (bicubic)")
    size = config["size"]
    size = size if isinstance(size, int) else size.get("shortest_edge") or _pair(size)
    return Preprocessing(
        size=size,
        crop=_pair(config["crop_size"]) if config.get("do_center_crop") else None,
        mean=_triple(config["image_mean"]),
        std=_triple(config["image_std"]),
        filter=_PILLOW[config["resample"]],
        antialias=config.get("antialias", True),
    )


def _pair(size: int | dict[str, int]) -> tuple[int, int]:
    """Height and width; older configurations have one number for a square."""
    return (size, size) if isinstance(size, int) else (size["height"], size["width"])


def _triple(values: Any) -> Triple:
    red, green, blue = map(float, values)
    return red, green, blue


def _height_width(size: tuple[int, int]) -> dict[str, int]:
    return {"height": size[0], "width": size[1]}

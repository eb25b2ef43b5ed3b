from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from egoinstructor.errors import InputError
from egoinstructor.records import Frames
from egoinstructor.video.decode import load_video
from egoinstructor.video.transforms import PUBLISHED, to_pixel_values

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "../shared/data/egoinstructor_assets/test5199_ego.mp4"


def as_frames(pixels):
    count = np.arange(len(pixels))
    return Frames(pixels, count / 30, count, "made")


@pytest.mark.skipif(not CLIP.exists(), reason=f"{CLIP.name} is not here: it is not ours to ship")
def test_the_originals_pixels():
    golden = load_file(ROOT / "tests/golden/pixels_test5199_ego.safetensors")["test5199_ego"].float()
    frames = load_video(CLIP, num_frames=8, sampling="linspace")
    assert frames.indices.tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
    difference = (to_pixel_values(frames) - golden).abs()
    assert difference.mean(dim=(1, 2, 3)).max() < 0.02


def test_values_by_hand():
    pixels = np.zeros((2, 30, 40, 3), np.uint8)
    pixels[1] = (10, 100, 250)
    values = to_pixel_values(as_frames(pixels))
    assert values.shape == (2, 3, 224, 224)
    assert values.dtype == torch.float32
    for channel, level in enumerate((10, 100, 250)):
        expected = (level / 255 - PUBLISHED.mean[channel]) / PUBLISHED.std[channel]
        torch.testing.assert_close(values[1, channel], torch.full((224, 224), expected), atol=1e-4, rtol=0)


def test_bicubic_overshoot_is_kept_and_nothing_is_averaged_away():
    pixels = np.zeros((1, 64, 64, 3), np.uint8)
    pixels[:, :, 32:] = 255
    up = to_pixel_values(as_frames(pixels), size=128, mean=(0, 0, 0), std=(1, 1, 1))
    assert up.max() > 1.01
    assert up.min() < -0.01
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 255
    down = to_pixel_values(as_frames(stripes), size=21, mean=(0, 0, 0), std=(1, 1, 1))
    assert down.std() > 0.3  # antialiasing would make it an even grey


def test_size_and_dtype():
    values = to_pixel_values(as_frames(np.zeros((1, 9, 7, 3), np.uint8)), size=16, dtype=torch.bfloat16)
    assert values.shape == (1, 3, 16, 16)
    assert values.dtype == torch.bfloat16
    with pytest.raises(InputError, match="size=0"):
        to_pixel_values(as_frames(np.zeros((1, 9, 7, 3), np.uint8)), size=0)

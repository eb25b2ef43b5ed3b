"""Pictures prepared as transformers' own processors (on Pillow) prepare them, from the files that those write."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from egoinstructor.errors import CheckpointError
from egoinstructor.records import Frames
from egoinstructor.retriever.preprocessing import Preprocessing
from egoinstructor.video.transforms import PUBLISHED, to_pixel_values

PROCESSORS = {
    "clip": CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    "crop of a larger picture": CLIPImageProcessorPil(
        size={"shortest_edge": 40}, crop_size={"height": 31, "width": 31}
    ),
    "siglip": SiglipImageProcessorPil(size={"height": 32, "width": 32}),
    "siglip 2": SiglipImageProcessorPil(size={"height": 24, "width": 24}, resample=2),
    "xclip": VideoMAEImageProcessorPil(size={"shortest_edge": 30}, crop_size={"height": 30, "width": 30}),
}


def frames_of(height, width, count=2, seed=0):
    """Waves, noise and an edge, none near black or white.

    Bicubic resizing overshoots, bytes are cut off at 0 and 255 after each of its two passes, and newer versions of Pillow
    choose by the picture's shape which pass comes first. (The checkpoints are older than that.)
    """
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = 127 + 60 * np.sin(x / 5 + y / 3)
    pixels = [np.stack([waves, random.integers(80, 175, (height, width)), 80 + 95 * (y > height / 2)], -1)] * count
    number = np.arange(count)
    return Frames(np.stack(pixels).astype(np.uint8), number / 30, number, "made")


def theirs(processor, frames):
    values = processor(list(frames.pixels), return_tensors="pt")["pixel_values"]
    return values.flatten(0, -4)  # a video processor has a level for clips


@pytest.mark.parametrize("kind", PROCESSORS)
def test_as_transformers_prepares_pictures(kind, tmp_path):
    processor = PROCESSORS[kind]
    processor.save_pretrained(tmp_path)
    preprocessing = Preprocessing.from_folder(tmp_path)
    level = 1 / (255 * min(preprocessing.std))
    for shape in ((48, 64), (64, 48), (33, 90), (20, 20), (201, 97)):
        frames = frames_of(*shape)
        ours, expected = preprocessing(frames), theirs(processor, frames)
        assert ours.shape == expected.shape == (2, 3, *preprocessing.shape)
        difference = (ours - expected).abs()
        assert difference.max() <= 2.01 * level, shape
        assert difference.mean() < 0.4 * level, shape


@settings(deadline=None, max_examples=40)
@given(st.integers(8, 120), st.integers(8, 120))
def test_the_shorter_side_is_what_was_asked_for_whatever_the_shape(height, width):
    processor = PROCESSORS["crop of a larger picture"]
    preprocessing = Preprocessing(40, (31, 31), PUBLISHED.mean, PUBLISHED.std)
    frames = frames_of(height, width, count=1)
    expected = theirs(processor, frames) * torch.tensor(processor.image_std).view(1, 3, 1, 1)
    expected = expected + torch.tensor(processor.image_mean).view(1, 3, 1, 1)
    ours = preprocessing(frames) * torch.tensor(PUBLISHED.std).view(1, 3, 1, 1)
    ours = ours + torch.tensor(PUBLISHED.mean).view(1, 3, 1, 1)
    assert (ours - expected).abs().max() <= 2.01 / 255


def test_what_is_written_is_read_back_and_transformers_reads_it_too(tmp_path):
    for preprocessing in (
        Preprocessing(40, (31, 31), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
        Preprocessing((24, 24), None, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), filter="bilinear"),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessing.as_config()))
        assert Preprocessing.from_folder(tmp_path) == preprocessing
        frames = frames_of(50, 70)
        reread = theirs(CLIPImageProcessorPil.from_pretrained(tmp_path), frames)
        assert (preprocessing(frames) - reread).abs().max() <= 2.01 / (255 * 0.2)


def test_the_captioners_way(toy, tmp_path):
    _, processor = toy
    preprocessing = Preprocessing.of_captioner(processor)
    frames = frames_of(48, 64)
    assert torch.equal(preprocessing(frames), processor.pixels(frames))
    assert torch.equal(preprocessing(frames), to_pixel_values(frames, size=preprocessing.shape[0]))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessing.as_config()))
    assert Preprocessing.from_folder(tmp_path) == preprocessing


def test_older_and_newer_files_say_the_same(tmp_path):
    old = {
        "size": 32,
        "crop_size": 30,
        "do_center_crop": True,
        "resample": 3,
        "image_mean": [0.5] * 3,
        "image_std": [1] * 3,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    expected = Preprocessing(32, (30, 30), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    assert Preprocessing.from_folder(tmp_path) == expected
    nested = {"image_processor": {**old, "crop_size": {"height": 28, "width": 28}}, "processor_class": "CLIPProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert Preprocessing.from_folder(tmp_path).crop == (28, 28)


def test_its_text_tells_any_two_apart():
    plain = Preprocessing(32, (32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    others = [
        plain,
        Preprocessing(32, (30, 30), plain.mean, plain.std),
        Preprocessing(34, (32, 32), plain.mean, plain.std),
        Preprocessing((32, 32), (32, 32), plain.mean, plain.std),
        Preprocessing((32, 32), None, plain.mean, plain.std),
        Preprocessing((32, 32), None, plain.mean, plain.std, antialias=False),
        Preprocessing(32, (32, 32), plain.mean, plain.std, filter="bilinear"),
        Preprocessing(32, (32, 32), (0.48, 0.5, 0.5), plain.std),
        Preprocessing(32, (32, 32), plain.mean, (0.5, 0.5, 0.51)),
    ]
    assert len({str(other) for other in others}) == len(others)


GOOD = {"size": {"height": 8, "width": 8}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": None}, "does not say how pictures are prepared"),
        ({"resample": 1}, "resample is 1"),
        ({"resample": ...}, "it has no 'resample'"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"do_normalize": False}, "do_normalize is false"),
        ({"rescale_factor": 1.0}, "rescale_factor is 1.0"),
        ({"do_center_crop": True}, "it has no 'crop_size'"),
        ({"do_center_crop": True, "crop_size": 9}, "the crop must lie within"),
        ({"size": {"shortest_edge": 8}}, "set a crop"),
        ({"size": {"height": 8, "width": 9}, "antialias": False}, "only the captioner's way"),
        ({"image_std": [0.5, 0, 0.5]}, "every std above 0"),
    ],
)
def test_what_can_not_be_honoured_is_refused(changes, message, tmp_path):
    config = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        Preprocessing.from_folder(tmp_path)


def test_a_folder_without_a_configuration(tmp_path):
    with pytest.raises(CheckpointError, match=r"preprocessor_config.json can't be read"):
        Preprocessing.from_folder(tmp_path)

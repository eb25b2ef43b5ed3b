"""A retriever inside a captioner's folder, both with the same ResNet: one vision pass serves both."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import ResNetConfig, ResNetModel

from egoinstructor.captioners.egoinstructor import Captioner
from egoinstructor.errors import CheckpointError
from egoinstructor.records import Clip
from egoinstructor.retriever.cross_view import CrossViewConfig, CrossViewModel
from egoinstructor.retriever.cross_view_retriever import CrossViewRetriever
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.retriever.opening import open_retriever
from egoinstructor.retriever.preprocessing import Preprocessing


@pytest.fixture(scope="module")
def folder(resnet_captioner, tokenizer):
    """A captioner with a retriever in it that looks through it, as the shipped model lies."""
    torch.manual_seed(3)
    config = CrossViewConfig(
        ego_frame_width=10, exo_frame_width=10, hidden_size=16, num_layers=1, num_heads=2, num_frames=8, projection_dim=12,
        text_vocab_size=len(tokenizer), text_context=12, text_hidden_size=20, text_num_layers=1, text_num_heads=4,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    inside = resnet_captioner / "retriever"
    CrossViewRetriever(CrossViewModel(config), tokenizer).save_pretrained(inside)
    backbones = {"num_frames": 8, "sampling": "segment_center", "backbones": {"ego": "..", "exo": ".."}}
    (inside / "retriever.json").write_text(json.dumps(backbones))
    return resnet_captioner


def clips_of(videos):
    return [Clip(path, start, start + 2.0) for path in videos.values() for start in (0.0, 0.7)]


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_retriever_looks_through_the_captioner(folder, short_videos, dtype):
    captioner = Captioner.from_pretrained(folder, device="cpu", dtype=dtype)
    retriever = open_retriever(folder / "retriever", device="cpu", dtype=dtype)
    assert retriever.backbones["ego"] is retriever.backbones["exo"]
    assert retriever.backbones["ego"].spec == captioner.encoder.spec
    clips = clips_of(short_videos)
    alone = {view: retriever.encode_video(clips, view) for view in ("ego", "exo")}
    assert min((rows[0] - rows[2]).norm() for rows in alone.values()) > 0.05  # clips look different
    assert retriever.look_through(captioner.encoder)
    assert retriever.frame_encoders == (captioner.encoder, captioner.encoder)
    tolerance = 1e-5 if dtype is None else 2e-2
    for view, expected in alone.items():
        torch.testing.assert_close(retriever.encode_video(clips, view), expected, atol=tolerance, rtol=0)


def test_another_captioner_is_not_looked_through(folder, model_folder):
    retriever = open_retriever(folder / "retriever", device="cpu")
    assert not retriever.look_through(Captioner.from_pretrained(model_folder, device="cpu").encoder)


@pytest.fixture
def resnet(tmp_path):
    """A ResNet as its own backbone."""
    torch.manual_seed(0)
    tower = ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[6, 14], depths=[1, 1], layer_type="basic"))
    preprocessing = Preprocessing((24, 24), None, (0.5, 0.5, 0.5), (0.5, 0.4, 0.3), antialias=False)
    return TowerFrameEncoder(tower, preprocessing, num_frames=3)


@pytest.mark.parametrize("kind", ["resnet", "captioner"])
def test_saved_and_opened_again(kind, resnet, resnet_captioner, short_videos, tmp_path):
    encoder = resnet if kind == "resnet" else TowerFrameEncoder.from_pretrained(resnet_captioner, num_frames=3)
    assert encoder.width == {"resnet": 14, "captioner": 10}[kind]
    encoder.save_pretrained(tmp_path / "backbone")
    opened = TowerFrameEncoder.from_pretrained(tmp_path / "backbone", num_frames=3)
    assert opened.spec == encoder.spec
    clips = clips_of(short_videos)
    features = encoder.encode_clips(clips)
    assert features.shape == (8, 3, encoder.width)
    assert torch.equal(opened.encode_clips(clips), features)


def test_a_captioner_without_its_vision_weights(resnet_captioner, tmp_path):
    (tmp_path / "config.json").write_bytes((resnet_captioner / "config.json").read_bytes())
    with pytest.raises(CheckpointError, match="neither"):
        TowerFrameEncoder.from_pretrained(tmp_path, num_frames=3)

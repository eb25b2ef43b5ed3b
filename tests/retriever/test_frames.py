"""Features of frames: those that the tower gives, whatever is encoded beside them, and a revision that means them."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipModel, SiglipVisionConfig, SiglipVisionModel

from egoinstructor.errors import CheckpointError, InputError, VideoError
from egoinstructor.records import Clip
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.retriever.preprocessing import Preprocessing
from egoinstructor.video.decode import load_video


@pytest.fixture(params=["clip", "siglip"])
def encoder(request, checkpoints):
    return TowerFrameEncoder.from_pretrained(checkpoints[request.param], num_frames=3, device="cpu")


def clips_of(videos):
    return [Clip(path, start, start + 1.0) for path in videos.values() for start in (0.0, 0.7)]


def test_features_are_the_towers_own(encoder, short_videos):
    clips = clips_of(short_videos)
    features = encoder.encode_clips(clips)
    assert features.shape == (8, 3, 24)
    assert encoder.width == 24
    for clip, row in zip(clips, features, strict=True):
        frames = load_video(clip.video, start=clip.start, end=clip.end, num_frames=3)
        with torch.no_grad():
            expected = encoder.tower(encoder.preprocessing(frames)).pooler_output
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)
    assert features.flatten(1).std(0).mean() > 0.01  # clips look different


@pytest.mark.parametrize("frames_per_pass", [1, 2, 3, 7, 64])
def test_a_clips_features_do_not_depend_on_its_neighbours(encoder, short_videos, frames_per_pass):
    clips = clips_of(short_videos)
    alone = torch.cat([encoder.encode_clips([clip]) for clip in clips])
    encoder.frames_per_pass = frames_per_pass
    torch.testing.assert_close(encoder.encode_clips(clips), alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoder.encode_clips(clips[::-1]).flip(0), alone, atol=1e-5, rtol=1e-5)


def test_passes_are_bounded_in_frames(encoder, short_videos, monkeypatch):
    sizes = []
    forward = encoder.tower.forward
    monkeypatch.setattr(encoder.tower, "forward", lambda x: sizes.append(len(x)) or forward(x))
    encoder.frames_per_pass = 7
    encoder.encode_clips(clips_of(short_videos)[:5])
    assert sizes == [6, 6, 3]  # whole clips, two of three frames each
    sizes.clear()
    encoder.frames_per_pass = 2
    encoder.encode_clips(clips_of(short_videos)[:1])
    assert sizes == [2, 1]


def test_half_precision(checkpoints, short_videos):
    whole = TowerFrameEncoder.from_pretrained(checkpoints["clip"], num_frames=2)
    half = TowerFrameEncoder.from_pretrained(checkpoints["clip"], num_frames=2, dtype=torch.bfloat16)
    clips = clips_of(short_videos)[:2]
    assert half.encode_clips(clips).dtype == torch.bfloat16
    similarity = torch.cosine_similarity(half.encode_clips(clips).float(), whole.encode_clips(clips), dim=-1)
    assert similarity.min() > 0.99
    assert half.revision != whole.revision


def test_no_clips(encoder):
    assert encoder.encode_clips([]).shape == (0, 3, 24)


def test_features_need_no_gradient_and_the_tower_stays_frozen(encoder, short_videos):
    features = encoder.encode_clips(clips_of(short_videos)[:1])
    assert not features.requires_grad
    head = torch.nn.Linear(24, 2)
    head(features).sum().backward()  # but something can be trained on them
    assert head.weight.grad.any()
    assert not encoder.tower.training
    assert not any(weight.requires_grad for weight in encoder.tower.parameters())


def test_a_clip_that_can_not_be_read(encoder, short_videos, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(VideoError, match="broken"):
        encoder.encode_clips([*clips_of(short_videos), Clip(tmp_path / "broken.mp4")])


def test_the_spec_says_all_that_decides_the_features(checkpoints):
    def spec(**changes):
        return TowerFrameEncoder.from_pretrained(checkpoints["clip"], **{"num_frames": 3, **changes}).spec

    plain = spec()
    assert plain == spec()
    assert plain.preprocessing == str(Preprocessing.from_folder(checkpoints["clip"]))
    assert {spec(num_frames=4), spec(sampling="linspace"), spec(dtype=torch.float16)}.isdisjoint({plain})
    tower = TowerFrameEncoder.from_pretrained(checkpoints["clip"], num_frames=3)
    changed = copy.deepcopy(tower.tower)
    with torch.no_grad():
        changed.embeddings.class_embedding[0] += 1
    assert TowerFrameEncoder(changed, tower.preprocessing, num_frames=3).revision != plain.revision


def test_saved_and_opened_again(encoder, short_videos, tmp_path):
    encoder.save_pretrained(tmp_path / "backbone")
    opened = TowerFrameEncoder.from_pretrained(tmp_path / "backbone", num_frames=3, device="cpu")
    assert opened.spec == encoder.spec
    clips = clips_of(short_videos)[:2]
    assert torch.equal(opened.encode_clips(clips), encoder.encode_clips(clips))


@pytest.mark.parametrize(
    ("model", "config"), [(CLIPVisionModel, CLIPVisionConfig), (SiglipVisionModel, SiglipVisionConfig)]
)
def test_a_vision_tower_by_itself_is_a_backbone_too(model, config, checkpoints, tmp_path):
    sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 1, "num_attention_heads": 3}
    tower = model(config(**sizes, image_size=16, patch_size=8))
    tower.save_pretrained(tmp_path)
    for file in checkpoints["clip"].glob("preprocessor_config.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    encoder = TowerFrameEncoder.from_pretrained(tmp_path, num_frames=1)
    assert torch.equal(encoder.tower.embeddings.patch_embedding.weight, tower.embeddings.patch_embedding.weight)


def test_models_that_are_no_backbone(checkpoints, golden_a, tmp_path):
    with pytest.raises(CheckpointError, match="holds a 'xclip'; a backbone must be one of clip,"):
        TowerFrameEncoder.from_pretrained(checkpoints["xclip"], num_frames=1)
    with pytest.raises(CheckpointError, match=r"config\.json can't be read"):
        TowerFrameEncoder.from_pretrained(tmp_path, num_frames=1)


def test_parts_that_do_not_fit(checkpoints):
    tower = TowerFrameEncoder.from_pretrained(checkpoints["clip"], num_frames=1).tower
    preprocessing = Preprocessing((24, 24), None, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    with pytest.raises(CheckpointError, match="the vision tower takes 16×16"):
        TowerFrameEncoder(tower, preprocessing, num_frames=1)
    preprocessing = Preprocessing.from_folder(checkpoints["clip"])
    with pytest.raises(InputError, match="num_frames=0"):
        TowerFrameEncoder(tower, preprocessing, num_frames=0)
    headless = SiglipModel.from_pretrained(checkpoints["siglip"]).vision_model
    headless.config.vision_use_head = False
    with pytest.raises(CheckpointError, match="no pooling head"):
        TowerFrameEncoder(headless, preprocessing, num_frames=1)


def test_a_device_that_is_not_here(checkpoints):
    with pytest.raises(InputError, match="device 'cuda:77' can't be used here"):
        TowerFrameEncoder.from_pretrained(checkpoints["clip"], num_frames=1, device="cuda:77")

"""A ResNet in the place of CLIP: the same shapes, statistics that only its own training changes, files that open again."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
from transformers import CLIPVisionConfig, ResNetConfig

from egoinstructor.checkpoints.export import save_original
from egoinstructor.checkpoints.loading import load, load_vision_encoder
from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.model import EgoInstructorConfig
from egoinstructor.model.revision import weights_revision
from egoinstructor.model.vision import build_vision_encoder, frame_features, vision_width


@pytest.fixture
def opened(resnet_captioner):
    return load(resnet_captioner)


@pytest.fixture
def model(opened):
    return opened[0]


def given(model, clips=1, size=40):
    ids = torch.tensor([[5, model.config.image_token_id, 6, model.config.answer_token_id, 7]] * 2)
    pixels = torch.randn(2, clips, 3, 3, size, size, generator=torch.Generator().manual_seed(3))
    return {"input_ids": ids, "pixel_values": pixels}


def statistics(model):
    return {name: buffer.clone() for name, buffer in model.vision_encoder.named_buffers()}


def test_patches_are_the_feature_map_row_by_row_and_a_frames_vector_is_their_mean(model):
    pixels = given(model)["pixel_values"]
    with torch.no_grad():
        feature_map = model.vision_encoder(pixels.flatten(0, 2)).last_hidden_state  # (6, V, 5, 5)
        patches, pooled = model.read_frames(pixels)
    assert vision_width(model.config.vision_config) == 10
    assert patches.shape == (2, 1, 3, 25, 10)
    assert pooled.shape == (2, 1, 3, 10)
    torch.testing.assert_close(patches[1, 0, 2, 7], feature_map[5, :, 1, 2])
    torch.testing.assert_close(pooled, patches.mean(-2))
    assert pooled.flatten(0, 2).std(0).min() > 1e-3  # frames look different


def test_both_kinds_say_how_wide_they_are():
    clip = {"hidden_size": 24, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    resnet = {"embedding_size": 4, "hidden_sizes": [6, 24], "depths": [1, 1]}
    for config in (CLIPVisionConfig(**clip, image_size=16, patch_size=8), ResNetConfig(**resnet)):
        encoder = build_vision_encoder(config, "sdpa").eval()
        patches, pooled = frame_features(encoder, torch.randn(5, 3, 16, 16))
        assert vision_width(config) == patches.shape[-1] == 24
        assert pooled.shape == (5, 24)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_saved_and_opened_again(model, opened, attention, tmp_path):
    model.save_pretrained(tmp_path / "again")
    opened[1].save_pretrained(tmp_path / "again")
    again, _ = load(tmp_path / "again", attn_implementation=attention)
    assert again.config.vision_config.to_dict() == model.config.vision_config.to_dict()
    torch.testing.assert_close(again(**given(again)).logits, model(**given(model)).logits)


def test_every_clip_by_itself_and_no_clips(model):
    pixels = given(model, clips=3)["pixel_values"]
    with torch.no_grad():
        latents = model.encode_videos(pixels)
        model.frames_per_pass = 4
        torch.testing.assert_close(model.encode_videos(pixels[:, 1:2]), latents[:, 1:2])
        assert model.encode_videos(pixels[:, :0]).shape == (2, 0, *latents.shape[2:])


def test_a_training_step_leaves_a_frozen_encoders_statistics_alone(model):
    model.train()  # before freezing, as after it
    model.freeze_pretrained()
    assert not model.vision_encoder.training
    before = statistics(model)
    seen = model.read_frames(given(model)["pixel_values"])[0]
    for _ in range(2):
        model.train()
        assert not any(module.training for module in model.vision_encoder.modules())
        assert model.resampler.training
        inputs = given(model)
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
    after = statistics(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(seen, model.eval().read_frames(given(model)["pixel_values"])[0])
    assert model.resampler.latents.grad.any()


def test_an_encoder_that_is_trained_follows_the_mode(model):
    model.requires_grad_(True).train()
    assert model.vision_encoder.training
    before = statistics(model)
    model(**given(model))
    after = statistics(model)
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert not model.eval().vision_encoder.training


def test_the_revision_covers_the_statistics(model):
    changed = copy.deepcopy(model.vision_encoder)
    assert weights_revision(changed) == weights_revision(model.vision_encoder)
    dict(changed.named_buffers())["embedder.embedder.normalization.running_var"][0] += 1e-3
    assert weights_revision(changed) != weights_revision(model.vision_encoder)


def test_half_precision_on_a_cpu(resnet_captioner, model):
    half, _ = load(resnet_captioner, dtype=torch.bfloat16)
    with torch.no_grad():
        vectors, expected = (
            half.read_frames(given(half)["pixel_values"])[1],
            model.read_frames(given(model)["pixel_values"])[1],
        )
    assert vectors.dtype == torch.bfloat16
    assert torch.cosine_similarity(vectors.float(), expected, dim=-1).min() > 0.99
    assert half(**given(half)).logits.isfinite().all()


def test_the_encoder_by_itself(resnet_captioner, model, model_folder):
    for folder, whole in ((resnet_captioner, model), (model_folder, load(model_folder)[0])):
        encoder, processor = load_vision_encoder(folder)
        assert weights_revision(encoder) == weights_revision(whole.vision_encoder)
        assert not encoder.training
        assert processor.image_size == 28
        half, _ = load_vision_encoder(folder, torch.bfloat16)
        assert weights_revision(half) == weights_revision(load(folder, dtype=torch.bfloat16)[0].vision_encoder)


def test_files_that_do_not_fit(resnet_captioner, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(resnet_captioner, folder)
    config = json.loads((folder / "config.json").read_text())

    def edit(**changes):
        changed = {**config, "vision_config": {**config["vision_config"], **changes}}
        (folder / "config.json").write_text(json.dumps(changed))

    for opening in (load, load_vision_encoder):
        edit(model_type="convnext")
        with pytest.raises(CheckpointError, match="'convnext'; it must be one of clip_vision_model, resnet"):
            opening(folder)
        edit(depths=[1, 3])
        with pytest.raises(CheckpointError, match=r"does not fit its config\.json: {'missing_keys'"):
            opening(folder)


def test_a_configuration_without_a_kind_means_clip():
    assert isinstance(EgoInstructorConfig(vision_config={"hidden_size": 24}).vision_config, CLIPVisionConfig)
    assert isinstance(EgoInstructorConfig().vision_config, CLIPVisionConfig)
    with pytest.raises(InputError, match="model_type 'siglip_vision_model'"):
        EgoInstructorConfig(vision_config={"model_type": "siglip_vision_model"})


def test_the_original_has_no_such_encoder(opened, tmp_path):
    with pytest.raises(CheckpointError, match="a 'resnet'; the original has CLIP alone"):
        save_original(*opened, tmp_path / "out")
    assert not (tmp_path / "out").exists()

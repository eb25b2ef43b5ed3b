"""The model as transformers sees it: saving, loading, devices, checkpointing, bad inputs."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from egoinstructor.errors import InputError
from egoinstructor.model import EgoInstructorConfig, EgoInstructorForConditionalGeneration, EgoInstructorProcessor


def small_config(**changes):
    """Every size differs from every other, so that a hard-coded or mistaken one can't hide."""
    values = {
        "text_config": {
            "vocab_size": 61,
            "hidden_size": 40,
            "num_hidden_layers": 3,
            "num_attention_heads": 5,
            "mlp_ratio": 3,
            "max_position_embeddings": 96,
        },
        "vision_config": {
            "hidden_size": 24,
            "intermediate_size": 56,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "image_size": 20,
            "patch_size": 10,
        },
        "num_latents": 7,
        "max_num_frames": 6,
        "resampler_depth": 2,
        "resampler_heads": 2,
        "resampler_head_dim": 9,
        "resampler_ff_mult": 2,
        "cross_attention_every_n_layers": 2,
        "cross_attention_heads": 3,
        "cross_attention_head_dim": 11,
        "cross_attention_ff_mult": 5,
        "image_token_id": 58,
        "answer_token_id": 59,
        "end_of_chunk_token_id": 57,
        "pad_token_id": 60,
    }
    return EgoInstructorConfig(**{**values, **changes})


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = EgoInstructorForConditionalGeneration(small_config())
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            torch.nn.init.constant_(parameter, 0.5)
    return model.eval()


def inputs(clips=2, frames=3):
    generator = torch.Generator().manual_seed(3)
    ids = torch.tensor([[1, 58, 4, 59, 5, 57, 58, 6, 59], [58, 2, 59, 7, 57, 58, 3, 3, 59]])
    return {"input_ids": ids, "pixel_values": torch.randn(2, clips, frames, 3, 20, 20, generator=generator)}


def test_no_size_is_hard_coded(model):
    output = model(**inputs(), labels=inputs()["input_ids"])
    assert output.logits.shape == (2, 9, 61)
    assert output.video_latents.shape == (2, 2, 7, 24)
    assert output.loss.isfinite()


def test_new_gates_are_closed_so_that_the_decoder_starts_as_it_was():
    torch.manual_seed(0)
    fresh = EgoInstructorForConditionalGeneration(small_config()).eval()
    given = inputs()
    seen = fresh(**given).logits
    other = fresh(given["input_ids"], pixel_values=-given["pixel_values"]).logits
    assert torch.equal(seen, other)


def test_save_and_load_sharded_through_the_auto_classes(model, toy, tmp_path):
    _, processor = toy
    model.save_pretrained(tmp_path, max_shard_size="20kB")
    processor.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert isinstance(AutoConfig.from_pretrained(tmp_path), EgoInstructorConfig)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert isinstance(loaded, EgoInstructorForConditionalGeneration)
    assert loaded.lm_head.weight is loaded.decoder.embed_tokens.weight
    for part in ("text_config", "vision_config"):
        written = getattr(loaded.config, part).to_dict()
        assert {k: v for k, v in getattr(model.config, part).to_dict().items() if written[k] != v} == {"dtype": None}
    assert loaded.config.cross_attention_every_n_layers == 2
    assert torch.equal(loaded(**inputs()).logits, model(**inputs()).logits)
    reopened = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(reopened, EgoInstructorProcessor)
    assert (reopened.image_size, reopened.num_frames, reopened.max_length) == (28, 8, 256)
    assert reopened.prompt(["you stir"]) == processor.prompt(["you stir"])


def test_device_map_spreads_the_model(model, tmp_path):
    """On a machine without an accelerator "auto" may still put layers on disk: the hooks are the same."""
    model.save_pretrained(tmp_path / "saved")
    auto = EgoInstructorForConditionalGeneration.from_pretrained(tmp_path / "saved", device_map="auto")
    assert torch.allclose(auto(**inputs()).logits, model(**inputs()).logits, atol=1e-5)
    spread = EgoInstructorForConditionalGeneration.from_pretrained(
        tmp_path / "saved",
        device_map={"vision_encoder": "cpu", "resampler": "cpu", "lm_head": "cpu", "decoder.embed_tokens": "cpu",
                    "decoder.norm": "cpu", "decoder.layers.0": "cpu", "decoder.layers.1": "disk", "decoder.layers.2": "cpu"},
        offload_folder=tmp_path / "offload",
    )  # fmt: skip
    assert torch.allclose(spread(**inputs()).logits, model(**inputs()).logits, atol=1e-5)
    given = inputs()
    kwargs = {"attention_mask": torch.ones_like(given["input_ids"]), "max_new_tokens": 4, "do_sample": False}
    assert spread.generate(**given, **kwargs).tolist() == model.generate(**given, **kwargs).tolist()


def gradients(model, **changes):
    model.train()
    model.zero_grad()
    model.freeze_pretrained()
    given = {**inputs(), **changes}
    model(**given, labels=given["input_ids"]).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")  # its successor is newer than 5.3
def test_gradient_checkpointing_changes_no_gradient(model):
    plain = gradients(model)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    checkpointed = gradients(model)
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        assert torch.allclose(gradient, checkpointed[name], atol=1e-6), name


def test_freezing_reports_what_is_trained(model):
    report = model.freeze_pretrained()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(report.names)
    assert not any(name.startswith("vision_encoder") for name in report.names)
    assert report.parts["vision_encoder"][0] == 0
    trained, total = (sum(counts) for counts in zip(*report.parts.values(), strict=True))
    assert trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert total == sum(p.numel() for p in model.parameters())
    assert f"{trained:,}" in str(report).splitlines()[-1]


def test_the_loss_of_a_split_batch_adds_up(model):
    given = inputs()
    whole = model(**given, labels=given["input_ids"]).loss
    targets = given["input_ids"][:, 1:].numel()
    parts = [
        model(
            given["input_ids"][i : i + 1],
            pixel_values=given["pixel_values"][i : i + 1],
            labels=given["input_ids"][i : i + 1],
            num_items_in_batch=targets,
        ).loss
        for i in range(2)
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize("items", [None, 5])
def test_skipped_logits_change_neither_loss_nor_gradients(model, items):
    labels = inputs()["input_ids"].clone()
    labels[0, :4] = labels[1, :-2] = -100
    output = model(**inputs(), labels=labels, num_items_in_batch=items)
    short = model(**inputs(), labels=labels, num_items_in_batch=items, skip_logits=True)
    assert short.logits is None
    assert short.loss.item() == pytest.approx(output.loss.item(), rel=1e-6)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    whole, some = (torch.autograd.grad(one.loss, trained, allow_unused=True) for one in (output, short))
    for expected, gradient in zip(whole, some, strict=True):
        assert (expected is None) == (gradient is None)
        assert expected is None or torch.allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_skipped_logits_of_no_labels_give_no_loss(model):
    labels = torch.full_like(inputs()["input_ids"], -100)
    output = model(**inputs(), labels=labels, num_items_in_batch=3, skip_logits=True)
    assert output.loss.item() == 0
    output.loss.backward()


def test_logits_to_keep(model):
    full = model(**inputs()).logits
    assert torch.allclose(model(**inputs(), logits_to_keep=2).logits, full[:, -2:], atol=1e-6)


def test_many_frames_are_encoded_in_bounded_passes(model, monkeypatch):
    monkeypatch.setattr(model, "frames_per_pass", 5)
    sizes = []
    forward = model.vision_encoder.forward
    monkeypatch.setattr(model.vision_encoder, "forward", lambda x: sizes.append(len(x)) or forward(x))
    with torch.no_grad():
        split = model.encode_frames(inputs()["pixel_values"])
    assert sizes == [5, 5, 2]
    monkeypatch.undo()
    assert torch.allclose(split, model.encode_frames(inputs()["pixel_values"]), atol=1e-6)


def test_one_pass_gives_patches_and_what_clip_pools(model, monkeypatch):
    pixels = inputs()["pixel_values"]
    with torch.no_grad():
        expected = model.vision_encoder(pixels.flatten(0, 2))
        passes = []
        forward = model.vision_encoder.forward
        monkeypatch.setattr(model.vision_encoder, "forward", lambda x: passes.append(len(x)) or forward(x))
        patches, pooled = model.read_frames(pixels)
        assert passes == [12]
        assert torch.equal(patches, model.encode_frames(pixels))
    assert patches.shape == (2, 2, 3, 4, 24)
    assert pooled.shape == (2, 2, 3, 24)
    assert torch.equal(patches.flatten(0, 2), expected.last_hidden_state[:, 1:])
    assert torch.equal(pooled.flatten(0, 2), expected.pooler_output)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel_values": torch.zeros(2, 2, 7, 3, 20, 20)}, "7 frames a clip; this model takes 1 to 6"),
        ({"pixel_values": torch.zeros(2, 2, 0, 3, 20, 20)}, "0 frames a clip"),
        ({"pixel_values": torch.zeros(2, 3, 3, 20, 20)}, r"shape \(2, 3, 3, 20, 20\); it must be"),
        ({"pixel_values": None, "video_latents": torch.zeros(3, 1, 7, 24)}, "2 rows of text with clips of shape"),
        ({"video_latents": torch.zeros(2, 1, 7, 24)}, "both given"),
    ],
)
def test_clips_of_the_wrong_shape(model, changes, message):
    with pytest.raises(InputError, match=message):
        model(**{**inputs(), **changes})


def test_a_configuration_that_can_not_be(model):
    with pytest.raises(Exception, match="40 is not a multiple of 7"):
        small_config(text_config={"hidden_size": 40, "num_attention_heads": 7})

"""The cross-view model against a plain implementation of the paper's description, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from egoinstructor.errors import InputError
from egoinstructor.retriever.clip_text import interpolated, load_clip_text, text_sizes
from egoinstructor.retriever.cross_view import CrossViewConfig, CrossViewModel, sinusoidal_positions

END = 49
SIZES = {
    "ego_frame_width": 12, "exo_frame_width": 16, "hidden_size": 16, "num_layers": 2, "num_heads": 2, "num_frames": 4,
    "projection_dim": 8, "text_vocab_size": 50, "text_context": 20, "text_hidden_size": 24, "text_num_layers": 2,
    "text_num_heads": 3, "eos_token_id": END,
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> CrossViewModel:
    torch.manual_seed(0)
    made = CrossViewModel(CrossViewConfig(**SIZES)).eval()
    for name, parameter in made.named_parameters():  # biases and norms that show
        if name.endswith("bias") or "norm" in name:
            nn.init.normal_(parameter, std=0.3)
    return made


def texts(*lengths: int, pad: int = 0) -> torch.Tensor:
    ids = torch.full((len(lengths), max(lengths)), pad)
    for row, length in zip(ids, lengths, strict=True):
        row[: length - 1] = torch.arange(1, length)
        row[length - 1] = END
    return ids


# ---------------------------------------------------------------------- against a plain implementation


def plain_block(layer, x, heads, causal):
    """CLIP's residual attention block by torch's own attention."""
    width = x.shape[-1]
    attention = nn.MultiheadAttention(width, heads, batch_first=True)
    attention.in_proj_weight, attention.in_proj_bias = layer.qkv.weight, layer.qkv.bias
    attention.out_proj.weight, attention.out_proj.bias = layer.output.weight, layer.output.bias
    mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1) if causal else None
    normed = F.layer_norm(x, (width,), layer.attention_norm.weight, layer.attention_norm.bias)
    x = x + attention(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
    up = F.layer_norm(x, (width,), layer.mlp_norm.weight, layer.mlp_norm.bias) @ layer.up.weight.T + layer.up.bias
    return x + (up * torch.sigmoid(1.702 * up)) @ layer.down.weight.T + layer.down.bias


def plain_norm(tower, x):
    return F.layer_norm(x, (x.shape[-1],), tower.norm.weight, tower.norm.bias)


def plain_video(model, features, view):
    x = features
    if view == "ego":  # whose width differs
        x = x @ model.video.inputs["ego"].weight.T + model.video.inputs["ego"].bias
    width = x.shape[-1]
    positions = torch.zeros(x.shape[1:])
    for place in range(x.shape[1]):
        for channel in range(width):
            angle = place / 10000 ** (2 * (channel // 2) / width)
            positions[place, channel] = math.sin(angle) if channel % 2 == 0 else math.cos(angle)
    x = x + positions
    for layer in model.video.layers:
        x = plain_block(layer, x, 2, causal=False)
    x = plain_norm(model.video, x).mean(1) @ model.video.projection.weight.T
    return x / x.norm(dim=-1, keepdim=True)


def plain_text(model, ids):
    rows = []
    for row in ids:
        end = row.tolist().index(END)
        x = model.text.embed_tokens.weight[row[: end + 1]][None] + model.text.positions[: end + 1]
        for layer in model.text.layers:
            x = plain_block(layer, x, 3, causal=True)
        rows.append(plain_norm(model.text, x)[0, -1] @ model.text.projection.weight.T)
    x = torch.stack(rows)
    return x / x.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize(("view", "width"), [("ego", 12), ("exo", 16)])
@pytest.mark.parametrize("frames", [1, 4, 7])
def test_video_is_the_plain_one(model, view, width, frames):
    features = torch.randn(3, frames, width)
    torch.testing.assert_close(model.embed_video(features, view), plain_video(model, features, view))


@pytest.mark.parametrize("pad", [0, END])
def test_text_is_the_plain_one_whatever_pads_it(model, pad):
    ids = texts(3, 9, 5, pad=pad)
    torch.testing.assert_close(model.embed_text(ids, (ids != pad).long()), plain_text(model, ids))


def test_eager_attention_is_the_same(model):
    eager = CrossViewModel._from_config(model.config, attn_implementation="eager").eval()
    eager.load_state_dict(model.state_dict())
    features, ids = torch.randn(2, 4, 12), texts(4, 6)
    torch.testing.assert_close(eager.embed_video(features, "ego"), model.embed_video(features, "ego"))
    torch.testing.assert_close(eager.embed_text(ids), model.embed_text(ids))


def test_positions_tell_frames_apart(model):
    features = torch.randn(1, 4, 16)
    turned = model.embed_video(features.flip(1), "exo")
    assert not torch.allclose(turned, model.embed_video(features, "exo"), atol=1e-3)
    assert sinusoidal_positions(torch.arange(3), 4, like=torch.zeros(())).tolist()[0] == [0, 1, 0, 1]


# ---------------------------------------------------------------------- a batch of both views


def test_forward_keeps_the_rows_in_order(model):
    ego, exo, ids = torch.randn(2, 4, 12), torch.randn(3, 4, 16), texts(4, 5, 3, 9, 2)
    is_ego = torch.tensor([False, True, False, False, True])
    output = model(ids, ego, exo, is_ego)
    torch.testing.assert_close(output.video_embeds[is_ego], model.embed_video(ego, "ego"))
    torch.testing.assert_close(output.video_embeds[~is_ego], model.embed_video(exo, "exo"))
    torch.testing.assert_close(output.text_embeds, model.embed_text(ids))
    assert output.scale.item() == pytest.approx(1 / 0.07)


def test_every_parameter_has_a_gradient_in_every_batch(model):
    """Also of one view, and of nothing: processes that train together must agree on what they exchange."""
    for egos, exos in ((2, 0), (0, 2), (0, 0)):
        model.zero_grad()
        rows = egos + exos
        ids = texts(*[3] * rows) if rows else torch.zeros(0, 1, dtype=torch.long)
        is_ego = torch.arange(rows) < egos
        output = model(ids, torch.randn(egos, 4, 12), torch.randn(exos, 4, 16), is_ego)
        assert output.video_embeds.shape == (rows, 8)
        (output.video_embeds.sum() + output.text_embeds.sum() + output.scale).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []
    model.zero_grad()


# ---------------------------------------------------------------------- saved, and started from CLIP


def test_saved_and_opened(model, tmp_path):
    model.save_pretrained(tmp_path)
    opened, info = CrossViewModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert {name: t.tolist() for name, t in opened.state_dict().items()} == {
        name: t.tolist() for name, t in model.state_dict().items()
    }
    assert opened.config.ego_frame_width == 12


def clip_text(**changes):
    sizes = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "eos_token_id": END,
             "intermediate_size": 96, "projection_dim": 8, "max_position_embeddings": 20, **changes}  # fmt: skip
    return CLIPTextModelWithProjection(CLIPTextConfig(**sizes)).eval()


def test_a_clip_text_tower_gives_the_same_vectors():
    clip = clip_text()
    model = CrossViewModel(CrossViewConfig(**{**SIZES, **text_sizes(clip.config)})).eval()
    load_clip_text(model, clip)
    ids = texts(4, 9, 20, pad=END)
    torch.testing.assert_close(model.embed_text(ids), F.normalize(clip(ids).text_embeds, dim=-1))


def test_positions_are_interpolated():
    clip = clip_text(max_position_embeddings=7)
    model = CrossViewModel(CrossViewConfig(**{**SIZES, **text_sizes(clip.config)})).eval()
    load_clip_text(model, clip)
    theirs = clip.state_dict()["text_model.embeddings.position_embedding.weight"]
    expected = F.interpolate(theirs[None, None], size=(20, 24), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(model.text.positions.data, expected)
    assert interpolated(theirs, 7) is theirs


def test_a_tower_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"layers\.1\..* None, this model's"):
        load_clip_text(CrossViewModel(CrossViewConfig(**SIZES)), clip_text(num_hidden_layers=1))


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.embed_video(torch.zeros(1, 4, 16), "ego"), r"ego features have shape \(1, 4, 16\).* 12\)"),
        (lambda m: m.embed_video(torch.zeros(4, 16), "exo"), r"exo features have shape \(4, 16\)"),
        (lambda m: m.embed_video(torch.zeros(1, 0, 16), "exo"), r"\(1, 0, 16\)"),
        (lambda m: m.embed_text(texts(21)), "1 to 20 tokens"),
        (lambda m: m.embed_text(torch.ones(1, 5, dtype=torch.long)), "no end-of-text token"),
        (lambda m: m.embed_text(texts(3), torch.tensor([[0, 1, 1]])), "padding_side"),
    ],
)
def test_what_does_not_fit_is_refused(model, call, message):
    with pytest.raises(InputError, match=message):
        call(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "16 is not a multiple of 3"),
        ({"text_num_heads": 7}, "24 is not a multiple of 7"),
        ({"hidden_size": 15, "num_heads": 1}, "15 is odd"),
        ({"eos_token_id": None}, "not one id"),
    ],
)
def test_configurations_that_can_not_be(changes, message):
    with pytest.raises(StrictDataclassError, match=message):
        CrossViewConfig(**{**SIZES, **changes})

"""The published layout → our model, against a plain implementation that reads the file's own names; strict both ways."""

from __future__ import annotations

import argparse
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from egoinstructor.cli import main
from egoinstructor.errors import CheckpointError
from egoinstructor.retriever.opening import open_retriever
from egoinstructor.retriever.published import convert_published, load_published

# Each size differs from the others, so that a mistaken one can't hide. Widths must divide into 8 heads.
WIDTH, LAYERS, DIMENSION, VOCABULARY, CONTEXT, TEXT_WIDTH, TEXT_LAYERS = 16, 3, 12, 18, 14, 24, 2
START, END = VOCABULARY - 2, VOCABULARY - 1


def published_state():
    """Random weights under the published names."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "visual_ln_final": (WIDTH,), "ln_final": (TEXT_WIDTH,),
    }  # fmt: skip
    for tower, width, layers in (("visual", WIDTH, LAYERS), ("transformer", TEXT_WIDTH, TEXT_LAYERS)):
        for i in range(layers):
            block = f"{tower}.resblocks.{i}."
            shapes |= {block + "ln_1": (width,), block + "ln_2": (width,), block + "attn.out_proj": (width, width)}
            shapes |= {block + "mlp.c_fc": (4 * width, width), block + "mlp.c_proj": (width, 4 * width)}
            shapes |= {block + "attn.in_proj": (3 * width, width)}
    named = {}
    for name, shape in shapes.items():
        joint = "_" if name.endswith("in_proj") else "."
        named |= {f"{name}{joint}weight": shape, f"{name}{joint}bias": shape[:1]}
    named |= {
        "aggregation_projection": (WIDTH, DIMENSION),
        "text_projection": (TEXT_WIDTH, DIMENSION),
        "token_embedding.weight": (VOCABULARY, TEXT_WIDTH),
        "positional_embedding": (CONTEXT, TEXT_WIDTH),
    }
    state = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in named.items()}
    return {**state, "logit_scale": torch.tensor(math.log(1 / 0.07))}


class PlainBlock(nn.Module):
    """CLIP's residual attention block as its authors wrote it down, with the published names."""

    def __init__(self, width, heads):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})

    def forward(self, x, mask):  # (T, B, width)
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        y = self.mlp["c_fc"](self.ln_2(x))
        return x + self.mlp["c_proj"](y * torch.sigmoid(1.702 * y))


def plain_blocks(state, tower, width, layers, x, mask=None):
    for i in range(layers):
        block, prefix = PlainBlock(width, 8), f"{tower}.resblocks.{i}."
        block.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        x = block(x, mask)
    return x


@torch.no_grad()
def plain_video(state, features):
    count, width = features.shape[1:]
    positions = torch.zeros(count, width)
    for p in range(count):
        for i in range(0, width, 2):
            positions[p, i] = math.sin(p / 10000 ** (i / width))
            positions[p, i + 1] = math.cos(p / 10000 ** (i / width))
    x = plain_blocks(state, "visual", width, LAYERS, (features + positions).transpose(0, 1)).transpose(0, 1)
    x = F.layer_norm(x, (width,), state["visual_ln_final.weight"], state["visual_ln_final.bias"]).mean(1)
    return F.normalize(x @ state["aggregation_projection"], dim=-1)


@torch.no_grad()
def plain_text(state, ids):
    x = state["token_embedding.weight"][ids] + state["positional_embedding"][: ids.shape[1]]
    mask = torch.full((ids.shape[1],) * 2, float("-inf")).triu(1)
    x = plain_blocks(state, "transformer", TEXT_WIDTH, TEXT_LAYERS, x.transpose(0, 1), mask).transpose(0, 1)
    x = F.layer_norm(x, (TEXT_WIDTH,), state["ln_final.weight"], state["ln_final.bias"])
    return F.normalize(x[torch.arange(len(ids)), ids.argmax(-1)] @ state["text_projection"], dim=-1)


@pytest.fixture(scope="module")
def state():
    return published_state()


def write(value, path):
    torch.save(value, path)
    return path


def test_it_computes_what_the_original_computes(state, tmp_path):
    model = load_published(write(state, tmp_path / "best.pt"))
    features = torch.randn(5, 7, WIDTH, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[START, 3, 9, 1, END, END], [START, 5, 2, 8, 7, END], [START, 4, END, 0, 0, 0]])
    with torch.no_grad():
        for view in ("ego", "exo"):
            torch.testing.assert_close(
                model.embed_video(features, view), plain_video(state, features), atol=2e-5, rtol=1e-4
            )
        torch.testing.assert_close(model.embed_text(ids), plain_text(state, ids), atol=2e-5, rtol=1e-4)
    assert model.logit_scale.item() == pytest.approx(math.log(1 / 0.07))
    assert not model.training


def test_the_number_of_heads_matters(state, tmp_path):
    file = write(state, tmp_path / "best.pt")
    features = torch.randn(2, 4, WIDTH)
    ids = torch.tensor([[START, 3, 9, 1, END]])
    eight, other = load_published(file), load_published(file, num_heads=4, text_num_heads=12)
    assert (eight.config.num_heads, eight.config.text_num_heads) == (8, 8)
    with torch.no_grad():
        assert not torch.allclose(eight.embed_video(features, "exo"), other.embed_video(features, "exo"), atol=1e-3)
        assert not torch.allclose(eight.embed_text(ids), other.embed_text(ids), atol=1e-3)
    with pytest.raises(CheckpointError, match="does not fit 5 and 8 heads"):
        load_published(file, num_heads=5)


@pytest.mark.parametrize("around", ["state_dict", "model", "model_state_dict"])
def test_wrapped_as_training_scripts_save(state, around, tmp_path):
    prefixed = {f"module.{name}": tensor.half() for name, tensor in state.items()}
    whole = {"epoch": 4, around: prefixed, "optimizer": {"state": {}}, "args": argparse.Namespace(lr=3e-5)}
    model = load_published(write(whole, tmp_path / "best.pt"))
    plain = load_published(write(state, tmp_path / "plain.pt"))
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, plain.state_dict()[name], atol=1e-3, rtol=1e-3)


def test_every_tensor_of_the_file_is_used_and_every_one_of_ours_filled(state, tmp_path):
    ours = load_published(write(state, tmp_path / "best.pt")).state_dict()
    assert len(ours) == len(state)
    assert sum(t.numel() for t in ours.values()) == sum(t.numel() for t in state.values())


class Evil:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"visual.resblocks.0.attn.bias_k": torch.ones(1)}, "no part of the model takes: visual"),
        (lambda s: {k: v for k, v in s.items() if "resblocks.1.mlp.c_fc.bias" not in k}, r"lacks tensors: .*\.up\.bias"),
        (lambda s: {k: v for k, v in s.items() if k != "token_embedding.weight"}, r"lacks tensors: text\.embed_tokens"),
        (lambda s: {k: v for k, v in s.items() if "visual.resblocks.1." not in k}, "lacks tensors: video.layers.1"),
        (lambda s: s | {"ln_final.bias": torch.ones(3)}, r"don't belong together: text\.norm\.bias is \(3,\)"),
        (lambda s: s | {"text_projection": torch.ones(TEXT_WIDTH, 5)}, r"text\.projection\.weight is \(5, 24\), must be"),
        (lambda s: s | {"positional_embedding": torch.ones(CONTEXT)}, r"dimensions: text\.positions is"),
        (lambda s: {"epoch": 3}, "it must be a state dict|a state dict holds tensors only"),
        (lambda s: {}, "it must be a state dict|a state dict holds tensors only"),
        (lambda s: {"state_dict": s, "args": Evil()}, "holds more than tensors"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_it(state, change, message, tmp_path, capsys):
    file = write(change(state), tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=message):
        load_published(file)
    assert "run" not in capsys.readouterr().out


def test_no_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match="is a folder; give the file itself"):
        load_published(tmp_path / "folder")
    (tmp_path / "cut.pt").write_bytes(write(published_state(), tmp_path / "best.pt").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="can't be read as a torch checkpoint"):
        load_published(tmp_path / "cut.pt")


def test_converted_it_is_a_retriever(state, tokenizer, checkpoints, tmp_path):
    assert (len(tokenizer), tokenizer.eos_token_id) == (VOCABULARY, END)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    file = write(state, tmp_path / "best.pt")
    given = ["--retriever", str(file), "--out", str(tmp_path / "out"), "--tokenizer", str(tmp_path / "tokenizer")]
    assert main(["convert", *given, "--dtype", "bfloat16"]) == 2
    assert main(["convert", *given]) == 0
    retriever = open_retriever(tmp_path / "out", device="cpu")
    features = torch.randn(3, 4, WIDTH)
    torch.testing.assert_close(retriever.embed_features(features), plain_video(state, features), atol=2e-5, rtol=1e-4)
    ids = torch.tensor([tokenizer("cut a carrot")["input_ids"]])
    torch.testing.assert_close(retriever.encode_text(["cut a carrot"]), plain_text(state, ids), atol=2e-5, rtol=1e-4)
    assert retriever.identity.num_frames == 4
    with pytest.raises(CheckpointError, match="the exo backbone gives features of width 24; the model takes 16"):
        convert_published(file, tmp_path / "other", tokenizer=tmp_path / "tokenizer", exo_backbone=checkpoints["clip"])
    assert not (tmp_path / "other").exists()

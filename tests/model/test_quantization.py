"""int8: near the full numbers, the same alone and in a batch, and captions that mostly stay."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egoinstructor.errors import InputError
from egoinstructor.model import quantization
from egoinstructor.model.quantization import Int8Linear, quantize_int8

exact = pytest.mark.skipif(not quantization._exact_here(), reason="this CPU has no VNNI instructions, int8 is refused")


@exact
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.sampled_from([32, 96]), st.booleans(), st.integers(0, 100), st.floats(1e-3, 1e3))
def test_one_layer(rows, width, bias, seed, size):
    generator = torch.Generator().manual_seed(seed)
    layer = torch.nn.Linear(width, 48, bias=bias)
    x = torch.randn(2, rows, width, generator=generator) * size
    with torch.inference_mode():
        expected, quantised = layer(x), Int8Linear(layer)
        y = quantised(x)
        assert y.shape == expected.shape
        assert (y - expected).norm() < 0.03 * expected.norm()
        assert torch.equal(quantised(x[:1, :1])[0, 0], y[0, 0]), "a row does not depend on the others"


@exact
def test_a_row_of_zeros_stays_zero():
    layer = torch.nn.Linear(32, 8, bias=False)
    with torch.inference_mode():
        assert torch.equal(Int8Linear(layer)(torch.zeros(1, 32)), torch.zeros(1, 8))


@exact
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model(golden, dtype):
    full, _ = golden.load()
    model, _ = golden.load(dtype=dtype)
    quantize_int8(model)
    kinds = {type(module) for part in (model.vision_encoder, model.decoder) for module in part.modules()}
    assert Int8Linear in kinds
    assert torch.nn.Linear not in kinds
    assert model.lm_head.weight is model.decoder.embed_tokens.weight
    ids, mask = golden.tensors["left_input_ids"], golden.tensors["left_attention_mask"]
    with torch.inference_mode():
        expected = full(ids, mask, pixel_values=golden.tensors["vision_x"]).logits[mask.bool()]
        logits = model(ids, mask, pixel_values=golden.tensors["vision_x"]).logits[mask.bool()]
        assert (logits - expected).norm() < 0.15 * expected.norm()
        assert model.generate(ids, attention_mask=mask, pixel_values=golden.tensors["vision_x"]).shape[0] == 2


@exact
def test_it_is_not_saved_without_its_weights(golden_a, tmp_path):
    model = quantize_int8(golden_a.load()[0])
    with pytest.raises(InputError, match="can't be saved"):
        model.save_pretrained(tmp_path)


@pytest.mark.slow  # a process of its own
def test_a_processor_that_would_compute_wrong_numbers_is_refused(golden_a):
    """Without VNNI instructions results are far off, silently; the environment variable hides them from oneDNN."""
    script = (
        "import sys; from egoinstructor.model import quantization;"
        "from egoinstructor.checkpoints.convert import load_original;"
        "model, _ = load_original(*sys.argv[1:3], tokenizer=sys.argv[3]); quantization.quantize_int8(model)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, golden_a.base, golden_a.captioner, golden_a.tokenizer],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "it lacks VNNI instructions" in done.stderr


def test_not_on_other_devices(toy):
    with torch.device("meta"):
        other = type(toy[0])(toy[0].config)
    with pytest.raises(InputError, match="runs on CPUs only"):
        quantize_int8(other)

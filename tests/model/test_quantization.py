"""int8: near the full numbers, the same alone and in a batch, and captions that mostly stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egoinstructor.errors import InputError
from egoinstructor.model.quantization import Int8Linear, quantize_int8

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch was built without oneDNN")


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


def test_a_row_of_zeros_stays_zero():
    layer = torch.nn.Linear(32, 8, bias=False)
    with torch.inference_mode():
        assert torch.equal(Int8Linear(layer)(torch.zeros(1, 32)), torch.zeros(1, 8))


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


def test_not_on_other_devices(toy):
    with torch.device("meta"):
        other = type(toy[0])(toy[0].config)
    with pytest.raises(InputError, match="runs on CPUs only"):
        quantize_int8(other)

"""The key table: complete both ways, on the meta device, at the published size."""

from __future__ import annotations

import pytest
import torch

from egoinstructor.checkpoints.keys import NOT_WEIGHTS, TABLE, to_ours, to_theirs
from egoinstructor.model import EgoInstructorConfig, EgoInstructorForConditionalGeneration


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return EgoInstructorForConditionalGeneration(EgoInstructorConfig())


def test_every_tensor_of_the_published_size_translates_there_and_back(published):
    ours = [name for name in published.state_dict() if name != "lm_head.weight"]
    theirs = [to_theirs(name) for name in ours]
    assert None not in theirs
    assert len(set(theirs)) == len(ours)
    assert [to_ours(name) for name in theirs] == ours


def test_every_row_of_the_table_is_used(published):
    theirs = {to_theirs(name) for name in published.state_dict()}
    for pattern, _ in TABLE:
        start = pattern.replace("{}", "0").rstrip("*")
        assert any(str(name).startswith(start) for name in theirs), pattern


def test_published_parameter_counts(published):
    """About 1.05 of 2.55 billion are trained, which is why the captioner's file has 4.19 GB of fp32."""
    trained, total = map(sum, zip(*published.freeze_pretrained().parts.values(), strict=True))
    assert total == pytest.approx(2.55e9, rel=0.01)
    assert trained * 4 == pytest.approx(4.19e9, rel=0.005)


@pytest.mark.parametrize(
    "name",
    [
        "perceiver.layers.x.to_q.weight",
        "perceiver.layers.0.to_q.bias",
        "perceiver.media_time_embs",
        "lang_encoder.transformer.blocks.0.decoder_layer.attn.Wqkv.bias",
        "lang_encoder.transformer.blocks.0.decoder_layer.ln_1.weight.extra",
        "lang_encoder.lm_head.weight",
        "",
    ],
)
def test_unknown_names_have_no_place(name):
    assert to_ours(name) is None


def test_the_position_buffer_is_the_only_thing_left_out():
    assert {"vision_encoder.vision_model.embeddings.position_ids"} == NOT_WEIGHTS

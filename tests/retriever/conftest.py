"""Tiny dual encoders of transformers, saved as their checkpoints are, and a tokenizer made of a few words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    XCLIPConfig,
    XCLIPModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

WORDS = [
    "we",
    "stir",
    "the",
    "soup",
    "cut",
    "a",
    "carrot",
    "wash",
    "some",
    "rice",
    "and",
    "pour",
    "water",
    "into",
    "pan",
]
START, END, UNKNOWN = "<|startoftext|>", "<|endoftext|>", "<unk>"
START_ID, END_ID = len(WORDS) + 1, len(WORDS) + 2
TEXT = {
    "vocab_size": len(WORDS) + 3,
    "hidden_size": 20,
    "intermediate_size": 36,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 12,
    "bos_token_id": START_ID,
    "eos_token_id": END_ID,
    "pad_token_id": END_ID,
}
VISION = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 16,
    "patch_size": 8,
}


@pytest.fixture(scope="session")
def tokenizer():
    """Words, with a start and an end; padded with the end, as CLIP's is."""
    words = {word: i for i, word in enumerate([*WORDS, UNKNOWN, START, END])}
    inner = Tokenizer(models.WordLevel(words, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, START_ID), (END, END_ID)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token=UNKNOWN, bos_token=START, eos_token=END, pad_token=END
    )


def random_model(kind):
    """Weights large enough that every part of the model matters; the initial ones hardly move an embedding."""
    torch.manual_seed(7)
    if kind == "clip":
        model = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=28))
    elif kind == "siglip":
        text = {**TEXT, "projection_size": VISION["hidden_size"]}
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))
    else:
        video = {"num_frames": 4, "mit_hidden_size": 28, "mit_intermediate_size": 30, "mit_num_attention_heads": 2}
        model = XCLIPModel(
            XCLIPConfig(text_config=TEXT, vision_config={**VISION, **video, "drop_path_rate": 0.0}, projection_dim=28)
        )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.normal_(std=0.3)
    return model.eval()


def image_processor(kind):
    """The processor that checkpoints of this kind come with."""
    if kind == "clip":
        return CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    if kind == "siglip":
        return SiglipImageProcessorPil(size={"height": 16, "width": 16})
    return VideoMAEImageProcessorPil(size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16})


@pytest.fixture(scope="session")
def checkpoints(tokenizer, tmp_path_factory) -> dict[str, Path]:
    """Folders as they come from the Hub: "clip", "siglip", "xclip"."""
    folders = {}
    for kind in ("clip", "siglip", "xclip"):
        folders[kind] = folder = tmp_path_factory.mktemp("hub") / f"tiny-{kind}"
        random_model(kind).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        image_processor(kind).save_pretrained(folder)
    return folders


@pytest.fixture(scope="session")
def clip_of_toy(toy, tokenizer, tmp_path_factory) -> Path:
    """The CLIP that the toy captioner's vision encoder would have been."""
    model, _ = toy
    config = CLIPConfig(text_config=TEXT, vision_config=model.vision_encoder.config.to_dict(), projection_dim=28)
    torch.manual_seed(1)
    clip = CLIPModel(config)
    clip.vision_model.load_state_dict(model.vision_encoder.state_dict())
    folder = tmp_path_factory.mktemp("hub") / "clip-of-toy"
    clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder

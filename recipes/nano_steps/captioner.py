"""The captioner from random weights, over the vision tower that the retriever has learned."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from egoinstructor.checkpoints.writing import whole_folder
from egoinstructor.model.configuration import EgoInstructorConfig, EgoInstructorTextConfig
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.tokenizer import load_tokenizer
from egoinstructor.retriever.frames import TowerFrameEncoder
from nano_steps.practice import STEPS, practise

logger = logging.getLogger("nano")

OPEN_GATE = 1.0
"""Flamingo's gates start shut, to leave a trained decoder as it is. Here text and clips are learned together, and with open
gates faster: measured."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """All sizes of the captioner but its vision tower's; named as in `EgoInstructorConfig`.

    Args:
        num_frames: frames a clip.
        max_length: tokens of a prompt with its answer.
        max_new_tokens: of a caption.
    """

    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_latents: int = 8
    resampler_depth: int = 2
    resampler_heads: int = 4
    resampler_head_dim: int = 64
    cross_attention_heads: int = 4
    cross_attention_head_dim: int = 32
    num_frames: int = 8
    max_length: int = 512
    max_new_tokens: int = 32
    initializer_range: float = 0.05


_TEXT = ("hidden_size", "num_hidden_layers", "num_attention_heads", "initializer_range")
_ELSEWHERE = ("num_frames", "max_length", "max_new_tokens")


def make_captioner(
    backbone: Path,
    tokenizer: Path,
    out: Path,
    *,
    seed: int = 0,
    sizes: Sizes | None = None,
    practice: int = STEPS,
) -> None:
    """Write a model folder to train: a trained vision tower, a practised decoder, all else random, gates open.

    Args:
        backbone: folder of the vision tower with its preprocessing, as a saved retriever has it.
        tokenizer: the captioner's, of `make_tokenizers`.
        out: a new folder.
        seed: of the random weights.
        sizes: None for nano's.
        practice: steps of text alone, before.

    Raises:
        CheckpointError: a backbone or tokenizer that can't be used, or a folder that can't be written.
    """
    sizes = sizes or Sizes()
    eye = TowerFrameEncoder.from_pretrained(backbone, num_frames=sizes.num_frames, device="cpu", dtype=torch.float32)
    words = load_tokenizer(tokenizer)
    given = asdict(sizes)
    text = EgoInstructorTextConfig(
        vocab_size=len(words), max_position_embeddings=sizes.max_length, **{name: given[name] for name in _TEXT}
    )
    config = EgoInstructorConfig(
        text_config=text,
        vision_config=eye.tower.config.to_dict(),
        max_num_frames=sizes.num_frames,
        **{name: value for name, value in given.items() if name not in (*_TEXT, *_ELSEWHERE)},
    )
    how = eye.preprocessing
    processor = EgoInstructorProcessor(
        words,
        image_size=how.shape[0],
        num_frames=sizes.num_frames,
        max_length=sizes.max_length,
        image_mean=how.mean,
        image_std=how.std,
    )
    processor.fit(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = EgoInstructorForConditionalGeneration(config)
    model.vision_encoder.load_state_dict(eye.tower.state_dict())
    for name, parameter in model.named_parameters():
        if name.endswith("_gate"):
            torch.nn.init.constant_(parameter, OPEN_GATE)
    right = practise(model, processor, seed=seed, steps=practice)
    logger.info("practice: %.0f %% of the captions are read off the references", 100 * right)
    model.generation_config = processor.generation_config()
    # Captions are short and regular: greedy search finds what beams do, and "the" may well come twice.
    model.generation_config.update(num_beams=1, no_repeat_ngram_size=0, max_new_tokens=sizes.max_new_tokens)
    with whole_folder(out) as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)

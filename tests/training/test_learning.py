"""The captioner learns to say what it sees, and what only its reference tells. Blind, it learns neither.

A coloured square crosses the picture; captions say "red up". Half of the captions have a word more, "red up spoon", which
nothing in the video tells: it stands in the narration of the reference, whose own square is another. So colour and direction
must be seen, in videos that were never trained on, and the word must be read.

The whole path is the real one: video files, the original's metadata, the feature cache, the trainer, `generate`. The model
is small and random: its vision encoder stays so, its decoder, which nobody has pretrained, is trained with the rest.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from egoinstructor.data.metadata import Sample
from egoinstructor.model import EgoInstructorConfig, EgoInstructorForConditionalGeneration, EgoInstructorProcessor
from egoinstructor.model.tokenizer import load_tokenizer
from egoinstructor.training.arguments import parse
from egoinstructor.training.callbacks import caption_sample
from egoinstructor.training.dataset import CaptionDataset
from egoinstructor.training.run import build_trainer
from egoinstructor.training.trainer import CaptionerTrainer

COLOURS = {
    "red": (230, 25, 25), "green": (25, 230, 25), "blue": (25, 25, 230), "yellow": (230, 230, 25),
    "cyan": (25, 230, 230), "magenta": (230, 25, 230), "white": (230, 230, 230), "orange": (240, 130, 25),
}  # fmt: skip
DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
WORDS = ("spoon", "knife", "soup", "dough", "onion", "tray")
KINDS = [(colour, direction) for colour in COLOURS for direction in DIRECTIONS]
SPLITS = {"train": (6000, 6), "test": (200, 2)}  # samples, videos of a kind
SIZE, FRAMES = 28, 4

# Without the ego video one kind is as likely as another, and the reference says nothing of it.
BLIND_CHANCE = 1 / len(KINDS)
MARGIN = 4 * (BLIND_CHANCE * (1 - BLIND_CHANCE) / SPLITS["test"][0]) ** 0.5  # 4 standard errors

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def crossing(colour: str, direction: str, rng: np.random.Generator) -> np.ndarray:
    """Eight frames `(8, SIZE, SIZE, 3)` of a square of about that colour on its way across a dark ground."""
    side = rng.integers(10, 14)
    along = np.linspace(0, SIZE - side, 8).round().astype(int)
    across = rng.integers(4, SIZE - side - 3)
    frames = np.full((8, SIZE, SIZE, 3), rng.integers(40, 80), np.uint8)
    rows, columns = DIRECTIONS[direction]
    for frame, place in zip(frames, along[:: rows + columns], strict=True):
        top, left = (place, across) if rows else (across, place)
        frame[top : top + side, left : left + side] = COLOURS[colour] + rng.integers(-20, 21, 3)
    return frames


def write_split(folder: Path, split: str, write_video) -> None:
    """Videos, and samples in the original's form; every second one has a word that only its reference tells."""
    samples, copies = SPLITS[split]
    rng, draw = np.random.default_rng(len(split)), random.Random(split)
    for colour, direction in KINDS:
        for copy in range(copies):
            frames = crossing(colour, direction, rng)
            path = folder / f"{split}_{colour}_{direction}_{copy}.mp4"
            write_video(path, len(frames), size=(SIZE, SIZE), fps=8, pixels=frames.__getitem__)

    def entry(kind: tuple[str, str], word: str) -> dict:
        video = {"vid": f"{split}_{'_'.join(kind)}_{draw.randrange(copies)}", "start_second": 0, "end_second": 1}
        return {"instruction": "describe", "answer": " ".join((*kind, word)).strip(), "image_ids": [video]}

    data = {}
    for i in range(samples):
        word = draw.choice(WORDS) if i % 2 else ""
        data[f"{i}"] = entry(draw.choice(KINDS), word)
        data[f"{i}/0"] = entry(draw.choice(KINDS), word)
    (folder / f"{split}.json").write_text(json.dumps({"data": data}))
    (folder / f"{split}_config.json").write_text(json.dumps({f"{i}": [f"{i}/0"] for i in range(samples)}))


def write_model(folder: Path, tokenizer) -> None:
    """A third of a million random weights."""
    torch.manual_seed(0)
    config = EgoInstructorConfig(
        text_config={"vocab_size": 448, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
        vision_config={"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
                       "image_size": SIZE, "patch_size": 7},
        num_latents=8, max_num_frames=FRAMES, resampler_depth=2, resampler_heads=4, resampler_head_dim=16,
        resampler_ff_mult=2, cross_attention_heads=4, cross_attention_head_dim=16, cross_attention_ff_mult=2,
    )  # fmt: skip
    processor = EgoInstructorProcessor(tokenizer, image_size=SIZE, num_frames=FRAMES)
    processor.fit(config)
    model = EgoInstructorForConditionalGeneration(config)
    with torch.no_grad():
        # As in a trained encoder, a patch tells where it is; and no pretrained decoder needs its gates shut.
        model.vision_encoder.embeddings.position_embedding.weight.mul_(10)
        for layer in model.decoder.layers:
            layer.cross_attention.attention_gate.fill_(0.5)
            layer.cross_attention.feed_forward_gate.fill_(0.5)
    # Not the published settings: they forbid three tokens in a row that the prompt has, and so a name's copy.
    end = config.end_of_chunk_token_id
    model.generation_config = GenerationConfig(max_new_tokens=12, eos_token_id=end, pad_token_id=end)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.fixture(scope="module")
def workplace(golden_a, videos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crossing")
    tokenizer = load_tokenizer(golden_a.tokenizer)
    for split in SPLITS:
        write_split(folder, split, videos.write)
    write_model(folder / "model", tokenizer)
    return folder


def train(folder: Path, run: str, *, blind: bool = False) -> CaptionerTrainer:
    options = {
        "model": folder / "model", "output_dir": folder / run, "feature_cache": folder / "cache",
        "train_data": folder / "train.json", "train_config": folder / "train_config.json",
        "eval_data": folder / "test.json", "eval_config": folder / "test_config.json",
        "shots": 1, "no_reference_share": 0.1, "loss_on": "query",
        "num_train_epochs": 10, "per_device_train_batch_size": 64, "learning_rate": 5e-3, "seed": 1,
        "save_strategy": "no", "use_cpu": True, "disable_tqdm": True,
    }  # fmt: skip
    trainer = build_trainer(
        parse(None, [word for name, value in options.items() for word in (f"--{name}", str(value))])
    )
    trainer.model.decoder.requires_grad_(True)
    if blind:
        trainer.train_dataset.samples = shuffled(trainer.train_dataset.samples)
    trainer.train()
    return trainer


def shuffled(samples: Sequence[Sample]) -> list[Sample]:
    """Each sample with the ego video of another; its text and its references stay."""
    others = random.Random(0).sample([sample.video for sample in samples], len(samples))
    return [replace(sample, video=video) for sample, video in zip(samples, others, strict=True)]


def accuracy(trainer: CaptionerTrainer, samples: Sequence[Sample] | None = None) -> tuple[float, float]:
    """The share of held-out samples with the exact caption: of those that are seen alone, and of those with a word read."""
    dataset: CaptionDataset = trainer.eval_dataset
    if samples is not None:
        dataset = CaptionDataset(samples, dataset.processor, shots=dataset.shots, cache=dataset.cache)
    lines = [caption_sample(trainer.model, dataset.processor, dataset, i) for i in range(len(dataset))]
    exact = [line["caption"] == line["answer"] for line in lines]
    return float(np.mean(exact[::2])), float(np.mean(exact[1::2]))


@pytest.fixture(scope="module")
def trained(workplace: Path) -> CaptionerTrainer:
    return train(workplace, "run")


def test_held_out_videos_are_captioned_exactly(trained: CaptionerTrainer) -> None:
    seen, read = accuracy(trained)
    assert seen >= 0.9
    assert read >= 0.9


def test_without_references_only_what_is_seen_is_said(trained: CaptionerTrainer) -> None:
    seen, read = accuracy(trained, [replace(sample, references=()) for sample in trained.eval_dataset.samples])
    assert seen >= 0.9
    assert read <= 1 / len(WORDS) + 0.15  # at best a word at random


def test_with_another_samples_ego_video_it_falls_to_chance(trained: CaptionerTrainer) -> None:
    seen, read = accuracy(trained, shuffled(trained.eval_dataset.samples))
    assert (seen + read) / 2 <= BLIND_CHANCE + MARGIN


def test_trained_on_shuffled_ego_videos_it_stays_at_chance(workplace: Path) -> None:
    seen, read = accuracy(train(workplace, "blind", blind=True))
    assert (seen + read) / 2 <= BLIND_CHANCE + MARGIN

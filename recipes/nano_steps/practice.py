"""What the captioner practises before it sees anything: to read a name off a reference, in text alone.

A how-to sentence with a new name, and a caption with the same name. A decoder that can do this has only to learn from the
clips which reference to read: without it, nothing was read within the steps that two CPU cores have time for.
"""

from __future__ import annotations

from random import Random

import torch
from torch import Tensor

from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.prompt import Prompt, last_answer
from nano_steps.episodes import fresh_names
from simkitchen.catalogue import TARGETS, VERBS
from simkitchen.narration import TEMPLATES, ego_narration, exo_narration

STEPS = 500
BATCH = 32
LEARNING_RATE = 2e-3
WARM_UP = 40

_VERBS = tuple(verb for verb in VERBS if verb not in TARGETS)


def practise(
    model: EgoInstructorForConditionalGeneration,
    processor: EgoInstructorProcessor,
    *,
    seed: int,
    steps: int = STEPS,
) -> float:
    """Train the decoder on text alone.

    Args:
        model: with a random decoder; its clips' side stays as it is.
        processor: its own.
        seed: of the sentences.
        steps: batches of sentences.

    Returns:
        The share of captions of the last ten batches that were right, word for word, each word given those before it.
    """
    random = Random(f"practice/{seed}")
    weights = list(model.decoder.parameters())
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    right: list[float] = []
    model.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARM_UP)
        batch = processor([_sentences(processor, random) for _ in range(BATCH)], labels=True)
        labels = last_answer(batch["labels"], batch["input_ids"], processor.answer_token_id)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch["input_ids"], batch["attention_mask"]).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        right.append(_right(logits, labels))
    model.eval()
    return sum(right[-10:]) / max(1, len(right[-10:]))


def _sentences(processor: EgoInstructorProcessor, random: Random) -> Prompt:
    (name,), verb = fresh_names(random, 1), random.choice(_VERBS)
    said = exo_narration(random.choice(TEMPLATES["train"]), verb, name)
    return processor.prompt([said], caption=ego_narration(verb, name))


def _right(logits: Tensor, labels: Tensor) -> float:
    """Share of rows of which every learned token is the likeliest."""
    hits = (logits[:, :-1].argmax(-1) == labels[:, 1:]) | (labels[:, 1:] < 0)
    return float(hits.all(1).float().mean())

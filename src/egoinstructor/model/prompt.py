"""The one prompt template: building it, reading the answer back, saying which tokens are learned.

    <image>User:{instruction} GPT:<answer>{narration}<|endofchunk|> … <image>User:{instruction} GPT:<answer>

References first, most relevant first, then the ego clip: in the text as in the video tensor. Training, evaluation, command
line and page all call this module. It knows strings and token ids, and nothing of videos.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.model.configuration import IGNORE
from egoinstructor.model.tokenizer import ANSWER, END_OF_CHUNK, IMAGE, SPECIAL_TOKENS
from egoinstructor.video.decode import Sampling

BAD_WORDS = ("User:", "GPT1:", "GFT:", "GPT:")
"""What a caption must not fall into: the template's own words (published generation settings)."""


@dataclass(frozen=True, slots=True)
class PromptPreset:
    """One of the original's ways to ask: its code paths disagree, and so each has a name here.

    Args:
        name: what the command line calls it.
        instruction: used where a sample brings none.
        bos: whether `<|endoftext|>` comes first.
        sampling: the policy that chooses frames (`egoinstructor.video.sampling`).
    """

    name: str
    instruction: str
    bos: bool
    sampling: Sampling


TRAINING = PromptPreset("training", "Describe the main action in the video.", bos=True, sampling="segment_center")
"""What the model was trained with: the default everywhere."""

SCRIPT = PromptPreset("script", "Describe the content of the video", bos=False, sampling="linspace")
"""The published single-video script, used by `test_video.py`."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt that fits.

    Args:
        text: as it reads, bos and eos included.
        input_ids: its tokens.
        kept: which of the references it has, as positions in the list that was given.
        dropped: which it has not, because they would not fit.
    """

    text: str
    input_ids: tuple[int, ...]
    kept: tuple[int, ...]
    dropped: tuple[int, ...]


def example(instruction: str, answer: str | None) -> str:
    """One clip's part of the prompt; without an answer, the query's."""
    question = f"{IMAGE}User:{instruction} GPT:{ANSWER}"
    return question if answer is None else f"{question}{answer}{END_OF_CHUNK}"


def build(
    encode: Callable[[str], list[int]],
    narrations: Sequence[str],
    *,
    instruction: str,
    bos: str,
    caption: str | None = None,
    guide: str | None = None,
    eos: str = "",
    max_length: int,
) -> Prompt:
    """Write the prompt, leaving out the least relevant references if it would be too long. The query is never cut.

    Args:
        encode: text → token ids, special tokens recognised, none added. Special tokens split the text, so the parts'
            tokens are the whole's.
        narrations: of the references, most relevant first.
        instruction: asked of every clip.
        bos: put first; may be empty.
        caption: the query's answer, in training.
        guide: an answer of another sample that shows the form, put before all clips and without one of its own.
        eos: put last; may be empty.
        max_length: tokens that the prompt may have.

    Raises:
        InputError: the query alone is too long, or a text holds a special token.
    """
    for text in (instruction, *narrations, caption or "", guide or ""):
        if found := [token for token in SPECIAL_TOKENS if token in text]:
            raise InputError(f"the text {text!r} holds {found[0]}, which has a meaning in the prompt; take it out.")
    query = example(instruction, caption)
    opening = bos + (example(instruction, guide).removeprefix(IMAGE) if guide is not None else "")
    first, last = encode(opening), encode(query) + encode(eos)
    room = max_length - len(first) - len(last)
    if room < 0:
        raise InputError(
            f"the query's own prompt has {max_length - room} tokens, {max_length} are allowed; shorten the instruction "
            f"({instruction[:60]!r}…) or ask for fewer new tokens."
        )
    text, ids, kept = opening, first, 0
    for narration in narrations:
        part = example(instruction, narration)
        tokens = encode(part)
        room -= len(tokens)
        if room < 0:
            break
        text, ids, kept = text + part, ids + tokens, kept + 1
    return Prompt(text + query + eos, tuple(ids + last), tuple(range(kept)), tuple(range(kept, len(narrations))))


def clean_instruction(instruction: str, rng: random.Random | None = None) -> str:
    """An instruction from the metadata as the original reads it.

    Leading punctuation goes, `-` and `/` become spaces, white space is squeezed. In training (`rng` given) it is
    lower-cased and its first letter's case drawn at random; at inference the case stays as given (the original draws it
    there too, so that its outputs vary from run to run).
    """
    text = re.sub(r"\s+", " ", re.sub(r"[-/]", " ", instruction.lstrip(",.!?*#:;~"))).strip()
    if rng is None or not text:
        return text
    first = text[0].upper() if rng.random() < 0.5 else text[0].lower()
    return first + text[1:].lower()


def parse_answer(text: str) -> str:
    """The caption in a generated text: behind the last `<answer>`, up to `<|endofchunk|>`."""
    return text.rsplit(ANSWER, 1)[-1].split(END_OF_CHUNK, 1)[0].strip().strip('"').strip()


def answer_labels(
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    image_token_id: int,
    answer_token_id: int,
    end_of_chunk_token_id: int,
) -> Tensor:
    """What is learned: every answer with its `<|endofchunk|>`, and what follows the last one (eos).

        <eos> <image> User: … GPT: <answer> so  we  <|eoc|> <image> … <answer> #C  C   <|eoc|> <eos> <PAD>
          ·      ·      ·       ·      ·     x   x     x       ·    ·     ·     x   x     x      x     ·

    Args:
        input_ids: `(B, T)`.
        attention_mask: `(B, T)`, 0 at padding.
        image_token_id: id of `<image>`.
        answer_token_id: id of `<answer>`.
        end_of_chunk_token_id: id of `<|endofchunk|>`.

    Returns:
        `(B, T)`: the ids where they are learned, −100 elsewhere.
    """
    is_answer, is_end = input_ids == answer_token_id, input_ids == end_of_chunk_token_id
    opened = is_answer.cumsum(dim=1)  # answers begun at or before the token
    closed = is_end.cumsum(dim=1) - is_end.long()  # answers ended strictly before it
    after_last = (opened > 0) & (closed == is_end.sum(dim=1, keepdim=True))
    learned = ((opened > closed) | after_last) & ~is_answer & (input_ids != image_token_id) & attention_mask.bool()
    learned[:, 0] = False
    return torch.where(learned, input_ids, IGNORE)


def last_answer(labels: Tensor, input_ids: Tensor, answer_token_id: int) -> Tensor:
    """Of labels `(B, T)`, those behind the last `<answer>` of each row: the query's answer; −100 elsewhere."""
    behind = (input_ids == answer_token_id).flip(1).cumsum(1).flip(1) == 0
    return torch.where(behind, labels, IGNORE)

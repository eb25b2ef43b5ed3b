"""A small byte-level BPE: common words are one token, invented names are spelled in pieces.

It never sees the name of a thing, so that those known from training and those that are new are spelled alike: a model that
reads the one can read the other. The captioner's sees names of nothing in their places, and learns the syllables that
names are made of: a name is three pieces or so, and quickly copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from egoinstructor.checkpoints.writing import whole_folder
from egoinstructor.data.actions import clean_narration
from egoinstructor.model.prompt import TRAINING, example
from egoinstructor.model.tokenizer import PAD, SPECIAL_TOKENS, add_special_tokens
from nano_steps.clips import KitchenClip, is_invented
from nano_steps.episodes import fresh_names

END_OF_TEXT = "<|endoftext|>"
VOCABULARY = 576
SYLLABLES = 160
"""Further tokens for the captioner's names."""
CAPTIONER, RETRIEVER = "captioner", "retriever"


def make_tokenizers(clips: Sequence[KitchenClip], out: Path, vocabulary: int = VOCABULARY) -> None:
    """Train on what is said, and write `out/captioner` and `out/retriever`.

    The captioner's has the prompt's special tokens and adds none by itself; the retriever's ends each text with
    `<|endoftext|>`.

    Args:
        clips: of the training split.
        out: a new folder.
        vocabulary: the retriever's tokens at most, the special ones not counted; 256 are bytes. The captioner has
            `SYLLABLES` more.

    Raises:
        CheckpointError: the folder is in use, or can't be written.
    """
    with whole_folder(out) as folder:
        named = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
        spells = train_tokenizer(corpus(clips, names=True), vocabulary + SYLLABLES)
        add_special_tokens(_wrapped(spells, **named)).save_pretrained(folder / CAPTIONER)
        ends = train_tokenizer(corpus(clips), vocabulary)
        end = (END_OF_TEXT, ends.token_to_id(END_OF_TEXT))
        ends.post_processor = processors.TemplateProcessing(single=f"$A {END_OF_TEXT}", special_tokens=[end])
        _wrapped(ends, **named, pad_token=PAD).save_pretrained(folder / RETRIEVER)


def corpus(clips: Sequence[KitchenClip], *, names: bool = False) -> list[str]:
    """What is said, as both models read it, and the prompt's own words, as often.

    Args:
        clips: that it is said in.
        names: put a new name where an invented one stood, rather than none.
    """
    told = []
    random = Random(0)
    for clip in clips:
        said = clip.narration
        if is_invented(clip.noun):
            new = f" {fresh_names(random, 1)[0]}" if names else ""
            said = said.replace(f" {clip.noun}", new)
        told += [said, clean_narration(said)]
    prompt = example(TRAINING.instruction, None)
    for token in SPECIAL_TOKENS:
        prompt = prompt.replace(token, "")
    return told + [prompt] * len(clips)


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE, the same for the same texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _wrapped(tokenizer: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special)

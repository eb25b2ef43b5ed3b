"""Texts → token ids, padded behind and cut to what a text tower can read."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from threading import Lock

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from egoinstructor.errors import CheckpointError, InputError

logger = logging.getLogger(__name__)

TEXTS_PER_PASS = 64
"""Texts that go through a text tower at once: bounds memory, not speed."""


class TextReader:
    """A tokenizer and a text tower's limit.

    Args:
        tokenizer: which adds its special tokens by itself.
        max_length: tokens that the tower reads at most, special ones included.
        vocabulary: tokens that the tower knows.
        siglip: in lower case, and always padded to `max_length`, as SigLIP and SigLIP 2 were trained. (The published
            folders of SigLIP 2 name a tokenizer that leaves capitals as they are.)

    Raises:
        CheckpointError: a tokenizer without a padding token, or with tokens that the tower does not know.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_length: int, vocabulary: int, *, siglip: bool = False
    ) -> None:
        if tokenizer.pad_token_id is None or len(tokenizer) > vocabulary:
            raise CheckpointError(
                f"the tokenizer has {len(tokenizer)} tokens and {tokenizer.pad_token!r} for padding; it must have a padding "
                f"token, and the model knows {vocabulary}. Give the one that belongs to the model."
            )
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.siglip = siglip
        self.cut = 0  # texts so far that were longer than the tower reads
        self._lock = Lock()  # whether to cut is state that tokenizers keep

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[Tensor, Tensor]]:
        """Ids and mask `(B, T)` of a bounded number of texts at a time, in order.

        A text that is too long is cut before its last special token and counted in `cut`; a warning says so once.

        Raises:
            InputError: an empty text.
        """
        for i, text in enumerate(texts):
            if not text.strip():
                raise InputError(f"text {i + 1} of {len(texts)} is empty: {text!r}. Leave it out, or give it words.")
        for start in range(0, len(texts), TEXTS_PER_PASS):
            some = texts[start : start + TEXTS_PER_PASS]
            with self._lock:
                rows = self._rows([text.lower() if self.siglip else text for text in some])
            yield self._padded(rows)

    def _rows(self, texts: list[str]) -> list[list[int]]:
        rows: list[list[int]] = self.tokenizer(texts, verbose=False)["input_ids"]
        for i, row in enumerate(rows):
            if len(row) > self.max_length:
                rows[i] = self.tokenizer(texts[i], truncation=True, max_length=self.max_length)["input_ids"]
                if not self.cut:
                    logger.warning(
                        "a text of %d tokens was cut to %d, which is all that this model reads: %.60r…; further ones are "
                        "cut without a word and counted",
                        len(row), self.max_length, texts[i],
                    )  # fmt: skip
                self.cut += 1
        return rows

    def _padded(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        width = self.max_length if self.siglip else max(map(len, rows))
        ids = torch.full((len(rows), width), int(self.tokenizer.pad_token_id))  # (B, T)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        return ids, mask

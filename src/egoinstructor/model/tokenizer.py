"""The tokenizer: GPT-NeoX-20B's, with the special tokens of OTTER in their published order."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from egoinstructor.errors import CheckpointError

END_OF_CHUNK = "<|endofchunk|>"
IMAGE = "<image>"
ANSWER = "<answer>"
PAD = "<PAD>"
SPECIAL_TOKENS = (END_OF_CHUNK, IMAGE, ANSWER, PAD)
"""In the order in which they are added: ids 50277 to 50280 behind GPT-NeoX-20B's 50277."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Open a tokenizer's folder and see that it has the special tokens; add them if it has none.

    Raises:
        CheckpointError: no tokenizer there, or one that has only some of the tokens.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder} has no tokenizer that can be opened (tokenizer.json): {error}") from error
    return add_special_tokens(tokenizer)


def add_special_tokens(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give a plain tokenizer the special tokens; one that has them all is left as it is.

    Raises:
        CheckpointError: only some of them are there: their ids would not be the published ones.
    """
    known = [token for token in SPECIAL_TOKENS if token in tokenizer.get_vocab()]
    if known and len(known) < len(SPECIAL_TOKENS):
        raise CheckpointError(
            f"the tokenizer has {', '.join(known)} of the special tokens {', '.join(SPECIAL_TOKENS)}; "
            "give one that has all of them, or none."
        )
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL_TOKENS[:-1])})
    tokenizer.add_special_tokens({"pad_token": PAD})
    return tokenizer

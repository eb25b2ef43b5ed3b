"""Opening what retrievers are made of: models and tokenizers of transformers, strictly, with one kind of error."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from egoinstructor.assets import shipped
from egoinstructor.checkpoints.reading import read_json, weight_files
from egoinstructor.checkpoints.sources import TOKENIZER_FILES, find_folder
from egoinstructor.errors import CheckpointError

Module = TypeVar("Module", bound=nn.Module)

_FILES = ["*.json", "*.safetensors", "*.model", *TOKENIZER_FILES]
_OLD_FILES = [*_FILES, "*.bin"]
_ERRORS = (OSError, SafetensorError, RuntimeError, ValueError, KeyError, ImportError, TypeError, StrictDataclassError)
"""What transformers raises over files that it can't use; ImportError where a tokenizer needs a package."""

_VOCABULARIES = ("tokenizer.json", "vocab.json", "tokenizer.model", "spiece.model")

_BUFFERS = (".position_ids",)
"""Buffers of 0, 1, 2, … that older files carry."""


def find_model(where: str | Path) -> Path:
    """The folder of a model with its weights; of a Hub id the safetensors, or pickles where it has no others.

    "nano" is the retriever that comes with the package.

    Raises:
        CheckpointError: nothing there.
    """
    if own := shipped(where, retriever=True):
        return own
    if Path(where).is_dir():
        return Path(where)
    folder = find_folder(where, _FILES, "model")
    try:
        weight_files(folder)
    except CheckpointError:
        folder = find_folder(where, _OLD_FILES, "model")
    return folder


def model_type(folder: Path) -> str:
    """What `config.json` says that a folder holds.

    Raises:
        CheckpointError: no `config.json`, or none of a model.
    """
    kind = read_json(folder / "config.json").get("model_type")
    if not isinstance(kind, str):
        raise CheckpointError(f"{folder / 'config.json'} has no model_type; it belongs to no model of transformers.")
    return kind


def load_model(kind: type[Module], folder: Path, dtype: torch.dtype | None) -> Module:
    """A model of this class, in evaluation mode and frozen; nothing is downloaded.

    Args:
        kind: a class of transformers' models.
        folder: where its files are.
        dtype: number format to load into; None for the files' own.

    Raises:
        CheckpointError: damaged, missing or misshapen tensors, or some that no part of the model takes.
    """
    try:
        model, info = kind.from_pretrained(  # type: ignore[attr-defined]  # every PreTrainedModel has it
            folder, dtype=dtype or "auto", output_loading_info=True, local_files_only=True
        )
    except _ERRORS as error:
        raise CheckpointError(f"{folder} can't be opened as a {kind.__name__}: {error}. Download it again.") from error
    wrong = {name: sorted(map(str, found)) for name, found in info.items() if found and name != "error_msgs"}
    wrong["unexpected_keys"] = [key for key in wrong.get("unexpected_keys", ()) if not key.endswith(_BUFFERS)]
    if wrong := {name: found[:5] for name, found in wrong.items() if found}:
        raise CheckpointError(f"{folder} does not fit its config.json: {wrong}. Download it again.")
    return model.eval().requires_grad_(False)


def load_text_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder; nothing is downloaded.

    Raises:
        CheckpointError: none that can be opened, which may be for want of a package that it needs.
    """
    if not any((folder / name).is_file() for name in _VOCABULARIES):  # transformers would make an empty one up
        raise CheckpointError(
            f"{folder} has no tokenizer, that is none of {', '.join(_VOCABULARIES)}. Download it too."
        )
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except _ERRORS as error:
        raise CheckpointError(f"{folder} has no tokenizer that can be opened: {error}") from error


def described(where: str | Path, kind: Any) -> str:
    """A model for people: its kind and its name, without the folders above it."""
    path = Path(where)
    return f"{kind} {path.resolve().name if path.is_dir() else where}"

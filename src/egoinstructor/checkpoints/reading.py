"""Reading tensors that others wrote, without running anything that they wrote.

Files are memory-mapped where their format allows it: a tensor's bytes are read when it is used, so that converting a
checkpoint needs the memory of a shard and not of the whole.
"""

from __future__ import annotations

import argparse
import json
import logging
import pickle
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from egoinstructor.errors import CheckpointError

logger = logging.getLogger(__name__)

WRAPPERS = ("model_state_dict", "state_dict", "model", "module")
"""Keys under which training scripts save a state dict, beside an epoch and an optimizer."""

PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile add to every name."""

_NOT_FILES = {
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself. Run 'git lfs pull' in its repository",
    b"<!doctype": "is a web page, not the file itself. Download the file, by the address of its download link",
    b"<html": "is a web page, not the file itself. Download the file, by the address of its download link",
}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: missing, unreadable, malformed, or not an object.
    """
    _check_is_file(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds a {type(value).__name__}; it must be a JSON object.")
    return value


def read_pickle(path: Path) -> Any:
    """What `torch.save` wrote, tensors memory-mapped, nothing executed (`weights_only=True`).

    Raises:
        CheckpointError: damaged, a pickle that wants to run code, a Git LFS pointer or a web page.
    """
    _check_is_file(path)
    try:
        # A training script's arguments often lie beside the weights; a Namespace holds values and runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            try:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            except RuntimeError as error:
                if "mmap can only be used" not in str(error):  # files of torch < 1.6 are no zip archives
                    raise
                return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than tensors, or is damaged; it was not loaded, for a pickle can run any code. "
            "Ask its author for safetensors, or for a file of plain tensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError) as error:  # the last: of what is no pickle
        raise CheckpointError(f"{path} can't be read as a torch checkpoint: {error}. Download it again.") from error


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one `.safetensors`, `.bin` or `.pt` file, their names without the prefixes that training adds.

    Raises:
        CheckpointError: damaged, or something in it that is no tensor.
    """
    if path.suffix == ".safetensors":
        _check_is_file(path)
        try:
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                for name, plain in zip(names, _without_prefixes(names, path, []), strict=True):
                    yield plain, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} can't be read as safetensors: {error}. Download it again.") from error
        return
    yield from read_state_dict(path).items()


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict in a file that `torch.save` wrote, itself or under one of `WRAPPERS`, without `PREFIXES`.

    What was taken off is logged as a warning.

    Raises:
        CheckpointError: damaged, or no state dict.
    """
    state, taken_off = read_pickle(path), []
    while isinstance(state, Mapping):
        around = next((key for key in WRAPPERS if isinstance(state.get(key), Mapping)), None)
        if around is None:
            break
        state = state[around]
        taken_off.append(f"the wrapper {around!r}")
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(
            f"{path} holds a {type(state).__name__}; it must be a state dict, or a dict with one under "
            f"{', '.join(WRAPPERS)}."
        )
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path} has {name!r}, a {type(tensor).__name__}; a state dict holds tensors only.")
    names = _without_prefixes([str(name) for name in state], path, taken_off)
    return dict(zip(names, state.values(), strict=True))


def check_finite(name: str, tensor: Tensor, where: str) -> None:
    """Refuse weights that a broken training run wrote.

    Args:
        name: of the tensor in its file.
        tensor: the weights.
        where: the file, as a message names it.

    Raises:
        CheckpointError: a value is NaN or infinite.
    """
    if tensor.is_floating_point() and not bool(tensor.float().isfinite().all()):
        bad = int((~tensor.float().isfinite()).sum())
        raise CheckpointError(
            f"{where}: {name!r} has {bad} of {tensor.numel()} values that are NaN or infinite. Its training broke; take an "
            "earlier checkpoint."
        )


def _without_prefixes(names: list[str], path: Path, taken_off: list[str]) -> list[str]:
    """The names without what stands before all of them; what was taken off is reported."""
    while prefix := next((p for p in PREFIXES if names and all(name.startswith(p) for name in names)), ""):
        names = [name.removeprefix(prefix) for name in names]
        taken_off.append(f"the prefix {prefix!r}")
    if [what for what in taken_off if what != "the wrapper 'model_state_dict'"]:  # the published file's own
        _report(path, ", ".join(taken_off))
    return names


@lru_cache(maxsize=256)
def _report(path: Path, taken_off: str) -> None:
    """Log once what was taken off a file, which is read more than once."""
    logger.warning("%s: taken off the weights: %s", path, taken_off)


def _check_is_file(path: Path) -> None:
    """Refuse what stands in a file's place when a download went wrong.

    Raises:
        CheckpointError: naming it.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64).lstrip().lower()
    except OSError:
        return  # whoever reads the file says why it can't be
    for beginning, what in _NOT_FILES.items():
        if head.startswith(beginning):
            raise CheckpointError(f"{path} {what}.")


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a Hugging Face model folder: by its index, or the single file.

    Raises:
        CheckpointError: none, or one that the index names is missing.
    """
    for stem in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{stem}.index.json"
        if index.is_file():
            weight_map = read_json(index).get("weight_map")
            if not isinstance(weight_map, dict) or not weight_map:
                raise CheckpointError(f"{index} has no weight_map; it must say which tensor is in which file.")
            # Only the file's own name: an index must not point out of its folder.
            files = [folder / Path(str(name)).name for name in sorted(set(weight_map.values()))]
            missing = [file.name for file in files if not file.is_file()]
            if missing:
                raise CheckpointError(f"{folder} lacks {', '.join(missing)}, which {index.name} names. Download them.")
            return files
        if (folder / stem).is_file():
            return [folder / stem]
    raise CheckpointError(f"{folder} has neither model.safetensors nor pytorch_model.bin (nor an index of shards).")

"""Reading tensors that others wrote, without running anything that they wrote.

Files are memory-mapped where their format allows it: a tensor's bytes are read when it is used, so that converting a
checkpoint needs the memory of a shard and not of the whole.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from egoinstructor.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CheckpointError: missing, unreadable, malformed, or not an object.
    """
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
        CheckpointError: damaged, or a pickle that wants to run code.
    """
    try:
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
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} can't be read as a torch checkpoint: {error}. Download it again.") from error


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one `.safetensors`, `.bin` or `.pt` file.

    Raises:
        CheckpointError: damaged, or something in it that is no tensor.
    """
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                    yield name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} can't be read as safetensors: {error}. Download it again.") from error
        return
    state = read_pickle(path)
    if isinstance(state, Mapping) and "model_state_dict" in state:
        state = state["model_state_dict"]
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"{path} holds a {type(state).__name__}; it must be a state dict, or a dict around one.")
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path} has {name!r}, a {type(tensor).__name__}; a state dict holds tensors only.")
        yield str(name), tensor


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

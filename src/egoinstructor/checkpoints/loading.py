"""Opening a folder of ours: everything that `from_pretrained` would let pass with a warning is an error here."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from egoinstructor.assets import shipped
from egoinstructor.checkpoints.reading import read_json, read_tensors, weight_files
from egoinstructor.checkpoints.sources import TOKENIZER_FILES, find_folder
from egoinstructor.errors import CheckpointError
from egoinstructor.model.configuration import EgoInstructorConfig
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.vision import VISION_ENCODERS

_MODEL_FILES = ["*.json", "*.safetensors", *TOKENIZER_FILES]
_ERRORS = (OSError, SafetensorError, RuntimeError, ValueError, KeyError)
"""What transformers raises over files that it can't use."""
_VISION = "vision_encoder."


def load(
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    attn_implementation: str = "sdpa",
    device_map: str | dict[str, Any] | None = None,
) -> tuple[EgoInstructorForConditionalGeneration, EgoInstructorProcessor]:
    """Open a model folder, strictly.

    Args:
        folder: what `convert` or `save_pretrained` wrote, or a Hub id; or "nano", which comes with the package.
        dtype: number format to load into; None for the files' own.
        attn_implementation: "sdpa" or "eager".
        device_map: as transformers takes it, "auto" to spread a large model over devices.

    Raises:
        CheckpointError: not such a folder, damaged or missing tensors, or a tokenizer that does not fit the model.
    """
    path = find_captioner(folder)
    try:
        model, info = EgoInstructorForConditionalGeneration.from_pretrained(
            path,
            dtype=dtype or "auto",
            attn_implementation=attn_implementation,
            device_map=device_map,
            output_loading_info=True,
            local_files_only=True,
        )
        processor = EgoInstructorProcessor.from_pretrained(path, local_files_only=True)
    except _ERRORS as error:
        raise CheckpointError(f"{path} can't be opened: {error}. Convert or download it again.") from error
    _check_whole(path, info)
    fitted = deepcopy(model.config)
    processor.fit(fitted)
    if fitted.to_dict() != model.config.to_dict():
        raise CheckpointError(
            f"{path}: the tokenizer's special tokens have other ids than the model's configuration says. "
            "The tokenizer belongs to another model; convert again."
        )
    return model.eval(), processor


def load_vision_encoder(
    folder: str | Path, dtype: torch.dtype | None = None
) -> tuple[PreTrainedModel, EgoInstructorProcessor]:
    """Open a model's vision encoder by itself, frozen, with the processor; the rest of the weights is not read.

    Args:
        folder: as in `load`.
        dtype: number format to load into; None for the one that `load` would choose.

    Raises:
        CheckpointError: not such a folder, or damaged, missing or misshapen tensors.
    """
    path = find_captioner(folder)
    state = {
        name.removeprefix(_VISION): tensor
        for file in weight_files(path)
        for name, tensor in read_tensors(file)
        if name.startswith(_VISION)
    }
    try:
        config = EgoInstructorConfig.from_pretrained(path, local_files_only=True)
        encoder, info = VISION_ENCODERS[config.vision_config.model_type].from_pretrained(
            None,
            config=config.vision_config,
            state_dict=state,
            dtype=dtype or config.dtype or "auto",
            output_loading_info=True,
        )
        processor = EgoInstructorProcessor.from_pretrained(path, local_files_only=True)
    except _ERRORS as error:
        raise CheckpointError(f"{path} can't be opened: {error}. Convert or download it again.") from error
    _check_whole(path, info)
    return encoder.eval().requires_grad_(False), processor


def find_captioner(folder: str | Path) -> Path:
    """The folder of one of our models, downloaded where it is named by a Hub id.

    Args:
        folder: as in `load`.

    Raises:
        CheckpointError: not such a folder.
    """
    path = shipped(folder) or find_folder(folder, _MODEL_FILES, "model")
    model_type = read_json(path / "config.json").get("model_type") if (path / "config.json").is_file() else None
    if model_type != EgoInstructorConfig.model_type:
        raise CheckpointError(
            f"{path} is no egoinstructor model (model_type {model_type!r}, 'egoinstructor' is needed). Make one of the "
            "published checkpoints with 'egoinstructor convert', or give them as --base and --captioner."
        )
    return path


def _check_whole(path: Path, info: dict[str, Any]) -> None:
    """Refuse what transformers lets pass with a warning: tensors that are missing, surplus or misshapen."""
    wrong = {kind: names for kind, names in info.items() if names and kind != "error_msgs"}
    if wrong:
        raise CheckpointError(f"{path} does not fit its config.json: {wrong}. Convert or download it again.")

"""One door to every retriever: a folder or a Hub id, whatever kind it holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.retriever.cross_view import CrossViewModel
from egoinstructor.retriever.cross_view_retriever import VIEWS, CrossViewRetriever
from egoinstructor.retriever.dual_encoder import KINDS, DualEncoderRetriever
from egoinstructor.retriever.interface import Retriever
from egoinstructor.retriever.loading import find_model, model_type
from egoinstructor.retriever.preprocessing import Preprocessing
from egoinstructor.video.decode import Sampling

_CROSS_VIEW = CrossViewModel.config_class.model_type


def open_retriever(
    where: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | Mapping[str, torch.dtype | str] | None = None,
    num_frames: int | None = None,
    sampling: Sampling | None = None,
    preprocessing: Preprocessing | dict[str, Any] | None = None,
    ego_backbone: str | Path | None = None,
    exo_backbone: str | Path | None = None,
) -> Retriever:
    """Open a retriever; what its `config.json` calls itself decides the kind. A folder on disk needs no network.

    Args:
        where: folder or Hub id of a CLIP, SigLIP, SigLIP 2 (of a fixed resolution), X-CLIP or cross-view retriever.
        device: where to run; None for the first accelerator, else the CPU.
        dtype: number format, or its name, which is part of the retriever's identity; of a cross-view retriever also that
            of each of its parts, "model", "ego" and "exo"; None for the files' own.
        num_frames: frames a clip; None for the retriever's own.
        sampling: the policy that chooses them; None for the retriever's own.
        preprocessing: how a frame becomes pixel values, or the configuration that says so; None for the retriever's
            own, as a cross-view retriever's backbones always have.
        ego_backbone: of a cross-view retriever, folder or Hub id of what ego clips go through; None for its own.
        exo_backbone: the same of exo clips.

    Raises:
        CheckpointError: another kind of model, or files that can't be used.
        InputError: a device, a number format or a number of frames that can't be used, or an option of another kind of
            retriever.
    """
    path = find_model(where)
    kind = model_type(path)
    if isinstance(preprocessing, dict):
        preprocessing = Preprocessing.from_config(preprocessing, f"preprocessing of {where}")
    if kind == _CROSS_VIEW:
        return CrossViewRetriever.from_pretrained(
            where,
            device=device,
            dtype=_formats(dtype) if isinstance(dtype, Mapping) else _format(dtype),
            num_frames=num_frames,
            sampling=sampling,
            ego_backbone=ego_backbone,
            exo_backbone=exo_backbone,
        )
    if kind in KINDS:
        if ego_backbone is not None or exo_backbone is not None:
            raise InputError(
                f"{where} holds a {kind!r}, which has no backbones: leave ego_backbone and exo_backbone out."
            )
        if isinstance(dtype, Mapping):
            raise InputError(f"dtype={dict(dtype)}: a {kind!r} has one number format; give it alone.")
        return DualEncoderRetriever.from_pretrained(
            where,
            device=device,
            dtype=_format(dtype),
            num_frames=num_frames,
            sampling=sampling or "segment_center",
            preprocessing=preprocessing,
        )
    hint = (
        " SigLIP 2 of variable resolution (NaFlex) is not supported: take one of a fixed resolution, as "
        "google/siglip2-base-patch16-224, whose config.json says 'siglip'."
        if kind == "siglip2"
        else ""
    )
    raise CheckpointError(
        f"{where} holds a {kind!r}; a retriever must be one of {', '.join((*KINDS, _CROSS_VIEW))}.{hint}"
    )


def _format(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if not isinstance(dtype, str):
        return dtype
    found = getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"dtype={dtype!r}: give the name of a number format, such as float32, bfloat16 or float16.")
    return found


def _formats(dtypes: Mapping[str, torch.dtype | str]) -> dict[str, torch.dtype]:
    if strange := sorted(set(dtypes) - {"model", *VIEWS}):
        raise InputError(f"dtype of {strange[0]!r}: the parts are model, {', '.join(VIEWS)}.")
    return {part: found for part, dtype in dtypes.items() if (found := _format(dtype)) is not None}

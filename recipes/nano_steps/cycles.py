"""The captioner's training: cycles of the learning rate in one run, and the mean of the weights at the ends of the last two.

The first cycle learns to read, the second what things look like; the mean does both better than either end: measured, see
docs/benchmarks.md. Izmailov et al. 2018 (arXiv 1803.05407) average the weights at the ends of cycles, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from egoinstructor.checkpoints.loading import load
from egoinstructor.checkpoints.writing import whole_folder
from egoinstructor.errors import InputError
from egoinstructor.training.base_trainer import COMPLETE, WEIGHTS
from egoinstructor.training.run_folder import MODEL_FOLDER, RECORD

RUN = "cycles"
"""Folder of the training, beside that of the mean."""
LAST_END = 0.7
"""What the last cycle's end counts in the mean; the one before counts the rest."""


def cycles(options: Mapping[str, Any]) -> int:
    """How often the learning rate of a training with these options starts from the top."""
    return int((options.get("lr_scheduler_kwargs") or {}).get("num_cycles", 1))


def steps_a_cycle(options: Mapping[str, Any]) -> int:
    """Of a training with these options."""
    return int(options["max_steps"]) // cycles(options)


def train_in_cycles(run: Path, train: Callable[[Path], object]) -> None:
    """Train, and write the mean; what is finished is passed over.

    Args:
        run: folder for the training and, as a finished run has it, for the model.
        train: trains into the folder that it is given, from its last checkpoint on, to the end or until it raises.

    Raises:
        InputError: the checkpoint at the end of the cycle before the last was not kept.
        CheckpointError: a model can't be read or written.
    """
    folder = run / RUN
    if not (folder / MODEL_FOLDER).exists():
        train(folder)
    options = yaml.safe_load((folder / RECORD).read_text("utf-8"))
    end = folder / f"{PREFIX_CHECKPOINT_DIR}-{int(options['max_steps']) - steps_a_cycle(options)}"
    if not (end / COMPLETE).exists():
        raise InputError(
            f"{end} is missing, and the mean needs it: remove {folder}, and train with save_steps and a save_total_limit by "
            "which the end of the last cycle but one is kept."
        )
    write_mean(end, folder / MODEL_FOLDER, run / MODEL_FOLDER)


def write_mean(checkpoint: Path, model: Path, out: Path) -> None:
    """Write a model whose trained weights are the mean of a checkpoint's and a model's; what is frozen stays to the bit.

    Args:
        checkpoint: of the run that ended with the model.
        model: its folder; it counts `LAST_END`.
        out: a new folder.

    Raises:
        CheckpointError: a folder that can't be read or written.
    """
    last, processor = load(model, dtype=torch.float32)
    weights = last.state_dict()
    for name, before in load_file(checkpoint / WEIGHTS).items():
        weights[name].copy_(torch.lerp(before.float(), weights[name], LAST_END))
    with whole_folder(out) as folder:
        last.save_pretrained(folder)
        processor.save_pretrained(folder)

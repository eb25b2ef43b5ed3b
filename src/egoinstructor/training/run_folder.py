"""A run's folder: what is written there for others, where a run goes on, and driving a trainer to its end."""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from transformers import TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from egoinstructor.errors import InputError, require_extra
from egoinstructor.training.base_trainer import COMPLETE, RunTrainer, last_checkpoint
from egoinstructor.training.callbacks import Interruption

logger = logging.getLogger(__name__)

MODEL_FOLDER = "model"
"""Where a finished run puts what `from_pretrained` opens."""
RECORD = "config.yaml"
"""What a run says of its options, as far as they are not the defaults."""


class Interrupted(KeyboardInterrupt):
    """A run that was interrupted and saved; the message says how to go on."""


def drive(trainer: RunTrainer, arguments: Sequence[Any], task: str, resume: Path | None) -> None:
    """Write the record, and train from the beginning or from a checkpoint to the end.

    Args:
        trainer: the run's.
        arguments: all options; the last are the training arguments.
        task: what is trained.
        resume: from `resume_from`.

    Raises:
        TrainingError: a run that must not go on.
        Interrupted: Ctrl-C, after a checkpoint was saved.
    """
    if trainer.is_world_process_zero():
        write_record(arguments, task, Path(str(trainer.args.output_dir)))
    interruption = Interruption()
    trainer.add_callback(interruption)
    try:
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    finally:
        interruption.restore()
    logger.info("%s", trainer.failure_counts())
    if interruption.stopped:
        raise Interrupted(
            f"interrupted at step {trainer.state.global_step}; go on with the same command and "
            "--resume_from_checkpoint last"
        )


def require_reporters(options: TrainingArguments) -> None:
    """Check that what `report_to` names is installed.

    Raises:
        MissingExtraError: it isn't.
    """
    if "wandb" in (options.report_to or ()):
        require_extra("wandb", "wandb", "report_to wandb")
    if "tensorboard" in (options.report_to or ()):
        require_extra("tensorboard", "tensorboard", "report_to tensorboard")


def resume_from(options: TrainingArguments, folder: Path) -> Path | None:
    """The checkpoint to go on from; a folder with a run in it is not started over."""
    asked = options.resume_from_checkpoint
    if (folder / MODEL_FOLDER).exists():
        raise InputError(f"{folder} holds a finished run, its model is in {MODEL_FOLDER}/. Name another output_dir.")
    if asked is None:
        if any(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*")):
            raise InputError(
                f"{folder} holds a run. Go on with it by --resume_from_checkpoint last, or name another output_dir."
            )
        return None
    if asked == "last":
        last = last_checkpoint(folder)
        if last is None:
            logger.warning("%s holds no whole checkpoint; the run starts from the beginning", folder)
        return last
    if not (Path(asked) / COMPLETE).exists():
        raise InputError(f"resume_from_checkpoint={asked!r} is no whole checkpoint; name the folder of one, or 'last'.")
    return Path(asked)


def write_record(arguments: Sequence[Any], task: str, folder: Path) -> None:
    """What another person needs to repeat the run."""
    values: dict[str, Any] = {"task": task}
    for part in arguments:
        defaults = {f.name: f.default for f in dataclasses.fields(part)}
        given = {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.init}
        plain = {
            k: v
            for k, v in given.items()
            if v not in (None, [], {}) and isinstance(v, int | float | str | bool | list | dict) and v != defaults[k]
        }
        values |= {k: v.value if hasattr(v, "value") else v for k, v in plain.items() if k != "resume_from_checkpoint"}
    (folder / RECORD).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    packages = ("egoinstructor", "torch", "transformers", "accelerate", "av", "numpy")
    environment = {
        "git": _git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in packages},
        "processes": arguments[-1].world_size,
    }
    (folder / "environment.json").write_text(json.dumps(environment, indent=1), encoding="utf-8")


def _git_revision() -> str | None:
    """The revision of the source, if it is run from a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return None
    return done.stdout.strip() or None

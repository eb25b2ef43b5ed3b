"""Options of any training run: what all tasks share, and reading them from YAML with overrides from the command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser, TrainingArguments

from egoinstructor.errors import InputError

TASKS = ("captioner", "retriever")
"""What can be trained, the first unless `task` says otherwise."""


@dataclass
class RunArguments(TrainingArguments):
    """transformers' `TrainingArguments` with other defaults.

    What differs from the parent: `lr_scheduler_type` cosine (linear), `save_strategy` and `logging_steps` by epoch and 10
    (steps, 500), `report_to` none (all installed), `remove_unused_columns` off (our datasets have no columns),
    `logging_nan_inf_filter` off (a loss that is not a number stops the run), `ddp_find_unused_parameters` off (every
    batch uses all of them).
    """

    lr_scheduler_type: str = "cosine"
    save_strategy: str = "epoch"
    logging_steps: float = 10
    report_to: None | str | list[str] = "none"  # noqa: RUF036 - HfArgumentParser takes the first member for the type
    remove_unused_columns: bool = False
    logging_nan_inf_filter: bool = False
    ddp_find_unused_parameters: bool | None = False


def split_task(config: str | Path | None, overrides: Sequence[str]) -> tuple[str, list[str]]:
    """What is to be trained, and the overrides without it.

    Args:
        config: a YAML file, in which `task` may name it; None for none.
        overrides: as on a command line; `--task` wins.

    Raises:
        InputError: an unreadable file, or another task than `TASKS`.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--task", default=_read(Path(config)).get("task", TASKS[0]) if config else TASKS[0])
    try:
        given, more = parser.parse_known_args(list(overrides))
    except SystemExit as error:  # argparse's way to refuse `--task` without a value
        raise InputError(f"--task has no value; choose from {', '.join(TASKS)}.") from error
    if given.task not in TASKS:
        raise InputError(f"task={given.task!r}; choose from {', '.join(TASKS)}.")
    return given.task, more


def parse_options(kinds: Sequence[Any], config: str | Path | None, overrides: Sequence[str] = ()) -> tuple[Any, ...]:
    """Read a YAML file of options into dataclasses; `--name value` overrides win.

    Args:
        kinds: the dataclasses.
        config: a flat mapping of options, `task` beside them; None for defaults.
        overrides: as on a command line, without `--task`.

    Returns:
        An instance of each.

    Raises:
        InputError: an unreadable file, an unknown option, a value of the wrong type.
    """
    values = _read(Path(config)) if config else {}
    known = {f.name for kind in kinds for f in dataclasses.fields(kind) if f.init} | {"task"}
    if unknown := sorted(map(str, values.keys() - known)):
        raise InputError(f"{config} has unknown options {', '.join(unknown)}; see docs/training.md, docs/retriever.md.")
    parser = HfArgumentParser(kinds, allow_abbrev=False, exit_on_error=False)
    given = [item for name, value in values.items() if name != "task" for item in _as_arguments(name, value)]
    try:
        return parser.parse_args_into_dataclasses([*given, *overrides])
    except (ValueError, TypeError, argparse.ArgumentError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"options of {config or 'the command line'}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} can't be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds a {type(values).__name__}; it must be a mapping of options.")
    return values


def _as_arguments(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]

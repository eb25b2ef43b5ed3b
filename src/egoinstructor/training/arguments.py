"""The options of a training run: three dataclasses, read from YAML with overrides from the command line."""

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


@dataclass
class ModelArguments:
    """The model to start from: a folder of ours, or the published pair."""

    model: str | None = None
    """Model folder or Hub id."""
    base: str | None = None
    """Instead: the OTTER base, folder or Hub id."""
    captioner: str | None = None
    """With `base`: EgoInstructor's weights, file or Hub id:file; None trains from the base."""
    tokenizer: str | None = None
    """With `base`: tokenizer folder or Hub id."""
    dtype: str = "float32"
    """Number format of the weights; `bf16: true` computes in bfloat16 whatever this is."""
    attn_implementation: str = "sdpa"
    """"sdpa" or "eager"."""
    max_num_frames: int | None = None
    """Rows of frame embeddings when starting from an image base; None for the captioner's or 32."""
    lora_rank: int = 0
    """Rank of LoRA adapters on the decoder's own linears (extra `lora`); 0 for none."""
    lora_alpha: float = 16.0
    """Scale of the adapters, over their rank."""

    def __post_init__(self) -> None:
        """Name exactly one model."""
        if bool(self.model) == bool(self.base):
            raise InputError(f"model={self.model!r} and base={self.base!r}: name exactly one of them.")


@dataclass
class DataArguments:
    """What is trained on, and how a sample is read."""

    train_data: str = ""
    """Instructions JSON in the original's format, or a JSONL (docs/data.md)."""
    train_config: str | None = None
    """With an instructions JSON: the split's config JSON, ego id → reference ids."""
    eval_data: str | None = None
    """As `train_data`; None takes `train_data`'s instructions when `eval_config` is given."""
    eval_config: str | None = None
    """As `train_config`."""
    datapath_ego: str | None = None
    """Folder of the ego videos."""
    datapath_exo: str | None = None
    """Folder of the how-to videos."""
    shots: int = 4
    """References in a prompt, at most."""
    num_frames: int | None = None
    """Frames a clip; None for the model's."""
    clean_narration: bool = False
    """Lower-case narrations and drop Ego4D's person codes."""
    use_chat: bool = False
    """Learn `chat_answer` in place of `answer`."""
    jitter: bool = True
    """Draw frames at random within their part of a segment; the middle ones if false."""
    max_length: int | None = None
    """Tokens of a prompt with its answers; None for the model's."""
    shots_schedule: str | None = None
    """References by progress, as "1@0.15,2@0.4,4": one for the first 15 %, two up to 40 %, then four. None: `shots`."""
    no_reference_share: float = 0.0
    """Share of samples that are read without references."""
    feature_cache: str | None = None
    """Folder that keeps the frozen vision encoder's outputs; turns jitter off."""
    feature_cache_gb: float = 100.0
    """Size at which the cache stops growing, in GB (10^9 bytes), of all processes together."""
    max_failure_rate: float = 0.05
    """Share of unreadable clips above which the run stops."""

    def __post_init__(self) -> None:
        """Check what has a range."""
        for name, low, high in (("no_reference_share", 0, 1), ("max_failure_rate", 0, 1), ("shots", 0, 1000)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name}={getattr(self, name)}; it must lie between {low} and {high}.")
        if not self.train_data:
            raise InputError("train_data is missing; name the instructions JSON or the JSONL to train on.")
        if self.feature_cache:
            self.jitter = False


@dataclass
class CaptionerTrainingArguments(TrainingArguments):
    """transformers' `TrainingArguments` with the published recipe (reference §7) as defaults.

    What differs from the parent: `learning_rate` 1e-5 (5e-5), `lr_scheduler_type` cosine (linear), `warmup_steps` 0.01
    (0: a share of all steps when below 1), `weight_decay` 0.1 (0), `num_train_epochs` 5 (3),
    `per_device_train_batch_size` 4 (8), `save_strategy` and `logging_steps` by epoch and 10 (steps, 500),
    `report_to` none (all installed), `remove_unused_columns` off (our dataset has no columns),
    `logging_nan_inf_filter` off (a loss that is not a number stops the run), `ddp_find_unused_parameters` off (every
    batch uses all of them); and the options below.
    """

    learning_rate: float = 1e-5
    lr_scheduler_type: str = "cosine"
    warmup_steps: float = 0.01
    weight_decay: float = 0.1
    num_train_epochs: float = 5.0
    per_device_train_batch_size: int = 4
    save_strategy: str = "epoch"
    logging_steps: float = 10
    report_to: None | str | list[str] = "none"  # noqa: RUF036 - HfArgumentParser takes the first member for the type
    remove_unused_columns: bool = False
    logging_nan_inf_filter: bool = False
    ddp_find_unused_parameters: bool | None = False

    loss_on: str = "all"
    """"all": every answer of a prompt is learned, as published; "query": the query's alone."""
    sample_captions: int = 4
    """Evaluation samples whose captions are written at each evaluation."""

    def __post_init__(self) -> None:
        """Check ours, then the parent's."""
        if self.loss_on not in ("all", "query"):
            raise InputError(f"loss_on={self.loss_on!r}; choose 'all' or 'query'.")
        super().__post_init__()


Arguments = tuple[ModelArguments, DataArguments, CaptionerTrainingArguments]


def parse(config: str | Path | None, overrides: Sequence[str] = ()) -> Arguments:
    """Read a YAML file of options; `--name value` overrides win.

    Args:
        config: a flat mapping of options; None for defaults.
        overrides: as on a command line.

    Raises:
        InputError: an unreadable file, an unknown option, a value of the wrong type.
    """
    kinds = (ModelArguments, DataArguments, CaptionerTrainingArguments)
    values = _read(Path(config)) if config else {}
    known = {f.name for kind in kinds for f in dataclasses.fields(kind) if f.init}
    if unknown := sorted(values.keys() - known):
        raise InputError(f"{config} has unknown options {', '.join(unknown)}; docs/training.md lists them.")
    parser = HfArgumentParser(kinds, allow_abbrev=False, exit_on_error=False)
    given = [item for name, value in values.items() for item in _as_arguments(name, value)]
    try:
        parsed = parser.parse_args_into_dataclasses([*given, *overrides])
    except (ValueError, TypeError, argparse.ArgumentError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"options of {config or 'the command line'}: {error}") from error
    model, data, training = parsed
    return model, data, training


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

"""The options of the retriever's training: three dataclasses, read from YAML with overrides from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egoinstructor.errors import InputError
from egoinstructor.training.options import RunArguments, parse_options

_SIZES = (
    "hidden_size",
    "num_layers",
    "num_heads",
    "projection_dim",
    "text_context",
    "text_hidden_size",
    "text_num_layers",
    "text_num_heads",
    "temperature",
)


@dataclass
class RetrieverModelArguments:
    """The cross-view model to start from. A size that is None is the published one, or the CLIP's."""

    model: str | None = None
    """Folder of a trained retriever to go on with, or Hub id."""
    clip_text: str | None = None
    """Instead: CLIP checkpoint whose text tower and tokenizer are started from, folder or Hub id (published: ViT-L/14)."""
    tokenizer: str | None = None
    """Instead: tokenizer folder or Hub id, for a text tower that starts from nothing."""
    hidden_size: int | None = None
    """Width of the video tower."""
    num_layers: int | None = None
    """Video layers."""
    num_heads: int | None = None
    """Attention heads of each."""
    projection_dim: int | None = None
    """Width of the embeddings; not with `clip_text`, which has its own."""
    text_context: int | None = None
    """The longest text in tokens."""
    text_hidden_size: int | None = None
    """Width of the text tower; not with `clip_text`."""
    text_num_layers: int | None = None
    """Text layers; not with `clip_text`."""
    text_num_heads: int | None = None
    """Attention heads of each; the published checkpoint has 8 over the weights of CLIP's 12."""
    temperature: float | None = None
    """Where the learned temperature starts."""
    ego_backbone: str | None = None
    """What made the ego features, folder or Hub id: the finished retriever then encodes ego videos by itself."""
    exo_backbone: str | None = None
    """As `ego_backbone`, for exo videos."""

    def __post_init__(self) -> None:
        """Name exactly one start, and only sizes that it leaves open."""
        given = [name for name in ("model", "clip_text", "tokenizer") if getattr(self, name)]
        if len(given) != 1:
            raise InputError(
                f"model={self.model!r}, clip_text={self.clip_text!r}, tokenizer={self.tokenizer!r}: name exactly one."
            )
        fixed: tuple[str, ...] = ()
        if self.model:
            fixed = _SIZES
        elif self.clip_text:
            fixed = ("projection_dim", "text_hidden_size", "text_num_layers")
        if wrong := [name for name in fixed if getattr(self, name) is not None]:
            raise InputError(
                f"{wrong[0]}={getattr(self, wrong[0])} with {given[0]}={getattr(self, given[0])!r}, which has its own; "
                "leave it out."
            )

    @property
    def sizes(self) -> dict[str, Any]:
        """The sizes that were given, as options of a `CrossViewConfig`."""
        return {name: getattr(self, name) for name in _SIZES if getattr(self, name) is not None}


@dataclass
class RetrieverDataArguments:
    """What is trained on, and how a clip is read."""

    train_ego: str = ""
    """Pairs JSON of the ego clips."""
    train_exo: str = ""
    """Pairs JSON of the exo clips, to which the ego clips' `nv_index` points."""
    eval_ego: str | None = None
    """As `train_ego`; the clips that have a pair are evaluated."""
    eval_exo: str | None = None
    """As `train_exo`; None takes `train_exo`."""
    features_ego: str = ""
    """Folder of the ego videos' features."""
    features_exo: str = ""
    """Folder of the exo videos' features."""
    num_frames: int | None = None
    """Frames a clip; None for the model's, which is 4 as published."""
    clean_narration: bool = True
    """Lower-case ego narrations and drop Ego4D's person codes."""
    exo_items: bool = True
    """Learn exo clips that no ego clip was paired with too, each as its own pair."""
    jitter: bool = True
    """Draw frames at random within their part of a segment; the middle ones if false."""
    max_failure_rate: float = 0.05
    """Share of unreadable clips above which the run stops."""

    def __post_init__(self) -> None:
        """Check what must be there, and what has a range."""
        for name in ("train_ego", "train_exo", "features_ego", "features_exo"):
            if not getattr(self, name):
                raise InputError(f"{name} is missing; docs/retriever.md says what a retriever is trained on.")
        if not 0 <= self.max_failure_rate <= 1:
            raise InputError(f"max_failure_rate={self.max_failure_rate}; it must lie between 0 and 1.")
        if self.num_frames is not None and self.num_frames < 1:
            raise InputError(f"num_frames={self.num_frames}; a clip has at least 1.")


@dataclass
class RetrieverTrainingArguments(RunArguments):
    """`RunArguments` with the published recipe as defaults, as far as it is known, and the options below.

    What differs from transformers' own: `num_train_epochs` 20 (3), `per_device_train_batch_size` 128 (8), as published;
    `learning_rate` 3e-5 (5e-5), `warmup_steps` 0.05 (0) and `weight_decay` 0.05 (0), which are ours; `metric_for_best_model`
    ego_exo_r1.
    """

    learning_rate: float = 3e-5
    warmup_steps: float = 0.05
    weight_decay: float = 0.05
    num_train_epochs: float = 20.0
    per_device_train_batch_size: int = 128
    per_device_eval_batch_size: int = 128
    metric_for_best_model: str | None = "ego_exo_r1"
    greater_is_better: bool | None = True

    loss: str = "egoexonce"
    """"egoexonce": all that shows the same action belongs together; "infonce": only a clip and its pair do."""
    view_weight: float = 0.0
    """Weight of the same loss between the clips and their pairs, without texts; 0 as published."""

    def __post_init__(self) -> None:
        """Check ours, then the parent's."""
        if self.loss not in ("egoexonce", "infonce"):
            raise InputError(f"loss={self.loss!r}; choose 'egoexonce' or 'infonce'.")
        if self.view_weight < 0:
            raise InputError(f"view_weight={self.view_weight}; it must be 0 or more.")
        super().__post_init__()


RetrieverArguments = tuple[RetrieverModelArguments, RetrieverDataArguments, RetrieverTrainingArguments]


def parse_retriever(config: str | Path | None, overrides: Sequence[str] = ()) -> RetrieverArguments:
    """Read a YAML file of options; `--name value` overrides win.

    Args:
        config: a flat mapping of options; None for defaults.
        overrides: as on a command line.

    Raises:
        InputError: an unreadable file, an unknown option, a value of the wrong type.
    """
    kinds = (RetrieverModelArguments, RetrieverDataArguments, RetrieverTrainingArguments)
    model, data, training = parse_options(kinds, config, overrides)
    return model, data, training

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
    backbone: str | None = None
    """With videos: the backbone of both views, which is trained too, folder or Hub id."""
    backbone_config: str | None = None
    """Instead: the configuration of one that starts from nothing, a YAML or JSON file or a mapping: `model_type`, the sizes,
    `image_size`, and where others are wanted `image_mean` and `image_std`."""

    def __post_init__(self) -> None:
        """Name exactly one start, and only sizes that it leaves open."""
        if self.backbone and self.backbone_config:
            raise InputError(f"backbone={self.backbone!r}, backbone_config={self.backbone_config!r}: name one of them.")
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
    videos_ego: str = ""
    """Instead of features: folder of the ego videos, from which the backbone is trained too."""
    videos_exo: str = ""
    """Instead of features: folder of the exo videos."""
    eval_videos_ego: str | None = None
    """Folder of the ego videos that are evaluated; None takes `videos_ego`."""
    eval_videos_exo: str | None = None
    """Folder of the exo videos that are evaluated; None takes `videos_exo`."""
    frames_cache: str | None = None
    """Folder where the videos' frames are kept as bytes, once decoded; None for `frames` in the run's."""
    frames_per_clip: int | None = None
    """Of a clip's `num_frames`, how many a training step looks at, drawn anew each time; None for all."""
    augment_shift: int = 0
    """Pixels by which a clip's pictures are moved at random in training, at most."""
    augment_colour: float = 0.0
    """How strongly a clip's brightness, contrast and colours are changed at random in training, e.g. 0.2."""
    same_verb_share: float = 0.0
    """Share of a batch's items that are drawn with the same verb as each other, so that nouns have to be told apart."""
    num_frames: int | None = None
    """Frames a clip; None for the model's, which is 4 as published."""
    clean_narration: bool = True
    """Lower-case ego narrations and drop Ego4D's person codes."""
    exo_items: bool = True
    """Learn exo clips that no ego clip was paired with too, each as its own pair."""
    exo_pairs: bool = False
    """Pair these with another exo clip of the same nouns and verbs, where there is one, instead of with themselves."""
    jitter: bool = True
    """Draw frames at random within their part of a segment; the middle ones if false."""
    max_failure_rate: float = 0.05
    """Share of unreadable clips above which the run stops."""

    def __post_init__(self) -> None:
        """Check what must be there, and what has a range."""
        given = [kind for kind in ("features", "videos") if self._of(kind, "ego") or self._of(kind, "exo")]
        if len(given) > 1:
            raise InputError("features_* and videos_* are both given; name the features or the videos of both views.")
        kind = given[0] if given else "features"
        for name in ("train_ego", "train_exo", f"{kind}_ego", f"{kind}_exo"):
            if not getattr(self, name):
                raise InputError(f"{name} is missing; docs/retriever.md says what a retriever is trained on.")
        if not self.from_videos:
            self._refuse_videos_options()
        if self.exo_pairs and not self.exo_items:
            raise InputError("exo_pairs=True is of exo clips that are items; set exo_items too, or leave it out.")
        if self.frames_per_clip is not None and self.frames_per_clip < 1:
            raise InputError(f"frames_per_clip={self.frames_per_clip}; a step looks at 1 frame of a clip at least.")
        if self.augment_shift < 0:
            raise InputError(f"augment_shift={self.augment_shift}; it must be 0 or more pixels.")
        for name in ("augment_colour", "same_verb_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)}; it must lie between 0 and 1.")
        if not 0 <= self.max_failure_rate <= 1:
            raise InputError(f"max_failure_rate={self.max_failure_rate}; it must lie between 0 and 1.")
        if self.num_frames is not None and self.num_frames < 1:
            raise InputError(f"num_frames={self.num_frames}; a clip has at least 1.")

    @property
    def from_videos(self) -> bool:
        """Whether the backbone is trained too."""
        return bool(self.videos_ego)

    def _of(self, kind: str, view: str) -> str:
        return str(getattr(self, f"{kind}_{view}"))

    def _refuse_videos_options(self) -> None:
        names = (
            "eval_videos_ego",
            "eval_videos_exo",
            "frames_cache",
            "frames_per_clip",
            "augment_shift",
            "augment_colour",
        )
        if wrong := [name for name in names if getattr(self, name)]:
            raise InputError(f"{wrong[0]}={getattr(self, wrong[0])!r} needs videos_ego and videos_exo; leave it out.")


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
    noun_weight: float = 0.0
    """With videos: weight of a loss that tells a clip's nouns among all nouns of the training clips; 0 as published."""

    def __post_init__(self) -> None:
        """Check ours, then the parent's."""
        if self.loss not in ("egoexonce", "infonce"):
            raise InputError(f"loss={self.loss!r}; choose 'egoexonce' or 'infonce'.")
        for name in ("view_weight", "noun_weight"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)}; it must be 0 or more.")
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
    _check_backbones(model, data, training)
    return model, data, training


def _check_backbones(
    model: RetrieverModelArguments, data: RetrieverDataArguments, training: RetrieverTrainingArguments
) -> None:
    """Check that a backbone is named where one is trained, and only there."""
    trained = {name: getattr(model, name) for name in ("backbone", "backbone_config")}
    frozen = {name: getattr(model, name) for name in ("ego_backbone", "exo_backbone")}
    if data.from_videos and not any(trained.values()):
        raise InputError("videos_ego and videos_exo train a backbone too: name backbone or backbone_config.")
    if wrong := [(name, value) for name, value in (frozen if data.from_videos else trained).items() if value]:
        name, value = wrong[0]
        fix = "with videos, name backbone" if data.from_videos else "with features, name ego_backbone and exo_backbone"
        raise InputError(f"{name}={value!r}: {fix}.")
    if data.from_videos and training.gradient_checkpointing:
        raise InputError("gradient_checkpointing=True is for features; with videos, use smaller batches.")
    if training.noun_weight and not data.from_videos:
        raise InputError(f"noun_weight={training.noun_weight} needs videos_ego and videos_exo; leave it out.")

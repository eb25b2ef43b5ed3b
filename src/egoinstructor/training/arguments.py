"""The options of the captioner's training: three dataclasses, read from YAML with overrides from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from egoinstructor.errors import InputError
from egoinstructor.training.options import RunArguments, parse_options
from egoinstructor.training.schedule import Schedule

REFERENCE_ORDERS = ("listed", "random", "score")


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
    train_decoder: bool = False
    """Train all of the decoder, as a model that starts from nothing needs it; not with LoRA."""
    lora_rank: int = 0
    """Rank of LoRA adapters on the decoder's own linears (extra `lora`); 0 for none."""
    lora_alpha: float = 16.0
    """Scale of the adapters, over their rank."""

    def __post_init__(self) -> None:
        """Name exactly one model."""
        if bool(self.model) == bool(self.base):
            raise InputError(f"model={self.model!r} and base={self.base!r}: name exactly one of them.")
        if self.train_decoder and self.lora_rank:
            raise InputError(
                f"train_decoder with lora_rank={self.lora_rank}: adapters stand in for a decoder that is not trained; "
                "choose one of them."
            )


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
    reference_order: str = "listed"
    """"listed": as the sample has them; "random": drawn anew each epoch, so that their places tell nothing; "score": by the
    `score` that a JSONL gives them, highest first, as a library would. Which of them are shown is decided before."""
    no_reference_share: str = "0"
    """Share of batches that are read without references: whole ones, as their prompts are short. One number, or several by
    progress: "0.4@0.5,0.7"."""
    feature_cache: str | None = None
    """Folder that keeps the frozen vision encoder's outputs; turns jitter off."""
    feature_cache_gb: float = 100.0
    """Size at which the cache stops growing, in GB (10^9 bytes), of all processes together."""
    feature_dropout: float = 0.0
    """Share of the kept outputs' numbers that are 0 at each turn, the others scaled up; with `feature_cache`."""
    frame_dropout: float = 0.0
    """Share of the kept frames that are left out at each turn; with `feature_cache`."""
    max_failure_rate: float = 0.05
    """Share of unreadable clips above which the run stops."""

    def __post_init__(self) -> None:
        """Check what has a range."""
        shares = ("max_failure_rate", "feature_dropout", "frame_dropout")
        for name, low, high in (*((share, 0, 1) for share in shares), ("shots", 0, 1000)):
            if not low <= getattr(self, name) <= high:
                raise InputError(f"{name}={getattr(self, name)}; it must lie between {low} and {high}.")
        self.shots_by_progress()
        self.alone_by_progress()
        if self.reference_order not in REFERENCE_ORDERS:
            raise InputError(f"reference_order={self.reference_order!r}; choose one of {', '.join(REFERENCE_ORDERS)}.")
        if not self.train_data:
            raise InputError("train_data is missing; name the instructions JSON or the JSONL to train on.")
        if self.feature_cache:
            self.jitter = False
        elif self.feature_dropout or self.frame_dropout:
            raise InputError(
                f"feature_dropout={self.feature_dropout}, frame_dropout={self.frame_dropout}: they change what a "
                "feature_cache keeps, and there is none. Name one, or vary the frames with jitter."
            )

    def shots_by_progress(self) -> Schedule[int]:
        """`shots_schedule`, or `shots` throughout."""
        text = str(self.shots) if self.shots_schedule is None else self.shots_schedule
        return Schedule.parse("shots_schedule", text, int)

    def alone_by_progress(self) -> Schedule[float]:
        """`no_reference_share`."""
        return Schedule.parse("no_reference_share", self.no_reference_share, float, high=1)


@dataclass
class CaptionerTrainingArguments(RunArguments):
    """`RunArguments` with the published recipe (reference §7) as defaults, and the options below.

    What differs from transformers' own: `learning_rate` 1e-5 (5e-5), `warmup_steps` 0.01 (0: a share of all steps when
    below 1), `weight_decay` 0.1 (0), `num_train_epochs` 5 (3), `per_device_train_batch_size` 4 (8).
    """

    learning_rate: float = 1e-5
    warmup_steps: float = 0.01
    weight_decay: float = 0.1
    num_train_epochs: float = 5.0
    per_device_train_batch_size: int = 4

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
    model, data, training = parse_options(
        (ModelArguments, DataArguments, CaptionerTrainingArguments), config, overrides
    )
    return model, data, training

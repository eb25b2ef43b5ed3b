"""The original's training command: each of its flags, and what it becomes among our options.

A flag that is left out has the original's default, not ours, so that a command means what it meant. Nothing heavy is
imported here: `OriginalRun.environment` must be set before transformers is imported, which reads it once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egoinstructor.errors import InputError

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}
"""The original warms its constant rate up too."""


def share(text: str) -> float:
    """A number of at least 0 and below 1, for argparse."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{value} is no share; give a number of at least 0 and below 1")
    return value


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    Args:
        name: without dashes.
        help: what it does; of one that does nothing any more, the reason.
        options: ours that take its value as it is; none where `translate` combines it with others.
        type: of its value; None for a switch.
        default: the original's; None where that is our option's default too.
        choices: the values that it may have.
        required: whether it must be given.
        ignored: whether it does nothing any more.
    """

    name: str
    help: str
    options: tuple[str, ...] = ()
    type: Callable[[str], Any] | None = str
    default: Any = None
    choices: tuple[str, ...] | None = None
    required: bool = False
    ignored: bool = False


FLAGS = (
    # The model.
    Flag("pretrained_model_name_or_path", "the OTTER base, folder or Hub id", ("base",), required=True),
    Flag(
        "trained_ckpt",
        "weights laid over the base: the original's .pt; or in place of both, the model folder of a finished run",
        ("captioner",),
    ),
    Flag("tokenizer", "ours: tokenizer folder or Hub id (default: the published one)", ("tokenizer",)),
    Flag("max_num_frames", "rows of frame embeddings where the weights bring none", ("max_num_frames",), int),
    Flag("model_name", "the architecture; the published one is left", choices=("otter",)),
    Flag("inst_format", "the prompt's form; the published one is left", choices=("simple",)),
    Flag("customized_config", "the original read it for IDEFICS only, which is not part of this package", ignored=True),
    # The data.
    Flag("datapath_ego", "folder of the ego videos", ("datapath_ego",), required=True),
    Flag("datapath_exo", "folder of the how-to videos", ("datapath_exo",), required=True),
    Flag("metapath", "instructions JSON", ("train_data",), required=True),
    Flag(
        "train_config_path",
        "config JSON of the split: the one to train on, or with --testonly the one to evaluate",
        ("train_config",),
        required=True,
    ),
    Flag("load_from", "where videos are read from; a folder is left", choices=("dir",)),
    Flag("xview", "show how-to clips as references", type=None),
    Flag("max_shot", "with --xview: references in a prompt, at most", type=int, default=0),
    Flag("resample_frames", "frames a clip (default: as --max_num_frames)", type=int),
    Flag("max_seq_len", "tokens of a prompt with its answers", ("max_length",), int),
    Flag("clean_narration", "drop Ego4D's person codes from narrations", ("clean_narration",), None),
    Flag("use_chat", "learn chat_answer in place of answer", ("use_chat",), None),
    Flag("workers", "processes that read videos, for each GPU", ("dataloader_num_workers",), int, 4),
    Flag("train_num_samples", "an epoch visits each sample once; shorten the config JSON instead", ignored=True),
    Flag("task_name", "the original never read it", ignored=True),
    # The optimisation.
    Flag(
        "batch_size",
        "samples a step and GPU",
        ("per_device_train_batch_size", "per_device_eval_batch_size"),
        int,
        128,
    ),
    Flag("gradient_accumulation_steps", "batches a step", ("gradient_accumulation_steps",), int),
    Flag("num_epochs", "passes over the split", ("num_train_epochs",), int, 1),
    Flag("learning_rate", "highest learning rate", ("learning_rate",), float, 1e-4),
    Flag("lr_scheduler", "its course", default="constant", choices=tuple(SCHEDULES)),
    Flag("warmup_steps", "steps of warm-up", type=int, default=1000),
    Flag("warmup_steps_ratio", "instead: share of all steps, below 1", type=share),
    Flag("weight_decay", "on the gated cross-attention's weights", ("weight_decay",), float, 0.1),
    Flag("gradient_checkpointing", "save memory, recompute", ("gradient_checkpointing",), None),
    Flag("seed", "of the order, the frames, the dropout", ("seed",), int, 42),
    Flag("mask_lm_head", "every row of the embeddings is trained, as in the published recipe", type=None, ignored=True),
    # The run.
    Flag("external_save_dir", "folder that run folders are made in (default: here)"),
    Flag("run_name", "name of the run and of its folder", ("run_name",), default="otter-9b"),
    Flag("save_ckpt_each_epoch", "write a checkpoint at each epoch's end", type=None),
    Flag("save_steps_interval", "write a checkpoint every so many steps; -1: don't", type=int, default=-1),
    Flag("delete_previous_checkpoint", "keep the newest checkpoint only", type=None),
    Flag("save_hf_model", "a finished run always writes a folder for from_pretrained", type=None, ignored=True),
    Flag("resume_from_checkpoint", "go on from the run's newest checkpoint", type=None),
    Flag("logging_steps", "steps between two reports", ("logging_steps",), int, 100),
    Flag("report_to_wandb", "report to Weights & Biases", type=None),
    Flag("wandb_project", "its project"),
    Flag("wandb_entity", "its user or team"),
    Flag("save_checkpoints_to_wandb", "with --report_to_wandb: upload the finished model", type=None),
    Flag("offline", "use no network: Hub ids from the local cache, Weights & Biases to the disk", type=None),
    # The evaluation.
    Flag("testonly", "evaluate, don't train", type=None),
    Flag(
        "save_predictions",
        "with --testonly: write predictions.jsonl, scores and report.html in the run folder",
        type=None,
    ),
    Flag(
        "zero_shot_guide",
        "ours: with --testonly and no references, another sample's caption as text first; the original always had one",
        type=None,
    ),
)


@dataclass(frozen=True, slots=True)
class OriginalRun:
    """What a command of the original's asks for.

    Args:
        options: ours, as `arguments.parse` takes them for overrides.
        environment: variables to set before transformers is imported.
        warnings: one for each flag that does nothing, or less than it did.
        testonly: evaluate, don't train.
        predictions: where the evaluation's captions go.
        zero_shot_guide: whether a prompt without references opens with another sample's caption.
    """

    options: tuple[str, ...]
    environment: dict[str, str]
    warnings: tuple[str, ...]
    testonly: bool
    predictions: Path | None
    zero_shot_guide: bool


def build_parser() -> argparse.ArgumentParser:
    """The original's command line."""
    parser = argparse.ArgumentParser(
        description="Train or evaluate the captioner by the original's command line.", allow_abbrev=False
    )
    for flag in FLAGS:
        text = ("ignored: " if flag.ignored else "") + flag.help.replace("%", "%%")
        if flag.type is None:
            parser.add_argument(f"--{flag.name}", action="store_true", help=text)
        else:
            if flag.default is not None:
                text += f" (default: {flag.default})"
            kind: dict[str, Any] = {"choices": flag.choices} if flag.choices else {"metavar": "VALUE"}
            parser.add_argument(
                f"--{flag.name}", type=flag.type, default=flag.default, required=flag.required, help=text, **kind
            )
    return parser


def translate(argv: Sequence[str] | None = None) -> OriginalRun:
    """Read a command line of the original's. Nothing is loaded or set.

    Args:
        argv: the flags; those of this process if None.

    Raises:
        InputError: flags that exclude each other.
        SystemExit: flags that the original has not, or values of the wrong type, as argparse reports them.
    """
    given = build_parser().parse_args(argv)
    if given.save_checkpoints_to_wandb and not given.report_to_wandb:
        raise InputError("--save_checkpoints_to_wandb was given without --report_to_wandb; add it, or leave both out.")
    folder = Path(given.external_save_dir or ".", given.run_name)
    values = {flag: getattr(given, flag.name) for flag in FLAGS}
    options: dict[str, Any] = {
        option: value
        for flag, value in values.items()
        if value is not None and value is not False
        for option in flag.options
    }
    options |= {
        "output_dir": folder,
        "shots": given.max_shot if given.xview else 0,
        "lr_scheduler_type": SCHEDULES[given.lr_scheduler],
        "warmup_steps": given.warmup_steps if given.warmup_steps_ratio is None else given.warmup_steps_ratio,
        "report_to": "wandb" if given.report_to_wandb else "none",
    }
    if (frames := given.resample_frames or given.max_num_frames) is not None:
        options["num_frames"] = frames
    if given.resume_from_checkpoint:
        options["resume_from_checkpoint"] = "last"
    if given.trained_ckpt is not None and Path(given.trained_ckpt).is_dir():  # a whole model; a file lies over the base
        options["model"] = options.pop("captioner")
        del options["base"]
    return OriginalRun(
        options=tuple(f"--{name}={value}" for name, value in (options | _saving(given)).items()),
        environment=_environment(given),
        warnings=_warnings(given),
        testonly=given.testonly,
        predictions=folder / "predictions.jsonl" if given.testonly and given.save_predictions else None,
        zero_shot_guide=given.zero_shot_guide,
    )


def _saving(given: argparse.Namespace) -> dict[str, Any]:
    if given.save_steps_interval == 0 or given.save_steps_interval < -1:
        raise InputError(f"--save_steps_interval {given.save_steps_interval}; give 1 or more steps, or -1 for none.")
    limit = {"save_total_limit": 1} if given.delete_previous_checkpoint else {}
    if given.save_steps_interval > 0:
        return {"save_strategy": "steps", "save_steps": given.save_steps_interval} | limit
    return {"save_strategy": "epoch" if given.save_ckpt_each_epoch else "no"} | limit


def _environment(given: argparse.Namespace) -> dict[str, str]:
    variables = {
        "WANDB_PROJECT": given.wandb_project,
        "WANDB_ENTITY": given.wandb_entity,
        "WANDB_LOG_MODEL": "end" if given.save_checkpoints_to_wandb else None,
        "WANDB_MODE": "offline" if given.offline else None,
        "HF_HUB_OFFLINE": "1" if given.offline else None,
        # Whatever the accelerate config says, as in the original. Not our option `bf16`, which refuses a CPU.
        "ACCELERATE_MIXED_PRECISION": "no" if given.testonly else "bf16",
    }
    return {name: value for name, value in variables.items() if value is not None}


def _warnings(given: argparse.Namespace) -> tuple[str, ...]:
    warnings = [
        f"--{flag.name} does nothing: {flag.help}."
        for flag in FLAGS
        if flag.ignored and getattr(given, flag.name) not in (None, False)
    ]
    if given.save_ckpt_each_epoch and given.save_steps_interval > 0:
        warnings.append(
            f"--save_ckpt_each_epoch does nothing beside --save_steps_interval {given.save_steps_interval}: "
            "checkpoints are written by steps."
        )
    if given.max_shot and not given.xview:
        warnings.append(f"--max_shot {given.max_shot} does nothing without --xview: prompts hold no references.")
    for name in ("save_predictions", "zero_shot_guide"):
        if getattr(given, name) and not given.testonly:
            warnings.append(f"--{name} does nothing without --testonly.")
    return tuple(warnings)

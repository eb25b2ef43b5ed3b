"""A training run from its options to a ready model folder; and the evaluation of one."""

from __future__ import annotations

import dataclasses
import json
import logging
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from egoinstructor.checkpoints.convert import load_original
from egoinstructor.checkpoints.loading import load
from egoinstructor.checkpoints.writing import whole_folder
from egoinstructor.errors import InputError, require_extra
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.revision import weights_revision
from egoinstructor.training.arguments import Arguments, CaptionerTrainingArguments, DataArguments, ModelArguments
from egoinstructor.training.callbacks import Interruption, RunRecord, SampleCaptions, caption_sample
from egoinstructor.training.dataset import CaptionDataset, Collator, ShotsSchedule
from egoinstructor.training.failures import FailureLog
from egoinstructor.training.feature_cache import FeatureCache
from egoinstructor.training.lora import add_lora, merge_lora
from egoinstructor.training.metadata import Sample, read_metadata
from egoinstructor.training.trainer import COMPLETE, CaptionerTrainer, last_checkpoint

logger = logging.getLogger(__name__)

MODEL_FOLDER = "model"
"""Where a finished run puts what `from_pretrained` opens."""


class Interrupted(KeyboardInterrupt):
    """A run that was interrupted and saved; the message says how to go on."""


def train(arguments: Arguments) -> Path:
    """Train, or go on with a run that was stopped.

    Args:
        arguments: from `parse`; `resume_from_checkpoint` is a checkpoint's folder, or "last".

    Returns:
        The finished model's folder, inside the run's.

    Raises:
        InputError: options that don't fit, or a run folder in use.
        TrainingError: a run that must not go on.
        Interrupted: Ctrl-C, after a checkpoint was saved.
    """
    _, _, options = arguments
    folder = Path(str(options.output_dir))
    resume = _resume_from(options, folder)
    trainer = build_trainer(arguments)
    if trainer.is_world_process_zero():
        _write_record(arguments, folder)
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
    return _finish(trainer, arguments[0], folder)


def evaluate(arguments: Arguments, *, predictions: Path | None = None) -> dict[str, Any]:
    """Loss and captions of the evaluation samples, in one process.

    Args:
        arguments: as for `train`; `eval_data`/`eval_config` name the samples, or else `train_data`/`train_config`.
        predictions: a JSONL file to write the captions to.

    Returns:
        `eval_loss`, counts, and the captions.
    """
    trainer = build_trainer(arguments)
    dataset = trainer.eval_dataset or trainer.train_dataset
    dataset.jitter = False
    metrics = trainer.evaluate(dataset)
    model = trainer.accelerator.unwrap_model(trainer.model)
    captions = [caption_sample(model, dataset.processor, dataset, i) for i in range(len(dataset))]
    if predictions is not None and trainer.is_world_process_zero():
        predictions.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in captions)
        predictions.write_text(lines, encoding="utf-8")
    return {**metrics, **trainer.failure_counts(), "captions": captions}


def build_trainer(arguments: Arguments) -> CaptionerTrainer:
    """Model, data and trainer of a run, ready to start."""
    model_options, data, options = arguments
    if "wandb" in (options.report_to or ()):
        require_extra("wandb", "wandb", "report_to wandb")
    if "tensorboard" in (options.report_to or ()):
        require_extra("tensorboard", "tensorboard", "report_to tensorboard")
    model, processor = open_model(model_options)
    if data.max_length is not None:
        processor.max_length = min(processor.max_length, data.max_length)
    logger.info("%s", model.freeze_pretrained())
    if model_options.lora_rank:
        add_lora(model, model_options.lora_rank, model_options.lora_alpha)
    model.config.use_cache = False
    folder = Path(str(options.output_dir))
    folder.mkdir(parents=True, exist_ok=True)
    cache = _cache(model, processor, data, options)
    train_samples, eval_samples = read_samples(data)
    schedule = ShotsSchedule.parse(data.shots_schedule, data.shots)
    common: dict[str, Any] = {"num_frames": data.num_frames, "seed": options.seed, "cache": cache}
    train_dataset = CaptionDataset(
        train_samples,
        processor,
        schedule=schedule,
        no_reference_share=data.no_reference_share,
        jitter=data.jitter,
        **common,
    )
    eval_dataset = None
    callbacks: list[Any] = [RunRecord(folder)]
    if eval_samples is not None:
        eval_dataset = CaptionDataset(eval_samples, processor, schedule=ShotsSchedule.parse(None, data.shots), **common)
        callbacks.append(SampleCaptions(folder, eval_dataset, processor, options.sample_captions))
    return CaptionerTrainer(
        model,
        options,
        collator=Collator(processor, query_only=options.loss_on == "query"),
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        failures=FailureLog(folder / f"failures-{options.process_index}.jsonl", data.max_failure_rate),
        cache=cache,
        callbacks=callbacks,
    )


def open_model(options: ModelArguments) -> tuple[EgoInstructorForConditionalGeneration, EgoInstructorProcessor]:
    """The model that a run starts from."""
    dtype = getattr(torch, options.dtype, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise InputError(f"dtype={options.dtype!r}; choose float32, bfloat16 or float16.")
    if options.model:
        return load(options.model, dtype=dtype, attn_implementation=options.attn_implementation)
    return load_original(
        str(options.base),
        options.captioner,
        tokenizer=options.tokenizer,
        dtype=dtype,
        attn_implementation=options.attn_implementation,
        max_num_frames=options.max_num_frames,
    )


def read_samples(data: DataArguments) -> tuple[list[Sample], list[Sample] | None]:
    """The training samples, and the evaluation samples if any are named."""

    def samples(path: str, config: str | None) -> list[Sample]:
        found = read_metadata(path, config).samples(
            data.datapath_ego, data.datapath_exo, use_chat=data.use_chat, clean=data.clean_narration
        )
        if not found:
            raise InputError(f"{config or path} has no samples.")
        return found

    train_samples = samples(data.train_data, data.train_config)
    if data.eval_data is None and data.eval_config is None:
        return train_samples, None
    return train_samples, samples(data.eval_data or data.train_data, data.eval_config)


def _cache(
    model: EgoInstructorForConditionalGeneration,
    processor: EgoInstructorProcessor,
    data: DataArguments,
    options: CaptionerTrainingArguments,
) -> FeatureCache | None:
    if data.feature_cache is None:
        return None
    logger.info("the vision encoder's outputs are kept in %s: frames are not jittered", data.feature_cache)
    computed_in = options.mixed_precision  # autocast changes the outputs
    preprocessing = f"{processor.image_size} {processor.image_mean} {processor.image_std}"
    return FeatureCache(
        data.feature_cache,
        encoder=f"{weights_revision(model.vision_encoder)} {computed_in}",
        preprocessing=preprocessing,
        limit_bytes=int(data.feature_cache_gb * 1e9),
    )


def _resume_from(options: CaptionerTrainingArguments, folder: Path) -> Path | None:
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


def _write_record(arguments: Arguments, folder: Path) -> None:
    """What another person needs to repeat the run."""
    values: dict[str, Any] = {}
    for part in arguments:
        defaults = {f.name: f.default for f in dataclasses.fields(part)}
        given = {f.name: getattr(part, f.name) for f in dataclasses.fields(part) if f.init}
        plain = {
            k: v
            for k, v in given.items()
            if v not in (None, [], {}) and isinstance(v, int | float | str | bool | list | dict) and v != defaults[k]
        }
        values |= {k: v.value if hasattr(v, "value") else v for k, v in plain.items() if k != "resume_from_checkpoint"}
    (folder / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    packages = ("egoinstructor", "torch", "transformers", "accelerate", "av", "numpy")
    environment = {
        "git": _git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in packages},
        "processes": arguments[2].world_size,
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


def _finish(trainer: CaptionerTrainer, model_options: ModelArguments, folder: Path) -> Path:
    """Write the folder that `from_pretrained` opens."""
    target = folder / MODEL_FOLDER
    gathered = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    state = {name.removeprefix("_orig_mod."): tensor for name, tensor in gathered.items()}  # torch.compile's prefix
    if trainer.is_world_process_zero():
        model = trainer.accelerator.unwrap_model(trainer.model, keep_torch_compile=False)
        if model_options.lora_rank:
            merge_lora(model)
            state = model.state_dict()
        model.config.use_cache = True
        with whole_folder(target) as partial:
            model.save_pretrained(partial, state_dict=state)
            trainer.processor.save_pretrained(partial)
    trainer.accelerator.wait_for_everyone()
    return target

"""A training run from its options to a ready model folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from egoinstructor.checkpoints.convert import load_original
from egoinstructor.checkpoints.loading import load
from egoinstructor.checkpoints.writing import whole_folder
from egoinstructor.data.metadata import Sample, read_metadata
from egoinstructor.errors import InputError
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration, TrainableReport
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.revision import weights_revision
from egoinstructor.training.arguments import Arguments, CaptionerTrainingArguments, DataArguments, ModelArguments
from egoinstructor.training.callbacks import RunRecord, SampleCaptions
from egoinstructor.training.dataset import CaptionDataset, Collator
from egoinstructor.training.failures import FailureLog
from egoinstructor.training.feature_cache import FeatureCache
from egoinstructor.training.lora import add_lora, merge_lora
from egoinstructor.training.run_folder import MODEL_FOLDER, drive, require_reporters, resume_from
from egoinstructor.training.schedule import Schedule
from egoinstructor.training.trainer import CaptionerTrainer

logger = logging.getLogger(__name__)


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
    resume = resume_from(options, folder)
    trainer = build_trainer(arguments)
    drive(trainer, arguments, "captioner", resume)
    return _finish(trainer, arguments[0], folder)


def build_trainer(arguments: Arguments) -> CaptionerTrainer:
    """Model, data and trainer of a run, ready to start."""
    model_options, data, options = arguments
    require_reporters(options)
    model, processor = open_model(model_options)
    if data.max_length is not None:
        processor.max_length = min(processor.max_length, data.max_length)
    trained = model.freeze_pretrained()
    if model_options.train_decoder:
        model.decoder.requires_grad_(True)
        trained = TrainableReport.of(model)
    logger.info("%s", trained)
    if model_options.lora_rank:
        add_lora(model, model_options.lora_rank, model_options.lora_alpha)
    model.config.use_cache = False
    folder = Path(str(options.output_dir))
    folder.mkdir(parents=True, exist_ok=True)
    cache = _cache(model, processor, data, options)
    train_samples, eval_samples = read_samples(data)
    common: dict[str, Any] = {"num_frames": data.num_frames, "seed": options.seed, "cache": cache}
    train_dataset = CaptionDataset(
        train_samples,
        processor,
        shots=data.shots_by_progress(),
        reference_order=data.reference_order,
        no_reference_share=data.alone_by_progress(),
        jitter=data.jitter,
        **common,
    )
    eval_dataset = None
    callbacks: list[Any] = [RunRecord(folder, "loss per token")]
    if eval_samples is not None:
        eval_dataset = CaptionDataset(
            eval_samples,
            processor,
            shots=Schedule(((data.shots, 1.0),)),
            reference_order="listed" if data.reference_order == "random" else data.reference_order,
            **common,
        )
        callbacks.append(SampleCaptions(folder, eval_dataset, processor, options.sample_captions))
    return CaptionerTrainer(
        model,
        options,
        collator=Collator(processor, query_only=options.loss_on == "query"),
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        failures=FailureLog(folder / f"failures-{options.process_index}.jsonl", data.max_failure_rate),
        cache=cache,
        feature_dropout=data.feature_dropout,
        frame_dropout=data.frame_dropout,
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

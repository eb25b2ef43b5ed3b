"""A training run of the retriever, from its options to a folder that `CrossViewRetriever.from_pretrained` opens."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPModel, CLIPTextModelWithProjection, PreTrainedTokenizerBase, set_seed

from egoinstructor.data.pairs import PairRecord, check_paired, read_pairs
from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.retriever.clip_text import load_clip_text, text_sizes
from egoinstructor.retriever.cross_view import CrossViewConfig, CrossViewModel
from egoinstructor.retriever.cross_view_retriever import VIEWS, CrossViewRetriever
from egoinstructor.retriever.features import FeatureFolder
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.retriever.loading import find_model, load_model, load_text_tokenizer, model_type
from egoinstructor.training.augment import Augment
from egoinstructor.training.callbacks import RunRecord
from egoinstructor.training.failures import FailureLog
from egoinstructor.training.frame_store import FrameStore
from egoinstructor.training.retriever_arguments import (
    RetrieverArguments,
    RetrieverDataArguments,
    RetrieverModelArguments,
)
from egoinstructor.training.retriever_data import COUNTED, PairCollator, PairDataset, Side
from egoinstructor.training.retriever_model import VideoCrossViewModel, open_backbone
from egoinstructor.training.retriever_trainer import RetrieverTrainer
from egoinstructor.training.run_folder import MODEL_FOLDER, drive, require_reporters, resume_from

logger = logging.getLogger(__name__)

WIDTH_TRIALS = 20
"""Videos whose features are tried for their width."""

_CLIP_TEXTS = {"clip": CLIPModel, "clip_text_model": CLIPTextModelWithProjection}


def train_retriever(arguments: RetrieverArguments) -> Path:
    """Train, or go on with a run that was stopped.

    Args:
        arguments: from `parse_retriever`; `resume_from_checkpoint` is a checkpoint's folder, or "last".

    Returns:
        The finished retriever's folder, inside the run's.

    Raises:
        InputError: options that don't fit, or a run folder in use.
        TrainingError: a run that must not go on.
        Interrupted: Ctrl-C, after a checkpoint was saved.
    """
    model_options, _, options = arguments
    folder = Path(str(options.output_dir))
    resume = resume_from(options, folder)
    trainer = build_retriever_trainer(arguments)
    main = trainer.is_world_process_zero()
    # Opened before the run and not behind it: a backbone that does not fit should not show after days.
    retriever = _retriever(trainer, model_options) if main else None
    drive(trainer, arguments, "retriever", resume)
    if retriever is not None:
        retriever.save_pretrained(folder / MODEL_FOLDER, backbones=arguments[1].from_videos)
    trainer.accelerator.wait_for_everyone()
    return folder / MODEL_FOLDER


def build_retriever_trainer(arguments: RetrieverArguments) -> RetrieverTrainer:
    """Model, data and trainer of a run, ready to start."""
    model_options, data, options = arguments
    require_reporters(options)
    train_ego, train_exo, eval_ego, eval_exo = _read(data)
    set_seed(options.seed)
    backbone = open_backbone(model_options, data.num_frames or CrossViewConfig.num_frames) if data.from_videos else None
    if backbone is None:
        folders = FeatureFolder(data.features_ego), FeatureFolder(data.features_exo)
        widths = _width(folders[0], train_ego), _width(folders[1], train_exo)
    else:
        widths = backbone.width, backbone.width
    cross_view, tokenizer = open_cross_view(model_options, *widths)
    if data.num_frames is not None:
        cross_view.config.num_frames = data.num_frames
    num_frames = cross_view.config.num_frames
    if data.frames_per_clip is not None and data.frames_per_clip > num_frames:
        raise InputError(f"frames_per_clip={data.frames_per_clip} of num_frames={num_frames}; give at most as many.")
    if backbone is not None:
        backbone.num_frames = num_frames

    def sides(ego: Sequence[PairRecord], exo: Sequence[PairRecord], *, evaluated: bool) -> tuple[Side, Side]:
        if backbone is None:
            return Side("ego", ego, folders[0], widths[0]), Side("exo", exo, folders[1], widths[1])
        ego_videos = data.eval_videos_ego if evaluated and data.eval_videos_ego else data.videos_ego
        exo_videos = data.eval_videos_exo if evaluated and data.eval_videos_exo else data.videos_exo
        cache = Path(data.frames_cache or Path(str(options.output_dir)) / "frames")
        stores = [
            FrameStore(cache, Path(videos), records, view, backbone.preprocessing, num_frames)
            for view, records, videos in zip(VIEWS, (ego, exo), (ego_videos, exo_videos), strict=True)
        ]
        for store in stores:
            with options.main_process_first(desc="decoding"):
                store.fill()
        return Side("ego", ego, stores[0], widths[0]), Side("exo", exo, stores[1], widths[1])

    def dataset(ego: Sequence[PairRecord], exo: Sequence[PairRecord], *, evaluated: bool) -> PairDataset:
        changed = data.augment_shift or data.augment_colour
        return PairDataset(
            *sides(ego, exo, evaluated=evaluated),
            tokenizer,
            text_context=cross_view.config.text_context,
            num_frames=num_frames,
            frames_per_clip=data.frames_per_clip,
            augment=Augment(data.augment_shift, data.augment_colour) if changed else None,
            seed=options.seed,
            jitter=data.jitter,
            clean=data.clean_narration,
            exo_items=data.exo_items,
            exo_pairs=data.exo_pairs,
            evaluated=evaluated,
        )

    train_dataset = dataset(train_ego, train_exo, evaluated=False)
    eval_dataset = None
    if eval_ego is not None:
        eval_dataset = dataset(eval_ego, eval_exo, evaluated=True)
        if not len(eval_dataset):
            raise InputError(f"{data.eval_ego}: no clip has a pair (nv_index) that shares a noun and a verb with it.")
    if backbone is None:
        return _trainer(arguments, cross_view, tokenizer, train_dataset, eval_dataset)
    ids = [noun for record in (*train_ego, *train_exo) for noun in record.nouns]
    model = VideoCrossViewModel(backbone, cross_view, 1 + max(ids, default=-1) if options.noun_weight else 0)
    return _trainer(arguments, model, tokenizer, train_dataset, eval_dataset)


def open_cross_view(
    options: RetrieverModelArguments, ego_width: int, exo_width: int
) -> tuple[CrossViewModel, PreTrainedTokenizerBase]:
    """The model that a run starts from, and its tokenizer.

    Args:
        options: the run's.
        ego_width: W of the ego features.
        exo_width: W of the exo features.

    Raises:
        CheckpointError: a folder that can't be used, or whose model takes other features.
        InputError: sizes that don't fit.
    """
    folder = find_model(str(options.model or options.clip_text or options.tokenizer))
    tokenizer = load_text_tokenizer(folder)
    if options.model:
        model = load_model(CrossViewModel, folder, torch.float32).requires_grad_(True)
        taken = model.config.ego_frame_width, model.config.exo_frame_width
        if taken != (ego_width, exo_width):
            raise CheckpointError(
                f"{folder} takes ego and exo features of width {taken[0]} and {taken[1]}; the folders hold {ego_width} and "
                f"{exo_width}. Give the features that it was trained with."
            )
        return model, tokenizer
    sizes = {"ego_frame_width": ego_width, "exo_frame_width": exo_width, "eos_token_id": tokenizer.eos_token_id}
    clip = None
    if options.clip_text:
        kind = model_type(folder)
        if kind not in _CLIP_TEXTS:
            raise CheckpointError(f"{folder} holds a {kind!r}; clip_text must be one of {', '.join(_CLIP_TEXTS)}.")
        clip = load_model(_CLIP_TEXTS[kind], folder, torch.float32)
        sizes |= text_sizes(clip.config)
    else:
        sizes["text_vocab_size"] = len(tokenizer)
    try:
        model = CrossViewModel(CrossViewConfig(**{**sizes, **options.sizes}))
    except StrictDataclassError as error:
        raise InputError(f"the sizes of the model don't fit: {error}") from error
    if clip is not None:
        load_clip_text(model, clip)
    return model, tokenizer


def _read(
    data: RetrieverDataArguments,
) -> tuple[list[PairRecord], list[PairRecord], list[PairRecord] | None, list[PairRecord]]:
    """The clips to train on, ego and exo, and those to evaluate with."""
    train_ego, train_exo = read_pairs(data.train_ego), read_pairs(data.train_exo)
    check_paired(train_ego, train_exo, data.train_ego)
    if not train_ego:
        raise InputError(f"{data.train_ego} has no clips.")
    if data.eval_ego is None:
        return train_ego, train_exo, None, train_exo
    eval_ego = read_pairs(data.eval_ego)
    eval_exo = train_exo if data.eval_exo is None else read_pairs(data.eval_exo)
    check_paired(eval_ego, eval_exo, data.eval_ego)
    return train_ego, train_exo, eval_ego, eval_exo


def _width(folder: FeatureFolder, records: Sequence[PairRecord]) -> int:
    """W of the first features that can be read.

    Raises:
        InputError: none of the first can.
    """
    reasons = []
    for video in list(dict.fromkeys(record.video for record in records))[:WIDTH_TRIALS]:
        try:
            return folder.table(video).shape[1]
        except InputError as error:
            reasons.append(str(error))
    last = reasons[-1] if reasons else "there are no clips"
    raise InputError(f"none of the first features in {folder.root} can be read. The last: {last}")


def _retriever(trainer: RetrieverTrainer, options: RetrieverModelArguments) -> CrossViewRetriever:
    """The trained model as a retriever, with the backbone that is trained too, or those named, which stay on the CPU."""
    model: CrossViewModel | VideoCrossViewModel = trainer.accelerator.unwrap_model(
        trainer.model, keep_torch_compile=False
    )
    tokenizer = trainer.train_dataset.tokenizer
    if isinstance(model, VideoCrossViewModel):
        return CrossViewRetriever(model.cross_view, tokenizer, ego=model.encoder, exo=model.encoder)
    named = (options.ego_backbone, options.exo_backbone)
    opened = {
        where: TowerFrameEncoder.from_pretrained(where, num_frames=model.config.num_frames, device="cpu")
        for where in named
        if where
    }
    ego, exo = (opened.get(str(where)) for where in named)
    return CrossViewRetriever(model, tokenizer, ego=ego, exo=exo)


def _trainer(
    arguments: RetrieverArguments,
    model: CrossViewModel | VideoCrossViewModel,
    tokenizer: PreTrainedTokenizerBase,
    train_dataset: PairDataset,
    eval_dataset: PairDataset | None,
) -> RetrieverTrainer:
    _, data, options = arguments
    if tokenizer.pad_token_id is None:
        raise CheckpointError("the tokenizer has no padding token; give the one that belongs to the model.")
    folder = Path(str(options.output_dir))
    folder.mkdir(parents=True, exist_ok=True)
    datasets = [dataset for dataset in (train_dataset, eval_dataset) if dataset is not None]
    return RetrieverTrainer(
        model,
        options,
        same_verb_share=data.same_verb_share,
        collator=PairCollator(*datasets),
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        failures=FailureLog(folder / f"failures-{options.process_index}.jsonl", data.max_failure_rate, COUNTED),
        callbacks=[RunRecord(folder)],
    )

"""The published pair (an OTTER base and a captioner laid over it) → one folder that `from_pretrained` opens."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from egoinstructor.checkpoints.configs import config_from_original
from egoinstructor.checkpoints.keys import NOT_WEIGHTS, to_ours
from egoinstructor.checkpoints.reading import check_finite, read_json, read_tensors, weight_files
from egoinstructor.checkpoints.sources import (
    BASE_FILES,
    PUBLISHED_TOKENIZER,
    TOKENIZER_FILE,
    TOKENIZER_FILES,
    find_file,
    find_folder,
)
from egoinstructor.checkpoints.writing import whole_folder
from egoinstructor.errors import CheckpointError
from egoinstructor.model.configuration import EgoInstructorConfig
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

FRAME_EMBEDDINGS = "resampler.frame_embeddings"
REPORT = "conversion_report.json"
SHARD_BYTES = 2 * 10**9
"""Small shards: a conversion holds one at a time."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one tensor comes from.

    Args:
        source: "base", "captioner", or "new" (initialised here: neither file has it).
        file: the file's name; empty where new.
        original: its name there; empty where new.
        shape: its shape.
        dtype: its number format.
    """

    source: str
    file: str
    original: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """A checked pair of checkpoints, ready to be written or loaded; no weight has been copied yet.

    Args:
        config: the model's.
        origins: our tensor name → where it comes from.
        tensors: reads the tensors, each once, in our names; raises `CheckpointError` at one that isn't finite.
    """

    config: EgoInstructorConfig
    origins: dict[str, Origin]
    tensors: Callable[[], Iterator[tuple[str, Tensor]]]

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the embeddings, taken for the whole's."""
        return getattr(torch, self.origins["decoder.embed_tokens.weight"].dtype)

    def summary(self) -> str:
        """One line."""
        counts = {
            source: sum(o.source == source for o in self.origins.values()) for source in ("base", "captioner", "new")
        }
        return f"{len(self.origins)} tensors: " + ", ".join(f"{n} {source}" for source, n in counts.items())


def plan(base: str | Path, captioner: str | Path | None, max_num_frames: int | None = None) -> Conversion:
    """Look at both checkpoints and settle where each tensor comes from, before anything is written.

    Strict both ways: every tensor of the files must be one of ours, every tensor of ours must be in a file (but the frame
    embeddings, which an image base lacks: new, unless the captioner has them), and every shape must fit.

    Args:
        base: folder or Hub id.
        captioner: file, or Hub id with `:file`; None for the base alone.
        max_num_frames: rows of the frame embeddings where the captioner has none; None for the published 32.

    Raises:
        CheckpointError: naming the tensors that are unknown, missing or misshapen.
    """
    base_folder = find_folder(base, BASE_FILES, "base checkpoint")
    original_config = read_json(base_folder / "config.json")
    files = [("base", file) for file in weight_files(base_folder)]
    if captioner is not None:
        files.append(("captioner", find_file(captioner, "captioner checkpoint")))

    origins: dict[str, Origin] = {}
    unknown: list[str] = []
    for source, file in files:
        for theirs, tensor in read_tensors(file):
            if theirs in NOT_WEIGHTS:
                continue
            ours = to_ours(theirs)
            if ours is None:
                unknown.append(f"{theirs} {tuple(tensor.shape)} ({file.name})")
                continue
            origins[ours] = Origin(
                source, file.name, theirs, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
            )
    if unknown:
        raise CheckpointError(f"unknown tensors, which no part of the model takes: {_some(unknown)}.")

    frames = origins.get(FRAME_EMBEDDINGS)
    default_frames = max_num_frames or EgoInstructorConfig().max_num_frames
    config = config_from_original(original_config, frames.shape[0] if frames else default_frames)
    expected, trainable = _expected_shapes(config)
    if frames is None and FRAME_EMBEDDINGS in expected:
        dtype = origins["resampler.latents"].dtype if "resampler.latents" in origins else "float32"
        origins[FRAME_EMBEDDINGS] = Origin("new", "", "", expected[FRAME_EMBEDDINGS], dtype)
    _check(origins, expected)
    if captioner is not None:
        given = {name for name, origin in origins.items() if origin.source == "captioner"}
        if lost := sorted(trainable - given):
            raise CheckpointError(
                f"the captioner lacks {_some(lost)}, which training changes; without them the base's untrained ones would "
                "stand in. Download it again."
            )

    def tensors() -> Iterator[tuple[str, Tensor]]:
        for source, file in files:
            for theirs, tensor in read_tensors(file):
                ours = to_ours(theirs)
                if ours is not None and theirs not in NOT_WEIGHTS and origins[ours].source == source:
                    check_finite(theirs, tensor, str(file))
                    yield ours, tensor
        if origins[FRAME_EMBEDDINGS].source == "new":
            new = origins[FRAME_EMBEDDINGS]
            generator = torch.Generator().manual_seed(0)
            yield FRAME_EMBEDDINGS, torch.randn(new.shape, generator=generator).to(getattr(torch, new.dtype))

    return Conversion(config, origins, tensors)


def convert(
    base: str | Path,
    captioner: str | Path | None,
    out: str | Path,
    *,
    tokenizer: str | Path | None = None,
    dtype: torch.dtype | None = None,
) -> Conversion:
    """Write one folder: safetensors, configuration, processor, tokenizer, and a report of every tensor.

    The folder appears under its name when it is whole; an interrupted conversion leaves nothing there.

    Args:
        base: folder or Hub id of the OTTER base.
        captioner: file of trainable tensors laid over it, or Hub id with `:file`; None for the base alone.
        out: the folder to make; it must not exist, or be empty.
        tokenizer: folder or Hub id; the base's folder if it holds one, else the published one.
        dtype: number format to write; None for the embeddings' own.

    Raises:
        CheckpointError: what `plan` refuses, a tokenizer that does not fit, a folder that is in use, a full disk.
    """
    with whole_folder(out) as folder:
        conversion = plan(base, captioner)
        processor = make_processor(conversion.config, base, tokenizer)
        _write_shards(conversion, folder, dtype)
        conversion.config.dtype = dtype or conversion.dtype
        conversion.config.architectures = [EgoInstructorForConditionalGeneration.__name__]
        conversion.config.save_pretrained(folder)
        processor.save_pretrained(folder)
        processor.generation_config().save_pretrained(folder)
        report = {name: asdict(origin) for name, origin in sorted(conversion.origins.items())}
        (folder / REPORT).write_text(json.dumps(report, indent=1), encoding="utf-8")
    return conversion


def load_original(
    base: str | Path,
    captioner: str | Path | None,
    *,
    tokenizer: str | Path | None = None,
    dtype: torch.dtype | None = None,
    attn_implementation: str = "sdpa",
    max_num_frames: int | None = None,
) -> tuple[EgoInstructorForConditionalGeneration, EgoInstructorProcessor]:
    """The published pair straight into memory, without a converted folder.

    Args:
        base: as in `convert`.
        captioner: as in `convert`.
        tokenizer: as in `convert`.
        dtype: number format to load into; None for the embeddings' own.
        attn_implementation: "sdpa" or "eager".
        max_num_frames: as in `plan`.

    Raises:
        CheckpointError: as `convert`.
    """
    conversion = plan(base, captioner, max_num_frames)
    processor = make_processor(conversion.config, base, tokenizer)
    conversion.config._attn_implementation = attn_implementation
    with torch.device("meta"):
        model = EgoInstructorForConditionalGeneration(conversion.config)
    # Copied out of the mapped file: the model must outlive it, and may be written to.
    state = {name: tensor.to(dtype or conversion.dtype, copy=True) for name, tensor in conversion.tensors()}
    position_ids = model.vision_encoder.embeddings.position_ids
    model.vision_encoder.embeddings.position_ids = torch.arange(position_ids.shape[-1]).expand(1, -1)
    model.load_state_dict({**state, "lm_head.weight": state["decoder.embed_tokens.weight"]}, assign=True)
    model.tie_weights()
    model.generation_config = processor.generation_config()
    return model.eval(), processor


def make_processor(
    config: EgoInstructorConfig, base: str | Path, tokenizer: str | Path | None
) -> EgoInstructorProcessor:
    """The processor for a converted model; sets the special tokens' ids in `config`."""
    if tokenizer is None:
        tokenizer = base if (Path(base) / TOKENIZER_FILE).is_file() else PUBLISHED_TOKENIZER
    loaded = load_tokenizer(find_folder(tokenizer, TOKENIZER_FILES, "tokenizer"))
    processor = EgoInstructorProcessor(
        loaded,
        image_size=config.vision_config.image_size,
        num_frames=config.max_num_frames,
        max_length=config.text_config.max_position_embeddings,
    )
    processor.fit(config)
    return processor


def _expected_shapes(config: EgoInstructorConfig) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """Our tensors with their shapes, and those that are trained; nothing is allocated. The head is the embeddings."""
    with torch.device("meta"):
        model = EgoInstructorForConditionalGeneration(config)
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items() if name != "lm_head.weight"}
    return shapes, set(model.trainable_names())


def _check(origins: dict[str, Origin], expected: dict[str, tuple[int, ...]]) -> None:
    """Every tensor of the files has a place, every place a tensor, of the right shape."""
    problems = []
    if surplus := sorted(origins.keys() - expected.keys()):
        problems.append(f"tensors for which config.json has no place: {_some([origins[n].original for n in surplus])}")
    if missing := sorted(expected.keys() - origins.keys()):
        problems.append(f"missing tensors: {_some(missing)}")
    wrong = [
        f"{origin.original} is {origin.shape}, must be {expected[name]}"
        for name, origin in origins.items()
        if name in expected and origin.shape != expected[name]
    ]
    if wrong:
        problems.append(f"shapes that don't fit config.json: {_some(wrong)}")
    if problems:
        raise CheckpointError("; ".join(problems) + ". The checkpoint is of another size or architecture.")


def _some(items: list[str], at_most: int = 5) -> str:
    rest = len(items) - at_most
    return ", ".join(items[:at_most]) + (f" and {rest} more" if rest > 0 else "")


def _write_shards(conversion: Conversion, folder: Path, dtype: torch.dtype | None) -> None:
    """Write the tensors in shards, holding one shard at a time, with the index that transformers reads."""
    sizes = {n: o.dtype for n, o in conversion.origins.items()}
    weight_map: dict[str, str] = {}
    shard: dict[str, Tensor] = {}
    shards = 0
    total = 0

    def flush() -> None:
        nonlocal shards
        shards += 1
        name = f"model-{shards:05d}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, name))
        logger.info("wrote %s, %d of %d tensors", name, len(weight_map), len(sizes))
        shard.clear()

    held = 0
    for name, original in conversion.tensors():
        tensor = original.to(dtype or conversion.dtype)
        if shard and held + tensor.nbytes > SHARD_BYTES:
            flush()
            held = 0
        shard[name] = tensor.contiguous()
        held += tensor.nbytes
        total += tensor.nbytes
    flush()
    if shards == 1:
        (folder / "model-00001.safetensors").rename(folder / "model.safetensors")
        return
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")

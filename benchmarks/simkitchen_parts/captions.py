"""Captions of a whole split by one model: one vision pass for all models, then prompts and greedy search in batches.

Shapes: **F** frames, **P** patches, **V** vision width, **L** latents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.fields import json_lines
from egoinstructor.files import atomic_file
from egoinstructor.model.cpu import fast_linears
from egoinstructor.model.likeliest import likeliest_of, reference_subsets
from egoinstructor.model.modeling import EgoInstructorForConditionalGeneration
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.prompt import TRAINING
from egoinstructor.model.revision import weights_revision
from egoinstructor.model.scores import WANTED, caption_scores
from egoinstructor.video.decode import load_video
from egoinstructor.video.prefetch import DECODE_THREADS, prefetch
from nano_steps.clips import KitchenClip
from simkitchen_parts.kitchen import Kitchen
from simkitchen_parts.references import References

BATCH = 64


@dataclass(frozen=True, slots=True)
class Written:
    """A caption, the mean log probability of its tokens, and how many they are."""

    text: str
    score: float
    tokens: int


@torch.inference_mode()
def patches(
    kitchen: Kitchen, model: EgoInstructorForConditionalGeneration, processor: EgoInstructorProcessor, file: Path
) -> dict[str, Tensor]:
    """What the vision tower makes of each clip, `(F, P, V)` by its name; all captioners here share that tower.

    Raises:
        InputError: the file is of another tower, or lacks a clip.
    """
    revision = f"{weights_revision(model.vision_encoder)} {processor.image_size} {processor.num_frames}"
    clips: list[KitchenClip] = [*kitchen.queries, *kitchen.howto.values()]
    if not file.exists():

        def pixels(clip: KitchenClip) -> Tensor:
            seen = kitchen.clip(clip)
            return processor.pixels(
                load_video(
                    seen.video,
                    start=seen.start,
                    end=seen.end,
                    num_frames=processor.num_frames,
                    sampling=TRAINING.sampling,
                )
            )

        made = {}
        for clip, frames in zip(clips, prefetch(pixels, clips, threads=DECODE_THREADS), strict=True):
            with fast_linears(model.device):
                made[clip.name] = model.encode_frames(frames[None, None])[0, 0]
        with atomic_file(file) as partial:
            save_file(made, partial, {"revision": revision})
    with safe_open(file, "pt") as found:
        if found.metadata()["revision"] != revision or not {clip.name for clip in clips} <= set(found.keys()):
            raise InputError(
                f"{file} is of another vision tower than the captioner's, or of fewer clips; remove its folder."
            )
        return {name: found.get_tensor(name) for name in found.keys()}  # noqa: SIM118 - it is no mapping


@torch.inference_mode()
def latents(model: EgoInstructorForConditionalGeneration, clips: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What a captioner reads of each clip `(L, V)`; of how-to clips rounded to bf16, as a library keeps it."""
    names, made = list(clips), {}
    for first in range(0, len(names), BATCH):
        some = names[first : first + BATCH]
        with fast_linears(model.device):
            resampled = model.resample(torch.stack([clips[name] for name in some])[:, None].to(model.dtype))[:, 0]
        for name, values in zip(some, resampled, strict=True):
            made[name] = values.bfloat16().to(model.dtype) if name.startswith("exo/") else values
    return made


@torch.inference_mode()
def caption_all(
    model: EgoInstructorForConditionalGeneration,
    processor: EgoInstructorProcessor,
    queries: Sequence[str],
    seen: Mapping[str, Tensor] | None,
    references: References | None = None,
    batch: int = BATCH,
) -> dict[str, Written]:
    """A caption of each query, as `Captioner.caption_batch` would write it.

    Args:
        model: in evaluation mode.
        processor: its processor.
        queries: events.
        seen: latents by clip's name; None to show no clip at all, as the captioner's `blind`.
        references: None for none.
        batch: queries read at once.

    Raises:
        InputError: references that the prompt has no room for.
    """
    shown = {query: tuple(references[query]) if references else () for query in queries}
    reserve = int(model.generation_config.max_new_tokens or 0)
    written = {q: processor.prompt([one.narration for one in shown[q]], reserve=reserve) for q in queries}
    if cut := [query for query, prompt in written.items() if prompt.dropped]:
        raise InputError(f"{len(cut)} prompts have no room for their references, the first is that of {cut[0]}.")
    order = sorted(queries, key=lambda query: len(written[query].input_ids))  # little padding
    captions = {}
    for first in range(0, len(order), batch):
        some = order[first : first + batch]
        clips = None
        if seen is not None:
            clips = [[*(seen[f"exo/{one.event}"] for one in shown[q]), seen[f"ego/{q}"]] for q in some]
        inputs = processor([written[q] for q in some], latents=clips).to(model.device)
        outputs = model.generate(**inputs, **WANTED)
        scores, tokens = caption_scores(outputs, inputs["input_ids"].shape[1], processor.end_token_id)
        texts = processor.captions(outputs.sequences)
        captions |= zip(some, map(Written, texts, scores.tolist(), tokens.tolist()), strict=True)
    return {query: captions[query] for query in queries}


def likeliest(
    references: References,
    together: Mapping[str, Written],
    alone: Sequence[Mapping[str, Written]],
    none: Mapping[str, Written],
) -> dict[str, Written]:
    """Of each query's captions the one that `Captioner`'s `likeliest` keeps.

    Args:
        references: that were read.
        together: captions written with all of them.
        alone: captions written with the first alone, with the second alone, …
        none: captions written without.
    """
    kept = {}
    for query, shown in references.items():
        ways = reference_subsets([one.score for one in shown])
        by_places = {(): none[query]} | {(place,): one[query] for place, one in enumerate(alone[: len(shown)])}
        by_places[tuple(range(len(shown)))] = together[query]
        found = [by_places[way.places] for way in ways]
        kept[query] = found[likeliest_of(ways, [(one.text, one.score * one.tokens) for one in found])]
    return kept


def read_captions(
    file: Path, revision: str, queries: Sequence[str], references: References | None = None
) -> dict[str, Written] | None:
    """Captions that were written before, by just this model of just these queries with just these references, else None.

    Args:
        file: of `write_captions`.
        revision: `weights_revision` of the model.
        queries: events.
        references: None for none.
    """
    if not file.exists():
        return None
    found = {line["query"]: line for _, _, line in json_lines(file)}
    asked = {query: (revision, _told(references, query)) for query in queries}
    if {query: (line.get("model"), line["references"]) for query, line in found.items()} != asked:
        return None
    return {query: Written(*(found[query][name] for name in ("caption", "score", "tokens"))) for query in queries}


def write_captions(
    file: Path, revision: str, captions: Mapping[str, Written], references: References | None = None
) -> None:
    """Keep captions with the model that wrote and the references that were read, whole or not at all."""
    with atomic_file(file) as partial, partial.open("w", encoding="utf-8") as out:
        for query, one in captions.items():
            told = _told(references, query)
            line = {"query": query, "caption": one.text, "score": one.score, "tokens": one.tokens}
            line |= {"model": revision, "references": told}
            out.write(json.dumps(line) + "\n")


def _told(references: References | None, query: str) -> list[list[str]]:
    return [[one.event, one.narration] for one in references[query]] if references else []

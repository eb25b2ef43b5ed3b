"""Everything that is measured on a split, from the trained models to one dictionary. What was captioned is found again."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from egoinstructor.checkpoints.loading import load
from egoinstructor.errors import InputError, MissingExtraError
from egoinstructor.evaluation.metrics.java import JavaError
from egoinstructor.evaluation.metrics.meteor import Meteor
from egoinstructor.model.revision import weights_revision
from egoinstructor.retriever.opening import open_retriever
from nano_steps.clips import read_clips
from simkitchen_parts import references as choose
from simkitchen_parts import scores
from simkitchen_parts.captions import Written, caption_all, latents, likeliest, patches, read_captions, write_captions
from simkitchen_parts.kitchen import Kitchen, KitchenLibrary, open_library
from simkitchen_parts.models import (
    LEARNED,
    MODELS,
    RETRIEVAL,
    Files,
    check_alike,
    check_learned,
    one_at_a_time,
    training_facts,
)
from simkitchen_parts.references import References
from simkitchen_parts.retriever_scores import retriever_scores

NONE, COPIED, RETRIEVED, SWAPPED, TEXT_ONLY = "none", "copied", "retrieved 4", "swapped nouns", "text-only"
LIKELIEST, ALONE = "likeliest", ("retrieved 1", "2nd alone", "3rd alone", "4th alone")
"""`Captioner`'s `likeliest`: of the captions with all references, with each alone, and with none."""
MAIN = (NONE, TEXT_ONLY, "random 4", "shuffled narrations", "retrieved 1", "retrieved 2", RETRIEVED, "oracle 4")
SWEEPS = ("library 25 %", "library 50 %", "noun taken out", "own event kept")

Captions = dict[tuple[str, str], list[dict[str, str]]]
"""Of each model and condition the captions of each seed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the models are asked, and what they are shown.

    Args:
        kitchen: the split.
        shelf: its library.
        shown: references by condition.
        nouns: those that one condition exchanges.
    """

    kitchen: Kitchen
    shelf: KitchenLibrary
    shown: Mapping[str, References]
    nouns: Mapping[str, Mapping[str, str]]


def prepare(files: Files, split: str, seeds: Sequence[int], models: Sequence[str]) -> Asked:
    """Make the library and the references, or find them; one process makes what several need.

    Raises:
        InputError: a model that isn't trained, or not as the others are, or files of other models.
    """
    for model in models:
        for seed in seeds:
            if not files.model(model, seed, split).exists():
                raise InputError(f"{files.run(model, seed, split)} holds no finished model; 'train' it first.")
    check_alike(files, models, seeds, split)
    if LEARNED in models:
        check_learned(files, split)
    kitchen = Kitchen.read(files.data / split, files.queries)
    with one_at_a_time(files.split(split)):
        shelf = open_library(kitchen, open_retriever(files.retriever), files.split(split), files.asked(split))
        return Asked(kitchen, shelf, *all_references(kitchen, shelf, files.asked(split) / "references"))


def evaluate(
    files: Files,
    split: str,
    seeds: Sequence[int],
    models: Sequence[str] = MODELS,
    metrics: Sequence[str] = scores.CAPTION_METRICS,
) -> dict[str, Any]:
    """Caption whatever is missing, and score everything.

    Args:
        files: where everything is.
        split: what is asked.
        seeds: of the captioners.
        models: those that are compared.
        metrics: of `scores.CAPTION_METRICS`.

    Raises:
        InputError: as `prepare`.
    """
    asked = prepare(files, split, seeds, models)
    kitchen, found = asked.kitchen, asked.shown[RETRIEVED]
    captions, seconds = all_captions(files, asked, split, seeds, models)
    captions[COPIED, COPIED] = [
        {q.event: found[q.event][0].narration if found[q.event] else "" for q in kitchen.queries}
    ]
    training = read_clips(files.data / "train")
    howto = list(kitchen.howto.values())
    results = about(split, seeds) | {
        "first events": files.queries,
        "queries": len(kitchen.queries),
        "library": len(howto),
        "coverage": scores.coverage(kitchen.queries, scores.named_elsewhere(kitchen.queries, howto)),
        "guesses": scores.guesses(kitchen.queries, training, howto),
        "metrics": list(metrics),
        "gains": {condition: gains(kitchen, captions, condition) for condition in (RETRIEVED, LIKELIEST)},
        "retriever": retriever_scores(kitchen, asked.shelf),
        "captioning seconds": seconds,
        "training": {
            files.run(model, seed, split).name: training_facts(files.run(model, seed, split))
            for model in models
            for seed in seeds
        },
    }
    results |= condition_results(kitchen, captions, metrics)
    if RETRIEVAL in models:
        plain = captions[RETRIEVAL, RETRIEVED]
        results["shuffled videos"] = scores.shuffled_videos(kitchen.queries, plain)
        results[SWAPPED] = scores.swap_scores(kitchen.queries, plain, captions[RETRIEVAL, SWAPPED], asked.nouns)
    return results


def condition_results(kitchen: Kitchen, captions: Captions, metrics: Sequence[str]) -> dict[str, Any]:
    """The scores of every condition, and why a metric is missing."""
    named = scores.named_elsewhere(kitchen.queries, kitchen.howto.values())
    with ExitStack() as stack:
        meteor = None
        if "METEOR" in metrics:
            with suppress(MissingExtraError, JavaError):  # whoever scores without it says why
                meteor = stack.enter_context(Meteor())
        rows = [
            {
                "model": model,
                "condition": condition,
                "buckets": scores.condition_scores(kitchen.queries, of_seeds, named, metrics, meteor),
            }
            for (model, condition), of_seeds in captions.items()
        ]
        some = next(iter(captions.values()))[0]
        missing = scores.caption_metrics(kitchen.queries, some, metrics, meteor).missing if metrics else {}
    return {"conditions": rows, "missing metrics": missing}


def about(split: str, seeds: Sequence[int]) -> dict[str, Any]:
    """What another person needs to know of the run."""
    packages = ("egoinstructor", "torch", "transformers", "lancedb", "numpy")
    return {
        "split": split,
        "seeds": list(seeds),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{_processor()}, {torch.get_num_threads()} thread(s), Python {platform.python_version()}",
        "versions": {name: version(name) for name in packages},
    }


def all_references(
    kitchen: Kitchen, shelf: KitchenLibrary, folder: Path
) -> tuple[dict[str, References], Mapping[str, Mapping[str, str]]]:
    """The references of every condition, and the exchanged nouns of the one that exchanges them."""

    def found(excluded: Callable[..., Any]) -> Callable[[], References]:
        return lambda: choose.retrieved(kitchen, shelf, excluded)

    by_search = {
        RETRIEVED: found(choose.own_event),
        "library 25 %": found(choose.own_event_and_rest(kitchen, 0.25)),
        "library 50 %": found(choose.own_event_and_rest(kitchen, 0.5)),
        "noun taken out": found(choose.own_event_and_noun(kitchen)),
        "own event kept": found(lambda query: []),
    }
    choose.check_made_of(kitchen, folder)
    shown = {name: choose.kept(folder / choose.file_name(name), make) for name, make in by_search.items()}
    shown["retrieved 2"] = choose.cut(shown[RETRIEVED], 0, 2)
    shown |= {name: choose.cut(shown[RETRIEVED], place, place + 1) for place, name in enumerate(ALONE)}
    shown["random 4"] = choose.at_random(kitchen)
    shown["oracle 4"] = choose.best(kitchen)
    shown["shuffled narrations"] = choose.other_narrations(kitchen, shown[RETRIEVED])
    swapped = choose.swapped_nouns(kitchen, shown[RETRIEVED])
    shown[SWAPPED] = swapped.references
    shown[TEXT_ONLY] = shown[RETRIEVED]
    return shown, swapped.nouns


def all_captions(
    files: Files, asked: Asked, split: str, seeds: Sequence[int], models: Sequence[str]
) -> tuple[Captions, float]:
    """Captions of each model, seed and condition, and the seconds that took now."""
    kitchen, shown = asked.kitchen, asked.shown
    events = [query.event for query in kitchen.queries]
    captions: Captions = {}
    began = time.perf_counter()

    def add(model_name: str, condition: str, written: Mapping[str, Written]) -> None:
        texts = {query: one.text for query, one in written.items()}
        captions.setdefault((model_name, condition), []).append(texts)

    for model_name in models:
        conditions = (*MAIN, *SWEEPS, SWAPPED, *ALONE[1:]) if model_name == RETRIEVAL else (NONE,)
        for seed in seeds:
            model, processor = load(files.model(model_name, seed, split), dtype=torch.float32)
            model.eval()
            revision = weights_revision(model)
            kept = {condition: files.captions(model_name, seed, split, condition) for condition in conditions}
            of_condition = {
                condition: read_captions(file, revision, events, shown.get(condition))
                for condition, file in kept.items()
            }
            if None in of_condition.values():
                with one_at_a_time(files.split(split)):
                    clips = patches(kitchen, model, processor, files.asked(split) / "patches.safetensors")
                seen = latents(model, clips)
            whole = {}
            for condition, known in of_condition.items():
                made = known
                if made is None:
                    clips_shown = None if condition == TEXT_ONLY else seen
                    made = caption_all(model, processor, events, clips_shown, shown.get(condition))
                    write_captions(kept[condition], revision, made, shown.get(condition))
                    print(f"captioned {model_name}-{seed}: {condition}", file=sys.stderr, flush=True)
                whole[condition] = made
                if condition not in ALONE[1:]:
                    add(model_name, condition, made)
            if model_name == RETRIEVAL:
                alone = [whole[condition] for condition in ALONE]
                add(model_name, LIKELIEST, likeliest(shown[RETRIEVED], whole[RETRIEVED], alone, whole[NONE]))
    return captions, round(time.perf_counter() - began, 1)


def gains(kitchen: Kitchen, captions: Captions, condition: str) -> dict[str, Any]:
    """Noun accuracy of what retrieval gives in a condition over everything else, by the other's name."""
    if (RETRIEVAL, condition) not in captions:
        return {}
    best = scores.judged(kitchen.queries, captions[RETRIEVAL, condition])
    others = {
        f"{model}, {other}": scores.judged(kitchen.queries, of_seeds)
        for (model, other), of_seeds in captions.items()
        if (model, other) != (RETRIEVAL, condition)
    }
    return {
        name: {kind: scores.gain(kitchen.queries, best[kind], marks[kind]) for kind in ("noun", "verb")}
        for name, marks in others.items()
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())

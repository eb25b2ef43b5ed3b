"""Queries → prompts: which references of each ego clip are read, and how the model is asked for its caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from egoinstructor.errors import InputError
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.prompt import Prompt, PromptPreset
from egoinstructor.records import Clip, Dropped, Reference

Query = tuple[Clip, Sequence[Reference]]
"""An ego clip and its references, most relevant first."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the model is asked of one ego clip.

    Args:
        clip: egocentric.
        references: those that the prompt has, most relevant first.
        dropped: those for which it has no room.
        prompt: with an `<image>` for each reference, and one for the clip.
        instruction: asked of the clip; None for the preset's.
        guide: another sample's caption, put first as text alone.
    """

    clip: Clip
    references: tuple[Reference, ...]
    dropped: tuple[Dropped, ...]
    prompt: Prompt
    instruction: str | None
    guide: str | None


def make_requests(
    processor: EgoInstructorProcessor,
    queries: Sequence[Query],
    *,
    shots: int | None,
    instruction: str | Sequence[str] | None,
    guide: Sequence[str | None] | None,
    preset: PromptPreset,
    reserve: int,
) -> list[Request]:
    """Write the prompt of each query; options as `Captioner.caption_batch` has them.

    Args:
        processor: the model's.
        queries: ego clips, each with its references.
        shots: read only this many references of each; None for all.
        instruction: asked of every clip, or one for each query; None for the preset's.
        guide: for each query, another sample's caption to put first as text alone, or None.
        preset: which of the original's ways to ask.
        reserve: tokens to leave for the caption.

    Raises:
        InputError: fewer references than shots, a prompt that does not fit, more or fewer instructions or guides than
            queries.
    """
    chosen = [(clip, _choose(clip, references, shots)) for clip, references in queries]
    questions = [instruction] * len(queries) if instruction is None or isinstance(instruction, str) else instruction
    guides = [None] * len(queries) if guide is None else guide
    for name, given in (("instruction", questions), ("guide", guides)):
        if len(given) != len(queries):
            raise InputError(f"{len(given)} values of {name} for {len(queries)} queries; give one for each, or none.")
    return [
        _ask(processor, clip, references, question, form, preset, reserve)
        for (clip, references), question, form in zip(chosen, questions, guides, strict=True)
    ]


def with_some_references(
    processor: EgoInstructorProcessor, asked: Request, places: Sequence[int], *, preset: PromptPreset, reserve: int
) -> Request:
    """Write a prompt anew, with some of its references only; of all of them it is the same.

    Args:
        processor: the model's.
        asked: what `ask` made.
        places: those references', in its own order.
        preset: as in `ask`.
        reserve: as in `ask`.
    """
    if len(places) == len(asked.references):
        return asked
    some = tuple(asked.references[place] for place in places)
    return _ask(processor, asked.clip, some, asked.instruction, asked.guide, preset, reserve)


def _ask(
    processor: EgoInstructorProcessor,
    clip: Clip,
    references: tuple[Reference, ...],
    instruction: str | None,
    guide: str | None,
    preset: PromptPreset,
    reserve: int,
) -> Request:
    narrations = [reference.narration for reference in references]
    prompt = processor.prompt(narrations, instruction=instruction, guide=guide, preset=preset, reserve=reserve)
    kept = tuple(references[i] for i in prompt.kept)
    dropped = tuple(_too_long(references[i]) for i in prompt.dropped)
    return Request(clip, kept, dropped, prompt, instruction, guide)


def _choose(clip: Clip, references: Sequence[Reference], shots: int | None) -> tuple[Reference, ...]:
    """The most relevant `shots` references."""
    if shots is not None and not 0 <= shots <= len(references):
        raise InputError(
            f"{shots} shots for {clip.name}, which has {len(references)} references; "
            "ask for 0 (the clip alone) up to that many, or give more references."
        )
    return tuple(references[:shots])


def _too_long(reference: Reference) -> Dropped:
    return Dropped(reference.clip, reference.narration, "the prompt would be too long", reference.score)

"""EgoMCQ: which of five clips does a narration tell of? Read in the original's layout; accuracy apart by kind.

    {"0": {"query": {"clip_text", …}, "choices": {"0": {"video_uid", "clip_start", "clip_end", …}, … "4": …},
           "answer": 2, "types": 1}, "1": …}

`types` is 1 where the choices come from different videos (inter), 2 where they are of one (intra), which is harder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from egoinstructor import fields
from egoinstructor.errors import InputError
from egoinstructor.fields import parse_json, read_text

ChoiceKind = Literal["inter", "intra"]
KINDS: dict[int, ChoiceKind] = {1: "inter", 2: "intra"}


@dataclass(frozen=True, slots=True)
class Choice:
    """A clip to choose.

    Args:
        video: its name (`video_uid`).
        start: seconds.
        end: seconds.
    """

    video: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Question:
    """A narration and the clips of which one shows it.

    Args:
        text: the narration.
        choices: the clips.
        answer: the right one's place, from 0.
        kind: whether the choices come from different videos or from one.
    """

    text: str
    choices: tuple[Choice, ...]
    answer: int
    kind: ChoiceKind


def read_questions(path: str | os.PathLike[str]) -> list[Question]:
    """The questions of a file, in its order.

    Raises:
        InputError: it can't be read, or a value is missing, of the wrong type or out of range.
    """
    content = fields.as_object(parse_json(read_text(Path(path)), str(path)), str(path))
    return [_question(value, f"{path}: {key}") for key, value in content.items()]


def chosen(text: Tensor, choices: Tensor, answer: int) -> bool:
    """Whether the right choice is more similar to the text than every other; a tie is a wrong answer.

    Args:
        text: embedding `(D,)`.
        choices: embeddings `(choices, D)`.
        answer: the right one's place.
    """
    scores = choices @ text
    others = torch.cat([scores[:answer], scores[answer + 1 :]])
    return bool((scores[answer] > others).all())


def accuracy(right: Sequence[bool], questions: Sequence[Question]) -> dict[str, dict[str, float]]:
    """Share of right answers of each kind that there is, with the number of questions and the accuracy of guessing."""
    table: dict[str, dict[str, float]] = {}
    for kind in KINDS.values():
        of_kind = [(good, question) for good, question in zip(right, questions, strict=True) if question.kind == kind]
        if of_kind:
            count = len(of_kind)
            guessed = sum(1 / len(question.choices) for _, question in of_kind) / count
            share = sum(good for good, _ in of_kind) / count
            table[kind] = {"accuracy": share, "chance": guessed, "questions": count}
    return table


def _question(value: Any, where: str) -> Question:
    record = fields.as_object(value, where)
    query = fields.as_object(fields.get(record, "query", where), f"{where}.query")
    choices = fields.as_object(fields.get(record, "choices", where), f"{where}.choices")
    kind, answer = (cast(int, fields.get(record, key, where)) for key in ("types", "answer"))
    fields.check(type(kind) is int and kind in KINDS, kind, f"{where}.types", "1 (inter-video) or 2 (intra-video)")
    names = list(choices)
    right = type(answer) is int and str(answer) in choices
    fields.check(right, answer, f"{where}.answer", f"the number of a choice: {', '.join(names)}")
    if len(choices) < 2:
        raise InputError(f"{where}.choices: there is {len(choices)}; a question needs 2 or more.")
    return Question(
        text=fields.text(query, "clip_text", f"{where}.query"),
        choices=tuple(_choice(choice, f"{where}.choices.{name}") for name, choice in choices.items()),
        answer=names.index(str(answer)),
        kind=KINDS[kind],
    )


def _choice(value: Any, where: str) -> Choice:
    record = fields.as_object(value, where)
    start, end = (fields.seconds(record, key, where) for key in ("clip_start", "clip_end"))
    return Choice(fields.text(record, "video_uid", where), start, end)

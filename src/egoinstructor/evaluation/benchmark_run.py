"""Measures a retriever on one of `benchmarks`; what can't be read is left out and counted."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from egoinstructor.data.benchmarks import (
    Benchmark,
    Choice,
    read_charades_ego,
    read_egolearner,
    read_ek100_mir,
    read_youcook2,
)
from egoinstructor.data.clips import ClipSource, Span
from egoinstructor.errors import InputError
from egoinstructor.evaluation.multiple_choice import chosen
from egoinstructor.evaluation.relevancy import Answers, Matrix
from egoinstructor.evaluation.report import RetrievalReport
from egoinstructor.evaluation.retrieval import evaluate_retrieval
from egoinstructor.evaluation.retrieval_run import embed_counted
from egoinstructor.retriever.interface import Retriever, View
from egoinstructor.video.folder import ProgressCallback

Sources = Callable[[View], ClipSource]


def evaluate_benchmark(
    report: RetrievalReport,
    retriever: Retriever,
    benchmark: Benchmark,
    path: str | os.PathLike[str],
    sources: Sources,
    *,
    relevancy: Matrix | None = None,
    progress: ProgressCallback | None = None,
) -> None:
    """Measure, and add to the report.

    Args:
        report: to add to.
        retriever: embeds texts.
        benchmark: which.
        path: its file.
        sources: where the clips of a view are.
        relevancy: of `ek100-mir`: (videos, sentences), in the order of its two files.
        progress: called after each portion of clips.

    Raises:
        InputError: the file can't be used, nothing can be read, or a relevancy is missing, surplus, or of another shape.
    """
    if (relevancy is not None) != (benchmark == "ek100-mir"):
        said = "needs a relevancy matrix (--relevancy)" if relevancy is None else "has no use for a relevancy matrix"
        raise InputError(f"{benchmark} {said}.")
    if benchmark == "youcook2":
        told = read_youcook2(path)
        rows, kept = _rows(report, told.clips, sources("exo"), progress)
        texts = [told.texts[place] for place in kept]
        _both(report, "video", "text", rows, retriever.encode_text(texts), Answers.same_label(texts, texts))
    elif benchmark == "ek100-mir":
        assert relevancy is not None
        told = read_ek100_mir(path)
        if relevancy.shape != (len(told.clips), len(told.texts)):
            raise InputError(
                f"a relevancy of shape {relevancy.shape} for {len(told.clips)} videos and {len(told.texts)} sentences; "
                "give the one that belongs to these files."
            )
        rows, kept = _rows(report, told.clips, sources("ego"), progress)
        graded = Matrix(relevancy.rows(0, len(told.clips))[kept])
        _both(report, "video", "text", rows, retriever.encode_text(told.texts), graded)
    elif benchmark == "charades-ego":
        _charades_ego(report, *read_charades_ego(path), sources, progress)
    else:
        _choices(report, read_egolearner(path), sources, progress)


def _rows(
    report: RetrievalReport, spans: Sequence[Span], source: ClipSource, progress: ProgressCallback | None
) -> tuple[Tensor, list[int]]:
    """Embeddings of the clips that can be read, and their places."""
    embedded = embed_counted(report, f"{source.view} clip", spans, source, progress)
    return embedded.embeddings, embedded.kept


def _both(
    report: RetrievalReport, here: str, there: str, queries: Tensor, items: Tensor, answers: Answers | Matrix
) -> None:
    graded, back = (answers, answers.turned()) if isinstance(answers, Matrix) else (None, None)
    report.scores[f"{here} → {there}"] = evaluate_retrieval(queries, items, answers, graded)
    report.scores[f"{there} → {here}"] = evaluate_retrieval(items, queries, answers.turned(), back)


def _charades_ego(
    report: RetrievalReport, ego: list[Span], exo: list[Span], sources: Sources, progress: ProgressCallback | None
) -> None:
    here, kept = _rows(report, ego, sources("ego"), progress)
    there, also = _rows(report, exo, sources("exo"), progress)
    both = sorted(set(kept).intersection(also))
    if not both:
        raise InputError("there is no pair of which both clips can be read.")
    report.counts["pairs"] = len(both)
    place_of = [{place: row for row, place in enumerate(places)} for places in (kept, also)]
    queries, items = (rows[[of[p] for p in both]] for rows, of in zip((here, there), place_of, strict=True))
    _both(report, "ego", "exo", queries, items, Answers.same_label(both, both))


def _choices(
    report: RetrievalReport, questions: Sequence[Choice], sources: Sources, progress: ProgressCallback | None
) -> None:
    """Accuracy by the query's view; a tie with the right choice is a wrong answer."""
    wanted: dict[View, set[Span]] = {"ego": set(), "exo": set()}
    for question in questions:
        wanted[question.view].add(question.query)
        wanted[_other(question.view)].update(question.choices)
    found: dict[tuple[View, Span], Tensor] = {}
    for view, some in wanted.items():
        spans = sorted(some)
        rows, kept = _rows(report, spans, sources(view), progress)
        found |= {(view, spans[place]): row for place, row in zip(kept, rows, strict=True)}
    asked = [
        question
        for question in questions
        if (question.view, question.query) in found
        and all((_other(question.view), choice) in found for choice in question.choices)
    ]
    report.counts |= {"questions": len(asked), "questions left out": len(questions) - len(asked)}
    if not asked:
        raise InputError(f"of {len(questions)} questions none has clips that can all be read.")
    for view in ("ego", "exo"):
        of_view = [question for question in asked if question.view == view]
        if of_view:
            right = [_right(question, found) for question in of_view]
            report.choices[f"{view} → {_other(of_view[0].view)}"] = {
                "accuracy": sum(right) / len(right),
                "chance": sum(1 / len(question.choices) for question in of_view) / len(right),
                "questions": len(right),
            }


def _right(question: Choice, found: dict[tuple[View, Span], Tensor]) -> bool:
    choices = torch.stack([found[_other(question.view), choice] for choice in question.choices])
    return chosen(found[question.view, question.query], choices, question.answer)


def _other(view: View) -> View:
    return "exo" if view == "ego" else "ego"

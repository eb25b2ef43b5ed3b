"""Retrieval between embeddings that are at hand, as matrices on disk: no model is needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, from_numpy

from egoinstructor import fields
from egoinstructor.errors import InputError
from egoinstructor.evaluation.relevancy import Answers, Matrix
from egoinstructor.evaluation.report import RetrievalReport
from egoinstructor.evaluation.retrieval import evaluate_retrieval


def evaluate_matrices(
    report: RetrievalReport,
    queries: Tensor,
    gallery: Tensor,
    labels: tuple[Sequence[str | int], Sequence[str | int]] | None = None,
    relevancy: Matrix | None = None,
) -> None:
    """Let two matrices of embeddings find each other, and add both directions to the report.

    Args:
        report: to add to.
        queries: `(N, D)`.
        gallery: `(M, D)`.
        labels: of the queries' and of the gallery's rows, where equal ones belong together; None if row i belongs to row i,
            or with `relevancy` what it has 1 for.
        relevancy: of each item to each query `(N, M)`, for nDCG; None for 1 where they belong together, else 0.

    Raises:
        InputError: numbers of rows or labels that don't fit, a relevancy of another shape.
    """
    if relevancy is not None and relevancy.shape != (len(queries), len(gallery)):
        raise InputError(
            f"a relevancy of shape {relevancy.shape} for {len(queries)} queries and {len(gallery)} items; it must have a "
            "row for each query and a column for each item."
        )
    answers: Answers | Matrix = (
        relevancy if labels is None and relevancy is not None else _same_label(queries, gallery, labels)
    )
    report.counts |= {"queries": len(queries), "gallery": len(gallery)}
    there, back = (relevancy, relevancy.turned()) if relevancy is not None else (None, None)
    report.scores["queries → gallery"] = evaluate_retrieval(queries, gallery, answers, there)
    report.scores["gallery → queries"] = evaluate_retrieval(gallery, queries, answers.turned(), back)


def _same_label(
    queries: Tensor, gallery: Tensor, labels: tuple[Sequence[str | int], Sequence[str | int]] | None
) -> Answers:
    if labels is None:
        if len(queries) != len(gallery):
            raise InputError(
                f"{len(queries)} queries and {len(gallery)} items without labels: then row i belongs to row i, and there "
                "must be as many of both. Give labels, or a relevancy."
            )
        labels = (range(len(queries)), range(len(gallery)))
    for name, matrix, given in zip(("queries", "gallery"), (queries, gallery), labels, strict=True):
        if len(matrix) != len(given):
            raise InputError(f"{len(given)} labels for {len(matrix)} rows of the {name}; give one for each.")
    return Answers.same_label(*labels)


def read_embeddings(path: str | os.PathLike[str]) -> Tensor:
    """A matrix of embeddings `(N, D)` from `.npy`, or from `.safetensors` with one tensor; nothing in it is executed.

    Raises:
        InputError: it can't be read, or is no matrix of floats.
    """
    found = _read_matrix(Path(path))
    if not found.is_floating_point():
        raise InputError(f"{path} holds {_described(found)}; embeddings must be floats.")
    return found.float()


def read_relevancy(path: str | os.PathLike[str]) -> Matrix:
    """Relevancies of items to queries `(N, M)`, read as `read_embeddings` reads; whole numbers do too.

    Raises:
        InputError: it can't be read, is no matrix, or has values outside 0 to 1.
    """
    found = _read_matrix(Path(path))
    if found.is_complex():
        raise InputError(f"{path} holds {_described(found)}; relevancies must be numbers from 0 to 1.")
    try:
        return Matrix(found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_matrix(path: Path) -> Tensor:
    plain = path.suffix.lower() == ".npy"
    try:
        found = [from_numpy(np.load(path, allow_pickle=False))] if plain else list(load_file(path).values())
    except (OSError, ValueError, EOFError, TypeError, SafetensorError) as error:
        raise InputError(f"{path} can't be read: {error}. Give a .npy or a .safetensors with one matrix.") from error
    if len(found) != 1 or found[0].ndim != 2:
        shapes = ", ".join(map(_described, found))
        raise InputError(f"{path} holds {shapes or 'nothing'}; it must be one matrix (rows, columns).")
    return found[0]


def _described(tensor: Tensor) -> str:
    return f"{tensor.dtype} {tuple(tensor.shape)}"


def read_labels(path: str | os.PathLike[str]) -> list[str | int]:
    """A JSON list of texts or whole numbers, one for each row.

    Raises:
        InputError: it can't be read, or holds something else.
    """
    labels = fields.as_list(fields.parse_json(fields.read_text(Path(path)), str(path)), str(path))
    for place, label in enumerate(labels):
        right = isinstance(label, str | int) and not isinstance(label, bool)
        fields.check(right, label, f"{path}: {place}", "text or a whole number")
    return labels

"""Captions in a file against references in a file: every metric, by each text treatment, with intervals."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from egoinstructor.data.actions import MODEL
from egoinstructor.errors import MissingExtraError
from egoinstructor.evaluation.captions.files import read_predictions, read_references
from egoinstructor.evaluation.captions.report import CaptionReport
from egoinstructor.evaluation.metrics.actions import score_narrations
from egoinstructor.evaluation.metrics.captions import DEFAULT_METRICS, check_pairs, score_captions
from egoinstructor.evaluation.metrics.java import JavaError
from egoinstructor.evaluation.metrics.meteor import Meteor
from egoinstructor.evaluation.metrics.text_treatment import TREATMENTS, Treatment


def score_files(
    predictions: str | os.PathLike[str],
    references: str | os.PathLike[str],
    **options: Any,
) -> CaptionReport:
    """Score the captions of a file; the forms are those of `caption_files`.

    Args:
        predictions: a file with a caption for each sample.
        references: a file with one or more texts for each.
        **options: as `score_set` takes them.

    Raises:
        InputError: as `read_predictions`, `read_references` and `score_captions`.
    """
    captions, named = read_predictions(predictions)
    truths, videos = read_references(references)
    settings = {"predictions": os.fspath(predictions), "references": os.fspath(references)}
    return score_set(captions, truths, named | videos, settings=settings, **options)


def score_set(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    videos: Mapping[str, str] | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    metrics: Sequence[str] = DEFAULT_METRICS,
    treatments: Sequence[Treatment] = TREATMENTS,
    clean: bool = False,
    narration: bool = True,
    pipeline: str = MODEL,
    encoder: str | os.PathLike[str] | None = None,
) -> CaptionReport:
    """Score captions by each treatment, and as narrations.

    Args:
        predictions: a caption for each sample.
        references: one or more texts for each.
        videos: of samples the video; intervals are drawn by video.
        settings: noted in the report, beside the ones given here.
        metrics: as `score_captions`.
        treatments: of the texts, one after another.
        clean: as `score_captions`.
        narration: verbs, nouns and meaning too.
        pipeline: as `score_narrations`.
        encoder: as `score_narrations`.

    Raises:
        InputError: as `score_captions`.
        CheckpointError: the encoder can't be opened.
    """
    ids = check_pairs(predictions, references)
    known = {i: videos[i] for i in ids if i in videos} if videos else {}
    noted = {**(settings or {}), "metrics": list(metrics), "treatments": list(treatments), "clean_narration": clean}
    if narration:
        noted |= {"spacy": pipeline, "encoder": os.fspath(encoder) if encoder is not None else None}
    report = CaptionReport(noted, predictions, references, known)
    with ExitStack() as stack:
        meteor = None
        if "METEOR" in metrics and len(treatments) > 1:
            try:
                meteor = stack.enter_context(Meteor())
            except (MissingExtraError, JavaError):
                meteor = None  # score_captions meets it again, and reports it
        for treatment in treatments:
            report.add(score_captions(predictions, references, metrics, treatment, clean=clean, meteor=meteor))
    if narration:
        report.add(score_narrations(predictions, references, pipeline=pipeline, encoder=encoder))
    return report

"""How close captions are to what people wrote: BLEU, METEOR, ROUGE-L, CIDEr, SPICE.

The counting is pycocoevalcap's (extra `metrics`); so are METEOR and SPICE, which are Java programs. A metric that can't be
computed is missing with the reason, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from egoinstructor.errors import InputError, MissingExtraError, require_extra
from egoinstructor.evaluation.metrics.base import BLEU, Array, Metric
from egoinstructor.evaluation.metrics.cider import cider
from egoinstructor.evaluation.metrics.java import JavaError
from egoinstructor.evaluation.metrics.meteor import Meteor
from egoinstructor.evaluation.metrics.spice import spice
from egoinstructor.evaluation.metrics.text_treatment import Treatment, treat

CIDERS = ("CIDEr", "CIDEr-D", "CIDEr-plain")
DEFAULT_METRICS = (*BLEU, "METEOR", "ROUGE-L", "CIDEr", "CIDEr-plain", "SPICE")
CAPTION_METRICS = (*BLEU, "METEOR", "ROUGE-L", *CIDERS, "SPICE")

FEW = 100
"""References of fewer samples make document frequencies, and with them CIDEr, that hang on a few texts."""

NAMED = 10
"""Ids that a message names."""


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """The metrics of a set of captions.

    Args:
        treatment: what was done to the texts first: "nlgeval" or "coco"; "narration" for the metrics of words and meaning.
        cleaned: Ego4D's codes were taken out before that.
        ids: the samples, in order.
        metrics: by name.
        missing: of each metric that could not be computed, why, and what to do.
        documents: samples whose references gave CIDEr its document frequencies; None without CIDEr.
        warnings: what to know before comparing the figures.
    """

    treatment: str
    cleaned: bool
    ids: tuple[str, ...]
    metrics: dict[str, Metric]
    missing: dict[str, str] = field(default_factory=dict)
    documents: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def corpus(self) -> dict[str, float]:
        """Of each metric the score of the set, ×1."""
        return {name: metric.value for name, metric in self.metrics.items()}

    @property
    def samples(self) -> dict[str, Array]:
        """Of each metric the scores of the samples `(N,)`, in the order of `ids`."""
        return {name: metric.samples for name, metric in self.metrics.items()}


def score_captions(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    metrics: Sequence[str] = DEFAULT_METRICS,
    treatment: Treatment = "nlgeval",
    *,
    clean: bool = False,
    meteor: Meteor | None = None,
) -> CaptionScores:
    """Score captions against what people wrote.

    Args:
        predictions: a caption for each sample.
        references: one or more texts for each sample.
        metrics: some of `CAPTION_METRICS`.
        treatment: of the texts.
        clean: take Ego4D's codes out of both first.
        meteor: a METEOR that runs already and is left running; its start takes seconds.

    Raises:
        InputError: no samples, ids that only one side has (they are named), a sample without a reference, references without
            a word, or no such metric or treatment.
    """
    ids = check_pairs(predictions, references)
    check_metrics(metrics)
    names = list(dict.fromkeys(metrics))
    try:
        require_extra("pycocoevalcap", "metrics", "Scoring captions")
        treated = treat([t for i in ids for t in (predictions[i], *references[i])], treatment, clean=clean)
    except (MissingExtraError, JavaError) as error:
        return CaptionScores(treatment, clean, ids, {}, dict.fromkeys(names, str(error)))
    captions = [treated[predictions[i]] for i in ids]
    truths = [[treated[text] for text in references[i]] for i in ids]
    if not any(text for texts in truths for text in texts):
        raise InputError(f"the references of all {len(ids)} samples are without a word; check the file and its fields.")
    found: dict[str, Metric] = {}
    missing: dict[str, str] = {}
    with ExitStack() as stack:

        def by_meteor() -> list[Metric]:
            return [(meteor or stack.enter_context(Meteor())).score(captions, truths)]

        families: list[tuple[Sequence[str], Callable[[Sequence[str]], list[Metric]]]] = [
            (BLEU, lambda some: _bleu(captions, truths, some)),
            (["METEOR"], lambda _: by_meteor()),
            (["ROUGE-L"], lambda _: [_rouge(captions, truths)]),
            (CIDERS, lambda some: cider(captions, truths, some)),
            (["SPICE"], lambda _: [spice(captions, truths)]),
        ]
        for family, compute in families:
            if wanted := [name for name in names if name in family]:
                try:
                    found |= {metric.name: metric for metric in compute(wanted)}
                except (MissingExtraError, JavaError) as error:
                    missing |= dict.fromkeys(wanted, str(error))
    ordered = {name: found[name] for name in names if name in found}
    documents = len(ids) if any(name in CIDERS for name in ordered) else None
    return CaptionScores(treatment, clean, ids, ordered, missing, documents, _warnings(documents))


def check_metrics(names: Sequence[str]) -> None:
    """Refuse a metric that isn't there.

    Raises:
        InputError: naming it, and those that there are.
    """
    if unknown := [name for name in names if name not in CAPTION_METRICS]:
        raise InputError(f"no metric {unknown[0]!r}; there are {', '.join(CAPTION_METRICS)}.")


def check_pairs(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The ids that both sides have, in the order of the references.

    Raises:
        InputError: one side has an id that the other has not, a sample has no reference, or there are no samples.
    """
    if absent := [i for i in references if i not in predictions]:
        raise InputError(
            f"{_some(absent)} no prediction. Every reference needs one: an empty text counts as a caption."
        )
    if absent := [i for i in predictions if i not in references]:
        raise InputError(f"{_some(absent)} no reference. Leave those predictions out, or give their references.")
    if bare := [i for i, texts in references.items() if isinstance(texts, str) or not texts]:
        raise InputError(f"{_some(bare)} no list of references; each sample needs one text or more, in a list.")
    if not references:
        raise InputError("there are no samples to score; give predictions and references.")
    return tuple(references)


def _some(ids: Sequence[str]) -> str:
    """As the head of a message: '3 of the samples ("a", "b", "c") have'."""
    named = ", ".join(map(repr, ids[:NAMED])) + (", …" if len(ids) > NAMED else "")
    return f"sample {named} has" if len(ids) == 1 else f"{len(ids)} samples ({named}) have"


def _warnings(documents: int | None) -> tuple[str, ...]:
    if documents is None or documents >= FEW:
        return ()
    return (
        f"CIDEr's document frequencies come from the references of {documents} samples. Under {FEW} it hangs on a few "
        "texts: don't compare it with figures of another set.",
    )


def _bleu(captions: Sequence[str], truths: Sequence[Sequence[str]], names: Sequence[str]) -> list[Metric]:
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=4)
    for caption, texts in zip(captions, truths, strict=True):
        scorer += (caption, texts)
    scores = scorer.compute_score(option="closest", verbose=0)[1]
    parts = np.array([_bleu_parts(counts) for counts in scorer.ctest], dtype=np.float64)  # (N, 10)
    return [Metric(name, np.array(scores[BLEU.index(name)]), parts) for name in names]


def _bleu_parts(counts: Mapping[str, Any]) -> list[float]:
    length = counts["testlen"]
    closest = min((abs(reference - length), reference) for reference in counts["reflen"])[1]
    return [*counts["correct"], *counts["guess"], length, closest]


def _rouge(captions: Sequence[str], truths: Sequence[Sequence[str]]) -> Metric:
    from pycocoevalcap.rouge.rouge import Rouge

    rouge = Rouge()
    pairs = zip(captions, truths, strict=True)
    return Metric.mean("ROUGE-L", np.array([float(rouge.calc_score([caption], texts)) for caption, texts in pairs]))

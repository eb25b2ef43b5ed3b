"""Whether a caption has the narration's verb and nouns, and means the same.

Words are compared in dictionary form, as spaCy reads them (extra `mining`); meaning is the cosine of two sentence
embeddings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from egoinstructor.data.actions import MODEL, Tagger
from egoinstructor.data.vocabulary import sentence_encoder
from egoinstructor.errors import InputError, MissingExtraError
from egoinstructor.evaluation.metrics.base import NOUNS, Array, Metric, combine_of
from egoinstructor.evaluation.metrics.captions import CaptionScores, check_pairs

if TYPE_CHECKING:
    from spacy.tokens import Doc

VERB = "verb accuracy"
EMBEDDING = "embedding cosine"
NARRATION_METRICS = (VERB, *NOUNS, EMBEDDING)
TREATMENT = "narration"

VerbAndNouns = tuple[str | None, frozenset[str]]
"""A text's main verb, if it has one, and its nouns."""


def score_narrations(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    pipeline: str = MODEL,
    encoder: str | os.PathLike[str] | None = None,
) -> CaptionScores:
    """Verb accuracy, noun precision, recall and F1, and the cosine of sentence embeddings.

    Of several references the one that fits best counts, for each metric. A sample whose references have no verb has no verb
    accuracy. Ego4D's codes ("#C C") are never words here.

    Args:
        predictions: a caption for each sample.
        references: one or more texts for each.
        pipeline: spaCy's, name or folder.
        encoder: a sentence encoder, folder or Hub id; without it there is no embedding score.

    Raises:
        InputError: as `score_captions`.
        CheckpointError: the encoder can't be opened.
    """
    ids = check_pairs(predictions, references)
    captions = [predictions[i] for i in ids]
    truths = [list(references[i]) for i in ids]
    texts = list(
        dict.fromkeys(text for caption, some in zip(captions, truths, strict=True) for text in (caption, *some))
    )
    found: list[Metric] = []
    missing: dict[str, str] = {}
    try:
        read = dict(zip(texts, map(words_of, Tagger(pipeline).parses(texts)), strict=True))
    except (MissingExtraError, InputError) as error:
        missing |= dict.fromkeys((VERB, *NOUNS), str(error))
    else:
        pairs = [(read[caption], [read[text] for text in some]) for caption, some in zip(captions, truths, strict=True)]
        found += [_verbs(pairs), *_nouns(pairs)]
    if encoder is None:
        missing[EMBEDDING] = "no sentence encoder was given (--encoder DIR)"
    else:
        vectors = dict(zip(texts, sentence_encoder(os.fspath(encoder))(texts).double().numpy(), strict=True))
        scores = [max(float(vectors[a] @ vectors[b]) for b in some) for a, some in zip(captions, truths, strict=True)]
        found.append(Metric.mean(EMBEDDING, np.array(scores)))
    missing |= {metric.name: "no sample has a word for it" for metric in found if np.isnan(metric.value)}
    metrics = {metric.name: metric for metric in found if metric.name not in missing}
    return CaptionScores(TREATMENT, False, ids, metrics, missing)


def words_of(doc: Doc) -> VerbAndNouns:
    """The main verb of a parsed text, with its particle ("pick up"), and its nouns, in dictionary form."""
    verbs = [word for word in doc if word.pos_ == "VERB"]
    main = next((word for word in verbs if word.dep_ == "ROOT"), verbs[0] if verbs else None)
    nouns = frozenset(word.lemma_.lower() for word in doc if word.pos_ in ("NOUN", "PROPN"))
    if main is None:
        return None, nouns
    particles = [child.lemma_ for child in main.children if child.dep_ == "prt"]
    return " ".join([main.lemma_, *particles]).lower(), nouns


def _verbs(pairs: Sequence[tuple[VerbAndNouns, Sequence[VerbAndNouns]]]) -> Metric:
    def score(verb: str | None, truths: Sequence[VerbAndNouns]) -> float:
        right = {other for other, _ in truths} - {None}
        return float(verb in right) if right else np.nan

    return Metric.mean(VERB, np.array([score(verb, truths) for (verb, _), truths in pairs]))


def _nouns(pairs: Sequence[tuple[VerbAndNouns, Sequence[VerbAndNouns]]]) -> list[Metric]:
    def counts(nouns: frozenset[str], truth: frozenset[str]) -> tuple[int, int, int]:
        return len(nouns & truth), len(nouns), len(truth)

    def fit(row: tuple[int, int, int]) -> float:
        found, predicted, true = row
        return found / (predicted + true) if predicted + true else 1.0

    rows = [max((counts(nouns, truth) for _, truth in truths), key=fit) for (_, nouns), truths in pairs]
    parts: Array = np.array(rows, dtype=np.float64)  # (N, 3)
    return [Metric(name, combine_of(name)(parts), parts) for name in NOUNS]

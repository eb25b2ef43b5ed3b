"""Choose the likeliest caption of a clip when it is unknown which references help.

RAG-Sequence in its fast decoding (Lewis et al. 2020, §2): a caption is written under each reading of the references (all of
them together, each alone, none), and has the sum of the probabilities that the readings which wrote it give it, each
weighted by how probable that reading is. The original has one reading, all together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

TOGETHER, ALONE, NONE = 0.1, 0.4, 0.5
"""How probable it is that all references are what to read, one of them, or none; chosen on SimKitchen's validation split."""
TEMPERATURE = 0.05
"""Of the references' scores, where one of them is what to read; chosen likewise."""


class ReferenceSubset(NamedTuple):
    """Some of a clip's references, and how probable it is that they are what to read.

    Args:
        weight: those of a clip's readings add up to 1.
        places: the references', in the clip's list.
    """

    weight: float
    places: tuple[int, ...]


def all_references(references: int) -> list[ReferenceSubset]:
    """All of so many references together, and nothing else."""
    return [ReferenceSubset(1.0, tuple(range(references)))]


def reference_subsets(scores: Sequence[float | None]) -> list[ReferenceSubset]:
    """All references together, each alone, and none; of one reference, that one and none.

    Args:
        scores: the references' similarities to the clip; where one is missing, all are taken for equally good.
    """
    if not scores:
        return all_references(0)
    if len(scores) == 1:
        return [ReferenceSubset(TOGETHER + ALONE, (0,)), ReferenceSubset(NONE, ())]
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        known = [0.0] * len(scores)
    alike = [math.exp((score - max(known)) / TEMPERATURE) for score in known]
    alone = [ReferenceSubset(ALONE * share / sum(alike), (place,)) for place, share in enumerate(alike)]
    return [ReferenceSubset(TOGETHER, tuple(range(len(scores)))), *alone, ReferenceSubset(NONE, ())]


def likeliest_of(ways: Sequence[ReferenceSubset], written: Sequence[tuple[str, float]]) -> int:
    """Which reading has written the likeliest caption; of several that wrote it, the one that adds most to its probability.

    Args:
        ways: the readings.
        written: the caption of each, and the natural logarithm of its probability under that reading.
    """
    added = [
        known + (math.log(way.weight) if way.weight else -math.inf)
        for way, (_, known) in zip(ways, written, strict=True)
    ]
    sums: dict[str, float] = defaultdict(float)
    for (text, _), value in zip(written, added, strict=True):
        sums[text] += math.exp(value - max(added))
    return max(range(len(ways)), key=lambda place: (sums[written[place][0]], added[place]))

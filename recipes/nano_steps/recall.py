"""Does what lies nearest show the same action, or the same thing? Recall and chance of each query.

N queries, M how-to clips, K numbers of places.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egoinstructor.evaluation import chance, ranking
from nano_steps.clips import KitchenClip

Alike = Callable[[KitchenClip, KitchenClip], bool]


@dataclass(frozen=True, slots=True)
class Measure:
    """What is an answer to a query, and which clips are searched for one."""

    answers: Alike
    searched: Alike = lambda query, clip: True


ACTION = Measure(lambda query, clip: (query.verb, query.noun) == (clip.verb, clip.noun))
NOUN = Measure(lambda query, clip: query.noun == clip.noun)
NOUN_BY_VERB = Measure(NOUN.answers, lambda query, clip: query.verb == clip.verb)
"""Among clips of the query's verb, so that the verb gives nothing away."""


def recalls(
    queries: Sequence[KitchenClip],
    gallery: Sequence[KitchenClip],
    similarity: Tensor,
    measure: Measure,
    top: Sequence[int] = (1,),
    *,
    own_event: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """R@k of each query, and what a random order would have; of equally near clips the wrong ones count first.

    Args:
        queries: N clips.
        gallery: M how-to clips.
        similarity: `(N, M)`.
        measure: what is asked.
        top: the K places.
        own_event: whether the how-to clip of the query's own event is searched too.

    Returns:
        Recalls `(N, K)` and chances `(N, K)`; NaN of queries that nothing answers.
    """
    found, expected = (np.full((len(queries), len(top)), np.nan) for _ in range(2))
    for row, query in enumerate(queries):
        some = [
            i
            for i, clip in enumerate(gallery)
            if (own_event or clip.event != query.event) and measure.searched(query, clip)
        ]
        fits = torch.tensor([measure.answers(query, gallery[i]) for i in some], dtype=torch.bool)
        if not fits.any():
            continue
        rank = ranking.first_ranks(similarity[row, some][None], fits[None])
        for place, k in enumerate(top):
            found[row, place] = ranking.recall_at(rank, k)
            expected[row, place] = chance.expected_recall_at(fits.sum()[None], len(some), k)
    return found, expected

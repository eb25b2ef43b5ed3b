"""May the captioner be trained? Only over a retriever that finds things it has never seen, not only their verbs.

Each validation clip of a held-out category asks among the how-to clips of its own verb, so that the verb gives nothing
away, for one of its noun. Chance is the share of right ones among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from egoinstructor.errors import InputError
from egoinstructor.evaluation.statistics import bootstrap
from nano_steps.clips import KitchenClip
from nano_steps.recall import NOUN_BY_VERB, recalls

BUCKET = "novel words"


@dataclass(frozen=True, slots=True)
class Found:
    """What was found of a gallery.

    Args:
        queries: how many.
        r1: share of queries whose nearest how-to clip of the same verb has their noun.
        chance: what it would be for a retriever that knows the verb alone.
        low: lower end of the 95 % interval of `r1` less `chance`, resampling kitchens.
        high: its upper end.
    """

    queries: int
    r1: float
    chance: float
    low: float
    high: float

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.r1:.3f}, chance {self.chance:.3f}, difference {self.r1 - self.chance:+.3f} "
            f"[{self.low:+.3f}, {self.high:+.3f}], {self.queries} queries"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate found.

    Args:
        all_clips: in all how-to clips of the split: what decides.
        other_events: in those of other events than the query's own; None if too few queries have an answer there.
    """

    all_clips: Found
    other_events: Found | None

    @property
    def passed(self) -> bool:
        """Whether the retriever does better than chance."""
        return self.all_clips.low > 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        others = None if self.other_events is None else asdict(self.other_events)
        return {**asdict(self.all_clips), "other_events": others, "passed": self.passed}

    def __str__(self) -> str:
        """One line."""
        others = "" if self.other_events is None else f"; without the own event's clip {self.other_events}"
        return f"same-verb noun R@1 on {BUCKET!r}: {self.all_clips}{others}"


def same_verb_gate(
    ego: Sequence[KitchenClip], ego_rows: Tensor, exo: Sequence[KitchenClip], exo_rows: Tensor, *, seed: int = 0
) -> Verdict:
    """Ask.

    Args:
        ego: clips of validation's egocentric side.
        ego_rows: their embeddings `(N, D)`.
        exo: the how-to clips.
        exo_rows: their embeddings `(M, D)`.
        seed: of the resampling.

    Raises:
        InputError: too few queries have an answer and something else to choose from.
    """
    places = [i for i, clip in enumerate(ego) if clip.bucket == BUCKET]
    queries, similarity = [ego[i] for i in places], ego_rows[places] @ exo_rows.T
    found = _found(queries, exo, similarity, own_event=True, seed=seed)
    if found is None:
        raise InputError(
            f"too few clips of {BUCKET!r}, or of one kitchen alone, have an answer to look for and something else to choose "
            "from; render more events of validation."
        )
    return Verdict(found, _found(queries, exo, similarity, own_event=False, seed=seed))


def _found(
    queries: Sequence[KitchenClip], exo: Sequence[KitchenClip], similarity: Tensor, *, own_event: bool, seed: int
) -> Found | None:
    hits, chances = (of[:, 0] for of in recalls(queries, exo, similarity, NOUN_BY_VERB, own_event=own_event))
    asked = np.flatnonzero(chances < 1).tolist()  # there is an answer, and something else
    kitchens = [queries[i].kitchen for i in asked]
    if len(set(kitchens)) < 2:
        return None
    gain = bootstrap(hits[asked] - chances[asked], kitchens, seed=seed)
    return Found(len(asked), float(hits[asked].mean()), float(chances[asked].mean()), gain.low, gain.high)

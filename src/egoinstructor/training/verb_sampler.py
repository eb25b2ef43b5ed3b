"""Batches in which some items show the same verb, so that the noun has to be told apart."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Sequence

from egoinstructor.training.dataset import EpochSampler


class VerbSampler(EpochSampler):
    """An `EpochSampler` whose batches hold a group of items with the same verb each, as far as there are enough.

    Items are grouped anew in each epoch. Those that are left over, of verbs with few items above all, fill the batches up.

    Args:
        verbs: of each item; None for one without.
        share: of a batch, from 0 to 1.
        seed: of the order.
        epochs: as of `EpochSampler`.
        multiple: batch size × processes: a batch is that of all processes.
    """

    def __init__(
        self, verbs: Sequence[Hashable | None], share: float, *, seed: int, epochs: float = 1.0, multiple: int = 1
    ) -> None:
        super().__init__(len(verbs), seed=seed, epochs=epochs, multiple=multiple)
        self.verbs = verbs
        self.group = round(share * multiple)

    def order(self) -> list[int]:
        """The items of the current epoch, in order."""
        order = super().order()
        if self.group < 2:
            return order
        by_verb: dict[Hashable, list[int]] = defaultdict(list)
        for item in order:
            if (verb := self.verbs[item]) is not None:
                by_verb[verb].append(item)
        groups = [
            items[end - self.group : end]
            for items in by_verb.values()
            for end in range(self.group, len(items) + 1, self.group)
        ]
        random.Random(f"{self.seed}/{self.epoch}/verbs").shuffle(groups)
        groups = groups[: self.size // self.multiple]  # one for each full batch
        grouped = {item for group in groups for item in group}
        rest = (item for item in order if item not in grouped)
        mixed: list[int] = []
        for group in groups:
            mixed += group
            mixed += [next(rest) for _ in range(self.multiple - self.group)]
        return [*mixed, *rest]

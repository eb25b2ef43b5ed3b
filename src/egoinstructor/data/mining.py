"""Which exo clips show what an ego clip shows: those that share one of its actions, found through an inverted index.

The arithmetic alone; `mining_run` reads and writes files. An action here is a verb's id with a noun's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Actions = tuple[tuple[int, int], ...]
"""The actions of a clip: sorted, none twice."""

TOP_K = 32
"""Exo clips kept for an ego clip, unless asked otherwise."""


def match(ego: Sequence[Actions], exo: Sequence[Actions], top_k: int = TOP_K) -> list[tuple[int, ...]]:
    """For each ego clip the exo clips that share an action with it, most similar first, at most `top_k`.

    Similarity is what the loss weighs by: the cosine of the two clips' noun vectors times that of their verb vectors,
    over all their actions; equals stand in the order of the file. Where equals are cut by `top_k`, the next ego clip of
    the same actions goes on where this one stopped, so that no exo clip is left out for standing late in its file.

    Args:
        ego: actions of each ego clip.
        exo: actions of each exo clip.
        top_k: from 1.
    """
    index = _Index(exo)
    alike: dict[Actions, list[int]] = defaultdict(list)
    for clip, actions in enumerate(ego):
        alike[actions].append(clip)
    found: list[tuple[int, ...]] = [()] * len(ego)
    for actions, clips in alike.items():
        kept: list[int] = []
        for equals in index.search(actions):
            room = top_k - len(kept)
            if len(equals) >= room:
                for turn, clip in enumerate(clips):
                    picked = np.sort(equals[(turn * room + np.arange(room)) % len(equals)])
                    found[clip] = (*kept, *picked.tolist())
                break
            kept += equals.tolist()
        else:
            for clip in clips:
                found[clip] = tuple(kept)
    return found


class _Index:
    """Exo clips by their actions. Clips of the same actions are one entry, for many are of the most common ones."""

    def __init__(self, exo: Sequence[Actions]) -> None:
        alike: dict[Actions, list[int]] = defaultdict(list)
        for clip, actions in enumerate(exo):
            alike[actions].append(clip)
        self._clips = [np.array(clips, dtype=np.int64) for clips in alike.values()]
        self._actions = _holders(list(alike))
        words = [[{action[kind] for action in actions} for actions in alike] for kind in (0, 1)]
        self._words = [_holders(of_kind) for of_kind in words]
        self._sizes = [np.array([len(some) for some in of_kind], dtype=np.int64) for of_kind in words]

    def search(self, actions: Actions) -> Iterator[Indices]:
        """The clips that share an action, most similar first: at a time all that are equally similar, rising."""
        lists = [self._actions[action] for action in actions if action in self._actions]
        if not lists:
            return
        entries = np.unique(np.concatenate(lists))
        similarity = np.ones(len(entries))
        for kind, (holders, sizes) in enumerate(zip(self._words, self._sizes, strict=True)):
            wanted = {action[kind] for action in actions}
            shared = sum(_member(entries, holders[word]) for word in wanted if word in holders)
            similarity *= shared / np.sqrt(len(wanted) * sizes[entries])
        order, levels = np.unique(-similarity.round(12), return_inverse=True)  # equal by arithmetic is equal
        by_level = np.argsort(levels, kind="stable")
        for equals in np.split(entries[by_level], np.cumsum(np.bincount(levels, minlength=len(order)))[:-1]):
            yield np.sort(np.concatenate([self._clips[entry] for entry in equals]))


def _holders(items: Sequence[Iterable[Hashable]]) -> Mapping[Hashable, Indices]:
    """For each key the items that have it, rising."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for index, keys in enumerate(items):
        for key in keys:
            found[key].append(index)
    return {key: np.array(holders, dtype=np.int64) for key, holders in found.items()}


def _member(entries: Indices, holders: Indices) -> NDArray[np.int64]:
    """1 for each entry that is among the holders, else 0; both rise."""
    places = np.searchsorted(holders, entries).clip(max=len(holders) - 1)
    return (holders[places] == entries).astype(np.int64)

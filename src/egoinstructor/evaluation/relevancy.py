"""Which items of a gallery answer which queries, and how well: a matrix that is never held whole.

N queries, M items of the gallery.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from egoinstructor.errors import InputError


class Relevancy(Protocol):
    """Relevancy of each item to each query, between 0 and 1; 1 is an answer."""

    @property
    def shape(self) -> tuple[int, int]:
        """N and M."""

    def rows(self, first: int, last: int) -> Tensor:
        """The rows of queries `first` up to `last`, fp32 `(last − first, M)`."""


class Matrix:
    """A matrix that is at hand.

    Args:
        values: `(N, M)`.

    Raises:
        InputError: values outside 0 to 1, or no matrix.
    """

    def __init__(self, values: Tensor) -> None:
        if values.ndim != 2 or not bool(((values >= 0) & (values <= 1)).all()):
            raise InputError(
                f"a relevancy matrix of shape {tuple(values.shape)}: it must be (queries, items) with values from 0 to 1."
            )
        self._values = values
        self.shape = (values.shape[0], values.shape[1])

    def rows(self, first: int, last: int) -> Tensor:
        """As `Relevancy.rows`."""
        return self._values[first:last].float()

    def turned(self) -> Matrix:
        """The same with queries and items exchanged."""
        return Matrix(self._values.T)


class Answers:
    """Each query has a list of answers.

    Args:
        answers: for each query the items that answer it; may be none, and may be the same for several.
        num_items: M.

    Raises:
        InputError: an item that does not exist.
    """

    def __init__(self, answers: Sequence[Iterable[int]], num_items: int) -> None:
        self._answers = [torch.tensor(sorted(set(found)), dtype=torch.long) for found in answers]
        self.shape = (len(self._answers), num_items)
        for query, found in enumerate(self._answers):
            if len(found) and not 0 <= int(found[0]) <= int(found[-1]) < num_items:
                raise InputError(
                    f"query {query} is answered by {found.tolist()}, but there are {num_items} items from 0."
                )

    @classmethod
    def same_label(cls, queries: Sequence[Hashable], items: Sequence[Hashable]) -> Answers:
        """An item answers a query if they bear the same label."""
        holders: dict[Hashable, list[int]] = defaultdict(list)
        for index, label in enumerate(items):
            holders[label].append(index)
        return cls([holders.get(label, []) for label in queries], len(items))

    def of(self, query: int) -> list[int]:
        """The items that answer a query, rising."""
        return self._answers[query].tolist()

    def turned(self) -> Answers:
        """The same with queries and items exchanged."""
        back: list[list[int]] = [[] for _ in range(self.shape[1])]
        for query, found in enumerate(self._answers):
            for item in found.tolist():
                back[item].append(query)
        return Answers(back, self.shape[0])

    def rows(self, first: int, last: int) -> Tensor:
        """As `Relevancy.rows`."""
        rows = torch.zeros(last - first, self.shape[1])
        for row, found in zip(rows, self._answers[first:last], strict=True):
            row[found] = 1.0
        return rows


class SharedWords:
    """EPIC-KITCHENS-100's multi-instance retrieval: half for the verbs that two items share, half for the nouns.

    relevancy = ½ |verbs ∩ verbs'| / |verbs ∪ verbs'| + ½ |nouns ∩ nouns'| / |nouns ∪ nouns'|, where 0 / 0 is 0.

    Args:
        queries: verbs and nouns of each query, as ids.
        items: of each item.
    """

    def __init__(
        self,
        queries: Sequence[tuple[Sequence[int], Sequence[int]]],
        items: Sequence[tuple[Sequence[int], Sequence[int]]],
    ) -> None:
        self.shape = (len(queries), len(items))
        self._parts = [
            ([set(query[kind]) for query in queries], *_holders([set(item[kind]) for item in items])) for kind in (0, 1)
        ]

    def rows(self, first: int, last: int) -> Tensor:
        """As `Relevancy.rows`."""
        rows = torch.zeros(last - first, self.shape[1])
        for words, holders, sizes in self._parts:
            for row, wanted in zip(rows, words[first:last], strict=True):
                shared = torch.zeros(self.shape[1])
                for word in wanted & holders.keys():
                    shared[holders[word]] += 1
                row += shared / (len(wanted) + sizes - shared).clamp(min=1) / 2
        return rows


def _holders(items: list[set[int]]) -> tuple[dict[int, Tensor], Tensor]:
    """For each word the items that have it, and how many words each item has."""
    holders: dict[int, list[int]] = defaultdict(list)
    for index, words in enumerate(items):
        for word in words:
            holders[word].append(index)
    sizes = torch.tensor([float(len(words)) for words in items])
    return {word: torch.tensor(found) for word, found in holders.items()}, sizes

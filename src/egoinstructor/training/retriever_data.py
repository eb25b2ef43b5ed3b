"""Pairs of clips → batches of frame features and tokens, the same for a given (seed, epoch, index).

An item is a clip and the clip paired with it. A clip that can't be read is left out with its item; a pair that can't be
read leaves its clip to be its own pair. Both are counted and reported, and no clip gets another clip's text.

B rows of a batch (two an item), F frames, W width of a view's features, T text tokens, K ids of a clip.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from egoinstructor.errors import InputError
from egoinstructor.retriever.egoexonce import NO_ID
from egoinstructor.retriever.features import FeatureFolder
from egoinstructor.retriever.interface import View
from egoinstructor.retriever.pairs import PairRecord, draw_pair
from egoinstructor.training.dataset import Draw
from egoinstructor.training.metadata import clean_narration

REFUSED, CUT = "pairs_without_a_shared_action", "texts_cut"
COUNTED = (REFUSED, CUT)
"""What is counted of an item besides its clips."""


@dataclass(frozen=True, slots=True)
class Side:
    """One view's clips and where their features are.

    Args:
        view: which.
        records: its clips.
        features: of its videos.
        width: W.
    """

    view: View
    records: Sequence[PairRecord]
    features: FeatureFolder
    width: int


@dataclass(slots=True)
class Row:
    """One clip, read: where its record stands in its side, features `(F, W)`, its text and the token ids of that."""

    view: View
    index: int
    record: PairRecord
    features: Tensor
    text: str
    tokens: list[int]


@dataclass(slots=True)
class PairItem:
    """An item, read: its clip and its pair. Without rows there is nothing to learn in it.

    Args:
        id: the clip's, by view and index.
        number: of the item.
        rows: the clip, and its pair.
        tried: clips that were tried.
        failures: (video, reason) of those that could not be read.
        counts: of `COUNTED`.
    """

    id: str = ""
    number: int = -1
    rows: list[Row] = field(default_factory=list)
    tried: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))

    @property
    def skipped(self) -> bool:
        """Whether it was left out of its batch."""
        return bool(self.id) and not self.rows


class PairDataset(Dataset[PairItem]):
    """Reads items; `dataset[Draw(epoch, index)]` is the same whenever and wherever it is asked.

    Args:
        ego: the ego clips.
        exo: the exo clips.
        tokenizer: the model's.
        text_context: tokens of a text, at most.
        num_frames: F.
        seed: of everything drawn.
        jitter: draw frames at random within their part of a segment.
        clean: drop Ego4D's person codes from the ego narrations.
        exo_items: exo clips are items too, each its own pair.
        evaluated: only ego clips that have a valid pair, each with its first one, and nothing drawn.
    """

    def __init__(
        self,
        ego: Side,
        exo: Side,
        tokenizer: PreTrainedTokenizerBase,
        *,
        text_context: int,
        num_frames: int,
        seed: int = 0,
        jitter: bool = False,
        clean: bool = True,
        exo_items: bool = True,
        evaluated: bool = False,
    ) -> None:
        self.ego = ego
        self.exo = exo
        self.tokenizer = tokenizer
        self.text_context = text_context
        self.num_frames = num_frames
        self.seed = seed
        self.jitter = jitter and not evaluated
        self.clean = clean
        self.evaluated = evaluated
        self.items = list(range(len(ego.records) + (len(exo.records) if exo_items and not evaluated else 0)))
        if evaluated:
            self.items = [index for index in self.items if self.answers(index)]

    def __len__(self) -> int:
        """Items."""
        return len(self.items)

    def answers(self, index: int) -> list[int]:
        """The valid pairs of an ego clip, by the indices of both."""
        record = self.ego.records[index]
        return [pair for pair in record.paired if record.same_action(self.exo.records[pair])]

    def __getitem__(self, draw: Draw) -> PairItem:
        """Read the clip and its pair."""
        if draw.index is None:
            return PairItem()
        number = self.items[draw.index]
        is_ego = number < len(self.ego.records)
        side, index = (self.ego, number) if is_ego else (self.exo, number - len(self.ego.records))
        rng = random.Random(f"{self.seed}/{draw.epoch}/{number}")
        item = PairItem(f"{side.view} {index}", number)
        own = self._read(item, side, index, rng)
        if own is None:
            return item
        pair = self._pair(item, index, rng) if is_ego else None
        other = None if pair is None else self._read(item, self.exo, pair, rng)
        if other is None:  # its own pair, with other frames of its own in training
            other = self._read(item, side, index, rng) if self.jitter else own
        if other is not None:
            item.rows = [own, other]
        return item

    def _pair(self, item: PairItem, index: int, rng: random.Random) -> int | None:
        if self.evaluated:
            return self.answers(index)[0]
        pair, refused = draw_pair(self.ego.records[index], self.exo.records, rng)
        item.counts[REFUSED] += refused
        return pair

    def _read(self, item: PairItem, side: Side, index: int, rng: random.Random) -> Row | None:
        """One clip; None, and a failure on record, if it can't be read."""
        record = side.records[index]
        item.tried += 1
        try:
            features = side.features.clip(
                record.video, record.start, record.end, self.num_frames, side.view, rng if self.jitter else None
            )
            if features.shape[1] != side.width:
                raise InputError(
                    f"{side.features.path(record.video)}: features of width {features.shape[1]}; the model takes "
                    f"{side.width} of {side.view} clips."
                )
            text = clean_narration(record.text) if self.clean and side.view == "ego" else record.words
            if not text.strip():
                raise InputError(f"{side.view} clip {index}, text {record.text!r}: no words are left to learn.")
        except InputError as error:
            item.failures.append((record.video, str(error)))
            return None
        tokens: list[int] = self.tokenizer(text, verbose=False)["input_ids"]
        if len(tokens) > self.text_context:
            tokens = [*tokens[: self.text_context - 1], tokens[-1]]  # which is the end of the text
            item.counts[CUT] += 1
        return Row(side.view, index, record, features, text, tokens)


class PairCollator:
    """Items → one batch for `RetrieverTrainer`.

    Args:
        *datasets: whose items it will get.
    """

    def __init__(self, *datasets: PairDataset) -> None:
        sides = [side for dataset in datasets for side in (dataset.ego, dataset.exo)]
        self.widths = {side.view: side.width for side in sides}
        self.num_frames = datasets[0].num_frames
        self.pad_token_id: int = datasets[0].tokenizer.pad_token_id
        # As wide in every batch, since processes exchange them.
        records = [record for side in sides for record in side.records]
        self.most_nouns = max((len(record.nouns) for record in records), default=0)
        self.most_verbs = max((len(record.verbs) for record in records), default=0)

    def __call__(self, items: Sequence[PairItem]) -> dict[str, Any]:
        """Batch what can be learned, which may be nothing.

        Returns:
            What the model takes: `input_ids` `(B, T)`, `ego_features`, `exo_features` `(·, F, W)`, `is_ego` `(B,)`; and
            `numbers` of the items, `indices` of the clips, `texts`, a number for each text, all `(B,)`, `nouns`, `verbs`
            `(B, K)`; and `items`, the items without their rows' features.
        """
        rows = [row for item in items for row in item.rows]
        longest = max((len(row.tokens) for row in rows), default=1)
        batch: dict[str, Any] = {
            "input_ids": _filled([row.tokens for row in rows], longest, self.pad_token_id),
            "is_ego": torch.tensor([row.view == "ego" for row in rows], dtype=torch.bool),
            "numbers": torch.tensor([item.number for item in items for _ in item.rows], dtype=torch.long),
            "indices": torch.tensor([row.index for row in rows], dtype=torch.long),
            "texts": torch.tensor([_number(row.text) for row in rows], dtype=torch.long),
            "nouns": _filled([row.record.nouns for row in rows], self.most_nouns, NO_ID),
            "verbs": _filled([row.record.verbs for row in rows], self.most_verbs, NO_ID),
        }
        for view, width in self.widths.items():
            features = [row.features for row in rows if row.view == view]
            batch[f"{view}_features"] = torch.stack(features) if features else torch.zeros(0, self.num_frames, width)
        for row in rows:
            row.features = torch.empty(0)
        batch["items"] = list(items)
        return batch


def _filled(lists: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
    """Lists of numbers, each filled up at its end → `(rows, width)`."""
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in lists], dtype=torch.long).view(
        len(lists), width
    )


def _number(text: str) -> int:
    """The same for the same text, on every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)

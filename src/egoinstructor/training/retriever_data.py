"""Pairs of clips → batches of frame features, or frames, and tokens, the same for a given (seed, epoch, index).

An item is a clip and the clip paired with it. A clip that can't be read is left out with its item; a pair that can't be
read leaves its clip to be its own pair. Both are counted and reported, and no clip gets another clip's text.

What is read of a clip are its frames' features; or the frames themselves, where the backbone is trained too.

B rows of a batch (two an item), F frames, W width of a view's features, T text tokens, K ids of a clip.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from egoinstructor.data.metadata import clean_narration
from egoinstructor.data.pairs import PairRecord, draw_pair
from egoinstructor.errors import InputError
from egoinstructor.retriever.egoexonce import NO_ID
from egoinstructor.retriever.features import FeatureFolder
from egoinstructor.retriever.interface import View
from egoinstructor.training.augment import UNCHANGED, Augment, Look
from egoinstructor.training.dataset import Draw
from egoinstructor.training.frame_store import FrameStore

REFUSED, CUT = "pairs_without_a_shared_action", "texts_cut"
COUNTED = (REFUSED, CUT)
"""What is counted of an item besides its clips."""


@dataclass(frozen=True, slots=True)
class Side:
    """One view's clips and where their features are, or their frames.

    Args:
        view: which.
        records: its clips.
        features: of its videos; or the clips' frames.
        width: W, of the features.
    """

    view: View
    records: Sequence[PairRecord]
    features: FeatureFolder | FrameStore
    width: int


@dataclass(slots=True)
class PairRow:
    """One clip, read: where its record stands in its side, features `(F, W)`, its text and the token ids of that.

    Of one that is read as frames, `features` are bytes `(F, H, W, 3)`, `places` the frames' numbers, and `look` its change.
    """

    view: View
    index: int
    record: PairRecord
    features: Tensor
    text: str
    tokens: list[int]
    places: list[int]
    look: Look = UNCHANGED


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
    rows: list[PairRow] = field(default_factory=list)
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
        frames_per_clip: of frames, so many of the F, one of each of as many parts; None for all. Evaluated are all.
        augment: of frames, how they are changed; they are not where they are evaluated.
        seed: of everything drawn.
        jitter: draw frames at random within their part of a segment.
        clean: drop Ego4D's person codes from the ego narrations.
        exo_items: exo clips are items too, each its own pair.
        exo_pairs: as an item, an exo clip is paired with another one of the same nouns and verbs, where there is one.
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
        frames_per_clip: int | None = None,
        augment: Augment | None = None,
        seed: int = 0,
        jitter: bool = False,
        clean: bool = True,
        exo_items: bool = True,
        exo_pairs: bool = False,
        evaluated: bool = False,
    ) -> None:
        self.ego = ego
        self.exo = exo
        self.tokenizer = tokenizer
        self.text_context = text_context
        self.num_frames = num_frames
        self.shown = num_frames if evaluated or frames_per_clip is None else frames_per_clip
        self.augment = None if evaluated else augment
        self.seed = seed
        self.jitter = jitter and not evaluated
        self.clean = clean
        self.evaluated = evaluated
        self.items = list(range(len(ego.records) + (len(exo.records) if exo_items and not evaluated else 0)))
        self._by_action: dict[tuple[tuple[int, ...], tuple[int, ...]], list[int]] = defaultdict(list)
        for index, record in enumerate(exo.records if exo_pairs else ()):
            if record.nouns and record.verbs:  # without both, two clips have no action in common
                self._by_action[record.nouns, record.verbs].append(index)
        if evaluated:
            self.items = [index for index in self.items if self.answers(index)]

    def __len__(self) -> int:
        """Items."""
        return len(self.items)

    def answers(self, index: int) -> list[int]:
        """The valid pairs of an ego clip, by the indices of both."""
        record = self.ego.records[index]
        return [pair for pair in record.paired if record.same_action(self.exo.records[pair])]

    def verb(self, place: int) -> int | None:
        """What is done in an item: the first of its clip's verbs."""
        _, _, record = self._clip(self.items[place])
        return record.verbs[0] if record.verbs else None

    def __getitem__(self, draw: Draw) -> PairItem:
        """Read the clip and its pair."""
        if draw.index is None:
            return PairItem()
        number = self.items[draw.index]
        side, index, _ = self._clip(number)
        rng = random.Random(f"{self.seed}/{draw.epoch}/{number}")
        item = PairItem(f"{side.view} {index}", number)
        own = self._read(item, side, index, rng)
        if own is None:
            return item
        pair = self._pair(item, index, rng) if side is self.ego else self._alike(index, rng)
        other = None if pair is None else self._read(item, self.exo, pair, rng)
        if other is None:  # its own pair, with other frames of its own in training
            other = self._read(item, side, index, rng) if self.jitter or self.augment else own
        if other is not None:
            item.rows = [own, other]
        return item

    def _clip(self, number: int) -> tuple[Side, int, PairRecord]:
        """The clip of an item: ego clips come first."""
        egos = len(self.ego.records)
        side, index = (self.ego, number) if number < egos else (self.exo, number - egos)
        return side, index, side.records[index]

    def _pair(self, item: PairItem, index: int, rng: random.Random) -> int | None:
        if self.evaluated:
            return self.answers(index)[0]
        pair, refused = draw_pair(self.ego.records[index], self.exo.records, rng)
        item.counts[REFUSED] += refused
        return pair

    def _alike(self, index: int, rng: random.Random) -> int | None:
        record = self.exo.records[index]
        others = [other for other in self._by_action.get((record.nouns, record.verbs), ()) if other != index]
        return rng.choice(others) if others else None

    def _read(self, item: PairItem, side: Side, index: int, rng: random.Random) -> PairRow | None:
        """One clip; None, and a failure on record, if it can't be read."""
        record = side.records[index]
        item.tried += 1
        try:
            features, places = self._features(side, index, rng if self.jitter else None)
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
        look = self.augment.draw(rng) if self.augment else UNCHANGED
        return PairRow(side.view, index, record, features, text, tokens, places, look)

    def _features(self, side: Side, index: int, rng: random.Random | None) -> tuple[Tensor, list[int]]:
        """A clip's features, or frames; and their places among the F.

        Raises:
            InputError: it can't be read.
        """
        record, source = side.records[index], side.features
        if isinstance(source, FrameStore):
            places = some_places(self.num_frames, self.shown, rng)
            return source.frames(index, places), places
        features = source.clip(record.video, record.start, record.end, self.num_frames, side.view, rng)
        if features.shape[1] != side.width:
            raise InputError(
                f"{source.path(record.video)}: features of width {features.shape[1]}; the model takes {side.width} of "
                f"{side.view} clips."
            )
        return features, list(range(self.num_frames))


def some_places(num_frames: int, shown: int, rng: random.Random | None) -> list[int]:
    """One place of each of as many parts of a clip: a random one, or without `rng` the middle one.

    Args:
        num_frames: F.
        shown: parts, at most F.
        rng: what draws.
    """
    bounds = [num_frames * part // shown for part in range(shown + 1)]
    return [(low + high - 1) // 2 if rng is None else rng.randrange(low, high) for low, high in pairwise(bounds)]


class PairCollator:
    """Items → one batch for `RetrieverTrainer`.

    Args:
        *datasets: whose items it will get.
    """

    def __init__(self, *datasets: PairDataset) -> None:
        sides = [side for dataset in datasets for side in (dataset.ego, dataset.exo)]
        self.widths = {side.view: side.width for side in sides}
        self.num_frames = datasets[0].num_frames
        store = datasets[0].ego.features
        self.picture = store.picture if isinstance(store, FrameStore) else None
        self.pad_token_id: int = datasets[0].tokenizer.pad_token_id
        # As wide in every batch, since processes exchange them.
        records = [record for side in sides for record in side.records]
        self.most_nouns = max((len(record.nouns) for record in records), default=0)
        self.most_verbs = max((len(record.verbs) for record in records), default=0)

    def __call__(self, items: Sequence[PairItem]) -> dict[str, Any]:
        """Batch what can be learned, which may be nothing.

        Returns:
            What the model takes: `input_ids` `(B, T)`, `is_ego` `(B,)`; `ego_features`, `exo_features` `(·, F, W)`, or
            `frames` `(B, F, H, W, 3)` with their `places` `(B, F)`, `shifts` `(B, 2)` and `colours` `(B, 2, 3)`; and
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
        batch |= self._features(rows) if self.picture is None else self._frames(rows, *self.picture)
        for row in rows:
            row.features = torch.empty(0)
        batch["items"] = list(items)
        return batch

    def _features(self, rows: Sequence[PairRow]) -> dict[str, Tensor]:
        batch = {}
        for view, width in self.widths.items():
            features = [row.features for row in rows if row.view == view]
            batch[f"{view}_features"] = torch.stack(features) if features else torch.zeros(0, self.num_frames, width)
        return batch

    def _frames(self, rows: Sequence[PairRow], height: int, width: int) -> dict[str, Tensor]:
        empty = torch.zeros(0, self.num_frames, height, width, 3, dtype=torch.uint8)
        shown = len(rows[0].places) if rows else self.num_frames
        return {
            "frames": torch.stack([row.features for row in rows]) if rows else empty,
            "places": torch.tensor([row.places for row in rows], dtype=torch.long).view(-1, shown),
            "shifts": torch.tensor([row.look.shift for row in rows], dtype=torch.long).view(-1, 2),
            "colours": torch.tensor([(row.look.gain, row.look.bias) for row in rows]).view(-1, 2, 3),
        }


def _filled(lists: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
    """Lists of numbers, each filled up at its end → `(rows, width)`."""
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in lists], dtype=torch.long).view(
        len(lists), width
    )


def _number(text: str) -> int:
    """The same for the same text, on every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), signed=True)

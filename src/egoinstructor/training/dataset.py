"""Samples → prompts with their clips, decoded in the loader's workers, the same for a given (seed, epoch, index).

A reference that can't be read gives way to the next candidate; a query that can't be read is left out of its batch. Each is
counted and reported, none is replaced by another sample, and no clip ever gets another clip's text.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from egoinstructor.data.metadata import Candidate, Sample
from egoinstructor.errors import InputError
from egoinstructor.model.configuration import IGNORE
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.prompt import TRAINING, Prompt, clean_instruction, last_answer
from egoinstructor.records import Clip
from egoinstructor.training.feature_cache import FeatureCache
from egoinstructor.training.schedule import Schedule
from egoinstructor.video.decode import load_video


@dataclass(frozen=True, slots=True)
class Draw:
    """One turn of an epoch: which sample, when. An index of None fills a batch up and gives nothing to learn.

    Args:
        epoch: from 0.
        index: of the sample.
        progress: of the run, from 0 to 1.
        batch: of the epoch, counted over all processes.
    """

    epoch: int
    index: int | None
    progress: float = 0.0
    batch: int = 0


class EpochSampler(Sampler[Draw]):
    """Each sample exactly once an epoch, in an order drawn from (seed, epoch), however many processes share it.

    The original draws with replacement, the same list every epoch. Here the end is filled up with empty draws to full
    batches on every process, rather than with samples seen before.

    Args:
        size: samples.
        seed: of the order; None keeps the samples' own.
        epochs: of the whole run, for `Draw.progress`.
        multiple: batch size × processes.
    """

    def __init__(self, size: int, *, seed: int | None, epochs: float = 1.0, multiple: int = 1) -> None:
        self.size = size
        self.seed = seed
        self.epochs = epochs
        self.multiple = multiple
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Draws, the empty ones included."""
        return -(-self.size // self.multiple) * self.multiple

    def order(self) -> list[int]:
        """The samples of the current epoch, in order."""
        order = list(range(self.size))
        if self.seed is not None:
            random.Random(f"{self.seed}/{self.epoch}").shuffle(order)
        return order

    def __iter__(self) -> Iterator[Draw]:
        """The draws of the current epoch."""
        order = self.order()
        for turn in range(len(self)):
            progress = (self.epoch + turn / len(self)) / self.epochs
            yield Draw(self.epoch, order[turn] if turn < self.size else None, progress, turn // self.multiple)


@dataclass(slots=True)
class Item:
    """One sample, read. Without a prompt there is nothing to learn in it.

    Args:
        id: the sample's.
        prompt: what it reads.
        clips: for each `<image>`, pixels `(F, 3, H, W)`, or patches `(F, P, V)` where the cache had them.
        keys: for each clip, its key in the cache; empty without one.
        tried: clips that were tried.
        failures: (video, reason) of those that could not be read.
        dropped: references that the prompt had no room for.
    """

    id: str = ""
    prompt: Prompt | None = None
    clips: list[Tensor] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    tried: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    dropped: int = 0

    @property
    def skipped(self) -> bool:
        """Whether it was left out of its batch."""
        return bool(self.id) and self.prompt is None

    @property
    def counts(self) -> dict[str, int]:
        """What is counted of it besides clips."""
        return {"references_without_room": self.dropped}


class CaptionDataset(Dataset[Item]):
    """Reads samples; `dataset[Draw(epoch, index)]` is the same whenever and wherever it is asked.

    Args:
        samples: from `read_metadata`.
        processor: the model's.
        num_frames: frames a clip; None for the processor's.
        shots: how many references.
        reference_order: of the chosen ones that have room: "listed", "random" or "score", as the option of that name says.
        no_reference_share: share of batches without any: whole ones, as they are short. None: none is.
        seed: of everything drawn.
        jitter: draw frames at random within their part of a segment, and the case of the instruction's first letter.
        cache: the frozen vision encoder's outputs.

    Raises:
        InputError: an order by scores that a reference lacks.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        processor: EgoInstructorProcessor,
        *,
        num_frames: int | None = None,
        shots: Schedule[int],
        reference_order: str = "listed",
        no_reference_share: Schedule[float] | None = None,
        seed: int = 0,
        jitter: bool = False,
        cache: FeatureCache | None = None,
    ) -> None:
        if reference_order == "score":
            for shown in (candidate for sample in samples for candidate in sample.references):
                if shown.score is None:
                    raise InputError(f"{shown.id} has no 'score', by which reference_order='score' sorts; add it.")
        self.samples = samples
        self.processor = processor
        self.num_frames = num_frames or processor.num_frames
        self.shots = shots
        self.reference_order = reference_order
        self.no_reference_share = no_reference_share or Schedule(((0.0, 1.0),))
        self.seed = seed
        self.jitter = jitter
        self.cache = cache

    def __len__(self) -> int:
        """Samples."""
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> Item:
        """Decode and write the prompt."""
        if draw.index is None:
            return Item()
        sample = self.samples[draw.index]
        rng = random.Random(f"{self.seed}/{draw.epoch}/{draw.index}")
        item = Item(sample.id)
        shots = self.shots.at(draw.progress)
        alone = self.no_reference_share.at(draw.progress)
        if random.Random(f"{self.seed}/{draw.epoch}/batch {draw.batch}").random() < alone:
            shots = 0
        query = self._read(item, sample, rng)
        if query is None:
            return item
        references: list[tuple[Candidate, Tensor, str]] = []
        for candidate in sample.references:
            if len(references) == shots:
                break
            clip = self._read(item, candidate, rng)
            if clip is not None:
                references.append((candidate, *clip))
        instruction = clean_instruction(sample.instruction, rng if self.jitter else None)
        try:
            prompt = self._prompt(sample, instruction, references)
            item.dropped = len(prompt.dropped)
            references = references[: len(prompt.kept)]  # the most relevant ones, before they lose their order
            if self.reference_order == "random":
                rng.shuffle(references)
            elif self.reference_order == "score":
                references.sort(key=lambda shown: -(shown[0].score or 0.0))
            if self.reference_order != "listed":
                prompt = self._prompt(sample, instruction, references)
        except InputError as error:  # texts that make no prompt
            item.failures.append((str(sample.video), str(error)))
            return item
        for _, pixels, key in references:
            self._keep(item, pixels, key)
        self._keep(item, *query)
        item.prompt = prompt
        return item

    def _prompt(self, sample: Sample, instruction: str, references: Sequence[tuple[Candidate, Tensor, str]]) -> Prompt:
        narrations = [candidate.narration for candidate, _, _ in references]
        return self.processor.prompt(narrations, instruction=instruction, caption=sample.caption, preset=TRAINING)

    def _keep(self, item: Item, clip: Tensor, key: str) -> None:
        item.clips.append(clip)
        if self.cache is not None:
            item.keys.append(key)

    def _read(self, item: Item, source: Sample | Candidate, rng: random.Random) -> tuple[Tensor, str] | None:
        """Patches from the cache, or pixels; None, and a failure on record, if the clip can't be read."""
        item.tried += 1
        key = ""
        try:
            clip = Clip(source.video, source.start, source.end)
            if self.cache is not None:
                key = self.cache.key(clip, num_frames=self.num_frames, sampling=TRAINING.sampling)
                patches = self.cache.get(key)
                if patches is not None:
                    return patches, key
            frames = load_video(
                clip.video,
                start=clip.start,
                end=clip.end,
                num_frames=self.num_frames,
                sampling=TRAINING.sampling,
                rng=rng if self.jitter else None,
            )
        except InputError as error:  # impossible times, and all that decoding refuses
            item.failures.append((str(source.video), str(error)))
            return None
        return self.processor.pixels(frames), key


class Collator:
    """Items → one batch for `CaptionerTrainer`.

    Args:
        processor: the model's.
        query_only: learn the query's answer alone.
    """

    def __init__(self, processor: EgoInstructorProcessor, *, query_only: bool = False) -> None:
        self.processor = processor
        self.query_only = query_only

    def __call__(self, items: Sequence[Item]) -> dict[str, Any]:
        """Batch what can be learned; a batch of nothing is one blank sample without labels, so that processes keep step.

        Returns:
            `input_ids`, `attention_mask`, `labels`, `pixel_values` `(B, C, F, 3, H, W)`; with a cache instead `clips`, a
            list of (row, place, key, tensor); and `items`, the items without their tensors.
        """
        read = [item for item in items if item.prompt is not None]
        written = [item.prompt for item in read if item.prompt is not None]
        clips = [item.clips for item in read]
        blank = not read
        if blank:
            size = self.processor.image_size
            written, clips = [self.processor.prompt([], caption="nothing")], [[torch.zeros(1, 3, size, size)]]
        cached = any(item.keys for item in read)
        batch: dict[str, Any] = dict(self.processor(written, pixels=None if cached else clips, labels=True))
        if cached:
            batch["clips"] = [
                (row, place, key, clip)
                for row, item in enumerate(read)
                for place, (key, clip) in enumerate(zip(item.keys, item.clips, strict=True))
            ]
        if blank:
            batch["labels"].fill_(IGNORE)
        elif self.query_only:
            batch["labels"] = last_answer(batch["labels"], batch["input_ids"], self.processor.answer_token_id)
        for item in items:
            item.clips = []
        batch["items"] = list(items)
        return batch

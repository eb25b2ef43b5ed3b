"""What a captioner is given beside the clip, and what stands in for a part of it: the rows of a table.

Where references come from: `listed` in the metadata, a `library`, `random` ones, an `oracle` that has read the answer, or
`none`. Baselines: `retrieval-only` copies the best reference's narration; `text-only` has the narrations and sees no video;
`video-only` has no references.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from egoinstructor.data.actions import MODEL, Tagger, clean_narration
from egoinstructor.errors import InputError
from egoinstructor.evaluation.captions.samples import HowTo, PooledClip, Sample, Shown, pool_of, shown
from egoinstructor.evaluation.metrics.actions import VerbAndNouns, words_of
from egoinstructor.library.roots import entry_path

if TYPE_CHECKING:
    from egoinstructor.library.library import ExoLibrary

ReferenceSource = Literal["listed", "library", "random", "oracle", "none"]
SOURCES: tuple[ReferenceSource, ...] = get_args(ReferenceSource)
Baseline = Literal["retrieval-only", "text-only", "video-only"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)

SPARES = 8
"""Random and oracle references beyond those wanted, for clips that can't be read."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What is asked of a run; what it was made with beside model and data.

    Args:
        references: where they come from.
        shots: so many at most.
        baseline: what stands in for the captioner, or for a part of what it is given.
        seed: of random references.
        num_frames: frames a clip; None for the model's.
        instruction: asked of every clip; None for the samples' own.
        likeliest: as `Captioner.caption_batch` has it: of each sample's references as many are read as help.
        zero_shot_guide: queries without references get another sample's caption as text first, as in the original.
        generation: for `generate`: `num_beams`, `max_new_tokens`, …; what is left out is the model's own.

    Raises:
        InputError: values that don't fit each other.
    """

    references: ReferenceSource = "listed"
    shots: int = 4
    baseline: Baseline | None = None
    seed: int = 0
    num_frames: int | None = None
    instruction: str | None = None
    likeliest: bool = False
    zero_shot_guide: bool = False
    generation: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """No references and no shots are one thing with two names."""
        if self.references not in SOURCES:
            raise InputError(f"references={self.references!r}; choose one of {', '.join(SOURCES)}.")
        if self.baseline is not None and self.baseline not in BASELINES:
            raise InputError(f"baseline={self.baseline!r}; choose one of {', '.join(BASELINES)}.")
        if self.shots < 0:
            raise InputError(f"{self.shots} shots; ask for 0 (the clip alone) or more.")
        if self.baseline == "video-only" or self.shots == 0:
            object.__setattr__(self, "references", "none")
        if self.references == "none":
            object.__setattr__(self, "shots", 0)
            if self.baseline in ("retrieval-only", "text-only"):
                raise InputError(f"the baseline {self.baseline} is made of references; ask for 1 shot or more of them.")
        if self.likeliest and (self.references == "none" or self.baseline == "retrieval-only"):
            raise InputError("likeliest=True: there are no references to choose from, or no captioner; leave it out.")


class Candidates(Protocol):
    """Where the references of a sample are taken from."""

    def of(self, sample: Sample) -> Sequence[HowTo]:
        """What may be its references, best first."""


class Listed:
    """The references that the metadata lists."""

    def of(self, sample: Sample) -> Sequence[HowTo]:
        """All of them."""
        return sample.references


class Random:
    """Clips drawn from a pool by (seed, sample), none of the sample's own video.

    Args:
        pool: how-to clips.
        shots: how many are wanted.
        seed: of the draws.
    """

    def __init__(self, pool: Sequence[HowTo], shots: int, seed: int) -> None:
        self._pool = pool
        self._wanted = shots + SPARES
        self._seed = seed

    def of(self, sample: Sample) -> Sequence[HowTo]:
        """As many as are wanted, and some to spare."""
        drawn = _shuffled(self._pool, random.Random(f"{self._seed}/{sample.id}"))
        return list(islice((clip for clip in drawn if not _own(clip, sample)), self._wanted))


class Oracle:
    """Clips of a pool that say what the answer says: the same verb and noun first, then the noun, then the verb.

    Those that the sample lists come before others that say the same.

    Args:
        pool: how-to clips.
        samples: all that will be asked for.
        shots: how many are wanted.
        seed: of the order among equals.
        pipeline: spaCy's, name or folder.

    Raises:
        MissingExtraError: without spaCy.
        InputError: without its pipeline.
    """

    def __init__(
        self, pool: Sequence[HowTo], samples: Sequence[Sample], shots: int, seed: int, pipeline: str = MODEL
    ) -> None:
        texts = list(dict.fromkeys([clip.narration for clip in pool] + [sample.answer for sample in samples]))
        self._words: dict[str, VerbAndNouns] = dict(
            zip(texts, map(words_of, Tagger(pipeline).parses(texts)), strict=True)
        )
        self._wanted = shots + SPARES
        self._seed = seed
        self._by_words: dict[tuple[str | None, str | None], list[HowTo]] = defaultdict(list)
        for clip in pool:
            verb, nouns = self._words[clip.narration]
            for noun in sorted(nouns):
                self._by_words[None, noun].append(clip)
                if verb is not None:
                    self._by_words[verb, noun].append(clip)
            if verb is not None:
                self._by_words[verb, None].append(clip)

    def of(self, sample: Sample) -> Sequence[HowTo]:
        """As many as there are and are wanted, and some to spare."""
        found: dict[Shown, HowTo] = {}
        for clip in self._ranked(sample):
            if len(found) == self._wanted:
                break
            if not _own(clip, sample):
                found.setdefault(shown(clip), clip)
        return list(found.values())

    def _ranked(self, sample: Sample) -> Iterator[HowTo]:
        verb, nouns = self._words[sample.answer]
        listed = {shown(clip) for clip in sample.references}
        rng = random.Random(f"{self._seed}/{sample.id}")
        for kind in ("both", "noun", "verb"):
            keys: list[tuple[str | None, str | None]] = [(None, noun) for noun in sorted(nouns)]
            if kind == "both":
                keys = [(verb, noun) for noun in sorted(nouns)] if verb is not None else []
            elif kind == "verb":
                keys = [(verb, None)] if verb is not None else []
            alike = [clip for key in keys for clip in self._by_words.get(key, ())]
            yield from (clip for clip in alike if shown(clip) in listed)
            yield from _shuffled(alike, rng)


def candidates_for(
    condition: Condition,
    samples: Sequence[Sample],
    library: ExoLibrary | None = None,
    pipeline: str = MODEL,
    *,
    clean: bool = False,
) -> Candidates:
    """Where a condition's references are taken from, if it is not by searching a library.

    Args:
        condition: what is asked.
        samples: of the split; the clips that they list are the pool of random and oracle references, unless there is
        library: whose narrated clips are the pool then.
        pipeline: spaCy's, for the oracle.
        clean: pass the library's narrations through `clean_narration`; the samples' own are as they were read.

    Raises:
        MissingExtraError: an oracle without spaCy.
        InputError: an empty pool, or an oracle without spaCy's pipeline.
    """
    if condition.references not in ("random", "oracle"):
        return Listed()
    pool = pool_of(samples) if library is None else _pool_of_library(library, clean=clean)
    if not pool:
        raise InputError(f"{condition.references} references: there are no how-to clips with words to take them from.")
    if condition.references == "random":
        return Random(pool, condition.shots, condition.seed)
    return Oracle(pool, samples, condition.shots, condition.seed, pipeline)


def _pool_of_library(library: ExoLibrary, *, clean: bool) -> list[HowTo]:
    roots = library.sources()
    tidy = clean_narration if clean else str
    said = ((entry, tidy(entry.text)) for entry in sorted(library.entries(), key=lambda entry: entry.id))
    return [PooledClip(e.id, entry_path(e, roots), e.start, e.end, text, e) for e, text in said if text.strip()]


def _own(clip: HowTo, sample: Sample) -> bool:
    """Whether a how-to clip is of the sample's own video, or of a piece of it, by whatever path."""
    return _resolved(clip.video).is_relative_to(_resolved(sample.video))


@lru_cache(maxsize=100_000)
def _resolved(path: Path) -> Path:
    return path.resolve()


def _shuffled(clips: Sequence[HowTo], rng: random.Random) -> Iterator[HowTo]:
    """Clips in a drawn order, drawn as they are asked for: a pool may be large."""
    moved: dict[int, int] = {}
    for last in range(len(clips) - 1, -1, -1):
        place = rng.randint(0, last)
        yield clips[moved.get(place, place)]
        moved[place] = moved.get(last, last)

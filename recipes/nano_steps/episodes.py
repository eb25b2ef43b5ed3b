"""What the captioner learns from: a query with up to four references, of which one, in most episodes, names what is seen.

Reading a name off a reference has to be worth it, and so has remembering one. So references come from other events and other
kitchens, and training shows them as a library would, most similar first. In half of the episodes they are what a library
gives: the four nearest. In the rest one matches, or none does, and the others look alike. And every invented name in an
episode may be replaced by a new one, which can't be known and must be read. Each for itself: a new name among the
references is no sign that the answer is there. Where training shows a query alone, its new name stays, though nobody can
know it then: with its own name, and more how-to queries, the captioner knew more and read less (docs/benchmarks.md).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from egoinstructor.files import atomic_file
from nano_steps.clips import SECONDS, KitchenClip, is_invented, of_camera
from simkitchen import names
from simkitchen.catalogue import nouns
from simkitchen.narration import ego_narration


@dataclass(frozen=True, slots=True)
class Mixture:
    """The shares of what an episode may be.

    Args:
        references: of an episode.
        exo_queries: how-to clips as queries, captioned as an ego clip would be: twice the pictures to learn from.
        retrieved: episodes with the nearest clips, where neighbours are known. The others are made up:
        no_match: of those, the ones in which no reference has the query's noun.
        same_verb: matches that have the query's verb too, where there is one.
        hard: of the other references, those that look alike or have the query's verb; the rest are any.
        renewed: of the invented names that an episode's references tell, those that are new.
    """

    references: int = 4
    exo_queries: float = 0.2
    retrieved: float = 0.5
    no_match: float = 0.15
    same_verb: float = 0.8
    hard: float = 0.5
    renewed: float = 0.6


@dataclass(frozen=True, slots=True)
class Episode:
    """A query and its references.

    Args:
        query: the clip, with the caption that is to be learned as its narration.
        references: how-to clips with what is said: the nearest, nearest first; or, made up, the match first.
    """

    query: KitchenClip
    references: tuple[KitchenClip, ...]


class Episodes:
    """Draws episodes from a split's clips.

    Args:
        clips: of one split.
        neighbours: for a clip's name the names of how-to clips that look alike, nearest first; by a retriever. Without
            one, clips of the same verb stand in.
        mixture: None for the defaults.
        similarity: of two clips, by a retriever, for the references' scores; None to write none.
    """

    def __init__(
        self,
        clips: Sequence[KitchenClip],
        neighbours: Mapping[str, Sequence[str]] | None = None,
        mixture: Mixture | None = None,
        similarity: Callable[[KitchenClip, KitchenClip], float] | None = None,
    ) -> None:
        self.similarity = similarity
        self.mixture = mixture or Mixture()
        self.ego, self.exo = of_camera(clips, "ego"), of_camera(clips, "exo")
        self._neighbours = neighbours or {}
        self._by_name = {clip.name: clip for clip in self.exo}
        self._by_noun: dict[str, list[KitchenClip]] = defaultdict(list)
        self._by_verb: dict[str, list[KitchenClip]] = defaultdict(list)
        for clip in self.exo:
            self._by_noun[clip.noun].append(clip)
            self._by_verb[clip.verb].append(clip)

    def draw(self, random: Random, query: KitchenClip) -> Episode:
        """An episode around a clip."""
        mixture = self.mixture
        query = _captioned(query)
        near = self._neighbours.get(query.name)
        if near and random.random() < mixture.retrieved:
            nearest = tuple(self._by_name[name] for name in near[: mixture.references])
            return renew(random, Episode(query, nearest), mixture.renewed)
        match = None if random.random() < mixture.no_match else self._match(random, query)
        chosen = [] if match is None else [match]
        while len(chosen) < mixture.references:
            other = self._other(random, query, chosen)
            if other is None:
                break
            chosen.append(other)
        return renew(random, Episode(query, tuple(chosen)), mixture.renewed)

    def _match(self, random: Random, query: KitchenClip) -> KitchenClip | None:
        alike = [clip for clip in self._by_noun[query.noun] if _elsewhere(query, clip)]
        same = [clip for clip in alike if clip.verb == query.verb]
        if same and random.random() < self.mixture.same_verb:
            alike = same
        return random.choice(alike) if alike else None

    def _other(self, random: Random, query: KitchenClip, chosen: Sequence[KitchenClip]) -> KitchenClip | None:
        """Another clip, of another noun than the query's; None if a few draws find none."""
        near = [self._by_name[name] for name in self._neighbours.get(query.name, ())]
        for hard in (random.random() < self.mixture.hard, False):
            pool = (near or self._by_verb[query.verb]) if hard else self.exo
            for _ in range(20 if pool else 0):
                clip = random.choice(pool)
                if clip.noun != query.noun and clip not in chosen and _elsewhere(query, clip):
                    return clip
        return None

    def write(self, out: Path, count: int, *, seed: int, prefix: str = "") -> None:
        """Write a JSONL of episodes: every ego clip as often as any other, how-to clips in their share.

        Args:
            out: the file.
            count: episodes.
            seed: of everything drawn.
            prefix: of the videos' names, such as "train/".

        Raises:
            InputError: the file can't be written.
        """
        exo = round(count * self.mixture.exo_queries)
        queries = [(clip, turn) for turn, clip in _in_turn(self.ego, count - exo)]
        queries += [(clip, turn) for turn, clip in _in_turn(self.exo, exo)]
        with atomic_file(out) as partial, partial.open("w", encoding="utf-8") as file:
            for query, turn in queries:
                random = Random(f"{seed}/{query.name}/{turn}")
                episode = self.draw(random, query)
                scores = self.similarity and [self.similarity(query, clip) for clip in episode.references]
                file.write(_line(episode.query, episode.references, prefix, scores))

    def write_without_references(self, out: Path, *, how_to: bool, prefix: str = "") -> None:
        """Write what a captioner without references learns from: the data set of a baseline.

        Args:
            out: the file.
            how_to: after the ego clips all how-to clips too, captioned as an ego clip would be, as episodes have them.
            prefix: of the videos' names.

        Raises:
            InputError: the file can't be written.
        """
        with atomic_file(out) as partial, partial.open("w", encoding="utf-8") as file:
            file.writelines(alone(clip, prefix) for clip in [*self.ego, *(self.exo if how_to else ())])


def alone(clip: KitchenClip, prefix: str = "") -> str:
    """A line of JSONL: a clip, of either camera, as a query without references, captioned as an ego clip would be."""
    return _line(_captioned(clip), (), prefix)


def _captioned(clip: KitchenClip) -> KitchenClip:
    return replace(clip, narration=ego_narration(clip.verb, clip.noun, clip.target))


def _in_turn(clips: Sequence[KitchenClip], count: int) -> list[tuple[int, KitchenClip]]:
    return [(i // len(clips), clips[i % len(clips)]) for i in range(count if clips else 0)]


def _elsewhere(query: KitchenClip, clip: KitchenClip) -> bool:
    return clip.event != query.event and clip.kitchen != query.kitchen


def _line(
    query: KitchenClip, references: Sequence[KitchenClip], prefix: str, scores: Sequence[float] | None = None
) -> str:
    def segment(clip: KitchenClip) -> dict[str, Any]:
        return {"video": f"{prefix}{clip.name}", "start": 0.0, "end": SECONDS}

    shown = [{**segment(clip), "narration": clip.narration} for clip in references]
    if scores is not None:
        for one, score in zip(shown, scores, strict=True):
            one["score"] = round(score, 4)
    return json.dumps({**segment(query), "caption": query.narration, "references": shown}) + "\n"


# ---------------------------------------------------------------------- new names


def renew(random: Random, episode: Episode, share: float) -> Episode:
    """The same episode with other names for some of the invented things that its references name, in the query too.

    Args:
        random: draws.
        episode: with the things' own names. A query whose thing no reference names keeps its own.
        share: of the names.
    """
    clips = (episode.query, *episode.references)
    told = dict.fromkeys(clip.noun for clip in episode.references if is_invented(clip.noun))
    old = [noun for noun in told if random.random() < share]
    if not old:
        return episode
    new = dict(zip(old, fresh_names(random, len(old)), strict=True))
    pattern = re.compile(rf"\b({'|'.join(old)})\b")
    query, *references = (
        replace(clip, narration=pattern.sub(lambda found: new[found.group()], clip.narration)) for clip in clips
    )
    return Episode(query, tuple(references))


def fresh_names(random: Random, count: int) -> list[str]:
    """Names by the rule of SimKitchen's own, none of which they are, held-out ones included."""
    letters = (names.FIRST, names.VOWELS, names.MIDDLE, names.VOWELS, names.LAST)
    taken, beginnings = _taken()
    found: dict[str, None] = {}
    while len(found) < count:
        name = "".join(map(random.choice, letters))
        if name not in taken and not name.startswith(beginnings):
            found[name] = None
    return list(found)


@cache
def _taken() -> tuple[frozenset[str], tuple[str, ...]]:
    """What no new name may be, and what none may begin with."""
    return frozenset([*nouns(), *names.WORDS.split()]), tuple(noun for noun in nouns() if not is_invented(noun))

"""The references of each condition: which how-to clips a query is shown, and what is told of them.

None of them is the query's own event, but in the condition that says so: that clip shows the same action in another
kitchen, and every library could have it only because the data set renders both views.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

from egoinstructor.captioners.egoinstructor import SHOTS
from egoinstructor.errors import InputError
from egoinstructor.fields import json_lines, read_object
from egoinstructor.files import atomic_file
from egoinstructor.library.records import Filter
from egoinstructor.library.references import Retrieval, find_references
from nano_steps.clips import KitchenClip, is_invented
from simkitchen.catalogue import SURFACES, nouns
from simkitchen_parts.kitchen import Kitchen, KitchenLibrary
from simkitchen_parts.words import with_noun


@dataclass(frozen=True, slots=True)
class Shown:
    """A reference: the event whose how-to clip is shown, what is told of it, and its similarity if it was searched for."""

    event: str
    narration: str
    score: float | None = None


References = Mapping[str, Sequence[Shown]]
"""By the query's event, most similar first."""


def retrieved(
    kitchen: Kitchen, shelf: KitchenLibrary, excluded: Callable[[KitchenClip], Iterable[str]], shots: int = SHOTS
) -> References:
    """What the product finds, by its default rules.

    Args:
        kitchen: the split.
        shelf: its library.
        excluded: events whose clips a query must not be shown.
        shots: references.
    """
    found = {}
    for query in kitchen.queries:
        digests = tuple(sorted({shelf.entries[event].video_digest for event in excluded(query)}))
        (selection,) = find_references(
            shelf.library,
            [kitchen.clip(query)],
            shots,
            Retrieval(where=Filter(exclude_digests=digests)),
            queries=shelf.ego[query.event][None],
        )
        found[query.event] = [_shown(kitchen, Path(hit.entry.video).stem, hit.score) for hit in selection.chosen]
    return found


def own_event(query: KitchenClip) -> Iterable[str]:
    return [query.event]


def own_event_and_noun(kitchen: Kitchen) -> Callable[[KitchenClip], Iterable[str]]:
    """Every clip of the query's noun: nobody can read it."""
    return lambda query: [query.event, *(clip.event for clip in kitchen.howto.values() if clip.noun == query.noun)]


def own_event_and_rest(kitchen: Kitchen, share: float) -> Callable[[KitchenClip], Iterable[str]]:
    """All but a share of the library, drawn at random; a larger share has all that a smaller one has."""
    order = sorted(kitchen.howto)
    Random("library").shuffle(order)
    rest = order[round(share * len(order)) :]
    return lambda query: [query.event, *rest]


def at_random(kitchen: Kitchen) -> References:
    """Any clips of the library."""
    return {
        query.event: [
            _shown(kitchen, event)
            for event in Random(f"random/{query.event}").sample(sorted(kitchen.howto.keys() - {query.event}), SHOTS)
        ]
        for query in kitchen.queries
    }


def best(kitchen: Kitchen) -> References:
    """An oracle's: of the query's verb and noun, then of its noun, then of its verb, then any."""
    chosen = {}
    for query in kitchen.queries:
        others = sorted(kitchen.howto.keys() - {query.event})
        Random(f"oracle/{query.event}").shuffle(others)
        clips = [kitchen.howto[event] for event in others]
        clips.sort(key=lambda clip: (clip.noun != query.noun, clip.verb != query.verb))
        chosen[query.event] = [_shown(kitchen, clip.event) for clip in clips[:SHOTS]]
    return chosen


def other_narrations(kitchen: Kitchen, references: References) -> References:
    """The same clips, each with the narration of another clip of the library: pictures and words no longer fit.

    It is never that of the query's own event, which would tell the answer.
    """
    order = sorted(kitchen.howto)
    Random("narrations").shuffle(order)
    places = {event: i for i, event in enumerate(order)}

    def another(query: str, event: str) -> str:
        others = (order[(places[event] + step) % len(order)] for step in range(1, len(order)))
        return next(other for other in others if other != query)

    return {
        query: [Shown(one.event, kitchen.howto[another(query, one.event)].narration) for one in shown]
        for query, shown in references.items()
    }


@dataclass(frozen=True, slots=True)
class Swapped:
    """References whose nouns are exchanged, and by which: an apple is called a kettle throughout."""

    references: References
    nouns: Mapping[str, Mapping[str, str]]


def swapped_nouns(kitchen: Kitchen, references: References) -> Swapped:
    """Exchange each noun of a query's references by another one: familiar things by familiar, invented by invented.

    The new noun is neither the query's nor any that its references have.
    """
    known = [name for name, noun in nouns().items() if noun.form != "fixture" and name not in SURFACES]
    told, changed = {}, {}
    truth = {query.event: query.noun for query in kitchen.queries}
    for query, shown in references.items():
        random = Random(f"swap/{query}")
        old = list(dict.fromkeys(kitchen.howto[one.event].noun for one in shown))
        taken = {truth[query], *old}
        new: dict[str, str] = {}
        for noun in old:
            if nouns()[noun].form == "fixture":  # nothing else is a drawer
                continue
            pool = [name for name in known if is_invented(name) == is_invented(noun) and name not in taken]
            new[noun] = random.choice(pool)
            taken.add(new[noun])
        told[query] = [_renamed(kitchen.howto[one.event].noun, one, new) for one in shown]
        changed[query] = new
    return Swapped(told, changed)


def _renamed(noun: str, shown: Shown, new: Mapping[str, str]) -> Shown:
    return replace(shown, narration=with_noun(shown.narration, noun, new[noun])) if noun in new else shown


def cut(references: References, first: int, last: int) -> References:
    """Some of each query's references. Selection takes hits in their order: the first are what is found for fewer."""
    return {query: shown[first:last] for query, shown in references.items()}


def check_made_of(kitchen: Kitchen, folder: Path) -> None:
    """See that the references in a folder are of these queries and this library, and note which, where there are none.

    Raises:
        InputError: they are of others.
    """
    told = [
        [query.event for query in kitchen.queries],
        [[e, kitchen.howto[e].narration] for e in sorted(kitchen.howto)],
    ]
    digest = hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()
    asked = {"queries": len(kitchen.queries), "library": len(kitchen.howto), "digest": digest}
    file = folder / "made_of.json"
    if any(folder.glob("*.jsonl")):
        if not file.exists() or read_object(file) != asked:
            raise InputError(f"{folder} was made of other clips than {kitchen.folder} has now; remove it.")
        return
    with atomic_file(file) as partial:
        partial.write_text(json.dumps(asked) + "\n", "utf-8")


def file_name(condition: str) -> str:
    """What a condition's file is called."""
    return condition.replace(" ", "_").replace("%", "percent") + ".jsonl"


def _shown(kitchen: Kitchen, event: str, score: float | None = None) -> Shown:
    return Shown(event, kitchen.howto[event].narration, score)


def kept(file: Path, make: Callable[[], References]) -> References:
    """What stands in a file, which is made if it isn't there."""
    if not file.exists():
        with atomic_file(file) as partial, partial.open("w", encoding="utf-8") as out:
            for query, shown in make().items():
                out.write(json.dumps({"query": query, "references": [asdict(one) for one in shown]}) + "\n")
    return {line["query"]: [Shown(**one) for one in line["references"]] for _, _, line in json_lines(file)}

"""Events as they will be rendered: what happens, where, with what, seen and told how. Nothing here draws a picture.

Every event is seen from within, by a camera on the head of who acts, and again, in another kitchen, with another instance of
the thing and another person, from outside. Events of the long tail are mostly seen from outside alone. The first events
of a longer list are those of a shorter one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from itertools import accumulate
from random import Random
from typing import Any, Literal

from simkitchen import catalogue, narration, splits
from simkitchen.splits import Split, TailPair

Camera = Literal["ego", "exo"]
CAMERAS: tuple[Camera, ...] = ("ego", "exo")
Bucket = Literal["seen", "novel words", "long tail"]

FIXTURE_SHARE = 0.12
TAIL_SHARE = 4  # every fourth event of training, until each pair of the long tail has its clips
KNOWN_RANKS = 500  # what tests ask for as known is among the most frequent of training
DISTRACTORS = (4, 6)
RECEPTACLES = ("plate", "bowl", "pot")
"""One of these stands in every kitchen, wanted or not."""


@dataclass(frozen=True, slots=True)
class Prop:
    """One thing: its category, and which instance of it, `train/mug/3`."""

    noun: str
    instance: str


@dataclass(frozen=True, slots=True)
class View:
    """An event as one camera sees it.

    Args:
        camera: on the head of who acts, or outside.
        kitchen: of the split's pool; its textures follow from it.
        actor: of the split's pool.
        prop: what is acted on; None for what belongs to the kitchen.
        receptacle: a plate, bowl or pot that is there, be it wanted or not.
        distractors: other things that lie about.
        narration: what is said.
        template: of the how-to speech; "" for an egocentric narration.
        seed: of everything else: places, light, speed, the camera.
    """

    camera: Camera
    kitchen: str
    actor: str
    prop: Prop | None
    receptacle: Prop
    distractors: tuple[Prop, ...]
    narration: str
    template: str
    seed: int

    @property
    def props(self) -> tuple[Prop, ...]:
        """Everything portable that is there."""
        return (*([self.prop] if self.prop else []), self.receptacle, *self.distractors)


@dataclass(frozen=True, slots=True)
class Event:
    """An action, and how it is seen.

    Args:
        id: unique among all splits: `train-000012`.
        split: the split.
        bucket: what it asks for.
        seed: of the data set.
        verb: of `catalogue.VERBS`.
        noun: of `catalogue.nouns()`.
        target: where the thing goes, for verbs that need it.
        views: from within and from outside, or from outside alone.
    """

    id: str
    split: Split
    bucket: Bucket
    seed: int
    verb: str
    noun: str
    target: str | None
    views: tuple[View, ...]

    def view(self, camera: Camera) -> View | None:
        """As this camera sees it, if it does."""
        return next((view for view in self.views if view.camera == camera), None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the ids of verb and noun."""
        ids = {"verb_id": catalogue.verb_id(self.verb), "noun_id": catalogue.nouns()[self.noun].id}
        return asdict(self) | ids


def generate(split: Split, events: int, seed: int = 0) -> Iterator[Event]:
    """The first events of a split.

    Args:
        split: training, validation or test.
        events: how many.
        seed: of the data set; with another one everything looks different.
    """
    slots = iter(splits.tail_slots() if split == "train" else ())
    for number in range(events):
        random = Random(splits.seed_of(seed, split, number))
        slot = next(slots, None) if number % TAIL_SHARE == TAIL_SHARE - 1 else None
        cameras = CAMERAS
        if slot is not None:
            pair, from_within = slot
            bucket, verb, noun = _tail(pair)
            cameras = cameras if from_within else ("exo",)
        elif split == "train":
            bucket, verb, noun = "seen", *_known(random, "train")
        elif number % 10 < 4:
            bucket, verb, noun = "seen", *_known(random, split)
        elif number % 10 < 7:
            bucket, verb, noun = "novel words", *_novel(random, split)
        else:
            pairs = splits.tail_pairs(split)
            bucket, verb, noun = _tail(pairs[(3 * (number // 10) + number % 10) % len(pairs)])
        yield _event(random, split, number, seed, bucket, verb, noun, cameras)


def _tail(pair: TailPair) -> tuple[Bucket, str, str]:
    return "long tail", pair.verb, pair.noun


def _known(random: Random, split: Split) -> tuple[str, str]:
    """A verb, then a noun by how frequent it is; the verb says nothing of it but its form."""
    if random.random() < FIXTURE_SHARE:
        noun = random.choice(list(catalogue.FIXTURES))
        return random.choice(catalogue.FIXTURES[noun]), noun
    verb = random.choice(catalogue.VERBS[:-2])
    names, weights = _frequent(verb, split)
    return verb, random.choices(names, cum_weights=weights)[0]


@cache
def _frequent(verb: str, split: Split) -> tuple[list[str], list[float]]:
    """Training's categories for a verb, with their cumulative weights; without the pairs of the long tail."""
    rare = {(pair.verb, pair.noun) for other in splits.SPLITS for pair in splits.tail_pairs(other)}
    known = [catalogue.nouns()[name] for name in splits.portable("train")]
    limit = len(catalogue.nouns()) if split == "train" else KNOWN_RANKS
    possible = [n for n in known if verb in n.verbs and n.rank < limit and (verb, n.name) not in rare]
    return [noun.name for noun in possible], list(accumulate(noun.weight for noun in possible))


def _novel(random: Random, split: Split) -> tuple[str, str]:
    """A verb, then a held-out category that the split asks for."""
    verb = random.choice(catalogue.VERBS[:-2])
    return verb, random.choice([name for name in splits.asked_for(split) if verb in catalogue.nouns()[name].verbs])


def _event(
    random: Random,
    split: Split,
    number: int,
    seed: int,
    bucket: Bucket,
    verb: str,
    noun: str,
    cameras: tuple[Camera, ...],
) -> Event:
    target = random.choice([t for t in catalogue.TARGETS.get(verb, ()) if t != noun] or [None])
    kitchens = random.sample(range(splits.POOLS[split]["kitchen"]), 2)
    actors = random.sample(range(splits.POOLS[split]["actor"]), 2)
    instances = random.sample(range(splits.POOLS[split]["instance"]), 2)
    portable = catalogue.nouns()[noun].form != "fixture"
    views = []
    for place, camera in enumerate(CAMERAS):
        template = random.choice(narration.TEMPLATES[split])
        said = (
            narration.ego_narration(verb, noun, target)
            if camera == "ego"
            else narration.exo_narration(template, verb, noun, target)
        )
        wanted = [target] if target in RECEPTACLES else [name for name in RECEPTACLES if name != noun]
        receptacle = _prop(random, split, random.choice(wanted))
        view = View(
            camera=camera,
            kitchen=f"{split}/kitchen/{kitchens[place]}",
            actor=f"{split}/actor/{actors[place]}",
            prop=Prop(noun, f"{split}/{noun}/{instances[place]}") if portable else None,
            receptacle=receptacle,
            distractors=_distractors(random, split, {noun, receptacle.noun}),
            narration=said,
            template=template if camera == "exo" else "",
            seed=splits.seed_of(seed, split, number, camera),
        )
        if camera in cameras:
            views.append(view)
    return Event(f"{split}-{number:06d}", split, bucket, seed, verb, noun, target, tuple(views))


def _distractors(random: Random, split: Split, absent: set[str]) -> tuple[Prop, ...]:
    """Things that lie about: half of them frequent ones, half any."""
    names = splits.portable(split)
    weights = _weights(split)
    chosen: dict[str, None] = {}
    wanted = random.randint(*DISTRACTORS)
    while len(chosen) < wanted:
        name = random.choice(names) if random.random() < 0.5 else random.choices(names, cum_weights=weights)[0]
        if name not in absent:
            chosen[name] = None
    return tuple(_prop(random, split, name) for name in chosen)


@cache
def _weights(split: Split) -> list[float]:
    return list(accumulate(catalogue.nouns()[name].weight for name in splits.portable(split)))


def _prop(random: Random, split: Split, noun: str) -> Prop:
    return Prop(noun, f"{split}/{noun}/{random.randrange(splits.POOLS[split]['instance'])}")

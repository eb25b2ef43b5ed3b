"""Events before anything is rendered: nothing leaks between splits, and nothing but the action names the action."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

import pytest

from simkitchen.catalogue import (
    ANYTHING,
    COLOURS,
    FIXTURES,
    PARTS,
    POSSIBLE,
    SHAPES,
    SURFACES,
    TARGETS,
    VERBS,
    nouns,
)
from simkitchen.events import RECEPTACLES, Event, generate
from simkitchen.narration import TEMPLATES, action, ego_narration, exo_narration
from simkitchen.splits import (
    SPLITS,
    TEXTURES,
    asked_for,
    held_out,
    kitchen_textures,
    portable,
    seed_of,
    tail_pairs,
)

COUNTS = {"train": 6000, "validation": 1000, "test": 1000}
INVENTED = [noun for noun in nouns().values() if noun.rule]


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Event]]:
    return {split: list(generate(split, COUNTS[split])) for split in SPLITS}


def used(events: list[Event]) -> dict[str, set[str]]:
    """All that the views of a split show, by kind."""
    found = defaultdict(set)
    for event in events:
        for view in event.views:
            found["kitchen"].add(view.kitchen)
            found["texture"].update(kitchen_textures(view.kitchen, event.seed).values())
            found["actor"].add(view.actor)
            found["instance"].update(prop.instance for prop in view.props)
            found["seed"].add(str(view.seed))
            if view.camera == "exo":
                found["template"].add(view.template)
    return found


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


# Nothing leaks


def test_splits_share_nothing_that_is_seen_or_heard(splits):
    found = {split: used(events) for split, events in splits.items()}
    for kind in ("kitchen", "texture", "actor", "instance", "seed", "template"):
        seen = [found[split][kind] for split in SPLITS]
        assert all(seen)
        assert len(set.union(*seen)) == sum(map(len, seen)), kind


def test_pool_members_of_two_splits_look_different():
    for kind in ("kitchen", "actor", *TEXTURES, "mug"):
        assert len({seed_of(0, f"{split}/{kind}/{i}") for split in SPLITS for i in range(50)}) == 150


def test_templates_of_splits_differ_even_without_punctuation():
    bare = [" ".join(words(template)) for split in SPLITS for template in TEMPLATES[split]]
    assert len(set(bare)) == len(bare)
    assert all(template.count("{") == 1 for split in SPLITS for template in TEMPLATES[split])


@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_categories_are_nowhere_in_other_splits(splits, split):
    hidden = held_out(split)
    assert len(hidden) >= 100
    for other in set(SPLITS) - {split}:
        for event in splits[other]:
            shown = {prop.noun for view in event.views for prop in view.props} | {event.noun, event.target}
            said = {word for view in event.views for word in words(view.narration)}
            assert not (shown | said) & hidden
    assert hidden <= set(portable(split))


def test_held_out_categories_differ_and_are_made_of_known_parts():
    assert held_out("validation") & held_out("test") == set()
    assert held_out("train") == set()
    known = [nouns()[name].rule for name in portable("train") if nouns()[name].rule]
    assert {rule[0] for rule in known} == set(SHAPES)
    assert {rule[1] for rule in known} == set(PARTS)
    assert {rule[2:] for rule in known} == set(COLOURS)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_novel_words_are_acted_on_and_in_the_library(splits, split):
    novel = [event for event in splits[split] if event.bucket == "novel words"]
    assert len(novel) == 300
    counts = Counter(event.noun for event in novel)
    assert set(counts) == set(asked_for(split)) < held_out(split)
    assert Counter(nouns()[noun].rule[:1] for noun in counts) == {(): 2, **{(shape,): 3 for shape in SHAPES}}
    assert min(counts.values()) >= 2, "one in the library beside the query's own"
    assert all(event.noun in words(event.view("exo").narration) for event in novel)


def test_long_tail_has_few_ego_and_many_exo_clips_in_training(splits):
    ego, exo = (
        Counter((e.verb, e.noun) for e in splits["train"] if e.view(camera) is not None) for camera in ("ego", "exo")
    )
    pairs = tail_pairs("validation") + tail_pairs("test")
    assert len(pairs) == len({pair.noun for pair in pairs}) == 32
    assert all(ego[pair.verb, pair.noun] == pair.ego <= 3 for pair in pairs)
    assert all(20 <= exo[pair.verb, pair.noun] == pair.exo <= 50 for pair in pairs)
    for split in ("validation", "test"):
        asked = {(event.verb, event.noun) for event in splits[split] if event.bucket == "long tail"}
        assert asked == {(pair.verb, pair.noun) for pair in tail_pairs(split)}
        assert not asked & {(event.verb, event.noun) for event in splits[split] if event.bucket != "long tail"}
        known = Counter(e.noun for e in splits["train"] if e.bucket == "seen" and e.view("ego"))
        assert all(known[pair.noun] >= 5 for pair in tail_pairs(split))  # the word is known from other verbs


@pytest.mark.parametrize("split", ["validation", "test"])
def test_seen_asks_for_what_training_has(splits, split):
    known = {event.noun for event in splits["train"]}
    seen = [event for event in splits[split] if event.bucket == "seen"]
    assert len(seen) == 400
    assert sum(event.noun in known for event in seen) >= 0.97 * len(seen)
    assert not {event.noun for event in seen} & held_out(split)


# Nothing but the action names the action


def test_verbs_and_nouns_are_crossed(splits):
    crossed = defaultdict(set)
    for event in splits["train"]:
        crossed[event.verb].add(event.noun)
    for verb in ANYTHING:
        assert len(crossed[verb]) > 150
        assert {nouns()[noun].rule[0] for noun in crossed[verb] if nouns()[noun].rule} == set(SHAPES)
    for verb in ("cut", "open", "close", "pour", "stir"):
        assert len(crossed[verb]) > 100


def test_verbs_are_balanced(splits):
    counts = Counter(event.verb for event in splits["train"] if event.noun not in FIXTURES and event.bucket == "seen")
    assert set(counts) == set(VERBS) - {"turn on", "turn off"}
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_the_verb_does_not_give_the_noun_away(splits):
    """Guessing a verb's most frequent noun is hardly better than guessing that of all verbs for the same forms."""
    events = [e for e in splits["train"] if e.noun not in FIXTURES and e.bucket == "seen"]
    forms = {verb: frozenset(f for f, verbs in POSSIBLE.items() if verb in verbs) for verb in VERBS}

    def accuracy(key) -> float:
        counts = defaultdict(Counter)
        for event in events:
            counts[key(event)][event.noun] += 1
        return sum(max(c.values()) for c in counts.values()) / len(events)

    by_verb, by_form = accuracy(lambda e: e.verb), accuracy(lambda e: forms[e.verb])
    assert by_verb < 0.06
    assert by_verb - by_form < 0.015


def test_categories_are_zipf_distributed(splits):
    counts = Counter(e.noun for e in splits["train"] if e.noun not in FIXTURES and e.bucket == "seen").most_common()
    assert 0.015 < counts[0][1] / sum(n for _, n in counts) < 0.04
    assert sum(n for _, n in counts[:100]) > 0.4 * sum(n for _, n in counts)
    assert sum(n <= 3 for _, n in counts) > 150


def test_what_is_put_on_or_poured_into_varies(splits):
    for verb, targets in TARGETS.items():
        counts = Counter(event.target for event in splits["train"] if event.verb == verb)
        assert set(counts) == set(targets)
        assert max(counts.values()) < 2 * min(counts.values())
    assert all(event.target != event.noun for event in splits["train"])
    assert all(event.target is None for event in splits["train"] if event.verb not in TARGETS)


def test_a_receptacle_is_there_wanted_or_not(splits):
    for event in splits["train"]:
        for view in event.views:
            assert view.receptacle.noun in RECEPTACLES
            assert event.target not in RECEPTACLES or view.receptacle.noun == event.target
            names = [prop.noun for prop in view.props]
            assert len(set(names)) == len(names)


def test_views_of_an_event_differ_in_everything_but_the_action(splits):
    for event in splits["train"]:
        ego, exo = event.view("ego"), event.view("exo")
        assert exo is not None
        if ego is not None:
            assert ego.kitchen != exo.kitchen
            assert ego.actor != exo.actor
            assert ego.seed != exo.seed
            assert (ego.prop is None) == (exo.prop is None) == (event.noun in FIXTURES)
            assert ego.prop is None or ego.prop.instance != exo.prop.instance


# What stays


def test_events_depend_on_seed_split_and_number_alone():
    assert list(generate("train", 40)) == list(generate("train", 200))[:40]
    assert list(generate("test", 20)) == list(generate("test", 20))
    assert list(generate("train", 20, seed=1)) != list(generate("train", 20, seed=0))


def test_event_as_dict():
    event = next(generate("train", 1))
    record = event.as_dict()
    assert record["id"] == "train-000000"
    assert VERBS[record["verb_id"]] == event.verb
    assert list(nouns())[record["noun_id"]] == event.noun
    assert record["views"][0]["kitchen"] == event.views[0].kitchen


# Words


@pytest.mark.parametrize(
    ("verb", "noun", "target", "does", "doing"),
    [
        ("open", "microwave", None, "opens the microwave", "opening the microwave"),
        ("put", "apple", "plate", "puts the apple on the plate", "putting the apple on the plate"),
        ("put", "apple", "sink", "puts the apple in the sink", "putting the apple in the sink"),
        ("pour", "milk", "bowl", "pours the milk into the bowl", "pouring the milk into the bowl"),
        ("turn off", "tap", None, "turns off the tap", "turning off the tap"),
        ("pick up", "egg", None, "picks up the egg", "picking up the egg"),
        ("wash", "mug", None, "washes the mug", "washing the mug"),
        ("push", "mug", None, "pushes the mug", "pushing the mug"),
        ("close", "jar", None, "closes the jar", "closing the jar"),
        ("cut", "lemon", None, "cuts the lemon", "cutting the lemon"),
        ("stir", "pot", None, "stirs the pot", "stirring the pot"),
        ("shake", "salt", None, "shakes the salt", "shaking the salt"),
        ("wipe", "counter", None, "wipes the counter", "wiping the counter"),
        ("turn over", "plate", None, "turns over the plate", "turning over the plate"),
    ],
)
def test_words(verb, noun, target, does, doing):
    assert ego_narration(verb, noun, target) == f"#C C {does}"
    assert action(verb, noun, target, "doing") == doing
    assert exo_narration("so, {do}", verb, noun, target).startswith(f"so, {verb} the {noun}")
    assert exo_narration("we're {doing}", verb, noun, target) == f"we're {doing}"


def test_narrations_of_events_name_verb_and_noun(splits):
    for event in splits["test"]:
        assert event.view("ego").narration == ego_narration(event.verb, event.noun, event.target)
        assert event.noun in words(event.view("exo").narration)
        assert event.target is None or event.target in words(event.view("exo").narration)


def test_every_noun_can_be_talked_of_and_acted_on():
    assert all(noun.verbs for noun in nouns().values() if noun.name not in SURFACES)
    assert {verb for noun in nouns().values() for verb in noun.verbs} == set(VERBS)
    assert [noun.id for noun in nouns().values()] == list(range(len(nouns())))
    assert len({noun.rule for noun in INVENTED}) == len(INVENTED) == 1000

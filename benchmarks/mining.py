"""Which narrations tell of the same action? Rules for mining pairs, measured on narrations whose actions are known.

    python benchmarks/mining.py [--encoder DIR] [--pairs 1200] [--json]

The narrations are made by templates: Ego4D's style on one side ("#C C opens the fridge"), how-to speech on the other
("so once you've peeled the onions, I'm gonna go ahead and chop them"), with inflections, passives, filler, a second
action, and other words for the same thing ("slice" for "cut", "mug" for "cup"). The right answer of a pair is whether
the two share an action, a verb with its object; so a verb and a noun that two texts share across two actions are no
match. Templates are not people: the figures order the rules, they don't foretell a precision on real narrations.

A rule that needs a threshold gets the one that is best by F1 on other pairs, made with another seed. `--encoder` names a
sentence encoder (folder or Hub id, such as sentence-transformers/all-MiniLM-L6-v2) for the rules that need one; TextBlob's
tagger takes part where it and simplemma are installed.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import spacy
import torch

from egoinstructor.data.actions import MODEL, Action, Tagger, readable
from egoinstructor.data.vocabulary import SIMILAR, sentence_encoder, similar_words

DOUBLED = ("cut", "chop", "grab", "shut", "set", "drop", "scrub", "whip", "trim", "strip", "mop", "put")
IRREGULAR = {
    "cut": "cut", "take": "taken", "put": "put", "set": "set", "shut": "shut", "sweep": "swept", "sew": "sewn",
    "grind": "ground", "get": "got", "bend": "bent", "spread": "spread",
}  # fmt: skip

# An action's name → the words for it; the first is the ego narrator's, "pick … up" is written around its object.
VERBS = {
    "open": ["open"], "close": ["close", "shut"], "cut": ["cut", "chop", "slice"], "peel": ["peel"],
    "wash": ["wash", "rinse", "clean"], "pour": ["pour"], "stir": ["stir", "mix"], "take": ["pick up", "grab", "take"],
    "put": ["put", "place", "set"], "fold": ["fold"], "fasten": ["tighten", "fasten"], "drill": ["drill"],
    "paint": ["paint"], "roll": ["roll"], "fry": ["fry"], "sand": ["sand"], "sew": ["sew", "stitch"],
    "sweep": ["sweep", "brush"], "knead": ["knead"], "crack": ["crack", "break"], "measure": ["measure"],
    "water": ["water"], "iron": ["iron"], "grate": ["grate", "shred"], "spread": ["spread"],
}  # fmt: skip
NOUNS = {
    "fridge": ["fridge", "refrigerator"], "microwave": ["microwave"], "drawer": ["drawer"], "jar": ["jar"],
    "onion": ["onion"], "carrot": ["carrot"], "potato": ["potato"], "tomato": ["tomato"], "leek": ["leek"],
    "pan": ["pan", "skillet"], "cup": ["cup", "mug"], "plate": ["plate", "dish"], "dough": ["dough"],
    "soup": ["soup", "broth"], "milk": ["milk"], "water": ["water"], "sauce": ["sauce"], "shirt": ["shirt"],
    "cloth": ["cloth", "rag"], "screw": ["screw"], "board": ["board", "plank"], "wall": ["wall"], "egg": ["egg"],
    "floor": ["floor"], "plant": ["plant"], "knife": ["knife"], "cheese": ["cheese"], "butter": ["butter"],
    "flour": ["flour"], "box": ["box", "carton"], "paper": ["paper"], "sleeve": ["sleeve"],
}  # fmt: skip
# What is done to what: an object of one verb only would let the noun alone decide.
ACTIONS = {
    "open": "fridge microwave drawer jar box", "close": "fridge microwave drawer jar box",
    "cut": "onion carrot potato tomato leek cheese paper board cloth", "peel": "onion carrot potato tomato",
    "wash": "carrot potato tomato leek pan cup plate shirt cloth knife floor wall", "pour": "milk water sauce soup flour",
    "stir": "soup sauce dough flour", "take": "pan cup plate knife egg cheese butter box paper cloth screw potato jar",
    "put": "pan cup plate knife egg cheese butter box paper cloth screw jar shirt", "fold": "shirt cloth paper dough sleeve",
    "fasten": "screw", "drill": "wall board", "paint": "wall board box floor", "roll": "dough paper sleeve",
    "fry": "egg onion potato cheese", "sand": "board wall floor", "sew": "shirt cloth sleeve", "sweep": "floor flour",
    "knead": "dough", "crack": "egg", "measure": "flour water milk board wall butter", "water": "plant",
    "iron": "shirt cloth sleeve", "grate": "cheese carrot potato", "spread": "butter sauce dough",
}  # fmt: skip
MASS = {"dough", "soup", "broth", "milk", "water", "sauce", "cheese", "butter", "flour", "paper"}
PLURALS = {"potato": "potatoes", "tomato": "tomatoes", "knife": "knives", "box": "boxes", "dish": "dishes"}

EGO = (
    "#C C {s} the {n}", "#C C {s} a {n}", "#C C {s} the {n} with both hands", "#C C {s} {n} on the counter",
    "#C C {s} the {n} with his left hand", "#O a man X {s} the {n}", "#C C {s} the {ns} on the table",
)  # fmt: skip
EXO = (
    "{b} the {n}", "so now we're going to {b} the {n}", "I'm gonna go ahead and {b} my {n}",
    "then you just want to {b} your {n} like this", "I've already {p} the {ns} here",
    "okay so {g} the {n} is really important",
    "and the {n} needs to be {p}", "make sure the {ns} have been {p} before you go on", "what I like to do is {b} the {ns}",
    "you can see that I'm {g} the {n} with a bit of pressure", "alright guys, the next step is super easy, {b} the {n}",
    "and if you don't have a helper just {b} the {n} by yourself", "start by {g} the {n} in your kitchen",
)  # fmt: skip
EXO_TWO = (
    "once you've {p} the {n}, {b2} the {n2}", "{b} the {n} and then {b2} the {n2}",
    "I'm gonna go ahead and {b} the {n}, and after that we're {g2} the {n2}",
)  # fmt: skip
NO_ACTION = (
    "hey guys welcome back to my channel", "so this is a really nice recipe from my grandmother", "it looks so good",
    "let me know in the comments what you think", "this is the {n} that I was talking about", "look at that {n}, beautiful",
)  # fmt: skip


KINDS = {
    "same words": 1.0, "other words": 2.0, "same, and a second action": 1.0,
    "other verb": 1.0, "other noun": 1.0, "crossed": 0.8, "unlike": 0.7, "no action": 0.5,
}  # fmt: skip
"""Of each kind of pair how many there are, in proportion; the first three tell of the same action."""
SAME = list(KINDS)[:3]


@dataclass(frozen=True)
class Pair:
    """Two narrations, and whether they tell of the same action."""

    ego: str
    exo: str
    same: bool
    kind: str


def forms(verb: str) -> dict[str, str]:
    """Base, third person, -ing, participle; a particle stands before the object."""
    word, _, particle = verb.partition(" ")
    stem = word + word[-1] if word in DOUBLED or word == "stir" else word.removesuffix("e")
    third = word[:-1] + "ies" if word == "fry" else word + ("es" if word.endswith(("sh", "ch", "x", "ss")) else "s")
    past = IRREGULAR.get(word) or ("fried" if word == "fry" else stem + "ed")
    made = {"b": word, "s": third, "g": stem + "ing", "p": past}
    return {key: f"{value} {particle}".strip() for key, value in made.items()}


def fill(template: str, verb: str, noun: str, second: tuple[str, str] | None = None) -> str:
    plural = noun if noun in MASS else PLURALS.get(noun, noun + "s")
    values = forms(verb) | {"n": noun, "ns": plural}
    if second:
        values |= {f"{key}2": value for key, value in (forms(second[0]) | {"n": second[1]}).items()}
    return template.format(**values)


def make_pairs(count: int, seed: int) -> list[Pair]:
    """Nearly half of them tell of the same action; verbs and nouns of the others differ as their kind says."""
    draw = random.Random(seed)
    actions = [(verb, noun) for verb, nouns in ACTIONS.items() for noun in nouns.split()]

    def narrate(kind: str, verb: str, noun: str) -> str | None:
        """The exo side; None where there is none of this kind."""

        def pick(same_verb: bool, same_noun: bool) -> Action | None:
            found = [a for a in actions if (a[0] == verb) == same_verb and (a[1] == noun) == same_noun]
            return draw.choice(found) if found else None

        def said(action: Action) -> Action:
            return draw.choice(VERBS[action[0]]), draw.choice(NOUNS[action[1]])

        plain = (VERBS[verb][0], NOUNS[noun][0])
        if kind == "same words":
            return fill(draw.choice(EXO), *plain)
        if kind == "other words":
            words = [(v, n) for v in VERBS[verb] for n in NOUNS[noun] if (v, n) != plain]
            return fill(draw.choice(EXO), *draw.choice(words)) if words else None
        if kind == "same, and a second action":
            return fill(draw.choice(EXO_TWO), *said((verb, noun)), said(pick(False, False)))
        if kind == "crossed":  # the ego's verb with another object, and its object under another verb
            first, second = pick(True, False), pick(False, True)
            return fill(draw.choice(EXO_TWO), *said(first), said(second)) if first and second else None
        if kind == "no action":
            return draw.choice(NO_ACTION).format(n=plain[1])
        wrong = pick(kind == "other noun", kind == "other verb")
        return fill(draw.choice(EXO), *said(wrong)) if wrong else None

    pairs: list[Pair] = []
    while len(pairs) < count:
        (kind,) = draw.choices(list(KINDS), list(KINDS.values()))
        verb, noun = draw.choice(actions)
        exo = narrate(kind, verb, noun)
        if exo is not None:
            ego = fill(draw.choice(EGO), VERBS[verb][0], NOUNS[noun][0])
            pairs.append(Pair(ego, exo, kind in SAME, kind))
    return pairs


Scores = np.ndarray
Rule = Callable[[Sequence[Pair]], Scores]


def both_sides(pairs: Sequence[Pair]) -> list[str]:
    return [pair.ego for pair in pairs] + [pair.exo for pair in pairs]


def bags(tagged: Iterator[list[tuple[str, str]]], pairs: Sequence[Pair]) -> Scores:
    """Whether a verb and a noun are shared, whatever belongs to what; from (lemma, "V" or "N") of each text."""
    words = [set(text) for text in tagged]
    shared = [words[i] & words[i + len(pairs)] for i in range(len(pairs))]
    return np.array([{"V", "N"} <= {kind for _, kind in found} for found in shared], dtype=float)


def rules(spacy_model: str, encoder: str | None) -> dict[str, tuple[Rule, list[float] | None]]:
    """By name: pairs → scores, and the thresholds to choose from (None: 1, or the one that is given)."""
    tagger, pipeline = Tagger(spacy_model), spacy.load(spacy_model, exclude=["ner", "senter"])

    def spacy_bags(pairs: Sequence[Pair]) -> Scores:
        docs = pipeline.pipe(map(readable, both_sides(pairs)))
        return bags(([(w.lemma_.lower(), w.pos_[0]) for w in d if w.pos_ in ("VERB", "NOUN")] for d in docs), pairs)

    def objects(pairs: Sequence[Pair]) -> list[list[Action]]:
        return list(tagger.actions(both_sides(pairs)))

    def same_actions(pairs: Sequence[Pair]) -> Scores:
        found = objects(pairs)
        return np.array([bool(set(a) & set(b)) for a, b in zip(found, found[len(pairs) :], strict=False)], dtype=float)

    made: dict[str, tuple[Rule, list[float] | None]] = {}
    if find_spec("textblob") and find_spec("simplemma"):
        made["TextBlob's tags, shared verb and noun"] = (textblob_bags, None)
    made["spaCy's tags, shared verb and noun"] = (spacy_bags, None)
    made["spaCy's parse, same verb and object"] = (same_actions, None)
    if encoder is None:
        return made
    encode = sentence_encoder(encoder)

    def sentences(pairs: Sequence[Pair]) -> Scores:
        vectors = encode([readable(text) for text in both_sides(pairs)])
        return (vectors[: len(pairs)] * vectors[len(pairs) :]).sum(1).numpy()

    def phrases(pairs: Sequence[Pair]) -> Scores:
        found = objects(pairs)
        named = sorted({action for actions in found for action in actions})
        vectors = dict(zip(named, encode([" ".join(action) for action in named]), strict=True))
        best = []
        for mine, theirs in zip(found, found[len(pairs) :], strict=False):
            best.append(max((float(vectors[a] @ vectors[b]) for a in mine for b in theirs), default=-1.0))
        return np.array(best)

    def merged(threshold: float) -> Rule:
        def rule(pairs: Sequence[Pair]) -> Scores:
            found = objects(pairs)
            stands = []
            for place, kind in enumerate(("verbs", "nouns")):
                counts = Counter(action[place] for actions in found for action in actions)
                stands.append(similar_words(counts, encode, kind, threshold=threshold))
            verbs, nouns = stands
            named = [{(verbs.get(v, v), nouns.get(n, n)) for v, n in actions} for actions in found]
            return np.array([bool(a & b) for a, b in zip(named, named[len(pairs) :], strict=False)], dtype=float)

        return rule

    grid = np.linspace(0.2, 0.95, 76).round(2).tolist()
    made["sentence embeddings"] = (sentences, grid)
    made["embeddings of verb and object together"] = (phrases, grid)
    for threshold in sorted({0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, SIMILAR}):
        chosen = " (ours)" if threshold == SIMILAR else ""
        made[f"same verb and object, words merged at {threshold:g}{chosen}"] = (merged(threshold), None)
    return made


def textblob_bags(pairs: Sequence[Pair]) -> Scores:
    import simplemma
    from textblob.en import tag

    def words(text: str) -> list[tuple[str, str]]:
        tagged = [(word, kind[0]) for word, kind in tag(readable(text)) if kind[0] in "VN"]
        return [(simplemma.lemmatize(word, lang="en").lower(), kind) for word, kind in tagged]

    return bags(map(words, both_sides(pairs)), pairs)


def quality(found: np.ndarray, pairs: Sequence[Pair]) -> dict[str, float]:
    """Precision, recall and F1; then of each kind of pair the share that was taken for the same action."""
    same = np.array([pair.same for pair in pairs])
    right, taken = int((found & same).sum()), int(found.sum())
    table = {
        "precision": right / max(taken, 1),
        "recall": right / int(same.sum()),
        "f1": 2 * right / (taken + same.sum()),
    }
    return table | {kind: float(found[[pair.kind == kind for pair in pairs]].mean()) for kind in KINDS}


def measure(spacy_model: str, encoder: str | None, count: int) -> list[dict[str, float | str]]:
    test, other = make_pairs(count, seed=0), make_pairs(count, seed=1)
    rows: list[dict[str, float | str]] = []
    for name, (rule, grid) in rules(spacy_model, encoder).items():
        threshold = 1.0
        if grid is not None:
            scores = rule(other)
            threshold = max(grid, key=lambda at, scores=scores: quality(scores >= at, other)["f1"])
            name = f"{name}, at {threshold:g}"
        start = time.perf_counter()
        scores = rule(test)
        rate = 2 * count / (time.perf_counter() - start)
        rows.append({"rule": name, **quality(scores >= threshold, test), "texts_per_second": rate})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spacy", default=MODEL, help="spaCy's pipeline (default: %(default)s)")
    parser.add_argument("--encoder", help="sentence encoder: folder or Hub id")
    parser.add_argument("--pairs", type=int, default=1200, help="pairs to judge (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(options.spacy, options.encoder, options.pairs)
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    names = ["precision", "recall", "f1", *KINDS]
    print(f"{'rule':58}" + "".join(f"{name[:10]:>11}" for name in names) + f"{'texts/s':>9}")
    for row in rows:
        print(f"{row['rule']:58}" + "".join(f"{row[name]:11.3f}" for name in names) + f"{row['texts_per_second']:9.0f}")


if __name__ == "__main__":
    main()

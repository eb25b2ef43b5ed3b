"""How right captions are, in each bucket: verb, noun, sentence; over seeds, and with intervals over kitchens.

N queries, S seeds, V verbs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from egoinstructor.evaluation.metrics.base import Array, Combine, combine_of
from egoinstructor.evaluation.metrics.captions import CaptionScores, score_captions
from egoinstructor.evaluation.metrics.meteor import Meteor
from egoinstructor.evaluation.statistics import bootstrap, compare_paired
from nano_steps.clips import KitchenClip
from simkitchen.narration import ego_narration
from simkitchen_parts.words import verb_and_noun

BUCKETS = ("all", "seen", "novel words", "long tail")
CAPTION_METRICS = ("CIDEr", "METEOR")
RIGHT = ("verb", "noun", "sentence")
IF_NAMED, BY_VERB = "noun, where the library names it", "noun, mean over verbs"


def of_bucket(queries: Sequence[KitchenClip], bucket: str) -> list[int]:
    """Places of a bucket's queries."""
    return [i for i, query in enumerate(queries) if bucket in ("all", query.bucket)]


def truth(query: KitchenClip) -> str:
    return ego_narration(query.verb, query.noun, query.target)


def right(query: KitchenClip, caption: str) -> tuple[float, float, float]:
    """Whether verb, noun and the whole sentence are those of the query."""
    verb, noun = verb_and_noun(caption)
    return float(verb == query.verb), float(noun == query.noun), float(caption.strip() == truth(query))


def judged(queries: Sequence[KitchenClip], captions: Sequence[Mapping[str, str]]) -> dict[str, Array]:
    """Each of `RIGHT`, `(S, N)`."""
    marks = np.array([[right(query, of_seed[query.event]) for query in queries] for of_seed in captions])  # (S, N, 3)
    return {name: marks[..., i] for i, name in enumerate(RIGHT)}


def condition_scores(
    queries: Sequence[KitchenClip],
    captions: Sequence[Mapping[str, str]],
    named: Collection[str],
    metrics: Sequence[str] = (),
    meteor: Meteor | None = None,
) -> dict[str, Any]:
    """All scores of one condition by bucket: mean and standard deviation over seeds, interval over kitchens.

    Args:
        queries: the split's.
        captions: of each seed, by the query's event.
        named: events of the queries whose noun can be read, `named_elsewhere`.
        metrics: some of `CAPTION_METRICS`; those that can't be computed are left out.
        meteor: one that runs already: its start takes seconds.
    """
    marks = judged(queries, captions)
    texts = [caption_metrics(queries, of_seed, metrics, meteor) for of_seed in captions] if metrics else []
    table: dict[str, Any] = {}
    for bucket in BUCKETS:
        places = of_bucket(queries, bucket)
        if not places:
            continue
        some = [queries[i] for i in places]
        kitchens = [query.kitchen for query in some]
        row: dict[str, Any] = {"queries": len(some)}
        for name, values in marks.items():
            mine = values[:, places]  # (S, n)
            row[name] = _spread(mine.mean(1)) | interval(mine.mean(0), kitchens)
        readable = [i for i in places if queries[i].event in named]
        row[IF_NAMED] = _spread(marks["noun"][:, readable].mean(1)) if readable else {}
        parts = _by_verb(some, marks["noun"][:, places])  # (S, n, 2V)
        row[BY_VERB] = _spread([_mean_of_verbs(seed.sum(0)) for seed in parts])
        for name in metrics:
            found = [text.metrics[name].parts[places] for text in texts if name in text.metrics]  # (n, K) of each seed
            if found:
                combine = combine_of(name)
                row[name] = _spread([float(combine(part.sum(0))) for part in found])
                row[name] |= interval(np.concatenate(found, 1), kitchens, _mean_of_seeds(combine, len(found)))
        table[bucket] = row
    return table


def caption_metrics(
    queries: Sequence[KitchenClip], captions: Mapping[str, str], metrics: Sequence[str], meteor: Meteor | None = None
) -> CaptionScores:
    """CIDEr and METEOR without `#C C`; CIDEr's document frequencies are those of all queries' captions."""
    said = {query.event: captions[query.event] for query in queries}
    truths = {query.event: [truth(query)] for query in queries}
    return score_captions(said, truths, metrics, "nlgeval", clean=True, meteor=meteor)


def gain(queries: Sequence[KitchenClip], better: Array, worse: Array) -> dict[str, Any]:
    """By bucket how much more is right, `(S, N)` each, with a paired interval over kitchens."""
    table = {}
    for bucket in BUCKETS:
        places = of_bucket(queries, bucket)
        kitchens = [queries[i].kitchen for i in places]
        if len(set(kitchens)) > 1:
            pair = compare_paired(worse[:, places].mean(0), better[:, places].mean(0), kitchens)
            found = pair.difference
            table[bucket] = {"value": found.value, "low": found.low, "high": found.high, "p": pair.p_value}
    return table


def guesses(
    queries: Sequence[KitchenClip], training: Iterable[KitchenClip], library: Iterable[KitchenClip]
) -> dict[str, Any]:
    """What who knows the verb alone has right by always saying the noun that is most frequent with it, by bucket.

    Counted in training's ego clips, in all of training's clips, and in the split's library. The query's own event counts
    there: without it, the more frequent of two nouns would seldom be guessed right, and chance would look too low.
    """
    trained = list(training)
    sources = {
        "training's ego clips": [clip for clip in trained if clip.camera == "ego"],
        "all of training": trained,
        "the library": list(library),
    }
    table: dict[str, Any] = {}
    for name, clips in sources.items():
        nouns: dict[str, Counter[str]] = defaultdict(Counter)
        for clip in clips:
            nouns[clip.verb][clip.noun] += 1
        said = {verb: min(counts, key=lambda noun: (-counts[noun], noun)) for verb, counts in nouns.items()}
        hits = np.array([said.get(query.verb) == query.noun for query in queries], dtype=float)
        for bucket in BUCKETS:
            places = of_bucket(queries, bucket)
            if places:
                some = [queries[i] for i in places]
                by_verb = _mean_of_verbs(_by_verb(some, hits[None, places])[0].sum(0))
                table.setdefault(bucket, {})[name] = {"noun": float(hits[places].mean()), BY_VERB: by_verb}
    return table


def named_elsewhere(queries: Sequence[KitchenClip], library: Iterable[KitchenClip]) -> set[str]:
    """Events of the queries whose noun another event's how-to clip names: of others nobody can read it."""
    counts = Counter(clip.noun for clip in library)
    return {query.event for query in queries if counts[query.noun] > 1}


def coverage(queries: Sequence[KitchenClip], named: Collection[str]) -> dict[str, float]:
    """The share of each bucket's queries whose noun can be read."""
    table = {}
    for bucket in BUCKETS:
        places = of_bucket(queries, bucket)
        if places:
            table[bucket] = float(np.mean([queries[i].event in named for i in places]))
    return table


def shuffled_videos(queries: Sequence[KitchenClip], captions: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Each query gets the caption of another one's video, of the same bucket: all pairs, so nothing is drawn.

    With it what would be right if every query were captioned with another query's truth.
    """
    table: dict[str, Any] = {}
    for bucket in BUCKETS:
        some = [queries[i] for i in of_bucket(queries, bucket)]
        if len(some) < 2:
            continue
        row: dict[str, Any] = {}
        for place, name in enumerate(("verb", "noun")):
            true = Counter((query.verb, query.noun)[place] for query in some)
            pairs = len(some) * (len(some) - 1)
            shares = []
            for of_seed in captions:
                said = [verb_and_noun(of_seed[query.event])[place] for query in some]
                own = sum(word == (q.verb, q.noun)[place] for word, q in zip(said, some, strict=True))
                shares.append((sum(true[word] for word in said if word) - own) / pairs)
            by_chance = sum(count * (count - 1) for count in true.values()) / pairs
            row[name] = _spread(shares) | {"chance": by_chance}
        table[bucket] = row
    return table


def swap_scores(
    queries: Sequence[KitchenClip],
    plain: Sequence[Mapping[str, str]],
    swapped: Sequence[Mapping[str, str]],
    nouns: Mapping[str, Mapping[str, str]],
) -> dict[str, Any]:
    """Does the noun follow when references exchange it, and does the verb stay?

    Args:
        queries: the split's.
        plain: captions of each seed with the references as they are.
        swapped: with exchanged nouns.
        nouns: for each query the new noun of each of its references' nouns.
    """
    table: dict[str, Any] = {}
    for bucket in BUCKETS:
        some = [queries[i] for i in of_bucket(queries, bucket)]
        follows, stays, before, after, read = [], [], [], [], []
        for first, second in zip(plain, swapped, strict=True):
            pairs = [(q, verb_and_noun(first[q.event]), verb_and_noun(second[q.event])) for q in some]
            named = [(nouns[q.event][a[1]], a[1], b[1]) for q, a, b in pairs if a[1] and a[1] in nouns[q.event]]
            read.append(len(named) / max(1, len(pairs)))
            follows.append(_share(new == said for new, _, said in named))
            stays.append(_share(old == said for _, old, said in named))
            before.append(_share(a[0] == q.verb for q, a, _ in pairs))
            after.append(_share(b[0] == q.verb for q, _, b in pairs))
        if some:
            table[bucket] = {
                "captions whose noun a reference names": _spread(read),
                "of those, the noun follows the swap": _spread(follows),
                "of those, the noun stays": _spread(stays),
                "verb before": _spread(before),
                "verb after": _spread(after),
            }
    return table


def _by_verb(queries: Sequence[KitchenClip], marks: Array) -> Array:
    """`(S, n)` → `(S, n, 2V)`: for each verb what is right, then how many there are."""
    verbs = sorted({query.verb for query in queries})
    of = np.array([[query.verb == verb for verb in verbs] for query in queries], dtype=float)  # (n, V)
    return np.concatenate([marks[..., None] * of, np.broadcast_to(of, (len(marks), *of.shape))], -1)


def _mean_of_verbs(sums: Array) -> float:
    correct, counts = np.split(sums, 2)
    return float((correct / counts).mean())


def _mean_of_seeds(combine: Combine, seeds: int) -> Combine:
    """The mean score of parts `(..., S*K)`, one seed's beside the other's."""

    def mean(sums: Array) -> Array:
        return np.asarray(combine(sums.reshape(*sums.shape[:-1], seeds, -1)).mean(-1))

    return mean


def interval(values: Array, kitchens: Sequence[str], combine: Combine | None = None) -> dict[str, float]:
    """A bootstrap interval of a mean over whole kitchens; of one kitchen there is none.

    Args:
        values: of each query `(N,)`, or parts `(N, K)`.
        kitchens: of each query.
        combine: makes a score of summed parts; None for the mean.
    """
    if len(set(kitchens)) < 2:
        return {}
    found = bootstrap(values, kitchens, combine=combine)
    return {"low": found.low, "high": found.high}


def _spread(values: Sequence[float] | Array) -> dict[str, float]:
    """Mean and standard deviation over seeds."""
    array = np.array([value for value in values if not np.isnan(value)])
    if not len(array):
        return {}
    return {"mean": float(array.mean()), "sd": float(array.std(ddof=1)) if len(array) > 1 else 0.0}


def _share(marks: Iterable[bool]) -> float:
    found = list(marks)
    return float(np.mean(found)) if found else float("nan")

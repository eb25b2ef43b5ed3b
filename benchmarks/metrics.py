"""Scoring captions: seconds a metric, ours beside pycocoevalcap called as its own evaluation calls it.

    python benchmarks/metrics.py [--pairs 10000] [--runs 3] [--spacy NAME] [--json]

Both score the same made-up narrations by the treatment `coco`, with the same Java, and the script asserts that the scores
are equal. pycocoevalcap tokenises references and captions in a Java process each and asks METEOR a caption at a time; we
tokenise every different text once, and METEOR reads ahead. BLEU and ROUGE-L are pycocoevalcap's counting in both; our CIDEr
takes a logarithm a word instead of one at each of its places, and gives CIDEr-plain in the same pass. What only we have
(intervals, the comparison of two runs, verbs and nouns) is timed beside it. The two take turns; each figure is the best of
the runs. METEOR's includes its start.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

from egoinstructor.evaluation.metrics.actions import score_narrations
from egoinstructor.evaluation.metrics.base import BLEU, combine_of
from egoinstructor.evaluation.metrics.captions import score_captions
from egoinstructor.evaluation.metrics.java import find_java
from egoinstructor.evaluation.metrics.meteor import Meteor
from egoinstructor.evaluation.metrics.text_treatment import treat
from egoinstructor.evaluation.statistics import bootstrap, compare_paired

VERBS, WHICH, THINGS, PLACES = (
    words.split()
    for words in (
        "cuts opens closes washes stirs pours peels picks drops moves turns folds wipes holds shakes lifts",
        "red blue small big wooden plastic wet dry broken old new empty full hot cold sharp",
        "onion knife pan tap cup drawer fridge cloth dough bottle lid spoon table plate potato screw nail",
        "table shelf sink stove floor bench chair tray counter bag box rack",
    )
)


def narrations(count: int) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Captions and a reference each."""
    draw = random.Random(0)

    def text() -> str:
        words = [draw.choice(some) for some in (VERBS, WHICH, THINGS, WHICH, PLACES, VERBS, WHICH, THINGS)]
        return "#C C {} the {} {} on the {} {}, then {} the {} {}.".format(*words)

    references = {str(i): [text()] for i in range(count)}
    captions = {}
    for name, (truth,) in references.items():
        other = text().split()
        captions[name] = " ".join(word if draw.random() < 0.7 else other[i] for i, word in enumerate(truth.split()))
    return captions, references


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def theirs(captions: dict[str, str], references: dict[str, list[str]]) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds and scores of pycocoevalcap."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor as TheirMeteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    def tokenized() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        truths = PTBTokenizer().tokenize({i: [{"caption": text} for text in some] for i, some in references.items()})
        return truths, PTBTokenizer().tokenize({i: [{"caption": text}] for i, text in captions.items()})

    seconds, scores = {}, {}
    seconds["tokenising"], (truths, said) = timed(tokenized)
    seconds["METEOR, start"], meteor = timed(
        TheirMeteor
    )  # returns at once; Java reads its files while it is first asked
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # noqa: PTH123
        for name, scorer in (("BLEU", Bleu(4)), ("METEOR", meteor), ("ROUGE-L", Rouge()), ("CIDEr", Cider())):
            seconds[name], (score, _) = timed(lambda scorer=scorer: scorer.compute_score(truths, said))
            scores |= dict(zip(BLEU, score, strict=True)) if name == "BLEU" else {name: score}
    return seconds, scores


def ours(captions: dict[str, str], references: dict[str, list[str]]) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds and scores of `score_captions`, a metric at a time on tokenised texts."""
    seconds, scores = {}, {}
    texts = [text for name in references for text in (captions[name], *references[name])]
    seconds["tokenising"], table = timed(lambda: treat(texts, "coco"))
    said = {name: table[text] for name, text in captions.items()}
    truths = {name: [table[text] for text in some] for name, some in references.items()}
    with Meteor() as meteor:
        for name in ("BLEU", "METEOR", "ROUGE-L", "CIDEr"):
            names = {"BLEU": BLEU, "CIDEr": ("CIDEr", "CIDEr-plain")}.get(name, (name,))
            work = lambda names=names: score_captions(said, truths, names, meteor=meteor)  # noqa: E731
            seconds[name], found = timed(work)
            scores |= found.corpus
    metric = score_captions(said, truths, ["BLEU-4"]).metrics["BLEU-4"]
    videos = [f"v{i // 10}" for i in range(len(captions))]
    combine = combine_of("BLEU-4")
    seconds["interval of one metric"], _ = timed(lambda: bootstrap(metric.parts, videos, combine=combine))
    work = lambda: compare_paired(metric.parts, metric.parts[::-1], videos, combine=combine)  # noqa: E731
    seconds["comparison in one metric"], _ = timed(work)
    return seconds, scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000, help="captions to score")
    parser.add_argument("--runs", type=int, default=3, help="of which the best counts")
    parser.add_argument("--spacy", metavar="NAME", help="time verbs and nouns too, with this pipeline of spaCy")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{os.path.dirname(find_java('The benchmark'))}{os.pathsep}{os.environ['PATH']}"  # noqa: PTH120
    captions, references = narrations(arguments.pairs)
    rounds = []
    for _ in range(arguments.runs):
        our_seconds, our_scores = ours(captions, references)
        their_seconds, their_scores = theirs(captions, references)
        assert all(abs(score - our_scores[name]) < 1e-6 for name, score in their_scores.items())
        rounds.append((our_seconds, their_seconds))
    our_seconds, their_seconds = ({n: min(r[side][n] for r in rounds) for n in rounds[0][side]} for side in (0, 1))
    if arguments.spacy:
        work = lambda: score_narrations(captions, references, pipeline=arguments.spacy)  # noqa: E731
        our_seconds["verbs and nouns"], _ = timed(work)
    if arguments.json:
        print(json.dumps({"pairs": arguments.pairs, "ours": our_seconds, "pycocoevalcap": their_seconds}))
        return
    print(f"{arguments.pairs} pairs; seconds\n\n| | ours | pycocoevalcap |\n| --- | --- | --- |")
    for name, seconds in our_seconds.items():
        other = f"{their_seconds[name]:.2f}" if name in their_seconds else "–"
        print(f"| {name} | {seconds:.2f} | {other} |")


if __name__ == "__main__":
    main()

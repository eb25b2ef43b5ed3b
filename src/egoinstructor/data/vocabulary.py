"""Words → ids, one for all words that mean the same: in a list that somebody wrote, or by a sentence encoder.

V words, D width of their embeddings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from egoinstructor import fields
from egoinstructor.errors import InputError

WordKind = Literal["verbs", "nouns"]
Synonyms = Mapping[str, str]
"""For a word the one that it counts as."""

SIMILAR = 0.7
"""Cosine from which two words count as one: of those that `benchmarks/mining.py` tries, the lowest without a wrong pair."""

TEXTS_PER_PASS = 256
"""Texts that go through a sentence encoder at once: bounds memory, not speed."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The verbs or the nouns of a data set.

    Args:
        names: of each id the word that stands for it; the most frequent first.
        ids: of each word its id.
    """

    names: tuple[str, ...]
    ids: Mapping[str, int]

    @classmethod
    def build(cls, counts: Mapping[str, int], synonyms: Synonyms | None = None) -> Vocabulary:
        """Number the words by how often they, with their synonyms, occur; then by the alphabet."""
        synonyms = synonyms or {}
        groups: Counter[str] = Counter()
        for word, count in counts.items():
            groups[synonyms.get(word, word)] += count
        names = tuple(sorted(groups, key=lambda name: (-groups[name], name)))
        number = {name: index for index, name in enumerate(names)}
        return cls(names, {word: number[synonyms.get(word, word)] for word in counts})

    def as_list(self) -> list[dict[str, Any]]:
        """For JSON: of each id its name and the words that have it."""
        members: list[list[str]] = [[] for _ in self.names]
        for word, index in sorted(self.ids.items()):
            members[index].append(word)
        return [{"id": i, "name": n, "words": w} for i, (n, w) in enumerate(zip(self.names, members, strict=True))]


def read_synonyms(path: str | Path) -> dict[WordKind, Synonyms]:
    """A list that somebody wrote: `{"verbs": {"take": ["grab", "pick up"]}, "nouns": {"cup": ["mug"]}}`.

    Raises:
        InputError: it can't be read, has another form, or a word counts as two.
    """
    path = Path(path)
    content = fields.only(fields.read_object(path), ("verbs", "nouns"), str(path))
    found: dict[WordKind, Synonyms] = {}
    for kind in ("verbs", "nouns"):
        stands: dict[str, str] = {}
        groups = fields.as_object(content.get(kind, {}), f"{path}: {kind}")
        for name, words in groups.items():
            where = f"{path}: {kind}.{name}"
            for word in fields.as_list(words, where):
                fields.check(isinstance(word, str), word, where, "a word")
                if word in groups or stands.get(word, name) != name:
                    raise InputError(f"{where}: {word!r} is in two groups; a word can count as one other only.")
                stands[word] = name
        found[kind] = stands
    return found


def similar_words(
    counts: Mapping[str, int],
    encode: Callable[[Sequence[str]], Tensor],
    kind: WordKind,
    *,
    threshold: float = SIMILAR,
    known: Synonyms | None = None,
) -> Synonyms:
    """Which words count as which by their meaning: from the most frequent on, a word joins the most similar one before it.

    It joins only words that stand for themselves, so that a chain of similar words is not one group.

    Args:
        counts: how often each occurs.
        encode: texts → unit vectors `(V, D)`.
        kind: verbs are shown to the encoder as "to cut", since many are nouns too.
        threshold: cosine from which it joins.
        known: synonyms that are given; their words are left alone.
    """
    known = known or {}
    words = [word for word in sorted(counts, key=lambda word: (-counts[word], word)) if word not in known]
    if not words:
        return known
    vectors = encode([f"to {word}" if kind == "verbs" else word for word in words])  # (V, D)
    heads: list[int] = []
    table = torch.empty_like(vectors)  # those of the heads, in the first rows
    found = dict(known)
    for index, word in enumerate(words):
        if heads:
            best, place = (table[: len(heads)] @ vectors[index]).max(0)
            if best >= threshold:
                found[word] = words[heads[int(place)]]
                continue
        table[len(heads)] = vectors[index]
        heads.append(index)
    return found


def sentence_encoder(where: str | Path) -> Callable[[Sequence[str]], Tensor]:
    """A sentence encoder of the common kind: the mean of a transformer's last states, of unit length.

    Args:
        where: folder or Hub id, such as sentence-transformers/all-MiniLM-L6-v2.

    Raises:
        CheckpointError: no such model, or it can't be opened.
    """
    from transformers import AutoModel

    from egoinstructor.retriever.loading import find_model, load_model, load_text_tokenizer

    folder = find_model(where)
    model: Any = load_model(AutoModel, folder, torch.float32)
    tokenizer = load_text_tokenizer(folder)

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> Tensor:
        rows = []
        for first in range(0, len(texts), TEXTS_PER_PASS):
            some = list(texts[first : first + TEXTS_PER_PASS])
            inputs = tokenizer(some, padding=True, truncation=True, max_length=64, return_tensors="pt")
            mask = inputs["attention_mask"][..., None]  # (B, T, 1)
            states = model(**inputs).last_hidden_state * mask
            rows.append(F.normalize(states.sum(1) / mask.sum(1), dim=-1))  # (B, D)
        return torch.cat(rows)

    return encode

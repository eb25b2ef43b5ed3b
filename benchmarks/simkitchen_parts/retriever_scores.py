"""Ego → exo, by the library's own vectors: does the nearest how-to clip show the same action, or the same thing?

The query's own event is not in the gallery. A query that nothing in its gallery answers is left out and counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from nano_steps.recall import ACTION, NOUN, NOUN_BY_VERB, recalls
from simkitchen_parts.kitchen import Kitchen, KitchenLibrary, library_vectors
from simkitchen_parts.scores import BUCKETS, interval, of_bucket

TOP = (1, 5)
MEASURES = {
    "same verb and noun": ACTION,
    "same noun": NOUN,
    "same noun, among clips of the same verb": NOUN_BY_VERB,
}


def retriever_scores(kitchen: Kitchen, shelf: KitchenLibrary) -> dict[str, Any]:
    """R@1 and R@5 by bucket and measure, beside what random orders would have."""
    events = sorted(kitchen.howto)
    clips = [kitchen.howto[event] for event in events]
    gallery = library_vectors(shelf, events)
    similarity = torch.stack([shelf.ego[query.event] for query in kitchen.queries]).float() @ gallery.T  # (N, M)
    table: dict[str, Any] = {}
    for name, measure in MEASURES.items():
        found, expected = recalls(kitchen.queries, clips, similarity, measure, TOP)
        for bucket in BUCKETS:
            places = [i for i in of_bucket(kitchen.queries, bucket) if not np.isnan(found[i, 0])]
            if not places:
                continue
            kitchens = [kitchen.queries[i].kitchen for i in places]
            scores: dict[str, Any] = {
                "queries": len(places),
                "left out": len(of_bucket(kitchen.queries, bucket)) - len(places),
            }
            for i, k in enumerate(TOP):
                scores[f"R@{k}"] = {"mean": float(found[places, i].mean()), **interval(found[places, i], kitchens)}
                scores[f"R@{k} by chance"] = float(expected[places, i].mean())
            table.setdefault(bucket, {})[name] = scores
    return table

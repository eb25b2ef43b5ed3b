"""Recall against a version in loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from egoinstructor.retriever import recall
from egoinstructor.retriever.recall import index_recall_at


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99), st.integers(1, 4))
@settings(deadline=None)
def test_recall_is_the_loops(monkeypatch_session, queries, gallery, seed, chunk):
    monkeypatch_session.setattr(recall, "CHUNK", chunk)
    draw = torch.Generator().manual_seed(seed)
    # Few different values, so that some are equal.
    q, g = (torch.randint(-1, 2, (n, 2), generator=draw).float() for n in (queries, gallery))
    answers = [set(torch.randint(0, gallery, (i % 3,), generator=draw).tolist()) for i in range(queries)]
    for k, found in index_recall_at(q, g, answers, (1, 2, 5)).items():
        hits = 0
        for query, right in zip(q, answers, strict=True):
            # The right ones last among those as near.
            order = sorted(range(gallery), key=lambda j, query=query, right=right: (-(query @ g[j]).item(), j in right))
            hits += bool(right & set(order[:k]))
        assert found == pytest.approx(hits / queries)


@pytest.fixture(scope="session")
def monkeypatch_session():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_what_is_all_the_same_finds_nothing():
    same = F.normalize(torch.ones(4, 3), dim=-1)
    assert index_recall_at(same, same, [[i] for i in range(4)], (1, 3, 4)) == {1: 0, 3: 0, 4: 1}


def test_without_queries_there_is_no_recall():
    assert math.isnan(index_recall_at(torch.zeros(0, 3), torch.zeros(2, 3), [], (1,))[1])

"""Ranking metrics against loops that follow their definitions, against chance, and what can't be measured."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from egoinstructor.errors import InputError
from egoinstructor.evaluation import chance, ranking
from egoinstructor.evaluation.relevancy import Answers, Matrix, SharedWords
from egoinstructor.evaluation.retrieval import evaluate_retrieval

LEVELS = (0.0, 0.25, 0.5, 1.0)


@st.composite
def searches(draw):
    """Similarities with many ties, and relevancies with at least one answer for each query."""
    n, m = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    similarity = draw(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=n * m, max_size=n * m))
    relevancy = draw(st.lists(st.sampled_from(LEVELS), min_size=n * m, max_size=n * m))
    relevancy = torch.tensor(relevancy).view(n, m)
    relevancy[torch.arange(n), torch.tensor(draw(st.lists(st.integers(0, m - 1), min_size=n, max_size=n)))] = 1.0
    return torch.tensor(similarity).view(n, m), relevancy


def ranked(similarity, relevancy):
    """Items best first, as plain Python sorts them; the less relevant before its equals."""
    items = range(len(similarity))
    return sorted(items, key=lambda i: (-float(similarity[i]), float(relevancy[i]), i))


def naive_first_rank(similarity, relevancy):
    order = ranked(similarity, (relevancy >= 1).float())
    return next(place for place, item in enumerate(order, 1) if relevancy[item] >= 1)


def naive_average_precision(similarity, relevancy):
    order = ranked(similarity, (relevancy >= 1).float())
    found, precisions = 0, []
    for place, item in enumerate(order, 1):
        if relevancy[item] >= 1:
            found += 1
            precisions.append(found / place)
    return sum(precisions) / len(precisions)


def naive_ndcg(similarity, relevancy):
    k = sum(float(value) > 0 for value in relevancy)

    def dcg(order):
        return sum(float(relevancy[item]) / math.log2(place + 1) for place, item in enumerate(order[:k], 1))

    return dcg(ranked(similarity, relevancy)) / dcg(ranked(relevancy, relevancy))


@given(searches())
@settings(max_examples=60, deadline=None)
def test_metrics_equal_their_loops(search):
    similarity, relevancy = search
    relevant = relevancy >= 1
    rows = list(zip(similarity, relevancy, strict=True))
    assert ranking.first_ranks(similarity, relevant).tolist() == [naive_first_rank(*row) for row in rows]
    precisions = ranking.average_precision(similarity, relevant).tolist()
    assert precisions == pytest.approx([naive_average_precision(*row) for row in rows])
    assert ranking.ndcg(similarity, relevancy).tolist() == pytest.approx([naive_ndcg(*row) for row in rows])


@given(searches(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_metrics_do_not_depend_on_the_order_of_items(search, random):
    similarity, relevancy = search
    order = list(range(similarity.shape[1]))
    random.shuffle(order)
    shuffled, moved = similarity[:, order], relevancy[:, order]
    assert ranking.first_ranks(similarity, relevancy >= 1).equal(ranking.first_ranks(shuffled, moved >= 1))
    for metric, a, b in (
        (ranking.average_precision, relevancy >= 1, moved >= 1),
        (ranking.ndcg, relevancy, moved),
    ):
        assert torch.allclose(metric(similarity, a), metric(shuffled, b))


@pytest.mark.parametrize("levels", [[1.0], [1.0, 0.0], [1.0, 1.0, 0.0, 0.5], [1.0, 0.0, 0.0, 0.25, 1.0]])
def test_chance_is_the_mean_over_all_orders(levels):
    relevancy = torch.tensor([levels])
    orders = torch.tensor(list(itertools.permutations(range(len(levels)))), dtype=torch.float)
    everywhere = relevancy.expand(len(orders), -1)
    answers, size = (relevancy >= 1).sum(1), len(levels)
    ranks = ranking.first_ranks(orders, everywhere >= 1)
    for k in (1, 2, 5, 10):
        assert float(chance.expected_recall_at(answers, size, k)) == pytest.approx(
            float(ranking.recall_at(ranks, k).mean())
        )
    assert float(chance.average_precision(answers, size)) == pytest.approx(
        float(ranking.average_precision(orders, everywhere >= 1).mean())
    )
    assert float(chance.ndcg(relevancy)) == pytest.approx(float(ranking.ndcg(orders, everywhere).mean()))
    assert chance.median_rank(answers, size) == ranks.sort().values[(len(ranks) - 1) // 2]


@given(searches(), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_chunks_change_nothing(search, chunk):
    similarity, relevancy = search
    gallery = torch.eye(similarity.shape[1])  # so that the similarities are as drawn
    whole = evaluate_retrieval(similarity, gallery, Matrix(relevancy))
    assert evaluate_retrieval(similarity, gallery, Matrix(relevancy), chunk=chunk).as_dict() == whole.as_dict()


def test_a_perfect_and_a_blind_retriever():
    embeddings = normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    answers = Answers.same_label(range(40), range(40))
    scores = evaluate_retrieval(embeddings, embeddings, answers)
    assert scores.metrics == pytest.approx({"R@1": 1, "R@5": 1, "R@10": 1, "MedR": 1, "mAP": 1, "nDCG": 1})
    assert scores.chance["R@10"] == pytest.approx(10 / 40)
    assert scores.chance["MedR"] == 20
    alike = torch.ones(40, 16)
    assert evaluate_retrieval(alike, alike, answers).metrics["R@10"] == 0  # ties are read against it
    assert evaluate_retrieval(alike, alike, answers).metrics["MedR"] == 40


def test_unanswered_queries_are_left_out_and_counted():
    queries, gallery = torch.eye(3), torch.eye(3)
    scores = evaluate_retrieval(queries, gallery, Answers([[0], [], [0, 2]], 3))
    assert (scores.queries, scores.unanswered, scores.gallery) == (2, 1, 3)
    assert scores.metrics["R@1"] == 1
    assert scores.metrics["mAP"] == pytest.approx((1 + (1 + 2 / 3) / 2) / 2)  # item 0 ties with 1, and is read last


def test_graded_relevancy_is_for_ndcg_alone():
    queries, gallery = torch.tensor([[1.0, 0.9, 0.8]]), torch.eye(3)
    graded = Matrix(torch.tensor([[0.5, 1.0, 0.0]]))
    scores = evaluate_retrieval(queries, gallery, Answers([[2]], 3), graded)
    assert scores.metrics["MedR"] == 3
    assert scores.metrics["nDCG"] == pytest.approx((0.5 + 1 / math.log2(3)) / (1 + 0.5 / math.log2(3)))


def test_a_query_without_grades_is_left_out_of_ndcg():
    graded = Matrix(torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    scores = evaluate_retrieval(torch.eye(2), torch.eye(2), Answers([[0], [1]], 2), graded)
    assert scores.ungraded == 1
    assert scores.metrics["nDCG"] == 1
    none = evaluate_retrieval(torch.eye(2), torch.eye(2), Answers([[0], [1]], 2), Matrix(torch.zeros(2, 2)))
    assert "nDCG" not in none.metrics


words = st.lists(st.integers(0, 3), max_size=3)


@given(
    st.lists(st.tuples(words, words), min_size=1, max_size=4), st.lists(st.tuples(words, words), min_size=1, max_size=4)
)
@settings(max_examples=40, deadline=None)
def test_shared_words_equal_their_definition(queries, items):
    def share(a, b):
        return len(set(a) & set(b)) / len({*a, *b}) if {*a, *b} else 0.0

    expected = [[share(q[0], i[0]) / 2 + share(q[1], i[1]) / 2 for i in items] for q in queries]
    relevancy = SharedWords(queries, items)
    assert relevancy.shape == (len(queries), len(items))
    assert torch.allclose(relevancy.rows(0, len(queries)), torch.tensor(expected))


def test_answers_turn():
    answers = Answers([[1, 1, 0], [], [1]], 2)
    assert answers.turned().rows(0, 2).equal(answers.rows(0, 3).T)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Answers([[0], [3]], 3), "query 1 is answered by"),
        (lambda: Matrix(torch.tensor([[1.5]])), "from 0 to 1"),
        (lambda: evaluate_retrieval(torch.eye(2), torch.eye(3), Answers([[0], [1]], 3)), "of the same D"),
        (lambda: evaluate_retrieval(torch.eye(2), torch.eye(2), Answers([[0]], 2)), "a row for each query"),
        (lambda: evaluate_retrieval(torch.eye(2), torch.eye(2), Answers([[], []], 2)), "none of 2 queries"),
        (lambda: evaluate_retrieval(torch.eye(2) / 0, torch.eye(2), Answers([[0], [1]], 2)), "not finite"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()

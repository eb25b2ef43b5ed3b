"""EgoExoNCE against a version written in loops, and several processes against one."""

from __future__ import annotations

import math
import multiprocessing

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from egoinstructor.retriever.egoexonce import (
    NO_ID,
    egoexo_positives,
    egoexonce,
    gather,
    noun_nce,
    same_action,
    same_item,
)

ids = st.lists(st.sets(st.integers(0, 4), max_size=3), min_size=1, max_size=7)


def filled(lists):
    width = max(map(len, lists), default=0)
    return torch.tensor([sorted(row) + [NO_ID] * (width - len(row)) for row in lists], dtype=torch.long).view(
        len(lists), width
    )


def cosine(a: set[int], b: set[int]) -> float:
    vectors = [torch.tensor([float(i in ids) for i in range(5)]) for ids in (a, b)]
    lengths = [vector.norm().item() for vector in vectors]
    return 0.0 if 0.0 in lengths else (vectors[0] @ vectors[1]).item() / lengths[0] / lengths[1]


def loop_positives(items, nouns, verbs):
    rows = range(len(items))
    return [
        [i == j or items[i] == items[j] or cosine(nouns[i], nouns[j]) * cosine(verbs[i], verbs[j]) > 0 for j in rows]
        for i in rows
    ]


def loop_loss(a, b, positives, scale):
    total = torch.zeros((), dtype=a.dtype)
    for left, right, flipped in ((a, b, False), (b, a, True)):
        for i in range(len(left)):
            exponentials = [torch.exp(scale * (left[i] @ right[j])) for j in range(len(right))]
            chosen = [e for j, e in enumerate(exponentials) if (positives[j][i] if flipped else positives[i][j])]
            total = total - torch.log(sum(chosen) / sum(exponentials)) / len(left)
    return total


@given(ids, ids, st.integers(0, 99))
@settings(deadline=None)
def test_positives_are_the_loops(nouns, verbs, seed):
    nouns, verbs = nouns[: len(verbs)], verbs[: len(nouns)]
    items = torch.randint(0, 3, (len(nouns),), generator=torch.Generator().manual_seed(seed))
    found = egoexo_positives(items, filled(nouns), filled(verbs))
    assert found.tolist() == loop_positives(items.tolist(), nouns, verbs)


@given(st.integers(1, 6), st.integers(0, 999), st.floats(0.1, 30))
@settings(deadline=None, max_examples=50)
def test_loss_and_gradients_are_the_loops(rows, seed, scale):
    draw = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(rows, 4, generator=draw, requires_grad=True) for _ in range(2))
    positives = torch.rand(rows, rows, generator=draw) < 0.3
    positives.fill_diagonal_(True)
    learned = torch.tensor(scale, requires_grad=True)
    loss = egoexonce(F.normalize(a, dim=-1), F.normalize(b, dim=-1), positives, learned)
    slow = loop_loss(*(F.normalize(x.double(), dim=-1) for x in (a, b)), positives.tolist(), learned.double())
    torch.testing.assert_close(loss.double(), slow, rtol=1e-5, atol=1e-5)
    of = (a, b, learned)
    for fast, exact in zip(torch.autograd.grad(loss, of), torch.autograd.grad(slow, of), strict=True):
        torch.testing.assert_close(fast, exact, rtol=1e-4, atol=2e-5)


def test_with_itself_alone_it_is_cross_entropy():
    a, b = (F.normalize(torch.randn(5, 4), dim=-1) for _ in range(2))
    logits, right = 14 * a @ b.T, torch.arange(5)
    expected = F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)
    torch.testing.assert_close(egoexonce(a, b, same_item(right), 14), expected)


def test_two_sets_of_different_sizes():
    """As between ego and exo clips."""
    a, b = F.normalize(torch.randn(2, 4), dim=-1), F.normalize(torch.randn(3, 4), dim=-1)
    positives = torch.tensor([[True, False, True], [False, True, False]])
    torch.testing.assert_close(egoexonce(a, b, positives, 3.0), loop_loss(a, b, positives.tolist(), 3.0))


def test_stable_where_exponentials_overflow():
    a = F.normalize(torch.randn(4, 8), dim=-1).requires_grad_()
    loss = egoexonce(a, -a, torch.eye(4, dtype=torch.bool), 1e4)
    loss.backward()
    assert math.isfinite(loss.item())
    assert loss.item() > 1e3
    assert a.grad.isfinite().all()


def test_half_precision_is_summed_in_single():
    a, b = (F.normalize(torch.randn(8, 16), dim=-1).bfloat16() for _ in range(2))
    positives = torch.eye(8, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = egoexonce(a, b, positives, 100.0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, egoexonce(a.float(), b.float(), positives, 100.0))


def test_rows_without_nouns_or_verbs_have_no_action():
    none = torch.empty(3, 0, dtype=torch.long)
    some = torch.tensor([[1], [1], [NO_ID]])
    assert not same_action(none, some).any()
    assert same_action(some, some).tolist() == [[True, True, False], [True, True, False], [False] * 3]
    items = torch.arange(3)
    assert egoexo_positives(items, none, none).tolist() == torch.eye(3, dtype=torch.bool).tolist()


def test_a_batch_of_nothing():
    a = torch.zeros(0, 4, requires_grad=True)
    loss = egoexonce(a, a, torch.zeros(0, 0, dtype=torch.bool), 1.0)
    loss.backward()
    assert loss.item() == 0
    assert a.grad.shape == (0, 4)


@given(ids, st.integers(0, 99))
@settings(deadline=None)
def test_nouns_among_all_nouns_are_the_loops(nouns, seed):
    draw = torch.Generator().manual_seed(seed)
    video = F.normalize(torch.randn(len(nouns), 16, generator=draw, dtype=torch.float64), dim=-1)
    vectors = torch.randn(5, 16, generator=draw, dtype=torch.float64)
    expected = []
    for row, own in zip(video, nouns, strict=True):
        shares = torch.softmax(torch.stack([7 * (row @ vector) / vector.norm() for vector in vectors]), dim=0)
        if own:
            expected.append(-math.log(sum(shares[noun].item() for noun in own)))
    found = noun_nce(video, vectors, filled(nouns), 7.0).item()
    assert found == pytest.approx(sum(expected) / len(expected) if expected else 0, rel=1e-5, abs=1e-6)


# ---------------------------------------------------------------------- several processes

ROWS = 8


def batch():
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(ROWS, 6, generator=draw)
    texts = F.normalize(torch.randn(ROWS, 3, generator=draw), dim=-1)
    nouns, verbs = (torch.randint(-1, 3, (ROWS, 2), generator=draw) for _ in range(2))
    return features, texts, torch.arange(ROWS) // 2, nouns, verbs


def step(weight, scale, rows):
    """Loss and gradients of a linear model on these rows of the batch, gathered with the others'."""
    features, texts, items, nouns, verbs = (part[rows] for part in batch())
    video, texts, items, nouns, verbs = gather(F.normalize(features @ weight, dim=-1), texts, items, nouns, verbs)
    loss = egoexonce(video, texts, egoexo_positives(items, nouns, verbs), scale.exp())
    loss = loss + noun_nce(video, torch.eye(3) + 0.1, nouns, scale.exp())
    return loss.detach(), torch.autograd.grad(loss, (weight, scale))


def start():
    weight = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), requires_grad=True)
    return weight, torch.tensor(2.0, requires_grad=True)


def process(rank, splits, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(splits))
    loss, gradients = step(*start(), splits[rank])
    for gradient in gradients:
        dist.all_reduce(gradient)
        gradient /= len(splits)  # as DDP
    torch.save((loss, gradients), f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.mark.parametrize("sizes", [(4, 4), (6, 2), (8, 0)])
def test_two_processes_are_one(tmp_path, sizes):
    splits = [slice(0, sizes[0]), slice(sizes[0], ROWS)]
    context = multiprocessing.get_context("fork")  # a fresh interpreter would have to import torch again
    processes = [context.Process(target=process, args=(rank, splits, tmp_path)) for rank in range(2)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(60)
        assert each.exitcode == 0
    loss, gradients = step(*start(), slice(None))
    for rank in range(2):
        theirs, exchanged = torch.load(tmp_path / f"{rank}", weights_only=True)
        torch.testing.assert_close(theirs, loss)
        torch.testing.assert_close(exchanged, gradients)

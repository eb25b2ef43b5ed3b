"""The index: it finds nearly all that exact search finds, measures itself, and keeps up with what is added."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from egoinstructor.library import index
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import Filter


@pytest.fixture(autouse=True)
def few_queries(monkeypatch):
    monkeypatch.setattr(index, "QUERIES", 24)
    monkeypatch.setattr(index, "LEAST_PARTITIONS", 8)


@pytest.fixture
def large(tmp_path, toy_retriever, clips):
    """600 clips, which is more than are searched exactly."""
    library = ExoLibrary.create(tmp_path / "large", toy_retriever, exact_rows=300)
    for name in "st":
        library.add_source(name, "/videos")
    library.add(*clips(600))
    library.optimize()
    return library


def recall(library, queries, k=10, **options):
    """Share of what exact search finds that the index finds."""
    hit = 0
    for query in queries:
        exact = library.search(query, k=k, exact=True, **options)
        by_index = library.search(query, k=k, exact=False, **options)
        assert [h.score for h in by_index] == sorted((h.score for h in by_index), reverse=True)
        assert len(by_index) == len(exact)
        hit += len({h.entry.id for h in exact} & {h.entry.id for h in by_index})
        scores = {h.entry.id: h.score for h in exact}
        assert all(h.score == scores.get(h.entry.id, h.score) for h in by_index)
    return hit / (k * len(queries))


def test_small_libraries_get_no_index(library, clips):
    library.add(*clips(20))
    assert library.optimize() == {}
    assert library.stats().index == {}


def test_the_index_finds_what_exact_search_finds(large, clips):
    queries = torch.nn.functional.normalize(torch.randn(15, 32, generator=torch.Generator().manual_seed(5)), dim=-1)
    for weight in (0.0, 0.5, 1.0):
        assert recall(large, queries, narration_weight=weight) > 0.9
    assert recall(large, queries, where=Filter(sources=("t",))) > 0.9
    assert large.search(queries[0]) == large.search(queries[0], exact=False), "the index is what large libraries use"


def test_it_measures_itself_and_remembers(large):
    facts = large.stats().index
    assert facts.keys() == {"video_vector", "narration_vector"}
    assert facts["video_vector"].rows == 600
    assert facts["narration_vector"].rows == 400
    assert all(column.recall >= 0.95 for column in facts.values())
    assert ExoLibrary.open(large.uri).stats().index == facts
    assert large.optimize() == facts, "nothing changed, so nothing is measured anew"


@pytest.mark.slow
def test_what_came_after_it_is_searched_too(large, clips):
    entries, video, narration = clips(40, seed=1)
    large.add(entries, video, narration)
    assert large.stats().unindexed == 40
    assert [large.search(query, k=1)[0].entry for query in video] == entries
    large.optimize()
    assert large.stats().unindexed == 0
    assert [large.search(query, k=1)[0].entry for query in video] == entries
    facts = large.stats().index["video_vector"]
    assert (facts.rows, facts.checked_rows) == (600, 640), "measured anew, not built anew"


@pytest.mark.slow
def test_a_library_that_has_doubled_gets_new_partitions(large, clips):
    large.add(*clips(700, seed=1))
    assert large.optimize()["video_vector"].rows == 1300


def test_a_filter_that_leaves_few_still_gives_all_of_them(large, clips, monkeypatch):
    entries, video, _ = clips(600)
    where = Filter(contains="milk 55")  # 55, 550 … 559, less those in which nothing is said
    expected = {entry for entry in entries if "milk 55" in entry.narration}
    for few in (0, 20_000):  # by the index, and exactly
        monkeypatch.setattr("egoinstructor.library.search.FEW", few)
        assert {hit.entry for hit in large.search(video[0], k=20, where=where)} == expected
    but_one = Filter(exclude_digests=tuple({entry.video_digest for entry in entries[4:]}))
    assert {hit.entry for hit in large.search(video[9], k=20, where=but_one)} == set(entries[:4])


@pytest.mark.slow
def test_too_little_recall_is_said(large, clips, monkeypatch, caplog):
    monkeypatch.setattr(index, "NPROBES", (1,))
    monkeypatch.setattr(index, "OVERSAMPLE", (1,))
    entries, video, narration = clips(4, seed=1)
    large.add(entries, video, narration)
    facts = large.optimize()["video_vector"]
    assert facts.recall < 0.95
    assert (facts.rows, facts.nprobes) == (604, 1), "it was built anew first"
    assert "fewer than the 95 % that are aimed at" in caplog.text


def test_the_check_is_right(large, clips):
    """Its true neighbours are those of a plain product, and finding other clips counts as none."""
    _, video, _ = clips(600)
    queries = index.sample_queries(large._store, "video_vector", 20)
    assert torch.allclose(queries.norm(dim=1), torch.ones(20))
    nearest = (queries @ video.T).max(dim=1).values
    assert 0.8 < nearest.mean() < 0.97, "near stored vectors, not on them"
    truth = index.true_neighbours(large._searcher.exact, "video_vector", queries)
    found = [[hit.entry.id for hit in large.search(query, k=10, exact=True)] for query in queries]
    assert index.overlap(found, truth) > 0.99
    assert index.overlap([["x"] * 10] * 20, truth) == 0
    assert index.overlap([names[:5] for names in truth], truth) == 0.5


def test_deleted_clips_are_not_found(large, clips):
    entries, video, _ = clips(600)
    large.delete(source="s")
    assert {hit.entry.source for hit in large.search(video[0], k=50, exact=False)} == {"t"}
    large.add([replace(entries[0], narration="back again")], video[:1], video[:1])
    assert large.search(video[0], k=1, exact=False)[0].entry.narration == "back again"

"""Search: what a plain loop over all clips would find, in its order, whatever the filter, the weight or the words."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from egoinstructor.errors import InputError
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import ClipEntry, Filter
from egoinstructor.library.sql import condition, one_of, quote
from egoinstructor.records import Clip


@pytest.fixture
def filled(library, clips):
    """60 clips."""
    library.add(*clips(60))
    return library


def stored(vectors: torch.Tensor) -> np.ndarray:
    return vectors.half().double().numpy()


def oracle(entries, video, narration, query, weight=0.0, where=None) -> list[tuple[str, float]]:
    """Every clip that a filter lets through, by score, then id; one at a time."""
    where = where or Filter()
    query, found = query.double().numpy(), []
    for entry, seen, said in zip(entries, stored(video), stored(narration), strict=True):
        seconds = entry.end - entry.start
        if (
            (not where.sources or entry.source in where.sources)
            and (where.min_seconds is None or seconds >= where.min_seconds)
            and (where.max_seconds is None or seconds <= where.max_seconds)
            and (
                not where.contains or any(where.contains.lower() in t.lower() for t in (entry.narration, entry.refined))
            )
            and entry.video_digest not in where.exclude_digests
        ):
            words = float(said @ query) if entry.text else 0.0
            found.append((entry.id, round((1 - weight) * float(seen @ query) + weight * words, 9)))
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def found(hits) -> list[tuple[str, float]]:
    return [(hit.entry.id, hit.score) for hit in hits]


@st.composite
def cases(draw):
    """A small library's clips and a search. Vectors are coarse, so that many scores are equal."""
    count = draw(st.integers(1, 12))
    word = st.sampled_from(["", "Pour 100% milk", "it's hot", 'ÖL_PAN \\ "x"', "pour; DROP TABLE clips --"])
    times = st.sampled_from([(0.0, 2.0), (0.5, 3.0), (1.0, 9.0)])
    entries = []
    for i in range(count):  # no two the same: a library has each once
        start, end = draw(times)
        source = draw(st.sampled_from("st"))
        entries.append(ClipEntry(f"{i}.mp4", 10 * i + start, 10 * i + end, draw(word), source, f"d{i % 3}", draw(word)))
    corner = st.integers(0, 31)
    vectors = torch.stack([torch.eye(32)[draw(corner) % 3] for _ in range(2 * count)]).view(2, count, 32)
    query = torch.nn.functional.normalize(
        torch.eye(32)[0] + draw(st.sampled_from([0.0, 0.5, 1.0])) * torch.eye(32)[1], dim=0
    )
    where = Filter(
        sources=draw(st.sampled_from([(), ("s",), ("s", "t"), ("it's",)])),
        min_seconds=draw(st.sampled_from([None, 2.0, 2.4])),
        max_seconds=draw(st.sampled_from([None, 2.5, 8.0])),
        contains=draw(st.sampled_from([None, "MILK", "%", "_", "'", "öl_", "\\", '"', "';", "' OR 1=1 --"])),
        exclude_digests=draw(st.sampled_from([(), ("d0",), ("d0", "d1", "' OR ''='")])),
    )
    return (
        entries,
        vectors[0],
        vectors[1],
        query,
        draw(st.sampled_from([0.0, 0.3, 1.0])),
        where,
        draw(st.integers(1, 14)),
    )


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_small_tables_give_what_a_loop_gives(toy_retriever, case):
    entries, video, narration, query, weight, where, k = case
    library = ExoLibrary.create("memory://", toy_retriever)
    for name in "st":
        library.add_source(name, "/videos")
    library.add(entries, video, narration)
    expected = oracle(entries, video, narration, query, weight, where)[:k]
    given_up = [found(library.search(query, k=k, narration_weight=weight, where=where, exact=e)) for e in (None, True)]
    assert given_up == [expected, expected]


def test_streamed_and_kept_in_memory_are_the_same(filled, clips):
    entries, video, narration = clips(60)
    streamed = ExoLibrary.open(filled.uri, exact_rows=0)
    for weight in (0.0, 0.4):
        hits = filled.search(video[7], k=60, narration_weight=weight)
        assert hits == streamed.search(video[7], k=60, narration_weight=weight, exact=True)
        assert found(hits) == oracle(entries, video, narration, video[7], weight)
    assert streamed.search(video[7], k=3) == filled.search(video[7], k=3), "exact, while there is no index"


def test_many_parts_of_one_product_are_one(filled, clips, monkeypatch):
    expected = filled.search(clips(60)[1][5], k=20)
    monkeypatch.setattr("egoinstructor.library.exact.ROWS_AT_ONCE", 7)
    assert filled.search(clips(60)[1][5], k=20) == expected


def test_equal_clips_come_by_id(library):
    entries = [ClipEntry(f"{i}.mp4", 0, 1, "", "s", f"d{i}") for i in range(40)]
    library.add(entries, torch.eye(32)[[0] * 40])
    ids = [hit.entry.id for hit in library.search(torch.eye(32)[0], k=15)]
    assert ids == sorted(entry.id for entry in entries)[:15]


def test_a_hit_says_what_it_is_worth(filled, clips):
    entries, video, narration = clips(60)
    hit = filled.search(video[4], k=1, narration_weight=0.25)[0]
    assert hit.entry == entries[4]
    assert hit.video_score == pytest.approx(1, abs=1e-3)
    assert hit.narration_score == pytest.approx(float(video[4] @ narration[4]), abs=1e-3)
    assert hit.score == pytest.approx(0.75 * hit.video_score + 0.25 * hit.narration_score, abs=1e-8)
    silent = filled.search(video[3], k=1, narration_weight=0.25)[0]
    assert (silent.entry, silent.narration_score) == (entries[3], None)
    assert silent.score == pytest.approx(0.75 * silent.video_score, abs=1e-8)


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        (Filter(sources=("t",)), lambda e: e.source == "t"),
        (Filter(min_seconds=2.5), lambda e: e.end - e.start == 3),
        (Filter(contains="IT'S HOT"), lambda e: "hot" in e.narration),
        (Filter(exclude_digests=("0-0", "0-7")), lambda e: e.video_digest not in ("0-0", "0-7")),
        (Filter(sources=("s",), max_seconds=2, contains="cold"), lambda e: e.source == "s" and "cold" in e.narration),
    ],
)
def test_a_filter_leaves_every_clip_that_fits(filled, clips, where, fits):
    entries, video, _ = clips(60)
    hits = filled.search(video[0], k=60, where=where)
    assert {hit.entry for hit in hits} == {entry for entry in entries if fits(entry)}


# Words


def ranks(*rankings: list[str]) -> list[tuple[str, float]]:
    total: dict[str, float] = {}
    for ranking in rankings:
        for rank, key in enumerate(ranking, 1):
            total[key] = total.get(key, 0) + 1 / (60 + rank)
    return sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("by_video", [False, True])
def test_words_and_vectors_are_fused_by_reciprocal_rank(filled, clips, toy_retriever, by_video):
    library = ExoLibrary.open(filled.uri, toy_retriever)
    entries, video, narration = clips(60)
    text = "pouring milk 31"
    query = video[8] if by_video else None
    hits = library.search(query, text=text, k=5, narration_weight=0.5)
    vectors = [*([video[8]] if by_video else []), toy_retriever.encode_text([text])[0]]
    dense = [[key for key, _ in oracle(entries, video, narration, vector, 0.5)] for vector in vectors]
    told = [hit for hit in library.search(query, text=text, k=60, narration_weight=0.5) if hit.text_rank is not None]
    words = [hit.entry.id for hit in sorted(told, key=lambda hit: hit.text_rank)]
    assert words[0] == entries[31].id, "the rarest word counts most"
    assert len(words) == 40, "the milk is poured, whatever the form, in all that is said"
    assert found(hits) == ranks(*dense, words)[:5]
    first = hits[0]
    cosine = torch.from_numpy(stored(video))[[e.id for e in entries].index(first.entry.id)] @ vectors[0].double()
    assert first.video_score == pytest.approx(float(cosine))


def test_words_keep_to_the_filter_and_find_what_came_last(filled, clips, toy_retriever):
    library = ExoLibrary.open(filled.uri, toy_retriever)
    library.optimize()
    more, video, narration = clips(61, seed=1)
    library.add([replace(more[-1], narration="a zebra")], video[-1:], narration[-1:])
    assert library.search(text="zebras", k=1)[0].entry.narration == "a zebra"
    hits = library.search(text="zebra", k=100, where=Filter(sources=("t",)))
    assert {hit.entry.source for hit in hits} == {"t"}


@pytest.mark.parametrize("indexed", [False, True])
def test_refined_narrations_are_searched_too(filled, clips, toy_retriever, indexed):
    library = ExoLibrary.open(filled.uri, toy_retriever)
    (one, two, three), video, narration = (part[:3] for part in clips(3, seed=1))
    refined = [
        replace(one, narration="", refined="She peels a mango."),
        replace(two, narration="um peel it", refined="She peels it."),
        replace(three, narration="a mango", refined=""),
    ]
    library.add(refined, video, narration)
    if indexed:
        library.optimize()
    told = {hit.entry.refined: hit.text_rank for hit in library.search(text="mango", k=63) if hit.text_rank}
    assert told.keys() == {"She peels a mango.", ""}
    ranked = [hit.entry for hit in library.search(text="peeling", k=63) if hit.text_rank]
    assert {entry.refined for entry in ranked} == {"She peels a mango.", "She peels it."}
    hits = library.search(video[0], k=63, where=Filter(contains="MANGO"))
    assert {hit.entry.refined for hit in hits} == {"She peels a mango.", ""}
    both = Filter(contains="um", sources=("s",), videos=(two.video,))
    assert [hit.entry.narration for hit in library.search(video[0], where=both)] == ["um peel it"]


@pytest.mark.parametrize("text", ["'", '"open', "a AND (b", "milk^2", "*", "the", "naïve 100%", "-milk +hot", "\\"])
def test_any_words_will_do(filled, toy_retriever, text):
    assert len(ExoLibrary.open(filled.uri, toy_retriever).search(text=text, k=3)) == 3


def test_an_ego_clip_is_embedded_from_its_view(filled, toy_retriever, short_videos, monkeypatch):
    views = []
    encode = toy_retriever.encode_video
    monkeypatch.setattr(
        toy_retriever, "encode_video", lambda clips, view="exo": views.append(view) or encode(clips, view)
    )
    clip = Clip(short_videos["ego"], 0.5, 2.0)
    hits = ExoLibrary.open(filled.uri, toy_retriever).search(clip, k=4)
    assert views == ["ego"]
    assert hits == filled.search(encode([clip])[0], k=4)


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to search by"),
        ({"query": torch.eye(32)[0], "k": 0}, "k=0; ask for 1 hit"),
        ({"query": torch.eye(31)[0]}, r"shape \(1, 31\); they must be \(1, 32\)"),
        ({"query": torch.zeros(32)}, "query embedding 0 has length 0"),
        ({"query": torch.eye(32)[0], "narration_weight": 1.5}, "narration_weight=1.5; it must lie between 0 and 1"),
        ({"text": "  "}, "is empty; give words"),
        ({"query": torch.eye(32)[0], "exact": False}, r"has no index yet\. Call optimize"),
    ],
)
def test_what_cannot_be_searched_by_is_refused(filled, options, message):
    with pytest.raises(InputError, match=message):
        filled.search(**options)


def test_clips_and_words_need_the_retriever(filled):
    plain = ExoLibrary.open(filled.uri)
    for options in ({"text": "milk"}, {"query": Clip("a.mp4")}):
        with pytest.raises(InputError, match="opened without its retriever"):
            plain.search(**options)


def test_an_empty_library_finds_nothing(library):
    assert library.search(torch.eye(32)[0]) == []
    assert library.search(torch.eye(32)[0], narration_weight=0.5, where=Filter(contains="x"), exact=True) == []


@pytest.mark.parametrize(
    ("name", "value"), [("min_seconds", math.nan), ("max_seconds", math.inf), ("min_seconds", -1.0)]
)
def test_a_filters_times_are_times(name, value):
    with pytest.raises(InputError, match=f"{name}={value}"):
        Filter(**{name: value})


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_quoted_text_is_one_literal(text):
    quoted = quote(text)
    assert quoted[1:-1].replace("''", "'") == text
    assert "'" not in quoted[1:-1].replace("''", "")


def test_conditions():
    assert condition(Filter()) is None
    assert one_of("id", []) == "id IN (NULL)"
    assert condition(Filter(sources=("it's",), max_seconds=2)) == "source IN ('it''s') AND seconds <= 2"
    assert condition(Filter(videos=("a's/b.mp4",))) == "video IN ('a''s/b.mp4')"

"""Finding references: rounds of search that end, and clips whose video is no longer what was ingested."""

from __future__ import annotations

import shutil

import pytest
import torch

from egoinstructor.errors import InputError
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import ClipEntry, Filter
from egoinstructor.library.references import HITS_PER_REFERENCE, ROUNDS, Retrieval, find_references
from egoinstructor.library.selection import SelectionRules
from egoinstructor.records import Clip
from egoinstructor.video.identity import content_digest

DIMENSION = 32


def vectors_near(query, count, seed=0):
    """Unit vectors that are less and less like the query."""
    noise = torch.randn(count, DIMENSION, generator=torch.Generator().manual_seed(seed))
    rows = query + noise * torch.linspace(0.05, 0.6, count)[:, None]
    return torch.nn.functional.normalize(rows, dim=-1)


@pytest.fixture
def ego(short_videos):
    return Clip(short_videos["ego"])


@pytest.fixture
def library(tmp_path, toy_retriever):
    library = ExoLibrary.create(tmp_path / "library", toy_retriever)
    (tmp_path / "howto").mkdir()
    library.add_source("howto", tmp_path / "howto")
    return library


def fill(library, ego, videos, clips, said="stir it"):
    """`videos` files of `clips` clips each; those of the first are the most like the ego clip."""
    (query,) = library.retriever.encode_video([ego])
    entries = []
    for video in range(videos):
        path = library.sources()["howto"] / f"{video}.mp4"
        path.write_bytes(f"video {video}".encode())
        digest = content_digest(path)
        entries += [ClipEntry(path.name, 2.0 * i, 2.0 * i + 2, said, "howto", digest) for i in range(clips)]
    words = library.retriever.encode_text([said or "nothing"] * len(entries))
    library.add(entries, vectors_near(query, len(entries)), words)


def searches(library, monkeypatch):
    asked = []
    search = library.search
    monkeypatch.setattr(library, "search", lambda *a, **k: asked.append(k) or search(*a, **k))
    return asked


def test_one_video_does_not_hide_the_others(library, ego, monkeypatch):
    """The nearest 100 clips are of one video; the next rounds look at the others."""
    fill(library, ego, videos=4, clips=100)
    asked = searches(library, monkeypatch)
    rules = SelectionRules(near_duplicate=1)
    (selection,) = find_references(library, [ego], 4, Retrieval(rules=rules))
    assert [hit.entry.video for hit in selection.chosen] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    scores = [hit.score for hit in selection.chosen]
    assert scores == sorted(scores, reverse=True)
    assert 1 < len(asked) <= ROUNDS


def test_too_few_videos_end_the_search_early(library, ego, monkeypatch):
    fill(library, ego, videos=3, clips=200)
    asked = searches(library, monkeypatch)
    (selection,) = find_references(library, [ego], 4)
    assert len(selection.chosen) == 3
    assert len(asked) <= ROUNDS
    assert len(selection.passed_over) <= ROUNDS * 4 * HITS_PER_REFERENCE


def test_a_library_in_which_nothing_is_said_gives_none(library, ego, monkeypatch):
    fill(library, ego, videos=3, clips=100, said="")
    asked = searches(library, monkeypatch)
    (selection,) = find_references(library, [ego], 4)
    assert selection.chosen == ()
    assert {reason for _, reason in selection.passed_over} == {"nothing is said in it"}
    assert len(asked) == 2, "the second asks for clips with words alone, and there are none"


def test_an_empty_library_gives_none(library, ego):
    assert find_references(library, [ego], 4)[0].chosen == ()


def test_what_was_excluded_stays_so(library, ego):
    fill(library, ego, videos=4, clips=60)
    first = next(entry for entry in library.entries() if entry.video == "0.mp4")
    where = Filter(exclude_digests=(first.video_digest,))
    (selection,) = find_references(library, [ego], 3, Retrieval(where=where))
    assert {hit.entry.video for hit in selection.chosen} == {"1.mp4", "2.mp4", "3.mp4"}


def test_a_video_that_is_another_one_now_is_passed_over(library, ego):
    fill(library, ego, videos=2, clips=1)
    (library.sources()["howto"] / "0.mp4").write_bytes(b"quite another video")
    (selection,) = find_references(library, [ego], 2)
    assert [hit.entry.video for hit in selection.chosen] == ["1.mp4"]
    ((_, reason),) = selection.passed_over
    assert reason == f"its video is another one now: {library.sources()['howto'] / '0.mp4'}"


def test_pieces_of_the_querys_own_recording_are_its_own_video(library, short_videos, tmp_path):
    recording = tmp_path / "howto" / "recording"
    recording.mkdir()
    shutil.copy2(short_videos["ego"], recording / "0000.mp4")
    ego = Clip(recording, 0.0, 2.0)
    fill(library, ego, videos=1, clips=1)
    piece = ClipEntry("recording/0000.mp4", 0, 2, "my words", "howto", content_digest(recording / "0000.mp4"))
    (query,) = library.retriever.encode_video([ego])
    library.add([piece], query[None], library.retriever.encode_text(["my words"]))
    (selection,) = find_references(library, [ego], 2)
    assert [hit.entry.video for hit in selection.chosen] == ["0.mp4"]
    assert [reason for _, reason in selection.passed_over] == ["of the query's own video"]


def test_a_negative_number_is_refused(library, ego):
    with pytest.raises(InputError, match="-1 references"):
        find_references(library, [ego], -1)

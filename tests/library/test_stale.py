"""Clips that a changed video no longer names: what becomes of them, and of those that a copy of the video names still."""

from __future__ import annotations

import shutil

import pytest

from egoinstructor.library.ingest import ingest
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.sources.opening import open_source


@pytest.fixture
def library(toy_retriever, tmp_path):
    return ExoLibrary.create(tmp_path / "library", toy_retriever)


def clips(library):
    return {(e.source, e.video, e.start, e.end): e.narration for e in library.entries()}


@pytest.fixture
def copied(library, howto_folder):
    """An ingested folder in which allium is onion, with its words."""
    for suffix in (".mp4", ".srt"):
        shutil.copy(howto_folder / f"onion{suffix}", howto_folder / f"allium{suffix}")
    ingest(library, open_source(howto_folder))
    return howto_folder


def reword(path, *words):
    path.write_text(path.read_text().replace(*words))


@pytest.mark.parametrize(("changed", "other"), [("allium", "onion"), ("onion", "allium")])
@pytest.mark.parametrize("remove", [True, False])
def test_what_a_copy_still_names_stays(library, copied, changed, other, remove):
    """The clips lie at allium, which came first."""
    before = clips(library)
    reword(copied / f"{changed}.srt", "golden", "brown")
    report = ingest(library, open_source(copied), replace=remove)
    assert (report.added, report.stale, report.removed) == (1, 0, 0)
    assert [finding.reason for finding in report.findings] == ["1 of 4 videos go in without words, in clips of 4 s"]
    said = clips(library)
    assert sorted(said.values()) == sorted([*before.values(), "Until it is brown."])
    assert said["howto", f"{changed}.mp4", 9, 12] == "Until it is brown."
    assert said["howto", f"{other}.mp4", 9, 12] == "Until it is golden."
    assert ingest(library, open_source(copied), replace=True).skipped == 4
    reword(copied / f"{other}.srt", "golden", "brown")
    last = ingest(library, open_source(copied), replace=True)
    assert (last.added, last.stale, last.removed) == (0, 1, 1)
    assert "Until it is golden." not in clips(library).values()
    assert ingest(library, open_source(copied), replace=True).skipped == 4


def test_what_no_copy_names_goes_when_it_is_asked_for(library, copied):
    for name in ("allium", "onion"):
        reword(copied / f"{name}.srt", "golden", f"as {name}")
    assert ingest(library, open_source(copied)).stale == 1
    assert ingest(library, open_source(copied)).stale == 1, "told again until it is mended"
    report = ingest(library, open_source(copied), replace=True)
    assert (report.stale, report.removed, report.skipped) == (1, 1, 3)
    assert {"Until it is as allium.", "Until it is as onion."} <= set(clips(library).values())
    assert "Until it is golden." not in clips(library).values()
    assert ingest(library, open_source(copied), replace=True).skipped == 4


@pytest.mark.parametrize("then", [True, False])
def test_a_copy_keeps_the_words_of_a_video_whose_content_changed(library, copied, then):
    before = clips(library)
    shutil.copy(copied / "knead.mp4", copied / "allium.mp4")
    (copied / "allium.srt").unlink()
    ingest(library, open_source(copied), replace=then)
    ingest(library, open_source(copied), replace=True)
    assert clips(library) == {
        (s, video.replace("allium", "onion"), *rest): said for (s, video, *rest), said in before.items()
    }


def test_a_copy_in_another_collection_keeps_its_words(library, copied, tmp_path):
    """The run can't see what it names, so nothing of it is lost."""
    for suffix in (".mp4", ".srt"):
        (copied / f"onion{suffix}").unlink()
        (tmp_path / "more").mkdir(exist_ok=True)
        shutil.copy(copied / f"allium{suffix}", tmp_path / f"more/onion{suffix}")
    ingest(library, open_source(tmp_path / "more"))
    reword(copied / "allium.srt", "golden", "brown")
    report = ingest(library, open_source(copied), replace=True)
    assert (report.added, report.stale, report.removed) == (1, 0, 0)
    notes = [(note.video, note.reason[:7]) for note in report.of("note")]
    assert notes == [("howto", "1 of 3 "), ("onion.mp4", "1 clips")]
    assert clips(library)["more", "onion.mp4", 9, 12] == "Until it is golden."
    again = ingest(library, open_source(tmp_path / "more"), replace=True)
    assert (again.skipped, again.removed) == (1, 0)


def test_only_the_clips_of_changed_videos_are_looked_at(library, howto_folder, monkeypatch):
    ingest(library, open_source(howto_folder))
    (howto_folder / "onion.mp4").rename(howto_folder / "the cook's onion.mp4")
    (howto_folder / "onion.srt").rename(howto_folder / "the cook's onion.srt")
    ingest(library, open_source(howto_folder))
    reword(howto_folder / "the cook's onion.srt", "golden", "brown")
    asked, read = [], []
    entries = library.entries

    def recorded(ids=None, where=None):
        asked.append(where and where.videos)
        for entry in entries(ids, where):
            read.append(entry.video)
            yield entry

    monkeypatch.setattr(library, "entries", recorded)
    assert ingest(library, open_source(howto_folder), replace=True).removed == 1
    assert [videos for videos in asked if videos is not None] == [("the cook's onion.mp4",)]
    assert set(read) == {"the cook's onion.mp4"}

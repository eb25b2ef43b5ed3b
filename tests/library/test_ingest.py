"""Filling a library: what is in it afterwards, what is not done twice, and what is told of the rest."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from egoinstructor.errors import InputError
from egoinstructor.library import scan
from egoinstructor.library.ingest import ingest
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.sources.opening import open_source
from egoinstructor.records import Clip
from egoinstructor.video.identity import content_digest


@pytest.fixture
def retriever(toy_retriever, monkeypatch):
    """Counts what it embeds."""
    plain = toy_retriever.encode_video
    toy_retriever.embedded, toy_retriever.views = [], set()

    def counting(clips, view="exo"):
        vectors = plain(clips, view)
        toy_retriever.embedded += clips
        toy_retriever.views.add(view)
        return vectors

    monkeypatch.setattr(toy_retriever, "encode_video", counting)
    return toy_retriever


@pytest.fixture
def library(retriever, tmp_path):
    return ExoLibrary.create(tmp_path / "library", retriever)


class Latents:
    """A captioner's vision side, as ingest knows it."""

    latents_key = "toy"

    def __init__(self):
        self.encoded = []

    def encode(self, clips):
        self.encoded += clips
        return {clip: torch.full((2, 3), clip.start) for clip in clips}


def clips(library):
    return {(e.source, e.video, e.start, e.end): e.narration for e in library.entries()}


ONION = {
    ("howto", "onion.mp4", 0, 3): "Chop the onion.",
    ("howto", "onion.mp4", 3, 6): "Finely, please.",
    ("howto", "onion.mp4", 6, 9): "Now fry it in butter.",
    ("howto", "onion.mp4", 9, 12): "Until it is golden.",
}
PASTA = {
    ("howto", "pasta/boil.mp4", 0, 3): "Bring the water to a boil.",
    ("howto", "pasta/boil.mp4", 3, 6): "Add plenty of salt.",
    ("howto", "pasta/boil.mp4", 6, 9): "And in goes the pasta.",
}
KNEAD = {("howto", "knead.mp4", 0, 4): "", ("howto", "knead.mp4", 4, 7): ""}


def test_a_folder_of_videos(library, retriever, howto_folder):
    seen = []
    report = ingest(library, open_source(howto_folder), progress=lambda *state: seen.append(state))
    assert clips(library) == ONION | PASTA | KNEAD
    assert (report.finished, report.added, report.known, report.failed) == (3, 9, 0, 0)
    assert report.ok
    assert [finding.reason for finding in report.findings] == ["1 of 3 videos go in without words, in clips of 4 s"]
    assert retriever.views == {"exo"}
    assert seen == [(1, 3, "knead.mp4"), (2, 3, "onion.mp4"), (3, 3, "pasta/boil.mp4")]
    for entry in library.entries():
        assert library.path(entry).is_file()
        assert entry.video_digest == content_digest(library.path(entry))
    log = library.video_log()
    assert {key[1]: (record.clips, record.error) for key, record in log.items()} == {
        "onion.mp4": (4, ""), "pasta/boil.mp4": (3, ""), "knead.mp4": (2, ""),
    }  # fmt: skip


def test_the_vectors_are_the_retrievers(library, retriever, howto_folder):
    ingest(library, open_source(howto_folder), batch=2)
    entries = list(library.entries())
    expected = retriever.encode_video([Clip(library.path(e), e.start, e.end) for e in entries])
    torch.testing.assert_close(library.vectors([e.id for e in entries]).float(), expected, atol=2e-3, rtol=0)
    (hit, *_) = library.search(text="plenty of salt", narration_weight=1.0, k=1)
    assert hit.entry.narration == "Add plenty of salt."


def test_a_file_is_read_again_only_when_it_changed(library, howto_folder, monkeypatch):
    read = []
    monkeypatch.setattr(scan, "content_digest", lambda path: read.append(path.name) or content_digest(path))
    ingest(library, open_source(howto_folder))
    assert sorted(read) == ["boil.mp4", "knead.mp4", "onion.mp4"]
    read.clear()
    assert ingest(library, open_source(howto_folder)).skipped == 3
    assert read == []
    os.utime(howto_folder / "onion.mp4")
    assert ingest(library, open_source(howto_folder)).skipped == 3
    assert read == ["onion.mp4"]


def test_a_refined_narration_is_what_is_embedded(library, retriever, howto_folder):
    table = howto_folder / "clips.jsonl"
    rows = [
        {"video": "onion.mp4", "start": 0, "end": 3, "narration": "um chop it", "refined": "Chop the onion."},
        {"video": "onion.mp4", "start": 3, "end": 6, "narration": "", "refined": "Fry it."},
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert ingest(library, open_source(table)).added == 2
    (query,) = retriever.encode_text(["Fry it."])
    (hit,) = library.search(query, narration_weight=1.0, k=1)
    assert (hit.entry.refined, hit.narration_score) == ("Fry it.", pytest.approx(1, abs=1e-3))
    assert library.verify().ok


def test_ingesting_again_does_nothing(library, retriever, howto_folder):
    ingest(library, open_source(howto_folder))
    retriever.embedded.clear()
    again = ingest(library, open_source(howto_folder))
    assert (again.finished, again.skipped, again.added) == (0, 3, 0)
    assert retriever.embedded == []


@pytest.mark.parametrize("batch", [1, 2, 4, 100])
def test_batches_are_full_across_videos(library, retriever, howto_folder, batch, monkeypatch):
    sizes = []
    add = library.add
    monkeypatch.setattr(library, "add", lambda entries, *rest: sizes.append(len(entries)) or add(entries, *rest))
    ingest(library, open_source(howto_folder), batch=batch)
    assert sizes == [batch] * (9 // batch) + ([9 % batch] if 9 % batch else [])


def test_only_what_is_new_is_embedded(library, retriever, howto_folder):
    """A video's words are changed: its old clips are told of, or removed if asked."""
    ingest(library, open_source(howto_folder))
    retriever.embedded.clear()
    subtitles = howto_folder / "onion.srt"
    subtitles.write_text(subtitles.read_text().replace("golden", "brown"))
    report = ingest(library, open_source(howto_folder))
    assert [clip.start for clip in retriever.embedded] == [9]
    assert (report.finished, report.skipped, report.added, report.known) == (1, 2, 1, 3)
    assert (report.stale, report.removed) == (1, 0)
    assert len(library) == 10
    again = ingest(library, open_source(howto_folder))
    assert (again.added, again.stale) == (0, 1), "told again until it is mended"
    mended = ingest(library, open_source(howto_folder), replace=True)
    assert (mended.added, mended.stale, mended.removed) == (0, 1, 1)
    brown = {("howto", "onion.mp4", 9, 12): "Until it is brown."}
    assert clips(library) == ONION | brown | PASTA | KNEAD
    assert ingest(library, open_source(howto_folder), replace=True).skipped == 3


def test_a_video_whose_content_changed_has_new_clips(library, retriever, howto_folder):
    ingest(library, open_source(howto_folder))
    shutil.copy(howto_folder / "onion.mp4", howto_folder / "knead.mp4")
    report = ingest(library, open_source(howto_folder), replace=True)
    assert (report.finished, report.added, report.removed) == (1, 3, 2)
    spans = {(start, end) for _, video, start, end in clips(library) if video == "knead.mp4"}
    assert spans == {(0, 4), (4, 8), (8, 13)}


def test_the_same_video_twice_gives_each_clip_once(library, retriever, howto_folder):
    for suffix in (".mp4", ".srt"):
        shutil.copy(howto_folder / f"onion{suffix}", howto_folder / f"allium{suffix}")
    report = ingest(library, open_source(howto_folder))
    assert (report.finished, report.added, report.known) == (4, 9, 4)
    assert {video for _, video, *_ in clips(library)} == {"allium.mp4", "knead.mp4", "pasta/boil.mp4"}
    (howto_folder / "allium.mp4").unlink()
    assert ingest(library, open_source(howto_folder)).moved == 1
    assert clips(library) == ONION | PASTA | KNEAD


@pytest.mark.parametrize("commits", [1, 2, 9, 10])
def test_the_library_is_optimized_after_many_commits(library, howto_folder, monkeypatch, commits):
    done = []
    monkeypatch.setattr(library, "optimize", lambda: done.append(len(library)))
    monkeypatch.setattr("egoinstructor.library.ingest.TOO_MANY_COMMITS", commits)
    monkeypatch.setattr("egoinstructor.library.ingest.MANY_COMMITS", max(commits // 2, 1))
    ingest(library, open_source(howto_folder), batch=1)
    assert done == {1: list(range(1, 10)), 2: [2, 4, 6, 8, 9], 9: [9], 10: [9]}[commits]


def test_what_goes_wrong_with_optimizing_is_told(library, howto_folder, monkeypatch):
    def no_room():
        raise InputError("no room")

    monkeypatch.setattr(library, "optimize", no_room)
    monkeypatch.setattr("egoinstructor.library.ingest.MANY_COMMITS", 1)
    report = ingest(library, open_source(howto_folder))
    assert (report.added, report.ok) == (9, True)
    assert report.of("note")[-1].reason == "every clip is in, but: no room"


# Latents


def test_latents_are_made_once(library, retriever, howto_folder):
    latents = Latents()
    report = ingest(library, open_source(howto_folder), latents=latents, batch=4)
    assert report.latents == 9
    kept = library.latents([entry.id for entry in library.entries()], "toy")
    assert {entry.id: entry.start for entry in library.entries()} == {key: t[0, 0].item() for key, t in kept.items()}
    assert ingest(library, open_source(howto_folder), latents=latents).latents == 0
    assert len(latents.encoded) == 9


def test_latents_can_be_asked_for_later(library, retriever, howto_folder):
    ingest(library, open_source(howto_folder))
    retriever.embedded.clear()
    latents = Latents()
    report = ingest(library, open_source(howto_folder), latents=latents)
    assert (report.latents, report.added, report.stale) == (9, 0, 0)
    assert retriever.embedded == []
    assert ingest(library, open_source(howto_folder)).skipped == 3, "with latents is more than without"
    assert ingest(library, open_source(howto_folder), latents=latents).skipped == 3


def test_a_commit_goes_in_portions(library, retriever, howto_folder, monkeypatch):
    """An encoder that serves both must still have the clips that it embedded when their latents are asked for."""
    monkeypatch.setattr("egoinstructor.library.ingest.PORTION", 2)
    latents, add, done = Latents(), library.add, []

    def added(entries, *vectors):
        done.append((len(retriever.embedded), len(latents.encoded), len(entries)))
        return add(entries, *vectors)

    def encode(clips):
        assert retriever.embedded[-2:][-len(clips) :] == clips
        done.append(len(clips))
        return Latents.encode(latents, clips)

    monkeypatch.setattr(library, "add", added)
    monkeypatch.setattr(latents, "encode", encode)
    report = ingest(library, open_source(howto_folder), latents=latents, batch=5)
    assert (report.added, report.latents) == (9, 9)
    assert done == [2, 2, 1, (5, 5, 5), 2, 2, (9, 9, 4)]


def test_workers_are_also_threads_that_decode(library, retriever, howto_folder, monkeypatch):
    class Encoder:
        threads = 2

    encoder = Encoder()
    monkeypatch.setattr(type(retriever), "frame_encoders", (encoder,))
    ingest(library, open_source(howto_folder), workers=5)
    assert encoder.threads == 5


# Moved files


def test_a_file_that_moved_within_its_root_is_found_again(library, retriever, howto_folder):
    ingest(library, open_source(howto_folder))
    retriever.embedded.clear()
    (howto_folder / "pasta").rename(howto_folder / "noodles")
    report = ingest(library, open_source(howto_folder))
    assert (report.moved, report.added, report.finished, report.skipped) == (1, 0, 1, 2)
    assert retriever.embedded == []
    assert {library.path(entry).is_file() for entry in library.entries()} == {True}
    assert {video for _, video in library.video_log()} == {"knead.mp4", "onion.mp4", "noodles/boil.mp4"}


def test_files_that_took_each_others_names(library, retriever, howto_folder):
    ingest(library, open_source(howto_folder))
    for suffix in (".mp4", ".srt"):
        (howto_folder / f"onion{suffix}").rename(howto_folder / f"x{suffix}")
        (howto_folder / f"pasta/boil{suffix}").rename(howto_folder / f"onion{suffix}")
        (howto_folder / f"x{suffix}").rename(howto_folder / f"pasta/boil{suffix}")
    report = ingest(library, open_source(howto_folder))
    assert (report.moved, report.added) == (2, 0)
    for entry in library.entries():
        assert content_digest(library.path(entry)) == entry.video_digest


def test_files_that_moved_to_another_root_are_found_again(library, retriever, howto_folder, tmp_path):
    ingest(library, open_source(howto_folder))
    howto_folder.rename(tmp_path / "cooking")
    report = ingest(library, open_source(tmp_path / "cooking"))
    assert (report.moved, report.added) == (3, 0)
    assert {library.path(entry).is_file() for entry in library.entries()} == {True}
    assert {source for source, *_ in clips(library)} == {"cooking"}


def test_a_whole_root_that_moved_keeps_its_name(library, retriever, howto_folder, tmp_path):
    ingest(library, open_source(howto_folder))
    howto_folder.rename(tmp_path / "cooking")
    report = ingest(library, open_source(tmp_path / "cooking", name="howto"))
    assert (report.skipped, report.moved, report.added) == (3, 0, 0)
    assert {library.path(entry).is_file() for entry in library.entries()} == {True}


def test_another_folder_may_not_take_a_sources_name(library, retriever, howto_folder, tmp_path):
    ingest(library, open_source(howto_folder))
    other = tmp_path / "other/howto"
    shutil.copytree(howto_folder, other)
    with pytest.raises(InputError, match="Give this one another name"):
        ingest(library, open_source(other))
    assert {library.path(entry).is_relative_to(howto_folder) for entry in library.entries()} == {True}


def test_a_moved_file_of_a_run_that_was_stopped_is_found_again(library, retriever, howto_folder, monkeypatch):
    monkeypatch.setattr(library, "log_videos", lambda records: None)
    ingest(library, open_source(howto_folder))
    monkeypatch.undo()
    assert library.video_log() == {}
    (howto_folder / "onion.mp4").rename(howto_folder / "allium.mp4")
    (howto_folder / "onion.srt").rename(howto_folder / "allium.srt")
    report = ingest(library, open_source(howto_folder))
    assert (report.moved, report.added) == (1, 0)
    assert {library.path(entry).is_file() for entry in library.entries()} == {True}


# What can't be used


def test_a_library_without_its_retriever_is_refused(library, howto_folder):
    with pytest.raises(InputError, match="without a retriever"):
        ingest(ExoLibrary.open(library.uri), open_source(howto_folder))


@pytest.mark.parametrize("options", [{"batch": 0}, {"workers": 0}])
def test_impossible_options_are_refused(library, howto_folder, options):
    with pytest.raises(InputError, match="give 1 or more"):
        ingest(library, open_source(howto_folder), **options)


def test_rows_that_cannot_be_used_are_told_one_by_one(library, retriever, howto_folder, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "video,start,end,narration\nonion.mp4,0,2,a\nonion.mp4,2,2,b\nonion.mp4,5,99,c\nonion.mp4,50,99,d\n"
        "gone.mp4,0,1,e\nonion.mp4,0,2,a\n"
    )
    report = ingest(library, open_source(path, root=howto_folder))
    assert clips(library) == {("t", "onion.mp4", 0, 2): "a", ("t", "onion.mp4", 5, 13): "c"}
    assert [(f.kind, f.where) for f in report.findings] == [
        ("row", "t.csv, line 3"), ("row", "t.csv, line 4"), ("row", "t.csv, line 5"), ("failure", ""),
    ]  # fmt: skip
    assert "gone.mp4" in report.findings[-1].reason
    assert (report.finished, report.failed, report.added, report.ok) == (1, 1, 2, False)
    assert report.as_dict()["findings"][0]["where"] == "t.csv, line 3"
    assert "clips added" in str(report)
    assert "t.csv, line 3: from 2 to 2 s" in str(report)


def test_the_real_clips(library, retriever, shared_data, tmp_path):
    """The original's example: four how-to clips, found by the ego clip that they were given to."""
    assets = shared_data / "egoinstructor_assets"
    (sample,) = json.loads((assets / "testdata.json").read_text())
    lines = [{"video": Path(exo["path"]).name, "narration": exo["caption"]} for exo in sample["exo_video"]]
    table = tmp_path / "clips.jsonl"
    table.write_text("\n".join(map(json.dumps, lines)))
    report = ingest(library, open_source(table, root=assets, name="howto"))
    assert (report.finished, report.added, report.findings) == (len(lines), len(lines), [])
    hits = library.search(Clip(assets / Path(sample["ego_video"]).name), k=10)
    assert {(hit.entry.video, hit.entry.narration) for hit in hits} == {tuple(line.values()) for line in lines}
    assert all(library.path(hit.entry).is_file() for hit in hits)

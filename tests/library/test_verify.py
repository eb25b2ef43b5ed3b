"""Latents, deleting, verifying, counting and exporting."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from rich.console import Console

from egoinstructor.errors import InputError
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import ClipEntry, VideoRecord
from egoinstructor.library.schema import clip_rows
from egoinstructor.video.identity import content_digest


@pytest.fixture
def filled(library, clips):
    """20 clips of 5 videos, two of them with latents, two videos in the log."""
    entries, video, narration = clips(20)
    library.add(entries, video, narration)
    library.put_latents({entry.id: torch.full((2, 3), i + 0.5) for i, entry in enumerate(entries[:2])}, "captioner")
    library.log_videos([VideoRecord("s", "0.mp4", "0-0", "f", 4), VideoRecord("t", "1.mp4", "0-1", "f", 4)])
    return library


def shown(thing) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(thing)
    return console.file.getvalue()


# Latents


def test_latents_come_back_bit_for_bit_in_bf16(filled, clips):
    entries, _, _ = clips(20)
    values = torch.randn(4, 8)
    assert filled.put_latents({entries[5].id: values}, "captioner") == 1
    found = ExoLibrary.open(filled.uri).latents([entries[5].id, entries[6].id, entries[0].id], "captioner")
    assert found.keys() == {entries[5].id, entries[0].id}
    assert found[entries[5].id].dtype == torch.bfloat16
    assert torch.equal(found[entries[5].id], values.bfloat16())
    assert torch.equal(found[entries[0].id], torch.full((2, 3), 0.5).bfloat16())


def test_latents_are_kept_once_and_by_captioner(filled, clips):
    entries, _, _ = clips(20)
    first = {entries[0].id: torch.ones(2, 3)}
    assert filled.put_latents(first, "captioner") == 0
    assert filled.put_latents(first, "another") == 1
    assert torch.equal(filled.latents(first, "captioner")[entries[0].id], torch.full((2, 3), 0.5).bfloat16())
    assert torch.equal(filled.latents(first, "another")[entries[0].id], torch.ones(2, 3).bfloat16())
    assert filled.latents(first, "a third") == filled.latents([], "captioner") == {}
    assert filled.stats().latents == {"another": 1, "captioner": 2}


def test_latents_need_their_clip_and_two_dimensions(filled, clips):
    entries, _, _ = clips(20)
    with pytest.raises(InputError, match="clip 00 is not in library"):
        filled.put_latents({"00": torch.ones(2, 3)}, "captioner")
    with pytest.raises(InputError, match=r"shape \(2, 3, 4\); they must be \(L, V\)"):
        filled.put_latents({entries[5].id: torch.ones(2, 3, 4)}, "captioner")
    assert filled.put_latents({}, "captioner") == 0


# Deleting


def test_deleting_takes_all_that_hangs_on_a_clip(filled, clips):
    entries, _, _ = clips(20)
    assert filled.delete(ids=[entries[0].id, entries[9].id, "never"]) == 2
    assert set(filled.entries()) == set(entries) - {entries[0], entries[9]}
    assert filled.latents([entries[0].id, entries[1].id], "captioner").keys() == {entries[1].id}
    assert list(filled.video_log()) == [("t", "1.mp4")], "an ingest takes the video up again"
    assert filled.verify().ok


@pytest.mark.parametrize(
    ("which", "count", "logged"),
    [
        ({"source": "s"}, 12, "t"),
        ({"video": "1.mp4"}, 4, "s"),
        ({"source": "s", "video": "1.mp4"}, 0, "st"),
        ({"ids": []}, 0, "st"),
    ],
)
def test_deleting_by_place(filled, clips, which, count, logged):
    entries, _, _ = clips(20)
    assert filled.delete(**which) == count
    fits = [
        e for e in entries if "ids" not in which and all(getattr(e, name) == value for name, value in which.items())
    ]
    assert set(filled.entries()) == set(entries) - set(fits)
    assert {source for source, _ in filled.video_log()} == set(logged)
    assert filled.verify().ok


def test_deleting_goes_in_parts(filled, monkeypatch):
    monkeypatch.setattr("egoinstructor.library.deletion.KEYS_AT_ONCE", 3)
    assert filled.delete(source="s") == 12
    assert filled.delete(ids=[entry.id for entry in filled.entries()]) == 8
    assert (len(filled), filled.stats().latents, filled.video_log()) == (0, {}, {})


def test_deleting_all_by_mistake_is_refused(filled):
    with pytest.raises(InputError, match="nothing to delete"):
        filled.delete()
    assert len(filled) == 20


# Verifying


def test_a_sound_library_has_no_problems(filled):
    report = filled.verify()
    assert (report.ok, report.problems, report.clips, report.videos, report.latents) == (True, [], 20, 2, 2)
    assert "20 clips, 2 videos, 2 latents looked at" in shown(report)
    assert "no problems" in shown(report)


def put_row(library, entry, video, **change):
    """A row that `add` would not write."""
    rows = clip_rows(library._store.table("clips").schema, [entry], video, video)
    for name, value in change.items():
        field = rows.schema.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), field, pa.array([value], field.type))
    library._store.table("clips").add(rows)


def cut_latents(library, *_):
    rows = library._store.rows("latents", ["key", "clip", "captioner", "shape", "data"]).to_pylist()
    cut = [row | {"data": row["data"][:-1]} for row in rows]
    library._store.merge("latents", library._store.records("latents", cut), update=True)


NOTHING = np.zeros(32, np.float16)
BAD = ClipEntry("bad.mp4", 0, 1, "said", "s", "digest")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda lib, e, v: put_row(lib, e[1], v[1:2]), "1 clips twice"),
        (lambda lib, e, v: put_row(lib, BAD, v[1:2], id="ab" * 16), "1 ids that aren't their content's"),
        (lambda lib, e, v: put_row(lib, BAD, v[1:2] * 2), "1 vectors that aren't of length 1"),
        (lambda lib, e, v: put_row(lib, BAD, v[1:2], narration_vector=NOTHING), "1 vectors that aren't of length 1"),
        (lambda lib, e, v: put_row(lib, BAD, v[1:2], narration_vector=None), "1 narrations without a vector"),
        (lambda lib, e, v: put_row(lib, replace(BAD, source="u"), v[1:2]), "1 sources that aren't known: u"),
        (lambda lib, e, v: lib._store.delete("clips", f"id = '{e[1].id}'"), "1 latents of clips that aren't there"),
        (cut_latents, "2 latents that are cut off"),
        (lambda lib, e, v: lib._store.delete("clips", f"id = '{e[7].id}'"), "1 finished videos that lack clips: 1.mp4"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(filled, clips, spoil, problem):
    entries, video, _ = clips(20)
    spoil(filled, entries, video)
    report = filled.verify()
    assert not report.ok
    assert any(line.startswith(problem) for line in report.problems), report.problems
    assert problem.split(" ", 1)[1].split(":")[0].split(",")[0] in shown(report)
    assert json.loads(json.dumps(report.as_dict()))["ok"] is False


def test_files_are_looked_at_when_asked(library, tmp_path, clips):
    (tmp_path / "s").mkdir()
    names = ("whole.mp4", "changed.mp4", "gone.mp4")
    for name in names:
        (tmp_path / "s" / name).write_bytes(name.encode())
    entries = [ClipEntry(name, 0, 1, "", "s", content_digest(tmp_path / "s" / name)) for name in names]
    library.add(entries, torch.eye(32)[:3])
    assert library.verify(files=True).ok
    (tmp_path / "s/changed.mp4").write_bytes(b"something else")
    (tmp_path / "s/gone.mp4").unlink()
    assert library.verify().ok
    report = library.verify(files=True)
    assert report.files == 3
    assert report.findings.keys() == {"videos that have changed", "videos that can't be read"}
    assert "gone.mp4" in report.findings["videos that can't be read"].examples[0]


# Counting and exporting


def test_stats_count(filled):
    stats = filled.stats()
    assert (stats.clips, stats.videos, stats.sources) == (20, 5, {"s": 12, "t": 8})
    assert stats.hours == pytest.approx(20 * 2.5 / 3600)
    assert stats.narrated == pytest.approx(13 / 20)
    assert stats.bytes > 10_000
    text = shown(stats)
    assert "20 of 5 videos" in text
    assert "65.0%" in text
    assert json.loads(json.dumps(stats.as_dict()))["latents"] == {"captioner": 2}


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "safetensors"])
def test_an_export_has_every_clip(filled, clips, tmp_path, suffix):
    entries, video, narration = clips(20)
    path = tmp_path / f"out.{suffix}"
    assert filled.export(path) == 20
    vectors = None
    if suffix == "jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    elif suffix == "csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row | {"start": float(row["start"]), "end": float(row["end"])} for row in csv.DictReader(file)]
    elif suffix == "parquet":
        import pyarrow.parquet as pq

        rows = pq.read_table(path).to_pylist()
        vectors = [(row.pop("video_vector"), row.pop("narration_vector")) for row in rows]
    else:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            rows = json.loads(file.metadata()["clips"])
            columns = (file.get_tensor(name).tolist() for name in ("video_vector", "narration_vector"))
            vectors = list(zip(*columns, strict=True))
    wanted = {entry.id: {"id": entry.id} | asdict(entry) for entry in entries}
    assert {row["id"]: row for row in rows} == wanted
    for row, (seen, said) in zip(rows, vectors or [], strict=vectors is not None):
        place = [entry.id for entry in entries].index(row["id"])
        assert torch.allclose(torch.tensor(seen), video[place], atol=1e-3)
        if entries[place].narration:
            assert torch.allclose(torch.tensor(said), narration[place], atol=1e-3)
        else:
            assert not any(said or [])
    assert [file.name for file in tmp_path.glob("*out*")] == [path.name]


def test_an_export_that_fails_leaves_what_was_there(filled, tmp_path):
    with pytest.raises(InputError, match=r"must end in \.jsonl, \.csv, \.parquet, \.safetensors"):
        filled.export(tmp_path / "out.xls")
    with pytest.raises(InputError, match="can't be written"):
        filled.export(tmp_path / "nowhere/out.csv")
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(InputError, match="can't be written"):
        filled.export(tmp_path / "out.csv")
    assert not list(tmp_path.glob(".out*"))

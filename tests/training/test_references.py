"""`prepare references`: the original's two files out of a library, resumable, with every failure told."""

from __future__ import annotations

import json
import shutil

import pytest
from rich.console import Console

from egoinstructor import Clip
from egoinstructor.data import references
from egoinstructor.data.metadata import read_metadata
from egoinstructor.data.references import ReferencesReport, prepare_references
from egoinstructor.errors import InputError
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import ClipEntry
from egoinstructor.library.references import Retrieval
from egoinstructor.library.selection import SelectionRules
from egoinstructor.video.identity import content_digest


@pytest.fixture
def data(short_videos, tmp_path):
    """Two ego samples in the original's format, their videos, and how-to videos."""
    for folder, names in (("ego", ["ego"]), ("howto", ["exo1", "exo2", "exo3"])):
        (tmp_path / folder).mkdir()
        for name in names:
            shutil.copy2(short_videos[name], tmp_path / folder)
    entry = {"instruction": "Describe it.", "chat_answer": "He cuts.", "rel_ins_ids": []}
    spans = {"E4DOL_INS_000000": (0.0, 1.5), "E4DOL_INS_000001": (1.0, 3.0)}
    instructions = {
        id: entry
        | {"answer": f"#C C cuts {id}", "image_ids": [{"vid": "ego", "uid": "u", "start_second": a, "end_second": b}]}
        for id, (a, b) in spans.items()
    }
    (tmp_path / "in.json").write_text(json.dumps({"data": instructions}))
    (tmp_path / "train.json").write_text(json.dumps({id: [] for id in spans}))
    return tmp_path


@pytest.fixture
def library(data, toy_retriever):
    library = ExoLibrary.create(data / "library", toy_retriever)
    library.add_source("howto", data / "howto")
    names = ["exo1", "exo2", "exo3"]
    entries = [
        ClipEntry(f"{n}.mp4", 0.0, 2.0, f"words of {n}", "howto", content_digest(data / "howto" / f"{n}.mp4"))
        for n in names
    ]
    clips = [Clip(library.path(entry), 0.0, 2.0) for entry in entries]
    library.add(entries, toy_retriever.encode_video(clips), toy_retriever.encode_text([e.narration for e in entries]))
    return library


def prepare(library, data, out="out", **options):
    metadata = read_metadata(data / "in.json", data / "train.json")
    return prepare_references(library, metadata, data / out, datapath_ego=data / "ego", **options)


def test_the_files_are_read_back_as_training_data(library, data, toy_retriever):
    report = prepare(library, data, count=2)
    assert (report.found, report.resumed, report.short, report.failures, report.ok) == (2, 0, 0, {}, True)
    samples = read_metadata(data / "out/instructions.json", data / "out/config.json").samples(
        data / "ego", data / "howto"
    )
    before = read_metadata(data / "in.json", data / "train.json").samples(data / "ego", data / "howto")
    for old, new in zip(before, samples, strict=True):
        assert (new.id, new.video, new.start, new.end, new.answer) == (
            old.id,
            old.video,
            old.start,
            old.end,
            old.answer,
        )
        assert len(new.references) == 2
        query = toy_retriever.encode_video([Clip(new.video, new.start, new.end)])[0]
        scores = toy_retriever.encode_video([Clip(r.video, r.start, r.end) for r in new.references]) @ query
        assert scores[0] >= scores[1]
        for reference in new.references:
            assert reference.narration == f"words of {reference.video.stem}"
            assert reference.video.is_file()
    assert (
        json.loads((data / "out/instructions.json").read_text())["data"]["E4DOL_INS_000001"]["chat_answer"]
        == "He cuts."
    )


def test_rules_leave_fewer_and_say_so(library, data):
    rules = Retrieval(rules=SelectionRules(min_score=1.0))
    report = prepare(library, data, retrieval=rules)
    assert (report.found, report.short) == (2, 2)
    assert report.passed_over == {"score below": 6}
    assert json.loads((data / "out/config.json").read_text()) == {"E4DOL_INS_000000": [], "E4DOL_INS_000001": []}


def test_a_stopped_run_goes_on(library, data, monkeypatch, toy_retriever):
    monkeypatch.setattr(references, "BATCH", 1)
    seen = []

    def stop(done, total, name):
        seen.append((done, total))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(library, data, progress=stop)
    assert seen == [(1, 2)]
    assert not (data / "out/config.json").exists()
    encode, encoded = library.retriever.encode_video, []
    monkeypatch.setattr(
        library.retriever, "encode_video", lambda clips, **kw: encoded.extend(clips) or encode(clips, **kw)
    )
    assert prepare(library, data).resumed == 1
    assert len(encoded) == 1
    prepare(library, data, out="straight")
    for name in ("instructions.json", "config.json"):
        assert (data / "out" / name).read_bytes() == (data / "straight" / name).read_bytes()


def test_an_unreadable_clip_is_told_and_tried_again(library, data):
    video = data / "ego/ego.mp4"
    kept = video.read_bytes()
    instructions = json.loads((data / "in.json").read_text())
    instructions["data"]["E4DOL_INS_000001"]["image_ids"][0]["vid"] = "other"
    (data / "in.json").write_text(json.dumps(instructions))
    (data / "ego/other.mp4").write_bytes(b"no video")
    report = prepare(library, data, count=1)
    assert report.found == 1
    assert not report.ok
    assert "other.mp4" in report.failures["E4DOL_INS_000001"]
    assert list(json.loads((data / "out/config.json").read_text())) == ["E4DOL_INS_000000"]
    (data / "ego/other.mp4").write_bytes(kept)
    report = prepare(library, data, count=1)
    assert (report.found, report.resumed, report.ok) == (2, 1, True)


def test_a_sample_that_means_another_clip_now_is_found_anew(library, data):
    prepare(library, data, count=1)
    instructions = json.loads((data / "in.json").read_text())
    instructions["data"]["E4DOL_INS_000001"]["image_ids"][0]["start_second"] = 1.5
    (data / "in.json").write_text(json.dumps(instructions))
    assert prepare(library, data, count=1).resumed == 1
    prepare(library, data, count=1, out="straight")
    assert (data / "out/config.json").read_bytes() == (data / "straight/config.json").read_bytes()


def test_a_folder_that_cannot_be_written_is_an_error(library, data):
    (data / "file").write_text("")
    with pytest.raises(InputError, match="file can't be made"):
        prepare(library, data, out="file")


def test_the_report_shows_names_as_they_are(tmp_path):
    report = ReferencesReport(tmp_path / "[a]", 1, 0, 0, {}, {"[/x]": "no such file [b].mp4"})
    with (console := Console(width=200)).capture() as said:
        console.print(report)
    assert "[a]" in said.get()
    assert "[/x]: no such file [b].mp4" in said.get()


def test_a_folder_of_other_work_is_refused(library, data):
    prepare(library, data, count=1)
    with pytest.raises(InputError, match="other settings"):
        prepare(library, data, count=2)


def test_a_reference_must_lie_where_training_will_look(library, data):
    with pytest.raises(InputError, match="lies outside"):
        prepare(library, data, out="no", datapath_exo=data / "elsewhere")
    prepare(library, data, count=1)
    with pytest.raises(InputError, match="other settings"):  # where videos are named from another folder
        prepare(library, data, count=1, datapath_exo=data)
    library.add_source("more", data)
    with pytest.raises(InputError, match="has the sources howto, more"):
        prepare(library, data, out="new")

"""Metadata against videos: every fault is found, counted, and told once."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from egoinstructor import problem_count
from egoinstructor.data import inspection
from egoinstructor.data.inspection import inspect_metadata
from egoinstructor.errors import InputError


def segment(vid, start=0.5, end=1.5, answer="#C C cuts a leek"):
    return {
        "instruction": "Describe the main action in the video.",
        "answer": answer,
        "chat_answer": answer,
        "image_ids": [{"vid": vid, "uid": "u", "start_second": start, "end_second": end}],
    }


@pytest.fixture(scope="module")
def media(tmp_path_factory, videos):
    """Two ego and two how-to videos of 2 s, and a broken one."""
    folder = tmp_path_factory.mktemp("media")
    for name in ("ego/a.mp4", "ego/b.mkv", "exo/x.mp4", "exo/y.webm"):
        codec = {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}} if name.endswith("webm") else {}
        videos.write(folder / name, 60, **codec)
    (folder / "exo/bad.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture
def inspect(tmp_path, media):
    """Inspect an instructions file with these data, and configs."""

    def run(data, *configs, **options):
        (tmp_path / "ins.json").write_text(json.dumps({"data": data}))
        for name, config in zip(("train", "val"), configs, strict=False):
            (tmp_path / f"{name}.json").write_text(json.dumps(config))
        return inspect_metadata(
            tmp_path / "ins.json",
            *(tmp_path / f"{name}.json" for name, _ in zip(("train", "val"), configs, strict=False)),
            datapath_ego=media / "ego",
            datapath_exo=media / "exo",
            **options,
        )

    return run


def counts(findings):
    return {kind: found.count for kind, found in findings.items()}


GOOD = {"E0": segment("a"), "E1": segment("b"), "X0": segment("x"), "X1": segment("y")}


def test_good_metadata_has_totals_by_split_and_no_faults(inspect):
    report = inspect(GOOD, {"E0": ["X0", "X1"]}, {"E1": ["X0"]})
    assert report.ok
    assert not report.warnings
    assert [Path(split).name for split in report.splits] == ["train.json", "val.json"]
    train = next(iter(report.splits.values()))
    assert (train.samples, train.usable_samples, train.ego_videos) == (1, 1, 1)
    assert (train.references, train.usable_references, train.exo_videos) == (2, 2, 2)
    assert train.ego_hours == pytest.approx(1 / 3600)


@pytest.mark.parametrize(
    ("change", "config", "kind"),
    [
        ({"E0": segment("a", 1, 1)}, {}, "impossible times"),
        ({"E0": segment("a", 1.5, 1)}, {}, "impossible times"),
        ({"E0": segment("a", -1, 1)}, {}, "impossible times"),
        ({"E0": segment("a", 1, 5)}, {}, "impossible times"),
        ({"E0": segment("a", 7, 8)}, {}, "impossible times"),
        ({"X0": segment("x", 7, 8)}, {}, "impossible times"),
        ({"E0": segment("nowhere")}, {}, "missing videos"),
        ({"X0": segment("nowhere")}, {}, "missing videos"),
        ({"X0": segment("bad")}, {}, "unreadable videos"),
        ({"X0": segment("../ego/a")}, {}, "videos outside their folder"),
        ({"E0": segment("a", answer=" ")}, {}, "empty captions"),
        ({"X0": segment("x", answer="")}, {}, "empty captions"),
        ({}, {"E0": ["X0", "X9"]}, "references that don't exist"),
        ({}, {"E0": ["X0"], "E9": []}, "samples that don't exist"),
        ({}, {"E0": ["X0", "E0"]}, "samples among their own references"),
    ],
)
def test_each_fault_is_an_error_told_once(inspect, change, config, kind):
    report = inspect(GOOD | change, config or {"E0": ["X0", "X1"]})
    assert counts(report.errors) == {kind: 1}
    assert not report.ok
    [split] = report.splits.values()
    assert split.usable_samples + split.usable_references < split.samples + split.references


@pytest.mark.parametrize(
    ("configs", "kind"),
    [
        ([{"E0": ["X0", "X0"]}], "samples with a reference twice"),
        ([{"E0": []}], "samples without a usable reference"),
        ([{"E0": ["X0"]}, {"E0": ["X0"]}], "samples in two splits"),
    ],
)
def test_oddities_are_warnings(inspect, configs, kind):
    report = inspect(GOOD, *configs)
    assert report.ok
    assert counts(report.warnings) == {kind: 1}


def test_a_caption_of_codes_is_empty_once_cleaned(inspect):
    data = GOOD | {"E0": segment("a", answer="#C C")}
    assert inspect(data, {"E0": ["X0"]}).ok
    assert counts(inspect(data, {"E0": ["X0"]}, clean=True).errors) == {"empty captions": 1}


def test_half_a_second_past_the_end_is_within_rounding(inspect):
    assert inspect(GOOD | {"E0": segment("a", 1, 2.4)}, {"E0": ["X0"]}).ok


def test_each_video_is_opened_once(inspect, monkeypatch):
    opened = []
    probe = inspection.probe
    monkeypatch.setattr(inspection, "probe", lambda path: opened.append(path.name) or probe(path))
    data = {f"E{n}": segment("a", n / 100, 1) for n in range(20)} | {f"X{n}": segment("x") for n in range(20)}
    steps = []
    inspect(
        data,
        {f"E{n}": [f"X{m}" for m in range(20)] for n in range(20)},
        {"E0": ["X0"]},
        progress=lambda *step: steps.append(step[:2]),
    )
    assert sorted(opened) == ["a.mp4", "x.mp4"]
    assert steps == [(1, 2), (2, 2)]


def test_only_segments_in_a_missing_piece_are_errors(inspect, media, videos):
    for piece in (0, 2):
        videos.write(media / "ego/15s" / f"{piece:04d}.mp4", 450 if piece == 0 else 60)
    data = {"E0": segment("15s", 3, 15), "E1": segment("15s", 14, 16), "E2": segment("15s", 30, 31), "X0": segment("x")}
    report = inspect(data, {key: ["X0"] for key in ("E0", "E1", "E2")})
    assert counts(report.errors) == {"missing pieces": 1}
    assert "0001.mp4" in report.errors["missing pieces"].examples[0]
    assert [split.usable_samples for split in report.splits.values()] == [2]


def test_many_faults_keep_their_count_and_few_examples(inspect):
    data = {f"E{n}": segment("a", 9, 10) for n in range(50)}
    found = inspect(data, {key: [] for key in data}).errors["impossible times"]
    assert (found.count, len(found.examples)) == (50, problem_count.EXAMPLES)


def test_the_report_prints_and_is_json(inspect):
    report = inspect(GOOD | {"E0": segment("[a]")}, {"E0": ["X0", "X0"]})
    console = Console(file=io.StringIO(), width=200)
    console.print(report)
    text = console.file.getvalue()
    assert "missing videos" in text
    assert "[a].mp4" in text
    assert "samples with a reference twice" in text
    assert json.loads(json.dumps(report.as_dict()))["errors"]["missing videos"]["count"] == 1


def test_a_jsonl_is_inspected_too(tmp_path, videos):
    videos.write(tmp_path / "a.mp4", 60)
    line = {"video": "a.mp4", "caption": "waits", "references": [{"video": "b", "narration": "wait"}]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(line))
    report = inspect_metadata(tmp_path / "mine.jsonl")
    assert counts(report.errors) == {"missing videos": 1}
    assert report.splits[str(tmp_path / "mine.jsonl")].ego_hours == pytest.approx(2 / 3600)
    with pytest.raises(InputError, match="workers=0"):
        inspect_metadata(tmp_path / "mine.jsonl", workers=0)

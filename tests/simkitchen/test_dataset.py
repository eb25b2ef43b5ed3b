"""A split on disk: its files agree with each other and with their readers; runs go on; kinds of clips are not mixed."""

from __future__ import annotations

import argparse
import csv
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from egoinstructor.cli import run as run_command
from egoinstructor.cli import simulate as command
from egoinstructor.data.metadata import read_metadata
from egoinstructor.data.pairs import read_pairs
from egoinstructor.engine import Died, Done
from egoinstructor.errors import InputError
from egoinstructor.library.sources.opening import open_source
from egoinstructor.video.decode import load_video, read_frames
from simkitchen import dataset
from simkitchen.catalogue import nouns, verb_id
from simkitchen.encoding import SECONDS, write_clip
from simkitchen.events import generate
from simkitchen.metadata import REFERENCES, best_references, write_metadata
from simkitchen.rendering import Settings

EVENTS = list(generate("train", 60))


def files(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# One clip


def test_a_clip_is_read_back(tmp_path):
    frames = np.zeros((16, 48, 48, 3), np.uint8)
    for i in range(16):
        frames[i, :, 3 * i : 3 * i + 3] = (255, 128, 0)
    write_clip(tmp_path / "clip.mp4", frames)
    read = load_video(tmp_path / "clip.mp4", start=0.0, end=SECONDS, num_frames=8)
    assert read.indices.tolist() == [1, 3, 5, 7, 8, 10, 12, 14]  # all different, from beginning to end
    assert np.abs(read.pixels.astype(int) - frames[read.indices]).mean() < 8
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_clip_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(Exception, match="."):
        write_clip(tmp_path / "clip.mp4", np.zeros((2, 48, 48, 3), np.float32))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


# Metadata


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    write_metadata(folder, EVENTS)
    return folder


def test_training_reads_both_forms_alike(folder):
    lines = read_metadata(folder / "metadata.jsonl").samples(folder, folder)
    pair = read_metadata(folder / "instructions.json", folder / "config.json").samples(folder, folder)
    ego = [event for event in EVENTS if event.view("ego")]
    assert len(lines) == len(pair) == len(ego)
    for line, other, event in zip(lines, pair, ego, strict=True):
        assert line.video == other.video == folder / f"ego/{event.id}.mp4"
        assert line.caption == other.caption == event.view("ego").narration
        assert (line.start, line.end, line.instruction) == (other.start, other.end, other.instruction)
        assert [(r.video, r.narration) for r in line.references] == [(r.video, r.narration) for r in other.references]
        assert 0 < len(line.references) <= REFERENCES


def test_the_library_has_every_exo_clip(folder):
    with (folder / "library.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["video", "start", "end", "narration"]
    assert [row["video"] for row in rows] == [f"exo/{event.id}.mp4" for event in EVENTS]
    assert [row["narration"] for row in rows] == [event.view("exo").narration for event in EVENTS]
    assert {(float(row["start"]), float(row["end"])) for row in rows} == {(0.0, SECONDS)}


def test_the_library_reads_it(folder):
    found = list(open_source(folder / "library.csv"))
    assert [video.video for video in found] == [f"exo/{event.id}.mp4" for event in EVENTS]
    clips, findings = found[0].clips(SECONDS)
    assert [(clip.start, clip.end, clip.narration) for clip in clips] == [
        (0.0, SECONDS, EVENTS[0].view("exo").narration)
    ]
    assert findings == []


def test_pairs_show_the_same_action(folder):
    ego, exo = read_pairs(folder / "pairs_ego.json"), read_pairs(folder / "pairs_exo.json")
    by_video = {f"{camera}/{event.id}": event for event in EVENTS for camera in ("ego", "exo")}
    assert len(exo) == len(EVENTS)
    for record in ego + exo:
        event = by_video[record.video]
        assert record.nouns == (nouns()[event.noun].id,)
        assert record.verbs == (verb_id(event.verb),)
    for record in ego:
        event = by_video[record.video]
        same = {e.id for e in EVENTS if (e.verb, e.noun) == (event.verb, event.noun)}
        assert {exo[i].video.removeprefix("exo/") for i in record.paired} == same
        assert all(record.same_action(exo[i]) for i in record.paired)


def test_events_are_kept_whole(folder):
    lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(json.dumps(event.as_dict())) for event in EVENTS]


def test_references_are_best_first():
    events = list(generate("test", 400))
    for event, references in zip(events, best_references(events, events), strict=True):
        ranks = [(other.noun != event.noun, other.verb != event.verb) for other in references]
        assert ranks == sorted(ranks)
        assert ranks[0] == (False, False)
        assert len({other.id for other in references}) == len(references) <= REFERENCES


# Runs, with a painter in the renderer's place


@pytest.fixture
def painted(monkeypatch):
    """Clips of one colour, made in this process. Returns the list of views that were made."""
    made: list[str] = []

    def paint(event, view, settings):
        made.append(f"{view.camera}/{event.id}")
        shade = np.uint8(view.seed % 256)
        return np.full((settings.frames, settings.size, settings.size, 3), shade, np.uint8)

    def here(make, jobs, *, workers):
        work = make(0, workers)
        for job in jobs:
            yield Done(job, work(job))

    monkeypatch.setattr(dataset, "render_view", paint)
    monkeypatch.setattr(dataset, "each", here)
    monkeypatch.setattr(dataset, "set_up_rendering", lambda: None)
    return made


SMALL = Settings(size=32, frames=2)


def test_a_run_goes_on_where_it_was(painted, tmp_path):
    seen = []
    report = dataset.simulate(tmp_path, "train", 9, settings=SMALL, progress=lambda *told: seen.append(told))
    assert (report.rendered, report.found, report.failed, report.ok) == (9, 0, (), True)
    assert [told[:2] for told in seen] == [(i + 1, 9) for i in range(9)]
    whole = files(tmp_path)
    assert sum(name.endswith(".mp4") for name in whole) == sum(len(event.views) for event in EVENTS[:9])
    painted.clear()
    (tmp_path / "train/exo/train-000004.mp4").unlink()
    (tmp_path / "train/ego/.train-000002.mp4.77.partial").write_bytes(b"half")
    (tmp_path / "train/metadata.jsonl").unlink()
    report = dataset.simulate(tmp_path, "train", 9, settings=SMALL)
    assert (report.rendered, report.found) == (1, 8)
    assert painted == ["exo/train-000004"]
    assert files(tmp_path) == whole


def test_more_events_keep_those_that_are_there(painted, tmp_path):
    dataset.simulate(tmp_path, "test", 3, settings=SMALL)
    painted.clear()
    dataset.simulate(tmp_path, "test", 5, settings=SMALL)
    assert painted == ["ego/test-000003", "exo/test-000003", "ego/test-000004", "exo/test-000004"]
    samples = read_metadata(tmp_path / "test/metadata.jsonl").samples()
    assert len(samples) == 5
    assert read_frames(samples[4].video, [0]).pixels.shape == (1, 32, 32, 3)


@pytest.mark.parametrize(("seed", "settings"), [(1, SMALL), (0, Settings(size=48, frames=2)), (0, Settings(32, 3))])
def test_other_settings_are_not_mixed_in(painted, tmp_path, seed, settings):
    dataset.simulate(tmp_path, "train", 1, settings=SMALL)
    whole = files(tmp_path)
    with pytest.raises(InputError, match=r"holds clips made with .*(seed|size|frames)"):
        dataset.simulate(tmp_path, "train", 1, seed=seed, settings=settings)
    assert files(tmp_path) == whole


def test_events_that_fail_are_named_and_left_out(painted, tmp_path, monkeypatch):
    def third_dies(make, jobs, *, workers):
        work = make(0, workers)
        for i, job in enumerate(jobs):
            yield Died(job, -9) if i == 2 else Done(job, work(job))

    monkeypatch.setattr(dataset, "each", third_dies)
    report = dataset.simulate(tmp_path, "validation", 4, settings=SMALL)
    assert not report.ok
    assert report.as_dict() == {
        "folder": str(tmp_path / "validation"),
        "rendered": 3,
        "found": 0,
        "failed": ["validation-000002"],
    }
    assert "validation-000002" in str(report)
    assert "validation-000002" not in (tmp_path / "validation/events.jsonl").read_text(encoding="utf-8")


@pytest.mark.parametrize("values", [{"split": "all"}, {"events": 0}, {"workers": 0}])
def test_what_makes_no_sense_is_refused(tmp_path, values):
    with pytest.raises(InputError, match=r"must be"):
        dataset.simulate(tmp_path, **{"split": "train", "events": 1, **values})


def test_one_run_at_a_time(painted, tmp_path, monkeypatch):
    def meanwhile(make, jobs, *, workers):
        with pytest.raises(InputError, match="another run"):
            dataset.simulate(tmp_path, "train", 1, settings=SMALL)
        yield from ()

    monkeypatch.setattr(dataset, "each", meanwhile)
    dataset.simulate(tmp_path, "train", 1, settings=SMALL)


def test_a_full_disk_is_said(painted, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset, "write_clip", full)
    with pytest.raises(InputError, match="no space is left"):
        dataset.simulate(tmp_path, "train", 1, settings=SMALL)


def test_command(painted, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    command.add(parser.add_subparsers())
    words = ["simulate", "--events", "2", "--out", str(tmp_path), "--size", "32", "--frames", "2", "--split", "test"]
    arguments = parser.parse_args([*words, "--json"])
    assert run_command(arguments.run, arguments) == 0
    assert json.loads(capsys.readouterr().out)["rendered"] == 2
    arguments = parser.parse_args([*words, "--seed", "5"])
    assert run_command(arguments.run, arguments) == 2


# Runs that render


RUN = """
import sys
from simkitchen.dataset import simulate
from simkitchen.rendering import Settings
if __name__ == "__main__":
    simulate(sys.argv[1], "test", 10, settings=Settings(32, 2), workers=2)
"""


@pytest.mark.slow
def test_killed_and_resumed_is_as_if_never_killed(tmp_path, can_render):
    """The run, or one of its workers, dies at some moments; what is there at last is what a whole run makes."""
    script = tmp_path / "run.py"
    script.write_text(RUN)

    def start(out) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, str(script), str(out)], start_new_session=True)

    assert start(tmp_path / "whole").wait(timeout=900) == 0
    for clips in (1, 9):
        running = start(tmp_path / "killed")
        while len(list((tmp_path / "killed").rglob("*.mp4"))) < clips and running.poll() is None:
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        running.wait()
    assert start(tmp_path / "killed").wait(timeout=900) == 0
    whole, killed = files(tmp_path / "whole"), files(tmp_path / "killed")
    assert len(whole) == 20 + 9
    assert killed == whole

"""A whole recording narrated: what is written, what a kill leaves, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from egoinstructor.captioners.egoinstructor import Captioner
from egoinstructor.errors import InputError, VideoError
from egoinstructor.model.calibration import Calibration
from egoinstructor.narration.captions import Segment, Skipped, line_from
from egoinstructor.narration.narrate import NarrationOptions, narrate
from egoinstructor.narration.timeline import write_timeline
from egoinstructor.narration.tracks import Files, Tracks
from egoinstructor.records import Clip
from egoinstructor.video import decode

OPTIONS = NarrationOptions(seconds=1.5, num_beams=1, max_new_tokens=6, batch_size=3, merge=False)
"""7 windows of the recording, in batches of 3."""

BRIEF = replace(OPTIONS, end=3.0)

SPANS = [(0, 1.5), (1.5, 3), (3, 4.5), (4.5, 6), (6, 7.5), (7.5, 9), (9, 11)]


def lines(files):
    return [line_from(json.loads(line)) for line in files.jsonl.read_text(encoding="utf-8").splitlines()]


def tracks(files):
    return [path.read_bytes() for path in (files.srt, files.vtt, files.jsonl)]


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path / "out" / "kitchen")


def test_every_window_has_the_caption_that_it_has_alone(captioner, recording, library, files):
    report = narrate(captioner, recording, files.prefix, library=library, options=replace(OPTIONS, shots=2))
    found = lines(files)
    assert [(line.start, line.end) for line in found] == SPANS
    for line in found:
        alone = captioner.caption(
            recording, start=line.start, end=line.end, library=library, shots=2, num_beams=1, max_new_tokens=6
        )
        assert line.caption == alone.text
        assert line.score == pytest.approx(alone.score, abs=1e-4)
        assert [r["narration"] for r in line.references] == [r.narration for r in alone.references]
        assert len(line.references) == 2
    assert (report.complete, report.windows, report.captions, report.skipped) == (True, 7, 7, 0)
    assert report.seconds == 11


def test_without_a_library(captioner, recording, files):
    narrate(captioner, recording, files.prefix, options=OPTIONS)
    assert all(line.references == () for line in lines(files))


def test_a_part_with_overlap(captioner, recording, files):
    options = replace(OPTIONS, start=2.0, end=7.0, seconds=2, overlap=1)
    narrate(captioner, recording, files.prefix, options=options)
    assert [(line.start, line.end) for line in lines(files)] == [(2, 3.5), (3.5, 4.5), (4.5, 5.5), (5.5, 7)]


def test_at_changes(captioner, recording, files):
    report = narrate(captioner, recording, files.prefix, options=replace(OPTIONS, cut="changes", seconds=2.0))
    assert [line.start for line in lines(files)] == [0, 3, 5, 7, 8.5]
    assert report.windows == 5


def test_progress(captioner, recording, files):
    seen = []
    narrate(captioner, recording, files.prefix, options=OPTIONS, progress=seen.append)
    assert [round(now.done, 3) for now in seen] == [0, 4.5, 9, 11, 11]
    assert [len(now.segments) for now in seen] == [0, 1, 3, 1, 2]  # two windows may still change: their neighbour comes
    assert [line for now in seen for line in now.segments] == lines(files)
    assert seen[0].eta is None
    assert seen[-1].eta == 0
    assert seen[-1].fraction == 1


def test_progress_of_an_earlier_run_comes_in_parts(captioner, recording, files, monkeypatch):
    narrate(captioner, recording, files.prefix, options=OPTIONS)
    monkeypatch.setattr("egoinstructor.narration.narrate._REPLAYED", 2)
    seen = []
    narrate(captioner, recording, files.prefix, options=OPTIONS, progress=seen.append)
    assert [round(now.done, 3) for now in seen] == [3, 6, 9, 11, 11]
    assert max(len(now.segments) for now in seen) == 2
    assert [line for now in seen for line in now.segments] == lines(files)
    assert {now.speed for now in seen} == {None}


@pytest.mark.skipif(sys.platform != "linux", reason="names that aren't UTF-8 are of Linux")
def test_names_that_are_not_utf8(captioner, recording, tmp_path):
    video = Path(shutil.copy(recording, tmp_path / "k\udce9.mp4"))
    files = Files(tmp_path / "out\udce9")
    for _ in range(2):  # the journal is read again
        assert narrate(captioner, video, files.prefix, options=BRIEF).complete
    with Tracks(files) as tracks:
        tracks.add(
            Segment(
                0, 1, "stirs", references=({"video": str(video), "start": 0, "end": 1, "narration": "", "score": 1},)
            )
        )
    assert lines(files)[0].references[0]["video"] == str(video)
    write_timeline(files, video)
    page = files.html.read_text(encoding="utf-8")
    assert 'src="k%E9.mp4"' in page
    assert 'src="out%E9.vtt"' in page


@pytest.mark.parametrize(("cut", "batches"), [("fixed", 1), ("changes", 2)])
def test_stopped_and_gone_on_with_it_is_as_if_never_stopped(
    captioner, recording, library, files, tmp_path, cut, batches
):
    options = replace(OPTIONS, cut=cut, batch_size=2, merge=True)
    straight = Files(tmp_path / "straight")
    narrate(captioner, recording, straight.prefix, library=library, options=options)
    asked = iter([False] * batches + [True])
    first = narrate(captioner, recording, files.prefix, library=library, options=options, stop=lambda: next(asked))
    assert not first.complete
    assert first.windows == 2 * batches
    assert tracks(files) != tracks(straight)
    second = narrate(captioner, recording, files.prefix, library=library, options=options)
    assert second.complete
    assert second.seconds < 11
    assert tracks(files) == tracks(straight)


def test_a_journal_cut_anywhere_by_a_kill_leads_to_the_same_tracks(captioner, recording, files):
    narrate(captioner, recording, files.prefix, options=OPTIONS)
    journal, whole = files.journal.read_bytes(), tracks(files)
    ends = [i + 1 for i, byte in enumerate(journal) if byte == ord("\n")]
    assert len(ends) == 4
    for size in (0, 5, ends[0], ends[0] + 7, ends[1] - 1, ends[2] + 30, len(journal) - 1):
        files.journal.write_bytes(journal[:size])
        files.srt.write_bytes(b"half a")
        report = narrate(captioner, recording, files.prefix, options=OPTIONS)
        assert report.windows == 7
        assert tracks(files) == whole
        assert files.journal.read_bytes() == journal


def test_what_is_finished_is_not_done_again(captioner, recording, files, monkeypatch):
    captioner.calibration = Calibration(1.0, 3.0, "a test", 5, 0.0)
    narrate(captioner, recording, files.prefix, options=OPTIONS)
    sure = [line.confidence for line in lines(files)]
    monkeypatch.setattr(captioner, "caption_batch", None)
    threshold = sorted(sure)[3]
    options = replace(OPTIONS, threshold=threshold, merge=True, batch_size=5)  # nothing of this changes a caption
    report = narrate(captioner, recording, files.prefix, options=options)
    assert report.silent == sum(one < threshold for one in sure) > 0
    assert report.speed is None
    assert all(line.confidence >= threshold for line in lines(files))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"options": replace(BRIEF, seconds=2.0)}, "seconds was 1.5 and is 2.0"),
        ({"options": replace(BRIEF, num_beams=2)}, "num_beams was 1 and is 2"),
        ({"library": True}, "library was None and is '3 clips, "),
        ({"recording": "another"}, "recording was 'kitchen.mp4 "),
        ({"model": "another"}, "model was '"),
    ],
)
def test_going_on_in_another_way_is_refused(captioner, recording, library, files, tmp_path, other, said):
    narrate(captioner, recording, files.prefix, options=BRIEF)
    whole = tracks(files)
    if other.pop("library", None):
        other["library"] = library
    if other.pop("model", None):
        captioner = Captioner(captioner.model.__class__(captioner.model.config), captioner.processor)
    if other.pop("recording", None):
        recording = shutil.copy(recording, tmp_path / "kitchen.mp4")  # later
    with pytest.raises(InputError) as error:
        narrate(captioner, recording, files.prefix, **{"options": BRIEF, **other})
    assert said in str(error.value)
    assert "--overwrite" in str(error.value)
    assert tracks(files) == whole
    assert narrate(captioner, recording, files.prefix, overwrite=True, **{"options": BRIEF, **other}).complete


def test_a_stretch_that_cannot_be_read_is_passed_over(captioner, make_recording, recording, library, files, tmp_path):
    folder = tmp_path / "15s" / "video"
    make_recording(folder / "0000.mp4", [(15, 1, 1)])
    shutil.copy(recording, folder / "0002.mp4")  # the second piece is missing
    options = replace(OPTIONS, seconds=4.0)
    report = narrate(captioner, folder, files.prefix, library=library, options=options)
    found = lines(files)
    assert [(type(line), line.start, line.end) for line in found] == [
        *((Segment, start, start + 4) for start in (0, 4, 8)),
        (Skipped, 12, 32),
        *((Segment, start, end) for start, end in ((32, 36), (36, 41))),
    ]
    assert "0001.mp4 is missing" in found[3].skipped
    assert (report.complete, report.skipped, report.captions) == (True, 5, 5)
    assert files.srt.read_text().count("-->") == 5


def test_damaged_pictures_are_passed_over(captioner, make_recording, files, tmp_path):
    path = make_recording(tmp_path / "damaged.mp4", [(12, 1, 3)], gop=8)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    path.write_bytes(data)
    report = narrate(captioner, path, files.prefix, options=OPTIONS)
    assert report.complete
    assert 1 <= report.skipped <= 5
    assert report.captions + report.skipped == report.windows == 8


def test_a_recording_that_is_gone_is_no_stretch_that_cannot_be_read(captioner, recording, files, tmp_path):
    path = shutil.copy(recording, tmp_path / "mine.mp4")
    with pytest.raises(VideoError):
        narrate(captioner, path, files.prefix, options=OPTIONS, progress=lambda now: now.done and path.unlink())
    path = shutil.copy2(recording, path)
    assert narrate(captioner, path, files.prefix, options=OPTIONS, overwrite=True).skipped == 0


def test_a_recording_that_cannot_be_opened(captioner, files, tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    for path in (tmp_path / "no.mp4", tmp_path / "nowhere.mp4"):
        with pytest.raises(VideoError):
            narrate(captioner, path, files.prefix)
    assert not files.journal.exists()


def test_frames_that_are_read_elsewhere(captioner, recording, library, files, tmp_path):
    opaque = tmp_path / "kitchen.upload"
    opaque.write_bytes(b"only the sandbox may open this")
    asked = []

    def read(clip: Clip):
        asked.append((clip.start, clip.end))
        if clip.start == 3:
            raise VideoError("damaged")
        assert clip.video == opaque
        return decode.load_video(recording, start=clip.start, end=clip.end, num_frames=captioner.processor.num_frames)

    narrate(captioner, opaque, files.prefix, library=library, options=OPTIONS, read=read, info=decode.probe(recording))
    assert set(SPANS) == set(asked)
    elsewhere = lines(files)
    assert isinstance(elsewhere[2], Skipped)
    narrate(captioner, recording, Files(files.prefix.with_name("here")).prefix, library=library, options=OPTIONS)
    here = lines(Files(files.prefix.with_name("here")))
    assert [line.caption for line in elsewhere if isinstance(line, Segment)] == [
        line.caption for i, line in enumerate(here) if i != 2
    ]
    with pytest.raises(InputError, match="facts"):
        narrate(captioner, opaque, files.prefix, read=read)


def test_pictures_are_read_while_captions_are_written(captioner, recording, library, files, monkeypatch):
    """What the model writes from was decoded, encoded and looked up by another thread before."""
    monkeypatch.setattr("egoinstructor.captioners.clip_encoder.prefetch", lambda work, items, threads: map(work, items))
    threads = []
    load = decode.load_video

    def noted(*arguments, **options):
        threads.append(threading.current_thread())
        return load(*arguments, **options)

    monkeypatch.setattr("egoinstructor.captioners.clip_encoder.load_video", noted)
    narrate(captioner, recording, files.prefix, library=library, options=OPTIONS)
    assert len(threads) >= 7
    assert threading.main_thread() not in threads


def test_somebody_elses_subtitles_stay(captioner, recording, files):
    files.srt.parent.mkdir()
    files.srt.write_text("mine")
    with pytest.raises(InputError, match="is there"):
        narrate(captioner, recording, files.prefix, options=BRIEF)
    assert files.srt.read_text() == "mine"


def test_a_journal_that_is_none(captioner, recording, files):
    files.journal.parent.mkdir()
    for content in ("[1]\n", '{"a": 1}\n', "no JSON\n"):
        files.journal.write_text(content)
        with pytest.raises(InputError, match="journal"):
            narrate(captioner, recording, files.prefix, options=BRIEF)
    files.journal.unlink()
    narrate(captioner, recording, files.prefix, options=BRIEF)
    with files.journal.open("a") as file:
        file.write('{"windows": [{"start": 1}]}\n')
    with pytest.raises(InputError, match="damaged"):
        narrate(captioner, recording, files.prefix, options=BRIEF)


def test_one_run_at_a_time(captioner, recording, files):
    def again(now):
        with pytest.raises(InputError, match="another run"):
            narrate(captioner, recording, files.prefix, options=BRIEF)

    narrate(captioner, recording, files.prefix, options=BRIEF, progress=again)


def test_a_threshold_needs_a_calibrated_model(captioner, recording, files):
    assert captioner.calibration is None
    with pytest.raises(InputError, match="not calibrated"):
        narrate(captioner, recording, files.prefix, options=replace(OPTIONS, threshold=0.5))


@pytest.mark.parametrize(
    "bad",
    [
        {"cut": "often"}, {"seconds": 0}, {"seconds": float("nan")}, {"overlap": 5}, {"overlap": -1}, {"batch_size": 0},
        {"batch_size": 1000}, {"start": -1}, {"start": 3, "end": 2}, {"shots": -1}, {"threshold": 2},
        {"cut": "changes", "overlap": 0.5},
    ],
)  # fmt: skip
def test_bad_options(bad):
    with pytest.raises(InputError):
        NarrationOptions(**bad)


def test_a_start_after_the_end(captioner, recording, files):
    with pytest.raises(InputError, match="lasts 11"):
        narrate(captioner, recording, files.prefix, options=replace(OPTIONS, start=20.0))


@pytest.mark.slow
def test_killed_three_times_it_is_as_if_never_killed(model_folder, recording, tmp_path):
    straight, files = Files(tmp_path / "straight"), Files(tmp_path / "killed")

    def start(out):
        command = [sys.executable, "-m", "egoinstructor", "narrate", str(recording), "--model", str(model_folder)]
        command += ["--device", "cpu", "--seconds", "0.25", "--batch-size", "1", "--num-beams", "1", "--out", str(out)]
        return subprocess.Popen([*command, "--max-new-tokens", "4", "--no-merge"], stdout=subprocess.DEVNULL)

    assert start(straight.prefix).wait() == 0
    windows = len(straight.journal.read_bytes().splitlines()) - 1
    assert windows == 44
    for number in (1, 2, 3):
        process = start(files.prefix)
        while not files.journal.exists() or len(files.journal.read_bytes().splitlines()) <= number * 8:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert len(files.journal.read_bytes().splitlines()) <= windows
    assert start(files.prefix).wait() == 0
    assert tracks(files) == tracks(straight)

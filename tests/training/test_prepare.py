"""A folder of videos: what is made, what is skipped, what is reported; and what a killed run leaves behind."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from egoinstructor.data.prepare import chunk_folder, resize_folder
from egoinstructor.errors import InputError
from egoinstructor.video.decode import read_frames

RUN = """
import sys
from egoinstructor.data.prepare import chunk_folder, resize_folder
if __name__ == "__main__":
    command, source, out = sys.argv[1:]
    if command == "resize":
        report = resize_folder(source, out, shorter_side=32, workers=2, progress=lambda *step: print(*step, flush=True))
    else:
        report = chunk_folder(source, out, seconds_per_chunk=1, workers=2, progress=lambda *step: print(*step, flush=True))
    print(report)
"""


@pytest.fixture
def source(videos, tmp_path):
    folder = tmp_path / "source"
    videos.write(folder / "copied.mp4", 70, options={"preset": "ultrafast", "g": "30"})
    videos.write(folder / "day 1" / "P01.v2.mkv", 70, options={"preset": "ultrafast", "g": "23"})
    return folder


def finished(out: Path) -> dict[str, str]:
    """What a reader of the folder would take for videos, by content."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".prepare" not in path.parts
    }


def test_chunk_keeps_names_and_folders(source, tmp_path, videos):
    report = chunk_folder(source, tmp_path / "out", seconds_per_chunk=1, workers=2)
    assert report.ok
    assert dict(report.made) == {"copied": 1, "re-encoded": 1}
    assert sorted(finished(tmp_path / "out")) == [
        f"{name}/{piece}.mp4" for name in ("copied", "day 1/P01.v2") for piece in ("0000", "0001", "0002")
    ]
    assert videos.numbers(tmp_path / "out/day 1/P01.v2/0001.mp4") == list(range(30, 60))


def test_resize_keeps_names_and_folders(source, tmp_path, videos):
    steps = []
    report = resize_folder(source, tmp_path / "out", shorter_side=32, workers=2, progress=lambda *s: steps.append(s))
    assert dict(report.made) == {"re-encoded": 2}
    assert sorted(finished(tmp_path / "out")) == ["copied.mp4", "day 1/P01.v2.mp4"]
    assert videos.numbers(tmp_path / "out/day 1/P01.v2.mp4") == list(range(70))
    assert [step[:2] for step in steps] == [(1, 2), (2, 2)]
    assert {step[2] for step in steps} == {"copied.mp4", "day 1/P01.v2.mkv"}


def test_only_what_changed_is_made_again(source, tmp_path, videos):
    out = tmp_path / "out"

    def made(**settings):
        return sum(chunk_folder(source, out, **{"seconds_per_chunk": 1, "workers": 2} | settings).made.values())

    assert made() == 2
    before = finished(out)
    assert made() == 0

    (out / "copied/0001.mp4").unlink()
    assert made() == 1
    with (out / "day 1/P01.v2/0002.mp4").open("r+b") as file:
        file.truncate(100)
    assert made() == 1
    assert finished(out) == before

    videos.write(source / "copied.mp4", 40, options={"preset": "ultrafast", "g": "30"})
    assert made() == 1
    assert sorted(path.name for path in (out / "copied").iterdir()) == ["0000.mp4", "0001.mp4"]

    assert made(seconds_per_chunk=2) == 2
    assert made(seconds_per_chunk=2) == 0


def test_a_bad_file_is_reported_and_the_rest_is_made(source, tmp_path):
    (source / "bad.mp4").write_bytes(b"no video")
    (source / "notes.txt").write_text("not a video, not tried")
    out = tmp_path / "out"
    for made in (2, 0):  # the second run tries it again, and only it
        report = chunk_folder(source, out, seconds_per_chunk=1, workers=2)
        assert not report.ok
        assert sum(report.made.values()) == made
        assert report.skipped == 2 - made
        assert list(report.failures) == ["bad.mp4"]
        assert "bad.mp4" in report.failures["bad.mp4"]
        assert json.loads((out / ".prepare/report.json").read_text()) == report.as_dict()
    assert not (out / "bad").exists()


def test_names_in_each_other_s_way_are_reported(source, tmp_path):
    shutil.copy(source / "copied.mp4", source / "copied.mov")
    (source / "copied").mkdir()
    shutil.copy(source / "copied.mp4", source / "copied" / "0000.mp4")
    report = resize_folder(source, tmp_path / "small", shorter_side=32, workers=2)
    assert list(report.failures) == ["copied.mp4"]
    report = chunk_folder(source, tmp_path / "out", seconds_per_chunk=1, workers=2)
    assert list(report.failures) == ["copied.mov", "copied.mp4"]
    assert "rename one" in report.failures["copied.mp4"]


def test_a_folder_with_other_files_is_not_replaced(source, tmp_path):
    keep = tmp_path / "out" / "copied" / "thesis.txt"
    keep.parent.mkdir(parents=True)
    keep.write_text("mine")
    report = chunk_folder(source, tmp_path / "out", seconds_per_chunk=1, workers=2)
    assert list(report.failures) == ["copied.mp4"]
    assert keep.read_text() == "mine"


def test_an_output_folder_inside_the_source_is_not_read(source):
    for _ in range(2):
        report = resize_folder(source, source / "small", shorter_side=32, workers=2)
        assert report.ok
    assert sorted(finished(source / "small")) == ["copied.mp4", "day 1/P01.v2.mp4"]


def test_folders_that_cannot_be_used_are_refused(source, tmp_path):
    (tmp_path / "empty").mkdir()
    for bad, out, match in (
        (tmp_path / "missing", tmp_path / "out", "not a folder"),
        (tmp_path / "empty", tmp_path / "out", "no videos"),
        (source, source, "folder that is read"),
    ):
        with pytest.raises(InputError, match=match):
            resize_folder(bad, out)
    with pytest.raises(InputError, match="workers=0"):
        resize_folder(source, tmp_path / "out", workers=0)


def test_a_cut_off_manifest_line_costs_one_video(source, tmp_path):
    out = tmp_path / "out"
    chunk_folder(source, out, seconds_per_chunk=1, workers=1)
    manifest = out / ".prepare/manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-20])
    for made in (1, 0):
        assert sum(chunk_folder(source, out, seconds_per_chunk=1, workers=1).made.values()) == made


def test_a_folder_that_cannot_be_written_is_an_input_error(source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can't be written"):
        resize_folder(source, tmp_path / "file" / "out")


def test_the_reader_finds_each_frame_of_the_pieces(tmp_path, videos):
    videos.write(tmp_path / "source" / "kitchen.mkv", 500, options={"preset": "ultrafast", "g": "250"})
    assert chunk_folder(tmp_path / "source", tmp_path / "15s", seconds_per_chunk=15, workers=1).ok
    wanted = [0, 449, 450, 451, 499]
    frames = read_frames(tmp_path / "15s" / "kitchen", wanted)
    assert [videos.read(picture) for picture in frames.pixels] == wanted
    assert frames.timestamps == pytest.approx([n / 30 for n in wanted], abs=1e-3)


def start(command: str, source: Path, out: Path) -> subprocess.Popen[str]:
    script = out.parent / "run.py"
    script.write_text(RUN)
    return subprocess.Popen(
        [sys.executable, script, command, source, out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_two_runs_do_not_share_a_folder(source, tmp_path, videos):
    out = tmp_path / "out"
    videos.write(source / "long.mp4", 900, size=(320, 240), options={"preset": "ultrafast", "g": "250"})
    first = start("chunk", source, out)
    assert first.stdout is not None
    first.stdout.readline()  # one is done: it has the folder
    with pytest.raises(InputError, match="another run"):
        chunk_folder(source, out, workers=1)
    first.kill()
    first.communicate()


@pytest.mark.slow  # processes of its own
def test_ctrl_c_stops_and_leaves_no_partial_file(source, tmp_path, videos):
    videos.write(source / "long.mp4", 900, size=(320, 240), options={"preset": "ultrafast", "g": "250"})
    out = tmp_path / "out"
    process = start("chunk", source, out)
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process of the run
    _, errors = process.communicate(timeout=900)
    assert errors.count("Traceback") == 1, "of the process that was asked, not of its workers"
    assert "KeyboardInterrupt" in errors
    assert process.returncode == -signal.SIGINT
    assert not (out / ".prepare/partial").exists()
    assert chunk_folder(source, out, seconds_per_chunk=1, workers=2).skipped >= 1


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False, capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small disk can't be mounted here: it needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("command", ["resize", "chunk"])
def test_a_full_disk_stops_the_run_and_says_so(source, tmp_path, videos, small_disk, command):
    noise = videos.noise(source / "z.mp4", 120)
    run = resize_folder if command == "resize" else chunk_folder
    with pytest.raises(InputError, match=r"no space is left .* 2 of 3 videos are finished"):
        run(source, small_disk / "out", workers=1)
    assert not (small_disk / "out/.prepare/partial").exists()
    assert not (small_disk / "out" / noise.stem).exists()
    noise.unlink()
    assert run(source, small_disk / "out", workers=1).skipped == 2


@pytest.mark.slow
@pytest.mark.parametrize("command", ["resize", "chunk"])
def test_twenty_kills_then_a_run_make_what_one_clean_run_makes(source, tmp_path, videos, command):
    for n in range(4):
        options = {"preset": "ultrafast", "g": "30" if n % 2 else "250"}
        videos.write(source / f"{n}.mp4", 150, size=(320, 240), options=options)
    clean, killed = tmp_path / "clean", tmp_path / "killed"
    start_of_run = time.monotonic()
    output, errors = start(command, source, clean).communicate(timeout=900)
    seconds = time.monotonic() - start_of_run
    assert "0 failed" in output, errors
    whole = finished(clean)

    random.seed(0)
    kills = 0
    while kills < 20:
        process = start(command, source, killed)
        try:
            process.wait(random.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            process.kill()  # the run itself; its workers must notice
        else:
            shutil.rmtree(killed)  # finished: there was nothing left to kill
        kills += process.wait() == -signal.SIGKILL
        process.communicate()
        left = finished(killed) if killed.exists() else {}
        assert left.items() <= whole.items()  # whatever looks finished is

    output, errors = start(command, source, killed).communicate(timeout=900)
    assert "0 failed" in output, errors
    assert finished(killed) == whole
    assert not (killed / ".prepare/partial").exists()

"""Whatever happens to an ingest: the library opens, nothing is twice, nothing finished is lost, and going on mends it."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from egoinstructor.errors import InputError
from egoinstructor.library.ingest import ingest
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.sources.opening import open_source
from egoinstructor.records import Clip

SCRIPT = Path(__file__).with_name("ingest_run.py")


class Latents:
    """As the script's."""

    latents_key = "toy"

    def encode(self, clips):
        return {clip: torch.full((2, 3), clip.start) for clip in clips}


@pytest.fixture
def many(howto_videos, tmp_path):
    """Makes a folder of many videos: the same pictures, but each file has its own content."""

    def make(copies):
        folder = tmp_path / "many"
        folder.mkdir()
        for number in range(copies):
            for name in ("onion", "pasta/boil", "knead"):
                target = folder / f"{name.replace('/', '-')}{number}.mp4"
                box = struct.pack(">I4sI", 12, b"free", number)  # players pass it over
                target.write_bytes((howto_videos / f"{name}.mp4").read_bytes() + box)
                if (words := howto_videos / f"{name}.srt").exists():
                    shutil.copy(words, target.with_suffix(".srt"))
        return folder

    return make


def create(path, retriever):
    return ExoLibrary.create(path, retriever)


def content(library):
    """All that a library says of its clips: facts, embeddings, latents."""
    entries = sorted(library.entries(), key=lambda entry: entry.id)
    ids = [entry.id for entry in entries]
    latents = library.latents(ids, "toy")
    return entries, library.vectors(ids).tolist(), [latents[key].tolist() for key in ids if key in latents]


def check_sound(library):
    """It verifies, no clip is there twice, and videos that are noted as finished are whole."""
    report = library.verify()
    assert report.ok, report.problems
    entries = list(library.entries())
    ids = {entry.id for entry in entries}
    assert len(ids) == len(entries)
    for record in library.video_log().values():
        assert sum(entry.video_digest == record.digest for entry in entries) == record.clips, record
    return ids


# Stopped


class Stop(BaseException):
    """As Ctrl-C, at a place that a test chooses."""


@pytest.fixture
def stop_at(monkeypatch):
    """Makes the n-th call of any of a library's and a retriever's methods fail, before or after it did its work."""

    def arrange(library, n, after):
        count = 0

        def counted(plain):
            def call(*args, **kwargs):
                nonlocal count
                count += 1
                mine = count  # a method may call another
                if mine == n and not after:
                    raise Stop
                result = plain(*args, **kwargs)
                if mine == n:
                    raise Stop
                return result

            return call

        with monkeypatch.context() as patch:
            for name in ("known", "add", "put_latents", "log_videos", "add_source", "relocate", "delete"):
                patch.setattr(library, name, counted(getattr(library, name)))
            for name in ("encode_video", "encode_text"):
                patch.setattr(library.retriever, name, counted(getattr(library.retriever, name)))
            yield lambda: count

    return contextmanager(arrange)


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_stopped_at_any_step_it_goes_on_to_the_same_content(toy_retriever, howto_folder, tmp_path, stop_at, every):
    clean = create(tmp_path / "clean", toy_retriever)
    with stop_at(clean, 0, after=False) as steps:
        ingest(clean, open_source(howto_folder), latents=Latents(), batch=4)
    expected = content(clean)
    assert len(expected[0]) == 9
    assert steps() >= 15
    for step in range(1, steps() + 1, every):
        library = create(tmp_path / f"stopped{step}", toy_retriever)
        with stop_at(library, step, after=step % 2 == 0), pytest.raises(Stop):
            ingest(library, open_source(howto_folder), latents=Latents(), batch=4)
        there = check_sound(library)
        report = ingest(library, open_source(howto_folder), latents=Latents(), batch=4)
        assert content(library) == expected
        assert report.added == 9 - len(there)


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_removing_stopped_at_any_step_goes_on_to_the_same_content(
    toy_retriever, howto_folder, tmp_path, stop_at, every
):
    """Of two copies one's words change, of another video all: what the copy names stays, whatever happens."""
    for suffix in (".mp4", ".srt"):
        shutil.copy(howto_folder / f"onion{suffix}", howto_folder / f"allium{suffix}")
    changed = shutil.copytree(howto_folder, tmp_path / "changed/howto")
    for name, words in (("allium", "golden"), ("pasta/boil", "salt")):
        path = changed / f"{name}.srt"
        path.write_text(path.read_text().replace(words, "brown"))

    def filled(name):
        """A library whose folder's words have changed since."""
        folder = shutil.copytree(howto_folder, tmp_path / name / "howto")
        library = create(tmp_path / name / "library", toy_retriever)
        ingest(library, open_source(folder))
        for path in changed.rglob("*.srt"):
            shutil.copy(path, folder / path.relative_to(changed))
        return library, open_source(folder)

    library, source = filled("clean")
    with stop_at(library, 0, after=False) as steps:
        report = ingest(library, source, batch=1, replace=True)
    assert (report.added, report.stale, report.removed) == (2, 1, 1)
    expected = content(library)
    assert steps() >= 12
    for step in range(1, steps() + 1, every):
        library, source = filled(f"stopped{step}")
        with stop_at(library, step, after=step % 2 == 0), pytest.raises(Stop):
            ingest(library, source, batch=1, replace=True)
        assert {entry.narration for entry in library.entries()} >= {"Until it is golden.", "Chop the onion."}
        ingest(library, source, batch=1, replace=True)
        assert content(library) == expected
        assert ingest(library, source, replace=True).skipped == 4


class Worker:
    """A process that ingests on request, see `ingest_run.py`."""

    def __init__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self, library, folder, batch=2):
        """Have it begin; the id of the process that is at work."""
        self.process.stdin.write(f"{library.uri} {folder} {batch}\n")
        self.process.stdin.flush()
        word, pid = self.process.stdout.readline().split()
        assert word == "begin"
        return int(pid)

    def end(self):
        """The videos that it said were finished, and its exit code."""
        finished = set()
        for line in self.process.stdout:
            word, what = line.split()
            if word == "exit":
                return finished, int(what)
            finished.add(what)
        raise AssertionError("the worker itself has ended")


@pytest.fixture
def worker():
    made = []

    def make():
        made.append(Worker())
        return made[-1]

    yield make
    for one in made:
        one.process.stdin.close()
        one.process.wait()


@pytest.mark.slow
def test_killed_at_twenty_random_moments(toy_retriever, many, tmp_path, worker):
    folder, rng, worker = many(8), random.Random(0), worker()
    clean = create(tmp_path / "clean", toy_retriever)
    worker.begin(clean, folder)
    begun = time.monotonic()
    assert worker.end()[1] == 0
    seconds = time.monotonic() - begun
    expected = content(clean)
    assert len(expected[0]) == 8 * 9
    kills, where = 0, []
    while kills < 20:
        library = create(tmp_path / f"killed{len(where)}", toy_retriever)
        before, finished, status = set(), set(), -signal.SIGKILL
        while kills < 20 and status:  # each goes on where the last one was killed
            pid = worker.begin(library, folder)
            time.sleep(rng.uniform(0, seconds / 3))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            said, status = worker.end()
            assert status in (0, -signal.SIGKILL)
            kills += status != 0
            there = check_sound(library)
            assert before <= there, "what was there stays there"
            finished |= said
            assert finished <= {video for _, video in library.video_log()}, "what was called finished is not forgotten"
            before = there
            where.append(len(there))
        ingest(library, open_source(folder), latents=Latents(), batch=2)
        assert content(library) == expected
        check_sound(library)
    assert len(set(where)) > 5, "the kills came at different places"


def test_two_ingests_at_once(toy_retriever, many, tmp_path):
    """Each has its own connection; both bring the same folder."""
    folder = many(2)
    create(tmp_path / "library", toy_retriever)
    reports, start = [], threading.Barrier(2)

    def work():
        library = ExoLibrary.open(tmp_path / "library", toy_retriever)
        start.wait()
        reports.append(ingest(library, open_source(folder), batch=2, latents=Latents()))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    library = ExoLibrary.open(tmp_path / "library")
    assert len(check_sound(library)) == 18
    assert sum(report.added for report in reports) == 18
    assert len(library.latents([entry.id for entry in library.entries()], "toy")) == 18
    assert {record.error for record in library.video_log().values()} == {""}


@pytest.mark.slow
def test_two_processes_at_once(toy_retriever, many, tmp_path, worker):
    folder, library = many(6), create(tmp_path / "library", toy_retriever)
    workers = [worker(), worker()]
    for one in workers:
        one.begin(library, folder)
    assert [one.end()[1] for one in workers] == [0, 0]
    assert len(check_sound(library)) == 6 * 9
    clean = create(tmp_path / "clean", toy_retriever)
    ingest(clean, open_source(folder), latents=Latents())
    assert content(library) == content(clean)


# Files that can't be read


def test_a_file_that_is_no_video_takes_no_other_with_it(toy_retriever, howto_folder, tmp_path):
    (howto_folder / "broken.mp4").write_bytes(b"not a video" * 100)
    (howto_folder / "empty.mp4").write_bytes(b"")
    library = create(tmp_path / "library", toy_retriever)
    for _ in range(2):  # told in every run, since the files may be mended
        report = ingest(library, open_source(howto_folder))
        assert [finding.video for finding in report.of("failure")] == ["broken.mp4", "empty.mp4"]
        assert "can't be read as a video" in report.of("failure")[0].reason
        assert (report.failed, report.ok) == (2, False)
    assert len(check_sound(library)) == 9
    assert library.video_log()["howto", "empty.mp4"].error
    shutil.copy(howto_folder / "knead.mp4", howto_folder / "broken.mp4")
    (howto_folder / "empty.mp4").unlink()
    assert ingest(library, open_source(howto_folder)).ok


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_the_clips_of_a_damaged_video_that_can_be_read_go_in(toy_retriever, howto_folder, tmp_path, batch):
    whole = (howto_folder / "onion.mp4").read_bytes()
    assert whole.find(b"mdat") < whole.find(b"moov"), "the pictures come first"
    middle = len(whole) // 2
    (howto_folder / "onion.mp4").write_bytes(whole[:middle] + bytes(2000) + whole[middle + 2000 :])
    library = create(tmp_path / "library", toy_retriever)
    report = ingest(library, open_source(howto_folder), batch=batch, latents=Latents())
    failures = report.of("failure")
    assert {failure.video for failure in failures} == {"onion.mp4"}
    assert 1 <= len(failures) <= 3
    assert failures[0].where in ("3–6 s", "6–9 s")
    assert (report.failed, report.finished, report.added) == (1, 2, 9 - len(failures))
    record = library.video_log()["howto", "onion.mp4"]
    assert (record.clips, bool(record.error)) == (4 - len(failures), True)
    check_sound(library)
    (howto_folder / "onion.mp4").write_bytes(whole)
    mended = ingest(library, open_source(howto_folder), batch=batch, latents=Latents(), replace=True)
    assert mended.ok
    assert len(check_sound(library)) == 9


def test_another_error_flies_and_what_was_committed_stays(toy_retriever, howto_folder, tmp_path, monkeypatch):
    library = create(tmp_path / "library", toy_retriever)
    monkeypatch.setattr(toy_retriever, "encode_text", lambda texts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ingest(library, open_source(howto_folder), batch=2)
    assert {entry.video for entry in library.entries()} == {"knead.mp4"}, "in which nothing is said"
    check_sound(library)


def test_a_library_of_another_retriever_is_refused(toy_retriever, howto_folder, tmp_path):
    library = create(tmp_path / "library", toy_retriever)
    ingest(library, open_source(howto_folder))
    toy_retriever.identity = type(toy_retriever.identity)(**toy_retriever.identity.as_dict() | {"revision": "2"})
    with pytest.raises(InputError, match="made with another retriever: revision '1', not '2'"):
        ExoLibrary.open(library.uri, toy_retriever)


def test_a_moved_video_is_still_found_and_named_when_it_is_needed(toy_retriever, howto_folder, tmp_path):
    library = create(tmp_path / "library", toy_retriever)
    ingest(library, open_source(howto_folder))
    (howto_folder / "onion.mp4").rename(tmp_path / "onion.mp4")
    (hit,) = library.search(text="golden", narration_weight=1.0, k=1)
    assert hit.entry.narration == "Until it is golden."
    with pytest.raises(InputError, match=r"onion\.mp4: there is no such file"):
        toy_retriever.encode_video([Clip(library.path(hit.entry), hit.entry.start, hit.entry.end)])
    report = ingest(library, open_source(howto_folder))
    assert (report.skipped, report.added, report.ok) == (2, 0, True)
    assert len(library) == 9


# Places that can't be written


@contextmanager
def no_file_above(limit_bytes):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_going_on_mends_it(toy_retriever, howto_folder, tmp_path):
    library = create(tmp_path / "library", toy_retriever)
    ingest(library, open_source(howto_folder / "pasta"))
    before = check_sound(library)
    with no_file_above(512), pytest.raises(InputError, match=r"library .* can't be written to.*Make room"):
        ingest(library, open_source(howto_folder))
    assert check_sound(library) == before
    report = ingest(library, open_source(howto_folder))
    assert (report.added, report.ok) == (6, True)
    assert len(check_sound(library)) == 9


@pytest.fixture
def others_folder():
    """A folder that anybody may read; made read-only, this process can't write it even where the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="library"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def read_only(folder):
    paths = [folder, *folder.rglob("*")]
    user = os.geteuid()
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_read_only_library_says_so(toy_retriever, howto_videos, others_folder):
    videos = Path(shutil.copytree(howto_videos, others_folder / "howto"))
    library = create(others_folder / "library", toy_retriever)
    ingest(library, open_source(videos / "pasta"))
    with read_only(others_folder):
        opened = ExoLibrary.open(others_folder / "library", toy_retriever)
        assert len(opened) == 3
        with pytest.raises(InputError, match=r"can't be written to.*permissions"):
            ingest(opened, open_source(videos))
        assert ingest(opened, open_source(videos / "pasta")).skipped == 1, (
            "where nothing is to be written, nothing is wrong"
        )

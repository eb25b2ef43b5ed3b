"""A library's rows: what goes in comes out, once, whoever writes and whatever breaks."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from egoinstructor.errors import InputError
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import ClipEntry, Filter, VideoRecord
from egoinstructor.library.store import Store

ADDER = Path(__file__).with_name("adding.py")


def test_what_was_added_is_there_when_it_is_opened_again(library, clips):
    entries, video, narration = clips(10)
    assert library.add(entries, video, narration) == 10
    again = ExoLibrary.open(library.uri)
    assert len(again) == 10
    assert set(again.entries()) == set(entries)
    assert again.identity == library.identity
    ids = [entry.id for entry in entries]
    assert torch.allclose(again.vectors(ids), video, atol=1e-3)
    assert repr(again) == f"ExoLibrary({library.uri}, 10 clips)"


def test_clips_that_are_there_already_are_left_out(library, clips):
    entries, video, narration = clips(10)
    assert library.add(entries[:6] + entries[:2], video[[*range(6), 0, 1]], narration[[*range(6), 0, 1]]) == 6
    assert library.known([entries[5].id, entries[6].id, "never"]) == {entries[5].id}
    assert library.add(entries, -video, narration) == 4
    kept = library.vectors([entries[0].id, entries[9].id])
    assert torch.allclose(kept, torch.stack([video[0], -video[9]]), atol=1e-3)


def test_entries_come_by_id_in_order_and_by_filter(library, clips):
    entries, video, narration = clips(10)
    library.add(entries, video, narration)
    assert list(library.entries([entries[7].id, "never", entries[2].id])) == [entries[7], entries[2]]
    assert set(library.entries(where=Filter(sources=("s",)))) == {e for e in entries if e.source == "s"}
    assert list(library.entries([entries[7].id, entries[2].id], Filter(sources=("t",)))) == [entries[7]]
    assert library.vectors([]).shape == (0, 32)
    assert library.add([], torch.zeros(0, 32)) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, v, n: (e, v[:2], n), r"video embeddings of shape \(2, 32\).*must be \(3, 32\)"),
        (lambda e, v, n: (e, v, n[:, :5]), r"narration embeddings of shape \(3, 5\)"),
        (lambda e, v, n: (e, v * 1.1, n), "video embedding 0 has length 1.1"),
        (lambda e, v, n: (e, v, n * float("nan")), "narration embedding 1 has length nan"),
        (lambda e, v, n: (e, v, None), "narration=None for clips in which something is said"),
        (lambda e, v, n: ([ClipEntry("a", 0, 1, "", "u", "d")] * 3, v, n), "source 'u' is not known.*add_source"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_added(library, clips, change, message):
    with pytest.raises(InputError, match=message):
        library.add(*change(*clips(3)))
    assert len(library) == 0


# Sources, paths and the log


def test_roots_inside_the_library_move_with_it(library, tmp_path):
    library.add_source("inside", tmp_path / "library" / "videos")
    library.add_source("s", "/elsewhere/now")
    shutil.move(tmp_path / "library", tmp_path / "moved")
    moved = ExoLibrary.open(tmp_path / "moved")
    roots = {"inside": tmp_path / "moved" / "videos", "s": Path("/elsewhere/now"), "t": tmp_path / "t"}
    assert moved.sources() == roots
    assert moved.path(ClipEntry("a/b.mp4", 0, 1, "", "inside", "d")) == tmp_path / "moved/videos/a/b.mp4"
    assert moved.path(ClipEntry("/x/b.mp4", 0, 1, "", "s", "d")) == Path("/x/b.mp4")


def test_a_path_never_leads_out_of_its_root(library):
    for video, source, message in [
        ("../b.mp4", "s", "leads out"),
        ("a/../../b", "s", "leads out"),
        ("b", "u", "known are s, t"),
    ]:
        with pytest.raises(InputError, match=message):
            library.path(ClipEntry(video, 0, 1, "", source, "d"))
    with pytest.raises(InputError, match="give it a name"):
        library.add_source("", "/x")


def test_the_log_keeps_the_last_record_of_each_video(library):
    first, second = VideoRecord("s", "a.mp4", "d1", "f", 3), VideoRecord("s", "b.mp4", "", "f", 0, "it's broken")
    library.log_videos([first, second])
    later = VideoRecord("s", "a.mp4", "d1", "g", 4)
    library.log_videos([first, later])
    assert library.video_log() == {("s", "a.mp4"): later, ("s", "b.mp4"): second}


def test_a_moved_video_keeps_its_clips(library, clips):
    entries, video, narration = clips(8)
    library.add(entries, video, narration)
    library.log_videos([VideoRecord("s", "0.mp4", "0-0", "f", 4), VideoRecord("t", "1.mp4", "0-1", "f", 4)])
    assert library.relocate("0-0", "t", "new/it's.mp4") == 4
    found = list(library.entries([entry.id for entry in entries]))
    assert [(e.source, e.video) for e in found] == [("t", "new/it's.mp4")] * 4 + [("t", "1.mp4")] * 4
    assert list(library.video_log()) == [("t", "1.mp4")]
    assert library.add(entries, video, narration) == 0


# Opening


def test_another_retriever_is_refused(library, toy_retriever):
    other = type(toy_retriever)()
    other.identity = type(toy_retriever.identity)(**toy_retriever.identity.as_dict() | {"revision": "2"})
    with pytest.raises(InputError, match="revision '1', not '2'"):
        ExoLibrary.open(library.uri, other)


def test_a_folder_that_is_no_library_is_refused_and_left_alone(tmp_path, toy_retriever, library):
    with pytest.raises(InputError, match="is not a library"):
        ExoLibrary.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(InputError, match="is a library already"):
        ExoLibrary.create(library.uri, toy_retriever)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"not empty: it holds letter\.txt"):
        ExoLibrary.create(tmp_path / "full", toy_retriever)
    for attempt in (ExoLibrary.open, lambda path: ExoLibrary.create(path, toy_retriever)):
        with pytest.raises(InputError, match="not a library|is a file"):
            attempt(tmp_path / "full" / "letter.txt")


def test_a_newer_format_is_refused(library):
    library._store.tell("format", 2)
    with pytest.raises(InputError, match=r"has format 2; this version of egoinstructor reads 1\. Update"):
        ExoLibrary.open(library.uri)


def test_a_creation_that_was_killed_is_finished_by_the_next(tmp_path, toy_retriever):
    ExoLibrary.create(tmp_path / "library", toy_retriever)
    shutil.rmtree(tmp_path / "library/about.lance")
    with pytest.raises(InputError, match="is not a library"):
        ExoLibrary.open(tmp_path / "library")
    library = ExoLibrary.create(tmp_path / "library", toy_retriever)
    assert len(library) == 0
    library.add_source("s", "/videos")
    shutil.rmtree(tmp_path / "library/about.lance")
    with pytest.raises(InputError, match=r"holds sources of a library that has lost about\.lance"):
        ExoLibrary.create(tmp_path / "library", toy_retriever)


@pytest.mark.parametrize("damage", ["cut", "gone", "manifest"])
def test_a_damaged_library_says_so(library, clips, tmp_path, damage):
    entries, video, narration = clips(5)
    library.add(entries, video, narration)
    pattern = "_versions/*.manifest" if damage == "manifest" else "data/*.lance"
    for file in (tmp_path / "library/clips.lance").glob(pattern):
        file.unlink() if damage == "gone" else file.write_bytes(b"junk" * 20)
    with pytest.raises(InputError, match=r"can't be (read|opened): .*damaged or deleted, restore them"):
        list(ExoLibrary.open(library.uri).entries())


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_a_uri_will_do(scheme, tmp_path, toy_retriever, clips):
    uri = "memory://" if scheme == "memory" else f"file://{tmp_path / 'by uri'}"
    library = ExoLibrary.create(uri, toy_retriever)
    library.add_source("s", "/videos")
    library.add_source("t", "/videos")
    entries, video, narration = clips(5)
    assert library.add(entries, video, narration) == 5
    assert library.search(video[2], k=1)[0].entry == entries[2]
    assert library.optimize() == {}
    assert library.verify().ok
    assert library.stats().bytes is None if scheme == "memory" else len(ExoLibrary.open(tmp_path / "by uri")) == 5


# What breaks


@contextmanager
def no_file_above(limit: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def check_refuses_for_want_of_room(library, clips):
    entries, video, narration = clips(10)
    library.add(entries, video, narration)
    more, video, narration = clips(4000, seed=1)
    with pytest.raises(InputError, match=r"can't be written to: .*(disk is full|limit).*Make room and repeat"):
        library.add(more, video, narration)
    again = ExoLibrary.open(library.uri)
    assert set(again.entries()) == set(entries)
    assert again.verify().ok


def test_a_write_that_breaks_off_leaves_what_was_there(library, clips):
    with no_file_above(200_000):
        check_refuses_for_want_of_room(library, clips)


def test_a_full_disk_leaves_what_was_there(tmp_path, toy_retriever, clips):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk]
    if not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here: it needs root")
    try:
        library = ExoLibrary.create(disk / "library", toy_retriever)
        library.add_source("s", "/videos")
        library.add_source("t", "/videos")
        check_refuses_for_want_of_room(library, clips)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def others_library(toy_retriever, clips):
    """One that this process may read and not write, even where the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="library"))
    library = ExoLibrary.create(folder / "library", toy_retriever)
    library.add_source("s", "/videos")
    library.add_source("t", "/videos")
    library.add(*clips(10))
    library.search(clips(1)[1][0])  # whatever it imports, this user can
    library.optimize()
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder / "library"
    os.seteuid(user)
    for path in paths:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_library_that_cannot_be_written_can_be_searched(others_library, clips):
    entries, video, narration = clips(20)
    library = ExoLibrary.open(others_library)
    assert library.search(video[2], k=1)[0].entry == entries[2]
    assert library.verify().ok
    writes = (lambda: library.add(entries, video, narration), lambda: library.delete(source="s"))
    for write in writes:
        with pytest.raises(InputError, match=r"Permission denied.*Correct their permissions"):
            write()


# Others at the same time


def add_in_process(uri: str, first: int, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, ADDER, uri, str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_each_is_there_once(library, new):
    assert sum(new) == 400 == len(library) == len({entry.id for entry in library.entries()})
    assert library.verify().ok


def test_two_that_add_the_same_clips_at_once_add_each_once(library, clips):
    entries, video, narration = clips(400)

    def add(rows: range) -> int:
        own = ExoLibrary.open(library.uri)
        parts = [slice(first, first + 20) for first in rows[::20]]
        return sum(own.add(entries[part], video[part], narration[part]) for part in parts)

    with ThreadPoolExecutor() as pool:
        check_each_is_there_once(library, list(pool.map(add, [range(300), range(100, 400), range(50, 350)])))


@pytest.mark.slow
def test_two_processes_that_add_the_same_clips_at_once_add_each_once(library):
    writers = [add_in_process(library.uri, 0, 300), add_in_process(library.uri, 100, 400)]
    done = [writer.communicate(timeout=900) for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], done
    check_each_is_there_once(library, [sum(map(int, out.split())) for out, _ in done])


def test_compacting_while_others_add_loses_nothing(library, clips):
    entries, video, narration = clips(200)

    def add() -> None:
        own = ExoLibrary.open(library.uri)
        for first in range(0, 200, 5):
            part = slice(first, first + 5)
            own.add(entries[part], video[part], narration[part])

    with ThreadPoolExecutor() as pool:
        adding = pool.submit(add)
        while not adding.done():
            library.optimize()
        adding.result()
    assert set(library.entries()) == set(entries)
    assert library.verify().ok


@pytest.mark.slow
def test_what_a_killed_writer_was_told_is_there_is_there(library):
    told = 0
    for seed in range(5):
        writer = add_in_process(library.uri, told, told + 20_000)
        told += int(writer.stdout.readline())
        time.sleep(random.Random(seed).uniform(0, 0.5))
        writer.send_signal(signal.SIGKILL)
        told += sum(int(line) for line in writer.communicate()[0].splitlines())
        again = ExoLibrary.open(library.uri)
        assert len(again) - told in range(11), "at most the batch that it was writing"
        assert again.verify().ok
        told = len(again)
    assert told > 10
    library.optimize()
    assert len(library) == told


def test_one_that_is_open_sees_what_others_write(library, clips):
    entries, video, narration = clips(20)
    other = ExoLibrary.open(library.uri)
    library.add(entries[:10], video[:10], narration[:10])
    assert other.search(video[12], k=1)[0].entry != entries[12]
    library.add(entries, video, narration)
    assert other.search(video[12], k=1)[0].entry == entries[12]
    other.delete(ids=[entries[12].id])
    assert library.search(video[12], k=1)[0].entry != entries[12]


def test_many_small_commits_are_joined(library, clips, monkeypatch):
    monkeypatch.setattr("egoinstructor.library.store.COMMITS_BETWEEN_COMPACTIONS", 8)
    entries, video, narration = clips(18)
    for i in range(18):
        library.add(entries[i : i + 1], video[i : i + 1], narration[i : i + 1])
    assert library._store.table("clips").stats()["fragment_stats"]["num_fragments"] == 4  # 8 + 8 + 1 + 1
    assert set(library.entries()) == set(entries)


def test_long_lists_of_keys_are_asked_in_parts(library, clips, monkeypatch):
    monkeypatch.setattr("egoinstructor.library.store.KEYS_AT_ONCE", 3)
    entries, video, narration = clips(10)
    library.add(entries, video, narration)
    ids = [entry.id for entry in entries]
    assert library.known([*ids, *ids]) == set(ids)
    assert list(library.entries(ids)) == entries


def test_without_lancedb_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("egoinstructor.errors.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'egoinstructor\[library\]'"):
        Store(tmp_path)

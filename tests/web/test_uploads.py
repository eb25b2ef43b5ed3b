import asyncio
import errno
import gc
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from egoinstructor.errors import VideoError
from egoinstructor.video.file import VideoInfo
from egoinstructor.web import uploads as uploads_module
from egoinstructor.web.errors import BadRequest, Busy, NotFound, TooSlow, Unavailable
from egoinstructor.web.limits import LimitError, Limits
from egoinstructor.web.sandbox import Sandbox
from egoinstructor.web.uploads import Uploads, clean_name

INFO = VideoInfo(64, 48, 10.0, 30, 3.0, 0.0, "h264", 0, False)


class Look:
    """In place of the sandbox: a file that begins with `video` is one."""

    limits = Limits()

    def probe(self, path):
        if not path.read_bytes().startswith(b"video"):
            raise VideoError(f"video {path.name}: it can't be read as a video.")
        return INFO


async def pieces(content, size=3):
    for i in range(0, len(content), size):
        yield content[i : i + size]


@pytest.fixture
def uploads(tmp_path):
    with Uploads(
        Look(), Limits(upload_bytes=100, uploads=3, uploads_bytes=250, uploads_at_once=2), tmp_path
    ) as uploads:
        yield uploads


def send(uploads, content=b"video 1", name="a.mp4"):
    return asyncio.run(uploads.create(pieces(content), name))


def on_disk(uploads):
    return sorted(path.name for path in uploads.folder.iterdir())


def test_an_upload_is_kept_as_it_came_under_a_name_that_nobody_chose(uploads):
    upload = send(uploads, b"video 1", "../../etc/passwd")
    assert upload.path.read_bytes() == b"video 1"
    assert upload.path.parent == uploads.folder
    assert (upload.name, upload.size, upload.info) == ("passwd", 7, INFO)
    assert upload.path.name == upload.id != send(uploads).id
    assert uploads.get(upload.id) == upload
    assert stat.S_IMODE(uploads.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(upload.path.stat().st_mode) == 0o600


def test_a_real_video_is_taken_by_what_it_is_and_not_by_its_name(tmp_path, short_videos):
    with Sandbox(Limits(decoders=1)) as sandbox, Uploads(sandbox, parent=tmp_path) as uploads:
        content = short_videos["ego"].read_bytes()
        upload = asyncio.run(uploads.create(pieces(content, 1000), "page.html"))
        assert (upload.info.num_frames, upload.size) == (30, len(content))
        assert len(sandbox.frames(upload.path, num_frames=4)) == 4
        with pytest.raises(VideoError, match="can't be read as a video"):
            asyncio.run(uploads.create(pieces(b"<html>", 1000), "video.mp4"))
        assert on_disk(uploads) == [upload.id]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("C:\\videos\\clip.mp4", "clip.mp4"),
        ("/", "video"),
        ("..", "video"),
        ("", "video"),
        (" . ", "video"),
        ("a\0b.mp4", "ab.mp4"),
        ("a\nb\tc\r.mp4", "a b c .mp4"),
        ("\x1b[31mred.mp4", "[31mred.mp4"),
        ("gpj.\u202e4pm.exe", "gpj.4pm.exe"),  # right-to-left override
        ("\u2066a\u2069\u200b\ufeff.mp4", "a.mp4"),
        ("\ud800.mp4", "mp4"),  # half a surrogate pair
        ("\u2028\u2029x", "x"),
        ("küche mise\u0301.mp4", "küche misé.mp4"),
        ("x" * 5000, "x" * 100),
        ("<script>alert(1)</script>.mp4", "script>.mp4"),
        (".hidden", "hidden"),
        ("料理.mp4", "料理.mp4"),
    ],
)
def test_names_are_only_shown_and_can_do_nothing(name, shown):
    assert clean_name(name) == shown
    assert clean_name(shown) == shown


@pytest.mark.parametrize(
    "id",
    [
        "",
        ".",
        "..",
        "../x",
        "a" * 21,
        "a" * 23,
        "a" * 22,
        "a/" * 11,
        "a" * 21 + "\n",
        "é" * 22,
        "%2e" * 7 + "a",
        None,
        3,
    ],
)
def test_ids_that_mean_nothing(uploads, id):
    for use in (uploads.get, uploads.remove, lambda id: uploads.hold(id).__enter__()):
        with pytest.raises(NotFound):
            use(id)


def test_too_many_bytes_are_refused_as_they_arrive(uploads):
    came = 0

    async def endless():
        nonlocal came
        while True:
            came += 30
            yield b"v" * 30

    with pytest.raises(LimitError, match=r"\(limit upload_bytes\)$"):
        asyncio.run(uploads.create(endless(), "a"))
    assert came == 120
    assert on_disk(uploads) == []
    assert send(uploads, b"video" + b"." * 95).size == 100


def test_nothing_is_left_of_what_is_refused(uploads):
    async def breaks():
        yield b"video"
        raise ConnectionResetError("the sender is gone")

    for stream, expected in [
        (pieces(b"no video"), VideoError),
        (pieces(b""), BadRequest),
        (breaks(), (Unavailable, ConnectionResetError)),
    ]:
        with pytest.raises(expected):
            asyncio.run(uploads.create(stream, "a"))
        assert on_disk(uploads) == []
        assert uploads.stats() == {"videos": 0, "arriving": 0, "bytes": 0}


def test_an_upload_that_is_given_up_leaves_nothing(uploads):
    async def never():
        yield b"video"
        await asyncio.Event().wait()

    async def give_up():
        task = asyncio.create_task(uploads.create(never(), "a"))
        while uploads.stats()["bytes"] < 5:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    assert on_disk(uploads) == []
    assert uploads.stats() == {"videos": 0, "arriving": 0, "bytes": 0}


def test_a_file_is_not_closed_while_it_is_written(uploads, monkeypatch):
    begun, go_on, descriptors = threading.Event(), threading.Event(), []

    def slow_write(descriptor, content):
        begun.set()
        go_on.wait()
        os.fstat(descriptor)  # still open
        descriptors.append(descriptor)
        return len(content)

    async def give_up():
        task = asyncio.create_task(uploads.create(pieces(b"video"), "a"))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0.01)
            assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(uploads_module.os, "write", slow_write)
    asyncio.run(give_up())
    assert len(descriptors) == 1
    assert on_disk(uploads) == []


@pytest.mark.parametrize("limit", ["upload_seconds", "upload_stall_seconds"])
def test_slow_uploads_are_ended(tmp_path, limit):
    async def drip():
        while True:
            yield b"v"
            await asyncio.sleep(0.001 if limit == "upload_seconds" else 60)

    with Uploads(Look(), Limits(**{limit: 0.05}), tmp_path) as uploads:
        with pytest.raises(TooSlow, match=limit) as raised:
            asyncio.run(uploads.create(drip(), "a"))
        assert raised.value.status == 408
        assert on_disk(uploads) == []


def test_the_one_used_longest_ago_makes_room(uploads):
    first, second, third = (send(uploads, f"video {i}".encode()) for i in range(3))
    uploads.get(first.id)
    fourth = send(uploads)
    with pytest.raises(NotFound):
        uploads.get(second.id)
    assert on_disk(uploads) == sorted(upload.id for upload in (first, third, fourth))


def test_bytes_make_room_too(uploads):
    first, second = send(uploads, b"video" + b"1" * 95), send(uploads, b"video" + b"2" * 95)
    third = send(uploads, b"video" + b"3" * 60)
    assert on_disk(uploads) == sorted([second.id, third.id])
    assert uploads.stats() == {"videos": 2, "arriving": 0, "bytes": 165}
    with pytest.raises(NotFound):
        uploads.get(first.id)


def test_what_is_held_is_not_removed_to_make_room(uploads):
    first = send(uploads)
    with uploads.hold(first.id) as held, uploads.hold(first.id):
        assert held == first
        for _ in range(5):
            send(uploads)
        assert first.path.exists()
        others = [upload for upload in uploads._kept if upload != first.id]
        with uploads.hold(others[0]), uploads.hold(others[1]), pytest.raises(Busy, match="limit uploads"):
            send(uploads)
    for _ in range(3):
        send(uploads)
    assert not first.path.exists()


def test_an_upload_can_be_removed(uploads):
    upload = send(uploads)
    uploads.remove(upload.id)
    assert on_disk(uploads) == []
    assert uploads.stats() == {"videos": 0, "arriving": 0, "bytes": 0}
    with pytest.raises(NotFound):
        uploads.remove(upload.id)


def test_so_many_at_once_and_each_gets_its_own(uploads):
    async def at_once():
        gate = asyncio.Event()

        async def waits(content):
            yield content
            await gate.wait()

        tasks = [asyncio.create_task(uploads.create(waits(f"video {i}".encode()), str(i))) for i in range(2)]
        while uploads.stats()["arriving"] < 2:
            await asyncio.sleep(0)
        with pytest.raises(Busy, match="uploads_at_once") as raised:
            await uploads.create(pieces(b"video"), "a")
        assert raised.value.retry_after == 1
        gate.set()
        return await asyncio.gather(*tasks)

    for i, upload in enumerate(asyncio.run(at_once())):
        assert (upload.name, upload.path.read_bytes()) == (str(i), f"video {i}".encode())


def test_slow_looks_hold_up_nobody_elses_bytes(tmp_path):
    go_on = threading.Event()

    class SlowLook(Look):
        def probe(self, path):
            assert go_on.wait(60)
            return INFO

    async def at_once():
        others = os.cpu_count() + 5  # more than asyncio has threads for everybody
        tasks = [asyncio.create_task(uploads.create(pieces(b"video", 5), str(i))) for i in range(others)]
        while uploads.stats()["bytes"] < 5 * others:
            await asyncio.sleep(0.001)
        last = asyncio.create_task(uploads.create(pieces(b"video of the last", 4), "last"))
        while not any(path.stat().st_size == 17 for path in uploads.folder.iterdir()):
            await asyncio.sleep(0.001)
        go_on.set()
        await asyncio.gather(*tasks, last)

    with Uploads(SlowLook(), Limits(uploads_at_once=200), tmp_path) as uploads:
        asyncio.run(asyncio.wait_for(at_once(), 60))


def test_a_full_disk_is_said(uploads, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uploads_module.os, "write", full)
    with pytest.raises(Unavailable, match="disk is full"):
        send(uploads)
    assert on_disk(uploads) == []


def test_close_removes_all_and_ends_what_arrives(uploads):
    async def closes():
        yield b"video"
        uploads.close()
        yield b"more"

    send(uploads)
    with pytest.raises(Unavailable):
        asyncio.run(uploads.create(closes(), "a"))
    assert not uploads.folder.exists()
    with pytest.raises(Unavailable):
        send(uploads)
    uploads.close()


def test_the_folder_goes_with_the_object(tmp_path):
    uploads = Uploads(Look(), parent=tmp_path)
    send(uploads)
    del uploads
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_folders_of_processes_that_are_gone_are_removed_and_others_are_not(tmp_path, uploads):
    stale, new = tmp_path / "egoinstructor-uploads-stale", tmp_path / "egoinstructor-uploads-new"
    link, other = tmp_path / "egoinstructor-uploads-link", tmp_path / "other"
    for folder in (stale, new, other):
        folder.mkdir()
        (folder / "video").write_bytes(b"video")
    link.symlink_to(other)
    upload = send(uploads)
    hour_ago = time.time() - 3600
    for folder in (stale, other, uploads.folder):
        os.utime(folder, (hour_ago, hour_ago))
    with Uploads(Look(), parent=tmp_path):
        assert not stale.exists()
        assert (new / "video").exists()
        assert (other / "video").exists()
        assert upload.path.exists()  # in use


@pytest.mark.slow
@pytest.mark.parametrize("end", ["sys.exit()", "raise SystemError", "os.kill(os.getpid(), signal.SIGINT)"])
def test_the_folder_goes_with_the_process(tmp_path, end):
    code = (
        "import os, signal, sys, time; from pathlib import Path;"
        "from egoinstructor.web.sandbox import Sandbox; from egoinstructor.web.uploads import Uploads;"
        f"u = Uploads(Sandbox(), parent=Path(sys.argv[1])); (u.folder / 'x').touch(); {end}; time.sleep(60)"
    )
    ran = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True)
    assert ran.returncode in (0, 1, -signal.SIGINT)
    assert list(tmp_path.iterdir()) == []

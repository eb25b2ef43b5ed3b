"""Videos that mean harm: each ends in frames or in an error that says why, and the next video is none the worse."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from egoinstructor.errors import VideoError
from egoinstructor.video.decode import probe
from egoinstructor.web import decoder
from egoinstructor.web.limits import LimitError, Limits
from egoinstructor.web.sandbox import Sandbox
from egoinstructor.web.uploads import Uploads

spec = importlib.util.spec_from_file_location("hostile", Path(__file__).with_name("hostile.py"))
hostile = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hostile)

LIMITS = Limits(decoders=1, pixels=1920 * 1080, decode_seconds=20, decode_memory=1 << 30, upload_bytes=100_000_000)
QUICK = ["h264.mp4", "h264.mkv", "vp9.webm", "mpeg4.avi", "h264.ts", "mpeg2.mpg"]


@pytest.fixture(scope="module")
def videos():
    return {name: hostile.video(*spec) for name, spec in hostile.VIDEOS.items() if name in QUICK}


@pytest.fixture(scope="module")
def all_videos(videos):
    return videos | {name: hostile.video(*spec) for name, spec in hostile.VIDEOS.items() if name not in QUICK}


@pytest.fixture(scope="module")
def listener():
    """An address that nobody may call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


class Bench:
    """Sends one file after another through upload and decode, and looks after each whether all is as before."""

    def __init__(self, runner, sandbox, uploads, good):
        self.runner, self.sandbox, self.uploads, self.good = runner, sandbox, uploads, good
        self.expected, _ = self.send(good)
        self.outcomes = Counter()

    def send(self, content):
        """(frames, "frames"), or (None, what it was refused as)."""

        async def pieces():
            for i in range(0, len(content), 1 << 16):
                yield content[i : i + (1 << 16)]

        async def send():
            upload = await self.uploads.create(pieces(), "video.mp4")
            try:
                return self.sandbox.frames(upload.path, num_frames=8).pixels
            finally:
                self.uploads.remove(upload.id)

        try:
            return self.runner.run(send()), "frames"
        except LimitError as error:
            return None, error.limit
        except VideoError as error:
            return None, "crash" if "crashed" in str(error) else "refused"

    def judge(self, content):
        frames, outcome = self.send(content)
        if frames is not None:
            assert frames.shape[0] == 8
            assert frames.shape[1] * frames.shape[2] <= LIMITS.pixels
        self.outcomes[outcome] += 1
        return outcome

    def check(self):
        """A good video gives what it gave; no file, no process and no descriptor is left behind."""
        frames, _ = self.send(self.good)
        np.testing.assert_array_equal(frames, self.expected)
        assert list(self.uploads.folder.iterdir()) == []
        assert children() == [self.sandbox._decoders[0]._process.pid]

    def footprint(self):
        """Descriptors and MB of this process."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return len(list(Path("/proc/self/fd").iterdir())), pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def children():
    """The child processes that the sandbox started, and any zombie."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            name = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(parent) == os.getpid() and (state == "Z" or b"egoinstructor.web.decoder" in name):
            found.append(int(folder.name))
    return found


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(LIMITS) as sandbox:
        yield sandbox


@pytest.fixture
def bench(tmp_path, videos, sandbox):
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    with asyncio.Runner() as runner, Uploads(sandbox, parent=tmp_path) as uploads:
        yield Bench(runner, sandbox, uploads, videos["h264.mp4"])


def spoiled(videos, seeds):
    """Damaged videos, each kind of video as often."""
    names = sorted(videos)
    for seed in seeds:
        yield hostile.spoil(seed, videos[names[seed % len(names)]], videos[names[seed // 3 % len(names)]])


def test_what_is_damaged_by_chance(bench, videos):
    for content in spoiled(videos, range(60)):
        bench.judge(content)
    bench.check()
    assert bench.outcomes["refused"] > 10
    assert bench.outcomes["frames"] > 3  # else the damage was so coarse that nothing was tested


def test_lists_name_other_files_and_nobody_looks(bench, videos, tmp_path, listener):
    other = tmp_path / "other.mp4"
    other.write_bytes(videos["h264.mp4"])
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for name, content in hostile.texts(str(other), url):
        assert bench.judge(content) == "refused", name
    bench.check()
    with pytest.raises(BlockingIOError):
        listener.accept()


def test_a_stream_that_grows_is_held_to_the_limits_wherever_one_looks(tmp_path):
    limits = Limits(pixels=64 * 48)
    request = {"path": str(tmp_path / "grows"), "num_frames": 4, "sampling": "linspace", "max_side": None}
    first, second = {"do": "frames", "start": 0.0, "end": 0.09}, {"do": "frames", "start": 0.12, "end": 0.19}
    both, scaled = first | {"end": 0.19}, {"ok": {"shape": (4, 48, 64, 3)}}
    for width, height, allowed in [(80, 48, True), (640, 480, False)]:
        content = hostile.matroska([hostile.jpeg(64, 48)] * 10 + [hostile.jpeg(width, height)] * 10)
        Path(request["path"]).write_bytes(content)
        assert decoder._answer(request | {"do": "probe"}, limits)[0]["ok"]["width"] == 64
        assert decoder._answer(request | first, limits)[0] == scaled
        for segment in (second, both):
            answer = decoder._answer(request | segment, limits)[0]
            assert answer == scaled if allowed else answer["error"] == "video"


def test_a_coding_that_is_not_known_and_a_title_that_is_no_text():
    with pytest.raises(VideoError, match="a coding that is not known here"):
        probe(hostile.matroska([bytes(99)] * 9, codec=b"V_QUICKTIME"))
    assert probe(hostile.matroska([hostile.jpeg(64, 48)] * 9, title=b"\xff\xfe\x80")).num_frames == 9


EXPECTED = {
    "a codec that nobody uses": {"refused"},
    "a title that is no text": {"frames"},
    "an hour and a second": {"duration"},
    "a frame each million years": {"duration", "refused"},
    "100,000 frames": {"frames"},
    "a stream that grows": {"frames"},
    "a stream that changes size": {"frames"},
    "compressed pictures": {"frames"},
    "zip bomb": {"refused"},
    "gzip bomb": {"refused"},
    "gzipped mp4": {"refused"},
    "compressed picture bomb": {"refused"},
    "pictures that say 65500×65500": {"refused", "pixels"},
    "html before mp4": {"refused"},
    "pdf and mp4": {"refused"},
    "zip and mp4": {"refused"},
}
"""Of the files built on purpose, where one FFmpeg must not differ from another."""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_500_files(bench, all_videos, tmp_path, listener):
    other = tmp_path / "other.mp4"
    other.write_bytes(all_videos["h264.mp4"])
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    before = None
    for name, content in hostile.built(all_videos, str(other), url):
        outcome = bench.judge(content)
        assert outcome in EXPECTED.get(name, {outcome}), f"{name}: {outcome}"
        bench.check()
    made = sum(bench.outcomes.values())
    for content in spoiled(all_videos, range(1000, 1500 - made)):
        bench.judge(content)
        bench.check()
        before = before or bench.footprint()
    assert sum(bench.outcomes.values()) == 500
    descriptors, megabytes = bench.footprint()
    assert descriptors == before[0]
    assert megabytes - before[1] < 50
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert bench.outcomes["frames"] > 50, bench.outcomes

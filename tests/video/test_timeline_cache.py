"""A file's timeline is read once, for as long as the file stays what it is."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from egoinstructor.video import file, timeline
from egoinstructor.video.decode import load_video, probe
from egoinstructor.video.timeline_cache import TimelineCache


@pytest.fixture
def passes(monkeypatch):
    """How often a file's packets were read, from an empty store on."""
    calls = []
    read = timeline.from_packets
    monkeypatch.setattr(timeline, "from_packets", lambda video: calls.append(1) or read(video))
    monkeypatch.setattr(file, "_TIMELINES", TimelineCache(2))
    return calls


@pytest.fixture
def webm(make_video, tmp_path):
    """A copy of our own, of a file without an index of its frames."""
    options = {"deadline": "realtime", "cpu-used": "8"}
    return Path(shutil.copy(make_video("kept.webm", codec="libvpx-vp9", options=options, gop=24), tmp_path / "a.webm"))


@pytest.mark.parametrize("container_options", [{}, {"live": "1"}], ids=["cues", "no cues"])
def test_every_segment_of_a_file_after_one_pass(make_video, passes, container_options):
    """Without cues too, as a browser records: seeking then has no index that a pass would have filled."""
    path = make_video(
        f"segments{len(container_options)}.webm",
        codec="libvpx-vp9",
        options={"deadline": "realtime", "cpu-used": "8"},
        gop=24,
        container_options=container_options,
    )
    data = path.read_bytes()
    for start in (2.0, 0.0, 1.1):
        kept = load_video(path, start=start, end=start + 0.8, num_frames=4)
        fresh = load_video(data, start=start, end=start + 0.8, num_frames=4)
        np.testing.assert_array_equal(kept.pixels, fresh.pixels)
        np.testing.assert_array_equal(kept.timestamps, fresh.timestamps)
    assert len(passes) == 1 + 3, "the file once, bytes each time"


def test_a_file_that_changed_is_read_again(webm, make_video, passes):
    before = probe(webm).num_frames
    longer = make_video("longer.webm", 95, codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"})
    shutil.copy(longer, webm)
    assert (before, probe(webm).num_frames) == (90, 95)
    other = webm.with_name("b.webm")
    shutil.copy2(webm, other)
    other.replace(webm)  # of the same size and time, yet another file
    probe(webm)
    assert len(passes) == 3


def test_a_file_that_is_being_written_is_not_kept(webm, passes, monkeypatch):
    read = file.read_timeline

    def while_written(video, name):
        os.utime(webm, ns=(1, len(passes)))
        return read(video, name)

    monkeypatch.setattr(file, "read_timeline", while_written)
    for _ in range(2):
        probe(webm)
    assert len(passes) == 2


def test_only_the_last_files_are_kept(webm, passes):
    a, b, c = webm, *(shutil.copy(webm, webm.with_name(name)) for name in ("b.webm", "c.webm"))
    for path in (a, b, a, c, a, b):  # b went when c came
        probe(path)
    assert len(passes) == 4


def test_threads_share_them(webm, passes):
    frames = []
    threads = [
        threading.Thread(target=lambda: frames.append(load_video(webm, start=1, end=2, num_frames=4))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(frames) == 6
    assert len({one.digest for one in frames}) == 1

"""`egoinstructor stream`: captions as they come, the totals at the end, and how it ends."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest

from egoinstructor.captioners.egoinstructor import Captioner
from egoinstructor.cli import INTERRUPTED, USAGE_ERROR, main
from egoinstructor.streaming.captions import LiveCaptions


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "recording.mkv"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(30):
            picture = np.random.default_rng(i // 10).integers(0, 255, (12, 16, 3), dtype=np.uint8)
            image = np.roll(picture, i, axis=1).repeat(4, 0).repeat(4, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def stream(model_folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")

    def stream(*arguments):
        told = [*arguments, "--model", model_folder, "--device", "cpu", "--max-new-tokens", 5, "--seconds", 1]
        try:
            code = main(["stream", *(str(argument) for argument in told)])
        except SystemExit as stop:  # argparse's own refusals
            code = stop.code
        return code, *capsys.readouterr()

    return stream


def test_a_file_that_stopped_growing_as_json(stream, recording):
    code, out, _ = stream(recording, "--idle", 0.05, "--no-drop", "--json")
    assert code == 0
    *captions, last = [json.loads(line) for line in out.splitlines()]
    assert [(c["start"], c["end"], c["dropped_windows"]) for c in captions] == [(0, 1, 0), (1, 2, 0), (2, 3, 0)]
    assert {c["video"] for c in captions} == {str(recording)}
    assert all(c["caption"] and c["latency"] >= 0 for c in captions)
    counts = {"frames": 30, "windows": 3, "captions": 3, "dropped_windows": 0, "dropped_frames": 0}
    assert last == {"totals": counts | {"damaged_frames": 0, "reconnected": 0}}


def test_the_captioner_is_asked_for_the_likeliest(stream, recording, monkeypatch):
    caption_batch, asked = Captioner.caption_batch, []

    def noted(self, queries, *, likeliest, **options):
        asked.append(likeliest)
        return caption_batch(self, queries, likeliest=likeliest, **options)

    monkeypatch.setattr(Captioner, "caption_batch", noted)
    for flags in (["--likeliest"], []):
        assert stream(recording, "--idle", 0.05, "--no-drop", *flags)[0] == 0
    assert asked == [True] * 3 + [False] * 3


def test_interrupting_is_how_a_stream_ends(stream, recording, monkeypatch):
    following = LiveCaptions.__next__
    count = iter(range(9))

    def interrupted(captions):
        if next(count) == 2:
            raise KeyboardInterrupt
        return following(captions)

    monkeypatch.setattr(LiveCaptions, "__next__", interrupted)
    code, out, _ = stream(recording, "--idle", 10_000, "--no-drop")
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 3
    assert "0.0–1.0 s" in lines[0]
    assert "2 captions" in lines[2]


def test_interrupted_before_the_source_is_open(stream, recording, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("egoinstructor.streaming.sources.open_stream", interrupted)
    code, out, err = stream(recording)
    assert (code, out) == (INTERRUPTED, "")
    assert "interrupted" in err.lower()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rtsp://cam.example/1",), "--allow-host cam.example"),
        (("nothing.mkv",), "no such file"),
        (("RECORDING", "--overlap", 2), "overlap"),
        (("RECORDING", "--max-latency", -1), "max_latency"),
        (("RECORDING", "--idle", 0), "idle"),
        (("RECORDING", "--shots", 2), "--library"),
        (("RECORDING", "--source", "kitchens"), "--library"),
        (("RECORDING", "--no-drop", "--max-latency", 1), "not allowed with"),
    ],
)
def test_what_cannot_be_is_one_message(stream, recording, arguments, message):
    code, out, err = stream(*(recording if word == "RECORDING" else word for word in arguments))
    assert code == USAGE_ERROR
    assert message in err
    assert "Traceback" not in err
    assert not out

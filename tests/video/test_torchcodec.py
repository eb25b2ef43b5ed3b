import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest

from egoinstructor.errors import MissingExtraError, VideoError
from egoinstructor.video.decode import load_video, read_frames


def load_torchcodec():
    if find_spec("torchcodec") is None:
        pytest.skip("torchcodec is not installed")
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        pytest.skip("torchcodec is installed but can't be loaded here (no FFmpeg, or another torch)")


def test_the_same_frames(coded_video):
    load_torchcodec()
    if coded_video.suffix == ".avi":
        pytest.skip("avi has no display times: torchcodec can't tell its frames apart exactly")
    for indices in ([0, 40, 41, 89], [60, 3, 3]):
        ours = read_frames(coded_video, indices, backend="pyav")
        theirs = read_frames(coded_video, indices, backend="torchcodec")
        assert ours.timestamps.tolist() == theirs.timestamps.tolist()
        # The two FFmpegs may round the conversion to RGB differently.
        assert np.abs(ours.pixels.astype(int) - theirs.pixels).max() <= 3


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_upright_as_ours(make_video, rotation):
    load_torchcodec()
    path = make_video(f"rotated_{rotation}.mp4", 12, rotation=rotation)
    ours, theirs = (read_frames(path, [0, 11], backend=backend).pixels for backend in ("pyav", "torchcodec"))
    assert np.abs(ours.astype(int) - theirs).max() <= 3


def test_bytes(long_gop):
    load_torchcodec()
    assert len(load_video(long_gop.read_bytes(), num_frames=4, backend="torchcodec")) == 4


def test_without_it_the_message_says_what_to_install(long_gop, monkeypatch):
    monkeypatch.setattr("egoinstructor.errors.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'egoinstructor\[torchcodec\]'"):
        load_video(long_gop, backend="torchcodec")


def test_where_it_cannot_be_loaded_the_message_says_why(long_gop, monkeypatch):
    monkeypatch.setattr("egoinstructor.errors.find_spec", lambda _: object())
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(MissingExtraError, match="FFmpeg's shared libraries"):
        load_video(long_gop, backend="torchcodec")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("mirrored.mp4", {"matrix": [-(1 << 16), 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30]}),
        ("broadcast.ts", {"gop": 24}),
        ("counted.avi", {"gop": 24}),
    ],
)
def test_files_of_which_it_gives_other_frames_are_refused(make_video, monkeypatch, name, how):
    path = make_video(name, 40, **how)
    assert len(load_video(path, num_frames=4, backend="pyav")) == 4
    monkeypatch.setattr("egoinstructor.errors.find_spec", lambda _: object())
    decoders = SimpleNamespace(VideoDecoder=lambda *_, **__: pytest.fail("it was asked"))
    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace(decoders=decoders))
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    with pytest.raises(VideoError, match="other frames than players show.*backend='pyav'"):
        load_video(path, num_frames=4, backend="torchcodec")

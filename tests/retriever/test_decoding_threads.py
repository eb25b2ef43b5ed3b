"""Decoding while a model encodes: as many clips at a time as were asked for, by whoever owns the vision tower."""

from __future__ import annotations

import threading

import pytest

from egoinstructor import Captioner, Clip, load_video
from egoinstructor.retriever.opening import open_retriever


@pytest.fixture
def captioner(toy):
    return Captioner(*toy)


@pytest.fixture
def four_at_once(monkeypatch):
    """Lets a clip be decoded only together with three others."""
    barrier = threading.Barrier(4)

    def load(*clip, **how):
        barrier.wait(timeout=300)
        return load_video(*clip, **how)

    for module in ("captioners.clip_encoder", "retriever.frames"):
        monkeypatch.setattr(f"egoinstructor.{module}.load_video", load)


@pytest.fixture
def clips(short_videos):
    assert len(short_videos) == 4
    return [Clip(path, 0, 1) for path in short_videos.values()]


def test_threads_of_a_captioner(captioner, clips, four_at_once):
    captioner.encoder.threads = 4
    assert captioner.encode(clips).keys() == set(clips)


def test_threads_of_a_retriever(clip_of_toy, clips, four_at_once):
    retriever = open_retriever(clip_of_toy, device="cpu", num_frames=2)
    (encoder,) = retriever.frame_encoders
    encoder.threads = 4
    assert len(retriever.encode_video(clips)) == 4


def test_a_retriever_decodes_by_the_encoder_that_it_looks_through(captioner, clip_of_toy):
    assert captioner.open_retriever(clip_of_toy).frame_encoders == (captioner.encoder,)

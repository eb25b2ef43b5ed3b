"""Small pictures for a page: of the size that was asked for, and like the frames that they are of."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import av
import numpy as np
import pytest

from egoinstructor.video.decode import load_video
from egoinstructor.video.pictures import stills


def pixels(address):
    kind, _, content = address.partition(",")
    assert kind == "data:image/jpeg;base64"
    with av.open(io.BytesIO(base64.b64decode(content))) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_they_are_the_clips_frames(short_videos):
    shown = stills(short_videos["ego"], 0.5, 2.5, 3, width=64)
    frames = load_video(short_videos["ego"], start=0.5, end=2.5, num_frames=3).pixels
    assert len(shown) == 3
    for address, frame in zip(shown, frames, strict=True):
        assert np.abs(pixels(address).astype(float) - frame).mean() < 10
        assert np.abs(pixels(address).astype(float) - frames[::-1]).mean() > 10


@pytest.mark.parametrize(
    ("limits", "size"),
    [
        ({"width": 32}, (24, 32)),
        ({"width": 40, "height": 12}, (12, 16)),
        ({"width": 192}, (48, 64)),
        ({"width": 1}, (1, 1)),
    ],
)
def test_they_keep_their_proportions_and_are_never_enlarged(short_videos, limits, size):
    (picture,) = stills(short_videos["ego"], None, None, 1, **limits)
    assert pixels(picture).shape[:2] == size


def test_a_video_that_is_not_there_has_none():
    assert stills(Path("gone.mp4"), None, None, 2, width=64) == []

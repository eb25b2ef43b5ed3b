"""Recordings made on the spot, and the toy captioner with a library to narrate them with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

FPS, SIDE = 8, 48

Scene = tuple[float, int, int]
"""Seconds, which picture, and by how many pixels it moves from frame to frame."""


def scene_frames(scenes: Sequence[Scene]) -> list[np.ndarray]:
    """Frames of scenes; scenes of the same picture differ in motion alone."""
    frames, at = [], 0
    for seconds, seed, speed in scenes:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 60, (1, 1, 3)) + rng.integers(0, 195, (6, 24, 3))  # its own brightness, and blocks
        picture = np.tile(coarse.astype(np.uint8).repeat(8, 0).repeat(8, 1), (1, 2, 1))
        for _ in range(round(seconds * FPS)):
            at = (at + speed) % 192
            frames.append(np.ascontiguousarray(picture[:, at : at + SIDE]))
    return frames


@pytest.fixture(scope="session")
def make_recording() -> Callable[..., Path]:
    """Writes scenes into a file."""
    import av

    def make(path: Path, scenes: Sequence[Scene], gop: int = 12) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(path, "w") as container:
            options = {"threads": "1", "preset": "ultrafast", "sc_threshold": "0"}
            stream = container.add_stream("libx264", rate=FPS, options=options)
            stream.width, stream.height, stream.pix_fmt, stream.gop_size = SIDE, SIDE, "yuv420p", gop
            for frame in scene_frames(scenes):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        return path

    return make


@pytest.fixture(scope="session")
def recording(make_recording, tmp_path_factory) -> Path:
    """11 s of five scenes. Tests must not change it."""
    scenes = [(3, 1, 1), (2, 2, 2), (2, 3, 0), (1.5, 4, 3), (2.5, 5, 1)]
    return make_recording(tmp_path_factory.mktemp("recordings") / "kitchen.mp4", scenes)


@pytest.fixture
def captioner(toy):
    from egoinstructor.captioners.egoinstructor import Captioner

    return Captioner(*toy)


@pytest.fixture
def library(tmp_path, short_videos, toy_retriever):
    """Three how-to clips."""
    from egoinstructor.library.library import ExoLibrary
    from egoinstructor.library.records import ClipEntry
    from egoinstructor.records import Clip
    from egoinstructor.video.identity import content_digest

    narrations = {"exo1": "open the <b>microwave</b>", "exo2": "cut the leek", "exo3": "stir the sauce"}
    library = ExoLibrary.create(tmp_path / "library", toy_retriever)
    library.add_source("howto", short_videos["exo1"].parent)
    entries = [
        ClipEntry(f"{name}.mp4", 0.0, 2.0, text, "howto", content_digest(short_videos[name]))
        for name, text in narrations.items()
    ]
    clips = [Clip(library.path(entry), entry.start, entry.end) for entry in entries]
    library.add(entries, toy_retriever.encode_video(clips), toy_retriever.encode_text(list(narrations.values())))
    return library

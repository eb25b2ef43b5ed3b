"""A folder of how-to videos, small; clips and an empty library without videos."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import Tensor

    from egoinstructor.library.library import ExoLibrary
    from egoinstructor.library.records import ClipEntry
    from egoinstructor.retriever.interface import Retriever

SAID = {
    "onion": ["Chop the onion.", "Finely, please.", "Now fry it in butter.", "Until it is golden."],
    "pasta/boil": ["Bring the water to a boil.", "Add plenty of salt.", "And in goes the pasta."],
    "knead": [],
}
"""What is said in each video: a cue every 3 s; they last a second longer."""


@pytest.fixture(scope="session")
def howto_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of other pictures every second, two with subtitles. Tests must not change it: see `howto_folder`."""
    import av
    import numpy as np

    folder = tmp_path_factory.mktemp("howto")
    for seed, (name, cues) in enumerate(SAID.items()):
        path = folder / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        rng = np.random.default_rng(seed)
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=5, options={"threads": "1"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for _ in range(3 * len(cues or "ab") + 1):
                picture = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
                for _ in range(5):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        if cues:
            blocks = [f"{i}\n00:00:{3 * i:02},000 --> 00:00:{3 * i + 3:02},000\n{cue}\n" for i, cue in enumerate(cues)]
            path.with_suffix(".srt").write_text("\n".join(blocks))
    return folder


@pytest.fixture
def howto_folder(howto_videos: Path, tmp_path: Path) -> Path:
    """A copy for a test of its own."""
    return Path(shutil.copytree(howto_videos, tmp_path / "howto"))


def make_clips(count: int, seed: int = 0, dimension: int = 32) -> tuple[list[ClipEntry], Tensor, Tensor]:
    """Clips of two sources, four a video, nothing said in every third; embeddings of their videos and narrations."""
    import torch

    from egoinstructor.library.records import ClipEntry

    entries = [
        ClipEntry(
            video=f"{i // 4}.mp4", start=i % 4 * 3.0, end=i % 4 * 3.0 + 2 + i % 2, source="st"[i // 4 % 2],
            narration=f"Pour the milk {i}, it's {'hot' if i % 2 else 'cold'}" if i % 3 else "",
            video_digest=f"{seed}-{i // 4}",
        )
        for i in range(count)
    ]  # fmt: skip
    vectors = torch.randn(2, count, dimension, generator=torch.Generator().manual_seed(seed))
    video, narration = torch.nn.functional.normalize(vectors, dim=-1)
    return entries, video, narration


@pytest.fixture
def clips() -> Callable[..., tuple[list[ClipEntry], Tensor, Tensor]]:
    """See `make_clips`."""
    return make_clips


@pytest.fixture
def library(tmp_path: Path, toy_retriever: Retriever) -> ExoLibrary:
    """Empty, with two sources."""
    from egoinstructor.library.library import ExoLibrary

    library = ExoLibrary.create(tmp_path / "library", toy_retriever)
    for name in "st":
        library.add_source(name, tmp_path / name)
    return library

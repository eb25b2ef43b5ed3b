"""A small service, and a server for it on a free port of this machine."""

from __future__ import annotations

import runpy
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from egoinstructor.library.library import ExoLibrary
    from egoinstructor.retriever.interface import Retriever
    from egoinstructor.web.middleware import RequestMiddleware
    from egoinstructor.web.service import Service

SAID = {"exo1": "open the microwave", "exo2": "cut the leek", "exo3": "stir the sauce"}


class InProcess:
    """Stands for the sandbox where decoding is not what is tested: no process has to start."""

    def __init__(self, limits: Any) -> None:
        self.limits = limits

    def probe(self, path: Path) -> Any:
        from egoinstructor.video.decode import probe

        return probe(path)

    def frames(self, path: Path, start: Any, end: Any, num_frames: int, sampling: Any) -> Any:
        from egoinstructor.video.decode import load_video

        return load_video(path, start=start, end=end, num_frames=num_frames, sampling=sampling)

    def stats(self) -> dict[str, int]:
        return {"answered": 0, "killed": 0}

    def close(self) -> None:
        pass


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services of this test decode in this process."""
    monkeypatch.setattr("egoinstructor.web.service.Sandbox", InProcess)


class Writer:
    """Stands for a captioner: says how many frames it saw, when it is let.

    Args:
        held: captions wait until `go` is set.
    """

    def __init__(self, held: bool = False) -> None:
        self.processor = SimpleNamespace(num_frames=4)
        self.calibration = None
        self.latents_key = "none"
        self.go, self.at_work = threading.Event(), threading.Event()
        self.batches: list[int] = []
        self.closed: list[bool] = []
        if not held:
            self.go.set()

    def encode(self, clips: Any, **_: Any) -> dict[Any, Any]:
        return {}

    def caption_batch(self, queries: Any, *, num_beams: int = 1, **_: Any) -> list[Any]:
        from egoinstructor.records import Caption

        self.batches.append(len(queries))
        self.at_work.set()
        assert self.go.wait(60)
        return [
            Caption(f"{clip.video.pixels[0].mean():.3f}", clip, tuple(references), score=-1.0)
            for clip, references in queries
        ]

    def caption_stream(self, video: Any, references: Any) -> Iterator[Any]:
        from egoinstructor.records import Caption, Clip

        try:
            for text in ("a", "a b", "a b c"):
                yield text
                self.at_work.set()
                assert self.go.wait(60)
            yield Caption("a b c", Clip(video), tuple(references), score=-1.0)
        finally:
            self.closed.append(True)


@pytest.fixture
def writer() -> Writer:
    """Answers at once."""
    return Writer()


@pytest.fixture
def held_writer() -> Iterator[Writer]:
    """Answers when its `go` is set; at the latest when the test is over."""
    made = Writer(held=True)
    yield made
    made.go.set()


@pytest.fixture(scope="session")
def colour_retriever() -> Retriever:
    """As `toy_retriever`, for longer than a test."""
    conftest = runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))
    return conftest["make_toy_retriever"]()


@pytest.fixture(scope="session")
def kitchen(
    short_videos: dict[str, Path], colour_retriever: Retriever, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A library of three how-to clips and their videos, to be copied."""
    from egoinstructor.library.library import ExoLibrary
    from egoinstructor.library.records import ClipEntry
    from egoinstructor.records import Clip
    from egoinstructor.video.identity import content_digest

    folder = tmp_path_factory.mktemp("kitchen")
    for name in SAID:
        shutil.copyfile(short_videos[name], folder / f"{name}.mp4")
    library = ExoLibrary.create(folder / "library", colour_retriever)
    library.add_source("howto", folder)
    entries = [
        ClipEntry(f"{name}.mp4", 0.0, 2.0, said, "howto", content_digest(folder / f"{name}.mp4"))
        for name, said in SAID.items()
    ]
    clips = [Clip(library.path(entry), entry.start, entry.end) for entry in entries]
    library.add(entries, colour_retriever.encode_video(clips), colour_retriever.encode_text(list(SAID.values())))
    return folder


@pytest.fixture(scope="session")
def copy_of(kitchen: Path, colour_retriever: Retriever) -> Callable[[Path], ExoLibrary]:
    """Makes a library of a test's own in a folder of its own."""
    from egoinstructor.library.library import ExoLibrary

    def copy(folder: Path) -> ExoLibrary:
        shutil.copytree(kitchen, folder)
        library = ExoLibrary.open(folder / "library", colour_retriever)
        library.add_source("howto", folder)
        return library

    return copy


@pytest.fixture
def library(copy_of: Callable[[Path], ExoLibrary], tmp_path: Path) -> ExoLibrary:
    """The three how-to clips."""
    return copy_of(tmp_path / "kitchen")


@contextmanager
def _serving(app: RequestMiddleware, service: Service) -> Iterator[Serving]:
    from egoinstructor.web.server import bind, make_server, url_of

    ready = threading.Event()
    server = make_server(app, service, ready.set)
    with bind("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        assert ready.wait(60)
        try:
            yield Serving(url_of(listening), server, thread)
        finally:
            server.should_exit = True
            thread.join(60)
    assert not thread.is_alive()


@dataclass(frozen=True)
class Serving:
    """A server that runs: where, and how to stop it."""

    url: str
    server: Any
    thread: threading.Thread


@pytest.fixture(scope="session")
def serving() -> Callable[[RequestMiddleware, Service], AbstractContextManager[Serving]]:
    """Runs a server in a thread, as long as a block lasts."""
    return _serving

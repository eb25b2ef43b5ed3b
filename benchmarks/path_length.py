"""Length of the way through the code: files and frames of our own between a request and its answer.

    python benchmarks/path_length.py [--json]

Two ways are traced with `sys.setprofile`, each in a process of its own, with nano and the demo's library:

- `caption EGO --library LIB`: the whole command.
- `upload → answer`: `POST /v1/videos` and `POST /v1/caption` in the process of `egoinstructor serve`, in all of its threads.
  The client and the process that decodes are not part of it.

Columns of the table:

- files: files of `src/egoinstructor` in which a function ran, apart from those of the next column. The bodies of modules and
  classes do not count.
- declare options: files in which only functions ran that `build_parser` calls, whatever the command is.
- calls between files: pairs of files of which a function of one called one of the other, directly or through a library.
- deepest chain: the largest number of our own functions that were active in one thread at one time; frames of libraries and
  comprehensions do not count. It is printed below the table, outermost first.

`--json` prints the same with the names of the files.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import httpx

import egoinstructor
from egoinstructor.assets import demo_files

PACKAGE = Path(egoinstructor.__file__).parent
EGO = "ego/test-000540.mp4"
PATIENCE = 120
"""Seconds that the client waits for the server."""


@dataclass
class Way:
    """Result of a trace; files are paths from the package's folder.

    Args:
        files: files in which a function ran, apart from `declaring`.
        declaring: files in which only functions ran that declare options.
        calls: pairs of files, the caller's first.
        chain: functions of the deepest chain as "file:function", outermost first.
    """

    files: list[str] = field(default_factory=list)
    declaring: list[str] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    chain: list[str] = field(default_factory=list)


class Tracer:
    """A profile function for `sys.setprofile` and `threading.setprofile` that records the functions of one folder.

    Args:
        root: the folder.
        declares: function that declares options; files that ran only below it are kept apart.
    """

    def __init__(self, root: Path, declares: Callable[..., Any] | None = None) -> None:
        self.on = True
        self._root, self._declares = f"{root}/", declares and declares.__code__
        self._names: dict[CodeType, str | None] = {}
        self._files: set[str] = set()
        self._declaring: set[str] = set()
        self._calls: set[tuple[str, str]] = set()
        self._chain: list[str] = []

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        """Record a call."""
        if not self.on or event != "call" or self._name(frame.f_code) is None:
            return
        chain, declaring, at = [], False, frame
        while at is not None:
            if (name := self._name(at.f_code)) is not None:
                chain.append(name)
                declaring |= at.f_code is self._declares
            at = at.f_back
        files = [name.partition(":")[0] for name in chain[:2]]
        (self._declaring if declaring else self._files).add(files[0])
        if not declaring and len(files) == 2 and files[0] != files[1]:
            self._calls.add((files[1], files[0]))
        if len(chain) > len(self._chain):
            self._chain = chain

    def way(self) -> Way:
        """Summarise the calls so far."""
        return Way(sorted(self._files), sorted(self._declaring - self._files), sorted(self._calls), self._chain[::-1])

    def _name(self, code: CodeType) -> str | None:
        """Name a function of ours as "file:function"; None for any other code."""
        if code not in self._names:
            ours = code.co_filename.startswith(self._root) and code.co_flags & inspect.CO_OPTIMIZED
            inner = code.co_name.startswith("<") and code.co_name != "<lambda>"  # a comprehension
            name = f"{code.co_filename.removeprefix(self._root)}:{code.co_qualname}"
            self._names[code] = name if ours and not inner else None
        return self._names[code]


def caption(demo: Path) -> Way:
    """Trace the command."""
    from egoinstructor.cli import build_parser, main

    tracer = Tracer(PACKAGE, build_parser)
    threading.setprofile(tracer)
    sys.setprofile(tracer)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            code = main(["caption", str(demo / EGO), "--library", str(demo / "library"), "--model", "nano"])
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert code == 0
    return tracer.way()


class Output(io.StringIO):
    """Standard output of a server, with an event for the line that has its address."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = threading.Event()
        self.url = ""

    def write(self, text: str) -> int:
        written = super().write(text)
        if found := re.search(r"http://\S+", self.getvalue()):
            self.url = found[0]
            self.ready.set()
        return written


def answer(demo: Path) -> Way:
    """Trace a server from the first byte of an upload to the caption."""
    from egoinstructor.cli import main

    tracer, output, statuses = Tracer(PACKAGE), Output(), []
    tracer.on = False

    def ask() -> None:
        if not output.ready.wait(PATIENCE):
            return
        try:
            with httpx.Client(base_url=output.url, timeout=PATIENCE) as client:
                tracer.on = True
                video = client.post("/v1/videos", params={"name": "ego.mp4"}, content=(demo / EGO).read_bytes())
                caption = client.post("/v1/caption", json={"video": video.json()["id"], "shots": 4})
                tracer.on = False
                statuses.extend([video.status_code, caption.status_code])
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    client = threading.Thread(target=ask)
    client.start()  # before threads are traced
    threading.setprofile(tracer)
    sys.setprofile(tracer)
    try:
        with contextlib.redirect_stdout(output):
            main(["serve", "--model", "nano", "--library", str(demo / "library"), "--port", "0", "--no-page"])
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    client.join()
    assert statuses == [201, 200], statuses
    return tracer.way()


WAYS = {"caption EGO --library LIB": caption, "upload → answer": answer}


def measure() -> dict[str, Way]:
    """Trace each way in a process of its own."""
    from egoinstructor.library.library import ExoLibrary

    with tempfile.TemporaryDirectory() as name:
        demo = Path(name) / "demo"
        shutil.copytree(demo_files(), demo)
        ExoLibrary.open(demo / "library").add_source("simkitchen", demo)
        ways = {}
        for way, trace in WAYS.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                ways[way] = pool.submit(trace, demo).result()
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON, with the names of the files")
    as_json = parser.parse_args().json
    ways = measure()
    if as_json:
        print(json.dumps({name: asdict(way) for name, way in ways.items()}, ensure_ascii=False, indent=1))
        return
    heads = ("files", "declare options", "calls between files", "deepest chain")
    print(" | ".join([f"{'way':<25}", *heads]))
    for name, way in ways.items():
        counts = map(len, (way.files, way.declaring, way.calls, way.chain))
        print(" | ".join([f"{name:<25}", *(f"{n:>{len(head)}}" for n, head in zip(counts, heads, strict=True))]))
    for name, way in ways.items():
        print(f"\n{name}, the deepest chain:")
        print("\n".join(f"{depth:>3} {frame}" for depth, frame in enumerate(way.chain, 1)))


if __name__ == "__main__":
    main()

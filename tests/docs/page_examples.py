"""The examples of docs/serve.md and docs/stream.md: found on the page, run, compared, and written anew.

An example is a block of `bash` or `python` and, after it, a block of `json` or `text` with what it prints. Examples run in
the page's order, in one folder; what an earlier one printed as an `id`, a later one may name.

    python tests/docs/page_examples.py     # another model is shipped: put what the examples print now into the pages
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from egoinstructor.assets import demo_files

DOCS = Path(__file__).resolve().parents[2] / "docs"
SERVE, STREAM = DOCS / "serve.md", DOCS / "stream.md"
ADDRESS = "http://127.0.0.1:8000"
"""Of the server on the pages."""
EGO, MORE = "ego/test-000242.mp4", ("ego/test-000540.mp4", "ego/test-000259.mp4")
"""Clips of the demo: the page's `ego.mp4`, and what follows it in its `recording.mp4`."""
RATE, SIDE = 4, 96
"""Frames a second and pixels of these clips."""
EXAMPLE = re.compile(r"```(bash|python)\n((?:(?!```).)*?)```\n+```(json|text)\n(.*?)```", re.DOTALL)
FIXED = ("code", "message", "status", "name", "source", "codec")
"""Fields whose text does not depend on the model, the machine or chance."""
PATIENCE = 900


@dataclass(frozen=True)
class Example:
    """Code of the page, what it prints, and where that stands."""

    language: str
    code: str
    kind: str
    output: str
    span: tuple[int, int]


def examples(page: str) -> list[Example]:
    """All blocks that are followed by what they print."""
    return [Example(*match.groups(), match.span(4)) for match in EXAMPLE.finditer(page)]


def run(example: Example, folder: Path, url: str, ids: dict[str, str]) -> str:
    """What an example prints; one that tells the state of something is run until that is the page's.

    Args:
        example: of the page.
        folder: where it is run.
        url: of the server.
        ids: on the page → of the server; what the example prints is added.
    """
    code = example.code.replace(ADDRESS, url)
    for written, real in ids.items():
        code = code.replace(written, real)
    command = ["bash", "-euc", code] if example.language == "bash" else [sys.executable, "-c", code]
    one_thread = {"OMP_NUM_THREADS": "1"}  # nano is too small for more, which on busy cores only wait for one another
    environment = os.environ | one_thread | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    deadline = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, f"{code}\n{done.stderr}{done.stdout}"
        if example.kind == "text":
            return done.stdout
        written, real = json.loads(example.output), json.loads(done.stdout)
        if " -" in code.removeprefix("curl -s") or written.get("state") == real.get("state"):
            break  # it sent something, or tells what the page tells
        assert time.monotonic() < deadline, done.stdout
        time.sleep(0.2)
    if "id" in written and "id" in real:
        ids[written["id"]] = real["id"]
    return done.stdout


def same(written: Any, real: Any, name: str = "") -> bool:
    """Whether two JSON values have one form: the same fields and types, and the same words where these are fixed."""
    if isinstance(written, dict) and isinstance(real, dict):
        return written.keys() == real.keys() and all(same(written[key], real[key], key) for key in written)
    if isinstance(written, list) and isinstance(real, list):
        return bool(written) == bool(real) and all(same(written[0], one, name) for one in real)
    numbers = (int, float)
    if type(written) in numbers and type(real) in numbers:
        return True
    return type(written) is type(real) and (name not in FIXED or written == real)


def tidy(value: Any) -> Any:
    """Numbers as a reader wants them: 4 digits."""
    if isinstance(value, dict):
        return {key: tidy(one) for key, one in value.items()}
    if isinstance(value, list):
        return [tidy(one) for one in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def shown(text: str, ids: dict[str, str]) -> str:
    """JSON as the page has it: an object a line for what is in a list, the page's own ids."""
    for written, real in ids.items():
        text = text.replace(real, written)
    value = tidy(json.loads(text))
    rows = []
    for key, one in value.items():
        inner = json.dumps(one, ensure_ascii=False)
        if isinstance(one, list) and one:
            inner = "[\n    " + ",\n    ".join(json.dumps(item, ensure_ascii=False) for item in one) + "\n  ]"
        rows.append(f'  "{key}": {inner}')
    line = json.dumps(value, ensure_ascii=False)
    return (line if len(line) <= 120 else "{\n" + ",\n".join(rows) + "\n}") + "\n"


def make_videos(folder: Path) -> None:
    """The page's `ego.mp4`; and `recording.mp4`, three of the demo's clips in a row."""
    import av

    shutil.copyfile(demo_files() / EGO, folder / "ego.mp4")
    with av.open(folder / "recording.mp4", "w") as recording:
        stream = recording.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for clip in (EGO, *MORE):
            with av.open(demo_files() / clip) as source:
                for frame in source.decode(video=0):  # a new frame: one that was decoded keeps its time
                    picture = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
                    recording.mux(stream.encode(picture))
        recording.mux(stream.encode(None))


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a server with nano and the demo's library, without its page."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    command = [sys.executable, "-m", "egoinstructor", "serve", "--model", "nano", "--device", "cpu", "--no-page"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--port", url.rpartition(":")[2]], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while not _is_up(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "log").read_text(errors="replace"))
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/health", timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def write() -> None:
    """Run all examples, and put what they print into their pages."""
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as url:
        folder = Path(name) / "work"
        folder.mkdir()
        make_videos(folder)
        for path in (SERVE, STREAM):
            page, ids = path.read_text(encoding="utf-8"), dict[str, str]()
            outputs = []
            for example in examples(page):
                text = run(example, folder, url, ids)
                outputs.append(shown(text, ids) if example.kind == "json" else text.rstrip("\n") + "\n")
            for example, output in reversed(list(zip(examples(page), outputs, strict=True))):
                page = page[: example.span[0]] + output + page[example.span[1] :]
            path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    write()

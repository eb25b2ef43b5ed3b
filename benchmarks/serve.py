"""A busy server: many clients at once against `egoinstructor serve` with nano and the demo's library.

    python benchmarks/serve.py [--clients 64] [--seconds 60] [--json]

The server is a process of its own, on a free port of this machine; so are the clients: both share its cores.

1. One client asks for each of the demo's ego clips, one after another: their captions are what is expected from then on, and
   their rate is the sequential throughput (measured again at the end, the two taken together).
2. All clients at once, each posting the clips in an order of its own. Each answer has to be that clip's caption, written
   from that clip's references: another one would be another client's video. The memory of the server and of each decoding
   process is read every second: resident MB at four points of the run, and the rise per 1,000 captions, by least squares
   over the whole run and over its second half, when all has been used once.
3. The same with each clip uploaded once, and named in the requests by its id.
4. All clients at once again, and the server is told to stop while it works for them: each has to get its caption.

A 429 is waited for as its Retry-After says, and counted; the wait is part of the request's time. A request without a
caption in the end is lost. Exit code 1 where one was lost or a caption was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from egoinstructor.assets import NANO, demo_files
from egoinstructor.web.limits import Limits
from published import machine

PATIENCE = 120
"""Seconds after which a client takes a request for lost, and the longest wait for the server's start and end."""


@dataclass(frozen=True)
class Server:
    """A running server: its process and its address."""

    process: subprocess.Popen[bytes]
    url: str

    def memory(self) -> dict[str, float]:
        """Resident MB of the server itself, and of each of its decoding processes."""
        server = psutil.Process(self.process.pid)
        found = {"server": server.memory_info().rss / 1e6}
        for child in server.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                found[f"decoder {child.pid}"] = child.memory_info().rss / 1e6
        return found


@dataclass
class Load:
    """What came of many requests."""

    times: list[float] = field(default_factory=list)
    """Seconds from the first attempt to the caption."""
    other_captions: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Expected and written."""
    other_references: int = 0
    told_to_wait: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    memory: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """Of each process: captions answered so far, and resident MB."""
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Figures."""
        cuts = statistics.quantiles(self.times, n=100) if len(self.times) > 1 else [float("nan")] * 99
        return {
            "answered": len(self.times),
            "lost": sum(self.lost.values()),
            "why_lost": dict(self.lost),
            "other_captions": sum(self.other_captions.values()),
            "which": [list(pair) for pair in self.other_captions],
            "other_references": self.other_references,
            "told_to_wait": self.told_to_wait,
            "per_second": len(self.times) / self.seconds,
            "p50": cuts[49],
            "p99": cuts[98],
            "memory": {name: course(read) for name, read in self.memory.items()},
        }


def course(read: list[tuple[int, float]]) -> dict[str, Any]:
    """How the memory of a process went: `mb` at 25, 50, 75 and 100 % of the time in which it was seen, and its rise.

    Args:
        read: captions answered so far, and resident MB.

    Returns:
        With it `captions`, answered meanwhile; `per_1000` and `per_1000_second_half`, MB by least squares.
    """
    return {
        "captions": read[-1][0] - read[0][0],
        "mb": [read[max(len(read) * part // 4 - 1, 0)][1] for part in (1, 2, 3, 4)],
        "per_1000": rise(read),
        "per_1000_second_half": rise(read[len(read) // 2 :]),
    }


def rise(read: list[tuple[int, float]]) -> float | None:
    """MB per 1,000 captions; None where too few were answered to tell."""
    counts, mb = zip(*read, strict=True)
    if len(set(counts)) < 3:
        return None
    return 1000 * statistics.linear_regression(counts, mb).slope


@dataclass(frozen=True)
class Answer:
    """A caption with the narrations that it was written from."""

    caption: str
    references: tuple[str, ...]


class Client:
    """Asks for captions, waiting where it is told to."""

    def __init__(self, http: httpx.AsyncClient, clips: dict[str, bytes], options: dict[str, int]) -> None:
        self.http, self.clips, self.options = http, clips, options
        self.uploads: dict[str, str] = {}
        """Clip → id; where there is none, the file is posted."""

    async def upload(self) -> None:
        """Each clip once."""
        for name, content in self.clips.items():
            response = await self.http.post("/v1/videos", files={"file": (name, content)})
            self.uploads[name] = response.raise_for_status().json()["id"]

    async def post(self, name: str) -> httpx.Response:
        """One attempt."""
        if name in self.uploads:
            return await self.http.post("/v1/caption", json={"video": self.uploads[name], **self.options})
        return await self.http.post("/v1/caption", files={"file": (name, self.clips[name])}, data=self.options)

    async def ask(self, name: str, load: Load) -> Answer | None:
        """A clip's caption; None where the request was lost."""
        start = time.perf_counter()
        while True:
            try:
                response = await self.post(name)
            except httpx.HTTPError as error:
                load.lost[f"{type(error).__name__}: {error}"] += 1
                return None
            if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
                load.told_to_wait += 1
                await asyncio.sleep(float(response.headers["Retry-After"]))
                continue
            if response.status_code != httpx.codes.OK:
                load.lost[f"{response.status_code} {response.text[:200]}"] += 1
                return None
            load.times.append(time.perf_counter() - start)
            body = response.json()
            return Answer(body["caption"], tuple(one["narration"] for one in body["references"]))


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Start the server and wait until it answers.

    Raises:
        SystemExit: it does not start; with the end of what it wrote.
    """
    log = folder / "server.log"
    port = free_port()
    command = [sys.executable, "-m", "egoinstructor", "serve", "--model", NANO, "--device", "cpu"]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=output, stderr=subprocess.STDOUT)
    server = Server(process, f"http://127.0.0.1:{port}")
    try:
        deadline = time.monotonic() + PATIENCE
        while not _answers(server.url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.2)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/health", timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


async def one_after_another(client: Client, seconds: float) -> tuple[Load, dict[str, Answer]]:
    """Each clip in turn, for some seconds and all clips at least once.

    Raises:
        SystemExit: a request failed, or a clip's caption was not the same each time.
    """
    load, answers = Load(), {}
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or not answers:
        for name in client.clips:
            answer = await client.ask(name, load)
            if answer is None or answers.setdefault(name, answer) != answer:
                raise SystemExit(f"one client alone: {name} got {answer}, {answers.get(name)}, {dict(load.lost)}")
    load.seconds = time.perf_counter() - start
    return load, answers


async def at_once(server: Server, client: Client, expected: dict[str, Answer], clients: int, seconds: float) -> Load:
    """All clients for some seconds; each finishes what it asked."""
    load = Load()
    end = time.perf_counter() + seconds

    async def one(number: int) -> None:
        order = random.Random(number)
        while time.perf_counter() < end:
            for name in order.sample(list(client.clips), len(client.clips)):
                if time.perf_counter() >= end:
                    return
                answer = await client.ask(name, load)
                if answer is not None:
                    load.other_references += answer.references != expected[name].references
                    if answer.caption != expected[name].caption:
                        load.other_captions[expected[name].caption, answer.caption] += 1

    async def watch() -> None:
        while True:
            for name, mb in server.memory().items():
                load.memory.setdefault(name, []).append((len(load.times), mb))
            await asyncio.sleep(1)

    watcher = asyncio.create_task(watch())
    start = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(clients)))
    load.seconds = time.perf_counter() - start
    watcher.cancel()
    return load


async def stopped_at_work(server: Server, client: Client, clients: int) -> dict[str, Any]:
    """Tell the server to stop while it works for all clients, and see what each request gets."""
    names = [name for _ in range(clients) for name in client.clips][: min(clients, Limits().queue)]
    requests = [asyncio.create_task(client.post(name)) for name in names]
    present, deadline = 0.0, time.monotonic() + PATIENCE
    while present < len(requests) - sum(request.done() for request in requests) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        told = (await client.http.get("/v1/metrics")).text
        present = float(re.search(r"^egoinstructor_requests_present (\S+)", told, re.MULTILINE)[1])
    server.process.send_signal(signal.SIGTERM)
    waiting = sum(not request.done() for request in requests)
    start = time.perf_counter()
    outcomes: Counter[str] = Counter()
    for response in await asyncio.gather(*requests, return_exceptions=True):
        outcomes[str(response.status_code) if isinstance(response, httpx.Response) else repr(response)] += 1
    code = await asyncio.to_thread(server.process.wait, PATIENCE)
    return {
        "waiting": waiting,
        "captions": outcomes.pop("200", 0),
        "lost": sum(outcomes.values()),
        "why_lost": dict(outcomes),
        "seconds": time.perf_counter() - start,
        "exit_code": code,
    }


async def run(server: Server, arguments: argparse.Namespace) -> dict[str, Any]:
    """All the parts."""
    clips = {path.name: path.read_bytes() for path in sorted((demo_files() / "ego").glob("*.mp4"))}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE, limits=limits, trust_env=False) as http:
        client = Client(http, clips, {"num_beams": arguments.num_beams})
        await one_after_another(client, 0)  # the first caption of a clip encodes it; all later ones find it encoded
        before, expected = await one_after_another(client, arguments.alone)
        say(f"alone: {len(before.times)} captions in {before.seconds:.0f} s")
        posted = await at_once(server, client, expected, arguments.clients, arguments.seconds)
        say(f"files posted: {len(posted.times)} captions in {posted.seconds:.0f} s")
        await client.upload()
        named = await at_once(server, client, expected, arguments.clients, arguments.seconds)
        say(f"uploaded once: {len(named.times)} captions in {named.seconds:.0f} s")
        uploads, client.uploads = client.uploads, {}
        after, again = await one_after_another(client, arguments.alone)
        if again != expected:
            raise SystemExit("one client alone got other captions after the load than before")
        client.uploads = uploads
        stop = await stopped_at_work(server, client, arguments.clients)
    alone = Load(before.times + after.times, seconds=before.seconds + after.seconds)
    cuts = statistics.quantiles(alone.times, n=100)
    return {
        "machine": machine(),
        "settings": vars(arguments),
        "clips": len(clips),
        "distinct_captions": len({answer.caption for answer in expected.values()}),
        "alone": {"per_second": len(alone.times) / alone.seconds, "p50": cuts[49], "p99": cuts[98]},
        "files_posted": posted.as_dict(),
        "uploaded_once": named.as_dict(),
        "stopped": stop,
    }


def table(found: dict[str, Any]) -> str:
    """The figures as docs/serve.md has them."""
    alone, ways = found["alone"], [found["files_posted"], found["uploaded_once"]]
    rows = [
        ["", "one client", "file posted each time", "uploaded once"],
        ["---"] * 4,
        ["captions", "", *(f"{way['answered']:,}" for way in ways)],
        ["lost", "", *(str(way["lost"]) for way in ways)],
        ["of another clip or changed", "", *(f"{way['other_captions'] + way['other_references']}" for way in ways)],
        ["told to wait (429)", "", *(str(way["told_to_wait"]) for way in ways)],
        ["captions a second", *(f"{way['per_second']:.1f}" for way in (alone, *ways))],
        ["times one client", "1", *(f"{way['per_second'] / alone['per_second']:.2f}" for way in ways)],
        ["p50, s", *(f"{way['p50']:.2f}" for way in (alone, *ways))],
        ["p99, s", *(f"{way['p99']:.2f}" for way in (alone, *ways))],
    ]
    return lines(rows)


def memory_table(found: dict[str, Any]) -> str:
    """What the server held in both ways to post, and what any of its decoders, which are replaced now and then, came to."""
    rows = [
        ["process", "captions meanwhile", "MB at 25, 50, 75, 100 %", "MB per 1,000 captions", "in the second half"],
        ["---"] * 5,
    ]
    for way in ("files_posted", "uploaded_once"):
        told = dict(found[way]["memory"])
        server, decoders = told.pop("server"), told.values()
        mb = ", ".join(f"{value:.0f}" for value in server["mb"])
        rises = [
            "too few" if value is None else f"{value:+.1f}"
            for value in (server["per_1000"], server["per_1000_second_half"])
        ]
        rows.append([f"server, {way.replace('_', ' ')}", f"{server['captions']:,}", mb, *rises])
        most = max(value for decoder in decoders for value in decoder["mb"])
        rows.append([f"its {len(decoders)} decoders, {way.replace('_', ' ')}", "", f"at most {most:.0f}", "", ""])
    return lines(rows)


def lines(rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60, help="of each way to post")
    parser.add_argument("--alone", type=float, default=15, help="seconds of one client, before and after")
    parser.add_argument("--num-beams", type=int, default=3, help="default: the API's")
    parser.add_argument("--json", action="store_true", help="print JSON rather than tables")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder)) as server:
        found = asyncio.run(run(server, arguments))
    stop = found["stopped"]
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        print(f"{found['machine']}; {arguments.clients} clients, {found['clips']} clips\n\n{table(found)}\n")
        print(f"{memory_table(found)}\n")
        print(
            f"Told to stop with {stop['waiting']} requests at work: {stop['lost']} lost, exit code {stop['exit_code']} "
            f"after {stop['seconds']:.1f} s."
        )
    ways = (found["files_posted"], found["uploaded_once"])
    wrong = sum(way[name] for way in ways for name in ("lost", "other_captions", "other_references")) + stop["lost"]
    sys.exit(1 if wrong or stop["exit_code"] else 0)


if __name__ == "__main__":
    main()

"""The HTTP API's description and the answers of `egoinstructor serve` through the client are those recorded."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import threading
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import Any

import httpx
import pytest
from transcripts import normal, pretty

from egoinstructor.cli import main
from egoinstructor.client import Client, ClientError

PATIENCE = 120
"""Seconds."""


class Output(io.StringIO):
    """Standard output of a server, with an event for the line that has its address."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.url:
            self.ready.set()
        return written

    @property
    def url(self) -> str | None:
        found = re.search(r"http://\S+", self.getvalue())
        return found and found[0]


def conversation(url: str) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Ask the server: the API's description, and each request's name with its answer."""
    description = httpx.get(f"{url}/openapi.json").json()
    with Client(url) as client:
        video, recording = client.upload("demo/ego/test-000540.mp4"), client.upload("howto/recording.mp4")
        *_, narration = client.narrate(recording.id, every=0.05, shots=2)
        answers: list[tuple[str, Any]] = [
            ("health", client.health()),
            ("upload", video),
            ("caption with references of the library", client.caption(video.id)),
            ("caption of a segment, alone", client.caption(video.id, start=0.5, end=1.5, shots=0, num_beams=1)),
            ("search by text", client.search("close the sinil", k=2)),
            ("search by clip", client.search(video=video.id, k=2)),
            ("narrate", narration),
            *((f"captions.{kind}", client.captions(narration.id, kind)) for kind in ("srt", "vtt", "jsonl")),
        ]
        for name, ask in {
            "upload of no video": lambda: client.upload("text.mp4"),
            "caption of an unknown video": lambda: client.caption("none"),
            "caption past the end": lambda: client.caption(video.id, start=100, end=104),
            "caption with too many references": lambda: client.caption(video.id, shots=1000),
            "search for nothing": lambda: client.search(),
        }.items():
            with pytest.raises(ClientError) as refused:
                ask()
            error = refused.value
            answers.append((name, {"status": error.status, "code": error.code, "message": error.message}))
        client.forget(video.id)
    hidden = {video.id: "<id>", recording.id: "<id>", narration.id: "<id>"}
    return description, [(name, readable(answer, hidden)) for name, answer in answers]


def readable(answer: Any, hidden: dict[str, str]) -> str:
    """An answer as text, without random ids and durations."""
    text = answer if isinstance(answer, str) else pretty(json.loads(json.dumps(answer, default=asdict)))
    return normal(re.sub(r'("seconds": )[\d.e-]+', r"\1<time>", text), hidden)


def test_serve(workplace, names, same_as_recorded):
    output, results = Output(), []

    def ask():
        assert output.ready.wait(PATIENCE)
        if output.url:
            try:
                results.append(conversation(output.url))
            finally:
                os.kill(os.getpid(), signal.SIGINT)

    client = threading.Thread(target=ask)
    client.start()
    try:
        with redirect_stdout(output):
            code = main(["serve", "--model", "nano", "--library", "demo/library", "--port", "0", "--no-page"])
    finally:
        output.ready.set()  # where it could not start
        client.join(PATIENCE)
    assert code == 0
    [(description, answers)] = results
    printed = re.sub(r":\d+", ":<port>", output.getvalue())
    text = "\n".join([printed, *(f"# {name}\n{answer}" for name, answer in answers)])
    same_as_recorded("serve.txt", normal(text, names))
    same_as_recorded("openapi.json", json.dumps(description, indent=1, sort_keys=True, ensure_ascii=False) + "\n")

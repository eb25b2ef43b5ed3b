"""The client, against a server that is played: what it sends, what it makes of answers, and how long it insists."""

from __future__ import annotations

import json
import subprocess
import sys

import httpx
import pytest

from egoinstructor.client import Client, ClientError, FoundClip, OwnReference
from egoinstructor.client import client as module

FOUND = {
    "id": "a", "narration": "stir", "score": 0.5, "start": 0.0, "end": 2.0, "source": "howto", "video": "a.mp4",
    "playable": True,
}  # fmt: skip
CAPTION = {"caption": "#C C stirs", "score": -0.1, "confidence": None, "references": [FOUND], "seconds": 0.2}
VIDEO = {
    "id": "v", "name": "ego.mp4", "bytes": 3, "duration": 2.0, "width": 4, "height": 4, "fps": 4.0, "num_frames": 8,
    "codec": "h264",
}  # fmt: skip


def busy(seconds="7"):
    return httpx.Response(
        429, headers={"Retry-After": seconds}, json={"error": {"code": "busy", "message": "come back"}}
    )


class Server:
    """Gives prepared answers, one after the other, and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, request):
        self.asked.append((request.method, str(request.url), request.read(), request.headers))
        return self.answers.pop(0)

    def client(self, **options):
        return Client("http://server", transport=httpx.MockTransport(self), **options)


@pytest.fixture
def slept(monkeypatch):
    times = []
    monkeypatch.setattr(module.time, "sleep", times.append)
    return times


def test_a_file_is_sent_as_it_is(tmp_path):
    file = tmp_path / "my ego.mp4"
    file.write_bytes(b"abc")
    server = Server(httpx.Response(201, json=VIDEO | {"new": "field"}), httpx.Response(201, json=VIDEO))
    with server.client(token="secret") as client:
        assert client.upload(file).id == "v"
        client.upload(b"def", name="x")
    (method, url, body, headers), (_, second, more, _) = server.asked
    assert (method, url, body) == ("POST", "http://server/v1/videos?name=my+ego.mp4", b"abc")
    assert (second, more) == ("http://server/v1/videos?name=x", b"def")
    assert headers["authorization"] == "Bearer secret"


def test_a_caption_is_asked_for_and_read():
    server = Server(httpx.Response(200, json=CAPTION))
    with server.client() as client:
        made = client.caption("v", start=1.0, references=["a"], own=[OwnReference("w", "fold", end=2.0)])
    assert (made.caption, made.references) == ("#C C stirs", (FoundClip(**FOUND),))
    ((_, url, body, _),) = server.asked
    assert url == "http://server/v1/caption"
    assert json.loads(body) == {
        "video": "v", "start": 1.0, "end": None, "shots": 4, "num_beams": 3, "references": ["a"],
        "own": [{"video": "w", "narration": "fold", "start": None, "end": 2.0}],
    }  # fmt: skip


def test_search():
    server = Server(httpx.Response(200, json={"clips": [FOUND]}))
    with server.client() as client:
        assert client.search("stir", k=1) == [FoundClip(**FOUND)]


def test_a_busy_server_is_asked_again_after_its_time(tmp_path, slept):
    file = tmp_path / "a.mp4"
    file.write_bytes(b"abc")
    server = Server(busy("7"), busy("999999"), busy("soon"), httpx.Response(201, json=VIDEO))
    with server.client() as client:
        client.upload(file)
    assert slept == [7.0, 60.0, 1.0]
    assert [body for _, _, body, _ in server.asked] == [b"abc"] * 4, "the file from its beginning each time"


def test_insisting_has_an_end(slept):
    server = Server(*[busy() for _ in range(3)])
    with server.client(retries=2) as client, pytest.raises(ClientError, match="come back") as error:
        client.search("x")
    assert (error.value.status, error.value.code, len(slept)) == (429, "busy", 2)


@pytest.mark.parametrize(
    ("answer", "told", "status"),
    [
        (httpx.Response(422, json={"error": {"code": "bad_video", "message": "no video"}}), "no video", 422),
        (httpx.Response(502, text="<html>"), "502", 502),
        (httpx.Response(404, json=[1]), "Is it an egoinstructor server", 404),
    ],
)
def test_errors_are_the_servers(answer, told, status):
    with Server(answer).client() as client, pytest.raises(ClientError, match=told) as error:
        client.health()
    assert error.value.status == status


def test_a_server_that_is_not_there_and_a_file_that_is_not_there(tmp_path):
    with Client("http://127.0.0.1:9", timeout=5) as client:
        with pytest.raises(ClientError, match="gave no answer"):
            client.health()
        with pytest.raises(ClientError, match="No such file"):
            client.upload(tmp_path / "none.mp4")


def state(state, progress, error=""):
    body = {"id": "n", "state": state, "progress": progress, "eta": None, "speed": None, "captions": 0, "error": error}
    return httpx.Response(200, json=body)


def test_a_narration_is_followed_to_its_end(slept):
    server = Server(state("queued", 0), state("running", 0.5), state("done", 1), httpx.Response(200, text="1\n"))
    with server.client() as client:
        steps = list(client.narrate("v", every=2, seconds=1.0))
        assert client.captions("n", "vtt") == "1\n"
    assert [(step.state, step.over) for step in steps] == [("queued", False), ("running", False), ("done", True)]
    assert slept == [2, 2]
    assert json.loads(server.asked[0][2]) == {"video": "v", "seconds": 1.0}
    assert server.asked[-1][1] == "http://server/v1/narrate/n/captions.vtt"


def test_a_narration_that_fails_is_an_error(slept):
    server = Server(state("queued", 0), state("failed", 0.1, "the disk is full"))
    with server.client() as client, pytest.raises(ClientError, match="the disk is full"):
        list(client.narrate("v"))


def test_it_stands_alone():
    code = "import sys, egoinstructor.client; assert not {'torch', 'numpy', 'av', 'fastapi'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=900)

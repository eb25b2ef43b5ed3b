"""The server as a whole: it stops without losing what is at work, and lets nobody in by mistake."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from egoinstructor.cli.serve import read_limits
from egoinstructor.errors import InputError
from egoinstructor.web.limits import Limits
from egoinstructor.web.server import bind, build_app, check_open, read_token, url_of
from egoinstructor.web.service import Service


@pytest.mark.usefixtures("in_process")
def test_stopping_answers_what_is_at_work(held_writer, short_videos, serving):
    service = Service(held_writer, None)
    answers = []
    with serving(build_app(service, page=False), service) as server:

        def ask():
            with httpx.Client(base_url=server.url, timeout=900) as client:
                answers.append(client.post("/v1/caption", files={"file": short_videos["ego"].read_bytes()}))

        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        assert held_writer.at_work.wait(60)
        while service.present < 3:
            pass
        server.server.should_exit = True
        folder = service.uploads.folder
        assert folder.exists()
        held_writer.go.set()
        for client in clients:
            client.join(60)
        server.thread.join(60)
        assert not folder.exists()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/v1/health")
    assert [answer.status_code for answer in answers] == [200] * 3


@pytest.mark.usefixtures("in_process")
def test_a_full_server_says_when_to_come_back(held_writer, short_videos, serving):
    service = Service(held_writer, None, limits=Limits(queue=1))
    with (
        serving(build_app(service, page=False), service) as server,
        httpx.Client(base_url=server.url, timeout=900) as client,
    ):
        video = client.post("/v1/videos", content=short_videos["ego"].read_bytes()).json()["id"]
        first = threading.Thread(target=client.post, args=["/v1/caption"], kwargs={"json": {"video": video}})
        first.start()
        assert held_writer.at_work.wait(60)
        refused = client.post("/v1/caption", json={"video": video})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "busy")
        assert int(refused.headers["retry-after"]) >= 1
        assert client.get("/v1/health").json()["status"] == "ok", "which is no work"
        held_writer.go.set()
        first.join(60)


@pytest.mark.usefixtures("in_process")
def test_a_request_that_takes_too_long_is_told_so(held_writer, short_videos, serving):
    service = Service(held_writer, None, limits=Limits(request_seconds=0.2))
    with serving(build_app(service, page=False), service) as server:
        answer = httpx.post(f"{server.url}/v1/caption", files={"file": short_videos["ego"].read_bytes()}, timeout=900)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "timed_out")
        held_writer.go.set()


@pytest.mark.usefixtures("in_process")
def test_who_has_gone_is_not_worked_for(held_writer, short_videos, serving):
    service = Service(held_writer, None)
    with (
        serving(build_app(service, page=False), service) as server,
        httpx.Client(base_url=server.url, timeout=900) as client,
    ):
        video = client.post("/v1/videos", content=short_videos["ego"].read_bytes()).json()["id"]
        first = threading.Thread(target=client.post, args=["/v1/caption"], kwargs={"json": {"video": video}})
        first.start()
        assert held_writer.at_work.wait(60)
        for _ in range(4):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{server.url}/v1/caption", json={"video": video}, timeout=0.2)
        while service.present > 1:
            pass
        held_writer.go.set()
        first.join(60)
    assert held_writer.batches == [1]


@pytest.mark.usefixtures("in_process")
def test_a_connection_on_which_nothing_is_asked_is_closed(writer, serving, monkeypatch):
    monkeypatch.setattr("egoinstructor.web.server.IDLE_SECONDS", 0.1)
    service = Service(writer, None)
    with serving(build_app(service, page=False), service) as server:
        port = int(server.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=900) as connection:
            connection.sendall(b"GET /v1/health HT")
            assert connection.recv(100) == b""


@pytest.mark.slow
@pytest.mark.slow
def test_no_page_means_no_gradio():
    code = """
import sys
import egoinstructor.web.server, egoinstructor.web.api, egoinstructor.cli.serve
assert "gradio" not in sys.modules, "gradio"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=900)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "kitchen.example"])
def test_other_machines_are_let_in_only_with_a_token_or_on_purpose(host):
    with pytest.raises(InputError, match="--token-file"):
        check_open(host, None, insecure=False)
    check_open(host, "a token", insecure=False)
    check_open(host, None, insecure=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_is_let_in(host):
    check_open(host, None, insecure=False)


def test_tokens(tmp_path):
    file = tmp_path / "token"
    file.write_text("  correct-horse-battery\nanother line\n")
    assert read_token(file) == "correct-horse-battery"
    for bad in ("", "short", "with a space in the middle", "ümlaut-und-lang-genug"):
        file.write_text(bad)
        with pytest.raises(InputError, match="16 or more"):
            read_token(file)
    with pytest.raises(InputError, match="can't be read"):
        read_token(tmp_path / "none")


def test_limits_are_named():
    assert read_limits(["queue=3", "request_seconds=1.5"]) == Limits(queue=3, request_seconds=1.5)
    for bad, told in (
        ("qeue=3", "no limit 'qeue'"),
        ("queue=many", "queue=64"),
        ("queue", "queue=64"),
        ("queue=0", "above 0"),
    ):
        with pytest.raises(InputError, match=told):
            read_limits([bad])


def test_a_port_that_is_taken_is_one_error():
    with bind("127.0.0.1", 0) as taken:
        port = int(url_of(taken).rpartition(":")[2])
        with pytest.raises(InputError, match=f"port {port}"):
            bind("127.0.0.1", port)
    with bind("0.0.0.0", 0) as anywhere:
        assert url_of(anywhere).startswith("http://127.0.0.1:")


@pytest.mark.slow
def test_the_command_serves_until_it_is_told_to_stop(tmp_path):
    """With what comes with the package; SIGTERM while a request is at work."""
    from egoinstructor import assets

    clip = next((assets.demo_files() / "ego").glob("*.mp4")).read_bytes()
    command = [sys.executable, "-m", "egoinstructor", "serve", "--model", "nano", "--port", "0", "--no-page"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        line = process.stdout.readline()
        (url,) = re.findall(r"http://127\.0\.0\.1:\d+", line)
        first = httpx.post(f"{url}/v1/caption", files={"file": clip}, timeout=900)
        assert first.status_code == 200
        assert len(first.json()["references"]) == 4
        answers = []
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/v1/caption", files={"file": clip}, timeout=900))
        )
        asking.start()
        while '"waiting":0' in httpx.get(f"{url}/v1/health", timeout=900).text and asking.is_alive():
            pass
        process.send_signal(signal.SIGTERM)
        asking.join(120)
        assert process.wait(120) == 0
    assert answers[0].json()["caption"] == first.json()["caption"]
    assert [path for path in tmp_path.iterdir() if "egoinstructor" in path.name] == []

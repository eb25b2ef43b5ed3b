"""Behind a reverse proxy that shows the server under a path."""

from __future__ import annotations

import http.client
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from egoinstructor.errors import InputError
from egoinstructor.web.server import build_app, check_root_path
from egoinstructor.web.service import Service

PREFIX = "/demo"
TOKEN = "0123456789abcdef0123"


@contextmanager
def proxy(upstream: str, strips: bool) -> Iterator[str]:
    """Forwards what is under the prefix, which it takes off or leaves; all else is not found."""
    target = urlsplit(upstream)

    class Forward(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_response(404)
                self.send_header("content-length", "0")
                self.end_headers()
                return
            length = int(self.headers.get("content-length") or 0)
            body = self.rfile.read(length) if length else None
            dropped = ("connection", "transfer-encoding", "accept-encoding")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
            connection = http.client.HTTPConnection(target.hostname, target.port)
            connection.request(self.command, self.path.removeprefix(PREFIX) if strips else self.path, body, headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            self.send_header("connection", "close")
            self.end_headers()
            while piece := answer.read1(65536):
                self.wfile.write(piece)
                self.wfile.flush()
            self.close_connection = True

        do_GET = do_POST = do_HEAD = do_DELETE = forward

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{PREFIX}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("given", "prefix"), [("", ""), ("/", ""), ("/demo", "/demo"), ("/a/b-c.d/", "/a/b-c.d")])
def test_a_prefix(given, prefix):
    assert check_root_path(given) == prefix


@pytest.mark.parametrize("given", ["demo", "//demo", "/a//b", "/../a", "/a b", "http://x/demo", "/a?b", '/"'])
def test_what_is_no_prefix(given):
    with pytest.raises(InputError, match=r"--root-path .* such as /demo"):
        check_root_path(given)


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("strips", [True, False])
def test_the_api_answers_under_the_prefix(writer, short_videos, serving, strips):
    service = Service(writer, None)
    with (
        serving(build_app(service, page=False, root_path=PREFIX), service) as server,
        proxy(server.url, strips) as url,
        httpx.Client(timeout=900) as client,
    ):
        video = client.post(f"{url}/v1/videos", content=short_videos["ego"].read_bytes()).json()["id"]
        assert client.post(f"{url}/v1/caption", json={"video": video}).status_code == 200
        assert client.get(f"{url}/v1/health").json()["status"] == "ok"
        assert client.get(f"{url}/openapi.json").json()["servers"] == [{"url": PREFIX}]
        assert client.get(f"{url}/v1/nothing").status_code == 404


@pytest.mark.slow
@pytest.mark.parametrize("strips", [True, False])
def test_the_page_works_under_the_prefix(tmp_path, serving, strips):
    """Signing in, uploading and captioning, in a real Chromium that asks for nothing outside of the prefix."""
    pytest.importorskip("gradio")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, to drive a browser")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("needs a Chromium: there is none on the PATH")
    from egoinstructor import Captioner, assets

    service = Service(Captioner.from_pretrained("nano", device="cpu"), None, model_name="nano")
    app = build_app(service, token=TOKEN, root_path=PREFIX)
    with serving(app, service) as server, proxy(server.url, strips) as url, playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page()
        page.set_default_timeout(600_000)
        answers = []
        page.on("response", lambda answer: answers.append((answer.status, answer.url)))
        page.goto(f"{url}/")
        assert page.url == f"{url}/login"
        page.fill("#token", "not the token at all")
        page.click("button")
        page.get_by_text("This is not the server's token.").wait_for()
        page.fill("#token", TOKEN)
        page.click("button")
        ego = sorted((assets.demo_files() / "ego").glob("*.mp4"))[0]
        page.locator("#ego-upload input[type=file]").wait_for(state="attached")
        page.locator("#ego-upload input[type=file]").set_input_files(str(ego))
        page.locator("#ego-player video").wait_for()
        page.get_by_role("button", name="Caption", exact=True).click()
        page.locator("#caption-without .confidence").wait_for()
        assert page.locator("#caption-without .caption").inner_text().startswith("#C C")
        page.screenshot(path=tmp_path / "page.png")
        browser.close()
    # Gradio asks for an FFmpeg of its own, which it doesn't ship.
    assert [answer for answer in answers if answer[0] >= 400 and "/static/ffmpeg/" not in answer[1]] == []
    assert {Path(urlsplit(address).path).parts[1] for _, address in answers if address.startswith("http")} == {"demo"}

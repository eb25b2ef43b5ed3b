"""The HTTP API on a real server: what it takes, what it answers, whom it turns away, and what it logs."""

from __future__ import annotations

import json
import logging
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest

from egoinstructor import Captioner
from egoinstructor.web.limits import Limits
from egoinstructor.web.server import build_app
from egoinstructor.web.service import Service

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def service(toy, copy_of, tmp_path_factory):
    captioner = Captioner(*toy)
    library = copy_of(tmp_path_factory.mktemp("api") / "kitchen")
    made = Service(captioner, library, limits=Limits(upload_bytes=200_000, body_bytes=10_000, upload_stall_seconds=0.5))
    yield made
    made.close()


@pytest.fixture(scope="module")
def app(service):
    return build_app(service, page=False)


@pytest.fixture(scope="module")
def api(app, service, serving):
    with serving(app, service) as server, httpx.Client(base_url=server.url, timeout=900) as client:
        yield client


@pytest.fixture(scope="module")
def ego(short_videos):
    return short_videos["ego"].read_bytes()


@pytest.fixture(scope="module")
def video(api, ego):
    return api.post("/v1/videos", content=ego, params={"name": "../../my kitchen.mp4"}).json()


def error(response, status):
    """The one form of every error."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/json")
    (body,) = response.json().values()
    assert body.keys() == {"code", "message"}
    return body


# What it does


def test_a_video_is_sent_as_a_body_or_a_form(api, ego, video):
    assert (video["name"], video["bytes"], video["duration"]) == ("my kitchen.mp4", len(ego), 3.0)
    form = api.post("/v1/videos", files={"file": ("clip.mp4", ego, "image/png")})
    assert form.status_code == 201
    assert form.json() == video | {"id": form.json()["id"], "name": "clip.mp4"}
    assert form.json()["id"] != video["id"]
    assert api.delete(f"/v1/videos/{form.json()['id']}").status_code == 204
    error(api.delete(f"/v1/videos/{form.json()['id']}"), 404)


def test_a_caption_of_a_sent_video_and_of_a_form_are_the_same(api, service, ego, video):
    asked = {"start": 0.5, "end": 2.5, "shots": 2, "num_beams": 1}
    sent = api.post("/v1/caption", json=asked | {"video": video["id"]}).json()
    kept = service.uploads.stats()["videos"]
    form = api.post("/v1/caption", files={"file": ego}, data=asked).json()
    assert form | {"seconds": 0} == sent | {"seconds": 0}
    assert len(sent["references"]) == 2
    assert service.uploads.stats()["videos"] == kept, "the form's video is forgotten"
    ids = [one["id"] for one in sent["references"]]
    chosen = api.post("/v1/caption", files={"file": ego}, data=asked | {"references": ids}).json()
    assert chosen["caption"] == sent["caption"]
    assert [one["id"] for one in chosen["references"]] == ids


def test_search_and_the_video_of_a_clip(api, short_videos):
    (hit,) = api.post("/v1/search", json={"text": "stir the sauce", "k": 1}).json()["clips"]
    assert (hit["narration"], hit["video"], hit["playable"]) == ("stir the sauce", "exo3.mp4", True)
    whole = api.get(f"/v1/clips/{hit['id']}/video")
    assert whole.content == short_videos["exo3"].read_bytes()
    assert whole.headers["content-type"] == "video/mp4"
    part = api.get(f"/v1/clips/{hit['id']}/video", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    error(api.get("/v1/clips/none/video"), 404)


def test_a_narration_is_followed_and_its_captions_fetched(api, video):
    started = api.post("/v1/narrate", json={"video": video["id"], "seconds": 1.5, "num_beams": 1, "shots": 0})
    assert started.status_code == 202
    id = started.json()["id"]
    while (now := api.get(f"/v1/narrate/{id}").json())["state"] in ("queued", "running"):
        pass
    assert (now["state"], now["progress"], now["error"]) == ("done", 1.0, "")
    srt, vtt, lines = (api.get(f"/v1/narrate/{id}/captions.{kind}") for kind in ("srt", "vtt", "jsonl"))
    assert srt.text.startswith("1\n00:00:00,000 --> ")
    assert vtt.headers["content-type"] == "text/vtt; charset=utf-8"
    assert json.loads(lines.text.splitlines()[0])["start"] == 0.0
    assert api.delete(f"/v1/narrate/{id}").json()["state"] == "done", "what is over stays as it is"
    error(api.get(f"/v1/narrate/{id}/captions.exe"), 422)
    error(api.get("/v1/narrate/none"), 404)


def test_health_and_metrics(api, ego):
    health = api.get("/v1/health").json()
    assert (health["status"], health["library"], health["writable"]) == ("ok", True, False)
    before = api.get("/v1/metrics").text
    api.post("/v1/caption", files={"file": ego}, data={"num_beams": 1})
    api.get("/v1/narrate/some-id-or-other")
    after = api.get("/v1/metrics").text

    def value(text, start):
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(start))

    for start in (
        'egoinstructor_requests_total{route="/v1/caption",status="200"}',
        'egoinstructor_requests_total{route="/v1/narrate/{id}",status="404"}',
        "egoinstructor_batch_size_count",
        'egoinstructor_decodes_total{result="answered"}',
    ):
        assert value(after, start) > value(before, start), start
    assert value(after, "egoinstructor_received_bytes_total") >= value(
        before, "egoinstructor_received_bytes_total"
    ) + len(ego)
    assert "egoinstructor_queue_length 0.0" in after
    assert "some-id-or-other" not in after


# What it refuses


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"video": "x"', "JSON"),
        (b"[]", "object"),
        (b"\xff\xfe", "JSON"),
        (b"{}", "video: Field required"),
        (b'{"video": "x", "url": "http://127.0.0.1/"}', "url: Extra inputs are not permitted"),
        (b'{"video": "../../etc/passwd"}', "video: String should match"),
        (b'{"video": "x", "shots": 1e9}', "shots: Input should be less than or equal to 16"),
        (b'{"video": "x", "start": NaN}', "start: Input should be a finite number"),
        (b'{"video": "x", "own": [{"video": "x", "narration": ""}]}', "own.0.narration: String should have at least 1"),
        (b'{"video": "x", "references": ' + b"[" * 4000 + b"]" * 4000 + b"}", ""),
    ],
)
def test_a_bad_body_is_told_what_is_wrong(api, body, told):
    assert (
        told
        in error(api.post("/v1/caption", content=body, headers={"content-type": "application/json"}), 422)["message"]
    )


def test_what_is_no_video_is_refused(api):
    broken = error(api.post("/v1/videos", content=b"no video", params={"name": "a/holiday.mp4"}), 422)
    assert broken["code"] == "bad_video"
    assert broken["message"].startswith("video holiday.mp4: ")
    error(api.post("/v1/videos", content=b""), 400)
    assert "no field 'file'" in error(api.post("/v1/caption", files={"other": b"x"}), 422)["message"]
    assert "shots" in error(api.post("/v1/caption", files={"file": b"x"}, data={"shots": "many"}), 422)["message"]
    assert "url" in error(api.post("/v1/caption", files={"file": b"x"}, data={"url": "http://x"}), 422)["message"]
    broken = api.post(
        "/v1/caption", content=b"--x\r\nno form", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    error(broken, 400)
    error(api.post("/v1/caption", content=b"", headers={"content-type": "multipart/form-data"}), 400)
    error(api.post("/v1/videos", files=[("file", b"x"), ("file", b"y")]), 400)
    error(api.post("/v1/videos", files={"file": b"x"}, data={f"f{i}": "x" for i in range(40)}), 400)


def test_unknown_paths_and_methods(api):
    error(api.get("/v1/none"), 404)
    error(api.get("/none"), 404)
    refused = api.put("/v1/health")
    assert error(refused, 405)["code"] == "method_not_allowed"
    assert refused.headers["allow"] == "GET"
    error(api.get("/docs"), 404)


def test_large_bodies_are_refused_by_what_they_say_and_by_what_comes(api, ego):
    says = error(api.post("/v1/videos", content=b"x" * 400_000), 413)
    assert says["code"] == "limit_upload_bytes"

    def endless():
        while True:
            yield b"x" * 50_000

    for path, headers in (("/v1/videos", {}), ("/v1/search", {"content-type": "application/json"})):
        with suppress(httpx.TransportError):  # where the server had closed before the client looked for an answer
            assert error(api.post(path, content=endless(), headers=headers), 413)["code"].startswith("limit_")
    large = {"file": ("x.mp4", b"x" * 250_000)}
    assert "limit" in error(api.post("/v1/videos", files=large), 413)["code"]
    error(api.post("/v1/search", json={"text": "x" * 20_000}), 413)
    assert api.get("/v1/health").status_code == 200


def raw(api, *pieces: bytes) -> bytes:
    """What a server answers to bytes, until it closes."""
    url = urlsplit(str(api.base_url))
    with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
            if b"}}" in answer:
                break
    return answer


@pytest.mark.parametrize("path", [b"/v1/videos", b"/v1/search"])
def test_a_body_that_stalls_is_given_up(api, path):
    head = (
        b"POST "
        + path
        + b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n"
    )
    answer = raw(api, head, b'{"text"')
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"limit_upload_stall_seconds" in answer


def test_a_wrong_content_length_is_no_way_in(api):
    answer = raw(api, b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "kitchen.example"}, "bad_host"),
        ({"Host": "localhost.example"}, "bad_host"),
        ({"Host": "[::1].example"}, "bad_host"),
        ({"Host": ""}, "bad_host"),
        ({"Origin": "http://kitchen.example"}, "cross_origin"),
        ({"Origin": "null"}, "cross_origin"),
    ],
)
def test_other_names_and_other_sites_are_turned_away(api, headers, code):
    assert (
        error(api.post("/v1/search", json={"text": "x"}, headers=headers), 400 + 3 * (code == "cross_origin"))["code"]
        == code
    )


@pytest.mark.parametrize("host", ["localhost", "localhost:81", "127.0.0.1:9", "[::1]:80", "192.168.0.7", "LOCALHOST."])
def test_addresses_and_localhost_are_known(api, host):
    assert api.get("/v1/health", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200


def test_every_answer_has_the_headers(api, video):
    for answer in (api.get("/v1/health"), api.get("/v1/none"), api.get("/v1/health", headers={"Host": "x.example"})):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


# The document


def test_the_document_tells_every_error_and_takes_no_url(api):
    document = api.get("/openapi.json").json()
    assert len(document["paths"]) == 10
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            assert {"400", "401", "404", "413", "422", "429", "503", "504"} <= route["responses"].keys(), (method, path)
            for status in ("422", "429"):
                schema = route["responses"][status]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}, (method, path)
    assert "CaptionBody" in document["components"]["schemas"]
    assert '"uri"' not in json.dumps(document)
    assert "HTTPValidationError" not in json.dumps(document["paths"])


# Who may ask


@pytest.fixture(scope="module")
def locked(service, serving):
    app = build_app(service, hosts=["kitchen.example"], token=TOKEN, page=False)
    transport = httpx.ASGITransport(app=app)
    return transport


def ask(transport, **options):
    import asyncio

    async def send():
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get("/v1/health", **options)

    return asyncio.run(send())


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN])
def test_a_wrong_token_is_refused(locked, given):
    refused = ask(locked, headers={"Authorization": given})
    assert error(refused, 401)["code"] == "unauthorized"
    assert refused.headers["www-authenticate"] == "Bearer"


def test_the_token_is_let_in_under_an_allowed_name(locked):
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert ask(locked, headers=right).status_code == 200
    assert ask(locked, headers=right | {"Host": "Kitchen.example:443"}).status_code == 200
    assert error(ask(locked, headers=right | {"Host": "other.example"}), 400)["code"] == "bad_host"
    browser = ask(locked, headers={"Accept": "text/html"})
    error(browser, 401)  # there is no page to sign in on


# At once


def test_many_at_once_get_their_own_captions(api, short_videos):
    asked = {"num_beams": 1, "shots": 0}
    videos = {name: path.read_bytes() for name, path in short_videos.items()}
    expected = {
        name: api.post("/v1/caption", files={"file": video}, data=asked).json()["caption"]
        for name, video in videos.items()
    }
    wrong = []

    def client(name):
        for _ in range(3):
            answer = api.post("/v1/caption", files={"file": videos[name]}, data=asked)
            if answer.status_code != 200 or answer.json()["caption"] != expected[name]:
                wrong.append((name, answer.text))

    threads = [threading.Thread(target=client, args=[name]) for name in videos for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_log_tells_of_requests_and_nothing_of_what_is_in_them(api, ego, video, caplog):
    caplog.set_level(logging.DEBUG)
    caption = api.post("/v1/caption", files={"file": ("secret-name.mp4", ego)}, data={"num_beams": 1}).json()
    api.post("/v1/search", json={"text": "a secret wish"})
    api.get(f"/v1/narrate/{video['id']}?token=secret")
    said = caplog.text
    assert "POST /v1/caption 200" in said
    assert "GET /v1/narrate/{id} 404" in said
    ours = "\n".join(
        record.getMessage() for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))
    )
    for private in ("secret", caption["caption"], video["id"], "stir the sauce"):
        assert private not in ours, private

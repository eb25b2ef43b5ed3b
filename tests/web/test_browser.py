"""The page as its visitors meet it: a real server with the model and the library that are shipped, in a real Chromium.

Nothing of it leaves this machine, which every test asserts. EGOINSTRUCTOR_SCREENSHOTS=DIR keeps the pictures for the docs.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

    from egoinstructor.web.service import Service

pytestmark = pytest.mark.slow

DESKTOP, PHONE = (1280, 900), (390, 844)
PATIENCE = 600_000  # milliseconds until something is taken for broken: the machine may be busy


@dataclass
class Site:
    """The server, and what its service was asked for."""

    url: str
    service: Service
    asked: list[dict[str, Any]] = field(default_factory=list)
    batches: threading.Semaphore | None = None

    @contextmanager
    def batch_by_batch(self) -> Iterator[threading.Semaphore]:
        """Let the captioner do a batch only when it is told to, and all of them at the end."""
        self.batches = batches = threading.Semaphore(0)
        try:
            yield batches
        finally:
            self.batches = None
            batches.release(1000)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    for module in ("gradio", "fastapi", "uvicorn", "lancedb"):
        pytest.importorskip(module)
    from egoinstructor import assets
    from egoinstructor.captioners.egoinstructor import Captioner
    from egoinstructor.library.library import ExoLibrary
    from egoinstructor.retriever.opening import open_retriever
    from egoinstructor.web.server import bind, build_app, make_server, url_of
    from egoinstructor.web.service import Service

    folder = tmp_path_factory.mktemp("site")
    (folder / "additions").mkdir()
    shutil.copytree(assets.demo_files() / "library", folder / "library")
    nano = assets.FOLDER / assets.NANO
    captioner = Captioner.from_pretrained(nano, device="cpu")
    options = ExoLibrary.open(str(folder / "library")).retriever_options
    retriever = open_retriever(nano / "retriever", device="cpu", **options)
    retriever.look_through(captioner.encoder)
    library = ExoLibrary.open(str(folder / "library"), retriever)
    for name in library.sources():
        library.add_source(name, assets.demo_files())
    service = Service(captioner, library, model_name=assets.NANO, writable=folder / "additions")
    listening = bind("127.0.0.1", 0)
    site = Site(url_of(listening), service)
    stream = service.caption_stream

    def spied(upload_id: str, **asked: Any) -> Any:
        site.asked.append(asked)
        return stream(upload_id, **asked)

    service.caption_stream = spied  # type: ignore[method-assign]
    caption_batch = captioner.caption_batch

    def held(*values: Any, **options: Any) -> Any:
        if site.batches is not None:
            site.batches.acquire()
        return caption_batch(*values, **options)

    captioner.caption_batch = held  # type: ignore[method-assign]
    ready = threading.Event()
    server = make_server(build_app(service), service, ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        assert ready.wait(120)
        yield site
    finally:
        server.should_exit = True
        thread.join(60)
        service.close()
        listening.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, to drive a browser")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    arguments = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium's own sandbox is not for root
    with playwright.sync_playwright() as driver:
        if found is None and not Path(driver.chromium.executable_path).exists():
            pytest.skip("needs a Chromium: there is none on the PATH, and none of playwright's own")
        browser = driver.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


class Visit:
    """Pages of one browser, with all that they asked the network for."""

    def __init__(self, browser: Browser, site: Site) -> None:
        self._browser, self._site = browser, site
        self._contexts: list[BrowserContext] = []
        self.requests: list[str] = []

    def open(self, size: tuple[int, int] = DESKTOP, scheme: Any = "light", script: str = "") -> Page:
        context = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
        )
        self._contexts.append(context)
        context.on("request", lambda request: self.requests.append(request.url))
        context.set_default_timeout(PATIENCE)
        context.add_init_script(script)
        page = context.new_page()
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.goto(self._site.url)
        page.locator("#ego-upload input[type=file]").wait_for(state="attached")
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        assert self.requests
        away = [
            url
            for url in self.requests
            if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).hostname != "127.0.0.1"
        ]
        assert away == []


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Visit]:
    visit = Visit(browser, site)
    yield visit
    visit.close()


def clips(kind: str) -> list[Path]:
    from egoinstructor import assets

    return sorted((assets.demo_files() / kind).glob("*.mp4"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ego clips, one after the other."""
    import av

    path = tmp_path_factory.mktemp("recording") / "a morning.mp4"
    with av.open(path, "w") as target:
        stream = None
        for clip in clips("ego"):
            with av.open(clip) as source:
                video = source.streams.video[0]
                if stream is None:
                    stream = target.add_stream("libx264", rate=video.average_rate, options={"threads": "1"})
                    stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
                for frame in source.decode(video):
                    image = frame.to_ndarray(format="rgb24")  # without the times of its own file
                    target.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        target.mux(stream.encode(None))
    return path


def upload(page: Page, where: str, file: Path) -> None:
    page.locator(f"{where} input[type=file]").set_input_files(file)


def button(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def captioned(page: Page) -> str:
    """What was said of the caption with references, once both are there."""
    page.locator("#caption-without .confidence").wait_for()
    return page.locator("#caption-with .confidence").inner_text()


def test_an_upload_gets_references_that_play_and_captions_that_stream(visit: Visit, site: Site) -> None:
    page = visit.open()
    upload(page, "#ego-upload", clips("ego")[1])
    page.locator("#ego-player video").wait_for()
    button(page, "Find references").click()
    page.locator("#references figure").nth(3).wait_for()
    assert page.locator("#references figure").count() == 4
    assert re.search(r"score 0\.\d\d", page.locator("#references").inner_text())

    source = page.locator("#references video").first.get_attribute("src")
    answer = page.request.get(f"{site.url}/{source}", headers={"Range": "bytes=0-99"})
    assert (answer.status, answer.headers["content-type"], len(answer.body())) == (206, "video/mp4", 100)
    if page.evaluate("document.createElement('video').canPlayType('video/mp4; codecs=\"avc1.42E01E\"')"):
        page.wait_for_function(
            "[...document.querySelectorAll('#references video')].every(video => video.readyState >= 1)"
        )

    page.evaluate(
        "window.seen = []; new MutationObserver(() => { const text = document.querySelector('#caption-with .writing');"
        "if (text) seen.push([text.innerText, document.querySelector('#caption-with').getAttribute('aria-live')]) })"
        ".observe(document.querySelector('#caption-with'), {childList: true, subtree: true, characterData: true})"
    )
    button(page, "Caption").click()
    assert "read 4 references" in captioned(page)
    text = page.locator("#caption-with .caption").inner_text()
    seen = page.evaluate("window.seen")
    parts = {part for part, _ in seen if part}
    assert len(parts) > 1
    assert all(text.startswith(part) for part in parts)
    assert {live for _, live in seen} == {"polite"}
    assert re.search(r"\(\d+%\); read 4 references", page.locator("#caption-with").inner_text())
    assert "read no reference" in page.locator("#caption-without").inner_text()
    with_references, without = site.asked[-2:]
    assert len(with_references["references"]) == 4
    assert without["references"] == ()


def test_a_reference_that_is_switched_off_is_not_read(visit: Visit, site: Site) -> None:
    page = visit.open()
    page.get_by_role("button", name="Clip 4").click()
    page.locator("#ego-player video").wait_for()
    button(page, "Caption").click()
    assert "read 4 references" in captioned(page)
    before = list(site.asked[-2]["references"])
    page.get_by_label("Read reference 2").uncheck()
    page.get_by_label("Caption without references too").uncheck()
    button(page, "Caption").click()
    page.locator("#caption-with .confidence", has_text="read 3 references").wait_for()
    assert list(site.asked[-1]["references"]) == [before[0], *before[2:]]

    for number in (1, 3, 4):
        page.get_by_label(f"Read reference {number}").uncheck()
    button(page, "Caption").click()
    page.locator("#caption-with .confidence", has_text="read no reference").wait_for()

    # Another segment: its references are looked for anew, and all are read.
    page.get_by_label("Segment ends at (seconds)").first.fill("1")
    page.keyboard.press("Tab")
    button(page, "Caption").click()
    page.locator("#caption-with .confidence", has_text="read 4 references").wait_for()
    assert site.asked[-1]["end"] == 1


def test_a_reference_of_the_visitors_own_is_read_first_and_shown_as_text(visit: Visit, site: Site) -> None:
    page = visit.open()
    page.get_by_role("button", name="Clip 1").click()
    page.locator("#ego-player video").wait_for()
    page.get_by_role("button", name="Add a reference of your own").click()
    button(page, "Add this reference").click()
    page.locator("#caption-error", has_text="needs a how-to clip").wait_for()
    upload(page, "#own-upload", clips("exo")[0])
    page.locator("figcaption", has_text=clips("exo")[0].name).wait_for()
    page.locator("#own-narration").get_by_role("textbox").fill("<img src=x onerror=alert(1)> cut it")
    button(page, "Add this reference").click()
    page.get_by_label("Read your own reference 1").wait_for()
    assert page.locator("#references q").first.inner_text().strip("“”") == "<img src=x onerror=alert(1)> cut it"
    button(page, "Caption").click()
    assert "read 5 references" in captioned(page)
    assert [one.narration for one in site.asked[-2]["own"]] == ["<img src=x onerror=alert(1)> cut it"]


def test_more_beams_and_a_recording_of_the_camera(visit: Visit, site: Site) -> None:
    page = visit.open()
    page.get_by_role("button", name="Capture from camera").first.click()
    page.get_by_text("Click to Access Webcam").click()
    page.get_by_role("button", name="start recording").click()
    page.wait_for_timeout(2500)  # of recording
    page.get_by_role("button", name="start recording").click()  # which now says "Stop"
    page.locator("#ego-player figcaption", has_text="640×480").wait_for()
    page.get_by_label("Beams").first.fill("3")
    page.keyboard.press("Tab")
    before = len(site.asked)
    button(page, "Caption").click()
    assert "read 4 references" in captioned(page)
    assert len(site.asked) == before  # the other way was taken: beams don't stream


SLOW_NETWORK = """
const ask = window.fetch;
let seed = 1;
const late = () => {
  seed = (seed * 48271) % 2147483647;
  return new Promise((go) => setTimeout(go, seed % 5 < 2 ? 0 : seed % 700));
};
window.fetch = async (target, options) => {
  const url = String(target.url ?? target);
  if (!url.includes("/queue/")) return ask(target, options);
  const response = await ask(target, options);
  await late();
  if (!url.includes("/queue/data")) return response;
  const slow = new TransformStream({ async transform(chunk, stream) { await late(); stream.enqueue(chunk); } });
  return new Response(response.body.pipeThrough(slow), response);
};
"""
"""A network on which what the server says of its queue comes up to 0.7 s late, in any order."""


@pytest.mark.parametrize("network", ["", SLOW_NETWORK], ids=["fast", "slow"])
def test_a_broken_file_is_told_in_one_sentence_and_the_page_goes_on(visit: Visit, tmp_path: Path, network: str) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clips("ego")[0].read_bytes()[:3000])
    page = visit.open(script=network)
    for tab, where, error in (
        ("Caption", "#ego-upload", "#caption-error"),
        ("Library", "#library-clip", "#library-error"),
        ("Narrate", "#narrate-upload", "#narrate-error"),
    ):
        page.get_by_role("tab", name=tab).click()
        upload(page, where, broken)
        page.locator(f"{error} .error").wait_for()
        told = page.locator(error).inner_text()
        assert "can't be read as a video" in told
        assert "Traceback" not in told
        assert str(tmp_path) not in told
    page.get_by_role("tab", name="Caption").click()
    upload(page, "#ego-upload", clips("ego")[0])
    page.locator("#ego-player video").wait_for()
    page.locator("#caption-error .error").wait_for(state="detached")


def test_the_library_is_searched_and_added_to(visit: Visit) -> None:
    page = visit.open()
    page.get_by_role("tab", name="Library").click()
    page.get_by_label("What is said or shown").fill("wipe the jar")
    page.get_by_label("Only clips whose video is on this server").check()
    button(page, "Search").click()
    page.locator("#library-found video").first.wait_for()
    assert any("wip" in said for said in page.locator("#library-found q").all_inner_texts())

    upload(page, "#library-clip", clips("ego")[1])
    page.locator("#library-found .score", has_text=re.compile(r"score 0\.[5-9]")).first.wait_for()

    page.get_by_role("button", name="Add a video").click()
    upload(page, "#library-new", clips("exo")[3])
    page.locator("figcaption", has_text=clips("exo")[3].name).wait_for()
    page.get_by_label("Start 1 (s)").fill("0")
    page.get_by_label("End 1 (s)").fill("9")
    page.get_by_label("What is said 1", exact=True).fill("here you open the zork")
    button(page, "One more row").click()
    page.get_by_label("Start 3 (s)").wait_for()
    button(page, "Add to the library").click()
    page.locator("#library-error .error").wait_for()  # the clip has two seconds
    page.get_by_label("End 1 (s)").fill("1.5")
    button(page, "Add to the library").click()
    page.locator("#library-added", has_text="1 new of 1").wait_for()
    page.get_by_label("What is said or shown").fill("zork")
    page.keyboard.press("Enter")
    page.locator("#library-found q", has_text="here you open the zork").wait_for()
    page.get_by_role("button", name="What the library holds").click()
    assert "589" in page.locator("#library-stats").inner_text()


def test_a_recording_is_narrated_with_progress_and_its_captions_come_as_a_file(
    visit: Visit, site: Site, recording: Path
) -> None:
    page = visit.open()
    page.get_by_role("tab", name="Narrate").click()
    upload(page, "#narrate-upload", recording)
    page.locator("#narrate-player video").wait_for()
    page.get_by_label("Seconds that a caption covers").first.fill("0.5")
    page.keyboard.press("Tab")
    progress = page.locator("#narrate-progress progress")
    shares = []
    with site.batch_by_batch() as batches:
        button(page, "Narrate").click()
        page.locator("#narrate-state", has_text="being narrated").wait_for()
        for _ in range(2):
            batches.release()
            least = shares[-1] if shares else 0
            page.wait_for_function(f"document.querySelector('#narrate-progress progress')?.value > {least}")
            shares.append(float(progress.get_attribute("value")))
            assert page.locator("#narrate-captions li").count() > 0
    assert shares[1] < 1
    page.locator("#narrate-state", has_text="is done").wait_for()
    lines = page.locator("#narrate-captions li")
    assert lines.count() >= 3
    with page.expect_download() as download:
        page.get_by_role("link", name=".srt").click()
    source = page.get_by_role("link", name=".srt").get_attribute("href")
    job = site.service.job(source.split("/")[2])
    assert download.value.suggested_filename == "captions.srt"
    assert Path(download.value.path()).read_text(encoding="utf-8") == job.srt()
    assert job.srt().count(" --> ") == lines.count() == len(job.segments)
    page.wait_for_function("document.querySelector('#narrate-watch video').textTracks.length == 1")


def test_narrations_wait_for_one_another_and_are_cancelled(visit: Visit, site: Site, recording: Path) -> None:
    page = visit.open()
    page.get_by_role("tab", name="Narrate").click()
    with site.batch_by_batch():
        for number in (1, 2):
            upload(page, "#narrate-upload", recording)
            page.locator("#narrate-player video").wait_for()
            button(page, "Narrate").click()
            page.locator("#narrate-jobs label").nth(number - 1).wait_for()
        page.locator("#narrate-state", has_text="waiting for its turn").wait_for()
        button(page, "Cancel").click()  # the second, which is shown
        page.locator("#narrate-state", has_text="is cancelled").wait_for()
    page.locator("#narrate-jobs label").first.click()
    page.locator("#narrate-state", has_text="is done").wait_for()
    assert [label.split(": ")[1] for label in page.locator("#narrate-jobs label").all_inner_texts()] == [
        "done",
        "cancelled",
    ]


LATE_END = """
const ask = window.fetch;
window.fetch = async (target, options) => {
  const response = await ask(target, options);
  if (!String(target.url ?? target).includes("/queue/data")) return response;
  const late = new TransformStream({
    async transform(chunk, stream) {
      if (new TextDecoder().decode(chunk).includes("close_stream")) await new Promise((go) => setTimeout(go, 900));
      stream.enqueue(chunk);
    },
  });
  return new Response(response.body.pipeThrough(late), response);
};
"""
"""A network on which the word that the stream of answers has ended comes late, behind what is asked for next."""


def test_what_is_asked_for_while_the_stream_of_answers_ends_is_answered(visit: Visit, recording: Path) -> None:
    page = visit.open(script=LATE_END)
    page.get_by_role("tab", name="Narrate").click()
    upload(page, "#narrate-upload", recording)
    page.locator("#narrate-player video").wait_for()
    button(page, "Narrate").click()
    page.locator("#narrate-state", has_text="is done").wait_for()  # seen by looks, twice a second


def test_the_keyboard_is_enough_and_shows_where_it_is(visit: Visit) -> None:
    page = visit.open()
    outlines = []

    def tab_to(name: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            outlines.append(
                page.evaluate("getComputedStyle(document.activeElement).outlineWidth + document.activeElement.tagName")
            )
            if page.evaluate("document.activeElement.innerText.trim()") == name:
                return
        raise AssertionError(f"the keyboard does not come to {name}")

    tab_to("Clip 4")
    page.keyboard.press("Enter")
    page.locator("#ego-player video").wait_for()
    tab_to("Caption")
    page.keyboard.press("Enter")
    assert "read 4 references" in captioned(page)
    hidden = [outline for outline in outlines if outline.startswith("0px")]
    assert hidden == []
    page.get_by_label("Read reference 1").focus()
    page.keyboard.press("Space")
    assert not page.get_by_label("Read reference 1").is_checked()


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop-light", "phone-dark"])
def test_nothing_is_in_the_way_of_a_screen_reader(visit: Visit, recording: Path, size: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = visit.open(size, scheme)

    def check(where: str) -> None:
        page.wait_for_timeout(300)  # until colours have faded in
        found = axe.run(page).response["violations"]
        bad = [
            (where, one["id"], node["html"][:200])
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
        assert bad == []

    upload(page, "#ego-upload", clips("ego")[1])
    page.locator("#ego-player video").wait_for()
    button(page, "Caption").click()
    captioned(page)
    page.get_by_role("button", name="Add a reference of your own").click()
    button(page, "Add this reference").click()
    page.locator("#caption-error .error").wait_for()
    check("caption")
    page.get_by_role("tab", name="Library").click()
    page.get_by_label("What is said or shown").fill("wipe")
    page.keyboard.press("Enter")
    page.locator("#library-found figure").first.wait_for()
    for folded in ("Add a video", "What the library holds"):
        page.get_by_role("button", name=folded).click()
    check("library")
    page.get_by_role("tab", name="Narrate").click()
    upload(page, "#narrate-upload", recording)
    page.locator("#narrate-player video").wait_for()
    button(page, "Narrate").click()
    page.locator("#narrate-state", has_text="is done").wait_for()
    check("narrate")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "size"), [("desktop", DESKTOP), ("phone", PHONE)])
def test_it_fits_the_screen(visit: Visit, name: str, size: tuple[int, int], scheme: str, tmp_path: Path) -> None:
    page = visit.open(size, scheme)
    page.get_by_role("button", name="Clip 6").click()
    page.locator("#ego-player video").wait_for()
    button(page, "Caption").click()
    captioned(page)
    page.get_by_label("Read reference 3").uncheck()
    page.wait_for_timeout(500)  # until the clips' first frames are there
    kept = os.environ.get("EGOINSTRUCTOR_SCREENSHOTS")
    folder = Path(kept) if kept and scheme == "light" else tmp_path
    page.screenshot(path=folder / f"web_{name}.png", full_page=True)
    for tab in ("Caption", "Library", "Narrate"):
        page.get_by_role("tab", name=tab).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    lightness = sum(int(part) for part in re.findall(r"\d+", background)[:3]) / 3
    assert (lightness > 128) == (scheme == "light")


def test_where_there_is_a_token_the_page_asks_for_it(browser: Browser, site: Site) -> None:
    import uvicorn

    from egoinstructor.web.server import bind, build_app, url_of

    token = "a-token-of-some-length"
    listening = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(build_app(site.service, token=token), log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    try:
        page = context.new_page()
        page.goto(url_of(listening))
        for told in ("wrong", token):
            assert page.url.split("?")[0].endswith("/login")
            page.get_by_label("Token of this server").fill(told)
            page.keyboard.press("Enter")
            if told != token:
                page.get_by_role("alert").wait_for()
        page.locator("#ego-upload input[type=file]").wait_for(state="attached")
        found = page.request.post(f"{url_of(listening)}/v1/search", data={})
        assert found.status == 422  # not 401: the page's cookie opens the API too
    finally:
        context.close()
        server.should_exit = True
        thread.join(60)
        listening.close()


def test_what_of_gradio_the_page_does_not_need_is_closed(site: Site) -> None:
    import httpx

    with httpx.Client(base_url=site.url) as client:
        for path in (
            "/gradio_api/info",
            "/gradio_api/openapi.json",
            "/gradio_api/proxy=http://127.0.0.1:1/",
            "/gradio_api/file=http://127.0.0.1:1/",
            "/gradio_api/runs",
            "/monitoring",
            "/static/ffmpeg/ffmpeg-core.wasm",
        ):
            assert client.get(path).status_code == 404, path
        for path in (
            "process_recording",
            "vibe-edit",
            "run/predict",
            "call/predict",
            "api/predict",
            "component_server",
        ):
            assert client.post(f"/gradio_api/{path}", json={}).status_code == 404, path
        assert client.get("/gradio_api/file=/etc/passwd").status_code in (403, 404)
        assert client.get(f"/page/videos/{'x' * 22}").status_code == 404


def test_a_file_is_taken_from_nowhere_but_the_page_own_uploads(site: Site, tmp_path: Path) -> None:
    """A visitor who speaks to Gradio directly can't have an address fetched, nor a file of this machine read or removed."""
    import httpx

    mine = tmp_path / "mine.mp4"
    mine.write_bytes(clips("ego")[0].read_bytes())
    with httpx.Client(base_url=site.url, timeout=900) as client:
        config = client.get("/config").json()
        takes = next(
            one["id"]
            for one in config["dependencies"]
            if any(target[1] == "change" for target in one["targets"]) and len(one["inputs"]) == 2
        )
        for number, path in enumerate(["http://127.0.0.1:1/a.mp4", str(mine), "/etc/passwd"]):
            given = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "a.mp4"}
            body = {"data": [given, None], "fn_index": takes, "session_hash": f"session{number}"}
            assert client.post("/gradio_api/queue/join", json=body).status_code == 200
            with client.stream("GET", f"/gradio_api/queue/data?session_hash=session{number}") as events:
                said = "".join(
                    line for line in events.iter_lines() if "process_completed" in line or "close_stream" in line
                )
            assert '"success":false' in said.replace(" ", ""), said
    assert mine.exists()

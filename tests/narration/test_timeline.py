"""The timeline page: what is in it, and what it does in a browser."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from egoinstructor.narration.captions import Segment, Skipped
from egoinstructor.narration.timeline import write_timeline
from egoinstructor.narration.tracks import Files, Tracks

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</script><script>alert(1)</script> & <b>salt</b>"


@pytest.fixture
def written(recording, short_videos, tmp_path):
    """A page of six captions; the recording lies elsewhere."""
    exo = [
        {"video": str(short_videos[name]), "start": 0.0, "end": 2.0, "narration": said, "score": score}
        for name, said, score in (("exo1", HOSTILE, 0.5), ("exo2", "stir", 0.25), ("exo3", "cut", None))
    ]
    gone = {"video": "/nowhere/gone.mp4", "start": None, "end": None, "narration": "its video is gone", "score": 0.75}
    lines = [
        Segment(0, 2, "opens the fridge", -0.1, 0.912, tuple(exo)),
        Segment(2, 3, HOSTILE, -0.5, 0.5, (gone, exo[0])),
        Skipped(3, 5, "video <x>: damaged"),
        *(Segment(start, start + 1, f"step {start}", -1, None, (exo[1],)) for start in (5, 6, 8)),
        Segment(9, 11, "the end"),
    ]
    files = Files(tmp_path / "out" / "my kitchen#1")
    files.prefix.parent.mkdir()
    with Tracks(files) as tracks:
        for line in lines:
            tracks.add(line)
    video = Path(shutil.copy(recording, tmp_path / "a?video & more.mp4"))
    write_timeline(files, video)
    return files


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.ids, self.open, self.data = [], {}, [], {}

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self.open.append(dict(attributes).get("id"))

    def handle_endtag(self, tag):
        if tag == "script":
            self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1]:
            self.data[self.open[-1]] = data


def test_what_is_in_it(written):
    page = written.html.read_text(encoding="utf-8")
    read = _Reader()
    read.feed(page)
    buttons = [attributes for tag, attributes in read.tags if tag == "button"]
    assert [button["data-start"] for button in buttons] == [f"{s}.000" for s in (0, 2, 5, 6, 8, 9)]
    assert sum(tag == "script" for tag, _ in read.tags) == 3
    used, references = json.loads(read.data["used"]), json.loads(read.data["references"])
    assert used == [[[0, 0.5], [1, 0.25], [2, None]], [[3, 0.75], [0, 0.5]], [[1, 0.25]], [[1, 0.25]], [[1, 0.25]], []]
    assert [one["said"] for one in references] == [HOSTILE, "stir", "cut", "its video is gone"]
    assert [bool(one["picture"]) for one in references] == [True, True, True, False]
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page
    assert "video &lt;x&gt;: damaged" in page
    assert "0:03 to 0:05 could not be read" in page
    assert "91%" in page
    video = next(attributes for tag, attributes in read.tags if tag == "video")
    assert video["src"] == "../a%3Fvideo%20%26%20more.mp4"


def test_it_asks_no_network_for_anything(written):
    page = written.html.read_text(encoding="utf-8")
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(addresses) == 3
    assert not [one for one in addresses if ":" in one.replace("data:,", "")]
    assert "//" not in re.sub(r'"picture": "data:image/jpeg;base64,[^"]*"|^\s*//.*$|  // .*$', "", page, flags=re.M)


def test_a_folder_of_pieces_has_no_player(written, recording, tmp_path):
    folder = tmp_path / "15s" / "video"
    folder.mkdir(parents=True)
    shutil.copy(recording, folder / "0000.mp4")
    write_timeline(written, folder)
    page = written.html.read_text(encoding="utf-8")
    assert "<video" not in page
    assert "can't be played as one video" in page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser(written, size, scheme):
    sync_api = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=dict(zip(("width", "height"), size, strict=True)), color_scheme=scheme)
        requests, errors = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(written.html.as_uri())
        page.wait_for_function("video.textTracks.length === 1 && video.textTracks[0].cues?.length === 6")

        def current():
            return page.evaluate("[...document.querySelectorAll('[aria-current]')].map(one => one.innerText)")

        page.get_by_role("button", name="step 6").click()
        sync_api.expect(page.locator("#now")).to_have_text("step 6")
        page.wait_for_function("Math.abs(video.currentTime - 6) < 0.1")
        assert len(current()) == 1
        assert page.locator("#beside img").count() == 1

        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        page.wait_for_function("Math.abs(video.currentTime - 2) < 0.1")
        assert HOSTILE in page.locator("#now").inner_text()
        assert "its video is gone" in page.locator("#beside").inner_text()
        assert "no picture" in page.locator("#beside").inner_text()

        page.evaluate("video.currentTime = 9.5")  # as its own bar does
        sync_api.expect(page.locator("#now")).to_have_text("the end")
        page.evaluate("video.currentTime = 4")  # where nothing could be read
        sync_api.expect(page.locator("#now")).to_have_text("")
        assert current() == []
        box = page.locator("#strip").bounding_box()
        page.mouse.click(box["x"] + box["width"] * 1 / 11, box["y"] + 5)
        sync_api.expect(page.locator("#now")).to_contain_text("opens the fridge")

        page.get_by_label("Find").fill("STEP")
        assert page.locator("#list button:visible").count() == 3
        page.get_by_label("Find").fill("")

        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        found = axe.Axe().run(page).response["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
        assert errors == []
        assert all(url.startswith(("file:", "data:")) for url in requests)
        browser.close()

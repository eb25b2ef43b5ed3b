"""`egoinstructor demo` over toy assets: what it prints and writes, whose folders it leaves alone, how it stops."""

from __future__ import annotations

import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import av
import pytest
from PIL import Image

from egoinstructor import Clip, Reference, assets
from egoinstructor.cli import INTERRUPTED, USAGE_ERROR, main
from egoinstructor.demo import captions
from egoinstructor.demo.captions import Answer, counts, plain
from egoinstructor.demo.folder import MARKER, DemoFolder
from egoinstructor.demo.queries import DemoClip
from egoinstructor.demo.run import _panels
from egoinstructor.model import EgoInstructorForConditionalGeneration
from egoinstructor.records import Caption


@pytest.fixture(autouse=True)
def package(toy_assets, monkeypatch, tmp_path):
    """The package with toy assets, in a folder that has none of its names."""
    monkeypatch.setattr(assets, "FOLDER", toy_assets)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(tmp_path)


def files_of(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Page(HTMLParser):
    """What a page refers to, and what of it is described."""

    def __init__(self, text):
        super().__init__()
        self.links, self.described, self.shown = [], 0, 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert tag not in ("link", "iframe")
        self.links += [value for name, value in attributes.items() if name in ("src", "href", "poster")]
        if tag in ("img", "video"):
            self.shown += 1
            self.described += bool(attributes.get("alt") or attributes.get("aria-label"))


def test_the_whole_demo(toy_assets, tmp_path, capsys, monkeypatch):
    passes = []
    read = EgoInstructorForConditionalGeneration.read_frames
    monkeypatch.setattr(
        EgoInstructorForConditionalGeneration, "read_frames", lambda self, x: passes.append(len(x)) or read(self, x)
    )
    before = files_of(toy_assets)
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    folder = tmp_path / "egoinstructor-demo"
    assert "simulated kitchen only" in err
    assert "1/2  ego/ego.mp4  seen" in out
    assert "ground truth   #C C opens the microwave" in out
    assert "cut the <b>leek</b>" in out
    assert "all: exactly right 0 of 1 with retrieval, 0 without" in out
    assert f"Written: {Path('egoinstructor-demo/index.html')}" in out
    assert len(passes) == 2, "one vision pass a query; the library has the references' latents"
    assert files_of(toy_assets) == before, "the package may lie where nothing can be written"

    text = (folder / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "://" not in text
    assert "<b>leek" not in text
    assert page.shown == page.described > 2
    assert all((folder / link.partition("#")[0]).is_file() for link in page.links)
    assert "#t=0,3" in text, "how-to clips are spans of videos"
    sheet = Image.open(folder / "contact_sheet.png")
    assert sheet.width == 1200
    assert len(sheet.convert("L").getcolors()) > 50


def test_json_and_once_more(capsys, tmp_path):
    for _ in range(2):
        assert main(["demo", "--out", "d", "--json"]) == 0
        *shown, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [one["truth"] for one in shown] == ["#C C opens the microwave", ""]
    assert [one["exact"] for one in shown] == [False, None]
    assert [len(one["references"]) + len(one["dropped"]) for one in shown] == [3, 3]
    assert all(one["references"] for one in shown)
    assert last["counts"] == [{"bucket": "all", "clips": 1, "exact": 0, "exact_without_retrieval": 0}]
    assert {path.name for path in (tmp_path / "d").iterdir()} == {
        MARKER, "index.html", "contact_sheet.png", "library", "media",
    }  # fmt: skip


def test_own_videos_and_an_own_library(toy_assets, short_videos, tmp_path, capsys):
    own = tmp_path / "own"
    shutil.copytree(toy_assets / "demo/library", own)
    assert main(["demo", str(short_videos["exo2"]), "--library", "own", "--out", "d"]) == 0
    out, err = capsys.readouterr()
    assert "published weights" in err
    assert "exactly right" not in out
    assert "ground truth" not in out
    text = (tmp_path / "d/index.html").read_text(encoding="utf-8")
    assert "its video is not here" in text, "the library knows another machine's folder, but has the latents"
    assert not (tmp_path / "d/library").exists()


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_is_not_the_demos_is_left_alone(what, tmp_path, capsys):
    mine = tmp_path / "mine"
    if what == "folder":
        mine.mkdir()
        (mine / "index.html").write_text("mine")
    else:
        mine.write_text("mine")
    before = files_of(tmp_path)
    assert main(["demo", "--out", "mine"]) == USAGE_ERROR
    assert "--out" in capsys.readouterr().err
    assert files_of(tmp_path) == before


@pytest.fixture
def written(tmp_path):
    """The folder `d` with an earlier result."""
    folder = DemoFolder("d")
    folder.empty()
    for file in (folder.page, folder.media / "0.mp4", folder.library / "x"):
        folder.write(file, b"earlier")
    return lambda: files_of(tmp_path)


@pytest.mark.parametrize("inside", [["--library", "d/library"], ["d/media/0.mp4"]])
def test_what_lies_in_the_folder_that_is_emptied(inside, written, capsys):
    before = written()
    assert main(["demo", "--out", "d", *inside]) == USAGE_ERROR
    assert "is emptied" in capsys.readouterr().err
    assert written() == before


@pytest.mark.parametrize("bad", ["video", "own library", "library", "model", "retriever"])
def test_an_earlier_result_stays_where_something_cannot_be_opened(bad, written, toy_assets, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    shutil.copytree(toy_assets, broken)
    monkeypatch.setattr(assets, "FOLDER", broken)
    (tmp_path / "bad.mp4").write_text("no video")
    places = {"library": "demo/library", "model": "nano/model.safetensors", "retriever": "nano/retriever/config.json"}
    if bad in places:
        (broken / places[bad]).rename(tmp_path / "away")
    before = written()
    given = {"video": ["bad.mp4"], "own library": ["--library", "none"]}.get(bad, [])
    assert main(["demo", "--out", "d", *given]) == USAGE_ERROR
    assert written() == before


@pytest.mark.parametrize("bad", [["none.mp4"], ["--retriever", "x"], ["--library", "none"]])
def test_bad_input_writes_nothing(bad, tmp_path, capsys):
    assert main(["demo", *bad]) == USAGE_ERROR
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert not (tmp_path / "egoinstructor-demo/index.html").exists()


def test_stopped_and_started_again(tmp_path, monkeypatch, capsys):
    whole = captions.answers

    def stopped(*given):
        yield next(iter(whole(*given)))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(captions, "answers", stopped)
        assert main(["demo", "--out", "d"]) == INTERRUPTED
    assert not (tmp_path / "d/index.html").exists()
    assert main(["demo", "--out", "d"]) == 0
    assert (tmp_path / "d/index.html").exists()
    assert not list((tmp_path / "d").rglob("*.partial"))


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", "file/d"]) == USAGE_ERROR
    assert "can't be written" in " ".join(capsys.readouterr().err.split())


def test_without_pillow(monkeypatch, capsys):
    monkeypatch.setattr("egoinstructor.errors.find_spec", lambda name: None)
    assert main(["demo"]) == USAGE_ERROR
    assert "pip install 'egoinstructor[demo]'" in " ".join(capsys.readouterr().err.split())


# What is counted and shown


def answer(found, alone, truth="#C C cuts the leek", bucket="seen", references=()):
    clip = Clip("x.mp4")
    return Answer(DemoClip(clip, "x", truth, bucket), Caption(found, clip, references), Caption(alone, clip))


def test_exact_is_all_words():
    assert plain(" #C C  cuts the Leek.") == plain("#c c cuts the leek")
    right = answer("#C C cuts the leek.", "#C C cuts the leeks")
    assert (right.right(right.found), right.right(right.alone)) == (True, False)
    unknown = answer("a", "a", truth="")
    assert unknown.right(unknown.found) is None


def test_counts_by_bucket():
    yes, no = "#C C cuts the leek", "#C C cuts the onion"
    rows = counts([answer(yes, no), answer(yes, yes, bucket="long tail"), answer(no, no), answer(yes, yes, truth="")])
    assert [(row.bucket, row.clips, row.found, row.alone) for row in rows] == [
        ("seen", 2, 1, 0), ("long tail", 1, 1, 1), ("all", 3, 2, 1),
    ]  # fmt: skip
    assert counts([answer(yes, yes, truth="")]) == []


def test_the_sheet_shows_the_first_of_each_bucket():
    given = [answer(str(i), "", bucket=bucket) for i, bucket in enumerate("aabbc")]
    assert [one.found.text for one in _panels(given)] == ["0", "2", "4"]
    assert [one.found.text for one in _panels(given[:3])] == ["0", "1", "2"]


@pytest.mark.parametrize("size", [(64, 48), (48, 640), (640, 48)])
def test_the_sheet_takes_any_words_and_any_shape(size, tmp_path):
    from egoinstructor.demo.pictures import Media
    from egoinstructor.demo.sheet import contact_sheet

    video = tmp_path / "x.mkv"
    with av.open(video, "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(*size, "yuv420p")))
        container.mux(stream.encode(None))
    words = "nun schneiden wir das Gemüse 切 " * 20
    references = tuple(Reference(video, text, score=0.5) for text in (words, "x" * 500, "a", "b", "fifth"))
    clip = Clip(video)
    given = [Answer(DemoClip(clip, "x", words), Caption(words, clip, references), Caption("", clip))]
    folder = DemoFolder(tmp_path / "d")
    folder.empty()
    media = Media(folder)
    sheet = Image.open(io.BytesIO(contact_sheet(given, media)))
    assert sheet.width == 1200
    assert media.of(clip).video == "", "browsers don't play it"

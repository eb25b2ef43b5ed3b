"""What comes with the package: found by name, whole, and enough for the demo where it is installed from its wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from egoinstructor import Captioner, ExoLibrary, assets
from egoinstructor.assets import NANO, demo_files, shipped
from egoinstructor.checkpoints.loading import load
from egoinstructor.cli import USAGE_ERROR, main
from egoinstructor.errors import CheckpointError
from egoinstructor.retriever.opening import open_retriever

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_name_means_the_shipped_model(toy_assets, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assets, "FOLDER", toy_assets)
    assert shipped("nano") == toy_assets / "nano"
    assert shipped("nano", retriever=True) == toy_assets / "nano/retriever"
    assert shipped("weights/nano") is None
    captioner = Captioner.from_pretrained("nano", device="cpu")
    retriever = open_retriever("nano", device="cpu")
    assert retriever.look_through(captioner.encoder)
    assert retriever.identity.name == "cross-view nano"
    assert main(["info", "nano", "--json"]) == 0
    assert "ResNet" in json.loads(capsys.readouterr().out)["model"]["vision"]


def test_a_folder_of_that_name_is_meant_first(toy_assets, monkeypatch, tmp_path, model_folder):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assets, "FOLDER", toy_assets)
    (tmp_path / "nano").mkdir()
    assert shipped("nano") == toy_assets / "nano", "a folder of anything else is not meant"
    (tmp_path / "nano").rmdir()
    (tmp_path / "nano").symlink_to(model_folder)
    assert load("nano")[0].config.vision_config.model_type == "clip_vision_model"
    with pytest.raises(CheckpointError, match="nano"):
        open_retriever("nano")


def test_the_demo_is_of_the_shipped_model(toy_assets, monkeypatch, tmp_path, model_folder):
    """Whatever a folder of that name in the working directory holds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assets, "FOLDER", toy_assets)
    (tmp_path / "nano").symlink_to(model_folder)
    assert main(["demo", "--out", "d"]) == 0


def test_a_library_made_with_it_opens_everywhere(toy_assets, monkeypatch, tmp_path, short_videos, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assets, "FOLDER", toy_assets)
    assert main(["library", "create", "kitchen", "--retriever", "nano"]) == 0
    assert ExoLibrary.open("kitchen").retriever_name == "nano"
    monkeypatch.setattr(assets, "FOLDER", Path(shutil.copytree(toy_assets, tmp_path / "elsewhere")))
    assert main(["library", "search", "kitchen", str(short_videos["ego"])]) == 0
    assert "no clips found" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------- the real ones


def test_the_shipped_files_belong_together():
    captioner = Captioner.from_pretrained(NANO, device="cpu")
    library = ExoLibrary.open(demo_files() / "library")
    assert library.retriever_name == NANO
    retriever = open_retriever(NANO, device="cpu", **library.retriever_options)
    assert retriever.look_through(captioner.encoder)
    library.identity.check_same(retriever.identity, "the shipped library")
    entries = list(library.entries())
    assert len(entries) >= 200
    assert set(library.latents([entry.id for entry in entries], captioner.latents_key)) == {e.id for e in entries}
    videos = {path.relative_to(demo_files()).as_posix() for path in (demo_files() / "exo").iterdir()}
    assert len(videos) >= 24
    assert videos <= {entry.video for entry in entries}, "a library's paths start from demo/"
    clips = json.loads((demo_files() / "clips.json").read_text(encoding="utf-8"))
    assert {clip["bucket"] for clip in clips} == {"seen", "novel words", "long tail"}
    assert all(clip["caption"] and (demo_files() / clip["video"]).is_file() for clip in clips)
    assert (assets.FOLDER / NANO / "README.md").is_file()


def test_it_is_small():
    def size(folder):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    assert 0 < size(assets.FOLDER / NANO) <= 25 * 2**20
    assert 0 < size(demo_files()) <= 6 * 2**20


@pytest.mark.slow
def test_the_demo_with_what_is_shipped(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "d"), "--json"]) == 0
    *shown, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert all(len(one["references"]) == 4 for one in shown)
    assert last["counts"][-1]["clips"] == len(shown)


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True,
    raises=AssertionError,
    reason="wanted, and not so: nano has 5 of these 12 clips right with retrieval, 6 without (docs/benchmarks.md)",
)
def test_retrieval_helps_in_the_demo(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "d"), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out.splitlines()[-1])["counts"][-1]
    assert counts["exact"] > counts["exact_without_retrieval"]


# ------------------------------------------------------------------------------------------- the wheel

NO_NETWORK = """
import socket
def refuse(*_): raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""
DEMO = """
import sys, egoinstructor
from egoinstructor.cli import main
print(egoinstructor.__file__, file=sys.stderr)
sys.exit(main(["demo", "--json"]))
"""


@pytest.mark.slow
def test_the_demo_out_of_the_wheel(tmp_path):
    """Built from the sources, unpacked where nothing else of the repository is, without a network."""
    sources, site, elsewhere = tmp_path / "sources", tmp_path / "site", tmp_path / "elsewhere"
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        sources.mkdir(exist_ok=True)
        shutil.copyfile(REPOSITORY / name, sources / name)
    shutil.copytree(REPOSITORY / "src", sources / "src", ignore=shutil.ignore_patterns("__pycache__"))
    packaged = sources / "src/egoinstructor/assets"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(build, cwd=sources, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    installed = site / "egoinstructor/assets"
    original = {path.relative_to(packaged): path.read_bytes() for path in packaged.rglob("*") if path.is_file()}
    assert {path.relative_to(installed) for path in installed.rglob("*") if path.is_file()} == original.keys()

    (site / "sitecustomize.py").write_text(NO_NETWORK)
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", DEMO]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stderr
    assert json.loads(done.stdout.splitlines()[0])["references"]
    assert (elsewhere / "egoinstructor-demo/index.html").is_file()
    assert {path: (installed / path).read_bytes() for path in original} == original


def test_the_demo_without_its_files_says_so(monkeypatch, tmp_path, capsys):
    """A checkout whose large files were not fetched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assets, "FOLDER", tmp_path / "none")
    assert main(["demo"]) == USAGE_ERROR
    assert "clips.json" in capsys.readouterr().err

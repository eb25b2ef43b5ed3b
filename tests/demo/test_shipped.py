"""What comes with the package: found by name, whole, and enough for the demo where it is installed from its wheel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
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
GOLDEN = REPOSITORY / "tests/golden/nano_subset.json"
FLIPS = 1
"""Captions that another processor's rounding may change."""


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
WHERE = """
import egoinstructor, json, socket, sys
from importlib.metadata import distribution
found = distribution("egoinstructor")
network = socket.getaddrinfo.__module__
files = sorted(str(path) for path in found.files)
print(json.dumps([egoinstructor.__file__, found.version, network, files]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from the sources as they are here."""
    sources = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copyfile(REPOSITORY / name, sources / name)
    for name in ("src", "tests"):
        shutil.copytree(REPOSITORY / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    done(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist", cwd=sources)
    [built] = (sources / "dist").glob("*.whl")
    return built


def done(*command, cwd, **environment):
    """What a command prints; it must not fail."""
    ran = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_the_wheel_holds_the_two_packages_and_nothing_else(wheel):
    sources = REPOSITORY / "src"
    packages = (sources / "egoinstructor", sources / "simkitchen")
    paths = (path for package in packages for path in package.rglob("*") if path.is_file())
    files = {path.relative_to(sources).as_posix(): path for path in paths}
    shipped = {name: path for name, path in files.items() if "__pycache__" not in path.parts}
    assert {"egoinstructor/assets/nano/model.safetensors", "egoinstructor/assets/demo/clips.json"} < shipped.keys()
    assert {"egoinstructor/demo/page.html", "egoinstructor/py.typed", "simkitchen/play.py"} < shipped.keys()
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    metadata = {name for name in held if name.partition("/")[0].endswith(".dist-info")}
    assert {name.partition("/")[2] for name in metadata} == {
        "METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"
    }  # fmt: skip
    assert held.keys() - metadata == shipped.keys()
    assert [name for name, path in shipped.items() if held[name] != path.read_bytes()] == []


@pytest.mark.slow
def test_the_demo_out_of_the_wheel(wheel, tmp_path):
    """In an environment of its own, by the command that was installed there, in another folder, without a network."""
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        pytest.skip("the wheel can't be installed: this environment has no pip")
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    done(sys.executable, "-m", "venv", "--without-pip", environment, cwd=elsewhere)
    python = environment / "bin" / "python"
    done(*pip, "--python", python, "install", "--no-deps", "--no-index", "--no-compile", wheel, cwd=elsewhere)
    [site] = environment.glob("lib/python*/site-packages")
    # What the package needs is this environment's. A folder that a .pth file names has its own .pth files passed over, and
    # with them this checkout.
    dependencies = [path for path in map(sysconfig.get_path, ("purelib", "platlib")) if path is not None]
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in dict.fromkeys(dependencies)))
    (site / "no_network.py").write_text(NO_NETWORK)
    (site / "no_network.pth").write_text("import no_network\n")
    clean = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}

    place, version, network, files = json.loads(done(python, "-c", WHERE, cwd=elsewhere, **clean))
    assert Path(place).parent == site / "egoinstructor"
    assert f"-{version}-" in wheel.name
    assert network == "no_network"
    assert "../../../bin/egoinstructor" in files

    printed = done(environment / "bin" / "egoinstructor", "demo", "--out", "demo", "--json", cwd=elsewhere, **clean)
    *shown, last = map(json.loads, printed.splitlines())
    assert (elsewhere / "demo/index.html").stat().st_size > 0
    assert (elsewhere / last["contact_sheet"]).read_bytes().startswith(b"\x89PNG")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))["clips"]
    assert [Path(one["video"]).parts[-2:] for one in shown] == [Path(one["video"]).parts for one in golden]
    assert all(Path(one["video"]).is_relative_to(site) for one in shown)
    said = [text for one in shown for text in (one["caption"], one["without_retrieval"])]
    recorded = [text for one in golden for text in (one["with references"], one["without"])]
    assert sum(map(str.__ne__, said, recorded)) <= FLIPS


def test_the_demo_without_its_files_says_so(monkeypatch, tmp_path, capsys):
    """A checkout whose large files were not fetched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(assets, "FOLDER", tmp_path / "none")
    assert main(["demo"]) == USAGE_ERROR
    assert "clips.json" in capsys.readouterr().err

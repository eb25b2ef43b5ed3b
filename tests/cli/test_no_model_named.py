"""`egoinstructor caption` with no model named: the published weights where they are, and never nano by itself."""

from __future__ import annotations

import json
import shutil
import socket

import pytest
from huggingface_hub import constants

from egoinstructor.checkpoints import sources
from egoinstructor.checkpoints.sources import published_in_cache
from egoinstructor.cli import USAGE_ERROR, main


@pytest.fixture(autouse=True)
def nothing_here(tmp_path, monkeypatch):
    """A working folder and a Hub's cache that are empty, and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def cache(tmp_path, golden_a):
    """The published files as the Hub's client keeps them."""

    def put(repository, files):
        home = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        snapshot = home / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (home / "refs").mkdir()
        (home / "refs/main").write_text("abc")
        for name, file in files.items():
            shutil.copyfile(file, snapshot / name)
        return snapshot

    repository, _, name = sources.PUBLISHED_CAPTIONER.partition(":")
    base = put(sources.PUBLISHED_BASE, {file.name: file for file in golden_a.base.iterdir()})
    tokenizer = put(sources.PUBLISHED_TOKENIZER, {file.name: file for file in golden_a.tokenizer.iterdir()})
    return base, put(repository, {name: golden_a.captioner}) / name, tokenizer


def caption(video, *more):
    return main(["caption", str(video), "--json", "--max-new-tokens", "4", *map(str, more)])


def test_neither_here_nor_to_be_had(short_videos, capsys):
    assert caption(short_videos["ego"]) == USAGE_ERROR
    said = " ".join(capsys.readouterr().err.split())
    for part in (
        "no model was named",
        "--download",
        "egoinstructor convert --base",
        "--model nano",
        "simulated kitchens",
    ):
        assert part in said


def test_a_converted_folder(short_videos, model_folder, tmp_path, capsys):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/4shot").symlink_to(model_folder)
    assert caption(short_videos["ego"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert caption(short_videos["ego"], "--model", model_folder) == 0
    assert json.loads(capsys.readouterr().out) == found


@pytest.fixture
def no_network(monkeypatch):
    """A network that is there, and may not be asked."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    asked = []

    def refuse(*given, **_):
        asked.append(given)
        raise OSError("no network")

    for place, name in ((socket, "getaddrinfo"), (socket.socket, "connect"), (socket.socket, "connect_ex")):
        monkeypatch.setattr(place, name, refuse)
    yield
    assert not asked


@pytest.mark.usefixtures("no_network")
def test_the_pair_in_the_hubs_cache(short_videos, cache, golden_a, capsys):
    assert published_in_cache() == cache
    assert published_in_cache(golden_a.tokenizer) == (*cache[:2], golden_a.tokenizer)
    assert caption(short_videos["ego"]) == 0
    assert json.loads(capsys.readouterr().out)["caption"]


@pytest.mark.usefixtures("no_network")
def test_without_download_no_tokenizer_is_fetched(short_videos, cache, capsys):
    (cache[2] / "tokenizer.json").unlink()
    for more, named in (((), "with their tokenizer"), (("--tokenizer", "owner/words"), "with owner/words")):
        assert caption(short_videos["ego"], *more) == USAGE_ERROR
        said = " ".join(capsys.readouterr().err.split())
        assert named in said
        assert "--download" in said


def test_half_a_download_is_none(cache):
    base, captioner, tokenizer = cache
    for file in (captioner, tokenizer / "tokenizer.json", sorted(base.glob("*.bin"))[0]):
        away = file.with_suffix(".away")
        file.rename(away)
        assert published_in_cache() is None
        away.rename(file)
        assert published_in_cache() is not None


def test_download_asks_the_hub(short_videos, capsys):
    assert caption(short_videos["ego"], "--download") == USAGE_ERROR
    said = " ".join(capsys.readouterr().err.split())
    assert sources.PUBLISHED_BASE in said
    assert "could not be downloaded" in said


def test_a_tokenizer_for_a_folder_that_has_its_own(short_videos, model_folder, tmp_path, capsys):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/4shot").symlink_to(model_folder)
    for named, model in (((), "weights/4shot"), (("--model", model_folder), str(model_folder))):
        assert caption(short_videos["ego"], *named, "--tokenizer", "words") == USAGE_ERROR
        assert f"--tokenizer words goes with --base, and {model} has" in " ".join(capsys.readouterr().err.split())


def test_a_captioner_without_its_base(short_videos, capsys):
    assert caption(short_videos["ego"], "--captioner", "4shot.pt") == USAGE_ERROR
    assert "--captioner 4shot.pt is laid over the OTTER base" in " ".join(capsys.readouterr().err.split())


def test_download_with_a_model(short_videos, model_folder, capsys):
    assert caption(short_videos["ego"], "--download", "--model", model_folder) == USAGE_ERROR
    assert "leave one out" in " ".join(capsys.readouterr().err.split())

"""One door: the folder says what it holds."""

from __future__ import annotations

import json
import shutil
import socket

import pytest
import torch

from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.retriever.cross_view import CrossViewConfig, CrossViewModel
from egoinstructor.retriever.cross_view_retriever import CrossViewRetriever
from egoinstructor.retriever.dual_encoder import DualEncoderRetriever
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.retriever.interface import Retriever
from egoinstructor.retriever.opening import open_retriever


@pytest.fixture(scope="module")
def cross_view(tokenizer, checkpoints, tmp_path_factory):
    config = CrossViewConfig(
        ego_frame_width=24, exo_frame_width=24, hidden_size=24, num_layers=1, num_heads=2, projection_dim=10,
        text_vocab_size=len(tokenizer), text_context=12, text_hidden_size=20, text_num_layers=1, text_num_heads=4,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    clip = TowerFrameEncoder.from_pretrained(checkpoints["clip"], num_frames=4, sampling="linspace", device="cpu")
    folder = tmp_path_factory.mktemp("saved") / "cross_view"
    CrossViewRetriever(CrossViewModel(config), tokenizer, ego=clip, exo=clip).save_pretrained(folder, backbones=True)
    return folder


@pytest.mark.parametrize(("kind", "frames"), [("clip", 8), ("siglip", 8), ("xclip", 4)])
def test_a_dual_encoder(kind, frames, checkpoints):
    retriever = open_retriever(str(checkpoints[kind]))
    assert isinstance(retriever, DualEncoderRetriever)
    assert isinstance(retriever, Retriever)
    assert (retriever.identity.num_frames, retriever.identity.sampling) == (frames, "segment_center")
    assert retriever.identity.name == f"{kind} tiny-{kind}"


def test_a_cross_view_retriever(cross_view):
    retriever = open_retriever(cross_view)
    assert isinstance(retriever, CrossViewRetriever)
    assert (retriever.identity.num_frames, retriever.identity.sampling) == (4, "linspace")


def test_options_reach_the_retriever(checkpoints, cross_view):
    for folder in (checkpoints["clip"], cross_view):
        retriever = open_retriever(folder, device="cpu", dtype=torch.bfloat16, num_frames=5, sampling="linspace")
        assert (retriever.identity.num_frames, retriever.identity.sampling) == (5, "linspace")
        assert {weight.dtype for weight in retriever.model.parameters()} == {torch.bfloat16}
        assert retriever.encode_text(["soup"]).dtype == torch.float32


def opened_again(retriever, folder):
    """By what a library remembers of it."""
    again = open_retriever(folder, device="cpu", **json.loads(json.dumps(retriever.options)))
    assert again.identity == retriever.identity
    assert again.options == retriever.options
    return again


@pytest.mark.parametrize("wide", ["model", "ego", "exo"])
def test_parts_of_different_number_formats_open_again(cross_view, checkpoints, tmp_path, wide):
    opened = open_retriever(cross_view, device="cpu", dtype=torch.bfloat16)
    assert opened.options["dtype"] == "bfloat16"
    opened_again(opened, cross_view)
    dtypes = dict.fromkeys(("model", "ego", "exo"), torch.bfloat16) | {wide: torch.float32}
    opened = open_retriever(cross_view, device="cpu", dtype=dtypes)
    assert opened.options["dtype"] == {part: str(dtype).removeprefix("torch.") for part, dtype in dtypes.items()}
    again = opened_again(opened, cross_view)
    assert {weight.dtype for weight in again.model.parameters()} == {dtypes["model"]}
    for view in ("ego", "exo"):
        assert {weight.dtype for weight in again.backbones[view].tower.parameters()} == {dtypes[view]}
    assert (again.backbones["ego"] is again.backbones["exo"]) == (wide == "model")


def test_a_head_over_a_backbone_in_half_precision_opens_again(cross_view, checkpoints, tmp_path):
    """As training leaves it, which knows the backbone by its folder, or as its files are."""
    half = tmp_path / "half"
    TowerFrameEncoder.from_pretrained(
        checkpoints["clip"], num_frames=4, dtype=torch.bfloat16, device="cpu"
    ).save_pretrained(half)
    folder = shutil.copytree(cross_view, tmp_path / "copy")
    settings = json.loads((folder / "retriever.json").read_text())
    (folder / "retriever.json").write_text(json.dumps(settings | {"backbones": {"ego": str(half), "exo": str(half)}}))
    opened = open_retriever(folder, device="cpu")
    assert opened.options["dtype"] == {"model": "float32", "ego": "bfloat16", "exo": "bfloat16"}
    opened_again(opened, folder)


def test_backbones_that_were_given_are_remembered(cross_view, checkpoints, monkeypatch):
    own = open_retriever(cross_view, device="cpu")
    assert not {"ego_backbone", "exo_backbone"} & own.options.keys()  # so that the folder may move
    monkeypatch.chdir(checkpoints["siglip"].parent)
    opened = open_retriever(cross_view, device="cpu", exo_backbone=checkpoints["siglip"].name)
    assert opened.identity.revision != own.identity.revision
    assert {key: value for key, value in opened.options.items() if "backbone" in key} == {
        "exo_backbone": str(checkpoints["siglip"].resolve())
    }
    monkeypatch.chdir("/")
    opened_again(opened, cross_view)
    assert isinstance(open_retriever(cross_view, ego_backbone=checkpoints["siglip"], device="cpu"), CrossViewRetriever)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ego_backbone": "x"}, "holds a 'clip', which has no backbones"),
        ({"dtype": {"model": "float32"}}, "a 'clip' has one number format"),
        ({"dtype": "fp3"}, "dtype='fp3': give the name of a number format"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"dtype": "load"}, "dtype='load'"),
    ],
)
def test_options_of_another_kind_are_refused(checkpoints, options, message):
    with pytest.raises(InputError, match=message):
        open_retriever(checkpoints["clip"], **options)


def test_a_number_format_of_no_part_is_refused(cross_view):
    with pytest.raises(InputError, match="dtype of 'text': the parts are model, ego, exo"):
        open_retriever(cross_view, dtype={"text": "float32"})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "bert"},
            "holds a 'bert'; a retriever must be one of clip, siglip, xclip, egoinstructor_cross_view",
        ),
        ({"model_type": "siglip2"}, r"NaFlex\) is not supported: take one of a fixed resolution"),
        ({"hidden_size": 3}, "has no model_type"),
        ([], "must be a JSON object"),
    ],
)
def test_another_kind_of_model(config, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        open_retriever(tmp_path)


def test_a_file_instead_of_a_folder(checkpoints):
    with pytest.raises(CheckpointError, match="is a file; give its folder"):
        open_retriever(checkpoints["clip"] / "config.json")


def test_a_name_that_is_nowhere(monkeypatch):
    def offline(where, **_):
        raise OSError("no network")

    monkeypatch.setattr("egoinstructor.checkpoints.sources.snapshot_download", offline)
    with pytest.raises(CheckpointError, match="nobody/nothing is not on this disk and could not be downloaded"):
        open_retriever("nobody/nothing")


def test_the_hub_is_asked_for_pickles_only_where_there_are_no_safetensors(checkpoints, monkeypatch, tmp_path):
    asked = []

    def snapshot(where, allow_patterns):
        asked.append("*.bin" in allow_patterns)
        return str(checkpoints["clip"] if where == "owner/new" or "*.bin" in allow_patterns else tmp_path)

    monkeypatch.setattr("egoinstructor.checkpoints.sources.snapshot_download", snapshot)
    assert open_retriever("owner/new").identity.name == "clip owner/new"
    assert not any(asked)
    asked.clear()
    (tmp_path / "config.json").write_text((checkpoints["clip"] / "config.json").read_text())
    open_retriever("owner/old")
    assert asked[:2] == [False, True]


def test_folders_on_disk_need_no_network(checkpoints, cross_view, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for folder, dimension in ((checkpoints["siglip"], 24), (checkpoints["xclip"], 28), (cross_view, 10)):
        assert open_retriever(folder, device="cpu").encode_text(["soup"]).shape == (1, dimension)


def test_a_configuration_that_can_not_be(cross_view, tmp_path):
    folder = shutil.copytree(cross_view, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_heads": 5}))
    with pytest.raises(CheckpointError, match="can't be opened as a CrossViewModel"):
        open_retriever(folder)

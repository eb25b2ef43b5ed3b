"""Videos → features, a row a second: the right frames, whole files, nothing done twice."""

from __future__ import annotations

import argparse
import shutil

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from egoinstructor.cli import prepare_features
from egoinstructor.data import features as retriever_features
from egoinstructor.data.features import encode_folder
from egoinstructor.errors import InputError
from egoinstructor.retriever.features import FeatureFolder
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.retriever.preprocessing import Preprocessing
from egoinstructor.video.decode import read_frames


def tower(seed):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=28, patch_size=14))


def encoder_of(seed):
    preprocessing = Preprocessing((28, 28), None, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return TowerFrameEncoder(tower(seed), preprocessing, num_frames=2)


@pytest.fixture(scope="module")
def encoder():
    return encoder_of(0)


@pytest.fixture
def source(videos, tmp_path):
    folder = tmp_path / "videos"
    videos.write(folder / "a.mp4", 100, fps=20)  # 5 s
    videos.write(folder / "P01" / "b.mkv", 27, fps=10)  # 2.7 s
    videos.write(folder / "short.mp4", 3, fps=10)
    return folder


def rows(encoder, video, numbers):
    frames = read_frames(video, numbers)
    with torch.no_grad():
        return encoder.tower(encoder.preprocessing(frames)).pooler_output


@pytest.mark.parametrize("seconds", [2, 60])
def test_a_row_is_the_middle_of_its_second(source, encoder, tmp_path, monkeypatch, seconds):
    monkeypatch.setattr(retriever_features, "SECONDS_PER_READ", seconds)
    report = encode_folder(source, tmp_path / "out", encoder)
    assert report.ok
    assert report.made == {"encoded": 3}
    folder = FeatureFolder(tmp_path / "out")
    table = folder.table("a")
    assert table.shape == (5, 16)
    assert table.dtype == torch.float16
    for second, row in enumerate(table):
        near = rows(encoder, source / "a.mp4", [20 * second + i for i in (8, 9, 10, 11)])
        distances = (near - row.float()).norm(dim=-1)
        assert distances.min() < 0.01
        assert (rows(encoder, source / "a.mp4", [20 * second]) - row.float()).norm() > 0.05
    assert folder.table("P01/b").shape == (3, 16)
    assert folder.table("short").shape == (1, 16)


def test_a_folder_of_pieces_is_one_video(videos, encoder, tmp_path):
    folder = tmp_path / "videos" / "15s"  # whose pieces last 15 s
    for number, frames in enumerate((75, 20)):
        videos.write(folder / "vid" / f"{number:04d}.mp4", frames, fps=5)
    encode_folder(folder, tmp_path / "out", encoder)
    assert [path.name for path in (tmp_path / "out").rglob("*.safetensors")] == ["vid.safetensors"]
    assert FeatureFolder(tmp_path / "out").table("vid").shape == (19, 16)


def test_nothing_is_done_twice_and_what_changed_is(source, encoder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    encode_folder(source, out, encoder)
    with monkeypatch.context() as patch:
        patch.setattr(retriever_features, "encode_video", lambda *_: pytest.fail("encoded again"))
        assert encode_folder(source, out, encoder).skipped == 3
    shutil.copy(source / "short.mp4", source / "a.mp4")
    (out / "short.safetensors").write_bytes((out / "short.safetensors").read_bytes()[:50])
    report = encode_folder(source, out, encoder)
    assert (report.made, report.skipped) == ({"encoded": 2}, 1)
    assert FeatureFolder(out).table("a").shape == (1, 16)
    assert encode_folder(source, out, encoder_of(1)).made == {"encoded": 3}


def test_what_can_not_be_read_is_reported_and_the_rest_is_done(source, encoder, tmp_path):
    (source / "bad.mp4").write_bytes(b"no video")
    shutil.copy(source / "a.mp4", source / "a.mov")
    report = encode_folder(source, tmp_path / "out", encoder)
    assert not report.ok
    assert report.made == {"encoded": 3}
    assert set(report.failures) == {"bad.mp4", "a.mp4"}
    assert "are those of a.mov" in report.failures["a.mp4"]
    assert not list((tmp_path / "out").rglob("*.partial"))


def test_a_full_disk_ends_it_and_keeps_what_is_finished(source, encoder, tmp_path, monkeypatch):
    write = retriever_features.save_file

    def full(tensors, path, metadata):
        if path.name.startswith(".a."):
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(tensors, path, metadata)

    monkeypatch.setattr(retriever_features, "save_file", full)
    with pytest.raises(InputError, match="No space left.* 1 of 3 videos are finished"):
        encode_folder(source, tmp_path / "out", encoder)
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["b.safetensors"]


def test_features_out_of_range_are_a_failure(source, encoder, tmp_path):
    wild = encoder_of(0)
    with torch.no_grad():
        wild.tower.post_layernorm.weight.fill_(1e6)
    assert set(encode_folder(source, tmp_path / "out", wild).failures) == {"P01/b.mkv", "a.mp4", "short.mp4"}


def test_an_empty_folder(tmp_path, encoder):
    with pytest.raises(InputError, match="holds no videos"):
        encode_folder(tmp_path, tmp_path / "out", encoder)


def test_the_command(source, encoder, tmp_path):
    encoder.save_pretrained(tmp_path / "backbone")
    parser = argparse.ArgumentParser()
    prepare_features.add(parser.add_subparsers())
    given = [
        "features",
        str(source),
        str(tmp_path / "out"),
        "--backbone",
        str(tmp_path / "backbone"),
        "--device",
        "cpu",
    ]
    report = prepare_features.encode(parser.parse_args(given))
    assert report.as_dict()["made"] == {"encoded": 3}

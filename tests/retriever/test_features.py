"""Which rows make a clip, and that only tables of numbers are read."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from egoinstructor.errors import InputError
from egoinstructor.retriever.features import FeatureFolder, frame_rows

# ---------------------------------------------------------------------- which rows


@pytest.mark.parametrize(
    ("start", "end", "rows", "num_frames", "view", "expected"),
    [
        (10, 18, 100, 4, "ego", [11, 13, 14, 16]),  # parts 10-12, 12-14, 14-15, 15-17
        (10, 18, 100, 4, "exo", [11, 13, 14, 16]),
        (10.2, 10.4, 100, 4, "ego", [10, 10, 10, 10]),  # stretched to a second
        (10, 5, 100, 2, "ego", [10, 10]),
        (20, 20.5, 100, 4, "exo", [16, 18, 21, 24]),  # widened: parts 15-17, 17-20, 20-23, 23-25
        (20, 21, 100, 4, "exo", [16, 18, 21, 24]),
        (20, 21.5, 100, 1, "exo", [20]),  # long enough
        (2, 3, 100, 4, "exo", [1, 3, 4, 6]),  # 0 to 8
        (97, 98, 100, 4, "exo", [93, 95, 96, 98]),  # 92 to 100
        (95, 120, 100, 4, "ego", [95, 96, 97, 98]),  # cut at the last row
        (100.4, 102, 100, 2, "ego", [99, 99]),  # within the second behind the last
        (0, 3, 1, 3, "ego", [0, 0, 0]),
    ],
)
def test_rows_of_a_clip(start, end, rows, num_frames, view, expected):
    assert frame_rows(start, end, rows, num_frames, view) == expected


@given(
    st.floats(0, 50),
    st.floats(-5, 60),
    st.integers(1, 60),
    st.integers(1, 9),
    st.sampled_from(["ego", "exo"]),
    st.booleans(),
)
def test_rows_lie_in_the_table_and_never_go_back(start, end, rows, num_frames, view, random_rows):
    rng = random.Random(0) if random_rows else None
    if start >= rows + 1:
        with pytest.raises(InputError, match="cover"):
            frame_rows(start, end, rows, num_frames, view, rng)
        return
    chosen = frame_rows(start, end, rows, num_frames, view, rng)
    assert len(chosen) == num_frames
    assert chosen == sorted(chosen)
    assert 0 <= chosen[0] <= chosen[-1] < rows
    if end - start > 1:  # then nothing is seen that is not in the clip
        assert min(round(start), rows - 1) <= chosen[0]
        assert chosen[-1] <= round(end)


def test_training_draws_rows_around_the_middle_ones():
    drawn = {tuple(frame_rows(10, 30, 100, 4, "ego", random.Random(seed))) for seed in range(20)}
    assert len(drawn) > 10
    assert frame_rows(10, 30, 100, 4, "ego", random.Random(3)) == frame_rows(10, 30, 100, 4, "ego", random.Random(3))


@pytest.mark.parametrize(("start", "num_frames"), [(-1, 4), (11, 4), (0, 0)])
def test_clips_that_are_not_there(start, num_frames):
    with pytest.raises(InputError):
        frame_rows(start, start + 1, 10, num_frames, "ego")


# ---------------------------------------------------------------------- files

TABLE = torch.arange(20.0).view(10, 2)


def write(path, table=TABLE):
    match path.suffix:
        case ".npy":
            np.save(path, table.numpy())
        case ".safetensors":
            save_file({"features": table}, path)
        case _:
            torch.save(table, path)


@pytest.fixture
def folder(tmp_path) -> FeatureFolder:
    for suffix in ("pth.tar", "npy", "safetensors"):
        write(tmp_path / f"{suffix[:3]}.{suffix}")
    return FeatureFolder(tmp_path)


@pytest.mark.parametrize("video", ["pth", "npy", "saf"])
def test_a_table_is_read_from_each_kind_of_file(folder, video):
    assert torch.equal(folder.table(video), TABLE)
    assert torch.equal(folder.clip(video, 2, 6, 2, "ego"), TABLE[[3, 4]])


def test_files_of_old_torch_and_half_precision(folder):
    torch.save(TABLE.half(), folder.root / "old.pth.tar", _use_new_zipfile_serialization=False)
    assert folder.table("old").dtype == torch.float16
    clip = folder.clip("old", 0, 4, 4, "ego")
    assert clip.dtype == torch.float32
    assert torch.equal(clip, TABLE[[0, 1, 2, 2]])


def test_names_in_folders_and_with_dots(folder):
    (folder.root / "P01").mkdir()
    write(folder.root / "P01" / "a.b.npy")
    assert torch.equal(folder.table("P01/a.b"), TABLE)


def test_the_files_are_not_changed_by_what_is_done_with_a_table(folder):
    for video in ("pth", "npy", "saf"):
        folder.table(video).add_(1)
        assert torch.equal(FeatureFolder(folder.root).table(video), TABLE), video


def test_the_tables_last_used_stay_open(tmp_path, monkeypatch):
    monkeypatch.setattr("egoinstructor.retriever.features.OPEN_TABLES", 2)
    for name in "abc":
        write(tmp_path / f"{name}.npy")
    folder = FeatureFolder(tmp_path)
    kept = folder.table("a")
    folder.table("b")
    assert folder.table("a") is kept
    folder.table("c")  # in place of b
    for name in "abc":
        (tmp_path / f"{name}.npy").unlink()
    assert folder.table("a") is kept
    with pytest.raises(InputError, match="b has no features"):
        folder.table("b")


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_a_pickle_that_runs_code_is_refused(folder, tmp_path):
    torch.save(Malicious(str(tmp_path / "ran")), folder.root / "bad.pth.tar")
    np.save(folder.root / "worse.npy", np.array([Malicious(str(tmp_path / "ran"))], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"bad\.pth\.tar .*can run any code"):
        folder.table("bad")
    with pytest.raises(InputError, match=r"worse\.npy can't be read"):
        folder.table("worse")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", ["pth.tar", "npy", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"PK\x03\x04 cut off"])
def test_damaged_files(folder, suffix, content):
    (folder.root / f"damaged.{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=rf"damaged\.{suffix}"):
        folder.table("damaged")


@pytest.mark.parametrize("suffix", ["pth.tar", "npy", "safetensors"])
def test_files_that_are_cut_off(folder, suffix):
    write(path := folder.root / f"cut.{suffix}", torch.zeros(100, 50))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(InputError, match=rf"cut\.{suffix}"):
        folder.table("cut")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (torch.zeros(4), r"torch.float32 of shape \(4,\)"),
        (torch.zeros(0, 3), r"shape \(0, 3\)"),
        (torch.zeros(4, 3, dtype=torch.int64), "torch.int64"),
        ({"a": TABLE}, "holds a dict"),
    ],
)
def test_what_is_no_table(folder, table, message):
    torch.save(table, folder.root / "odd.pth.tar")
    with pytest.raises(InputError, match=message):
        folder.table("odd")


def test_two_tensors_are_no_table(folder):
    save_file({"a": TABLE, "b": TABLE.clone()}, folder.root / "two.safetensors")
    with pytest.raises(InputError, match="holds 2 tensors"):
        folder.table("two")


def test_values_that_are_no_numbers(folder):
    table = TABLE.clone()
    table[3, 1] = float("nan")
    write(folder.root / "nan.npy", table)
    assert folder.clip("nan", 5, 8, 2, "ego").isfinite().all()
    with pytest.raises(InputError, match=r"nan\.npy: rows \[3\]"):
        folder.clip("nan", 3, 4, 1, "ego")


@pytest.mark.parametrize("video", ["../pth", "/etc/passwd", "", "a/../../b", "x\0"])
def test_names_stay_inside_the_folder(folder, video):
    with pytest.raises(InputError, match="must lie inside"):
        folder.table(video)


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(InputError, match="nowhere has no features"):
        folder.table("nowhere")
    with pytest.raises(InputError, match="is not a folder"):
        FeatureFolder(tmp_path / "none")
    with pytest.raises(InputError, match=r"pth\.tar: a clip from 30 s of a video whose features cover 10 s"):
        folder.clip("pth", 30, 31, 4, "ego")

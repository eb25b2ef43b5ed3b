"""The cache of vision features: bit-exact, keyed by all that decides them, safe under processes, kills and full disks."""

from __future__ import annotations

import logging
import os
import pickle
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from egoinstructor.errors import InputError, VideoError
from egoinstructor.model.revision import weights_revision
from egoinstructor.records import Clip
from egoinstructor.training import feature_cache
from egoinstructor.training.feature_cache import FeatureCache

SHAPE = (2, 3, 8)  # (F, P, V)


def open_cache(folder, **changes) -> FeatureCache:
    return FeatureCache(folder, **{"encoder": "e", "preprocessing": "224", "limit_bytes": 10**6, **changes})


def features(seed=0, shape=SHAPE, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def files(folder):
    return sorted(folder.glob("??/*.safetensors"))


def size(folder):
    return sum(path.stat().st_size for path in files(folder))


def bits(tensor):
    return tensor.contiguous().flatten().view(torch.uint8).tolist()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def recount(monkeypatch):
    monkeypatch.setattr(feature_cache, "RECOUNT_SECONDS", 0)


# ------------------------------------------------------------------ what comes back


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_features_come_back_bit_for_bit(folder, dtype):
    noise = torch.randint(0, 256, (2, 3, 8 * dtype.itemsize), dtype=torch.uint8)  # NaNs and subnormals among them
    patches = noise.view(dtype)
    cache = open_cache(folder)
    assert cache.get("kk") is None
    assert cache.put("kk", patches)
    found = cache.get("kk")
    assert found.dtype == dtype
    assert found.shape == SHAPE
    assert bits(found) == bits(patches)
    assert bits(open_cache(folder).get("kk")) == bits(patches)
    report = cache.report()
    assert (report.hits, report.misses, report.written, report.bytes) == (1, 1, 1, size(folder))


def test_a_view_that_carries_gradients_is_kept_by_value(folder):
    cache, patches = open_cache(folder), features(shape=(8, 3, 2)).requires_grad_().transpose(0, 2)
    assert cache.put("kk", patches)
    found = cache.get("kk")
    assert torch.equal(found, patches)
    assert not found.requires_grad
    found.zero_()  # the caller's own
    assert torch.equal(cache.get("kk"), patches)


def test_what_is_there_is_not_written_again(folder):
    cache = open_cache(folder)
    assert cache.put("kk", features(0))
    assert cache.put("kk", features(1))
    assert torch.equal(cache.get("kk"), features(0))
    assert cache.report().written == 1


@pytest.mark.parametrize("shape", [(3, 8), (1, 2, 3, 8), (0, 3, 8)])
def test_another_shape_is_refused(folder, shape):
    with pytest.raises(InputError, match=r"\(frames, patches, width\)"):
        open_cache(folder).put("kk", torch.zeros(shape))


# ------------------------------------------------------------------ keys


def video(path: Path, content=b"video", mtime=10**18) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(content)
    os.utime(path, ns=(mtime, mtime))
    return path


def test_the_key_holds_all_that_decides_the_features(folder, tmp_path):
    def key(source, start=1.0, end=3.0, num_frames=8, sampling="segment_center", **made_by):
        return open_cache(folder, **made_by).key(Clip(source, start, end), num_frames=num_frames, sampling=sampling)

    file = video(tmp_path / "a/clip.mp4")
    pieces = video(tmp_path / "ego/0000.mp4").parent
    keys = [
        key(file),
        key(file, start=1.5),
        key(file, start=None),
        key(file, start=0.0),
        key(file, end=4.0),
        key(file, end=None),
        key(file, num_frames=4),
        key(file, sampling="linspace"),
        key(file, encoder="f"),
        key(file, preprocessing="336"),
        key(video(tmp_path / "a/other.mp4")),
        key(video(tmp_path / "longer/clip.mp4", b"videos")),
        key(video(tmp_path / "later/clip.mp4", mtime=10**18 + 1)),
        key(pieces),
        key(b"video"),
        key(b"videos"),
    ]
    video(pieces / "0001.mp4")
    keys.append(key(pieces))
    video(pieces / "0001.mp4", mtime=10**18 + 1)
    keys.append(key(pieces))
    assert len(set(keys)) == len(keys)
    assert key(file, start=1, end=3) == keys[0]
    assert key(str(file)) == keys[0]
    assert key(video(tmp_path / "copy/clip.mp4")) == keys[0]  # the same file, elsewhere
    assert key(shutil.copytree(pieces, tmp_path / "moved/ego")) == keys[-1]


texts = st.text(st.sampled_from("a',0 "), max_size=3)
times = st.none() | st.sampled_from([0.0, 0.5, 0.5000001])


@settings(max_examples=200, deadline=None)
@given(
    a=st.tuples(texts, texts, texts, st.integers(1, 3), times),
    b=st.tuples(texts, texts, texts, st.integers(1, 3), times),
)
def test_two_keys_are_equal_when_everything_is(tmp_path_factory, a, b):
    folder = tmp_path_factory.getbasetemp() / "keys"

    def key(encoder, preprocessing, sampling, num_frames, start):
        cache = open_cache(folder, encoder=encoder, preprocessing=preprocessing)
        return cache.key(Clip(b"", start), num_frames=num_frames, sampling=sampling)

    assert (key(*a) == key(*b)) == (a == b)


def test_a_missing_video_is_told_as_decoding_would(folder, tmp_path):
    with pytest.raises(VideoError, match="No such file"):
        open_cache(folder).key(Clip(tmp_path / "none.mp4"), num_frames=8, sampling="linspace")


def test_a_name_that_is_no_text_has_a_key(folder, tmp_path):
    clip = Clip(video(tmp_path / os.fsdecode(b"\xff.mp4")))
    assert open_cache(folder).key(clip, num_frames=8, sampling="linspace")


def test_the_revision_follows_the_weights():
    def encoder(dtype=torch.float32):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)).to(dtype)

    first, changed = encoder(), encoder()
    with torch.no_grad():
        changed[0].weight.view(torch.int32)[1, 2] ^= 1  # one bit
    renamed = nn.ModuleDict({"a": encoder()[0], "b": encoder()[1]})
    revisions = [
        weights_revision(m) for m in (first, changed, renamed, encoder(torch.bfloat16), encoder(torch.float16))
    ]
    assert len(set(revisions)) == len(revisions)
    assert weights_revision(encoder().requires_grad_(False).eval()) == revisions[0]
    with pytest.raises(InputError, match="before it is sharded"):
        weights_revision(encoder().to("meta"))


# ------------------------------------------------------------------ the limit


def test_a_full_cache_keeps_what_it_has_and_says_so_once(folder, caplog):
    cache = open_cache(folder)
    cache.put("k0", features())
    one = size(folder)
    cache = open_cache(folder, limit_bytes=3 * one)
    with caplog.at_level(logging.WARNING):
        assert [cache.put(f"k{n}", features(n)) for n in range(6)] == [True, True, True, False, False, False]
    assert size(folder) == cache.report().bytes == 3 * one
    assert cache.report().refused_full == 3
    assert [f"its limit of {3 * one} bytes is reached" in message for message in caplog.messages] == [True]
    assert all(torch.equal(cache.get(f"k{n}"), features(n)) for n in range(3))
    lower = open_cache(folder, limit_bytes=one)
    assert not lower.put("k4", features())
    assert lower.get("k2") is not None
    assert not list((folder / ".partial").iterdir())


def test_deleted_files_make_room_when_it_is_opened_again(folder, recount):
    cache = open_cache(folder)
    for n in range(3):
        cache.put(f"{n}{n}", features(n))
    limit = size(folder)
    shutil.rmtree(folder / "11")
    assert open_cache(folder, limit_bytes=limit).put("33", features())
    assert open_cache(folder).report().bytes == size(folder) == limit


def test_ranks_that_open_together_count_once(folder, monkeypatch):
    open_cache(folder).put("kk", features())
    used = size(folder)
    monkeypatch.setattr(Path, "glob", lambda *_: pytest.fail("counted again"))
    assert open_cache(folder).report().bytes == used


def test_a_negative_limit_is_refused(folder):
    with pytest.raises(InputError, match="limit_bytes=-1"):
        open_cache(folder, limit_bytes=-1)


# ------------------------------------------------------------------ damage


def relabel(content, **changes):
    tensors = {**safetensors.torch.load(content), **changes}
    return safetensors.torch.save({name: tensor for name, tensor in tensors.items() if tensor is not None})


@pytest.mark.parametrize(
    "damage",
    {
        "empty": lambda c: b"",
        "cut in the header": lambda c: c[:20],
        "cut in the data": lambda c: c[:-1],
        "zeros": lambda c: bytes(len(c)),
        "a hole at the end": lambda c: c[:-64] + bytes(64),
        "longer": lambda c: c + b"\0",
        "shape, same size": lambda c: c.replace(b"[2,3,8]", b"[3,2,8]"),
        "shape, wrong size": lambda c: c.replace(b"[2,3,8]", b"[2,3,9]"),
        "shape, two axes": lambda c: relabel(c, patches=features().flatten(0, 1)),
        "number format": lambda c: c.replace(b"F32", b"I32"),
        "no features": lambda c: relabel(c, patches=None),
        "no checksum": lambda c: relabel(c, checksum=None),
        "two checksums": lambda c: relabel(c, checksum=torch.zeros(2)),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_damaged_file_is_removed_and_made_again(folder, damage, caplog, recount):
    cache = open_cache(folder)
    cache.put("kk", features())
    (path,) = files(folder)
    content = damage[1](path.read_bytes())
    assert content != path.read_bytes()
    path.write_bytes(content)
    cache = open_cache(folder)
    assert cache.get("kk") is None
    assert "is damaged" in caplog.text
    assert not path.exists()
    report = cache.report()
    assert (report.damaged, report.misses, report.hits, report.bytes) == (1, 1, 0, 0)
    assert cache.put("kk", features())
    assert torch.equal(cache.get("kk"), features())


def test_no_flipped_bit_passes(folder):
    cache = open_cache(folder)
    cache.put("kk", features())
    (path,) = files(folder)
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        found = cache.get("kk")
        assert found is None or bits(found) == bits(features())  # a padding byte may change


def test_a_file_of_another_clip_is_damage(folder):
    cache = open_cache(folder)
    cache.put("k0", features())
    files(folder)[0].rename(folder / "k0/k1.safetensors")
    (folder / "k1").mkdir()
    (folder / "k0/k1.safetensors").rename(folder / "k1/k1.safetensors")
    assert cache.get("k1") is None
    assert cache.report().damaged == 1


def test_a_file_that_cannot_be_read_is_left_alone(folder):
    cache = open_cache(folder)
    (folder / "kk/kk.safetensors").mkdir(parents=True)
    assert cache.get("kk") is None
    assert (cache.report().misses, cache.report().damaged) == (1, 0)


# ------------------------------------------------------------------ disks


@contextmanager
def no_file_above(limit_bytes: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def check_goes_on_without(cache, folder, caplog, big):
    assert not cache.put("big", big)
    assert not cache.put("big", big)
    assert len(caplog.messages) == 1
    assert not files(folder)
    assert not list((folder / ".partial").iterdir())
    assert cache.put("small", features())
    assert cache.report().refused_full == 2
    assert cache.report().bytes == size(folder)


def test_a_write_that_breaks_off_leaves_nothing(folder, caplog):
    cache = open_cache(folder)
    with no_file_above(65536):
        check_goes_on_without(cache, folder, caplog, torch.zeros(2, 100, 100))
    assert "File too large" in caplog.text


def test_a_full_disk_leaves_nothing(tmp_path, caplog):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk]
    if not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk can't be mounted here: it needs root")
    try:
        check_goes_on_without(open_cache(disk / "cache"), disk / "cache", caplog, torch.zeros(2, 200, 200))
    finally:
        subprocess.run(["umount", disk], check=True)
    assert "No space left" in caplog.text


def test_a_folder_that_vanishes_stops_no_training(folder):
    cache = open_cache(folder)
    shutil.rmtree(folder)
    assert cache.get("kk") is None
    assert not cache.put("kk", features())
    assert cache.report().refused_full == 1


@pytest.fixture
def others_folder():
    """A folder that this process may read and not write, even where the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="feature_cache"))
    open_cache(folder / "made")
    folder.chmod(0o555)
    (folder / "made").chmod(0o555)
    (folder / "made/.ledger").chmod(0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    folder.chmod(0o755)
    (folder / "made").chmod(0o755)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["new", "made"])
def test_a_folder_that_cannot_be_written_is_refused(others_folder, name):
    with pytest.raises(InputError, match=r"Permission denied.*Name a writable folder"):
        open_cache(others_folder / name)


def test_a_file_in_place_of_the_folder_is_refused(folder):
    folder.write_text("")
    with pytest.raises(InputError, match=r"Name a writable folder"):
        open_cache(folder)


# ------------------------------------------------------------------ processes


def test_only_old_partial_files_are_removed(folder):
    open_cache(folder)
    for name, age in (("old", 700), ("young", 60)):
        path = folder / ".partial" / name
        path.write_bytes(b"half")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    open_cache(folder)
    assert [path.name for path in (folder / ".partial").iterdir()] == ["young"]


def test_an_unpickled_copy_works(folder):
    cache = open_cache(folder)
    copy = pickle.loads(pickle.dumps(cache))
    assert copy.put("kk", features())
    assert torch.equal(cache.get("kk"), features())
    clip = Clip(b"video")
    assert copy.key(clip, num_frames=8, sampling="linspace") == cache.key(clip, num_frames=8, sampling="linspace")


# What both scripts share: features that tell which key they belong to; argv: the pickled cache, a seed.
COMMON = """
import os, pickle, random, signal, sys, time
import torch
from egoinstructor.training import feature_cache
from egoinstructor.training.feature_cache import FeatureCache

cache = pickle.load(open(sys.argv[1], "rb"))
rng = random.Random(int(sys.argv[2]))
folder = cache._folder

def features(number, width):
    return torch.full((2, 16, width), number, dtype=torch.bfloat16)

def check(number, found):
    assert (found == number).all() and found.shape[:2] == (2, 16), number
"""

HAMMER = (
    COMMON
    + """
feature_cache.RECOUNT_SECONDS = 0

def everything_happened(report):
    return report.written and report.damaged and report.refused_full and report.hits

print("ready", flush=True)
sys.stdin.readline()
start = time.monotonic()
while (spent := time.monotonic() - start) < 1.5 or not (everything_happened(cache.report()) or spent > 30):
    number = rng.randrange(60)
    key = f"{number % 7:02d}{number}"
    found = cache.get(key)
    if found is not None:
        check(number, found)
        if rng.random() < 0.05:  # damage it in place
            try:
                with open(cache._path(key), "r+b") as file:
                    file.seek(-1, 2)
                    file.write(b"\\xff")
            except FileNotFoundError:
                pass
    else:
        cache.put(key, features(number, 64 * rng.randint(1, 4)))
    if rng.random() < 0.02:  # another rank starts
        FeatureCache(folder, encoder="e", preprocessing="224", limit_bytes=10**6)
assert everything_happened(cache.report()), cache.report()
"""
)

KILLS = (
    COMMON
    + """
torch.set_num_threads(1)
kills = 0
# Some files must get done and some writers die in the middle, however busy the machine is.
while kills < 12 or len(list(folder.glob("??/*"))) < 12 or not any((folder / ".partial").iterdir()):
    writer = os.fork()
    if not writer:
        number = 100 * kills
        while True:
            number += 1
            cache.put(f"{number % 256:02x}{number}", features(number % 256, 2**14))  # 1 MiB
    time.sleep(rng.uniform(0.001, 0.06))
    os.kill(writer, signal.SIGKILL)
    kills += os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) == -signal.SIGKILL
"""
)


def start(script, folder, cache, seed):
    (folder.parent / "cache.pickle").write_bytes(pickle.dumps(cache))
    return subprocess.Popen(
        [sys.executable, "-c", script, folder.parent / "cache.pickle", str(seed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_processes_that_hammer_one_folder_agree(folder, recount):
    cache = open_cache(folder, limit_bytes=200_000)
    processes = [start(HAMMER, folder, cache, seed) for seed in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors
    assert cache.report().bytes == size(folder) <= 200_000
    assert not list((folder / ".partial").iterdir())
    for path in files(folder):  # some were damaged last
        found = cache.get(path.stem)
        assert found is None or (found == int(path.stem[2:])).all()
    assert open_cache(folder).report().bytes == size(folder)


@pytest.mark.slow
def test_killed_writers_leave_whole_files_only(folder, recount):
    cache = open_cache(folder, limit_bytes=10**10)
    process = start(KILLS, folder, cache, 0)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    assert len(files(folder)) >= 12
    for path in files(folder):
        assert (cache.get(path.stem) == int(path.stem[2:]) % 256).all()
    assert cache.report().damaged == 0
    assert cache.report().bytes >= size(folder)
    leftovers = list((folder / ".partial").iterdir())
    assert leftovers
    for path in leftovers:
        os.utime(path, (0, 0))
    assert open_cache(folder).report().bytes == size(folder)
    assert not list((folder / ".partial").iterdir())

"""The commands, in process: what they print, what they return; and two in a process of their own."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from egoinstructor.cli import INTERRUPTED, USAGE_ERROR, main
from egoinstructor.model import quantization

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse's own refusals
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def testdata(short_videos, tmp_path):
    exo = [{"path": str(short_videos[n]), "caption": c} for n, c in (("exo1", "you stir"), ("exo2", "now add"))]
    path = tmp_path / "testdata.json"
    path.write_text(json.dumps([{"ego_video": str(short_videos["ego"]), "exo_video": exo}] * 3))
    return path


def test_caption_one_clip(run, short_videos, model_folder):
    code, out, _ = run(
        "caption", short_videos["ego"], "--start", 0.5, "--end", 2, "--reference", short_videos["exo1"], "you stir",
        "--reference", short_videos["exo2"], "now it's time to add", "--model", model_folder, "--device", "cpu",
    )  # fmt: skip
    assert code == 0
    lines = out.splitlines()
    assert "0.5s–2s" in lines[0]
    assert "1. you stir" in lines[1]
    assert "2. now it's time to add" in lines[2]


def test_caption_as_json_from_the_published_pair(run, short_videos, golden_a):
    code, out, _ = run(
        "caption", short_videos["ego"], "--reference", short_videos["exo1"], "you stir",
        "--base", golden_a.base, "--captioner", golden_a.captioner,
        "--tokenizer", golden_a.tokenizer, "--json", "--num-frames", 4, "--num-beams", 1,
        "--max-new-tokens", 5,
    )  # fmt: skip
    assert code == 0
    result = json.loads(out)
    assert result["caption"]
    assert [r["narration"] for r in result["references"]] == ["you stir"]


def test_caption_an_inference_file(run, testdata, model_folder):
    code, out, _ = run(
        "caption", "--testdata", testdata, "--shots", 1, "--batch-size", 2, "--json", "--model", model_folder
    )
    assert code == 0
    results = [json.loads(line) for line in out.splitlines()]
    assert len(results) == 3
    assert len({r["caption"] for r in results}) == 1
    assert [len(r["references"]) for r in results] == [1, 1, 1]


def test_convert_export_and_info(run, golden_a, tmp_path):
    made = tmp_path / "model"
    code, out, _ = run(
        "convert", "--base", golden_a.base, "--captioner", golden_a.captioner,
        "--tokenizer", golden_a.tokenizer, "--out", made,
    )  # fmt: skip
    assert code == 0
    assert "187 tensors: 72 base, 115 captioner, 0 new" in out
    assert run("export", "--model", made, "--out", tmp_path / "original")[0] == 0
    assert (tmp_path / "original/base/config.json").is_file()
    code, out, _ = run("info", "--json", made)
    facts = json.loads(out)
    assert facts["model"]["parameters"] == "1,233,800"
    assert "cpu" in facts["devices"]
    assert facts["packages"]["egoinstructor"]


def original_command(golden, testdata, *more):
    return [
        sys.executable, REPOSITORY / "test_video.py", f"--testdata={testdata}", "--max_shot=4", "--max_num_frames=8",
        f"--pretrained_name_or_path={golden.base}", f"--pretrained_checkpoint={golden.captioner}",
        f"--tokenizer={golden.tokenizer}", "--json", *more,
    ]  # fmt: skip


@pytest.mark.slow  # processes of its own
def test_the_originals_inference_command(golden_a, testdata):
    done = subprocess.run(original_command(golden_a, testdata), capture_output=True, text=True, check=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 3
    assert all(len(r["references"]) == 2 for r in results), "at most 4: two are there"


def test_real_clips_through_every_door(run, shared_data, golden_a, model_folder, tmp_path, monkeypatch, capsys):
    """The published file names its clips from the folder that holds `assets`."""
    (tmp_path / "assets").symlink_to(shared_data / "egoinstructor_assets")
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("caption", "--testdata", "assets/testdata.json", "--model", model_folder, "--shots", 4, "--json")
    assert code == 0
    from_file = json.loads(out)
    references = [x for r in from_file["references"] for x in ("--reference", r["video"], r["narration"])]
    code, out, _ = run("caption", "assets/test5199_ego.mp4", *references, "--model", model_folder, "--json")
    assert code == 0
    assert json.loads(out)["caption"] == from_file["caption"]

    door = runpy.run_path(str(REPOSITORY / "test_video.py"))["main"]
    for more in ([], ["--legacy_video_order"]):
        monkeypatch.setattr(sys, "argv", list(map(str, original_command(golden_a, "assets/testdata.json", *more)[1:])))
        assert door() == 0
        result = json.loads(capsys.readouterr().out)
        assert result["caption"]
        assert [r["video"] for r in result["references"]] == [f"assets/test5199_exo{i}.mp4" for i in (1, 2, 3, 4)]


# ---------------------------------------------------------------------- bad input: one clear error, exit code 2


@pytest.fixture
def files(tmp_path, short_videos):
    """Things that are not the video one hopes for."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    content = short_videos["ego"].read_bytes()
    (tmp_path / "truncated.mp4").write_bytes(content[: len(content) // 2])
    with av.open(tmp_path / "audio.mp4", "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        for i in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, i * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return tmp_path


BAD_VIDEO = {
    "missing": ("none.mp4", []),
    "directory": ("folder", []),
    "zero bytes": ("empty.mp4", []),
    "truncated": ("truncated.mp4", []),
    "audio only": ("audio.mp4", []),
    "text": ("text.mp4", []),
    "start after end": (None, ["--start", "2", "--end", "1"]),
    "start at end": (None, ["--start", "2", "--end", "2"]),
    "past the end": (None, ["--start", "100", "--end", "104"]),
    "far past the end": (None, ["--start", "1", "--end", "60"]),
    "negative": (None, ["--start=-1", "--end", "2"]),
}


@pytest.mark.parametrize(
    ("case", "place"),
    [(case, "query") for case in BAD_VIDEO]
    + [(case, "reference") for case, (_, span) in BAD_VIDEO.items() if not span],
)
def test_bad_videos(run, files, short_videos, model_folder, case, place):
    name, span = BAD_VIDEO[case]
    bad = files / name if name else short_videos["ego"]
    query, reference = (bad, short_videos["exo1"]) if place == "query" else (short_videos["ego"], bad)
    code, out, err = run("caption", query, *span, "--reference", reference, "you stir", "--model", model_folder)
    assert code == USAGE_ERROR, err
    assert out == ""
    assert bad.name in err.replace("\n", "")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-frames", "0"], "0 is less than 1"),
        (["--num-frames", "9"], "9 frames a clip; this model takes 1 to 8"),
        (["--shots", "2"], "2 shots for"),
        (["--shots", "-1"], "-1 shots for"),
        (["--num-beams", "0"], "0 is less than 1"),
        (["--batch-size", "x"], "invalid"),
        (["--device", "toaster"], "device 'toaster' can't be used here"),
        (["--dtype", "int3"], "invalid choice"),
        (["--testdata", "x.json"], "leave out EGO"),
        (["--base", "x"], "name one model"),
        (["--reference", "x.mp4", "<image> stir"], "has a meaning in the prompt"),
        (["--max-new-tokens", "500"], "the query's own prompt has"),
    ],
)
def test_bad_options(run, short_videos, model_folder, arguments, message):
    given = [
        "caption",
        short_videos["ego"],
        "--reference",
        short_videos["exo1"],
        "you stir",
        "--model",
        model_folder,
        *arguments,
    ]
    code, out, err = run(*given)
    assert code == USAGE_ERROR
    assert message in " ".join(err.split())
    assert out == ""


def test_no_references_and_no_shots_are_legal(run, short_videos, model_folder):
    assert run("caption", short_videos["ego"], "--model", model_folder)[0] == 0
    given = [
        "caption",
        short_videos["ego"],
        "--reference",
        short_videos["exo1"],
        "you stir",
        "--model",
        model_folder,
        "--shots",
        0,
    ]
    code, out, _ = run(*given, "--json")
    assert code == 0
    assert json.loads(out)["references"] == []


@pytest.mark.skipif(not quantization._exact_here(), reason="this CPU has no VNNI instructions, int8 is refused")
def test_int8(run, short_videos, model_folder):
    code, out, _ = run("caption", short_videos["ego"], "--model", model_folder, "--device", "cpu", "--int8", "--json")
    assert code == 0
    assert json.loads(out)["caption"]


@pytest.mark.parametrize("content", ["{", "[]", "[1]", '{"ego_video": 1}', '[{"ego_video": "x.mp4"}]'])
def test_bad_inference_files(run, tmp_path, model_folder, content):
    path = tmp_path / "testdata.json"
    path.write_text(content)
    code, out, err = run("caption", "--testdata", path, "--model", model_folder)
    assert code == USAGE_ERROR
    assert "testdata.json" in err
    assert out == ""


def test_captions_before_a_bad_sample_are_not_lost(run, short_videos, tmp_path, model_folder):
    samples = [
        {"ego_video": str(v), "exo_video": []}
        for v in (short_videos["ego"], tmp_path / "gone.mp4", short_videos["exo1"])
    ]
    path = tmp_path / "testdata.json"
    path.write_text(json.dumps(samples))
    code, out, err = run("caption", "--testdata", path, "--model", model_folder, "--json")
    assert code == USAGE_ERROR
    assert len(out.splitlines()) == 1
    assert "gone.mp4" in err.replace("\n", "")


@pytest.mark.slow
def test_interrupted(testdata, model_folder):
    """Ctrl-C in the middle: what was printed is whole, one line says so, exit code 130."""
    many = json.loads(testdata.read_text()) * 200
    testdata.write_text(json.dumps(many))
    command = [
        sys.executable,
        "-m",
        "egoinstructor",
        "caption",
        "--testdata",
        testdata,
        "--model",
        model_folder,
        "--json",
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        first = process.stdout.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=900)
    assert process.returncode == INTERRUPTED, err
    assert "interrupted" in err
    assert "Traceback" not in err
    for line in [first, *out.splitlines()]:
        assert json.loads(line)["caption"]


INTERRUPTING = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Interrupt(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPTED_AT"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
"""


@pytest.mark.parametrize("module", ["egoinstructor.cli.train", "rich.logging", "torch"])
def test_interrupted_at_the_start(module, tmp_path):
    """Ctrl-C while the commands, their output or their libraries are being imported."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTING)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "INTERRUPTED_AT": module}
    command = [sys.executable, "-m", "egoinstructor", "info", "nano"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == INTERRUPTED, done.stderr
    assert done.stderr.startswith("interrupted") or "ERROR" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_lists_the_commands(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("demo", "caption", "convert", "export", "info"):
        assert command in out

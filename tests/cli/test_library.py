"""`egoinstructor library`, in process: what each action prints, and what it returns."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
import torch

from egoinstructor.captioners.egoinstructor import Captioner
from egoinstructor.cli import INTERRUPTED, USAGE_ERROR, main
from egoinstructor.cli.options import open_captioner
from egoinstructor.library.library import ExoLibrary


@pytest.fixture
def run(capsys, monkeypatch, toy_retriever):
    """Runs a command; every name of a retriever is the toy's."""
    monkeypatch.setenv("COLUMNS", "200")
    opened, dtypes = [], []

    def open_retriever(where, *, device=None, dtype=None, num_frames=None, sampling="segment_center"):
        opened.append(where)
        dtypes.append(dtype)
        assert (num_frames, sampling) in ((None, "segment_center"), (4, "segment_center"))
        return toy_retriever

    monkeypatch.setattr("egoinstructor.retriever.opening.open_retriever", open_retriever)

    def run(*arguments):
        try:
            code = main(["library", *map(str, arguments)])
        except SystemExit as stop:  # argparse's own refusals
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    run.opened, run.dtypes = opened, dtypes
    return run


@pytest.fixture
def videos(short_videos, tmp_path):
    """A table of clips beside copies of the short videos."""
    folder = shutil.copytree(short_videos["exo1"].parent, tmp_path / "videos")
    path = folder / "clips.csv"
    rows = ["exo1,0,1.5,stir the soup", "exo1,1.5,3,add salt", "exo2,0,3,fry the onion", "exo3,0,2,"]
    path.write_text("\n".join(["video,start,end,narration", *rows]))
    return path


@pytest.fixture
def library(run, videos, tmp_path):
    assert run("create", tmp_path / "library", "--retriever", "toy")[0] == 0
    assert run("ingest", tmp_path / "library", videos)[0] == 0
    return tmp_path / "library"


def test_create_and_ingest(run, videos, tmp_path):
    code, out, _ = run("create", tmp_path / "library", "--retriever", "toy")
    assert code == 0
    assert "is ready" in out
    code, out, _ = run("ingest", tmp_path / "library", videos, "--name", "cooking", "--json")
    assert code == 0
    report = json.loads(out)
    assert (report["finished"], report["added"], report["findings"]) == (3, 4, [])
    code, out, _ = run("ingest", tmp_path / "library", videos, "--name", "cooking")
    assert code == 0
    assert "videos finished before" in out
    assert run.opened == ["toy"] * 3


def test_the_retriever_is_remembered_by_its_absolute_path(run, videos, tmp_path, monkeypatch):
    (tmp_path / "toy").mkdir()
    monkeypatch.chdir(tmp_path)
    run("create", tmp_path / "library", "--retriever", "toy")
    monkeypatch.chdir("/")
    assert run("ingest", tmp_path / "library", videos)[0] == 0
    assert run("search", tmp_path / "library", "--text", "salt", "--retriever", "elsewhere")[0] == 0
    assert run.opened == ["toy", str(tmp_path / "toy"), "elsewhere"]


def test_a_retriever_that_looks_through_the_captioners_eyes(run, model_folder, tmp_path, toy_retriever, monkeypatch):
    monkeypatch.setattr(Captioner, "open_retriever", lambda self, clip: toy_retriever)
    more = ("--retriever", "clip", "--model", model_folder, "--device", "cpu")
    assert run("create", tmp_path / "library", *more)[0] == 0
    assert run.opened == []
    assert ExoLibrary.open(tmp_path / "library").retriever_name == "clip"
    code, _, err = run("create", tmp_path / "other", *more, "--num-frames", 4)
    assert (code, "the model's frames" in err) == (USAGE_ERROR, True)


def test_the_number_format_of_a_retriever(run, tmp_path):
    assert run("create", tmp_path / "library", "--retriever", "toy", "--dtype", "bfloat16")[0] == 0
    assert run.dtypes == [torch.bfloat16]


def test_workers_decode_for_the_captioner_too(run, library, videos, model_folder, monkeypatch):
    made = []
    monkeypatch.setattr(
        "egoinstructor.cli.library.open_captioner", lambda arguments: made.append(open_captioner(arguments)) or made[0]
    )
    more = ("--latents", "--model", model_folder, "--device", "cpu", "--workers", 3)
    assert run("ingest", library, videos, *more)[0] == 0
    assert made[0].encoder.threads == 3


def test_failures_and_rows_are_named_and_the_exit_code_says_so(run, videos, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    videos.with_name("more.csv").write_text(
        "video,start,end,narration\nexo1,0,1,a\nexo1,1,1,b\ngone,0,1,c\n../x,0,1,d\n"
    )
    run("create", tmp_path / "library", "--retriever", "toy")
    code, out, err = run("ingest", tmp_path / "library", videos.with_name("more.csv"))
    assert code == USAGE_ERROR
    for said in ("Can't be read: 1", "gone.mp4", "Rows left out or cut: 2", "more.csv, line 3", "line 5", "leads out"):
        assert said in out
    (line,) = [line for line in out.splitlines() if "gone.mp4" in line]
    assert line.endswith("Check the path."), "a line of the report stays one, however narrow the terminal"
    assert "there were failures" in err
    assert "Traceback" not in err


def test_ctrl_c_says_what_is_kept(run, videos, tmp_path, toy_retriever, monkeypatch):
    run("create", tmp_path / "library", "--retriever", "toy")
    plain, calls = toy_retriever.encode_video, []

    def interrupted(clips, view="exo"):
        calls.append(clips)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(clips, view)

    monkeypatch.setattr(toy_retriever, "encode_video", interrupted)
    code, _, err = run("ingest", tmp_path / "library", videos, "--batch-size", 1)
    assert code == INTERRUPTED
    assert "keeps its 1 clips" in err
    assert run("ingest", tmp_path / "library", videos)[0] == 0


def test_search_by_text_by_clip_and_by_both(run, library, videos):
    code, out, _ = run("search", library, "--text", "fry the onion", "--narration-weight", 1, "-k", 2)
    assert code == 0
    lines = [line for line in out.splitlines() if "exo" in line]
    assert len(lines) == 2
    assert "fry the onion" in lines[0]
    code, out, _ = run("search", library, videos.with_name("exo3.mp4"), "--start", 0, "--end", 2, "--json", "-k", 3)
    hits = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(hits) == 3
    assert (hits[0]["video"], hits[0]["source"], hits[0]["path"]) == (
        "exo3.mp4",
        "clips",
        str(videos.with_name("exo3.mp4")),
    )
    assert hits[0]["score"] == pytest.approx(1, abs=1e-3)
    code, out, _ = run("search", library, videos.with_name("ego.mp4"), "--text", "salt", "--json")
    assert code == 0
    assert len(out.splitlines()) == 4


def test_search_filters(run, library):
    def found(*options):
        code, out, _ = run("search", library, "--text", "soup", "--json", *options)
        assert code == 0
        return {(hit["video"], hit["start"]) for hit in map(json.loads, out.splitlines())}

    assert found("--min-seconds", 2) == {("exo2.mp4", 0), ("exo3.mp4", 0)}
    assert found("--max-seconds", 1.5) == {("exo1.mp4", 0), ("exo1.mp4", 1.5)}
    assert found("--contains", "SALT") == {("exo1.mp4", 1.5)}
    assert len(found("--source", "clips")) == 4
    code, out, _ = run("search", library, "--text", "soup", "--contains", "marzipan")
    assert (code, out.strip()) == (0, "no clips found")


def test_sources_names_the_roots_and_mends_them(run, library, videos, tmp_path):
    code, out, _ = run("sources", library, "--json")
    assert code == 0
    assert json.loads(out) == {"clips": str(videos.parent)}
    code, out, _ = run("sources", library, "--root", "clips", tmp_path)
    assert code == 0
    assert str(tmp_path) in out
    code, out, _ = run("search", library, "--text", "soup", "-k", 1)
    assert "(file missing)" in out
    assert run("sources", library, "--root", "clips", tmp_path / "gone")[0] == USAGE_ERROR
    assert run("sources", library, "--root", "films", tmp_path)[0] == USAGE_ERROR


def test_stats_verify_export_and_delete(run, library, tmp_path):
    code, out, _ = run("stats", library, "--json")
    assert code == 0
    stats = json.loads(out)
    assert (stats["clips"], stats["videos"], stats["narrated"]) == (4, 3, 0.75)
    assert "4 of 3 videos" in run("stats", library)[1]
    code, out, _ = run("verify", library, "--files")
    assert code == 0
    assert "no problems" in out
    code, out, _ = run("export", library, tmp_path / "clips.csv")
    assert (code, "4 clips" in out) == (0, True)
    with (tmp_path / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["narration"] for row in rows) == ["", "add salt", "fry the onion", "stir the soup"]
    code, out, _ = run("delete", library, "--video", "exo1.mp4")
    assert (code, out.strip()) == (0, "2 clips removed")
    assert run("delete", library, "--id", rows[-1]["id"], "0" * 32)[0] == 0
    code, _, err = run("delete", library, "--source", "films")
    assert code == USAGE_ERROR
    assert "has no such clips" in err


def test_verify_fails_on_problems(run, library, videos):
    videos.with_name("exo3.mp4").unlink()
    code, out, err = run("verify", library, "--files", "--json")
    assert code == USAGE_ERROR
    assert not json.loads(out)["ok"]
    assert "there are problems" in err


def test_latents_of_a_captioner(run, library, videos, model_folder):
    code, out, err = run("ingest", library, videos, "--latents", "--model", model_folder, "--device", "cpu", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["latents"], report["added"], report["stale"]) == (4, 0, 0)
    key = Captioner.from_pretrained(model_folder, device="cpu").latents_key
    assert json.loads(run("stats", library, "--json")[1])["latents"] == {key: 4}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ingest", "LIBRARY", "VIDEOS", "--latents"), "--latents and a model belong together"),
        (("ingest", "LIBRARY", "VIDEOS", "--model", "m"), "--latents and a model belong together"),
        (("ingest", "LIBRARY", "gone"), "no such folder or file"),
        (("ingest", "LIBRARY", "VIDEOS", "--shortest", "9"), "the shorter first"),
        (("ingest", "gone", "VIDEOS"), "is not a library"),
        (("search", "LIBRARY"), "nothing to search for"),
        (("search", "LIBRARY", "--text", "x", "--start", "1"), "belong to an ego clip"),
        (("search", "LIBRARY", "--text", "x", "--source", "films"), "the library has clips"),
        (("search", "LIBRARY", "gone.mp4"), "there is no such file"),
        (("create", "LIBRARY", "--retriever", "toy"), "is a library already"),
        (("create", "new", "--retriever", "toy", "--int8"), "--int8 was given and no model"),
        (("create", "new", "--retriever", "toy", "--captioner", "x"), "--captioner was given and no model"),
        (("ingest", "LIBRARY", "VIDEOS", "--dtype", "float16"), "--dtype was given and no model"),
        (("ingest", "LIBRARY", "VIDEOS", "--int8"), "--int8 was given and no model"),
        (("export", "LIBRARY", "x.txt"), "ends in '.txt'"),
        (("stats", "gone"), "is not a library"),
    ],
)
def test_bad_input_is_one_message(run, library, videos, arguments, said):
    names = {"LIBRARY": library, "VIDEOS": videos}
    code, _, err = run(*(names.get(argument, argument) for argument in arguments))
    assert code == USAGE_ERROR
    assert said in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments", [("delete", "x"), ("delete", "x", "--source", "a", "--video", "b"), ("create", "x")]
)
def test_argparse_refuses_the_rest(run, arguments):
    assert run(*arguments)[0] == USAGE_ERROR

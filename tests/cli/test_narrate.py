"""`egoinstructor narrate`, in process: what it prints, where it writes, what it returns."""

from __future__ import annotations

import json

import pytest

from egoinstructor.captioners.egoinstructor import Captioner
from egoinstructor.cli import INTERRUPTED, USAGE_ERROR, main
from egoinstructor.narration.options import default_seconds

QUICK = ["--device", "cpu", "--num-beams", "1", "--max-new-tokens", "4", "--seconds", "1"]


@pytest.fixture
def run(capsys, monkeypatch, tmp_path, model_folder, short_videos):
    """Narrates 3 s of video in an empty working directory."""
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments, video=short_videos["ego"], model=model_folder):
        code = main(["narrate", str(video), "--model", str(model), *QUICK, *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, " ".join(err.split())

    return run


def test_it_writes_into_the_working_directory_and_says_what_it_did(run, tmp_path):
    code, out, _ = run("--no-merge")
    assert code == 0
    first, second = out.splitlines()
    assert first.startswith("3 windows: 3 captions, 0 silent, 0 merged, 0 skipped; × ")
    assert second == "Written: ego.srt, ego.vtt, ego.jsonl"
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [
        ".ego.lock", "ego.journal", "ego.jsonl", "ego.srt", "ego.vtt",
    ]  # fmt: skip
    code, out, _ = run("--no-merge")
    assert code == 0
    assert "×" not in out  # there was nothing left to do


@pytest.mark.parametrize(("out", "prefix"), [("new/", "new/ego"), ("new/name", "new/name"), (".", "ego")])
def test_json_and_where_it_writes(run, tmp_path, out, prefix):
    code, printed, _ = run("--json", "--no-merge", "--html", "--from", 1, "--out", out)
    assert code == 0
    *segments, last = map(json.loads, printed.splitlines())
    assert [(one["start"], one["end"]) for one in segments] == [(1, 2), (2, 3)]
    assert [json.loads(line) for line in (tmp_path / "here" / f"{prefix}.jsonl").read_text().splitlines()] == segments
    assert last["report"]["captions"] == 2
    assert last["report"]["complete"] is True
    assert last["report"]["files"] == {
        "srt": f"{prefix}.srt", "vtt": f"{prefix}.vtt", "jsonl": f"{prefix}.jsonl", "html": f"{prefix}.html",
    }  # fmt: skip
    assert (tmp_path / "here" / f"{prefix}.html").is_file()


def test_interrupted_it_says_how_to_go_on(run, monkeypatch, tmp_path):
    caption_batch, calls = Captioner.caption_batch, []

    def interrupted(self, *arguments, **options):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return caption_batch(self, *arguments, **options)

    monkeypatch.setattr(Captioner, "caption_batch", interrupted)
    code, out, err = run("--batch-size", "1")
    assert code == INTERRUPTED
    assert "ego.journal keeps what is done, and the same command" in err
    assert out == ""
    code, _, _ = run("--batch-size", "1")
    assert code == 0
    assert len(calls) == 4


def test_the_captioner_is_asked_for_the_likeliest(run, monkeypatch):
    caption_batch, asked = Captioner.caption_batch, []

    def noted(self, queries, *, likeliest, **options):
        asked.append(likeliest)
        return caption_batch(self, queries, likeliest=likeliest, **options)

    monkeypatch.setattr(Captioner, "caption_batch", noted)
    for flags in (["--likeliest"], ["--overwrite"]):
        assert run(*flags)[0] == 0
    assert asked == [True, False]


def test_a_recording_that_cannot_be_opened_is_one_error(run, tmp_path):
    code, _, err = run(video=tmp_path / "nowhere.mp4", model="/no/model/is/opened")
    assert code == USAGE_ERROR
    assert "there is no such file" in err
    assert list((tmp_path / "here").iterdir()) == []


def test_options_that_do_not_go_together(run):
    assert "overlap" in run("--overlap", "0.5", "--cut", "changes")[2]
    assert "not calibrated" in run("--threshold", "0.5")[2]
    assert "--library" in run("--min-score", "0.5")[2]
    assert "--library" in run("--shots", "2", model="/no/model/is/opened")[2]
    run()
    code, _, err = run("--num-beams", "2")
    assert code == USAGE_ERROR
    assert "num_beams was 1 and is 2" in err


def test_windows_fit_the_model():
    assert default_seconds("nano") == 2
    assert default_seconds("some/model") == default_seconds(None) == 5

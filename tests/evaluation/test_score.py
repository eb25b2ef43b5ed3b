"""Captions in files: what is read, what is written, how two runs are compared."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest

from egoinstructor.cli import main
from egoinstructor.errors import InputError
from egoinstructor.evaluation.captions.files import read_predictions, read_references
from egoinstructor.evaluation.comparison import compare_runs
from egoinstructor.evaluation.score import score_set

pytest.importorskip("pycocoevalcap")

METRICS = ["BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr"]
NAMES = [f"clip{i}" for i in range(8)]
REFERENCES = {name: [f"cuts the onion number {i} slowly", "cuts it"] for i, name in enumerate(NAMES)}
GOOD = {name: REFERENCES[name][0] for name in NAMES}
BAD = dict.fromkeys(NAMES, "opens the onion number 3 ☕")
VIDEOS = {name: f"v{i // 2}" for i, name in enumerate(NAMES)}


def write(path, content):
    lines = path.suffix == ".jsonl"
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in content) if lines else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


# Reading


def test_forms_of_predictions(tmp_path):
    plain = write(tmp_path / "plain.json", {"1": "a", "2": "b"})
    coco = write(tmp_path / "coco.json", [{"image_id": 1, "caption": "a"}, {"image_id": 2, "caption": "b"}])
    ours = write(
        tmp_path / "ours.jsonl",
        [{"id": "1", "prediction": "a", "video": "v"}, {"id": "2", "prediction": "b", "video": None}],
    )
    captions = {"1": "a", "2": "b"}
    assert read_predictions(plain) == (captions, {})
    assert read_predictions(coco) == (captions, {})
    assert read_predictions(ours) == (captions, {"1": "v"})


def test_forms_of_references(tmp_path):
    plain = write(tmp_path / "plain.json", {"1": ["a", "b"], "2": "c"})
    records = [{"image_id": 1, "caption": "a"}, {"image_id": 2, "caption": "c"}, {"image_id": 1, "caption": "b"}]
    coco = write(tmp_path / "coco.json", {"images": [], "annotations": records})
    ours = write(tmp_path / "ours.jsonl", [{"id": "1", "ground_truth": ["a", "b"]}, {"id": "2", "reference": "c"}])
    for path in (plain, coco, ours):
        assert read_references(path) == ({"1": ["a", "b"], "2": ["c"]}, {})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.json", [{"image_id": 1, "caption": "a"}, {"image_id": 1, "caption": "b"}], "'1' has 2 predictions"),
        ("f.json", {"a": ["x", "y"]}, "'a' has 2 predictions"),
        ("f.json", {"a": 3}, "a: 3 is of type int"),
        ("f.json", [{"caption": "a"}], r"\[0\] has none of 'id', 'image_id'; it has 'caption'"),
        ("f.json", [{"id": True, "caption": "a"}], "True is of type bool"),
        ("f.jsonl", [{"id": "a", "text": "x"}], "line 1 has none of 'prediction', 'caption'"),
        ("f.jsonl", [{"id": "a", "caption": "x", "video": 3}], "video: 3 is of type int"),
        ("f.json", {"a": "half \ud83d"}, "must be text without half characters"),
        ("f.json", {}, "holds no predictions"),
        ("f.json", "text", "an object"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message):
        read_predictions(write(tmp_path / name, content))


CASES = Path(__file__).parents[1] / "data" / "cases" / "score-small"


def test_a_suffix_in_capitals_is_the_same_suffix():
    assert read_predictions(CASES / "p.JSONL")[0] == {"a": "x", "b": "y"}


def test_a_key_that_is_there_twice_is_refused_wherever_json_is_read(tmp_path):
    with pytest.raises(InputError, match=r"p_dup\.json has 'a' twice; each may be there once"):
        read_predictions(CASES / "p_dup.json")
    path = tmp_path / "r.jsonl"
    path.write_text('{"id": "a", "reference": "x"}\n{"id": "b", "reference": "x", "reference": "y"}\n')
    with pytest.raises(InputError, match=r"r\.jsonl, line 2 has 'reference' twice"):
        read_references(path)


def test_a_sample_of_two_videos_is_refused(tmp_path):
    rows = [{"id": "a", "reference": "x", "video": "v"}, {"id": "a", "reference": "y", "video": "w"}]
    with pytest.raises(InputError, match="of video 'w' and of 'v'"):
        read_references(write(tmp_path / "f.jsonl", rows))


# A report and its files


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folders = []
    for name, captions in (("good", GOOD), ("bad", BAD)):
        folder = tmp_path_factory.mktemp(name)
        score_set(captions, REFERENCES, VIDEOS, metrics=METRICS, treatments=["nlgeval"], narration=False).save(folder)
        folders.append(folder)
    return folders


def test_results(runs):
    results = json.loads((runs[1] / "results.json").read_text(encoding="utf-8"))
    assert results["counts"] == {"samples": 8, "videos": 4, "samples without a video": 0, "empty captions": 0}
    scores = results["scores"]["nlgeval"]
    assert scores["document_frequencies_from"] == 8
    assert scores["cleaned"] is False
    assert "8 samples" in scores["warnings"][0]
    bleu = scores["metrics"]["BLEU-1"]
    assert bleu["x100"] == pytest.approx(100 * bleu["value"])
    assert bleu["low"] <= bleu["value"] <= bleu["high"]
    assert {"egoinstructor", "pycocoevalcap"} <= results["versions"].keys()


def test_samples_and_table_agree(runs):
    samples = [json.loads(line) for line in (runs[1] / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    with (runs[1] / "predictions.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [sample["id"] for sample in samples] == [row["id"] for row in table] == NAMES
    for sample, row in zip(samples, table, strict=True):
        assert row["prediction"] == sample["prediction"] == "opens the onion number 3 ☕"
        assert row["video"] == sample["video"]
        for metric in METRICS:
            assert float(row[f"nlgeval {metric}"]) == sample["scores"]["nlgeval"][metric]


def test_one_video_has_no_interval():
    report = score_set(
        GOOD, REFERENCES, dict.fromkeys(NAMES, "v"), metrics=METRICS, treatments=["nlgeval"], narration=False
    )
    assert not report.intervals
    assert "low" not in report.as_dict()["scores"]["nlgeval"]["metrics"]["BLEU-1"]


# Comparing


def test_a_run_is_compared_with_itself_and_a_worse_one(runs):
    good, bad = runs
    same = compare_runs(good, good)["nlgeval"]
    assert set(same) == set(METRICS)
    assert all(paired.p_value == 1 and paired.difference.value == 0 for paired in same.values())
    worse = compare_runs(good, bad)["nlgeval"]
    results = json.loads((bad / "results.json").read_text(encoding="utf-8"))["scores"]["nlgeval"]["metrics"]
    for metric, paired in worse.items():
        assert paired.b == pytest.approx(results[metric]["value"])  # the set's score comes out of the samples' parts
        assert paired.difference.high < 0
        assert paired.difference.clusters == 4


def test_runs_that_do_not_belong_together_are_refused(runs, tmp_path):
    good, _ = runs

    def scored(folder, captions=GOOD, references=REFERENCES, metrics=METRICS, videos=VIDEOS, **options):
        options = {"treatments": ["nlgeval"], "narration": False} | options
        score_set(captions, references, videos, metrics=metrics, **options).save(tmp_path / folder)
        return tmp_path / folder

    fewer = {name: GOOD[name] for name in NAMES[:-1]}
    fewer_references = {name: REFERENCES[name] for name in fewer}
    with pytest.raises(InputError, match="1 samples are in one run only, such as 'clip7'"):
        compare_runs(scored("fewer", fewer, fewer_references), good)
    with pytest.raises(InputError, match="'clip0' has other references"):
        compare_runs(good, scored("other", references={name: ["x"] for name in NAMES}))
    moved = {name: f"elsewhere/{video}" for name, video in VIDEOS.items()}
    assert compare_runs(good, scored("moved", videos=moved))
    for number, videos in enumerate(({**VIDEOS, "clip7": "v0"}, {**VIDEOS, "clip7": "v9"}, None)):
        with pytest.raises(InputError, match="sample 'clip.' is of video .*same videos"):
            compare_runs(good, scored(f"videos {number}", videos=videos))
    with pytest.raises(InputError, match="cleaned"):
        compare_runs(good, scored("cleaned", clean=True))
    with pytest.raises(InputError, match="no metric of one treatment in common"):
        compare_runs(good, scored("metric", metrics=["CIDEr-plain"]))
    with pytest.raises(InputError, match=r"has no results\.json"):
        compare_runs(good, tmp_path / "nowhere")
    (good_samples := tmp_path / "cleaned" / "predictions.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(InputError, match=f"{good_samples.name}.*scores"):
        compare_runs(good, tmp_path / "cleaned")


@pytest.mark.parametrize(
    ("key", "values"), [("spacy", ("en_core_web_sm", "en_core_web_trf")), ("encoder", (None, "e"))]
)
def test_narrations_scored_in_two_ways_are_not_compared(runs, tmp_path, key, values):
    """A run that has no metrics of narrations says nothing of them, and may be compared."""
    folders = []
    for number, value in enumerate(values):
        folders.append(shutil.copytree(runs[number], tmp_path / str(number)))
        results = json.loads((folders[-1] / "results.json").read_text(encoding="utf-8"))
        results["settings"][key] = value
        (folders[-1] / "results.json").write_text(json.dumps(results))
    with pytest.raises(InputError, match=f"{key}={values[0]!r}, .* with {values[1]!r}; score both alike"):
        compare_runs(*folders)
    assert compare_runs(folders[0], runs[1])


# The commands


def test_score_and_compare(tmp_path, capsys, monkeypatch):
    references = write(tmp_path / "references.json", REFERENCES)
    for name, captions in (("a", GOOD), ("b", BAD)):
        rows = [{"id": i, "prediction": text, "video": VIDEOS[i]} for i, text in captions.items()]
        predictions = write(tmp_path / f"{name}.jsonl", rows)
        command = [
            "score",
            "--predictions",
            str(predictions),
            "--references",
            str(references),
            "--out",
            str(tmp_path / name),
        ]
        command += ["--metrics", "BLEU-1,CIDEr-plain,SPICE", "--treatment", "nlgeval", "--no-narration"]
        assert main(command) == 0
    printed = capsys.readouterr().out
    assert "nlgeval" in printed
    assert "×100" in printed
    assert "100.00" in printed  # BLEU-1 of the good run
    assert "missing: SPICE" in printed
    assert "warning: CIDEr's document frequencies" in printed
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["nlgeval"]["BLEU-1"]["difference"]["value"] < 0
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    printed = capsys.readouterr().out
    assert "by 4 videos" in printed
    assert not re.search(r"\d…", printed), "a figure is cut off in a terminal of 80 columns"
    again = ["score", "--predictions", str(tmp_path / "a" / "predictions.jsonl"), "--references", str(references)]
    assert main([*again, "--metrics", "BLEU-1", "--treatment", "nlgeval", "--no-narration", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["nlgeval"]["metrics"]["BLEU-1"]["value"] == pytest.approx(1)


def test_an_unusable_file_is_exit_code_2(tmp_path):
    references = write(tmp_path / "references.json", REFERENCES)
    predictions = write(tmp_path / "predictions.json", {"clip0": "x"})
    command = ["score", "--predictions", str(predictions), "--references", str(references)]
    assert main(command) == 2
    assert main([*command, "--metrics", ","]) == 2


def test_what_is_read_is_not_written_over(tmp_path, capsys):
    """A run's predictions.jsonl holds more than the score of another file would leave."""
    predictions = write(tmp_path / "predictions.jsonl", [{"id": "a", "prediction": "x", "ground_truth": ["x"]}])
    before = predictions.read_bytes()
    command = ["score", "--predictions", str(predictions), "--references", str(predictions), "--out", str(tmp_path)]
    assert main(command) == 2
    assert "written over" in " ".join(capsys.readouterr().err.split())
    assert predictions.read_bytes() == before

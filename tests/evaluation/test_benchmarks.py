"""The paper's retrieval benchmarks: made-up files in the original's forms, and what is measured on them."""

from __future__ import annotations

import json
import math

import pytest
import torch

from egoinstructor.data.benchmarks import (
    read_charades_ego,
    read_egolearner,
    read_ek100_mir,
    read_youcook2,
)
from egoinstructor.errors import InputError, VideoError
from egoinstructor.evaluation.benchmark_run import evaluate_benchmark
from egoinstructor.evaluation.relevancy import Matrix
from egoinstructor.evaluation.report import RetrievalReport

AXES = {"add oil": 0, "open tap": 1, "cut leek": 2}


class Known:
    """A retriever and a source: the video "v1" at second s is axis s; a text is the axis that it is given."""

    def __init__(self, view="ego"):
        self.view = view

    def encode_text(self, texts):
        return torch.stack([torch.eye(4)[AXES[text]] for text in texts])

    def embed(self, spans):
        if any("broken" in video for video, *_ in spans):
            raise VideoError("broken: no frames")
        return torch.stack([torch.eye(4)[int(start)] for _, start, _ in spans])


def measure(name, path, **options):
    report = RetrievalReport({})
    evaluate_benchmark(report, Known(), name, path, Known, **options)
    return report


@pytest.fixture
def write(tmp_path):
    def write(content, name="file.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def youcook2(*rows):
    keys = ("video_id", "start_second", "end_second", "task", "text")
    return {str(i): dict(zip(keys, row, strict=True)) for i, row in enumerate(rows)}


def test_youcook2(write):
    path = write(
        youcook2(("a.mp4", 0, 4, 113, "add oil"), ("a.mp4", 2, 9.5, 113, "cut leek"), ("b", 1, 3, "x", "open tap"))
    )
    told = read_youcook2(path)
    assert told.clips == [("113/a", 0, 4), ("113/a", 2, 9.5), ("x/b", 1, 3)]
    assert told.texts == ["add oil", "cut leek", "open tap"]
    report = measure("youcook2", path)
    assert {name: scores.metrics["R@1"] for name, scores in report.scores.items()} == {
        "video → text": 1, "text → video": 1,
    }  # fmt: skip


def test_what_cannot_be_read_of_youcook2_takes_its_text_with_it(write):
    path = write(youcook2(("broken", 0, 4, 1, "add oil"), ("a", 2, 9, 1, "cut leek"), ("b", 1, 3, 1, "open tap")))
    report = measure("youcook2", path)
    assert report.counts == {"exo clips": 2, "exo clips unreadable": 1}
    assert report.scores["text → video"].queries == 2
    assert report.scores["text → video"].metrics["R@1"] == 1


def test_charades_ego(write):
    rows = [(0, 0), (1, 2), (2, 1)]
    content = {
        str(i): {"ego_vid": "e.mp4", "ego_start_second": a, "ego_end_second": a + 2,
                 "exo_vid": "broken" if i == 9 else "x.mp4", "exo_start_second": b, "exo_end_second": b + 3}
        for i, (a, b) in enumerate(rows)
    }  # fmt: skip
    path = write(content)
    ego, exo = read_charades_ego(path)
    assert (ego[1], exo[1]) == (("e", 1, 3), ("x", 2, 5))
    report = measure("charades-ego", path)
    assert report.scores["ego → exo"].metrics["R@1"] == pytest.approx(1 / 3)
    content["1"]["exo_vid"] = "broken"
    report = measure("charades-ego", write(content))
    assert (report.counts["pairs"], report.counts["exo clips unreadable"]) == (2, 1)
    assert report.scores["exo → ego"].metrics["R@1"] == 1 / 2  # rows kept their pairs


def test_egolearner(write):
    def clip(second, video="v"):
        return {"video_id": video, "start_second": str(second), "end_second": second + 1, "text": "x"}

    def question(view, right, query=1, video="v"):
        choices = {str(i): clip(i) for i in range(3)}
        return {"query": clip(query, video), "choices": choices, "answer": right, "types": view}

    content = [question(1, 1), question(1, 2), question(2, 0, query=0), question(2, 0, video="broken")]
    path = write({str(i): q for i, q in enumerate(content)})
    assert [(q.view, q.query, q.answer) for q in read_egolearner(path)][2] == ("exo", ("v", 0, 1), 0)
    report = measure("egolearner", path)
    assert report.choices == {
        "ego → exo": {"accuracy": 0.5, "chance": pytest.approx(1 / 3), "questions": 2},
        "exo → ego": {"accuracy": 1.0, "chance": pytest.approx(1 / 3), "questions": 1},
    }
    assert report.counts["questions left out"] == 1


HEADER = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
)


def test_ek100_mir(write):
    rows = [
        ("P01_11_0", "00:00:00.00", "add oil"),
        ("P01_11_1", "00:00:02.00", "cut leek"),
        ("P02_1_0", "00:00:01.5", "x"),
    ]
    lines = [
        f"{id},P01,{id[:6]},00:00:00.560,{start},01:02:03.50,0,202,{text},add,0,oil,2,['oil'],[2]\n"
        for id, start, text in rows
    ]
    path = write(HEADER + "".join(lines), "EPIC_100_retrieval_test.csv")
    write("narration_id,narration\nP01_11_0,add oil\nP01_11_1,cut leek\n", "EPIC_100_retrieval_test_sentence.csv")
    told = read_ek100_mir(path)
    assert told.clips[2] == ("P02_1_", 1.5, 3723.5)
    assert told.texts == ["add oil", "cut leek"]
    relevancy = Matrix(torch.tensor([[1, 0.5], [0, 1], [0.5, 0]]))
    report = measure("ek100-mir", path, relevancy=relevancy)
    found = report.scores["video → text"]
    assert (found.queries, found.unanswered, found.gallery) == (2, 1, 2)
    assert found.metrics["R@1"] == 1
    assert found.metrics["nDCG"] == pytest.approx(1)
    back = report.scores["text → video"].metrics["nDCG"]
    assert back == pytest.approx(
        1 / (1 + 0.5 / math.log2(3))
    )  # the half relevant video ties with the last, and so is last
    with pytest.raises(InputError, match=r"shape \(2, 2\) for 3 videos and 2 sentences"):
        measure("ek100-mir", path, relevancy=Matrix(torch.eye(2)))
    with pytest.raises(InputError, match="needs a relevancy"):
        measure("ek100-mir", path)


@pytest.mark.parametrize(
    ("read", "content", "message"),
    [
        (read_youcook2, {}, "is empty"),
        (read_youcook2, {"1": {}}, "none has the key '0'"),
        (read_youcook2, youcook2(("a", 0, 1, None, "x")), "task: None"),
        (read_charades_ego, {"0": {"ego_vid": "a"}}, "no 'ego_start_second'"),
        (read_egolearner, {"0": {"types": 3, "answer": 0}}, "types: 3"),
        (read_egolearner, {"0": {"types": 1, "answer": 5, "choices": {"0": {}}}}, "answer: 5"),
        (read_ek100_mir, "video_id,x\n1,2\n", "no column 'start_timestamp'"),
        (read_ek100_mir, "video_id,start_timestamp,stop_timestamp\na,1,2\n", "start_timestamp is '1'"),
        (read_ek100_mir, "video_id,start_timestamp,stop_timestamp\na\n", "line 2 has no value for 'start_timestamp'"),
        (read_ek100_mir, "video_id,start_timestamp,stop_timestamp\n", "has no rows"),
    ],
)
def test_files_of_another_form_are_refused(write, read, content, message):
    with pytest.raises(InputError, match=message):
        read(write(content))


def test_a_benchmark_has_no_use_for_a_relevancy(write):
    with pytest.raises(InputError, match="youcook2 has no use"):
        measure("youcook2", write({}), relevancy=Matrix(torch.eye(2)))

"""EgoMCQ: its file, its accuracy, what is refused."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from egoinstructor.errors import InputError
from egoinstructor.evaluation.multiple_choice import Choice, accuracy, chosen, read_questions

QUESTION = {
    "query": {"video_uid": "a", "clip_text": "#C C opens the drawer", "clip_start": 1.0, "clip_end": 2.0},
    "choices": {str(i): {"video_uid": f"v{i}", "clip_start": i, "clip_end": i + 1.5, "tag_verb": "[]"} for i in range(5)},
    "answer": 3,
    "types": 1,
}  # fmt: skip


def write(path, **changes):
    path.write_text(json.dumps({"0": QUESTION | changes, "1": QUESTION | {"types": 2, "answer": 0}}))
    return path


def test_read(tmp_path):
    first, second = read_questions(write(tmp_path / "mcq.json"))
    assert (first.text, first.answer, first.kind) == ("#C C opens the drawer", 3, "inter")
    assert first.choices[3] == Choice("v3", 3.0, 4.5)
    assert (second.answer, second.kind) == (0, "intra")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"types": 3}, "types: 3 .* 1 .inter-video. or 2"),
        ({"types": True}, "types"),
        ({"answer": 5}, "answer: 5 .* 0, 1, 2, 3, 4"),
        ({"answer": "3"}, "answer"),
        ({"query": {}}, "clip_text"),
        ({"choices": {"3": QUESTION["choices"]["3"]}}, "2 or more"),
        ({"choices": QUESTION["choices"] | {"1": {"video_uid": "a", "clip_start": "x", "clip_end": 1}}}, "choices.1"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        read_questions(write(tmp_path / "mcq.json", **copy.deepcopy(changes)))


def test_the_most_similar_choice_counts_and_a_tie_is_wrong():
    text = torch.tensor([1.0, 0.0])
    choices = torch.tensor([[0.5, 0.0], [0.9, 0.0], [0.9, 1.0], [-1.0, 0.0]])
    assert chosen(text, choices[:2], 1)
    assert not chosen(text, choices[:2], 0)
    assert not chosen(text, choices, 1)
    assert not chosen(text, choices, 2)


def test_accuracy_is_apart_by_kind(tmp_path):
    inter, intra = read_questions(write(tmp_path / "mcq.json"))
    table = accuracy([True, False, True], [inter, inter, intra])
    assert table == {
        "inter": {"accuracy": 0.5, "chance": pytest.approx(0.2), "questions": 2},
        "intra": {"accuracy": 1.0, "chance": pytest.approx(0.2), "questions": 1},
    }
    assert set(accuracy([True], [intra])) == {"intra"}

"""The original's inference JSON."""

from __future__ import annotations

import json

import pytest

from egoinstructor import Clip, Reference
from egoinstructor.data.inference_file import read_inference_file
from egoinstructor.errors import InputError

SAMPLE = {"ego_video": "ego.mp4", "exo_video": [{"path": "exo.mp4", "caption": "stir"}]}


def written(folder, content):
    path = folder / "testdata.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_paths_from_the_working_directory_then_from_the_file(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "ego.mp4").touch()
    (there / "exo.mp4").touch()
    monkeypatch.chdir(here)
    [(ego, [exo])] = read_inference_file(written(there, [SAMPLE]))
    assert ego.video.resolve() == here / "ego.mp4"
    assert exo == Reference(there / "exo.mp4", "stir")


def test_spans_may_be_given(tmp_path):
    sample = {
        **SAMPLE,
        "start": 1,
        "end": 2.5,
        "exo_video": [{"path": "/e.mp4", "caption": "x", "start": 3.0, "end": 4}],
    }
    [(ego, [exo])] = read_inference_file(written(tmp_path, [sample]))
    assert (ego.start, ego.end, exo.clip) == (1, 2.5, Clip("/e.mp4", 3.0, 4))


def test_the_published_file(shared_data):
    samples = read_inference_file(shared_data / "egoinstructor_assets/testdata.json")
    assert [len(references) for _, references in samples] == [4]
    assert samples[0][1][1].narration == "so let's open the microwave here"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no valid JSON"),
        ("", "no valid JSON"),
        ({}, "must be a list of samples"),
        ([], "must be a list of samples"),
        ([3], "sample 0 is 3; it must be an object"),
        ([SAMPLE, {**SAMPLE, "ego_video": 3}], "sample 1 has ego_video = 3; it must be a str"),
        ([{"ego_video": "x"}], "exo_video = None; it must be a list"),
        ([{**SAMPLE, "exo_video": ["x"]}], "exo_video 0 is 'x'; it must be an object"),
        ([{**SAMPLE, "exo_video": [{"path": "x"}]}], "exo_video 0 has caption = None"),
        ([{**SAMPLE, "exo_video": [{"path": "x", "caption": ""}]}], "needs a narration"),
        ([{**SAMPLE, "start": "1"}], "the time '1'; times are seconds"),
        ([{**SAMPLE, "start": 2, "end": 1}], "start must lie before the end"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_inference_file(written(tmp_path, content))


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match="can't be read"):
        read_inference_file(tmp_path / "none.json")

"""Metadata files into samples: what is read, what is refused and how it is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from egoinstructor.data.metadata import Candidate, clean_narration, read_metadata, read_splits
from egoinstructor.errors import InputError


def segment(vid, start=1.5, end=2.25, answer="#C C cuts a leek", **more):
    return {
        "instruction": "Describe the main action in the video.",
        "answer": answer,
        "chat_answer": f"{answer}, it seems",
        "image_ids": [{"vid": vid, "uid": "u", "start_second": start, "end_second": end}],
        "rel_ins_ids": [],
    } | more


@pytest.fixture
def pair(tmp_path):
    """An instructions file, its config, and how to change them."""

    def write(data=None, config=None):
        data = data if data is not None else {"E0": segment("ego"), "E1": segment("exo 1"), "E2": segment("exo2")}
        config = config if config is not None else {"E0": ["E2", "E1"]}
        (tmp_path / "ins.json").write_text(json.dumps({"data": data}))
        (tmp_path / "train.json").write_text(json.dumps(config))
        return tmp_path / "ins.json", tmp_path / "train.json"

    return write


def test_a_pair_becomes_samples_with_references_best_first(pair, tmp_path):
    metadata = read_metadata(*pair())
    [sample] = metadata.samples(tmp_path / "ego", tmp_path / "exo")
    assert (sample.id, sample.video, sample.start, sample.end) == ("E0", tmp_path / "ego/ego.mp4", 1.5, 2.25)
    assert sample.instruction == "Describe the main action in the video."
    assert sample.caption == sample.answer == "#C C cuts a leek"
    assert sample.references == (
        Candidate("E2", tmp_path / "exo/exo2.mp4", 1.5, 2.25, "#C C cuts a leek"),
        Candidate("E1", tmp_path / "exo/exo 1.mp4", 1.5, 2.25, "#C C cuts a leek"),
    )


def test_chat_answers_are_learned_and_answers_are_evaluated(pair):
    [sample] = read_metadata(*pair()).samples(use_chat=True, clean=True)
    assert sample.caption == sample.references[0].narration == "cuts a leek , it seems"
    assert sample.answer == "cuts a leek"


def test_references_are_cut_to_the_best_and_none_comes_twice(pair):
    metadata = read_metadata(*pair(config={"E0": ["E2", "E2", "E1"]}))
    assert [r.id for r in metadata.samples()[0].references] == ["E2", "E1"]
    assert [r.id for r in metadata.samples(max_references=1)[0].references] == ["E2"]
    assert metadata.samples(max_references=0)[0].references == ()
    assert [r.id for r in read_metadata(*pair(config={"E0": "E2"})).samples()[0].references] == ["E2"]


def test_splits_share_one_reading_of_the_instructions(pair, tmp_path):
    instructions, train = pair()
    (tmp_path / "val.json").write_text('{"E1": ["E2"]}')
    splits = read_splits(instructions, train, tmp_path / "val.json")
    assert [split.origin.name for split in splits] == ["train.json", "val.json"]
    assert splits[0].entries is splits[1].entries


def test_times_may_be_text_as_the_original_allows(pair):
    metadata = read_metadata(*pair(data={"E0": segment("ego", "1.5", 2)}, config={"E0": []}))
    assert (metadata.samples()[0].start, metadata.samples()[0].end) == (1.5, 2.0)


def test_videos_are_what_lies_on_disk(pair, tmp_path):
    names = ["pieces", "film", "both", "a.b", "gone"]
    (tmp_path / "pieces").mkdir()
    for name in ("film.webm", "both.MKV", "both.mp4", "both.txt", "a.b.mkv"):
        (tmp_path / name).touch()
    data = {name: segment(name) for name in names}
    samples = read_metadata(*pair(data, {name: [] for name in names})).samples(tmp_path)
    assert [s.video.name for s in samples] == ["pieces", "film.webm", "both.mp4", "a.b.mkv", "gone.mp4"]


@pytest.mark.parametrize("vid", ["../secret", "a/../../secret", "/etc/passwd", "..", ".", "", "a\0b"])
def test_names_that_leave_the_folder_are_refused(pair, tmp_path, vid):
    root = tmp_path / "videos"
    root.mkdir()
    (tmp_path / "secret.mp4").touch()
    for data in (
        {"E0": segment(vid), "E1": segment("a")},
        {"E0": segment("a"), "E1": segment(vid)},
    ):
        with pytest.raises(InputError, match="must lie inside"):
            read_metadata(*pair(data, {"E0": ["E1"]})).samples(root, root)


def test_jsonl_becomes_the_same_samples(tmp_path):
    lines = [
        {"video": "ego/a.mp4", "start": 1, "end": 2.5, "caption": "cuts a leek", "references": [
            {"video": str(tmp_path / "exo" / "b.webm"), "start": 3, "end": 9, "narration": "now cut it", "score": 1},
            {"video": "exo/c", "narration": "rinse it"},
        ]},
        {"video": "ego/d", "caption": "waits", "references": []},
    ]  # fmt: skip
    (tmp_path / "exo").mkdir()
    (tmp_path / "exo/b.webm").touch()
    (tmp_path / "mine.jsonl").write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    metadata = read_metadata(tmp_path / "mine.jsonl")
    first, second = metadata.samples()
    assert (first.id, first.video, first.start, first.end) == ("mine.jsonl:1", tmp_path / "ego/a.mp4", 1.0, 2.5)
    assert first.caption == first.answer == "cuts a leek"
    assert first.references == (
        Candidate("mine.jsonl:1#0", tmp_path / "exo/b.webm", 3.0, 9.0, "now cut it", 1.0),
        Candidate("mine.jsonl:1#1", tmp_path / "exo/c.mp4", None, None, "rinse it"),
    )
    assert (second.id, second.start, second.end, second.references) == ("mine.jsonl:3", None, None, ())


def broken(**change):
    return {"E0": segment("ego") | change}


@pytest.mark.parametrize(
    ("data", "config", "said"),
    [
        ([], {}, "data: [] is of type list; it must be an object"),
        ({"E0": 3}, {}, "E0: 3 is of type int; it must be an object"),
        (broken(answer=None), {}, "E0.answer: None is of type NoneType; it must be text"),
        (broken(image_ids={}), {}, "E0.image_ids: {} is of type dict; it must be a list"),
        (broken(image_ids=[]), {}, "E0.image_ids: it is empty"),
        (broken(image_ids=[{"vid": "a", "start_second": 1}]), {}, "E0 has no 'end_second'; it has 'vid', 'start_sec"),
        (
            {"E0": segment("ego", start="soon")},
            {},
            "E0.start_second: 'soon' is of type str; it must be a number of seconds",
        ),
        ({"E0": segment("ego", end=float("nan"))}, {}, "E0.end_second: nan is of type float"),
        ({"E0": segment("ego", end=True)}, {}, "E0.end_second: True is of type bool"),
        ({"E0": segment(5)}, {}, "E0.vid: 5 is of type int; it must be text"),
        (None, ["E0"], "train.json: ['E0'] is of type list; it must be an object"),
        (None, {"E0": 5}, "E0: 5 is of type int; it must be a list"),
        (None, {"E0": [5]}, "E0: 5 is of type int; it must be an id, as text"),
        (None, {"E0": ["E9"]}, "'E9' is not in the instructions file"),
        (None, {"E9": []}, "'E9' is not in the instructions file"),
        (None, {"E0": ["E1", "E0"]}, "E0 is among its own references"),
    ],
)
def test_wrong_values_are_named(pair, data, config, said):
    with pytest.raises(InputError) as error:
        read_metadata(*pair(data, config)).samples()
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "must be an object"),
        ('{"video": "a"}', "has no 'caption'"),
        ('{"video": "a", "caption": "b", "start": "x"}', "start: 'x' is of type str"),
        ('{"video": "a", "caption": "b", "captions": "b"}', "unknown key 'captions'; allowed are video, start"),
        ('{"video": "a", "caption": "b", "references": [{"video": "c"}]}', "references[0] has no 'narration'"),
        (
            '{"video": "a", "caption": "b", "references": [{"video": "c", "narration": "d", "score": "high"}]}',
            "score: 'high' is of type str; it must be a number",
        ),
        ('{"video": "a", "caption": "b", "references": "c"}', "references: 'c' is of type str; it must be a list"),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, said):
    path = tmp_path / "mine.jsonl"
    path.write_text(f'{{"video": "a", "caption": "b"}}\n{line}\n')
    with pytest.raises(InputError) as error:
        read_metadata(path)
    assert said in str(error.value)
    assert str(error.value).startswith(f"{path}, line 2")


def test_unreadable_files_and_mixed_up_files_are_refused(pair, tmp_path):
    instructions, train = pair()
    for paths, said in (
        ((tmp_path / "none.json", train), "can't be read"),
        ((instructions,), "without a config"),
        ((tmp_path / "x.jsonl", train), "leave the config out"),
        ((train, train), "has no 'data'"),
    ):
        with pytest.raises(InputError, match=said):
            read_metadata(*paths)
    Path(instructions).write_bytes(b"\xff{}\xff")
    with pytest.raises(InputError, match="can't be read"):
        read_metadata(instructions, train)


def test_a_missing_chat_answer_matters_only_where_it_is_learned(pair):
    data = {"E0": segment("ego")}
    del data["E0"]["chat_answer"]
    metadata = read_metadata(*pair(data, {"E0": []}))
    assert metadata.samples()
    with pytest.raises(InputError, match="E0 has no 'chat_answer'"):
        metadata.samples(use_chat=True)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("#C C cuts a leek", "cuts a leek"),
        ("#O Man X hands #c c the cup.", "man hands the cup ."),
        ("#cc Pours 1,000 ml at 10:30, then waits...", "pours 1,000 ml at 10:30 , then waits ..."),
        ("the cook's knife doesn't cut well-done (raw) meat", "the cook 's knife does n't cut well-done ( raw ) meat"),
        ("#unsure picks the vitamin C.", "unsure picks the vitamin ."),
        ("  Ok;go!  ", "ok ; go !"),
        ("#C C", ""),
    ],
)
def test_narrations_are_cleaned_of_who_acts(text, cleaned):
    assert clean_narration(text) == cleaned

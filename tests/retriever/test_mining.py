"""Matching by shared actions against a loop that follows its definition; what a cap does; the whole run on files."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egoinstructor.data import mining_run
from egoinstructor.data.mining import match
from egoinstructor.data.mining_run import mine_pairs
from egoinstructor.data.pairs import PairRecord, check_paired, read_pairs, write_pairs
from egoinstructor.errors import InputError

clips = st.lists(
    st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=3).map(lambda s: tuple(sorted(s))), max_size=12
)


def similarity(mine, theirs):
    product = 1.0
    for place in (0, 1):
        a, b = ({action[place] for action in actions} for actions in (mine, theirs))
        product *= len(a & b) / math.sqrt(len(a) * len(b))
    return round(product, 12)


@given(clips, clips)
@settings(max_examples=80, deadline=None)
def test_without_a_cap_it_is_all_that_share_an_action_in_order(ego, exo):
    for mine, found in zip(ego, match(ego, exo, top_k=100), strict=True):
        fitting = [i for i, theirs in enumerate(exo) if set(mine) & set(theirs)]
        assert list(found) == sorted(fitting, key=lambda i: (-similarity(mine, exo[i]), i))


@given(clips, clips, st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_a_cap_keeps_the_most_similar(ego, exo, top_k):
    for mine, found, whole in zip(ego, match(ego, exo, top_k), match(ego, exo, 100), strict=True):
        assert len(found) == min(top_k, len(whole)) == len(set(found))
        assert set(found) <= set(whole)
        kept = [similarity(mine, exo[i]) for i in found]
        assert kept == [similarity(mine, exo[i]) for i in whole[:top_k]]


def test_what_a_cap_leaves_out_is_the_next_ego_clips():
    cut = ((0, 0),)
    found = match([cut] * 4, [cut] * 5, top_k=2)
    assert found == [(0, 1), (2, 3), (0, 4), (1, 2)]
    better = match([((0, 0), (1, 1))] * 2, [cut, cut, ((0, 0), (1, 1))], top_k=2)
    assert better == [(2, 0), (2, 1)]


def test_equal_by_arithmetic_is_equal():
    """1/√2 · 1/√2 and 1 · 1/√4 differ in their last bit."""
    two_of_each, four_nouns = ((0, 0), (1, 1)), ((0, 0), (0, 1), (0, 2), (0, 3))
    assert match([((0, 0),)], [two_of_each, four_nouns]) == [(0, 1)]
    assert match([((0, 0),)], [four_nouns, two_of_each]) == [(0, 1)]


def test_crossed_actions_do_not_match():
    take_jar, open_jar, take_spoon = (0, 0), (1, 0), (0, 1)
    assert match([(take_jar,)], [(open_jar, take_spoon)]) == [()]
    assert match([()], [(take_jar,)]) == [()]


# On files, with a tagger that knows "VERB NOUN, VERB NOUN"


class Plain:
    identity = "plain 1"

    def __init__(self):
        self.read = []

    def actions(self, texts):
        for text in texts:
            self.read.append(text)
            yield [tuple(part.split()) for part in text.split(", ") if " " in part]


EGO = ["cut onion", "cut onion", "take mug", "dance", "fry egg"]
EXO = ["chop onion, take cup", "cut onion", "hello", "open jar"]


@pytest.fixture
def files(tmp_path):
    for name, texts in (("e", EGO), ("x", EXO)):
        write_pairs(tmp_path / f"{name}.json", [PairRecord(f"{name}{i}", i, i + 2.0, t) for i, t in enumerate(texts)])
    (tmp_path / "synonyms.json").write_text(json.dumps({"verbs": {"cut": ["chop"]}, "nouns": {"cup": ["mug"]}}))
    return tmp_path


def mine(files, out="out", tagger=None, **options):
    return mine_pairs(files / "e.json", files / "x.json", files / out, tagger or Plain(), **options)


def test_pairs_are_written_for_training(files):
    report = mine(files, synonyms=files / "synonyms.json")
    ego, exo = read_pairs(files / "out/ego.json"), read_pairs(files / "out/exo.json")
    check_paired(ego, exo, "ego.json")
    assert [clip.paired for clip in ego] == [(1, 0), (1, 0), (0,), (), ()]
    assert all(clip.same_action(exo[i]) for clip in ego for i in clip.paired)
    assert [clip.text for clip in exo] == EXO
    assert [clip.video for clip in ego] == ["e0", "e1", "e2", "e3", "e4"]
    assert not any(clip.paired for clip in exo)
    assert report.pairs == {"same words": 2, "synonyms": 3}
    assert (report.ego_without_action, report.ego_without_pair) == (1, 1)
    assert (report.exo_in_pairs, report.exo_without_action) == (2, 1)
    words = json.loads((files / "out/vocabulary.json").read_text())
    assert words["verbs"][0] == {"id": 0, "name": "cut", "words": ["chop", "cut"]}
    assert json.loads((files / "out/report.json").read_text()) == report.as_dict()
    assert "5 pairs (2 by same words, 3 by synonyms)" in str(report)
    assert "3 of 5 ego clips have some" in str(report)


def test_an_encoder_finds_synonyms_too(files):
    axes = {"to cut": 0, "to chop": 0, "cup": 1, "mug": 1}

    def encode(texts):
        rows = [axes.get(text, 2 + i) for i, text in enumerate(texts)]
        return torch.eye(32)[rows]

    assert mine(files, encode=encode).pairs == {"same words": 2, "synonyms": 3}
    assert mine(files).pairs == {"same words": 2, "synonyms": 0}


def test_a_stopped_run_goes_on_and_ends_alike(files, monkeypatch):
    monkeypatch.setattr(mining_run, "PORTION", 2)
    clean = Plain()
    mine(files, out="clean", tagger=clean)

    class Stop(Exception):
        pass

    def stop(done, total, name):
        if done >= 4:
            raise Stop

    first, second = Plain(), Plain()
    with pytest.raises(Stop):
        mine(files, tagger=first, progress=stop)
    assert not (files / "out/ego.json").exists()
    mine(files, tagger=second)
    assert first.read + second.read == clean.read
    for name in ("ego.json", "exo.json", "vocabulary.json"):
        assert (files / "out" / name).read_bytes() == (files / "clean" / name).read_bytes()


def test_another_tagger_reads_anew_and_other_options_do_not(files):
    mine(files)
    again = Plain()
    mine(files, tagger=again, top_k=1)
    assert again.read == []
    other = Plain()
    other.identity = "plain 2"
    mine(files, tagger=other)
    assert len(other.read) == len({*EGO, *EXO})
    assert len(list((files / "out/.narrations").iterdir())) == 1


def test_lists_that_are_there_are_not_overwritten_unasked(files):
    mine(files)
    with pytest.raises(InputError, match=r"ego.json has lists .* already"):
        mine_pairs(files / "out/ego.json", files / "x.json", files / "again", Plain())
    report = mine_pairs(files / "out/ego.json", files / "out/exo.json", files / "again", Plain(), replace_lists=True)
    assert report.pairs == {"same words": 2, "synonyms": 0}
    assert (files / "again/ego.json").read_bytes() == (files / "out/ego.json").read_bytes()


def test_what_cannot_be_done_is_refused(files):
    with pytest.raises(InputError, match="top_k=0"):
        mine(files, top_k=0)
    (files / "e.json").rename(files / "ego.json")
    with pytest.raises(InputError, match="holds a file that is read"):
        mine_pairs(files / "ego.json", files / "x.json", files, Plain())
    for same in (files / "x.json", files / "out" / ".." / "x.json"):
        with pytest.raises(InputError, match="was given as ego and as exo clips"):
            mine_pairs(files / "x.json", same, files / "out", Plain())
    with pytest.raises(InputError, match="can't be written"):
        mine_pairs(files / "ego.json", files / "x.json", files / "x.json" / "out", Plain())


@pytest.fixture
def run(capsys, monkeypatch):
    import argparse

    from egoinstructor.cli.prepare import add
    from egoinstructor.data import actions as narration

    monkeypatch.setattr(narration, "Tagger", lambda model: Plain())

    def run(*words):
        parser = argparse.ArgumentParser()
        add(parser.add_subparsers())
        arguments = parser.parse_args(["prepare", "pairs", *map(str, words)])
        arguments.run(arguments)
        return capsys.readouterr().out

    return run


def test_the_command(run, files):
    words = [files / "e.json", files / "x.json", "--out", files / "out", "--synonyms", files / "synonyms.json"]
    assert "5 pairs (2 by same words, 3 by synonyms)" in run(*words)
    assert json.loads(run(*words, "--json", "--top-k", 1))["pairs"] == {"same words": 2, "synonyms": 1}
    assert len(read_pairs(files / "out/ego.json")[0].paired) == 1


def test_the_command_says_what_is_wrong(run, files):
    words = [files / "e.json", files / "x.json", "--out", files / "out"]
    with pytest.raises(InputError, match="--similar was given without --encoder"):
        run(*words, "--similar", 0.6)
    write_pairs(files / "x.json", [PairRecord("v", 0, 1, "sing song")])
    with pytest.raises(InputError, match="no ego clip shares an action"):
        run(*words)

"""Pairs in the original's form: read, written, drawn."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egoinstructor.data.pairs import PairRecord, check_paired, draw_pair, read_pairs, write_pairs
from egoinstructor.errors import InputError

ORIGINAL = {
    "0": {"vid": "a", "uid": "u0", "start_second": 1.5, "end_second": "3", "text": "#C C cuts a leek", "noun": [7, 3, 7],
          "verb": [1], "nv_index": [1, 0]},
    "1": {"vid": "b", "uid": 4, "start_second": 0, "end_second": 9, "text": "so now", "refined_text": " stir it ",
          "noun": [], "verb": []},
}  # fmt: skip

records = st.builds(
    PairRecord,
    video=st.text(min_size=1),
    start=st.floats(0, 1e4),
    end=st.floats(0, 1e4),
    text=st.text(),
    uid=st.text(),
    refined=st.text().map(str.strip),
    nouns=st.sets(st.integers(0, 600)).map(lambda ids: tuple(sorted(ids))),
    verbs=st.sets(st.integers(0, 600)).map(lambda ids: tuple(sorted(ids))),
    paired=st.lists(st.integers(0, 5), unique=True).map(tuple),
)


@pytest.fixture
def file(tmp_path):
    def file(content):
        path = tmp_path / "pairs.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return file


def test_the_originals_form(file):
    first, second = read_pairs(file(ORIGINAL))
    assert first == PairRecord("a", 1.5, 3.0, "#C C cuts a leek", "u0", "", (3, 7), (1,), (1, 0))
    assert second == PairRecord("b", 0.0, 9.0, "so now", "4", "stir it")
    assert (first.words, second.words) == ("#C C cuts a leek", "stir it")


def test_keys_count_whatever_their_order_and_lists_do(file):
    turned = dict(reversed(ORIGINAL.items()))
    assert read_pairs(file(turned)) == read_pairs(file(list(ORIGINAL.values())))


@given(st.lists(records, max_size=4))
def test_written_and_read_again(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("pairs") / "new" / "pairs.json"
    write_pairs(path, written)
    assert read_pairs(path) == written
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_file_as_it_was(file):
    path = file(ORIGINAL)

    def failing():
        yield PairRecord("a", 0, 1, "x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pairs(path, failing())
    assert len(read_pairs(path)) == 2
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(InputError, match="can't be written"):
        write_pairs(path / "below a file", [])


def changed(**values):
    return {"0": {**ORIGINAL["0"], **values}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        (3, "a list"),
        ({"1": ORIGINAL["1"]}, "none has the key '0'"),
        ({"0": []}, "pairs.json: 0: .*an object"),
        (changed(vid=None), "0.vid"),
        (changed(text=["x"]), "0.text"),
        (changed(start_second="soon"), "start_second"),
        (changed(noun=["leek"]), "0.noun"),
        (changed(verb=3), "0.verb"),
        (changed(nv_index=[-1]), "nv_index"),
        (changed(nv_index=[True]), "nv_index"),
        (changed(refined_text=1), "refined_text"),
        (changed(uid=[]), "uid"),
        ({"0": {"vid": "a"}}, "has no 'start_second'"),
    ],
)
def test_files_that_can_not_be(file, content, message):
    with pytest.raises(InputError, match=message):
        read_pairs(file(content))


def test_pairs_that_are_not_there(file):
    ego = read_pairs(file(ORIGINAL))
    check_paired(ego, [ego[1]] * 2, "ego.json")
    with pytest.raises(InputError, match=r"ego\.json: 0\.nv_index has 1, but the exo file has 1 clips"):
        check_paired(ego, [ego[1]], "ego.json")


# ---------------------------------------------------------------------- drawn


def clip(nouns=(), verbs=(), paired=()):
    return PairRecord("v", 0, 1, "text", nouns=nouns, verbs=verbs, paired=paired)


def test_a_pair_shares_a_noun_and_a_verb():
    ego = clip((1, 2), (3,))
    assert ego.same_action(clip((2,), (3, 4)))
    assert not ego.same_action(clip((2,), (4,)))
    assert not ego.same_action(clip((), (3,)))


def test_pairs_are_drawn_evenly_and_the_same_again():
    ego, exo = clip((1,), (1,), (0, 2)), [clip((1,), (1,))] * 3
    drawn = [draw_pair(ego, exo, random.Random(seed)) for seed in range(200)]
    assert drawn == [draw_pair(ego, exo, random.Random(seed)) for seed in range(200)]
    assert {pair for pair, _ in drawn} == {0, 2}
    assert 60 < sum(pair == 0 for pair, _ in drawn) < 140


def test_a_clip_without_a_valid_pair_is_its_own():
    assert draw_pair(clip((1,), (1,)), [], random.Random(0)) == (None, False)
    assert draw_pair(clip((1,), (1,), (0,)), [clip((1,), (2,))], random.Random(0)) == (None, True)

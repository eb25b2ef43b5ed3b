"""Comparison with a recorded text: rounding is no change, anything else is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transcripts import TOLERANCE, Case, differing, normal, pretty, settled, transcript

LINES = "caption  0.850\n3 windows, 2.0 s\nid 46b358ba\n"


@given(st.floats(-0.99 * TOLERANCE, 0.99 * TOLERANCE))
def test_rounding_is_no_change(shift):
    now = LINES.replace("0.850", f"{0.85 + shift:.4f}")
    assert settled(LINES, now) == LINES


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.850", "0.865"), ("3 windows", "4 windows"), ("2.0 s", "2.1 s"), ("id 4", "id 5"), ("caption", "Caption")],
)
def test_a_change_is_one(old, new):
    now = LINES.replace(old, new)
    assert settled(LINES, now) == now
    assert differing(LINES, now) == 1


def test_a_line_more_changes_no_other():
    now = "new 1\n" + LINES.replace("0.850", "0.851")
    assert settled(LINES, now) == "new 1\n" + LINES
    assert differing(LINES, "new 1\n" + LINES) == differing("new 1\n" + LINES, LINES) == 1


def test_paths_times_and_long_numbers():
    text = 'read /a/b/c.mp4 of /a\n{"elapsed": 0.123, "score": -0.0570906400680542, "start": 0.123} × 3.5 real time'
    assert normal(text, {"/a/b": "<tmp>", "/a": "<home>"}) == (
        'read <tmp>/c.mp4 of <home>\n{"elapsed": <time>, "score": -0.05709, "start": 0.123} <time>\n'
    )


def test_line_breaks_of_json_do_not_depend_on_its_values():
    for value in (1, "long " * 50):
        assert pretty({"a": [value, value], "b": {}}).count("\n") == 3
    assert pretty({"a": 1, "b": "é"}) == '{"a": 1, "b": "é"}'


def test_a_transcript_has_the_exit_code_and_what_was_written(workplace, names):
    text = transcript(Case("egoinstructor caption none.mp4 --model nano", absent=("PIL",)), workplace, names)
    assert text.splitlines()[-1] == "exit code 2"
    text = transcript(Case("egoinstructor library create lib --retriever nano"), workplace, names)
    assert "exit code" not in text
    assert text.splitlines()[-6:-4] == ["# written", "lib/about.lance"]

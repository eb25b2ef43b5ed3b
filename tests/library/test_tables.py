"""Tables as spreadsheets and pandas write them."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egoinstructor.errors import InputError
from egoinstructor.fields import parse_seconds
from egoinstructor.library.sources.opening import open_source
from egoinstructor.library.sources.rows import Finding, SourceVideo

CASES = Path(__file__).parents[1] / "data" / "cases" / "table-excel"


def read(path):
    items = list(open_source(path))
    rows = [
        (row.start, row.end, row.narration) for video in items if isinstance(video, SourceVideo) for row in video.rows
    ]
    return rows, [(item.kind, item.reason) for item in items if isinstance(item, Finding)]


@pytest.mark.parametrize(
    ("file", "rows", "notes"),
    [
        ("semi.csv", [(0, 1, "hi")], []),
        ("sep.csv", [(0, 1, "hi")], []),
        ("u16.tsv", [(0, 1, "crème")], []),
        ("index.csv", [(0, 1, "hi")], ["columns that aren't read: (no name)"]),
        ("extra.csv", [(0, 1, "hi")], ["columns that aren't read: verb, noun"]),
        ("hms.csv", [(1, 2, "hi"), (1.5, 2.5, "hi"), (1.25, 2.25, "x")], []),
    ],
)
def test_what_excel_and_pandas_write(file, rows, notes):
    assert read(CASES / file) == (rows, [("note", note) for note in notes])


def test_nothing_is_no_word_and_no_time():
    rows, findings = read(CASES / "nan.csv")
    assert rows == [(0, 1, ""), (1, 2, ""), (0, 1, "")]
    assert [kind for kind, _ in findings] == ["row"], "a time that is missing is not the video's start"


def test_trailing_separators_and_decimal_commas(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("video;start;end;narration;;\nv.mp4;0,5;1,25;a, b;;\n")
    assert read(path) == ([(0.5, 1.25, "a, b")], [])


def test_a_mistyped_column_is_refused_with_the_right_one(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("video,start,end,naration\nv.mp4,0,1,hi\n")
    with pytest.raises(InputError, match="'naration' may be meant for 'narration'"):
        open_source(path)


CELL = st.text(alphabet="abc ,;\t'\"é漢x.", max_size=12)
TIME = st.integers(0, 10**7)  # milliseconds


def clock(milliseconds: int, mark: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{rest:03}"


@given(milliseconds=TIME, mark=st.sampled_from(".,"), plain=st.booleans())
def test_times_are_read_as_they_were_written(milliseconds, mark, plain):
    text = f"{milliseconds / 1000:.3f}".replace(".", mark) if plain else clock(milliseconds, mark)
    assert parse_seconds(text) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize("text", ["", "soon", "1:2:3:4", "1:60", "60:61", "1,2,3", "nan", "inf", "0x1", "1_0"])
def test_what_is_no_time(text):
    with pytest.raises(ValueError, match=r"is no time; give seconds, as 62\.5, or a clock time, as 1:02\.5"):
        parse_seconds(text)


@given(
    rows=st.lists(st.tuples(TIME, st.integers(1, 9999), CELL), min_size=1, max_size=5),
    delimiter=st.sampled_from([",", ";", "\t"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    index=st.booleans(),
    more=st.sampled_from([[], ["rating"], ["Unnamed: 0", "x y"]]),
    announced=st.booleans(),
    form=st.sampled_from(["plain", "comma", "clock"]),
)
def test_any_table_gives_its_rows(tmp_path_factory, rows, delimiter, encoding, index, more, announced, form):
    out = io.StringIO()
    if announced:
        out.write(f"sep={delimiter}\n")
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow([*([""] if index else []), "Video", "start", "end", "narration", *more])
    spell = {
        "plain": lambda t: f"{t / 1000:.3f}",
        "comma": lambda t: f"{t / 1000:.3f}".replace(".", ","),
        "clock": lambda t: clock(t, "."),
    }
    for number, (start, length, words) in enumerate(rows):
        times = [spell[form](start), spell[form](start + length)]
        writer.writerow([*([number] if index else []), "v.mp4", *times, words, *["z"] * len(more)])
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(out.getvalue().encode(encoding))
    assert encoding != "utf-16" or path.read_bytes().startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    found, findings = read(path)
    assert [(round(1000 * a), round(1000 * b), words) for a, b, words in found] == [
        (start, start + length, " ".join(words.split())) for start, length, words in rows
    ]
    assert [kind for kind, _ in findings] == ["note"] * bool(index or more)

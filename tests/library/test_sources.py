"""Folders, tables and HowTo100M's files → videos with rows: which are read, and what is said of those that aren't."""

from __future__ import annotations

import json
import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egoinstructor.errors import InputError
from egoinstructor.library.merging import Merging
from egoinstructor.library.sources.opening import open_source
from egoinstructor.library.sources.rows import Finding, Row, SourceVideo, windows

SRT = "1\n00:00:00,000 --> 00:00:02,500\n{}\n"


def read(source):
    """Videos by path, and findings."""
    items = list(source)
    findings = [item for item in items if isinstance(item, Finding)]
    return {item.video: item for item in items if isinstance(item, SourceVideo)}, findings


def texts(video):
    return [row.narration for row in video.rows]


@pytest.fixture
def folder(tmp_path):
    """Makes empty videos, and subtitles with their own name for words."""

    def make(*names):
        for name in names:
            path = tmp_path / "clips" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(SRT.format(name) if path.suffix.lower() in (".srt", ".vtt") else "")
        return tmp_path / "clips"

    return make


# Rows → clips


def clips_of(*rows, duration=10.0, **options):
    return SourceVideo("s", "a.mp4", tuple(rows), **options).clips(duration)


@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (3, 3, "its end must lie after its start"),
        (4, 3, "its end must lie after its start"),
        (-1, 3, "0 or more seconds"),
        (float("nan"), 3, "a number"),
        (1, float("inf"), "a number"),
        (10, 12, "the video ends at 10.00 s"),
        (3.0001, 3.0004, "nothing of it"),
    ],
)
def test_impossible_rows_are_found_one_by_one(start, end, reason):
    clips, findings = clips_of(Row(start, end, "no", where="line 7"), Row(1, 2, "yes"))
    assert [clip.narration for clip in clips] == ["yes"]
    (finding,) = findings
    assert (finding.kind, finding.video, finding.where) == ("row", "a.mp4", "line 7")
    assert reason in finding.reason
    assert "left out" in finding.reason


def test_an_end_past_the_video_is_cut_and_told_of_unless_it_is_a_rounding():
    clips, findings = clips_of(Row(8, 10.4, "a"), Row(9, 30, "b", where="line 2"), Row(None, None, "all"))
    assert [(clip.start, clip.end) for clip in clips] == [(0, 10), (8, 10), (9, 10)]
    (finding,) = findings
    assert finding.where == "line 2"
    assert "cut to the end" in finding.reason


def test_cues_are_merged_and_a_silent_video_is_cut_in_windows():
    cues = [Row(0, 2, "Chop the"), Row(2, 4, "onion."), Row(4, 8, "Fry it.")]
    clips, _ = clips_of(*cues, merging=Merging(), window=4.0)
    assert [clip.narration for clip in clips] == ["Chop the onion.", "Fry it."]
    clips, _ = clips_of(merging=Merging(), window=4.0)
    assert [(clip.start, clip.end, clip.narration) for clip in clips] == [(0, 4, ""), (4, 8, ""), (8, 10, "")]
    assert clips_of(duration=10.0) == ([], [])


@given(st.floats(0.05, 1e4), st.floats(0.1, 60))
def test_windows_cover_a_video_without_gaps(duration, length):
    spans = windows(duration, length)
    assert spans[0][0] == 0
    assert duration - 1e-3 <= spans[-1][1] <= duration
    assert all(a[1] == b[0] for a, b in pairwise(spans))
    assert all(length / 2 - 2e-3 <= end - start <= length * 1.5 + 2e-3 for start, end in spans if len(spans) > 1)


def test_the_fingerprint_changes_with_all_that_decides_the_clips():
    base = SourceVideo("s", "a.mp4", (Row(0, 1, "stir"),), Merging(), 4.0)
    others = [
        SourceVideo("s", "a.mp4", (Row(0, 1, "Stir"),), Merging(), 4.0),
        SourceVideo("s", "a.mp4", (Row(0, 1, "stir", "she stirs"),), Merging(), 4.0),
        SourceVideo("s", "a.mp4", (Row(0, 1, "stir"),), Merging(3), 4.0),
        SourceVideo("s", "a.mp4", (Row(0, 1, "stir"),), Merging(), 5.0),
        SourceVideo("s", "a.mp4", (Row(0, 1, "stir"),)),
    ]
    assert len({video.fingerprint for video in (base, *others)}) == 6
    moved = SourceVideo("t", "b/a.mp4", (Row(0, 1, "stir", where="line 9"),), Merging(), 4.0)
    assert moved.fingerprint == base.fingerprint


# Folders


def test_a_folder_with_subtitles_beside_the_videos(folder):
    root = folder("a.mp4", "a.srt", "sub/b.MKV", "sub/b.en.vtt", "c.mp4", ".hidden.mp4", "d.srt", "notes.txt")
    source = open_source(root)
    videos, findings = read(source)
    assert list(videos) == ["a.mp4", "c.mp4", "sub/b.MKV"]
    assert len(source) == 3
    assert {name: texts(video) for name, video in videos.items()} == {
        "a.mp4": ["a.srt"], "c.mp4": [], "sub/b.MKV": ["sub/b.en.vtt"],
    }  # fmt: skip
    assert {video.source for video in videos.values()} == {"clips"}
    assert [(f.kind, f.video, f.reason) for f in findings] == [
        ("note", "d.srt", "subtitles of no video; not read"),
        ("note", "clips", "1 of 3 videos go in without words, in clips of 4 s"),
    ]


@pytest.mark.parametrize(
    ("language", "names", "read_one"),
    [
        (None, ["a.de.srt", "a.en.srt", "a.srt"], "a.srt"),
        (None, ["a.de.srt", "a.en-US.vtt"], "a.en-US.vtt"),
        (None, ["a.fr.srt", "a.de.srt"], "a.de.srt"),
        (None, ["a.srt", "a.vtt"], "a.srt"),
        ("de", ["a.de.srt", "a.en.srt", "a.srt"], "a.de.srt"),
        ("pt", ["a.pt_BR.srt", "a.en.srt"], "a.pt_BR.srt"),
        ("de", ["a.en.srt", "a.srt"], "a.srt"),
        ("EN", ["a.en-GB.srt", "a.en.srt"], "a.en.srt"),
        ("fr", ["a.en.srt", "a.de.vtt"], None),
    ],
)
def test_which_language_is_read(folder, language, names, read_one):
    videos, _ = read(open_source(folder("a.mp4", *names), language=language))
    assert texts(videos["a.mp4"]) == ([read_one] if read_one else [])
    notes = [note.reason for note in videos["a.mp4"].notes]
    assert notes == ([] if read_one else ["no narration in 'fr', only in de, en; it goes in without words"])


def test_subtitles_go_to_the_video_whose_whole_name_they_have(folder):
    videos, findings = read(open_source(folder("a.mp4", "a.en.mp4", "a.en.srt", "part.two.mp4", "part.two.srt")))
    assert {name: texts(video) for name, video in videos.items()} == {
        "a.mp4": [], "a.en.mp4": ["a.en.srt"], "part.two.mp4": ["part.two.srt"],
    }  # fmt: skip
    assert [finding.reason for finding in findings] == ["1 of 3 videos go in without words, in clips of 4 s"]


def test_subtitles_that_are_empty_badly_encoded_or_no_text(folder):
    root = folder("a.mp4", "a.srt", "b.mp4", "b.srt", "c.mp4", "c.srt")
    (root / "a.srt").write_text("")
    (root / "b.srt").write_bytes(SRT.format("crème fraîche").encode("cp1252"))
    (root / "c.srt").write_bytes(bytes(1000))
    videos, findings = read(open_source(root))
    assert [note.reason for note in videos["a.mp4"].notes] == ["nothing is said in it"]
    assert texts(videos["b.mp4"]) == ["crème fraîche"]
    assert "Windows-1252" in videos["b.mp4"].notes[0].reason
    assert "c.mp4" not in videos
    assert [(f.kind, f.video) for f in findings] == [("failure", "c.mp4"), ("note", "clips")]
    assert "is no text file" in findings[0].reason


def test_words_that_are_lost_are_rows_left_out(folder):
    root = folder("a.mp4", "a.srt")
    (root / "a.srt").write_text(SRT.format("stir") + "\n2\n00:00:05,000 --> 00:00:05,000\nnow\n\n3\nwhen -->\nthen\n")
    videos, _ = read(open_source(root))
    assert [(note.kind, note.video) for note in videos["a.mp4"].notes] == [("row", "a.srt")] * 2


def test_links_out_of_the_folder_are_refused_unless_allowed(folder, tmp_path):
    root = folder("a.mp4")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.mp4").write_text("")
    (root / "b.mp4").symlink_to(tmp_path / "elsewhere/b.mp4")
    (root / "inside.mp4").symlink_to(root / "a.mp4")
    (root / "more").symlink_to(tmp_path / "elsewhere")
    videos, findings = read(open_source(root))
    assert list(videos) == ["a.mp4", "inside.mp4"]
    assert [(f.kind, f.video) for f in findings] == [("note", "more"), ("failure", "b.mp4"), ("note", "clips")]
    assert "is a link out of" in findings[1].reason
    assert list(read(open_source(root, allow_outside=True))[0]) == ["a.mp4", "b.mp4", "inside.mp4"]


def test_subtitles_that_are_a_link_out_of_the_folder_are_refused_unless_allowed(folder, tmp_path):
    root = folder("a.mp4", "b.mp4", "b.txt")
    (tmp_path / "secret.srt").write_text(SRT.format("secret"))
    (root / "a.srt").symlink_to(tmp_path / "secret.srt")
    (root / "b.txt").write_text(SRT.format("inside"))
    (root / "b.srt").symlink_to(root / "b.txt")
    videos, findings = read(open_source(root))
    assert {name: texts(video) for name, video in videos.items()} == {"b.mp4": ["inside"]}
    assert [(f.kind, f.video) for f in findings] == [("note", "b.txt"), ("failure", "a.mp4")]
    assert "subtitles 'a.srt' is a link out of" in findings[1].reason
    assert texts(read(open_source(root, allow_outside=True))[0]["a.mp4"]) == ["secret"]


def test_a_link_to_itself_is_told(folder):
    root = folder("a.mp4", "b.mp4")
    (root / "a.srt").symlink_to(root / "a.srt")
    (root / "c.mp4").symlink_to(root / "c.mp4")
    videos, findings = read(open_source(root))
    assert list(videos) == ["b.mp4", "c.mp4"]  # the latter can't be read, as ingest will tell
    assert [(f.kind, f.video) for f in findings] == [("failure", "a.mp4"), ("note", "clips")]


@given(st.text(), st.text())
def test_a_finding_can_always_be_printed(video, reason):
    finding = Finding("note", f"{video}\udcff", "", reason)
    str(finding).encode()
    assert finding.video.endswith("\N{REPLACEMENT CHARACTER}")
    if reason.isascii():
        assert finding.reason == reason


def test_subtitles_of_no_video_with_a_name_that_is_not_utf8_can_be_told(folder):
    root = folder("a.mp4")
    try:
        (root / os.fsdecode(b"\xff.srt")).write_text("")
        (root / os.fsdecode(b"\xff")).symlink_to(root)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    _, findings = read(open_source(root))
    assert [str(finding) for finding in findings] == [
        "\N{REPLACEMENT CHARACTER}: a link to a folder; not followed",
        "\N{REPLACEMENT CHARACTER}.srt: subtitles of no video; not read",
        "clips: 1 of 1 videos go in without words, in clips of 4 s",
    ]


def test_a_name_that_is_not_utf8_is_a_failure(folder):
    root = folder("a.mp4")
    try:
        (root / os.fsdecode(b"b\xff.mp4")).write_text("")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    videos, findings = read(open_source(root))
    assert list(videos) == ["a.mp4"]
    assert "not UTF-8" in findings[0].reason
    findings[0].video.encode()


# Tables


def table(tmp_path, text, file="t.csv", **options):
    path = tmp_path / file
    path.write_text(text, encoding="utf-8-sig")
    return open_source(path, **options)


def test_a_csv(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v/b.webm").write_text("")
    videos, findings = read(
        table(
            tmp_path,
            "video,start,end,narration,refined,source\n"
            'v/a.mp4,0,2.5,"  chop,\nfinely ","She chops.",\n'
            "v/b,1,2,stir,,cooking\n"
            "v/a.mp4,,,,,\n",
        )
    )
    assert findings == []
    assert list(videos) == ["v/a.mp4", "v/b.webm"]
    assert videos["v/a.mp4"].rows == (
        Row(0, 2.5, "chop, finely", "She chops.", "t.csv, line 3"), Row(None, None, "", "", "t.csv, line 5"),
    )  # fmt: skip
    assert [video.source for video in videos.values()] == ["t", "cooking"]


def test_a_tsv_and_a_jsonl_say_the_same(tmp_path):
    lines = [
        {"video": "a.mp4", "start": 0, "end": 2.5, "narration": "chop"},
        {"video": "a.mp4", "start": "3", "end": None},
    ]
    jsonl = table(tmp_path, "\n".join(map(json.dumps, lines)), "t.jsonl", name="x")
    tsv = table(tmp_path, "Video\tStart\tEnd\tNarration\na.mp4\t0\t2.5\tchop\na.mp4\t3\t\t\n", "t.tsv", name="x")
    (one,), (other,) = (read(source)[0].values() for source in (jsonl, tsv))
    assert one.fingerprint == other.fingerprint
    assert (one.source, one.video, len(one.rows)) == (other.source, other.video, 2)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.mp4,abc,2,x", "'abc'"),
        ("a.mp4,nan,2,x", "'nan'"),
        ("a.mp4,1,inf,x", "'inf'"),
        ("a.mp4,1,2", "3 fields"),
        ("a.mp4,1,2,x,y", "5 fields"),
        (",1,2,x", "no name"),
        ("../a.mp4,1,2,x", "leads out"),
        ("v/../../a.mp4,1,2,x", "leads out"),
        ("/etc/a.mp4,1,2,x", "leads out"),
        ("a\0.mp4,1,2,x", "no name"),
    ],
)
def test_bad_rows_are_found_by_their_line_and_the_others_go_in(tmp_path, row, reason):
    videos, findings = read(table(tmp_path, f"video,start,end,narration\nb.mp4,1,2,fine\n{row}\nc.mp4,1,2,fine\n"))
    assert list(videos) == ["b.mp4", "c.mp4"]
    (finding,) = findings
    assert (finding.kind, finding.video, finding.where) == ("row", "t.csv", "line 3")
    assert reason in finding.reason
    assert finding.reason.endswith("left out")


@pytest.mark.parametrize(
    "line", ["{", "[1]", '{"video": "a.mp4"}', '{"video": "a.mp4", "start": 1, "end": 2, "text": ""}']
)
def test_bad_lines_of_a_jsonl(tmp_path, line):
    good = json.dumps({"video": "b.mp4", "start": 1, "end": 2, "narration": "fine"})
    videos, findings = read(table(tmp_path, f"{good}\n{line}\n", "t.jsonl"))
    if line == '{"video": "a.mp4"}':  # times that aren't given are the video's own
        assert (list(videos), findings) == (["b.mp4", "a.mp4"], [])
    else:
        assert list(videos) == ["b.mp4"]
        assert [finding.where for finding in findings] == ["line 2"]


def test_paths_outside_the_root_are_taken_where_that_was_allowed(tmp_path):
    rows = f"video,start,end,narration\n../a.mp4,1,2,x\n{tmp_path}/elsewhere/b.mp4,1,2,x\n{tmp_path}/t/c.mp4,1,2,x\n"
    (tmp_path / "t").mkdir()
    videos, findings = read(table(tmp_path / "t", rows, allow_outside=True))
    assert findings == []
    assert list(videos) == [str(tmp_path / "a.mp4"), str(tmp_path / "elsewhere/b.mp4"), "c.mp4"]


def test_a_table_may_not_reach_files_through_a_link(tmp_path):
    (tmp_path / "t").mkdir()
    (tmp_path / "t/out").symlink_to(tmp_path)
    (tmp_path / "a.mp4").write_text("")
    videos, findings = read(table(tmp_path / "t", "video,start,end,narration\nout/a.mp4,1,2,x\n"))
    assert videos == {}
    assert "is a link out of" in findings[0].reason


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "names the columns none"),
        ("video,start\n", "must name video, start, end"),
        ("video,start,end,narrations\n", "'narrations'"),
        ("video,start,end,start\n", "each once"),
    ],
)
def test_other_columns_are_refused(tmp_path, text, match):
    with pytest.raises(InputError, match=match):
        table(tmp_path, text)


def test_a_table_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes("video,start,end,narration\na.mp4,0,1,crème\n".encode("cp1252"))
    with pytest.raises(InputError, match="can't be read"):
        open_source(tmp_path / "t.csv")


# HowTo100M


def test_a_refined_file_of_howto100m(tmp_path):
    record = {"vid": "0gC", "uid": "u", "start_second": 1.0, "end_second": 4, "text": "so cut it", "noun": [3]}
    data = {"0": record | {"refined_text": "she cuts"}, "1": record | {"start_second": "soon"}, "2": record, "3": []}
    path = tmp_path / "htm.json"
    path.write_text(json.dumps(data))
    videos, findings = read(open_source(path, name="HowTo100M"))
    (video,) = videos.values()
    assert (video.source, video.video, video.merging) == ("HowTo100M", "0gC.mp4", None)
    assert [(row.start, row.end, row.narration, row.refined) for row in video.rows] == [
        (1, 4, "so cut it", "she cuts"), (1, 4, "so cut it", ""),
    ]  # fmt: skip
    assert [finding.where for finding in findings] == ["1", "3"]


def test_the_raw_captions_of_howto100m_are_cues(tmp_path):
    data = {
        "a": {"start": [0, 2, float("nan")], "end": [2, 4, 6], "text": ["chop the", "onion.", "x"]},
        "b": {"start": [0], "end": [2, 4], "text": ["y"]},
        "../c": {"start": [0], "end": [2], "text": ["z"]},
    }
    path = tmp_path / "raw.json"
    path.write_text(json.dumps(data))
    videos, findings = read(open_source(path))
    assert list(videos) == ["a.mp4"]
    assert [clip.narration for clip in videos["a.mp4"].clips(10)[0]] == ["chop the onion."]
    assert [finding.where for finding in findings] == ["a, cue 2", "b", "../c"]
    assert "leads out" in findings[2].reason


@pytest.mark.parametrize("data", [{}, {"a": 1}, {"a": {"x": 1}}, [1]])
def test_another_json_is_refused(tmp_path, data):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="none of HowTo100M's files|must be an object"):
        open_source(path)


# Opening


def test_what_is_no_source_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "a.csv").write_text("video,start,end\n")
    with pytest.raises(InputError, match=r"ends in '\.txt'"):
        open_source(tmp_path / "a.txt")
    with pytest.raises(InputError, match="no such folder or file"):
        open_source(tmp_path / "gone")
    with pytest.raises(InputError, match="is not a folder"):
        open_source(tmp_path / "a.csv", root=tmp_path / "gone")
    with pytest.raises(InputError, match="its own root"):
        open_source(tmp_path, root=tmp_path / "a")
    with pytest.raises(InputError, match="above 0 seconds"):
        open_source(tmp_path, window=0)

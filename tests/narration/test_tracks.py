"""Tracks, as other programs read them."""

from __future__ import annotations

import json

import pytest

from egoinstructor.errors import InputError
from egoinstructor.library.subtitles import read_subtitles
from egoinstructor.narration.captions import Segment, Skipped
from egoinstructor.narration.tracks import Files, Tracks, jsonl, srt, timestamp, vtt

SEGMENTS = [
    Segment(0.0, 2.0004, "#C C stirs the soup", -0.1, 0.9),
    Segment(2.0004, 4, "salt & pepper <b>go</b> in --> the pot"),
    Segment(3599.9996, 360_000, "two\n\nlines\rand\x00 a 'quote'"),
]


def test_times():
    assert timestamp(0) == "00:00:00.000"
    assert timestamp(3599.9996, ",") == "01:00:00,000"
    assert timestamp(360_061.5) == "100:01:01.500"


def test_vtt():
    text = vtt(SEGMENTS)
    assert text.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n#C C stirs the soup\n\n")
    assert "salt &amp; pepper &lt;b&gt;go&lt;/b&gt; in --&gt; the pot\n" in text
    assert text.count("-->") == len(SEGMENTS)


def test_srt():
    text = srt(SEGMENTS)
    assert text.startswith("1\n00:00:00,000 --> 00:00:02,000\n#C C stirs the soup\n\n2\n")
    assert text.count("-->") == len(SEGMENTS)
    assert "salt & pepper ‹b›go‹/b› in → the pot\n" in text
    assert "(\\an8)up" in srt([Segment(0, 1, "{\\an8}up")])


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_our_own_reader_reads_them_back(tmp_path, suffix):
    path = tmp_path / f"track{suffix}"
    path.write_text((srt if suffix == ".srt" else vtt)(SEGMENTS), encoding="utf-8")
    read = read_subtitles(path)
    assert not read.lost
    assert [(cue.start, cue.end) for cue in read.cues] == [(0, 2.0), (2.0, 4.0), (3600.0, 360_000.0)]
    assert read.cues[2].text == "two lines and a 'quote'"
    if suffix == ".vtt":
        assert read.cues[1].text.startswith("salt & pepper")


def test_written_as_they_come_they_are_the_same(tmp_path):
    files = Files(tmp_path / "a.b")
    lines = [SEGMENTS[0], Skipped(2.0004, 3, "damaged"), *SEGMENTS[1:]]
    with Tracks(files) as tracks:
        tracks.add(lines[0])
        tracks.flush()
        assert files.srt.read_text() == srt(SEGMENTS[:1])
        for line in lines[1:]:
            tracks.add(line)
    assert files.srt == tmp_path / "a.b.srt"
    assert files.srt.read_bytes() == srt(SEGMENTS).encode()
    assert files.vtt.read_bytes() == vtt(SEGMENTS).encode()
    assert files.jsonl.read_bytes() == jsonl(lines).encode()
    assert [json.loads(line).get("skipped") for line in files.jsonl.read_text().splitlines()] == [
        None, "damaged", None, None,
    ]  # fmt: skip


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="can't be written"):
        Tracks(Files(tmp_path / "nowhere" / "a"))

"""Subtitle files as people have them: whatever is wrong with one, its words come out, or a note says which don't."""

from __future__ import annotations

import codecs
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egoinstructor.errors import InputError
from egoinstructor.library.subtitles import Cue, parse_subtitles, read_subtitles

SRT = """1
00:00:01,000 --> 00:00:02,500
Chop the onion,
finely.

2
00:00:03,000 --> 00:00:04,000
Añade sal – “bien”.
"""
CUES = (Cue(1.0, 2.5, "Chop the onion, finely."), Cue(3.0, 4.0, "Añade sal – “bien”."))


def texts(text):
    return [cue.text for cue in parse_subtitles(text).cues]


@pytest.mark.parametrize("text", [SRT, SRT.replace("\n", "\r\n"), SRT.replace("\n", "\r"), "\n\n" + SRT + "\n\n\n"])
def test_subrip_with_any_line_ends(text):
    assert parse_subtitles(text).cues == CUES
    assert (parse_subtitles(text).lost, parse_subtitles(text).notes) == ((), ())


def test_webvtt_with_header_notes_styles_names_and_settings():
    text = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

NOTE this is
no cue

REGION
id:left

intro
01:02.003 --> 01:04.000 align:start position:0%
<v Ann>Now <i>stir</i> <c.yellow>it</c> <00:01:03.000>in.

100:00:05.000 --> 100:00:06.000
&lt;low&gt; heat &amp; wait\u200b
"""
    subtitles = parse_subtitles(text)
    assert subtitles.cues == (Cue(62.003, 64, "Now stir it in."), Cue(360005, 360006, "<low> heat & wait"))
    assert (subtitles.lost, subtitles.notes) == ((), ())


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("00:00:01,500", 1.5),
        ("00:00:01.500", 1.5),
        ("0:00:01,5", 1.5),
        ("00:01,500", 1.5),
        ("123:00:01,500", 123 * 3600 + 1.5),
        ("00:00:01", 1.0),
    ],
)
def test_times(written, seconds):
    (cue,) = parse_subtitles(f"1\n{written} --> 999:00:00,000\nstir\n").cues
    assert cue.start == seconds


@pytest.mark.parametrize(
    "line",
    ["00:00:61,000 --> 00:01:05,000", "00:00:01,000 -> 00:00:02,000", "soon --> later", "-00:00:01,000 --> 1:00"],
)
@pytest.mark.parametrize("header", ["", "WEBVTT\n\n"])
def test_a_malformed_block_is_noted_and_the_others_go_in(line, header):
    subtitles = parse_subtitles(f"{header}1\n00:00:01,000 --> 00:00:02,000\nstir\n\n2\n{line}\nlost words\n\n3\n"
                                "00:00:08,000 --> 00:00:09,000\nserve\n")  # fmt: skip
    assert [cue.text for cue in subtitles.cues] == ["stir", "serve"]
    (reason,) = subtitles.lost
    assert "lost words" in reason
    assert f"line {6 + header.count(chr(10))}:" in reason


def test_missing_empty_lines_between_cues():
    text = "1\n00:01,000 --> 00:02,000\nstir\n2\n00:03,000 --> 00:04,000\n12\n3\n00:05,000 --> 00:06,000\nserve\n"
    assert texts(text) == ["stir", "12", "serve"]


def test_an_empty_line_within_a_subrip_cue_does_not_end_it():
    text = "1\n00:00:01,000 --> 00:00:02,000\n\nstir\n\nand wait\n\n2\n00:00:03,000 --> 00:00:04,000\nserve\n"
    assert texts(text) == ["stir and wait", "serve"]
    stray = parse_subtitles("WEBVTT\n\n00:01.000 --> 00:02.000\nstir\n\nand wait\n")
    assert [cue.text for cue in stray.cues] == ["stir"]
    assert "and wait" in stray.lost[0], "in WebVTT it does, by its rules"


def test_cues_without_length_or_with_their_end_first_are_noted():
    subtitles = parse_subtitles(
        "1\n00:01,000 --> 00:01,000\nnow\n\n2\n00:05,000 --> 00:04,000\nthen\n\n3\n00:06,000 --> 00:07,000\nserve\n"
    )
    assert [cue.text for cue in subtitles.cues] == ["serve"]
    assert [reason.partition(":")[0] for reason in subtitles.lost] == ["line 2", "line 6"]


def test_markup_and_sounds():
    text = "1\n00:00:01,000 --> 00:00:02,000\n{\\an8}<font color='red'>stir</font>\\Nwell\n\n" + "".join(
        f"{i}\n00:00:0{i},000 --> 00:00:0{i},900\n{sound}\n\n" for i, sound in enumerate(["[Music]", "♪♪", "..."], 3)
    )
    subtitles = parse_subtitles(text)
    assert [cue.text for cue in subtitles.cues] == ["stir well"]
    assert subtitles.notes == ("3 cues without words, such as [Music], left out",)


@pytest.mark.parametrize("text", ["", "\n \n", "WEBVTT\n\n", "1\n00:00:01,000 --> 00:00:02,000\n\n"])
def test_an_empty_file_is_noted(text):
    subtitles = parse_subtitles(text)
    assert subtitles.cues == ()
    assert "nothing is said in it" in subtitles.notes


# Captions that roll


YOUTUBE = """WEBVTT
Kind: captions
Language: en

00:00:00.000 --> 00:00:02.500 align:start position:0%
\x20
so<00:00:00.400><c> first</c><00:00:00.800><c> we</c>

00:00:02.500 --> 00:00:02.510 align:start position:0%
so first we
\x20

00:00:02.510 --> 00:00:05.000 align:start position:0%
so first we
cut<00:00:03.000><c> the</c><00:00:03.500><c> onion</c>

00:00:05.000 --> 00:00:05.010 align:start position:0%
cut the onion
\x20

00:00:05.010 --> 00:00:07.000 align:start position:0%
cut the onion
cut<00:00:06.000><c> it</c>
"""


def test_youtubes_rolling_captions_say_each_word_once():
    subtitles = parse_subtitles(YOUTUBE)
    assert subtitles.cues == (
        Cue(0.0, 2.5, "so first we"), Cue(2.51, 5.0, "cut the onion"), Cue(5.01, 7.0, "cut it"),
    )  # fmt: skip
    assert subtitles.notes == ("4 repeats of rolling captions left out",)


def test_overlapping_two_line_captions_and_growing_ones():
    overlapping = (
        "00:00.000 --> 00:04.000\na b\nc d\n\n00:02.000 --> 00:06.000\nc d\ne f\n\n00:04.000 --> 00:08.000\ne f\ng h\n"
    )
    assert texts(overlapping) == ["a b c d", "e f", "g h"]
    growing = (
        "00:00.000 --> 00:01.000\nadd\n\n00:01.000 --> 00:02.000\nadd the\n\n00:02.000 --> 00:03.000\nadd the salt\n"
    )
    assert texts(growing) == ["add", "the", "salt"]


def test_what_somebody_says_twice_is_no_repeat():
    lines = ["stir", "stir", "now add salt", "and wait", "turn it over"]
    text = "".join(f"00:0{2 * i}.000 --> 00:0{2 * i + 2}.000\n{line}\n\n" for i, line in enumerate(lines[:4]))
    text += f"00:08.000 --> 00:09.000\n{lines[4]}\n"
    assert texts(text) == lines


# Encodings


@pytest.mark.parametrize(
    ("encoding", "mark", "note"),
    [
        ("utf-8", b"", None),
        ("utf-8", codecs.BOM_UTF8, None),
        ("utf-16-le", codecs.BOM_UTF16_LE, None),
        ("utf-16-be", codecs.BOM_UTF16_BE, None),
        ("utf-16-le", b"", "utf-16-le"),
        ("utf-16-be", b"", "utf-16-be"),
        ("cp1252", b"", "Windows-1252"),
    ],
)
def test_encodings(tmp_path, encoding, mark, note):
    path = tmp_path / "a.srt"
    path.write_bytes(mark + SRT.encode(encoding))
    subtitles = read_subtitles(path)
    assert subtitles.cues == CUES
    assert [note in said for said in subtitles.notes] == ([True] if note else [])


@pytest.mark.parametrize(
    ("language", "encoding", "words"),
    [
        ("ru", "cp1251", "теперь чистим морковь"),
        ("ru", "koi8_r", "теперь чистим морковь и моем её"),
        ("uk", "cp1251", "тепер чистимо моркву"),
        ("zh", "gb18030", "现在我们削胡萝卜皮"),
        ("zh-tw", "big5hkscs", "現在我們削胡蘿蔔皮然後切成小塊"),
        ("ja", "cp932", "にんじんの皮をむきます"),
        ("ko", "cp949", "이제 당근 껍질을 벗깁니다"),
        ("pl", "cp1250", "teraz obieramy marchewkę, następnie ją myjemy"),
        ("el", "cp1253", "τώρα ξεφλουδίζουμε το καρότο"),
        ("fr", "cp1252", "on épluche la carotte, puis on la lave à l’eau"),
    ],
)
def test_a_legacy_encoding_is_one_of_its_language(tmp_path, language, encoding, words):
    path = tmp_path / "a.srt"
    path.write_bytes(f"1\n00:00:01,000 --> 00:00:03,000\n{words}\n".encode(encoding))
    subtitles = read_subtitles(path, language)
    assert [cue.text for cue in subtitles.cues] == [words]
    assert "not UTF-8; read as" in subtitles.notes[0]


@pytest.mark.parametrize(
    ("data", "language"),
    [
        ("теперь чистим".encode("cp1251"), ""),
        ("теперь чистим".encode("cp1251"), "zh"),
        ("现在我们削".encode("gb18030"), ""),
        ("dziś obieramy marchewkę, gorącą".encode("cp1250"), ""),
        (SRT.encode("cp1252") + b"\x81\x8d", ""),
    ],
)
def test_what_could_be_mojibake_is_refused(tmp_path, data, language):
    path = tmp_path / "a.srt"
    path.write_bytes(b"1\n00:00:01,000 --> 00:00:03,000\n" + data + b"\n")
    with pytest.raises(InputError, match=r"its encoding can't be told.*Save it as UTF-8"):
        read_subtitles(path, language)


def test_a_long_text_in_another_script_needs_no_language(tmp_path):
    said = ["теперь мы чистим морковь", "потом мы моем её в холодной воде", "и режем на маленькие кусочки", "добавляем соль",
            "и варим в кастрюле десять минут", "после этого подаём на стол", "приятного аппетита вам всем"]  # fmt: skip
    text = "".join(f"{i}\n00:00:0{i},000 --> 00:00:0{i},900\n{line}\n\n" for i, line in enumerate(said, 1))
    path = tmp_path / "a.srt"
    path.write_bytes(text.encode("cp1251"))
    assert [cue.text for cue in read_subtitles(path).cues] == said


def test_what_is_no_text_is_refused(tmp_path):
    path = tmp_path / "a.srt"
    path.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(InputError, match="is no text file"):
        read_subtitles(path)
    with pytest.raises(InputError, match="can't be read"):
        read_subtitles(tmp_path / "gone.srt")


@given(st.text(alphabet="WEBVT\n01:2,.->ax<{\\}&; \r\t", max_size=200))
def test_any_text_gives_cues_in_order_that_last(text):
    cues = parse_subtitles(text).cues
    assert all(0 <= cue.start < cue.end and cue.text for cue in cues)
    assert [cue.start for cue in cues] == sorted(cue.start for cue in cues)


@given(st.binary(max_size=300))
def test_any_bytes_are_text_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.srt"
    path.write_bytes(data)
    with contextlib.suppress(InputError):
        assert all(cue.text for cue in read_subtitles(path).cues)

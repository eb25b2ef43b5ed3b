"""Words that were said, and nothing that wasn't, out of subtitles as tools write them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egoinstructor.library.sources.opening import open_source
from egoinstructor.library.sources.rows import Finding, Row, SourceVideo
from egoinstructor.library.speech import spoken
from egoinstructor.library.subtitles import Cue, parse_subtitles, read_subtitles
from egoinstructor.library.transcripts import parse_transcript

CASES = Path(__file__).parents[1] / "data" / "cases"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[Music]", ""),
        ("♪ la la la ♪", ""),
        ("♪♪", ""),
        ("♪ and so it goes", ""),
        ("(applause)", ""),
        ("(MUSIC PLAYING)", ""),
        ("*sizzling*", ""),
        ("【拍手】", ""),
        ("[음악]", ""),
        ("[Applause] thank you", "thank you"),
        ("[ __ ] hot", "hot"),
        ("[SPEAKER_00]: now we peel", "now we peel"),
        ("SPEAKER_01: and wash it", "and wash it"),
        ("Speaker 2: and dry it", "and dry it"),
        ("- [Ann] And wash it", "And wash it"),
        (">> now", "now"),
        (">> ANN: now", "now"),
        ("ANN LEE: now", "now"),
        ("- Ready?\n- Yes (laughs)", "Ready? Yes"),
        ("[upbeat music] Now we peel", "Now we peel"),
        ("add it (about a cup)", "add it (about a cup)"),
        ("Remember: add salt", "Remember: add salt"),
        ("it is *very* hot", "it is *very* hot"),
        ("a 1:2 ratio, well-mixed", "a 1:2 ratio, well-mixed"),
        ("heat > 100 and x < 3", "heat > 100 and x < 3"),
        ("#C C cuts the onion", "#C C cuts the onion"),
    ],
)
def test_what_was_said(written, said):
    assert spoken(written) == said


@given(st.text(alphabet="[](){}*♪#>:-–AB ab1.\n【】", max_size=60))
def test_taking_it_out_twice_changes_nothing(text):
    once = spoken(text)
    assert spoken(once) == once
    assert once == "" or any(map(str.isalnum, once))


@pytest.mark.parametrize(
    ("file", "cues"),
    [
        ("music-tags/cook.en.vtt", [Cue(0.0, 3.0, "now we peel the carrot"), Cue(18.01, 21.0, "and wash it")]),
        ("speaker-labels/whisperx.srt", [Cue(1.0, 4.0, "now we peel the carrot"), Cue(5.0, 9.0, "and wash it")]),
        ("speaker-labels/music.srt", [Cue(7.0, 9.0, "thank you"), Cue(11.0, 13.0, "hot")]),
    ],
)
def test_the_words_of_files_with_sounds_and_labels(file, cues):
    subtitles = read_subtitles(CASES / file)
    assert list(subtitles.cues)[: len(cues)] == cues
    assert not any("[" in cue.text or "♪" in cue.text for cue in subtitles.cues)


def test_highlighted_words_keep_their_sentence_on_the_screen():
    cues = read_subtitles(CASES / "highlight-words" / "highlight.srt").cues
    assert (cues[0].start, cues[0].end) == (0.0, 5.0)
    assert cues[0].text == "now we peel the carrot"


def test_signs_of_comparison_are_no_tags():
    (cue,) = parse_subtitles("1\n00:00:01,000 --> 00:00:02,000\nx<y heat > 100 and <i>stir</i> <b >well</b>\n").cues
    assert cue.text == "x<y heat > 100 and stir well"


# Sources


def read(source):
    items = list(source)
    return [item for item in items if isinstance(item, SourceVideo)], [i for i in items if isinstance(i, Finding)]


def test_no_source_gives_clips_of_sounds(tmp_path):
    shutil.copy(CASES / "howto100m-music" / "music.json", tmp_path / "music.json")
    (tmp_path / "v.mp4").write_text("")
    ((video,), _) = read(open_source(tmp_path / "music.json"))
    clips, findings = video.clips(3.0)
    assert [clip.narration for clip in clips] == ["cut it"]
    assert [finding.reason for finding in findings] == ["2 rows without words, such as [Music]; left out"]
    table = tmp_path / "t.csv"
    table.write_text("video,start,end,narration\nv.mp4,0,1,[Music]\nv.mp4,1,2,\nv.mp4,2,3,>> ANN: cut it\n")
    ((video,), _) = read(open_source(table))
    clips, findings = video.clips(3.0)
    assert [(clip.start, clip.narration) for clip in clips] == [(1.0, ""), (2.0, "cut it")]
    assert len(findings) == 1
    # A refined narration is words enough.
    clips, _ = SourceVideo("s", "v.mp4", (Row(0, 1, "[Music]", "She cuts it."),)).clips(3.0)
    assert [(clip.narration, clip.refined) for clip in clips] == [("", "She cuts it.")]


@pytest.mark.parametrize(
    ("names", "language", "read_one"),
    [
        (["a.mp4.srt"], None, "a.mp4.srt"),
        (["a_en.vtt"], None, "a_en.vtt"),
        (["a.English.srt"], "en", "a.English.srt"),
        (["a.en.sdh.srt", "a.en.srt"], None, "a.en.srt"),
        (["a.en.forced.srt", "a.en.sdh.srt"], None, "a.en.sdh.srt"),
        (["a.forced.srt", "a.de.srt"], None, "a.de.srt"),
        (["a.a.en.vtt"], None, "a.a.en.vtt"),
        (["a.pt_BR.srt"], "pt", "a.pt_BR.srt"),
        (["a.json"], None, "a.json"),
        (["a.srt", "a.json", "a.tsv"], None, "a.srt"),
        (["a.tsv", "a.info.json"], None, "a.tsv"),
        (["a.info.json", "a.en.vtt"], None, "a.en.vtt"),
        (["a.info.json", "a.a.en.vtt"], None, "a.a.en.vtt"),
        (["a_2.srt", "ab.srt", "a-b.srt"], None, None),
    ],
)
def test_words_are_found_as_tools_name_them(tmp_path, names, language, read_one):
    (tmp_path / "a.mp4").write_text("")
    for name in names:
        path = tmp_path / name
        if name.endswith(".json"):
            content = {"segments": [{"start": 1.0, "end": 3.0, "text": name}]} if "info" not in name else {"id": "a"}
            path.write_text(json.dumps(content))
        elif name.endswith(".tsv"):
            path.write_text(f"start\tend\ttext\n1000\t3000\t{name}\n")
        else:
            path.write_text(f"1\n00:00:01,000 --> 00:00:03,000\n{name}\n")
    ((video,), findings) = read(open_source(tmp_path, language=language))
    assert [row.narration for row in video.rows] == ([read_one] if read_one else [])
    unread = [finding.reason for finding in findings if "further files of words" in finding.reason]
    assert unread == ([f"{len(names) - 1} further files of words are not read, as one is read for each video: "
                       + ", ".join(sorted(set(names) - {read_one}))] if read_one and len(names) > 1 else [])  # fmt: skip
    if not read_one:
        assert [f.video for f in findings] == [*sorted(names), tmp_path.name]


def test_every_file_that_looks_like_video_or_words_is_used_or_named(tmp_path):
    mp4 = (CASES / "music-tags" / "cook.mp4").read_bytes()
    for name in ("GX010012.MP4", "GL010012.LRV", "GL010099.LRV", "clip.bin"):
        (tmp_path / name).write_bytes(mp4)
    (tmp_path / "code.ts").write_text("const x = 1")
    (tmp_path / "GX010012.ass").write_text("[Script Info]")
    (tmp_path / "GX010012.json").write_text('{"camera": "GoPro"}')
    (tmp_path / "photo.jpg").write_text("")
    videos, findings = read(open_source(tmp_path))
    assert [video.video for video in videos] == ["GL010099.LRV", "GX010012.MP4"]
    notes = [note for video in videos for note in video.notes]
    assert {f.video: f.reason.partition(";")[0] for f in [*findings, *notes]} == {
        "GL010012.LRV": "a preview of GX010012.MP4, which is read",
        "clip.bin": "begins as a video does (mp4), but its suffix is no video's",
        "code.ts": "ends as MPEG-TS does and isn't",
        "GX010012.ass": "words in a form that isn't read (.ass)",
        "GX010012.json": "no transcript of speech",
        tmp_path.name: "2 of 2 videos go in without words, in clips of 4 s",
    } | {f.video: f.reason for f in findings if f.video == tmp_path.name}


@pytest.mark.parametrize(
    ("data", "cues"),
    [
        ({"segments": [{"start": 1.0, "end": 4.0, "text": " json one", "words": []}]}, (Cue(1, 4, "json one"),)),
        ([{"start": 1, "end": 4, "text": "a list", "speaker": "SPEAKER_00"}], (Cue(1, 4, "a list"),)),
        ({"transcription": [{"offsets": {"from": 1000, "to": 4000}, "text": " cpp"}]}, (Cue(1, 4, "cpp"),)),
        ({"segments": []}, ()),
    ],
)
def test_transcripts(data, cues):
    assert parse_transcript(json.dumps(data), Path("a.json")).cues == cues


def test_entries_without_times_are_lost_by_number():
    data = {"segments": [{"start": 1, "end": 2, "text": "stir"}, {"start": None, "end": 3, "text": "serve"}]}
    transcript = parse_transcript(json.dumps(data), Path("a.json"))
    assert transcript.cues == (Cue(1, 2, "stir"),)
    assert transcript.lost == ("entry 2: no times can be read there; left out: 'serve'",)


# What a generator knows was said is read back


@dataclass(frozen=True)
class Said:
    start: int  # milliseconds
    end: int
    words: tuple[str, ...]


WORDS = st.lists(
    st.sampled_from(["now", "we", "peel", "the", "carrot", "and", "wash", "it", "in", "water"]), min_size=2, max_size=5
)
SOUND = st.sampled_from(["[Music]", "(applause)", "♪ la la ♪", "[upbeat music]", "*sizzling*", "【拍手】"])


@st.composite
def talks(draw):
    """Sentences one after the other, each begun by a word of its own, so that none repeats another."""
    said, now = [], 0
    for number in range(draw(st.integers(2, 6))):
        now += draw(st.integers(500, 3000))
        words = (f"step{number}", *draw(WORDS))
        end = now + draw(st.integers(200, 400)) * len(words)
        said.append(Said(now, end, words))
        now = end
    return said


def stamp(milliseconds: int, mark: str = ",") -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{rest:03}"


def srt(cues) -> str:
    return "".join(f"{i}\n{stamp(a)} --> {stamp(b)}\n{text}\n\n" for i, (a, b, text) in enumerate(cues, 1))


def plain(talk, draw):
    return srt((s.start, s.end, " ".join(s.words)) for s in talk), 0


def labelled(talk, draw):
    cues = []
    for s in talk:
        label = draw(st.sampled_from(["[SPEAKER_00]: ", ">> ", "- [Ann] ", "ANN: ", "", "[Music] "]))
        cues.append((s.start, s.end, label + " ".join(s.words)))
        if draw(st.booleans()):
            cues.append((s.end, s.end + 100, draw(SOUND)))
    return srt(cues), 0


def rolling(talk, draw):
    """As YouTube writes automatic captions: the line before on top, the new one below, word by word, then it alone."""
    parts, before = ["WEBVTT\nKind: captions\nLanguage: en\n"], " "

    def line(start, end, text, tagged):
        nonlocal before
        parts.append(f"{stamp(start, '.')} --> {stamp(end - 10, '.')} align:start position:0%\n{before}\n{tagged}\n")
        parts.append(f"{stamp(end - 10, '.')} --> {stamp(end, '.')} align:start position:0%\n{text}\n \n")
        before = text

    for place, s in enumerate(talk):  # each line is shown until the next one comes
        until = talk[place + 1].start if place + 1 < len(talk) else s.end
        sound = draw(st.none() | SOUND)
        end = (s.start + until) // 2 if sound else until
        step = (end - s.start) // len(s.words)
        tagged = s.words[0] + "".join(
            f"<{stamp(s.start + step * i, '.')}><c> {word}</c>" for i, word in enumerate(s.words[1:], 1)
        )
        line(s.start, end, " ".join(s.words), tagged)
        if sound:
            line(end, until, sound, sound)
        talk[place] = Said(s.start, end, s.words)
    return "\n".join(parts), 10


def highlighted(talk, draw):
    """As WhisperX writes with --highlight_words: the whole sentence for each word, that word underlined."""
    cues = []
    for s in talk:
        step = (s.end - s.start) // len(s.words)
        for i in range(len(s.words)):
            begin, end = s.start + step * i, s.end if i == len(s.words) - 1 else s.start + step * (i + 1)
            text = " ".join(f"<u>{word}</u>" if j == i else word for j, word in enumerate(s.words))
            middle = begin + (end - begin) * 3 // 4
            cues += [(begin, middle, text), (middle, end, " ".join(s.words))]
    return srt(cues), 0


@given(talk=talks(), form=st.sampled_from([plain, labelled, rolling, highlighted]), data=st.data())
def test_what_was_said_is_read_back_with_its_times(talk, form, data):
    text, slack = form(talk, data.draw)
    cues = parse_subtitles(text).cues
    assert [cue.text for cue in cues] == [" ".join(s.words) for s in talk]
    for cue, s in zip(cues, talk, strict=True):
        assert abs(1000 * cue.start - s.start) <= slack + 1
        assert abs(1000 * cue.end - s.end) <= slack + 1


@given(talk=talks(), form=st.sampled_from(["json", "cpp", "tsv"]))
def test_what_was_said_is_read_back_from_transcripts(talk, form):
    if form == "json":
        segments = [{"start": s.start / 1000, "end": s.end / 1000, "text": " " + " ".join(s.words)} for s in talk]
        text = json.dumps({"segments": segments, "language": "en"})
    elif form == "cpp":
        entries = [{"offsets": {"from": s.start, "to": s.end}, "text": " " + " ".join(s.words)} for s in talk]
        text = json.dumps({"transcription": entries})
    else:
        text = "start\tend\ttext\n" + "".join(f"{s.start}\t{s.end}\t{' '.join(s.words)}\n" for s in talk)
    cues = parse_transcript(text, Path("a.tsv" if form == "tsv" else "a.json")).cues
    assert [(cue.text, round(1000 * cue.start), round(1000 * cue.end)) for cue in cues] == [
        (" ".join(s.words), s.start, s.end) for s in talk
    ]

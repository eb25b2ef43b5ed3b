"""A run over a split: each sample once, whoever captions it; what can't be read; references, baselines, the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from egoinstructor import Captioner, Clip, Reference
from egoinstructor.cli import INTERRUPTED, USAGE_ERROR, main
from egoinstructor.engine import Died, Done
from egoinstructor.errors import InputError, VideoError
from egoinstructor.evaluation.captions import conditions
from egoinstructor.evaluation.captions.conditions import Condition, Oracle, Random, candidates_for
from egoinstructor.evaluation.captions.run import (
    FOLDER,
    LOCK,
    alone,
    begin,
    describe,
    finished,
    forget_failures,
    gather,
    work_share,
)
from egoinstructor.evaluation.captions.samples import digest, pool_of
from egoinstructor.evaluation.captions.workers import caption_all
from egoinstructor.evaluation.captions.writer import SILENT, CaptionWriter
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import ClipEntry
from egoinstructor.library.references import Retrieval
from egoinstructor.library.selection import SelectionRules
from egoinstructor.model.calibration import Calibration
from egoinstructor.records import Caption
from egoinstructor.video.identity import content_digest

GENERATION = {"num_beams": 1, "max_new_tokens": 4}
ANSWERS = ["cuts a leek", "opens a jar", "stirs the sauce", "cuts a carrot", "washes a cup"]
NARRATIONS = {"exo1": "now cut the leek", "exo2": "open the jar", "exo3": "stir the soup"}


@dataclass(frozen=True)
class HowTo:
    id: str
    video: Path
    narration: str
    start: float | None = 0.0
    end: float | None = 2.0


@dataclass(frozen=True)
class Sample:
    id: str
    video: Path
    answer: str
    references: tuple[HowTo, ...]
    start: float | None = 0.0
    end: float | None = 2.0
    instruction: str = "Describe the main action in the video."


@pytest.fixture
def samples(short_videos):
    how_to = tuple(HowTo(name, short_videos[name], text) for name, text in NARRATIONS.items())
    return [
        Sample(f"s{i}", short_videos["ego"], answer, how_to[i % 3 :] + how_to[: i % 3], start=i / 5)
        for i, answer in enumerate(ANSWERS)
    ]


class Echo:
    """Stands in for a captioner: says what it was given; a video whose name has "broken" in it can't be read."""

    def __init__(self):
        self.asked = []

    def encode(self, clips, *, num_frames=None):
        if any("broken" in clip.name for clip in clips):
            raise VideoError("broken: no frames")
        return dict.fromkeys(clips)

    def caption_batch(self, queries, *, instruction, blind, likeliest, num_frames, guide=None, **generation):
        if not blind:
            self.encode([clip for clip, _ in queries])
        self.asked.append((len(queries), instruction, blind, guide, generation, likeliest))
        return [
            Caption(f"{clip.start} {' '.join(r.narration for r in references)}", clip, tuple(references))
            for clip, references in queries
        ]


def write(samples, condition=None, captioner=None, **options):
    return CaptionWriter(condition or Condition(shots=2), samples, captioner or Echo(), **options).write(samples)


def straight(out, samples, size=2):
    begin(out, {"a": 1})
    work_share(out, CaptionWriter(Condition(shots=2), samples, Echo()), samples, size)
    return gather(out, samples, size)


# ---------------------------------------------------------------------- each sample once


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_any_number_of_processes_gives_the_same(samples, tmp_path, processes):
    expected = straight(tmp_path / "one", samples)
    assert [record["id"] for record in expected] == ["s0", "s1", "s2", "s3", "s4"]
    out = tmp_path / "several"
    begin(out, {"a": 1})
    calls = []
    for rank in reversed(range(processes)):
        echo = Echo()
        writer = CaptionWriter(Condition(shots=2), samples, echo)
        work_share(out, writer, samples, 2, rank=rank, processes=processes)
        calls += [size for size, *_ in echo.asked]
    assert json.dumps(gather(out, samples, 2)) == json.dumps(expected)
    assert sorted(calls) == [1, 2, 2]


@pytest.mark.parametrize("cut", [1, 30, 5000])
def test_a_run_that_was_cut_off_goes_on(samples, tmp_path, cut):
    expected = straight(tmp_path / "straight", samples)
    out = tmp_path / "cut"
    straight(out, samples)
    journal = out / FOLDER / "0.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut] if cut < 5000 else b"")
    with pytest.raises(InputError, match=r"lacks \d of 3 batches"):
        gather(out, samples, 2)
    left = 3 - len(finished(out))
    echo = Echo()
    work_share(out, CaptionWriter(Condition(shots=2), samples, echo), samples, 2)
    assert gather(out, samples, 2) == expected
    assert len(echo.asked) == left > 0


def test_a_run_that_is_gone_on_with_tries_again_what_failed(samples, tmp_path):
    expected = straight(tmp_path / "straight", samples)
    out = tmp_path / "mended"
    failed = straight(out, [*samples[:3], replace(samples[3], video=Path("broken.mp4")), samples[4]])
    assert [record["caption"] is None for record in failed] == [False, False, False, True, False]
    echo = Echo()

    def opener(rank, workers):
        return CaptionWriter(Condition(shots=2), samples, echo), {"a": 1}

    caption_all(out, opener, samples, 2)
    assert gather(out, samples, 2) == expected
    assert [size for size, *_ in echo.asked] == [2]  # its batch alone, and all of it
    before = {path.name: path.stat().st_ino for path in (out / FOLDER).glob("*.jsonl")}
    forget_failures(out)
    assert {path.name: path.stat().st_ino for path in (out / FOLDER).glob("*.jsonl")} == before


def test_a_folder_is_for_one_run_at_a_time(tmp_path):
    with alone(tmp_path), pytest.raises(InputError, match="another run is writing"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_captions_that_cannot_be_read_are_named(samples, tmp_path):
    straight(tmp_path, samples)
    (journal := tmp_path / FOLDER / "0.jsonl").write_text("{half\n")
    with pytest.raises(InputError, match=f"{journal.name} can't be read"):
        finished(tmp_path)


def test_a_full_disk_is_no_bug(samples, tmp_path, monkeypatch):
    begin(tmp_path, {"a": 1})

    def full(*lines):
        raise OSError("No space left on device")

    monkeypatch.setattr("egoinstructor.evaluation.captions.run.JsonlLog.add", full)
    with pytest.raises(InputError, match="No space left on device. Make room"):
        work_share(tmp_path, CaptionWriter(Condition(shots=2), samples, Echo()), samples, 2)


def test_a_batch_that_workers_die_of_is_named(samples, tmp_path, monkeypatch):
    def deadly(make, jobs, *, workers):
        first, second, *_ = jobs
        yield Done(first, make(0, workers)(first))
        yield Died(second, -9)

    monkeypatch.setattr("egoinstructor.evaluation.captions.workers.each", deadly)

    def opener(rank, workers):
        return CaptionWriter(Condition(shots=2), samples, Echo()), {"a": 1}

    with pytest.raises(InputError, match="batch 1 ended one of 2 workers 3 times.*fewer --workers"):
        caption_all(tmp_path, opener, samples, 2, workers=2)
    assert list(finished(tmp_path)) == [0], "what was captioned is kept"


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    begin(tmp_path, {"shots": 4, "beams": (3, 1), "seed": 0})
    begin(tmp_path, {"shots": 4, "beams": (3, 1), "seed": 0})
    with pytest.raises(InputError, match="shots was 4 and is 2; extra was None and is 1"):
        begin(tmp_path, {"shots": 2, "beams": (3, 1), "seed": 0, "extra": 1})


def test_a_split_is_known_by_its_texts_and_times_wherever_it_lies(samples):
    moved = [replace(sample, video=Path("/elsewhere") / sample.video.name) for sample in samples]
    assert digest(moved) == digest(samples)
    assert digest(samples[::-1]) != digest(samples)
    assert digest([replace(samples[0], answer="x"), *samples[1:]]) != digest(samples)


# ---------------------------------------------------------------------- what can't be read


def test_an_unreadable_sample_costs_no_other(samples):
    broken = [*samples[:2], replace(samples[2], video=Path("broken.mp4")), replace(samples[3], end=0.1), samples[4]]
    records = write(broken)
    assert [record["caption"] is None for record in records] == [False, False, True, True, False]
    assert records[2]["failure"] == "broken: no frames"
    assert "the start must lie before the end" in records[3]["failure"]
    whole = write(samples)
    assert [records[i] for i in (0, 1, 4)] == [whole[i] for i in (0, 1, 4)]


def test_an_unreadable_reference_gives_way_to_the_next_and_is_named(samples):
    first = samples[0].references
    broken = replace(first[0], video=Path("broken.mp4"))
    silent = replace(first[1], narration=" ")
    record = write([replace(samples[0], references=(broken, silent, *first[1:]))])[0]
    assert [r["narration"] for r in record["references"]] == [first[1].narration, first[2].narration]
    assert [(one["video"], one["reason"]) for one in record["dropped"]] == [("broken.mp4", "broken: no frames")]
    few = write([replace(samples[0], references=(broken,))])[0]
    assert (few["references"], len(few["dropped"]), few["failure"]) == ([], 1, None)


# ---------------------------------------------------------------------- what the captioner is given


def test_each_sample_is_asked_its_own_instruction(samples):
    samples[1] = replace(samples[1], instruction="*What is - done?")
    echo = Echo()
    write(samples, Condition(generation=GENERATION), echo)
    write(samples, Condition(instruction="Say it"), echo)
    assert echo.asked[0][1][:2] == ["Describe the main action in the video.", "What is done?"]
    assert echo.asked[0][4] == GENERATION
    assert echo.asked[1][1] == ["Say it"] * 5
    write(samples, Condition(likeliest=True), echo)
    assert [asked[5] for asked in echo.asked] == [False, False, True]


def test_video_only_has_no_references_and_a_guide_where_asked(samples):
    assert Condition(baseline="video-only") == replace(Condition(shots=0), baseline="video-only")
    echo = Echo()
    records = write(samples, Condition(shots=0, zero_shot_guide=True), echo)
    assert all(record["references"] == [] for record in records)
    assert echo.asked[0][3] == [ANSWERS[1], *[ANSWERS[0]] * 4]
    write(samples, Condition(shots=1, zero_shot_guide=True), echo)
    assert echo.asked[1][3] == [None] * 5


def test_text_only_reads_no_video(samples):
    echo = Echo()
    gone = [replace(sample, video=Path("broken.mp4")) for sample in samples]
    records = write(gone, Condition(shots=2, baseline="text-only"), echo)
    assert [len(record["references"]) for record in records] == [2] * 5
    assert echo.asked[0][2] is True


def test_retrieval_only_copies_the_best_reference(samples):
    condition = Condition(baseline="retrieval-only")
    records = CaptionWriter(condition, samples, None).write([*samples, replace(samples[0], references=())])
    best = list(NARRATIONS.values())
    assert [record["caption"] for record in records] == [*best, *best[:2], ""]
    assert records[0]["references"][0]["narration"] == best[0]


def test_random_references_are_drawn_by_seed_and_sample(samples):
    pool = [HowTo(str(i), Path(f"{i}.mp4"), "x") for i in range(100)]
    own = replace(samples[0], video=Path("7.mp4"))
    drawn = Random(pool, 92, seed=0).of(own)
    assert len({clip.id for clip in drawn}) == 99
    assert own.video not in {clip.video for clip in drawn}
    one, other = (Random(pool, 4, seed).of(samples[0]) for seed in (0, 1))
    assert [c.id for c in one] != [c.id for c in other]
    assert [c.id for c in one] != [c.id for c in Random(pool, 4, 0).of(samples[1])]
    assert [c.id for c in one] == [c.id for c in Random(pool, 4, 0).of(samples[0])]
    assert candidates_for(Condition(references="random", shots=1), samples).of(samples[0])
    with pytest.raises(InputError, match="no how-to clips"):
        candidates_for(Condition(references="random"), [replace(samples[0], references=())])


def test_a_clip_that_several_samples_list_is_in_the_pool_once(samples):
    """In a JSONL it has another id each time."""
    listing = [
        replace(s, references=tuple(replace(r, id=f"{s.id}#{i}") for i, r in enumerate(s.references))) for s in samples
    ]
    assert [clip.narration for clip in pool_of(listing)] == list(NARRATIONS.values())
    drawn = candidates_for(Condition(references="random", shots=3), listing).of(listing[0])
    assert sorted(clip.narration for clip in drawn) == sorted(NARRATIONS.values())


def test_no_random_reference_is_of_the_own_video_by_another_path(samples, tmp_path):
    (link := tmp_path / "link.mp4").symlink_to(samples[0].video)
    pool = [HowTo("own", link, "x"), HowTo("piece", tmp_path / "vid" / "0001.mp4", "x"), HowTo("other", Path("o"), "x")]
    assert {clip.id for clip in Random(pool, 3, 0).of(samples[0])} == {"piece", "other"}
    assert {clip.id for clip in Random(pool, 3, 0).of(replace(samples[0], video=tmp_path / "vid"))} == {"own", "other"}


def test_an_oracle_looks_for_verb_and_noun_then_noun_then_verb(samples, monkeypatch):
    class Plain:
        """First word the verb, last word the noun."""

        def __init__(self, pipeline):
            assert pipeline == "plain"

        def parses(self, texts):
            return [text.split() for text in texts]

    monkeypatch.setattr(conditions, "Tagger", Plain)
    monkeypatch.setattr(conditions, "words_of", lambda words: (words[0], frozenset(words[-1:])))
    texts = ["stirs leek", "cuts carrot", "opens jar", "cuts a leek", "slices bread", "cuts the leek"]
    pool = [HowTo(str(i), Path(f"{i}.mp4"), text) for i, text in enumerate(texts)]
    sample = replace(samples[0], references=(pool[5],))
    found = [clip.id for clip in Oracle(pool, [sample], 4, seed=0, pipeline="plain").of(sample)]
    assert found == ["5", "3", "0", "1"]
    again = replace(sample, references=(replace(pool[5], id="5 again"),))
    assert [clip.id for clip in Oracle(pool, [again], 4, seed=0, pipeline="plain").of(again)] == found
    own = replace(sample, video=pool[3].video)
    assert "3" not in {clip.id for clip in Oracle(pool, [own], 4, seed=0, pipeline="plain").of(own)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": -1}, "-1 shots"),
        ({"shots": 0, "baseline": "retrieval-only"}, "retrieval-only is made of references"),
        ({"references": "none", "baseline": "text-only"}, "text-only is made of references"),
        ({"references": "none", "likeliest": True}, "likeliest=True: there are no references"),
        ({"baseline": "retrieval-only", "likeliest": True}, "or no captioner"),
        ({"references": "some"}, "choose one of listed, library"),
        ({"baseline": "blind"}, "choose one of retrieval-only"),
    ],
)
def test_conditions_that_make_no_sense(options, message):
    with pytest.raises(InputError, match=message):
        Condition(**options)


def test_a_writer_needs_what_its_condition_needs(samples):
    with pytest.raises(InputError, match="no captioner"):
        CaptionWriter(Condition(), samples, None)
    with pytest.raises(InputError, match="no library"):
        CaptionWriter(Condition(references="library"), samples, Echo())


# ---------------------------------------------------------------------- the captioner's own part


def test_a_blind_captioner_has_the_prompt_and_no_clip(toy, short_videos):
    captioner = Captioner(*toy)
    query = (Clip(short_videos["ego"]), [Reference(short_videos["exo1"], "cut the leek")])
    [seen] = captioner.caption_batch([query], **GENERATION)
    gone = (Clip("gone.mp4"), [Reference("also gone.mp4", "cut the leek")])
    [blind] = captioner.caption_batch([gone], blind=True, **GENERATION)
    assert blind.prompt == seen.prompt


def test_a_guide_is_text_without_a_clip(toy, short_videos):
    captioner = Captioner(*toy)
    query = (Clip(short_videos["ego"]), [])
    plain, guided = captioner.caption_batch([query] * 2, guide=[None, "cuts a leek"], instruction="Say", **GENERATION)
    bos = str(toy[1].tokenizer.bos_token)
    assert plain.prompt == f"{bos}<image>User:Say GPT:<answer>"
    assert guided.prompt == f"{bos}User:Say GPT:<answer>cuts a leek<|endofchunk|><image>User:Say GPT:<answer>"
    [alone] = captioner.caption_batch([query], instruction=["Say"], **GENERATION)
    assert alone.text == plain.text


# ---------------------------------------------------------------------- how sure it was


def test_a_record_says_how_sure_the_model_was(toy, samples):
    condition = Condition(shots=1, generation=GENERATION)
    calibration = Calibration(2.0, 0.5, "toys", 9, 0.1)
    plain, sure = (
        CaptionWriter(condition, samples, Captioner(*toy, calibration=c)).write(samples[:3])
        for c in (None, calibration)
    )
    for sample, record in zip(samples, sure, strict=False):
        query = [Reference(r.video, r.narration, r.start, r.end) for r in sample.references[:1]]
        caption = Captioner(*toy, calibration=calibration).caption(
            sample.video, query, start=sample.start, end=sample.end, **GENERATION
        )
        assert record["score"] == pytest.approx(caption.score, abs=1e-3)
        assert record["confidence"] == pytest.approx(caption.confidence, abs=1e-3)
        assert 0 < record["confidence"] < 1
    assert [{**record, "confidence": None} for record in sure] == plain


def test_a_run_from_before_there_were_scores_is_not_gone_on_with(toy, samples, tmp_path):
    captioner = Captioner(*toy)
    now = describe(Condition(), samples, captioner)
    begin(tmp_path, {name: value for name, value in now.items() if name not in ("score", "calibration")})
    with pytest.raises(InputError, match=r"score was None and is 'mean natural-log .* remove .*captions to start over"):
        begin(tmp_path, now)
    captioner.calibration = Calibration(2.0, 0.5, "toys", 9, 0.1)
    begin(tmp_path / "new", now)
    with pytest.raises(InputError, match="calibration was None and is "):
        begin(tmp_path / "new", describe(Condition(), samples, captioner))


# ---------------------------------------------------------------------- a library


@pytest.fixture
def library(tmp_path, short_videos, toy_retriever):
    library = ExoLibrary.create(tmp_path / "library", toy_retriever)
    library.add_source("howto", short_videos["ego"].parent)
    entries = [
        ClipEntry(f"{name}.mp4", 0.0, 2.0, text, "howto", content_digest(short_videos[name]))
        for name, text in NARRATIONS.items()
    ]
    clips = [Clip(library.path(entry), 0, 2) for entry in entries]
    library.add(entries, toy_retriever.encode_video(clips), toy_retriever.encode_text(list(NARRATIONS.values())))
    return library


def test_references_from_a_library(toy, library, samples):
    captioner = Captioner(*toy)
    condition = Condition(references="library", shots=2, generation=GENERATION)
    records = CaptionWriter(condition, samples, captioner, library=library).write(samples[:2])
    expected = captioner.caption(samples[0].video, start=0, end=2, library=library, shots=2, **GENERATION)
    assert [r["narration"] for r in records[0]["references"]] == [r.narration for r in expected.references]
    assert all(r["score"] is not None for r in records[0]["references"])
    copying = Condition(references="library", baseline="retrieval-only")
    copied = CaptionWriter(copying, samples, None, library=library).write(samples[:1])
    assert copied[0]["caption"] == expected.references[0].narration
    drawn = candidates_for(Condition(references="random", shots=2), samples, library).of(samples[0])
    assert {clip.narration for clip in drawn} == set(NARRATIONS.values())
    facts = describe(condition, samples, captioner, library, Retrieval())
    begin(library_out := Path(library.uri).parent / "out", facts)
    begin(library_out, facts)  # all of it is JSON, and the same when it is read again


def test_random_references_of_a_library_need_no_video_where_latents_are_kept(toy, library, samples):
    captioner = Captioner(*toy)
    condition = Condition(references="random", shots=3, generation=GENERATION)

    def records():
        candidates = candidates_for(condition, samples, library)
        writer = CaptionWriter(condition, samples, Captioner(*toy), candidates=candidates, library=library)
        return writer.write(samples[:1])

    first = records()
    assert len(first[0]["references"]) == 3
    assert len(library.latents([e.id for e in library.entries()], captioner.latents_key)) == 3
    assert records() == first
    library.add_source("howto", Path(library.uri))  # where none of the videos is
    [moved] = records()
    assert (moved["caption"], len(moved["references"]), moved["dropped"]) == (first[0]["caption"], 3, [])


def test_a_library_clip_that_is_gone_gives_way(toy, library, samples):
    library.add_source("howto", Path(library.uri))
    condition = Condition(references="random", shots=2, zero_shot_guide=True, generation=GENERATION)
    candidates = candidates_for(condition, samples, library)
    writer = CaptionWriter(condition, samples, Captioner(*toy), candidates=candidates, library=library)
    [record] = writer.write(samples[:1])
    assert record["references"] == []
    assert len(record["dropped"]) == 3
    assert "its video is missing" in record["dropped"][0]["reason"]


def test_cleaning_cleans_what_a_library_says(toy, library, samples, short_videos, toy_retriever):
    said = {"exo1": "#C C Cuts, again", "exo2": "#C C"}
    library.delete(source="howto")
    coded = [
        ClipEntry(f"{name}.mp4", 0.0, 2.0, text, "howto", content_digest(short_videos[name]))
        for name, text in said.items()
    ]
    clips = [Clip(short_videos[name], 0, 2) for name in said]
    library.add(coded, toy_retriever.encode_video(clips), toy_retriever.encode_text(list(said.values())))
    condition = Condition(references="random", shots=9)
    drawn = candidates_for(condition, samples, library, clean=True).of(samples[0])
    assert [clip.narration for clip in drawn] == ["cuts , again"]
    condition = Condition(references="library", shots=5, generation=GENERATION)
    [record] = CaptionWriter(condition, samples, Captioner(*toy), library=library, clean=True).write(samples[:1])
    assert [r["narration"] for r in record["references"]] == ["cuts , again"]
    assert [(one["narration"], one["reason"]) for one in record["dropped"]] == [("#C C", SILENT)]
    copying = replace(condition, baseline="retrieval-only")
    [copied] = CaptionWriter(copying, samples, None, library=library, clean=True).write(samples[:1])
    assert copied["caption"] in {"cuts , again", ""}


def test_a_clip_without_anything_in_the_library_gets_its_guide(toy, library, samples):
    captioner, prompts = Captioner(*toy), []
    captioner.caption_batch = lambda queries, **options: (
        prompts.append(options["guide"]) or [Caption("x", clip, references) for clip, references in queries]
    )
    condition = Condition(references="library", zero_shot_guide=True)
    rules = Retrieval(rules=SelectionRules(min_score=1))
    CaptionWriter(condition, samples, captioner, library=library, retrieval=rules).write(samples[:2])
    assert prompts == [[ANSWERS[1], ANSWERS[0]]]


def test_another_library_is_another_run(library, samples):
    before = describe(Condition(references="random"), samples, None, library)
    library.delete(ids=[next(iter(library.entries())).id])
    assert describe(Condition(references="random"), samples, None, library)["library"] != before["library"]


# ---------------------------------------------------------------------- the command


@pytest.fixture
def split(short_videos, tmp_path):
    """Four samples of two videos; the third one's video is missing."""
    exo = [{"video": name, "start": 0, "end": 2, "narration": text} for name, text in NARRATIONS.items()]
    lines = [
        {"video": video, "start": i / 5, "end": 2, "caption": caption, "references": exo}
        for i, (video, caption) in enumerate(zip(["ego", "exo3", "gone", "ego"], ANSWERS, strict=False))
    ]
    path = tmp_path / "split.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def evaluate(split, model_folder, short_videos, capsys):
    videos = short_videos["ego"].parent

    def evaluate(out, *options, model=True):
        words = ["evaluate", "--data", split, "--datapath-ego", videos, "--datapath-exo", videos, "--out", out]
        words += ["--model", model_folder, "--device", "cpu"] if model else []
        words += ["--num-beams", 1, "--max-new-tokens", 4, "--batch-size", 2, "--metrics", "ROUGE-L,CIDEr"]
        words += ["--treatment", "nlgeval", "--no-narration", *options]
        capsys.readouterr()
        return main([str(word) for word in words]), *capsys.readouterr()

    return evaluate


def test_the_command_captions_scores_and_goes_on(evaluate, tmp_path):
    pytest.importorskip("pycocoevalcap")
    out = tmp_path / "out"
    code, printed, _ = evaluate(out, "--shots", 2)
    assert code == 0
    assert "scores are of 3 of 4 samples: 1 could not be read" in printed
    results = json.loads((out / "results.json").read_text())
    assert results["counts"]["samples that could not be read"] == 1
    assert list(results["failures"]) == ["split.jsonl:3"]
    assert results["settings"]["made with"]["generation"]["max_new_tokens"] == 4
    assert results["settings"]["made with"]["model"]
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["split.jsonl:1", "split.jsonl:2", "split.jsonl:4"]
    assert [len(line["references"]) for line in lines] == [2, 2, 2]
    assert all(line["score"] < 0 and line["confidence"] is None for line in lines)
    assert (out / "row.md").read_text().splitlines()[2].startswith("| out | 3 | nlgeval |")
    assert r"\\" in (out / "row.tex").read_text()
    page = (out / "report.html").read_text()
    assert "http" not in page
    assert "<svg" in page
    assert "data:image/jpeg" in page
    assert "could not be read" in page
    assert f"<dt>Mean log-probability of its tokens</dt><dd>{lines[0]['score']:.4f}</dd>" in page
    assert "<dt>Confidence</dt>" not in page

    before = (out / "predictions.jsonl").read_bytes()
    code, _, error = evaluate(out, "--shots", 1)
    assert code == USAGE_ERROR
    assert "shots was 2 and is 1" in " ".join(error.split())
    assert evaluate(out, "--shots", 2)[0] == 0
    assert (out / "predictions.jsonl").read_bytes() == before
    assert main(["compare", str(out), str(out)]) == 0


def test_a_run_without_any_caption_is_an_error_that_says_why(evaluate, split, tmp_path):
    line = json.loads(split.read_text().splitlines()[2])
    split.write_text(json.dumps(line) + "\n")
    code, _, error = evaluate(tmp_path / "out")
    assert code == USAGE_ERROR
    assert "of 1 samples none could be captioned" in " ".join(error.split())


def test_retrieval_only_needs_no_model_and_no_video(evaluate, tmp_path):
    pytest.importorskip("pycocoevalcap")
    code, printed, _ = evaluate(tmp_path / "out", "--baseline", "retrieval-only", "--json", model=False)
    assert code == 0
    assert json.loads(printed)["counts"]["samples"] == 4
    [journal] = (tmp_path / "out" / FOLDER).glob("*.jsonl")
    before = (tmp_path / "out" / "predictions.jsonl").read_bytes()
    older = [json.loads(line) for line in journal.read_text().splitlines()]
    for record in (record for line in older for record in line["records"]):
        assert (record.pop("score"), record.pop("confidence")) == (None, None)
    journal.write_text("".join(json.dumps(line) + "\n" for line in older))  # as an older version left it
    assert evaluate(tmp_path / "out", "--baseline", "retrieval-only", model=False)[0] == 0
    assert (tmp_path / "out" / "predictions.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no --data was given"),
        (["--data", "x.jsonl"], "no --out was given"),
        (["--data", "x.jsonl", "--out", "o", "--library", "l", "--references", "listed"], "leave one out"),
        (["--data", "x.jsonl", "--out", "o", "--references", "library"], "which one?"),
        (["--data", "x.jsonl", "--out", "o", "--min-score", "0.5"], "name one with --library"),
        (["--data", "x.jsonl", "--out", "o", "--shots", "-1"], "-1 shots"),
        (["--data", "x.jsonl", "--out", "o", "--metrics", "CIDEr,ROUGE"], "no metric 'ROUGE'"),
        (["--queries", "a.npy"], "--queries is an option of --task retrieval, and the task is captions"),
        (["--task", "retrieval", "--workers", "2"], "--workers is an option of --task captions"),
    ],
)
def test_options_that_do_not_fit(words, message, capsys):
    assert main(["evaluate", *words]) == USAGE_ERROR
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_ctrl_c_while_workers_start_is_one_line(split, model_folder, short_videos, tmp_path):
    """As a terminal sends it, to all processes; none of them says where it was, and none is left."""
    videos, lock = short_videos["ego"].parent, tmp_path / "out" / FOLDER / LOCK
    command = [
        sys.executable, "-m", "egoinstructor", "evaluate", "--data", split, "--datapath-ego", videos, "--datapath-exo",
        videos, "--model", model_folder, "--device", "cpu", "--workers", "2", "--out", tmp_path / "out",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not lock.exists() and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=900)
    assert process.returncode == INTERRUPTED, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.slow
def test_two_processes_and_kill_9_change_no_byte(evaluate, split, model_folder, short_videos, tmp_path):
    """The same files from one process, from two, and from two that were killed in the middle."""
    videos = short_videos["ego"].parent
    lines = [line for line in split.read_text().splitlines() if "gone" not in line]
    split.write_text("\n".join(lines * 10) + "\n")
    command = [
        sys.executable, "-m", "egoinstructor", "evaluate", "--data", split, "--datapath-ego", videos, "--datapath-exo",
        videos, "--model", model_folder, "--device", "cpu", "--batch-size", "1", "--metrics", "ROUGE-L", "--treatment",
        "nlgeval", "--no-narration", "--out",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(name, *options):
        subprocess.run([*command, tmp_path / name, *options], check=True, env=environment, capture_output=True)
        return (tmp_path / name / "predictions.jsonl").read_bytes()

    expected = run("one")
    assert run("two", "--workers", "2") == expected
    killed = tmp_path / "killed"
    process = subprocess.Popen([*command, killed, "--workers", "2"], env=environment, start_new_session=True)
    while not finished(killed) and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while True:  # the workers die with it
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert 0 < len(finished(killed)) < 30
    assert run("killed", "--workers", "2") == expected

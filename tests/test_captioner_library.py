"""The captioner with a library: the references are found, read, named, and encoded once for all captions."""

from __future__ import annotations

import shutil

import pytest

from egoinstructor import Captioner, Clip, Reference, load_video
from egoinstructor.errors import InputError
from egoinstructor.library.library import ExoLibrary
from egoinstructor.library.records import ClipEntry, Filter
from egoinstructor.library.references import Retrieval
from egoinstructor.library.selection import SelectionRules
from egoinstructor.video.identity import content_digest

NARRATIONS = {"exo1": "open the microwave", "exo2": "cut the leek", "exo3": "stir the sauce"}
GENERATION = {"max_new_tokens": 6, "num_beams": 1}


@pytest.fixture
def captioner(toy):
    return Captioner(*toy)


@pytest.fixture
def videos(short_videos, tmp_path):
    """Copies of our own, that a test may move."""
    return {name: shutil.copy2(path, tmp_path / path.name) for name, path in short_videos.items()}


@pytest.fixture
def library(tmp_path, videos, toy_retriever):
    """The three how-to clips, and the ego video itself, as somebody might have put it in."""
    library = ExoLibrary.create(tmp_path / "library", toy_retriever)
    library.add_source("howto", tmp_path)
    narrations = {"ego": "my own hands", **NARRATIONS}
    entries = [
        ClipEntry(f"{name}.mp4", 0.0, 2.0, text, "howto", content_digest(videos[name]))
        for name, text in narrations.items()
    ]
    clips = [Clip(library.path(entry), entry.start, entry.end) for entry in entries]
    library.add(entries, toy_retriever.encode_video(clips), toy_retriever.encode_text(list(narrations.values())))
    return library


@pytest.fixture
def encoded(monkeypatch, toy):
    """How many clips went through the vision encoder."""
    model, _ = toy
    counts: list[int] = []
    read = model.read_frames
    monkeypatch.setattr(model, "read_frames", lambda pixels: counts.append(pixels.shape[1]) or read(pixels))
    return counts


def test_references_are_found_and_named(captioner, library, videos, toy_retriever):
    caption = captioner.caption(videos["ego"], library=library, shots=2, **GENERATION)
    query, *others = toy_retriever.encode_video(
        [Clip(videos["ego"])] + [Clip(videos[name], 0, 2) for name in NARRATIONS]
    )
    scores = {name: float(query @ vector) for name, vector in zip(NARRATIONS, others, strict=True)}
    best = sorted(NARRATIONS, key=lambda name: -scores[name])[:2]
    assert [r.narration for r in caption.references] == [NARRATIONS[name] for name in best]
    assert [r.score for r in caption.references] == pytest.approx([scores[name] for name in best], abs=1e-3)
    assert [(r.video.name, r.start, r.end) for r in caption.references] == [(f"{name}.mp4", 0, 2) for name in best]
    assert [(one.narration, one.reason) for one in caption.dropped] == [("my own hands", "of the query's own video")]
    assert caption.as_dict()["references"][0].keys() >= {"video", "start", "end", "narration", "score"}


def test_it_is_the_caption_that_the_same_references_give(captioner, library, videos):
    found = captioner.caption(videos["ego"], library=library, shots=3, **GENERATION)
    given = [Reference(r.video, r.narration, r.start, r.end) for r in found.references]
    assert len(given) == 3
    assert captioner.caption(videos["ego"], given, **GENERATION).text == found.text


def test_references_are_encoded_once_for_all_captions(toy, library, videos, encoded):
    first = Captioner(*toy).caption(videos["ego"], library=library, shots=3, **GENERATION)
    assert sum(encoded) == 4
    encoded.clear()
    later = Captioner(*toy).caption(videos["ego"], library=library, shots=3, **GENERATION)
    assert sum(encoded) == 1, "the ego clip alone"
    assert later.text == first.text
    encoded.clear()
    Captioner(*toy).caption(videos["ego"], library=library, shots=3, num_frames=2, **GENERATION)
    assert sum(encoded) == 4, "other frames make other latents"


def test_a_batch_is_its_single_runs(captioner, library, videos):
    clips = [Clip(videos["ego"]), Clip(videos["exo1"]), Clip(videos["ego"], 1.0, 2.5)]
    together = captioner.caption_batch([(clip, ()) for clip in clips], library=library, shots=2, **GENERATION)
    alone = [captioner.caption_batch([(clip, ())], library=library, shots=2, **GENERATION)[0] for clip in clips]
    assert [c.text for c in together] == [c.text for c in alone]
    assert [c.references for c in together] == [c.references for c in alone]


def test_frames_find_what_their_file_finds(captioner, library, videos, toy_retriever):
    """Only that they are of a video in the library is not known of them: whoever made them says so."""
    expected = captioner.caption(videos["ego"], library=library, shots=2, **GENERATION)
    frames = load_video(videos["ego"], num_frames=toy_retriever.identity.num_frames)
    own = Retrieval(where=Filter(exclude_digests=(content_digest(videos["ego"]),)))
    ((references, _),) = captioner.find([Clip(frames)], library, 2, own)
    assert references == expected.references
    (((first, *_), _),) = captioner.find([Clip(frames)], library, 2)
    assert first.narration == "my own hands"


def test_dissimilar_clips_are_not_used(captioner, library, videos):
    strict = Retrieval(rules=SelectionRules(min_score=1.0))
    caption = captioner.caption(videos["ego"], library=library, retrieval=strict, **GENERATION)
    assert caption.references == ()
    assert len([one for one in caption.dropped if "below 1" in one.reason]) == 3
    assert caption.text == captioner.caption(videos["ego"], **GENERATION).text


def test_as_many_as_the_library_has(captioner, library, videos):
    assert len(captioner.caption(videos["ego"], library=library, shots=8, **GENERATION).references) == 3
    assert captioner.caption(videos["ego"], library=library, shots=0, **GENERATION).references == ()


def test_a_missing_file_is_passed_over_unless_its_latents_are_kept(toy, library, videos):
    videos["exo1"].rename(videos["exo1"].with_suffix(".moved"))
    caption = Captioner(*toy).caption(videos["ego"], library=library, shots=3, **GENERATION)
    assert len(caption.references) == 2
    (gone,) = (one for one in caption.dropped if one.narration == NARRATIONS["exo1"])
    assert gone.reason == f"its video is missing: {videos['exo1']}"
    videos["exo2"].unlink()  # its latents were kept by the first caption
    again = Captioner(*toy).caption(videos["ego"], library=library, shots=3, **GENERATION)
    assert (again.text, again.references) == (caption.text, caption.references)


def test_a_library_that_may_only_be_read_still_serves(captioner, library, videos, monkeypatch, caplog):
    """What a library without write permission raises is tested in tests/library/test_ingest_faults.py."""
    expected = captioner.caption(videos["ego"], library=library, shots=2, **GENERATION).text

    def refuse(*_):
        raise InputError("read-only")

    monkeypatch.setattr(library, "put_latents", refuse)
    assert captioner.caption(videos["ego"], library=library, shots=2, num_frames=2, **GENERATION).references
    assert "could not be kept" in caplog.text
    assert captioner.caption(videos["ego"], library=library, shots=2, **GENERATION).text == expected


def test_a_damaged_reference_gives_way_to_the_next(toy, library, videos, toy_retriever):
    """Its file is what was ingested, and can't be decoded any more by the time it is needed."""
    whole = Captioner(*toy).caption(videos["ego"], library=library, shots=2, **GENERATION)
    best = whole.references[0]
    other = ExoLibrary.create(library.uri + "-2", toy_retriever)
    other.add_source("howto", best.video.parent)
    videos[best.video.stem].write_bytes(b"no video any more")
    entries = [
        ClipEntry(e.video, e.start, e.end, e.narration, e.source, content_digest(videos[e.video.split(".")[0]]))
        for e in library.entries()
    ]
    words = toy_retriever.encode_text([e.narration for e in entries])
    other.add(entries, library.vectors([e.id for e in library.entries()]), words)
    caption = Captioner(*toy).caption(videos["ego"], library=other, shots=2, **GENERATION)
    assert len(caption.references) == 2
    assert best.narration not in [r.narration for r in caption.references]
    (broken,) = (one for one in caption.dropped if one.narration == best.narration)
    assert str(best.video) in broken.reason


def test_a_file_that_was_replaced_is_not_shown_with_old_words(toy, library, videos):
    expected = Captioner(*toy).caption(videos["exo2"], library=library, shots=1, **GENERATION).references[0]
    shutil.copyfile(videos["ego"], expected.video)
    kept = Captioner(*toy).caption(videos["exo2"], library=library, shots=1, **GENERATION)
    assert kept.references == (expected,), "its latents are of the video that was ingested"
    fresh = Captioner(*toy).caption(videos["exo2"], library=library, shots=1, num_frames=2, **GENERATION)
    assert expected.narration not in [r.narration for r in fresh.references]
    assert any("another one now" in one.reason for one in fresh.dropped)


def test_a_negative_number_of_shots_is_refused(captioner, library, videos):
    with pytest.raises(InputError, match="-1 shots"):
        captioner.caption(videos["ego"], library=library, shots=-1)


def test_references_and_a_library_are_one_too_many(captioner, library, videos):
    with pytest.raises(InputError, match="both references and a library"):
        captioner.caption(videos["ego"], [Reference(videos["exo1"], "x")], library=library)


def test_a_library_without_its_retriever_finds_nothing(captioner, library, videos):
    with pytest.raises(InputError, match="without a retriever"):
        captioner.caption(videos["ego"], library=ExoLibrary.open(library.uri))

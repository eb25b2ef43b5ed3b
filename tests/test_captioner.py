"""The spine on real (small) video files."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch

from egoinstructor import Caption, Captioner, Clip, Reference, load_video
from egoinstructor.errors import CheckpointError, InputError, VideoError
from egoinstructor.model.likeliest import likeliest_of, reference_subsets
from egoinstructor.model.prompt import SCRIPT, TRAINING
from egoinstructor.model.scores import caption_scores

NARRATIONS = {"exo1": "so let's open the microwave here", "exo2": "you stir", "exo3": "now it's time to add"}


@pytest.fixture
def captioner(toy):
    return Captioner(*toy)


@pytest.fixture
def references(short_videos):
    return [Reference(short_videos[name], text) for name, text in NARRATIONS.items()]


@pytest.fixture
def encoded(monkeypatch, toy):
    """How many clips went through the vision encoder."""
    model, _ = toy
    counts = []
    read = model.read_frames
    monkeypatch.setattr(model, "read_frames", lambda pixels: counts.append(pixels.shape[1]) or read(pixels))
    return counts


def test_caption(captioner, short_videos, references):
    caption = captioner.caption(short_videos["ego"], references)
    assert isinstance(caption, Caption)
    assert caption.text
    assert caption.references == tuple(references)
    assert caption.dropped == ()
    assert caption.clip == Clip(short_videos["ego"])
    assert caption.prompt.count("<image>") == 4
    for text in NARRATIONS.values():
        assert f"<answer>{text}<|endofchunk|>" in caption.prompt


def test_a_batch_of_unequal_queries_is_its_single_runs(captioner, short_videos, references):
    queries = [
        (Clip(short_videos["ego"]), references),
        (Clip(short_videos["exo3"]), []),
        (Clip(short_videos["ego"], 1.0, 2.5), references[1:]),
    ]
    together = [c.text for c in captioner.caption_batch(queries)]
    assert together == [captioner.caption_batch([query])[0].text for query in queries]
    assert len(set(together)) > 1


def test_each_distinct_clip_is_encoded_once(captioner, short_videos, references, encoded):
    queries = [
        (Clip(short_videos["ego"]), references),
        (Clip(short_videos["ego"], 0, 2), references),
        (Clip(short_videos["exo1"]), []),
    ]
    captioner.caption_batch(queries, num_beams=3)
    assert sum(encoded) == 5  # ego, ego 0–2 s, and three references, one of which is a query too
    captioner.caption_batch(queries, num_beams=3)
    assert sum(encoded) == 5, "kept from the call before"


def test_decoding_runs_only_a_few_clips_ahead(captioner, short_videos, monkeypatch):
    """A thousand clips must not lie decoded in memory while the first is encoded."""
    clips = [Clip(short_videos["ego"], 0, 1 + i / 20) for i in range(12)]
    decoded, ahead = [], []
    load, encode = load_video, captioner.model.read_frames
    spied = "egoinstructor.captioners.clip_encoder.load_video"
    monkeypatch.setattr(spied, lambda v, **kw: decoded.append(v) or load(v, **kw))

    def encoded(pixels):
        ahead.append(len(decoded) - len(ahead))
        return encode(pixels)

    monkeypatch.setattr(captioner.model, "read_frames", encoded)
    assert list(captioner.encode(clips)) == clips
    assert len(decoded) == 12
    assert max(ahead) <= 4


def test_latents_given_are_not_decoded_again(captioner, short_videos, references, encoded, tmp_path):
    expected = captioner.caption(short_videos["ego"], references).text
    latents = captioner.encode([r.clip for r in references])
    encoded.clear()
    gone = [Reference(tmp_path / f"{i}.mp4", r.narration, latents=latents[r.clip]) for i, r in enumerate(references)]
    fresh = Captioner(captioner.model, captioner.processor)
    assert fresh.caption(short_videos["ego"], gone).text == expected
    assert sum(encoded) == 1


def test_a_file_that_changed_is_another_video(captioner, short_videos, tmp_path, encoded):
    path = tmp_path / "clip.mp4"
    path.write_bytes(short_videos["exo1"].read_bytes())
    first = captioner.encode([Clip(path)])[Clip(path)]
    path.write_bytes(short_videos["exo2"].read_bytes())
    assert not torch.equal(captioner.encode([Clip(path)])[Clip(path)], first)
    assert sum(encoded) == 2


def test_bytes_are_a_video_too(captioner, short_videos, references):
    from_bytes = [Reference(r.video.read_bytes(), r.narration) for r in references]
    caption = captioner.caption(short_videos["ego"].read_bytes(), from_bytes)
    assert caption.text == captioner.caption(short_videos["ego"], references).text
    assert caption.as_dict()["video"] == f"<{len(short_videos['ego'].read_bytes())} bytes>"


def test_shots(captioner, short_videos, references):
    assert captioner.caption(short_videos["ego"], references, shots=2).references == tuple(references[:2])
    zero = captioner.caption(short_videos["ego"], references, shots=0)
    assert zero.references == ()
    assert zero.prompt.count("<image>") == 1
    with pytest.raises(InputError, match="4 shots for .*ego.mp4, which has 3 references"):
        captioner.caption(short_videos["ego"], references, shots=4)
    with pytest.raises(InputError, match="-1 shots"):
        captioner.caption(short_videos["ego"], references, shots=-1)


def test_the_likeliest_of_all_readings(toy, short_videos, references, encoded, monkeypatch):
    lengths = []

    def counted(*outputs):
        scores, tokens = caption_scores(*outputs)
        lengths.extend(tokens.tolist())
        return scores, tokens

    captioner = Captioner(*toy, cached_clips=0)
    references = [
        replace(reference, score=score) for reference, score in zip(references, (0.9, 0.85, 0.6), strict=True)
    ]
    queries = [
        (Clip(short_videos["ego"]), references),
        (Clip(short_videos["exo3"]), references[:2]),
        (Clip(short_videos["ego"], 1.0, 2.5), []),
    ]
    instruction = ["What is done?", "Say what you see.", "And here?"]
    found = captioner.caption_batch(queries, likeliest=True, instruction=instruction)
    assert sum(encoded) == 5, "each clip once"
    monkeypatch.setattr("egoinstructor.captioners.egoinstructor.caption_scores", counted)
    for caption, (clip, given), question in zip(found, queries, instruction, strict=True):
        ways = reference_subsets([reference.score for reference in given])
        tried = [
            captioner.caption_batch([(clip, [given[place] for place in way.places])], instruction=question)[0]
            for way in ways
        ]
        best = tried[likeliest_of(ways, [(t.text, t.score * n) for t, n in zip(tried, lengths, strict=True)])]
        lengths.clear()
        assert (caption.text, caption.references, caption.prompt) == (best.text, best.references, best.prompt)
        assert caption.score == pytest.approx(best.score, abs=1e-4)
    one = captioner.caption(short_videos["ego"], references, shots=1, likeliest=True)
    assert one.references in ((), (references[0],))
    with pytest.raises(InputError, match=r"likeliest=True.*at the end only"):
        next(iter(captioner.caption_stream(short_videos["ego"], references, likeliest=True)))


def test_the_likeliest_says_what_the_prompt_had_no_room_for(captioner, short_videos, references):
    long = [references[0], Reference(short_videos["exo2"], "stir " * 60), references[2]]
    caption = captioner.caption(short_videos["ego"], long, likeliest=True)
    assert [one.clip for one in caption.dropped] == [
        one.clip for one in captioner.caption(short_videos["ego"], long).dropped
    ]
    assert caption.dropped


def test_too_long_a_prompt_says_which_references_it_left_out(captioner, short_videos, references):
    long = [references[0], Reference(short_videos["exo2"], "stir " * 60), references[2]]
    caption = captioner.caption(short_videos["ego"], long)
    assert caption.references == (long[0],)
    assert [one.narration for one in caption.dropped] == [one.narration for one in long[1:]]
    assert {one.reason for one in caption.dropped} == {"the prompt would be too long"}


def test_presets_and_video_order(captioner, short_videos, references):
    training = captioner.caption(short_videos["ego"], references)
    script = captioner.caption(short_videos["ego"], references, preset=SCRIPT)
    assert training.prompt.startswith(f"<|endoftext|><image>User:{TRAINING.instruction}")
    assert script.prompt.startswith(f"<image>User:{SCRIPT.instruction}")
    own = captioner.caption(short_videos["ego"], references, instruction="Say it")
    assert own.prompt.count("User:Say it GPT:") == 4


def test_legacy_video_order_hands_over_the_ego_clip_first(captioner, short_videos, references, monkeypatch):
    seen = {}
    generate = captioner.model.generate
    monkeypatch.setattr(
        captioner.model, "generate", lambda **kw: seen.update(latents=kw["video_latents"][0]) or generate(**kw)
    )
    ego = captioner.encode([Clip(short_videos["ego"])], sampling="linspace")[Clip(short_videos["ego"])]
    for legacy, place in ((False, -1), (True, 0)):
        captioner.caption(short_videos["ego"], references, preset=SCRIPT, legacy_video_order=legacy)
        assert [bool(torch.equal(clip, ego)) for clip in seen["latents"]].index(True) == place % 4


def test_one_captioner_under_several_threads(captioner, short_videos, references):
    clips = [Clip(short_videos[name], 0.0, 1.0 + i / 4) for i, name in enumerate(["ego", "exo1", "exo2", "exo3"])]
    expected = [captioner.caption_batch([(clip, references)])[0].text for clip in clips]
    results: dict[int, str] = {}

    def request(i):
        results[i] = captioner.caption_batch([(clips[i % 4], references)])[0].text

    threads = [threading.Thread(target=request, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[i] for i in range(8)] == expected * 2


def test_the_two_ways_to_open_a_model_agree(golden_a, model_folder, short_videos, references):
    converted = Captioner.from_pretrained(model_folder, device="cpu")
    straight = Captioner.from_original(golden_a.base, golden_a.captioner, tokenizer=golden_a.tokenizer, device="cpu")
    assert (
        converted.caption(short_videos["ego"], references).text
        == straight.caption(short_videos["ego"], references).text
    )
    half = Captioner.from_pretrained(model_folder, device="cpu", dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16
    assert half.caption(short_videos["ego"], references).text


def test_what_can_not_be_opened(short_videos, tmp_path, model_folder):
    with pytest.raises(CheckpointError, match="not on this disk and could not be downloaded.*huggingface.co/no/such"):
        Captioner.from_pretrained("no/such")
    with pytest.raises(InputError, match="device 'cuda:77' can't be used here"):
        Captioner.from_pretrained(model_folder, device="cuda:77")


@pytest.mark.parametrize("name", ["instruction", "guide"])
def test_a_value_for_each_query(name, captioner, short_videos):
    queries = [(Clip(short_videos["ego"]), ())] * 2
    for given in ([], ["Say it"], ["Say it"] * 3):
        with pytest.raises(InputError, match=f"{len(given)} values of {name} for 2 queries"):
            captioner.caption_batch(queries, **{name: given})
    assert len(captioner.caption_batch(queries, **{name: ["Say it"] * 2}, max_new_tokens=2)) == 2


def test_a_reference_that_can_not_be_read_is_named(captioner, short_videos, tmp_path):
    missing = tmp_path / "gone.mp4"
    with pytest.raises(VideoError, match="gone.mp4"):
        captioner.caption(short_videos["ego"], [Reference(missing, "stir")])


def test_real_clips(captioner, shared_data):
    assets = shared_data / "egoinstructor_assets"
    references = [Reference(assets / f"test5199_exo{i}.mp4", "and then you open the microwave") for i in (1, 2, 3, 4)]
    caption = captioner.caption(assets / "test5199_ego.mp4", references)
    assert caption.text
    assert len(caption.references) == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Clip("x.mp4", 3, 3), "start=3 and end=3 of x.mp4"),
        (lambda: Clip("x.mp4", None, 0), "start=0.0 and end=0"),
        (lambda: Clip("x.mp4", -1), "start=-1"),
        (lambda: Clip("x.mp4", 0, float("nan")), "end=nan"),
        (lambda: Clip(7), "video 7 is a int"),
        (lambda: Reference("x.mp4", " "), "needs a narration"),
        (lambda: Reference("x.mp4", None), "narration None"),
    ],
)
def test_records_check_themselves(make, message):
    with pytest.raises(InputError, match=message):
        make()

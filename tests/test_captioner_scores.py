"""Scores and confidence of captions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from egoinstructor import Captioner, Clip, Reference, assets, load_video
from egoinstructor.model.calibration import Calibration
from egoinstructor.model.scores import caption_scores

MODES = {
    "greedy": {"num_beams": 1},
    "beams": {"num_beams": 3},
    "sampling": {"num_beams": 1, "do_sample": True, "top_k": 20, "temperature": 1.7},
    "few tokens": {"num_beams": 1, "max_new_tokens": 2},
}


@pytest.fixture
def captioner(toy):
    return Captioner(*toy)


@pytest.fixture
def queries(short_videos):
    references = [Reference(short_videos["exo1"], "so let's open it"), Reference(short_videos["exo2"], "you stir")]
    return [
        (Clip(short_videos["ego"]), references),
        (Clip(short_videos["exo3"]), []),
        (Clip(short_videos["ego"], 1.0, 2.5), references[1:]),
    ]


@pytest.fixture
def generated(captioner, monkeypatch):
    """What `generate` was given and what it gave, of each call."""
    calls = []
    generate = captioner.model.generate

    def spy(**given):
        calls.append((given, generate(**given)))
        return calls[-1][1]

    monkeypatch.setattr(captioner.model, "generate", spy)
    return calls


@pytest.mark.parametrize("mode", MODES)
def test_a_score_is_the_mean_log_probability_of_a_forward_pass(captioner, queries, generated, mode):
    """Whatever chose the tokens, and with beams of other captions and padding around them."""
    torch.manual_seed(0)
    captions = captioner.caption_batch(queries, **MODES[mode])
    (given, outputs), end = generated[0], captioner.processor.end_token_id
    prompt = given["input_ids"].shape[1]
    counts = []
    for row, caption in enumerate(captions):
        tokens = outputs.sequences[row, prompt:].tolist()
        tokens = tokens[: tokens.index(end) + 1] if end in tokens else tokens
        ids = given["input_ids"][row][given["attention_mask"][row].bool()].tolist()
        with torch.no_grad():
            logits = captioner.model(
                torch.tensor([ids + tokens]), video_latents=given["video_latents"][row : row + 1]
            ).logits[0]
        log_probabilities = logits.log_softmax(-1)[len(ids) - 1 : -1].gather(1, torch.tensor(tokens)[:, None])
        assert caption.score == pytest.approx(float(log_probabilities.mean()), abs=1e-4)
        counts.append(len(tokens))
    assert mode == "few tokens" or len(set(counts)) > 1, "captions of one length would not show what padding counts"


def test_it_is_what_transformers_computes(captioner, queries, generated):
    captions = captioner.caption_batch(queries, num_beams=3)
    _, outputs = generated[0]
    scores = captioner.model.compute_transition_scores(
        outputs.sequences, outputs.logits, outputs.beam_indices, normalize_logits=True
    )
    for row, caption in zip(scores, captions, strict=True):
        assert caption.score == pytest.approx(float(row[row != 0].mean()), abs=1e-5)


@pytest.mark.parametrize("mode", ["greedy", "beams"])
def test_a_caption_scores_in_a_batch_what_it_scores_alone(captioner, queries, mode):
    together = captioner.caption_batch(queries, **MODES[mode])
    alone = [captioner.caption_batch([query], **MODES[mode])[0] for query in queries]
    assert [c.text for c in together] == [c.text for c in alone]
    assert [c.score for c in together] == pytest.approx([c.score for c in alone], abs=1e-4)


def test_what_follows_the_end_does_not_count():
    class Outputs:
        sequences = torch.tensor([[7, 7, 1, 2, 2], [7, 7, 0, 1, 2]])  # 2 ends a caption
        logits = tuple(torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]])) for _ in range(3))

    scores, lengths = caption_scores(Outputs, 2, 2)
    assert scores.tolist() == pytest.approx([math.log(0.25), (math.log(0.5) + 2 * math.log(0.25)) / 3])
    assert lengths.tolist() == [2, 3]


def test_without_calibration_there_is_no_confidence(captioner, short_videos):
    caption = captioner.caption(short_videos["ego"])
    assert caption.score < 0
    assert caption.confidence is None
    assert caption.as_dict()["score"] == caption.score


def test_confidence_is_what_the_calibration_says(captioner, model_folder, short_videos, tmp_path):
    calibration = Calibration(2.0, 0.5, "toys", 9, 0.1)
    own = Captioner(captioner.model, captioner.processor, calibration=calibration)
    caption = own.caption(short_videos["ego"])
    assert caption.confidence == calibration(caption.score)
    assert caption.as_dict()["confidence"] == caption.confidence
    folder = tmp_path / "model"
    folder.mkdir()
    for file in model_folder.iterdir():
        (folder / file.name).symlink_to(file)
    assert Captioner.from_pretrained(folder, device="cpu").calibration is None
    calibration.save(folder)
    assert Captioner.from_pretrained(folder, device="cpu").calibration == calibration


@pytest.mark.skipif(not (assets.FOLDER / assets.NANO / "config.json").exists(), reason="no model is shipped yet")
def test_the_shipped_model_is_calibrated():
    calibration = Captioner.from_pretrained(assets.FOLDER / assets.NANO, device="cpu").calibration
    assert calibration is not None, "run benchmarks/calibration.py with --write after training"
    assert calibration.slope > 0
    assert calibration.expected_calibration_error < 0.1


def test_frames_are_captioned_as_their_file(captioner, short_videos):
    """Sampled already, as a sandbox hands them over; or all of them, with a span."""
    path, count = short_videos["ego"], captioner.processor.num_frames
    reference = [Reference(load_video(short_videos["exo1"], num_frames=count), "you stir")]
    expected = captioner.caption(path, [Reference(short_videos["exo1"], "you stir")], start=0.5, end=2.5)
    sampled = load_video(path, start=0.5, end=2.5, num_frames=count)
    every = load_video(path, num_frames=30, sampling="linspace")
    for caption in (
        captioner.caption(sampled, reference),
        captioner.caption(every, reference, start=0.5, end=2.5),
    ):
        assert replace(caption, clip=expected.clip, references=expected.references) == expected
        assert caption.as_dict()["video"] == str(path)

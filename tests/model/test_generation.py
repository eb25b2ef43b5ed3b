"""Generation: caching, batching, beams and sharing change the speed and not a token."""

from __future__ import annotations

import threading

import pytest
import torch
from transformers import DynamicCache

from egoinstructor.errors import InputError
from egoinstructor.model.prompt import SCRIPT

MODES = {
    "greedy": {"num_beams": 1},
    "beam 3": {"num_beams": 3},
    "beam 4, 2 returned": {"num_beams": 4, "num_return_sequences": 2},
    "sampling": {"num_beams": 1, "do_sample": True, "top_k": 20, "num_return_sequences": 3},
}
NARRATIONS = [["so let's open the microwave here", "you stir"], [], ["now it's time to add"]]


@pytest.fixture(scope="module")
def clips():
    """Three samples with 3, 1 and 2 clips of 4 frames."""
    generator = torch.Generator().manual_seed(7)
    return [[torch.randn(4, 3, 28, 28, generator=generator) for _ in range(n)] for n in (3, 1, 2)]


def batch_of(processor, rows, **clips):
    return processor([processor.prompt(NARRATIONS[i], preset=SCRIPT) for i in rows], **clips)


def generate(model, batch, **settings):
    torch.manual_seed(0)
    sequences = model.generate(**batch, max_new_tokens=12, **settings)
    return sequences[:, batch["input_ids"].shape[1] :]


def trimmed(row, end=431):
    ids = row.tolist()
    return ids[: ids.index(end) + 1] if end in ids else ids


@pytest.mark.parametrize("mode", MODES)
def test_cached_is_uncached(toy, clips, mode):
    model, processor = toy
    batch = batch_of(processor, range(3), pixels=clips)
    cached = generate(model, batch, use_cache=True, **MODES[mode])
    uncached = generate(model, batch, use_cache=False, **MODES[mode])
    assert cached.tolist() == uncached.tolist()
    assert len({tuple(row) for row in cached.tolist()}) > 1, "all rows alike would show nothing"


@pytest.mark.parametrize("mode", ["greedy", "beam 3"])
def test_a_batch_is_its_single_runs(toy, clips, mode):
    model, processor = toy
    together = generate(model, batch_of(processor, range(3), pixels=clips), **MODES[mode])
    for row in range(3):
        alone = generate(model, batch_of(processor, [row], pixels=[clips[row]]), **MODES[mode])
        assert trimmed(together[row]) == trimmed(alone[0])


@pytest.mark.parametrize("mode", MODES)
def test_latents_given_is_pixels_given(toy, clips, mode):
    model, processor = toy
    with torch.no_grad():
        latents = [list(model.encode_videos(torch.stack(sample)[None])[0]) for sample in clips]
    from_latents = generate(model, batch_of(processor, range(3), latents=latents), **MODES[mode])
    from_pixels = generate(model, batch_of(processor, range(3), pixels=clips), **MODES[mode])
    assert from_latents.tolist() == from_pixels.tolist()


@pytest.mark.parametrize("beams", [1, 3, 5])
def test_beams_do_not_multiply_vision_or_prompt_work(toy, clips, beams, monkeypatch):
    model, processor = toy
    images, prompt_rows = [], []
    encode, decode = model.vision_encoder.forward, model.decoder.forward

    def counted(pixel_values, **kwargs):
        images.append(len(pixel_values))
        return encode(pixel_values, **kwargs)

    def watched(input_ids, *args):
        prompt_rows.append(input_ids.shape)
        return decode(input_ids, *args)

    monkeypatch.setattr(model.vision_encoder, "forward", counted)
    monkeypatch.setattr(model.decoder, "forward", watched)
    batch = batch_of(processor, [0], pixels=clips[:1])
    generate(model, batch, num_beams=beams)
    assert sum(images) == 3 * 4
    assert prompt_rows[0] == batch["input_ids"].shape
    assert set(prompt_rows[1:]) == {(beams, 1)}


def test_references_in_another_order_are_another_input(toy, clips):
    model, processor = toy
    prompt = processor.prompt(NARRATIONS[0], preset=SCRIPT)
    swapped = processor.prompt(NARRATIONS[0][::-1], preset=SCRIPT)
    a, b, query = clips[0]
    with torch.no_grad():
        logits = [
            model(**processor([text], pixels=[order])).logits[0, -1]
            for text, order in ((prompt, [a, b, query]), (swapped, [b, a, query]), (prompt, [b, a, query]))
        ]
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)
    assert not torch.allclose(logits[0], logits[2], atol=1e-3)


def test_a_clips_latents_do_not_depend_on_its_neighbours(toy, clips):
    model, _ = toy
    with torch.no_grad():
        together = model.encode_videos(torch.stack(clips[0])[None])[0]
        alone = torch.stack([model.encode_videos(clip[None, None])[0, 0] for clip in clips[0]])
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_token_sees_its_own_clip_only(toy, clips):
    """Changing the first reference's video changes nothing that the text of the *second* reads from its own video."""
    model, _ = toy
    cross = model.decoder.layers[0].cross_attention
    from egoinstructor.model.cross_attention import ClipView
    from egoinstructor.model.media_mask import clip_index, clip_mask

    ids = torch.tensor([[5, 432, 6, 7, 432, 8]])
    index = clip_index(ids, 432)
    assert index.tolist() == [[-1, 0, 0, 0, 1, 1]]
    latents = torch.randn(1, 2, 64, 32, generator=torch.Generator().manual_seed(0))
    changed = latents.clone()
    changed[:, 0] += 1
    x = torch.randn(1, 6, 64, generator=torch.Generator().manual_seed(1))

    def read(lat):
        has_clip = (index >= 0).unsqueeze(-1).float()
        with torch.no_grad():
            return cross._read(cross.norm(x), ClipView(lat, clip_mask(index, 2, 64), has_clip), cross.project(lat))[0]

    before, after = read(latents), read(changed)
    assert torch.equal(before[0], torch.zeros_like(before[0])), "text before any clip reads nothing"
    assert not torch.allclose(before[1:4], after[1:4])
    assert torch.allclose(before[4:], after[4:])


@pytest.mark.slow  # several seconds
def test_requests_at_once_do_not_see_each_others_videos(toy, clips):
    model, processor = toy
    expected = [generate(model, batch_of(processor, [i], pixels=[clips[i]]), num_beams=3).tolist() for i in range(3)]
    assert len({str(row) for row in expected}) == 3
    wrong = []

    def request(i):
        for _ in range(5):
            batch = batch_of(processor, [i], pixels=[clips[i]])
            sequences = model.generate(**batch, max_new_tokens=12, num_beams=3)
            if sequences[:, batch["input_ids"].shape[1] :].tolist() != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=request, args=(i % 3,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_text_alone(toy):
    model, processor = toy
    batch = processor([processor.prompt(["you stir"], preset=SCRIPT)])
    assert generate(model, batch, use_cache=True).tolist() == generate(model, batch, use_cache=False).tolist()


def test_a_foreign_cache_is_refused(toy, clips):
    model, processor = toy
    batch = batch_of(processor, [0], pixels=clips[:1])
    with pytest.raises(InputError, match="DynamicCache.*CaptionCache"):
        model(**batch, past_key_values=DynamicCache())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(golden_a, clips, dtype):
    model, processor = golden_a.load(dtype=dtype)
    batch = batch_of(processor, range(3), pixels=clips)
    assert generate(model, batch, num_beams=3).shape[0] == 3
    with torch.no_grad():
        assert model(**batch).logits.isfinite().all()

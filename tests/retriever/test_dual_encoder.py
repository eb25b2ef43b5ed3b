"""CLIP, SigLIP and X-CLIP as retrievers: transformers' own numbers, one clip at a time or many, and no wrong stand-in."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel, CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from egoinstructor.errors import CheckpointError, InputError, VideoError
from egoinstructor.records import Clip
from egoinstructor.retriever.dual_encoder import DualEncoderRetriever
from egoinstructor.video.decode import load_video

KINDS = ["clip", "siglip", "xclip"]
PROCESSORS = {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil, "xclip": VideoMAEImageProcessorPil}
TEXTS = ["we stir the soup", "cut a carrot", "wash some rice and pour water into the pan", "soup", "stir soup the we"]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def retriever(kind, checkpoints):
    return DualEncoderRetriever.from_pretrained(checkpoints[kind], device="cpu")


def clips_of(videos):
    return [Clip(path, start, start + 1.2) for path in videos.values() for start in (0.0, 0.5)]


# Transformers' own numbers


def test_video_embeddings_are_transformers_own(kind, retriever, checkpoints, short_videos):
    model, processor = AutoModel.from_pretrained(checkpoints[kind]), PROCESSORS[kind].from_pretrained(checkpoints[kind])
    ours = retriever.encode_video(clips_of(short_videos))
    assert ours.shape == (8, 24 if kind == "siglip" else 28)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.norm(dim=-1), torch.ones(8))
    for clip, row in zip(clips_of(short_videos), ours, strict=True):
        frames = load_video(clip.video, start=clip.start, end=clip.end, num_frames=retriever.identity.num_frames)
        pixels = processor(list(frames.pixels), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            if kind == "xclip":
                expected = model.get_video_features(pixels).pooler_output[0]
            else:
                expected = F.normalize(model.get_image_features(pixels).pooler_output, dim=-1).mean(0)
        # Pillow's resizing differs by a level here and there, which these random towers amplify.
        assert torch.cosine_similarity(row, expected, dim=-1) > 0.999
        with torch.no_grad():
            pixels = retriever.frames.preprocessing(frames)
            if kind == "xclip":
                expected = model.get_video_features(pixels[None]).pooler_output[0]
            else:
                expected = F.normalize(model.get_image_features(pixels).pooler_output, dim=-1).mean(0)
        torch.testing.assert_close(row, F.normalize(expected, dim=-1), atol=2e-5, rtol=1e-4)


def test_text_embeddings_are_transformers_own(kind, retriever, checkpoints, tokenizer):
    model = AutoModel.from_pretrained(checkpoints[kind])
    if kind == "siglip":  # padded to the longest possible, and read without a mask
        given = {"input_ids": tokenizer(TEXTS, padding="max_length", max_length=12, return_tensors="pt")["input_ids"]}
    else:
        given = dict(tokenizer(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False))
    with torch.no_grad():
        expected = F.normalize(model.get_text_features(**given).pooler_output, dim=-1)
    ours = retriever.encode_text(TEXTS)
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(ours.norm(dim=-1), torch.ones(5))
    assert (ours @ ours.T - torch.eye(5)).max() < 0.999  # word order matters too


# Batches


def test_a_row_does_not_depend_on_the_others(retriever, short_videos, monkeypatch):
    clips = clips_of(short_videos)
    together = retriever.encode_video(clips)
    alone = torch.cat([retriever.encode_video([clip], view="ego") for clip in clips])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)
    monkeypatch.setattr("egoinstructor.retriever.dual_encoder.CLIPS_PER_CALL", 3)
    torch.testing.assert_close(retriever.encode_video(clips), alone, atol=2e-5, rtol=1e-4)
    retriever.frames.frames_per_pass = 3  # fewer than a clip has, which a video model still sees as a whole
    torch.testing.assert_close(retriever.encode_video(clips), alone, atol=2e-5, rtol=1e-4)
    alone = torch.cat([retriever.encode_text([text]) for text in TEXTS])
    torch.testing.assert_close(retriever.encode_text(TEXTS), alone, atol=2e-5, rtol=1e-4)
    monkeypatch.setattr("egoinstructor.retriever.texts.TEXTS_PER_PASS", 2)
    torch.testing.assert_close(retriever.encode_text(TEXTS), alone, atol=2e-5, rtol=1e-4)


def test_nothing_in_nothing_out(retriever):
    dimension = retriever.identity.dimension
    assert retriever.encode_video([]).shape == retriever.encode_text([]).shape == (0, dimension)


# Identity


def test_identity_is_that_of_the_weights_and_the_frames(retriever, kind, checkpoints, tmp_path):
    def identity(folder, **changes):
        return DualEncoderRetriever.from_pretrained(folder, device="cpu", **changes).identity

    mine = retriever.identity
    copy = shutil.copytree(checkpoints[kind], tmp_path / "copy")
    assert identity(copy) == dataclasses.replace(mine, name=f"{kind} copy")
    mine.check_same(identity(copy), "a library")
    others = {"sampling": identity(copy, sampling="linspace"), "revision": identity(copy, dtype=torch.bfloat16)}
    if kind != "xclip":
        others["num_frames"] = identity(copy, num_frames=5)
    config = copy / "preprocessor_config.json"
    config.write_text(
        config.read_text().replace('"resample": 3', '"resample": 0').replace('"resample": 2', '"resample": 3')
    )
    config.write_text(config.read_text().replace('"resample": 0', '"resample": 2'))
    others["preprocessing"] = identity(copy)
    for part, other in others.items():
        differs = {key for key, value in mine.as_dict().items() if other.as_dict()[key] != value} - {"name"}
        assert differs == {part}
        with pytest.raises(InputError, match=f"a library was made with another retriever: .*{part}"):
            mine.check_same(other, "a library")


def test_the_text_tower_counts_too(checkpoints, tmp_path):
    model = CLIPModel.from_pretrained(checkpoints["clip"])
    with torch.no_grad():
        model.text_projection.weight[0, 0] += 1
    folder = shutil.copytree(checkpoints["clip"], tmp_path / "changed")
    model.save_pretrained(folder)
    plain, changed = (DualEncoderRetriever.from_pretrained(f) for f in (checkpoints["clip"], folder))
    assert plain.identity.revision != changed.identity.revision
    assert plain.frame_spec == changed.frame_spec


# Texts


def test_a_long_text_is_cut_with_one_warning_and_a_count(retriever, caplog):
    long = " ".join(["soup"] * 10)  # 12 tokens with both ends: it just fits
    longer = [f"{long} stir", f"{long} carrot rice", "cut a carrot"]
    with caplog.at_level(logging.WARNING):
        fitting = retriever.encode_text([long])
        assert retriever.texts.cut == 0
        cut = retriever.encode_text(longer)
        retriever.encode_text(longer)
    assert retriever.texts.cut == 4
    assert [record.getMessage()[:43] for record in caplog.records] == ["a text of 13 tokens was cut to 12, which is"]
    torch.testing.assert_close(cut[:2], fitting.expand(2, -1), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("empty", ["", "  \n"])
def test_an_empty_text_is_refused(retriever, empty):
    with pytest.raises(InputError, match="text 2 of 3 is empty"):
        retriever.encode_text(["soup", empty, "rice"])


def test_threads_may_share_one(retriever):
    long = " ".join(["soup"] * 20)
    texts = [[text, long] if i % 2 else [text] for i, text in enumerate(TEXTS * 8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(retriever.encode_text, texts))
    assert retriever.texts.cut == 20
    for some, embedded in zip(texts, together, strict=True):
        torch.testing.assert_close(embedded, retriever.encode_text(some), atol=2e-5, rtol=1e-4)


def test_siglip_reads_lower_case_whatever_its_tokenizer_does(checkpoints):
    siglip, clip = (DualEncoderRetriever.from_pretrained(checkpoints[kind]) for kind in ("siglip", "clip"))
    assert torch.equal(siglip.encode_text(["Cut a CARROT"]), siglip.encode_text(["cut a carrot"]))
    assert not torch.equal(clip.encode_text(["Cut a CARROT"]), clip.encode_text(["cut a carrot"]))


# Bad input


def test_a_clip_that_can_not_be_read(retriever, short_videos, tmp_path):
    with pytest.raises(VideoError, match=r"gone\.mp4"):
        retriever.encode_video([*clips_of(short_videos), Clip(tmp_path / "gone.mp4")])


def test_folders_that_are_no_dual_encoder(checkpoints, model_folder, tmp_path):
    with pytest.raises(
        CheckpointError, match="holds a 'egoinstructor'; a dual encoder must be one of clip, siglip, xclip"
    ):
        DualEncoderRetriever.from_pretrained(model_folder)
    with pytest.raises(CheckpointError, match="can't be read as JSON"):
        DualEncoderRetriever.from_pretrained(tmp_path)
    for missing in ("model.safetensors", "tokenizer.json", "preprocessor_config.json"):
        folder = shutil.copytree(checkpoints["clip"], tmp_path / missing)
        (folder / missing).unlink()
        with pytest.raises(CheckpointError, match=missing.partition(".")[0].replace("model", "tensors")):
            DualEncoderRetriever.from_pretrained(folder)


def test_a_folder_without_any_tokenizer_gets_no_empty_one(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["clip"], tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(CheckpointError, match="has no tokenizer, that is none of tokenizer.json, vocab.json"):
        DualEncoderRetriever.from_pretrained(folder)


def test_damaged_weights(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["clip"], tmp_path / "short")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="can't be opened as a CLIPModel"):
        DualEncoderRetriever.from_pretrained(folder)


def test_weights_of_another_size(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["clip"], tmp_path / "other")
    config = CLIPConfig.from_pretrained(folder)
    config.vision_config.num_hidden_layers = 3
    config.save_pretrained(folder)
    with pytest.raises(CheckpointError, match="does not fit its config.json: .*missing_keys"):
        DualEncoderRetriever.from_pretrained(folder)


def test_xclip_looks_at_as_many_frames_as_it_was_trained_with(checkpoints):
    assert DualEncoderRetriever.from_pretrained(checkpoints["xclip"], num_frames=4).identity.num_frames == 4
    with pytest.raises(InputError, match="num_frames=8: this model looks at clips of 4 frames"):
        DualEncoderRetriever.from_pretrained(checkpoints["xclip"], num_frames=8)


def test_weights_that_give_no_numbers(checkpoints, short_videos):
    retriever = DualEncoderRetriever.from_pretrained(checkpoints["clip"])
    with torch.no_grad():
        retriever.model.text_projection.weight.fill_(float("nan"))
        retriever.model.visual_projection.weight.fill_(float("inf"))
    with pytest.raises(InputError, match="embeddings that are no numbers"):
        retriever.encode_text(["soup"])
    with pytest.raises(InputError, match="embeddings that are no numbers"):
        retriever.encode_video(clips_of(short_videos)[:1])


def test_the_head_takes_features_of_any_number_of_frames(checkpoints):
    retriever = DualEncoderRetriever.from_pretrained(checkpoints["clip"])
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 5, 24)).astype(np.float32))
    embedded = retriever.embed_frames(features)
    # Each frame counts the same, however long its vector.
    stretched = features * torch.tensor([1.0, 9.0, 0.1, 2.0, 30.0])[None, :, None]
    torch.testing.assert_close(retriever.embed_frames(stretched), embedded, atol=1e-5, rtol=1e-4)

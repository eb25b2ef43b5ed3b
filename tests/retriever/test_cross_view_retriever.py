"""The cross-view retriever, whole: each view through its own backbone, saved and opened again, and what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from egoinstructor.errors import CheckpointError, InputError, VideoError
from egoinstructor.records import Clip, Frames
from egoinstructor.retriever import cross_view_retriever
from egoinstructor.retriever.cross_view import CrossViewConfig, CrossViewModel
from egoinstructor.retriever.cross_view_retriever import SETTINGS, CrossViewRetriever
from egoinstructor.retriever.frames import TowerFrameEncoder
from egoinstructor.video.decode import load_video, probe

TEXTS = ["we stir the soup", "cut a carrot", "wash some rice and pour water"]


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(3)
    config = CrossViewConfig(
        ego_frame_width=24, exo_frame_width=24, hidden_size=16, num_layers=2, num_heads=2, num_frames=3, projection_dim=10,
        text_vocab_size=len(tokenizer), text_context=12, text_hidden_size=20, text_num_layers=1, text_num_heads=4,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return CrossViewModel(config).eval()


@pytest.fixture(scope="module")
def backbones(checkpoints):
    """Two that differ: as ego and exo backbones may."""
    return {
        kind: TowerFrameEncoder.from_pretrained(checkpoints[kind], num_frames=3, device="cpu")
        for kind in ("clip", "siglip")
    }


@pytest.fixture
def retriever(model, tokenizer, backbones):
    return CrossViewRetriever(model, tokenizer, ego=backbones["clip"], exo=backbones["siglip"])


def clips_of(videos):
    return [Clip(path, start, start + 1.2) for path in videos.values() for start in (0.0, 0.7)]


def test_each_view_goes_through_its_backbone(retriever, model, backbones, short_videos):
    clips = clips_of(short_videos)
    for view, kind in (("ego", "clip"), ("exo", "siglip")):
        with torch.inference_mode():
            expected = model.embed_video(backbones[kind].encode_clips(clips), view)
        embedded = retriever.encode_video(clips, view)
        torch.testing.assert_close(embedded, expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(embedded.norm(dim=-1), torch.ones(8))
    assert not torch.allclose(retriever.encode_video(clips, "ego"), retriever.encode_video(clips, "exo"), atol=1e-2)
    torch.testing.assert_close(retriever.encode_video(clips), retriever.encode_video(clips, "exo"))


def test_texts(retriever, model, tokenizer):
    ids = tokenizer(TEXTS, padding=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = model.embed_text(ids)
    torch.testing.assert_close(retriever.encode_text(TEXTS), expected, atol=1e-5, rtol=1e-4)
    retriever.encode_text([" ".join(["soup"] * 20)])
    assert retriever.texts.cut == 1
    with pytest.raises(InputError, match="text 1 of 1 is empty"):
        retriever.encode_text([" "])


def test_a_row_does_not_depend_on_the_others(retriever, short_videos, monkeypatch):
    clips = clips_of(short_videos)
    alone = torch.cat([retriever.encode_video([clip], "ego") for clip in clips])
    torch.testing.assert_close(retriever.encode_video(clips, "ego"), alone, atol=1e-5, rtol=1e-4)
    monkeypatch.setattr("egoinstructor.retriever.cross_view_retriever.CLIPS_PER_PASS", 3)
    torch.testing.assert_close(retriever.encode_video(clips, "ego"), alone, atol=1e-5, rtol=1e-4)
    alone = torch.cat([retriever.encode_text([text]) for text in TEXTS])
    torch.testing.assert_close(retriever.encode_text(TEXTS), alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("view", "clip", "seen"),
    [
        ("exo", (10.0, 11.0), (5.0, 16.0)),
        ("exo", (12.3, 13.3), (7.3, 18.3)),  # which is a little more than a second, in floats
        ("exo", (10.0, 10.25), (5.0, 16.0)),  # a second first, then the widening
        ("exo", (10.0, 11.5), (10.0, 11.5)),
        ("exo", (2.0, 3.0), (0.0, 8.0)),
        ("exo", (None, 0.5), (0.0, 6.0)),
        ("exo", (28.0, 29.0), (23.0, 30.0)),
        ("exo", (29.5, 30.4), (24.5, 30.4)),
        ("exo", (None, None), (None, None)),
        ("exo", (29.5, None), (29.5, None)),
        ("exo", (31.0, 31.5), (31.0, 31.5)),  # wrong, and still wrong when it is read
        ("exo", (29.5, 45.0), (29.5, 45.0)),
        ("ego", (10.0, 11.0), (10.0, 11.0)),
        ("ego", (10.0, 10.25), (10.0, 11.0)),
        ("ego", (29.5, 29.75), (29.5, 30.0)),
    ],
)
def test_of_short_clips_more_is_looked_at_as_in_training(retriever, monkeypatch, short_videos, view, clip, seen):
    looked = []

    def encode_clips(clips):
        looked.extend((clip.start, clip.end) for clip in clips)
        return torch.zeros(len(clips), 3, 24)

    monkeypatch.setattr(retriever.backbones[view], "encode_clips", encode_clips)
    video = short_videos["ego"]
    for source in (video, video.read_bytes()):
        cross_view_retriever._duration.cache_clear()
        info = probe(source)
        monkeypatch.setattr(cross_view_retriever, "probe", lambda _, info=info: replace(info, duration=30.0))
        retriever.encode_video([Clip(source, *clip)], view)
    cross_view_retriever._duration.cache_clear()
    assert looked == [pytest.approx(seen), pytest.approx(seen)]


def test_a_video_that_was_written_anew_has_its_new_length(retriever, short_videos, tmp_path):
    import os

    path = tmp_path / "video.mp4"
    path.write_bytes(short_videos["exo1"].read_bytes())
    first = retriever.encode_video([Clip(path, 1.0, 2.0)])
    torch.testing.assert_close(first, retriever.encode_video([Clip(path, 0.0, 3.0)]))
    path.write_bytes(short_videos["exo2"].read_bytes())
    os.utime(path, ns=(0, 0))
    torch.testing.assert_close(
        retriever.encode_video([Clip(path, 1.0, 2.0)]), retriever.encode_video([Clip(short_videos["exo2"], 0.0, 3.0)])
    )
    assert cross_view_retriever._duration.cache_info().currsize >= 2
    with pytest.raises(VideoError, match="gone"):
        retriever.encode_video([Clip(tmp_path / "gone.mp4", 1.0, 2.0)])


def test_nothing_in_nothing_out(retriever):
    assert retriever.encode_video([]).shape == retriever.encode_text([]).shape == (0, 10)
    assert retriever.embed_features(torch.zeros(0, 3, 24)).shape == (0, 10)


# Saved and opened again


def same(one, other, videos):
    clips = clips_of(videos)[:3]
    for view in ("ego", "exo"):
        torch.testing.assert_close(one.encode_video(clips, view), other.encode_video(clips, view), atol=1e-6, rtol=0)
    torch.testing.assert_close(one.encode_text(TEXTS), other.encode_text(TEXTS), atol=1e-6, rtol=0)
    one.identity.check_same(other.identity, "a library")


def test_saved_with_its_backbones_the_folder_is_whole(retriever, short_videos, tmp_path):
    retriever.save_pretrained(tmp_path / "saved", backbones=True)
    moved = (tmp_path / "saved").rename(tmp_path / "moved")
    assert {file.name for file in moved.iterdir() if file.is_dir()} == {"ego_backbone", "exo_backbone"}
    assert str(tmp_path) not in (moved / SETTINGS).read_text()
    opened = CrossViewRetriever.from_pretrained(moved, device="cpu")
    same(opened, retriever, short_videos)
    assert opened.identity.name == "cross-view moved"
    opened.save_pretrained(tmp_path / "again", backbones=True)
    same(CrossViewRetriever.from_pretrained(tmp_path / "again", device="cpu"), retriever, short_videos)


def test_saved_without_it_names_them(retriever, short_videos, checkpoints, tmp_path):
    retriever.save_pretrained(tmp_path / "saved")
    settings = json.loads((tmp_path / "saved" / SETTINGS).read_text())
    assert settings == {
        "num_frames": 3,
        "sampling": "segment_center",
        "backbones": {"ego": str(checkpoints["clip"]), "exo": str(checkpoints["siglip"])},
    }
    same(CrossViewRetriever.from_pretrained(tmp_path / "saved", device="cpu"), retriever, short_videos)


def test_a_shared_backbone_is_saved_and_opened_once(model, tokenizer, backbones, short_videos, tmp_path):
    retriever = CrossViewRetriever(model, tokenizer, ego=backbones["clip"], exo=backbones["clip"])
    retriever.save_pretrained(tmp_path / "saved", backbones=True)
    assert not (tmp_path / "saved" / "exo_backbone").exists()
    opened = CrossViewRetriever.from_pretrained(tmp_path / "saved", device="cpu")
    assert opened.backbones["ego"] is opened.backbones["exo"]
    same(opened, retriever, short_videos)


def test_without_backbones_it_embeds_features(model, tokenizer, short_videos, checkpoints, tmp_path):
    bare = CrossViewRetriever(model, tokenizer)
    assert bare.identity.num_frames == 3
    assert CrossViewRetriever(model, tokenizer, num_frames=5).identity.num_frames == 5
    with pytest.raises(InputError, match="num_frames=0"):
        CrossViewRetriever(model, tokenizer, num_frames=0)
    bare.save_pretrained(tmp_path / "bare", backbones=True)
    opened = CrossViewRetriever.from_pretrained(tmp_path / "bare", device="cpu")
    assert CrossViewRetriever.from_pretrained(tmp_path / "bare", device="cpu", num_frames=2).num_frames == 2
    features = torch.randn(5, 6, 24)
    with torch.no_grad():
        expected = model.embed_video(features, "ego")
    torch.testing.assert_close(opened.embed_features(features, "ego"), expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match="no exo backbone to see clips with"):
        opened.encode_video(clips_of(short_videos))
    dressed = CrossViewRetriever.from_pretrained(tmp_path / "bare", device="cpu", exo_backbone=checkpoints["clip"])
    assert dressed.encode_video(clips_of(short_videos)).shape == (8, 10)
    with pytest.raises(InputError, match="no ego backbone"):
        dressed.encode_video([], "ego")
    assert dressed.identity.revision != opened.identity.revision


# Identity


def test_identity_changes_with_each_part(retriever, model, tokenizer, backbones, checkpoints, tmp_path):
    mine = retriever.identity
    retriever.save_pretrained(tmp_path / "saved")
    opened = {
        "num_frames": CrossViewRetriever.from_pretrained(tmp_path / "saved", num_frames=5),
        "sampling": CrossViewRetriever.from_pretrained(tmp_path / "saved", sampling="linspace"),
        "revision": CrossViewRetriever.from_pretrained(tmp_path / "saved", dtype=torch.bfloat16),
    }
    for part, other in opened.items():
        differs = {key for key, value in mine.as_dict().items() if other.identity.as_dict()[key] != value} - {"name"}
        assert differs == {part}
    swapped = CrossViewRetriever(model, tokenizer, ego=backbones["siglip"], exo=backbones["clip"]).identity
    assert swapped.revision != mine.revision
    assert swapped.preprocessing != mine.preprocessing
    changed = CrossViewModel(model.config)
    assert CrossViewRetriever(changed, tokenizer, ego=backbones["clip"]).identity.revision != mine.revision


# What does not fit


def test_parts_that_do_not_fit(model, tokenizer, backbones, checkpoints, tmp_path):
    narrow = CrossViewModel(CrossViewConfig(**{**model.config.to_dict(), "exo_frame_width": 16}))
    with pytest.raises(CheckpointError, match="the exo backbone gives features of width 24; the model takes 16"):
        CrossViewRetriever(narrow, tokenizer, ego=backbones["clip"], exo=backbones["clip"])
    more = TowerFrameEncoder.from_pretrained(checkpoints["clip"], num_frames=4)
    with pytest.raises(InputError, match="look at different frames"):
        CrossViewRetriever(model, tokenizer, ego=backbones["clip"], exo=more)
    other = CrossViewModel(CrossViewConfig(**{**model.config.to_dict(), "eos_token_id": 3}))
    with pytest.raises(CheckpointError, match="ends texts with token 17, the model with 3"):
        CrossViewRetriever(other, tokenizer)
    small = CrossViewModel(CrossViewConfig(**{**model.config.to_dict(), "text_vocab_size": 17}))
    with pytest.raises(CheckpointError, match="the tokenizer has 18 tokens .* the model knows 17"):
        CrossViewRetriever(small, tokenizer)
    homeless = TowerFrameEncoder(backbones["clip"].tower, backbones["clip"].preprocessing, num_frames=3)
    with pytest.raises(CheckpointError, match="the ego backbone came from no folder"):
        CrossViewRetriever(model, tokenizer, ego=homeless).save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_requests(retriever, short_videos):
    with pytest.raises(InputError, match="view='side': choose from ego, exo"):
        retriever.encode_video(clips_of(short_videos), "side")
    with pytest.raises(InputError, match=r"shape \(2, 3, 7\); they must be \(clips, frames, 24\)"):
        retriever.embed_features(torch.zeros(2, 3, 7))


def test_folders_that_are_none(retriever, checkpoints, tmp_path):
    with pytest.raises(CheckpointError, match="holds a 'clip'; a cross-view retriever is a"):
        CrossViewRetriever.from_pretrained(checkpoints["clip"])
    retriever.save_pretrained(tmp_path / "saved", backbones=True)
    with pytest.raises(CheckpointError, match="is not an empty folder"):
        retriever.save_pretrained(tmp_path / "saved")
    settings = tmp_path / "saved" / SETTINGS
    good = json.loads(settings.read_text())
    for change, message in (
        ({"num_frames": "many"}, r"num_frames: 'many' is of type str; it must be a whole number"),
        ({"sampling": "random"}, "sampling: 'random' .* segment_center or linspace"),
        ({"backbones": ["ego"]}, "backbones: .* an object"),
        ({"backbones": {"ego": 3}}, r"backbones\.ego: 3"),
        ({"backbones": {"side": None}}, "unknown key 'side'"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"num_frames": 0}, "num_frames=0"),
    ):
        settings.write_text(json.dumps(good | change))
        with pytest.raises(InputError, match=message):
            CrossViewRetriever.from_pretrained(tmp_path / "saved")
    settings.unlink()
    with pytest.raises(CheckpointError, match=r"retriever\.json can't be read"):
        CrossViewRetriever.from_pretrained(tmp_path / "saved")


def test_of_frames_no_more_is_looked_at_than_there_is():
    times = np.arange(4, 7, 0.1)
    frames = Frames(np.zeros((30, 2, 2, 3), np.uint8), times, np.arange(30), "camera")
    spans = [(4.0, 4.5), (5.0, 5.4), (6.5, 6.9), (4.0, 6.0)]
    looked = [cross_view_retriever.seen_clip(Clip(frames, *span), "exo") for span in spans]
    for span, clip in zip(spans, looked, strict=True):
        assert clip.video is frames
        assert 4 <= clip.start <= span[0] < span[1] <= clip.end <= 7
        assert load_video(clip.video, start=clip.start, end=clip.end, num_frames=3).indices.size == 3
    assert [clip.end - clip.start > 0.99 for clip in looked] == [True] * 4

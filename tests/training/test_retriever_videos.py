"""A retriever whose backbone is trained along, from videos: frames that are decoded once, and a run on them."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from egoinstructor import open_retriever
from egoinstructor.data.pairs import PairRecord, read_pairs
from egoinstructor.errors import InputError
from egoinstructor.records import Clip
from egoinstructor.retriever.preprocessing import Preprocessing
from egoinstructor.training import frame_store
from egoinstructor.training.augment import Augment, shifted
from egoinstructor.training.callbacks import RunRecord
from egoinstructor.training.dataset import Draw
from egoinstructor.training.frame_store import FrameStore
from egoinstructor.training.retriever_arguments import parse_retriever
from egoinstructor.training.retriever_data import some_places
from egoinstructor.training.retriever_model import open_backbone
from egoinstructor.training.retriever_run import build_retriever_trainer, train_retriever
from egoinstructor.training.retriever_trainer import _within_verb
from egoinstructor.training.run_folder import MODEL_FOLDER
from egoinstructor.training.verb_sampler import VerbSampler

CLIPS, ACTIONS, FRAMES, SIDE = 8, 4, 4, 32
BACKBONE = {"model_type": "resnet", "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "layer_type": "basic",
            "image_size": SIDE}  # fmt: skip
WAY = Preprocessing((SIDE, SIDE), None, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), antialias=False)


@pytest.fixture(scope="module")
def folder(views, videos, tmp_path_factory):
    """Pairs whose clips are videos of their own, of 4 frames and 2 seconds."""
    folder = tmp_path_factory.mktemp("videos")
    views.tokenizer(folder / "tokenizer")
    views.write(folder, "train", CLIPS, actions=ACTIONS)
    for view in ("ego", "exo"):
        path = folder / f"train_{view}.json"
        records = json.loads(path.read_text())
        for number, record in records.items():
            record |= {"vid": f"{view}/{number}", "start_second": 0.0, "end_second": 2.0}
            noise = np.random.default_rng(int(number))
            videos.write(folder / view / f"{number}.mp4", 4, fps=2, size=(SIDE, SIDE),
                         pixels=lambda _, noise=noise: noise.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8))  # fmt: skip
        path.write_text(json.dumps(records))
    return folder


@pytest.fixture
def run(views, folder, tmp_path, monkeypatch):
    """Trains into a folder of that name; `parsed` stops before."""
    monkeypatch.setattr(RunRecord, "plot", lambda self: None)

    class Run:
        @staticmethod
        def parsed(output="run", **changes):
            values = {"features_ego": None, "features_exo": None, "videos_ego": folder, "videos_exo": folder,
                      "backbone_config": json.dumps(BACKBONE), "num_frames": FRAMES, "frames_per_clip": 2,
                      "frames_cache": tmp_path / "frames", "augment_shift": 2, "augment_colour": 0.2,
                      "same_verb_share": 0.5, "view_weight": 1.0, "noun_weight": 1.0, "hidden_size": 8,
                      **changes}  # fmt: skip
            return parse_retriever(None, views.options(folder, tmp_path / output, **values))

        def __call__(self, output="run", **changes):
            train_retriever(self.parsed(output, **changes))
            return tmp_path / output

    return Run()


def store(folder, tmp_path, **changes):
    given = {"folder": tmp_path, "videos": folder, "records": read_pairs(folder / "train_ego.json"), "view": "ego",
             "preprocessing": WAY, "num_frames": FRAMES, **changes}  # fmt: skip
    return FrameStore(**given)


# ---------------------------------------------------------------------- frames


def test_frames_are_those_of_the_video(folder, videos, tmp_path):
    """Which `segment_center` chooses: of 4 frames the first, then the others but the last."""
    frames = store(folder, tmp_path)
    frames.fill()
    decoded = [pixels for _, pixels in videos.frames(folder / "ego" / "3.mp4")]
    expected = np.stack([decoded[place] for place in (0, 1, 2, 2)])
    assert np.array_equal(frames.frames(3, range(FRAMES)), expected)
    assert np.array_equal(frames.frames(3, [1, 2]), expected[1:3])


def test_what_is_there_is_not_decoded_again(folder, tmp_path, monkeypatch):
    """And what was not marked is."""
    decoded = []
    plain = FrameStore._decode
    monkeypatch.setattr(FrameStore, "_decode", lambda self, index: decoded.append(index) or plain(self, index))
    monkeypatch.setattr(frame_store, "CLIPS_PER_WRITE", 3)
    first = store(folder, tmp_path)
    first.fill()
    assert sorted(decoded) == list(range(CLIPS))
    wanted = first.frames(5, range(FRAMES))
    decoded.clear()
    with first._path.open("r+b") as file:  # a write that was cut off
        file.seek(5 * first._size)
        file.write(bytes(100))
    with first._done_path.open("r+b") as file:
        file.seek(5)
        file.write(b"\0")
    again = store(folder, tmp_path)
    again.fill()
    assert decoded == [5]
    assert torch.equal(again.frames(5, range(FRAMES)), wanted)
    assert store(folder, tmp_path, num_frames=3)._path != again._path


def test_what_cannot_be_read_is_refused_alone(folder, tmp_path):
    records = [PairRecord("ego/0", 0, 2, "x"), PairRecord("ego/none", 0, 2, "x"), PairRecord("ego/1", 7, 9, "x")]
    frames = store(folder, tmp_path, records=records)
    frames.fill()
    assert frames.frames(0, [0]).shape == (1, SIDE, SIDE, 3)
    for index, message in ((1, "none"), (2, "the video lasts")):
        with pytest.raises(InputError, match=message):
            frames.frames(index, [0])
    with pytest.raises(InputError, match="none of the ego clips can be read"):
        store(folder, tmp_path, records=records[1:]).fill()
    with pytest.raises(InputError, match="not a folder"):
        store(folder, tmp_path, videos=tmp_path / "nowhere")


def test_places():
    assert some_places(8, 4, None) == [0, 2, 4, 6]
    assert some_places(8, 8, random.Random(0)) == list(range(8))
    drawn = [some_places(8, 4, random.Random(seed)) for seed in range(50)]
    assert all(places[i] in (2 * i, 2 * i + 1) for places in drawn for i in range(4))
    assert len({tuple(places) for places in drawn}) == 16


def test_shifted_is_a_crop_with_its_edge_repeated():
    frames = torch.randint(0, 255, (2, 3, 6, 5, 3), dtype=torch.uint8)
    moved = shifted(frames, torch.tensor([[2, -1], [0, 0]]))
    assert torch.equal(moved[1], frames[1])
    assert torch.equal(moved[0, :, :4, 1:], frames[0, :, 2:, :4])
    assert torch.equal(moved[0, :, 4:, 1:], frames[0, :, 5:, :4].expand(3, 2, 4, 3))
    assert torch.equal(moved[0, :, :4, 0], frames[0, :, 2:, 0])


# ---------------------------------------------------------------------- batches with a verb in common


def draws(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


def test_each_item_once_and_half_of_a_batch_of_one_verb():
    verbs = [i % 5 if i % 11 else None for i in range(203)]
    sampler = VerbSampler(verbs, 0.5, seed=3, epochs=2, multiple=16)
    one, two = draws(sampler, 0), draws(sampler, 1)
    assert one == draws(sampler, 0) == draws(VerbSampler(verbs, 0.5, seed=3, epochs=2, multiple=16), 0)
    assert [draw.index for draw in one] != [draw.index for draw in two]
    for epoch in (one, two):
        assert len(epoch) == len(sampler) == 208
        assert sorted(draw.index for draw in epoch if draw.index is not None) == list(range(203))
        for start in range(0, 192, 16):
            counts = Counter(verbs[draw.index] for draw in epoch[start : start + 16])
            del counts[None]
            assert max(counts.values()) >= 8


@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_each_item_once_whatever_the_share(share):
    verbs = [*range(30), *[0] * 10]
    found = draws(VerbSampler(verbs, share, seed=0, multiple=8), 0)
    assert sorted(draw.index for draw in found) == list(range(40))


# ---------------------------------------------------------------------- a run


def test_a_finished_run_encodes_videos(run, folder):
    """With its backbone inside, which learned; in bf16 on a CPU."""
    out = run(bf16=True, eval_ego=folder / "train_ego.json", eval_exo=folder / "train_exo.json", eval_strategy="steps",
              eval_steps=4)  # fmt: skip
    retriever = open_retriever(out / MODEL_FOLDER, device="cpu")
    assert retriever.backbones["ego"] is retriever.backbones["exo"]
    clips = [Clip(folder / "ego" / f"{i}.mp4", 0.0, 2.0) for i in range(3)]
    assert retriever.encode_video(clips, "ego").shape == (3, 16)
    assert retriever.backbones["ego"].preprocessing.shape == (SIDE, SIDE)
    assert not retriever.backbones["ego"].preprocessing.antialias
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    (found,) = [line for line in logged if "eval_same_verb_r1" in line]
    assert found["eval_pairs"] == CLIPS
    assert found["eval_same_verb_chance"] == 1 / ACTIONS  # of one verb, all of them


def test_every_tensor_moves_statistics_too(run):
    trainer = build_retriever_trainer(run.parsed())
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.train()
    assert {name for name, tensor in trainer.model.state_dict().items() if torch.equal(tensor, before[name])} == set()


def test_nouns_are_told_among_all_of_the_training_clips(run, folder):
    """By one vector for each id; and the finished retriever has none of them."""
    trainer = build_retriever_trainer(run.parsed())
    records = [record for view in ("ego", "exo") for record in read_pairs(folder / f"train_{view}.json")]
    assert len(trainer.model.noun_vectors) == 1 + max(noun for record in records for noun in record.nouns)
    batch = trainer.data_collator([trainer.train_dataset[Draw(0, index)] for index in range(4)])
    losses = []
    for trainer.args.noun_weight in (0.0, 0.5, 1.0):
        losses.append(trainer.compute_loss(trainer.model.train(), dict(batch)).item())
    assert losses[2] - losses[0] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-4)
    assert losses[1] > losses[0]
    assert build_retriever_trainer(run.parsed(noun_weight=0.0)).model.noun_vectors is None
    with safe_open(run("short", max_steps=1) / MODEL_FOLDER / "model.safetensors", "pt") as file:
        assert not [name for name in file.keys() if "noun" in name]  # noqa: SIM118 - no mapping


def test_what_the_model_sees_is_what_the_finished_retriever_sees(run, folder):
    parsed = run.parsed(eval_ego=folder / "train_ego.json", eval_exo=folder / "train_exo.json", frames_per_clip=None)
    trainer = build_retriever_trainer(parsed)
    out = run("other", frames_per_clip=None, max_steps=1, learning_rate=0.0)
    retriever = open_retriever(out / MODEL_FOLDER, device="cpu")
    batch = trainer.data_collator([trainer.eval_dataset[Draw(0, index)] for index in range(2)])
    inputs = {name: batch[name] for name in ("input_ids", "is_ego", "frames", "places", "shifts", "colours")}
    trainer.model.load_state_dict({
        **{f"backbone.{name}": tensor for name, tensor in retriever.backbones["ego"].tower.state_dict().items()},
        **{f"cross_view.{name}": tensor for name, tensor in retriever.model.state_dict().items()},
        "noun_vectors": trainer.model.noun_vectors,
    })  # fmt: skip
    with torch.no_grad():
        seen = trainer.model.eval()(**inputs).video_embeds
    clips = [Clip(folder / "ego" / f"{i}.mp4", 0.0, 2.0) for i in range(2)]
    torch.testing.assert_close(seen[::2], retriever.encode_video(clips, "ego"), rtol=1e-4, atol=1e-5)


def test_no_change_is_drawn_where_it_is_evaluated(run, folder):
    parsed = run.parsed(eval_ego=folder / "train_ego.json", eval_exo=folder / "train_exo.json")
    trainer = build_retriever_trainer(parsed)
    train = trainer.data_collator([trainer.train_dataset[Draw(0, index)] for index in range(4)])
    held = trainer.data_collator([trainer.eval_dataset[Draw(0, index)] for index in range(4)])
    assert train["frames"].shape == (8, 2, SIDE, SIDE, 3)
    assert train["shifts"].any()
    assert train["shifts"].abs().max() <= 2
    assert held["frames"].shape == (8, FRAMES, SIDE, SIDE, 3)
    assert held["places"].tolist() == [list(range(FRAMES))] * 8
    assert not held["shifts"].any()
    assert held["colours"].tolist() == [[[1.0] * 3, [0.0] * 3]] * 8
    again = trainer.data_collator([trainer.train_dataset[Draw(0, index)] for index in range(4)])
    assert all(torch.equal(train[name], again[name]) for name in ("frames", "places", "shifts", "colours"))


def test_a_backbone_is_gone_on_with(run, folder):
    first = run("first")
    config = {"backbone_config": None, "backbone": first / MODEL_FOLDER / "ego_backbone"}
    trainer = build_retriever_trainer(run.parsed("second", **config))
    saved = load_file(first / MODEL_FOLDER / "ego_backbone" / "model.safetensors")
    for name, tensor in trainer.model.backbone.state_dict().items():
        assert torch.equal(tensor, saved[name]), name
    assert all(p.requires_grad for p in trainer.model.parameters())


@pytest.mark.slow
def test_resumed_is_straight_to_the_bit(run):
    """In the middle of the second epoch."""
    long = {"max_steps": 6, "save_strategy": "steps", "save_steps": 4, "bf16": True}
    straight, cut = run("straight", **long), run("cut", **long)
    for name in ("checkpoint-6", MODEL_FOLDER):
        shutil.rmtree(cut / name)
    run("cut", **long, resume_from_checkpoint="last")
    for part in ("", "ego_backbone"):
        a, b = (load_file(out / MODEL_FOLDER / part / "model.safetensors") for out in (straight, cut))
        assert a.keys() == b.keys()
        assert all(torch.equal(tensor, b[name]) for name, tensor in a.items())


# ---------------------------------------------------------------------- a measure, and options


def test_recall_within_a_verb():
    """Against a loop, with ids at random."""
    draw = torch.Generator().manual_seed(0)
    video = torch.nn.functional.normalize(torch.randn(40, 6, generator=draw), dim=1)
    nouns, verbs = torch.randint(0, 3, (40, 1), generator=draw), torch.randint(0, 3, (40, 1), generator=draw)
    egos, exos = torch.arange(20), torch.arange(20, 40)
    hits, chances = [], []
    for ego in egos.tolist():
        gallery = [exo for exo in exos.tolist() if verbs[exo] == verbs[ego]]
        nearest = max(gallery, key=lambda exo, ego=ego: float(video[ego] @ video[exo]))
        hits.append(bool(nouns[nearest] == nouns[ego]))
        chances.append(sum(bool(nouns[exo] == nouns[ego]) for exo in gallery) / len(gallery))
    found = _within_verb(video, nouns, verbs, egos, exos)
    assert found["same_verb_r1"] == pytest.approx(sum(hits) / 20)
    assert found["same_verb_chance"] == pytest.approx(sum(chances) / 20)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features_ego": "x"}, "both given"),
        ({"videos_exo": None}, "videos_exo is missing"),
        ({"backbone_config": None}, "name backbone or backbone_config"),
        ({"backbone": "x"}, "name one of them"),
        ({"ego_backbone": "x"}, "with videos, name backbone"),
        ({"videos_ego": None, "videos_exo": None, "features_ego": "x", "features_exo": "x"}, "needs videos_ego"),
        ({"frames_per_clip": 0}, "frames_per_clip=0"),
        ({"frames_per_clip": FRAMES + 1}, "frames_per_clip=5 of num_frames=4"),
        ({"augment_shift": -1}, "augment_shift=-1"),
        ({"same_verb_share": 1.5}, "same_verb_share=1.5"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing"),
        ({"backbone_config": "none.yaml"}, "none.yaml"),
        ({"backbone_config": json.dumps({**BACKBONE, "image_size": None})}, "image_size=None"),
        ({"backbone_config": json.dumps({**BACKBONE, "model_type": "bert"})}, "bert"),
        ({"backbone_config": json.dumps({**BACKBONE, "image_std": [1, 2]})}, "backbone_config"),
        ({"backbone_config": json.dumps({**BACKBONE, "layer_type": "round"})}, "round"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_what_does_not_fit_is_said(run, changes, message):
    with pytest.raises(InputError, match=message):
        run(**changes)


def test_colours_stay_near_what_they_were():
    looks = [Augment(3, 0.2).draw(random.Random(seed)) for seed in range(1000)]
    assert {look.shift for look in looks} == set(itertools.product(range(-3, 4), repeat=2))
    for look in looks:
        for gain, bias in zip(look.gain, look.bias, strict=True):
            assert 0.7 < gain < 1.4
            assert abs(128 * gain + bias - 128) <= 0.2 * 128 + 1e-6


def test_nanos_recipe_is_read():
    config = Path(__file__).resolve().parents[2] / "configs" / "nano_retriever.yaml"
    model, data, training = parse_retriever(config, [])
    backbone = open_backbone(model, 8)
    assert (backbone.width, backbone.preprocessing.shape) == (256, (96, 96))
    assert (data.num_frames, data.frames_per_clip, data.exo_items) == (8, 4, True)
    assert (training.view_weight, training.per_device_train_batch_size, training.bf16) == (1.0, 64, True)

"""What a retriever learns from: items with their pairs, whatever can't be read counted, nothing replaced in silence."""

from __future__ import annotations

import json

import pytest
import torch

from egoinstructor.data.pairs import PairRecord, read_pairs
from egoinstructor.errors import InputError
from egoinstructor.retriever.features import FeatureFolder
from egoinstructor.retriever.loading import load_text_tokenizer
from egoinstructor.training.dataset import Draw
from egoinstructor.training.failures import FailureLog, TrainingError
from egoinstructor.training.retriever_arguments import RetrieverDataArguments, parse_retriever
from egoinstructor.training.retriever_data import COUNTED, CUT, REFUSED, PairCollator, PairDataset, Side

ACTIONS, CLIPS = 5, 20


@pytest.fixture(scope="module")
def folder(views, tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    views.tokenizer(folder / "tokenizer")
    views.write(folder, "train", CLIPS, actions=ACTIONS)
    return folder


@pytest.fixture
def dataset(folder):
    """A dataset, with changed records or options."""
    tokenizer = load_text_tokenizer(folder / "tokenizer")

    def dataset(ego=None, exo=None, **options):
        sides = [
            Side(view, read_pairs(folder / f"train_{view}.json") if given is None else given,
                 FeatureFolder(folder / view), width)
            for view, given, width in (("ego", ego, 12), ("exo", exo, 16))
        ]  # fmt: skip
        return PairDataset(*sides, tokenizer, **{"text_context": 8, "num_frames": 3, "seed": 1, **options})

    return dataset


def clip(video="train", start=0, end=4, text="cuts the leek", **values):
    return PairRecord(video, start, end, text, **values)


def same(a, b):
    assert len(a.rows) == len(b.rows)
    for mine, theirs in zip(a.rows, b.rows, strict=True):
        assert (mine.view, mine.index, mine.tokens) == (theirs.view, theirs.index, theirs.tokens)
        assert torch.equal(mine.features, theirs.features)


# ---------------------------------------------------------------------- items


def test_exo_clips_are_paired_by_what_is_known_to_be_done(dataset):
    """Two clips without nouns, or without verbs, have nothing in common."""
    actions = [((1,), (2,)), ((1,), (2,)), ((1,), ()), ((1,), ()), ((), (2,)), ((), (2,)), ((), ()), ((), ())]
    exo = [clip(start=i, end=i + 4, nouns=nouns, verbs=verbs) for i, (nouns, verbs) in enumerate(actions)]
    data = dataset([], exo, exo_pairs=True)
    pairs = [[row.index for row in data[Draw(0, i)].rows] for i in range(len(exo))]
    assert pairs == [[0, 1], [1, 0], *([i, i] for i in range(2, 8))]


def test_an_ego_clip_comes_with_a_clip_of_the_same_action(dataset):
    data = dataset()
    for index in range(CLIPS):
        own, pair = data[Draw(0, index)].rows
        assert (own.view, own.index, pair.view) == ("ego", index, "exo")
        assert pair.index % ACTIONS == index % ACTIONS
        assert own.features.shape == (3, 12)
        assert pair.features.shape == (3, 16)


def test_another_pair_in_another_epoch_and_the_same_again(dataset):
    data = dataset(jitter=True)
    pairs = {data[Draw(epoch, 0)].rows[1].index for epoch in range(20)}
    assert pairs == set(range(0, CLIPS, ACTIONS))
    for index in (0, 3, CLIPS + 2):
        same(data[Draw(2, index)], dataset(jitter=True)[Draw(2, index)])


def test_jitter_draws_other_frames(dataset):
    drawn = [dataset(jitter=True)[Draw(epoch, 0)].rows[0].features for epoch in range(8)]
    assert any(not torch.equal(drawn[0], other) for other in drawn)
    still = [dataset()[Draw(epoch, 0)].rows[0].features for epoch in range(8)]
    assert all(torch.equal(still[0], other) for other in still)


def test_exo_clips_are_their_own_pairs(dataset):
    data = dataset()
    assert len(data) == 2 * CLIPS
    item = data[Draw(0, CLIPS + 3)]
    assert (item.id, item.number) == ("exo 3", CLIPS + 3)
    assert [(row.view, row.index) for row in item.rows] == [("exo", 3)] * 2
    assert len(dataset(exo_items=False)) == CLIPS


def test_pairs_that_share_no_noun_or_no_verb_are_counted(dataset):
    exo = [clip(nouns=(1,), verbs=(2,)), clip(nouns=(1,), verbs=(1,))]
    data = dataset([clip(nouns=(1,), verbs=(1,), paired=(0,)), clip()], exo)
    item = data[Draw(0, 0)]
    assert [row.view for row in item.rows] == ["ego", "ego"]
    assert item.counts == {REFUSED: 1, CUT: 0}
    assert data[Draw(0, 1)].counts == {REFUSED: 0, CUT: 0}


def test_texts(dataset):
    exo = [clip(text="now the jar", refined="opens the jar")]
    ego = [clip(text="#C C cuts the leek the leek the leek", nouns=(1,), verbs=(1,), paired=(0,))]
    data = dataset(ego, exo)
    item = data[Draw(0, 0)]
    assert item.rows[0].text == "cuts the leek the leek the leek"
    assert len(item.rows[0].tokens) == 8
    assert item.rows[0].tokens[-1] == data.tokenizer.eos_token_id
    assert item.counts[CUT] == 1
    assert data[Draw(0, 1)].rows[0].text == "opens the jar"
    assert dataset(ego, exo, clean=False)[Draw(0, 0)].rows[0].text.startswith("#C C")


def test_evaluated_are_ego_clips_with_a_valid_pair(dataset):
    ego = [clip(), clip(nouns=(1,), verbs=(1,), paired=(0, 2, 1)), clip(nouns=(1,), verbs=(1,), paired=(0,))]
    exo = [clip(nouns=(1,)), clip(nouns=(1,), verbs=(1,)), clip(nouns=(1,), verbs=(1,))]
    data = dataset(ego, exo, evaluated=True, jitter=True)
    assert len(data) == 1
    assert data.answers(1) == [2, 1]
    for epoch in range(5):
        same(data[Draw(epoch, 0)], data[Draw(0, 0)])
    assert [row.index for row in data[Draw(0, 0)].rows] == [1, 2]


# ---------------------------------------------------------------------- what can't be read


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"video": "none"}, "none has no features"),
        ({"start": 500, "end": 501}, "covers|cover 80 s"),
        ({"text": "#C C"}, "no words are left"),
    ],
)
def test_a_clip_that_can_not_be_read_is_left_out(dataset, broken, reason):
    item = dataset([clip(**broken)], [clip()])[Draw(0, 0)]
    assert item.rows == []
    assert item.skipped
    ((_, said),) = item.failures
    assert any(part in said for part in reason.split("|"))


def test_a_pair_that_can_not_be_read_leaves_the_clip_its_own(dataset):
    ego = [clip(nouns=(1,), verbs=(1,), paired=(0,))]
    item = dataset(ego, [clip("none", nouns=(1,), verbs=(1,))])[Draw(0, 0)]
    assert [row.view for row in item.rows] == ["ego", "ego"]
    assert not item.skipped
    assert (item.tried, [video for video, _ in item.failures]) == (2, ["none"])


def test_features_of_another_width_are_a_failure(dataset, folder):
    torch.save(torch.zeros(9, 5), folder / "ego" / "narrow.pth.tar")
    item = dataset([clip("narrow")], [clip()])[Draw(0, 0)]
    assert "features of width 5; the model takes 12 of ego clips" in item.failures[0][1]


def test_failures_are_written_down_and_too_many_stop_the_run(dataset, tmp_path):
    data = dataset([clip("none"), clip()], [clip()])
    log = FailureLog(tmp_path / "failures.jsonl", 0.5, COUNTED)
    log.add([data[Draw(0, 0)], data[Draw(0, 1)], data[Draw(0, None)]])
    (line,) = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert (line["sample"], line["video"], line["skipped"]) == ("ego 0", "none", True)
    counts = {"clips_tried": 2, "clips_unreadable": 1, "samples_skipped": 1, REFUSED: 0, CUT: 0}
    assert log.as_dict() == counts
    with pytest.raises(TrainingError, match="more than max_failure_rate=0.5"):
        log.add([data[Draw(0, 0)]] * 30)


# ---------------------------------------------------------------------- batches


def test_a_batch(dataset):
    data = dataset()
    items = [data[Draw(0, 1)], data[Draw(0, None)], data[Draw(0, CLIPS + 2)]]
    batch = PairCollator(data)(items)
    assert batch["is_ego"].tolist() == [True, False, False, False]
    assert batch["numbers"].tolist() == [1, 1, CLIPS + 2, CLIPS + 2]
    assert batch["ego_features"].shape == (1, 3, 12)
    assert batch["exo_features"].shape == (3, 3, 16)
    assert batch["input_ids"].shape == (4, 6)
    assert batch["input_ids"][0].tolist()[-1] == data.tokenizer.pad_token_id  # "now" is a word more
    assert batch["nouns"].tolist() == [[1], [1], [2], [2]]
    assert batch["verbs"].tolist() == [[0]] * 4
    assert batch["texts"].tolist()[2] == batch["texts"].tolist()[3] != batch["texts"].tolist()[0]
    assert batch["items"] == items


def test_ids_are_as_wide_in_every_batch(dataset):
    data = dataset([clip(nouns=(1, 2, 3)), clip(verbs=(4, 5))], [clip()])
    for index in range(3):
        batch = PairCollator(data)([data[Draw(0, index)]])
        assert (batch["nouns"].shape, batch["verbs"].shape) == ((2, 3), (2, 2))


def test_a_batch_of_nothing(dataset):
    data = dataset([clip("none")], [clip()])
    batch = PairCollator(data)([data[Draw(0, 0)], data[Draw(0, None)]])
    assert batch["input_ids"].shape == (0, 1)
    assert batch["ego_features"].shape == (0, 3, 12)
    assert batch["nouns"].shape == (0, 0)
    assert [item.id for item in batch["items"]] == ["ego 0", ""]


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokenizer": None}, "name exactly one"),
        ({"model": "x"}, "name exactly one"),
        ({"model": "x", "tokenizer": None}, "hidden_size=16 with model='x', which has its own"),
        ({"clip_text": "x", "tokenizer": None}, "projection_dim=16 with clip_text='x'"),
        ({"train_ego": None}, "train_ego is missing"),
        ({"max_failure_rate": 2}, "max_failure_rate=2"),
        ({"num_frames": 0}, "num_frames=0"),
        ({"loss": "hinge"}, "loss='hinge'"),
        ({"view_weight": -1}, "view_weight=-1"),
        ({"noun_weight": -1}, "noun_weight=-1"),
        ({"noun_weight": 1}, r"noun_weight=1\.0 needs videos_ego"),
        ({"shots": 4}, "shots"),
    ],
)
def test_options_that_can_not_be(views, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        parse_retriever(None, views.options(tmp_path, tmp_path, **changes))


def test_pairs_of_exo_clips_need_exo_clips_that_are_items():
    paths = dict.fromkeys(("train_ego", "train_exo", "features_ego", "features_exo"), "x")
    with pytest.raises(InputError, match="exo_pairs=True"):
        RetrieverDataArguments(**paths, exo_items=False, exo_pairs=True)

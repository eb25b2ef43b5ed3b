"""Reading samples: deterministic, each once, and nothing replaced in silence."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from egoinstructor.data.metadata import read_metadata
from egoinstructor.errors import InputError
from egoinstructor.model.configuration import IGNORE
from egoinstructor.training.dataset import CaptionDataset, Collator, Draw, EpochSampler
from egoinstructor.training.failures import FailureLog, TrainingError
from egoinstructor.training.schedule import Schedule

# ---------------------------------------------------------------------- which samples, when


@given(st.integers(1, 50), st.integers(1, 4), st.integers(1, 3), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_visits_each_sample_once_on_any_number_of_processes(size, batch, processes, seed, epoch):
    sampler = EpochSampler(size, seed=seed, multiple=batch * processes)
    sampler.set_epoch(epoch)
    draws = list(sampler)
    assert len(draws) == len(sampler)
    batches = [draws[i : i + batch] for i in range(0, len(draws), batch)]
    shares = [batches[process::processes] for process in range(processes)]
    assert len({len(share) for share in shares}) == 1, "processes must keep step"
    seen = [draw.index for share in shares for b in share for draw in b if draw.index is not None]
    assert sorted(seen) == list(range(size))


def test_epochs_differ_and_can_be_repeated():
    def order(seed, epoch):
        sampler = EpochSampler(30, seed=seed)
        sampler.set_epoch(epoch)
        return [draw.index for draw in sampler]

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)
    assert order(None, 3) == list(range(30))


def test_a_schedule():
    schedule = Schedule.parse("shots_schedule", "1@0.15,2@0.4,4", int)
    assert [schedule.at(p) for p in (0, 0.14, 0.15, 0.39, 0.4, 0.99, 1.0)] == [1, 1, 2, 2, 4, 4, 4]
    assert [Schedule.parse("shots_schedule", "3", int).at(p) for p in (0, 1)] == [3, 3]
    shares = Schedule.parse("no_reference_share", "0.4@0.5,1", float, high=1)
    assert [shares.at(p) for p in (0, 0.49, 0.5, 1)] == [0.4, 0.4, 1, 1]


@pytest.mark.parametrize(
    "wrong", ["", "x", "1@0.5", "1@0.5,2@0.4,3", "1@0,2", "-1", "1@0.5,2,3", "0.5", "9", "1@0.5,9"]
)
def test_no_schedule(wrong):
    with pytest.raises(InputError, match=f"shots_schedule={wrong!r}"):
        Schedule.parse("shots_schedule", wrong, int, high=8)


# ---------------------------------------------------------------------- what is in them


@pytest.fixture
def samples(short_videos, tmp_path):
    references = [
        {"video": str(short_videos[f"exo{i}"]), "start": 0, "end": 2, "narration": f"reference {i}"} for i in (1, 2, 3)
    ]
    rows = [
        {
            "video": str(short_videos["ego"]),
            "start": i / 4,
            "end": i / 4 + 1.5,
            "caption": f"#C C stirs {i}",
            "references": references,
        }
        for i in range(4)
    ]
    root = short_videos["ego"].parent
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return lambda: read_metadata(path).samples(root, root)


def constant(number):
    return Schedule(((number, 1.0),))


def dataset(samples, toy, **options):
    options = {"shots": constant(2), "num_frames": 4, "seed": 5, **options}
    return CaptionDataset(samples, toy[1], **options)


def test_the_same_draw_is_the_same_item(samples, toy):
    data = dataset(samples(), toy, jitter=True)
    again = dataset(samples(), toy, jitter=True)
    one, two = data[Draw(1, 2)], again[Draw(1, 2)]
    assert one.prompt == two.prompt
    assert all(torch.equal(a, b) for a, b in zip(one.clips, two.clips, strict=True))
    other = data[Draw(2, 2)]
    assert not all(torch.equal(a, b) for a, b in zip(one.clips, other.clips, strict=True)), "jitter changes by epoch"


def test_an_item(samples, toy):
    item = dataset(samples(), toy)[Draw(0, 1)]
    assert len(item.clips) == 3
    assert item.prompt.text.startswith("<|endoftext|><image>User:Describe the main action in the video. GPT:<answer>")
    assert item.prompt.text.count("<image>") == 3
    assert (
        item.prompt.text.index("reference 1")
        < item.prompt.text.index("reference 2")
        < item.prompt.text.index("stirs 1")
    )
    assert (item.tried, item.failures, item.dropped) == (3, [], 0)


def test_schedule_and_samples_without_references(samples, toy):
    data = dataset(samples(), toy, shots=Schedule(((1, 0.5), (3, 1.0))))
    assert [len(data[Draw(0, 0, p)].clips) for p in (0.1, 0.9)] == [2, 4]
    alone = dataset(samples(), toy, no_reference_share=constant(1.0))
    assert [len(alone[Draw(0, i)].clips) for i in range(4)] == [1] * 4
    some = dataset(samples(), toy, no_reference_share=constant(0.5))
    batches = [{len(some[Draw(0, i, batch=batch)].clips) for i in range(4)} for batch in range(64)]
    assert {1} in batches
    assert {3} in batches
    assert {1, 3} not in batches, "a batch is with references or without"
    assert 20 < batches.count({1}) < 44
    later = dataset(samples(), toy, no_reference_share=Schedule(((0.0, 0.5), (1.0, 1.0))))
    assert [len(later[Draw(0, 0, progress)].clips) for progress in (0.4, 0.6)] == [3, 1]


def test_shuffled_references_are_the_first_ones_in_any_order(samples, toy):
    """Clips move with their narrations, the query stays last, and each epoch has an order of its own."""
    data, plain = dataset(samples(), toy, reference_order="random"), dataset(samples(), toy)[Draw(0, 0)]
    orders = set()
    for epoch in range(8):
        item = data[Draw(epoch, 0)]
        places = [item.prompt.text.index(f"reference {i}") for i in (1, 2)]
        assert "reference 3" not in item.prompt.text
        swapped = places[0] > places[1]
        orders.add(swapped)
        expected = [plain.clips[i] for i in ((1, 0, 2) if swapped else (0, 1, 2))]
        assert all(torch.equal(a, b) for a, b in zip(item.clips, expected, strict=True))
        assert data[Draw(epoch, 0)].prompt == item.prompt
    assert orders == {True, False}


def test_references_in_the_order_of_their_scores_are_the_first_ones(samples, toy):
    """As a library gives them: most similar first, whichever was listed first to be among the chosen."""

    def scored(*scores):
        return [
            dataclasses.replace(
                sample,
                references=tuple(
                    dataclasses.replace(one, score=score) for one, score in zip(sample.references, scores, strict=True)
                ),
            )
            for sample in samples()
        ]

    plain = dataset(samples(), toy)[Draw(0, 0)]
    for scores, order in (((0.2, 0.7, 0.9), (1, 0, 2)), ((0.7, -0.2, 0.9), (0, 1, 2)), ((0.5, 0.5, 0.9), (0, 1, 2))):
        item = dataset(scored(*scores), toy, reference_order="score")[Draw(0, 0)]
        assert "reference 3" not in item.prompt.text
        assert (item.prompt.text.index("reference 2") < item.prompt.text.index("reference 1")) == (order[0] == 1)
        assert all(torch.equal(a, plain.clips[i]) for a, i in zip(item.clips, order, strict=True))
    with pytest.raises(InputError, match=r"train\.jsonl:1#1 has no 'score'"):
        dataset(scored(0.2, None, 0.9), toy, reference_order="score")


def test_the_least_relevant_is_left_out_before_the_order_is_drawn(samples, toy, monkeypatch):
    whole = dataset(samples(), toy)[Draw(0, 0)].prompt
    monkeypatch.setattr(toy[1], "max_length", len(whole.input_ids))
    data = dataset(samples(), toy, shots=constant(3), reference_order="random")
    orders = set()
    for epoch in range(8):
        item = data[Draw(epoch, 0)]
        text = item.prompt.text
        assert (item.dropped, len(item.clips), "reference 3" in text) == (1, 3, False)
        orders.add(text.index("reference 1") < text.index("reference 2"))
    assert orders == {True, False}


@pytest.fixture
def broken(samples, tmp_path):
    """Samples whose first reference, or whose query, is no video."""

    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")

    def make(what):
        found = samples()
        for i, sample in enumerate(found):
            if what == "reference":
                first, *rest = sample.references
                found[i] = dataclasses.replace(sample, references=(dataclasses.replace(first, video=bad), *rest))
            elif i == 2:
                found[i] = dataclasses.replace(sample, video=bad)
        return found

    return make


def test_an_unreadable_reference_gives_way_to_the_next(broken, toy):
    item = dataset(broken("reference"), toy)[Draw(0, 0)]
    assert "reference 1" not in item.prompt.text
    assert "reference 2" in item.prompt.text
    assert "reference 3" in item.prompt.text
    assert len(item.clips) == 3
    assert [video for video, _ in item.failures] == [str(broken("reference")[0].references[0].video)]
    assert item.tried == 4


def test_an_unreadable_query_is_left_out_and_not_replaced(broken, toy):
    data = dataset(broken("query"), toy)
    items = [data[Draw(0, i)] for i in range(4)]
    batch = Collator(toy[1])(items)
    assert len(batch["input_ids"]) == 3
    texts = toy[1].tokenizer.batch_decode(batch["input_ids"])
    assert [f"stirs {i}" in "".join(texts) for i in range(4)] == [True, True, False, True]
    assert [item.id for item in batch["items"] if item.prompt is None] == [items[2].id]


def test_impossible_times_and_texts_are_counted_and_left_out(samples, toy):
    import dataclasses

    sample = samples()[0]
    wrong = [
        dataclasses.replace(sample, start=1.0, end=1.0),
        dataclasses.replace(sample, caption="a <image> of it"),
        dataclasses.replace(sample, start=500.0, end=502.0),
    ]
    for i, reason in enumerate(["start must lie before the end", "has a meaning in the prompt", "lasts"]):
        item = dataset(wrong, toy)[Draw(0, i)]
        assert item.prompt is None
        assert reason in item.failures[-1][1]


def test_a_batch_of_nothing_teaches_nothing(toy):
    batch = Collator(toy[1])([dataset([], toy)[Draw(0, None)]] * 2)
    assert (batch["labels"] == IGNORE).all()
    loss = toy[0](batch["input_ids"], batch["attention_mask"], batch["pixel_values"], labels=batch["labels"],
                  num_items_in_batch=7).loss  # fmt: skip
    assert loss.item() == 0


def test_learning_the_querys_answer_alone(samples, toy):
    items = [dataset(samples(), toy)[Draw(0, i)] for i in range(2)]
    processor = toy[1]
    every = Collator(processor)([*items])["labels"]
    items = [dataset(samples(), toy)[Draw(0, i)] for i in range(2)]
    query = Collator(processor, query_only=True)([*items])["labels"]
    for i, row in enumerate(query):
        learned = processor.tokenizer.decode(row[row != IGNORE])
        assert learned.startswith(f"#C C stirs {i}")
        assert (row != IGNORE).sum() < (every[i] != IGNORE).sum()


def test_too_many_failures_end_the_run(broken, toy, tmp_path):
    data = dataset(broken("reference"), toy)
    log = FailureLog(tmp_path / "failures.jsonl", max_rate=0.2)
    items = [data[Draw(0, i)] for i in range(4)]
    log.add(items)
    assert log.as_dict()["clips_unreadable"] == 4
    with pytest.raises(TrainingError, match=r"8 of 32 clips could not be read.*bad\.mp4"):
        log.add(items)
    lines = [json.loads(line) for line in (tmp_path / "failures.jsonl").read_text().splitlines()]
    assert len(lines) == 8
    assert lines[0]["sample"] == items[0].id
    FailureLog(tmp_path / "other.jsonl", max_rate=0.3).add(items * 6)  # a quarter is allowed here

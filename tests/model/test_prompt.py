"""The prompt: snapshots, reading back, what is learned, what does not fit."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from egoinstructor.checkpoints.sources import find_folder
from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.model.configuration import EgoInstructorConfig
from egoinstructor.model.processing import EgoInstructorProcessor
from egoinstructor.model.prompt import BAD_WORDS, SCRIPT, TRAINING, answer_labels, clean_instruction, parse_answer
from egoinstructor.model.tokenizer import SPECIAL_TOKENS, load_tokenizer

NARRATIONS = ["so let's open the microwave here", "and then you pour"]


def test_snapshot_of_both_presets(toy):
    _, processor = toy
    assert processor.prompt(NARRATIONS, preset=SCRIPT).text == (
        "<image>User:Describe the content of the video GPT:<answer>so let's open the microwave here<|endofchunk|>"
        "<image>User:Describe the content of the video GPT:<answer>and then you pour<|endofchunk|>"
        "<image>User:Describe the content of the video GPT:<answer>"
    )
    assert processor.prompt(NARRATIONS[:1]).text == (
        "<|endoftext|><image>User:Describe the main action in the video. GPT:<answer>so let's open the microwave here"
        "<|endofchunk|><image>User:Describe the main action in the video. GPT:<answer>"
    )
    assert processor.prompt([], caption="#C C stirs").text == (
        "<|endoftext|><image>User:Describe the main action in the video. GPT:<answer>#C C stirs<|endofchunk|><|endoftext|>"
    )
    assert (TRAINING.sampling, SCRIPT.sampling) == ("segment_center", "linspace")


def test_published_ids(shared_data):
    """The real tokenizer with the special tokens added has the published ids, and takes our prompt apart as its own."""
    tokenizer = load_tokenizer(find_folder(shared_data / "gpt-neox-20b", [], "tokenizer"))
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [50277, 50278, 50279, 50280]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 0)
    processor = EgoInstructorProcessor(tokenizer)
    config = EgoInstructorConfig()
    processor.fit(config)
    assert (config.image_token_id, config.end_of_chunk_token_id, config.answer_token_id, config.pad_token_id) == (
        50278, 50277, 50279, 50280,
    )  # fmt: skip
    prompt = processor.prompt(["open it"], preset=SCRIPT)
    assert prompt.input_ids == (
        50278, 6989, 27, 4476, 19268, 253, 2600, 273, 253, 3492, 443, 5736, 27, 50279, 5758, 352, 50277,
        50278, 6989, 27, 4476, 19268, 253, 2600, 273, 253, 3492, 443, 5736, 27, 50279,
    )  # fmt: skip
    assert processor.generation_config().bad_words_ids == [tokenizer(word)["input_ids"] for word in BAD_WORDS]


@given(st.lists(st.text(alphabet="abc  ,.'é中\n", min_size=1, max_size=15), max_size=4))
def test_parts_tokens_are_the_wholes(narrations):
    """The length budget counts part by part; that must be the whole text's count."""
    processor = _processor()
    prompt = processor.prompt(narrations)
    assert len(prompt.input_ids) == len(processor.tokenizer(prompt.text, add_special_tokens=False)["input_ids"])
    assert prompt.kept == tuple(range(len(narrations)))


_CACHE = {}


def _processor():
    if "p" not in _CACHE:
        from pathlib import Path

        folder = Path(__file__).parents[1] / "golden" / "a" / "tokenizer"
        _CACHE["p"] = EgoInstructorProcessor(load_tokenizer(folder), image_size=28, num_frames=8, max_length=256)
    return _CACHE["p"]


@given(st.integers(0, 256), st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_too_long_a_prompt_loses_the_least_relevant_references_and_never_the_query(reserve, words):
    processor = _processor()
    narrations = ["stir " * count for count in words]
    query = len(processor.prompt([]).input_ids)
    if query > 256 - reserve:
        with pytest.raises(InputError, match=f"query's own prompt has {query} tokens, {256 - reserve} are allowed"):
            processor.prompt(narrations, reserve=reserve)
        return
    prompt = processor.prompt(narrations, reserve=reserve)
    assert len(prompt.input_ids) <= 256 - reserve
    assert prompt.kept + prompt.dropped == tuple(range(len(narrations)))
    assert prompt.text.endswith("GPT:<answer>")
    if prompt.dropped:
        one_more = processor.prompt(narrations[: len(prompt.kept) + 1])
        assert one_more.dropped or len(one_more.input_ids) > 256 - reserve


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
@pytest.mark.parametrize("where", ["narration", "instruction", "caption"])
def test_a_text_can_not_smuggle_in_a_special_token(token, where):
    texts = {"narration": "stir", "instruction": "Say", "caption": "c"}
    texts[where] += f" {token} x"
    with pytest.raises(InputError, match="has a meaning in the prompt"):
        _processor().prompt([texts["narration"]], instruction=texts["instruction"], caption=texts["caption"])


def test_clips_are_counted_at_the_door():
    processor = _processor()
    prompt = processor.prompt(NARRATIONS)
    latents = torch.zeros(64, 32)
    with pytest.raises(InputError, match="sample 1 has 3 <image> in its prompt and 2 clips"):
        processor([prompt, prompt], latents=[[latents] * 3, [latents] * 2])
    with pytest.raises(InputError, match="2 prompts with clips for 1 samples"):
        processor([prompt, prompt], latents=[[latents] * 3])


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("<image>User:x GPT:<answer>a<|endofchunk|><image>User:x GPT:<answer>#C C stirs<|endofchunk|>", "#C C stirs"),
        ('<answer>  "#C C stirs"\n<|endofchunk|><|endofchunk|>', "#C C stirs"),
        ("<answer>cut short by the limit", "cut short by the limit"),
        ("<answer><|endofchunk|>", ""),
    ],
)
def test_reading_the_caption_back(text, caption):
    assert parse_answer(text) == caption


def naive_labels(ids, mask, image, answer, end):
    """The rule of the original, word for word."""
    labels = []
    for row, keep in zip(ids.tolist(), mask.tolist(), strict=True):
        last_end = max((i for i, t in enumerate(row) if t == end), default=-1)
        learned, inside = [], False
        for i, token in enumerate(row):
            learned.append(inside and token not in (image, answer) and bool(keep[i]) and i > 0)
            if token == answer:
                inside = True
            elif token == end and i != last_end:
                inside = False
        labels.append([t if yes else -100 for t, yes in zip(row, learned, strict=True)])
    return labels


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), min_size=1, max_size=5), st.integers(0, 3))
def test_labels_are_the_originals_rule(examples, padding):
    row = [0]
    for question, answer in examples:
        row += [11, *[20] * question, 12, *[30] * answer, 13]
    row += [0]
    ids = torch.tensor([row + [14] * padding])
    mask = torch.tensor([[1] * len(row) + [0] * padding])
    labels = answer_labels(ids, mask, image_token_id=11, answer_token_id=12, end_of_chunk_token_id=13)
    assert labels.tolist() == naive_labels(ids, mask, 11, 12, 13)
    assert (labels != -100).sum() == sum(answer + 1 for _, answer in examples) + 1


def test_instructions_from_the_metadata():
    assert clean_instruction(",Describe the main-action  in/out.") == "Describe the main action in out."
    drawn = {clean_instruction("Describe THE main action.", random.Random(seed)) for seed in range(20)}
    assert drawn == {"Describe the main action.", "describe the main action."}


def test_a_tokenizer_of_another_size():
    config = EgoInstructorConfig(text_config={"vocab_size": 200})
    with pytest.raises(CheckpointError, match="tokenizer has 435 tokens and the model's vocabulary 200"):
        _processor().fit(config)
    with pytest.raises(CheckpointError, match="435 tokens and the model's vocabulary 50432"):
        _processor().fit(EgoInstructorConfig())

"""Words and their synonyms: numbering, lists that people write, words that mean the same, the sentence encoder."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from egoinstructor.data.vocabulary import Vocabulary, read_synonyms, sentence_encoder, similar_words
from egoinstructor.errors import InputError

words = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 3))


@given(words)
@settings(max_examples=30, deadline=None)
def test_numbering_does_not_depend_on_the_order_of_words(counts):
    vocabulary = Vocabulary.build(counts)
    turned = Vocabulary.build(dict(reversed(counts.items())))
    assert vocabulary.as_list() == turned.as_list()
    assert sorted(vocabulary.names) == sorted(counts)
    frequencies = [counts[name] for name in vocabulary.names]
    assert frequencies == sorted(frequencies, reverse=True)


def test_synonyms_share_an_id():
    vocabulary = Vocabulary.build({"cup": 2, "mug": 3, "jar": 4}, {"mug": "cup"})
    assert vocabulary.names == ("cup", "jar")
    assert vocabulary.ids == {"cup": 0, "mug": 0, "jar": 1}
    assert vocabulary.as_list()[0] == {"id": 0, "name": "cup", "words": ["cup", "mug"]}


def test_a_list_is_read(tmp_path):
    path = tmp_path / "synonyms.json"
    path.write_text(json.dumps({"verbs": {"take": ["grab", "pick up"], "drop": []}}))
    assert read_synonyms(path) == {"verbs": {"grab": "take", "pick up": "take"}, "nouns": {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"adverbs": {}}, "unknown key 'adverbs'"),
        ({"verbs": ["take"]}, "an object"),
        ({"verbs": {"take": "grab"}}, "a list"),
        ({"verbs": {"take": [1]}}, "a word"),
        ({"nouns": {"cup": ["mug"], "glass": ["mug"]}}, "'mug' is in two groups"),
        ({"nouns": {"cup": ["mug"], "mug": ["beaker"]}}, "'mug' is in two groups"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path, content, message):
    path = tmp_path / "synonyms.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_synonyms(path)


def on_a_circle(texts):
    """A word is a letter and an angle in degrees."""
    angles = torch.tensor([float(text.split()[-1][1:]) for text in texts]).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_a_word_joins_the_nearest_frequent_one_and_chains_do_not_form():
    counts = {"a0": 9, "b40": 5, "c80": 4, "d50": 3, "e200": 1}
    # cos 45° = 0.707: b joins a, c is 80° from a and stands alone, d is nearer to c than to a
    assert similar_words(counts, on_a_circle, "nouns", threshold=0.7) == {"b40": "a0", "d50": "c80"}
    assert similar_words(counts, on_a_circle, "nouns", threshold=0.999) == {}


def test_given_synonyms_are_left_alone():
    found = similar_words({"a0": 9, "b10": 5, "c20": 3}, on_a_circle, "nouns", known={"b10": "z"})
    assert found == {"b10": "z", "c20": "a0"}
    assert similar_words({}, on_a_circle, "verbs") == {}


def test_verbs_are_shown_as_verbs():
    seen = []

    def encode(texts):
        seen.extend(texts)
        return on_a_circle(texts)

    similar_words({"a0": 1}, encode, "verbs")
    assert seen == ["to a0"]


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = BertConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(folder)
    vocabulary = {"[PAD]": 0, "[UNK]": 1} | {word: i for i, word in enumerate(["to", "cut", "the", "onion", "cup"], 2)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


def test_the_sentence_encoder_is_the_mean_of_the_last_states(encoder_folder):
    from transformers import AutoTokenizer, BertModel

    encode = sentence_encoder(encoder_folder)
    vectors = encode(["cut the onion", "cup"])
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2))
    model, tokenizer = BertModel.from_pretrained(encoder_folder).eval(), AutoTokenizer.from_pretrained(encoder_folder)
    for text, vector in zip(["cut the onion", "cup"], vectors, strict=True):  # each alone, without padding
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        assert torch.allclose(vector, torch.nn.functional.normalize(states.mean(0), dim=0), atol=1e-5)

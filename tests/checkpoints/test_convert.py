"""Conversion: strict both ways, nothing executed, nothing half-written, and back again."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from egoinstructor.checkpoints.convert import REPORT, convert, load_original, plan
from egoinstructor.checkpoints.export import save_original
from egoinstructor.checkpoints.loading import load
from egoinstructor.errors import CheckpointError


@pytest.fixture
def published(golden_a, tmp_path):
    """A copy of the published layout, to be damaged."""
    shutil.copytree(golden_a.base, tmp_path / "base")
    shutil.copy(golden_a.captioner, tmp_path / "captioner.pt")
    return tmp_path


def edit_captioner(folder: Path, change):
    state = torch.load(folder / "captioner.pt", weights_only=True)
    change(state["model_state_dict"])
    torch.save(state, folder / "captioner.pt")


def edit_config(folder: Path, change):
    config = json.loads((folder / "base/config.json").read_text())
    change(config)
    (folder / "base/config.json").write_text(json.dumps(config))


def convert_here(golden_a, folder: Path):
    return convert(folder / "base", folder / "captioner.pt", folder / "out", tokenizer=golden_a.tokenizer)


def test_converted_folder_is_what_loading_straight_gives(golden, tmp_path):
    conversion = convert(golden.base, golden.captioner, tmp_path / "out", tokenizer=golden.tokenizer)
    converted, processor = load(tmp_path / "out")
    straight, straight_processor = golden.load()
    for name, tensor in straight.state_dict().items():
        assert torch.equal(converted.state_dict()[name], tensor), name
    assert converted.generation_config.to_dict() == straight.generation_config.to_dict()
    assert processor.prompt(["x"]) == straight_processor.prompt(["x"])
    assert converted.config.max_num_frames == processor.num_frames == golden.facts["max_num_frames"]

    report = json.loads((tmp_path / "out" / REPORT).read_text())
    assert report.keys() == {n for n in straight.state_dict() if n != "lm_head.weight"}
    trained = {name for name, origin in report.items() if origin["source"] == "captioner"}
    assert trained == set(straight.trainable_names())
    assert len(conversion.origins) == len(report)


def test_the_captioner_lies_over_the_base(golden_a):
    base = plan(golden_a.base, None)
    both = plan(golden_a.base, golden_a.captioner)
    assert {o.source for o in base.origins.values()} == {"base", "new"}
    assert [n for n, o in base.origins.items() if o.source == "new"] == ["resampler.frame_embeddings"]
    embeddings = dict(both.tensors())["decoder.embed_tokens.weight"]
    state = torch.load(golden_a.captioner, weights_only=True)["model_state_dict"]
    assert torch.equal(embeddings, state["lang_encoder.transformer.wte.weight"])
    model, _ = load_original(golden_a.base, None, tokenizer=golden_a.tokenizer)
    assert model.config.max_num_frames == 32
    model, _ = load_original(golden_a.base, None, tokenizer=golden_a.tokenizer, max_num_frames=5)
    assert model.resampler.frame_embeddings.shape == (5, 32)


def test_there_and_back(golden, tmp_path):
    """Ours, written in the original's layout, is the original's files again: names, shapes and numbers."""
    model, processor = golden.load()
    save_original(model, processor, tmp_path / "original")
    state = torch.load(golden.captioner, weights_only=True)
    state = state.get("model_state_dict", state)
    written = torch.load(tmp_path / "original/captioner.pt", weights_only=True)
    assert written.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(written[name], tensor), name
    index = json.loads((tmp_path / "original/base/pytorch_model.bin.index.json").read_text())["weight_map"]
    theirs = json.loads((golden.base / "pytorch_model.bin.index.json").read_text())["weight_map"]
    assert index.keys() == theirs.keys() - {"vision_encoder.vision_model.embeddings.position_ids"}
    config = json.loads((tmp_path / "original/base/config.json").read_text())
    for part in ("text_config", "vision_config"):
        original = json.loads((golden.base / "config.json").read_text())[part]
        assert {k: v for k, v in config[part].items() if original.get(k) != v} == {}

    again, _ = load_original(
        tmp_path / "original/base", tmp_path / "original/captioner.pt", tokenizer=tmp_path / "original/tokenizer"
    )
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_written_in_half_precision(golden_a, tmp_path):
    convert(golden_a.base, golden_a.captioner, tmp_path / "out", tokenizer=golden_a.tokenizer, dtype=torch.bfloat16)
    half, _ = load(tmp_path / "out")
    full, _ = golden_a.load()
    assert half.dtype == torch.bfloat16
    for name, tensor in full.state_dict().items():
        assert torch.equal(half.state_dict()[name], tensor.bfloat16()), name


WRONG = {
    "unknown tensor": (
        lambda folder: edit_captioner(folder, lambda s: s.update({"perceiver.extra": torch.zeros(3)})),
        r"unknown tensors.*perceiver\.extra \(3,\) \(captioner\.pt\)",
    ),
    "misshapen tensor": (
        lambda folder: edit_captioner(folder, lambda s: s.update({"perceiver.latents": torch.zeros(64, 31)})),
        r"perceiver\.latents is \(64, 31\), must be \(64, 32\)",
    ),
    "a trained tensor lost": (
        lambda folder: edit_captioner(folder, lambda s: s.pop("perceiver.norm.weight")),
        r"the captioner lacks resampler\.norm\.weight",
    ),
    "missing frame": (
        lambda folder: edit_captioner(folder, lambda s: s.update({"perceiver.frame_embs": torch.zeros(8, 31)})),
        r"perceiver\.frame_embs is \(8, 31\), must be \(8, 32\)",
    ),
    "missing layer": (
        lambda folder: edit_config(folder, lambda c: c["text_config"].update(n_layers=5)),
        r"missing tensors: decoder\.layers\.4",
    ),
    "surplus layer": (
        lambda folder: edit_config(folder, lambda c: c["text_config"].update(n_layers=3)),
        "tensors for which config.json has no place.*blocks.3",
    ),
    "another decoder": (
        lambda folder: edit_config(folder, lambda c: c["text_config"].update(architectures=["LlamaForCausalLM"])),
        r"architectures \['LlamaForCausalLM'\]; only \['MosaicGPT'\]",
    ),
    "another attention": (
        lambda folder: edit_config(folder, lambda c: c["text_config"].update(alibi=False)),
        "text_config.alibi False; only True is implemented",
    ),
    "another model": (
        lambda folder: edit_config(folder, lambda c: c.update(model_type="blip-2")),
        "model_type 'blip-2'; the base checkpoint must be 'otter'",
    ),
    "no sizes": (
        lambda folder: edit_config(folder, lambda c: c["vision_config"].pop("hidden_size")),
        r"lacks vision_config\.hidden_size",
    ),
    "broken JSON": (lambda folder: (folder / "base/config.json").write_text("{"), "can't be read as JSON"),
    "a list for a config": (lambda folder: (folder / "base/config.json").write_text("[]"), "must be a JSON object"),
    "a lost shard": (
        lambda folder: (folder / "base/pytorch_model-00002-of-00002.bin").unlink(),
        "lacks pytorch_model-00002-of-00002.bin",
    ),
    "a truncated shard": (
        lambda folder: os.truncate(folder / "base/pytorch_model-00001-of-00002.bin", 5000),
        "can't be read as a torch checkpoint",
    ),
    "an empty captioner": (lambda folder: (folder / "captioner.pt").write_bytes(b""), "captioner.pt"),
    "text for a captioner": (lambda folder: (folder / "captioner.pt").write_text("hello"), "captioner.pt"),
    "not a state dict": (
        lambda folder: torch.save([1, 2], folder / "captioner.pt"),
        "holds a list; it must be a state dict",
    ),
    "numbers for tensors": (
        lambda folder: torch.save({"perceiver.latents": 3}, folder / "captioner.pt"),
        "'perceiver.latents', a int",
    ),
    "no captioner": (lambda folder: (folder / "captioner.pt").unlink(), "not on this disk and could not be downloaded"),
    "a captioner for a base": (
        lambda folder: (shutil.rmtree(folder / "base"), (folder / "base").write_text("")),
        "is a file; give its folder",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_checkpoints_are_named_and_nothing_is_written(golden_a, published, case):
    damage, message = WRONG[case]
    damage(published)
    with pytest.raises(CheckpointError, match=message):
        convert_here(golden_a, published)
    assert sorted(p.name for p in published.iterdir() if "out" in p.name) == []


def test_a_pickle_with_code_in_it_is_refused_and_not_run(golden_a, published):
    witness = published / "witness"

    class Code:
        def __reduce__(self):
            return (Path.touch, (witness,))

    torch.save({"model_state_dict": {"perceiver.latents": Code()}}, published / "captioner.pt")
    with pytest.raises(CheckpointError, match="holds more than tensors.*a pickle can run any code"):
        convert_here(golden_a, published)
    (published / "captioner.pt").write_bytes(pickle.dumps(Code()))
    with pytest.raises(CheckpointError):
        convert_here(golden_a, published)
    assert not witness.exists()


def test_an_index_can_not_point_out_of_its_folder(golden_a, published):
    index = published / "base/pytorch_model.bin.index.json"
    content = json.loads(index.read_text())
    content["weight_map"] = dict.fromkeys(content["weight_map"], "../captioner.pt")
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"lacks captioner\.pt"):
        convert_here(golden_a, published)


def test_an_image_base_without_the_old_buffer(golden_a, published):
    """Older files carry `position_ids`, newer ones don't; safetensors are as good as pickles."""
    from safetensors.torch import save_file

    tensors = {}
    for shard in sorted((published / "base").glob("*.bin")):
        tensors |= torch.load(shard, weights_only=True)
        shard.unlink()
    del tensors["vision_encoder.vision_model.embeddings.position_ids"]
    (published / "base/pytorch_model.bin.index.json").unlink()
    save_file(tensors, published / "base/model.safetensors")
    assert convert_here(golden_a, published).summary() == "187 tensors: 72 base, 115 captioner, 0 new"


def test_tokenizers_that_do_not_fit(golden_a, published):
    (published / "none").mkdir()
    with pytest.raises(CheckpointError, match="no tokenizer that can be opened"):
        convert(published / "base", published / "captioner.pt", published / "out", tokenizer=published / "none")
    edit_config(published, lambda c: c["text_config"].update(vocab_size=400))
    with pytest.raises(CheckpointError, match="must be"):
        convert_here(golden_a, published)


def test_an_existing_folder_is_not_touched(golden_a, published):
    (published / "out").mkdir()
    (published / "out/mine.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="not an empty folder"):
        convert_here(golden_a, published)
    assert [p.name for p in (published / "out").iterdir()] == ["mine.txt"]


@pytest.mark.slow
def test_no_space_left(golden_a, published):
    """A file-size limit stands for a full disk: the write fails in the middle, and nothing half-written stays."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000));"
        "from egoinstructor.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    command = [
        "convert",
        "--base",
        "base",
        "--captioner",
        "captioner.pt",
        "--tokenizer",
        golden_a.tokenizer,
        "--out",
        "out",
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, command)], cwd=published, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in published.iterdir()) == ["base", "captioner.pt"]


@pytest.fixture
def converted(golden_a, published):
    convert_here(golden_a, published)
    return published / "out"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: os.truncate(f / "model.safetensors", 40_000), "can't be opened"),
        (lambda f: (f / "model.safetensors").unlink(), "can't be opened"),
        (lambda f: (f / "config.json").unlink(), "no egoinstructor model"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "no egoinstructor model.*'bert'"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "can't be opened"),
    ],
)
def test_a_damaged_model_folder(converted, damage, message):
    damage(converted)
    with pytest.raises(CheckpointError, match=message):
        load(converted)


def test_a_model_folder_with_other_weights(converted):
    from safetensors.torch import load_file, save_file

    tensors = load_file(converted / "model.safetensors")
    del tensors["resampler.latents"]
    tensors["resampler.more"] = torch.zeros(2)
    save_file(tensors, converted / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"resampler\.(latents|more)"):
        load(converted)


def test_a_model_folder_with_another_tokenizers_ids(converted):
    config = json.loads((converted / "config.json").read_text())
    config["image_token_id"] = 431
    (converted / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="belongs to another model"):
        load(converted)


# Files as training scripts and downloads leave them


def wrapped(key, state):
    return {key: state, "epoch": 3, "optimizer": {}, "args": argparse.Namespace(lr=1e-5)}


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    ("change", "taken_off"),
    [
        (lambda s: prefixed("module.", s), "the prefix 'module.'"),
        (lambda s: prefixed("_orig_mod.", s), "the prefix '_orig_mod.'"),
        (lambda s: prefixed("module._orig_mod.", s), "the prefix 'module.', the prefix '_orig_mod.'"),
        (lambda s: wrapped("state_dict", s), "the wrapper 'state_dict'"),
        (lambda s: wrapped("model", s), "the wrapper 'model'"),
        (lambda s: {"module": s}, "the wrapper 'module'"),
        (lambda s: wrapped("model", {"state_dict": prefixed("module.", s)}),
         "the wrapper 'model', the wrapper 'state_dict', the prefix 'module.'"),
    ],
)  # fmt: skip
def test_wrappers_and_prefixes_of_training_are_taken_off_and_reported(golden_a, published, caplog, change, taken_off):
    plain = torch.load(golden_a.captioner, weights_only=True)["model_state_dict"]
    expected, _ = golden_a.load()
    torch.save(change(plain), published / "captioner.pt")
    found, _ = load_original(published / "base", published / "captioner.pt", tokenizer=golden_a.tokenizer)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name
    warnings = [record.getMessage() for record in caplog.records if "taken off" in record.getMessage()]
    assert warnings == [f"{published / 'captioner.pt'}: taken off the weights: {taken_off}"]


def test_shards_of_a_base_may_have_a_prefix_too(golden_a, published):
    for shard in (published / "base").glob("*.bin"):
        torch.save(prefixed("module.", torch.load(shard, weights_only=True)), shard)
    convert_here(golden_a, published)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_stop_the_conversion_by_name(golden_a, published, value):
    edit_captioner(published, lambda state: state["perceiver.latents"].view(-1)[:2].fill_(value))
    with pytest.raises(CheckpointError, match=r"captioner\.pt: 'perceiver\.latents' has 2 of \d+ values that are NaN"):
        convert_here(golden_a, published)
    assert not (published / "out").exists()


@pytest.mark.parametrize("where", ["captioner.pt", "base/config.json", "base/pytorch_model-00001-of-00002.bin"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 123\n", "is a Git LFS pointer.*git lfs pull"),
        ("\n<!DOCTYPE html><html>404</html>", "is a web page.*Download the file"),
        ("some text of somebody's", "can't be read"),
    ],
)
def test_what_a_download_left_in_a_files_place(golden_a, published, where, content, message):
    (published / where).write_text(content)
    with pytest.raises(CheckpointError, match=f"{Path(where).name} {message}"):
        convert_here(golden_a, published)

"""Invariants of a retriever's run: what must not change the result doesn't, what must does, and nothing is lost."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from egoinstructor.cli import main
from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.retriever.cross_view_retriever import CrossViewRetriever
from egoinstructor.training.base_trainer import last_checkpoint
from egoinstructor.training.callbacks import RunRecord
from egoinstructor.training.dataset import Draw
from egoinstructor.training.failures import TrainingError
from egoinstructor.training.options import split_task
from egoinstructor.training.retriever_arguments import parse_retriever
from egoinstructor.training.retriever_run import build_retriever_trainer, train_retriever
from egoinstructor.training.retriever_trainer import MAX_SCALE, RetrieverTrainer
from egoinstructor.training.run_folder import MODEL_FOLDER

CLIPS, ACTIONS = 12, 4


@pytest.fixture(scope="module")
def folder(views, tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    views.tokenizer(folder / "tokenizer")
    views.write(folder, "train", CLIPS, actions=ACTIONS)
    views.write(folder, "test", 8, actions=ACTIONS, seed=1)
    return folder


@pytest.fixture
def run(views, folder, tmp_path, monkeypatch):
    """Trains into a folder of that name; `parsed` and `options` stop before. Plots take longer than such runs."""
    monkeypatch.setattr(RunRecord, "plot", lambda self: None)

    class Run:
        @staticmethod
        def options(output="run", **changes):
            return views.options(folder, tmp_path / output, **changes)

        def parsed(self, output="run", **changes):
            return parse_retriever(None, self.options(output, **changes))

        def __call__(self, output="run", **changes):
            train_retriever(self.parsed(output, **changes))
            return tmp_path / output

    return Run()


def logged(folder, name="loss"):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def weights(folder):
    return load_file(folder / MODEL_FOLDER / "model.safetensors")


def same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], **tolerance, msg=lambda m, n=name: f"{n}: {m}")


# ---------------------------------------------------------------------- what must not matter, and what must


def test_workers_change_nothing(run):
    same(weights(run("two", dataloader_num_workers=2)), weights(run("none")), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_gradient_checkpointing_changes_nothing(run):
    assert logged(run("checkpointed", gradient_checkpointing=True)) == pytest.approx(logged(run("plain")), rel=1e-5)


def test_every_parameter_moves(run):
    before = build_retriever_trainer(run.parsed()).model.state_dict()
    after = weights(run())
    unmoved = {name for name, tensor in before.items() if torch.equal(tensor, after[name])}
    assert unmoved == set()


def test_resumed_is_straight_to_the_bit(run, tmp_path):
    """In the middle of the second epoch."""
    long = {"max_steps": 10, "save_strategy": "steps", "save_steps": 4, "eval_strategy": "steps", "eval_steps": 2}
    straight = run("straight", **long, **evaluated(run))
    cut = run("cut", **long, **evaluated(run))
    for name in ("checkpoint-10", MODEL_FOLDER):
        shutil.rmtree(cut / name)
    run("cut", **long, **evaluated(run), resume_from_checkpoint="last")
    same(weights(cut), weights(straight), rtol=0, atol=0)
    assert logged(cut) == logged(straight)
    assert logged(cut, "eval_ego_exo_r1") == logged(straight, "eval_ego_exo_r1")


def test_the_losses_differ(run):
    """By what is right beside a clip's own pair; the first loss is of the same model and batch."""
    first = {
        (loss, weight): logged(run(f"{loss}{weight}", loss=loss, view_weight=weight, max_steps=1,
                                   per_device_train_batch_size=24))[0]
        for loss in ("egoexonce", "infonce") for weight in (0, 1)
    }  # fmt: skip
    assert first["egoexonce", 0] < first["infonce", 0]
    assert first["egoexonce", 1] > first["egoexonce", 0] + 0.1


def test_the_temperature_is_held(run):
    trainer = build_retriever_trainer(run.parsed(max_steps=1, learning_rate=0))
    with torch.no_grad():
        trainer.model.logit_scale.fill_(10.0)
    trainer.train()
    assert trainer.model.logit_scale.item() == pytest.approx(math.log(MAX_SCALE), abs=1e-5)


def test_weight_decay_is_on_matrices_alone(run):
    trainer = build_retriever_trainer(run.parsed(weight_decay=0.2))
    names = {p: name for name, p in trainer.model.named_parameters()}
    groups = {g["weight_decay"]: {names[p] for p in g["params"]} for g in trainer.create_optimizer().param_groups}
    assert groups.keys() == {0.2, 0}
    assert groups[0.2] | groups[0] == set(names.values())
    assert {"logit_scale", "video.norm.weight", "text.layers.0.qkv.bias"} <= groups[0]
    assert {"video.layers.0.qkv.weight", "text.projection.weight", "text.positions"} <= groups[0.2]


# ---------------------------------------------------------------------- what a run leaves


def evaluated(run):
    folder = run.options()[run.options().index("--train_ego") + 1].rpartition("/")[0]
    return {"eval_ego": f"{folder}/test_ego.json", "eval_exo": f"{folder}/test_exo.json"}


def test_a_runs_folder(run, folder):
    out = run(eval_strategy="epoch", save_strategy="epoch", max_steps=None, num_train_epochs=2, num_frames=2,
              load_best_model_at_end=True, **evaluated(run))  # fmt: skip
    retriever = CrossViewRetriever.from_pretrained(out / MODEL_FOLDER, device="cpu")
    assert retriever.num_frames == 2
    assert retriever.encode_text(["cuts the leek"]).shape == (1, 16)
    assert retriever.embed_features(torch.zeros(3, 2, 12), "ego").shape == (3, 16)
    assert len(logged(out)) == 2 * (2 * CLIPS // 4)
    assert logged(out, "eval_pairs") == [8, 8]
    assert all(0 <= value <= 1 for k in (1, 5) for value in logged(out, f"eval_ego_exo_r{k}"))
    again = parse_retriever(out / "config.yaml", ["--output_dir", "again"])
    assert (again[0].hidden_size, again[1].num_frames, again[2].learning_rate) == (16, 2, 1e-3)
    assert split_task(out / "config.yaml", [])[0] == "retriever"


def test_training_goes_on_from_a_finished_retriever(run, folder):
    first = run("first")
    sizes = dict.fromkeys(("tokenizer", "hidden_size", "num_layers", "num_heads", "projection_dim", "text_context",
                           "text_hidden_size", "text_num_layers", "text_num_heads"))  # fmt: skip
    given = {**sizes, "model": first / MODEL_FOLDER}
    trainer = build_retriever_trainer(run.parsed("second", **given))
    same(trainer.model.state_dict(), weights(first), rtol=0, atol=0)
    second = run("second", **given, max_steps=2)
    assert not torch.equal(weights(second)["text.projection.weight"], weights(first)["text.projection.weight"])
    swapped = {"features_ego": folder / "exo", "features_exo": folder / "ego"}
    with pytest.raises(
        CheckpointError, match="takes ego and exo features of width 12 and 16; the folders hold 16 and 12"
    ):
        run("third", **given, **swapped)


def test_it_starts_from_clips_text_tower(run, folder, tmp_path):
    clip = CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, eos_token_id=3,
        projection_dim=16, max_position_embeddings=6, bos_token_id=2, pad_token_id=0,
    ))  # fmt: skip
    clip.save_pretrained(tmp_path / "clip")
    shutil.copytree(folder / "tokenizer", tmp_path / "clip", dirs_exist_ok=True)
    sizes = dict.fromkeys(("tokenizer", "projection_dim", "text_hidden_size", "text_num_layers"))
    trainer = build_retriever_trainer(run.parsed(**{**sizes, "clip_text": tmp_path / "clip"}))
    theirs = clip.state_dict()["text_model.final_layer_norm.weight"]
    torch.testing.assert_close(trainer.model.text.norm.weight.data, theirs)
    assert trainer.model.text.positions.shape == (8, 16)
    assert all(p.requires_grad for p in trainer.model.parameters())


def test_evaluation_is_the_same_whatever_the_batch(run):
    found = [
        build_retriever_trainer(run.parsed(per_device_eval_batch_size=size, **evaluated(run))).evaluate()
        for size in (1, 3, 8)
    ]
    assert found[0] == found[1] == found[2]


# ---------------------------------------------------------------------- what can go wrong


def test_a_loss_that_is_no_number_names_its_clips(run, monkeypatch):
    count = RetrieverTrainer._count

    def spoiled(self, inputs):
        inputs["ego_features"] = inputs["ego_features"] * float("nan")
        return count(self, inputs)

    monkeypatch.setattr(RetrieverTrainer, "_count", spoiled)
    with pytest.raises(TrainingError, match=r"the loss is nan at step 0, on the samples .*ego \d"):
        run(exo_items=False)


def test_features_that_are_missing_are_counted(run, views, folder, tmp_path):
    records = json.loads((folder / "train_ego.json").read_text())
    records["3"]["vid"] = "none"
    (tmp_path / "ego.json").write_text(json.dumps(records))
    out = run(train_ego=tmp_path / "ego.json", max_steps=None, num_train_epochs=2)
    failures = [json.loads(line) for line in (out / "failures-0.jsonl").read_text().splitlines()]
    assert [(line["sample"], line["video"], line["skipped"]) for line in failures] == [("ego 3", "none", True)] * 2


def test_a_batch_of_nothing_passes(run, monkeypatch):
    from egoinstructor.training.retriever_data import PairDataset

    read = PairDataset.__getitem__
    monkeypatch.setattr(PairDataset, "__getitem__", lambda self, draw: read(self, Draw(draw.epoch, None)))
    assert logged(run(max_steps=2)) == [0, 0]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"train_ego": "none.json"}, InputError, "none.json can't be read"),
        ({"features_exo": "none"}, InputError, "none is not a folder"),
        ({"hidden_size": 15}, InputError, "15 is not a multiple of 2"),
        ({"tokenizer": "none/of/these"}, CheckpointError, "none/of/these"),
        ({"ego_backbone": "none/of/these"}, CheckpointError, "none/of/these"),
        ({"resume_from_checkpoint": "nowhere"}, InputError, "nowhere"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_trained(run, changes, error, message):
    with pytest.raises(error, match=message):
        run(**changes)


def test_an_evaluation_of_nothing_is_no_number(run, folder, tmp_path):
    records = json.loads((folder / "test_exo.json").read_text())
    for record in records.values():
        record["vid"] = "none"
    (tmp_path / "exo.json").write_text(json.dumps(records))
    trainer = build_retriever_trainer(run.parsed(eval_ego=folder / "test_ego.json", eval_exo=tmp_path / "exo.json"))
    trainer.failures.max_rate = 1.0
    with pytest.raises(TrainingError, match="none of the 8 evaluation pairs can be read"):
        trainer.evaluate()


def test_a_sharded_run_is_refused(run, monkeypatch):
    monkeypatch.setattr(RetrieverTrainer, "_sharded", True)
    with pytest.raises(InputError, match="not trained sharded"):
        build_retriever_trainer(run.parsed())


def test_pairs_that_can_not_be_evaluated(run, folder, tmp_path):
    records = json.loads((folder / "test_ego.json").read_text())
    for record in records.values():
        record["verb"] = []
    (tmp_path / "ego.json").write_text(json.dumps(records))
    with pytest.raises(InputError, match="no clip has a pair"):
        run(eval_ego=tmp_path / "ego.json", eval_exo=folder / "test_exo.json")


# ---------------------------------------------------------------------- the command


def test_the_command_trains_what_task_says(run, tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text("task: retriever\nloss: infonce\n")
    assert main(["train", "--config", str(config), *run.options(max_steps=1)]) == 0
    assert "the model is in" in capsys.readouterr().out
    assert (tmp_path / "run" / MODEL_FOLDER / "retriever.json").exists()
    assert main(["train", "--task", "retriever", *run.options("other", max_steps=1)]) == 0
    assert main(["train", "--task", "painter", *run.options("third")]) == 2
    assert main(["train", "--config", str(config), "--task", "captioner", *run.options("third")]) == 2


def test_tasks(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("task: retriever\n")
    assert split_task(None, ["--seed", "1"]) == ("captioner", ["--seed", "1"])
    assert split_task(config, ["--seed", "1"]) == ("retriever", ["--seed", "1"])
    assert split_task(config, ["--seed", "1", "--task=captioner"]) == ("captioner", ["--seed", "1"])
    for overrides, message in (
        (["--task"], "has no value"),
        (["--task", "painter"], "task='painter'; choose from captioner"),
    ):
        with pytest.raises(InputError, match=message):
            split_task(config, overrides)


def start(arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "egoinstructor", "train", "--task", "retriever", *arguments], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_interrupted_saves_and_says_how_to_go_on(run, tmp_path):
    long = {"max_steps": 300}
    straight = run("straight", **long)
    process = start(run.options("stopped", **long))
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    end = time.monotonic() + 120
    while not metrics.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 130, err
    assert "--resume_from_checkpoint last" in " ".join(err.split())
    assert last_checkpoint(tmp_path / "stopped") is not None
    stopped = run("stopped", **long, resume_from_checkpoint="last")
    same(weights(stopped), weights(straight), rtol=0, atol=0)


def without_key_biases(folder):
    """They add the same to all scores of a query, which the softmax cancels: Adam moves them by rounding errors."""
    found = weights(folder)
    for name, tensor in found.items():
        if name.endswith("qkv.bias"):
            tensor[len(tensor) // 3 : 2 * len(tensor) // 3] = 0
    return found


@pytest.mark.slow
def test_two_processes_are_one(run, folder, tmp_path):
    """DDP over gloo: the same global batch, of which some can't be read, gives the same run; evaluation too."""
    records = json.loads((folder / "train_ego.json").read_text())
    records["3"]["vid"] = "none"
    (tmp_path / "ego.json").write_text(json.dumps(records))
    common = {"train_ego": tmp_path / "ego.json", "max_steps": None, "num_train_epochs": 2, "eval_strategy": "epoch",
              "per_device_eval_batch_size": 3, "view_weight": 0.5, "per_device_train_batch_size": 10,
              **evaluated(run)}  # fmt: skip
    one = run("one", **common)
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--standalone",
        "-m",
        "egoinstructor",
    ]
    given = run.options("two", **{**common, "per_device_train_batch_size": 5, "ddp_backend": "gloo"})
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, "train", "--task", "retriever", *given], check=True, env=environment)
    two = tmp_path / "two"
    for name in ("loss", "grad_norm", "eval_ego_exo_r1", "eval_ego_exo_r5", "eval_video_text_r1", "eval_pairs"):
        assert logged(two, name) == pytest.approx(logged(one, name), rel=1e-5), name
    same(without_key_biases(two), without_key_biases(one), rtol=1e-5, atol=1e-5)
    failed = [line for rank in (0, 1) if (two / f"failures-{rank}.jsonl").exists()
              for line in (two / f"failures-{rank}.jsonl").read_text().splitlines()]  # fmt: skip
    assert len(failed) == 2

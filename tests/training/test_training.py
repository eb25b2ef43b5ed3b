"""Invariants of a run: what must not change the result doesn't, what must change does, and nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from egoinstructor import Captioner
from egoinstructor.checkpoints.loading import load
from egoinstructor.errors import CheckpointError, InputError
from egoinstructor.training.arguments import parse
from egoinstructor.training.base_trainer import WEIGHTS, last_checkpoint
from egoinstructor.training.failures import TrainingError
from egoinstructor.training.run import build_trainer, train
from egoinstructor.training.run_folder import MODEL_FOLDER
from egoinstructor.training.trainer import CaptionerTrainer

SAMPLES = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve ego clips with three references each, all different, 56 px, 1.2 s."""
    folder = tmp_path_factory.mktemp("data")
    for i in range(SAMPLES * 2):
        picture = np.random.default_rng(i).integers(0, 255, (7, 7, 3), dtype=np.uint8)
        with av.open(folder / f"{i}.mp4", "w") as container:
            stream = container.add_stream("libx264", rate=10, options={"threads": "1"})
            stream.width, stream.height, stream.pix_fmt = 56, 56, "yuv420p"
            for j in range(12):
                image = np.roll(picture, j, 0).repeat(8, 0).repeat(8, 1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    verbs, nouns = ["opens", "cuts", "stirs"], ["soup", "dough", "onion", "egg"]
    rows = [
        {
            "video": f"{i}.mp4", "start": 0, "end": 1.2, "caption": f"#C C {verbs[i % 3]} the {nouns[i % 4]}",
            "references": [{"video": f"{SAMPLES + (i + j) % SAMPLES}.mp4", "start": 0, "end": 1.2,
                            "narration": f"now {verbs[(i + j) % 3]} it"} for j in range(3)],
        }
        for i in range(SAMPLES)
    ]  # fmt: skip
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:5]))
    return folder


@pytest.fixture
def options(golden_a, data, tmp_path):
    """Command-line options of a small run, with changes."""

    def options(output="run", **changes):
        values = {
            "base": golden_a.base, "captioner": golden_a.captioner, "tokenizer": golden_a.tokenizer,
            "train_data": data / "train.jsonl", "shots": 2, "num_frames": 4, "output_dir": tmp_path / output,
            "use_cpu": True, "learning_rate": 1e-3, "logging_steps": 1, "max_steps": 3, "save_strategy": "no",
            "disable_tqdm": True, "per_device_train_batch_size": 4, "seed": 1, **changes,
        }  # fmt: skip
        return [x for name, value in values.items() if value is not None for x in (f"--{name}", str(value))]

    return options


def logged(folder: Path, name: str = "loss") -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / MODEL_FOLDER / "model.safetensors")


def same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], **tolerance, msg=lambda m, n=name: f"{n}: {m}")


# ---------------------------------------------------------------------- what must not matter


def test_batch_4_is_batch_2_accumulated_twice(options, tmp_path):
    train(parse(None, options("whole", max_steps=4)))
    split = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 4}
    train(parse(None, options("split", **split)))
    for name in ("loss", "grad_norm"):
        assert logged(tmp_path / "split", name) == pytest.approx(logged(tmp_path / "whole", name), rel=1e-4)
    same(weights(tmp_path / "split"), weights(tmp_path / "whole"), rtol=1e-4, atol=2e-5)


@pytest.mark.slow  # several seconds
def test_the_feature_cache_changes_no_loss(options, data, tmp_path):
    changes = {"jitter": False, "num_train_epochs": 2, "max_steps": None}
    train(parse(None, options("without", **changes)))
    train(parse(None, options("with", feature_cache=tmp_path / "cache", **changes)))
    assert logged(tmp_path / "with") == pytest.approx(logged(tmp_path / "without"), rel=1e-6)
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 2 * SAMPLES
    trainer = build_trainer(parse(None, options("again", feature_cache=tmp_path / "cache", **changes)))
    trainer.model.encode_frames = lambda *_: pytest.fail("encoded again")
    trainer.train()
    assert logged(tmp_path / "again") == pytest.approx(logged(tmp_path / "with"), rel=1e-6)


def test_features_are_dropped_in_training_alone(options, tmp_path):
    trainer = build_trainer(parse(None, options("run", feature_cache=tmp_path / "cache", frame_dropout=1.0)))
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    dropped = trainer._read(dict(batch))[0]["patches"]
    trainer.model.eval()
    whole = trainer._read(dict(batch))[0]["patches"]
    assert torch.equal(dropped[:, :, 0], whole[:, :, 0])
    assert whole[:, :, 1:].abs().sum() > 0 == dropped[:, :, 1:].abs().sum()


@pytest.mark.slow  # several seconds
def test_a_cache_that_is_full_changes_no_caption(options, data, tmp_path):
    """Some of a sample's clips are then patches, the others pixels."""
    given = {"eval_data": data / "val.jsonl", "eval_strategy": "epoch", "max_steps": None, "num_train_epochs": 1}
    train(parse(None, options("roomy", feature_cache=tmp_path / "roomy_cache", **given)))
    train(parse(None, options("full", feature_cache=tmp_path / "full_cache", feature_cache_gb=2e-5, **given)))
    assert 0 < len(list((tmp_path / "full_cache").rglob("*.safetensors"))) < SAMPLES
    written = [(tmp_path / run / "captions.jsonl").read_text() for run in ("roomy", "full")]
    assert written[0] == written[1]


@pytest.mark.slow  # processes of its own
def test_workers_change_nothing(options, tmp_path):
    train(parse(None, options("none")))
    train(parse(None, options("two", dataloader_num_workers=2)))
    same(weights(tmp_path / "two"), weights(tmp_path / "none"), rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable:FutureWarning")
def test_gradient_checkpointing_changes_nothing(options, tmp_path):
    train(parse(None, options("plain")))
    train(parse(None, options("checkpointed", gradient_checkpointing=True)))
    assert logged(tmp_path / "checkpointed") == pytest.approx(logged(tmp_path / "plain"), rel=1e-5)


# ---------------------------------------------------------------------- what must


def test_every_trainable_parameter_moves_and_no_frozen_one(options, golden_a, tmp_path):
    before, _ = golden_a.load()
    trained = set(before.trainable_names())
    train(parse(None, options(max_steps=4)))
    after = weights(tmp_path / "run")
    for name, tensor in before.state_dict().items():
        if name != "lm_head.weight":
            assert torch.equal(tensor, after[name]) == (name not in trained), name


def test_published_parameter_groups(options):
    trainer = build_trainer(parse(None, options()))
    optimizer = trainer.create_optimizer()
    names = {p: n for n, p in trainer.model.named_parameters()}
    groups = {group["weight_decay"]: {names[p] for p in group["params"]} for group in optimizer.param_groups}
    assert groups.keys() == {0.1, 0}
    layers = trainer.model.config.text_config.num_hidden_layers
    in_a_layer = ["to_q", "to_kv", "to_out", "feed_forward.norm", "feed_forward.up", "feed_forward.down"]
    assert groups[0.1] == {
        f"decoder.layers.{i}.cross_attention.{part}.weight" for i in range(layers) for part in in_a_layer
    }
    assert groups[0] | groups[0.1] == set(trainer.model.trainable_names())


def test_a_whole_decoder_is_trained_and_resumed(options, golden_a, tmp_path):
    """All but the vision encoder moves, what is a matrix decays, and a checkpoint has all of it."""
    given = {"train_decoder": True, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    trainer = build_trainer(parse(None, options("groups", **given)))
    names = {p: n for n, p in trainer.model.named_parameters()}
    decaying = {names[p] for p in trainer.create_optimizer().param_groups[0]["params"]}
    for name, parameter in trainer.model.named_parameters():
        assert parameter.requires_grad != name.startswith("vision_encoder."), name
        if name.startswith("decoder.") and ".cross_attention." not in name:
            assert (name in decaying) == (parameter.ndim > 1 and name != "decoder.embed_tokens.weight"), name
    train(parse(None, options("straight", **given)))
    before, after = golden_a.load()[0], weights(tmp_path / "straight")
    for name, tensor in before.state_dict().items():
        if name != "lm_head.weight":
            assert torch.equal(tensor, after[name]) == name.startswith("vision_encoder."), name
    for name in ("checkpoint-4", MODEL_FOLDER):
        shutil.rmtree(tmp_path / "straight" / name)
    train(parse(None, options("straight", **given, resume_from_checkpoint="last")))
    same(weights(tmp_path / "straight"), after, rtol=0, atol=0)


def test_a_whole_decoder_or_adapters(options):
    with pytest.raises(InputError, match="train_decoder with lora_rank=2"):
        parse(None, options(train_decoder=True, lora_rank=2))


def test_loss_on_the_query_alone_is_another_loss(options, tmp_path):
    train(parse(None, options("all")))
    train(parse(None, options("query", loss_on="query")))
    assert logged(tmp_path / "all")[0] != pytest.approx(logged(tmp_path / "query")[0], rel=1e-3)


# ---------------------------------------------------------------------- what a run leaves


def test_a_runs_folder(options, data, tmp_path, golden_a):
    given = options(eval_data=data / "val.jsonl", eval_strategy="epoch", save_strategy="epoch", max_steps=None,
                    num_train_epochs=2, load_best_model_at_end=True, sample_captions=2)  # fmt: skip
    model = train(parse(None, given))
    run = tmp_path / "run"
    assert model == run / MODEL_FOLDER
    captioner = Captioner.from_pretrained(model, device="cpu")
    assert captioner.caption(data / "0.mp4").text
    assert captioner.model.generation_config.to_dict() == golden_a.load()[0].generation_config.to_dict()
    assert len(logged(run)) == 6
    assert len(logged(run, "eval_loss")) == 2
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    lines = [json.loads(line) for line in (run / "captions.jsonl").read_text().splitlines()]
    assert [(line["step"], line["id"]) for line in lines] == [(s, f"val.jsonl:{i}") for s in (3, 6) for i in (1, 2)]
    assert all(line["caption"] and line["prompt"].endswith("<answer>") for line in lines)
    assert json.loads((run / "environment.json").read_text())["packages"]["torch"] == torch.__version__
    checkpoint = last_checkpoint(run)
    assert set(load_file(checkpoint / WEIGHTS)) == set(captioner.model.trainable_names())
    again = parse(run / "config.yaml", ["--output_dir", str(tmp_path / "again")])
    assert again[2].learning_rate == 1e-3
    assert again[1].shots == 2


def test_evaluation_counts_each_sample_once_whatever_the_batch(options, data, tmp_path):
    losses = []
    for size in (1, 2, 5):
        given = options(f"eval{size}", eval_data=data / "val.jsonl", per_device_eval_batch_size=size)
        losses.append(build_trainer(parse(None, given)).evaluate()["eval_loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_lora(options, tmp_path, golden_a, data):
    train(parse(None, options(lora_rank=2, max_steps=4)))
    model, _ = load(tmp_path / "run" / MODEL_FOLDER)
    before, _ = golden_a.load()
    moved = {n for n, t in before.state_dict().items() if not torch.equal(t, model.state_dict()[n])}
    adapted = {n for n in moved if n not in before.trainable_names() and n != "lm_head.weight"}
    assert adapted == {
        f"decoder.layers.{i}.{part}.weight"
        for i in range(4)
        for part in ("attention.qkv", "attention.output", "mlp.up", "mlp.down")
    }


@pytest.mark.slow
def test_a_compiled_run_leaves_the_same_folder(options, tmp_path):
    train(parse(None, options("plain")))
    train(parse(None, options("compiled", torch_compile=True, torch_compile_backend="eager")))
    load(tmp_path / "compiled" / MODEL_FOLDER)
    same(weights(tmp_path / "compiled"), weights(tmp_path / "plain"), rtol=1e-4, atol=2e-5)


def test_the_record_can_be_run_again(options, tmp_path):
    """Lists and mappings too; what belongs to one start, such as a checkpoint to go on from, is left out."""
    given = options(resume_from_checkpoint="last", lr_scheduler_kwargs='{"num_cycles": 0.25}')
    train(parse(None, given))
    again = parse(tmp_path / "run/config.yaml", ["--output_dir", str(tmp_path / "again")])
    assert again[2].lr_scheduler_kwargs == {"num_cycles": 0.25}
    assert again[2].resume_from_checkpoint is None


def test_a_schedule_of_references_goes_by_the_steps_of_the_run(options):
    trainer = build_trainer(parse(None, options(max_steps=6, num_train_epochs=50)))
    sampler = trainer._get_train_sampler()
    sampler.set_epoch(1)
    assert next(iter(sampler)).progress == 0.5


# ---------------------------------------------------------------------- what can go wrong


def test_a_run_is_not_started_over(options, tmp_path):
    train(parse(None, options()))
    for more in ({}, {"resume_from_checkpoint": "last"}):
        with pytest.raises(InputError, match="holds a finished run"):
            train(parse(None, options(**more)))
    train(parse(None, options("saved", save_strategy="steps", save_steps=2)))
    shutil.rmtree(tmp_path / "saved" / MODEL_FOLDER)
    with pytest.raises(InputError, match="holds a run. Go on with it by --resume_from_checkpoint last"):
        train(parse(None, options("saved")))


def test_resuming_with_other_parameters_is_refused(options, tmp_path):
    train(parse(None, options(save_strategy="steps", save_steps=2)))
    shutil.rmtree(tmp_path / "run" / MODEL_FOLDER)
    with pytest.raises(CheckpointError, match="trains other tensors"):
        train(parse(None, options(lora_rank=2, resume_from_checkpoint="last", max_steps=6)))


def test_only_whole_checkpoints_are_resumed_from(options, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 2}
    train(parse(None, options(**saving)))
    run = tmp_path / "run"
    assert sorted(folder.name for folder in run.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
    shutil.rmtree(run / MODEL_FOLDER)
    (run / "checkpoint-3/complete").unlink()
    assert last_checkpoint(run) == run / "checkpoint-2"
    with pytest.raises(InputError, match="checkpoint-3' is no whole checkpoint"):
        train(parse(None, options(**saving, resume_from_checkpoint=run / "checkpoint-3")))
    assert (run / "checkpoint-3").exists(), "nothing is removed by asking"
    train(parse(None, options(**saving, resume_from_checkpoint="last")))


def test_after_a_failed_run_signals_are_what_they_were(options, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(CaptionerTrainer, "_read", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(parse(None, options()))
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_loss_that_is_no_number_names_its_samples(options, monkeypatch):
    original = CaptionerTrainer._read
    calls = []

    def spoiled(self, batch):
        inputs, items = original(self, batch)
        calls.append([item.id for item in items])
        if len(calls) == 2:
            inputs["pixel_values"] = inputs["pixel_values"] * float("nan")
        return inputs, items

    monkeypatch.setattr(CaptionerTrainer, "_read", spoiled)
    with pytest.raises(TrainingError, match="the loss is nan at step 1") as error:
        train(parse(None, options()))
    assert all(name in str(error.value) for name in calls[1])


def test_a_corrupt_video_in_the_set(options, data, tmp_path):
    rows = [json.loads(line) for line in (data / "train.jsonl").read_text().splitlines()]
    (data / "bad.mp4").write_bytes((data / "3.mp4").read_bytes()[:700])
    rows[3]["video"] = "bad.mp4"
    (data / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train(parse(None, options(train_data=data / "bad.jsonl", num_train_epochs=2, max_steps=None)))
    failures = [json.loads(line) for line in (tmp_path / "run/failures-0.jsonl").read_text().splitlines()]
    assert [(f["sample"], f["skipped"]) for f in failures] == [("bad.jsonl:4", True)] * 2
    assert "bad.mp4" in failures[0]["reason"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shots": -1}, "shots=-1"),
        ({"loss_on": "some"}, "loss_on='some'"),
        ({"reference_order": "any"}, "reference_order='any'"),
        ({"no_reference_share": 2}, "no_reference_share='2'"),
        ({"shots_schedule": "4@2"}, "shots_schedule"),
        ({"model": "x"}, "name exactly one"),
        ({"dtype": "int8"}, "dtype='int8'"),
        ({"resume_from_checkpoint": "nowhere"}, "nowhere"),
        ({"train_data": "none.jsonl"}, "none.jsonl"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"unknown_option": 1}, "unknown_option"),
    ],
)
def test_options_that_can_not_be(options, changes, message):
    with pytest.raises(InputError, match=message):
        train(parse(None, options(**changes)))


def test_unknown_options_in_a_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("base: x\ntrain_data: y\nlerning_rate: 3\n")
    with pytest.raises(InputError, match="lerning_rate"):
        parse(path)
    path.write_text("- x\n")
    with pytest.raises(InputError, match="must be a mapping"):
        parse(path)


# ---------------------------------------------------------------------- several processes, kills, signals


def start(arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "egoinstructor", "train", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )  # fmt: skip


def run(arguments):
    process = start(arguments)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


LONG = {"max_steps": 20, "save_strategy": "steps", "save_steps": 5, "per_device_train_batch_size": 2}


@pytest.mark.slow  # several seconds
def test_resumed_is_straight_to_the_bit(options, tmp_path):
    """20 steps = 10, and 10 more from the checkpoint; in the middle of the second epoch."""
    train(parse(None, options("straight", **LONG)))
    train(parse(None, options("cut", **{**LONG, "max_steps": 20})))
    cut = tmp_path / "cut"
    for name in ("checkpoint-15", "checkpoint-20", MODEL_FOLDER):
        shutil.rmtree(cut / name)
    train(parse(None, options("cut", **LONG, resume_from_checkpoint="last")))
    same(weights(cut), weights(tmp_path / "straight"), rtol=0, atol=0)
    assert logged(cut) == logged(tmp_path / "straight")


@pytest.mark.slow
def test_killed_at_random_times_and_resumed(options, tmp_path):
    """kill -9 five times: nothing beyond the last checkpoint is lost, nothing half-written is taken for whole."""
    longer = {**LONG, "max_steps": 80}
    train(parse(None, options("straight", **longer)))
    folder = tmp_path / "killed"
    arguments = options("killed", **longer, resume_from_checkpoint="last")
    for delay in np.random.default_rng(0).uniform(0, 0.6, 5):
        process = start(arguments)
        known = len(logged_safely(folder)) if (folder / "metrics.jsonl").exists() else 0
        wait_for(lambda n=known: (folder / "metrics.jsonl").exists() and len(logged_safely(folder)) != n, process)
        time.sleep(delay)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not (folder / MODEL_FOLDER).exists()
    run(arguments)
    same(weights(folder), weights(tmp_path / "straight"), rtol=0, atol=0)
    assert logged(folder) == logged(tmp_path / "straight")


def logged_safely(folder):
    return [line for line in (folder / "metrics.jsonl").read_text().splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_saves_and_says_how_to_go_on(options, tmp_path, number):
    train(parse(None, options("straight", **LONG)))
    folder = tmp_path / "stopped"
    process = start(options("stopped", **{**LONG, "save_strategy": "no"}))
    wait_for(lambda: (folder / "metrics.jsonl").exists() and len(logged_safely(folder)) >= 2, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=900)
    assert process.returncode == 130, err
    assert "--resume_from_checkpoint last" in " ".join(err.split())
    assert last_checkpoint(folder) is not None
    run(options("stopped", **LONG, resume_from_checkpoint="last"))
    same(weights(folder), weights(tmp_path / "straight"), rtol=0, atol=0)


@pytest.mark.slow
def test_two_processes_are_one(options, data, tmp_path):
    """DDP over gloo: the same global batch gives the same run, each sample is seen once an epoch, evaluation too."""
    common = {"num_train_epochs": 2, "max_steps": None, "eval_data": data / "val.jsonl", "eval_strategy": "epoch",
              "per_device_eval_batch_size": 2, "sample_captions": 1}  # fmt: skip
    train(parse(None, options("one", **common)))
    launch = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone",
        Path(__file__).with_name("distributed_run.py"),
    ]  # fmt: skip
    given = options("two", **{**common, "per_device_train_batch_size": 2, "ddp_backend": "gloo"})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SEEN": str(tmp_path / "seen")}
    subprocess.run([*launch, *given], check=True, env=environment)
    for name in ("loss", "grad_norm", "eval_loss"):
        assert logged(tmp_path / "two", name) == pytest.approx(logged(tmp_path / "one", name), rel=1e-5)
    same(weights(tmp_path / "two"), weights(tmp_path / "one"), rtol=1e-5, atol=1e-5)
    seen = [json.loads(line) for rank in (0, 1) for line in Path(f"{tmp_path}/seen{rank}").read_text().splitlines()]
    for epoch in (0, 1):
        ids = sorted(x["id"] for x in seen if x["epoch"] == epoch)
        assert ids == sorted(f"train.jsonl:{i}" for i in range(1, SAMPLES + 1))


@pytest.mark.slow
def test_two_sharded_processes_are_one(options, data, tmp_path):
    """FSDP2 over gloo by the shipped configuration: the same run; the finished folder holds whole tensors."""
    common = {"max_steps": 4, "eval_data": data / "val.jsonl", "eval_strategy": "steps", "eval_steps": 2,
              "sample_captions": 1, "per_device_eval_batch_size": 2}  # fmt: skip
    train(parse(None, options("one", **common)))
    config = Path(__file__).parents[2] / "configs/accelerate_config_fsdp.yaml"
    launch = [
        sys.executable, "-m", "accelerate.commands.launch", f"--config_file={config}", "--num_processes=2",
        "--mixed_precision=no", Path(__file__).with_name("distributed_run.py"),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SEEN": str(tmp_path / "seen"), "FSDP_ON_CPU": "1",
                   "ACCELERATE_USE_CPU": "true"}  # fmt: skip
    subprocess.run(
        [*launch, *options("two", **{**common, "per_device_train_batch_size": 2})], check=True, env=environment
    )
    captions = [(tmp_path / run / "captions.jsonl").read_text() for run in ("one", "two")]
    assert captions[0] == captions[1]
    for name in ("loss", "grad_norm", "eval_loss"):
        assert logged(tmp_path / "two", name) == pytest.approx(logged(tmp_path / "one", name), rel=1e-5)
    one, two = load(tmp_path / "one" / MODEL_FOLDER)[0], load(tmp_path / "two" / MODEL_FOLDER)[0]
    same(two.state_dict(), one.state_dict(), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_full_disk(options, tmp_path):
    """The checkpoint can't be written: one message, and no folder that looks whole."""
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000));"
        "from egoinstructor.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    given = options("full", **{**LONG, "save_steps": 2})
    done = subprocess.run([sys.executable, "-c", script, "train", *given], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "could not be written" in " ".join(done.stderr.split())
    assert list((tmp_path / "full").glob("checkpoint-*")) == []

"""The original's training command: every flag of its has a meaning here, or a reason why not."""

from __future__ import annotations

import json
import logging
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from egoinstructor.errors import InputError
from egoinstructor.training.arguments import parse
from egoinstructor.training.original_command import FLAGS, translate

REPOSITORY = Path(__file__).resolve().parents[2]

ORIGINAL = [
    "pretrained_model_name_or_path", "datapath_ego", "datapath_exo", "metapath", "train_config_path",
    "batch_size", "num_epochs", "report_to_wandb", "wandb_entity", "run_name", "wandb_project", "workers",
    "lr_scheduler", "learning_rate", "warmup_steps", "warmup_steps_ratio", "weight_decay", "offline", "xview",
    "max_shot", "save_ckpt_each_epoch", "testonly", "trained_ckpt", "clean_narration", "use_chat",
    "max_num_frames", "resample_frames", "save_predictions", "gradient_checkpointing",
    "gradient_accumulation_steps", "save_steps_interval", "logging_steps", "external_save_dir", "save_hf_model",
    "resume_from_checkpoint", "delete_previous_checkpoint", "mask_lm_head", "max_seq_len", "seed",
    "train_num_samples", "save_checkpoints_to_wandb", "inst_format", "model_name", "task_name", "load_from",
    "customized_config",
]  # fmt: skip

REQUIRED = {
    "pretrained_model_name_or_path": "otter", "datapath_ego": "ego", "datapath_exo": "exo",
    "metapath": "instructions.json", "train_config_path": "train.json",
}  # fmt: skip


def command(*flags: str, **changes: str) -> list[str]:
    return [*(f"--{name}={value}" for name, value in (REQUIRED | changes).items()), *flags]


def values(*flags: str, **changes: str) -> dict[str, object]:
    """All our options, as the run sees them."""
    model, data, training = parse(None, translate(command(*flags, **changes)).options)
    return {**vars(training), **vars(data), **vars(model)}


def test_the_table_has_every_flag_of_the_original():
    assert len(ORIGINAL) == len(set(ORIGINAL)) == 46
    names = [flag.name for flag in FLAGS]
    assert len(names) == len(set(names))
    assert set(names) == {*ORIGINAL, "tokenizer", "zero_shot_guide"}


# What the flags make of our options.
OPTIONS = {
    "pretrained_model_name_or_path": ((), {"base": "otter", "model": None, "captioner": None}),
    "trained_ckpt": (("--trained_ckpt=x.pt",), {"base": "otter", "captioner": "x.pt"}),
    "tokenizer": (("--tokenizer=neox",), {"tokenizer": "neox"}),
    "datapath_ego": ((), {"datapath_ego": "ego"}),
    "datapath_exo": ((), {"datapath_exo": "exo"}),
    "metapath": ((), {"train_data": "instructions.json", "eval_data": None}),
    "train_config_path": ((), {"train_config": "train.json", "eval_config": None}),
    "batch_size": (("--batch_size=3",), {"per_device_train_batch_size": 3, "per_device_eval_batch_size": 3}),
    "gradient_accumulation_steps": (("--gradient_accumulation_steps=2",), {"gradient_accumulation_steps": 2}),
    "num_epochs": (("--num_epochs=5",), {"num_train_epochs": 5}),
    "workers": (("--workers=7",), {"dataloader_num_workers": 7}),
    "learning_rate": (("--learning_rate=1e-5",), {"learning_rate": 1e-5}),
    "lr_scheduler": (("--lr_scheduler=linear",), {"lr_scheduler_type": "linear"}),
    "warmup_steps": (("--warmup_steps=30",), {"warmup_steps": 30}),
    "warmup_steps_ratio": (("--warmup_steps=30", "--warmup_steps_ratio=0.01"), {"warmup_steps": 0.01}),
    "weight_decay": (("--weight_decay=0.2",), {"weight_decay": 0.2}),
    "gradient_checkpointing": (("--gradient_checkpointing",), {"gradient_checkpointing": True}),
    "seed": (("--seed=7",), {"seed": 7}),
    "xview": (("--xview",), {"shots": 0}),
    "max_shot": (("--xview", "--max_shot=2"), {"shots": 2}),
    "max_num_frames": (("--max_num_frames=8",), {"max_num_frames": 8, "num_frames": 8}),
    "resample_frames": (("--max_num_frames=32", "--resample_frames=16"), {"max_num_frames": 32, "num_frames": 16}),
    "max_seq_len": (("--max_seq_len=512",), {"max_length": 512}),
    "clean_narration": (("--clean_narration",), {"clean_narration": True}),
    "use_chat": (("--use_chat",), {"use_chat": True}),
    "external_save_dir": (("--external_save_dir=runs", "--run_name=a"), {"output_dir": "runs/a", "run_name": "a"}),
    "run_name": (("--run_name=a",), {"output_dir": "a", "run_name": "a"}),
    "save_ckpt_each_epoch": (("--save_ckpt_each_epoch",), {"save_strategy": "epoch"}),
    "save_steps_interval": (("--save_steps_interval=50",), {"save_strategy": "steps", "save_steps": 50}),
    "delete_previous_checkpoint": (("--delete_previous_checkpoint",), {"save_total_limit": 1}),
    "resume_from_checkpoint": (("--resume_from_checkpoint",), {"resume_from_checkpoint": "last"}),
    "logging_steps": (("--logging_steps=5",), {"logging_steps": 5}),
    "report_to_wandb": (("--report_to_wandb",), {"report_to": ["wandb"]}),
    "testonly": (("--testonly",), {"train_config": "train.json"}),
    # There is one architecture, one prompt and one place to read from: the value is checked, and that is all.
    "model_name": (("--model_name=otter",), {"base": "otter"}),
    "inst_format": (("--inst_format=simple",), {"base": "otter"}),
    "load_from": (("--load_from=dir",), {"base": "otter"}),
}

# What they make of the environment.
ENVIRONMENT = {
    "wandb_project": (("--wandb_project=p",), {"WANDB_PROJECT": "p"}),
    "wandb_entity": (("--wandb_entity=e",), {"WANDB_ENTITY": "e"}),
    "save_checkpoints_to_wandb": (("--report_to_wandb", "--save_checkpoints_to_wandb"), {"WANDB_LOG_MODEL": "end"}),
    "offline": (("--offline",), {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}),
}

# What does nothing any more.
IGNORED = {
    "mask_lm_head": "--mask_lm_head",
    "save_hf_model": "--save_hf_model",
    "train_num_samples": "--train_num_samples=100",
    "task_name": "--task_name=",
    "customized_config": "--customized_config=x.json",
}


def test_the_tests_have_every_flag():
    assert {*OPTIONS, *ENVIRONMENT, *IGNORED, "save_predictions", "zero_shot_guide"} == {flag.name for flag in FLAGS}
    assert IGNORED.keys() == {flag.name for flag in FLAGS if flag.ignored}


@pytest.mark.parametrize(("flags", "expected"), OPTIONS.values(), ids=OPTIONS)
def test_flags_become_options(flags, expected):
    found = values(*flags)
    assert {name: found[name] for name in expected} == expected
    assert translate(command(*flags)).warnings == ()


@pytest.mark.parametrize(("flags", "expected"), ENVIRONMENT.values(), ids=ENVIRONMENT)
def test_flags_become_environment(flags, expected):
    assert translate(command(*flags)).environment == {"ACCELERATE_MIXED_PRECISION": "bf16"} | expected


@pytest.mark.parametrize(("name", "flag"), IGNORED.items(), ids=IGNORED)
def test_flags_without_meaning_say_why(name, flag):
    run = translate(command(flag))
    [warning] = run.warnings
    assert warning.startswith(f"--{name} does nothing: ")
    assert run.options == translate(command()).options


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--save_ckpt_each_epoch", "--save_steps_interval=50"], "--save_ckpt_each_epoch does nothing"),
        (["--max_shot=4"], "--max_shot 4 does nothing without --xview"),
        (["--save_predictions"], "--save_predictions does nothing without --testonly"),
        (["--zero_shot_guide"], "--zero_shot_guide does nothing without --testonly"),
    ],
)
def test_flags_without_effect_beside_others_say_so(flags, part):
    [warning] = translate(command(*flags)).warnings
    assert part in warning


def test_what_is_left_out_is_as_in_the_original():
    expected = {
        "per_device_train_batch_size": 128, "num_train_epochs": 1, "learning_rate": 1e-4, "weight_decay": 0.1,
        "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 1000, "shots": 0, "num_frames": None,
        "max_length": None, "dataloader_num_workers": 4, "seed": 42, "logging_steps": 100, "output_dir": "otter-9b",
        "report_to": [], "save_strategy": "no", "save_total_limit": None, "resume_from_checkpoint": None,
        "gradient_checkpointing": False, "clean_narration": False, "use_chat": False, "jitter": True,
    }  # fmt: skip
    found = values()
    assert {name: found[name] for name in expected} == expected
    run = translate(command())
    assert (run.testonly, run.predictions, run.environment, run.warnings) == (
        False,
        None,
        {"ACCELERATE_MIXED_PRECISION": "bf16"},
        (),
    )


def test_a_published_training_command():
    run = translate(
        command("--report_to_wandb", "--wandb_entity=test", "--wandb_project=OTTER-MPT1B", "--workers=16",
                "--run_name=OTTER-MPT1B-RPJama-4SHOT-8GPU-BS32", "--batch_size=4", "--num_epochs=5",
                "--lr_scheduler=cosine", "--learning_rate=1e-5", "--warmup_steps_ratio=0.01", "--offline", "--xview",
                "--max_shot=4", "--save_ckpt_each_epoch")
    )  # fmt: skip
    assert run.warnings == ()
    _, data, training = parse(None, run.options)
    assert (data.shots, training.warmup_steps, training.lr_scheduler_type) == (4, 0.01, "cosine")
    assert (training.save_strategy, training.per_device_train_batch_size) == ("epoch", 4)


def test_testonly_evaluates_in_full_precision_the_split_that_is_named(tmp_path):
    flags = ("--testonly", "--save_predictions", "--external_save_dir=runs", "--run_name=a", "--xview", "--max_shot=4")
    run = translate(command(*flags, trained_ckpt="x.pt", train_config_path="val.json"))
    assert run.testonly
    assert not run.zero_shot_guide
    assert translate(command(*flags, "--zero_shot_guide")).zero_shot_guide
    assert run.predictions == Path("runs/a/predictions.jsonl")
    assert run.environment == {"ACCELERATE_MIXED_PRECISION": "no"}
    assert "--train_config=val.json" in run.options


def test_a_finished_runs_folder_is_a_whole_model(tmp_path):
    found = values(trained_ckpt=str(tmp_path))
    assert (found["model"], found["base"], found["captioner"]) == (str(tmp_path), None, None)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--lr_scheduler=polynomial", "invalid choice: 'polynomial'"),
        ("--model_name=idefics", "invalid choice: 'idefics'"),
        ("--inst_format=llama2", "invalid choice: 'llama2'"),
        ("--load_from=ceph", "invalid choice: 'ceph'"),
        ("--batch_size=four", "invalid int value: 'four'"),
        ("--warmup_steps_ratio=1", "1.0 is no share"),
        ("--xview=False", "ignored explicit argument 'False'"),
        ("--max_shots=4", "unrecognized arguments: --max_shots=4"),
    ],
)
def test_what_the_original_does_not_take_is_refused(flag, message, capsys):
    with pytest.raises(SystemExit) as stop:
        translate(command(flag))
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_what_must_be_given(capsys):
    with pytest.raises(SystemExit):
        translate([])
    assert f"required: {', '.join(f'--{name}' for name in REQUIRED)}" in capsys.readouterr().err


@pytest.mark.parametrize("steps", ["0", "-2"])
def test_an_impossible_interval_is_refused(steps):
    with pytest.raises(InputError, match=f"--save_steps_interval {steps}; give 1 or more steps, or -1"):
        translate(command(f"--save_steps_interval={steps}"))


def test_uploading_without_reporting_is_refused():
    with pytest.raises(InputError, match="without --report_to_wandb"):
        translate(command("--save_checkpoints_to_wandb"))


# ---------------------------------------------------------------------- the door


@pytest.fixture
def door(monkeypatch, capsys):
    """`main.py` with stand-ins for training and evaluation: exit code, calls, and what it says."""
    from egoinstructor.cli import testonly
    from egoinstructor.training import run as runs

    calls = []

    def train(arguments):
        calls.append(("train", arguments))
        return Path("runs/model")

    def evaluate(arguments, *, predictions, zero_shot_guide):
        calls.append(("evaluate", arguments, predictions, zero_shot_guide))
        return {"task": "captions"}

    monkeypatch.setattr(runs, "train", train)
    monkeypatch.setattr(testonly, "evaluate", evaluate)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    logger = logging.getLogger("egoinstructor")
    monkeypatch.setattr(logger, "level", logger.level)

    def door(*argv, rank="0"):
        os.environ["RANK"] = rank
        monkeypatch.setattr(sys, "argv", ["main.py", *argv])
        code = runpy.run_path(str(REPOSITORY / "main.py"))["main"]()
        printed = capsys.readouterr()
        return code, calls, printed.out, " ".join(printed.err.split())

    return door


def test_main_trains(door):
    code, [(name, arguments)], out, err = door(*command("--task_name=x", "--offline"))
    assert (code, name, out) == (0, "train", "the model is in runs/model\n")
    assert arguments[0].base == "otter"
    assert "--task_name does nothing" in err
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_main_evaluates(door):
    code, [(name, _, *asked)], out, _ = door(*command("--testonly", "--save_predictions", "--zero_shot_guide"))
    assert (code, name, asked) == (0, "evaluate", [Path("otter-9b/predictions.jsonl"), True])
    assert json.loads(out) == {"task": "captions"}


def test_only_the_first_process_speaks(door):
    code, [_], out, err = door(*command("--task_name=x"), rank="1")
    assert (code, out, err) == (0, "", "")


def test_main_says_what_to_mend(door):
    code, calls, _, err = door(*command("--save_checkpoints_to_wandb"))
    assert (code, calls) == (2, [])
    assert "add it, or leave both out" in err


def test_the_environment_is_set_in_time():
    """transformers and huggingface_hub read it when they are imported."""
    code = "import main, sys; print([m for m in ('torch', 'transformers', 'huggingface_hub') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---------------------------------------------------------------------- from end to end


@pytest.fixture
def published(short_videos, golden_a, tmp_path):
    """The original's flags for a data set in its formats: six segments of three seconds' video."""
    vids = ["ego", "exo1", "exo2", "exo3"]
    entries = {
        f"E4DOL_INS_{i:06d}": {
            "instruction": "Describe the main action in the video.",
            "answer": f"#C C cuts a leek {i}",
            "image_ids": [{"vid": vids[0 if i < 6 else i - 5], "uid": "", "start_second": 0, "end_second": 2}],
        }
        for i in range(9)
    }
    (tmp_path / "instructions.json").write_text(json.dumps({"data": entries}))
    shots = {f"E4DOL_INS_{i:06d}": [f"E4DOL_INS_{j:06d}" for j in (6, 7, 8)] for i in range(6)}
    (tmp_path / "train.json").write_text(json.dumps(shots))
    folder = str(short_videos["ego"].parent)
    (folder_ego := tmp_path / "ego").mkdir()
    (folder_ego / "ego.mp4").symlink_to(short_videos["ego"])
    return command(
        f"--tokenizer={golden_a.tokenizer}", "--max_num_frames=4", "--xview", "--max_shot=2", "--workers=0", "--offline",
        f"--external_save_dir={tmp_path}", "--run_name=run", "--batch_size=2", "--clean_narration", "--logging_steps=1",
        pretrained_model_name_or_path=str(golden_a.base), trained_ckpt=str(golden_a.captioner),
        datapath_ego=str(folder_ego), datapath_exo=folder, metapath=str(tmp_path / "instructions.json"),
        train_config_path=str(tmp_path / "train.json"),
    )  # fmt: skip


@pytest.mark.slow
def test_the_original_command_trains_resumes_and_evaluates(published, tmp_path):
    config = REPOSITORY / "configs" / "accelerate_config_ddp_1gpu.yaml"
    launch = [sys.executable, "-m", "accelerate.commands.launch", f"--config_file={config}", "--cpu"]
    folder = tmp_path / "run"

    def original(*flags):
        command = [*launch, REPOSITORY / "main.py", *published, *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        assert done.returncode == 0, done.stderr
        return done.stdout

    training = ("--num_epochs=2", "--save_ckpt_each_epoch", "--lr_scheduler=cosine", "--warmup_steps_ratio=0.01")
    assert "the model is in" in original(*training)
    left = {"checkpoint-3", "checkpoint-6", "model"}
    assert left <= {path.name for path in folder.iterdir()}

    for lost in ("checkpoint-6", "model"):
        shutil.rmtree(folder / lost)
    original(*training, "--resume_from_checkpoint")
    assert left <= {path.name for path in folder.iterdir()}

    evaluation = ("--testonly", "--save_predictions", f"--trained_ckpt={folder / 'model'}")
    results = json.loads(original(*evaluation).splitlines()[-1])
    assert results["counts"]["samples"] == 6
    assert len((folder / "predictions.jsonl").read_text().splitlines()) == 6
    published = {"num_beams": 3, "max_new_tokens": 64, "no_repeat_ngram_size": 3}
    assert results["settings"]["generation"] == published


@pytest.mark.slow
def test_test_slurm_evaluates(published, golden_a, tmp_path):
    """The script itself, with a stand-in for srun alone: what it asks for is done, by accelerate and main.py."""
    (srun := tmp_path / "bin" / "srun").parent.mkdir()
    srun.write_text('#!/usr/bin/env bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n')
    srun.chmod(0o755)
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in published if "=" in flag)
    names = ("pretrained_model_name_or_path", "datapath_ego", "datapath_exo", "metapath", "train_config_path")
    variables = {name.upper(): flags[name] for name in names}
    variables |= {"TRAINED_CKPT": flags["trained_ckpt"], "MAX_SHOT": "2", "BATCH_SIZE": "2", "WORKERS": "0"}
    variables |= {"EXTERNAL_SAVE_DIR": str(tmp_path), "RUN_NAME": "slurm", "ACCELERATE_USE_CPU": "1"}
    variables["PATH"] = f"{srun.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    script = [REPOSITORY / "scripts" / "test_slurm.sh", f"--tokenizer={golden_a.tokenizer}", "--max_num_frames=4"]
    done = subprocess.run(
        [*script, "--offline", "--clean_narration"],
        cwd=REPOSITORY, env=os.environ | variables, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert results["counts"]["samples"] == results["counts"]["samples in the split"] == 6
    assert (results["settings"]["shots"], results["settings"]["batch_size"]) == (2, 2)
    lines = [json.loads(line) for line in (tmp_path / "slurm" / "predictions.jsonl").read_text().splitlines()]
    assert [len(line["references"]) for line in lines] == [2] * 6
    assert all(line["score"] < 0 for line in lines)
    assert (tmp_path / "slurm" / "report.html").is_file()


@pytest.mark.slow
def test_two_processes_test_as_one(published, monkeypatch):
    """Batches of two, of one process and of two that meet in the run's folder alone."""
    from egoinstructor.cli.testonly import evaluate

    orders = [translate([*published, "--testonly", "--save_predictions", f"--run_name={name}"]) for name in ("a", "b")]
    one, two = (parse(None, order.options) for order in orders)
    results = evaluate(one, predictions=orders[0].predictions)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert evaluate(two, predictions=orders[1].predictions) is None
    assert not orders[1].predictions.exists()
    monkeypatch.setenv("RANK", "0")
    assert evaluate(two, predictions=orders[1].predictions)["scores"] == results["scores"]
    assert orders[1].predictions.read_bytes() == orders[0].predictions.read_bytes()

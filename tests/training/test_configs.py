"""Every configuration and script that is shipped is read by what reads it in earnest."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from transformers import CLIPVisionModel

from egoinstructor.retriever.cross_view import CrossViewConfig
from egoinstructor.training.arguments import parse
from egoinstructor.training.options import split_task
from egoinstructor.training.original_command import translate
from egoinstructor.training.retriever_arguments import RetrieverTrainingArguments, parse_retriever

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = REPOSITORY / "configs"
ACCELERATE = {file.stem.removeprefix("accelerate_config_"): file for file in CONFIGS.glob("accelerate_config_*.yaml")}
RECIPES = {file.stem: file for file in CONFIGS.glob("captioner_*.yaml")}
RETRIEVER = CONFIGS / "retriever.yaml"
NANO = {task: CONFIGS / f"nano_{task}.yaml" for task in ("retriever", "captioner")}
SCRIPTS = sorted((REPOSITORY / "scripts").glob("*.sh"))


def test_nothing_is_missed():
    assert len(ACCELERATE) == 10
    assert len(RECIPES) == 2
    assert {*ACCELERATE.values(), *RECIPES.values(), RETRIEVER, *NANO.values()} == set(CONFIGS.iterdir())
    assert [file.name for file in SCRIPTS] == ["test_slurm.sh", "train_slurm.sh"]


# ---------------------------------------------------------------------- accelerate


@pytest.mark.parametrize("name", ACCELERATE)
def test_accelerate_reads_it(name):
    config = load_config_from_file(str(ACCELERATE[name]))
    assert isinstance(config, ClusterConfig)
    hints = get_type_hints(ClusterConfig)
    for field in dataclasses.fields(config):
        if (value := getattr(config, field.name)) is not None:
            allowed = get_args(hints[field.name]) or (hints[field.name],)
            assert isinstance(value, tuple(kind for kind in allowed if isinstance(kind, type))), field.name
    assert config.mixed_precision == "bf16"


@pytest.mark.parametrize("name", ACCELERATE)
def test_its_sections_hold_what_accelerate_knows(name):
    """accelerate passes over the keys that it doesn't know in them, without a word."""
    config = load_config_from_file(str(ACCELERATE[name]))
    known = {action.dest: action for action in launch_command_parser()._actions}
    assert config.fsdp_config.pop("fsdp_ignored_modules", None) in (None, "vision_encoder")  # known, but not as a flag
    for section in (config.fsdp_config, config.deepspeed_config):
        for key, value in section.items():
            assert key in known
            kind = known[key].type or str
            assert kind(str(value)) is not None
            assert known[key].choices is None or str(value) in known[key].choices


@pytest.mark.parametrize("name", ACCELERATE)
def test_it_is_what_its_name_says(name):
    config = load_config_from_file(str(ACCELERATE[name]))
    kind, _, rest = name.partition("_")
    expected = {
        "ddp": DistributedType.MULTI_GPU, "fsdp": DistributedType.FSDP,
        "zero2": DistributedType.DEEPSPEED, "zero3": DistributedType.DEEPSPEED,
    }[kind]  # fmt: skip
    processes = int(rest.removesuffix("gpu")) if rest.endswith("gpu") else 16 if rest == "slurm" else 8
    assert config.distributed_type == (DistributedType.NO if processes == 1 else expected)
    assert (config.num_processes, config.num_machines) == (processes, 2 if rest == "slurm" else 1)
    if kind.startswith("zero"):
        assert config.deepspeed_config["zero_stage"] == int(kind[-1])


@pytest.mark.parametrize("name", [name for name in ACCELERATE if name.startswith("fsdp")])
def test_fsdp_takes_its_section(name, monkeypatch, toy):
    """As the processes see it, and every class that it wraps is one of the model's."""
    flags = [f"--config_file={ACCELERATE[name]}", "--main_process_port=0", "main.py"]
    launched, *_ = _validate_launch_command(launch_command_parser().parse_args(flags))
    assert launched.use_fsdp
    monkeypatch.setattr(os, "environ", prepare_multi_gpu_env(launched))
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True
    assert plugin.state_dict_type.name == "FULL_STATE_DICT"
    assert not plugin.cpu_ram_efficient_loading
    assert not plugin.activation_checkpointing
    model, _ = toy
    assert isinstance(model.get_submodule(plugin.ignored_modules), CLIPVisionModel)
    classes = {type(module).__name__ for module in model.modules()}
    assert plugin.transformer_cls_names_to_wrap == ["ResamplerLayer", "DecoderLayer"]
    assert classes >= set(plugin.transformer_cls_names_to_wrap)


# ---------------------------------------------------------------------- recipes


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_the_published_one(name):
    model, data, training = parse(RECIPES[name], ["--use_cpu", "True"])
    shots = int(name.removeprefix("captioner_").removesuffix("shot"))
    assert (model.base, model.captioner) == ("luodian/OTTER-MPT1B-RPJama-Init", None)
    assert (data.shots, data.num_frames, data.jitter) == (shots, 32, True)
    expected = {
        "per_device_train_batch_size": 4, "num_train_epochs": 5, "learning_rate": 1e-5, "lr_scheduler_type": "cosine",
        "warmup_steps": 0.01, "weight_decay": 0.1, "max_grad_norm": 1.0, "bf16": True, "save_strategy": "epoch",
        "gradient_accumulation_steps": 1, "loss_on": "all", "output_dir": f"runs/{name}",
    }  # fmt: skip
    assert {option: getattr(training, option) for option in expected} == expected


def test_the_recipes_differ_in_their_shots_alone():
    four, two = (yaml.safe_load(RECIPES[f"captioner_{n}shot"].read_text()) for n in (4, 2))
    assert {name for name in four.keys() | two.keys() if four.get(name) != two.get(name)} == {"shots", "output_dir"}


def test_the_retrievers_recipe_says_what_the_defaults_are():
    """As published as far as it is known; so that the file shows it, and the command without it does the same."""
    assert split_task(RETRIEVER, [])[0] == "retriever"
    model, data, training = parse_retriever(RETRIEVER, ["--use_cpu", "True"])
    values = yaml.safe_load(RETRIEVER.read_text())
    published = CrossViewConfig()
    for name, value in model.sizes.items():
        assert value == getattr(published, name), name
    assert (data.num_frames, data.clean_narration) == (published.num_frames, True)
    for field in dataclasses.fields(RetrieverTrainingArguments):
        if field.name in values.keys() - {"output_dir", "bf16", "dataloader_num_workers"}:
            assert getattr(training, field.name) == field.default, field.name
    assert (training.per_device_train_batch_size, training.num_train_epochs) == (128, 20)


def test_nanos_captioner_learns_to_read():
    """What a feature-level study found to be needed: a curriculum, loss on the query's answer, and no place that tells."""
    more = ["--model", "m", "--train_data", "d", "--feature_cache", "f", "--output_dir", "o", "--use_cpu", "True"]
    model, data, training = parse(NANO["captioner"], more)
    assert split_task(NANO["captioner"], [])[0] == "captioner"
    assert (model.train_decoder, data.shots, data.reference_order) == (True, 4, "score")
    assert [data.shots_by_progress().at(progress) for progress in (0, 0.1, 0.9)] == [1, 2, 4]
    assert [data.alone_by_progress().at(progress) for progress in (0, 0.9)] == [0.4, 0.7]
    assert (training.loss_on, training.per_device_train_batch_size, training.bf16) == ("query", 32, True)


# ---------------------------------------------------------------------- scripts


@pytest.mark.parametrize("file", [*SCRIPTS, REPOSITORY / ".ci" / "run"], ids=lambda file: file.name)
def test_shellcheck_finds_nothing(file):
    shellcheck = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run([shellcheck, "--severity=style", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "set -euo pipefail" in file.read_text()
    assert file.stat().st_mode & stat.S_IXUSR


@pytest.fixture
def slurm(tmp_path):
    """Runs a script with stand-ins for Slurm and accelerate.

    Returns:
        What srun was asked for, and what accelerate got on each node.
    """
    log = tmp_path / "log"
    programs = {
        "srun": 'while [[ $1 == --* ]]; do printf "%s " "$1" >>"$LOG"; shift; done; echo >>"$LOG"\n'
        'for ((SLURM_NODEID = 0; SLURM_NODEID < ${NODES:-1}; SLURM_NODEID++)); do export SLURM_NODEID; "$@"; done',
        "scontrol": '[[ "$*" == "show hostnames node[1-2]" ]] && printf "node1\\nnode2\\n"',
        "accelerate": 'python3 -c "import json, sys; print(json.dumps(sys.argv[1:]))" "$@" >>"$LOG"',
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)

    def slurm(script, *flags, **variables):
        log.unlink(missing_ok=True)
        environment = {
            "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}", "LOG": str(log),
            "SLURM_JOB_ID": "40007", "SLURM_JOB_NODELIST": "node[1-2]", **variables,
        }  # fmt: skip
        command = [REPOSITORY / "scripts" / script, *flags]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=900, check=False
        )
        if done.returncode:
            return done.stderr, []
        asked, *nodes = log.read_text().splitlines()
        return asked.split(), [json.loads(line) for line in nodes]

    return slurm


PATHS = {"METAPATH": "my meta.json", "TRAIN_CONFIG_PATH": "split.json", "DATAPATH_EGO": "ego", "DATAPATH_EXO": "exo"}


def read_launch(arguments: list[str]):
    """As accelerate reads its flags, and as main.py reads its own."""
    assert arguments[0] == "launch"
    launched = launch_command_parser().parse_args(arguments[1:])
    assert launched.training_script == "main.py"
    assert (REPOSITORY / launched.config_file).is_file()
    return launched, translate(launched.training_script_args)


def test_train_slurm_on_one_machine(slurm):
    asked, [arguments] = slurm("train_slurm.sh", **PATHS)
    assert asked == ["--nodes=1", "--ntasks-per-node=1", "--gres=gpu:8", "--cpus-per-task=56"]
    launched, run = read_launch(arguments)
    assert launched.config_file == "configs/accelerate_config_ddp_8gpu.yaml"
    assert (launched.num_machines, launched.num_processes) == (1, 8)
    assert run.warnings == ()
    _, data, training = parse(None, run.options)
    assert (data.train_data, data.train_config, data.shots) == ("my meta.json", "split.json", 4)
    _, recipe_data, recipe = parse(RECIPES["captioner_4shot"], ["--use_cpu", "True"])
    assert data.shots == recipe_data.shots
    for option in (
        "per_device_train_batch_size", "num_train_epochs", "learning_rate", "lr_scheduler_type", "warmup_steps",
        "weight_decay", "max_grad_norm", "save_strategy", "seed",
    ):  # fmt: skip
        assert getattr(training, option) == getattr(recipe, option), option


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "zero2", "zero3"])
def test_train_slurm_on_two_machines(slurm, strategy):
    variables = {"NODES": "2", "GPUS": "4", "STRATEGY": strategy, "PARTITION": "long"}
    asked, nodes = slurm("train_slurm.sh", "--resume_from_checkpoint", **PATHS, **variables)
    assert {"--nodes=2", "--gres=gpu:4", "--partition=long"} <= set(asked)
    assert len(nodes) == 2
    for rank, arguments in enumerate(nodes):
        launched, run = read_launch(arguments)
        assert launched.config_file == f"configs/accelerate_config_{strategy}_slurm.yaml"
        assert (launched.num_machines, launched.num_processes, launched.machine_rank) == (2, 8, rank)
        assert (launched.main_process_ip, launched.main_process_port) == ("node1", 20007)
        assert "--resume_from_checkpoint=last" in run.options
        assert "--run_name=OTTER-MPT1B-RPJama-4SHOT-8GPU-BS32" in run.options


def test_test_slurm(slurm):
    asked, [arguments] = slurm("test_slurm.sh", TRAINED_CKPT="x.pt", **PATHS)
    assert asked == ["--nodes=1", "--ntasks=1", "--gres=gpu:1", "--cpus-per-task=7"]
    launched, run = read_launch(arguments)
    assert launched.config_file == "configs/accelerate_config_ddp_1gpu.yaml"
    assert run.testonly
    assert run.predictions == Path("runs/OTTER-MPT1B-RPJama-test/predictions.jsonl")
    assert {"--captioner=x.pt", "--shots=4", "--train_config=split.json"} <= set(run.options)


@pytest.mark.parametrize("script", [file.name for file in SCRIPTS])
def test_a_script_says_what_is_missing(slurm, script):
    said, nodes = slurm(script, TRAINED_CKPT="x.pt")
    assert "METAPATH: the instructions JSON" in said
    assert nodes == []

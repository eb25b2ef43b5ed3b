"""What the recipe does when, without doing it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import yaml

import nano
from egoinstructor.errors import InputError
from nano import REPOSITORY, Recipe
from simkitchen.dataset import SimulationReport


@pytest.fixture
def recipe(tmp_path):
    return Recipe(tmp_path / "out", workers=2, package=tmp_path / "package")


def over(recipe, revision):
    """The recipe with a finished retriever."""
    (recipe.runs["retriever"] / "model").mkdir(parents=True, exist_ok=True)
    recipe._retriever = SimpleNamespace(identity=SimpleNamespace(revision=revision))
    return recipe


def made(recipe):
    """Something of all that is made over a retriever."""
    files = [recipe.verdict, recipe.episodes, recipe.held_out]
    folders = [recipe.start, recipe.model, recipe.demo_files]
    for file in (*files, *(folder / "file" for folder in folders)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    return [*files, *folders]


def test_a_folder_has_one_seed(recipe):
    recipe.words.mkdir(parents=True)
    recipe.run("tokenizer")
    assert json.loads(recipe.record.read_text())["seed"] == 0
    with pytest.raises(InputError, match="with seed 0, not 1"):
        Recipe(recipe.out, seed=1, package=recipe.package).run("tokenizer")
    Recipe(recipe.out, seed=0, package=recipe.package).run("tokenizer")


def test_another_retriever_undoes_what_was_made_over_the_first(recipe, monkeypatch):
    def stop(split):
        raise InputError("asked again")

    monkeypatch.setattr(nano, "read_clips", stop)
    over(recipe, "a")._note(retriever="a")
    paths = made(recipe)
    assert not recipe.gate()  # the same: all stays
    assert all(path.exists() for path in paths)
    with pytest.raises(InputError, match="asked again"):
        over(recipe, "b").gate()
    assert not any(path.exists() for path in paths)
    assert json.loads(recipe.record.read_text())["retriever"] == "b"
    with pytest.raises(InputError, match="take the step 'gate' first"):
        recipe.captioner()


def test_a_captioner_over_another_retriever_is_not_thrown_away(recipe):
    over(recipe, "b")._note(retriever="a")
    paths = made(recipe)
    checkpoint = recipe.runs["captioner"] / "checkpoint-1"
    checkpoint.mkdir(parents=True)
    with pytest.raises(InputError, match="was not trained over the retriever"):
        recipe.gate()
    with pytest.raises(InputError, match="has not passed the gate"):
        recipe.captioner()
    assert all(path.exists() for path in (*paths, checkpoint))


def test_without_a_retriever_there_is_no_gate(recipe):
    with pytest.raises(InputError, match="no finished retriever"):
        recipe.gate()


def test_lost_events_stop_it(recipe, monkeypatch):
    monkeypatch.setattr(nano, "simulate", lambda out, split, *_, **__: SimulationReport(out / split, 1, 0, ("e7",)))
    with pytest.raises(InputError, match="e7"):
        recipe.render()


def test_nothing_is_shipped_before_all_is_there(recipe):
    shipped = recipe.package / "nano" / "config.json"
    shipped.parent.mkdir(parents=True)
    shipped.touch()
    recipe.model.mkdir(parents=True)
    with pytest.raises(InputError, match="take the step 'demo' first"):
        recipe.assets()
    assert shipped.exists()


@pytest.mark.parametrize(("workers", "gpu", "processes"), [(2, False, 2), (1, False, 1), (2, True, 1)])
def test_two_processes_train_the_retriever_where_there_are_two_cores(recipe, monkeypatch, workers, gpu, processes):
    ran = []
    monkeypatch.setattr(nano, "run_to_end", lambda *arguments: ran.append(arguments) or 0)
    monkeypatch.setattr(nano.torch.cuda, "is_available", lambda: gpu)
    recipe.workers = workers
    assert recipe.retriever()
    ((command, environment),) = ran
    options = dict(zip(command[command.index("train") + 1 :: 2], command[command.index("train") + 2 :: 2], strict=True))
    assert ("--nproc_per_node=2" in command, environment) == (
        (True, {"OMP_NUM_THREADS": "1"}) if processes == 2 else (False, None)
    )
    config = yaml.safe_load((REPOSITORY / "configs" / "nano_retriever.yaml").read_text())
    batch = int(options.get("--per_device_train_batch_size", config["per_device_train_batch_size"]))
    assert batch * processes == 64
    assert options["--frames_cache"] == str(recipe.out / "frames")
    assert options["--resume_from_checkpoint"] == "last"
    for name, value in config.items():  # the paths there are those of --out runs/nano
        if isinstance(value, str) and value.startswith("runs/nano"):
            assert options[f"--{name}"] == value.replace("runs/nano", str(recipe.out))

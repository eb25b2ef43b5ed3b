"""The captioners that are compared, and how each is trained: same start, same frozen vision tower, same number of steps.

retrieval          episodes of a query with 0 to 4 references
ego                ego clips alone, no references
ego+exo            ego clips and all of training's how-to clips, no references
ego+exo+library    the latter, trained on with the library's clips too, so that it has met the new words

Each is trained in the recipe's cycles of the learning rate, and is the mean of the last two's ends; on the library's clips
in one more, short one.

How-to clips that are learned as queries, by any of them, are captioned as an ego clip would be, not with what is said in
them: no model has to learn two ways to say a thing. Of the library's clips that is more than retrieval is told, which reads
what is said as it is.
"""

from __future__ import annotations

import dataclasses
import random
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from egoinstructor.errors import InputError
from egoinstructor.fields import json_lines
from egoinstructor.files import JsonlLog, atomic_file, exclusive
from egoinstructor.training.arguments import CaptionerTrainingArguments
from egoinstructor.training.run_folder import MODEL_FOLDER, RECORD
from nano_steps.captioner import Sizes, make_captioner
from nano_steps.clips import read_clips
from nano_steps.cycles import RUN, cycles, steps_a_cycle, train_in_cycles
from nano_steps.episodes import Episodes, alone
from nano_steps.practice import STEPS
from nano_steps.processes import flags, run_to_end
from simkitchen_parts.kitchen import Kitchen
from simkitchen_parts.references import file_name

MODELS = ("retrieval", "ego", "ego+exo", "ego+exo+library")
RETRIEVAL, EGO, BASE, LEARNED = MODELS
FINE_TUNING = 0.1
"""Steps on the library's clips, as a share of a cycle's; half of each batch is training's data, lest it forget."""
FINE_TUNING_RATE = 0.3
"""Learning rate there, as a share of the training's."""
ALIKE = ("max_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate")
"""Options in which the models must not differ, beside the number of cycles."""


@dataclass(frozen=True, slots=True)
class Files:
    """Where everything is: what the recipe made, and what this benchmark makes.

    Args:
        data: folder of the rendered splits.
        work: the recipe's folder.
        config: the captioner's training options, for every model.
        sizes: of the captioner; None for nano's.
        practice: steps of text alone before its training.
        queries: of only so many events of a split, from the first on, the ego clips are captioned; None for all.
    """

    data: Path
    work: Path
    config: Path
    sizes: Sizes | None = None
    practice: int = STEPS
    queries: int | None = None

    @property
    def retriever(self) -> Path:
        return self.work / "retriever" / MODEL_FOLDER

    @property
    def backbone(self) -> Path:
        return self.retriever / "ego_backbone"

    @property
    def tokenizer(self) -> Path:
        return self.work / "tokenizer" / "captioner"

    @property
    def episodes(self) -> Path:
        return self.work / "episodes.jsonl"

    @property
    def features(self) -> Path:
        return self.work / "features"

    @property
    def own(self) -> Path:
        return self.work / "benchmark"

    @property
    def recipes_own(self) -> Path | None:
        """The run of the captioner that the recipe has trained, or is training; None if it hasn't begun."""
        run = self.work / "captioner"
        return run if _record(run) else None

    def split(self, split: str) -> Path:
        """What is kept of a split, whichever of its ego clips are captioned: the library."""
        return self.own / split

    def asked(self, split: str) -> Path:
        """What is kept of its queries: embeddings, references, results. Each number of queries has its own folder."""
        return self.split(split) if self.queries is None else self.split(split) / self._first

    def run(self, model: str, seed: int, split: str) -> Path:
        """A training run. The recipe's own captioner is one of them; the one that learns a library is a split's own."""
        own = self.recipes_own
        if model == RETRIEVAL and own is not None and seed == _recorded(own).get("seed"):
            return own
        name = f"{model}-{split}" if model == LEARNED else model
        return self.own / "models" / f"{name}-{seed}"

    def model(self, model: str, seed: int, split: str) -> Path:
        return self.run(model, seed, split) / MODEL_FOLDER

    def captions(self, model: str, seed: int, split: str, condition: str) -> Path:
        """Kept in the model's own run, and removed with it."""
        name = split if self.queries is None else f"{split}-{self._first}"
        return self.run(model, seed, split) / "captions" / name / file_name(condition)

    @property
    def _first(self) -> str:
        return f"first-{self.queries}"


def train(files: Files, model: str, seed: int, split: str, more: Sequence[str] = ()) -> bool:
    """Train a model, or go on with it; what is finished stays. One that another process trains is waited for.

    Args:
        files: where everything is.
        model: of `MODELS`.
        seed: of weights and batches.
        split: whose library is learned, if the model learns one.
        more: further options of `egoinstructor train`, the same for each model.

    Returns:
        Whether there was anything to do.

    Raises:
        InputError: what the recipe should have made is missing, options with which others were not trained, or the training
            failed.
        KeyboardInterrupt: Ctrl-C, once the training has saved a checkpoint.
    """
    run = files.run(model, seed, split)
    if (run / MODEL_FOLDER).exists():
        return False
    if run == files.recipes_own:
        raise InputError(f"{run} holds no finished model; finish recipes/nano.py with --out {files.work} first.")
    for needed in (files.backbone, files.tokenizer, *([files.episodes] if model == RETRIEVAL else [])):
        if not needed.exists():
            raise InputError(f"{needed} is missing; finish recipes/nano.py with --out {files.work} first.")
    chosen = read_options(files.config, more)
    check_same(_begun(files) | {"what is asked for": chosen})
    if model == LEARNED:
        train(files, BASE, seed, split, more)
    with one_at_a_time(run):
        if (run / MODEL_FOLDER).exists():
            return False
        options: dict[str, Any] = {"train_data": files.episodes}
        if model == LEARNED:
            start = files.model(BASE, seed, split)
            options["max_steps"] = max(1, round(FINE_TUNING * steps_a_cycle(chosen)))
            options["learning_rate"] = FINE_TUNING_RATE * float(chosen["learning_rate"])
            options |= {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": "{}"}
            options["train_data"] = library_data(files, split)
        else:
            start = run / "start"
            if not start.exists():
                make_captioner(
                    files.backbone, files.tokenizer, start, seed=seed, sizes=files.sizes, practice=files.practice
                )
            if model != RETRIEVAL:
                options["train_data"] = training_data(files, model)
        if model != RETRIEVAL:  # no references
            options |= {"shots": 0, "shots_schedule": 0}
        options |= {
            "model": start,
            "datapath_ego": files.data,
            "datapath_exo": files.data,
            "feature_cache": files.features,
            "seed": seed,
            "eval_strategy": "no",
            "resume_from_checkpoint": "last",
        }

        def to_end(folder: Path) -> None:
            command = [sys.executable, "-m", "egoinstructor", "train", "--config", str(files.config), *more]
            status = run_to_end([*command, *flags({**options, "output_dir": folder})])
            if status:
                raise InputError(f"the training of {run.name} ended with {status}; its own message is above.")

        print(f"training {run.name}", file=sys.stderr, flush=True)
        began = time.perf_counter()
        try:
            if model == LEARNED:
                to_end(run)
            else:
                train_in_cycles(run, to_end)
        finally:  # interrupted or not
            JsonlLog(run / "time.jsonl").add({"seconds": round(time.perf_counter() - began, 1)})
    return True


def one_at_a_time(folder: Path) -> AbstractContextManager[None]:
    """A folder, for one process at a time."""

    def waits() -> None:
        print(f"waiting for {folder.name}, which another process makes", file=sys.stderr, flush=True)

    return exclusive(folder, waits=waits)


def _record(run: Path) -> Path | None:
    """What a run that has begun says of its options."""
    return next((file for folder in (run, run / RUN) if (file := folder / RECORD).exists()), None)


def _recorded(run: Path) -> dict[str, Any]:
    file = _record(run)
    if file is None:
        raise InputError(f"{run} has no {RECORD}, which says how it was trained; train it again.")
    return _options(file)


def check_alike(files: Files, models: Sequence[str], seeds: Sequence[int], split: str) -> None:
    """See that models were trained for the same number of steps, in batches of the same size, at the same rate.

    The fine-tuning on the library is compared with its like.

    Raises:
        InputError: two that weren't, or a run without its record.
    """
    for kind in ((RETRIEVAL, EGO, BASE), (LEARNED,)):
        runs = [files.run(model, seed, split) for model in models if model in kind for seed in seeds]
        check_same({str(run): _recorded(run) for run in runs})


def check_same(trainings: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse trainings that differ in their cycles, or in one of `ALIKE`.

    Args:
        trainings: the options of each by its name.

    Raises:
        InputError: naming what differs.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(CaptionerTrainingArguments)}
    told = {
        name: {"cycles": float(cycles(options))} | {key: float(options.get(key, defaults[key])) for key in ALIKE}
        for name, options in trainings.items()
    }
    for name, values in told.items():
        first, wanted = next(iter(told.items()))
        if differs := [f"{key} {values[key]:g}, not {wanted[key]:g}" for key in wanted if values[key] != wanted[key]]:
            raise InputError(
                f"{name}: {', '.join(differs)} as in {first}. Models are compared after the same training: give all the "
                "same options, or remove what was trained with others."
            )


def _begun(files: Files) -> dict[str, dict[str, Any]]:
    """The options of all trainings that have begun, but for those on a library."""
    runs = [files.work / "captioner", *sorted((files.own / "models").glob("*"))]
    return {str(run): _recorded(run) for run in runs if _record(run) and not run.name.startswith(f"{LEARNED}-")}


def _options(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text("utf-8")))


def read_options(config: Path, more: Sequence[str]) -> dict[str, Any]:
    """The options of a training as they will count.

    Raises:
        InputError: a training that isn't limited by steps: models could not be given the same number; or one of whose cycles
            there would be no mean.
    """
    options = _options(config)
    options |= {
        name.removeprefix("--"): yaml.safe_load(value) for name, value in zip(more[::2], more[1::2], strict=True)
    }
    if int(options.get("max_steps", 0)) < 1:
        raise InputError(f"{config} has no max_steps: every model must be trained for the same number of steps.")
    steps, number, saved = int(options["max_steps"]), cycles(options), int(options["save_steps"])
    if number < 2 or steps % (number * saved):
        raise InputError(
            f"{steps} steps in {number} cycles, saved every {saved}: there must be two or more (num_cycles, in "
            "lr_scheduler_kwargs), and each must end with a checkpoint, for the mean of the last two."
        )
    return options


def training_data(files: Files, model: str) -> Path:
    """What a model without references learns from."""
    path = files.own / "data" / f"{model}.jsonl"
    if not path.exists():
        episodes = Episodes(read_clips(files.data / "train"))
        episodes.write_without_references(path, how_to=model != EGO, prefix="train/")
    return path


def check_learned(files: Files, split: str) -> None:
    """See that the library that a model has learned is the one that others read from.

    Raises:
        InputError: it is not.
    """
    path = _library_data(files, split)
    learned = {line["video"] for line in _lines(path) if line["video"].startswith(f"{split}/")}
    howto = {f"{split}/{clip.name}" for clip in Kitchen.read(files.data / split).howto.values()}
    if path.exists() and learned != howto:
        raise InputError(
            f"{LEARNED} has learned {len(learned)} how-to clips, and {files.data / split} has {len(howto)}, or others: "
            f"remove {path} and {files.own / 'models' / f'{LEARNED}-{split}-*'}, and 'train' it again."
        )


def _library_data(files: Files, split: str) -> Path:
    return files.own / "data" / f"library-{split}.jsonl"


def library_data(files: Files, split: str) -> Path:
    """The library's clips, and as many of training's."""
    path = _library_data(files, split)
    if not path.exists():
        trained = training_data(files, BASE).read_text("utf-8").splitlines(keepends=True)
        howto = Kitchen.read(files.data / split).howto
        told = [alone(clip, f"{split}/") for clip in howto.values()]
        draw = random.Random(split)
        repeated = told * max(1, len(trained) // max(1, len(told)))
        lines = [*repeated, *draw.sample(trained, min(len(trained), len(repeated)))]
        with atomic_file(path) as partial:
            partial.write_text("".join(lines), "utf-8")
    return path


def training_facts(run: Path) -> dict[str, Any]:
    """Steps and seconds of a finished run, as far as it says."""
    facts: dict[str, Any] = {}
    record = _record(run)
    lines = _lines(record.with_name("metrics.jsonl")) if record else []
    last = {name: value for line in lines for name, value in line.items()}
    for name, key in (("steps", "step"), ("seconds", "train_runtime")):
        if key in last:
            facts[name] = last[key]
    if times := _lines(run / "time.jsonl"):  # of all attempts
        facts["seconds"] = round(sum(line["seconds"] for line in times), 1)
    return facts


def _lines(file: Path) -> list[dict[str, Any]]:
    return [line for _, _, line in json_lines(file)] if file.exists() else []

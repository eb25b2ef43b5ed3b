"""Make nano, the model that comes with the package, and the demo's files, from nothing.

    python recipes/nano.py --out runs/nano [--workers 2] [--seed 0] [--only STEP]

    render → tokenizer → retriever → gate → captioner → model → demo → assets

A step whose result is there is passed over, and one that was stopped goes on: give the same command again. What was made
over another retriever is made anew, but for a captioner: that is refused. Hours on two CPU cores. It needs the extras `sim`
and `library`; `assets`, last, copies what was made into the package.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from egoinstructor import assets
from egoinstructor.cli import INTERRUPTED
from egoinstructor.errors import EgoInstructorError, InputError
from egoinstructor.fields import read_object
from egoinstructor.files import atomic_file
from egoinstructor.model.calibration import FILE as CALIBRATION
from egoinstructor.retriever.interface import Retriever
from egoinstructor.retriever.opening import open_retriever
from egoinstructor.training.run_folder import MODEL_FOLDER
from nano_steps import tokenizer
from nano_steps.captioner import Sizes, make_captioner
from nano_steps.clips import of_camera, read_clips
from nano_steps.cycles import train_in_cycles
from nano_steps.embedding import embed_split, neighbours, similarity
from nano_steps.episodes import Episodes, Mixture
from nano_steps.gate import same_verb_gate
from nano_steps.practice import STEPS
from nano_steps.processes import flags, run_to_end
from nano_steps.shipping import replace_folders, ship_demo, ship_model
from simkitchen.dataset import simulate
from simkitchen.rendering import Settings
from simkitchen.splits import SPLITS, Split

logger = logging.getLogger("nano")

REPOSITORY = Path(__file__).resolve().parents[1]
RECORD = "recipe.json"
"""What the folder's files were made with: the seed, and the retriever that the captioner and its data were made over."""
CARD = "README.md"
TWO_PROCESSES = {"per_device_train_batch_size": 32, "dataloader_num_workers": 0}
"""Options of the retriever's training by two processes: the batch of both together is the configuration's."""


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Args:
        events: of each split.
        render: how clips are rendered.
        vocabulary: tokens at most.
        sizes: of the captioner.
        practice: steps of text alone before its training.
        episodes: lines of its training file.
        eval_episodes: lines of its evaluation file.
        library: events whose how-to clips are in the demo's library.
        retriever: further options of the retriever's training.
        captioner: further options of the captioner's training.
    """

    events: tuple[int, int, int] = (6000, 600, 1800)
    render: Settings = field(default_factory=lambda: Settings(size=96, frames=8))
    vocabulary: int = tokenizer.VOCABULARY
    sizes: Sizes = field(default_factory=Sizes)
    practice: int = STEPS
    episodes: int = 100_000
    eval_episodes: int = 320
    library: int = 600
    retriever: tuple[str, ...] = ()
    captioner: tuple[str, ...] = ()


class Recipe:
    """The steps, each finished when what it makes is there, which is whole or not there at all.

    Args:
        out: the folder for everything.
        workers: processes that render; from 2 on, and without a GPU, two train the retriever.
        seed: of all that is drawn, but for the data set, which is always the same. A folder has one.
        package: the folder that the shipped files are copied to.
        scale: how much of everything.
    """

    def __init__(
        self, out: Path, *, workers: int = 2, seed: int = 0, package: Path, scale: Scale | None = None
    ) -> None:
        self.out, self.workers, self.seed, self.package = out, workers, seed, package
        self.scale = scale or Scale()
        self.kitchen, self.words = out / "simkitchen", out / "tokenizer"
        self.runs = {task: out / task for task in ("retriever", "captioner")}
        self.record, self.verdict, self.start = out / RECORD, out / "gate.json", out / "start"
        self.episodes, self.held_out = out / "episodes.jsonl", out / "validation.jsonl"
        self.model, self.demo_files = out / "assets" / "nano", out / "assets" / "demo"
        self.steps: dict[str, Callable[[], bool]] = {
            "render": self.render,
            "tokenizer": self.tokenizer,
            "retriever": self.retriever,
            "gate": self.gate,
            "captioner": self.captioner,
            "model": self.ship_model,
            "demo": self.ship_demo,
            "assets": self.assets,
        }

    def run(self, only: str | None = None) -> None:
        """Take all steps in their order, or one.

        Raises:
            EgoInstructorError: a step that can't be taken, a gate that stays shut, or a folder of another seed.
        """
        self._note(seed=self.seed)
        for name in [only] if only else self.steps:
            logger.info("%s …", name)
            logger.info("%s: %s", name, "done" if self.steps[name]() else "was there")

    def _split(self, split: Split) -> Path:
        return self.kitchen / split

    def render(self) -> bool:
        """Render SimKitchen.

        Raises:
            InputError: clips that could not be rendered.
        """
        wanted = dict(zip(SPLITS, self.scale.events, strict=True))
        missing = [split for split in SPLITS if _lines(self._split(split) / "events.jsonl") < wanted[split]]
        for split in missing:
            report = simulate(
                self.kitchen, split, wanted[split], settings=self.scale.render, workers=self.workers, progress=_told
            )
            if not report.ok:
                raise InputError(f"{report}\nThe same command tries these events again.")
            logger.info("%s", report)
        return bool(missing)

    def tokenizer(self) -> bool:
        """Train the tokenizer."""
        if self.words.exists():
            return False
        tokenizer.make_tokenizers(read_clips(self._split("train")), self.words, self.scale.vocabulary)
        return True

    def retriever(self) -> bool:
        """Train the retriever, with its backbone."""
        if self._finished("retriever"):
            return False
        options: dict[str, object] = {
            "tokenizer": self.words / tokenizer.RETRIEVER,
            "frames_cache": self.out / "frames",
            "output_dir": self.runs["retriever"],
        }
        for prefix, split in (("train", self._split("train")), ("eval", self._split("validation"))):
            for view in ("ego", "exo"):
                options[f"{prefix}_{view}"] = split / f"pairs_{view}.json"
                options[f"{'eval_' * (prefix == 'eval')}videos_{view}"] = split
        two = self.workers > 1 and not torch.cuda.is_available()
        if two:
            options |= TWO_PROCESSES
        self._train("retriever", options, self.scale.retriever, processes=1 + two)
        return True

    def gate(self) -> bool:
        """See that the retriever finds what it has never seen.

        Raises:
            InputError: it doesn't.
        """
        if self._recorded().get("retriever") != self._retriever.identity.revision:
            if any(self.runs["captioner"].glob("*")):
                raise InputError(
                    f"{self.runs['captioner']} was not trained over the retriever that {self.runs['retriever']} has now; "
                    "remove it, or name another --out."
                )
            _remove(self.verdict, self.start, self.episodes, self.held_out, self.model, self.demo_files)
            self._note(retriever=self._retriever.identity.revision)
        if self.verdict.exists():
            return False
        split = self._split("validation")
        clips = read_clips(split)
        rows = embed_split(self._retriever, clips, split, self._embeddings("validation"))
        ego, exo = of_camera(clips, "ego"), of_camera(clips, "exo")
        verdict = same_verb_gate(ego, rows["ego"], exo, rows["exo"], seed=self.seed)
        logger.info("%s", verdict)
        if not verdict.passed:
            raise InputError(f"{verdict}. It must be above chance before a captioner is worth its hours.")
        _write(self.verdict, verdict.as_dict())
        return True

    def captioner(self) -> bool:
        """Train the captioner.

        Raises:
            InputError: its retriever has not passed the gate, or the training failed.
        """
        if not self.verdict.exists() or self._recorded().get("retriever") != self._retriever.identity.revision:
            raise InputError(
                f"the retriever in {self.runs['retriever']} has not passed the gate; take the step 'gate' first."
            )
        if self._finished("captioner"):
            return False
        _remove(self.model, self.demo_files)  # of a captioner that was there before
        if not self.start.exists():
            backbone = self.runs["retriever"] / MODEL_FOLDER / "ego_backbone"
            words = self.words / tokenizer.CAPTIONER
            make_captioner(
                backbone, words, self.start, seed=self.seed, sizes=self.scale.sizes, practice=self.scale.practice
            )
        if not self.episodes.exists():
            self._episodes("train").write(self.episodes, self.scale.episodes, seed=self.seed, prefix="train/")
        if not self.held_out.exists():
            drawn = self._episodes("validation", Mixture(exo_queries=0, retrieved=1, renewed=0))
            drawn.write(self.held_out, self.scale.eval_episodes, seed=self.seed, prefix="validation/")
        options = {
            "model": self.start,
            "train_data": self.episodes,
            "eval_data": self.held_out,
            "datapath_ego": self.kitchen,
            "datapath_exo": self.kitchen,
            "feature_cache": self.out / "features",
        }
        train_in_cycles(
            self.runs["captioner"],
            lambda folder: self._train("captioner", {**options, "output_dir": folder}, self.scale.captioner),
        )
        return True

    def ship_model(self) -> bool:
        """Put the two models into the folder that is shipped."""
        if self.model.exists():
            return False
        _remove(self.demo_files)  # of a model that was there before
        ship_model(self.runs["captioner"] / MODEL_FOLDER, self.runs["retriever"] / MODEL_FOLDER, self.model)
        return True

    def ship_demo(self) -> bool:
        """Choose the demo's clips, and make its library."""
        if self.demo_files.exists():
            return False
        ship_demo(self.model, self._split("test"), self.demo_files, events=self.scale.library, seed=self.seed)
        return True

    def assets(self) -> bool:
        """Copy both into the package; the model card there stays, a calibration, which is another model's, goes.

        Raises:
            InputError: one of them is missing.
            CheckpointError: they can't be written.
        """
        for step, source in (("model", self.model), ("demo", self.demo_files)):
            if not source.exists():
                raise InputError(f"{source} is missing; take the step {step!r} first.")
        replace_folders((self.model, self.demo_files), self.package, keep=CARD)
        shipped = self.package / self.model.name
        if not (shipped / CALIBRATION).exists():
            measure = ["--data", self._split("validation"), "--model", shipped, "--write", shipped]
            logger.info(
                "its captions have no confidence until 'benchmarks/calibration.py' has run: %s",
                " ".join(map(str, ["python", REPOSITORY / "benchmarks" / "calibration.py", *measure])),
            )
        return True

    def _episodes(self, split: Split, mixture: Mixture | None = None) -> Episodes:
        clips = read_clips(self._split(split))
        rows = embed_split(self._retriever, clips, self._split(split), self._embeddings(split))
        return Episodes(clips, neighbours(clips, rows), mixture, similarity(clips, rows))

    def _embeddings(self, split: Split) -> Path:
        return self.runs["retriever"] / "embeddings" / f"{split}.safetensors"

    def _finished(self, task: str) -> bool:
        return (self.runs[task] / MODEL_FOLDER).exists()

    @cached_property
    def _retriever(self) -> Retriever:
        if not self._finished("retriever"):
            raise InputError(f"{self.runs['retriever']} holds no finished retriever; take the step 'retriever' first.")
        return open_retriever(self.runs["retriever"] / MODEL_FOLDER)

    def _recorded(self) -> dict[str, Any]:
        known = read_object(self.record) if self.record.exists() else {}
        if known.get("seed", self.seed) != self.seed:
            raise InputError(f"{self.out} was made with seed {known['seed']}, not {self.seed}; name another --out.")
        return known

    def _note(self, **values: object) -> None:
        _write(self.record, self._recorded() | values)

    def _train(self, task: str, options: Mapping[str, object], more: tuple[str, ...], processes: int = 1) -> None:
        """Train in processes of its own, from its last checkpoint if there is one."""
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command = [sys.executable, *(launcher if processes > 1 else []), "-m", "egoinstructor", "train"]
        command += ["--config", str(REPOSITORY / "configs" / f"nano_{task}.yaml")]
        always = {"seed": self.seed, "resume_from_checkpoint": "last"}
        always["use_cpu"] = not torch.cuda.is_available()
        command += flags({**options, **always})
        status = run_to_end([*command, *more], {"OMP_NUM_THREADS": "1"} if processes > 1 else None)
        if status:
            raise InputError(f"the {task}'s training ended with {status}; see above. The same command goes on.")


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _write(file: Path, values: Mapping[str, object]) -> None:
    with atomic_file(file) as partial:
        partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _told(done: int, of: int, event: str) -> None:
    if done % 100 == 0 or done == of:
        logger.info("%d of %d events, last %s", done, of, event)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for everything that is made")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (default: 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all that is drawn (default: 0)")
    steps = list(Recipe(Path(), package=assets.FOLDER).steps)
    parser.add_argument("--only", choices=steps, metavar="STEP", help=f"one of {', '.join(steps)}")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = Recipe(arguments.out, workers=arguments.workers, seed=arguments.seed, package=assets.FOLDER)
    try:
        recipe.run(arguments.only)
    except EgoInstructorError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        logger.info("interrupted; the same command goes on")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()

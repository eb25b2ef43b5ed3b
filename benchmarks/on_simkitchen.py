"""Is retrieval worth it? SimKitchen's table: captions with and without references, by bucket, over three seeds.

    python benchmarks/on_simkitchen.py train    --data runs/nano/simkitchen --work runs/nano
    python benchmarks/on_simkitchen.py evaluate --data runs/nano/simkitchen --work runs/nano --markdown docs/benchmarks.md

`--data` holds the rendered splits, `--work` is the folder of `recipes/nano.py`, which makes retriever, tokenizer, episodes
and the first captioner before. Each model, and each model's captions under each condition, is kept in WORK/benchmark and
found again, so a run that was stopped goes on. Tune on `--split validation`; open the test once.
With `--queries N` only the ego clips of a split's first N events are queries, and the library still has the how-to clips of
all events. Captions, references and results of each N are kept apart.

`train` takes one model after another; give other `--models` or `--seeds` to a second process that runs beside it, and what
both need is trained by one of them. Options that it doesn't know are `egoinstructor train`'s, and must be the same for all.
`caption` writes captions alone; it is shared between processes in the same way before `evaluate`, which finds them.

    python benchmarks/on_simkitchen.py table    --work runs/nano    the tables again, from WORK/benchmark/test/results.json
    python benchmarks/on_simkitchen.py golden                       tests/golden/nano_subset.json, of the shipped model

What is compared, and how a word counts as right: `simkitchen_parts/models.py`, `references.py`, `scores.py`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "recipes"))

from egoinstructor.cli import INTERRUPTED  # noqa: E402
from egoinstructor.errors import EgoInstructorError, InputError  # noqa: E402
from egoinstructor.fields import read_object  # noqa: E402
from egoinstructor.files import atomic_file  # noqa: E402
from simkitchen_parts.evaluation import all_captions, evaluate, prepare  # noqa: E402 - the recipe's parts must be on the path
from simkitchen_parts.golden import write_golden  # noqa: E402
from simkitchen_parts.models import MODELS, Files, train  # noqa: E402
from simkitchen_parts.plot import add_plot  # noqa: E402
from simkitchen_parts.scores import CAPTION_METRICS  # noqa: E402
from simkitchen_parts.table import markdown, write_between  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("train", "caption", "evaluate", "table", "golden"))
    parser.add_argument("--data", type=Path, help="folder of the rendered splits")
    parser.add_argument("--work", type=Path, help="the recipe's folder")
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument(
        "--queries", type=int, metavar="N", help="caption the first N events only; the library is of all (default: all)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--models", choices=MODELS, nargs="+", default=list(MODELS))
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "nano_captioner.yaml")
    parser.add_argument("--metrics", choices=CAPTION_METRICS, nargs="*", default=list(CAPTION_METRICS))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write plot and tables between its markers")
    parser.add_argument("--golden", type=Path, default=ROOT / "tests" / "golden" / "nano_subset.json", metavar="FILE")
    options, more = parser.parse_known_args(arguments)
    try:
        _run(options, more)
    except EgoInstructorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    return 0


def _run(options: argparse.Namespace, more: list[str]) -> None:
    if more and options.command != "train":
        raise InputError(f"{more[0]} is no option of {options.command!r}; only 'train' hands options on.")
    if options.command == "golden":
        print(json.dumps(write_golden(options.golden)["exact"]))
        return
    needed = ("work",) if options.command == "table" else ("data", "work")
    for name in needed:
        if getattr(options, name) is None:
            raise InputError(f"--{name} is missing; {options.command!r} needs it.")
    files = Files(options.data or Path(), options.work, options.config, queries=options.queries)
    if options.command == "train":
        for seed in options.seeds:
            for model in options.models:
                train(files, model, seed, options.split, more)
        return
    if options.command == "caption":
        asked = prepare(files, options.split, options.seeds, options.models)
        all_captions(files, asked, options.split, options.seeds, options.models)
        return
    file = files.asked(options.split) / "results.json"
    if options.command == "evaluate":
        results = evaluate(files, options.split, options.seeds, options.models, options.metrics)
        with atomic_file(file) as partial:
            partial.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    elif not file.exists():
        raise InputError(f"{file} is missing; 'evaluate' the split first.")
    else:
        results = read_object(file)
    text = markdown(results)
    print(text)
    if options.markdown:
        write_between(options.markdown, add_plot(options.markdown, results) + text)


if __name__ == "__main__":
    sys.exit(main())

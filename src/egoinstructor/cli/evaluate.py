"""`egoinstructor evaluate`: how good captions are (--task captions), or retrieval (--task retrieval).

Captions of a split in the original's metadata or in a JSONL (--data), by a model, with references from the metadata or from
a library; or by a baseline. Retrieval of clips, of EgoMCQ's questions, or of matrices. docs/evaluation.md has the rest.
"""

from __future__ import annotations

import argparse
from typing import Any

from egoinstructor.cli import evaluate_captions, evaluate_retrieval
from egoinstructor.cli.options import add_model_options, positive
from egoinstructor.cli.retrieval import add_retrieval_options
from egoinstructor.cli.score import add_scoring_options
from egoinstructor.errors import InputError

TASKS = {"captions": evaluate_captions, "retrieval": evaluate_retrieval}


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "evaluate", help="measure captions, or retrieval", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--task", choices=tuple(TASKS), default="captions", help="what to measure (default: captions)")
    parser.add_argument(
        "--out", metavar="DIR", help="folder to write into; captions need one, and go on in it when they were stopped"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    parser.add_argument("--num-frames", type=positive, metavar="F", help="frames a clip (default: the model's)")
    evaluate_captions.add_options(parser)
    add_retrieval_options(parser)
    add_model_options(parser)
    add_scoring_options(parser)
    evaluate_retrieval.add_options(parser)
    parser.set_defaults(run=run, parser_defaults=vars(parser.parse_args([])))


def run(arguments: argparse.Namespace) -> None:
    """Measure one of them, and refuse the options of the other."""
    for name, module in TASKS.items():
        if name != arguments.task:
            given = [o for o in module.OPTIONS if getattr(arguments, o) != arguments.parser_defaults[o]]
            if given:
                option = "--" + given[0].replace("_", "-")
                raise InputError(f"{option} is an option of --task {name}, and the task is {arguments.task}.")
    TASKS[arguments.task].run(arguments)

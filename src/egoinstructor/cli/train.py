"""`egoinstructor train`: train a captioner, or with `task: retriever` the retriever that finds its references.

Every option of the YAML file can be given on the command line too, as `--name value`, and wins there; docs/training.md
lists the captioner's, docs/retriever.md the retriever's.
"""

from __future__ import annotations

import argparse
import logging
import os
from typing import Any

from rich.console import Console


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "train", help="train a captioner or a retriever", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--config", metavar="FILE", help="options in YAML, such as configs/captioner_4shot.yaml")
    parser.set_defaults(run=run, overrides=[])


def run(arguments: argparse.Namespace) -> None:
    """Train."""
    from egoinstructor.training.options import split_task

    first = os.environ.get("RANK", "0") == "0"  # of several processes, one speaks
    logging.getLogger("egoinstructor").setLevel(logging.INFO if first else logging.ERROR)
    task, overrides = split_task(arguments.config, arguments.overrides)
    if task == "retriever":
        from egoinstructor.training.retriever_arguments import parse_retriever
        from egoinstructor.training.retriever_run import train_retriever

        model = train_retriever(parse_retriever(arguments.config, overrides))
    else:
        from egoinstructor.training.arguments import parse
        from egoinstructor.training.run import train

        model = train(parse(arguments.config, overrides))
    Console(quiet=not first).print(f"the model is in {model}", markup=False, highlight=False, soft_wrap=True)

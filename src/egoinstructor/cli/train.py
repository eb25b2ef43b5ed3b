"""`egoinstructor train`: train a captioner.

Every option of the YAML file can be given on the command line too, as `--name value`, and wins there; docs/training.md
lists them.
"""

from __future__ import annotations

import argparse
import logging
import os
from typing import Any

from rich.console import Console


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("train", help="train a captioner", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="options in YAML, such as configs/captioner_4shot.yaml")
    parser.set_defaults(run=run, overrides=[])


def run(arguments: argparse.Namespace) -> None:
    """Train."""
    from egoinstructor.training.arguments import parse
    from egoinstructor.training.run import train

    first = os.environ.get("RANK", "0") == "0"  # of several processes, one speaks
    logging.getLogger("egoinstructor").setLevel(logging.INFO if first else logging.ERROR)
    parsed = parse(arguments.config, arguments.overrides)
    Console(quiet=not first).print(f"the model is in {train(parsed)}", markup=False, highlight=False, soft_wrap=True)

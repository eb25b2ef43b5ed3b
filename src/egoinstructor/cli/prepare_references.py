"""`egoinstructor prepare references`: the references of a whole data set out of a library, in the original's format."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from egoinstructor.cli.options import positive
from egoinstructor.cli.progress import with_progress
from egoinstructor.cli.retrieval import add_retrieval_options, open_library, retrieval
from egoinstructor.errors import InputError


def add(steps: Any) -> argparse.ArgumentParser:
    """Declare the step; what it reports is printed by whoever prints those of the others."""
    step: argparse.ArgumentParser = steps.add_parser(
        "references", help="the references of each ego clip of a data set, out of a library"
    )
    step.add_argument("out", metavar="OUT", help="folder for instructions.json and config.json")
    step.add_argument("--instructions", required=True, metavar="FILE", help="instructions JSON, or a JSONL")
    step.add_argument("--config", metavar="FILE", help="config JSON of the split, whose keys are the ego clips")
    step.add_argument("--ego", metavar="DIR", help="folder of the ego videos (default: the metadata's)")
    step.add_argument(
        "--exo", metavar="DIR", help="folder that holds all how-to videos (default: the library's source)"
    )
    step.add_argument("--count", type=positive, default=15, metavar="N", help="references of each (default: 15)")
    step.add_argument("--device", help="cpu, cuda, cuda:1, mps; the first accelerator if not given")
    step.add_argument("--json", action="store_true", help="print the report as JSON")
    add_retrieval_options(step)
    return step


def find(arguments: argparse.Namespace) -> Any:
    """Find, under a bar.

    Returns:
        The report.

    Raises:
        InputError: no library.
    """
    from egoinstructor.data.metadata import read_metadata
    from egoinstructor.data.references import prepare_references

    if not arguments.library:
        raise InputError("no library was named; give --library DIR, made by 'egoinstructor library'.")
    metadata = read_metadata(arguments.instructions, arguments.config)
    library = open_library(arguments)
    return with_progress(
        lambda progress: prepare_references(
            library,
            metadata,
            Path(arguments.out),
            datapath_ego=arguments.ego and Path(arguments.ego),
            datapath_exo=arguments.exo and Path(arguments.exo),
            count=arguments.count,
            retrieval=retrieval(arguments, library),
            progress=progress,
        ),
        "finding references",
    )

"""`egoinstructor convert`: the published checkpoints → a model folder; `export`: back."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from egoinstructor.cli.options import DTYPES, torch_dtype


def add(commands: Any) -> None:
    """Declare both commands."""
    parser = commands.add_parser(
        "convert", help="make a model folder of the published checkpoints", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--base", required=True, metavar="DIR", help="the OTTER base, folder or Hub id")
    parser.add_argument("--captioner", metavar="FILE", help="EgoInstructor's weights, file or Hub id:file")
    parser.add_argument("--tokenizer", metavar="DIR", help="tokenizer folder or Hub id (default: the published one)")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="number format to write (auto: the files')")
    parser.set_defaults(run=run)

    parser = commands.add_parser(
        "export", help="write a model folder in the original's layout", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="model folder or Hub id")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder to make")
    parser.set_defaults(run=run_export)


def run(arguments: argparse.Namespace) -> None:
    """Convert."""
    from egoinstructor.checkpoints.convert import REPORT, convert

    conversion = convert(
        arguments.base,
        arguments.captioner,
        arguments.out,
        tokenizer=arguments.tokenizer,
        dtype=torch_dtype(arguments.dtype),
    )
    Console().print(
        f"{arguments.out}: {conversion.summary()}; each is listed in {REPORT}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def run_export(arguments: argparse.Namespace) -> None:
    """Export."""
    from egoinstructor.checkpoints.export import save_original
    from egoinstructor.checkpoints.loading import load

    save_original(*load(arguments.model), arguments.out)
    Console().print(f"{arguments.out}: base/, captioner.pt, tokenizer/", markup=False, highlight=False, soft_wrap=True)

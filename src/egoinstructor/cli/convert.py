"""`egoinstructor convert`: the published checkpoints → a model folder; `export`: back."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from egoinstructor.cli.options import DTYPES, quiet_transformers, torch_dtype
from egoinstructor.errors import InputError


def add(commands: Any) -> None:
    """Declare both commands."""
    parser = commands.add_parser(
        "convert", help="make a model folder of the published checkpoints", description=__doc__, allow_abbrev=False
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--base", metavar="DIR", help="the OTTER base, folder or Hub id")
    what.add_argument(
        "--retriever", metavar="FILE", help="instead: the published retriever's weights, file or Hub id:file"
    )
    parser.add_argument("--captioner", metavar="FILE", help="EgoInstructor's weights, file or Hub id:file")
    parser.add_argument("--tokenizer", metavar="DIR", help="tokenizer folder or Hub id (default: the published one)")
    for view in ("ego", "exo"):
        parser.add_argument(
            f"--{view}-backbone", metavar="DIR", help=f"with --retriever: CLIP or SigLIP for {view} clips"
        )
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
    if arguments.retriever:
        _convert_retriever(arguments)
        return
    if arguments.ego_backbone or arguments.exo_backbone:
        raise InputError("--ego-backbone and --exo-backbone belong to a retriever; name its file with --retriever.")
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


def _convert_retriever(arguments: argparse.Namespace) -> None:
    from egoinstructor.retriever.published import TOKENIZER, convert_published

    quiet_transformers()
    if arguments.captioner or arguments.dtype != "auto":
        raise InputError("--captioner and --dtype belong to --base; a retriever is written in the format of its file.")
    convert_published(
        arguments.retriever,
        arguments.out,
        tokenizer=arguments.tokenizer or TOKENIZER,
        ego_backbone=arguments.ego_backbone,
        exo_backbone=arguments.exo_backbone,
    )
    Console().print(f"the retriever is in {arguments.out}", markup=False, highlight=False, soft_wrap=True)


def run_export(arguments: argparse.Namespace) -> None:
    """Export."""
    from egoinstructor.checkpoints.export import save_original
    from egoinstructor.checkpoints.loading import load

    save_original(*load(arguments.model), arguments.out)
    Console().print(f"{arguments.out}: base/, captioner.pt, tokenizer/", markup=False, highlight=False, soft_wrap=True)

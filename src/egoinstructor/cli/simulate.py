"""`egoinstructor simulate`: render SimKitchen, ego and exo clips of the same actions with what is said in them."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console

from egoinstructor.cli.options import positive
from egoinstructor.cli.progress import with_progress
from egoinstructor.errors import InputError


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("simulate", help="render SimKitchen, the simulated data set", description=__doc__)
    parser.add_argument("--events", type=positive, required=True, metavar="N", help="how many events, two clips each")
    parser.add_argument("--out", required=True, metavar="DIR", help="the data set's folder; clips that it has are kept")
    parser.add_argument(
        "--split", type=_split, default="train", metavar="SPLIT", help="train, validation or test (default: train)"
    )
    parser.add_argument("--seed", type=int, default=0, help="with another one everything looks different (default: 0)")
    parser.add_argument("--size", type=positive, default=96, metavar="PX", help="side of a frame (default: 96)")
    parser.add_argument("--frames", type=positive, default=16, metavar="N", help="frames of a clip (default: 16)")
    parser.add_argument("--workers", type=positive, default=1, metavar="W", help="processes (default: 1)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(run=run)


def _split(name: str) -> str:
    """A split by its name, for argparse; SimKitchen is imported only where one is named."""
    from simkitchen.splits import SPLITS

    if name not in SPLITS:
        raise argparse.ArgumentTypeError(f"{name!r}: choose from {', '.join(SPLITS)}")
    return name


def run(arguments: argparse.Namespace) -> None:
    """Render."""
    from simkitchen.dataset import simulate
    from simkitchen.rendering import Settings

    report = with_progress(
        lambda progress: simulate(
            arguments.out,
            arguments.split,
            arguments.events,
            seed=arguments.seed,
            settings=Settings(arguments.size, arguments.frames),
            workers=arguments.workers,
            progress=progress,
        ),
        "rendering",
    )
    console = Console()
    if arguments.json:
        console.print(json.dumps(report.as_dict(), ensure_ascii=False), markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(str(report), markup=False, highlight=False, soft_wrap=True)
    if not report.ok:
        raise InputError("some events could not be rendered; the report names each.")

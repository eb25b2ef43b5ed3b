"""`egoinstructor compare RUN_A RUN_B`: is one run better than the other, or is it chance?

Two folders that `egoinstructor score --out` wrote, of the same samples. docs/evaluation.md has the definitions.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from egoinstructor.cli.options import positive


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("compare", help="compare two scored runs", description=__doc__, allow_abbrev=False)
    parser.add_argument("run_a", metavar="RUN_A", help="folder of a run")
    parser.add_argument("run_b", metavar="RUN_B", help="folder of the run to compare with it")
    parser.add_argument("--resamples", type=positive, default=2000, metavar="R", help="draws and swaps of videos")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Compare and print."""
    from egoinstructor.evaluation.comparison import as_dict, compare_runs

    compared = compare_runs(arguments.run_a, arguments.run_b, resamples=arguments.resamples, seed=arguments.seed)
    console = Console()
    if arguments.json:
        console.print(json.dumps(as_dict(compared), ensure_ascii=False), markup=False, highlight=False, soft_wrap=True)
        return
    heads = ("metric", "texts", "A", "B", "B − A", "95 % interval", "p")
    table = Table(*heads, box=SIMPLE, collapse_padding=True, pad_edge=False)  # whole in a terminal of 80 columns
    for column in table.columns:
        column.no_wrap = True
    for treatment, metrics in compared.items():
        for name, paired in metrics.items():
            gain = paired.difference
            reach = f"{gain.low:+.4f} … {gain.high:+.4f}"
            row = (f"{paired.a:.4f}", f"{paired.b:.4f}", f"{gain.value:+.4f}", reach, f"{paired.p_value:.4f}")
            table.add_row(name, treatment, *row)
    console.print(table)
    clusters = next(paired.difference.clusters for metrics in compared.values() for paired in metrics.values())
    note = (
        f"A {arguments.run_a}, B {arguments.run_b}; drawn and swapped by {clusters} videos (samples without one alone)"
    )
    console.print(note, markup=False, highlight=False, soft_wrap=True)

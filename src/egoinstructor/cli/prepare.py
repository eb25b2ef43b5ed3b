"""`egoinstructor prepare`: make videos ready for training, and check metadata against them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from egoinstructor.cli.options import positive
from egoinstructor.errors import InputError

if TYPE_CHECKING:
    from egoinstructor.video.folder import Progress as Report


def add(commands: Any) -> None:
    """Declare the command and its three steps."""
    parser = commands.add_parser("prepare", help="make data ready for training", description=__doc__)
    steps = parser.add_subparsers(title="steps", required=True, metavar="STEP")

    resize = steps.add_parser("resize", help="a folder of videos → the same with a shorter side of 320 pixels")
    resize.add_argument("--shorter-side", type=positive, default=320, metavar="PX")
    chunk = steps.add_parser("chunk", help="a folder of videos → pieces of 300 s, {vid}/{chunk:04d}.mp4")
    chunk.add_argument(
        "--seconds",
        type=int,
        choices=(300, 15),
        default=300,
        help="length of a piece (default: 300; 15 needs '15s' in OUT)",
    )
    for step, run in ((resize, run_resize), (chunk, run_chunk)):
        step.add_argument("source", metavar="SRC")
        step.add_argument("out", metavar="OUT")
        step.set_defaults(run=run)

    inspect = steps.add_parser("inspect", help="check metadata against the videos on disk; exits non-zero on errors")
    inspect.add_argument("--instructions", required=True, metavar="FILE", help="instructions JSON, or a JSONL")
    inspect.add_argument("--config", nargs="*", default=[], metavar="FILE", help="config JSON of each split")
    inspect.add_argument("--ego", metavar="DIR", help="folder of the ego videos")
    inspect.add_argument("--exo", metavar="DIR", help="folder of the how-to videos")
    inspect.add_argument("--use-chat", action="store_true", help="check chat_answer in place of answer")
    inspect.set_defaults(run=run_inspect)
    for step in (resize, chunk, inspect):
        step.add_argument("--workers", type=positive, metavar="N", help="videos at a time (default: one a core)")
        step.add_argument("--json", action="store_true", help="print the report as JSON")


def run_resize(arguments: argparse.Namespace) -> None:
    """Resize."""
    from egoinstructor.training.prepare import resize_folder

    options = {"shorter_side": arguments.shorter_side, "workers": arguments.workers}
    _show(_with_progress(lambda p: resize_folder(arguments.source, arguments.out, progress=p, **options)), arguments)


def run_chunk(arguments: argparse.Namespace) -> None:
    """Cut."""
    from egoinstructor.training.prepare import chunk_folder

    options = {"seconds_per_chunk": arguments.seconds, "workers": arguments.workers}
    _show(_with_progress(lambda p: chunk_folder(arguments.source, arguments.out, progress=p, **options)), arguments)


def run_inspect(arguments: argparse.Namespace) -> None:
    """Check."""
    from egoinstructor.training.inspection import inspect_metadata

    options = {
        "datapath_ego": arguments.ego,
        "datapath_exo": arguments.exo,
        "use_chat": arguments.use_chat,
        "workers": arguments.workers,
    }
    _show(
        _with_progress(lambda p: inspect_metadata(arguments.instructions, *arguments.config, progress=p, **options)),
        arguments,
    )


def _with_progress(work: Callable[[Report], Any]) -> Any:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("preparing", total=None)

        def report(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name)

        return work(report)


def _show(report: Any, arguments: argparse.Namespace) -> None:
    """Print the report; what failed makes the command fail."""
    console = Console()
    if arguments.json:
        console.print(json.dumps(report.as_dict(), ensure_ascii=False), markup=False, highlight=False, soft_wrap=True)
    else:
        console.print(report)
    if not report.ok:
        raise InputError("there were failures; the report names each.")

"""`egoinstructor narrate`: caption a whole recording, and write it as subtitles, as JSON lines, and as a page."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from egoinstructor.cli.options import (
    add_model_options,
    add_reading_options,
    check_download,
    open_named_or_published,
    seconds,
)
from egoinstructor.cli.retrieval import add_retrieval_options, check_library_given, library_options

if TYPE_CHECKING:
    from egoinstructor.narration.narrate import NarrationProgress, Report
    from egoinstructor.narration.tracks import Files

_WINDOWS = ("overlap", "cut", "start", "end", "threshold")
_CAPTIONS = ("shots", "num_frames", "num_beams", "max_new_tokens", "instruction", "batch_size", "likeliest")


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "narrate", help="caption a whole recording, as subtitles and a page", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("recording", metavar="RECORDING", help="video file, or folder of Ego4D pieces")
    parser.add_argument(
        "--out",
        metavar="PATH",
        help="a folder, or what the files' names begin with (default: the recording's name, in the working directory)",
    )
    parser.add_argument("--from", dest="start", type=seconds, default=0.0, metavar="S", help="begin here, seconds")
    parser.add_argument("--to", dest="end", type=seconds, metavar="S", help="end here, seconds")
    parser.add_argument("--overwrite", action="store_true", help="begin anew instead of going on")
    parser.add_argument("--html", action="store_true", help="write a page with the recording and its captions, too")
    parser.add_argument("--json", action="store_true", help="print one JSON object a segment, then a report")
    _add_window_options(parser)
    add_reading_options(parser, batch_size=8)
    add_retrieval_options(parser)
    add_model_options(parser, published=True)
    parser.set_defaults(run=run)


def _add_window_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("windows")
    group.add_argument("--seconds", type=seconds, metavar="S", help="length of a window (default: 5; 2 for nano)")
    group.add_argument("--overlap", type=seconds, default=0.0, metavar="S", help="of neighbouring windows (default: 0)")
    group.add_argument(
        "--cut",
        choices=("fixed", "changes"),
        default="fixed",
        help="windows of one length, or cut where the scene or the motion changes, half to twice as long",
    )
    group.add_argument("--no-merge", action="store_true", help="keep neighbours apart that say the same")
    group.add_argument(
        "--threshold", type=float, metavar="P", help="say nothing where the caption's confidence is below P"
    )


def run(arguments: argparse.Namespace) -> None:
    """Narrate, under a bar."""
    import torch

    from egoinstructor.assets import shipped
    from egoinstructor.narration.narrate import narrate
    from egoinstructor.narration.options import NarrationOptions, default_seconds
    from egoinstructor.narration.timeline import write_timeline
    from egoinstructor.narration.tracks import Files
    from egoinstructor.video.decode import probe

    check_library_given(arguments, shots=True)
    check_download(arguments)
    options = NarrationOptions(
        seconds=default_seconds(arguments.model) if arguments.seconds is None else arguments.seconds,
        merge=not arguments.no_merge,
        **{name: getattr(arguments, name) for name in _WINDOWS + _CAPTIONS},
    )
    recording = Path(arguments.recording)
    info = probe(recording)  # before a model is opened, which may take long
    if arguments.model and shipped(arguments.model):
        torch.set_num_threads(1)  # it is too small for more, and what comes next is decoded and encoded meanwhile
    captioner = open_named_or_published(arguments)
    found = library_options(arguments, captioner)
    files = Files(_prefix(arguments.out, recording))
    console = Console()

    def work(progress: Callable[[NarrationProgress], None]) -> Report:
        def show(now: NarrationProgress) -> None:
            progress(now)
            if arguments.json:
                for line in now.segments:
                    _print_json(line.as_dict(), console)

        return narrate(
            captioner,
            recording,
            files.prefix,
            options=options,
            overwrite=arguments.overwrite,
            progress=show,
            info=info,
            **found,
        )

    try:
        report = _under_a_bar(work)
        if arguments.html:
            write_timeline(files, recording)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; {files.journal} keeps what is done, and the same command (without --overwrite) goes on from there"
        ) from None
    _finish(report, files, console, arguments)


def _prefix(out: str | None, recording: Path) -> Path:
    """What the files' names begin with."""
    name = recording.name if recording.is_dir() else recording.stem
    if out is None:
        return Path(name)
    return Path(out) / name if out.endswith("/") or Path(out).is_dir() else Path(out)


def _under_a_bar(work: Callable[[Callable[[NarrationProgress], None]], Report]) -> Report:
    """A bar on standard error: the last caption, how far it is, × real time, and the time that is left."""
    from egoinstructor.narration.captions import Segment
    from egoinstructor.narration.tracks import timestamp

    columns = (
        TextColumn("{task.fields[at]}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}% {task.fields[speed]}", markup=False),
        TextColumn("{task.description}", markup=False),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, at="narrating", speed="")

        def show(now: NarrationProgress) -> None:
            captions = [line.caption for line in now.segments if isinstance(line, Segment)]
            bar.update(
                task,
                completed=now.done,
                total=now.total,
                at=f"{timestamp(now.done)[:-4]} of {timestamp(now.total)[:-4]}",
                speed="" if now.eta is None else f"× {now.speed:.1f} real time, {timestamp(now.eta)[:-4]} left",
                description=captions[-1][:60] if captions else None,
            )

        return work(show)


def _finish(report: Report, files: Files, console: Console, arguments: argparse.Namespace) -> None:
    paths = {name: str(getattr(files, name)) for name in ("srt", "vtt", "jsonl")}
    if arguments.html:
        paths["html"] = str(files.html)
    if arguments.json:
        _print_json({"report": report.as_dict() | {"files": paths}}, console)
        return
    speed = "" if report.speed is None else f"; × {report.speed:.1f} real time"
    said = (
        f"{report.windows:,} windows: {report.captions:,} captions, {report.silent:,} silent, {report.merged:,} merged, "
        f"{report.skipped:,} skipped{speed}"
    )
    _print(said, console)
    if report.skipped:
        _print(f"What could not be read is in {files.jsonl}, with the reasons. It is not tried again.", console)
    _print(f"Written: {', '.join(paths.values())}", console)


def _print_json(value: dict[str, Any], console: Console) -> None:
    _print(json.dumps(value, ensure_ascii=False), console)


def _print(text: str, console: Console) -> None:
    """As it is, but for what a file's name has that isn't UTF-8."""
    shown = text.encode("utf-8", errors="backslashreplace").decode("utf-8")
    console.print(shown, markup=False, highlight=False, soft_wrap=True)

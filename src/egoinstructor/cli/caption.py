"""`egoinstructor caption`: caption one clip, or every sample of an inference file."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from egoinstructor.cli.options import add_model_options, add_reading_options, open_named_or_published, seconds
from egoinstructor.cli.retrieval import add_retrieval_options, check_library_given, library_options
from egoinstructor.data.inference_file import read_inference_file
from egoinstructor.errors import InputError
from egoinstructor.records import Caption, Clip, Reference


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "caption", help="caption an egocentric clip with reference clips", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("video", nargs="?", metavar="EGO", help="video file, or folder of Ego4D pieces")
    parser.add_argument("--start", type=seconds, metavar="S", help="start of the clip, seconds")
    parser.add_argument("--end", type=seconds, metavar="S", help="end of the clip, seconds")
    parser.add_argument(
        "--reference",
        nargs=2,
        action="append",
        default=[],
        metavar=("CLIP", "NARRATION"),
        help="a how-to clip and what is said in it; repeat, most relevant first",
    )
    parser.add_argument(
        "--testdata", metavar="FILE", help="instead of EGO: an inference JSON; with --library, its ego clips"
    )
    add_retrieval_options(parser)
    add_model_options(parser, published=True)
    add_reading_options(
        parser, each="clip", shots="references to read (default: all, 4 of a library; 0: none)", batch_size=1
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a caption, one a line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Caption, printing each as soon as it is there."""
    queries = _queries(arguments)
    check_library_given(arguments)
    captioner = open_named_or_published(arguments)
    found = library_options(arguments, captioner)
    console = Console()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("captioning", total=len(queries))
        for first in range(0, len(queries), arguments.batch_size):
            batch = queries[first : first + arguments.batch_size]
            captions = captioner.caption_batch(
                batch,
                shots=arguments.shots,
                num_frames=arguments.num_frames,
                instruction=arguments.instruction,
                likeliest=arguments.likeliest,
                num_beams=arguments.num_beams,
                max_new_tokens=arguments.max_new_tokens,
                **found,
            )
            for caption in captions:
                show(caption, console, as_json=arguments.json)
            progress.advance(task, len(batch))


def show(caption: Caption, console: Console, *, as_json: bool) -> None:
    """One caption with the references it was written from."""
    if as_json:
        console.print(json.dumps(caption.as_dict(), ensure_ascii=False), markup=False, highlight=False, soft_wrap=True)
        return

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    say(f"[bold]{escape(caption.text)}[/bold]  [dim]{escape(repr(caption.clip))}[/dim]")
    for number, reference in enumerate(caption.references, start=1):
        score = "" if reference.score is None else f"{reference.score:.3f} "
        say(f"  {number}. {escape(reference.narration)}  [dim]{score}{escape(repr(reference.clip))}[/dim]")
    for dropped in caption.dropped:
        say(f"  [yellow]not read[/yellow] ({escape(dropped.reason)}): {escape(dropped.narration)}")


def _queries(arguments: argparse.Namespace) -> list[tuple[Clip, list[Reference]]]:
    if arguments.testdata:
        if arguments.video or arguments.reference or arguments.start is not None or arguments.end is not None:
            raise InputError("--testdata brings its own clips; leave out EGO, --start, --end and --reference.")
        samples = read_inference_file(arguments.testdata)
        return [(clip, []) for clip, _ in samples] if arguments.library else samples
    if not arguments.video:
        raise InputError("no video was given; name one, or an inference file with --testdata.")
    references = [Reference(video, narration) for video, narration in arguments.reference]
    return [(Clip(arguments.video, arguments.start, arguments.end), references)]

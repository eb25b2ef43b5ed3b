"""`egoinstructor library`: make, fill, search and look after a library of how-to clips."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from egoinstructor.cli.options import (
    add_model_options,
    open_captioner,
    positive,
    quiet_transformers,
    seconds,
    torch_dtype,
)
from egoinstructor.cli.progress import with_progress
from egoinstructor.cli.retrieval import check_sources, open_library
from egoinstructor.errors import InputError

if TYPE_CHECKING:
    from egoinstructor.library.library import ExoLibrary
    from egoinstructor.library.records import Hit
    from egoinstructor.retriever.interface import Retriever


def add(commands: Any) -> None:
    """Declare the command and its actions."""
    parser = commands.add_parser("library", help="a library of how-to clips: make, fill, search", description=__doc__)
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")

    def action(name: str, run: Any, help: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = actions.add_parser(name, help=help, description=help, allow_abbrev=False)
        made.add_argument("library", metavar="DIR", help="the library: a folder, or a URI of object storage")
        made.set_defaults(run=run)
        return made

    create = action("create", run_create, "make an empty library")
    create.add_argument("--retriever", required=True, metavar="R", help="model folder or Hub id that embeds its clips")
    create.add_argument("--num-frames", type=positive, metavar="F", help="frames a clip (default: the retriever's)")
    add_model_options(create)  # whose CLIP the retriever is: it then looks through the model's eyes

    fill = action("ingest", run_ingest, "bring a folder of videos, a table, or HowTo100M's JSON into a library")
    _add_ingest(fill)

    search = action("search", run_search, "find the clips that are nearest to an ego clip or a text")
    _add_search(search)

    sources = action("sources", run_sources, "where the videos of each collection lie")
    sources.add_argument("--root", nargs=2, metavar=("NAME", "FOLDER"), help="say where a collection's videos lie now")

    action("stats", run_stats, "what is in a library, and how large it is")
    verify = action("verify", run_verify, "look at every row; exits non-zero on problems")
    verify.add_argument("--files", action="store_true", help="also read every video, and compare it with its digest")

    delete = action("delete", run_delete, "remove clips, and what is kept of them")
    what = delete.add_mutually_exclusive_group(required=True)
    what.add_argument("--source", metavar="NAME", help="all clips of a collection")
    what.add_argument("--video", metavar="PATH", help="all clips of a video, as the library names it")
    what.add_argument("--id", nargs="+", metavar="ID", help="these clips")

    export = action("export", run_export, "write the clips to a file: .csv, .jsonl, .parquet or .safetensors")
    export.add_argument("out", metavar="FILE")
    for with_json in (fill, search, sources, actions.choices["stats"], verify):
        with_json.add_argument("--json", action="store_true", help="print JSON")


def _add_ingest(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="folder of videos; .csv, .tsv, .jsonl; HowTo100M's .json")
    parser.add_argument("--name", help="name of the collection (default: the folder's or file's)")
    parser.add_argument("--root", metavar="FOLDER", help="where the videos of a table lie (default: beside it)")
    parser.add_argument("--allow-outside", action="store_true", help="let videos and links lie outside the root")
    parser.add_argument("--language", metavar="L", help="of the subtitles to read, such as en")
    parser.add_argument(
        "--shortest", type=seconds, default=2.0, metavar="S", help="join cues below this (default: 2 s)"
    )
    parser.add_argument("--longest", type=seconds, default=8.0, metavar="S", help="but not above this (default: 8 s)")
    parser.add_argument(
        "--window", type=seconds, default=4.0, metavar="S", help="clips of silent videos (default: 4 s)"
    )
    parser.add_argument("--replace", action="store_true", help="remove clips that changed files no longer name")
    parser.add_argument("--batch-size", type=positive, default=256, metavar="N", help="clips a commit (default: 256)")
    parser.add_argument(
        "--workers", type=positive, default=2, metavar="N", help="files read, and clips decoded, at a time (default: 2)"
    )
    parser.add_argument("--retriever", metavar="R", help="where the library's retriever lies now, if it has moved")
    parser.add_argument("--latents", action="store_true", help="also keep what --model makes of each clip")
    add_model_options(parser)


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("video", nargs="?", metavar="EGO", help="video file, or folder of Ego4D pieces")
    parser.add_argument("--start", type=seconds, metavar="S", help="start of the clip, seconds")
    parser.add_argument("--end", type=seconds, metavar="S", help="end of the clip, seconds")
    parser.add_argument("--text", help="search by text, alone or with EGO")
    parser.add_argument("-k", type=positive, default=10, metavar="K", help="how many (default: 10)")
    parser.add_argument(
        "--narration-weight", type=float, default=0.0, metavar="W", help="0: by what is seen, 1: by what is said"
    )
    parser.add_argument("--source", action="append", default=[], metavar="NAME", help="only of this collection; repeat")
    parser.add_argument("--min-seconds", type=seconds, metavar="S", help="no shorter clips")
    parser.add_argument("--max-seconds", type=seconds, metavar="S", help="no longer clips")
    parser.add_argument("--contains", metavar="WORDS", help="only clips in whose narration this stands")
    parser.add_argument("--retriever", metavar="R", help="where the library's retriever lies now, if it has moved")
    _add_device(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps; the first accelerator if not given")


def run_create(arguments: argparse.Namespace) -> None:
    """Create."""
    from egoinstructor.library.library import ExoLibrary

    name = arguments.retriever
    folder = Path(name)
    if not _model_named(arguments):
        _refuse_idle(captioner=arguments.captioner, tokenizer=arguments.tokenizer, int8=arguments.int8)
        dtype = torch_dtype(arguments.dtype)
        retriever = _open_retriever(name, arguments, num_frames=arguments.num_frames, dtype=dtype)
    elif arguments.num_frames is None:
        retriever = open_captioner(arguments).open_retriever(name)
    else:
        raise InputError(
            f"--num-frames {arguments.num_frames} with a model: the retriever then has the model's frames."
        )
    made = ExoLibrary.create(
        arguments.library, retriever, retriever_name=str(folder.absolute()) if folder.exists() else name
    )
    Console().print(f"{made.uri} is ready; fill it with 'egoinstructor library ingest'", markup=False, highlight=False)


def run_ingest(arguments: argparse.Namespace) -> None:
    """Ingest."""
    from egoinstructor.library.ingest import ingest
    from egoinstructor.library.merging import Merging
    from egoinstructor.library.sources.opening import open_source

    if _model_named(arguments) != arguments.latents:
        raise InputError("--latents and a model belong together: name the captioner that is to read them with --model.")
    if not arguments.latents:
        number_format = "" if arguments.dtype == "auto" else arguments.dtype
        _refuse_idle(
            captioner=arguments.captioner, tokenizer=arguments.tokenizer, int8=arguments.int8, dtype=number_format
        )
    source = open_source(
        arguments.source,
        name=arguments.name,
        root=arguments.root,
        language=arguments.language,
        merging=Merging(arguments.shortest, arguments.longest),
        window=arguments.window,
        allow_outside=arguments.allow_outside,
    )
    library = open_library(arguments)
    latents = open_captioner(arguments) if arguments.latents else None
    if latents is not None:
        latents.encoder.threads = arguments.workers
    if latents is not None and library.retriever is not None:
        library.retriever.look_through(latents.encoder)  # where both look through the same CLIP, one pass serves both
    try:
        report = with_progress(
            lambda progress: ingest(
                library,
                source,
                latents=latents,
                batch=arguments.batch_size,
                workers=arguments.workers,
                replace=arguments.replace,
                progress=progress,
            ),
            "looking at the videos",
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; {library.uri} keeps its {len(library):,} clips, and the same command goes on from there"
        ) from None
    _show(report, arguments)
    if not report.ok:
        raise InputError("there were failures; the report names each. The same command tries them again.")


def run_search(arguments: argparse.Namespace) -> None:
    """Search."""
    from egoinstructor.library.records import Filter
    from egoinstructor.records import Clip

    if not arguments.video and not arguments.text:
        raise InputError("nothing to search for was given; name an ego clip, or a text with --text.")
    if not arguments.video and (arguments.start is not None or arguments.end is not None):
        raise InputError("--start and --end belong to an ego clip; name one, or leave them out.")
    clip = Clip(arguments.video, arguments.start, arguments.end) if arguments.video else None
    where = Filter(tuple(arguments.source), arguments.min_seconds, arguments.max_seconds, arguments.contains)
    library = open_library(arguments)
    check_sources(library, arguments.source)
    hits = library.search(
        clip, text=arguments.text, k=arguments.k, narration_weight=arguments.narration_weight, where=where
    )
    console = Console()
    if arguments.json:
        for hit in hits:
            _print_json(hit.as_dict() | {"path": str(library.path(hit.entry))}, console)
    else:
        console.print(_hits(hits, library) if hits else "no clips found")


def _hits(hits: list[Hit], library: ExoLibrary) -> Table:
    table = Table("", "score", "clip", "what is said")
    roots = library.sources()
    for number, hit in enumerate(hits, 1):
        entry = hit.entry
        gone = "" if (roots[entry.source] / entry.video).exists() else " [yellow](file missing)[/yellow]"
        clip = f"{escape(entry.video)}{gone}\n[dim]{escape(entry.source)}, {entry.start:.1f}–{entry.end:.1f} s[/dim]"
        table.add_row(str(number), f"{hit.score:.3f}", clip, escape(entry.text))
    return table


def run_sources(arguments: argparse.Namespace) -> None:
    """Name the roots, or change one."""
    library = _open_bare(arguments)
    if arguments.root:
        name, folder = arguments.root
        check_sources(library, [name])
        if not Path(folder).is_dir():
            raise InputError(f"{folder} is not a folder. Give the folder that the videos lie in now.")
        library.add_source(name, folder)
    console = Console()
    if arguments.json:
        _print_json({name: str(root) for name, root in library.sources().items()}, console)
        return
    table = Table("collection", "videos lie in")
    for name, root in library.sources().items():
        table.add_row(escape(name), escape(str(root)) + ("" if root.is_dir() else " [yellow](missing)[/yellow]"))
    console.print(table)


def run_stats(arguments: argparse.Namespace) -> None:
    """Tell."""
    _show(_open_bare(arguments).stats(), arguments)


def run_verify(arguments: argparse.Namespace) -> None:
    """Check."""
    report = _open_bare(arguments).verify(files=arguments.files)
    _show(report, arguments)
    if not report.ok:
        raise InputError("there are problems; the report names them.")


def run_delete(arguments: argparse.Namespace) -> None:
    """Remove."""
    library = _open_bare(arguments)
    gone = library.delete(ids=arguments.id, source=arguments.source, video=arguments.video)
    if not gone:
        raise InputError(f"library {library.uri} has no such clips; 'egoinstructor library export' lists what it has.")
    Console().print(f"{gone:,} clips removed", highlight=False)


def run_export(arguments: argparse.Namespace) -> None:
    """Write."""
    library = _open_bare(arguments)
    library.export(arguments.out)
    Console().print(f"{len(library):,} clips in {arguments.out}", markup=False, highlight=False)


def _model_named(arguments: argparse.Namespace) -> bool:
    return bool(arguments.model or arguments.base)


def _refuse_idle(**options: str | bool | None) -> None:
    """Refuse options of a model where none is named, since nothing would come of them.

    Raises:
        InputError: one was given.
    """
    if idle := [name for name, given in options.items() if given]:
        raise InputError(
            f"--{idle[0]} was given and no model that it could be for. Name one with --model or --base, or leave it out."
        )


def _open_bare(arguments: argparse.Namespace) -> ExoLibrary:
    """A library without its retriever, for what embeds nothing."""
    from egoinstructor.library.library import ExoLibrary

    return ExoLibrary.open(arguments.library)


def _open_retriever(name: str, arguments: argparse.Namespace, **options: Any) -> Retriever:
    from egoinstructor.retriever.opening import open_retriever

    quiet_transformers()
    return open_retriever(name, device=arguments.device, **options)


def _show(report: Any, arguments: argparse.Namespace) -> None:
    console = Console()
    if arguments.json:
        _print_json(report.as_dict(), console)
    else:
        console.print(report, soft_wrap=True)  # a line of the report stays one


def _print_json(value: dict[str, Any], console: Console) -> None:
    console.print(json.dumps(value, ensure_ascii=False), markup=False, highlight=False, soft_wrap=True)

"""`egoinstructor demo`: ego clips captioned with and without retrieval, as a page and a contact sheet. Needs no network."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from egoinstructor.cli.options import quiet_transformers
from egoinstructor.cli.retrieval import open_library
from egoinstructor.errors import InputError, require_extra

if TYPE_CHECKING:
    from egoinstructor.demo.captions import Answer, Count
    from egoinstructor.demo.folder import DemoFolder

OUT = "egoinstructor-demo"


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "demo", help="see it work, on clips that come with it", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("video", nargs="*", metavar="VIDEO", help="instead of the clips that come with it: your own")
    parser.add_argument("--out", default=OUT, metavar="DIR", help=f"where to write (default: {OUT})")
    parser.add_argument("--library", metavar="DIR", help="instead of the library that comes with it: your own")
    parser.add_argument("--retriever", metavar="R", help="where your library's retriever lies now, if it has moved")
    parser.add_argument("--json", action="store_true", help="print a JSON object a clip, then one with the counts")
    parser.set_defaults(run=run, device="cpu")  # it is small: a GPU would take longer to start


def run(arguments: argparse.Namespace) -> None:
    """Caption, print, write."""
    require_extra("PIL", "demo", "The demo's contact sheet")
    require_extra("lancedb", "demo", "The demo's library")
    import torch

    from egoinstructor.demo.captions import counts
    from egoinstructor.demo.folder import DemoFolder
    from egoinstructor.demo.queries import own_queries, shipped_queries
    from egoinstructor.demo.run import NOTE, OWN, write_demo
    from egoinstructor.demo.shipped import shipped_captions

    if arguments.retriever and not arguments.library:
        raise InputError("--retriever is of your own library; name that with --library.")
    folder = DemoFolder(arguments.out)
    for own in (*arguments.video, *([arguments.library] if arguments.library else [])):
        folder.check_outside(own)
    torch.set_num_threads(1)  # the model is too small for two, which on busy cores only wait for one another
    quiet_transformers()
    queries = own_queries(arguments.video) or shipped_queries()
    note = OWN if arguments.video or arguments.library else NOTE
    Console(stderr=True).print(note, highlight=False, markup=False)
    opened = partial(open_library, arguments) if arguments.library else None
    console = Console()
    done = []
    for answer in shipped_captions(folder, queries, opened):
        done.append(answer)
        if arguments.json:
            _print_json(answer.as_dict(), console)
        else:
            _show(answer, len(done), len(queries), console)
    write_demo(folder, done, note)
    _finish(counts(done), folder, console, as_json=arguments.json)


def _show(answer: Answer, number: int, of: int, console: Console) -> None:
    query = answer.query

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    bucket = f"  [dim]{escape(query.bucket)}[/dim]" if query.bucket else ""
    say(f"[bold]{number}/{of}  {escape(query.name)}[/bold]{bucket}")
    for reference in answer.found.references:
        score = "" if reference.score is None else f"{reference.score:.2f}  "
        say(
            f"  [dim]reference {score}[/dim]{escape(reference.narration)}  [dim]{escape(_name(reference.clip.name))}[/dim]"
        )
    for label, caption in (("with retrieval", answer.found), ("without", answer.alone)):
        right = answer.right(caption)
        sign = "" if right is None else "  [green]✓[/green]" if right else "  [red]✗[/red]"
        say(f"  [dim]{label:<15}[/dim]{escape(caption.text)}{sign}")
    if query.truth:
        say(f"  [dim]{'ground truth':<15}[/dim]{escape(query.truth)}")


def _name(path: str) -> str:
    return "/".join(Path(path).parts[-2:])


def _finish(rows: list[Count], folder: DemoFolder, console: Console, *, as_json: bool) -> None:
    if as_json:
        written = {"page": str(folder.page), "contact_sheet": str(folder.sheet)}
        _print_json({"counts": [row.as_dict() for row in rows]} | written, console)
        return
    console.print()
    for row in rows:
        console.print(
            f"{row.bucket}: exactly right {row.found} of {row.clips} with retrieval, {row.alone} without",
            highlight=False,
            markup=False,
        )
    console.print(f"Written: {folder.page} and {folder.sheet}", highlight=False, markup=False, soft_wrap=True)


def _print_json(value: dict[str, Any], console: Console) -> None:
    console.print(json.dumps(value, ensure_ascii=False), markup=False, highlight=False, soft_wrap=True)

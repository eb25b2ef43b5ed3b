"""`egoinstructor serve`: the web page and the HTTP API, on this machine."""

from __future__ import annotations

import argparse
import logging
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from egoinstructor import assets
from egoinstructor.cli.options import add_model_options, open_named_or_published, positive
from egoinstructor.cli.retrieval import add_retrieval_options, check_library_given, open_library, retrieval
from egoinstructor.errors import InputError, require_extra

if TYPE_CHECKING:
    from egoinstructor.web.limits import Limits

HOST, PORT = "127.0.0.1", 8000


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "serve", help="serve a web page and an HTTP API on this machine", description=__doc__, allow_abbrev=False
    )
    add_model_options(parser, published=True)
    add_retrieval_options(parser)
    parser.add_argument(
        "--library-writable", metavar="DIR", help="let users add videos to the library; their files go here"
    )
    group = parser.add_argument_group("server")
    group.add_argument("--host", default=HOST, help=f"address to listen on (default: {HOST}, this machine alone)")
    group.add_argument("--port", type=int, default=PORT, metavar="P", help=f"default: {PORT}; 0: any that is free")
    group.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="name it may be called by; repeat"
    )
    group.add_argument(
        "--root-path",
        default="",
        metavar="PATH",
        help="path under which a reverse proxy shows the server, such as /demo",
    )
    group.add_argument("--token-file", metavar="FILE", help="ask for the token in this file's first line")
    group.add_argument("--insecure", action="store_true", help="listen to other machines without a token")
    group.add_argument("--no-page", action="store_true", help="the HTTP API alone")
    group.add_argument(
        "--max-batch", type=positive, default=8, metavar="B", help="clips captioned at once (default: 8)"
    )
    group.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=N",
        help="another limit, as docs/serve.md lists them; repeat",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Open everything, then serve."""
    for module in ("fastapi", "uvicorn", "prometheus_client", *(() if arguments.no_page else ("gradio",))):
        require_extra(module, "web", "The server")
    import torch

    from egoinstructor.web.server import bind, build_app, check_open, check_root_path, read_token, serve, url_of
    from egoinstructor.web.service import Service

    logging.getLogger("httpx").setLevel(logging.WARNING)
    token = read_token(Path(arguments.token_file)) if arguments.token_file else None
    check_open(arguments.host, token, arguments.insecure)
    root_path = check_root_path(arguments.root_path)
    limits = read_limits(arguments.limit)
    with ExitStack() as opened:
        listening = opened.enter_context(bind(arguments.host, arguments.port))
        if arguments.model == assets.NANO:
            torch.set_num_threads(1)  # the model is too small for two, which on busy cores only wait for one another
            if not arguments.library:
                arguments.library = _shipped_library(Path(opened.enter_context(tempfile.TemporaryDirectory())))
        check_library_given(arguments)
        if arguments.library_writable and not arguments.library:
            raise InputError("--library-writable is of a library; name one with --library.")
        captioner = open_named_or_published(arguments)
        library = open_library(arguments, captioner) if arguments.library else None
        service = Service(
            captioner,
            library,
            retrieval=None if library is None else retrieval(arguments, library),
            limits=limits,
            model_name=arguments.model or arguments.base or "published",
            max_batch=arguments.max_batch,
            writable=Path(arguments.library_writable) if arguments.library_writable else None,
        )
        opened.callback(service.close)
        hosts = [arguments.host, *arguments.allow_host]
        app = build_app(service, hosts=hosts, token=token, page=not arguments.no_page, root_path=root_path)
        console = Console()
        what = "the API" if arguments.no_page else "the page and the API"

        def ready() -> None:
            console.print(
                f"{what}: {url_of(listening)}   (Ctrl-C stops)", highlight=False, markup=False, soft_wrap=True
            )

        serve(app, service, listening, ready)
        console.print("stopped; uploads are removed", highlight=False)


def read_limits(given: list[str]) -> Limits:
    """The limits, with some of them as they were given.

    Raises:
        InputError: no such limit, or no number that it can have.
    """
    from egoinstructor.web.limits import Limits

    usual = Limits()
    kinds = {field.name: type(getattr(usual, field.name)) for field in fields(Limits)}
    values: dict[str, Any] = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in kinds:
            raise InputError(f"--limit {text}: there is no limit {name!r}; there are {', '.join(kinds)}.")
        try:
            values[name] = kinds[name](number)
        except ValueError as error:
            raise InputError(f"--limit {text}: give a number, as in {name}={getattr(usual, name)}.") from error
    return Limits(**values)


def _shipped_library(folder: Path) -> str:
    """A copy of the demo's library, which may lie where nothing can be written, with its videos where they lie."""
    from egoinstructor.library.library import ExoLibrary

    target = folder / "library"
    shutil.copytree(assets.demo_files() / "library", target, copy_function=shutil.copyfile)
    library = ExoLibrary.open(target)
    for name in library.sources():
        library.add_source(name, assets.demo_files())
    return str(target)

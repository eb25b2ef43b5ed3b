"""Options of the commands that look for references in a library, and what they build."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from egoinstructor.cli.options import positive, quiet_transformers
from egoinstructor.errors import InputError

if TYPE_CHECKING:
    from egoinstructor.captioners.egoinstructor import Captioner
    from egoinstructor.library.library import ExoLibrary
    from egoinstructor.library.references import Retrieval

NEEDS_LIBRARY = ("retriever", "narration_weight", "min_score", "per_video", "near_duplicate", "source")


def add_retrieval_options(parser: argparse.ArgumentParser) -> None:
    """How to look for references."""
    group = parser.add_argument_group("references from a library")
    group.add_argument(
        "--library", metavar="DIR", help="made by 'egoinstructor library': the references are found in it"
    )
    group.add_argument("--retriever", metavar="R", help="where the library's retriever lies now, if it has moved")
    group.add_argument(
        "--narration-weight", type=float, metavar="W", help="0: by what is seen (default), 1: by what is said"
    )
    group.add_argument("--min-score", type=float, metavar="S", help="use no references below this similarity")
    group.add_argument("--per-video", type=positive, metavar="N", help="at most so many of one video (default: 1)")
    group.add_argument(
        "--near-duplicate", type=float, metavar="COS", help="from which cosine clips are copies (default: 0.98)"
    )
    group.add_argument("--source", action="append", metavar="NAME", help="only of this collection; repeat")


def open_library(arguments: argparse.Namespace, captioner: Captioner | None = None) -> ExoLibrary:
    """The library with the retriever that made it, which shares the captioner's vision passes where it can.

    Raises:
        InputError: a library that doesn't say where its retriever is.
    """
    from egoinstructor.library.library import ExoLibrary
    from egoinstructor.retriever.opening import open_retriever

    quiet_transformers()
    library = ExoLibrary.open(arguments.library)
    name = arguments.retriever or library.retriever_name
    if not name:
        raise InputError(f"library {library.uri} doesn't say where its retriever lies; name it with --retriever.")
    retriever = open_retriever(name, device=arguments.device, **library.retriever_options)
    if captioner is not None:
        retriever.look_through(captioner.encoder)
    return ExoLibrary.open(arguments.library, retriever)


def check_sources(library: ExoLibrary, names: Sequence[str]) -> None:
    """Refuse a collection that a library doesn't have.

    Raises:
        InputError: naming it, and those that there are.
    """
    sources = library.sources()
    if strange := sorted(set(names) - sources.keys()):
        raise InputError(f"source {strange[0]!r}: the library has {', '.join(sources) or 'none'}.")


def retrieval(arguments: argparse.Namespace, library: ExoLibrary) -> Retrieval:
    """How to look for references in a library, as the options say.

    Raises:
        InputError: a value out of its range, or a collection that isn't there.
    """
    check_sources(library, arguments.source or ())
    from egoinstructor.library.records import Filter
    from egoinstructor.library.references import Retrieval
    from egoinstructor.library.selection import SelectionRules

    rules = {name: getattr(arguments, name) for name in ("min_score", "per_video", "near_duplicate")}
    return Retrieval(
        narration_weight=arguments.narration_weight or 0.0,
        where=Filter(sources=tuple(arguments.source or ())),
        rules=SelectionRules(**{name: value for name, value in rules.items() if value is not None}),
    )


def library_options(arguments: argparse.Namespace, captioner: Captioner) -> dict[str, Any]:
    """What a captioner is told of the library that the options name; nothing where they name none.

    Raises:
        InputError: as `open_library` and `retrieval`.
    """
    if not arguments.library:
        return {}
    library = open_library(arguments, captioner)
    return {"library": library, "retrieval": retrieval(arguments, library)}


def check_library_given(arguments: argparse.Namespace, *, shots: bool = False) -> None:
    """Refuse options that mean nothing without a library.

    Args:
        arguments: of a command.
        shots: whether `--shots` is one of them: references can come from nowhere else.

    Raises:
        InputError: naming the first.
    """
    if arguments.library:
        return
    if given := [name for name in NEEDS_LIBRARY if getattr(arguments, name) is not None]:
        raise InputError(f"--{given[0].replace('_', '-')} is of references from a library; name one with --library.")
    if shots and arguments.shots:
        raise InputError(f"--shots {arguments.shots} asks for references; name a --library that has them.")

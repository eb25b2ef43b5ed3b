"""The `egoinstructor` command: one short file per subcommand, no logic here or there.

What takes time to import is imported where Ctrl-C is waited for: it ends every command with one line, at its start too.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from egoinstructor import __version__
from egoinstructor.errors import EgoInstructorError

logger = logging.getLogger("egoinstructor")

USAGE_ERROR = 2
INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    from egoinstructor.cli import (
        caption,
        compare,
        convert,
        demo,
        evaluate,
        info,
        library,
        narrate,
        prepare,
        score,
        serve,
        simulate,
        stream,
        train,
    )

    parser = argparse.ArgumentParser(
        prog="egoinstructor",
        description="Caption egocentric video with the help of how-to clips.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"egoinstructor {__version__}")
    parser.add_argument("--verbose", action="store_true", help="say more on the way")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (
        demo,
        caption,
        narrate,
        stream,
        serve,
        library,
        prepare,
        train,
        evaluate,
        score,
        compare,
        simulate,
        convert,
        info,
    ):
        command.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 when done, 2 when something that was given can't be used, 130 when interrupted.
    """
    try:
        parser = build_parser()
    except KeyboardInterrupt as stop:
        return _interrupted(stop)
    arguments, more = parser.parse_known_args(argv)
    if more and not hasattr(arguments, "overrides"):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    arguments.overrides = more
    return run(arguments.run, arguments, verbose=arguments.verbose)


def run(command: object, arguments: argparse.Namespace, *, verbose: bool = False) -> int:
    """Run a command's function; turn what a user can mend into one message and an exit code."""
    try:
        set_up_logging(verbose)
        assert callable(command)
        command(arguments)
    except EgoInstructorError as error:
        logger.error("%s", error)
        return USAGE_ERROR
    except KeyboardInterrupt as stop:
        return _interrupted(stop)
    return 0


def _interrupted(stop: KeyboardInterrupt) -> int:
    logger.error("%s", str(stop) or "interrupted; what was printed before is complete")
    return INTERRUPTED


def set_up_logging(verbose: bool) -> None:
    """Messages and progress go to standard error, so that standard output holds results alone."""
    from rich.console import Console
    from rich.logging import RichHandler

    handler = RichHandler(console=Console(stderr=True), show_time=False, show_path=False, rich_tracebacks=verbose)
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(message)s", handlers=[handler], force=True
    )

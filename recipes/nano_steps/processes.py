"""Training in a process of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence


def flags(options: Mapping[str, object]) -> list[str]:
    """Options as a command line has them: `--name value` each."""
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


def run_to_end(command: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Run a command until it ends by itself.

    Ctrl-C reaches the command too, which then saves what it has: it is waited for, not killed.

    Args:
        command: the program and its arguments.
        environment: variables to set beside those that are set.

    Returns:
        Its exit status.

    Raises:
        KeyboardInterrupt: Ctrl-C, once the command has ended.
    """
    child = subprocess.Popen(command, env=os.environ | dict(environment or {}))
    stopped = False
    while True:
        try:
            status = child.wait()
        except KeyboardInterrupt:
            stopped = True
            continue
        if stopped:
            raise KeyboardInterrupt
        return status

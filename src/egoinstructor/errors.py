"""The errors a user can meet: one small family.

Every message says three things: the value that was given, what was allowed, what to do. The command line turns any
`EgoInstructorError` into that message and exit code 2; everything else is a bug and keeps its traceback.
"""

from __future__ import annotations

from importlib.util import find_spec


class EgoInstructorError(Exception):
    """What all our errors are."""


class InputError(EgoInstructorError, ValueError):
    """A value, a file or a combination of options that can't be used as it is."""


class VideoError(InputError):
    """A video that can't be opened, decoded, or that has no frames where some were asked for."""


class CheckpointError(InputError):
    """Weights, a configuration or a tokenizer that can't be read or that don't fit each other."""


class MissingExtraError(EgoInstructorError, ImportError):
    """A feature whose optional dependencies are not installed."""


def require_extra(module: str, extra: str, feature: str) -> None:
    """Check that an optional dependency is there, without importing it.

    Args:
        module: the top-level module that the feature imports.
        extra: the extra of ours that installs it.
        feature: what needs it, as the message names it.

    Raises:
        MissingExtraError: with the `pip install` line.
    """
    if find_spec(module) is None:
        raise MissingExtraError(
            f"{feature} needs the package '{module}', which is not installed. Run: pip install 'egoinstructor[{extra}]'"
        )

"""Repeat a commit that other writers of the same table got ahead of.

Lance commits optimistically: of two writers the later one finds its version taken, and merges anew. Beyond some eight
writers at a time the attempts of one commit run out; nothing was written then, and the commit can be made again.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger(__name__)

RETRY_SECONDS = 600.0
"""How long a commit is repeated before it is given up."""

LONGEST_WAIT = 20.0
"""Seconds between two attempts, at most."""

_SIGNS = ("too many concurrent writers", "commit conflict", "preempted by concurrent transaction", "retry_timeout")

Result = TypeVar("Result")


class ConflictError(RuntimeError):
    """Other writers were ahead at every attempt.

    Args:
        attempts: number of attempts.
        seconds: that they took.
    """

    def __init__(self, attempts: int, seconds: float) -> None:
        super().__init__(f"{attempts} attempts in {seconds:.0f} s")
        self.attempts, self.seconds = attempts, seconds


def is_conflict(error: Exception) -> bool:
    """Check if an error of Lance is a commit conflict: other writers were ahead, and nothing was written."""
    said = str(error).lower()
    return any(sign in said for sign in _SIGNS)


def retry_conflicts(
    commit: Callable[[], Result],
    *,
    seconds: float = RETRY_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    draw: Callable[[float, float], float] | None = None,
) -> Result:
    """Commit, again and again while other writers are ahead, after random waits that double up to `LONGEST_WAIT`.

    Args:
        commit: writes all or nothing.
        seconds: how long to repeat it.
        clock: seconds, never falling.
        sleep: waits so many seconds.
        draw: a random number between two; None for the operating system's, which no two processes share.

    Returns:
        What `commit` returns.

    Raises:
        ConflictError: others were ahead for so long. Other errors of `commit` are raised as they are.
    """
    draw = draw or random.SystemRandom().uniform
    began, attempts, longest = clock(), 0, 0.25
    while True:
        try:
            return commit()
        except (OSError, RuntimeError, ValueError) as error:
            if not is_conflict(error):
                raise
            attempts += 1
            passed = clock() - began
            if passed >= seconds:
                raise ConflictError(attempts, passed) from error
            wait = draw(0, longest)
            logger.info("other processes write to this table; attempt %d in %.1f s", attempts + 1, wait)
            sleep(wait)
            longest = min(2 * longest, LONGEST_WAIT)

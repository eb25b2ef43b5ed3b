"""Admission control: a number of requests at once, each with a time limit, none during shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

from egoinstructor.errors import EgoInstructorError
from egoinstructor.web.errors import Busy, ServiceError, TimedOut, Unavailable, as_service_error
from egoinstructor.web.limits import Limits


class Admission:
    """Counts requests; for one event loop.

    Args:
        limits: how many, and for how long.
        retry_after: seconds after which so many requests are done.
        paths: what to call paths of this machine, where an error names one.
    """

    def __init__(self, limits: Limits, retry_after: Callable[[int], float], paths: Mapping[str, str]) -> None:
        self._limits, self._retry_after, self._paths = limits, retry_after, paths
        self.present = 0
        self.closed = False

    def check_open(self) -> None:
        """Refuse everything while the server goes down.

        Raises:
            Unavailable: it does.
        """
        if self.closed:
            raise Unavailable("the server is going down. Try again when it is back.")

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the requests that are present.

        Raises:
            Busy: there is none.
            Unavailable: the server goes down.
        """
        self.check_open()
        if self.present >= self._limits.queue:
            raise Busy(
                f"{self.present} requests are at work or wait, which is the limit. Try again later.",
                retry_after=self._retry_after(self.present),
            )
        self.present += 1
        try:
            yield
        finally:
            self.present -= 1

    @asynccontextmanager
    async def request(self) -> AsyncIterator[AsyncExitStack]:
        """A request from its arrival to its answer; what it holds is let go of at the end.

        Raises:
            ServiceError: whatever goes wrong.
        """
        with self.told(), self.place():
            async with asyncio.timeout(self._limits.request_seconds), AsyncExitStack() as held:
                yield held

    @contextmanager
    def told(self) -> Iterator[None]:
        """Every error that is the user's as one to be told, without paths of this machine.

        Raises:
            ServiceError: whatever goes wrong, but for our own faults.
        """
        try:
            yield
        except ServiceError:
            raise
        except TimeoutError as error:
            raise TimedOut(
                f"no answer within {self._limits.request_seconds:g} s (limit request_seconds). Try again later, or ask "
                "for less: a shorter segment, fewer references, fewer beams."
            ) from error
        except EgoInstructorError as error:
            told = as_service_error(error)
            raise type(told)(self.without_paths(told.message), code=told.code) from error

    def without_paths(self, message: str) -> str:
        """A message in which paths of this machine are called something else."""
        for path in sorted(self._paths, key=len, reverse=True):
            message = message.replace(path, self._paths[path])
        return message

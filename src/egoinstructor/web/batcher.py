"""Dynamic batching: requests that come at the same time and ask for the same kind of work are done in one call.

One thread does all of it, so that the model never works on two batches at once. It knows nothing of captions: a request
is whatever the work takes, and carries all that belongs to it.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from threading import Condition, Thread
from time import monotonic
from typing import Any, Generic, TypeVar

from egoinstructor.web.errors import Busy, Unavailable

logger = logging.getLogger(__name__)

Request = TypeVar("Request")
Result = TypeVar("Result")
Anything = TypeVar("Anything")

WAIT = 0.005
"""Seconds that a request waits for others to come, when the model is idle."""

LONGEST_RETRY = 60
"""Seconds; nobody is told to come back later than this."""


@dataclass(slots=True)
class _Waiting:
    """What is to be done: a request for the work, or a function on its own."""

    future: Future[Any] = field(default_factory=Future)
    request: Any = None
    function: Callable[[], Any] | None = None
    group: Hashable = None


class Batcher(Generic[Request, Result]):
    """A queue with one thread behind it.

    Args:
        work: does a batch; one result a request, in order, or the error that is that request's alone. Where it raises, each
            request is done again on its own.
        group: requests of the same group can be in one batch.
        max_batch: requests in a batch.
        queue: what may wait; more is refused.
        wait: seconds that the first of a batch waits for others.
        observe: told the size of each batch.
        name: of the thread.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Request]], Sequence[Result | Exception]],
        group: Callable[[Request], Hashable],
        *,
        max_batch: int,
        queue: int,
        wait: float = WAIT,
        observe: Callable[[int], None] = lambda _: None,
        name: str = "batches",
    ) -> None:
        self._work, self._group = work, group
        self._max_batch, self._queue, self._wait = max_batch, queue, wait
        self._observe = observe
        self._waiting: deque[_Waiting] = deque()
        self._running = 0
        self._changed = Condition()
        self._closed = False
        self._seconds_each = 0.0
        self._thread = Thread(target=self._run, name=f"egoinstructor-{name}", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Future[Result]:
        """Line a request up. A future that is cancelled before its turn costs nothing.

        Raises:
            Busy: the queue is full.
            Unavailable: it is being closed.
        """
        return self._line_up(_Waiting(request=request, group=self._group(request)))

    def call(self, function: Callable[[], Anything]) -> Future[Anything]:
        """Line up a function that is to run alone on the thread.

        Raises:
            Busy: the queue is full.
            Unavailable: it is being closed.
        """
        return self._line_up(_Waiting(function=function))

    @property
    def waiting(self) -> int:
        """How many wait for their turn, and are still wanted."""
        with self._changed:
            return self._live()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        with self._changed:
            return not self._running and not self._live()

    def retry_after(self, ahead: int) -> int:
        """Whole seconds after which so many are done, at the rate of the last ones."""
        return min(max(math.ceil(ahead * self._seconds_each), 1), LONGEST_RETRY)

    def close(self) -> None:
        """Take no more, finish what waits, and end. May be called again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _live(self) -> int:
        return sum(not one.future.cancelled() for one in self._waiting)

    def _line_up(self, one: _Waiting) -> Future[Any]:
        with self._changed:
            if self._closed:
                raise Unavailable("the server is shutting down. Try again when it is back.")
            if self._live() >= self._queue:
                waiting = self._live()
                raise Busy(
                    f"{waiting} requests wait for the model already, which is the limit. Try again later.",
                    retry_after=self.retry_after(waiting),
                )
            self._waiting.append(one)
            self._changed.notify_all()
        return one.future

    def _run(self) -> None:
        while batch := self._take():
            began = monotonic()
            try:
                if (function := batch[0].function) is not None:
                    _settle(batch[0], function)
                else:
                    self._do(batch)
            finally:
                each = (monotonic() - began) / len(batch)
                with self._changed:
                    self._running = 0
                    self._seconds_each = each if not self._seconds_each else 0.8 * self._seconds_each + 0.2 * each

    def _take(self) -> list[_Waiting]:
        """The next batch, whose requests can no longer be cancelled; empty when there will be none."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return []
                first = self._waiting[0]
                if first.function is None:
                    self._changed.wait_for(partial(self._full, first), self._wait)
                # The first of the queue is always among them: none waits for ever behind another group.
                chosen: list[_Waiting] = []
                left: deque[_Waiting] = deque()
                for one in self._waiting:
                    fits = one is first or (first.function is None and self._same(one, first))
                    if fits and len(chosen) < self._max_batch:
                        if one.future.set_running_or_notify_cancel():
                            chosen.append(one)
                    elif not one.future.cancelled():
                        left.append(one)
                self._waiting = left
                if chosen:
                    self._running = len(chosen)
                    return chosen

    @staticmethod
    def _same(one: _Waiting, other: _Waiting) -> bool:
        return one.function is None and one.group == other.group

    def _full(self, first: _Waiting) -> bool:
        """Whether nothing is gained by waiting for more."""
        alike = sum(self._same(one, first) and not one.future.cancelled() for one in self._waiting)
        return self._closed or alike >= self._max_batch

    def _do(self, batch: list[_Waiting]) -> None:
        """One call for all; if that fails each on its own, so that a bad request fails alone."""
        requests = [one.request for one in batch]
        try:
            self._observe(len(batch))
            results = self._work(requests)
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} requests")
        except Exception as error:  # noqa: BLE001  # it is the request's, whatever it is
            if len(batch) == 1:
                batch[0].future.set_exception(error)
                return
            logger.info("a batch of %d failed with %s; each is done alone", len(batch), type(error).__name__)
            for one in batch:
                _settle(one, lambda one=one: self._work([one.request])[0])  # type: ignore[misc]
            return
        for one, result in zip(batch, results, strict=True):
            _give(one, result)


def _settle(one: _Waiting, function: Callable[[], Any]) -> None:
    """Run a function and give its result, or what it raised, to who waits."""
    try:
        result = function()
    except Exception as error:  # noqa: BLE001  # it is the caller's
        one.future.set_exception(error)
    else:
        _give(one, result)


def _give(one: _Waiting, result: Any) -> None:
    if isinstance(result, Exception):
        one.future.set_exception(result)
    else:
        one.future.set_result(result)

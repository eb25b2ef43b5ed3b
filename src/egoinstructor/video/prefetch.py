"""Run work on threads, a few items ahead of its consumer: decode while a model encodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

DECODE_THREADS = 2
"""Clips decoded at a time while a model encodes: decoding is far cheaper than a vision encoder."""


def prefetch(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int = DECODE_THREADS
) -> Iterator[Result]:
    """The result of each item, in order and in bounded memory: at most `threads` wait to be taken.

    Args:
        work: must be safe under threads; what it raises is raised where its result would have been taken.
        items: taken as they are needed.
        threads: at work at a time.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

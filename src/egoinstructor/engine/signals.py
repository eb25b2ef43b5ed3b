"""Ctrl-C around the start of worker processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Defer Ctrl-C to the end of the block, and keep it from processes that are started in it.

    For starting workers: one that was started and not yet registered would run on unseen, and a terminal sends Ctrl-C to all
    of them, which would each print a traceback. Outside the main thread only the second part applies: Python interrupts no
    other thread.
    """
    from multiprocessing import resource_tracker

    pressed: list[Any] = []
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda *event: pressed.append(event)) if main else None
    try:
        resource_tracker.ensure_running()  # now: where a worker's start starts it, it lets the signal through again
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # new processes inherit it
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
    if pressed and callable(handler):
        handler(*pressed[0])

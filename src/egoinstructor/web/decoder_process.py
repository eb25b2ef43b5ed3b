"""One process that decodes, seen from the server: started, asked, timed, and replaced when it dies."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from egoinstructor.web.decoder import HEAD
from egoinstructor.web.limits import Limits

_CPUS = 4
"""Processors that one decoding process may use, where there are so many."""
_START_SECONDS = 60.0
_JSON_BYTES = 65_536
_USES = 500
"""Requests after which a process is replaced: what FFmpeg leaks goes with it."""


Reason = Literal["crash", "time", "start"]


class LostError(Exception):
    """A process that gave no answer: it crashed ("crash"), ran out of time ("time"), or never started ("start")."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


class DecoderProcess:
    """One process at a time that decodes; used by one thread at a time, ended by any."""

    def __init__(self, limits: Limits, cpus: list[int]) -> None:
        self._limits, self._cpus = limits, cpus
        self._process: subprocess.Popen[bytes] | None = None
        self._ready, self._uses, self._ended = False, 0, False
        self._lock, self._asking = threading.Lock(), threading.Lock()

    def ask(self, request: dict[str, Any], room: int) -> tuple[dict[str, Any], np.ndarray]:
        """The answer to a request.

        Raises:
            LostError: there is none; the process was replaced.
        """
        with self._asking:
            while True:
                used = self._uses
                try:
                    answer = self._exchange(request, room)
                except LostError as lost:
                    self._replace()
                    if lost.reason != "crash" or not used or self._ended:
                        raise
                    # An earlier file may have damaged this process: a file is blamed by a fresh one only.
                    continue
                if answer[0].get("error") in ("memory", "failed") or self._uses >= _USES:
                    self._replace()
                return answer

    def end(self) -> None:
        """End the process for good; whoever waits for its answer gets `LostError`."""
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()
        with self._asking:  # nobody reads from its pipes any more
            self._replace()

    def _replace(self) -> None:
        """Another process in place of this one, which starts while nobody waits for it; none after `end`.

        If it can't start now, the next request tries again.
        """
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe is not None:
                        pipe.close()
            with suppress(LostError):
                self._start()

    def _start(self) -> None:
        if self._ended:
            return
        # `-P`: what lies in the working directory is not imported. A session of its own: Ctrl-C is the server's affair.
        command = [sys.executable, "-P", "-m", "egoinstructor.web.decoder"]
        self._ready, self._uses = False, 0
        try:
            self._process = subprocess.Popen(
                [*command, json.dumps(asdict(self._limits)), json.dumps(self._cpus)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
                cwd="/", env=_environment(), start_new_session=True,
            )  # fmt: skip
        except OSError as error:  # no memory, no descriptors
            raise LostError("start", str(error)) from error

    def _exchange(self, request: dict[str, Any], room: int) -> tuple[dict[str, Any], np.ndarray]:
        with self._lock:
            if self._process is None:
                self._start()
            process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise LostError("crash")
        source = process.stdout.fileno()
        if not self._ready:
            try:
                receive(source, 0, time.monotonic() + _START_SECONDS)
            except LostError as lost:
                raise LostError("start") from lost
            self._ready = True
        deadline = time.monotonic() + self._limits.decode_seconds
        self._uses += 1
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            return receive(source, room, deadline)
        except (OSError, ValueError, RecursionError) as error:  # a broken pipe; no JSON
            raise LostError("crash", type(error).__name__) from error
        except LostError as lost:
            if lost.reason == "crash" and not lost.detail:
                code = _exit_code(process)
                by_time = code in (-signal.SIGXCPU, -signal.SIGALRM)
                raise LostError("time" if by_time else "crash", f"exit code {code}") from lost
            raise


def spread_cpus(decoders: int) -> list[list[int]]:
    """Which processors each decoder runs on: a few each, spread over those that this process has."""
    ours = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    each = min(_CPUS, len(ours))
    return [[ours[(number * each + i) % len(ours)] for i in range(each)] for number in range(decoders)]


def end_all(decoders: Sequence[DecoderProcess]) -> None:
    """End each."""
    for decoder in decoders:
        decoder.end()


def receive(source: int, room: int, deadline: float) -> tuple[dict[str, Any], np.ndarray]:
    """One answer from a pipe: its JSON, and its bytes, at most `room`, as uint8 `(N,)`.

    Raises:
        LostError: it ended, took too long, or sent something else.
        ValueError, RecursionError: what it sent is not JSON.
    """
    length, extra = HEAD.unpack(_read(source, HEAD.size, deadline).tobytes())
    if length > _JSON_BYTES or extra > room:
        raise LostError("crash", f"an answer of {length} and {extra} bytes")
    head = json.loads(_read(source, length, deadline).tobytes())
    if not isinstance(head, dict) or not isinstance(head.get("ok", {}), dict):
        raise LostError("crash", "an answer of another form")
    return head, _read(source, extra, deadline)


def _read(source: int, length: int, deadline: float) -> np.ndarray:
    """Exactly so many bytes from a pipe."""
    buffer = np.empty(length, np.uint8)
    rest = buffer.data
    poll = select.poll()
    poll.register(source, select.POLLIN)
    while rest:
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
            raise LostError("time")
        got = os.readv(source, [rest])
        if not got:
            raise LostError("crash")
        rest = rest[got:]
    return buffer


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """Of a process whose pipe has ended; minus the signal that ended it."""
    try:
        return process.wait(timeout=1)
    except subprocess.TimeoutExpired:  # it closed the pipe and lives on
        return 0


def _environment() -> dict[str, str]:
    """What a decoder needs to start; no tokens, no keys."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",  # else each thread reserves 64 MB of address space
    }

"""A caption's text as its tokens come: one thread generates, the caller takes what there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

Result = TypeVar("Result")

_CUT_OFF = "\ufffd"
"""What a decoder puts for a character of which not all tokens have come."""


def texts_and_result(
    write: Callable[[dict[str, Any]], Result], read: Callable[[list[int]], str]
) -> Iterator[str | Result]:
    """Run a generation on a thread of its own, and yield its text so far whenever there is more of it, then its result.

    Args:
        write: generates for one prompt, with these further options for `generate`.
        read: tokens → text.

    Raises:
        Exception: whatever `write` raised.
    """
    tokens: SimpleQueue[int | None] = SimpleQueue()
    left = Event()
    options = {"streamer": _Tokens(tokens), "stopping_criteria": StoppingCriteriaList([_Left(left)])}
    seen: list[int] = []
    shown = ""
    with ThreadPoolExecutor(1, "caption") as pool:
        try:
            future = pool.submit(write, options)
            future.add_done_callback(lambda _: tokens.put(None))
            while (token := tokens.get()) is not None:
                seen.append(token)
                text = read(seen)
                if text != shown and not text.endswith(_CUT_OFF):
                    shown = text
                    yield text
            yield future.result()
        finally:
            left.set()  # the caller may have left; the thread is waited for


class _Tokens(BaseStreamer):
    """Hands on what is generated, and not the prompt, which comes first."""

    def __init__(self, tokens: SimpleQueue[int | None]) -> None:
        self._tokens = tokens
        self._prompt_came = False

    def put(self, value: Tensor) -> None:
        """Called by `generate` with the prompt `(1, T)`, then with each token `(1,)`."""
        if self._prompt_came:
            self._tokens.put(int(value))
        self._prompt_came = True

    def end(self) -> None:
        """Called by `generate` at the end; the result comes after it."""


class _Left(StoppingCriteria):
    """Ends a generation that nobody waits for any more."""

    def __init__(self, left: Event) -> None:
        self._left = left

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """For each row `(B,)`: whether it ends here."""
        return torch.full((len(input_ids),), self._left.is_set(), dtype=torch.bool, device=input_ids.device)

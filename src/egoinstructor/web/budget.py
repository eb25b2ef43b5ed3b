"""A budget that requests share: who would exceed it waits, first come first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Budget:
    """So much of something at a time; for one event loop.

    Args:
        total: nobody may ask for more.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def take(self, amount: int) -> AsyncIterator[None]:
        """Hold an amount, of at most the total, while the block runs; wait for it first."""
        if self._waiting or self.taken + amount > self.total:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            place = (amount, turn)
            self._waiting.append(place)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # it was given the amount at this very moment
                    self._give_back(amount)
                elif place in self._waiting:  # if not, whoever gave back has passed it over already
                    self._waiting.remove(place)
                    self._wake()
                raise
        else:
            self.taken += amount
        try:
            yield
        finally:
            self._give_back(amount)

    def _give_back(self, amount: int) -> None:
        self.taken -= amount
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self.taken + self._waiting[0][0] <= self.total:
            amount, turn = self._waiting.popleft()
            if not turn.done():
                self.taken += amount
                turn.set_result(None)

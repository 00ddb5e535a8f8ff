"""Futures that have to be done by a time."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class Deadlines:
    """One timer for all of them: nearly every one is done long before, and a timer each would cost more than it."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, deadline: float, future: asyncio.Future[Any]) -> None:
        """``deadline``: loop time, at which the future raises TimeoutError unless it is done. The later ones last."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        if waiting and deadline < waiting[-1][0]:
            future.get_loop().call_at(deadline, _expire, future)
            return
        waiting.append((deadline, future))
        if self._timer is None:
            self._timer = future.get_loop().call_at(deadline, self._expire_first)

    def close(self) -> None:
        """Nothing is added any more. Those that are not done yet keep their deadline."""
        if self._timer is not None and all(future.done() for _, future in self._waiting):
            self._waiting.clear()
            self._timer.cancel()
            self._timer = None

    def _expire_first(self) -> None:
        self._timer = None
        waiting = self._waiting
        while waiting:
            deadline, future = waiting[0]
            loop = future.get_loop()
            if not future.done() and loop.time() < deadline:
                self._timer = loop.call_at(deadline, self._expire_first)
                return
            waiting.popleft()
            _expire(future)


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())

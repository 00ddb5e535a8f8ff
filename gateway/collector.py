"""Python's cyclic collector in a process that is ours alone.

Thousands of connections are long-lived objects that a collection walks and never frees; what is short-lived here dies
by reference counting. So collections are rare, and what has been allocated by the start, and by bursts of connecting
clients, is set aside.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from typing import Final

#: Allocations between young collections, and how many of each generation make an older one.
THRESHOLDS: Final = (50_000, 20, 100)
#: Sessions opened since the last look that make a burst, and seconds between looks.
BURST: Final = 1_000
LOOK_EVERY_S: Final = 10.0


def tune() -> None:
    """Set what has been allocated so far aside, and collect less often.

    For processes that only run a gateway: an application's own cycles also live longer.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


class BurstWatch:
    """Sets aside what bursts of connecting clients have allocated, and has it looked through once most have left.

    ``opened``: how many sessions there have been; ``are_open``: how many there are.
    """

    def __init__(self, opened: Callable[[], int], are_open: Callable[[], int]) -> None:
        self._opened = opened
        self._are_open = are_open
        self._opened_before = 0
        self._frozen = 0  # sessions that were open at the last freeze
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look every ``LOOK_EVERY_S`` on the running loop, until ``stop``."""
        loop = asyncio.get_running_loop()

        def look() -> None:
            self.look()
            self._handle = loop.call_later(LOOK_EVERY_S, look)

        self._handle = loop.call_later(LOOK_EVERY_S, look)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def look(self) -> None:
        """Freeze after a burst; collect, also what is frozen, when half of those sessions have ended."""
        opened, are_open = self._opened(), self._are_open()
        new, self._opened_before = opened - self._opened_before, opened
        if new >= BURST:
            gc.collect(1)  # what is young and garbage is not to be kept
            gc.freeze()
            self._frozen = are_open
        elif self._frozen and are_open * 2 < self._frozen:
            self._frozen = 0
            gc.unfreeze()
            gc.collect()
            gc.freeze()

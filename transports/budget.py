"""The bound on what waits in all buffers together.

Each session has its own bound, but ten thousand of them can each stay a little below theirs. Counting every byte of
every session as it comes and goes would cost more than sending it, so all sessions are looked at once in a while:
whenever so much has been handed to them since the last time that the bound may be near. When it is, those
with the most waiting bytes are ended first, until enough room is left to breathe.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from . import reasons

if TYPE_CHECKING:
    from .session import Session

#: Parts of the bound: how much may be handed out between two looks, and what is left after shedding.
LOOK_EVERY: Final = 1 / 8
SHED_TO: Final = 3 / 4


class BufferBudget:
    """``limit``: bytes; each recipient of a shared message is counted, so memory in use is less. 0 is no limit."""

    __slots__ = ("_look_at", "_step", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._step = max(int(limit * LOOK_EVERY), 1)
        self._look_at = self._step if limit else float("inf")

    def is_due(self, bytes_moved: int) -> bool:
        """``bytes_moved``: total since start of what was handed to sessions or received in part."""
        return bytes_moved >= self._look_at

    def enforce(self, sessions: Iterable[Session], bytes_moved: int) -> int:
        """Sum up what waits, and shed where it is too much; the number of sessions that were ended."""
        self._look_at = bytes_moved + self._step
        waiting = []
        total = 0
        for session in sessions:
            nbytes = session.held_bytes()
            if nbytes:
                waiting.append((nbytes, session))
                total += nbytes
        if total <= self.limit - self._step:
            return 0
        waiting.sort(key=lambda entry: entry[0])
        shed = 0
        while waiting and total > self.limit * SHED_TO:
            nbytes, session = waiting.pop()
            total -= nbytes
            shed += 1
            session.close(reasons.MEMORY_SHED)
        return shed

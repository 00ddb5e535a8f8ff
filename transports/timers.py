"""The timing wheel on a running loop: one timer handle, whatever the number of sessions."""

from __future__ import annotations

import asyncio
import logging

from .protocol.timing_wheel import Timed, TimingWheel

logger = logging.getLogger("tidegate.timers")

#: A timer this late means that the loop was blocked. What clients sent meanwhile lies unread in the sockets and
#: is read before anybody's deadline is judged.
BLOCKED_S = 1.0


class Timers:
    """Calls ``on_deadline`` of what was scheduled, at most one tick late."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tick_s: float) -> None:
        self._loop = loop
        self._wheel = TimingWheel(tick_s)
        self._handle: asyncio.TimerHandle | None = None
        self._handle_at = float("inf")
        self._reads_until = 0.0  # until then, what came while the loop was blocked is being read

    def is_behind(self, now: float) -> bool:
        """Whether the loop was blocked, and what came meanwhile may still be unread."""
        return now < self._reads_until or now - self._handle_at > BLOCKED_S

    def schedule(self, entry: Timed, deadline: float) -> None:
        self._wheel.schedule(entry, deadline)
        if deadline < self._handle_at:
            self._arm()

    def cancel(self, entry: Timed) -> None:
        self._wheel.cancel(entry)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._handle_at = float("inf")

    def _arm(self) -> None:
        at = self._wheel.next_deadline()
        if self._handle is not None:
            if at is not None and at >= self._handle_at:
                return
            self._handle.cancel()
            self._handle = None
        self._handle_at = float("inf")
        if at is not None:
            self._handle_at = at
            self._handle = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        now = self._loop.time()
        late_s = now - self._handle_at
        if late_s > BLOCKED_S:
            logger.warning("the event loop was blocked for %.1f s", late_s)
            self._handle_at = self._reads_until = now + self._wheel.tick_s
            self._handle = self._loop.call_later(self._wheel.tick_s, self._fire)
            return
        self._handle = None
        self._handle_at = float("inf")
        for entry in self._wheel.advance(now):
            try:
                entry.on_deadline(now)
            except Exception:  # one entry's fault must not stop the clock of all
                logger.exception("deadline failed")
        self._arm()

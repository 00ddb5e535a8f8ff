"""The timing wheel on a running loop: one timer handle, whatever the number of sessions."""

from __future__ import annotations

import asyncio
import logging

from .protocol.timing_wheel import Timed, TimingWheel

logger = logging.getLogger("tidegate.timers")

#: A timer this late means that the loop was blocked. What clients sent meanwhile lies unread in the sockets and
#: is read before anybody's deadline is judged.
BLOCKED_S = 1.0
#: So many entries are called in one turn of the loop. Sessions that connected together beat together, and those whose
#: heartbeats were put off by a blocked loop do so ever after; the traffic of the others goes on between the portions.
PORTION = 100


class Timers:
    """Calls ``on_deadline`` of what was scheduled, at most one tick late."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tick_s: float) -> None:
        self._loop = loop
        self._wheel = TimingWheel(tick_s)
        self._handle: asyncio.Handle | None = None
        self._handle_at = float("inf")
        self._reads_until = 0.0  # until then, what came while the loop was blocked is being read
        self._is_in_tick = False  # what is due is being called; the handle, if any, is that of the next portion

    def is_behind(self, now: float) -> bool:
        """Whether the loop was blocked, and what came meanwhile may still be unread."""
        return now < self._reads_until or now - self._handle_at > BLOCKED_S

    def schedule(self, entry: Timed, deadline: float) -> None:
        self._wheel.schedule(entry, deadline)
        if deadline < self._handle_at and not self._is_in_tick:
            self._arm()

    def cancel(self, entry: Timed) -> None:
        self._wheel.cancel(entry)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._is_in_tick = False
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
        self._is_in_tick = True
        self._call_due(now)

    def _call_due(self, now: float) -> None:
        """Call a portion of what is due at ``now``, the time of the tick."""
        self._handle = None
        due = self._wheel.advance(now, PORTION)
        for entry in due:
            try:
                entry.on_deadline(now)
            except Exception:  # one entry's fault must not stop the clock of all
                logger.exception("deadline failed")
        if not self._is_in_tick:
            return  # closed by one of them
        if len(due) == PORTION:
            # Behind what they have queued, so that it is written before the next portion adds to it.
            self._handle = self._loop.call_soon(self._call_due, now)
            return
        self._is_in_tick = False
        self._arm()

"""Numbers about a router: how much is open, and how much passes through it each second.

Nothing here is called for a packet: totals that others count anyway are read once a second.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, TypedDict

WINDOW_S: Final = 10.0
#: How often somebody should call ``Stats.sample`` while ``Stats.is_moving``.
SAMPLE_INTERVAL_S: Final = 1.0


class Reading(NamedTuple):
    """``sessions``: open now. The packets are totals since start. The lag is that of the event loop, in seconds."""

    sessions: int
    packets_sent: int
    packets_recv: int
    loop_lag_s: float = 0.0
    max_loop_lag_s: float = 0.0


class StatsDump(TypedDict):
    """The numbers under tornadio2's names; ``…_ps`` are per second, averaged over the last 10 seconds.

    Beyond tornadio2: how many seconds what comes to the event loop waits; a mean that decays over ten of them, and
    the most since start.
    """

    active_sessions: int
    max_sessions: int
    active_connections: int
    max_connections: int
    connections_ps: float
    packets_sent_ps: float
    packets_recv_ps: float
    loop_lag_s: float
    max_loop_lag_s: float


class MovingAverage:
    """How much a total has grown per second, over the last ``window_s`` or since it was first looked at."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, float]] = deque()

    def sample(self, now: float, total: float) -> None:
        """Remember the total. More often than once a second adds nothing."""
        samples = self._samples
        if samples and now - samples[-1][0] > self._window_s:
            samples.clear()  # Nobody has looked for so long that the average begins anew.
        if not samples or now - samples[-1][0] >= SAMPLE_INTERVAL_S * 0.9:
            samples.append((now, total))
        while len(samples) > 1 and samples[1][0] <= now - self._window_s:
            samples.popleft()

    def per_second(self, now: float, total: float) -> float:
        if not self._samples:
            return 0.0
        since, before = self._samples[0]
        return (total - before) / max(now - since, SAMPLE_INTERVAL_S)


class Stats:
    """``read`` tells what is counted elsewhere, ``clock`` monotonic seconds.

    A connection is one client in one endpoint, so a session has several; tornadio2 counted HTTP connections.
    """

    def __init__(self, clock: Callable[[], float], read: Callable[[], Reading]) -> None:
        self._clock = clock
        self._read = read
        self._max_sessions = 0
        self._active_connections = 0
        self._max_connections = 0
        self._opened_connections = 0
        self._connections = MovingAverage()
        self._packets_sent = MovingAverage()
        self._packets_recv = MovingAverage()

    def connection_opened(self) -> None:
        self._opened_connections += 1
        self._active_connections += 1
        self._max_connections = max(self._max_connections, self._active_connections)
        self._max_sessions = max(self._max_sessions, self._read().sessions)

    def connection_closed(self) -> None:
        self._active_connections -= 1

    def sample(self) -> None:
        """Look at the totals; once a second keeps the averages exact."""
        now = self._clock()
        reading = self._read()
        self._max_sessions = max(self._max_sessions, reading.sessions)
        self._connections.sample(now, self._opened_connections)
        self._packets_sent.sample(now, reading.packets_sent)
        self._packets_recv.sample(now, reading.packets_recv)

    def dump(self) -> StatsDump:
        self.sample()
        now = self._clock()
        reading = self._read()
        return {
            "active_sessions": reading.sessions,
            "max_sessions": self._max_sessions,
            "active_connections": self._active_connections,
            "max_connections": self._max_connections,
            "connections_ps": self._connections.per_second(now, self._opened_connections),
            "packets_sent_ps": self._packets_sent.per_second(now, reading.packets_sent),
            "packets_recv_ps": self._packets_recv.per_second(now, reading.packets_recv),
            "loop_lag_s": reading.loop_lag_s,
            "max_loop_lag_s": reading.max_loop_lag_s,
        }

    @property
    def is_moving(self) -> bool:
        """Whether a later dump may say something else though nothing opens in between."""
        now = self.dump()
        return bool(now["active_sessions"] or now["connections_ps"] or now["packets_sent_ps"] or now["packets_recv_ps"])

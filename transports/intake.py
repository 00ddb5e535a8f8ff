"""What a session takes in, how fast, and what waits while it takes nothing.

Nothing that a client sends is dropped for coming too fast: reading pauses, TCP tells the client, and a POST is
answered when its packets have been taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntFlag
from math import inf
from typing import TYPE_CHECKING, Final

from .errors import RemoteProtocolError
from .protocol.packets import Packet

if TYPE_CHECKING:
    from .ports import Port

#: What may come at once after silence, in seconds of the rate.
BURST_S: Final = 2.0


class Hold(IntFlag):
    """Why nothing is read from a client just now."""

    NONE = 0
    #: It has sent more than its rates allow.
    RATE = 1
    #: Handlers of its events are still busy with what it has sent.
    HANDLERS = 2
    #: Handlers of all clients are.
    ALL_HANDLERS = 4


class Rates:
    """What one client may send in a second; 0 is no limit."""

    __slots__ = ("bytes_per_s", "packets_per_s")

    def __init__(self, packets_per_s: float, bytes_per_s: float) -> None:
        self.packets_per_s = packets_per_s or inf
        self.bytes_per_s = bytes_per_s or inf


class RateMeter:
    """Two token buckets, for packets and for bytes. The clock is read only where one seems to be empty."""

    __slots__ = ("_bytes_left", "_packets_left", "_rates", "_since")

    def __init__(self, rates: Rates, now: float) -> None:
        self._rates = rates
        self._since = now
        self._packets_left = rates.packets_per_s * BURST_S
        self._bytes_left = rates.bytes_per_s * BURST_S

    def spend(self, packets: int, nbytes: int) -> bool:
        """Take out of the buckets what has been received; True where ``debt_s`` is worth asking."""
        self._packets_left -= packets
        self._bytes_left -= nbytes
        return self._packets_left < 0 or self._bytes_left < 0

    def debt_s(self, now: float) -> float:
        """Seconds until both buckets are out of debt."""
        rates = self._rates
        passed = now - self._since
        self._since = now
        self._packets_left = min(self._packets_left + passed * rates.packets_per_s, rates.packets_per_s * BURST_S)
        self._bytes_left = min(self._bytes_left + passed * rates.bytes_per_s, rates.bytes_per_s * BURST_S)
        debt = 0.0
        if self._packets_left < 0:
            debt = -self._packets_left / rates.packets_per_s
        if self._bytes_left < 0:
            debt = max(debt, -self._bytes_left / rates.bytes_per_s)
        return debt


class Post:
    """One POST that was received. ``taken`` answers it, when the last of its packets has been taken.

    ``is_suspended``: the session is held, and some have not. ``failure``: what was wrong with one that was.
    """

    __slots__ = ("failure", "is_suspended", "packets", "port", "taken")

    def __init__(
        self, port: Port, packets: Iterator[Packet], taken: Callable[[RemoteProtocolError | None], None]
    ) -> None:
        self.port = port
        self.packets = packets
        self.taken = taken
        self.is_suspended = False
        self.failure: RemoteProtocolError | None = None

"""Who may open a session: bounds on how many there are, and on how fast one address opens them.

An address is an IPv4 address or an IPv6 network of 64 bits, which is what one customer is given. Addresses of
trusted proxies are not limited: behind one of them stand many clients, and it tells us theirs.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

from . import catalogue
from .errors import RequestRefused

#: Handshakes that may come at once after silence, in seconds of the rate.
BURST_S: Final = 10.0
#: Addresses whose rate is remembered. Beyond it the longest silent ones are forgotten.
MAX_ADDRESSES: Final = 100_000
#: Under which peers without an IP address are counted, where they are.
NO_ADDRESS: Final = "a Unix socket"


class Tally(dict[str, int]):
    """How many there are of each address; those of which there are none are not in it."""

    __slots__ = ()

    def add(self, group: str) -> int:
        """One more; how many that makes."""
        self[group] = count = self.get(group, 0) + 1
        return count

    def remove(self, group: str) -> None:
        """One less."""
        left = self[group] - 1
        if left:
            self[group] = left
        else:
            del self[group]


class Admission:
    """``exempt`` tells addresses that are not limited; a bound of 0 is none."""

    def __init__(
        self,
        *,
        max_connections: int,
        max_per_address: int,
        handshakes_per_s: float,
        exempt: Callable[[str], bool],
    ) -> None:
        self._max_connections = max_connections
        self.max_per_address = max_per_address
        self._rate = handshakes_per_s
        self.is_exempt = exempt
        self._count = 0
        self._by_address = Tally()
        #: Handshakes left, and when that was true. Oldest first.
        self._buckets: dict[str, tuple[float, float]] = {}

    def enter(self, address: str, now: float, *, is_doubtful: bool = False) -> str:
        """One more session; what ``leave`` has to be given when it ends.

        ``is_doubtful``: the address may be that of a proxy only because the client has made its headers useless. It
        is limited whatever it is, or doing so would pay.
        Raises: RequestRefused.
        """
        if self._max_connections and self._count >= self._max_connections:
            raise RequestRefused(catalogue.TOO_MANY_CONNECTIONS, limit=self._max_connections)
        group = ""
        if (self.max_per_address or self._rate) and self._is_limited(address, is_doubtful):
            group = address_group(address) or NO_ADDRESS
            if self.max_per_address and self._by_address.get(group, 0) >= self.max_per_address:
                raise RequestRefused(catalogue.TOO_MANY_FROM_ADDRESS, address=group, limit=self.max_per_address)
            if self._rate and not self._take_token(group, now):
                raise RequestRefused(catalogue.TOO_MANY_HANDSHAKES, address=group, rate=f"{self._rate:g}")
            self._by_address.add(group)
        self._count += 1
        return group

    def _is_limited(self, address: str, is_doubtful: bool) -> bool:
        return is_doubtful or bool(address and not self.is_exempt(address))

    def leave(self, group: str) -> None:
        """A session that had entered has ended."""
        self._count -= 1
        if group:
            self._by_address.remove(group)

    def _take_token(self, group: str, now: float) -> bool:
        burst = max(self._rate * BURST_S, 1.0)
        left, since = self._buckets.pop(group, (burst, now))
        left = min(left + (now - since) * self._rate, burst)
        taken = left >= 1
        self._buckets[group] = (left - 1 if taken else left, now)
        if len(self._buckets) > MAX_ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
        return taken


def address_group(address: str) -> str:
    """The address, or the /64 network of an IPv6 address; text that is no address stands for itself."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, 64), strict=False))

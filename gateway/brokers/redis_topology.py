"""Which Redis server is the master now, and for what: one server, one that Sentinel names, or those of a Cluster."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

from .core import logger
from .redis_connection import ConnectionLost, RedisConnection
from .redis_keys import hash_slot
from .redis_link import RedisLink
from .redis_options import Address, RedisOptions
from .resp import RespError

_SLOTS: Final = 16_384
#: Links that look at the Cluster within so long look at it together.
_REFRESH_INTERVAL_S: Final = 0.3

Connect = Callable[[Address, str], Awaitable[RedisConnection]]


class Topology(Protocol):
    """links: one for each master. ``link_of``: who serves a channel or key."""

    links: list[RedisLink]

    def link_of(self, key: bytes) -> RedisLink: ...

    async def locate(self, link: RedisLink) -> Address:
        """Where the link's master is now. Raises: ConnectionLost, OSError, TimeoutError, RespError."""
        ...


class SingleTopology:
    """One server, always the same."""

    def __init__(self, options: RedisOptions, make_link: Callable[[str], RedisLink]) -> None:
        self._address = options.addresses[0]
        self.links = [make_link(":")]

    def link_of(self, key: bytes) -> RedisLink:
        return self.links[0]

    async def locate(self, link: RedisLink) -> Address:
        return self._address


class SentinelTopology:
    """The master that a Sentinel names; whichever Sentinel answers first is asked first the next time."""

    def __init__(self, options: RedisOptions, make_link: Callable[[str], RedisLink], connect_to: Connect) -> None:
        self._name = options.master_name
        self._sentinels = list(options.addresses)
        self._connect_to = connect_to
        self.links = [make_link(":")]

    def link_of(self, key: bytes) -> RedisLink:
        return self.links[0]

    async def locate(self, link: RedisLink) -> Address:
        problems = []
        for sentinel in list(self._sentinels):
            try:
                connection = await self._connect_to(sentinel, "sentinel")
                try:
                    found = await connection.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
                finally:
                    connection.abort("asked")
            except (OSError, TimeoutError, RespError) as error:
                problems.append(f"Sentinel {sentinel}: {error or type(error).__name__}")
                continue
            if isinstance(found, list) and len(found) == 2:
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)
                return Address(bytes(found[0]).decode(), int(found[1]))
            problems.append(f"Sentinel {sentinel} knows no master called {self._name}")
        raise ConnectionLost("; ".join(problems))


class ClusterTopology:
    """The masters of a Cluster by the slots they serve.

    A link stays with most of its slots, whichever server serves them, so that what it sends again after a failover is
    known as such. ``on_moved`` gets topics, own channels and unsent entries to the links that serve them now.
    """

    def __init__(
        self,
        options: RedisOptions,
        make_link: Callable[[str], RedisLink],
        connect_to: Connect,
        on_moved: Callable[[list[RedisLink]], object],
    ) -> None:
        self._seeds = list(options.addresses)
        self._timeout_s = options.connect_timeout_s
        self._make_link = make_link
        self._connect_to = connect_to
        self._on_moved = on_moved
        # Until the Cluster has been seen, one link stands for all of it.
        self.links = [make_link("0")]
        self._owners: list[RedisLink] = self.links * _SLOTS
        self._addresses: dict[RedisLink, Address] = {}
        self._refreshed_at = float("-inf")
        self._lock = asyncio.Lock()

    def link_of(self, key: bytes) -> RedisLink:
        return self._owners[hash_slot(key)]

    async def locate(self, link: RedisLink) -> Address:
        async with self._lock:
            if asyncio.get_running_loop().time() - self._refreshed_at > _REFRESH_INTERVAL_S:
                self._apply(await self._ask())
                self._refreshed_at = asyncio.get_running_loop().time()
        address = self._addresses.get(link)
        if address is None:
            raise ConnectionLost("its slots are served by other masters now")
        return address

    async def _ask(self) -> dict[Address, list[range]]:
        problems = []
        for address in dict.fromkeys([*self._addresses.values(), *self._seeds]):
            try:
                async with asyncio.timeout(min(1.0, self._timeout_s)):
                    connection = await self._connect_to(address, "cluster")
                    try:
                        return _masters(await connection.call("CLUSTER", "SLOTS"), address)
                    finally:
                        connection.abort("asked")
            except (OSError, TimeoutError, RespError) as error:
                problems.append(f"{address}: {error or type(error).__name__}")
        raise ConnectionLost("; ".join(problems))

    def _apply(self, masters: dict[Address, list[range]]) -> None:
        owners = list(self._owners)
        addresses: dict[RedisLink, Address] = {}
        changed: list[RedisLink] = []
        # Who has most of a link's slots keeps it; the largest first.
        for address, ranges in sorted(masters.items(), key=lambda item: -sum(map(len, item[1]))):
            link = self._link_for(address, ranges, addresses)
            addresses[link] = address
            for slots in ranges:
                for slot in slots:
                    if owners[slot] is not link:
                        owners[slot] = link
                        if link not in changed:
                            changed.append(link)
        if addresses == self._addresses and not changed:
            return
        served = set(map(id, owners))
        self._owners = owners
        self._addresses = addresses
        self.links = [link for link in dict.fromkeys([*self.links, *addresses]) if id(link) in served]
        for link in self.links:
            tag = self._tag_of(link)
            if tag != link.tag:
                link.tag = tag
                if link not in changed:
                    changed.append(link)
        logger.info("the cluster has %d masters", len(addresses))
        self._on_moved(changed)

    def _link_for(self, address: Address, ranges: Iterable[range], taken: dict[RedisLink, Address]) -> RedisLink:
        for link, known in self._addresses.items():
            if known == address and link not in taken:
                return link
        shares = Counter(self._owners[slot] for slots in ranges for slot in slots)
        for link, _ in shares.most_common():
            if link not in taken and self._addresses.get(link) in (None, address):
                return link
        for link, _ in shares.most_common():
            if link not in taken:
                return link
        return self._make_link("0")

    def _tag_of(self, link: RedisLink) -> str:
        number = 0
        while self._owners[hash_slot(b"%d" % number)] is not link:
            number += 1
        return str(number)


def _masters(reply: Any, asked: Address) -> dict[Address, list[range]]:
    """Of CLUSTER SLOTS. Raises: ConnectionLost where no slots are served."""
    masters: dict[Address, list[range]] = {}
    for start, end, master, *_ in reply:
        host = bytes(master[0] or b"").decode() or asked.host
        masters.setdefault(Address(host, master[1]), []).append(range(start, end + 1))
    if not masters:
        raise ConnectionLost("the cluster serves no slots")
    return masters

"""Which Redis server is the master now, and for what: one server, one that Sentinel names, or those of a Cluster."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Final, Protocol, TypeVar

from .core import logger
from .redis_connection import ConnectionLost, RedisConnection
from .redis_keys import hash_slot
from .redis_link import RedisLink
from .redis_options import Address, RedisOptions
from .resp import RespError

_SLOTS: Final = 16_384
#: Links that look at the Cluster within so long look at it together.
_REFRESH_INTERVAL_S: Final = 0.3

#: Who is asked has so long before the next one is asked too.
_PATIENCE_S: Final = 0.3

Connect = Callable[[Address, str], Awaitable[RedisConnection]]
T = TypeVar("T")


class Topology(Protocol):
    """links: one for each master. ``link_of``: who serves a channel or key."""

    links: list[RedisLink]

    def link_of(self, key: bytes) -> RedisLink: ...

    async def locate(self, link: RedisLink) -> Address:
        """Where the link's master is now, within ``connect_timeout_s``.

        Raises: ConnectionLost, OSError, TimeoutError, RespError.
        """
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
    """The master that a Sentinel names; whichever Sentinel answers first is asked first the next time.

    While none answers, a master that works is believed to be one yet.
    """

    def __init__(self, options: RedisOptions, make_link: Callable[[str], RedisLink], connect_to: Connect) -> None:
        self._name = options.master_name
        self._timeout_s = options.connect_timeout_s
        self._sentinels = list(options.addresses)
        self._connect_to = connect_to
        self.links = [make_link(":")]

    def link_of(self, key: bytes) -> RedisLink:
        return self.links[0]

    async def locate(self, link: RedisLink) -> Address:
        try:
            sentinel, master = await first_answer(self._sentinels, self._ask, self._timeout_s)
        except ConnectionLost as lost:
            if link.is_up and link.address is not None:
                return link.address
            raise ConnectionLost(f"no Sentinel names the master: {lost}") from None
        self._sentinels.remove(sentinel)
        self._sentinels.insert(0, sentinel)
        return master

    async def _ask(self, sentinel: Address) -> Address:
        connection = await self._connect_to(sentinel, "sentinel")
        try:
            found = await connection.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._name)
        finally:
            connection.abort("asked")
        if isinstance(found, list) and len(found) == 2:
            return Address(bytes(found[0]).decode(), int(found[1]))
        raise ConnectionLost(f"it knows no master called {self._name}")


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
        async with asyncio.timeout(self._timeout_s), self._lock:
            if asyncio.get_running_loop().time() - self._refreshed_at > _REFRESH_INTERVAL_S:
                self._apply(await self._look())
                self._refreshed_at = asyncio.get_running_loop().time()
        address = self._addresses.get(link)
        if address is None:
            raise ConnectionLost("its slots are served by other masters now")
        return address

    async def _look(self) -> dict[Address, list[range]]:
        known = dict.fromkeys([*self._addresses.values(), *self._seeds])
        return (await first_answer(known, self._ask, self._timeout_s))[1]

    async def _ask(self, address: Address) -> dict[Address, list[range]]:
        connection = await self._connect_to(address, "cluster")
        try:
            return _masters(await connection.call("CLUSTER", "SLOTS"), address)
        finally:
            connection.abort("asked")

    def _apply(self, masters: dict[Address, list[range]]) -> None:
        owners = list(self._owners)
        addresses: dict[RedisLink, Address] = {}
        changed: dict[RedisLink, None] = {}
        # Who has most of a link's slots keeps it; the largest first.
        for address, ranges in sorted(masters.items(), key=lambda item: -sum(map(len, item[1]))):
            link = self._link_for(address, ranges, addresses)
            addresses[link] = address
            for slots in ranges:
                for slot in slots:
                    if owners[slot] is not link:
                        changed.update(dict.fromkeys((owners[slot], link)))
                        owners[slot] = link
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
                changed[link] = None
        logger.info("the cluster has %d masters", len(addresses))
        self._on_moved(list(changed))

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


async def first_answer(
    addresses: Collection[Address], ask: Callable[[Address], Awaitable[T]], timeout_s: float
) -> tuple[Address, T]:
    """Ask one after the other, the next one also while those before it have not answered; who answered first, and what.

    Raises: ConnectionLost with what is wrong with each.
    """
    patience_s = min(_PATIENCE_S, timeout_s / (len(addresses) + 1))
    waiting = deque(addresses)
    asked: dict[asyncio.Future[T], Address] = {}
    problems: dict[Address, str] = {}
    loop = asyncio.get_running_loop()
    ends = loop.time() + timeout_s
    try:
        while (waiting or asked) and loop.time() < ends:
            if waiting:
                address = waiting.popleft()
                asked[asyncio.ensure_future(ask(address))] = address
            done, _ = await asyncio.wait(
                asked,
                timeout=patience_s if waiting else ends - loop.time(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                address = asked.pop(task)
                error = task.exception()
                if error is None:
                    return address, task.result()
                if not isinstance(error, OSError | TimeoutError | RespError):
                    raise error
                problems[address] = str(error) or type(error).__name__
        problems.update(dict.fromkeys(asked.values(), "no answer in time"))
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    raise ConnectionLost("; ".join(f"{address}: {problem}" for address, problem in problems.items()))


def _masters(reply: Any, asked: Address) -> dict[Address, list[range]]:
    """Of CLUSTER SLOTS. Raises: ConnectionLost where no slots are served."""
    masters: dict[Address, list[range]] = {}
    for start, end, master, *_ in reply:
        host = bytes(master[0] or b"").decode() or asked.host
        masters.setdefault(Address(host, master[1]), []).append(range(start, end + 1))
    if not masters:
        raise ConnectionLost("the cluster serves no slots")
    return masters

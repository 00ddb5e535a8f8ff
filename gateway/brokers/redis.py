"""Nodes of any hosts, joined by Redis or Valkey: one server, Sentinel or Cluster.

Pub/Sub carries what is published, on a channel for each topic; a node hears those it has subscribed to, a channel of
its own and one of all nodes. Durable publications lie in a stream per topic as well (`redis_streams`). A node is in
the registry while it renews its lease.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import ssl
from collections.abc import Iterable
from typing import Any, Final

from ..envelope import OVERHEAD_BYTES, Envelope, EnvelopeKind, head_of_publications
from .base import (
    BrokerClosedError,
    BrokerError,
    BrokerLimits,
    BrokerUnavailableError,
    Callbacks,
    Gap,
    Health,
    Node,
    WhenDown,
    check_topic,
)
from .core import BrokerCore, Expected, decode_node, logger
from .outbox import OF_THE_MOMENT, Entry
from .redis_connection import ConnectionLost, RedisConnection, connect
from .redis_keys import Keys
from .redis_link import RedisLink
from .redis_options import Address, RedisOptions, parse_url
from .redis_scripts import REGISTER
from .redis_topology import ClusterTopology, SentinelTopology, SingleTopology, Topology
from .resp import RespError
from .seen import CatchUp, SeenInChannels, SeenInLanes

#: Looked up once: members of an enum cost a call in Python 3.11.
_PUBLICATION: Final = EnvelopeKind.PUBLICATION
#: What a server says of itself may be longer than a message.
_MIN_STRING_BYTES: Final = 1024 * 1024
_CONNECTING: Final = "connecting"
#: Between tries of what the server refuses for the moment.
_RETRY_S: Final = 0.2


class RedisBroker(BrokerCore):
    """url: see `redis_options`; or the options themselves. Raises: BrokerConfigError."""

    def __init__(
        self,
        url: str | RedisOptions,
        node: Node | None = None,
        callbacks: Callbacks | None = None,
        limits: BrokerLimits | None = None,
    ) -> None:
        super().__init__(node, callbacks, limits)
        self._health.reason = _CONNECTING
        self.options = parse_url(url) if isinstance(url, str) else url
        self.keys = Keys(self.options)
        self.own_head = head_of_publications(self.node.id)
        self._tls: ssl.SSLContext | None = self.options.ssl_context()
        self._seen = SeenInChannels() if self.options.mode == "cluster" else SeenInLanes()
        # Not from 1: others may remember those of an earlier node of this id.
        self._several = itertools.count(secrets.randbits(40))
        self._topology: Topology | None = None
        self._all_links: set[RedisLink] = set()
        self._registry_due = asyncio.Event()
        self._registry_problem = _CONNECTING
        self._up_since: float | None = None
        #: In which it was started. Asking which one runs is a system call, in Python 3.11.
        self._loop: asyncio.AbstractEventLoop

    # -- begin and end ---------------------------------------------------------------------------------

    async def start(self) -> None:
        if self._is_open:
            return
        self._is_open = True
        self._loop = asyncio.get_running_loop()
        if self.options.mode == "cluster":
            self._topology = ClusterTopology(self.options, self._make_link, self._connect_to, self._moved_slots)
        elif self.options.mode == "sentinel":
            self._topology = SentinelTopology(self.options, self._make_link, self._connect_to)
        else:
            self._topology = SingleTopology(self.options, self._make_link)
        self._moved_slots([])
        self._spawn(self._keep_registered())

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        topology = self._topology
        if topology is not None:
            registry = topology.link_of(self.keys.registry()[0])
            if registry.is_up:
                try:
                    async with asyncio.timeout(1.0):
                        await registry.call(*self._register_arguments(lease_ms=0))
                except (TimeoutError, ConnectionLost, RespError) as error:
                    logger.debug("giving up the lease failed: %s", error)
            bye = Entry(self.keys.everybody(), EnvelopeKind.BYE, b"", self._deadline())
            everybody = topology.link_of(bye.channel)
            await asyncio.gather(*(link.close([bye] if link is everybody else ()) for link in topology.links))
        await self._end_tasks()
        self._nodes.clear()
        self._health.set("closed")

    def _make_link(self, tag: str) -> RedisLink:
        async def locate(link: RedisLink) -> Address:
            assert self._topology is not None  # noqa: S101 - links are started by it
            return await self._topology.locate(link)

        return RedisLink(self, locate, self._connect_to, tag)

    async def _connect_to(self, address: Address, role: str) -> RedisConnection:
        options = self.options
        is_sentinel = role == "sentinel"
        return await connect(
            address,
            tls=self._tls,
            username=options.sentinel_username if is_sentinel else options.username,
            password=options.sentinel_password if is_sentinel else options.password,
            database=0 if is_sentinel else options.database,
            name=f"tidegate:{self.node.id}:{role}",
            max_string_bytes=max(_MIN_STRING_BYTES, self.limits.max_message_bytes + OVERHEAD_BYTES),
            timeout_s=options.connect_timeout_s,
        )

    def _links(self) -> Topology:
        if self._topology is None:
            raise BrokerClosedError("the broker was not started")
        return self._topology

    def _moved_slots(self, changed: list[RedisLink]) -> None:
        """Bring everything to the link that serves it now."""
        topology = self._links()
        own = [self.keys.node(self.node.id), self.keys.everybody()]
        for link in topology.links:
            link.own_channels = [channel for channel in own if topology.link_of(channel) is link]
        for topic in self._topics:
            link = topology.link_of(self.keys.topic(topic))
            if topic not in link.topics:
                former = [other for other in self._all_links if topic in other.topics]
                if former:
                    link.adopt(topic, former[0])
                else:
                    link.topics.add(topic)
        retired = self._all_links - set(topology.links)
        for link in {*changed, *retired}:
            # At once, so that what is in flight goes before what waits behind it.
            link.restart("slots have moved")
        for link in self._all_links:
            self.link_located(link)
        self._all_links = set(topology.links)
        for link in retired:
            link.outbox.retire()
            self._spawn(link.close())
        for link in topology.links:
            link.start()

    def link_located(self, link: RedisLink) -> None:
        """Take what waits in its outbox to the links that serve it now; most often, that is where it is."""
        link_of = self._links().link_of
        for entry in link.outbox.take_where(lambda entry: link_of(entry.channel) is not link):
            other = link_of(entry.channel)
            other.outbox.put(entry)
            other.wake()

    # -- health ----------------------------------------------------------------------------------------

    def link_changed(self, link: RedisLink) -> None:
        """Of a link: it is ready, or is not, or for another reason."""
        if link.is_up:
            self._registry_due.set()
        else:
            self._up_since = None
        self._moved()
        self._refresh_health()

    def _refresh_health(self) -> None:
        if self._topology is None or not self._is_open:
            return
        reasons = [link.health.reason for link in self._topology.links if not link.health.is_ready]
        self._health.set(reasons[0] if reasons else self._registry_problem)

    def link_gap(self, gap: Gap) -> None:
        self.counters.gaps += 1
        if not gap.is_complete:
            logger.warning(
                "cut off from Redis for %.1f s: durable publications may be lost, %d were read afterwards",
                gap.seconds,
                gap.caught_up,
                extra={"node": self.node.id},
            )
        self._call(self.callbacks.on_gap, gap)

    @property
    def health(self) -> Health:
        state = self._health
        links = self._topology.links if self._topology is not None else []
        trips = [link.round_trip_s for link in links if link.round_trip_s is not None]
        return Health(
            state.is_ready,
            state.reason,
            state.since,
            max(trips) if trips else None,
            sum(len(link.outbox) for link in links),
            sum(link.outbox.nbytes for link in links),
        )

    # -- the registry ----------------------------------------------------------------------------------

    def known_nodes(self) -> int:
        return len(self._nodes)

    def _register_arguments(self, lease_ms: int) -> list[bytes | str | int]:
        return REGISTER.arguments(self.keys.registry(), [self.node.id, self._encoded_node, lease_ms])

    async def _keep_registered(self) -> None:
        lease_s = self.limits.lease_s
        while True:
            self._registry_due.clear()
            link = self._links().link_of(self.keys.registry()[0])
            if link.is_up:
                is_first = self._up_since is None
                await self._register(link)
                if is_first and not self._registry_problem:
                    self._up_since = asyncio.get_running_loop().time()
                    self._announce(EnvelopeKind.HELLO)
            # What is refused is tried again as often as a round trip is made.
            wait_s = min(lease_s / 3, self.options.canary_interval_s) if self._registry_problem else lease_s / 3
            try:
                async with asyncio.timeout(wait_s):
                    await self._registry_due.wait()
            except TimeoutError:
                continue

    async def _register(self, link: RedisLink) -> None:
        try:
            reply = await link.call(*self._register_arguments(int(self.limits.lease_s * 1000)))
        except RespError as error:
            self._registry_problem = f"it refuses to be written to: {error}"
        except ConnectionLost:
            return
        else:
            self._registry_problem = ""
            self._take_registry(reply)
        self._refresh_health()

    def _take_registry(self, reply: Any) -> None:
        there = set()
        for data in reply if isinstance(reply, list) else ():
            node = decode_node(data)
            if node is not None:
                there.add(node.id)
                self._node_joined(node)
        # A registry that was lost, or that nobody could write to, fills again within a lease.
        now = asyncio.get_running_loop().time()
        if self._up_since is not None and now - self._up_since > self.limits.lease_s:
            for node_id in set(self._nodes) - there:
                self._seen.forget(node_id)
                self._node_left(node_id)

    def _announce(self, kind: EnvelopeKind) -> None:
        entry = Entry(self.keys.everybody(), kind, self._encoded_node, self._deadline())
        link = self._links().link_of(entry.channel)
        if link.can_take(entry.nbytes):
            link.publish(entry)

    # -- what comes ------------------------------------------------------------------------------------

    open_envelope = BrokerCore._open_envelope

    def link_message(self, channel: bytes, envelope: Envelope, catch_up: CatchUp | None = None) -> None:
        if envelope.sender == self.node.id:
            if envelope.kind is EnvelopeKind.REQUEST:
                self._request_came_back(envelope.reference)
            return
        if not self._seen.is_new(envelope, channel, catch_up):
            self.counters.duplicates += 1
            return
        kind = envelope.kind
        if kind is _PUBLICATION:
            self._deliver(self.keys.topic_of(channel), envelope)
        elif kind is EnvelopeKind.REQUEST:
            self._take(self.keys.topic_of(channel), envelope)
        elif kind is EnvelopeKind.HELLO:
            node = decode_node(envelope.body)
            if node is not None and node.id == envelope.sender:
                self._node_joined(node)
        elif kind is EnvelopeKind.BYE:
            self._seen.forget(envelope.sender)
            self._node_left(envelope.sender)
        else:
            self._take(None, envelope)

    def _deliver(self, topic: str | None, envelope: Envelope) -> None:
        """A publication. Of one to several topics the first copy counts, of those that are subscribed to."""
        if envelope.reference and topic in self._topics and not self._seen.is_first_copy(envelope):
            return
        self._take(topic, envelope)

    def missed(self, topic: str, envelope: Envelope, catch_up: CatchUp) -> bool:
        """Of a stream: whether it had not come."""
        if envelope.sender == self.node.id or not self._seen.is_new(envelope, self.keys.topic(topic), catch_up):
            return False
        self._deliver(topic, envelope)
        return True

    def settle(self, catch_up: CatchUp) -> None:
        self._seen.settle(catch_up)

    # -- what goes -------------------------------------------------------------------------------------

    def _deadline(self) -> float:
        return self._loop.time() + self.limits.publish_timeout_s

    def encode(self, entry: Entry) -> bytes:
        return self._envelope(entry.kind, entry.lane, entry.sequence, entry.reference, entry.extra, entry.body)

    def _subscribe(self, topic: str) -> None:
        if self._topology is not None:
            self._topology.link_of(self.keys.topic(topic)).subscribe(topic)

    def _unsubscribe(self, topic: str) -> None:
        if self._topology is not None:
            self._topology.link_of(self.keys.topic(topic)).unsubscribe(topic)

    async def synced(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._until_ready()
                await asyncio.gather(*(link.synced() for link in self._links().links))
        except TimeoutError:
            return False
        return self._is_open

    async def _until_ready(self) -> None:
        while not self._health.is_ready:
            await self._movement.wait()

    async def _publish(self, topics: tuple[str, ...], payload: bytes, durable: bool, when_down: WhenDown) -> bool:
        keys, topology = self.keys, self._links()
        deadline = self._deadline()
        reference = next(self._several) if len(topics) > 1 else 0
        entries = []
        for topic in topics:
            stream = keys.stream(topic) if durable else None
            entry = Entry(keys.topic(topic), _PUBLICATION, payload, deadline, reference, int(durable), stream)
            entries.append((topology.link_of(entry.channel), entry))
        return await self._put(entries, durable, when_down)

    def publish_now(self, topic: str, payload: bytes) -> bool:
        check_topic(topic)
        self._check(payload)
        channel = self.keys.topic(topic)
        link = self._links().link_of(channel)
        entry = Entry(channel, _PUBLICATION, payload, self._deadline())
        if not link.can_take(entry.nbytes):
            return False
        link.publish(entry)
        self.counters.published += 1
        self.counters.published_bytes += len(payload)
        return True

    async def _put(self, entries: list[tuple[RedisLink, Entry]], is_stored: bool, when_down: WhenDown) -> bool:
        """is_stored: return once the server has said so."""
        busy = next((link for link, entry in entries if not link.can_take(entry.nbytes)), None)
        if busy is None:
            if not is_stored:
                for link, entry in entries:
                    link.publish(entry)
                return True
        elif when_down != "wait":
            self.counters.dropped["full" if busy.is_up else "down"] += 1
            if when_down == "fail":
                raise BrokerUnavailableError("its outbox is full" if busy.is_up else busy.health.reason)
            return False
        # Those that there is room for before anything is awaited: who publishes next comes behind them.
        lined_up = [(link, entry, self._line_up(link, entry)) for link, entry in entries]
        if len(entries) == 1:
            return await self._hand_over(*lined_up[0], when_down)
        results = await asyncio.gather(
            *(self._hand_over(*each, when_down) for each in lined_up), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return all(results)

    def _line_up(self, link: RedisLink, entry: Entry) -> bool:
        """Whether there was room for it."""
        entry.future = self._loop.create_future()
        if not link.outbox.has_room(entry.nbytes):
            return False
        link.publish(entry)
        return True

    async def _hand_over(self, link: RedisLink, entry: Entry, is_in_line: bool, when_down: WhenDown) -> bool:
        """Return once the server has taken what ``_line_up`` was called for. Raises: BrokerError."""
        while True:
            assert entry.future is not None  # noqa: S101 - since it was lined up
            try:
                while not is_in_line:
                    is_in_line = await link.outbox.put_when_room(entry)
                    if not self._is_open:
                        raise BrokerClosedError("the broker was closed")
                    now = self._links().link_of(entry.channel)
                    if now is not link:  # its slot has moved meanwhile
                        self.link_located(link)
                        link = now
                    link.wake()
                link.deadlines.add(entry.deadline, entry.future)
                await entry.future
                return True
            except TimeoutError:
                self._withdraw(entry)
                self.counters.dropped["expired"] += 1
                reason = link.health.reason or "it did not answer in time"
                raise BrokerUnavailableError(reason, is_maybe_published=entry.is_written) from None
            except asyncio.CancelledError:
                self._withdraw(entry)
                raise
            except RespError as error:
                if error.code not in OF_THE_MOMENT:
                    self.counters.dropped["refused"] += 1
                    raise BrokerError(f"the broker refused a publication: {error}") from None
                if when_down != "wait" or asyncio.get_running_loop().time() + _RETRY_S > entry.deadline:
                    self.counters.dropped["refused"] += 1
                    if when_down == "drop":
                        return False
                    raise BrokerUnavailableError(str(error)) from None
            await asyncio.sleep(_RETRY_S)
            link = self._links().link_of(entry.channel)
            is_in_line = self._line_up(link, entry)

    def _withdraw(self, entry: Entry) -> None:
        if entry.outbox is not None:
            entry.outbox.withdraw(entry)

    async def send(self, node_id: str, payload: bytes, *, when_down: WhenDown = "wait") -> None:
        self._check(payload)
        if node_id != self.node.id:
            await self._put(
                [self._entry(self.keys.node(node_id), EnvelopeKind.DIRECT, 0, 0, payload)], False, when_down
            )

    def _entry(
        self, channel: bytes, kind: EnvelopeKind, reference: int, extra: int, body: bytes
    ) -> tuple[RedisLink, Entry]:
        entry = Entry(channel, kind, body, self._deadline(), reference, extra)
        return self._links().link_of(channel), entry

    async def _send(self, node_id: str, kind: EnvelopeKind, reference: int, extra: int, body: bytes) -> None:
        if not self._is_open:
            raise BrokerClosedError("the broker is not running")
        await self._put([self._entry(self.keys.node(node_id), kind, reference, extra, body)], False, "fail")

    async def _ask(self, node_id: str | None, topic: str | None, reference: int, extra: int, body: bytes) -> Expected:
        if topic is not None:
            channel = self.keys.topic(topic)
        else:
            channel = self.keys.node(node_id) if node_id is not None else self.keys.everybody()
        link, entry = self._entry(channel, EnvelopeKind.REQUEST, reference, extra, body)
        names: Iterable[str] = list(self._nodes)
        if not link.can_take(entry.nbytes):
            self.counters.dropped["full" if link.is_up else "down"] += 1
            raise BrokerUnavailableError("its outbox is full" if link.is_up else link.health.reason)
        entry.future = asyncio.get_running_loop().create_future()
        link.publish(entry)
        try:
            count = await entry.future
        except RespError as error:
            raise BrokerError(f"the broker refused a request: {error}") from None
        finally:
            if not entry.future.done() or entry.future.cancelled():
                self._withdraw(entry)
        if topic is not None:
            return Expected(None, count)
        if node_id is not None:
            return Expected({node_id}, gone=set() if count else {node_id})
        return Expected(set(names))

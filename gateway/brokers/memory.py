"""Several nodes of one process, joined by a `MemoryHub`: for tests, and for a process that is alone.

Nothing is written anywhere, so nothing is ever down, and what is published arrives in a later turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque

from ..envelope import Envelope, EnvelopeKind
from .base import BrokerClosedError, BrokerLimits, BrokerUnavailableError, Callbacks, Node, WhenDown
from .core import BrokerCore, Expected


class MemoryHub:
    """What the brokers of one process meet at."""

    def __init__(self) -> None:
        self.brokers: dict[str, MemoryBroker] = {}
        self.subscribers: dict[str, dict[str, MemoryBroker]] = {}


class MemoryBroker(BrokerCore):
    """A node at a hub; without one it is alone.

    Its outbox is what the other nodes of the process have not been called with yet, each with a bound of its own.
    """

    def __init__(
        self,
        hub: MemoryHub | None = None,
        node: Node | None = None,
        callbacks: Callbacks | None = None,
        limits: BrokerLimits | None = None,
    ) -> None:
        super().__init__(node, callbacks, limits)
        self.hub = hub or MemoryHub()
        self._inbox: deque[tuple[str | None, Envelope]] = deque()
        self._inbox_bytes = 0
        self._has_room_again = asyncio.Event()

    async def start(self) -> None:
        if self._is_open:
            return
        if self.node.id in self.hub.brokers:
            raise BrokerClosedError(f"node {self.node.id} is at this hub already")
        self._is_open = True
        others = list(self.hub.brokers.values())
        self.hub.brokers[self.node.id] = self
        for topic in self._topics:
            self._subscribe(topic)
        for other in others:
            self._node_joined(other.node)
            other._node_joined(self.node)
        self._health.set()

    async def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        del self.hub.brokers[self.node.id]
        for topic in self._topics:
            self._leave_hub(topic)
        for other in list(self.hub.brokers.values()):
            other._node_left(self.node.id)
        self._inbox.clear()
        self._inbox_bytes = 0
        self._has_room_again.set()
        self._nodes.clear()
        self._health.set("closed")
        await self._end_tasks()

    async def synced(self, timeout_s: float) -> bool:
        return self._is_open

    def _subscribe(self, topic: str) -> None:
        if self._is_open:
            self.hub.subscribers.setdefault(topic, {})[self.node.id] = self

    def _unsubscribe(self, topic: str) -> None:
        self._leave_hub(topic)

    def _leave_hub(self, topic: str) -> None:
        found = self.hub.subscribers.get(topic)
        if found is not None:
            found.pop(self.node.id, None)
            if not found:
                del self.hub.subscribers[topic]

    async def _publish(self, topics: tuple[str, ...], payload: bytes, durable: bool, when_down: WhenDown) -> bool:
        envelope = Envelope(EnvelopeKind.PUBLICATION, self.node.id, body=payload)
        receivers = self._receivers(topics)
        behind = [broker for broker in receivers if not self._has_room(broker, envelope)]
        if behind and when_down == "fail":
            self.counters.dropped["full"] += 1
            raise BrokerUnavailableError(f"node {behind[0].node.id} is behind")
        for broker, topic in receivers.items():
            await self._hand_to(broker, topic, envelope, when_down)
        return not behind or when_down == "wait"

    def _has_room(self, broker: MemoryBroker, envelope: Envelope) -> bool:
        return broker._inbox_bytes + len(envelope.body) <= self.limits.max_outbox_bytes

    def _receivers(self, topics: tuple[str, ...]) -> dict[MemoryBroker, str]:
        found: dict[MemoryBroker, str] = {}
        for topic in topics:
            for broker in self.hub.subscribers.get(topic, {}).values():
                if broker is not self:
                    found.setdefault(broker, topic)
        return found

    async def _hand_to(self, broker: MemoryBroker, topic: str | None, envelope: Envelope, when_down: WhenDown) -> None:
        if not self._has_room(broker, envelope) and when_down != "wait":
            self.counters.dropped["full"] += 1
            if when_down == "fail":
                raise BrokerUnavailableError(f"node {broker.node.id} is behind")
            return
        try:
            async with asyncio.timeout(self.limits.publish_timeout_s):
                while not self._has_room(broker, envelope) and broker._is_open:
                    broker._has_room_again.clear()
                    await broker._has_room_again.wait()
        except TimeoutError:
            self.counters.dropped["expired"] += 1
            raise BrokerUnavailableError(f"node {broker.node.id} is behind") from None
        broker._put(topic, envelope)

    def _put(self, topic: str | None, envelope: Envelope) -> None:
        if not self._is_open:
            return
        if not self._inbox:
            asyncio.get_running_loop().call_soon(self._empty_inbox)
        self._inbox.append((topic, envelope))
        self._inbox_bytes += len(envelope.body)

    def _empty_inbox(self) -> None:
        for _ in range(len(self._inbox)):
            if not self._inbox:  # a callback has closed this broker
                return
            topic, envelope = self._inbox.popleft()
            self._inbox_bytes -= len(envelope.body)
            self._take(topic, envelope)
        self._has_room_again.set()
        if self._inbox:
            asyncio.get_running_loop().call_soon(self._empty_inbox)

    async def send(self, node_id: str, payload: bytes, *, when_down: WhenDown = "wait") -> None:
        self._check(payload)
        broker = self.hub.brokers.get(node_id)
        if broker is not None:
            await self._hand_to(broker, None, Envelope(EnvelopeKind.DIRECT, self.node.id, body=payload), when_down)

    async def _send(self, node_id: str, kind: EnvelopeKind, reference: int, extra: int, body: bytes) -> None:
        if not self._is_open:
            raise BrokerClosedError("the broker is not running")
        broker = self.hub.brokers.get(node_id)
        if broker is not None:
            broker._put(None, Envelope(kind, self.node.id, reference=reference, extra=extra, body=body))

    async def _ask(self, node_id: str | None, topic: str | None, reference: int, extra: int, body: bytes) -> Expected:
        envelope = Envelope(EnvelopeKind.REQUEST, self.node.id, reference=reference, extra=extra, body=body)
        if topic is not None:
            brokers = list(self._receivers((topic,)))
        elif node_id is not None:
            brokers = [broker for broker in [self.hub.brokers.get(node_id)] if broker is not None]
        else:
            brokers = [broker for broker in self.hub.brokers.values() if broker is not self]
        for broker in brokers:
            broker._put(topic, envelope)
        names = {broker.node.id for broker in brokers}
        gone = {node_id} - names if node_id is not None else set()
        return Expected(names | gone, gone=gone)

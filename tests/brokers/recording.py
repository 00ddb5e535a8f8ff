"""A node of a test: a broker, and what it was called with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gateway.brokers.base import Broker, Callbacks, Gap, Health, Node, Request
from tests.support.waiting import eventually, timeout_s


@dataclass(eq=False)
class Recording:
    """``messages``: topic, sender, payload, in the order in which they came."""

    messages: list[tuple[str, str, bytes]] = field(default_factory=list)
    direct: list[tuple[str, bytes]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    health: list[Health] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    answer: Callable[[Request], Awaitable[bytes]] | None = None

    def callbacks(self) -> Callbacks:
        return Callbacks(
            on_message=lambda topic, sender, payload: self.messages.append((topic, sender, payload)),
            on_direct=lambda sender, payload: self.direct.append((sender, payload)),
            on_request=self._on_request,
            on_node_joined=lambda node: self.joined.append(node.id),
            on_node_left=lambda node: self.left.append(node.id),
            on_health=self.health.append,
            on_gap=self.gaps.append,
        )

    async def _on_request(self, request: Request) -> bytes:
        self.requests.append(request)
        return b"answer to " + request.payload if self.answer is None else await self.answer(request)

    def payloads(self, topic: str | None = None) -> list[bytes]:
        return [payload for found, _, payload in self.messages if topic in (None, found)]

    def was_red(self) -> bool:
        return any(not health.is_ready for health in self.health)


@dataclass(eq=False)
class TestNode:
    """Started, and ready."""

    __test__ = False

    broker: Broker
    seen: Recording

    @property
    def id(self) -> str:
        return self.broker.node.id

    async def subscribe(self, *topics: str) -> None:
        """Return once it is in effect."""
        for topic in topics:
            self.broker.subscribe(topic)
        assert await self.broker.synced(timeout_s(10)), "subscriptions did not take effect"

    async def got(self, payloads: list[bytes], topic: str | None = None, seconds: float = 15) -> None:
        """Wait until that many have come, and fail unless they are these, in this order."""
        try:
            await eventually(lambda: len(self.seen.payloads(topic)) >= len(payloads), seconds=seconds)
        except AssertionError:
            raise AssertionError(f"{len(self.seen.payloads(topic))} of {len(payloads)} messages came") from None
        assert self.seen.payloads(topic) == payloads

    async def is_ready(self, seconds: float = 15) -> None:
        await eventually(lambda: self.broker.health.is_ready, "ready", seconds)

    async def is_not_ready(self, seconds: float = 15) -> None:
        await eventually(lambda: not self.broker.health.is_ready, "not ready", seconds)


def numbered(count: int, prefix: str = "") -> list[bytes]:
    return [f"{prefix}{number}".encode() for number in range(count)]


async def all_know_each_other(nodes: list[TestNode]) -> None:
    for node in nodes:
        others = {other.id for other in nodes if other is not node}
        await eventually(lambda node=node, others=others: others <= set(node.broker.nodes()), "all nodes known")


def make_node(number: int) -> Node:
    return Node(info={"number": number})


async def flush_loop() -> None:
    """A few turns of the loop."""
    for _ in range(10):
        await asyncio.sleep(0)

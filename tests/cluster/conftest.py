"""Clusters of servers in this process, over each kind of broker, with python-socketio's own clients."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import socketio
from aiohttp import web

import gateway
from gateway.brokers.base import BrokerLimits
from gateway.cluster import Cluster
from tests.support.redis_server import RedisServer, running
from tests.support.servers import serving
from tests.support.waiting import eventually, timeout_s

KINDS = ("memory", "unix", "redis")
LIMITS = BrokerLimits(lease_s=2.0, publish_timeout_s=20.0)


class Client:
    """A ``socketio.AsyncClient`` that writes down what it hears."""

    def __init__(self, namespace: str, **options: Any) -> None:
        self.io = socketio.AsyncClient(reconnection=False, **options)
        self.namespace = namespace
        self.heard: list[tuple[Any, ...]] = []
        self.is_gone = False
        self.answer: Callable[..., Any] = lambda *arguments: arguments[0] if arguments else None
        self.io.on("*", self._hear, namespace=namespace)
        self.io.on("disconnect", self._leave, namespace=namespace)

    async def _hear(self, event: str, *arguments: Any) -> Any:
        self.heard.append((event, *arguments))
        result = self.answer(*arguments)
        return await result if asyncio.iscoroutine(result) else result

    async def _leave(self, reason: str) -> None:
        self.is_gone = True

    @property
    def sid(self) -> str:
        sid: str = self.io.get_sid(self.namespace)
        return sid

    def has_heard(self, count: int) -> bool:
        return len(self.heard) == count

    async def hears(self, *events: tuple[Any, ...]) -> None:
        """These, in this order, since the last time, and nothing before or between them."""
        await eventually(lambda: len(self.heard) >= len(events), f"{events}, so far {self.heard}")
        heard, self.heard = self.heard[: len(events)], self.heard[len(events) :]
        assert heard == list(events)

    async def leave(self) -> None:
        await self.io.shutdown()
        if self.io.eio.http is not None:
            await self.io.eio.http.close()


def of(server: gateway.Server) -> Cluster:
    """The server's cluster."""
    assert server.cluster is not None
    return server.cluster


class ClusterWorld:
    """Servers that know each other, and their clients."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.url = url
        self.servers: list[gateway.Server] = []
        self.ports: list[int] = []
        self._stack = stack

    async def serve(self, count: int, **options: Any) -> list[gateway.Server]:
        fresh = []
        for _ in range(count):
            server = gateway.Server(broker=self.url, broker_limits=LIMITS, namespaces=["/", "/other"], **options)
            app = web.Application()
            server.attach(app)
            self.ports.append(await self._stack.enter_async_context(serving(app)))
            self.servers.append(server)
            fresh.append(server)
        await eventually(self._all_know_each_other, "servers that know each other", 20)
        return fresh

    def _all_know_each_other(self) -> bool:
        count = len(self.servers)
        return all(of(server).health.is_ready and len(of(server).nodes()) == count for server in self.servers)

    async def client(
        self, number: int, *rooms: str, namespace: str = "/", synced: bool = True, **options: Any
    ) -> Client:
        """A client of the server of that number, in these rooms. ``synced``: other servers know of that."""
        client = Client(namespace, **options)
        self._stack.push_async_callback(client.leave)
        await client.io.connect(
            f"http://127.0.0.1:{self.ports[number]}",
            namespaces=[namespace],
            transports=["websocket"],
            wait_timeout=timeout_s(5),
        )
        server = self.servers[number]
        for room in rooms:
            await server.enter_room(client.sid, room, namespace=namespace)
        assert not synced or await of(server).synced(timeout_s(10))
        return client


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    with running(server):
        yield server


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """One of the test's own, to be stopped."""
    server = RedisServer(tmp_path)
    with running(server):
        yield server


@pytest.fixture(params=KINDS)
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return f"memory:{secrets.token_hex(4)}"
    if request.param == "unix":
        return f"unix:{tmp_path / 'bus'}"
    server: RedisServer = request.getfixturevalue("shared_redis")
    return f"{server.url}?prefix=test-{secrets.token_hex(4)}:&settle_s=0.2"


@pytest.fixture
async def cluster(broker_url: str) -> AsyncIterator[ClusterWorld]:
    async with AsyncExitStack() as stack:
        yield ClusterWorld(broker_url, await stack.enter_async_context(AsyncExitStack()))

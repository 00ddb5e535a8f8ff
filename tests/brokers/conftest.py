"""The kinds of brokers that the contract is checked with."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.brokers.base import Broker, BrokerLimits, Node
from gateway.brokers.memory import MemoryBroker, MemoryHub
from gateway.brokers.redis import RedisBroker
from gateway.brokers.redis_options import parse_url
from gateway.brokers.unix import UnixBroker
from tests.support.redis_server import HAS_VALKEY, RedisServer, cluster_setup, running, sentinel_setup

from .recording import Recording, TestNode, all_know_each_other, make_node

LIMITS = BrokerLimits(lease_s=2.0, publish_timeout_s=20.0)
KINDS = ["memory", "unix", "redis", "redis-cluster", "redis-sentinel", *(["valkey"] if HAS_VALKEY else [])]

Spawn = Callable[..., Awaitable[list[TestNode]]]


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    with running(server):
        yield server


@pytest.fixture(scope="session")
def redis_url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster_setup(tmp_path_factory.mktemp("cluster")) as servers:
        yield f"redis+cluster://{','.join(f'127.0.0.1:{server.port}' for server in servers)}"


@pytest.fixture(scope="session")
def sentinel_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with sentinel_setup(tmp_path_factory.mktemp("sentinel")) as watched:
        yield watched.url


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = RedisServer(tmp_path_factory.mktemp("valkey"), program="valkey-server")
    with running(server):
        yield f"valkey://127.0.0.1:{server.port}"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def spawn(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Spawn]:
    """Starts nodes of one cluster, which are ready and know each other."""
    urls = {
        "redis": "redis_url",
        "redis-cluster": "cluster_url",
        "redis-sentinel": "sentinel_url",
        "valkey": "valkey_url",
    }
    url = request.getfixturevalue(urls[kind]) if kind in urls else ""
    # Other tests use the same servers.
    prefix = f"test-{secrets.token_hex(4)}:"
    hub = MemoryHub()

    def broker(node: Node, seen: Recording, limits: BrokerLimits) -> Broker:
        if kind == "memory":
            return MemoryBroker(hub, node, seen.callbacks(), limits)
        if kind == "unix":
            return UnixBroker(tmp_path / "bus", node, seen.callbacks(), limits)
        return RedisBroker(parse_url(url, prefix=prefix), node, seen.callbacks(), limits)

    async with nodes_of(broker) as start:
        yield start


@contextlib.asynccontextmanager
async def nodes_of(make: Callable[[Node, Recording, BrokerLimits], Broker]) -> AsyncIterator[Spawn]:
    nodes: list[TestNode] = []

    async def start(count: int, limits: BrokerLimits = LIMITS) -> list[TestNode]:
        fresh = []
        for _ in range(count):
            seen = Recording()
            fresh.append(TestNode(make(make_node(len(nodes) + len(fresh)), seen, limits), seen))
        nodes.extend(fresh)
        await asyncio.gather(*(node.broker.start() for node in fresh))
        for node in fresh:
            await node.is_ready()
        await all_know_each_other([node for node in nodes if node.broker.health.is_ready])
        return fresh

    try:
        yield start
    finally:
        await asyncio.gather(*(node.broker.close() for node in nodes))

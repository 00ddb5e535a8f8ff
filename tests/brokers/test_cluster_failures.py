"""Redis Cluster: a master stops, comes back, and slots move while messages flow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.brokers.redis_keys import hash_slot
from tests.support.redis_server import RedisServer, cluster_setup
from tests.support.waiting import eventually

from .flow import Flow, assert_in_order_and_once, flowing
from .recording import TestNode, numbered
from .test_redis_failures import all_ready, broker_of, got_all, nodes_at

pytestmark = pytest.mark.usefixtures("no_logged_errors")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[RedisServer]]:
    with cluster_setup(tmp_path) as servers:
        yield servers


def url_of(cluster: list[RedisServer]) -> str:
    return f"redis+cluster://127.0.0.1:{cluster[0].port}"


def topic_at(node: TestNode, server: RedisServer) -> str:
    """One that the server serves."""
    broker = broker_of(node)
    for number in range(10_000):
        topic = f"room {number}"
        address = broker._links().link_of(broker.keys.topic(topic)).address
        if address is not None and address.port == server.port:
            return topic
    raise AssertionError("no topic lies there")


async def test_topics_lie_on_every_master(cluster: list[RedisServer]) -> None:
    async with nodes_at(url_of(cluster)) as spawn:
        one, two = await spawn(2)
        topics = [topic_at(one, server) for server in cluster]
        await two.subscribe(*topics)
        for topic, server in zip(topics, cluster, strict=True):
            assert server.client().execute_command("PUBSUB", "SHARDCHANNELS", broker_of(two).keys.topic(topic))
            await one.broker.publish(topic, topic.encode(), durable=True)
            await two.got([topic.encode()], topic)
            assert server.client().xlen(broker_of(one).keys.stream(topic)) == 1


@pytest.mark.parametrize("place", [0, 1])
async def test_master_that_stands_still_holds_up_its_own_topics_alone(cluster: list[RedisServer], place: int) -> None:
    """Also the one that is named in the URL, and asked first."""
    still = cluster[place]
    async with nodes_at(url_of(cluster)) as spawn:
        one, two = await spawn(2)
        here, there = topic_at(one, still), topic_at(one, cluster[2])
        await two.subscribe(here, there)
        still.pause()
        await one.is_not_ready()
        assert str(still.port) in one.broker.health.reason
        waiting = asyncio.create_task(one.broker.publish(here, b"waited", durable=True))
        for payload in numbered(50):
            await one.broker.publish(there, payload, when_down="fail")
        await two.got(numbered(50), there)
        still.resume()
        await waiting
        await all_ready(one, two)
        await two.got([b"waited"], here)


@pytest.mark.parametrize("busy", [1, 2], ids=["where it goes", "elsewhere"])
async def test_slot_that_moves_takes_its_topic_along(cluster: list[RedisServer], busy: int) -> None:
    async with nodes_at(url_of(cluster)) as spawn:
        one, two = await spawn(2)
        topic = topic_at(one, cluster[0])
        beside = topic_at(one, cluster[busy])
        await two.subscribe(topic, beside)
        durable, other = Flow(one, topic, durable=True), Flow(one, beside, durable=busy == 1)
        async with flowing(durable, other):
            await eventually(lambda: len(durable.received(two)) > 50, "a flow")
            slot = hash_slot(broker_of(one).keys.topic(topic))
            await asyncio.to_thread(_move_slot, slot, cluster[0], cluster[1], cluster)
            await eventually(
                lambda: all(
                    broker_of(node)._links().link_of(broker_of(node).keys.topic(topic)).address.port == cluster[1].port  # type: ignore[union-attr]
                    for node in (one, two)
                ),
                "the topic at its new master",
                20,
            )
            await all_ready(one, two)
            came = len(durable.received(two))
            await eventually(lambda: len(durable.received(two)) > came + 50, "a flow again")
        assert not durable.failed
        await got_all(two, durable, durable.taken)
        await got_all(two, other, other.taken)
        assert_in_order_and_once(durable.received(two))


def _move_slot(slot: int, source: RedisServer, target: RedisServer, servers: list[RedisServer]) -> None:
    """As ``redis-cli --cluster reshard`` does it."""
    ids = {server: server.client().execute_command("CLUSTER", "MYID").decode() for server in servers}
    target.client().execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    source.client().execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    while keys := source.client().execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
        source.client().execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    for server in (target, source, *servers):
        server.client().execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


async def test_master_that_restarts_is_subscribed_to_again(cluster: list[RedisServer]) -> None:
    async with nodes_at(url_of(cluster)) as spawn:
        one, two = await spawn(2)
        topics = [topic_at(one, server) for server in cluster]
        await two.subscribe(*topics)
        for server in cluster:
            await asyncio.to_thread(server.stop)
            await two.is_not_ready()
            await asyncio.to_thread(server.start)
            await all_ready(one, two)
        for topic in topics:
            await one.broker.publish(topic, b"after", durable=True)
            await two.got([b"after"], topic)

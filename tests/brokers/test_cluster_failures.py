"""Redis Cluster: a master stops, comes back, or leaves its slots to a replica, and slots move while messages flow."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.brokers.redis_keys import hash_slot
from tests.support.redis_server import RedisServer, await_cluster_replica, cluster_id, cluster_setup
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
    ids = {server: cluster_id(server) for server in servers}
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


@pytest.fixture
def with_replica(tmp_path: Path) -> Iterator[list[RedisServer]]:
    """Three masters, and a replica of the first."""
    with cluster_setup(tmp_path, replicas=1, appendonly="yes") as servers:
        yield servers


def serves(node: TestNode, topic: str) -> int | None:
    """The port of the topic's master, where the link to it is up."""
    broker = broker_of(node)
    link = broker._links().link_of(broker.keys.topic(topic))
    return link.address.port if link.is_up and link.address is not None else None


async def at_replica(nodes: list[TestNode], topic: str, replica: RedisServer) -> None:
    await eventually(lambda: all(serves(node, topic) == replica.port for node in nodes), "the new master", 30)
    await all_ready(*nodes)


async def test_failover_that_a_replica_is_asked_for_loses_nothing_durable(with_replica: list[RedisServer]) -> None:
    """The master takes nothing more until its replica has all that it took."""
    master, other, _, replica = with_replica
    async with nodes_at(url_of(with_replica)) as spawn:
        one, two = await spawn(2)
        topic, elsewhere = topic_at(one, master), topic_at(one, other)
        await two.subscribe(topic, elsewhere)
        durable, live = Flow(one, topic, durable=True), Flow(one, elsewhere, durable=False)
        async with flowing(durable, live):
            for former, next_one in ((master, replica), (replica, master)):
                came = len(durable.received(two))
                await eventually(lambda came=came: len(durable.received(two)) > came + 50, "a flow")
                await asyncio.to_thread(next_one.client().execute_command, "CLUSTER", "FAILOVER")
                await at_replica([one, two], topic, next_one)
                await asyncio.to_thread(await_cluster_replica, former, next_one, with_replica)
        assert not durable.failed
        await got_all(two, durable, durable.taken)
        await got_all(two, live, live.taken)


async def test_replica_takes_over_from_a_master_that_is_killed(with_replica: list[RedisServer]) -> None:
    master, other, _, replica = with_replica
    async with nodes_at(url_of(with_replica)) as spawn:
        one, two = await spawn(2)
        topic, elsewhere = topic_at(one, master), topic_at(one, other)
        await two.subscribe(topic, elsewhere)
        durable, live = Flow(one, topic, durable=True), Flow(one, elsewhere, durable=True)
        async with flowing(durable, live):
            await eventually(lambda: len(durable.received(two)) > 50, "a flow")
            await asyncio.to_thread(master.kill)
            await at_replica([one, two], topic, replica)
            first = durable.taken[-1] + 1
            await eventually(lambda: durable.received(two)[-1] > first + 50, "a flow again", 30)
        assert not durable.failed
        # What only the old master had is sent again. Others may have published more, says the gap.
        await got_all(two, durable, durable.taken)
        assert any(not gap.is_complete for gap in two.seen.gaps)
        await got_all(two, live, live.taken)
        # It comes back as a replica, and changes nothing.
        await asyncio.to_thread(master.start)
        await asyncio.to_thread(await_cluster_replica, master, replica, with_replica)
        await one.broker.publish(topic, b"1000000", durable=True)
        await eventually(lambda: durable.received(two)[-1] == 1_000_000, "after it")

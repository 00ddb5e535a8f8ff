"""What servers do while Redis is away, and after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from gateway.brokers.base import BrokerUnavailableError, Gap
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually, timeout_s

from .conftest import ClusterWorld, of

pytestmark = pytest.mark.usefixtures("no_logged_errors")


@pytest.fixture
async def world(redis_server: RedisServer) -> AsyncIterator[ClusterWorld]:
    async with AsyncExitStack() as stack:
        yield ClusterWorld(f"{redis_server.url}?max_backoff_s=0.3&settle_s=1", stack)


async def test_local_delivery_goes_on_and_the_rest_follows_in_order(
    world: ClusterWorld, redis_server: RedisServer
) -> None:
    one, two = await world.serve(2)
    gaps: list[Gap] = []
    of(two).on_gap = gaps.append
    a, b = await world.client(0, "red"), await world.client(1, "red")
    await one.emit("n", 0, room="red")
    await b.hears(("n", 0))
    await a.hears(("n", 0))
    redis_server.stop()
    await eventually(lambda: not of(one).health.is_ready and not of(two).health.is_ready, "the outage to be seen")
    assert of(one).health.reason
    waiting = [asyncio.create_task(one.emit("n", number, room="red")) for number in range(1, 21)]
    await a.hears(*[("n", number) for number in range(1, 21)])
    assert not any(task.done() for task in waiting), "wait waits"
    await one.emit("dropped", room="red", when_down="drop")
    await one.emit("volatile", room="red", volatile=True)
    with pytest.raises(BrokerUnavailableError):
        await one.emit("failed", room="red", when_down="fail")
    await a.hears(("dropped",), ("volatile",), ("failed",))
    broker = of(one).running()
    assert broker.counters.dropped["down"] == 3
    # What concerns one client of this node needs no broker, and what concerns another's says so.
    assert await one.call("ask", 1, to=a.sid, timeout=timeout_s(5)) == 1
    await a.hears(("ask", 1))
    with pytest.raises(BrokerUnavailableError):
        await one.disconnect(b.sid)
    found = await one.call_all("ask", 2, room="red", timeout=timeout_s(5))
    assert (found.answers, found.missing_nodes) == ({a.sid: 2}, (of(two).node_id,))
    await a.hears(("ask", 2))
    assert [socket.sid for socket in await one.fetch_sockets("red")] == [a.sid]
    assert b.heard == []

    redis_server.start()
    await asyncio.wait_for(asyncio.gather(*waiting), timeout_s(20))
    await eventually(lambda: of(one).health.is_ready and of(two).health.is_ready, "the broker to be back", 20)
    await one.emit("n", 21, room="red")
    await b.hears(*[("n", number) for number in range(1, 22)])
    assert [gap.is_complete for gap in gaps] == [False], "this Redis keeps nothing"
    assert (await one.call_all("ask", 3, room="red", timeout=timeout_s(10))).answers == {a.sid: 3, b.sid: 3}


async def test_server_begins_while_redis_is_away(world: ClusterWorld, redis_server: RedisServer) -> None:
    redis_server.stop()
    serving = asyncio.create_task(world.serve(1))
    began = time.monotonic()
    while not world.servers:
        assert time.monotonic() - began < timeout_s(10)
        await asyncio.sleep(0.01)
    (one,) = world.servers
    a = await world.client(0, synced=False)
    await one.emit("local", when_down="drop")
    await a.hears(("local",))
    assert not of(one).health.is_ready
    redis_server.start()
    await asyncio.wait_for(serving, timeout_s(20))


async def test_durable_events_reach_a_server_that_was_cut_off(world: ClusterWorld, redis_server: RedisServer) -> None:
    one, two = await world.serve(2)
    b = await world.client(1, "red")
    redis = redis_server.client()
    for number in range(60):
        await one.emit("n", number, room="red", durable=True)
        if number % 20 == 10:
            # Both are deaf for a moment, and what is published meanwhile is in the stream alone.
            assert redis.client_kill_filter(_type="pubsub") >= 1
    await b.hears(*[("n", number) for number in range(60)])
    # A gap is told once the server is back in all it does, which may be after the last of what was missed.
    await eventually(lambda: of(two).running().counters.gaps > 0, "the gap to be told")

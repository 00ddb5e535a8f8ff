"""Sentinels, of which the URL names several: some are down, some never answer, one that is asked goes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import Watched, free_ports, sentinel_setup
from tests.support.waiting import eventually

from .flow import Flow, assert_in_order_and_once, flowing
from .recording import TestNode
from .test_redis_failures import all_ready, got_all, nodes_at, port_of

pytestmark = pytest.mark.usefixtures("no_logged_errors")


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with sentinel_setup(tmp_path, sentinels=3) as watched:
        yield watched


def url_of(watched: Watched, order: tuple[int, ...]) -> str:
    ports = ",".join(f"127.0.0.1:{watched.sentinels[place].port}" for place in order)
    return f"redis+sentinel://{ports}/main"


@contextlib.contextmanager
def stood_still(*servers: object) -> Iterator[None]:
    for server in servers:
        server.pause()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for server in servers:
            server.resume()  # type: ignore[attr-defined]


async def rounds(node: TestNode, count: int = 3) -> None:
    """So many questions later."""
    for _ in range(count):
        before = node.broker.health.round_trip_s
        await eventually(lambda before=before: node.broker.health.round_trip_s != before, "a round trip")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[:3])
async def test_one_that_runs_is_enough(watched: Watched, order: tuple[int, ...]) -> None:
    """Of the others one is down and one never answers, in any order."""
    watched.sentinels[0].kill()
    with stood_still(watched.sentinels[1]):
        async with nodes_at(url_of(watched, order)) as spawn:
            one, two = await spawn(2)
            await two.subscribe("room")
            await one.broker.publish("room", b"1", durable=True)
            await two.got([b"1"])
            await rounds(one)
            assert one.broker.counters.reconnects == two.broker.counters.reconnects == 0


@pytest.mark.parametrize("is_killed", [False, True], ids=["stands still", "killed"])
async def test_one_that_is_asked_and_goes_costs_nothing(watched: Watched, is_killed: bool) -> None:
    async with nodes_at(url_of(watched, (0, 1, 2))) as spawn:
        one, two = await spawn(2)
        await two.subscribe("room")
        live = Flow(one, "room", durable=False)
        async with flowing(live):
            await eventually(lambda: len(live.received(two)) > 50, "a flow")
            with stood_still(*([] if is_killed else [watched.sentinels[0]])):
                if is_killed:
                    await asyncio.to_thread(watched.sentinels[0].kill)
                await rounds(one, 5)
                await rounds(two, 5)
            came = len(live.received(two))
            await eventually(lambda: len(live.received(two)) > came + 50, "a flow yet")
        await got_all(two, live, live.taken)
        assert one.broker.counters.reconnects == two.broker.counters.reconnects == 0


async def test_master_that_works_is_used_while_no_sentinel_answers(watched: Watched) -> None:
    async with nodes_at(url_of(watched, (0, 1, 2))) as spawn:
        one, two = await spawn(2)
        await two.subscribe("room")
        watched.sentinels[0].kill()
        watched.sentinels[1].kill()
        with stood_still(watched.sentinels[2]):
            await rounds(one)
            await rounds(two)
            await one.broker.publish("room", b"1")
            await two.got([b"1"])
            assert one.broker.counters.reconnects == two.broker.counters.reconnects == 0
            # Who has to look for the master cannot find it.
            watched.servers[0].client().execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await one.is_not_ready()
            await eventually(lambda: "Sentinel" in one.broker.health.reason, "the reason")
        await all_ready(one, two)


async def test_failover_is_followed_with_what_sentinels_are_left(watched: Watched) -> None:
    master, replica = watched.servers
    nobody = free_ports(1)[0]
    url = url_of(watched, (0, 1, 2)).replace("//", f"//127.0.0.1:{nobody},")
    async with nodes_at(url) as spawn:
        one, two = await spawn(2)
        await two.subscribe("room")
        durable = Flow(one, "room", durable=True)
        with stood_still(watched.sentinels[0]):
            async with flowing(durable):
                await eventually(lambda: len(durable.received(two)) > 50, "a flow")
                await asyncio.to_thread(master.kill)
                await eventually(lambda: port_of(one) == port_of(two) == replica.port, "the new master", 30)
                await all_ready(one, two)
                first = durable.taken[-1] + 1
                await eventually(lambda: durable.received(two)[-1] > first + 50, "a flow again")
            await got_all(two, durable, durable.taken)
        assert_in_order_and_once(durable.received(two))
        assert not durable.failed

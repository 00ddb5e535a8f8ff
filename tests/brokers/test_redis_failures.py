"""What happens to Redis, on the real thing: what was promised is what arrives, by counting."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.brokers.base import BrokerLimits, BrokerUnavailableError, Node
from gateway.brokers.redis import RedisBroker
from gateway.brokers.redis_options import parse_url
from gateway.envelope import Envelope, EnvelopeKind
from tests.support.redis_server import RedisServer, running, sentinel_setup
from tests.support.throttling_proxy import throttling_proxy
from tests.support.waiting import eventually, timeout_s

from .conftest import LIMITS, Spawn, nodes_of
from .flow import Flow, assert_in_order_and_once, flowing
from .recording import Recording, TestNode, numbered

pytestmark = pytest.mark.usefixtures("no_logged_errors")

#: Outages are short here, and found out soon.
QUICK: dict[str, Any] = {
    "canary_interval_s": 0.2,
    "canary_timeout_s": 0.8,
    "connect_timeout_s": 0.8,
    "max_backoff_s": 0.3,
    "settle_s": 3.0,
}


@contextlib.asynccontextmanager
async def nodes_at(url: str | Callable[[], str], **options: Any) -> AsyncIterator[Spawn]:
    def make(node: Node, seen: Recording, limits: BrokerLimits) -> RedisBroker:
        address = url if isinstance(url, str) else url()
        return RedisBroker(parse_url(address, **QUICK | options), node, seen.callbacks(), limits)

    async with nodes_of(make) as start:
        yield start


@contextlib.contextmanager
def server_in(tmp_path: Path, **options: Any) -> Any:
    server = RedisServer(tmp_path, **options)
    with running(server):
        yield server


def broker_of(node: TestNode) -> RedisBroker:
    assert isinstance(node.broker, RedisBroker)
    return node.broker


def port_of(node: TestNode) -> int | None:
    """Of the one master."""
    address = broker_of(node)._links().links[0].address
    return None if address is None else address.port


async def all_ready(*nodes: TestNode) -> None:
    for node in nodes:
        await node.is_ready(30)


async def got_all(node: TestNode, flow: Flow, numbers: list[int]) -> None:
    """Wait for these; others may have come too, all once and in order."""
    wanted = set(numbers)
    try:
        await eventually(lambda: wanted <= set(flow.received(node)), seconds=20)
    except AssertionError:
        missing = sorted(wanted - set(flow.received(node)))
        raise AssertionError(f"{len(missing)} of {len(wanted)} missing: {missing[:20]}") from None
    assert_in_order_and_once(flow.received(node))


async def test_restart_loses_nothing_durable_and_nothing_that_waited(tmp_path: Path) -> None:
    with server_in(tmp_path, appendonly="yes", appendfsync="always") as server:
        async with nodes_at(server.url) as spawn:
            one, two = await spawn(2)
            await two.subscribe("durable", "live")
            durable = Flow(one, "durable", durable=True)
            live = Flow(one, "live", durable=False)
            async with flowing(durable, live):
                await eventually(lambda: len(two.seen.messages) > 50, "a flow")
                server.stop()
                await one.is_not_ready()
                await two.is_not_ready()
                first_waiting = live.taken[-1] + 1
                await asyncio.to_thread(server.start)
                await all_ready(one, two)
                came = len(two.seen.messages)
                await eventually(lambda: len(two.seen.messages) > came + 50, "a flow again")
            assert not durable.failed
            assert not live.failed
            await got_all(two, durable, durable.taken)
            await got_all(two, live, [number for number in live.taken if number >= first_waiting])
            assert two.seen.gaps
            assert two.seen.gaps[0].is_complete
            assert one.broker.counters.dropped == {}
            assert two.broker.nodes().keys() == {one.id}


async def test_pause_turns_readiness_red_and_nothing_is_lost(tmp_path: Path) -> None:
    with server_in(tmp_path) as server:
        async with nodes_at(server.url) as spawn:
            one, two = await spawn(2)
            await two.subscribe("durable", "live", "fail")
            durable, live = Flow(one, "durable", durable=True), Flow(one, "live", durable=False)
            async with flowing(durable, live):
                await eventually(lambda: len(two.seen.messages) > 50, "a flow")
                server.pause()
                await one.is_not_ready()
                await two.is_not_ready()
                assert one.broker.health.reason
                with pytest.raises(BrokerUnavailableError) as refused:
                    await one.broker.publish("fail", b"", when_down="fail")
                assert refused.value.is_retryable
                await one.broker.publish("fail", b"", when_down="drop")
                with pytest.raises(BrokerUnavailableError):
                    await one.broker.request(b"", timeout_s=1)
                assert one.broker.counters.dropped["down"] == 3
                server.resume()
                await all_ready(one, two)
                came = len(two.seen.messages)
                await eventually(lambda: len(two.seen.messages) > came + 50, "a flow again")
            # What Redis had taken in before it stood still it hands on when it goes on; nothing was cut.
            await got_all(two, durable, durable.taken)
            assert_in_order_and_once(live.received(two))
            assert not two.seen.payloads("fail")
            assert not durable.failed


async def test_what_was_not_answered_comes_beside_what_is_durable(tmp_path: Path) -> None:
    """The durable publications that are read after the pause are newer than the others that are sent again."""
    with server_in(tmp_path) as server:
        async with nodes_at(server.url) as spawn:
            one, two = await spawn(2)
            await two.subscribe("durable", "live")
            durable, live = Flow(one, "durable", durable=True), Flow(one, "live", durable=False)
            async with flowing(durable, live):
                await eventually(lambda: len(two.seen.messages) > 50, "a flow")
                server.pause()
                await one.is_not_ready()
                await two.is_not_ready()
                server.resume()
                await all_ready(one, two)
                came = len(two.seen.messages)
                await eventually(lambda: len(two.seen.messages) > came + 50, "a flow again")
            await got_all(two, durable, durable.taken)
            await got_all(two, live, live.taken)


@pytest.mark.parametrize("which", ["pubsub", "normal"])
async def test_connections_that_are_killed_come_back(tmp_path: Path, which: str) -> None:
    with server_in(tmp_path) as server:
        async with nodes_at(server.url) as spawn:
            one, two = await spawn(2)
            await two.subscribe("durable", "live")
            durable, live = Flow(one, "durable", durable=True), Flow(one, "live", durable=False)
            async with flowing(durable, live):
                for _ in range(3):
                    came = len(two.seen.messages)
                    await eventually(lambda came=came: len(two.seen.messages) > came + 30, "a flow")
                    ended = two.broker.counters.reconnects
                    client = server.client()
                    await asyncio.to_thread(client.execute_command, "CLIENT", "KILL", "TYPE", which, "SKIPME", "yes")
                    await eventually(lambda ended=ended: two.broker.counters.reconnects > ended, "a new session")
                    await all_ready(one, two)
            assert two.seen.was_red()
            assert not durable.failed
            await got_all(two, durable, durable.taken)
            assert_in_order_and_once(live.received(two))
            assert all(gap.is_complete for gap in two.seen.gaps)


async def test_client_pause_is_found_out(tmp_path: Path) -> None:
    with server_in(tmp_path) as server:
        async with nodes_at(server.url) as spawn:
            one, two = await spawn(2)
            await two.subscribe("room")
            await asyncio.to_thread(server.client().execute_command, "CLIENT", "PAUSE", 2000, "ALL")
            await one.is_not_ready()
            await one.broker.publish("room", b"waited", durable=True)
            await all_ready(one, two)
            await two.got([b"waited"])


async def test_sessions_that_last_begin_again_without_a_growing_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: list[float] = []

    def longest(_: float, most: float) -> float:
        bounds.append(most)
        return 0.0

    monkeypatch.setattr("gateway.brokers.redis_link.random.uniform", longest)
    monkeypatch.setattr("gateway.brokers.redis_link._STABLE_S", 0.0)
    with server_in(tmp_path) as server:
        async with nodes_at(server.url) as spawn:
            (one,) = await spawn(1)
            for losses in range(1, 6):
                server.client().client_kill_filter(_type="pubsub")
                await eventually(lambda losses=losses: len(bounds) == losses, "the loss to be noticed")
                await all_ready(one)
    assert len(set(bounds)) == 1


async def test_link_that_is_restarted_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.brokers.redis_link.random.uniform", lambda _low, _high: 3600.0)
    with server_in(tmp_path) as server:
        async with nodes_at(server.url) as spawn:
            (one,) = await spawn(1)
            for _ in range(3):
                broker_of(one)._links().links[0].restart("it is asked to")
                assert not one.broker.health.is_ready
                await all_ready(one)


async def test_out_of_memory_refuses_what_is_durable_and_says_so(tmp_path: Path) -> None:
    with server_in(tmp_path, maxmemory_policy="noeviction") as server:
        async with nodes_at(server.url) as spawn:
            one, two = await spawn(2)
            await two.subscribe("room")
            client = server.client()
            client.config_set("maxmemory", "1")
            await one.is_not_ready()
            assert "OOM" in one.broker.health.reason
            await one.broker.publish("room", b"live goes on")
            with pytest.raises(BrokerUnavailableError, match="OOM"):
                await one.broker.publish("room", b"refused", durable=True, when_down="fail")
            await one.broker.publish("room", b"dropped", durable=True, when_down="drop")
            assert one.broker.counters.dropped == {"refused": 2}
            waiting = asyncio.create_task(one.broker.publish("room", b"waited", durable=True))
            await asyncio.sleep(0)  # it goes first, and its number must not keep it from being taken later
            await one.broker.publish("room", b"live still")
            await two.got([b"live goes on", b"live still"])
            client.config_set("maxmemory", "0")
            await waiting
            await all_ready(one, two)
            await two.got([b"live goes on", b"live still", b"waited"])
            assert not one.seen.left


async def test_slow_redis_delays_and_loses_nothing(tmp_path: Path) -> None:
    limits = BrokerLimits(lease_s=5, publish_timeout_s=60, max_message_bytes=20_000, max_outbox_bytes=60_000)
    with server_in(tmp_path) as server:
        async with throttling_proxy(server.port) as proxy:
            url = f"redis://127.0.0.1:{proxy.port}"
            async with nodes_at(url, canary_timeout_s=20.0) as spawn:
                one, two = await spawn(2, limits)
                await two.subscribe("room")
                proxy.bytes_per_s, proxy.delay_s = 1_000_000, 0.005
                payloads = [f"{number:05}".encode() * 2000 for number in range(60)]
                for payload in payloads:
                    await one.broker.publish("room", payload)
                    assert one.broker.health.outbox_bytes <= limits.max_outbox_bytes
                await two.got(payloads, seconds=40)
                dropped_before = one.broker.counters.dropped["full"]
                for payload in payloads:
                    await one.broker.publish("room", payload, when_down="drop")
                dropped = one.broker.counters.dropped["full"] - dropped_before
                assert 0 < dropped < 60
                await eventually(lambda: len(two.seen.messages) >= 120 - dropped, "what was not dropped", 40)
                assert one.broker.health.is_ready
                assert not two.seen.gaps


async def test_stalled_network_is_found_out_without_a_closed_connection(tmp_path: Path) -> None:
    with server_in(tmp_path) as server:
        async with throttling_proxy(server.port) as proxy:
            ports = iter([server.port, proxy.port, server.port])
            async with nodes_at(lambda: f"redis://127.0.0.1:{next(ports)}") as spawn:
                one, two, three = await spawn(3)
                await two.subscribe("room")
                proxy.stall()
                await two.is_not_ready()
                for payload in numbered(250):
                    await one.broker.publish("room", payload, durable=True)
                # Its lease runs out for those who can see Redis; it keeps whom it knew.
                await eventually(lambda: two.id not in one.broker.nodes(), "the lease to run out")
                assert set(two.broker.nodes()) == {one.id, three.id}
                proxy.flow()
                await two.is_ready()
                await two.got(numbered(250))
                await eventually(lambda: two.id in one.broker.nodes(), "two to be back")
                assert two.broker.counters.caught_up == 250
                assert two.seen.gaps[-1].caught_up == 250
                assert two.seen.gaps[-1].is_complete


@pytest.mark.parametrize("delays", [(0.03, 0.0), (0.0, 0.15)], ids=["slow-reading", "slow-listening"])
async def test_what_comes_live_waits_for_what_was_missed(tmp_path: Path, delays: tuple[float, float]) -> None:
    with server_in(tmp_path) as server:
        async with throttling_proxy(server.port) as proxy:
            ports = iter([server.port, proxy.port])
            options = {"canary_timeout_s": 2.0, "stream_max_length": 100_000}
            async with nodes_at(lambda: f"redis://127.0.0.1:{next(ports)}", **options) as spawn:
                one, two = await spawn(2)
                await two.subscribe("durable", "live")
                client = server.client()
                durable, live = Flow(one, "durable", durable=True), Flow(one, "live", durable=False)
                async with flowing(durable, live):
                    await eventually(lambda: len(two.seen.messages) > 50, "a flow")
                    proxy.stall()
                    await two.is_not_ready()
                    for found in client.client_list():
                        if two.id in found["name"]:
                            client.client_kill_filter(_id=found["id"])
                    proxy.delay_s, proxy.listening_delay_s = delays
                    proxy.flow()
                    channel = broker_of(two).keys.topic("live")
                    await eventually(lambda: client.pubsub_numsub(channel)[0][1] == 1, "to be subscribed again")
                    subscribed_from = live.taken[-1] + 2
                    await two.is_ready()
                    came = len(two.seen.messages)
                    await eventually(lambda: len(two.seen.messages) > came + 100, "a flow again")
                assert two.broker.counters.caught_up > 20
                await got_all(two, durable, durable.taken)
                await got_all(two, live, [number for number in live.taken if number >= subscribed_from])


async def test_missed_publications_to_several_topics_come_once(tmp_path: Path) -> None:
    with server_in(tmp_path) as server:
        async with throttling_proxy(server.port) as proxy:
            ports = iter([server.port, proxy.port])
            async with nodes_at(lambda: f"redis://127.0.0.1:{next(ports)}") as spawn:
                one, two = await spawn(2)
                await two.subscribe("a", "b")
                await one.broker.publish(["a", "b"], b"before", durable=True)
                await two.got([b"before"])
                proxy.stall()
                await two.is_not_ready()
                for payload in numbered(20):
                    await one.broker.publish(["a", "b"], payload, durable=True)
                proxy.flow()
                await two.is_ready()
                await two.got([b"before", *numbered(20)])


async def test_more_than_a_stream_keeps_is_said_to_be_lost(tmp_path: Path) -> None:
    with server_in(tmp_path) as server:
        async with throttling_proxy(server.port) as proxy:
            ports = iter([server.port, proxy.port])
            async with nodes_at(lambda: f"redis://127.0.0.1:{next(ports)}", stream_max_length=100) as spawn:
                one, two = await spawn(2)
                await two.subscribe("room")
                proxy.stall()
                await two.is_not_ready()
                for payload in numbered(500):
                    await one.broker.publish("room", payload, durable=True)
                proxy.flow()
                await eventually(lambda: two.seen.gaps, "a gap")
                assert not two.seen.gaps[0].is_complete
                got = [int(payload) for payload in two.seen.payloads()]
                assert got == list(range(got[0], 500)), "the end of the stream, in order"
                assert 100 <= len(got) < 500


async def test_what_is_older_than_a_subscription_is_not_caught_up_with(tmp_path: Path) -> None:
    with server_in(tmp_path) as server:
        async with nodes_at(server.url, canary_interval_s=30.0) as spawn:
            one, two = await spawn(2)
            await one.broker.publish("room", b"old", durable=True)
            await asyncio.sleep(0.005)  # the clock of streams counts milliseconds
            await two.subscribe("room")
            server.client().execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await two.is_not_ready()
            await one.broker.publish("room", b"new", durable=True)
            await two.is_ready()
            await two.got([b"new"])


async def test_outbox_is_bounded_and_says_so(tmp_path: Path) -> None:
    limits = BrokerLimits(lease_s=5, publish_timeout_s=1.5, max_message_bytes=1000, max_outbox_bytes=20_000)
    with server_in(tmp_path) as server:
        async with nodes_at(server.url) as spawn:
            one, two = await spawn(2, limits)
            await two.subscribe("room")
            server.pause()
            await one.is_not_ready()
            waiting = [asyncio.create_task(one.broker.publish("room", b"%d" % n + bytes(900))) for n in range(100)]
            cancelled = asyncio.create_task(one.broker.publish("room", b"cancelled"))
            await eventually(lambda: one.broker.health.outbox_bytes > 15_000, "a full outbox")
            assert one.broker.health.outbox_bytes <= limits.max_outbox_bytes
            with pytest.raises(BrokerUnavailableError):
                await one.broker.publish("room", b"", when_down="fail")
            cancelled.cancel()
            results = await asyncio.gather(*waiting, cancelled, return_exceptions=True)
            assert {type(result) for result in results[:-1]} == {BrokerUnavailableError}
            assert not any(result.is_maybe_published for result in results[:-1])  # type: ignore[union-attr]
            assert one.broker.counters.dropped["expired"] == 100
            assert one.broker.health.outbox_bytes == 0
            server.resume()
            await all_ready(one, two)
            await one.broker.publish("room", b"after")
            await two.got([b"after"])


async def test_foreign_and_giant_messages_cost_nobody_the_connection(tmp_path: Path) -> None:
    with server_in(tmp_path) as server:
        async with nodes_at(server.url) as spawn:
            one, two = await spawn(2)
            await two.subscribe("room")
            channel = two.broker.keys.topic("room")  # type: ignore[attr-defined]
            client = server.client()
            newer = b"\x98\x02" + Envelope(EnvelopeKind.PUBLICATION, "x").encode()[2:]
            for data in (b"", b"not ours", bytes(range(256)), newer, bytes(20_000_000)):
                assert await asyncio.to_thread(client.publish, channel, data) == 1
            await one.broker.publish("room", b"ours")
            await two.got([b"ours"])
            assert two.broker.counters.skipped == {"malformed": 3, "version": 1, "oversized": 1}
            assert two.broker.counters.reconnects == 0
            # Beyond client-output-buffer-limit, 32 MB by default, Redis itself cuts off whoever listens.
            await asyncio.to_thread(client.publish, channel, bytes(40_000_000))
            await eventually(lambda: two.broker.counters.reconnects == 1, "a new session")
            await two.is_ready()
            await one.broker.publish("room", b"ours again")
            await two.got([b"ours", b"ours again"])


async def test_scripts_that_were_flushed_are_loaded_again(tmp_path: Path) -> None:
    with server_in(tmp_path) as server:
        async with nodes_at(server.url) as spawn:
            one, two = await spawn(2)
            await two.subscribe("room")
            server.client().script_flush()
            await one.broker.publish("room", b"1", durable=True)
            await one.broker.publish("room", b"2", durable=True)
            await two.got([b"1", b"2"])


async def test_start_without_redis_waits_for_it(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    seen = Recording()
    broker = RedisBroker(parse_url(server.url, **QUICK), Node(), seen.callbacks(), LIMITS)
    node = TestNode(broker, seen)
    try:
        await broker.start()
        broker.subscribe("room")
        await eventually(lambda: "refused" in broker.health.reason.lower() or "111" in broker.health.reason, "why not")
        with running(server):
            await node.is_ready()
            assert await broker.synced(timeout_s(10))
            await eventually(
                lambda: server.client().pubsub_numsub(broker.keys.topic("room"))[0][1] == 1, "a subscription"
            )
            await broker.close()
    finally:
        await broker.close()


async def test_synced_waits_for_the_start(tmp_path: Path) -> None:
    with server_in(tmp_path) as server:
        broker = RedisBroker(parse_url(server.url, **QUICK))
        try:
            await broker.start()
            broker.subscribe("room")
            assert await broker.synced(timeout_s(10))
            assert server.client().pubsub_numsub(broker.keys.topic("room"))[0][1] == 1
        finally:
            await broker.close()


async def test_wrong_password_is_the_reason(tmp_path: Path) -> None:
    with server_in(tmp_path, requirepass="right") as server:
        for url, word in (
            (server.url, "NOAUTH"),
            (f"redis://:wrong-secret@127.0.0.1:{server.port}", "WRONGPASS"),
        ):
            broker = RedisBroker(parse_url(url, **QUICK))
            try:
                await broker.start()
                await eventually(lambda broker=broker, word=word: word in broker.health.reason, word)
                assert "wrong-secret" not in broker.health.reason
            finally:
                await broker.close()
        broker = RedisBroker(parse_url(f"redis://default:right@127.0.0.1:{server.port}/3", **QUICK))
        try:
            await broker.start()
            await eventually(lambda: broker.health.is_ready, "ready")
        finally:
            await broker.close()


async def test_replica_is_refused(tmp_path: Path) -> None:
    with server_in(tmp_path) as master, server_in(tmp_path, replicaof=f"127.0.0.1 {master.port}") as replica:
        broker = RedisBroker(parse_url(replica.url, **QUICK))
        try:
            await broker.start()
            await eventually(lambda: "replica" in broker.health.reason, "the reason")
        finally:
            await broker.close()


async def test_what_redis_has_forgotten_is_sent_again(tmp_path: Path) -> None:
    """By nodes that published it a moment ago, to those that had not got it."""
    with server_in(tmp_path) as server:
        async with throttling_proxy(server.port) as proxy:
            ports = iter([server.port, server.port, proxy.port])
            # Long enough for a busy machine: so long is kept.
            async with nodes_at(lambda: f"redis://127.0.0.1:{next(ports)}", canary_timeout_s=timeout_s(20)) as spawn:
                one, two, cut_off = await spawn(3)
                await two.subscribe("room")
                await cut_off.subscribe("room")
                proxy.stall()
                for payload in numbered(20):
                    await one.broker.publish("room", payload, durable=True)
                await two.got(numbered(20))
                server.kill()
                await asyncio.to_thread(server.start)
                await all_ready(one, two)
                await one.broker.publish("room", b"20", durable=True)
                proxy.flow()
                await cut_off.got(numbered(21), seconds=30)
                await two.got(numbered(21))
                assert two.broker.counters.duplicates >= 20
                assert not any(gap.is_complete for gap in cut_off.seen.gaps)


async def test_what_a_master_without_replicas_refuses_waits(tmp_path: Path) -> None:
    with (
        server_in(tmp_path, min_replicas_to_write=1, min_replicas_max_lag=3) as master,
        server_in(tmp_path, replicaof=f"127.0.0.1 {master.port}", repl_diskless_sync_delay=0) as replica,
    ):
        async with nodes_at(master.url) as spawn:
            one, two = await spawn(2)
            await two.subscribe("room")
            await one.broker.publish("room", b"1", durable=True)
            replica.pause()
            await eventually(lambda: master.client().info("replication")["min_slaves_good_slaves"] == 0, "the lag", 20)
            waiting = asyncio.create_task(one.broker.publish("room", b"2", durable=True))
            await eventually(lambda: "NOREPLICAS" in one.broker.health.reason, "the reason")
            assert two.seen.payloads() == [b"1"]
            replica.resume()
            await waiting
            await two.got([b"1", b"2"])


@pytest.mark.parametrize("appendonly", ["no", "yes"], ids=["memory", "disk"])
@pytest.mark.parametrize("is_killed", [False, True], ids=["asked", "killed"])
async def test_failover_is_followed(tmp_path: Path, is_killed: bool, appendonly: str) -> None:
    with sentinel_setup(tmp_path, appendonly=appendonly) as watched:
        master, replica = watched.servers
        async with nodes_at(watched.url) as spawn:
            one, two = await spawn(2)
            await two.subscribe("durable", "live")
            durable, live = Flow(one, "durable", durable=True), Flow(one, "live", durable=False)
            async with flowing(durable, live):
                await eventually(lambda: len(two.seen.messages) > 50, "a flow")
                if is_killed:
                    await asyncio.to_thread(master.kill)
                else:
                    await asyncio.to_thread(watched.fail_over)
                await asyncio.to_thread(watched.await_master, replica)
                await eventually(lambda: port_of(one) == port_of(two) == replica.port, "the new master", 30)
                await all_ready(one, two)
                first = live.taken[-1] + 1
                came = len(two.seen.messages)
                await eventually(lambda: len(two.seen.messages) > came + 50, "a flow again")
            assert two.seen.was_red()
            # Replication is asynchronous: what only the old master had is sent again by who has published it.
            await got_all(two, durable, durable.taken)
            await got_all(two, live, [number for number in live.taken if number >= first])
            # Whoever is gone cannot, so there may be more. On disk it was the other's alone.
            assert any(not gap.is_complete for gap in two.seen.gaps)

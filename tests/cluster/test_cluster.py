"""Servers of one cluster, over every kind of broker: what one of them does reaches the clients of the others."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from aiohttp import web

import gateway
from gateway.brokers.base import BrokerClosedError, MessageTooLargeError
from gateway.limits import Limits
from tests.support.servers import serving
from tests.support.waiting import eventually, timeout_s

from .conftest import LIMITS, Client, ClusterWorld, of

pytestmark = pytest.mark.usefixtures("no_logged_errors")


async def test_events_reach_rooms_on_every_node_in_order(cluster: ClusterWorld) -> None:
    one, two, three = await cluster.serve(3)
    a = await cluster.client(0, "red")
    b = await cluster.client(1, "red", "blue")
    c = await cluster.client(2, "blue")
    for number in range(50):
        await one.emit("n", number, room="red")
    await one.emit("both", (1, {"x": [b"bytes", "ü"]}), room=["red", "blue"])
    await one.emit("all", b"\x00\xff")
    red = [("n", number) for number in range(50)]
    rest = [("both", 1, {"x": [b"bytes", "ü"]}), ("all", b"\x00\xff")]
    await a.hears(*red, *rest)
    # Between topics there is no order over the broker, and each arrives once.
    await eventually(lambda: len(b.heard) >= 52 and len(c.heard) >= 2, "all events")
    assert [event for event in b.heard if event[0] == "n"] == red
    assert sorted(event[0] for event in b.heard[-2:]) == ["all", "both"]
    assert sorted(event[0] for event in c.heard) == ["all", "both"]
    assert of(two).counters.received == 52
    assert of(three).counters.received == 2, "nodes hear of their own rooms alone"


async def test_skipped_and_excepted_clients_get_nothing(cluster: ClusterWorld) -> None:
    one, _ = await cluster.serve(2)
    a, b = await cluster.client(0, "red"), await cluster.client(1, "red")
    c = await cluster.client(1, "red", "mute")
    await one.emit("skip", room="red", skip_sid=[b.sid])
    await one.emit("except", room="red", except_rooms="mute")
    await one.emit("here", room="red", ignore_queue=True)
    await one.emit("end", room="red")
    await a.hears(("skip",), ("except",), ("here",), ("end",))
    await b.hears(("except",), ("end",))
    await c.hears(("skip",), ("end",))


async def test_event_to_one_client_goes_to_its_node(cluster: ClusterWorld) -> None:
    one, two, three = await cluster.serve(3)
    b, c = await cluster.client(1), await cluster.client(2)
    await one.emit("you", 1, to=b.sid)
    await one.emit("you", 2, to=[b.sid, c.sid])
    await b.hears(("you", 1), ("you", 2))
    await c.hears(("you", 2))
    assert of(three).counters.received == 1
    assert b.sid.startswith(of(two).node_id)


async def test_namespaces_are_apart(cluster: ClusterWorld) -> None:
    one, _ = await cluster.serve(2)
    b, c = await cluster.client(1, "red"), await cluster.client(1, "red", namespace="/other")
    await one.emit("x", {"b": b"1"}, room="red", namespace="/other")
    await one.emit("y", room="red")
    await one.emit("z", namespace="/other")
    await b.hears(("y",))
    await eventually(lambda: len(c.heard) == 2, "both")
    assert sorted(c.heard) == [("x", {"b": b"1"}), ("z",)]


async def test_volatile_and_conflated_events_cross_nodes(cluster: ClusterWorld) -> None:
    one, _ = await cluster.serve(2)
    b = await cluster.client(1, "red")
    await one.emit("v", 1, room="red", volatile=True)
    await one.emit("c", 2, room="red", conflate=True)
    await one.emit("c", 3, room="red", conflate=("price", 7))
    await b.hears(("v", 1), ("c", 2), ("c", 3))
    with pytest.raises(TypeError, match="crosses nodes"):
        await one.emit("c", room="red", conflate=object())


async def test_rooms_that_cannot_cross_nodes_are_refused(cluster: ClusterWorld) -> None:
    one, _ = await cluster.serve(2)
    a = await cluster.client(0, "x" * 3000, "ключ" * 400)
    b = await cluster.client(1, "x" * 3000, "ключ" * 400)
    with pytest.raises(TypeError, match="named by text"):
        await one.enter_room(a.sid, 5)
    with pytest.raises(TypeError, match="named by text"):
        await one.emit("x", room=5)
    with pytest.raises(ValueError, match="surrogates"):
        await one.enter_room(a.sid, "\ud800")
    assert len(one.rooms(a.sid)) == 3
    await one.emit("long", room="x" * 3000)
    await b.hears(("long",))
    await one.emit("wide", room="ключ" * 400)
    await b.hears(("wide",))


async def test_event_over_the_bound_goes_to_nobody(cluster: ClusterWorld) -> None:
    one, _ = await cluster.serve(2)
    a, b = await cluster.client(0, "red"), await cluster.client(1, "red")
    with pytest.raises(MessageTooLargeError):
        await one.emit("big", "x" * 1_100_000, room="red")
    await one.emit("end", room="red")
    await a.hears(("end",))
    await b.hears(("end",))


async def test_nodes_hear_of_rooms_while_they_have_members(cluster: ClusterWorld) -> None:
    one, two = await cluster.serve(2)
    b, other = await cluster.client(1, "red"), await cluster.client(1)
    await two.enter_room(other.sid, "red")
    await two.leave_room(b.sid, "red")
    assert await of(two).synced(timeout_s(5))
    await one.emit("x", room="red")
    await other.hears(("x",))
    await other.io.disconnect()
    await eventually(lambda: "/,red" not in of(two).running().topics, "the room to be nobody's")
    assert await of(two).synced(timeout_s(5))
    received = of(two).counters.received
    await one.emit("y", room="red")
    await one.emit("end")
    await b.hears(("end",))
    assert of(two).counters.received == received + 1


async def test_event_to_no_rooms_goes_to_nobody(cluster: ClusterWorld) -> None:
    one, _ = await cluster.serve(2)
    a, b = await cluster.client(0), await cluster.client(1)
    await one.emit("x", room=[])
    assert await one.call_all("x", room=[], timeout=timeout_s(5)) == gateway.BroadcastAnswers({}, [])
    assert await one.fetch_sockets([]) == []
    async with gateway.AsyncEmitter(cluster.url) as emitter:
        await emitter.emit("x", room=[])
        await emitter.ready(timeout_s(10))
        await emitter.emit("end")
    await a.hears(("end",))
    await b.hears(("end",))


# -- acks --------------------------------------------------------------------------------------------------


async def test_call_is_answered_by_a_client_of_another_node(cluster: ClusterWorld) -> None:
    one, _ = await cluster.serve(2)
    b = await cluster.client(1)
    assert await one.call("ask", {"b": b"1", "t": "ü"}, to=b.sid, timeout=timeout_s(5)) == {"b": b"1", "t": "ü"}
    assert await one.call("ask", to=b.sid, timeout=timeout_s(5)) is None
    b.answer = lambda *_: asyncio.sleep(60)
    with pytest.raises(gateway.TimeoutError):
        await one.call("ask", 1, to=b.sid, timeout=0.2)


async def test_acks_of_a_room_come_from_every_node(cluster: ClusterWorld) -> None:
    one, _, _ = await cluster.serve(3)
    clients = [await cluster.client(number, "red", namespace="/other") for number in (0, 1, 2)]
    for number, client in enumerate(clients):
        client.answer = lambda *_, number=number: number
    answers: list[int] = []
    await one.emit("ask", 1, room="red", namespace="/other", callback=answers.append)
    await eventually(lambda: sorted(answers) == [0, 1, 2], "three acks")
    answers.clear()
    await one.emit("ask", 1, to=[clients[1].sid, clients[2].sid], namespace="/other", callback=answers.append)
    await eventually(lambda: sorted(answers) == [1, 2], "two acks")
    answers.append(0)
    timeouts: list[int] = []
    clients[1].answer = clients[2].answer = lambda *_: asyncio.sleep(60)
    await one.emit(
        "ask",
        1,
        room="red",
        namespace="/other",
        callback=answers.append,
        timeout=0.3,
        on_timeout=lambda: timeouts.append(1),
    )
    await eventually(lambda: len(timeouts) == 2, "two timeouts")
    await eventually(lambda: len(answers) == 4, "one ack")
    await one.emit(
        "ask",
        1,
        to=clients[1].sid,
        namespace="/other",
        callback=answers.append,
        timeout=0.2,
        on_timeout=lambda: timeouts.append(1),
    )
    await eventually(lambda: len(timeouts) == 3, "the timeout of one client")


async def test_call_all_says_who_did_not_answer(cluster: ClusterWorld) -> None:
    one, _, _ = await cluster.serve(3)
    a, b, c = [await cluster.client(number, "red") for number in (0, 1, 2)]
    await cluster.client(1, "blue")
    found = await one.call_all("ask", 5, room="red", timeout=timeout_s(10))
    assert found == gateway.BroadcastAnswers({a.sid: 5, b.sid: 5, c.sid: 5}, [], ())
    c.answer = lambda *_: asyncio.sleep(60)
    found = await one.call_all("ask", 6, room=["red", "none"], timeout=1.0)
    assert (found.answers, found.missing, found.missing_nodes) == ({a.sid: 6, b.sid: 6}, [c.sid], ())
    found = await one.call_all("ask", 7, to=b.sid, timeout=timeout_s(10))
    assert (found.answers, found.missing) == ({b.sid: 7}, [])
    assert (await one.call_all("ask", 8, ignore_queue=True, timeout=timeout_s(10))).answers == {a.sid: 8}
    assert (await one.call_all("ask", 9, room="nobody's", timeout=timeout_s(10))).answers == {}


async def test_call_all_does_not_wait_for_clients_that_leave(cluster: ClusterWorld) -> None:
    one, _ = await cluster.serve(2)
    a, b = await cluster.client(0, "red"), await cluster.client(1, "red")
    b.answer = lambda *_: asyncio.sleep(60)
    asking = asyncio.create_task(one.call_all("ask", 1, room="red", timeout=timeout_s(100)))
    await eventually(lambda: b.heard, "the question")
    sid = b.sid
    await b.io.disconnect()
    found = await asyncio.wait_for(asking, timeout_s(10))
    assert (found.answers, found.missing) == ({a.sid: 1}, [sid])


# -- clients of other nodes --------------------------------------------------------------------------------


async def test_disconnect_ends_a_client_of_another_node(cluster: ClusterWorld) -> None:
    one, two = await cluster.serve(2)
    ended: list[Any] = []
    two.on("disconnect", lambda sid, reason: ended.append((sid, reason)))
    b = await cluster.client(1)
    sid = b.sid
    await one.disconnect(sid)
    assert ended == [(sid, "server disconnect")]
    await eventually(lambda: b.is_gone, "the client to be told")


async def test_rooms_of_a_client_of_another_node_change(cluster: ClusterWorld) -> None:
    one, two = await cluster.serve(2)
    b = await cluster.client(1)
    await one.enter_room(b.sid, "red")
    assert sorted(await of(one).rooms(b.sid)) == sorted([b.sid, "red"])
    with pytest.raises(ValueError, match="another node"):
        one.rooms(b.sid)
    assert await of(two).synced(timeout_s(5))
    await one.emit("x", room="red")
    await b.hears(("x",))
    await one.leave_room(b.sid, "red")
    assert two.rooms(b.sid) == [b.sid]
    await one.enter_room(b.sid, "red")
    await one.close_room("red")
    await eventually(lambda: two.rooms(b.sid) == [b.sid], "the room to be closed")
    with pytest.raises(ValueError, match="not connected"):
        await one.enter_room(of(two).node_id + "x" * 20, "red")
    two.limits = Limits(max_rooms=1)
    await one.enter_room(b.sid, "red")
    with pytest.raises(ValueError, match="1"):
        await one.enter_room(b.sid, "blue")


async def test_session_of_a_client_of_another_node_is_read_and_written(cluster: ClusterWorld) -> None:
    one, two = await cluster.serve(2)
    b = await cluster.client(1)
    await two.save_session(b.sid, {"user": "ann", "n": [1, b"2"]})
    assert await one.get_session(b.sid) == {"user": "ann", "n": [1, b"2"]}
    async with one.session(b.sid) as session:
        session["user"] = "bob"
    assert (await two.get_session(b.sid))["user"] == "bob"
    await two.save_session(b.sid, {"lock": object()})
    with pytest.raises(TypeError):
        await one.get_session(b.sid)
    with pytest.raises(KeyError):
        await one.get_session(of(two).node_id + "x" * 20)


async def test_sockets_of_all_nodes_are_found(cluster: ClusterWorld) -> None:
    one, two = await cluster.serve(2)
    a, b, c = await cluster.client(0, "red"), await cluster.client(1, "red"), await cluster.client(1)
    found = {socket.sid: socket for socket in await one.fetch_sockets()}
    assert set(found) == {a.sid, b.sid, c.sid}
    assert found[b.sid].node == of(two).node_id
    assert found[b.sid].rooms == {b.sid, "red"}
    assert found[b.sid].transport == "websocket"
    assert found[b.sid].handshake["address"] == "127.0.0.1"
    assert {socket.sid for socket in await one.fetch_sockets("red")} == {a.sid, b.sid}
    assert {socket.sid for socket in await one.fetch_sockets("red", local=True)} == {a.sid}
    assert {socket.sid for socket in await one.fetch_sockets(except_rooms="red")} == {c.sid}
    assert [socket.sid for socket in await one.fetch_sockets(b.sid)] == [b.sid]
    await found[b.sid].emit("hello")
    await b.hears(("hello",))
    assert await found[b.sid].call("ask", 3, timeout=timeout_s(5)) == 3
    await found[b.sid].leave("red")
    assert two.rooms(b.sid) == [b.sid]
    await found[b.sid].disconnect()
    await eventually(lambda: b.is_gone, "the client to be told")


async def test_many_sockets_are_found_page_by_page(cluster: ClusterWorld) -> None:
    one, two = await cluster.serve(2)
    of(two).node._page_bytes = lambda: 1000
    clients = [await cluster.client(1) for _ in range(12)]
    assert {socket.sid for socket in await one.fetch_sockets()} == {client.sid for client in clients}


# -- servers -----------------------------------------------------------------------------------------------


async def test_servers_call_each_other(cluster: ClusterWorld) -> None:
    one, two, three = await cluster.serve(3)
    heard: list[Any] = []

    @two.on_server_event("sum")
    async def add(*numbers: int) -> int:
        heard.append(numbers)
        return sum(numbers)

    three.on_server_event("sum", lambda *numbers: 1 // 0 if numbers == (0,) else -sum(numbers))
    one.on_server_event("sum", lambda *numbers: pytest.fail("it has called itself"))
    found = await one.server_side_call("sum", 1, 2, timeout=timeout_s(10))
    assert found.answers == {of(two).node_id: 3, of(three).node_id: -3}
    assert (found.failed, found.missing) == ({}, ())
    found = await one.server_side_call("nobody handles it", timeout=timeout_s(10))
    assert set(found.failed) == {of(two).node_id, of(three).node_id}
    await one.server_side_emit("sum", 4)
    await eventually(lambda: heard == [(1, 2), (4,)], "the event")
    with pytest.raises(TypeError):
        await one.server_side_emit("sum", object())


async def test_nodes_are_listed_and_leave(cluster: ClusterWorld) -> None:
    one, two = await cluster.serve(2)
    nodes = of(one).nodes()
    assert set(nodes) == {of(one).node_id, of(two).node_id}
    assert {"kind", "host", "pid", "version", "started"} == set(nodes[of(two).node_id].info)
    await of(two).close()
    await eventually(lambda: set(of(one).nodes()) == {of(one).node_id}, "the other to have left")
    assert not of(two).health.is_ready


async def test_recovered_client_gets_what_another_node_sent_meanwhile(cluster: ClusterWorld) -> None:
    one, two = await cluster.serve(2, recovery_s=30)
    first = await cluster.client(1, "red")
    await one.emit("x", (1, b"bin"), room="red")
    await eventually(lambda: first.heard, "the event")
    event, number, binary, offset = first.heard[0]
    assert (event, number, binary) == ("x", 1, b"bin")
    place = two.manager.members[first.sid].place
    assert place is not None
    sid = first.sid
    session = two.manager.members[sid].session
    assert session.port is not None
    session.port.abort()
    session.close("transport close")
    session.give_up()
    await eventually(lambda: sid not in two.manager.members, "its end to be noticed")
    await one.emit("y", "missed", room="red")
    await one.emit("z", "too", to=sid)
    await eventually(lambda: of(two).counters.received == 3, "both to come")
    again = await _come_back(cluster, place.pid, offset)
    assert again.sid == sid
    await eventually(lambda: len(again.heard) == 2, "what was missed")
    assert [event[:2] for event in again.heard] == [("y", "missed"), ("z", "too")]
    assert len({first.heard[0][-1], again.heard[0][-1], again.heard[1][-1]}) == 3, "offsets of its own node"


async def _come_back(cluster: ClusterWorld, pid: str, offset: str) -> Client:
    client = Client("/")
    cluster._stack.push_async_callback(client.leave)
    await client.io.connect(
        f"http://127.0.0.1:{cluster.ports[1]}",
        auth={"pid": pid, "offset": offset},
        transports=["websocket"],
        wait_timeout=timeout_s(5),
    )
    return client


async def test_servers_of_different_serializers_understand_each_other(cluster: ClusterWorld) -> None:
    (one,) = await cluster.serve(1)
    (two,) = await cluster.serve(1, serializer="msgpack")
    a = await cluster.client(0, "red")
    b = await cluster.client(1, "red", serializer="msgpack")
    await one.emit("x", {"b": b"1", "n": 1}, room="red")
    await two.emit("y", {"b": b"2", "n": None}, room="red")
    for client in (a, b):
        await eventually(partial(client.has_heard, 2), "both events")
        assert sorted(client.heard) == [("x", {"b": b"1", "n": 1}), ("y", {"b": b"2", "n": None})]
    assert await one.call("ask", b"1", to=b.sid, timeout=timeout_s(5)) == b"1"
    assert await two.call("ask", b"1", to=a.sid, timeout=timeout_s(5)) == b"1"


async def test_server_may_join_after_it_was_attached(cluster: ClusterWorld) -> None:
    (one,) = await cluster.serve(1)
    two = gateway.Server(namespaces=["/"])
    app = web.Application()
    two.attach(app)
    two.join(cluster.url, LIMITS)
    with pytest.raises(ValueError, match="already"):
        two.join(cluster.url)
    async with serving(app):
        await eventually(lambda: len(of(one).nodes()) == 2 and len(of(two).nodes()) == 2, "both", 20)
        found = await one.server_side_call("nothing", timeout=timeout_s(10))
        assert set(found.failed) == {of(two).node_id}
    await eventually(lambda: len(of(one).nodes()) == 1, "one to have left", 20)
    with pytest.raises(BrokerClosedError):
        await two.emit("x")
    alone = gateway.Server(namespaces=["/"])
    alone.manager.rooms["/"] = {}
    with pytest.raises(ValueError, match="before it has clients"):
        alone.join(cluster.url)


async def test_server_without_a_broker_has_no_others() -> None:
    server = gateway.Server()
    assert server.cluster is None
    with pytest.raises(ValueError, match="no broker"):
        await server.server_side_emit("x")
    with pytest.raises(ValueError, match="no broker"):
        server.on_server_event("x")
    with pytest.raises(ValueError, match="begins with"):
        gateway.Server(broker="http://127.0.0.1")

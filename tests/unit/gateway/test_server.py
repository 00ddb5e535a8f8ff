"""The Socket.IO server, packet by packet."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
import socketio

import gateway
from gateway.members import MemberState
from tests.unit.gateway.conftest import InMemoryClient
from tests.unit.transports.engine_doubles import FakeLoop

Join = Callable[..., Any]
MakeServer = Callable[..., gateway.Server]


# -- connect -------------------------------------------------------------------------------------------------


def test_connect_is_confirmed_with_a_socket_id_of_its_own(server: gateway.Server, loop: FakeLoop) -> None:
    client = InMemoryClient(server, loop)
    client.send("0")
    [answer] = client.received()
    sid = client.member().sid
    assert answer == f'0{{"sid":"{sid}"}}'
    assert sid != client.session.id


def test_connect_handler_is_given_sid_environ_and_auth(server: gateway.Server, loop: FakeLoop) -> None:
    seen: list[Any] = []
    server.on("connect", lambda sid, environ, auth: seen.append((sid, environ["REQUEST_METHOD"], auth)))
    client = InMemoryClient(server, loop)
    sid = client.connect(auth='{"token":"x"}')
    other = InMemoryClient(server, loop)
    other_sid = other.connect()
    assert seen == [(sid, "GET", {"token": "x"}), (other_sid, "GET", None)]


@pytest.mark.parametrize(
    ("refuse", "payload"),
    [
        (lambda: False, '{"message":"Connection rejected by server"}'),
        (lambda: throw(gateway.ConnectionRefusedError()), '{"message":"Connection rejected by server"}'),
        (lambda: throw(gateway.ConnectionRefusedError("no")), '{"message":"no"}'),
        (lambda: throw(gateway.ConnectionRefusedError("no", {"code": 4})), '{"message":"no","data":{"code":4}}'),
        (lambda: throw(ConnectionRefusedError("secret")), '{"message":"Connection refused by server"}'),
        (lambda: throw(RuntimeError("secret")), '{"message":"Internal server error"}'),
    ],
)
@pytest.mark.parametrize("by_middleware", [False, True])
def test_refusal_tells_the_client_why(
    server: gateway.Server, loop: FakeLoop, refuse: Callable[[], Any], payload: str, by_middleware: bool
) -> None:
    if by_middleware:
        server.use(lambda sid, environ, auth: refuse())
    else:
        server.on("connect", lambda sid, environ: refuse())
    client = InMemoryClient(server, loop)
    client.send("0")
    assert client.received() == ["4" + payload]
    assert server.manager.members == {}
    assert not client.session.closed
    client.send("0")
    assert client.received() == ["4" + payload], "it may try again"


def throw(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("packet", ["0/unknown,", "0/*,", "0/*0,"])
def test_namespace_that_nobody_registered_is_refused(server: gateway.Server, loop: FakeLoop, packet: str) -> None:
    server.on("event", lambda sid: None, namespace="*")
    server.on("event", lambda sid: None, namespace=lambda name: name == "/known")
    client = InMemoryClient(server, loop)
    client.send(packet)
    assert client.received() == [f'4{packet[1:]}{{"message":"Invalid namespace"}}']


def test_second_connect_to_a_namespace_is_refused_and_the_first_stays(
    server: gateway.Server, join: Join, loop: FakeLoop
) -> None:
    client = join(server)
    client.send("0")
    assert client.received() == ['4{"message":"Already connected to this namespace"}']
    loop.run(server.emit("a"))
    assert client.received() == ['2["a"]']


def test_namespaces_of_one_connection_are_bounded(make_server: MakeServer, loop: FakeLoop) -> None:
    server = make_server(namespaces="*", max_namespaces=5)
    client = InMemoryClient(server, loop)
    for number in range(5):
        client.session.receive_message(client.port, f"0/{number},")  # type: ignore[arg-type]
    client.received()
    client.send("0/more,")
    assert client.received() == ['4/more,{"message":"Too many namespaces: 5 are allowed"}']


def test_always_connect_confirms_first_and_disconnects_afterwards(make_server: MakeServer, loop: FakeLoop) -> None:
    server = make_server(always_connect=True)
    gate = loop.create_future()

    async def connect(sid: str, environ: Any) -> Any:
        return await gate

    server.on("connect", connect)
    client = InMemoryClient(server, loop)
    client.send("0")
    sid = client.member().sid
    assert client.received() == [f'0{{"sid":"{sid}"}}']
    loop.run(server.emit("a", to=sid))
    assert client.received() == ['2["a"]']
    gate.set_result(False)
    assert client.received() == ["1"]
    assert server.manager.members == {}


@pytest.mark.parametrize("always_connect", [False, True])
@pytest.mark.parametrize("accepts", [None, False])
def test_client_that_leaves_while_its_connect_handler_thinks(
    make_server: MakeServer, loop: FakeLoop, always_connect: bool, accepts: Any
) -> None:
    server = make_server(always_connect=always_connect)
    gate = loop.create_future()
    seen: list[Any] = []

    async def connect(sid: str, environ: Any) -> Any:
        seen.append("connect")
        return await gate

    server.on("connect", connect)
    server.on("disconnect", lambda sid, reason: seen.append(reason))
    client = InMemoryClient(server, loop)
    client.send("0")
    client.session.close("transport close")
    loop.settle()
    gate.set_result(accepts)
    loop.settle()
    loop.advance(1)
    gc.collect()
    assert loop.faults == [], "no task may fail where nobody looks"
    assert server.manager.members == {}
    assert server.manager.rooms == {}
    assert seen.count("connect") == 1
    if accepts is None:
        assert seen[1:] == ["transport close"]


def test_disconnect_of_a_client_whose_connect_handler_thinks_is_not_forgotten(
    server: gateway.Server, loop: FakeLoop
) -> None:
    gate = loop.create_future()

    async def connect(sid: str, environ: Any) -> Any:
        return await gate

    server.on("connect", connect)
    client = InMemoryClient(server, loop)
    client.send("0")
    sid = client.member().sid
    loop.create_task(server.disconnect(sid))
    loop.settle()
    gate.set_result(None)
    loop.settle()
    assert server.manager.member(sid, "/") is None, "it was told to go, and stays connected"


def test_connection_that_joins_nothing_is_closed(make_server: MakeServer, loop: FakeLoop) -> None:
    server = make_server(connect_timeout=5, ping_interval=100)
    idle, joined, refused = (InMemoryClient(server, loop) for _ in range(3))
    joined.connect()
    refused.send("0/unknown,")
    loop.advance(6)
    assert idle.session.close_reason == "connect timeout"
    assert refused.session.close_reason == "connect timeout"
    assert not joined.session.closed


def test_connection_whose_only_namespace_refused_is_closed_too(make_server: MakeServer, loop: FakeLoop) -> None:
    server = make_server(connect_timeout=5, ping_interval=100)
    server.on("connect", lambda sid, environ: False)
    client = InMemoryClient(server, loop)
    client.send("0")
    loop.advance(6)
    assert client.session.close_reason == "connect timeout"


# -- packets out of turn -------------------------------------------------------------------------------------

BEFORE_CONNECT = ['2["a"]', "31[]", '2/other,["a"]', '51-["a",{"_placeholder":true,"num":0}]']


@pytest.mark.parametrize("packet", BEFORE_CONNECT)
def test_packet_for_a_namespace_never_joined_closes_the_connection(
    server: gateway.Server, loop: FakeLoop, packet: str
) -> None:
    client = InMemoryClient(server, loop)
    client.send(packet)
    assert client.session.close_reason == "parse error"


def test_packets_for_a_namespace_just_left_are_ignored(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    seen: list[Any] = []
    server.on("a", lambda sid: seen.append(sid))
    client = join(server)
    client.send("1", '2["a"]', "31[]", "1", '51-["a",{"_placeholder":true,"num":0}]', b"x")
    assert seen == []
    assert not client.session.closed


@pytest.mark.parametrize("packet", ["x", "2", "2[]", '2["connect"]', '4{"message":"x"}', b"\x01", '51-["a"]'])
def test_malformed_packet_closes_the_connection(server: gateway.Server, join: Join, packet: Any) -> None:
    client = join(server)
    client.send(packet, *([b"x"] if packet == '51-["a"]' else []))
    assert client.session.close_reason == "parse error"
    assert server.manager.members == {}


def test_empty_message_closes_the_connection(make_server: MakeServer, loop: FakeLoop) -> None:
    for serializer, connect, nothing in (("default", "0", ""), ("msgpack", None, b"")):
        server = make_server(serializer=serializer)
        client = InMemoryClient(server, loop)
        client.send(connect or server.packet_class(0).encode())
        assert len(client.received()) == 1
        client.send(nothing)
        assert client.session.close_reason == "parse error"


def test_text_between_attachments_closes_the_connection(server: gateway.Server, join: Join) -> None:
    client = join(server)
    client.send('51-["a",{"_placeholder":true,"num":0}]', '2["b"]')
    assert client.session.close_reason == "parse error"


def test_deeply_nested_binary_event_closes_the_connection_and_no_more(server: gateway.Server, join: Join) -> None:
    client = join(server)
    deep = "[" * 900 + '{"_placeholder":true,"num":0}' + "]" * 900
    try:
        client.send(f'51-["a",{deep}]', b"x")
    except RecursionError:
        pytest.fail("a client's packet raises through the transport")
    assert client.session.close_reason == "parse error"


# -- events --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "ack"),
    [
        (None, "35[]"),
        ("a", '35["a"]'),
        (("a", 1), '35["a",1]'),
        ([1, 2], "35[[1,2]]"),
        ((), "35[]"),
        (False, "35[false]"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("with_middleware", [False, True])
def test_result_of_a_handler_is_the_ack(
    server: gateway.Server, join: Join, result: Any, ack: str, is_async: bool, with_middleware: bool
) -> None:
    async def later(sid: str, *args: Any) -> Any:
        await asyncio.sleep(0)
        return result

    server.on("a", later if is_async else lambda sid, *args: result)
    if with_middleware:
        server.use_event(lambda sid, event, args: None)
    client = join(server)
    client.send('25["a",1,2]')
    assert client.received() == [ack]
    client.send('2["a"]')
    assert client.received() == []


@pytest.mark.parametrize("with_middleware", [False, True])
def test_event_without_handler_gets_no_ack(server: gateway.Server, join: Join, with_middleware: bool) -> None:
    if with_middleware:
        server.use_event(lambda sid, event, args: None)
    client = join(server)
    client.send('25["nobody"]')
    assert client.received() == []


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("async_handlers", [False, True])
def test_handler_that_fails_harms_nobody(
    make_server: MakeServer, join: Join, loop: FakeLoop, is_async: bool, async_handlers: bool
) -> None:
    server = make_server(async_handlers=async_handlers)

    async def fail_later(sid: str) -> None:
        raise RuntimeError("application")

    server.on("fail", fail_later if is_async else lambda sid: throw(RuntimeError("application")))
    server.on("well", lambda sid: "well")
    client = join(server)
    client.send('21["fail"]', '22["well"]')
    assert client.received() == ['32["well"]']
    assert loop.faults == []
    assert not client.session.closed


@pytest.mark.parametrize("async_handlers", [False, True])
def test_cancelled_error_of_a_handler_does_not_stop_the_clients_events(
    make_server: MakeServer, join: Join, async_handlers: bool
) -> None:
    server = make_server(async_handlers=async_handlers)

    async def cancelled(sid: str) -> None:
        task = asyncio.ensure_future(asyncio.sleep(100))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task

    async def well(sid: str) -> str:
        return "well"

    server.on("cancelled", cancelled)
    server.on("well", well)
    client = join(server)
    client.send('21["cancelled"]', '22["well"]')
    client.send('23["well"]')
    assert client.received() == ['32["well"]', '33["well"]']


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("serializer", ["default", "msgpack"])
@pytest.mark.parametrize("result", [object(), 2**70], ids=["object", "big integer"])
def test_result_that_cannot_be_sent_is_logged_and_no_more(
    make_server: MakeServer, loop: FakeLoop, is_async: bool, serializer: str, result: Any
) -> None:
    server = make_server(serializer=serializer, async_handlers=False)

    async def later(sid: str) -> Any:
        return result

    server.on("a", later if is_async else lambda sid: result)
    server.on("well", lambda sid: "well")
    client = InMemoryClient(server, loop)

    def packet(packet_type: int, data: Any = None, ack_id: int | None = None) -> Any:
        return server.packet_class(packet_type, data=data, id=ack_id).encode()

    client.send(packet(0))
    client.received()
    try:
        client.send(packet(2, ["a"], 1), packet(2, ["well"], 2))
    except OverflowError:
        pytest.fail("what an application returns raises through the transport")
    assert loop.faults == []
    acks = client.received()
    assert packet(3, ["well"], 2) in acks
    assert not client.session.closed


@pytest.mark.parametrize("is_known", [True, False])
def test_handlers_of_one_client_take_turns_where_they_are_not_concurrent(
    make_server: MakeServer, join: Join, loop: FakeLoop, is_known: bool
) -> None:
    server = make_server(async_handlers=False)
    seen: list[Any] = []

    async def slow(sid: str, value: int) -> None:
        await asyncio.sleep(1)
        seen.append(("slow", value))

    # Also where nobody can know that it returns a coroutine.
    server.on("slow", slow if is_known else lambda sid, value: slow(sid, value))
    server.on("quick", lambda sid, value: seen.append(("quick", value)))
    client, other = join(server), join(server)
    client.send('2["slow",1]', '2["quick",2]', '2["slow",3]', '2["quick",4]')
    other.send('2["quick",5]')
    assert seen == [("quick", 5)]
    loop.advance(5)
    assert seen[1:] == [("slow", 1), ("quick", 2), ("slow", 3), ("quick", 4)]


def test_coroutines_begin_before_the_next_event_is_read_whatever_the_handler_is(
    server: gateway.Server, join: Join, loop: FakeLoop
) -> None:
    seen: list[Any] = []

    async def coroutine(sid: str, value: int) -> int:
        seen.append(value)
        return value

    server.on("known", coroutine)
    server.on("unknown", lambda sid, value: coroutine(sid, value))
    server.on("plain", lambda sid, value: seen.append(value))
    client = join(server)
    client.send('21["known",1]', '2["plain",2]', '23["unknown",3]', '2["plain",4]')
    assert seen == [1, 2, 3, 4]
    assert client.received() == ["31[1]", "33[3]"]
    assert server.eio._tasks == set()


def test_concurrent_handlers_begin_in_order(server: gateway.Server, join: Join) -> None:
    seen: list[Any] = []

    async def handler(sid: str, value: int) -> None:
        seen.append(value)
        await asyncio.sleep(1)

    server.on("a", handler)
    client = join(server)
    client.send('2["a",1]', '2["a",2]', '2["a",3]')
    assert seen == [1, 2, 3]


def test_ack_of_a_client_that_left_is_not_sent(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    async def slow(sid: str) -> str:
        await asyncio.sleep(1)
        return "late"

    server.on("slow", slow)
    client = join(server)
    client.send('21["slow"]', "1")
    loop.advance(2)
    assert client.received() == []


# -- middleware ----------------------------------------------------------------------------------------------


def test_connect_middleware_is_asked_in_order_and_before_the_handler(server: gateway.Server, loop: FakeLoop) -> None:
    seen: list[Any] = []

    async def second(sid: str, environ: Any, auth: Any) -> None:
        seen.append(("second", auth))

    server.use(lambda sid, environ, auth: seen.append(("first", auth)), namespace="*")
    server.use(second)
    server.use(lambda sid, environ, auth: seen.append("other"), namespace="/other")
    server.on("connect", lambda sid, environ: seen.append("handler"))
    InMemoryClient(server, loop).connect(auth='{"a":1}')
    assert seen == [("first", {"a": 1}), ("second", {"a": 1}), "handler"]


def test_connect_middleware_that_refuses_ends_the_asking(server: gateway.Server, loop: FakeLoop) -> None:
    seen: list[Any] = []
    server.use(lambda *_: False)
    server.use(lambda *_: seen.append("second"))
    server.on("connect", lambda *_: seen.append("handler"))
    client = InMemoryClient(server, loop)
    client.send("0")
    assert client.received()[0].startswith("4")
    assert seen == []


def test_event_middleware_passes_replaces_drops_and_refuses(server: gateway.Server, join: Join) -> None:
    def middleware(sid: str, event: str, args: list[Any]) -> Any:
        if event == "replace":
            return ["replaced", *args]
        if event == "drop":
            return False
        if event == "refuse":
            raise gateway.EventRefusedError("not you", 403)
        return None

    server.use_event(middleware)
    for event in ("pass", "replace", "drop", "refuse"):
        server.on(event, lambda sid, *args: args)
    client = join(server)
    client.send('21["pass",1]', '22["replace",1]', '23["drop",1]', '24["refuse",1]', '2["refuse",1]')
    assert client.received() == ["31[1]", '32["replaced",1]', '34["not you",403]']


def test_event_middleware_of_other_namespaces_is_not_asked(server: gateway.Server, join: Join) -> None:
    seen: list[str] = []
    server.use_event(lambda sid, event, args: seen.append("other"), namespace="/other")
    server.use_event(lambda sid, event, args: seen.append("any"), namespace="*")
    server.on("a", lambda sid: None)
    join(server).send('2["a"]')
    assert seen == ["any"]


def test_event_middleware_that_fails_keeps_the_event_from_its_handler(
    server: gateway.Server, join: Join, loop: FakeLoop
) -> None:
    seen: list[str] = []
    server.use_event(lambda sid, event, args: throw(RuntimeError("application")))
    server.on("a", lambda sid: seen.append("handler"))
    client = join(server)
    client.send('21["a"]')
    assert seen == []
    assert client.received() == []
    assert loop.faults == []


# -- disconnect ----------------------------------------------------------------------------------------------


def test_disconnect_packet_leaves_one_namespace(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    seen: list[Any] = []
    for namespace in ("/", "/other"):
        server.on("disconnect", lambda sid, reason, n=namespace: seen.append((n, reason)), namespace=namespace)
    client = join(server)
    client.connect("/other")
    client.send("1/other,")
    assert seen == [("/other", "client disconnect")]
    loop.run(server.emit("a"))
    loop.run(server.emit("a", namespace="/other"))
    assert client.received() == ['2["a"]']
    client.connect("/other")
    client.session.close("transport close")
    loop.settle()
    assert sorted(seen[1:]) == [("/", "transport close"), ("/other", "transport close")]


def test_server_disconnects_a_client_and_waits_for_its_handler(
    server: gateway.Server, join: Join, loop: FakeLoop
) -> None:
    seen: list[Any] = []

    async def disconnect(sid: str, reason: str) -> None:
        assert server.rooms(sid) == [sid, "room"], "it is still in its rooms"
        async with server.session(sid) as session:
            session["seen"] = True
        await server.emit("late", to=sid)
        await asyncio.sleep(1)
        seen.append(reason)

    server.on("disconnect", disconnect)
    client = join(server)
    sid = client.member().sid
    server.manager.basic_enter_room(sid, "/", "room")
    loop.run(server.disconnect(sid))
    assert seen == ["server disconnect"]
    assert client.received() == ["1"]
    assert server.manager.rooms == {}
    loop.run(server.disconnect(sid))
    loop.run(server.disconnect("nobody"))
    assert seen == ["server disconnect"]


def test_disconnect_handler_that_fails_lets_the_client_go_all_the_same(
    server: gateway.Server, join: Join, loop: FakeLoop
) -> None:
    server.on("disconnect", lambda sid, reason: throw(RuntimeError("application")))
    client = join(server)
    client.session.close("transport close")
    loop.settle()
    assert server.manager.members == {}
    assert loop.faults == []


def test_nothing_is_sent_to_a_client_that_is_leaving(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    gate = loop.create_future()

    async def disconnect(sid: str, reason: str) -> None:
        await gate

    server.on("disconnect", disconnect)
    client = join(server)
    member = client.member()
    client.send("1")
    assert member.state is MemberState.LEAVING
    loop.run(server.emit("a"))
    loop.run(server.emit("a", to=member.sid))
    assert client.received() == []
    assert loop.run(server.fetch_sockets()) == []
    gate.set_result(None)
    loop.settle()
    assert member.state is MemberState.GONE


# -- sessions and the like -----------------------------------------------------------------------------------


def test_user_sessions_belong_to_a_namespace(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    server.on("a", lambda sid: None, namespace="/other")
    client = join(server)
    sid, other = client.member().sid, client.connect("/other")
    loop.run(server.save_session(sid, {"name": "x"}))

    async def change() -> None:
        async with server.session(other, namespace="/other") as session:
            session["name"] = "y"

    loop.run(change())
    assert loop.run(server.get_session(sid)) == {"name": "x"}
    assert loop.run(server.get_session(other, namespace="/other")) == {"name": "y"}
    for wrong in (server.get_session(other), server.get_session("nobody"), server.save_session("nobody", {})):
        with pytest.raises(KeyError):
            loop.run(wrong)


def test_clients_are_known_by_transport_environ_and_rooms(server: gateway.Server, join: Join) -> None:
    client = join(server)
    sid = client.member().sid
    assert server.transport(sid) == "websocket"
    environ = server.get_environ(sid)
    assert environ is not None
    assert environ["QUERY_STRING"] == "EIO=4&transport=websocket"
    assert server.environ[client.session.id] == environ
    assert list(server.environ) == [client.session.id]
    assert server.rooms(sid) == [sid]
    assert server.get_environ("nobody") is None
    with pytest.raises(KeyError):
        server.transport("nobody")


def test_remote_sockets_can_be_worked_with(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    client = join(server)
    [found] = loop.run(server.fetch_sockets())
    assert (found.sid, found.namespace, found.transport) == (client.member().sid, "/", "websocket")
    assert found.rooms == {found.sid}
    assert found.handshake["headers"] == {"host": "example.org"}
    loop.run(found.join("room"))
    assert [other.sid for other in loop.run(server.fetch_sockets("room"))] == [found.sid]
    loop.run(found.emit("a", 1))
    assert client.received() == ['2["a",1]']
    loop.run(found.leave("room"))
    assert loop.run(server.fetch_sockets("room")) == []
    loop.run(found.disconnect())
    assert client.received() == ["1"]
    with pytest.raises(KeyError):
        loop.run(found.data())


def test_fetched_sockets_are_selected(server: gateway.Server, join: Join, loop: FakeLoop) -> None:
    clients = [join(server) for _ in range(3)]
    sids = [client.member().sid for client in clients]
    server.manager.basic_enter_room(sids[0], "/", "x")
    server.manager.basic_enter_room(sids[1], "/", "y")

    def found(*args: Any, **options: Any) -> set[str]:
        return {socket.sid for socket in loop.run(server.fetch_sockets(*args, **options))}

    assert found() == set(sids)
    assert found(["x", "y"]) == {sids[0], sids[1]}
    assert found(except_rooms="x") == {sids[1], sids[2]}
    assert found(sids[2]) == {sids[2]}
    assert found(namespace="/other") == set()


# -- construction --------------------------------------------------------------------------------------------


def test_other_client_managers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"gateway\.ChannelManager"):
        gateway.Server(client_manager=socketio.AsyncManager())  # type: ignore[arg-type]
    manager = gateway.ChannelManager()
    assert gateway.Server(client_manager=manager).manager is manager


def test_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError):
        gateway.Server(pingg_interval=3)


def test_client_that_sends_an_event_while_it_rejoins_is_not_cut_off(
    server: gateway.Server, join: Join, loop: FakeLoop
) -> None:
    client = join(server)
    client.send("1")
    client.send("0", '2["a"]')
    assert not client.session.closed

"""``gateway.Server`` as python-socketio documents its server, asked by python-socketio's own client."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import engineio
import pytest
import socketio
from aiohttp import web
from socketio import packet as library_packet

import gateway
from tests.support.servers import LISTENERS, serving
from tests.support.waiting import eventually, timeout_s
from transports.engine import Engine

pytestmark = pytest.mark.usefixtures("no_logged_errors")

TRANSPORTS = ("websocket", "polling")


class Client:
    """A ``socketio.AsyncClient`` that writes down what it hears."""

    def __init__(self, namespaces: list[str], **options: Any) -> None:
        self.io = socketio.AsyncClient(reconnection=False, **options)
        self.namespaces = namespaces
        self.heard: list[tuple[Any, ...]] = []
        self.errors: list[Any] = []
        self.gone: list[str] = []
        for namespace in namespaces:
            self.io.on("*", self._hear, namespace=namespace)
            self.io.on("connect_error", self._refused, namespace=namespace)
            self.io.on("disconnect", self._leave, namespace=namespace)

    async def _hear(self, event: str, *arguments: Any) -> None:
        self.heard.append((event, *arguments))

    async def _refused(self, error: Any) -> None:
        self.errors.append(error)

    async def _leave(self, reason: str) -> None:
        self.gone.append(reason)

    @property
    def sid(self) -> str:
        sid: str = self.io.get_sid(self.namespaces[0])
        return sid

    async def hears(self, count: int) -> list[tuple[Any, ...]]:
        """Exactly so many events, in order."""
        await eventually(lambda: len(self.heard) >= count, f"{count} events, so far {self.heard}")
        await asyncio.sleep(0.02)
        heard, self.heard = self.heard, []
        assert len(heard) == count, heard
        return heard

    async def hears_nothing(self) -> None:
        await asyncio.sleep(0.05)
        assert self.heard == []

    async def call(self, event: str, *arguments: Any, **options: Any) -> Any:
        return await self.io.call(event, arguments, namespace=self.namespaces[0], timeout=timeout_s(5), **options)

    async def emit(self, event: str, *arguments: Any) -> None:
        await self.io.emit(event, arguments, namespace=self.namespaces[0])

    async def leave(self) -> None:
        await self.io.shutdown()
        if self.io.eio.http is not None:
            await self.io.eio.http.close()


class World:
    """A server that listens, and its clients."""

    def __init__(self, server: gateway.Server, port: int, stack: AsyncExitStack) -> None:
        self.server = server
        self.port = port
        self._stack = stack

    async def client(
        self,
        *namespaces: str,
        auth: Any = None,
        transport: str = "websocket",
        headers: dict[str, str] | None = None,
        wait: bool = True,
        **options: Any,
    ) -> Client:
        client = Client(list(namespaces) or ["/"], **options)
        self._stack.push_async_callback(client.leave)
        await client.io.connect(
            f"http://127.0.0.1:{self.port}",
            namespaces=client.namespaces,
            auth=auth,
            transports=[transport],
            headers=headers or {},
            wait=wait,
            wait_timeout=timeout_s(5),
        )
        return client


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Any]]:
    """Makes a server listen."""
    async with AsyncExitStack() as stack:

        async def serve(server: gateway.Server, listener: str = "fast") -> World:
            app = web.Application()
            server.attach(app)
            port = await stack.enter_async_context(serving(app, listener))
            return World(server, port, await stack.enter_async_context(AsyncExitStack()))

        yield serve


Serve = Callable[..., Any]


# -- events and acks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_events_reach_their_handlers_and_answers_come_back(serve: Serve, listener: str, transport: str) -> None:
    server = gateway.Server()
    seen: list[Any] = []

    @server.event
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        seen.append((sid, environ["REMOTE_ADDR"], environ["PATH_INFO"], auth))

    @server.event
    async def echo(sid: str, *arguments: Any) -> Any:
        return (sid, *arguments)

    @server.on("named")
    def handler(sid: str, data: Any) -> Any:
        return data

    world = await serve(server, listener)
    client = await world.client(auth={"token": 1}, transport=transport)
    assert seen == [(client.sid, "127.0.0.1", "/socket.io/", {"token": 1})]
    data = [1, "\u20ac\U0001f600", {"deep": [b"\x00\xff" * 500, None, 1.5]}, b"", True]
    assert await client.call("echo", *data) == (client.sid, *data)
    assert await client.call("named", {"a": 1}) == {"a": 1}
    assert await client.call("named", "x" * 300_000) == "x" * 300_000
    assert server.transport(client.sid) == transport
    await client.emit("nobody", 1)
    assert await client.call("named", 2) == 2


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_server_emits_sends_and_calls(serve: Serve, transport: str) -> None:
    server = gateway.Server()
    world = await serve(server)
    client = await world.client(transport=transport)
    other = await world.client()
    await server.emit("none", to=client.sid)
    await server.emit("one", {"a": b"\x01"}, room=client.sid)
    await server.emit("several", (1, [2], None), to=client.sid)
    await server.emit("list", [1, 2], to=client.sid)
    await server.send("text", to=client.sid)
    await server.emit("all", 1)
    assert await client.hears(6) == [
        ("none",),
        ("one", {"a": b"\x01"}),
        ("several", 1, [2], None),
        ("list", [1, 2]),
        ("message", "text"),
        ("all", 1),
    ]
    assert await other.hears(1) == [("all", 1)]
    client.io.on("ask", lambda *arguments: ("answer", *arguments))
    assert await server.call("ask", (1, b"\x02"), to=client.sid) == ("answer", 1, b"\x02")
    answers: list[Any] = []
    await server.emit("ask", 5, to=client.sid, callback=lambda *values: answers.append(values))
    await eventually(lambda: answers, "the ack")
    assert answers == [("answer", 5)]


async def test_many_messages_arrive_in_order_over_long_polling(serve: Serve) -> None:
    server = gateway.Server()
    world = await serve(server)
    client = await world.client(transport="polling")
    for number in range(200):
        await server.emit("n", number, to=client.sid)
    assert await client.hears(200) == [("n", number) for number in range(200)]


async def test_many_messages_before_a_disconnect_arrive_over_long_polling(serve: Serve) -> None:
    server = gateway.Server()

    @server.event
    async def burst(sid: str, count: int) -> None:
        for number in range(count):
            await server.emit("n", number, to=sid)
        await server.disconnect(sid)

    world = await serve(server)
    client = await world.client(transport="polling")
    await client.emit("burst", 50)
    assert await client.hears(50) == [("n", number) for number in range(50)]
    await eventually(lambda: client.gone, "the disconnect")


async def test_call_times_out(serve: Serve) -> None:
    server = gateway.Server()
    world = await serve(server)
    client = await world.client()
    hold = asyncio.Event()
    client.io.on("ask", hold.wait)
    with pytest.raises(gateway.TimeoutError):
        await server.call("ask", to=client.sid, timeout=0.1)
    with pytest.raises(ValueError, match="broadcast"):
        await server.call("ask")
    hold.set()


async def test_ack_that_does_not_come_calls_on_timeout(serve: Serve) -> None:
    server = gateway.Server()
    world = await serve(server)
    client = await world.client()
    hold = asyncio.Event()

    async def never() -> None:
        await hold.wait()

    client.io.on("slow", never)
    client.io.on("quick", lambda: "quick")
    seen: list[Any] = []

    def options(name: str) -> dict[str, Any]:
        return {
            "to": client.sid,
            "callback": lambda *values: seen.append((name, *values)),
            "timeout": 0.3,
            "on_timeout": lambda: seen.append((name, "timeout")),
        }

    await server.emit("slow", **options("slow"))
    await server.emit("quick", **options("quick"))
    await eventually(lambda: len(seen) == 2, "both ends")
    assert seen == [("quick", "quick"), ("slow", "timeout")]
    hold.set()
    await asyncio.sleep(0.05)
    assert len(seen) == 2


async def test_call_all_gathers_what_comes_and_names_who_is_missing(serve: Serve) -> None:
    server = gateway.Server()
    world = await serve(server)
    first, second, silent = [await world.client() for _ in range(3)]
    hold = asyncio.Event()
    first.io.on("ask", lambda value: value + 1)
    second.io.on("ask", lambda value: (value, "two"))

    async def never(value: int) -> None:
        await hold.wait()

    silent.io.on("ask", never)
    answers = await server.call_all("ask", 1, timeout=0.5)
    assert answers.answers == {first.sid: 2, second.sid: (1, "two")}
    assert answers.missing == [silent.sid]
    hold.set()
    answers = await server.call_all("ask", 1, skip_sid=silent.sid, timeout=timeout_s(5))
    assert (set(answers.answers), answers.missing) == ({first.sid, second.sid}, [])


# -- rooms ---------------------------------------------------------------------------------------------------


async def test_rooms_are_entered_left_and_closed(serve: Serve) -> None:
    server = gateway.Server()
    world = await serve(server)
    first, second, third = [await world.client() for _ in range(3)]
    await server.enter_room(first.sid, "x")
    await server.enter_room(second.sid, "x")
    await server.enter_room(second.sid, "y")
    assert set(server.rooms(second.sid)) == {second.sid, "x", "y"}
    await server.emit("1", room="x")
    await server.emit("2", room="x", skip_sid=first.sid)
    await server.emit("3", room=["x", "y"])
    await server.emit("4", except_rooms="y")
    await server.emit("5", room="x", except_rooms=["y"])
    await server.leave_room(second.sid, "x")
    await server.emit("6", room="x")
    await server.close_room("x")
    await server.emit("7", room="x")
    await server.emit("end")
    assert [event for (event,) in await first.hears(6)] == ["1", "3", "4", "5", "6", "end"]
    assert [event for (event,) in await second.hears(4)] == ["1", "2", "3", "end"]
    assert [event for (event,) in await third.hears(2)] == ["4", "end"]
    assert server.rooms(first.sid) == [first.sid]
    with pytest.raises(ValueError, match="not connected"):
        await server.enter_room("nobody", "x")


async def test_sockets_are_fetched_and_worked_with(serve: Serve) -> None:
    server = gateway.Server()
    world = await serve(server)
    first = await world.client(headers={"X-Name": "first"})
    second = await world.client(transport="polling")
    await server.enter_room(second.sid, "x")
    found = {socket.sid: socket for socket in await server.fetch_sockets()}
    assert set(found) == {first.sid, second.sid}
    assert found[first.sid].handshake["headers"]["x-name"] == "first"
    assert found[first.sid].handshake["address"] == "127.0.0.1"
    assert found[second.sid].transport == "polling"
    assert found[second.sid].rooms == {second.sid, "x"}
    [in_room] = await server.fetch_sockets("x")
    await in_room.emit("hello", 1)
    assert await second.hears(1) == [("hello", 1)]
    second.io.on("ask", lambda: "answer")
    assert await in_room.call("ask") == "answer"
    await in_room.disconnect()
    await eventually(lambda: second.gone, "the disconnect")
    assert [socket.sid for socket in await server.fetch_sockets()] == [first.sid]


async def test_volatile_events_reach_clients_that_listen(serve: Serve) -> None:
    server = gateway.Server()
    world = await serve(server)
    client = await world.client()
    await server.emit("now", 1, volatile=True)
    await server.emit("you", 2, to=client.sid, volatile=True)
    assert await client.hears(2) == [("now", 1), ("you", 2)]
    assert server.eio.counters.dropped_volatile == 0


# -- namespaces ----------------------------------------------------------------------------------------------


async def test_class_namespaces_have_their_methods_and_shortcuts(serve: Serve) -> None:
    server = gateway.Server()
    seen: list[Any] = []

    class Chat(gateway.Namespace):
        async def on_connect(self, sid: str, environ: dict[str, Any]) -> None:
            await self.enter_room(sid, "all")
            await self.save_session(sid, {"said": 0})

        def on_disconnect(self, sid: str, reason: str) -> None:
            seen.append(reason)

        async def on_say(self, sid: str, text: str) -> int:
            async with self.session(sid) as session:
                session["said"] += 1
            await self.emit("said", text, room="all", skip_sid=sid)
            said: int = (await self.get_session(sid))["said"]
            return said

        def on_rooms(self, sid: str) -> list[str]:
            return sorted(set(self.rooms(sid)) - {sid})

        async def on_kick(self, sid: str, other: str) -> None:
            await self.disconnect(other)

    server.register_namespace(Chat("/chat"))
    world = await serve(server)
    first, second = await world.client("/chat"), await world.client("/chat")
    assert await first.call("say", "hello") == 1
    assert await first.call("say", "again") == 2
    assert await second.hears(2) == [("said", "hello"), ("said", "again")]
    assert await first.call("rooms") == ["all"]
    await first.emit("kick", second.sid)
    await eventually(lambda: seen, "the disconnect")
    assert seen == ["server disconnect"]
    await eventually(lambda: second.gone, "the client knows")


async def test_namespaces_of_one_connection_are_apart(serve: Serve) -> None:
    server = gateway.Server()
    for namespace in ("/", "/a"):
        server.on("who", lambda sid, n=namespace: n, namespace=namespace)
    world = await serve(server)
    client = await world.client("/", "/a")
    assert client.io.get_sid("/") != client.io.get_sid("/a")
    assert await client.io.call("who", namespace="/") == "/"
    assert await client.io.call("who", namespace="/a") == "/a"
    await server.emit("x", namespace="/a")
    await server.emit("y", to=client.io.get_sid("/a"), namespace="/")
    assert await client.hears(1) == [("x",)]
    await server.disconnect(client.io.get_sid("/a"), namespace="/a")
    await eventually(lambda: client.gone, "the disconnect of one")
    assert await client.io.call("who", namespace="/") == "/"


async def test_catch_alls_catch_what_nobody_else_handles(serve: Serve) -> None:
    server = gateway.Server(namespaces="*")
    server.on("known", lambda sid: "known")
    server.on("*", lambda event, sid, *arguments: ["any event", event, *arguments])
    server.on("known", lambda namespace, sid: ["any namespace", namespace], namespace="*")
    server.on("*", lambda event, namespace, sid, *arguments: ["any", event, namespace, *arguments], namespace="*")
    world = await serve(server)
    client = await world.client("/")
    assert await client.call("known") == "known"
    assert await client.call("other", 1) == ["any event", "other", 1]
    client = await world.client("/somewhere")
    assert await client.call("known") == ["any namespace", "/somewhere"]
    assert await client.call("other", 1) == ["any", "other", "/somewhere", 1]


async def test_patterns_and_functions_accept_namespaces(serve: Serve) -> None:
    server = gateway.Server()
    boards = server.of(re.compile(r"/board-\d+"))
    server.on("draw", lambda namespace, sid, stroke: [namespace, stroke], namespace=boards)
    server.on("hello", lambda namespace, sid: namespace, namespace=lambda name: name.startswith("/user/"))
    world = await serve(server)
    assert await (await world.client("/board-7")).call("draw", 1) == ["/board-7", 1]
    assert await (await world.client("/user/x")).call("hello") == "/user/x"
    with pytest.raises(socketio.exceptions.ConnectionError):
        await world.client("/board-x")


async def test_unknown_namespace_is_refused(serve: Serve) -> None:
    world = await serve(gateway.Server())
    with pytest.raises(socketio.exceptions.ConnectionError):
        await world.client("/nowhere")


# -- connecting ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "payload"),
    [
        (lambda: gateway.ConnectionRefusedError("no", {"code": 4}), {"message": "no", "data": {"code": 4}}),
        (lambda: gateway.ConnectionRefusedError("no", 1, 2), {"message": "no", "data": [1, 2]}),
        (lambda: gateway.ConnectionRefusedError(), {"message": "Connection rejected by server"}),
    ],
)
async def test_refusal_carries_its_payload(serve: Serve, raised: Any, payload: Any) -> None:
    server = gateway.Server()

    @server.event
    def connect(sid: str, environ: Any) -> None:
        raise raised()

    world = await serve(server)
    client = await world.client(wait=False)
    await eventually(lambda: client.errors, "the refusal")
    assert client.errors == [payload]


async def test_always_connect_answers_before_the_handler(serve: Serve) -> None:
    server = gateway.Server(always_connect=True)
    gate = asyncio.Event()

    @server.event
    async def connect(sid: str, environ: Any) -> bool:
        await server.emit("during", to=sid)
        await gate.wait()
        return False

    world = await serve(server)
    client = await world.client()
    assert await client.hears(1) == [("during",)]
    gate.set()
    await eventually(lambda: client.gone, "the disconnect")


async def test_middleware_stands_before_handlers(serve: Serve) -> None:
    server = gateway.Server()

    @server.use
    async def known(sid: str, environ: dict[str, Any], auth: Any) -> bool:
        return auth == {"token": "good"}

    @server.use_event
    async def checked(sid: str, event: str, arguments: list[Any]) -> Any:
        if event == "secret":
            raise gateway.EventRefusedError("not you")
        if event == "ignored":
            return False
        return [*arguments, "checked"] if event == "echo" else None

    for event in ("echo", "secret", "ignored", "plain"):
        server.on(event, lambda sid, *arguments: list(arguments))
    world = await serve(server)
    with pytest.raises(socketio.exceptions.ConnectionError):
        await world.client(auth={"token": "bad"})
    client = await world.client(auth={"token": "good"})
    assert await client.call("echo", 1) == [1, "checked"]
    assert await client.call("secret", 1) == "not you"
    assert await client.call("plain", 1) == [1]
    with pytest.raises(socketio.exceptions.TimeoutError):
        await client.io.call("ignored", timeout=0.2)


async def test_cookie_is_set_by_the_handshake(serve: Serve) -> None:
    world = await serve(gateway.Server(cookie="io"))
    url = f"http://127.0.0.1:{world.port}/socket.io/?EIO=4&transport="
    async with aiohttp.ClientSession() as http:
        async with http.get(url + "polling") as response:
            session_id = json.loads((await response.text())[1:])["sid"]
            assert response.headers["Set-Cookie"] == f"io={session_id}; path=/; SameSite=Lax"
        async with http.ws_connect(url + "websocket") as websocket:
            assert websocket._response.headers["Set-Cookie"].startswith("io=")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("listener", LISTENERS)
async def test_foreign_origin_is_refused(serve: Serve, transport: str, listener: str) -> None:
    world = await serve(gateway.Server(cors_allowed_origins=["https://page.example"]), listener)
    with pytest.raises(socketio.exceptions.ConnectionError):
        await world.client(transport=transport, headers={"Origin": "https://evil.example"})
    await world.client(transport=transport, headers={"Origin": "https://page.example"})


# -- sessions and ends ---------------------------------------------------------------------------------------


async def test_user_sessions_live_as_long_as_the_client(serve: Serve) -> None:
    server = gateway.Server()
    ended: list[Any] = []

    @server.event
    async def connect(sid: str, environ: Any, auth: Any) -> None:
        await server.save_session(sid, {"name": auth["name"]})

    @server.event
    async def rename(sid: str, name: str) -> Any:
        async with server.session(sid) as session:
            before, session["name"] = session["name"], name
        return before

    @server.event
    async def disconnect(sid: str, reason: str) -> None:
        async with server.session(sid) as session:
            session["ended"] = True
        ended.append((await server.get_session(sid), server.rooms(sid) == [sid], reason))

    world = await serve(server)
    client = await world.client(auth={"name": "ada"})
    sid = client.sid
    assert await client.call("rename", "bob") == "ada"
    await client.io.disconnect()
    await eventually(lambda: ended, "the disconnect handler")
    assert ended[0][:2] == ({"name": "bob", "ended": True}, True)
    await eventually(lambda: not server.eio.sockets, "the session is gone")
    with pytest.raises(KeyError):
        await server.get_session(sid)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_disconnect_handlers_are_told_why(serve: Serve, transport: str) -> None:
    server = gateway.Server(ping_interval=0.2, ping_timeout=0.3)
    seen: dict[str, str] = {}
    server.on("disconnect", lambda sid, reason: seen.update({sid: reason}))
    world = await serve(server)

    async def end_of(end: Callable[[Client], Any]) -> str:
        client = await world.client(transport=transport)
        sid = client.sid
        result = end(client)
        if result is not None:
            await result
        await eventually(lambda: sid in seen, "the disconnect handler")
        return seen[sid]

    assert await end_of(lambda client: server.disconnect(client.sid)) == "server disconnect"
    assert await end_of(lambda client: client.io.disconnect()) in ("client disconnect", "transport close")

    async def session_closed(client: Client) -> None:
        await server.eio.disconnect(server.manager.eio_sid_from_sid(client.sid, "/"))

    assert await end_of(session_closed) == "server disconnect"

    async def silence(client: Client) -> None:
        async def nothing(packet: Any) -> None:
            """As a client whose process is stopped."""

        client.io.eio._send_packet = nothing

    assert await end_of(silence) == "ping timeout"

    async def broken(client: Client) -> None:
        await client.io.eio.send("nonsense")

    assert await end_of(broken) == "parse error"


async def test_handler_that_fails_answers_nobody_and_stops_nothing(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = gateway.Server()

    @server.event
    async def fail(sid: str) -> None:
        raise RuntimeError("application")

    server.on("well", lambda sid: "well")
    world = await serve(server)
    client = await world.client()
    with pytest.raises(socketio.exceptions.TimeoutError):
        await client.io.call("fail", timeout=0.2)
    assert "application" in caplog.text
    caplog.clear()
    assert await client.call("well") == "well"


async def test_handlers_take_turns_where_they_are_not_concurrent(serve: Serve) -> None:
    server = gateway.Server(async_handlers=False)
    seen: list[int] = []

    @server.event
    async def number(sid: str, value: int) -> None:
        await asyncio.sleep(0.05 if value % 2 else 0)
        seen.append(value)

    world = await serve(server)
    client = await world.client()
    for value in range(1, 9):
        await client.emit("number", value)
    await eventually(lambda: len(seen) == 8, "all")
    assert seen == list(range(1, 9))


async def test_handlers_overlap_where_they_are_concurrent(serve: Serve) -> None:
    server = gateway.Server()
    gate = asyncio.Event()

    @server.event
    async def wait(sid: str) -> str:
        await gate.wait()
        return "waited"

    @server.event
    async def release(sid: str) -> str:
        gate.set()
        return "released"

    world = await serve(server)
    client = await world.client()
    waiting = asyncio.create_task(client.call("wait"))
    assert await client.call("release") == "released"
    assert await waiting == "waited"


# -- encodings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_msgpack_is_spoken(serve: Serve, transport: str) -> None:
    server = gateway.Server(serializer="msgpack")
    server.on("echo", lambda sid, *arguments: list(arguments), namespace="/x")
    world = await serve(server)
    client = await world.client("/x", serializer="msgpack", transport=transport)
    data = [1, None, {"a": [b"\x00\x01", "\u20ac"]}, 2**63]
    assert await client.call("echo", *data) == data
    await server.emit("news", (b"\x02", {"b": 1}), namespace="/x")
    assert await client.hears(1) == [("news", b"\x02", {"b": 1})]
    client.io.on("ask", lambda value: [value, b"\x03"], namespace="/x")
    assert await server.call("ask", 1, to=client.sid, namespace="/x") == [1, b"\x03"]


async def test_json_module_of_the_application_is_used(serve: Serve) -> None:
    class Tagged:
        @staticmethod
        def dumps(data: Any, **options: Any) -> str:
            return json.dumps(data, default=lambda value: {"set": sorted(value)}, **options)

        @staticmethod
        def loads(text: str) -> Any:
            return json.loads(text, object_hook=lambda found: set(found["set"]) if set(found) == {"set"} else found)

    server = gateway.Server(json=Tagged)
    kinds: list[type] = []

    @server.event
    async def echo(sid: str, value: Any, binary: bytes) -> Any:
        kinds.append(type(value))
        return value, binary

    world = await serve(server)
    client = await world.client()
    assert await client.call("echo", {"set": [2, 1]}, b"\x01") == ({"set": [1, 2]}, b"\x01")
    assert kinds == [set]


async def test_packet_class_of_the_application_is_used(serve: Serve) -> None:
    class Shouting(library_packet.Packet):
        def encode(self) -> Any:
            if self.packet_type in (library_packet.EVENT, library_packet.BINARY_EVENT):
                self.data = [self.data[0].upper(), *self.data[1:]]
            return super().encode()

    server = gateway.Server(serializer=Shouting)
    server.on("echo", lambda sid, *arguments: list(arguments))
    world = await serve(server)
    client = await world.client()
    assert await client.call("echo", 1, b"\x01") == [1, b"\x01"]
    await server.emit("news", b"\x02")
    assert await client.hears(1) == [("NEWS", b"\x02")]


# -- back pressure -------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
@pytest.mark.parametrize("listener", LISTENERS)
async def test_fifty_megabytes_to_a_slow_but_steady_reader_arrive_complete(serve: Serve, listener: str) -> None:
    server = gateway.Server()
    piece, count = 64 * 1024, 800
    sent: list[int] = []

    @server.event
    async def flood(sid: str) -> None:
        for number in range(count):
            await server.emit("data", (number, b"x" * piece), to=sid)
            sent.append(number)

    world = await serve(server, listener)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port, limit=64 * 1024)
    writer.write(
        b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")

    async def receive() -> tuple[int, bytes]:
        head = await reader.readexactly(2)
        size = head[1]
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await reader.readexactly(8), "big")
        return head[0] & 0x0F, await reader.readexactly(size)

    def send(text: bytes) -> None:
        writer.write(bytes((0x81, 0x80 | len(text))) + b"\0\0\0\0" + text)

    try:
        send(b"40")
        send(b'42["flood"]')
        numbers: list[int] = []
        attachments = 0
        most_ahead = 0
        while attachments < count:
            opcode, payload = await asyncio.wait_for(receive(), timeout_s(20))
            assert opcode != 8, f"closed with {payload!r} after {attachments} pieces"
            if opcode == 2:
                assert len(payload) == piece
                attachments += 1
                most_ahead = max(most_ahead, len(sent) - attachments)
                if attachments % 8 == 0:
                    await asyncio.sleep(0.01)
            elif payload.startswith(b"451-"):
                numbers.append(json.loads(payload[4:])[1])
            elif payload == b"2":
                send(b"3")
        assert numbers == list(range(count))
        assert most_ahead * piece < 3 * server.eio.max_buffered_bytes, "the sender did not wait"
    finally:
        writer.transport.abort()


# -- the engine alone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_engine_alone_serves_python_engineios_client(transport: str) -> None:
    engine = Engine()
    seen: list[Any] = []

    @engine.on("connect")
    async def connect(sid: str, environ: dict[str, Any]) -> None:
        await engine.save_session(sid, {"user": "x"})

    @engine.on("message")
    async def message(sid: str, data: Any) -> None:
        async with engine.session(sid) as session:
            assert session["user"] == "x"
        await engine.send(sid, data)

    @engine.on("disconnect")
    def disconnect(sid: str, reason: str) -> None:
        seen.append(reason)

    app = web.Application()
    engine.attach(app, "live")
    async with serving(app) as port, aiohttp.ClientSession() as http:
        client = engineio.AsyncClient(http_session=http)
        received: list[Any] = []
        client.on("message", received.append)
        await client.connect(f"http://127.0.0.1:{port}", transports=[transport], engineio_path="live")
        for data in ("text", b"\x00\x01", ["json", 1]):
            await client.send(data)
        await eventually(lambda: len(received) == 3, "the echoes")
        assert received[:2] == ["text", b"\x00\x01"]
        [sid] = engine.sockets
        assert engine.transport(sid) == transport
        await engine.disconnect(sid)
        await eventually(lambda: seen, "the disconnect handler")
        assert seen == ["server disconnect"]
        await client.disconnect()


async def test_engine_alone_can_refuse() -> None:
    engine = Engine()
    engine.on("connect", lambda sid, environ: "not today")
    app = web.Application()
    engine.attach(app)
    async with (
        serving(app) as port,
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}/engine.io/?EIO=4&transport=polling") as response,
    ):
        assert response.status == 401
        assert (await response.json())["message"] == "not today"
    assert not engine.sockets

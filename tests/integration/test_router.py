"""Connection classes over real sockets, with the stock Python client."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import socketio
from aiohttp import ClientSession, web
from socketio.exceptions import ConnectionError as ClientConnectionError

import gateway
from gateway import codec
from gateway.connection import ConnectionInfo, SocketConnection, event
from gateway.router import Router
from tests.support.raw import EngineClient
from tests.support.servers import serving
from tests.support.waiting import eventually, timeout_s

TRANSPORTS = ("websocket", "polling")


class Client:
    """A stock client that keeps everything it hears, with the namespace it was said in."""

    def __init__(self) -> None:
        self.sio = socketio.AsyncClient(reconnection=False)
        self.heard: list[tuple[Any, ...]] = []
        self.disconnects: list[str] = []
        self.sio.on("*", self._keep, namespace="*")
        self.sio.on("disconnect", self._keep_disconnect, namespace="*")

    async def _keep(self, name: str, namespace: str, *args: Any) -> Any:
        self.heard.append((namespace, name, *args))
        return "got", name

    async def _keep_disconnect(self, namespace: str, *_: Any) -> None:
        self.disconnects.append(namespace)

    async def hears(self, *expected: tuple[Any, ...]) -> None:
        await eventually(lambda: len(self.heard) >= len(expected), f"{expected}, but {self.heard}")
        assert self.heard == list(expected)

    async def ask(self, name: str, data: Any = None, namespace: str = "/") -> Any:
        answer = await self.sio.call(name, data, namespace=namespace, timeout=timeout_s())
        return list(answer) if isinstance(answer, tuple) else answer


class World:
    """A router, served, and its clients."""

    def __init__(self, router: Router, port: int, stack: AsyncExitStack) -> None:
        self.router = router
        self.port = port
        self._stack = stack

    async def connect(self, transport: str = "websocket", *namespaces: str, query: str = "", **options: Any) -> Client:
        client = Client()
        self._stack.push_async_callback(client.sio.disconnect)
        await client.sio.connect(
            f"http://127.0.0.1:{self.port}{query}",
            transports=[transport],
            namespaces=list(namespaces) or ["/"],
            wait_timeout=timeout_s(),
            **options,
        )
        return client


@asynccontextmanager
async def world(
    connection_class: type[SocketConnection], listener: str = "fast", **settings: Any
) -> AsyncIterator[World]:
    router = Router(connection_class, settings)
    app = web.Application()
    router.attach(app)
    async with serving(app, listener) as port, AsyncExitStack() as stack:
        yield World(router, port, stack)
    assert router._sessions == {}
    assert router._links == {}


class Logged(SocketConnection):
    """Keeps what happens to all connections of its class."""

    log: list[Any]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.log = []

    def on_open(self, request: ConnectionInfo) -> Any:
        self.log.append("open")

    def on_close(self) -> Any:
        self.log.append("close")


# -- callbacks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("listener", ["fast", "aiohttp"])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_callback_is_called(transport: str, listener: str) -> None:
    class Plain(Logged):
        def on_open(self, request: ConnectionInfo) -> Any:
            self.log.append(("open", request.ip, request.get_argument("name"), request.get_cookie("theme")))
            self.log.append((request.headers["X-Test"], request.auth, self.endpoint, self.is_closed))
            self.send("welcome")

        def on_message(self, message: Any) -> Any:
            self.log.append(("message", message))

        def on_event(self, name: str, args: Any = (), kwargs: Any = None) -> Any:
            self.log.append((name, args, kwargs))

        def on_close(self) -> Any:
            self.log.append(("close", self.is_closed, self.close_reason))

    async with world(Plain, listener) as served:
        client = await served.connect(
            transport, query="?name=ada", headers={"X-Test": "yes", "Cookie": "theme=dark"}, auth={"token": 1}
        )
        await client.hears(("/", "message", "welcome"))
        await client.sio.send("hello")
        await client.sio.send({"a": [1, b"\0\xff"]})
        await client.sio.emit("one", {"a": 1})
        await client.sio.emit("two", ("x", {"a": 1}))
        await client.sio.emit("none")
        await client.sio.emit("other", [{"a": 1}])
        await eventually(lambda: len(Plain.log) == 8)
        await client.sio._send_packet(client.sio.packet_class(codec.DISCONNECT))
        await eventually(lambda: len(Plain.log) == 9)
    assert Plain.log == [
        ("open", "127.0.0.1", "ada", "dark"),
        ("yes", {"token": 1}, None, False),
        ("message", "hello"),
        ("message", {"a": [1, b"\0\xff"]}),
        ("one", [], {"a": 1}),
        ("two", ["x", {"a": 1}], {}),
        ("none", [], {}),
        ("other", [[{"a": 1}]], {}),
        ("close", True, "client disconnect"),
    ]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_every_callback_may_be_a_coroutine_function(transport: str) -> None:
    class Waiting(Logged):
        async def on_open(self, request: ConnectionInfo) -> Any:
            await asyncio.sleep(0)
            self.log.append("open")

        async def on_message(self, message: Any) -> Any:
            await asyncio.sleep(0)
            self.log.append(message)
            return "heard", message

        @event
        async def sum(self, a: int, b: int) -> int:
            await asyncio.sleep(0)
            return a + b

        async def get_endpoint(self, endpoint: str) -> Any:
            await asyncio.sleep(0)
            return Waiting if endpoint == "/more" else None

        async def on_close(self) -> Any:
            await asyncio.sleep(0)
            self.log.append("close")

    async with world(Waiting) as served:
        client = await served.connect(transport, "/", "/more")
        assert await client.ask("message", "x") == ["heard", "x"]
        assert await client.ask("sum", (1, 2)) == 3
        assert await client.ask("sum", {"a": 3, "b": 4}, "/more") == 7
        await client.sio.disconnect()
        await eventually(lambda: Waiting.log.count("close") == 2)
    assert Waiting.log == ["open", "open", "x", "close", "close"]


# -- events and acks -----------------------------------------------------------------------------------


class Answers(SocketConnection):
    @event
    def ping(self, client: Any) -> Any:
        return client, [12, 30]

    @event("a name with blanks")
    def named(self, text: str = "nothing") -> Any:
        return text

    @event
    def nothing(self) -> None: ...

    @event
    def a_list(self) -> Any:
        return [1, 2]

    @event
    async def binary(self, blob: bytes) -> Any:
        return {"blob": blob[::-1]}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_a_handler_returns_is_the_ack(transport: str) -> None:
    async with world(Answers) as served:
        client = await served.connect(transport)
        assert await client.ask("ping", [9, 59]) == [[9, 59], [12, 30]]
        assert await client.ask("ping", {"client": 7}) == [7, [12, 30]]
        assert await client.ask("a name with blanks", {"text": "x"}) == "x"
        assert await client.ask("a name with blanks") == "nothing"
        assert await client.ask("nothing") is None
        assert await client.ask("a_list") == [1, 2]
        assert await client.ask("binary", b"\1\2") == {"blob": b"\2\1"}


async def test_an_unknown_event_is_not_acknowledged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="tidegate.router")
    async with world(Answers) as served:
        client = await served.connect()
        answers: list[Any] = []
        await client.sio.emit("unknown", 1, callback=lambda *data: answers.append(data))
        await client.sio.emit("message", 1, callback=lambda *data: answers.append(data))
        assert await client.ask("a_list") == [1, 2]
        assert answers == []
        assert "Answers has no handler of event 'unknown'" in caplog.messages
        assert "Answers has no on_message" in caplog.messages
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_the_server_sends_in_every_form_and_is_told_of_acks(transport: str) -> None:
    got: list[Any] = []

    class Sends(SocketConnection):
        @event
        def go(self) -> None:
            self.send("text")
            self.send({"a": 1}, lambda message, data: got.append((message, data)))
            self.emit("none")
            self.emit("several", 1, [2], {"c": 3})
            self.emit("keywords", name="ada", age=36)
            self.emit_ack(self.acknowledged, "asked", 1, 2)
            self.emit_ack(lambda *told: got.append(told), "asked too", name="ada")

        async def acknowledged(self, message: Any, data: Any) -> None:
            await asyncio.sleep(0)
            got.append((message, data))

    async with world(Sends) as served:
        client = await served.connect(transport)
        await client.sio.emit("go")
        await client.hears(
            ("/", "message", "text"),
            ("/", "message", {"a": 1}),
            ("/", "none"),
            ("/", "several", 1, [2], {"c": 3}),
            ("/", "keywords", {"name": "ada", "age": 36}),
            ("/", "asked", 1, 2),
            ("/", "asked too", {"name": "ada"}),
        )
        await eventually(lambda: len(got) == 3)
    assert sorted(got, key=str) == [
        (("asked too", (), {"name": "ada"}), ["got", "asked too"]),
        (("asked", (1, 2), {}), ["got", "asked"]),
        ({"a": 1}, ["got", "message"]),
    ]


async def test_an_ack_without_data_is_told_as_none() -> None:
    got: list[Any] = []

    class Sends(SocketConnection):
        def on_open(self, request: ConnectionInfo) -> None:
            self.send("x", lambda message, data: got.append((message, data)))

    async with world(Sends) as served:
        socket = await EngineClient(served.port, "/socket.io/").websocket()
        await socket.opening()
        await socket.send("40")
        assert (await socket.text()).startswith("40")
        assert await socket.text() == '421["message","x"]'
        await socket.send("431[]")
        await eventually(lambda: got == [("x", None)])
        await socket.close()


# -- order ---------------------------------------------------------------------------------------------


class Ordered(Logged):
    gate: asyncio.Event

    @event
    async def slow(self, number: int) -> int:
        self.log.append(f"begin {number}")
        await self.gate.wait()
        self.log.append(f"end {number}")
        return number

    @event
    def quick(self, number: int) -> int:
        self.log.append(f"quick {number}")
        return number


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_events_of_a_connection_are_handled_one_after_the_other(transport: str) -> None:
    class Here(Ordered):
        gate = asyncio.Event()

    async with world(Here) as served:
        client = await served.connect(transport)
        answers: list[Any] = []
        for name, number in (("slow", 1), ("quick", 2), ("quick", 3), ("slow", 4), ("quick", 5)):
            await client.sio.emit(name, number, callback=answers.append)
        other = await served.connect(transport)
        assert await other.ask("quick", 6) == 6
        await eventually(lambda: "begin 1" in Here.log)
        Here.gate.set()
        await eventually(lambda: len(answers) == 5)
    assert answers == [1, 2, 3, 4, 5]
    expected = ["begin 1", "end 1", "quick 2", "quick 3", "begin 4", "end 4", "quick 5"]
    assert [line for line in Here.log if line in expected] == expected


@pytest.mark.parametrize("how", ["disconnect", "lost"])
async def test_on_close_comes_after_the_events_before_it(how: str) -> None:
    class Here(Ordered):
        gate = asyncio.Event()

    async with world(Here) as served:
        client = await served.connect()
        await client.sio.emit("slow", 1)
        await client.sio.emit("quick", 2)
        await client.sio.emit("slow", 3)
        await eventually(lambda: served.router.server.eio.counters.messages_in == 4)
        (session,) = served.router._sessions.values()
        connection = session.conn
        assert connection is not None
        if how == "disconnect":
            await client.sio.disconnect()
        else:
            client.sio.eio.ws._response.connection.transport.abort()
        await eventually(lambda: connection.is_closed)
        assert Here.log == ["open", "begin 1"]
        Here.gate.set()
        await eventually(lambda: "close" in Here.log)
    assert Here.log == ["open", "begin 1", "end 1", "quick 2", "begin 3", "end 3", "close"]
    assert connection.close_reason in ("client disconnect", "transport close", "transport error")


async def test_connections_of_one_session_do_not_wait_for_each_other() -> None:
    class Chat(Ordered):
        gate = asyncio.Event()

    class Root(Ordered):
        gate = asyncio.Event()
        __endpoints__ = {"/chat": Chat}  # noqa: RUF012

    async with world(Root) as served:
        client = await served.connect("websocket", "/", "/chat")
        await client.sio.emit("slow", 1, namespace="/")
        assert await client.ask("quick", 2, "/chat") == 2
        Root.gate.set()
        await eventually(lambda: Root.log == ["open", "begin 1", "end 1"])


@pytest.mark.parametrize(
    ("settings", "payload"), [({"max_pending_events": 5}, 1), ({"max_buffered_bytes": 20_000}, "x" * 5_000)]
)
async def test_too_many_waiting_events_end_the_session(settings: dict[str, Any], payload: Any) -> None:
    class Here(Ordered):
        gate = asyncio.Event()

        def on_close(self) -> None:
            self.log.append(self.close_reason)

    async with world(Here, **settings) as served:
        client = await served.connect()
        for _ in range(7):
            await client.sio.emit("slow", payload)
        await eventually(lambda: client.disconnects == ["/"])
        Here.gate.set()
        await eventually(lambda: len(Here.log) == 4)
        assert served.router.server.eio.counters.closed["too many events waiting"] == 1
    assert Here.log == ["open", f"begin {payload}", f"end {payload}", "too many events waiting"]


# -- refusal -------------------------------------------------------------------------------------------


async def _says_no(self: SocketConnection, request: ConnectionInfo) -> Any:
    return False


def _closes(self: SocketConnection, request: ConnectionInfo) -> Any:
    self.close()


def _raises(error: BaseException) -> Callable[[SocketConnection, ConnectionInfo], Any]:
    def on_open(self: SocketConnection, request: ConnectionInfo) -> Any:
        raise error

    return on_open


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("on_open", "answer"),
    [
        (lambda self, request: False, {"message": "Connection rejected by server"}),
        (lambda self, request: 0, {"message": "Connection rejected by server"}),
        (_says_no, {"message": "Connection rejected by server"}),
        (_closes, {"message": "Connection rejected by server"}),
        (_raises(gateway.ConnectionRefusedError("full", {"retry": 5})), {"message": "full", "data": {"retry": 5}}),
        (_raises(web.HTTPForbidden()), {"message": "Forbidden", "data": {"status": 403}}),
        (_raises(web.HTTPUnauthorized(text="log in first")), {"message": "log in first", "data": {"status": 401}}),
        (_raises(ZeroDivisionError()), {"message": "Internal server error"}),
    ],
)
async def test_on_open_can_refuse(transport: str, on_open: Any, answer: Any) -> None:
    closed: list[SocketConnection] = []

    def on_close(self: SocketConnection) -> None:
        closed.append(self)

    child = type("Child", (SocketConnection,), {"on_open": on_open, "on_close": on_close})
    root = type("Root", (SocketConnection,), {"__endpoints__": {"/child": child}})
    async with world(root) as served:
        client = await served.connect(transport)
        refusals: list[Any] = []
        client.sio.on("connect_error", refusals.append, namespace="/child")
        client.sio.connection_namespaces.append("/child")
        await client.sio._send_packet(client.sio.packet_class(codec.CONNECT, namespace="/child"))
        await eventually(lambda: refusals)
        assert refusals == [answer]
        (session,) = served.router._sessions.values()
        assert session.endpoints == {}
        assert session.conn is not None
        assert not session.conn.is_closed
    assert closed == []


@pytest.mark.parametrize("namespace", ["/", "/child"])
async def test_what_the_root_refuses_is_refused_in_every_endpoint(namespace: str) -> None:
    class Child(Logged): ...

    class Root(Logged):
        __endpoints__ = {"/child": Child}  # noqa: RUF012

        def on_open(self, request: ConnectionInfo) -> Any:
            super().on_open(request)
            return request.get_argument("key") == "right"

    async with world(Root) as served:
        with pytest.raises(ClientConnectionError):
            await served.connect("websocket", namespace, query="?key=wrong")
        assert (Root.log, Child.log) == (["open"], [])
        assert served.router._sessions == {}
        await served.connect("websocket", namespace, query="?key=right")
        assert (Root.log, Child.log) == (["open", "open"], ["open"] if namespace == "/child" else [])


# -- endpoints -----------------------------------------------------------------------------------------


class Room(Logged):
    @event
    def who(self) -> Any:
        return self.endpoint, self.namespace, self.session.conn is not None, self.session.transport


class Lobby(Logged):
    __endpoints__ = {"/chat": Room}  # noqa: RUF012

    def get_endpoint(self, endpoint: str) -> Any:
        if endpoint.startswith("/room-"):
            return Room
        return super().get_endpoint(endpoint)

    @event
    def who(self) -> Any:
        return self.endpoint, self.namespace, self.session.conn is self, self.session.transport


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_endpoints_share_a_session(transport: str) -> None:
    async with world(Lobby) as served:
        client = await served.connect(transport, "/", "/chat", "/room-7")
        assert await client.ask("who") == [None, "/", True, transport]
        assert await client.ask("who", namespace="/chat") == ["/chat", "/chat", True, transport]
        assert await client.ask("who", namespace="/room-7") == ["/room-7", "/room-7", True, transport]
        (session,) = served.router._sessions.values()
        assert served.router.get_session(session.id) is session
        assert served.router.get_session("unknown") is None
        assert {type(connection) for connection in session.endpoints.values()} == {Room}
        assert session.get_connection() is session.conn
        assert session.get_connection("/chat") is session.endpoints["/chat"]
        assert session.get_connection("/chat") is not session.get_connection("/room-7")
        assert session.server is served.router


async def test_a_namespace_that_get_endpoint_does_not_know_is_refused() -> None:
    async with world(Lobby) as served:
        with pytest.raises(ClientConnectionError):
            await served.connect("websocket", "/nowhere")
        socket = await EngineClient(served.port, "/socket.io/").websocket()
        await socket.opening()
        await socket.send("40/nowhere,")
        assert await socket.text() == '44/nowhere,{"message":"Invalid namespace"}'
        await socket.close()


@pytest.mark.parametrize("joins", [("40", "40/a,", "40/b,"), ("40/a,", "40/b,", "40")])
async def test_the_root_opens_first_and_closes_last(joins: tuple[str, ...]) -> None:
    log: list[str] = []
    gate = asyncio.Event()

    class Step(SocketConnection):
        async def on_open(self, request: ConnectionInfo) -> None:
            await asyncio.sleep(0)
            log.append(f"open {self.namespace}")

        async def on_close(self) -> None:
            log.append(f"begin {self.namespace}")
            await gate.wait()
            log.append(f"close {self.namespace}")

    class Root(Step):
        def get_endpoint(self, endpoint: str) -> Any:
            return Step

    async with world(Root) as served:
        socket = await EngineClient(served.port, "/socket.io/").websocket()
        await socket.opening()
        for packet in joins:
            await socket.send(packet)
        for _ in joins:
            assert (await socket.text()).startswith("40")
        assert (log[0], sorted(log)) == ("open /", ["open /", "open /a", "open /b"])
        del log[:]
        socket.abort()
        await eventually(lambda: not served.router._links)
        await eventually(lambda: len(log) == 2)
        assert sorted(log) == ["begin /a", "begin /b"]
        gate.set()
        await eventually(lambda: len(log) == 6)
    assert (sorted(log[2:4]), log[4:]) == (["close /a", "close /b"], ["begin /", "close /"])


async def test_a_root_that_was_not_joined_ends_with_the_last_endpoint() -> None:
    async with world(Lobby) as served:
        Lobby.log.clear()
        client = await served.connect("websocket", "/chat", "/room-1")
        assert Lobby.log == ["open"]
        (session,) = served.router._sessions.values()
        root = session.conn
        assert root is not None
        assert root.sid is None
        await client.sio._send_packet(client.sio.packet_class(codec.DISCONNECT, namespace="/chat"))
        await eventually(lambda: list(session.endpoints) == ["/room-1"])
        assert Lobby.log == ["open"]
        await client.sio._send_packet(client.sio.packet_class(codec.DISCONNECT, namespace="/room-1"))
        await eventually(lambda: Lobby.log == ["open", "close"])
        assert session.conn is None
        assert root.is_closed


async def test_what_the_root_says_waits_until_it_is_joined() -> None:
    class Welcomes(SocketConnection):
        def on_open(self, request: ConnectionInfo) -> None:
            self.send("welcome")
            self.join("everybody")
            self.emit_ack(self.acknowledged, "asked")

        def acknowledged(self, message: Any, data: Any) -> None:
            self.emit("thanks", data)

        def get_endpoint(self, endpoint: str) -> Any:
            return SocketConnection

    async with world(Welcomes) as served:
        client = Client()
        socket = await EngineClient(served.port, "/socket.io/").websocket()
        await socket.opening()
        await socket.send("40/child,")
        assert (await socket.text()).startswith("40/child,")
        await socket.send("40")
        assert (await socket.text()).startswith('40{"sid":')
        assert await socket.text() == '42["message","welcome"]'
        assert await socket.text() == '421["asked"]'
        await socket.send("431[5]")
        assert await socket.text() == '42["thanks",[5]]'
        await served.router.server.emit("news", 1, room="everybody")
        assert await socket.text() == '42["news",1]'
        await socket.close()
        assert client.heard == []


async def test_a_client_can_leave_an_endpoint_and_come_back() -> None:
    async with world(Lobby) as served:
        Room.log.clear()
        socket = await EngineClient(served.port, "/socket.io/").websocket()
        await socket.opening()
        await socket.send("40")
        assert (await socket.text()).startswith("40")
        for _ in range(3):
            await socket.send("40/chat,")
            assert (await socket.text()).startswith("40/chat,")
            await socket.send("41/chat,")
            await eventually(lambda: Room.log[-1] == "close")
            await socket.send('421["who"]')
            assert (await socket.text()).startswith("431")
        await socket.close()
    assert Room.log == ["open", "close"] * 3


# -- the end -------------------------------------------------------------------------------------------


class Closes(Logged):
    @event
    async def close_me(self) -> str:
        self.close()
        self.send("never sent")
        self.log.append(self.is_closed)
        return "closed"

    @event
    def end_session(self) -> None:
        self.session.close()

    @event
    def later(self) -> None:
        self.log.append("never called")

    def on_close(self) -> None:
        self.log.append(self.close_reason)


class ClosesRoot(Closes):
    __endpoints__ = {"/child": Closes}  # noqa: RUF012


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_endpoint_can_close_itself_only(transport: str) -> None:
    async with world(ClosesRoot) as served:
        Closes.log.clear()
        ClosesRoot.log.clear()
        client = await served.connect(transport, "/", "/child")
        assert await client.ask("close_me", namespace="/child") == "closed"
        await eventually(lambda: client.disconnects == ["/child"])
        await eventually(lambda: Closes.log == ["open", True, "server disconnect"])
        assert ClosesRoot.log == ["open"]
        assert client.heard == []
        assert client.sio.connected


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("name", "namespace"), [("close_me", "/"), ("end_session", "/"), ("end_session", "/child")])
async def test_the_root_closes_the_session(transport: str, name: str, namespace: str) -> None:
    async with world(ClosesRoot) as served:
        Closes.log.clear()
        ClosesRoot.log.clear()
        client = await served.connect(transport, "/", "/child")
        await client.sio.emit(name, namespace=namespace)
        await client.sio.emit("later", namespace=namespace)
        await eventually(lambda: sorted(client.disconnects) == ["/", "/child"])
        await eventually(lambda: not served.router._sessions)
    assert Closes.log == ["open", "server disconnect"]
    assert [line for line in ClosesRoot.log if line is not True] == ["open", "server disconnect"]


async def test_a_handler_may_wait_for_the_disconnect_it_asks_for() -> None:
    class Impatient(Logged):
        @event
        async def leave_me(self) -> None:
            assert self.sid is not None
            await self.session.server.server.disconnect(self.sid)
            self.log.append("after")

    async with world(Impatient) as served:
        client = await served.connect()
        await client.sio.emit("leave_me")
        await eventually(lambda: Impatient.log == ["open", "after", "close"])


class Fails(Logged):
    @event
    def at_once(self) -> None:
        raise ZeroDivisionError

    @event
    async def later(self) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    @event
    def one_argument(self, argument: Any) -> None: ...

    @event
    def unsendable(self) -> None:
        self.emit("x", object())

    @event
    def in_ack(self) -> None:
        self.emit_ack(lambda message, data: 1 // 0, "asked")

    @event
    def in_later_ack(self) -> None:
        async def fail(message: Any, data: Any) -> None:
            raise ZeroDivisionError

        self.emit_ack(fail, "asked")

    @event
    def never(self) -> None:
        self.log.append("never called")

    def on_message(self, message: Any) -> None:
        raise ZeroDivisionError

    def on_close(self) -> None:
        self.log.append(self.close_reason)


class FailsRoot(Logged):
    __endpoints__ = {"/fails": Fails}  # noqa: RUF012


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("name", "logged"),
    [
        ("at_once", "handler of 'at_once' of Fails failed"),
        ("later", "handler of 'later' of Fails failed"),
        ("message", "handler of 'message' of Fails failed"),
        ("unsendable", "handler of 'unsendable' of Fails failed"),
        ("one_argument", "event 'one_argument' does not fit its handler"),
        ("in_ack", "ack callback of Fails failed"),
        ("in_later_ack", "ack callback of Fails failed"),
    ],
)
async def test_an_exception_that_is_not_caught_closes_the_session(
    transport: str, name: str, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with world(FailsRoot) as served:
        Fails.log.clear()
        FailsRoot.log.clear()
        client = await served.connect(transport, "/", "/fails")
        bystander = await served.connect(transport, "/", "/fails")
        await client.sio.emit(name, namespace="/fails")
        await eventually(lambda: sorted(client.disconnects) == ["/", "/fails"])
        await eventually(lambda: len(served.router._sessions) == 1)
        assert (Fails.log, FailsRoot.log) == (["open", "open", "handler failed"], ["open", "open", "close"])
        assert bystander.sio.connected
        assert served.router.server.eio.counters.closed["handler failed"] == 1
    assert sum(logged in message for message in caplog.messages) == 1


async def test_events_behind_one_that_fails_are_not_handled() -> None:
    async with world(FailsRoot) as served:
        Fails.log.clear()
        socket = await EngineClient(served.port, "/socket.io/").websocket()
        await socket.opening()
        await socket.send("40/fails,")
        assert (await socket.text()).startswith("40/fails,")
        for name in ("later", "never", "never"):
            await socket.send(f'42/fails,["{name}"]')
        assert await socket.close_code() == 1011
        await eventually(lambda: Fails.log == ["open", "handler failed"])


async def test_an_exception_in_on_close_is_logged_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    class Bad(SocketConnection):
        def on_close(self) -> Any:
            raise ZeroDivisionError

    class WorseRoot(SocketConnection):
        __endpoints__ = {"/bad": Bad}  # noqa: RUF012

        async def on_close(self) -> Any:
            raise ZeroDivisionError

    async with world(WorseRoot) as served:
        client = await served.connect("websocket", "/", "/bad")
        await client.sio.disconnect()
        await eventually(lambda: not served.router._sessions)
    assert {"on_close of Bad failed", "on_close of WorseRoot failed"} <= set(caplog.messages)


# -- rooms and broadcasts ------------------------------------------------------------------------------


class Talks(SocketConnection):
    def on_open(self, request: ConnectionInfo) -> None:
        self.join("all")

    @event
    async def say(self, text: str, room: str | None = None, include_self: bool = False) -> None:
        if room is None:
            await self.broadcast("said", text, include_self=include_self)
        else:
            await self.emit_to(room, "said", text, 2, include_self=include_self)

    @event
    def enter(self, room: str) -> None:
        self.join(room)

    @event
    def exit(self, room: str) -> None:
        self.leave(room)


class TalksRoot(Talks):
    __endpoints__ = {"/talk": Talks}  # noqa: RUF012


@pytest.mark.parametrize("namespace", ["/", "/talk"])
async def test_broadcasts_reach_the_namespace_or_a_room(namespace: str) -> None:
    async with world(TalksRoot) as served:
        ada, bob, eve = [await served.connect(transport, "/", "/talk") for transport in ("websocket", "polling") * 2][
            :3
        ]
        await ada.ask("say", "to others", namespace)
        await ada.ask("say", {"text": "to all", "include_self": True}, namespace)
        await bob.ask("enter", "r", namespace)
        await ada.ask("say", {"text": "to the room", "room": "r"}, namespace)
        await ada.ask("enter", "r", namespace)
        await ada.ask("say", {"text": "to the room and me", "room": "r", "include_self": True}, namespace)
        await bob.ask("exit", "r", namespace)
        await ada.ask("say", {"text": "to nobody", "room": "r"}, namespace)
        await ada.ask("say", {"text": "end", "room": "all", "include_self": True}, namespace)
        await ada.hears(
            (namespace, "said", "to all"),
            (namespace, "said", "to the room and me", 2),
            (namespace, "said", "end", 2),
        )
        await bob.hears(
            (namespace, "said", "to others"),
            (namespace, "said", "to all"),
            (namespace, "said", "to the room", 2),
            (namespace, "said", "to the room and me", 2),
            (namespace, "said", "end", 2),
        )
        await eve.hears((namespace, "said", "to others"), (namespace, "said", "to all"), (namespace, "said", "end", 2))


# -- hosts, settings, stats ----------------------------------------------------------------------------


async def test_another_path_can_be_served() -> None:
    app = web.Application()
    Router(Answers, namespace="first").attach(app)
    Router(Answers).attach(app, "second/path")
    async with serving(app) as port, AsyncExitStack() as stack:
        for path in ("first", "second/path"):
            client = Client()
            stack.push_async_callback(client.sio.disconnect)
            await client.sio.connect(f"http://127.0.0.1:{port}", socketio_path=path, transports=["websocket"])
            assert await client.ask("a_list") == [1, 2]


async def test_the_browser_client_is_served_beside_it() -> None:
    async with world(Answers) as served, ClientSession(f"http://127.0.0.1:{served.port}") as http:
        response = await http.get("/socket.io/socket.io.js")
        assert response.status == 200


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_its_routes_can_be_added_to_an_application(transport: str) -> None:
    router = Router(Answers)

    async def index(_: web.Request) -> web.Response:
        return web.Response(text="index")

    app = web.Application()
    app.add_routes(router.apply_routes([web.get("/", index)]))
    app.on_shutdown.append(router.shutdown)
    async with serving(app, "aiohttp") as port:
        client = Client()
        await client.sio.connect(f"http://127.0.0.1:{port}", transports=[transport])
        assert await client.ask("ping", 1) == [1, [12, 30]]
        await client.sio.disconnect()


async def test_a_protocol_that_is_not_enabled_is_refused() -> None:
    async with world(Answers, enabled_protocols=["xhr-polling"]) as served:
        with pytest.raises(ClientConnectionError):
            await served.connect("websocket")
        assert await (await served.connect("polling")).ask("a_list") == [1, 2]


async def test_handlers_of_the_server_itself_stay_possible() -> None:
    router = Router(Answers)
    seen: list[Any] = []

    @router.server.on("hello", namespace="/plain")
    async def hello(sid: str, text: str) -> str:
        return text.upper()

    @router.server.on("connect", namespace="/plain")
    async def connect(sid: str, environ: Any) -> None:
        seen.append(sid)

    @router.server.use_event
    async def watch(sid: str, name: str, args: list[Any]) -> None:
        seen.append(name)

    app = web.Application()
    router.attach(app)
    async with serving(app) as port:
        client = Client()
        await client.sio.connect(f"http://127.0.0.1:{port}", transports=["websocket"], namespaces=["/", "/plain"])
        assert await client.ask("hello", "x", "/plain") == "X"
        assert await client.ask("ping", 1) == [1, [12, 30]]
        assert seen[1:] == ["ping"]
        await client.sio.disconnect()


async def test_statistics_count_sessions_connections_and_packets() -> None:
    async with world(TalksRoot) as served:
        clients = [await served.connect("websocket", "/", "/talk") for _ in range(3)]
        await clients[0].ask("say", "x", "/talk")
        dump = served.router.stats.dump()
        assert (dump["active_sessions"], dump["max_sessions"]) == (3, 3)
        assert (dump["active_connections"], dump["max_connections"]) == (6, 6)
        assert dump["connections_ps"] > 0
        assert dump["packets_sent_ps"] > 0
        assert dump["packets_recv_ps"] > 0
        await clients[1].sio.disconnect()
        await eventually(lambda: served.router.stats.dump()["active_connections"] == 4)
        await eventually(lambda: served.router.stats.dump()["active_sessions"] == 2)
        assert served.router.stats.dump()["max_sessions"] == 3


async def test_the_classics_of_tornadio2_run() -> None:
    from examples.tornadio2_classics.app import create_app

    async with serving(create_app()) as port, ClientSession(f"http://127.0.0.1:{port}") as http:
        for path, content_type in (("/", "text/html"), ("/classics.js", "text/javascript")):
            response = await http.get(path)
            assert (response.status, response.content_type) == (200, content_type)
        async with AsyncExitStack() as stack:
            clients = []
            for transport in TRANSPORTS:
                client = Client()
                stack.push_async_callback(client.sio.disconnect)
                await client.sio.connect(
                    f"http://127.0.0.1:{port}",
                    transports=[transport],
                    namespaces=["/", "/chat", "/ping", "/transports"],
                    wait_timeout=timeout_s(),
                )
                clients.append(client)
            ada, bob = clients
            client_clock, server_clock = await ada.ask("ping", [1, 2, 3, 4])
            assert (client_clock, len(server_clock)) == ([1, 2, 3, 4], 4)
            assert (await bob.ask("stats"))["active_connections"] == 8
            await bob.sio.emit("message", "hello", namespace="/chat")
            await bob.sio.emit("message", {"client": [5]}, namespace="/ping")
            await bob.sio.emit("message", "to all", namespace="/transports")
            expected = [("/chat", "message", "User2: hello"), ("/transports", "message", "to all")]
            await eventually(lambda: all(line in client.heard for line in expected for client in clients))
            await eventually(lambda: any(line[0] == "/ping" and line[2]["client"] == [5] for line in bob.heard))
            assert ("/transports", "message", "Welcome from the server, by polling.") in bob.heard
            assert ("/chat", "message", "User2 joined chat.") in ada.heard
            await bob.sio.disconnect()
            await eventually(lambda: ("/chat", "message", "User2 left chat.") in ada.heard)

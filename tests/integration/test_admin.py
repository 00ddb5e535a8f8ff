"""The Socket.IO Admin UI's protocol, with a client in the place of the page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import socketio
from aiohttp import web

import gateway
from tests.support.servers import serving
from tests.support.waiting import eventually, timeout_s

#: python-engineio's client may close its connection before its good-bye has left.
GOODBYES = ("client disconnect", "transport close")
AUTH = {"username": "admin", "password": "secret"}


class Admin:
    """An admin client and what it has been told, by event."""

    def __init__(self, client: socketio.AsyncClient) -> None:
        self.client = client
        self.told: dict[str, list[tuple[Any, ...]]] = {}
        client.on("*", self._record, namespace="/admin")

    async def _record(self, event: str, *arguments: Any) -> None:
        self.told.setdefault(event, []).append(arguments)

    async def hears(self, event: str, accept: Callable[..., Any] = lambda *_: True) -> tuple[Any, ...]:
        """The first such event's arguments."""

        def found() -> Any:
            return [arguments for arguments in self.told.get(event, []) if accept(*arguments)]

        told: list[tuple[Any, ...]] = await eventually(found, f"{event} among {sorted(self.told)}")
        return told[0]

    async def says(self, event: str, *arguments: Any) -> None:
        await self.client.emit(event, arguments, namespace="/admin")


class World:
    """A server with the admin interface, and clients of both kinds."""

    def __init__(self, server: gateway.Server, port: int, clients: AsyncExitStack) -> None:
        self.server = server
        self.port = port
        self._clients = clients

    async def client(self, namespace: str = "/", auth: Any = None, prepare: Any = None) -> socketio.AsyncClient:
        client = socketio.AsyncClient(reconnection=False)
        if prepare is not None:
            prepare(client)
        self._clients.push_async_callback(_leave, client)
        await client.connect(
            f"http://127.0.0.1:{self.port}",
            namespaces=[namespace],
            auth=auth,
            transports=["websocket"],
            wait_timeout=timeout_s(5),
        )
        return client

    async def admin(self, auth: Any = None) -> Admin:
        admins: list[Admin] = []
        await self.client("/admin", AUTH if auth is None else auth, lambda client: admins.append(Admin(client)))
        return admins[0]


async def _leave(client: socketio.AsyncClient) -> None:
    await client.shutdown()
    if client.eio.http is not None:
        await client.eio.http.close()


@pytest.fixture
async def open_world() -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:

        async def open_world(**options: Any) -> World:
            server = gateway.Server()
            server.on("hello", lambda sid, *arguments: "hi")
            server.instrument(**{"auth": AUTH, "server_stats_interval": 0.2, **options})
            app = web.Application()
            server.attach(app, serve_client=False)
            port = await stack.enter_async_context(serving(app))
            clients = await stack.enter_async_context(AsyncExitStack())
            return World(server, port, clients)

        yield open_world


@pytest.fixture
async def world(open_world: Callable[..., Any]) -> World:
    opened: World = await open_world()
    return opened


async def test_admin_is_told_what_the_server_can_do(world: World) -> None:
    admin = await world.admin()
    [config] = await admin.hears("config")
    assert {"EMIT", "JOIN", "LEAVE", "DISCONNECT", "ALL_EVENTS"} <= set(config["supportedFeatures"])


@pytest.mark.parametrize("auth", [{}, {"username": "admin"}, {"username": "admin", "password": "wrong"}, None])
async def test_wrong_credentials_are_refused(world: World, auth: Any) -> None:
    with pytest.raises(socketio.exceptions.ConnectionError):
        await world.client("/admin", auth)


async def test_admin_gets_totals_again_and_again(world: World) -> None:
    admin = await world.admin()
    await world.client()
    [stats] = await admin.hears("server_stats", lambda stats: stats["clientsCount"] == 2)
    assert stats["pollingClientsCount"] == 0
    counts = {namespace["name"]: namespace["socketsCount"] for namespace in stats["namespaces"]}
    assert counts["/"] == 1
    assert counts["/admin"] == 1
    await eventually(lambda: len(admin.told["server_stats"]) >= 3, "three reports")
    kinds = {event["type"] for (report,) in admin.told["server_stats"] for event in report["aggregatedEvents"]}
    assert {"rawConnection", "packetsIn", "bytesIn"} <= kinds


async def test_totals_include_what_the_server_sends(world: World) -> None:
    admin = await world.admin()
    await world.client()
    await world.server.emit("something")
    await admin.hears(
        "server_stats",
        lambda stats: {"packetsOut", "bytesOut"} <= {event["type"] for event in stats["aggregatedEvents"]},
    )


async def test_admin_sees_clients_come_and_go(world: World) -> None:
    earlier = await world.client()
    admin = await world.admin()
    [sockets] = await admin.hears("all_sockets")
    assert earlier.get_sid() in {found["id"] for found in sockets}
    client = await world.client()
    found, when = await admin.hears("socket_connected", lambda found, _: found["id"] == client.get_sid())
    assert found["nsp"] == "/"
    assert found["transport"] == "websocket"
    assert found["handshake"]["address"] == "127.0.0.1"
    assert found["rooms"] == [client.get_sid()]
    assert "T" in when
    sid = client.get_sid()
    await client.disconnect()
    namespace, _, reason, _ = await admin.hears("socket_disconnected", lambda _, gone, *rest: gone == sid)
    assert namespace == "/"
    assert reason in GOODBYES


async def test_admin_sees_events_in_both_directions(world: World) -> None:
    admin = await world.admin()
    client = await world.client()
    assert await client.call("hello", ("a", 1)) == "hi"
    namespace, sid, event, _ = await admin.hears("event_received")
    assert (namespace, sid, event) == ("/", client.get_sid(), ["hello", "a", 1])
    await world.server.emit("news", {"n": 1}, to=client.get_sid())
    namespace, sid, event, _ = await admin.hears("event_sent")
    assert (namespace, sid, event) == ("/", client.get_sid(), ["news", {"n": 1}])


async def test_event_sent_leaves_out_those_that_did_not_get_it(world: World) -> None:
    admin = await world.admin()
    first, second, third = [await world.client() for _ in range(3)]
    await world.server.enter_room(second.get_sid(), "room")
    await world.server.emit("news", skip_sid=first.get_sid(), except_rooms="room")
    await admin.hears("event_sent", lambda _, sid, *rest: sid == third.get_sid())
    await asyncio.sleep(0.2)
    assert {sid for _, sid, *_ in admin.told["event_sent"]} == {third.get_sid()}


async def test_admin_sees_rooms_joined_and_left(world: World) -> None:
    admin = await world.admin()
    client = await world.client()
    await world.server.enter_room(client.get_sid(), "room")
    namespace, _, sid, _ = await admin.hears("room_joined", lambda _, room, *rest: room == "room")
    assert (namespace, sid) == ("/", client.get_sid())
    await world.server.leave_room(client.get_sid(), "room")
    namespace, _, sid, _ = await admin.hears("room_left", lambda _, room, *rest: room == "room")
    assert (namespace, sid) == ("/", client.get_sid())


async def test_admin_can_emit_join_leave_and_disconnect(world: World) -> None:
    admin = await world.admin()
    client = await world.client()
    got: list[Any] = []
    gone: list[Any] = []
    client.on("from admin", lambda *arguments: got.append(arguments))
    client.on("disconnect", gone.append)
    sid = client.get_sid()
    await admin.says("join", "/", "room", sid)
    await eventually(lambda: "room" in world.server.rooms(sid), "the room is joined")
    await admin.says("emit", "/", "room", "from admin", 1, "two")
    await eventually(lambda: got, "the event")
    assert got == [(1, "two")]
    await admin.says("leave", "/", "room", sid)
    await eventually(lambda: "room" not in world.server.rooms(sid), "the room is left")
    await admin.says("_disconnect", "/", False, sid)
    await eventually(lambda: gone, "the disconnect")
    assert gone == ["server disconnect"]


async def test_read_only_admin_can_do_nothing(open_world: Callable[..., Any]) -> None:
    world: World = await open_world(read_only=True)
    admin = await world.admin()
    client = await world.client()
    [config] = await admin.hears("config")
    assert not {"EMIT", "JOIN", "LEAVE", "DISCONNECT"} & set(config["supportedFeatures"])
    await admin.says("_disconnect", "/", False, client.get_sid())
    await admin.says("join", "/", "room", client.get_sid())
    await asyncio.sleep(0.3)
    assert client.connected
    assert world.server.rooms(client.get_sid()) == [client.get_sid()]


async def test_production_mode_reports_totals_alone(open_world: Callable[..., Any]) -> None:
    world: World = await open_world(mode="production")
    admin = await world.admin()
    client = await world.client()
    assert await client.call("hello") == "hi"
    await admin.hears("server_stats", lambda stats: stats["clientsCount"] == 2)
    assert not {"event_received", "socket_connected", "all_sockets"} & set(admin.told)


async def test_handlers_work_as_before_under_the_admins_eyes(world: World, no_logged_errors: None) -> None:
    seen: list[Any] = []

    @world.server.event
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> Any:
        seen.append(("connect", auth))
        return auth != "no"

    @world.server.event
    async def disconnect(sid: str, reason: str) -> None:
        seen.append(("disconnect", reason))

    client = await world.client(auth={"a": 1})
    assert await client.call("hello") == "hi"
    await client.disconnect()
    await eventually(lambda: len(seen) == 2, "both handlers")
    assert seen[0] == ("connect", {"a": 1})
    assert seen[1][1] in GOODBYES

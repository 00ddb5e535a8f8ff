"""Clients that lose their connection and come back, byte by byte, over every transport and on both hosts."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import gateway
from tests.support.raw import SEPARATOR, TEXT, EngineClient
from tests.support.waiting import eventually

Serve = Callable[[gateway.Server], Awaitable[EngineClient]]

TRANSPORTS = ("websocket", "xhr-streaming", "polling")


class Client:
    """One connection. ``hello``: what the server answered to CONNECT."""

    def __init__(self, engine: EngineClient, transport: str) -> None:
        self._engine = engine
        self._transport = transport
        self._session_id = ""
        self._port: Any = None
        self._packets: list[str] = []
        self.hello: dict[str, Any] = {}

    async def open(self, auth: dict[str, Any] | None = None) -> None:
        """Ask to join the namespace."""
        if self._transport == "websocket":
            self._port = await self._engine.websocket()
            await self._port.opening()
        elif self._transport == "xhr-streaming":
            self._port = await self._engine.stream()
            self._session_id = (await self._port.opening())["sid"]
        else:
            self._session_id = (await self._engine.handshake())["sid"]
        await self.send("40" + ("" if auth is None else json.dumps(auth)))

    async def connect(self, auth: dict[str, Any] | None = None) -> None:
        await self.open(auth)
        answer = await self.packet()
        assert answer.startswith("40{"), answer
        self.hello = json.loads(answer[2:])

    async def send(self, packet: str) -> None:
        if self._transport == "websocket":
            await self._port.send(packet)
        else:
            assert (await self._engine.post(self._session_id, packet, self._transport)).text == "ok"

    async def packet(self) -> str:
        """The next one; binary ones as long-polling carries them."""
        if self._transport == "websocket":
            frame = await self._port.frame()
            return frame.text if frame.opcode == TEXT else "b" + base64.b64encode(frame.payload).decode()
        if self._transport == "xhr-streaming":
            record: str = await self._port.record()
            return record
        if not self._packets:
            answer = await self._engine.get(self._session_id)
            assert answer.status == 200, answer
            self._packets = answer.text.split(SEPARATOR)
        return self._packets.pop(0)

    async def packets(self, count: int) -> list[str]:
        return [await self.packet() for _ in range(count)]

    def claim(self, offset: str | None) -> dict[str, Any]:
        """What the stock client says when it comes back."""
        return {"pid": self.hello["pid"]} | ({} if offset is None else {"offset": offset})

    def cut(self) -> None:
        if self._port is not None:
            self._port.abort()

    async def ended(self) -> bool:
        """Whether the server has ended it."""
        if self._transport == "polling":
            return (await self._engine.get(self._session_id)).status == 400
        return bool(await self._port.connection.has_ended())


def offset_in(packet: str) -> str:
    offset: str = json.loads(packet[packet.index("[") :])[-1]
    return offset


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_who_comes_back_gets_exactly_what_it_has_missed(socketio_server: Serve, transport: str) -> None:
    server = gateway.Server(recovery_s=30)
    reasons: list[str] = []
    server.on("disconnect", lambda sid, reason: reasons.append(reason))
    engine = await socketio_server(server)
    client = Client(engine, transport)
    await client.connect()
    sid = client.hello["sid"]
    assert set(client.hello) == {"sid", "pid"}
    assert len(client.hello["pid"]) * 6 >= 128
    await server.enter_room(sid, "room")
    await server.save_session(sid, {"name": "Ada"})
    await server.emit("seen", "text")
    first = await client.packet()
    offset = offset_in(first)
    assert first == f'42["seen","text","{offset}"]'
    client.cut()
    # Some of it before the server knows that nobody is there.
    await server.emit("missed", 1)
    await server.emit("missed", {"n": 2}, room="room")
    await server.emit("elsewhere", 0, room="other")
    await server.emit("binary", b"\x00\x01", to=sid)
    await server.emit("price", 1, conflate="ACME")
    await server.emit("pulse", volatile=True)
    await server.emit("price", 2, conflate="ACME")
    await server.emit("missed", 3, skip_sid=sid)
    again = Client(engine, transport)
    await again.connect(client.claim(offset))
    assert again.hello == client.hello
    assert server.recovered(sid)
    await server.emit("new", room="room")
    packets = await again.packets(6)
    epoch, position = offset.rsplit("-", 1)

    def later(count: int) -> str:
        return f"{epoch}-{int(position) + count}"

    assert packets == [
        f'42["missed",1,"{later(1)}"]',
        f'42["missed",{{"n":2}},"{later(2)}"]',
        f'451-["binary",{{"_placeholder":true,"num":0}},"{later(4)}"]',
        "bAAE=",
        f'42["price",2,"{later(6)}"]',
        f'42["new","{later(8)}"]',
    ]
    assert await server.get_session(sid) == {"name": "Ada"}
    assert set(server.rooms(sid)) == {sid, "room"}
    assert len(reasons) == 1
    assert reasons[0] in ("transport close", "connection replaced")
    assert server.recovery is not None
    assert server.recovery.counters.replayed == 4
    again.cut()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_place_is_taken_over_from_a_connection_that_the_server_takes_for_alive(
    socketio_server: Serve, transport: str
) -> None:
    """Also where the client has never got an event, so that it has no offset to tell."""
    server = gateway.Server(recovery_s=30)
    log: list[tuple[str, ...]] = []

    async def on_connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        log.append(("connect", sid, str(environ["tidegate.recovered"]), str(auth)))

    async def on_disconnect(sid: str, reason: str) -> None:
        await server.emit("missed", "while the disconnect handler runs")
        await asyncio.sleep(0.01)
        log.append(("disconnect", sid, reason))

    server.on("connect", on_connect)
    server.on("disconnect", on_disconnect)
    engine = await socketio_server(server)
    client = Client(engine, transport)
    await client.connect({"token": "t"})
    sid = client.hello["sid"]
    await server.emit("missed", "lost on its way")
    again = Client(engine, transport)
    await again.connect({"token": "t", **client.claim(None)})
    assert again.hello == client.hello
    packets = await again.packets(2)
    assert [json.loads(packet[2:])[:2] for packet in packets] == [
        ["missed", "lost on its way"],
        ["missed", "while the disconnect handler runs"],
    ]
    assert log == [
        ("connect", sid, "False", "{'token': 't'}"),
        ("disconnect", sid, "connection replaced"),
        ("connect", sid, "True", "{'token': 't'}"),
    ]
    assert await eventually(lambda: len(server.eio.sockets) == 1, "the old session's end")
    again.cut()
    client.cut()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_messages_sent_while_the_connect_handler_thinks_come_behind_the_missed_ones(
    socketio_server: Serve, transport: str
) -> None:
    server = gateway.Server(recovery_s=30)
    decided = asyncio.Event()
    is_asked = asyncio.Event()
    decided.set()

    async def on_connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        is_asked.set()
        await decided.wait()
        await server.emit("hello", "from the handler", to=sid)

    server.on("connect", on_connect)
    engine = await socketio_server(server)
    client = Client(engine, transport)
    await client.connect()
    offset = offset_in(await client.packet())
    client.cut()
    await server.emit("missed", 1)
    decided.clear()
    is_asked.clear()
    again = Client(engine, transport)
    await again.open(client.claim(offset))
    await is_asked.wait()
    await server.emit("missed", 2)
    decided.set()
    packets = await again.packets(4)
    assert packets[0] == "40" + json.dumps(client.hello, separators=(",", ":"))
    assert [json.loads(packet[2:])[:2] for packet in packets[1:]] == [
        ["missed", 1],
        ["missed", 2],
        ["hello", "from the handler"],
    ]
    again.cut()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_whoever_comes_too_late_begins_anew_and_is_told_where(socketio_server: Serve, transport: str) -> None:
    server = gateway.Server(recovery_s=0.05)
    engine = await socketio_server(server)
    client = Client(engine, transport)
    await client.connect()
    await server.emit("seen")
    offset = offset_in(await client.packet())
    await server.eio.disconnect(server.manager.eio_sid_from_sid(client.hello["sid"], "/"))
    await server.emit("missed", 1)
    recovery = server.recovery
    assert recovery is not None
    await eventually(lambda: recovery.gone == 0, "the place's end")
    again = Client(engine, transport)
    await again.connect(client.claim(offset))
    assert again.hello["sid"] != client.hello["sid"]
    assert again.hello["pid"] != client.hello["pid"]
    assert not server.recovered(again.hello["sid"])
    # Otherwise it would go on with an offset of the place that is lost.
    assert await again.packet() == f'42["tidegate:offset","{recovery.newest_offset()}"]'
    await server.emit("new")
    assert (await again.packet()).startswith('42["new",')
    assert recovery.counters.not_recovered == {"unknown client": 1}
    assert recovery.counters.forgotten == {"expired": 1}
    again.cut()


@pytest.mark.parametrize("who", ["client", "server", "server, later", "handler"])
async def test_good_bye_is_final(socketio_server: Serve, who: str) -> None:
    server = gateway.Server(recovery_s=30)
    refuses = False

    def on_connect(sid: str, environ: dict[str, Any]) -> bool | None:
        return False if refuses else None

    server.on("connect", on_connect)
    engine = await socketio_server(server)
    client = Client(engine, "websocket")
    await client.connect()
    sid = client.hello["sid"]
    if who == "client":
        await client.send("41")
        await eventually(lambda: not server.manager.is_connected(sid, "/"))
    elif who == "server":
        await server.disconnect(sid)
        assert await client.packet() == "41"
    client.cut()
    await eventually(lambda: not server.eio.sockets, "the session's end")
    if who == "server, later":
        await server.disconnect(sid)
    if who == "handler":
        refuses = True
        refused = Client(engine, "websocket")
        await refused.open(client.claim(None))
        assert (await refused.packet()).startswith("44{")
        refused.cut()
        refuses = False
    again = Client(engine, "websocket")
    await again.connect(client.claim(None))
    assert again.hello["pid"] != client.hello["pid"]
    assert server.recovery is not None
    assert server.recovery.counters.forgotten["ended"] == 1  # type: ignore[index]
    again.cut()


async def test_client_dropped_as_slow_comes_back_for_the_rest(socketio_server: Serve) -> None:
    server = gateway.Server(recovery_s=30, max_buffered_bytes=400_000)
    reasons: list[str] = []
    server.on("disconnect", lambda sid, reason: reasons.append(reason))
    engine = await socketio_server(server)
    client = Client(engine, "websocket")
    await client.connect()
    [session] = server.eio.sockets.values()
    numbers = 0
    while not reasons:
        await server.emit("blob", (numbers, "x" * 50_000))
        numbers += 1
        await asyncio.sleep(0)
    assert reasons == ["slow client"]
    assert session.closed
    # It reads what had reached it, and then the end.
    seen = []
    offset = None
    try:
        while True:
            packet = await client.packet()
            offset = offset_in(packet)
            seen.append(json.loads(packet[2:])[1])
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    again = Client(engine, "websocket")
    await again.connect(client.claim(offset))
    assert again.hello == client.hello
    assert numbers * 50_000 > 2 * 400_000, "more was missed than may wait"
    seen += [json.loads((await again.packet())[2:])[1] for _ in range(numbers - len(seen))]
    assert seen == list(range(numbers))
    again.cut()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_without_recovery_nothing_is_different(socketio_server: Serve, transport: str) -> None:
    server = gateway.Server()
    auths: list[Any] = []
    server.on("connect", lambda sid, environ, auth: auths.append((auth, "tidegate.recovered" in environ)))
    engine = await socketio_server(server)
    client = Client(engine, transport)
    claim = {"pid": "p" * 40, "offset": "o-1"}
    await client.connect(claim)
    assert set(client.hello) == {"sid"}
    await server.emit("event", "text")
    assert await client.packet() == '42["event","text"]'
    assert auths == [(claim, False)]
    assert server.recovery is None
    assert server.recovered(client.hello["sid"]) is False
    client.cut()

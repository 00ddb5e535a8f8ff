"""Messages that a client sends again over real sockets: handled once, and every copy answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import socketio
from aiohttp import web

import gateway
from gateway.connection import SocketConnection, event
from gateway.router import Router
from tests.support.raw import EngineClient, closing
from tests.support.servers import LISTENERS, serving
from tests.support.waiting import eventually, timeout_s
from transports.reasons import TOO_MANY_EVENTS

TRANSPORTS = ("websocket", "polling")
STREAM = "stream-0123456789"
FAILED = [1, {"message": "Internal server error"}]


class World:
    """A server or a router, served, and its clients."""

    def __init__(self, port: int, stack: AsyncExitStack) -> None:
        self.port = port
        self._stack = stack

    async def connect(self, transport: str = "websocket", **options: Any) -> socketio.AsyncClient:
        client = socketio.AsyncClient(reconnection=False, **options)
        self._stack.push_async_callback(client.disconnect)
        await client.connect(f"http://127.0.0.1:{self.port}", transports=[transport], wait_timeout=timeout_s())
        return client


@asynccontextmanager
async def world(served: gateway.Server | Router, listener: str = "fast") -> AsyncIterator[World]:
    app = web.Application()
    served.attach(app)
    async with serving(app, listener) as port, AsyncExitStack() as stack:
        yield World(port, stack)


async def send(client: socketio.AsyncClient, number: int, *given: Any, floor: int = 1) -> Any:
    """The ack of a copy, as a list."""
    answer = await client.call("tidegate:once", (STREAM, number, floor, *given), timeout=timeout_s())
    return list(answer) if isinstance(answer, tuple) else [answer]


@pytest.mark.usefixtures("no_logged_errors")
@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("serializer", ["default", "msgpack"])
async def test_copies_on_the_same_and_on_a_new_connection(listener: str, transport: str, serializer: str) -> None:
    server = gateway.Server(serializer=serializer)
    handled: list[Any] = []

    @server.event
    async def order(sid: str, name: str, blob: bytes) -> Any:
        handled.append((sid, name, blob))
        await asyncio.sleep(0)
        return {"name": name, "blob": blob[::-1]}, len(handled)

    expected = [0, {"name": "book", "blob": b"\x02\x01\x00"}, 1]
    async with world(server, listener) as made:
        client = await made.connect(transport, serializer=serializer)
        assert await send(client, 0, floor=0) == [0]
        for _ in range(2):
            assert await send(client, 1, "order", "book", b"\x00\x01\x02") == expected
        await client.disconnect()
        other = await made.connect(transport, serializer=serializer)
        assert await send(other, 1, "order", "book", b"\x00\x01\x02") == expected
        assert await send(other, 2, "order", "pen", b"", floor=2) == [0, {"name": "pen", "blob": b""}, 2]
        assert (await send(other, 1, "order", "book", b""))[0] == 3
    assert [name for _, name, _ in handled] == ["book", "pen"]
    counters = server.eio.counters
    assert (counters.once_handled, counters.once_copies) == (2, 2)


@pytest.mark.usefixtures("no_logged_errors")
@pytest.mark.parametrize("transport", [*TRANSPORTS, "xhr-streaming"])
async def test_connection_lost_while_the_handler_runs(transport: str) -> None:
    server = gateway.Server()
    gate = asyncio.Event()
    handled: list[str] = []

    @server.event
    async def order(sid: str) -> str:
        handled.append(sid)
        await gate.wait()
        return "done"

    packet = f'421["tidegate:once","{STREAM}",1,1,"order"]'
    async with world(server) as made:
        raw = EngineClient(made.port, "/socket.io/")
        if transport == "websocket":
            ws = await raw.websocket()
            await ws.send("40")
            await ws.send(packet)
            await eventually(lambda: handled)
            ws.abort()
            await eventually(lambda: not server.eio.sockets)
        elif transport == "polling":
            sid = (await raw.handshake())["sid"]
            assert (await raw.post(sid, f"40\x1e{packet}")).status == 200
            await eventually(lambda: handled)
            assert (await raw.post(sid, "1")).status == 200
        else:
            stream = await raw.stream()
            async with closing(stream):
                sid = (await stream.opening())["sid"]
                assert (await raw.post(sid, f"40\x1e{packet}", "xhr-streaming")).status == 200
                await eventually(lambda: handled)
        stream = await raw.stream()
        async with closing(stream):
            sid = (await stream.opening())["sid"]
            assert (await raw.post(sid, f"40\x1e{packet}", "xhr-streaming")).status == 200
            await eventually(lambda: server.eio.counters.once_copies == 1)
            gate.set()
            while not (record := await stream.record()).startswith("43"):
                pass
            assert json.loads(record[3:]) == [0, "done"]
    assert len(handled) == 1


@pytest.mark.usefixtures("no_logged_errors")
@pytest.mark.parametrize("async_handlers", [True, False])
async def test_stock_client_that_sends_until_it_is_answered_loses_nothing_and_doubles_nothing(
    async_handlers: bool,
) -> None:
    server = gateway.Server(async_handlers=async_handlers)
    handled: list[int] = []

    @server.event
    async def order(sid: str, number: int) -> int:
        await asyncio.sleep(0.001)
        handled.append(number)
        return number

    count = 60
    answers: dict[int, list[Any]] = {}
    async with world(server) as made:
        raw = EngineClient(made.port, "/socket.io/")
        round_trips = 0
        while len(answers) < count:
            round_trips += 1
            outstanding = [number for number in range(1, count + 1) if number not in answers]
            ws = await raw.websocket()
            await ws.send("40")
            for number in outstanding:
                given = ["tidegate:once", STREAM, number, outstanding[0], "order", number]
                await ws.send(f"42{number}{json.dumps(given)}")
            got = 0
            while got < 7 and len(answers) < count:  # then the line breaks
                text = await ws.text()
                if text.startswith("43"):
                    head, _, rest = text.partition("[")
                    answers[int(head[2:])] = json.loads("[" + rest)
                    got += 1
            ws.abort()
        assert round_trips >= count // 7
    assert answers == {number: [0, number] for number in range(1, count + 1)}
    assert sorted(handled) == list(range(1, count + 1))
    assert server.eio.counters.once_handled == count


# -- connection classes --------------------------------------------------------------------------------------


class Shop(SocketConnection):
    log: list[Any]
    gate: asyncio.Event

    @event
    async def order(self, name: str) -> Any:
        self.log.append(name)
        await asyncio.sleep(0)
        return "ordered", name

    @event
    async def slow(self, name: str) -> str:
        self.log.append(name)
        await self.gate.wait()
        return name

    @event
    def fail(self) -> None:
        self.log.append("fail")
        raise RuntimeError("the application's own fault")


@pytest.fixture
def shop() -> Router:
    Shop.log = []
    Shop.gate = asyncio.Event()
    return Router(Shop, {"max_pending_events": 2, "once_window_s": 60})


@pytest.mark.usefixtures("no_logged_errors")
async def test_connection_class_handles_a_message_once(shop: Router) -> None:
    async with world(shop) as made:
        for _ in range(2):
            client = await made.connect()
            assert await send(client, 1, "order", "book") == [0, "ordered", "book"]
            assert await send(client, 1, "order", "book") == [0, "ordered", "book"]
            assert await send(client, 2, "unknown") == [2, {"message": "no handler for 'unknown'"}]
            await client.disconnect()
    assert Shop.log == ["book"]


async def test_connection_class_whose_handler_raised_has_failed_for_every_copy(shop: Router) -> None:
    async with world(shop) as made:
        raw = EngineClient(made.port, "/socket.io/")
        ws = await raw.websocket()
        async with closing(ws):
            await ws.opening()
            await ws.send("40")
            assert (await ws.text()).startswith("40{")
            await ws.send(f'421["tidegate:once","{STREAM}",1,1,"fail"]')
            await eventually(lambda: not shop.server.eio.sockets)
        client = await made.connect()
        assert await send(client, 1, "fail") == FAILED
    assert Shop.log == ["fail"]


async def test_event_that_was_too_many_runs_when_it_comes_again(shop: Router) -> None:
    async with world(shop) as made:
        raw = EngineClient(made.port, "/socket.io/")
        ws = await raw.websocket()
        async with closing(ws):
            await ws.opening()
            await ws.send("40")
            assert (await ws.text()).startswith("40{")
            for number in range(1, 5):
                await ws.send(f'42{number}["tidegate:once","{STREAM}",{number},1,"slow","{number}"]')
            await eventually(lambda: not shop.server.eio.sockets)
        assert shop.server.eio.counters.closed[TOO_MANY_EVENTS] == 1
        Shop.gate.set()
        client = await made.connect()
        for number in range(1, 5):
            assert await send(client, number, "slow", str(number)) == [0, str(number)]
    assert Shop.log == ["1", "2", "3", "4"]

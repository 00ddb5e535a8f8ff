"""Servers for the byte-exact suites, on both hosts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

import gateway
from tests.support.raw import Connection, EngineClient, Response
from tests.support.servers import LISTENERS, ServerProcess, serving
from transports.engine import Engine


@pytest.fixture(params=LISTENERS)
def listener(request: pytest.FixtureRequest) -> str:
    """The fast listener, and aiohttp's own runner."""
    name: str = request.param
    return name


@dataclass
class EchoEngine:
    """An engine that sends every message back, and what it has seen."""

    engine: Engine
    client: EngineClient
    connected: list[str] = field(default_factory=list)
    environs: list[dict[str, Any]] = field(default_factory=list)
    disconnected: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
async def echo_engine(listener: str, no_logged_errors: None) -> AsyncIterator[Callable[..., Awaitable[EchoEngine]]]:
    """Starts an echoing engine with these options; ``connect`` replaces the handler that accepts everybody."""
    async with AsyncExitStack() as stack:

        async def start(*, connect: Callable[..., Any] | None = None, **options: Any) -> EchoEngine:
            engine = Engine(**options)
            app = web.Application()
            engine.attach(app)
            port = await stack.enter_async_context(serving(app, listener))
            server = EchoEngine(engine, EngineClient(port))

            def on_connect(sid: str, environ: dict[str, Any]) -> Any:
                server.connected.append(sid)
                server.environs.append(environ)
                return None if connect is None else connect(sid, environ)

            async def on_message(sid: str, data: Any) -> None:
                await engine.send(sid, data)

            def on_disconnect(sid: str, reason: str) -> None:
                server.disconnected.append((sid, reason))

            engine.on("connect", on_connect)
            engine.on("message", on_message)
            engine.on("disconnect", on_disconnect)
            return server

        yield start


@dataclass
class Door:
    """A server of its own process, and a client of it who has nothing to do with what others send."""

    listener: str
    client: EngineClient
    bystander: str

    async def answer(self, data: bytes) -> Response:
        """What the server says to these bytes on a connection of their own."""
        async with await Connection.open(self.client.port) as connection:
            await connection.send(data)
            return await connection.read_response()

    async def check(self) -> None:
        """The bystander is served as before."""
        assert (await self.client.post(self.bystander, '421["echo","still here"]')).text == "ok"
        assert (await self.client.get(self.bystander)).text == '431["still here"]'


@pytest.fixture
async def door(listener: str, server_process: Callable[..., ServerProcess]) -> AsyncIterator[Door]:
    client = EngineClient(server_process(listener=listener, max_http_buffer_size=20_000).port, "/socket.io/")
    sid = (await client.handshake())["sid"]
    assert (await client.post(sid, "40")).text == "ok"
    assert (await client.get(sid)).text.startswith('40{"sid":')
    door = Door(listener, client, sid)
    yield door
    await door.check()
    assert (await client.post(sid, "1")).text == "ok"


@pytest.fixture
async def socketio_server(
    listener: str, no_logged_errors: None
) -> AsyncIterator[Callable[..., Awaitable[EngineClient]]]:
    """Serves a ``gateway.Server`` and gives the client of its path."""
    async with AsyncExitStack() as stack:

        async def start(server: gateway.Server) -> EngineClient:
            app = web.Application()
            server.attach(app)
            port = await stack.enter_async_context(serving(app, listener))
            return EngineClient(port, "/socket.io/")

        yield start

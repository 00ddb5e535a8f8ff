"""A server in this process, a bystander on it, and what a peer sees of a refusal."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from string import Formatter
from typing import Any

from aiohttp import web

import gateway
from tests.support.raw import CLOSE, Connection, EngineClient, Response, WebSocket, closing
from tests.support.servers import serving
from tests.support.waiting import eventually
from transports.refusals import RETRY_AFTER_S, Ends, Refusal, Retry


def pattern(row: Refusal) -> str:
    """A regular expression for the row's message."""
    parts = [re.escape(text) + ("" if field is None else ".+") for text, field, _, _ in Formatter().parse(row.message)]
    return "(?i)" + "".join(parts)


@dataclass
class Scene:
    """``client`` speaks to ``server`` on its port, byte by byte."""

    server: gateway.Server
    client: EngineClient
    listener: str
    #: How often ``check_ended`` has asked for a session that is gone.
    asked_after: int = 0
    #: What a case has started and must see end.
    task: asyncio.Task[Any] | None = None

    @property
    def refused(self) -> dict[str, int]:
        """How often each refusal was counted, without those that ``check_ended`` was given."""
        counted = self.server.eio.counters.refused - Counter(unknown_session=self.asked_after)
        return dict(counted)

    # -- opening sessions --------------------------------------------------------------------------------

    async def polling(self, *, joined: bool = True) -> str:
        """The id of a session on long-polling."""
        sid: str = (await self.client.handshake())["sid"]
        if joined:
            assert (await self.client.post(sid, "40")).status == 200
            assert (await self.client.get(sid)).text.startswith("40{")
        return sid

    async def websocket(self, *, joined: bool = True, **options: Any) -> WebSocket:
        ws = await self.client.websocket(**options)
        await ws.opening()
        if joined:
            await ws.send("40")
            assert (await ws.text()).startswith("40{")
        return ws

    async def begin_upgrade(self, sid: str) -> WebSocket:
        ws = await self.client.websocket(sid)
        await ws.send("2probe")
        assert await ws.text() == "3probe"
        return ws

    # -- what the peer sees --------------------------------------------------------------------------------

    def check_response(self, row: Refusal, response: Response) -> None:
        """The answer to a refused request."""
        assert response.status == row.status, response
        answer = response.json()
        assert answer == {"code": row.code, "message": answer["message"]}
        assert re.fullmatch(pattern(row), answer["message"]), answer
        assert response.headers["content-type"].startswith("application/json")
        assert response.headers.get("retry-after") == (str(RETRY_AFTER_S) if row.retry is Retry.LATER else None)

    async def check_ended(self, row: Refusal, sid: str) -> None:
        """The session is gone, and its application knows why."""
        assert row.ends is Ends.SESSION
        assert row.reason is not None
        await eventually(lambda: sid not in self.server.eio.sockets)
        assert self.server.eio.counters.closed[row.reason] >= 1
        self.asked_after += 1
        response = await self.client.get(sid)
        assert (response.status, response.json()["code"]) == (400, 1)

    async def check_close_frame(self, row: Refusal, ws: WebSocket) -> None:
        """The WebSocket is closed with code and reason, and then the connection."""
        while (frame := await ws.frame()).opcode != CLOSE:
            pass
        assert frame.close_code == row.close_code
        assert re.fullmatch(pattern(row), frame.payload[2:].decode()), frame
        await ws.send_frame(CLOSE, frame.payload)
        assert await ws.connection.has_ended()

    async def check_refusal(self, row: Refusal, raw: bytes) -> None:
        """The bytes of a request are answered with the row."""
        async with await Connection.open(self.client.port) as connection:
            await connection.send(raw)
            self.check_response(row, await connection.read_response())


class _Tracebacks(logging.Handler):
    """What a peer must never cause. aiohttp's own parser writes some; those are not ours."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.name.partition(".")[0] in ("tidegate", "asyncio", "root"):
            self.seen.append(logging.Formatter().format(record))


@contextmanager
def no_tracebacks() -> Iterator[None]:
    """Fails where the process logs a traceback meanwhile."""
    handler = _Tracebacks()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
    assert handler.seen == []


@asynccontextmanager
async def scene(
    listener: str, *, bystander: bool = True, has_own_faults: bool = False, **options: Any
) -> AsyncIterator[Scene]:
    """A server with some handlers, and a bystander who must notice nothing.

    ``has_own_faults``: the application raises, which is logged.
    """
    server = gateway.Server(**{"namespaces": ["/", "/other"], **options})
    install(server)
    app = web.Application()
    server.attach(app)
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(serving(app, listener))
        made = Scene(server, EngineClient(port, "/socket.io/"), listener)
        if not has_own_faults:
            stack.enter_context(no_tracebacks())
        if not bystander:
            yield made
            return
        other = await made.websocket()
        async with closing(other):
            yield made
            await other.send('420["echo","still here"]')
            while (text := await other.text()) == "2":
                await other.send("3")
            assert text == '430["still here"]'


def install(server: gateway.Server) -> None:
    """Handlers for whatever the cases need."""

    @server.event
    async def echo(sid: str, *args: Any) -> tuple[Any, ...]:
        return args

    @server.event
    async def enter(sid: str, count: int) -> None:
        for number in range(count):
            await server.enter_room(sid, f"room-{number}")

    @server.event
    async def ask(sid: str, count: int) -> None:
        for number in range(count):
            await server.emit("question", number, to=sid, callback=lambda *_: None)

    @server.on("connect", namespace="/other")
    def connect(sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        if auth == {"refuse": True}:
            raise gateway.ConnectionRefusedError("not you", {"why": 1})
        if auth == {"break": True}:
            raise RuntimeError("the application's own fault")

    @server.on("leave", namespace="/other")
    def leave(sid: str) -> None:
        """Known, so that an event for it is late rather than unhandled."""


@asynccontextmanager
async def msgpack_scene(listener: str, **options: Any) -> AsyncIterator[Scene]:
    """As ``scene``, for the other packet format; without a bystander."""
    server = gateway.Server(serializer="msgpack", **options)
    install(server)
    app = web.Application()
    server.attach(app)
    async with serving(app, listener) as port:
        yield Scene(server, EngineClient(port, "/socket.io/"), listener)

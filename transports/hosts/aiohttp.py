"""The engine inside an aiohttp application, whatever runs it.

Long-polling requests are aiohttp's like any other. A WebSocket or a stream takes the connection out of aiohttp's
hands once the application's middlewares have let it pass: from then on it is served by the same lean protocol as
on the fast listener, and aiohttp believes that the client has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web

from ..errors import ErrorCode, RequestRefused
from ..protocol.http1 import add_header
from ..request import Headers, HttpRequest
from .listener import too_large
from .unsent import limit_unsent

if TYPE_CHECKING:
    from ..engine import Engine

_ENGINES: web.AppKey[dict[str, Any]] = web.AppKey("tidegate_engines", dict)


def attached_engines(app: web.Application) -> dict[str, Engine]:
    """The engines of an application by path, as ``/socket.io/``: for runners that have a quicker way to them."""
    engines: dict[str, Engine] = app.get(_ENGINES, {})
    return engines


def attach(engine: Engine, app: web.Application, path: str) -> None:
    """Serve ``/path/`` and close the sessions when the application shuts down."""
    prefix = "/" + path.strip("/")
    if _ENGINES not in app:
        app[_ENGINES] = {}
    if prefix + "/" in app[_ENGINES]:
        raise ValueError(f"a server is attached at {prefix}/ already")
    app[_ENGINES][prefix + "/"] = engine

    async def handle(request: web.Request) -> web.StreamResponse:
        return await serve(engine, request)

    async def shut_down(_: web.Application) -> None:
        await engine.shutdown()

    app.router.add_route("*", prefix + "/", handle)
    app.router.add_route("*", prefix, handle)
    app.on_shutdown.append(shut_down)


async def serve(engine: Engine, request: web.Request) -> web.StreamResponse:
    """Serve one request to the engine's path."""
    transport = request.transport
    if transport is None:
        return web.Response(status=499)
    exchange = Exchange(request, transport)
    engine.handle(exchange)
    return await exchange.finish()


class Exchange:
    """One request of aiohttp's. See ``transports.ports.HttpExchange``."""

    def __init__(self, request: web.Request, transport: asyncio.Transport) -> None:
        self._aiohttp_request = request
        self._transport = transport
        self._answer: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        self._body: tuple[int, Callable[[bytes], None], Callable[[RequestRefused], None]] | None = None
        self.extra_headers: Headers = []
        self.lost: Callable[[], None] | None = None
        self.request = HttpRequest(
            request.method,
            request.raw_path,
            _joined_headers(request),
            http_version=(request.version.major, request.version.minor),
            scheme=request.scheme,
            remote=request.remote or "",
            extras={"aiohttp.request": request},
        )

    async def finish(self) -> web.StreamResponse:
        """aiohttp's response, once the engine has given its answer."""
        if self._body is not None:
            await self._read_body(*self._body)
        if self._answer.done():
            return self._answer.result()
        watch = _Watch(self._transport, self._peer_left)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self._peer_left()
            raise
        finally:
            watch.end()

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        if not self._answer.done():
            response = web.Response(status=status, headers=[*headers, *self.extra_headers], body=body)
            self._answer.set_result(response)

    def read_body(
        self, limit: int, received: Callable[[bytes], None], refused: Callable[[RequestRefused], None]
    ) -> None:
        self._body = (limit, received, refused)

    async def _read_body(
        self, limit: int, received: Callable[[bytes], None], refused: Callable[[RequestRefused], None]
    ) -> None:
        length = self._aiohttp_request.content_length
        if length is not None and length > limit:
            refused(too_large(limit))
            return
        parts = []
        size = 0
        try:
            async for part in self._aiohttp_request.content.iter_any():
                size += len(part)
                if size > limit:
                    refused(too_large(limit))
                    return
                parts.append(part)
        except ConnectionError:
            self._peer_left()
            return
        except (web.HTTPException, asyncio.CancelledError):
            self._peer_left()
            raise
        except Exception as error:  # noqa: BLE001 - aiohttp's payload errors have no common root
            refused(RequestRefused(ErrorCode.BAD_REQUEST, f"Bad request: {error}"))
            return
        received(b"".join(parts))

    def take_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
        transport = self._transport
        handler: Any = self._aiohttp_request.protocol
        if transport.is_closing() or handler.transport is None:
            raise ConnectionResetError("the peer is gone")
        limit_unsent(transport.get_extra_info("socket"))
        tail = _Tail()
        if self._aiohttp_request.headers.get("Upgrade"):
            handler.set_parser(tail)
        transport.set_protocol(protocol)
        # aiohttp is told that the connection is gone, but must not close it.
        handler.transport = None
        handler.connection_lost(None)
        if not self._answer.done():
            self._answer.set_result(web.Response(status=101))
        return transport, tail.data

    def _peer_left(self) -> None:
        lost, self.lost = self.lost, None
        if lost is not None:
            lost()
        if not self._answer.done():
            self._answer.set_result(web.Response(status=499))


def _joined_headers(request: web.Request) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in request.headers.items():
        add_header(joined, name.lower(), value)
    return joined


class _Tail:
    """Takes what aiohttp has read behind an upgrade request, by the interface of its payload parsers."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        """Nothing more will come this way."""


class _Watch(asyncio.Protocol):
    """Stands before aiohttp's protocol while a response waits, to learn when the client leaves.

    aiohttp itself tells a handler so only if the runner was made with ``handler_cancellation``.
    """

    def __init__(self, transport: asyncio.Transport, left: Callable[[], None]) -> None:
        self._transport = transport
        self._left = left
        self._protocol = cast("asyncio.Protocol", transport.get_protocol())
        transport.set_protocol(self)

    def end(self) -> None:
        if self._transport.get_protocol() is self:
            self._transport.set_protocol(self._protocol)

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        self._left()

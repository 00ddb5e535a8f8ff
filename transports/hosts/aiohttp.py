"""The engine inside an aiohttp application, whatever runs it.

Long-polling requests are aiohttp's like any other. A WebSocket or a stream takes the connection out of aiohttp's
hands once the application's middlewares have let it pass: from then on it is served by the same lean protocol as
on the fast listener, and aiohttp believes that the client has left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web

from .. import catalogue
from ..errors import RefusedError, RequestRefused
from ..loop_lag import LoopLag
from ..ports import HttpExchange
from ..protocol.content_coding import ACCEPTED, content_coding, inflate
from ..protocol.http1 import LAST_CHUNK, RequestHead, add_header, body_framing, encode_chunk, encode_response_head
from ..protocol.relaying import AnswerHead, BodyScanner, ChunkedPieces
from ..relaying.connection import RelayedConnection, relayed_head
from ..relaying.link import Link, OpenLink
from ..request import Headers, HttpRequest
from .bodies import (
    CONTINUE,
    LINGER_S,
    PIECE_OVERHEAD_BYTES,
    REQUEST_TIMEOUT_S,
    awaits_continue,
    too_large,
    too_slow,
    unknown_coding,
)
from .unsent import limit_unsent

if TYPE_CHECKING:
    from ..engine import Engine

_ENGINES: web.AppKey[dict[str, Any]] = web.AppKey("tidegate_engines", dict)
_LAG: web.AppKey[LoopLag] = web.AppKey("tidegate_loop_lag", LoopLag)


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
        return await serve(engine, request, continues=True)

    async def expect(_: web.Request) -> None:
        """Whether the body is wanted is known when the request has been looked at."""

    if _LAG not in app:
        app[_LAG] = engine.loop_lag
        app.on_startup.append(_start_sampling)
        app.on_cleanup.append(_stop_sampling)
    engine.loop_lag = app[_LAG]  # they share the loop

    async def shut_down(_: web.Application) -> None:
        await engine.shutdown()

    app.router.add_route("*", prefix + "/", handle, expect_handler=expect)
    app.router.add_route("*", prefix, handle, expect_handler=expect)
    app.on_shutdown.append(shut_down)


async def _start_sampling(app: web.Application) -> None:
    app[_LAG].start(asyncio.get_running_loop())


async def _stop_sampling(app: web.Application) -> None:
    app[_LAG].stop()


async def serve(engine: Engine, request: web.Request, *, continues: bool = False) -> web.StreamResponse:
    """Serve one request to the engine's path.

    ``continues``: whether ``Expect: 100-continue`` is still to be answered; aiohttp's own routes have done so.
    """
    transport = request.transport
    if transport is None:
        return web.Response(status=499)
    exchange = Exchange(engine, request, transport, continues)
    if exchange.request.http_version not in ((1, 0), (1, 1)):
        engine.refuse(exchange, RequestRefused(catalogue.BAD_REQUEST_LINE))
        return await exchange.finish()
    engine.handle(exchange)
    return await exchange.finish()


class Exchange:
    """One request of aiohttp's. See ``transports.ports.HttpExchange``."""

    def __init__(self, engine: Engine, request: web.Request, transport: asyncio.Transport, continues: bool) -> None:
        self._engine = engine
        self._aiohttp_request = request
        self._transport = transport
        self._continues = continues
        self._drops_body = False
        self._answer: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        self._read: Callable[[], Awaitable[None]] | None = None  # the body, which the engine has asked for
        self._parts: list[bytes] = []
        self._relay: tuple[OpenLink, Callable[[HttpExchange], None]] | None = None
        self.extra_headers: Headers = []
        self.lost: Callable[[], None] | None = None
        self.request = _as_request(engine, request, transport)

    async def finish(self) -> web.StreamResponse:
        """aiohttp's response, once the engine has given its answer."""
        if self._read is not None:
            await self._read()
        if self._relay is not None:
            return await self._relayed(*self._relay)
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
        if self._answer.done():
            return
        headers = [*headers, *self.extra_headers]
        self._answer.set_result(web.Response(status=status, headers=headers, body=body))
        self._parts.clear()
        if self._drops_body:
            try:
                self._respond_and_leave(status, headers, body)
            except ConnectionError:
                self._peer_left()

    def is_unsent(self) -> bool:
        return False  # aiohttp writes later

    def drop_unsent(self) -> None:
        """As ``is_unsent``: nothing to do."""

    def cut(self) -> None:
        self._transport.abort()
        self._peer_left()

    def _respond_and_leave(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer without aiohttp, which would read the rest of the body, and inflate it, only to drop it."""
        transport, _ = self.take_over(_Lingering(self._transport))
        head = [
            *headers,
            ("Date", formatdate(time.time(), usegmt=True)),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        transport.write(encode_response_head(status, head) + body)
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def read_body(
        self,
        limit: int,
        received: Callable[[bytes], None],
        refused: Callable[[RefusedError], None],
        arriving: Callable[[int], None],
    ) -> None:
        self._read = partial(self._read_body, limit, received, refused, arriving)

    async def _read_body(
        self,
        limit: int,
        received: Callable[[bytes], None],
        refused: Callable[[RefusedError], None],
        arriving: Callable[[int], None],
    ) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                body = await self._collect_body(limit, arriving)
        except ConnectionError:
            self._peer_left()
        except (web.HTTPException, asyncio.CancelledError):
            self._peer_left()
            raise
        except TimeoutError:
            self._lose()
            self._drops_body = True
            self._engine.refuse(self, too_slow())
        except RefusedError as error:
            refused(error)
        except Exception:  # noqa: BLE001 - aiohttp's payload errors have no common root
            self._drops_body = True
            refused(RequestRefused(catalogue.BAD_BODY, fault="it is malformed"))
        else:
            if not self._answer.done():
                received(body)

    async def _collect_body(self, limit: int, arriving: Callable[[int], None]) -> bytes:
        """Raises: RequestRefused, RemoteProtocolError, and what aiohttp raises."""
        request = self._aiohttp_request
        coding = content_coding(self.request.headers.get("content-encoding", ""))
        # aiohttp inflates codings that it knows, unless its runner was told not to; it counts what came for those.
        is_inflated = getattr(request.content, "total_compressed_bytes", None) is not None
        self._drops_body = is_inflated
        if coding is None:
            self.extra_headers = [*self.extra_headers, ("Accept-Encoding", ACCEPTED)]
            raise unknown_coding()
        asked = self.request
        length, _ = body_framing(RequestHead(asked.method, asked.target, asked.http_version, asked.headers))
        if length > limit:
            raise too_large(limit)
        if self._continues and awaits_continue(self.request):
            await request.writer.write(CONTINUE)
            request.writer.output_size = 0  # of the answer, which has not begun
        size = 0
        async for part in request.content.iter_any():
            size += len(part)
            if size > limit:
                raise too_large(limit)
            self._parts.append(part)
            arriving(len(part) + PIECE_OVERHEAD_BYTES)
            if self._answer.done():
                return b""
        self._drops_body = False
        body = b"".join(self._parts)
        return inflate(coding, body, limit) if coding and body and not is_inflated else body

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
        if not transport.is_reading():
            transport.resume_reading()  # aiohttp had enough for the time being
        if not self._answer.done():
            self._answer.set_result(web.Response(status=101))
        return transport, tail.data

    def take_socket(self) -> tuple[int, bytes] | None:
        return None  # aiohttp has read an unknown part of what follows

    def relay(self, open_link: OpenLink, refused: Callable[[HttpExchange], None]) -> None:
        if self._aiohttp_request.headers.get("Upgrade"):
            RelayedConnection(self, False, None, refused).begin(open_link)
        else:
            self._relay = open_link, refused

    async def _relayed(self, open_link: OpenLink, refused: Callable[[HttpExchange], None]) -> web.StreamResponse:
        """Body and answer go by way of aiohttp, piece by piece."""
        opened: asyncio.Future[Link | None] = asyncio.get_running_loop().create_future()

        def take(link: Link | None) -> None:
            if not opened.done():
                opened.set_result(link)
            elif link is not None:
                link.close()

        open_link(take)
        link = await opened
        answer = None if link is None else _RelayedAnswer(link)
        if link is None or answer is None:
            refused(self)
            return await self._answer
        watch = _Watch(self._transport, answer.give_up)
        try:
            await self._relay_request(link, answer)
            head = await answer.head
            if head is None:
                if self._transport.is_closing():
                    return web.Response(status=499)
                refused(self)
                return await self._answer
            response = web.StreamResponse(status=head.status, reason=head.reason)
            for name, value in head.headers:
                if name not in ("connection", "transfer-encoding", "date"):
                    response.headers.add(name, value)
            if head.closes or (answer.sending is not None and not answer.sending.done()):
                response.force_close()
            if "content-length" not in response.headers and self.request.http_version == (1, 1):
                response.enable_chunked_encoding()
            await response.prepare(self._aiohttp_request)
            await answer.write_to(response)
            return response
        except ConnectionError:
            return web.Response(status=499)
        finally:
            answer.give_up()
            watch.end()

    async def _relay_request(self, link: Link, answer: _RelayedAnswer) -> None:
        request = self._aiohttp_request
        is_inflated = getattr(request.content, "total_compressed_bytes", None) is not None
        is_chunked = request.can_read_body and (is_inflated or "content-length" not in self.request.headers)
        changed: dict[str, str | None] = {"expect": None}
        if is_chunked:
            changed |= {"content_length": None, "transfer_encoding": "chunked"}
        if is_inflated:
            changed["content_encoding"] = None
        link.begin(answer, self.request.method, relayed_head(self.request, **changed))
        if not request.can_read_body:
            link.is_request_complete = True
            return
        if self._continues and awaits_continue(self.request):
            await request.writer.write(CONTINUE)
            request.writer.output_size = 0  # of the answer, which has not begun
        answer.sending = asyncio.ensure_future(answer.send(request.content, is_chunked))

    def _lose(self) -> None:
        lost, self.lost = self.lost, None
        if lost is not None:
            lost()

    def _peer_left(self) -> None:
        self._lose()
        if not self._answer.done():
            self._answer.set_result(web.Response(status=499))


def _as_request(engine: Engine, request: web.Request, transport: asyncio.Transport) -> HttpRequest:
    """What differs from the connection has been set by the application, which knows better than any header."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        if not value.isascii():  # aiohttp takes it for UTF-8, and what is none for lone surrogates
            value = value.encode("utf-8", "surrogateescape").decode("latin-1")
        add_header(headers, name.lower(), value)
    peername = transport.get_extra_info("peername")
    peer = peername[0] if isinstance(peername, tuple) else ""
    is_secure = transport.get_extra_info("sslcontext") is not None
    is_relative = request.raw_path.startswith("/")
    remote = request.remote or ""
    scheme = request.scheme
    return HttpRequest(
        request.method,
        request.raw_path if is_relative else str(request.rel_url),
        headers,
        http_version=(request.version.major, request.version.minor),
        peer=peer,
        is_secure=is_secure,
        proxies=engine.trusted_proxies,
        remote=None if remote == peer else remote,
        scheme=None if scheme == ("https" if is_secure else "http") else scheme,
        host=request.host
        if is_relative and "Host" in request.headers and request.host != request.headers["Host"]
        else None,
        extras={"aiohttp.request": request},
    )


class _RelayedAnswer:
    """The answer of another worker, on its way to a response of aiohttp's. See ``transports.relaying.link.Sink``."""

    def __init__(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        self._link: Link | None = link
        #: None where the worker is lost before it has answered.
        self.head: asyncio.Future[AnswerHead | None] = loop.create_future()
        self.sending: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self._decoder: ChunkedPieces | None = None
        self._has_news = asyncio.Event()
        self._takes_more = asyncio.Event()
        self._takes_more.set()
        self._is_whole = False

    async def send(self, content: Any, is_chunked: bool) -> None:
        """The request's body. Ends early when nobody wants it any more."""
        try:
            async for piece in content.iter_any():
                await self._takes_more.wait()
                if self._link is None:
                    return
                self._link.write(encode_chunk(piece) if is_chunked else piece)
        except Exception:  # noqa: BLE001 - aiohttp's payload errors have no common root
            self.give_up()  # the owner sees a body that does not end, and forgets it
            return
        if self._link is not None:
            if is_chunked:
                self._link.write(LAST_CHUNK)
            self._link.is_request_complete = True

    async def write_to(self, response: web.StreamResponse) -> None:
        """Raises: ConnectionError."""
        while True:
            pieces, self._pieces = self._pieces, []
            for piece in pieces:
                await response.write(piece)
            if self._pieces:
                continue
            if self._link is None:
                break
            self._link.resume_reading()
            self._has_news.clear()
            await self._has_news.wait()
        if not self._is_whole:
            raise ConnectionResetError("the other worker is lost")
        await response.write_eof()

    def give_up(self) -> None:
        link, self._link = self._link, None
        if self.sending is not None:
            self.sending.cancel()
        if link is not None:
            link.abort()
        self._wake()

    def _wake(self) -> None:
        self._has_news.set()
        self._takes_more.set()
        if not self.head.done():
            self.head.set_result(None)

    # -- sink --------------------------------------------------------------------------------------------

    def interim_received(self, head: AnswerHead) -> None:
        """The body is sent without waiting for it."""

    def head_received(self, head: AnswerHead, body: BodyScanner) -> None:
        if "chunked" in head.header("transfer-encoding").lower():
            self._decoder = ChunkedPieces()
        if not self.head.done():
            self.head.set_result(head)

    def body_received(self, data: bytes) -> None:
        self._pieces += [data] if self._decoder is None else self._decoder.feed(data)
        self._has_news.set()
        if self._link is not None:
            self._link.pause_reading()  # until aiohttp has taken these

    def answered(self) -> None:
        self._link = None
        self._is_whole = True
        self._wake()

    def link_lost(self) -> None:
        self._link = None
        self._wake()

    def pause_sending(self) -> None:
        self._takes_more.clear()

    def resume_sending(self) -> None:
        self._takes_more.set()


class _Lingering(asyncio.Protocol):
    """Reads and drops what still comes after the answer: a reset would take that from the peer."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._deadline = asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()


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

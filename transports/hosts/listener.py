"""The fast listener: looks at the first line of each request, keeps those to the engine's path, and gives every
other connection to the web framework behind it.

Nothing of a web framework stands between the socket and the engine: a WebSocket costs one small protocol
object, a long-polling request one parsed head. The framework's protocol takes over a connection with the first
request that is not ours, and keeps it; requests to the engine's path that then come over it reach the engine by
the framework's route.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Final

from ..engine import Engine
from ..errors import ErrorCode, RemoteProtocolError, RequestRefused
from ..negotiation import refuse
from ..protocol.http1 import (
    MAX_HEAD_BYTES,
    BodyTooLargeError,
    ChunkedDecoder,
    RequestHead,
    body_framing,
    encode_response_head,
    parse_head,
)
from ..protocol.timing_wheel import UNSCHEDULED
from ..request import Headers, HttpRequest
from ..timers import Timers
from .unsent import limit_unsent

logger = logging.getLogger("tidegate.listener")

#: A request's head, and then its body, must be complete after this time.
REQUEST_TIMEOUT_S: Final = 20.0
#: How long the rest of a body that was refused is read and dropped.
LINGER_S: Final = 5.0
#: How long a connection may be idle between requests.
KEEPALIVE_TIMEOUT_S: Final = 75.0

ProtocolFactory = Callable[[], asyncio.Protocol]


class Listener:
    """A protocol factory for ``loop.create_server``.

    ``engines``: by path, as ``/socket.io/``. ``fallback`` makes the protocols that serve everything else; without
    one, other paths are answered with 404.
    """

    def __init__(self, engines: Mapping[str, Engine], fallback: ProtocolFactory | None) -> None:
        self.fallback = fallback
        #: Whether connections have it from the listening socket, which costs nothing for each.
        self.inherits_unsent_limit = False
        self.connections: set[Connection] = set()
        self._engines: dict[bytes, Engine] = {}
        for path, engine in engines.items():
            self._engines[path.encode()] = engine
            self._engines[path.rstrip("/").encode()] = engine
        self._timers: Timers | None = None
        self._date = ""
        self._date_at = 0

    def __call__(self) -> Connection:
        return Connection(self)

    def engine_for(self, target: bytes) -> Engine | None:
        return self._engines.get(target.partition(b"?")[0])

    @property
    def timers(self) -> Timers:
        if self._timers is None:
            self._timers = Timers(asyncio.get_running_loop(), 0.5)
        return self._timers

    def date(self) -> str:
        """The Date header, formatted once a second."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            self._date = formatdate(now, usegmt=True)
        return self._date

    def close(self) -> None:
        """Close what is idle. Connections that were taken over are their ports' to close."""
        for connection in list(self.connections):
            connection.close()
        if self._timers is not None:
            self._timers.close()


class Connection(asyncio.Protocol):
    """One connection while it speaks HTTP to us: requests one after the other, each an ``Exchange``."""

    __slots__ = (
        "_body",
        "_buffer",
        "_exchange",
        "_has_begun",
        "_is_lingering",
        "_listener",
        "_transport",
        "wheel_slot",
    )

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._exchange: Exchange | None = None
        self._body: _Body | None = None
        self._has_begun = True  # a request is expected, or has begun to arrive
        self._is_lingering = False
        self.wheel_slot = UNSCHEDULED

    # -- asyncio protocol ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._listener.connections.add(self)
        self._expect_within(REQUEST_TIMEOUT_S)

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            return
        if self._body is not None:
            self._receive_body(data)
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self._exchange is None:
            if not self._has_begun:
                self._has_begun = True
                self._expect_within(REQUEST_TIMEOUT_S)
            self._read_head()
        elif len(self._buffer) > MAX_HEAD_BYTES:
            # Requests sent ahead while one is being answered wait their turn, but not without bound.
            self._cut()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._leave()
        exchange, self._exchange = self._exchange, None
        self._body = None
        if exchange is not None:
            exchange.lose()

    def eof_received(self) -> bool:
        return False

    def on_deadline(self, now: float) -> None:
        """The peer was too slow with a request, or idle for too long."""
        exchange = self._exchange
        if exchange is None:
            self.close()
        else:
            exchange.lose()
            refuse(exchange, RequestRefused(ErrorCode.BAD_REQUEST, "The request took too long to arrive", 408))

    # -- requests --------------------------------------------------------------------------------------

    def _read_head(self) -> None:
        buffer = self._buffer
        line_end = buffer.find(b"\r\n")
        if line_end < 0:
            if len(buffer) > MAX_HEAD_BYTES or (buffer and not buffer[:1].isalpha()):
                self._give_away()
            return
        parts = buffer[:line_end].split(b" ")
        engine = self._listener.engine_for(parts[1]) if len(parts) == 3 else None
        if engine is None:
            self._give_away()
            return
        head_end = buffer.find(b"\r\n\r\n", line_end)
        if head_end > MAX_HEAD_BYTES or (head_end < 0 and len(buffer) > MAX_HEAD_BYTES):
            self._refuse_head(RequestRefused(ErrorCode.BAD_REQUEST, "Request header too large", 431))
            return
        if head_end < 0:
            return
        self._buffer = buffer[head_end + 4 :]
        try:
            head = parse_head(buffer[:head_end])
            framing = body_framing(head)
        except RemoteProtocolError as error:
            self._refuse_head(RequestRefused(ErrorCode.BAD_REQUEST, f"Bad request: {error.message}"))
            return
        self._listener.timers.cancel(self)
        transport = self._transport
        if transport is None:
            return
        exchange = self._exchange = Exchange(self, self._request(head, transport), head.keeps_alive)
        exchange.has_body = framing.chunked or framing.length > 0
        if exchange.has_body:
            self._body = _Body(framing.length, framing.chunked)
        engine.handle(exchange)

    def _request(self, head: RequestHead, transport: asyncio.Transport) -> HttpRequest:
        peer = transport.get_extra_info("peername")
        return HttpRequest(
            head.method,
            head.target,
            head.headers,
            http_version=head.http_version,
            scheme="http" if transport.get_extra_info("sslcontext") is None else "https",
            remote=peer[0] if isinstance(peer, tuple) else "",
        )

    def _refuse_head(self, refusal: RequestRefused) -> None:
        self._exchange = Exchange(self, HttpRequest("GET", "/", {}), False)
        refuse(self._exchange, refusal)

    def _give_away(self) -> None:
        """The request is not for the engine: the framework's protocol serves this connection from here on."""
        transport, fallback = self._transport, self._listener.fallback
        if transport is None:
            return
        if fallback is None:
            self._refuse_head(RequestRefused(ErrorCode.BAD_REQUEST, "Not found", 404))
            return
        data = self._buffer
        self._leave()
        protocol = fallback()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)

    def read_body(
        self, limit: int, received: Callable[[bytes], None], refused: Callable[[RequestRefused], None]
    ) -> None:
        body = self._body
        if body is None:
            received(b"")
            return
        body.begin(limit, received, refused)
        if body.error is None and self._transport is not None and self._exchange is not None:
            self._expect_within(REQUEST_TIMEOUT_S)
            if self._exchange.request.headers.get("expect", "").lower() == "100-continue" and not self._buffer:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        data, self._buffer = self._buffer, b""
        self._receive_body(data)

    def _receive_body(self, data: bytes) -> None:
        body = self._body
        if body is None or not body.is_wanted:
            # Refused unread: the connection closes after the answer, and what still comes is dropped.
            return
        rest = body.feed(data)
        if rest is None:
            return
        self._body = None
        self._buffer = rest
        self._listener.timers.cancel(self)
        exchange = self._exchange
        if exchange is not None and body.error is None:
            exchange.has_body = False
        body.finish()

    # -- for the exchange ------------------------------------------------------------------------------

    def respond(self, exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
        transport = self._transport
        if transport is None or exchange is not self._exchange:
            return
        self._exchange = None
        self._body = None
        if exchange.request.method == "HEAD":
            body = b""
        keeps_alive = exchange.keeps_alive and not exchange.has_body
        head = [*headers, *exchange.extra_headers, ("Date", self._listener.date())]
        if status != 204:
            head.append(("Content-Length", str(len(body))))
        if not keeps_alive:
            head.append(("Connection", "close"))
        elif exchange.request.http_version == (1, 0):
            head.append(("Connection", "keep-alive"))
        transport.write(encode_response_head(status, head) + body)
        if exchange.has_body:
            self._linger()
            return
        if not keeps_alive:
            self.close()
            return
        self._has_begun = False
        self._expect_within(KEEPALIVE_TIMEOUT_S)
        if self._buffer:
            asyncio.get_running_loop().call_soon(self._read_next)

    def _read_next(self) -> None:
        if self._exchange is None and self._transport is not None and self._buffer:
            self._read_head()

    def take_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the peer is gone")
        if not self._listener.inherits_unsent_limit:
            limit_unsent(transport.get_extra_info("socket"))
        unread, self._buffer = self._buffer, b""
        self._exchange = None
        self._leave()
        transport.set_protocol(protocol)
        return transport, unread

    # -- end -------------------------------------------------------------------------------------------

    def close(self) -> None:
        transport = self._transport
        self._leave()
        if transport is not None:
            transport.close()

    def _linger(self) -> None:
        """Close, but read and drop what the peer is still sending: a reset would take the answer from it."""
        transport = self._transport
        if transport is None:
            return
        if not transport.can_write_eof():
            self.close()
            return
        self._is_lingering = True
        transport.write_eof()
        self._expect_within(LINGER_S)

    def _cut(self) -> None:
        transport = self._transport
        self.connection_lost(None)
        if transport is not None:
            transport.abort()

    def _leave(self) -> None:
        self._listener.timers.cancel(self)
        self._listener.connections.discard(self)
        self._transport = None

    def _expect_within(self, seconds: float) -> None:
        self._listener.timers.schedule(self, asyncio.get_running_loop().time() + seconds)


class Exchange:
    """One request on a ``Connection``. See ``transports.ports.HttpExchange``."""

    __slots__ = ("_connection", "extra_headers", "has_body", "keeps_alive", "lost", "request")

    def __init__(self, connection: Connection, request: HttpRequest, keeps_alive: bool) -> None:
        self._connection = connection
        self.request = request
        self.keeps_alive = keeps_alive
        #: Whether a body is still to be read.
        self.has_body = False
        self.extra_headers: Headers = []
        self.lost: Callable[[], None] | None = None

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        self._connection.respond(self, status, headers, body)

    def read_body(
        self, limit: int, received: Callable[[bytes], None], refused: Callable[[RequestRefused], None]
    ) -> None:
        self._connection.read_body(limit, received, refused)

    def take_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
        return self._connection.take_over(protocol)

    def lose(self) -> None:
        """Tell whoever keeps the exchange waiting that the peer, or the rest of the request, will not come."""
        lost, self.lost = self.lost, None
        if lost is not None:
            lost()


class _Body:
    """A request body on its way in."""

    __slots__ = ("_chunks", "_decoder", "_left", "_received", "_refused", "error", "is_wanted")

    def __init__(self, length: int, chunked: bool) -> None:
        self._left = -1 if chunked else length
        self._chunks: list[bytes] = []
        self._decoder: ChunkedDecoder | None = None
        self._received: Callable[[bytes], None] | None = None
        self._refused: Callable[[RequestRefused], None] | None = None
        self.error: RequestRefused | None = None
        self.is_wanted = False

    def begin(self, limit: int, received: Callable[[bytes], None], refused: Callable[[RequestRefused], None]) -> None:
        self.is_wanted = True
        self._received = received
        self._refused = refused
        if self._left < 0:
            self._decoder = ChunkedDecoder(limit)
        elif self._left > limit:
            self.error = too_large(limit)

    def feed(self, data: bytes) -> bytes | None:
        """The bytes after the body once it is complete (or refused), else None."""
        if self.error is not None:
            return b""
        if self._decoder is not None:
            try:
                done = self._decoder.feed(data)
            except BodyTooLargeError as error:
                self.error = RequestRefused(ErrorCode.BAD_REQUEST, error.message, 413)
                return b""
            except RemoteProtocolError as error:
                self.error = RequestRefused(ErrorCode.BAD_REQUEST, f"Bad request: {error.message}")
                return b""
            if done is None:
                return None
            self._chunks = [done[0]]
            return done[1]
        self._chunks.append(data[: self._left])
        self._left -= len(self._chunks[-1])
        return None if self._left else data[len(self._chunks[-1]) :]

    def finish(self) -> None:
        if self.error is not None:
            if self._refused is not None:
                self._refused(self.error)
        elif self._received is not None:
            self._received(b"".join(self._chunks))


def too_large(limit: int) -> RequestRefused:
    return RequestRefused(ErrorCode.BAD_REQUEST, f"The body is over the limit of {limit} bytes", 413)

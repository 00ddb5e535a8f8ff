"""The fast listener: looks at the first line of each request, keeps those to the engine's path, and gives every
other connection to the web framework behind it.

Nothing of a web framework stands between the socket and the engine: a WebSocket costs one small protocol
object, a long-polling request one parsed head. The framework's protocol takes over a connection with the first
request that is not ours, and keeps it; requests to the engine's path that then come over it reach the engine by
the framework's route.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Final

from .. import catalogue
from ..admission import Tally, address_group
from ..engine import Engine
from ..errors import RefusedError, RemoteProtocolError, RequestRefused
from ..negotiation import refuse
from ..ports import HttpExchange
from ..protocol.content_coding import ACCEPTED, content_coding
from ..protocol.http1 import (
    MAX_HEAD_BYTES,
    MAX_TARGET_BYTES,
    body_framing,
    encode_response_head,
    has_bare_line_end,
    parse_head,
)
from ..protocol.relaying import encode_request_head
from ..protocol.timing_wheel import UNSCHEDULED
from ..relaying.connection import RelayedConnection
from ..relaying.link import OpenLink
from ..request import Headers, HttpRequest
from ..timers import Timers
from .bodies import CONTINUE, LINGER_S, REQUEST_TIMEOUT_S, Body, awaits_continue, too_slow, unknown_coding
from .unsent import limit_unsent

#: How long a connection may be idle between requests.
KEEPALIVE_TIMEOUT_S: Final = 75.0
#: A closed connection whose peer has taken less than ``STUCK_BYTES`` of the last answer in this time is dropped.
STUCK_S: Final = 30.0
STUCK_BYTES: Final = 32 * 1024

ProtocolFactory = Callable[[], asyncio.Protocol]


class Listener:
    """A protocol factory for ``loop.create_server``.

    ``engines``: by path, as ``/socket.io/``. ``fallback`` makes the protocols that serve everything else; without
    one, other paths are answered with 404. ``request_timeout_s`` is the time that a request's head, and then its body,
    may take to arrive; ``keepalive_timeout_s`` that between requests.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        fallback: ProtocolFactory | None,
        *,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        keepalive_timeout_s: float = KEEPALIVE_TIMEOUT_S,
        linger_s: float = LINGER_S,
    ) -> None:
        self.fallback = fallback
        self.request_timeout_s = request_timeout_s
        self.keepalive_timeout_s = keepalive_timeout_s
        self.linger_s = linger_s
        #: Whether connections have it from the listening socket, which costs nothing for each.
        self.inherits_unsent_limit = False
        #: Those that speak HTTP to us, with or without a request.
        self.connections: set[Connection] = set()
        #: How many of them each address, or network of one customer, has, where those are limited.
        self._by_group = Tally()
        self._first: Engine | None = next(iter(engines.values()), None)
        self._engines: dict[bytes, Engine] = {}
        for path, engine in engines.items():
            self._engines[path.encode()] = engine
            self._engines[path.rstrip("/").encode()] = engine
        self._loop: asyncio.AbstractEventLoop
        self._timers: Timers | None = None
        self._date = ""
        self._date_at = 0
        self._adopting: set[asyncio.Task[None]] = set()
        #: Takes connections that this process is about to leave, as ``Connection.take_socket`` gives them; False where
        #: nobody does.
        self.give_away: Callable[[int, bytes], bool] | None = None

    def __call__(self) -> Connection:
        return Connection(self)

    def refuse(self, exchange: Exchange, refusal: RefusedError) -> None:
        """Refuse what has not come as far as its engine: the first one counts it."""
        if self._first is None:
            refuse(exchange, refusal)
        else:
            self._first.refuse(exchange, refusal)

    def admit(self, connection: Connection) -> RequestRefused | None:
        """Take the connection in; the refusal where its address has too many that speak HTTP already."""
        self.connections.add(connection)
        if self._first is None:
            return None
        limit = self._first.admission.max_per_address
        if not limit or self._first.admission.is_exempt(connection.peer):
            return None
        group = connection.group = address_group(connection.peer)
        if self._by_group.add(group) <= limit:
            return None
        return RequestRefused(catalogue.TOO_MANY_FROM_ADDRESS, address=group, limit=limit)

    def dismiss(self, connection: Connection) -> None:
        """It has ended, or was taken over."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        if connection.group:
            self._by_group.remove(connection.group)

    def engine_for(self, target: bytes) -> Engine | None:
        return self._engines.get(target.partition(b"?")[0])

    @property
    def timers(self) -> Timers:
        if self._timers is None:
            self._loop = asyncio.get_running_loop()
            self._timers = Timers(self._loop, 0.5)
        return self._timers

    def expect_within(self, connection: Connection, seconds: float) -> None:
        """Something is to come from the peer in this time."""
        timers = self._timers or self.timers
        timers.schedule(connection, self._loop.time() + seconds)

    def adopt(self, fd: int, data: bytes) -> None:
        """Serve a connection that another process has accepted; ``data`` is what was read from it."""
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._adopt(sock, data))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def adopted(self) -> None:
        """Wait until all that were given to ``adopt`` are served."""
        if self._adopting:
            await asyncio.wait(set(self._adopting))

    async def _adopt(self, sock: socket.socket, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: self.connection(data), sock)
        except OSError:
            sock.close()  # its peer has left meanwhile

    def connection(self, data: bytes) -> Connection:
        """A protocol that has read ``data`` already; empty where the connection is between two requests."""
        connection = Connection(self)
        connection.begin_with(data)
        return connection

    def resume(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve a connection on that was taken over for one request; ``data`` was read behind it."""
        connection = self.connection(data)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if not data:
            connection.leave_if_idle()

    def leave(self) -> None:
        """Give connections to another process as soon as they are between two requests."""
        for connection in list(self.connections):
            connection.leave_if_idle()

    def date(self) -> str:
        """The Date header, formatted once a second."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at = now
            self._date = formatdate(now, usegmt=True)
        return self._date

    def close(self) -> None:
        """Close what is idle. Connections that were taken over are their ports' to close."""
        for task in self._adopting:
            task.cancel()
        for connection in list(self.connections):
            connection.close()
        if self._timers is not None:
            self._timers.close()


class Connection(asyncio.Protocol):
    """One connection while it speaks HTTP to us: requests one after the other, each an ``Exchange``."""

    __slots__ = (
        "_answered",
        "_body",
        "_buffer",
        "_exchange",
        "_has_begun",
        "_is_blocked",
        "_is_lingering",
        "_is_secure",
        "_listener",
        "_transport",
        "group",
        "peer",
        "wheel_slot",
    )

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._exchange: Exchange | None = None
        self._answered: Exchange | None = None  # the last, where the peer did not take all of it at once
        self._body: Body | None = None
        self._has_begun = True  # a request is expected, or has begun to arrive
        self._is_lingering = False
        self._is_blocked = False  # the peer does not take its answers
        self._is_secure = False
        #: Its IP address; empty where it has none.
        self.peer = ""
        #: Under which it is counted (``transports.admission``); empty where it is not.
        self.group = ""
        self.wheel_slot = UNSCHEDULED

    # -- asyncio protocol ------------------------------------------------------------------------------

    def begin_with(self, data: bytes) -> None:
        """Before the connection is made: what was read from it already."""
        self._buffer = data
        self._has_begun = bool(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        peername = transport.get_extra_info("peername")
        if isinstance(peername, tuple):
            self.peer = peername[0]
        self._is_secure = transport.get_extra_info("sslcontext") is not None
        listener = self._listener
        listener.expect_within(self, listener.request_timeout_s if self._has_begun else listener.keepalive_timeout_s)
        refusal = listener.admit(self)
        if refusal is not None:
            self._refuse_head(refusal)
        elif self._buffer:
            self._read_head()

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
                self._expect_within(self._listener.request_timeout_s)
            self._read_next()
        elif len(self._buffer) > MAX_HEAD_BYTES:
            # Requests sent ahead while one is being answered wait their turn, but not without bound.
            self.cut()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._leave()
        exchange, self._exchange = self._exchange, None
        self._body = None
        if exchange is not None:
            exchange.lose()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        # Further requests would only add to the answers that nobody reads.
        self._is_blocked = True
        if self._transport is not None and not self._is_lingering:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_blocked = False
        if self._transport is not None and not self._is_lingering:
            self._transport.resume_reading()
            # Not from inside of the transport, as in ``WebSocketConnection``: the answer may close it.
            asyncio.get_running_loop().call_soon(self._read_next)

    def on_deadline(self, now: float) -> None:
        """The peer was too slow with a request, or idle for too long."""
        exchange = self._exchange
        if self._is_lingering or (exchange is None and not self._buffer):
            self.close()
        elif exchange is None:
            self._refuse_head(too_slow())
        else:
            exchange.lose()
            self._listener.refuse(exchange, too_slow())

    # -- requests --------------------------------------------------------------------------------------

    def _read_head(self) -> None:
        if self._buffer.startswith(b"\r\n"):
            self._buffer = self._buffer[2:]  # sent behind the last body by mistake. Spec: RFC 9112, section 2.2
        buffer = self._buffer
        listener = self._listener
        line_end = buffer.find(b"\r\n")
        if line_end < 0:
            if len(buffer) > MAX_HEAD_BYTES or (buffer[:1].strip() and not buffer[:1].isalpha()):
                self._give_away_or_refuse(_target_too_long())
            elif has_bare_line_end(buffer):
                self._give_away_or_refuse(_bare_line_end())
            return
        parts = buffer[:line_end].split(b" ")
        engine = listener.engine_for(parts[1]) if len(parts) > 1 else None
        if engine is None:
            self._give_away()
            return
        if len(parts) != 3:  # HTTP/0.9, which ends here, among others
            self._refuse_head(RequestRefused(catalogue.BAD_REQUEST_LINE))
            return
        head_end = buffer.find(b"\r\n\r\n", line_end)
        if head_end > MAX_HEAD_BYTES or (head_end < 0 and len(buffer) > MAX_HEAD_BYTES):
            self._refuse_head(_target_too_long() if len(parts[1]) > MAX_TARGET_BYTES else _head_too_long())
            return
        if head_end < 0:
            if has_bare_line_end(buffer):
                self._refuse_head(_bare_line_end())
            return
        self._buffer = buffer[head_end + 4 :]
        try:
            head = parse_head(buffer[:head_end])
            framing = body_framing(head)
        except RemoteProtocolError as error:
            self._refuse_head(error)
            return
        listener.timers.cancel(self)
        self._answered = None
        request = HttpRequest(
            head.method,
            head.target,
            head.headers,
            http_version=head.http_version,
            peer=self.peer,
            is_secure=self._is_secure,
            proxies=engine.trusted_proxies,
        )
        exchange = self._exchange = Exchange(self, request, head.keeps_alive)
        if framing.chunked or framing.length > 0:
            exchange.has_body = True
            self._body = Body(framing.length, framing.chunked)
        engine.handle(exchange)

    def _refuse_head(self, refusal: RefusedError) -> None:
        exchange = self._exchange = Exchange(self, HttpRequest("GET", "/", {}, peer=self.peer), False)
        exchange.has_body = True  # whatever else the peer is sending
        self._buffer = b""
        self._listener.refuse(exchange, refusal)

    def _give_away_or_refuse(self, refusal: RefusedError) -> None:
        """What came is no request line; refuse it where it begins as one for the engine."""
        parts = self._buffer[:MAX_HEAD_BYTES].split(b" ", 2)
        if len(parts) > 1 and self._listener.engine_for(parts[1].split(b"\n")[0]) is not None:
            self._refuse_head(refusal)
        else:
            self._give_away()

    def _give_away(self) -> None:
        """The request is not for the engine: the framework's protocol serves this connection from here on."""
        transport, fallback = self._transport, self._listener.fallback
        if transport is None:
            return
        if fallback is None:
            self._refuse_head(RequestRefused(catalogue.NOT_FOUND))
            return
        data = self._buffer
        self._leave()
        protocol = fallback()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)

    def read_body(
        self,
        limit: int,
        received: Callable[[bytes], None],
        refused: Callable[[RefusedError], None],
        arriving: Callable[[int], None],
    ) -> None:
        body, exchange, transport = self._body, self._exchange, self._transport
        if exchange is None or transport is None:
            return
        coding = content_coding(exchange.request.headers.get("content-encoding", ""))
        if coding is None:
            exchange.extra_headers = [*exchange.extra_headers, ("Accept-Encoding", ACCEPTED)]
            refused(unknown_coding())
            return
        if body is None:
            received(b"")
            return
        body.begin(limit, coding, received, refused, arriving)
        if body.error is None:
            self._expect_within(self._listener.request_timeout_s)
            if awaits_continue(exchange.request) and not self._buffer:
                transport.write(CONTINUE)
        data, self._buffer = self._buffer, b""
        self._receive_body(data)

    def _receive_body(self, data: bytes) -> None:
        body = self._body
        if body is None or not body.is_wanted:
            # Refused unread: the connection closes after the answer, and what still comes is dropped.
            return
        rest = body.feed(data)
        if rest is None:
            body.waits_on(len(data))
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
        is_leaving = self._is_secure and self._listener.give_away is not None  # nobody can take it
        keeps_alive = exchange.keeps_alive and not exchange.has_body and not is_leaving
        head = [*headers, *exchange.extra_headers, ("Date", self._listener.date())]
        if status != 204:
            head.append(("Content-Length", str(len(body))))
        if not keeps_alive:
            head.append(("Connection", "close"))
        elif exchange.request.http_version == (1, 0):
            head.append(("Connection", "keep-alive"))
        transport.write(encode_response_head(status, head) + (b"" if exchange.request.method == "HEAD" else body))
        if exchange.has_body:
            self._linger()
            return
        if transport.get_write_buffer_size():
            self._answered = exchange
        if not keeps_alive:
            self.close()
            return
        if self._buffer:
            self._has_begun = True
            self._expect_within(self._listener.request_timeout_s)
            asyncio.get_running_loop().call_soon(self._read_next)
        else:
            self.wait_idle()

    def wait_idle(self) -> None:
        """The connection is between two requests."""
        self._has_begun = False
        self._expect_within(self._listener.keepalive_timeout_s)
        if self._listener.give_away is not None:
            self.leave_if_idle()

    def leave_if_idle(self) -> None:
        """Give the connection to another process, if it is between two requests and somebody takes it."""
        give_away = self._listener.give_away
        if give_away is None or self._exchange is not None or self._body is not None or self._is_lingering:
            return  # part of a next request goes along
        if self._is_secure and not self._has_begun:
            self.close()
            return
        taken = self._take_socket(b"")
        if taken is not None and not give_away(*taken):
            os.close(taken[0])

    def is_unsent(self, exchange: Exchange) -> bool:
        """Whether it was answered last, and the peer has not taken all of it."""
        transport = self._transport
        return exchange is self._answered and transport is not None and transport.get_write_buffer_size() > 0

    def _read_next(self) -> None:
        if self._exchange is None and self._transport is not None and self._buffer and not self._is_blocked:
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

    def take_socket(self, exchange: Exchange) -> tuple[int, bytes] | None:
        if exchange is not self._exchange:
            return None
        request = exchange.request
        head = encode_request_head(request.method, request.target, request.http_version, request.headers)
        return self._take_socket(head)

    def _take_socket(self, head: bytes) -> tuple[int, bytes] | None:
        """A descriptor for another process; this one is done with the connection. None where it cannot be."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._is_secure or transport.get_write_buffer_size():
            return None
        fd = os.dup(transport.get_extra_info("socket").fileno())
        unread, self._buffer = self._buffer, b""
        self._exchange = self._body = None
        self._leave()
        transport.pause_reading()
        transport.abort()  # closes our descriptor; the connection lives on by the other
        return fd, head + unread

    def hand_back(self, transport: asyncio.Transport, data: bytes) -> None:
        """What was taken over is between two requests again."""
        self._listener.resume(transport, data)

    # -- end -------------------------------------------------------------------------------------------

    def close(self) -> None:
        transport = self._transport
        self._leave()
        if transport is not None:
            transport.close()
            _drop_if_stuck(transport, None)

    def _linger(self) -> None:
        """Close, but read and drop what the peer is still sending: a reset would take the answer from it."""
        transport = self._transport
        if transport is None:
            return
        if not transport.can_write_eof():
            self.close()
            return
        self._is_lingering = True
        self._buffer = b""  # of a body that nobody reads: no request, even if it looks like one
        if self._is_blocked:
            transport.resume_reading()
        transport.write_eof()
        self._expect_within(self._listener.linger_s)

    def cut(self) -> None:
        transport = self._transport
        self.connection_lost(None)
        if transport is not None:
            transport.abort()

    def _leave(self) -> None:
        if self.wheel_slot != UNSCHEDULED:
            self._listener.timers.cancel(self)
        self._listener.dismiss(self)
        self._transport = self._answered = None

    def _expect_within(self, seconds: float) -> None:
        self._listener.expect_within(self, seconds)


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

    def is_unsent(self) -> bool:
        return self._connection.is_unsent(self)

    def drop_unsent(self) -> None:
        if self._connection.is_unsent(self):
            self._connection.cut()

    def cut(self) -> None:
        self._connection.cut()

    def read_body(
        self,
        limit: int,
        received: Callable[[bytes], None],
        refused: Callable[[RefusedError], None],
        arriving: Callable[[int], None],
    ) -> None:
        self._connection.read_body(limit, received, refused, arriving)

    def take_over(self, protocol: asyncio.Protocol) -> tuple[asyncio.Transport, bytes]:
        return self._connection.take_over(protocol)

    def take_socket(self) -> tuple[int, bytes] | None:
        return self._connection.take_socket(self)

    def relay(self, open_link: OpenLink, refused: Callable[[HttpExchange], None]) -> None:
        RelayedConnection(self, self.keeps_alive, self._connection.hand_back, refused).begin(open_link)

    def lose(self) -> None:
        """Tell whoever keeps the exchange waiting that the peer, or the rest of the request, will not come."""
        lost, self.lost = self.lost, None
        if lost is not None:
            lost()


def _target_too_long() -> RequestRefused:
    return RequestRefused(catalogue.TARGET_TOO_LONG, limit=MAX_TARGET_BYTES)


def _head_too_long() -> RequestRefused:
    return RequestRefused(catalogue.HEAD_TOO_LARGE, limit=MAX_HEAD_BYTES)


def _bare_line_end() -> RequestRefused:
    return RequestRefused(catalogue.BARE_LINE_END)


def _drop_if_stuck(transport: asyncio.Transport, before: int | None) -> None:
    """A closed transport still sends what it holds: look after it, and drop it once a peer takes next to nothing."""
    left = transport.get_write_buffer_size()
    if left and before is not None and before - left < STUCK_BYTES:
        transport.abort()
    elif left:
        asyncio.get_running_loop().call_later(STUCK_S, _drop_if_stuck, transport, left)

"""The xhr-streaming transport: one response stays open and carries packets as they come.

The port outlives its responses: each ends after a number of bytes or seconds, and the client opens the next.
A client that counts what it received (``ack``) loses nothing even when a response is cut.
Spec: docs/design/xhr-streaming.md.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from . import catalogue, reasons
from .errors import RequestRefused
from .outbound import OutboundMessage, Run, extend
from .polling import CLOSE, NOOP
from .ports import PORT_BUFFER_BYTES, HttpExchange
from .protocol.http1 import LAST_CHUNK, encode_chunk, encode_response_head
from .request import Headers, HttpRequest
from .socket_writer import SocketWriter

if TYPE_CHECKING:
    from .session import Session

MAX_PADDING_BYTES: Final = 65536
#: Writes kept for repetition: a stream of very small messages ends before its bytes say so.
MAX_UNACKNOWLEDGED: Final = 8192
#: How long a client that counts may take to come back after a response was cut.
RESUME_S: Final = 15.0
#: How long the last bytes of an ended response may take to leave.
LINGER_S: Final = 30.0

_HEADERS: Final[Headers] = [
    ("Content-Type", "text/plain; charset=UTF-8"),
    ("Cache-Control", "no-store, no-transform"),
    ("X-Accel-Buffering", "no"),
    ("X-Content-Type-Options", "nosniff"),
    ("Connection", "close"),
]


def _number(request: HttpRequest, name: str, maximum: int) -> int | None:
    text = request.parameter(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15 and int(text) <= maximum):
        raise RequestRefused(catalogue.BAD_PARAMETER, name=name, allowed=f"a number from 0 to {maximum}")
    return int(text)


def padding_message(request: HttpRequest) -> OutboundMessage | None:
    """A noop of as many bytes as the client asks for, its separator included.

    Raises: RequestRefused.
    """
    size = _number(request, "padding", MAX_PADDING_BYTES)
    return OutboundMessage(b"6" + b" " * (size - 2)) if size is not None and size >= 2 else None


class StreamResponse(SocketWriter):
    """One response: the connection it holds until it ends."""

    __slots__ = ("_chunked", "_port", "sent_bytes")

    def __init__(self, port: XhrStreamingPort, chunked: bool) -> None:
        super().__init__()
        self._port: XhrStreamingPort | None = port
        self._chunked = chunked
        self.sent_bytes = 0

    def begin(self, transport: asyncio.Transport, headers: Headers, first: Run | None) -> None:
        self.take_transport(transport)
        head = list(headers)
        if self._chunked:
            head.append(("Transfer-Encoding", "chunked"))
        data = encode_response_head(200, head)
        if first is not None:
            data += self._encode(first)
        self.send(data)

    def _encode(self, run: Run) -> bytes:
        data = run.chunk if self._chunked else run.records
        self.sent_bytes += len(data)
        return data

    def write(self, run: Run) -> None:
        self.send(self._encode(run))

    def end(self, last: Run | None = None) -> None:
        """Write ``last`` and end the body. The connection closes once everything has left."""
        self._port = None
        tail = b"" if last is None else (encode_chunk(last.records) if self._chunked else last.records)
        self.send(tail + LAST_CHUNK if self._chunked else tail)
        transport = self.drop_transport()
        if transport is None:
            return
        transport.close()
        if transport.get_write_buffer_size():
            # A peer that reads nothing must not keep the rest in memory for ever.
            asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def abort(self) -> None:
        self._port = None
        transport = self.drop_transport()
        if transport is not None:
            transport.abort()

    # -- asyncio protocol ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        # Nothing may follow the request on this connection: the response says it will be closed.
        port = self._port
        self.abort()
        if port is not None:
            port.response_lost(self)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        port = self._port
        self._port = None
        self.drop_transport()
        if port is not None:
            port.response_lost(self)

    def pause_writing(self) -> None:
        if self._port is not None:
            self._port.paused()

    def resume_writing(self) -> None:
        # Not from inside of the transport, as in ``WebSocketConnection``: what waits may end the response.
        asyncio.get_running_loop().call_soon(self._resumed)

    def _resumed(self) -> None:
        if self._port is not None:
            self._port.resumed()


class XhrStreamingPort:
    """The transport of a session over all its responses."""

    __slots__ = (
        "_acknowledged",
        "_is_counting",
        "_max_bytes",
        "_max_s",
        "_response",
        "_response_ends",
        "_resume_by",
        "_sent",
        "_session",
        "_unacknowledged",
        "writable",
    )

    name = "xhr-streaming"

    def __init__(self, session: Session, max_bytes: int, max_s: float) -> None:
        self._session: Session | None = session
        self._max_bytes = max_bytes
        self._max_s = max_s
        self._response: StreamResponse | None = None
        self._response_ends = 0.0
        self._resume_by = 0.0  # 0 while no cut response is to be resumed
        self._is_counting = False
        self._sent = 0  # records written so far, on all responses
        self._acknowledged = 0  # of these, how many the client is known to have
        self._unacknowledged: list[Run] = []
        self.writable = False

    def open(self, exchange: HttpExchange, now: float) -> None:
        """A GET has come; the response begins with padding and what has to be repeated.

        Raises: RequestRefused where another response is open and the client does not count, where its count
            cannot be right, and for a malformed parameter; ConnectionError.
        """
        request = exchange.request
        count = _number(request, "ack", 10**15 - 1)
        padding = padding_message(request)
        if count is None and (self._response is not None or self._is_counting):
            raise RequestRefused(catalogue.ACK_MISSING)
        repeat = self._repetition(count)
        response = StreamResponse(self, chunked=request.http_version >= (1, 1))
        try:
            transport, _ = exchange.take_over(response)
        except ConnectionError:
            if not self._is_counting:
                raise
            return  # nothing has changed; the client may try once more
        if count is not None:
            self._is_counting = True
            self._sent = self._acknowledged = count
            self._unacknowledged.clear()
        if self._response is not None:
            # What it had not sent is repeated: it must not also wait in the old connection.
            if self._response.buffered_bytes():
                self._response.abort()
            else:
                self._response.end()
        self._response = response
        self._response_ends = now + self._max_s
        self._resume_by = 0.0
        self.writable = True
        # May pause at once: what is unsent of an earlier answer on this connection counts.
        transport.set_write_buffer_limits(PORT_BUFFER_BYTES)
        begin: Run | None = padding
        for message in repeat:
            begin = extend(begin, message)
        response.begin(transport, [*_HEADERS, *exchange.extra_headers], begin)
        if begin is not None:
            self._count(begin)

    def _repetition(self, count: int | None) -> list[OutboundMessage]:
        """What a client that has received ``count`` records has to be sent once more.

        Raises: RequestRefused for a count that cannot be right.
        """
        if count is None:
            return []
        if not self._is_counting and self._sent:
            raise RequestRefused(catalogue.ACK_LATE)
        if not self._acknowledged <= count <= self._sent:
            raise RequestRefused(catalogue.ACK_WRONG)
        known = count - self._acknowledged
        repeat: list[OutboundMessage] = []
        for run in self._unacknowledged:
            if known >= run.packet_count:
                known -= run.packet_count
            elif known:
                rest = run.split(known)[1]
                known = 0
                repeat += [] if rest is None else rest.messages()
            else:
                repeat += run.messages()
        return repeat

    def _count(self, run: Run) -> None:
        self._sent += run.packet_count
        if self._is_counting:
            self._unacknowledged.append(run)

    def _end_response(self, last: Run | None) -> None:
        response = self._response
        if response is None:
            return
        self._response = None
        self.writable = False
        if last is not None:
            self._count(last)
        response.end(last)

    # -- port ------------------------------------------------------------------------------------------

    def write(self, run: Run) -> Run | None:
        response = self._response
        if response is None:
            if not self._is_counting:
                return run
            # The answer to a probe that overtook the news of the cut: the next response begins with it.
            self._count(run)
            return None
        rest: Run | None = None
        room = self._max_bytes - response.sent_bytes
        if run.nbytes > room:
            run, rest = run.take(room)
        response.write(run)
        self._count(run)
        is_full = response.sent_bytes >= self._max_bytes or len(self._unacknowledged) >= MAX_UNACKNOWLEDGED
        if is_full or rest is not None:
            self._end_response(None)
        return rest

    def buffered_bytes(self) -> int:
        return 0 if self._response is None else self._response.buffered_bytes()

    def pause_reading(self) -> None:
        """The session answers no POST meanwhile."""

    def resume_reading(self) -> None:
        """As ``pause_reading``: nothing to do."""

    def buffered_in(self) -> int:
        return 0

    def deadline(self) -> float | None:
        if self._response is not None:
            return self._response_ends
        return self._resume_by or None

    def on_deadline(self, now: float) -> None:
        if self._response is not None:
            if now >= self._response_ends:
                self._end_response(None)
        elif self._resume_by and now >= self._resume_by and self._session is not None:
            self._session.port_lost(self, reasons.TRANSPORT_CLOSE)

    def release(self) -> None:
        self._end_response(NOOP)

    def detach(self) -> None:
        self.release()
        self._session = None

    def close(self, run: Run | None, *, code: int, reason: str, by_client: bool) -> Run | None:
        last = extend(run, NOOP if by_client else CLOSE)
        if self._response is None:
            return None if by_client else last
        return self.part(last)

    def part(self, run: Run) -> Run | None:
        self._session = None
        self._end_response(run)
        return None

    def abort(self) -> None:
        response = self._response
        self._response = self._session = None
        self.writable = False
        if response is not None:
            response.abort()

    # -- of the response -------------------------------------------------------------------------------

    def response_lost(self, response: StreamResponse) -> None:
        """The connection broke. A counting client may come back for the rest within ``RESUME_S``."""
        if response is not self._response:
            return
        self._response = None
        self.writable = False
        if self._session is not None:
            if self._is_counting:
                self._resume_by = self._session.engine.now() + RESUME_S
                self._session.port_paused(self)
                self._session.arm()
            else:
                self._session.port_lost(self, reasons.TRANSPORT_CLOSE)

    def paused(self) -> None:
        self.writable = False
        if self._session is not None:
            self._session.port_paused(self)

    def resumed(self) -> None:
        if self._session is not None and self._response is not None:
            self.writable = True
            self._session.port_resumed(self)

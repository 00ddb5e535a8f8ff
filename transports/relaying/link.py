"""The near end of a connection to another worker: one request at a time, and what is answered to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from ..protocol.relaying import (
    MAX_ANSWER_HEAD_BYTES,
    AnswerHead,
    BodyScanner,
    answer_body,
    encode_release_line,
    parse_answer_head,
    waiting_session,
)


class Sink(Protocol):
    """What becomes of an answer."""

    def interim_received(self, head: AnswerHead) -> None:
        """An answer before the answer, such as 100 Continue."""

    def head_received(self, head: AnswerHead, body: BodyScanner) -> None:
        """The answer begins. With status 101 the connection is the sink's to take over."""

    def body_received(self, data: bytes) -> None:
        """More of the body, framed as the head says."""

    def answered(self) -> None:
        """All of it was received; the link is no longer the sink's."""

    def link_lost(self) -> None:
        """Nothing more will come. The link is no longer the sink's."""

    def pause_sending(self) -> None:
        """The other worker takes no more of the request for now."""

    def resume_sending(self) -> None:
        """It does again."""


class Link(asyncio.Protocol):
    """``idle`` is called with a link that can carry another request, ``gone`` with one that cannot any more."""

    __slots__ = (
        "_body",
        "_buffer",
        "_gone",
        "_head",
        "_idle",
        "_method",
        "_request",
        "_sink",
        "_transport",
        "is_leaving",
        "is_request_complete",
    )

    def __init__(self, idle: Callable[[Link], None], gone: Callable[[Link], None]) -> None:
        self._idle = idle
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._sink: Sink | None = None
        self._method = ""
        self._request = b""
        self._buffer = b""
        self._head: AnswerHead | None = None
        self._body: BodyScanner | None = None
        #: Whether all of the request was written.
        self.is_request_complete = True
        #: Whether this process is about to end: the client's connection then carries no other request.
        self.is_leaving = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def begin(self, sink: Sink, method: str, head: bytes) -> None:
        """Send a request's head; the body follows by ``write``."""
        self._sink = sink
        self._method = method
        self._request = head
        self._head = self._body = None
        self.is_request_complete = False
        self.write(head)

    @property
    def is_busy(self) -> bool:
        """Whether it carries a request."""
        return self._sink is not None

    @property
    def waits_for(self) -> str | None:
        """The session whose messages the request waits for."""
        return waiting_session(self._request) if self.is_busy else None

    def release(self, session_ids: Iterable[str]) -> None:
        """Ask for answers to what waits for these sessions' messages, on a link that carries nothing.

        It ends with that: a worker of a version that does not know the line cuts it, with any request behind it.
        """
        self.write(b"".join(map(encode_release_line, session_ids)))
        self.close()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause_reading(self) -> None:
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_reading() and not self._transport.is_closing():
            self._transport.resume_reading()

    def take_over(self) -> tuple[asyncio.Transport, bytes] | None:
        """The connection, and what was read behind the head of an answer 101; None where it is lost."""
        transport, self._transport = self._transport, None
        unread, self._buffer = self._buffer, b""
        self._sink = None
        self._gone(self)
        return None if transport is None else (transport, unread)

    def abort(self) -> None:
        """Give the request up, which the other worker notices."""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # -- asyncio protocol ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        try:
            self._receive(data)
        except ValueError:
            self._lose()

    def _receive(self, data: bytes) -> None:
        if self._head is None:
            data = self._buffer + data if self._buffer else data
            rest = self._read_head(data)
            if rest is None:
                return
            data = rest
        sink, body, head = self._sink, self._body, self._head
        if sink is None or body is None or head is None:
            return  # given up, or taken over
        if data:
            taken = body.feed(data)
            sink.body_received(data[:taken] if taken < len(data) else data)
            if taken < len(data):
                raise ValueError("more than an answer")
        if body.is_complete and self._sink is sink:
            self._end(sink, head, is_reusable=True)

    def _read_head(self, data: bytes) -> bytes | None:
        """What follows the head; None where it is not all there, or the connection was taken over."""
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > MAX_ANSWER_HEAD_BYTES:
                    raise ValueError("the head is too long")
                self._buffer = data
                return None
            head = parse_answer_head(data[:end])
            data = data[end + 4 :]
            self._buffer = b""
            sink = self._sink
            if sink is None:
                raise ValueError("an answer to nothing")
            if head.status >= 200 or head.status == 101:
                break
            sink.interim_received(head)
        if self.is_leaving and head.status != 101:
            others = [(name, value) for name, value in head.headers if name != "connection"]
            head = head._replace(headers=[*others, ("connection", "close")])
        self._head = head
        if head.status == 101:
            self._buffer = data
            sink.head_received(head, BodyScanner(-1))
            return None
        self._body = answer_body(self._method, head)
        sink.head_received(head, self._body)
        return data

    def _end(self, sink: Sink, head: AnswerHead, *, is_reusable: bool) -> None:
        self._sink = None
        is_reusable = is_reusable and self.is_request_complete and not head.closes
        if is_reusable:
            self.resume_reading()
            self._idle(self)
        else:
            self.close()
        sink.answered()

    def _lose(self) -> None:
        sink, self._sink = self._sink, None
        if self._transport is not None:
            self._transport.abort()
        if sink is not None:
            sink.link_lost()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None
        self._gone(self)
        sink, head, body = self._sink, self._head, self._body
        if sink is not None and head is not None and body is not None and body.ends_with_connection and exc is None:
            self._end(sink, head, is_reusable=False)
        else:
            self._lose()

    def pause_writing(self) -> None:
        if self._sink is not None:
            self._sink.pause_sending()

    def resume_writing(self) -> None:
        if self._sink is not None:
            self._sink.resume_sending()


#: Calls back, now or later, with a link that carries nothing, or with None where the worker cannot be reached.
OpenLink = Callable[[Callable[[Link | None], None]], None]

"""A client's connection whose request another worker answers: bytes go to and fro, and none of them is kept.

Either side that does not read stops the other. Once the answer is complete the connection goes back to where it came
from, and the next request on it may be for anybody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Final

from ..ports import HttpExchange
from ..protocol.http1 import MAX_HEAD_BYTES, RequestHead, body_framing, encode_response_head
from ..protocol.relaying import AnswerHead, BodyScanner, encode_peer_line, encode_request_head
from ..request import Headers, HttpRequest
from .link import Link, OpenLink
from .splice import splice

#: How long what a client still sends is read and dropped, so that no reset takes the answer from it.
LINGER_S: Final = 5.0
#: How long the last bytes of an answer may take to leave.
STUCK_S: Final = 30.0

HandBack = Callable[[asyncio.Transport, bytes], None]


def relayed_head(request: HttpRequest, **changed: str | None) -> bytes:
    """The request's head as it goes over a link; ``changed`` headers replace its own, None takes one away.

    Raises: ValueError.
    """
    peer, is_secure, headers = request.as_relayed()
    headers = dict(headers)
    if "upgrade" not in headers:
        headers.pop("connection", None)  # it speaks of the client's connection
        headers.pop("keep-alive", None)
    for name, value in changed.items():
        name = name.replace("_", "-")
        if value is None:
            headers.pop(name, None)
        else:
            headers[name] = value
    headers.setdefault("host", "")
    # An answer of unknown length would be in chunks, which a client of HTTP/1.0 cannot read.
    is_old_stream = request.http_version == (1, 0) and request.parameter("transport") == "xhr-streaming"
    version = (1, 0) if is_old_stream else (1, 1)
    return encode_peer_line(peer, is_secure) + encode_request_head(request.method, request.target, version, headers)


class RelayedConnection(asyncio.Protocol):
    """Takes the connection of an exchange over, and gives it back by ``hand_back``; without one it closes.

    It is an exchange itself to whoever has to answer in the other worker's place.
    """

    def __init__(
        self,
        exchange: HttpExchange,
        keeps_alive: bool,
        hand_back: HandBack | None,
        refused: Callable[[HttpExchange], None],
    ) -> None:
        self.request = exchange.request
        self.extra_headers: Headers = list(exchange.extra_headers)
        self.lost: Callable[[], None] | None = None
        self._keeps_alive = keeps_alive and hand_back is not None
        self._hand_back = hand_back
        self._refused = refused
        self._head = relayed_head(self.request)
        request = self.request
        framing = body_framing(RequestHead(request.method, request.target, request.http_version, request.headers))
        self._body = BodyScanner(framing.length, chunked=framing.chunked)
        self._link: Link | None = None
        self._has_answer = False
        self._is_over = False
        self._ahead = b""  # read before the link was there, or behind the request
        self._transport, self._ahead = exchange.take_over(self)

    def begin(self, open_link: OpenLink) -> None:
        open_link(self._opened)

    def _opened(self, link: Link | None) -> None:
        if self._is_over:  # the client has left meanwhile
            if link is not None:
                link.close()
            return
        if link is None:
            self._refused(self)  # type: ignore[arg-type]
            return
        self._link = link
        link.begin(self, self.request.method, self._head)
        link.is_request_complete = self._body.is_complete
        self.resume_sending()
        ahead, self._ahead = self._ahead, b""
        if ahead:
            self.data_received(ahead)

    # -- the client's side -------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return  # lingering
        link = self._link
        if link is not None and not self._body.is_complete:
            try:
                taken = self._body.feed(data)
            except ValueError:
                taken = len(data)  # the owner refuses it in its own words
            link.write(data[:taken] if taken < len(data) else data)
            link.is_request_complete = self._body.is_complete
            data = data[taken:]
        if data:
            self._ahead += data
            if len(self._ahead) > MAX_HEAD_BYTES:
                if link is None:
                    self._transport.pause_reading()
                else:
                    self._transport.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        self._is_over = True
        link, self._link = self._link, None
        if link is not None:
            link.abort()

    def pause_writing(self) -> None:
        if self._link is not None:
            self._link.pause_reading()

    def resume_writing(self) -> None:
        if self._link is not None:
            self._link.resume_reading()

    # -- the other worker's side -------------------------------------------------------------------------

    def interim_received(self, head: AnswerHead) -> None:
        if self.request.http_version == (1, 1):
            self._transport.write(head.encode(keeps_alive=True, is_old=False))

    def head_received(self, head: AnswerHead, body: BodyScanner) -> None:
        self._has_answer = True
        if head.status == 101:
            self._upgrade(head)
            return
        is_open = self._keeps_alive and self._body.is_complete and not body.ends_with_connection and not head.closes
        self._keeps_alive = is_open
        self._transport.write(head.encode(keeps_alive=is_open, is_old=self.request.http_version == (1, 0)))

    def _upgrade(self, head: AnswerHead) -> None:
        link, self._link = self._link, None
        taken = None if link is None else link.take_over()
        if taken is None:
            self._transport.abort()
            return
        self._is_over = True
        transport, unread = taken
        lines = [f"HTTP/1.1 101 {head.reason}", *[f"{name}: {value}" for name, value in head.headers], "", ""]
        self._transport.write("\r\n".join(lines).encode("latin-1") + unread)
        if self._ahead:
            transport.write(self._ahead)
        splice(self._transport, transport)

    def body_received(self, data: bytes) -> None:
        self._transport.write(data)

    def answered(self) -> None:
        self._link = None
        self._end()

    def link_lost(self) -> None:
        self._link = None
        if self._has_answer:
            self.cut()  # so that half an answer is not taken for a whole one
        else:
            self._keeps_alive = self._keeps_alive and self._body.is_complete
            self._refused(self)  # type: ignore[arg-type]

    def pause_sending(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_sending(self) -> None:
        if not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()

    # -- the end -----------------------------------------------------------------------------------------

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer in the other worker's place."""
        if self._is_over or self._has_answer:
            return
        self._has_answer = True
        self._keeps_alive = self._keeps_alive and self._body.is_complete
        head = [*headers, *self.extra_headers, ("Date", formatdate(time.time(), usegmt=True))]
        head.append(("Content-Length", str(len(body))))
        if not self._keeps_alive:
            head.append(("Connection", "close"))
        self._transport.write(encode_response_head(status, head) + body)
        self._end()

    def cut(self) -> None:
        self._is_over = True
        self._transport.abort()

    def _end(self) -> None:
        self._is_over = True
        transport = self._transport
        if transport.is_closing():
            return
        if not transport.is_reading():
            transport.resume_reading()
        if self._keeps_alive and self._hand_back is not None:
            self._hand_back(transport, self._ahead)
        elif self._body.is_complete or not transport.can_write_eof():
            transport.close()
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(STUCK_S, transport.abort)
        else:
            transport.write_eof()
            asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

"""Request bodies, and what is said of those that cannot be used, the same on every host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .. import catalogue
from ..errors import RefusedError, RemoteProtocolError, RequestRefused
from ..protocol.content_coding import ACCEPTED, inflate
from ..protocol.http1 import ChunkedDecoder
from ..request import HttpRequest

#: A request's head, and then its body, must be complete after this time.
REQUEST_TIMEOUT_S: Final = 20.0
#: How long the rest of a body that was refused is read and dropped.
LINGER_S: Final = 5.0

#: What a piece of a body that is kept costs beside its bytes.
PIECE_OVERHEAD_BYTES: Final = 48

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Body:
    """A request body on its way in."""

    __slots__ = (
        "_arriving",
        "_chunks",
        "_coding",
        "_decoder",
        "_left",
        "_limit",
        "_received",
        "_refused",
        "error",
        "is_wanted",
    )

    def __init__(self, length: int, chunked: bool) -> None:
        self._left = -1 if chunked else length
        self._chunks: list[bytes] = []
        self._coding = ""
        self._limit = 0
        self._decoder: ChunkedDecoder | None = None
        self._received: Callable[[bytes], None] | None = None
        self._refused: Callable[[RefusedError], None] | None = None
        self._arriving: Callable[[int], None] | None = None
        self.error: RefusedError | None = None
        self.is_wanted = False

    def begin(
        self,
        limit: int,
        coding: str,
        received: Callable[[bytes], None],
        refused: Callable[[RefusedError], None],
        arriving: Callable[[int], None],
    ) -> None:
        self.is_wanted = True
        self._limit = limit
        self._coding = coding
        self._received = received
        self._refused = refused
        self._arriving = arriving
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
            except RemoteProtocolError as error:
                self.error = error
                return b""
            if done is None:
                return None
            self._chunks = [done[0]]
            return done[1]
        self._chunks.append(data[: self._left])
        self._left -= len(self._chunks[-1])
        return None if self._left else data[len(self._chunks[-1]) :]

    def waits_on(self, nbytes: int) -> None:
        """So much has come, and it is not whole."""
        if self._arriving is not None:
            self._arriving(nbytes + PIECE_OVERHEAD_BYTES)

    def finish(self) -> None:
        if self._received is None or self._refused is None:
            return
        if self.error is not None:
            self._refused(self.error)
            return
        try:
            body = inflate(self._coding, b"".join(self._chunks), self._limit)
        except RemoteProtocolError as error:
            self._refused(error)
            return
        self._received(body)


def awaits_continue(request: HttpRequest) -> bool:
    """Whether the peer sends the body only when it is asked to. Spec: RFC 9110, section 10.1.1."""
    return request.http_version >= (1, 1) and request.headers.get("expect", "").lower() == "100-continue"


def too_large(limit: int) -> RequestRefused:
    return RequestRefused(catalogue.BODY_TOO_LARGE, limit=limit)


def too_slow() -> RequestRefused:
    return RequestRefused(catalogue.REQUEST_TIMEOUT)


def unknown_coding() -> RequestRefused:
    return RequestRefused(catalogue.UNKNOWN_CODING, allowed=ACCEPTED)

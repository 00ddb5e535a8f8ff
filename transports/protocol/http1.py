"""HTTP/1.x as far as the engine's path needs it: request heads, chunked bodies, response heads.

Strict on purpose: what two parsers could read differently is refused, since a proxy may stand before us.
Spec: RFC 9112.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from .. import catalogue
from ..errors import RemoteProtocolError

#: Request line and headers together. Browsers with large cookies stay below 8 KiB.
MAX_HEAD_BYTES: Final = 16 * 1024
MAX_TARGET_BYTES: Final = 8 * 1024

# Over heads decoded as Latin-1: a character is a byte.
_LINE = r"([A-Z]{1,16}) ([\x21-\x7e]+) HTTP/1\.([01])"
_FIELD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+"
_REQUEST_LINE = re.compile(_LINE)
_HEADER = re.compile(_FIELD)
_HEAD = re.compile(rf"{_LINE}(?:\r\n{_FIELD})*+")
_BARE_LINE_END = re.compile(rb"(?<!\r)\n")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_MAX_CHUNK_LINE = 1024
_SINGLE = frozenset(("host", "content-length", "transfer-encoding", "sec-websocket-key", "origin", "upgrade"))

#: Names as clients and proxies spell them. Who finds its name here keeps no text of its own for it.
_SPELLINGS = {
    spelling: spelling.lower()
    for name in (
        "Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Connection", "Content-Length", "Content-Type",
        "Cookie", "Forwarded", "Host", "Origin", "Pragma", "Referer", "Sec-Fetch-Dest", "Sec-Fetch-Mode",
        "Sec-Fetch-Site", "Sec-WebSocket-Extensions", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Upgrade",
        "User-Agent", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP",
    )
    for spelling in (name, name.lower())
}  # fmt: skip

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class RequestHead(NamedTuple):
    method: str
    target: str
    http_version: tuple[int, int]
    headers: dict[str, str]

    @property
    def keeps_alive(self) -> bool:
        """Whether the peer wants the connection to stay. Spec: RFC 9112, section 9.3."""
        options = self.headers.get("connection", "").lower()
        return "close" not in options if self.http_version == (1, 1) else "keep-alive" in options


class BodyFraming(NamedTuple):
    """How the request's body is delimited: ``length`` bytes, or in chunks."""

    length: int
    chunked: bool


_NO_BODY: Final = BodyFraming(0, False)
_IN_CHUNKS: Final = BodyFraming(0, True)


def has_bare_line_end(data: bytes) -> bool:
    """Whether a line ends in LF alone: such a head would never end. Spec: RFC 9112, section 2.2."""
    return b"\n" in data and _BARE_LINE_END.search(data) is not None


def add_header(headers: dict[str, str], name: str, value: str) -> None:
    """Put a header under its lower-case ``name``, joined with an earlier one of that name.

    Spec: RFC 9110, section 5.3; RFC 9113, section 8.2.3 for cookies.
    """
    if name in headers:
        value = headers[name] + ("; " if name == "cookie" else ", ") + value
    headers[name] = value


def parse_head(head: bytes) -> RequestHead:
    """A request's head, without the empty line that ends it.

    Raises: RemoteProtocolError.
    """
    text = head.decode("latin-1")
    lines = text.split("\r\n")
    # All of it at once; only where that fails line by line, to tell what is wrong with the first that is.
    match = _HEAD.fullmatch(text)
    is_sound = match is not None
    if match is None:
        match = _REQUEST_LINE.fullmatch(lines[0])
    if match is None:
        raise RemoteProtocolError(catalogue.BAD_REQUEST_LINE)
    method, target, minor = match.groups()
    if len(target) > MAX_TARGET_BYTES:
        raise RemoteProtocolError(catalogue.TARGET_TOO_LONG, limit=MAX_TARGET_BYTES)
    headers: dict[str, str] = {}
    del lines[0]
    for line in lines:
        if not is_sound and _HEADER.fullmatch(line) is None:
            raise RemoteProtocolError(catalogue.BAD_HEADER)
        spelling, _, value = line.partition(":")
        name = _SPELLINGS.get(spelling) or spelling.lower()
        if name not in headers:
            headers[name] = value.strip(" \t")
        elif name in _SINGLE:
            raise RemoteProtocolError(catalogue.REPEATED_HEADER, name=name)
        else:
            add_header(headers, name, value.strip(" \t"))
    if minor == "0":
        return RequestHead(method, target, (1, 0), headers)
    if "host" not in headers:
        raise RemoteProtocolError(catalogue.NO_HOST)
    return RequestHead(method, target, (1, 1), headers)


def body_framing(head: RequestHead) -> BodyFraming:
    """Spec: RFC 9112, section 6.3.

    Raises: RemoteProtocolError for Content-Length beside Transfer-Encoding, for a length that is not ASCII
        digits, and for any coding but ``chunked``.
    """
    length = head.headers.get("content-length")
    coding = head.headers.get("transfer-encoding")
    if coding is not None:
        if length is not None or head.http_version == (1, 0) or coding.lower() != "chunked":
            raise RemoteProtocolError(catalogue.BAD_FRAMING)
        return _IN_CHUNKS
    if length is None:
        return _NO_BODY
    if not (length.isascii() and length.isdigit() and len(length) <= 18):
        raise RemoteProtocolError(catalogue.BAD_LENGTH)
    return BodyFraming(int(length), False)


class ChunkedDecoder:
    """A chunked body of at most ``limit`` bytes; trailers are read and dropped.

    Chunk extensions and trailers may take as much again, and ``MAX_HEAD_BYTES`` more.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._body = bytearray()
        self._pending = bytearray()
        self._left = 0  # bytes of the current chunk still to come
        self._overhead = limit + MAX_HEAD_BYTES  # bytes that extensions and trailers may still take
        self._state = "size"

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The body and the bytes after it, once complete.

        Raises: RemoteProtocolError.
        """
        pending = self._pending
        pending += data
        while True:
            if self._state == "data":
                part = pending[: self._left]
                self._body += part
                del pending[: len(part)]
                self._left -= len(part)
                if self._left or len(pending) < 2:
                    return None
                if pending[:2] != b"\r\n":
                    raise RemoteProtocolError(catalogue.BAD_BODY, fault="chunk does not end where it said")
                del pending[:2]
                self._state = "size"
            line_end = pending.find(b"\r\n")
            if line_end > _MAX_CHUNK_LINE or (line_end < 0 and len(pending) > _MAX_CHUNK_LINE + 1):
                raise RemoteProtocolError(catalogue.BAD_BODY, fault="chunk header or trailer too long")
            if b"\n" in (pending if line_end < 0 else pending[:line_end]):
                raise RemoteProtocolError(catalogue.BAD_BODY, fault="chunk header or trailer does not end in CR LF")
            if line_end < 0:
                return None
            line = bytes(pending[:line_end])
            del pending[: line_end + 2]
            if self._state == "size":
                match = _CHUNK_SIZE.fullmatch(line)
                if match is None:
                    raise RemoteProtocolError(catalogue.BAD_BODY, fault="malformed chunk size")
                self._overhead -= line_end - len(match[1])
                self._left = int(match[1], 16)
                if len(self._body) + self._left > self._limit:
                    raise RemoteProtocolError(catalogue.BODY_TOO_LARGE, limit=self._limit)
                self._state = "data" if self._left else "trailers"
            elif not line:
                return bytes(self._body), bytes(pending)
            else:
                self._overhead -= line_end
            if self._overhead < 0:
                raise RemoteProtocolError(catalogue.BAD_BODY, fault="chunk extensions and trailers too long")


def encode_response_head(status: int, headers: Sequence[tuple[str, str]]) -> bytes:
    """Status line and headers, with the empty line that ends them.

    Raises: ValueError for a header that would break out of its line.
    """
    text = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if text.count("\r") != len(headers) or text.count("\n") != len(headers) or "\0" in text:
        raise ValueError("control character in a response header")
    return _STATUS_LINES[status] + text.encode("latin-1") + b"\r\n"


def encode_chunk(data: bytes) -> bytes:
    """One chunk of a chunked response."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"

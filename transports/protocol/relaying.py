"""HTTP/1.1 as one worker passes it on to another: requests with a word about the client, answers as they come.

Before each request stands a line of its own, ``PEER https 192.0.2.7``: the scheme and the address of the connection
that the request came over. No client can write it, since it is no header. ``RELEASE`` and a session's id, also a line,
asks that what waits for the session's messages be answered now, since the worker that relays it is about to end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from .. import catalogue
from ..errors import RemoteProtocolError

#: Of an answer's head. Ours stay below one.
MAX_ANSWER_HEAD_BYTES: Final = 64 * 1024
_MAX_CHUNK_LINE: Final = 4096

_PEER_LINE = re.compile(rb"PEER (https?) ([0-9A-Za-z.:%_-]{1,64})")
_NO_ADDRESS: Final = "-"
RELEASE: Final = b"RELEASE "
_SESSION_ID = re.compile(rb"GET [^ ?]+\?(?:[^ ]*&)?sid=([0-9A-Za-z_-]+)[& ]")
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")


def encode_peer_line(peer: str, is_secure: bool) -> bytes:
    """``peer``: an IP address; empty where the connection has none."""
    return f"PEER {'https' if is_secure else 'http'} {peer or _NO_ADDRESS}\r\n".encode("latin-1")


def parse_peer_line(line: bytes) -> tuple[str, bool]:
    """Address and whether the connection is encrypted. Raises: RemoteProtocolError."""
    match = _PEER_LINE.fullmatch(line)
    if match is None:
        raise RemoteProtocolError(catalogue.BAD_REQUEST_LINE)
    peer = match[2].decode("ascii")
    return "" if peer == _NO_ADDRESS else peer, match[1] == b"https"


def encode_release_line(session_id: str) -> bytes:
    return RELEASE + session_id.encode("ascii") + b"\r\n"


def waiting_session(head: bytes) -> str | None:
    """Whose messages the request waits for, by its head as it goes over a link; None where it waits for none."""
    match = _SESSION_ID.match(head, head.find(b"\n") + 1)
    return None if match is None else match[1].decode("ascii")


def encode_request_head(method: str, target: str, version: tuple[int, int], headers: Mapping[str, str]) -> bytes:
    """Request line and headers, with the empty line that ends them.

    Raises: ValueError for one that would break out of its line.
    """
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    text = f"{method} {target} HTTP/{version[0]}.{version[1]}\r\n{text}"
    if text.count("\r") != len(headers) + 1 or text.count("\n") != len(headers) + 1 or "\0" in text:
        raise ValueError("control character in a request's head")
    return text.encode("latin-1") + b"\r\n"


class AnswerHead(NamedTuple):
    """Headers have lower-case names, in their order."""

    status: int
    reason: str
    headers: list[tuple[str, str]]

    def header(self, name: str) -> str:
        """All values of that name; empty where there is none."""
        return ", ".join([value for each, value in self.headers if each == name])

    @property
    def closes(self) -> bool:
        """Whether the other end closes the connection behind this answer."""
        return "close" in self.header("connection").lower()

    def encode(self, *, keeps_alive: bool, is_old: bool) -> bytes:
        """For the client: ``is_old`` says that it speaks HTTP/1.0."""
        lines = [f"HTTP/1.1 {self.status} {self.reason}"]
        lines += [f"{name}: {value}" for name, value in self.headers if name != "connection"]
        if not keeps_alive:
            lines.append("Connection: close")
        elif is_old:
            lines.append("Connection: keep-alive")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def parse_answer_head(head: bytes) -> AnswerHead:
    """An answer's head, without the empty line that ends it. Raises: ValueError."""
    lines = head.decode("latin-1").split("\r\n")
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise ValueError("malformed status line")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or "\n" in line:
            raise ValueError("malformed header")
        headers.append((name.lower(), value.strip(" \t")))
    return AnswerHead(int(match[1]), match[2] or "", headers)


class BodyScanner:
    """Finds where a body ends that is passed on as it stands.

    ``length`` of -1: it ends with its connection.
    """

    def __init__(self, length: int, *, chunked: bool = False) -> None:
        self._chunked = chunked
        self._left = 0 if chunked else length  # of the body, or of a chunk with its line end
        self._line = b""
        self._is_in_trailers = False
        self.is_complete = not chunked and length == 0

    @property
    def ends_with_connection(self) -> bool:
        return self._left < 0

    def feed(self, data: bytes) -> int:
        """How many bytes of ``data`` are the body's. Raises: ValueError where it is malformed."""
        if self.is_complete:
            return 0
        if not self._chunked:
            if self._left < 0:
                return len(data)
            taken = min(self._left, len(data))
            self._left -= taken
            self.is_complete = not self._left
            return taken
        position = 0
        while position < len(data) and not self.is_complete:
            if self._left:
                taken = min(self._left, len(data) - position)
                self._left -= taken
                position += taken
                continue
            end = data.find(b"\n", position) + 1
            if not end:
                self._line += data[position:]
                if len(self._line) > _MAX_CHUNK_LINE:
                    raise ValueError("chunk header or trailer too long")
                return len(data)
            self._end_line(self._line + data[position:end])
            self._line = b""
            position = end
        return position

    def _end_line(self, line: bytes) -> None:
        if self._is_in_trailers:
            self.is_complete = line == b"\r\n"
            return
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise ValueError("malformed chunk size")
        size = int(match[1], 16)
        if size:
            self._left = size + 2
        else:
            self._is_in_trailers = True


class ChunkedPieces:
    """What is in the chunks of a body that a ``BodyScanner`` has found to be sound."""

    def __init__(self) -> None:
        self._left = 0  # of a chunk, without its line end
        self._line = b""

    def feed(self, data: bytes) -> list[bytes]:
        pieces = []
        position = 0
        while position < len(data):
            if self._left:
                piece = data[position : position + self._left]
                self._left -= len(piece)
                position += len(piece)
                pieces.append(piece)
                continue
            end = data.find(b"\n", position) + 1
            self._line += data[position : end or len(data)]
            if not end:
                break
            position = end
            match = _CHUNK_SIZE.fullmatch(self._line)  # trailers, and the line end of a chunk, are no match
            self._left = int(match[1], 16) if match is not None else 0
            self._line = b""
        return pieces


def answer_body(method: str, head: AnswerHead) -> BodyScanner:
    """How the body of this answer ends. Spec: RFC 9112, section 6.3. Raises: ValueError."""
    if method == "HEAD" or head.status in (204, 304):
        return BodyScanner(0)
    if "chunked" in head.header("transfer-encoding").lower():
        return BodyScanner(0, chunked=True)
    length = head.header("content-length")
    if not length:
        return BodyScanner(-1)
    if not (length.isascii() and length.isdigit() and len(length) <= 18):
        raise ValueError("malformed Content-Length")
    return BodyScanner(int(length))

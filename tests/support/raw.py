"""Clients that show every byte: HTTP, Engine.IO over it, and WebSocket.

Nothing here corrects, retries or hides what the server does. Every read has a time limit.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from .waiting import timeout_s

SEPARATOR = "\x1e"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@dataclass
class Head:
    """Status line and headers as they came; ``headers`` with lower-case names, repeated ones in a list."""

    raw: bytes
    version: str
    status: int
    headers: dict[str, str]
    repeated: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Response:
    head: Head
    body: bytes

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def headers(self) -> dict[str, str]:
        return self.head.headers

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


def _parse_head(raw: bytes) -> Head:
    status_line, *lines = raw[:-4].decode("latin-1").split("\r\n")
    version, status, _ = status_line.split(" ", 2)
    headers: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    for line in lines:
        name, value = line.split(": ", 1)
        headers[name.lower()] = value
        repeated.setdefault(name.lower(), []).append(value)
    return Head(raw, version, int(status), headers, repeated)


class Connection:
    """One TCP connection."""

    #: How long a read may take.
    patience_s = 10.0

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext | None = None) -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24, ssl=tls)
        return cls(reader, writer)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        version: str = "1.1",
    ) -> None:
        """Send a request and read nothing."""
        lines = [f"{method} {target} HTTP/{version}", "Host: test.example"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))

    async def read_head(self) -> Head:
        return _parse_head(await self._in_time(self.reader.readuntil(b"\r\n\r\n")))

    async def read_exactly(self, count: int) -> bytes:
        return await self._in_time(self.reader.readexactly(count))

    async def read_to_end(self) -> bytes:
        return await self._in_time(self.reader.read())

    async def read_chunk(self) -> bytes:
        """One chunk of a chunked body; empty for the last, whose end is read too."""
        size = int(await self._in_time(self.reader.readuntil(b"\r\n")), 16)
        data = await self.read_exactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def read_response(self) -> Response:
        head = await self.read_head()
        if head.headers.get("transfer-encoding") == "chunked":
            body = b""
            while chunk := await self.read_chunk():
                body += chunk
        elif head.status in (204, 304) or head.status < 200:
            body = b""
        elif "content-length" in head.headers:
            body = await self.read_exactly(int(head.headers["content-length"]))
        else:
            body = await self.read_to_end()
        return Response(head, body)

    async def has_ended(self) -> bool:
        """Wait for the server to close; False where bytes come instead."""
        try:
            return await self._in_time(self.reader.read(1)) == b""
        except ConnectionError:
            return True

    async def _in_time(self, awaitable: Any) -> Any:
        return await asyncio.wait_for(awaitable, timeout_s(self.patience_s))

    def abort(self) -> None:
        """Drop the connection without a word."""
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class EngineClient:
    """Engine.IO by hand, one connection per request.

    ``path``: of the engine, as ``/engine.io/``. ``tls``: for encrypted connections.
    """

    def __init__(self, port: int, path: str = "/engine.io/", tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.port = port
        self.path = path

    def target(self, **parameters: Any) -> str:
        return f"{self.path}?{urlencode({'EIO': 4, **parameters})}"

    async def request(
        self, method: str, target: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Response:
        async with await Connection.open(self.port, self.tls) as connection:
            await connection.request(method, target, headers=headers, body=body)
            return await connection.read_response()

    async def begin(self, method: str, target: str, **options: Any) -> Connection:
        """Send a request and leave it waiting."""
        connection = await Connection.open(self.port, self.tls)
        await connection.request(method, target, **options)
        return connection

    async def handshake(self, **parameters: Any) -> dict[str, Any]:
        """The contents of the open packet of a polling handshake."""
        response = await self.request("GET", self.target(transport="polling", **parameters))
        assert response.status == 200, response
        first, *rest = response.text.split(SEPARATOR)
        assert first[0] == "0", response
        assert not rest, response
        handshake: dict[str, Any] = json.loads(first[1:])
        return handshake

    async def get(self, sid: str, transport: str = "polling", **parameters: Any) -> Response:
        return await self.request("GET", self.target(transport=transport, sid=sid, **parameters))

    async def post(
        self,
        sid: str,
        body: str | bytes,
        transport: str = "polling",
        headers: Mapping[str, str] | None = None,
        **parameters: Any,
    ) -> Response:
        data = body.encode() if isinstance(body, str) else body
        target = self.target(transport=transport, sid=sid, **parameters)
        return await self.request("POST", target, body=data, headers=headers)

    async def stream(self, sid: str | None = None, *, version: str = "1.1", **parameters: Any) -> Stream:
        """An xhr-streaming response, its head read."""
        known = {} if sid is None else {"sid": sid}
        target = self.target(transport="xhr-streaming", **known, **parameters)
        connection = await self.begin("GET", target, version=version)
        return Stream(connection, await connection.read_head())

    async def websocket(
        self, sid: str | None = None, *, headers: Mapping[str, str] | None = None, **parameters: Any
    ) -> WebSocket:
        """A WebSocket, its handshake done."""
        known = {} if sid is None else {"sid": sid}
        connection = await self.begin(
            "GET",
            self.target(transport="websocket", **known, **parameters),
            headers={**websocket_headers(), **(headers or {})},
        )
        head = await connection.read_head()
        assert head.status == 101, head
        return WebSocket(connection, head)


def websocket_headers(key: str | None = None) -> dict[str, str]:
    return {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key or base64.b64encode(os.urandom(16)).decode(),
    }


class Stream:
    """An open xhr-streaming response."""

    def __init__(self, connection: Connection, head: Head) -> None:
        self.connection = connection
        self.head = head
        self.is_chunked = head.headers.get("transfer-encoding") == "chunked"
        #: Bytes of the body that have come so far.
        self.body = b""
        self._records: list[str] = []
        self._partial = b""
        self.has_ended = False

    async def _read_more(self) -> None:
        if self.is_chunked:
            data = await self.connection.read_chunk()
        else:
            data = await self.connection._in_time(self.connection.reader.read(65536))
        if not data:
            self.has_ended = True
            return
        self.body += data
        *records, self._partial = (self._partial + data).split(SEPARATOR.encode())
        self._records += [record.decode() for record in records]

    async def record(self) -> str:
        """The next record. Raises: EOFError where the response ends, between two records, instead."""
        while not self._records:
            if self.has_ended:
                assert self._partial == b"", "the response ended inside a record"
                raise EOFError
            await self._read_more()
        return self._records.pop(0)

    async def rest(self) -> list[str]:
        """All records up to the end of the response."""
        found = []
        while True:
            try:
                found.append(await self.record())
            except EOFError:
                return found

    async def opening(self) -> dict[str, Any]:
        record = await self.record()
        assert record[0] == "0", record
        handshake: dict[str, Any] = json.loads(record[1:])
        return handshake

    def abort(self) -> None:
        self.connection.abort()

    async def close(self) -> None:
        await self.connection.close()


@dataclass
class Frame:
    """A frame of the server: whole, or the test fails."""

    opcode: int
    payload: bytes
    raw: bytes

    @property
    def text(self) -> str:
        assert self.opcode == TEXT, self
        return self.payload.decode()

    @property
    def close_code(self) -> int:
        assert self.opcode == CLOSE, self
        code: int = struct.unpack("!H", self.payload[:2])[0]
        return code


class WebSocket:
    """An open WebSocket, client side."""

    def __init__(self, connection: Connection, head: Head) -> None:
        self.connection = connection
        self.head = head

    @staticmethod
    def encode(opcode: int, payload: bytes, *, is_final: bool = True, is_masked: bool = True) -> bytes:
        size = len(payload)
        mask_bit = 0x80 if is_masked else 0
        head = bytes([(0x80 if is_final else 0) | opcode])
        if size < 126:
            head += bytes([mask_bit | size])
        elif size < 65536:
            head += bytes([mask_bit | 126]) + struct.pack("!H", size)
        else:
            head += bytes([mask_bit | 127]) + struct.pack("!Q", size)
        if not is_masked:
            return head + payload
        mask = os.urandom(4)
        return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))

    async def send(self, data: str | bytes) -> None:
        if isinstance(data, str):
            await self.send_frame(TEXT, data.encode())
        else:
            await self.send_frame(BINARY, data)

    async def send_frame(self, opcode: int, payload: bytes, **options: Any) -> None:
        await self.connection.send(self.encode(opcode, payload, **options))

    async def frame(self) -> Frame:
        head = await self.connection.read_exactly(2)
        assert head[0] & 0x70 == 0, "a reserved bit is set"
        assert head[0] & 0x80, "a server frame is fragmented"
        assert not head[1] & 0x80, "a server frame is masked"
        size = head[1]
        if size == 126:
            extra = await self.connection.read_exactly(2)
            size = struct.unpack("!H", extra)[0]
            assert size >= 126, "length not in its shortest form"
        elif size == 127:
            extra = await self.connection.read_exactly(8)
            size = struct.unpack("!Q", extra)[0]
            assert size >= 65536, "length not in its shortest form"
        else:
            extra = b""
        payload = await self.connection.read_exactly(size)
        return Frame(head[0] & 0x0F, payload, head + extra + payload)

    async def text(self) -> str:
        return (await self.frame()).text

    async def binary(self) -> bytes:
        frame = await self.frame()
        assert frame.opcode == BINARY, frame
        return frame.payload

    async def opening(self) -> dict[str, Any]:
        text = await self.text()
        assert text[0] == "0", text
        handshake: dict[str, Any] = json.loads(text[1:])
        return handshake

    async def close_code(self) -> int:
        """The code of the server's close frame, what came before it skipped; the answer is sent, and the
        connection must end.
        """
        while (frame := await self.frame()).opcode != CLOSE:
            pass
        await self.send_frame(CLOSE, frame.payload)
        assert await self.connection.has_ended()
        return frame.close_code

    def abort(self) -> None:
        self.connection.abort()

    async def close(self) -> None:
        await self.connection.close()


@asynccontextmanager
async def closing(*things: Any) -> AsyncIterator[None]:
    """Close connections, streams and sockets at the end."""
    try:
        yield
    finally:
        for thing in things:
            await thing.close()

"""A connection in memory that keeps asyncio's promises, and a reader that holds the server to those of HTTP and
WebSocket.
"""

from __future__ import annotations

import asyncio
from typing import Any

from transports.protocol import frames

#: What the kernel takes of a peer that does not read, before the protocol is told to pause.
HIGH_WATER_BYTES = 4096


class Wire(asyncio.Transport):
    """``written``: everything the server has sent."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Any) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = bytearray()
        self._loop = loop
        self._protocol = protocol
        self._buffered = 0
        self._is_jammed = False
        self._is_paused = False
        self._is_closing = False
        self._is_lost = False
        self.was_cut = False
        self._has_written_eof = False
        protocol.connection_made(self)

    # -- the peer's side -------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return not self._is_lost

    def receive(self, data: bytes) -> None:
        """The peer has sent ``data``."""
        if data and not self._is_closing:
            self._protocol.data_received(data)

    def end(self) -> None:
        """The peer has closed its side."""
        if not self._is_closing and not self._protocol.eof_received():
            self.was_cut = True
            self.close()

    def lose(self, error: Exception | None) -> None:
        """The connection is gone."""
        if not self._is_lost:
            self._is_closing = True
            self.was_cut = True
            self._end(error)

    def jam(self) -> None:
        """The peer reads no more."""
        self._is_jammed = True

    def unjam(self) -> None:
        """The peer has read everything, and goes on doing so."""
        self._is_jammed = False
        self._buffered = 0
        if self._is_closing:
            if not self._is_lost:
                self._loop.call_soon(self._end, None)
        elif self._is_paused:
            self._is_paused = False
            self._protocol.resume_writing()

    def _end(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._protocol.connection_lost(error)

    # -- the server's side -----------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        assert not self._has_written_eof, "written behind the end"
        if self._is_lost or self._is_closing:
            return
        self.written += data
        if self._is_jammed:
            self._buffered += len(data)
            if self._buffered > HIGH_WATER_BYTES and not self._is_paused:
                self._is_paused = True
                self._protocol.pause_writing()

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self._buffered:
                self._loop.call_soon(self._end, None)

    def abort(self) -> None:
        self.was_cut = True
        if not self._is_lost:
            self._is_closing = True
            self._buffered = 0
            self._loop.call_soon(self._end, None)

    def is_closing(self) -> bool:
        return self._is_closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._has_written_eof = True

    def get_write_buffer_size(self) -> int:
        return self._buffered

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The limit here is always the same."""

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol


class ServerFrame:
    """A frame of the server: final, unmasked, of the shortest form. ``size`` is that of its encoding."""

    def __init__(self, data: bytes) -> None:
        assert data[0] & 0xF0 == 0x80, "fragmented, or a reserved bit is set"
        assert not data[1] & 0x80, "masked"
        length, head = data[1], 2
        if length == 126:
            length, head = int.from_bytes(data[2:4], "big"), 4
            assert length > 125
        elif length == 127:
            length, head = int.from_bytes(data[2:10], "big"), 10
            assert length > 65535
        self.opcode = data[0] & 0x0F
        self.payload = data[head : head + length]
        self.size = head + length
        self.is_whole = len(data) >= self.size


def check_written(data: bytes, *, was_cut: bool) -> None:
    """Whole responses, then perhaps a WebSocket's frames, the close frame the last.

    ``was_cut``: what was being sent may be missing its end.
    """
    while data:
        head, end, rest = data.partition(b"\r\n\r\n")
        assert end, "a head without its end"
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = status_line.split(" ", 2)
        assert version == "HTTP/1.1", status_line
        headers = {}
        for line in lines:
            name, colon, value = line.partition(": ")
            assert colon, line
            assert name.lower() not in headers or name == "Vary", f"{name} is given twice"
            headers[name.lower()] = value
        if status == "101":
            check_frames(rest)
            return
        if headers.get("transfer-encoding") == "chunked":
            data = check_chunks(rest, was_cut=was_cut)
        elif "content-length" in headers:
            size = int(headers["content-length"])
            assert len(rest) >= size
            data = rest[size:]
        elif headers.get("connection") == "close" and status == "200":
            return  # to the end of the connection
        else:
            assert status in ("100", "204"), status_line
            data = rest


def check_chunks(data: bytes, *, was_cut: bool) -> bytes:
    """What follows a chunked body, which must be made of whole records."""
    while data:
        line, _, rest = data.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            assert rest[:2] == b"\r\n"
            return rest[2:]
        assert rest[size : size + 2] == b"\r\n"
        assert rest[:size].endswith(b"\x1e"), "a chunk ends inside a record"
        data = rest[size + 2 :]
    assert was_cut, "a streaming response without its end"
    return b""


def check_frames(data: bytes) -> None:
    while data:
        frame = ServerFrame(data)
        assert frame.is_whole
        data = data[frame.size :]
        assert frame.opcode != frames.CLOSE or not data, "a frame behind the close frame"
        if frame.opcode == frames.TEXT:
            assert frame.payload.decode()

"""The network of the model: wires between the clients and the listener's real protocols, without a kernel.

A wire is an ``asyncio.Transport`` for the server. What the server writes goes through three places::

    backlog ──(kernel takes it, unless jammed)──► in flight ──(client reads)──► read

A cut loses what was not read, whichever place it was in. What was written is decoded as it is written, so that the
test knows what each record was and how far it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.model.wire_format import Answer, AnswerDecoder

HIGH_WATER = 2048


class Wire(asyncio.Transport):
    """One connection. The upper half is what the server calls, the lower half what the client does."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Any) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._decoder = AnswerDecoder()
        self._backlog = 0
        self._written = 0
        self._is_paused = False
        self._is_closing = False
        self._is_half_closed = False
        self._is_lost = False
        self._is_read = True
        self._unread = b""
        self.is_jammed = False
        self.has_left = False  # the client has gone away
        self.dropped_backlog = 0  # bytes that an abort threw away
        self.faults: list[str] = []
        protocol.connection_made(self)

    # -- for the server --------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        if self._is_closing or self._is_half_closed:
            self.faults.append(f"written after the end: {bytes(data)!r}")
            return
        if self._is_lost or self.has_left or not data:
            return
        self._written += len(data)
        self._decoder.feed(bytes(data))
        if self.is_jammed:
            self._backlog += len(data)
            if self._backlog > HIGH_WATER and not self._is_paused:
                self._is_paused = True
                self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self._backlog

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Ours are smaller than any that are asked for, so that short histories reach them."""

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    def is_closing(self) -> bool:
        return self._is_closing or self._is_lost

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self._is_read = False

    def resume_reading(self) -> None:
        self._is_read = True
        self._loop.call_soon(self._read)

    def _read(self) -> None:
        data, self._unread = self._unread, b""
        if data:
            self.send(data)

    def write_eof(self) -> None:
        self._is_half_closed = True

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self._backlog:
                self._lose(None)

    def abort(self) -> None:
        self._is_closing = True
        self.dropped_backlog += self._backlog
        self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        self._is_closing = True
        if not self._is_lost:
            self._is_lost = True
            self._loop.call_soon(self._tell, error)

    def _tell(self, error: Exception | None) -> None:
        self._protocol.connection_lost(error)

    # -- for the client --------------------------------------------------------------------------------

    @property
    def backlog(self) -> int:
        """Bytes that the kernel has not taken."""
        return self._backlog

    @property
    def is_paused(self) -> bool:
        return self._is_paused

    @property
    def is_usable(self) -> bool:
        """Whether another request may be sent on it."""
        return not (self._is_closing or self._is_half_closed or self._is_lost or self.has_left or self.is_jammed)

    @property
    def is_dead(self) -> bool:
        """Whether the server has no connection any more."""
        return self._is_lost

    @property
    def arrived(self) -> int:
        """How far the bytes have come that the client can read."""
        return self._written - self._backlog

    def expect(self, answer: Answer) -> None:
        """The next response on this wire is ``answer``."""
        self._decoder.expect(answer)

    def send(self, data: bytes) -> None:
        """What the client sends; a server that has closed does not read it."""
        if not self._is_read:
            self._unread += data
        elif not (self._is_closing or self._is_lost or self.has_left):
            self._protocol.data_received(data)

    def jam(self) -> None:
        """The client's side takes nothing any more."""
        self.is_jammed = True

    def unjam(self) -> None:
        self.is_jammed = False
        if self._is_lost:
            return
        self._backlog = 0
        if self._is_closing:
            self._lose(None)
        elif self._is_paused:
            self._is_paused = False
            self._protocol.resume_writing()

    def hang_up(self, *, reset: bool = False) -> None:
        """The client, or something on the way, closes the connection."""
        if self.has_left:
            return
        self.has_left = True
        if self._is_lost:
            return
        if reset or self._backlog:
            self._lose(ConnectionResetError("reset by the network"))
        elif not self._is_closing and not self._protocol.eof_received():
            self.close()


class Network:
    """All wires, and who listens."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: Callable[[], Any]) -> None:
        self._loop = loop
        self._listener = listener
        self.wires: list[Wire] = []

    def connect(self) -> Wire:
        wire = Wire(self._loop, self._listener())
        self.wires.append(wire)
        return wire

    def faults(self) -> list[str]:
        return [fault for wire in self.wires for fault in wire.faults]

"""Two connections made one: what comes in at either goes out at the other."""

from __future__ import annotations

import asyncio


class _Half(asyncio.Protocol):
    """One end; ``other`` is where its bytes go."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.other: _Half

    def data_received(self, data: bytes) -> None:
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        transport = self.other.transport
        if transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()
            return self.transport.get_extra_info("sslcontext") is None
        return False  # TLS has no half-closed connections

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        # What was received before goes out; nobody will answer it.
        self.other.transport.close()


def splice(first: asyncio.Transport, second: asyncio.Transport) -> None:
    """Pass everything on between the two until one of them ends. A side that is not read stops the other."""
    ends = [(first, _Half()), (second, _Half())]
    for (transport, half), (_, other) in zip(ends, reversed(ends), strict=True):
        half.transport = transport
        half.other = other
    for transport, half in ends:
        transport.set_protocol(half)
    for transport, _ in ends:
        if transport.is_closing():
            first.close()
            second.close()
        elif not transport.is_reading():
            transport.resume_reading()

"""Writing to a connection's socket past its transport, while the transport holds nothing.

A loop's transport queues each write, and looks at its queue when the turn ends; for a thousand small messages that
costs more than their system calls. With the accelerator a protocol sends at once, and gives the transport only
what the socket did not take; from then on everything goes to the transport, until it holds nothing any more. So
nothing is overtaken. Errors are the transport's to find: it gets the bytes that were not sent.

Without the accelerator, on TLS and on loops that are not known, everything goes to the transport.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from .accelerator import accelerator

logger = logging.getLogger("tidegate.socket_writer")

#: No descriptor: the transport has to be asked.
NO_FD: Final = -1

#: Whose transports write to the socket itself, from a buffer that ``get_write_buffer_size`` tells the size of.
_KNOWN_LOOPS: Final = frozenset(("asyncio.selector_events", "uvloop.loop"))


class SocketWriter(asyncio.Protocol):
    """A protocol that writes with ``send``.

    ``direct_fd``: descriptor to which may be written at this moment, or ``NO_FD``. Whoever writes to it gives what
    was not taken to ``send_rest``.
    """

    __slots__ = ("_fd", "_transport", "direct_fd")

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._fd = NO_FD
        self.direct_fd = NO_FD

    def take_transport(self, transport: asyncio.Transport) -> None:
        """Write to ``transport`` from now on."""
        self._transport = transport
        self._fd = _descriptor(transport)
        self._look()

    def drop_transport(self) -> asyncio.Transport | None:
        """Write no more. Returns the transport, which is the caller's now."""
        transport = self._transport
        self._transport = None
        self._fd = self.direct_fd = NO_FD
        return transport

    def send(self, data: bytes) -> None:
        """Write ``data`` behind everything that was written before."""
        if self.direct_fd == NO_FD:
            self._look()
        fd = self.direct_fd
        if fd == NO_FD:
            if self._transport is not None:
                self._transport.write(data)
            return
        sent = _send(fd, data)
        if sent != len(data):
            self.send_rest(data, sent)

    def send_rest(self, data: bytes, sent: int) -> None:
        """Of ``data`` the socket has taken ``sent`` bytes."""
        self.direct_fd = NO_FD
        if self._transport is not None:
            self._transport.write(data[sent:])

    def buffered_bytes(self) -> int:
        """What was written and the socket has not taken."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def _look(self) -> None:
        if self._fd != NO_FD and self._transport is not None and not self._transport.get_write_buffer_size():
            self.direct_fd = self._fd


def _descriptor(transport: asyncio.Transport) -> int:
    """Of the socket that ``transport`` writes to unchanged, where its write buffer is all that it holds."""
    if accelerator is None or type(transport).__module__ not in _KNOWN_LOOPS:
        return NO_FD
    sock = transport.get_extra_info("socket")
    if sock is None or transport.get_extra_info("sslcontext") is not None or transport.is_closing():
        return NO_FD
    fd: int = sock.fileno()
    return fd if fd >= 0 else NO_FD


def send_each(writers: Sequence[SocketWriter], fds: list[int], data: list[bytes]) -> None:
    """Write to each of ``writers``, whose ``direct_fd`` is in ``fds``, what is for it in ``data``."""
    for index, sent in _send_each(fds, data) if fds else ():
        try:
            writers[index].send_rest(data[index], sent)
        except Exception:  # a message that was sent in part cannot be followed by another
            logger.exception("the rest of a message could not be written")
            transport = writers[index]._transport
            if transport is not None:
                transport.abort()


def _no_send(fd: int, data: bytes) -> int:
    raise RuntimeError("without the accelerator there is no descriptor to write to")


def _no_send_each(fds: list[int], data: list[bytes]) -> list[tuple[int, int]]:
    raise RuntimeError("without the accelerator there is no descriptor to write to")


_send: Final = _no_send if accelerator is None else accelerator.send
_send_each: Final = _no_send_each if accelerator is None else accelerator.send_each

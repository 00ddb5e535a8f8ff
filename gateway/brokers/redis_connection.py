"""One socket to one Redis server: commands out, values in. Nothing here connects again; who owns it does.

redis-py is not used on purpose: see docs/design/brokers.md.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol, cast

from .redis_options import Address
from .resp import RespError, RespProtocolError, RespReader, encode_command

#: An idle connection whose other end is gone is found out after about half a minute, where round trips do not sooner.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))
_WRITE_BUFFER_BYTES: Final = 256 * 1024
#: How long replies that nobody awaits may lie unread: each would wake the process for nothing but to be counted.
LATER_S: Final = 0.005


class ConnectionLost(ConnectionError):  # noqa: N818 - as the built-in ones
    """The connection ended, or is of no more use; the text says why."""


class Expects(Protocol):
    """Whoever waits for the reply to a command."""

    def reply(self, value: Any) -> None: ...


class Call:
    """A command whose reply somebody awaits."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def reply(self, value: Any) -> None:
        if self.future.done():
            return
        if isinstance(value, RespError):
            self.future.set_exception(value)
            self.future.exception()  # an earlier command of the same write may have failed, and ended the waiting
        else:
            self.future.set_result(value)

    def lost(self, reason: str) -> None:
        if not self.future.done():
            self.future.set_exception(ConnectionLost(reason))
            self.future.exception()  # nobody may be waiting any more


class RedisConnection(asyncio.Protocol):
    """``expected``: who waits for a reply, in the order of the commands. ``on_push`` takes what nobody waits for.

    urgent: the last of ``expected`` whose reply somebody awaits
    """

    def __init__(self, max_string_bytes: int, on_lost: Callable[[str], object] | None = None) -> None:
        self.expected: deque[Expects] = deque()
        self.on_push: Callable[[Any], object] | None = None
        self.on_writable: Callable[[], object] | None = None
        self.on_lost = on_lost
        self.is_paused = False
        self.urgent: Expects | None = None
        self._reads_on: asyncio.TimerHandle | None = None  # while nothing is read
        self._is_due = False  # since then nothing has been read
        self._reader = RespReader(max_string_bytes)
        self._transport: asyncio.Transport | None = None
        self._lost_reason = ""

    def leave_out(self, head: bytes) -> None:
        """Messages of Pub/Sub that begin so need not be pushed, and hardly ever are from now on."""
        self._reader.left_out = head

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES)
        with_options = transport.get_extra_info("socket")
        if with_options is not None and with_options.family in (socket.AF_INET, socket.AF_INET6):
            with_options.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEPALIVE:
                if hasattr(socket, name):
                    with_options.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def connection_lost(self, error: Exception | None) -> None:
        self._ended(str(error) if error else "the server closed the connection")

    def data_received(self, data: bytes) -> None:
        self._is_due = False
        try:
            values = self._reader.feed(data)
        except RespProtocolError as error:
            self.abort(f"what the server sent cannot be read: {error}")
            return
        expected = self.expected
        on_push = self.on_push
        for value in values:
            if on_push is not None:
                on_push(value)
            elif expected:
                waiting = expected.popleft()
                if waiting is self.urgent:
                    self.urgent = None
                waiting.reply(value)
            else:
                self.abort("the server replied to no command")
            if self._lost_reason:
                return

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        if self.on_writable is not None:
            self.on_writable()

    # -- use

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    @property
    def unsent(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def write(self, data: bytes) -> None:
        """Raises: ConnectionLost."""
        if self._transport is None:
            raise ConnectionLost(self._lost_reason or "the connection is closed")
        self._transport.write(data)

    def read_later(self) -> None:
        """Read nothing for ``LATER_S`` at most, unless somebody awaits a reply."""
        transport = self._transport
        if self.urgent is not None or self._reads_on is not None or self._is_due:
            return
        if transport is not None and not transport.is_closing():
            transport.pause_reading()
            self._reads_on = asyncio.get_running_loop().call_later(LATER_S, self._read_due)

    def _read_due(self) -> None:
        # Whoever writes in every turn of the loop would put it off again before anything was read.
        self._is_due = True
        self.read_now()

    def read_now(self) -> None:
        """Read what comes at once, until ``read_later`` is called again."""
        if self._reads_on is not None:
            self._reads_on.cancel()
            self._reads_on = None
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def call(self, *arguments: str | bytes | int) -> asyncio.Future[Any]:
        """A command; its reply. The future raises ``RespError``, or ``ConnectionLost``."""
        waiting = Call()
        try:
            self.write(encode_command(*arguments))
        except ConnectionLost as lost:
            waiting.lost(str(lost))
        else:
            self.expected.append(waiting)
            self.urgent = waiting
            self.read_now()
        return waiting.future

    def abort(self, reason: str) -> None:
        transport = self._transport
        self._ended(reason)
        if transport is not None:
            transport.abort()

    def _ended(self, reason: str) -> None:
        if self._lost_reason:
            return
        self._lost_reason = reason
        self._transport = None
        if self._reads_on is not None:
            self._reads_on.cancel()
            self._reads_on = None
        for waiting in self.expected:
            if isinstance(waiting, Call):
                waiting.lost(reason)
        if self.on_lost is not None:
            self.on_lost(reason)


async def connect(
    address: Address,
    *,
    tls: ssl.SSLContext | None,
    username: str | None,
    password: str | None,
    database: int = 0,
    name: str = "",
    max_string_bytes: int = 1024 * 1024,
    timeout_s: float,
) -> RedisConnection:
    """A connection that has authenticated itself.

    Raises: OSError, TimeoutError, ConnectionLost, RespError.
    """
    loop = asyncio.get_running_loop()
    connection = RedisConnection(max_string_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            if address.path:
                await loop.create_unix_connection(lambda: connection, address.path)
            else:
                await loop.create_connection(lambda: connection, address.host, address.port, ssl=tls)
            steps = []
            if password is not None:
                steps.append(connection.call("AUTH", *([username] if username else []), password))
            if database:
                steps.append(connection.call("SELECT", database))
            if name:
                steps.append(connection.call("CLIENT", "SETNAME", name))
            steps.append(connection.call("PING"))
            for step in steps:
                await step
    except BaseException:
        connection.abort("it was not set up")
        raise
    return connection

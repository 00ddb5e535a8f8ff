"""Links between hosts: the internal listener, and calls to those of others.

Which worker of the listening host accepts is chance; a connection for another worker is handed to it once it has
shown that it knows the secret, or, where it is encrypted, spliced with a link to it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from .. import catalogue
from ..refusals import Refusal
from ..relaying.link import Link
from ..relaying.splice import splice
from .greeting import GREETING_TIMEOUT_S, MAX_LINE_BYTES, Caller, GreetingFailed, Host, WrongSecret
from .registry import Address, Registry

logger = logging.getLogger("tidegate.cluster")

#: Connections that have not shown yet that they know the secret.
MAX_STRANGERS: Final = 256
CONNECT_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True)
class ClusterOptions:
    """``registry`` knows the other hosts. ``server_tls`` and ``client_tls``: None for plain connections."""

    secret: bytes
    registry: Registry
    server_tls: ssl.SSLContext | None = None
    client_tls: ssl.SSLContext | None = None


class Receptionist(Protocol):
    """Who takes connections in that know the secret."""

    def is_here(self, worker_id: str) -> bool:
        """Whether the worker lives on this host."""

    def receive(self, worker_id: str, transport: asyncio.Transport, data: bytes) -> None:
        """Serve a plain connection, or give it to the worker it is for; ``data`` was read from it."""

    async def open_raw(self, worker_id: str) -> asyncio.Transport | None:
        """A fresh connection to a worker of this host, for links; None where it is gone."""

    def note(self, refusal: Refusal, message: str, peer: str) -> None:
        """Count a refusal and log it."""


class ClusterListener:
    """A protocol factory for the internal address."""

    def __init__(self, options: ClusterOptions, receptionist: Receptionist) -> None:
        self.options = options
        self.receptionist = receptionist
        self.strangers: set[Stranger] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    def __call__(self) -> Stranger:
        return Stranger(self)

    def close(self) -> None:
        for stranger in list(self.strangers):
            stranger.drop()
        for task in self.tasks:
            task.cancel()


class Stranger(asyncio.Protocol):
    """A connection that has yet to show that it knows the secret."""

    def __init__(self, listener: ClusterListener) -> None:
        self._listener = listener
        self._host = Host(listener.options.secret)
        self._transport: asyncio.Transport
        self._deadline: asyncio.TimerHandle | None = None
        self._peer = ""
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        peername = transport.get_extra_info("peername")
        self._peer = peername[0] if isinstance(peername, tuple) else ""
        if len(self._listener.strangers) >= MAX_STRANGERS:
            self._refuse(catalogue.CLUSTER_GREETING, fault=f"{MAX_STRANGERS} others are being greeted")
            return
        self._listener.strangers.add(self)
        self._deadline = asyncio.get_running_loop().call_later(GREETING_TIMEOUT_S, self._too_slow)
        self._transport.write(self._host.hello)

    def data_received(self, data: bytes) -> None:
        self._data += data
        line, end, rest = self._data.partition(b"\n")
        if not end:
            if len(self._data) > MAX_LINE_BYTES:
                self._refuse(catalogue.CLUSTER_GREETING, fault="it speaks another protocol")
            return
        try:
            worker_id, welcome = self._host.answer(line)
        except WrongSecret:
            self._refuse(catalogue.CLUSTER_SECRET)
            return
        except GreetingFailed as failed:
            self._refuse(catalogue.CLUSTER_GREETING, fault=str(failed))
            return
        receptionist = self._listener.receptionist
        if not receptionist.is_here(worker_id):
            self._refuse(catalogue.CLUSTER_WORKER, worker=worker_id)
            return
        self._leave()
        self._transport.write(welcome)
        if self._transport.get_extra_info("sslcontext") is None:
            receptionist.receive(worker_id, self._transport, rest)
            return
        self._transport.pause_reading()
        self._data = rest
        task = asyncio.get_running_loop().create_task(self._splice(worker_id))
        self._listener.tasks.add(task)
        task.add_done_callback(self._listener.tasks.discard)

    async def _splice(self, worker_id: str) -> None:
        inner = await self._listener.receptionist.open_raw(worker_id)
        if inner is None:
            self._transport.abort()
            return
        if self._data:
            inner.write(self._data)
        splice(self._transport, inner)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._leave()

    def drop(self) -> None:
        self._leave()
        self._transport.abort()

    def _too_slow(self) -> None:
        self._refuse(catalogue.CLUSTER_GREETING, fault="it said nothing in time")

    def _refuse(self, refusal: Refusal, **fields: str) -> None:
        self._leave()
        message = refusal.text(**fields)
        self._listener.receptionist.note(refusal, message, self._peer)
        if not self._transport.is_closing():
            self._transport.write(f"{refusal.status} {message}\n".encode())
            self._transport.close()

    def _leave(self) -> None:
        self._listener.strangers.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Call(asyncio.Protocol):
    """The connecting side until it is let in."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._transport: asyncio.Transport
        self._data = b""
        self._has_called = False
        self.is_let_in: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._data += data
        while not self.is_let_in.done():
            line, end, rest = self._data.partition(b"\n")
            if not end:
                if len(self._data) > MAX_LINE_BYTES:
                    self._fail(GreetingFailed("it speaks another protocol"))
                return
            self._data = rest
            try:
                if self._has_called:
                    self._caller.check(line)
                    self.is_let_in.set_result(None)
                else:
                    self._has_called = True
                    self._transport.write(self._caller.call(line))
            except GreetingFailed as failed:
                self._fail(failed)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._fail(GreetingFailed("it closed the connection"))

    def _fail(self, failed: GreetingFailed) -> None:
        if not self.is_let_in.done():
            self.is_let_in.set_exception(failed)


async def open_cluster_link(
    address: Address,
    worker_id: str,
    options: ClusterOptions,
    make_link: Callable[[], Link],
) -> Link | None:
    """A link to a worker of another host; None, and a line in the log, where there is no way to it."""
    loop = asyncio.get_running_loop()
    transport: asyncio.Transport | None = None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S + GREETING_TIMEOUT_S):
            transport, call = await loop.create_connection(
                lambda: _Call(Caller(options.secret, worker_id)),
                address.host,
                address.port,
                ssl=options.client_tls,
                server_hostname="" if options.client_tls is not None else None,
            )
            await call.is_let_in
    except (OSError, TimeoutError, GreetingFailed) as error:
        level = logging.WARNING if not str(error).startswith(str(catalogue.CLUSTER_WORKER.status)) else logging.INFO
        logger.log(level, "no way to worker %s at %s:%d: %s", worker_id, *address, str(error) or "timeout")
        if transport is not None:
            transport.abort()
        return None
    link = make_link()
    transport.set_protocol(link)
    link.connection_made(transport)
    return link


def duplicate(transport: asyncio.Transport) -> int:
    """A descriptor of a plain connection, which its transport then drops without closing it."""
    fd = os.dup(transport.get_extra_info("socket").fileno())
    transport.pause_reading()
    transport.abort()
    return fd

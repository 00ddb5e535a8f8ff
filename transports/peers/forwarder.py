"""Sends each request to the worker that owns its session.

On one host a plain connection itself goes to the owner, by ``handover``; nothing is proxied then. What cannot be
handed over (TLS, requests that aiohttp has begun to read, sessions of other hosts) is relayed over a link. Either way a
worker that is gone is found out at once: nobody listens at its socket.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from .. import catalogue
from ..engine import Engine
from ..errors import RequestRefused
from ..hosts.listener import Listener
from ..ports import HttpExchange, Refuse
from ..refusals import Refusal
from ..relaying.link import Link, OpenLink
from ..request import HttpRequest
from ..session_ids import owner_of
from .cluster import ClusterListener, ClusterOptions, duplicate, open_cluster_link
from .handover import (
    CHANNEL_GREETING,
    CLIENT,
    LINK,
    LINK_GREETING,
    HandoverChannel,
    HandoverReceiver,
    peer_is_ours,
)
from .links import LinkListener
from .registry import Address

logger = logging.getLogger("tidegate.peers")

#: How long a link that carries nothing stays; and how often that is looked at.
LINK_IDLE_S: Final = 30.0
_SWEEP_S: Final = 10.0
_BACKLOG: Final = 4096
#: How long other workers may take to learn that this one ends.
FINISH_S: Final = 2.0
#: How often answers are asked for that this worker relays and that would come too late. The first time may overtake
#: the request.
_RELEASE_EVERY_S: Final = 0.1
#: How long what was asked last may take.
_LAST_RELAYS_S: Final = 1.0
#: How long a worker that could not be reached is not asked again.
_UNREACHABLE_S: Final = 1.0
#: Longest path of a Unix socket. Linux takes 107 bytes, macOS 103.
MAX_PATH_BYTES: Final = 103


def socket_path(directory: Path, worker_id: str) -> Path:
    """Where a worker takes connections of the others."""
    return directory / f"{worker_id}.sock"


@dataclass(slots=True)
class ForwardCounters:
    """Totals since start."""

    #: Connections given to the owner of the session that was asked for.
    handed_over: int = 0
    #: Connections taken from other workers.
    adopted: int = 0
    #: Requests passed on over a link, to this host and to others.
    relayed: int = 0
    relayed_to_hosts: int = 0
    #: Requests for sessions of workers that are gone, or never were.
    without_owner: int = 0


class PeerForwarder:
    """``public`` serves clients' connections that others hand over, ``links`` requests that they pass on."""

    def __init__(
        self,
        worker_id: str,
        directory: Path,
        public: Listener,
        links: LinkListener,
        engine: Engine | None,
        cluster: ClusterOptions | None = None,
    ) -> None:
        self.worker_id = worker_id
        self.counters = ForwardCounters()
        #: Workers of this host that take what this one is about to leave.
        self.successors: Sequence[str] = ()
        self.cluster_listener = None if cluster is None else ClusterListener(cluster, self)
        self._directory = directory
        self._public = public
        self._links = links
        self._engine = engine
        self._cluster = cluster
        self._channels: dict[str, HandoverChannel] = {}
        self._receivers: set[HandoverReceiver] = set()
        self._idle: dict[str, list[tuple[Link, float]]] = {}
        self._open: set[Link] = set()
        #: Links for requests that wait for them.
        self._opening: set[asyncio.Task[None]] = set()
        #: By owner: links on which answers are about to be asked for.
        self._releases: dict[str, asyncio.Task[None]] = {}
        self._arriving: set[socket.socket] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        self._is_leaving = self._is_finishing = self._is_closed = False

    # -- life --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take connections of other workers from now on. Raises: OSError."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.bind(str(socket_path(self._directory, self.worker_id)))
        self._socket.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    async def finish_relays(self, ending: asyncio.Future[Any], timeout_s: float = 0.0) -> None:
        """Have other workers answer what they are asked over links, also what is asked until ``ending`` is done.

        What is left then has the rest of ``timeout_s``, which counts from now, and ``_LAST_RELAYS_S`` in any case.
        """
        ends = time.monotonic() + timeout_s
        while not ending.done():
            self._ask_for_answers()
            await asyncio.wait([ending], timeout=_RELEASE_EVERY_S)
        ends = max(ends, time.monotonic() + _LAST_RELAYS_S)
        while self._is_relaying() and time.monotonic() < ends:
            self._ask_for_answers()
            await asyncio.sleep(_RELEASE_EVERY_S)

    def _is_relaying(self) -> bool:
        return bool(self._opening) or any(link.is_busy for link in self._open)

    def _ask_for_answers(self) -> None:
        """Have those answered that wait for messages, each owner asked on one link for all of its sessions."""
        waiting: dict[str, set[str]] = {}
        for link in self._open:
            session_id = link.waits_for
            owner = None if session_id is None else owner_of(session_id)
            if session_id is not None and owner is not None and owner not in self._releases:
                waiting.setdefault(owner, set()).add(session_id)
        for owner, session_ids in waiting.items():
            self._releases[owner] = asyncio.get_running_loop().create_task(self._release(owner, session_ids))

    async def _release(self, owner: str, session_ids: Iterable[str]) -> None:
        address = None
        if self._cluster is not None and self._channel(owner) is None:
            address = self._cluster.registry.locate(owner)
        try:
            link = await self._link_to(owner, address)
            if link is None:
                await asyncio.sleep(_UNREACHABLE_S)
            else:
                link.release(session_ids)
        finally:
            del self._releases[owner]

    async def finish(self) -> None:
        """Take no more connections of other workers, but all that they have handed over already."""
        self._is_finishing = True
        self._close_socket()
        for receiver in self._receivers:
            receiver.finish()
        ends = time.monotonic() + FINISH_S
        while (self._arriving or self._receivers) and time.monotonic() < ends:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.005)
        await self._public.adopted()

    def _close_socket(self) -> None:
        if self._socket is None:
            return
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        # Nobody finds it any more; who has found it before waits in its queue.
        socket_path(self._directory, self.worker_id).unlink(missing_ok=True)
        while self._accept():
            pass
        self._socket.close()
        self._socket = None

    def close(self) -> None:
        self._is_closed = True
        loop = asyncio.get_running_loop()
        self._close_socket()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for sock in self._arriving:
            loop.remove_reader(sock.fileno())
            sock.close()
        self._arriving.clear()
        for channel in list(self._channels.values()):
            channel.close()
        for receiver in list(self._receivers):
            receiver.close()
        if self.cluster_listener is not None:
            self.cluster_listener.close()
        for task in (*self._opening, *self._releases.values()):
            task.cancel()
        for link in list(self._open):
            link.close()
        self._links.close()

    def leave(self, successors: Sequence[str]) -> None:
        """Give connections and new sessions to ``successors``, since this worker is about to end.

        Answers of other workers are the last on their clients' connections from now on.
        """
        self._is_leaving = True
        for link in self._open:
            link.is_leaving = True
        self.successors = successors
        if successors:
            self._public.give_away = self._give_to_successor
            self._public.leave()

    # -- out ---------------------------------------------------------------------------------------------

    def forward(self, exchange: HttpExchange, owner: str, refuse: Refuse) -> bool:
        """See ``transports.ports.Forwarder``."""
        channel = self._channel(owner)
        if channel is not None:
            self._send(exchange, owner, channel, refuse)
            return True
        address = None if self._cluster is None else self._cluster.registry.locate(owner)
        if address is None:
            self.counters.without_owner += 1
            return False
        self.counters.relayed_to_hosts += 1
        self._relay(exchange, partial(self._open_link, owner, address), refuse)
        return True

    def pass_on(self, exchange: HttpExchange, refuse: Refuse) -> bool:
        """See ``transports.ports.Forwarder``."""
        found = self._successor()
        if found is None:
            return False
        self._send(exchange, *found, refuse)
        return True

    def _send(self, exchange: HttpExchange, worker_id: str, channel: HandoverChannel, refuse: Refuse) -> None:
        taken = exchange.take_socket()
        if taken is not None:
            self.counters.handed_over += 1
            channel.send(CLIENT, *taken)
        else:
            self.counters.relayed += 1
            self._relay(exchange, partial(self._open_link, worker_id, None), refuse)

    def _relay(self, exchange: HttpExchange, open_link: OpenLink, refuse: Refuse) -> None:
        def refused(unanswered: HttpExchange) -> None:
            if self._is_closed:  # the session may well live
                unanswered.cut()
                return
            self.counters.without_owner += 1
            refuse(unanswered, RequestRefused(catalogue.UNKNOWN_SESSION))

        exchange.relay(open_link, refused)

    def _give_to_successor(self, fd: int, data: bytes) -> bool:
        found = self._successor()
        if found is None:
            return False
        self.counters.handed_over += 1
        found[1].send(CLIENT, fd, data)
        return True

    def _successor(self) -> tuple[str, HandoverChannel] | None:
        # By turns, so that what one worker leaves does not all go to the same one.
        for _ in range(len(self.successors)):
            worker_id = self.successors[0]
            self.successors = [*self.successors[1:], worker_id]
            channel = self._channel(worker_id)
            if channel is not None:
                return worker_id, channel
        return None

    def _channel(self, worker_id: str) -> HandoverChannel | None:
        channel = self._channels.get(worker_id)
        if channel is None:
            try:
                channel = HandoverChannel(
                    socket_path(self._directory, worker_id),
                    self._undelivered,
                    lambda: self._channels.pop(worker_id, None),  # type: ignore[arg-type]
                )
            except OSError as error:
                if not isinstance(error, FileNotFoundError | ConnectionRefusedError):
                    logger.warning("no way to worker %s: %s", worker_id, error)
                return None
            self._channels[worker_id] = channel
        return channel

    def _undelivered(self, kind: bytes, fd: int, data: bytes) -> None:
        # Its owner has ended, so this worker finds out that the session is unknown.
        if kind == CLIENT and not self._is_closed:
            self._public.adopt(fd, data)
        else:
            os.close(fd)

    # -- links -------------------------------------------------------------------------------------------

    def _open_link(self, worker_id: str, address: Address | None, opened: Callable[[Link | None], None]) -> None:
        idle = self._idle.get(worker_id, [])
        while idle:
            link, _ = idle.pop()
            if link.is_open:
                opened(link)
                return

        async def connect() -> None:
            opened(await self._link_to(worker_id, address))

        task = asyncio.get_running_loop().create_task(connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    def _make_link(self, worker_id: str) -> Link:
        def idle(link: Link) -> None:
            self._idle.setdefault(worker_id, []).append((link, time.monotonic()))
            if self._sweep is None:
                self._sweep = asyncio.get_running_loop().call_later(_SWEEP_S, self._close_idle)

        link = Link(idle, self._open.discard)
        link.is_leaving = self._is_leaving
        self._open.add(link)
        return link

    async def _link_to(self, worker_id: str, address: Address | None) -> Link | None:
        """A fresh link, to another host where there is an ``address``; None where the worker cannot be reached."""
        if address is not None and self._cluster is not None:
            return await open_cluster_link(address, worker_id, self._cluster, partial(self._make_link, worker_id))
        link = self._make_link(worker_id)
        if await self._connect(worker_id, link) is None:
            self._open.discard(link)
            return None
        return link

    async def _connect(self, worker_id: str, protocol: asyncio.Protocol) -> asyncio.Transport | None:
        path = str(socket_path(self._directory, worker_id))
        try:
            transport, _ = await asyncio.get_running_loop().create_unix_connection(lambda: protocol, path)
        except OSError:
            return None
        transport.write(LINK_GREETING)
        return transport

    def _close_idle(self) -> None:
        self._sweep = None
        now = time.monotonic()
        for worker_id, idle in list(self._idle.items()):
            for link, since in idle:
                if now - since > LINK_IDLE_S:
                    link.close()
            kept = [(link, since) for link, since in idle if link.is_open]
            if kept:
                self._idle[worker_id] = kept
            else:
                del self._idle[worker_id]
        if self._idle:
            self._sweep = asyncio.get_running_loop().call_later(_SWEEP_S, self._close_idle)

    # -- in ----------------------------------------------------------------------------------------------

    def _accept(self) -> bool:
        """Whether there was a connection."""
        if self._socket is None:
            return False
        try:
            sock, _ = self._socket.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                logger.warning("a connection of another worker was not accepted: %s", error)
            return False
        if not peer_is_ours(sock):
            logger.warning("a process of another user was turned away at %s", self._socket.getsockname())
            sock.close()
            return True
        sock.setblocking(False)
        self._arriving.add(sock)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._greeted, sock)
        return True

    def _greeted(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(sock.fileno())
        self._arriving.discard(sock)
        try:
            greeting = sock.recv(1)
        except OSError:
            greeting = b""
        if greeting == CHANNEL_GREETING:
            receiver = HandoverReceiver(sock, self._received, self._receivers.discard)
            self._receivers.add(receiver)
            if self._is_finishing:
                receiver.finish()
        elif greeting == LINK_GREETING:
            self._links.adopt(sock.detach(), b"")
        else:
            sock.close()

    def _received(self, kind: bytes, fd: int, data: bytes) -> None:
        if kind == CLIENT:
            self.counters.adopted += 1
            self._public.adopt(fd, data)
        else:
            self._links.adopt(fd, data)

    # -- the internal address of the cluster: see ``cluster.Receptionist`` --------------------------------------

    def is_here(self, worker_id: str) -> bool:
        return worker_id == self.worker_id or self._channel(worker_id) is not None

    def receive(self, worker_id: str, transport: asyncio.Transport, data: bytes) -> None:
        if worker_id == self.worker_id:
            self._links.resume(transport, data)
            return
        channel = self._channel(worker_id)
        if channel is None or transport.get_write_buffer_size():
            transport.abort()
            return
        channel.send(LINK, duplicate(transport), data)

    async def open_raw(self, worker_id: str) -> asyncio.Transport | None:
        return await self._connect(worker_id, asyncio.Protocol())

    def note(self, refusal: Refusal, message: str, peer: str) -> None:
        if self._engine is not None:
            self._engine.note_refusal(refusal, message, HttpRequest("GET", "/", {}, peer=peer))

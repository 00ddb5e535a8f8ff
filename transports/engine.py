"""The Engine.IO server: sessions, and the one place where python-engineio is touched.

``Engine`` is an ``engineio.AsyncServer`` in its public surface (``on``, ``send``, ``disconnect``, sessions,
``attach``, ``handle_request``, ``shutdown``). Of its inside only the constructor, ``_get_socket`` and the cookie
text are used; ``tests/guards/test_seams.py`` fails when one of them moves.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Sequence
from typing import Any, ClassVar, Protocol

import engineio
import orjson

from . import reasons, session_ids
from .admission import Admission
from .budget import BufferBudget
from .cors import AllowedOrigins, CorsPolicy
from .counters import Counters
from .eager import EagerStarter
from .errors import RefusedError
from .flushing import flush_sessions
from .forwarded import TrustedProxies
from .intake import Rates
from .loop_lag import LoopLag
from .negotiation import Negotiator
from .outbound import LongerRun, OutboundMessage, Run
from .ports import Forwarder, HttpExchange
from .protocol.lifecycle import CLOSED
from .refusal_log import RefusalLog
from .refusals import Refusal
from .request import HttpRequest
from .session import Session
from .timers import Timers

logger = logging.getLogger("tidegate.engine")

#: What is pending beyond this leaves at once instead of at the end of the loop's turn.
WRITE_THROUGH_BYTES = 64 * 1024
#: Sessions whose answers leave together.
ANSWERS_AT_A_TIME = 128
#: Sessions that are written to in one turn of the loop: about 5 ms.
FLUSH_AT_A_TIME = 1000
TRANSPORTS = ("polling", "xhr-streaming", "websocket")


class Application(Protocol):
    """The layer above, where it wants sessions rather than ids. Without one, ``on`` handlers are called."""

    def session_opens(self, session: Session) -> Any | Awaitable[Any]:
        """A handshake: None accepts, everything else (also as result of an awaitable) refuses with that text."""

    def message_received(self, session: Session, data: str | bytes) -> None:
        """A message, in the order of the wire."""

    def session_closed(self, session: Session, reason: str) -> None:
        """The session has ended. Called once for each session that was accepted."""

    def deadline_passed(self, session: Session) -> None:
        """The session's ``application_deadline`` has come."""


class Engine(engineio.AsyncServer):
    """Keeps sessions and writes to them.

    Beyond python-engineio's options:

    - ``transports``: of ``polling``, ``xhr-streaming``, ``websocket``; all by default.
    - ``max_buffered_bytes``: what may wait for one client before it is dropped as slow (4 MiB).
    - ``upgrade_timeout``: seconds an upgrade may take (10).
    - ``websocket_compression``: permessage-deflate for clients that offer it (off); messages of
      ``compression_threshold`` bytes and more are compressed.
    - ``stream_max_bytes``, ``stream_max_s``: when an xhr-streaming response ends (1 MiB, 300 s).
    - ``max_total_buffered_bytes``: what may wait for all clients together (512 MiB).
    - ``max_connections``, ``max_connections_per_address``: sessions open at a time (100,000; 5,000).
    - ``handshakes_per_second``: new sessions of one address (100); ten seconds' worth may come at once.
    - ``packets_per_second``, ``bytes_per_second``: what one client may send (10,000; 32 MiB) before its
      connection is read more slowly; two seconds' worth may come at once. Fragments of a WebSocket message
      count as packets, compressed ones by what they inflate to.
    - ``trusted_proxies``: whose ``Forwarded`` and ``X-Forwarded-*`` headers are believed: IP addresses, networks, or
      the words ``loopback`` (the default; Unix sockets included) and ``private``.

    A bound of 0 on connections, rates or the total of all buffers is none.

    Raises: TypeError for an unknown option, ValueError for one out of range.
    """

    valid_transports: ClassVar[list[str]] = list(TRANSPORTS)

    def __init__(
        self,
        *,
        async_mode: str | None = None,
        ping_interval: float | tuple[float, float] = 25,
        ping_timeout: float = 20,
        max_http_buffer_size: int = 1_000_000,
        allow_upgrades: bool = True,
        http_compression: bool = True,
        compression_threshold: int = 1024,
        cookie: str | dict[str, Any] | None = None,
        cors_allowed_origins: AllowedOrigins = None,
        cors_credentials: bool = True,
        logger: bool | logging.Logger = False,
        json: Any = None,
        async_handlers: bool = True,
        monitor_clients: bool = True,
        transports: str | Iterable[str] | None = None,
        max_buffered_bytes: int = 4 * 1024 * 1024,
        upgrade_timeout: float = 10.0,
        websocket_compression: bool = False,
        stream_max_bytes: int = 1024 * 1024,
        stream_max_s: float = 300.0,
        max_total_buffered_bytes: int = 512 * 1024 * 1024,
        max_connections: int = 100_000,
        max_connections_per_address: int = 5_000,
        handshakes_per_second: float = 100.0,
        packets_per_second: float = 10_000.0,
        bytes_per_second: float = 32 * 1024 * 1024,
        trusted_proxies: str | Iterable[str] = ("loopback",),
    ) -> None:
        if async_mode not in (None, "aiohttp"):
            raise ValueError(f"async_mode {async_mode!r} is not supported; tidegate runs on 'aiohttp'")
        chosen = _chosen_transports(transports)
        super().__init__(
            async_mode="aiohttp",
            ping_interval=ping_interval,
            ping_timeout=ping_timeout,
            max_http_buffer_size=max_http_buffer_size,
            allow_upgrades=allow_upgrades,
            http_compression=http_compression,
            compression_threshold=compression_threshold,
            cookie=cookie,
            cors_allowed_origins=cors_allowed_origins,
            cors_credentials=cors_credentials,
            logger=logger,
            json=json,
            async_handlers=async_handlers,
            monitor_clients=monitor_clients,
            transports=chosen,
        )
        self.ping_interval_s = float(ping_interval[0] if isinstance(ping_interval, tuple) else ping_interval)
        self.ping_timeout_s = float(ping_timeout)
        for name, value in (
            ("ping_interval", self.ping_interval_s),
            ("ping_timeout", self.ping_timeout_s),
            ("max_http_buffer_size", max_http_buffer_size),
            ("max_buffered_bytes", max_buffered_bytes),
            ("upgrade_timeout", upgrade_timeout),
            ("stream_max_bytes", stream_max_bytes),
            ("stream_max_s", stream_max_s),
        ):
            if not value > 0:
                raise ValueError(f"{name} must be more than 0, not {value!r}")
        for name, value in (
            ("max_total_buffered_bytes", max_total_buffered_bytes),
            ("max_connections", max_connections),
            ("max_connections_per_address", max_connections_per_address),
            ("handshakes_per_second", handshakes_per_second),
            ("packets_per_second", packets_per_second),
            ("bytes_per_second", bytes_per_second),
        ):
            if not value >= 0:
                raise ValueError(f"{name} must be 0 (no limit) or more, not {value!r}")
        self.transports: list[str] = chosen
        self.max_payload_bytes = int(min(max_http_buffer_size, sys.maxsize))
        self.max_buffered_bytes = max_buffered_bytes
        self.write_through_bytes = min(WRITE_THROUGH_BYTES, max_buffered_bytes)
        self.upgrade_timeout_s = upgrade_timeout
        self.websocket_compression = websocket_compression
        self.stream_max_bytes = stream_max_bytes
        self.stream_max_s = stream_max_s
        self.trusted_proxies = TrustedProxies(trusted_proxies)
        self.cors = CorsPolicy(cors_allowed_origins, cors_credentials)
        self.rates: Rates | None = None
        if packets_per_second or bytes_per_second:
            self.rates = Rates(packets_per_second, bytes_per_second)
        self.admission = Admission(
            max_connections=max_connections,
            max_per_address=max_connections_per_address,
            handshakes_per_s=handshakes_per_second,
            exempt=self.trusted_proxies.trusts,
        )
        self.budget = BufferBudget(max_total_buffered_bytes)
        self.counters = Counters()
        self.refusal_log = RefusalLog()
        #: Of the loop that serves this; sampled while the application runs to which it is attached.
        self.loop_lag = LoopLag()
        self.sockets: dict[str, Session] = {}
        self.application: Application | None = None
        #: With which the ids of its sessions begin; empty where no other process may be asked for them.
        self.worker_id = ""
        #: The way to the other workers, where there are any.
        self.forwarder: Forwarder | None = None
        self.is_draining = False
        #: Ports that have said good-bye and wait for the peer's answer.
        self.lingering: set[Any] = set()
        self._partial_bytes = 0  # received so far that made no whole message when it came
        self._flushed_bytes = 0  # counters.bytes_out at the last flush
        self._negotiator = Negotiator(self)
        self._queued: list[Session] = []
        self._answered: list[Session] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timers: Timers | None = None
        self._starter: EagerStarter | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._last_handler: dict[str, asyncio.Task[Any]] = {}

    # -- clockwork -------------------------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that serves the sessions; bound by the first use inside it."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    @property
    def timers(self) -> Timers:
        if self._timers is None:
            # Fine enough that a heartbeat is never noticeably late, coarse enough to serve many at once.
            tick_s = min(max(min(self.ping_interval_s, self.ping_timeout_s) / 20, 0.005), 0.25)
            self._timers = Timers(self.loop, tick_s)
        return self._timers

    def now(self) -> float:
        """Monotonic seconds."""
        loop = self._loop
        return self.loop.time() if loop is None else loop.time()

    @property
    def starter(self) -> EagerStarter:
        """Begins coroutines without a task. Those that suspend are to be given to ``keep``."""
        if self._starter is None:
            self._starter = EagerStarter(self.loop)
        return self._starter

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``coroutine`` in a task of its own, from the next turn of the loop on; see ``keep``."""
        task: asyncio.Task[Any] = self.loop.create_task(coroutine)
        self.keep(task)
        return task

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold ``task`` until it ends; ``shutdown`` waits for it."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- hosts -----------------------------------------------------------------------------------------

    def handle(self, exchange: HttpExchange) -> None:
        """Serve one request to the engine's path. Returns at once; the answer may come later."""
        self._negotiator.handle(exchange)

    def refuse(self, exchange: HttpExchange, refused: RefusedError) -> None:
        """Refuse a request that its host has found to be wrong."""
        self._negotiator.refuse(exchange, refused)

    def attach(self, app: Any, engineio_path: str = "engine.io") -> None:
        """Serve ``/engineio_path/`` in an aiohttp application, whatever runs it."""
        from .hosts.aiohttp import attach

        attach(self, app, engineio_path)

    async def handle_request(self, request: Any) -> Any:
        """Serve one ``aiohttp.web.Request``."""
        from .hosts.aiohttp import serve

        return await serve(self, request)

    # -- handshake: for the negotiator -------------------------------------------------------------------

    def generate_id(self) -> str:
        """A session id that cannot be guessed: 120 random bits behind the id of the worker that owns it."""
        return self.worker_id + session_ids.draw()

    def bind_loop(self) -> None:
        """Serve on the running loop: another one than last time, where that has ended (tests do so)."""
        running = asyncio.get_running_loop()
        if self._loop is running:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("a server serves one event loop at a time")
        self._loop = running
        self._timers = None
        self._starter = None
        self._queued = []
        self._answered = []
        for session in list(self.sockets.values()):
            self.forget(session)
            # Its connection has ended with the loop, and its descriptor may be another's by now.
            session.port = None
            session.state = CLOSED
            session.stuck_bytes = 1  # sends whoever broadcasts by way of has_grown, which refuses
        self.is_draining = False

    def create_session(self, request: HttpRequest) -> Session:
        """Raises: RequestRefused where there are too many already."""
        is_doubtful = request.client.disbelief != ""
        address_group = self.admission.enter(request.remote, self.now(), is_doubtful=is_doubtful)
        session = Session(self, self.generate_id(), request)
        session.address_group = address_group
        self.sockets[session.id] = session
        return session

    def forget(self, session: Session) -> None:
        """The session was not accepted."""
        if self.sockets.pop(session.id, None) is not None:
            self.admission.leave(session.address_group)
        session.run = None

    def note_refusal(self, refusal: Refusal, message: str, request: HttpRequest, session_id: str = "") -> None:
        """Count a refusal, and write it to the log unless it has written enough of its kind."""
        self.counters.refused[refusal.name] += 1
        self.refusal_log.note(refusal, message, request.remote, time.monotonic(), session_id)

    def ask_application(self, session: Session) -> Any | Awaitable[Any]:
        """None, or the text of the refusal; where the handler suspends, what has to be awaited for it."""
        try:
            return self._call_connect(session)
        except Exception:  # the application's handler; its fault refuses the client and no more
            logger.exception("connect handler failed")
            return "Unauthorized"

    def await_application(self, answer: Awaitable[Any], answered: Callable[[Any], None]) -> None:
        """Call ``answered`` with what ``ask_application`` has promised."""

        async def wait() -> None:
            try:
                refusal = await answer
            except Exception:  # as above
                logger.exception("connect handler failed")
                refusal = "Unauthorized"
            answered(refusal)

        self.spawn(wait())

    def _call_connect(self, session: Session) -> Any:
        if self.application is not None:
            return self.application.session_opens(session)
        handler = self.handlers.get("connect")
        if handler is None:
            return None
        result = handler(session.id, session.request.environ())
        return _as_refusal_later(result) if inspect.isawaitable(result) else _as_refusal(result)

    def handshake_cookie(self, session_id: str) -> str | None:
        if not self.cookie:
            return None
        attributes = self.cookie
        if not isinstance(attributes, dict):
            attributes = {"name": attributes, "path": "/", "SameSite": "Lax"}
        cookie: str = self._generate_sid_cookie(session_id, attributes)
        return cookie

    def open_packet(self, session: Session, transport: str) -> OutboundMessage:
        """Spec: Engine.IO v4, "Handshake"."""
        handshake = {
            "sid": session.id,
            "upgrades": self._offered_upgrades(session.request, transport),
            "pingInterval": round(self.ping_interval_s * 1000),
            "pingTimeout": round(self.ping_timeout_s * 1000),
            "maxPayload": self.max_payload_bytes,
        }
        self.counters.opened += 1
        return OutboundMessage(b"0" + orjson.dumps(handshake))

    def upgrades_from(self, transport: str) -> list[str]:
        """The transports a session on ``transport`` may go on to."""
        if not self.allow_upgrades or transport == "websocket":
            return []
        better = TRANSPORTS[TRANSPORTS.index(transport) + 1 :]
        return [name for name in better if name in self.transports]

    def _offered_upgrades(self, request: HttpRequest, transport: str) -> list[str]:
        upgrades = self.upgrades_from(transport)
        if not upgrades:
            return upgrades
        known = (request.parameter("transports") or "").split(",")
        return [name for name in upgrades if name == "websocket" or name in known]

    # -- out -------------------------------------------------------------------------------------------

    def queue(self, session: Session) -> None:
        """Flush ``session`` at the end of this turn of the loop."""
        if not self._queued:
            self.loop.call_soon(self._flush)
        self._queued.append(session)

    def queue_answers(self, session: Session) -> None:
        """As ``queue``, for a session that is marked as queued; or sooner.

        What clients are answered leaves a few sessions at a time: while their objects are in the processor's cache,
        and not so few that the peer is woken up for each.
        """
        answered = self._answered
        if not answered:
            self.loop.call_soon(self._flush_answers)
        answered.append(session)
        if len(answered) >= ANSWERS_AT_A_TIME:
            self._flush_answers()

    def _flush(self) -> None:
        queued = self._queued
        self._queued = queued[FLUSH_AT_A_TIME:]
        if self._queued:
            # Others have their turn before the rest. Sessions that wait gather what is sent to them meanwhile.
            self.loop.call_soon(self._flush)
            del queued[FLUSH_AT_A_TIME:]
        self._flush_these(queued)

    def _flush_answers(self) -> None:
        answered, self._answered = self._answered, []
        self._flush_these(answered)

    def _flush_these(self, sessions: list[Session]) -> None:
        if not self._queued:
            self._flushed_bytes = self.counters.bytes_out
        flush_sessions(sessions)
        self._look_at_budget()

    def received_in_part(self, nbytes: int) -> None:
        """Bytes that wait for the rest of their message, or of their request."""
        self._partial_bytes += nbytes
        self._look_at_budget()

    def _look_at_budget(self) -> None:
        moved = self.counters.bytes_out + self._partial_bytes
        if self.budget.is_due(moved):
            self.budget.enforce(self.sockets.values(), moved)

    @property
    def turn_bytes(self) -> int:
        """Bytes handed to sessions since the last flush, each recipient counted."""
        return self.counters.bytes_out - self._flushed_bytes

    def broadcast(self, sessions: Iterable[Session], message: OutboundMessage) -> int:
        """Send ``message`` to all of ``sessions``; the number of those that take it.

        Sessions that wait for the same messages share one ``Run``, so that its bytes are joined once.
        """
        if not self._queued:
            self.loop.call_soon(self._flush)
        queued = self._queued
        write_through_bytes = self.write_through_bytes
        parent: Run | None = None
        extended: Run = message
        count = 0
        for session in sessions:
            run = session.run
            if run is None:
                session.run = run = message
            else:
                if run is not parent:
                    parent = run
                    extended = LongerRun(run, message)
                session.run = run = extended
            if not session.is_queued:
                session.is_queued = True
                queued.append(session)
            count += 1
            if (session.stuck_bytes or run.nbytes > write_through_bytes) and not session.has_grown():
                count -= 1
                self.counters.dropped_closed += 1
        self.counters.messages_out += count
        self.counters.bytes_out += message.nbytes * count
        return count

    def post(self, session: Session, message: OutboundMessage) -> None:
        """Send ``message`` to one session."""
        self.counters.messages_out += 1
        self.counters.bytes_out += message.nbytes
        session.send(message)

    def post_again(self, session: Session, messages: Sequence[OutboundMessage]) -> None:
        """Send one session what it has missed; see ``Session.send_again``."""
        self.counters.messages_out += len(messages)
        self.counters.bytes_out += sum([message.nbytes for message in messages])
        session.send_again(messages)

    def broadcast_volatile(self, sessions: Iterable[Session], message: OutboundMessage) -> int:
        """Send ``message`` to those of ``sessions`` that can take it now; the others never get it."""
        total = 0
        ready = []
        for session in sessions:
            total += 1
            if session.is_ready():
                ready.append(session)
        self.counters.dropped_volatile += total - len(ready)
        return self.broadcast(ready, message)

    def broadcast_conflated(self, sessions: Iterable[Session], key: Hashable, message: OutboundMessage) -> int:
        """Send ``message`` to all of ``sessions``; for those that cannot take it now it waits as the newest of ``key``.

        The number of those that take it, or for whom it waits.
        """
        ready = []
        kept = 0
        for session in sessions:
            if session.takes_conflated():
                ready.append(session)
            elif session.keep_newest(key, message):
                kept += 1
        self.counters.messages_out += kept
        self.counters.bytes_out += message.nbytes * kept
        return self.broadcast(ready, message) + kept

    async def send(self, sid: str, data: Any) -> None:
        """Send a message: text, bytes, or a list or dict as JSON."""
        if isinstance(data, (bytes, bytearray, memoryview)):
            message = OutboundMessage(None, (bytes(data),))
        elif isinstance(data, str):
            message = OutboundMessage(b"4" + data.encode())
        else:
            message = OutboundMessage(b"4" + orjson.dumps(data))
        self._send(sid, message)

    async def send_packet(self, sid: str, pkt: Any) -> None:
        """Send an ``engineio.packet.Packet``."""
        encoded = pkt.encode()
        if isinstance(encoded, str):
            self._send(sid, OutboundMessage(encoded.encode()))
        else:
            self._send(sid, OutboundMessage(None, (bytes(encoded),)))

    def _send(self, sid: str, message: OutboundMessage) -> None:
        session = self.sockets.get(sid)
        if session is None:
            self.counters.dropped_closed += 1
            return
        self.post(session, message)

    # -- in: from sessions -----------------------------------------------------------------------------

    def deliver(self, session: Session, data: str | bytes) -> None:
        """A message from ``session``, in the order of the wire."""
        self.counters.messages_in += 1
        if self.application is not None:
            self.application.message_received(session, data)
            return
        handler = self.handlers.get("message")
        if handler is None:
            return
        try:
            result = handler(session.id, data)
        except Exception:  # the application's handler
            logger.exception("message handler failed")
            return
        if inspect.isawaitable(result):
            self._run_handler(session, result)

    def _run_handler(self, session: Session, result: Awaitable[Any]) -> None:
        before = None if self.async_handlers else self._last_handler.get(session.id)

        async def run() -> None:
            if before is not None:
                await asyncio.wait((before,))
            try:
                await result
            except Exception:  # the application's handler
                logger.exception("message handler failed")
            if self._last_handler.get(session.id) is asyncio.current_task():
                del self._last_handler[session.id]

        task = self.spawn(run())
        if not self.async_handlers:
            self._last_handler[session.id] = task

    def application_deadline(self, session: Session) -> None:
        if self.application is not None:
            self.application.deadline_passed(session)

    def session_closes(self, session: Session) -> None:
        self.counters.closed[session.close_reason] += 1
        self._last_handler.pop(session.id, None)
        if self.application is not None:
            self.application.session_closed(session, session.close_reason)
            return
        handler = self.handlers.get("disconnect")
        if handler is None:
            return
        takes_reason = len(inspect.signature(handler).parameters) > 1
        try:
            result = handler(session.id, session.close_reason) if takes_reason else handler(session.id)
        except Exception:  # the application's handler
            logger.exception("disconnect handler failed")
            return
        if inspect.isawaitable(result):
            self._run_handler(session, result)

    def session_closed(self, session: Session) -> None:
        self.forget(session)
        self.timers.cancel(session)

    # -- sessions by id: python-engineio's surface -----------------------------------------------------

    def transport(self, sid: str) -> str:
        """Name of the transport in use: ``polling``, ``xhr-streaming`` or ``websocket``.

        Raises: KeyError for an unknown session.
        """
        session: Session = self._get_socket(sid)
        return session.transport

    async def disconnect(self, sid: str | None = None) -> None:
        """Close one session, or all of them."""
        if sid is None:
            for session in list(self.sockets.values()):
                session.close(reasons.SERVER_DISCONNECT)
        elif (found := self.sockets.get(sid)) is not None:
            found.close(reasons.SERVER_DISCONNECT)

    # -- end -------------------------------------------------------------------------------------------

    async def drain(self, timeout_s: float) -> None:
        """Finish what is in flight, tell every client to reconnect, and wait until all have been told.

        New handshakes are refused from now on. After ``timeout_s`` whatever is left is cut.
        """
        self.is_draining = True
        ends = self.now() + timeout_s
        # Handlers first: their answers still reach the clients. Half of the time is for the good-byes.
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout_s / 2)
        for session in list(self.sockets.values()):
            session.close(reasons.SERVER_SHUTDOWN)
        while (self.sockets or self.lingering) and self.now() < ends:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.02)
        for session in list(self.sockets.values()):
            session.give_up()
        if self._tasks:  # disconnect handlers
            await asyncio.wait(set(self._tasks), timeout=max(ends - self.now(), 0.1))

    async def shutdown(self) -> None:
        """Close every session and stop the clock. Called by the application's shutdown hook after ``attach``."""
        if self._loop is None:
            return
        await self.drain(1.0)
        for task in list(self._tasks):
            task.cancel()
        if self._timers is not None:
            self._timers.close()
        if self._starter is not None:
            self._starter.close()
        self.is_draining = False  # whoever serves it again may


def _chosen_transports(transports: str | Iterable[str] | None) -> list[str]:
    if transports is None:
        return list(TRANSPORTS)
    names = [transports] if isinstance(transports, str) else list(transports)
    unknown = [name for name in names if name not in TRANSPORTS]
    if unknown or not names:
        raise ValueError(f"transports must be some of {', '.join(TRANSPORTS)}; not {', '.join(unknown) or 'none'}")
    return names


def _as_refusal(result: Any) -> Any:
    """python-engineio's rule: None and True accept, False refuses, everything else refuses with that message."""
    if result is None or result is True:
        return None
    return "Unauthorized" if result is False else result


async def _as_refusal_later(result: Awaitable[Any]) -> Any:
    return _as_refusal(await result)

"""One client, whatever carries it: what waits for it, whether it is alive, which transport serves it.

A session owns no task, queue or timer. It has a run of messages that waits (``run``), one entry in the shared
timing wheel, the port in use and, during an upgrade, the one that tries to take over:

::

    client                                session                        ports
      GET/WebSocket, same sid ───────────► begin_upgrade                 candidate opens
      2probe (candidate) ────────────────► receive ────► 3probe          current port is released: an open
                                                                         response ends (noop), so that the
                                                                         client can pause it
      5 (candidate) ─────────────────────► complete: candidate becomes the port, what waited follows

Until ``5`` everything goes to the current port, after it everything to the new one; the client has paused the
old one before it says ``5``, so nothing is lost, repeated or overtaken.

Spec: Engine.IO v4, "Heartbeat", "Upgrade".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Final

from . import catalogue, reasons
from .conflation import Conflated, Kept, behind, divide_rest
from .errors import RefusedError, RemoteProtocolError, RequestRefused
from .intake import Hold, Intake
from .outbound import LongerRun, OutboundMessage, Run
from .protocol.lifecycle import CLOSED, CLOSING, OPEN, OPENING, UPGRADING, Signal, advance
from .protocol.packets import Packet, PacketType
from .protocol.timing_wheel import UNSCHEDULED
from .refusals import CloseCode
from .replay import Replay

if TYPE_CHECKING:
    from .engine import Engine
    from .ports import Port
    from .request import HttpRequest

logger = logging.getLogger("tidegate.session")

PING: Final = OutboundMessage(b"2")
_PROBE_ANSWER: Final = OutboundMessage(b"3probe")

_OPENED: Final = Signal.OPENED
_CLOSE_BEGUN: Final = Signal.CLOSE_BEGUN
_CLOSED: Final = Signal.CLOSED

#: How long a client without an open request may take to fetch the news that it was disconnected.
GOODBYE_TIMEOUT_S: Final = 10.0
#: Of what waits conflated, so much leaves at a time; until it does, it can be replaced.
CONFLATED_PORTION_BYTES: Final = 32 * 1024
#: How long a sender waits for a client that takes nothing before it goes on filling the buffer.
STALL_S: Final = 0.25


class Session:
    """``run`` and ``is_queued`` are also written by ``Engine.broadcast``, which does for many what ``send`` does
    for one.
    """

    __slots__ = (
        "__weakref__",
        "_awaits_pong",
        "_candidate",
        "_close_by",
        "_intake",
        "_is_probed",
        "_parting",
        "_ping_due",
        "_room",
        "_stalled",
        "_upgrade_by",
        "address_group",
        "application",
        "application_bytes",
        "application_deadline",
        "close_reason",
        "confirmed_at",
        "conflated",
        "engine",
        "id",
        "is_accepted",
        "is_queued",
        "port",
        "replay",
        "request",
        "run",
        "state",
        "stuck_bytes",
        "user_session",
        "wheel_slot",
    )

    def __init__(self, engine: Engine, session_id: str, request: HttpRequest) -> None:
        self.engine = engine
        self.id = session_id
        #: The handshake request.
        self.request = request
        #: Under which the client's address is counted (``transports.admission``).
        self.address_group = ""
        self.state = OPENING
        self.port: Port | None = None
        #: What waits to be written.
        self.run: Run | None = None
        #: What waits in front of it, since the client has missed it before; None where nothing does.
        self.replay: Replay | None = None
        #: What waits behind it, the newest of each key alone; only while the port takes nothing.
        self.conflated: Conflated | None = None
        #: Whether the engine will flush this session at the end of the turn.
        self.is_queued = False
        #: Whether the application has accepted it, and is to be told of its end.
        self.is_accepted = False
        #: Bytes beside ``run``: what the kernel had not taken when the port last paused, and what is conflated.
        self.stuck_bytes = 0
        self.close_reason = ""
        #: What was sent before this time has reached the client: it has answered a ping that came after.
        self.confirmed_at = 0.0
        #: For the layer above: its own state of this session, and a deadline it may set (0: none).
        self.application: Any = None
        self.application_deadline = 0.0
        #: What it keeps of messages that make nothing whole yet, for the bound on all buffers.
        self.application_bytes = 0
        self.user_session: dict[str, Any] | None = None
        self.wheel_slot = UNSCHEDULED
        self._candidate: Port | None = None
        self._is_probed = False
        self._awaits_pong = False
        self._ping_due = 0.0
        self._upgrade_by = 0.0
        self._close_by = 0.0
        self._parting: Run | None = None  # the last that the client has to be told, once it comes for it
        self._room: asyncio.Future[None] | None = None
        self._stalled = False
        self._intake: Intake | None = None

    # -- what python-socketio's admin interface and applications read ------------------------------------

    @property
    def sid(self) -> str:
        return self.id

    @property
    def transport(self) -> str:
        """Name of the transport in use."""
        return "polling" if self.port is None else self.port.name

    @property
    def upgraded(self) -> bool:
        """Whether a WebSocket serves it, in python-engineio's word for that."""
        return self.transport == "websocket"

    @property
    def connected(self) -> bool:
        return self.state in (OPEN, UPGRADING)

    @property
    def closing(self) -> bool:
        return self.state == CLOSING

    @property
    def closed(self) -> bool:
        return self.state == CLOSED

    @property
    def session(self) -> dict[str, Any]:
        """The user session, made on first use."""
        if self.user_session is None:
            self.user_session = {}
        return self.user_session

    @session.setter
    def session(self, value: dict[str, Any]) -> None:
        self.user_session = value

    # -- life ------------------------------------------------------------------------------------------

    def open(self, port: Port) -> None:
        """The handshake is through; heartbeats begin."""
        self.state = advance(self.state, _OPENED)
        self.is_accepted = True
        self.port = port
        self._ping_due = self.engine.now() + self.engine.ping_interval_s
        self.arm()
        if self.conflated is not None:
            self.queue()

    def arm(self) -> None:
        """Put the wheel entry at the nearest deadline."""
        if self.state >= CLOSING:
            if self.state == CLOSED:
                self.engine.timers.cancel(self)
            else:
                self.engine.timers.schedule(self, self._close_by)
            return
        nearest = self._ping_due + self.engine.ping_timeout_s if self._awaits_pong else self._ping_due
        if self.state == UPGRADING:
            nearest = min(nearest, self._upgrade_by)
        if self.application_deadline:
            nearest = min(nearest, self.application_deadline)
        if self._intake is not None and self._intake.paid_at:
            nearest = min(nearest, self._intake.paid_at)
        port_deadline = None if self.port is None else self.port.deadline()
        if port_deadline is not None:
            nearest = min(nearest, port_deadline)
        self.engine.timers.schedule(self, nearest)

    def on_deadline(self, now: float) -> None:
        if self.state == CLOSING:
            self._finish()
            return
        if self.state == UPGRADING and now >= self._upgrade_by:
            self.drop_candidate(RemoteProtocolError(catalogue.UPGRADE_TIMEOUT))
        if self._beats(now):
            return
        if self._intake is not None:
            self._intake.on_deadline(now)
        if self.application_deadline and now >= self.application_deadline:
            self.application_deadline = 0.0
            self.engine.application_deadline(self)
        if self.port is not None:
            self.port.on_deadline(now)
        if self.state < CLOSING:
            self.arm()

    def expire(self, now: float) -> bool:
        """Whether the heartbeat has run out by ``now``; if so the session is closed.

        Asked when a request arrives, so that the answer does not depend on the wheel's tick.
        """
        if self.state >= CLOSING:
            return False
        if self.is_held:
            self._ping_due = max(self._ping_due, now)  # its pong may be among what we do not read
            return False
        timed_out = (
            self._awaits_pong
            and now >= self._ping_due + self.engine.ping_timeout_s
            and not self.engine.timers.is_behind(now)
        )
        if timed_out:
            self.close(reasons.PING_TIMEOUT)
        return timed_out

    def _beats(self, now: float) -> bool:
        """Heartbeat; True if it has run out."""
        if self._awaits_pong:
            return self.expire(now)
        if now >= self._ping_due:
            self._awaits_pong = True
            self.send(PING)
        return False

    def _pong(self) -> None:
        if self._awaits_pong:
            self._awaits_pong = False
            self.confirmed_at = self._ping_due
            self._ping_due = max(self._ping_due + self.engine.ping_interval_s, self.engine.now())
            self.arm()

    # -- out -------------------------------------------------------------------------------------------

    def send(self, message: OutboundMessage) -> None:
        """Have ``message`` written with everything else of this turn."""
        if self.state >= CLOSING:
            self.engine.counters.dropped_closed += 1
            return
        run = self.run
        run = self.run = message if run is None else LongerRun(run, message)
        if not self.is_queued:
            self.is_queued = True
            self.engine.queue(self)
        if self.stuck_bytes or run.nbytes > self.engine.write_through_bytes:
            self.has_grown()

    def queue(self) -> None:
        if not self.is_queued:
            self.is_queued = True
            self.engine.queue(self)

    def is_ready(self) -> bool:
        """Whether the client takes a message now: what decides over volatile ones."""
        return self.state < CLOSING and self.port is not None and self.port.writable

    def is_plain(self) -> bool:
        """Whether nothing waits beside ``run``, and nobody for room in the buffer."""
        return self.conflated is None and self.replay is None and self._room is None and not self._stalled

    def flush(self) -> None:
        """Write what waits, if the port can take it."""
        if self.replay is not None:
            if self.port is not None:
                self.replay.write(self.port)
            if self.replay:
                return
            self.replay = None
        if self.conflated is not None:
            self._flush_conflated()
            return
        run = self.run
        port = self.port
        if run is not None and port is not None and port.writable and self.state < CLOSING:
            # Out of the buffer before it is in the kernel's: the port may pause, and be judged, inside of write.
            self.run = None
            rest = port.write(run)
            if rest is not None:
                self.run = rest
            if self._room is not None or self._stalled:
                self._has_room()

    def send_again(self, messages: Iterable[OutboundMessage]) -> None:
        """Send what the client has missed: behind what waits now, and however much it is, as the client takes it."""
        if self.state >= CLOSING:
            self.engine.counters.dropped_closed += 1
            return
        self.replay = self.replay or Replay()
        run, self.run = self.run, None
        self.replay.add([*(() if run is None else run.messages()), *messages])
        self.queue()

    def _flush_conflated(self) -> None:
        """``flush`` where some of what waits is conflated: what is reliable goes first.

        A portion at a time, so that what the port does not take can still be replaced.
        """
        port = self.port
        rest: Run | None = None
        while rest is None and port is not None and port.writable and self.state < CLOSING:
            kept = [] if self.conflated is None else self._take_conflated(CONFLATED_PORTION_BYTES)
            # In one write: the answer of a poll has to carry both.
            run, self.run = behind(self.run, kept), None
            if run is None:
                break
            rest = port.write(run)
            if rest is not None and self.state < CLOSING:
                self.run, left = divide_rest(rest, kept)
                if left:
                    self.conflated = self.conflated or Conflated()
                    self.conflated.put_back(left)
            self._has_room()
        if self.state < CLOSING:
            self._measure()

    def _take_conflated(self, nbytes: int) -> list[Kept]:
        conflated = self.conflated
        if conflated is None:
            return []
        taken = conflated.take(nbytes)
        if not conflated:
            self.conflated = None
        return taken

    def conflate(self, key: Hashable, message: OutboundMessage) -> None:
        """Send ``message``; while the client takes nothing, it waits for it only until there is a newer one of ``key``.

        What waits so comes after everything that waits reliably.
        """
        if self.takes_conflated():
            self.send(message)
        else:
            self.keep_newest(key, message)

    def takes_conflated(self) -> bool:
        """Whether a conflated message is sent like any other now."""
        return self.conflated is None and self.is_ready()

    def keep_newest(self, key: Hashable, message: OutboundMessage) -> bool:
        """Let ``message`` wait as the newest of ``key``; False where it will not be written, since the session ends."""
        if self.state >= CLOSING:
            self.engine.counters.dropped_closed += 1
            return False
        if self.conflated is None:
            self.conflated = Conflated()
        if self.conflated.put(key, message.waiting(self)):
            self.engine.counters.conflated += 1
        if self.port is not None and self.port.writable:
            self.queue()
            return True
        return self._is_within_bound()

    def withdraw_conflated(self, is_meant: Callable[[Hashable], bool]) -> list[OutboundMessage]:
        """What waits conflated under keys that ``is_meant`` accepts; it waits no more."""
        if self.conflated is None:
            return []
        withdrawn = self.conflated.withdraw(is_meant)
        if not self.conflated:
            self.conflated = None
        self._measure()
        return withdrawn

    def has_grown(self) -> bool:
        """The run is long, or the port stuck: write through, or enforce the bound.

        False where the last message will not be written, since the session is ending.
        """
        if self.run is None or self.state >= CLOSING:
            self.run = None
            return False
        if self.port is not None and self.port.writable:
            self.flush()
            return True
        return self._is_within_bound()

    def _measure(self) -> None:
        """Bring ``stuck_bytes`` up to date."""
        port = self.port
        stuck = 0 if port is None or port.writable else port.buffered_bytes()
        self.stuck_bytes = stuck if self.conflated is None else stuck + self.conflated.nbytes

    def _is_within_bound(self) -> bool:
        """Enforce ``max_buffered_bytes``. A single message may be larger where nothing else waits."""
        self._measure()
        run, conflated = self.run, self.conflated
        waiting = self.stuck_bytes if run is None else self.stuck_bytes + run.nbytes
        if waiting <= self.engine.max_buffered_bytes:
            return True
        if run is None:
            is_single = conflated is not None and len(conflated) == 1 and conflated.nbytes == waiting
        else:
            is_single = run.parent is None and not self.stuck_bytes
        if is_single:
            return True
        detail = f"{waiting} bytes wait, max_buffered_bytes is {self.engine.max_buffered_bytes}"
        self.close(reasons.SLOW_CLIENT, detail=detail)
        return False

    def backlog(self) -> int:
        """Bytes that wait here and in the port."""
        waiting = 0 if self.run is None else self.run.nbytes
        if self.conflated is not None:
            waiting += self.conflated.nbytes
        return waiting if self.port is None else waiting + self.port.buffered_bytes()

    def held_bytes(self) -> int:
        """Bytes that are kept for the client or of it, in either direction."""
        ports = (self.port, self._candidate)
        held = self.backlog() + self.application_bytes + (0 if self.replay is None else self.replay.nbytes)
        if self._intake is not None:
            held += self._intake.buffered_bytes()
        return held + sum([port.buffered_in() for port in ports if port is not None])

    async def wait_for_room(self) -> None:
        """Wait while more than half of the buffer is in use and the client takes some of it.

        A client that has taken nothing for ``STALL_S`` is not waited for again until it does.
        """
        while self.state < CLOSING and not self._stalled:
            if self.backlog() * 2 < self.engine.max_buffered_bytes:
                return
            if self._room is None:
                self._room = asyncio.get_running_loop().create_future()
            before = self.backlog()
            await asyncio.wait((self._room,), timeout=STALL_S)
            if self.state < CLOSING and self.backlog() >= before:
                self._stalled = True

    def _has_room(self) -> None:
        self._stalled = False
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    # -- in --------------------------------------------------------------------------------------------

    def receive_message(self, port: Port, data: str | bytes) -> None:
        """A message packet, the common case."""
        if port is self.port:
            if self.state < CLOSING:
                self.engine.deliver(self, data)
        elif port is self._candidate:
            self.port_failed(port, RemoteProtocolError(catalogue.PROBE_EXPECTED))

    def receive(self, port: Port, packet: Packet) -> None:
        """Any packet that ``port`` has read."""
        if packet.type is PacketType.MESSAGE:
            self.receive_message(port, packet.data)
        elif port is self._candidate:
            self._receive_from_candidate(packet)
        elif port is self.port and self.state < CLOSING:
            if packet.type is PacketType.PONG:
                self._pong()
            elif packet.type is PacketType.CLOSE:
                self.close(reasons.CLIENT_DISCONNECT)
            elif packet.type is not PacketType.NOOP:
                error = RemoteProtocolError(catalogue.UNEXPECTED_PACKET, type=packet.type.name.lower())
                self.port_failed(port, error)

    @property
    def intake(self) -> Intake:
        """What is special about taking in what the client sends; made on first use.

        Of a session that has ended it is not kept: the two would hold each other for ever.
        """
        intake = self._intake
        if intake is None:
            intake = Intake(self)
            if self.state != CLOSED:
                self._intake = intake
        return intake

    @property
    def is_held(self) -> bool:
        """Whether nothing is read from the client just now."""
        return self._intake is not None and self._intake.holds != Hold.NONE

    def taken_up_again(self) -> None:
        """The client is read again: what it has to answer may have come meanwhile, so its time begins anew."""
        if self._awaits_pong:
            self._ping_due = max(self._ping_due, self.engine.now())
            self.arm()

    def http_port(self, transport: str) -> Port | None:
        """The port that ``transport`` names, in use or trying to."""
        for port in (self.port, self._candidate):
            if port is not None and port.name == transport:
                return port
        return None

    # -- upgrade ---------------------------------------------------------------------------------------

    def begin_upgrade(self, candidate: Port) -> None:
        """``candidate`` tries to take over.

        Raises: RequestRefused where another does, or where it is no step up.
        """
        if self.state == UPGRADING:
            raise RequestRefused(catalogue.UPGRADE_UNDER_WAY)
        if not self.may_upgrade_to(candidate.name):
            raise RequestRefused(catalogue.NO_SUCH_UPGRADE, current=self.transport, wanted=candidate.name)
        self.state = advance(self.state, Signal.UPGRADE_BEGUN)
        self._candidate = candidate
        self._is_probed = False
        self._upgrade_by = self.engine.now() + self.engine.upgrade_timeout_s
        self.arm()

    def may_upgrade_to(self, transport: str) -> bool:
        return self.state == OPEN and transport in self.engine.upgrades_from(self.transport)

    @property
    def is_releasing(self) -> bool:
        """Whether requests of the old transport are to be answered at once, so that the client can pause."""
        return self.state == UPGRADING and self._is_probed

    def _receive_from_candidate(self, packet: Packet) -> None:
        candidate = self._candidate
        if candidate is None:
            return
        if not self._is_probed and packet == (PacketType.PING, "probe"):
            self._is_probed = True
            candidate.write(_PROBE_ANSWER)
            if self.port is not None:
                self.flush()
                self.port.release()
        elif self._is_probed and packet.type is PacketType.UPGRADE:
            self._complete_upgrade(candidate)
        else:
            self.port_failed(candidate, RemoteProtocolError(catalogue.PROBE_EXPECTED))

    def _complete_upgrade(self, candidate: Port) -> None:
        old, self.port = self.port, candidate
        self._candidate = None
        self.state = advance(self.state, Signal.UPGRADE_ENDED)
        self._measure()
        if old is not None:
            if self._intake is not None:
                self._intake.port_replaced(old, candidate)
            old.detach()
        if self.is_held:
            candidate.pause_reading()
        self.engine.counters.upgrades += 1
        self.flush()
        self.arm()

    def drop_candidate(self, error: RefusedError) -> None:
        """The upgrade has failed; the session stays where it is."""
        candidate, self._candidate = self._candidate, None
        if candidate is None:
            return
        self.state = advance(self.state, Signal.UPGRADE_ENDED)
        if isinstance(error, RemoteProtocolError):  # a refused request is counted by whoever answers it
            self.engine.note_refusal(error.refusal, error.message, self.request, self.id)
        if candidate.close(None, code=error.close_code, reason=error.message, by_client=False) is not None:
            candidate.abort()
        self.arm()

    # -- news from the ports ---------------------------------------------------------------------------

    def port_paused(self, port: Port) -> None:
        if port is self.port:
            self._measure()
            if self.run is not None or self.conflated is not None:
                self._is_within_bound()

    def port_resumed(self, port: Port) -> None:
        if port is self.port and port.writable:
            self.stuck_bytes = 0
            self._has_room()
            self.flush()

    def port_lost(self, port: Port, reason: str) -> None:
        """The connection is gone, without a good-bye."""
        if port is self._candidate:
            self._candidate = None
            self.state = advance(self.state, Signal.UPGRADE_ENDED)
            logger.info("session %s stays on %s: the upgrade's connection was lost", self.id, self.transport)
            self.arm()
        elif port is self.port:
            self.close(reason)

    def port_failed(self, port: Port, error: RemoteProtocolError) -> None:
        """The peer broke the protocol on ``port``."""
        if self._intake is not None:
            self._intake.port_failed(port, error)
        if port is self._candidate:
            self.drop_candidate(error)
        elif port is self.port and self.state < CLOSING:
            self.engine.note_refusal(error.refusal, error.message, self.request, self.id)
            self.close(error.refusal.reason or reasons.PARSE_ERROR, error.close_code, told=error.message)

    # -- end -------------------------------------------------------------------------------------------

    def close(self, reason: str, code: int | None = None, *, told: str = "", detail: str = "") -> None:
        """Say good-bye and end. ``code`` is the WebSocket close code, by default the catalogue's for ``reason``.
        ``told`` is what it is told, by default the reason; ``detail`` is for the log.

        What waits is still written where the client can take it, except to a slow one.
        """
        if self.state >= CLOSING:
            return
        if self.state == UPGRADING:
            self.drop_candidate(RemoteProtocolError(catalogue.UPGRADE_CUT))
        self.state = advance(self.state, _CLOSE_BEGUN)
        self.close_reason = reason
        run, self.run = self.run, None
        if self.replay is not None:
            self.replay.clear()
            run = None  # behind it; the client comes back for both
        if self.conflated is not None:
            run = behind(run, self.conflated)
            self.conflated = None
        self.stuck_bytes = 1  # sends whoever broadcasts by way of has_grown, which refuses
        if self._room is not None:
            self._has_room()
        if self.is_accepted:
            self.engine.session_closes(self)
        closing = catalogue.CLOSINGS.get(reason)
        if closing is not None:
            self.engine.note_refusal(closing, detail or reason, self.request, self.id)
            code = code or closing.close_code
        self._parting = self._leave(run, reason, code, told or reason)
        if self._parting is None:
            self._finish()
        else:
            self._close_by = self.engine.now() + GOODBYE_TIMEOUT_S
            self.arm()
        if self._intake is not None:
            self._intake.end()
            self._intake = None

    def _leave(self, run: Run | None, reason: str, code: int | None, told: str) -> Run | None:
        """Good-bye on the port; what is left to be said when the client comes for it."""
        port = self.port
        if port is None:
            return None
        if reason in reasons.WITHOUT_GOODBYE or (reason == reasons.PING_TIMEOUT and not port.writable):
            port.abort()
            return None
        if code is None:
            code = CloseCode.PROTOCOL_ERROR if reason == reasons.PARSE_ERROR else CloseCode.NORMAL
        if reason == reasons.PING_TIMEOUT:
            run = None
        left = port.close(run, code=code, reason=told, by_client=reason == reasons.CLIENT_DISCONNECT)
        return left if reason in reasons.WAITS_FOR_CLIENT else None

    def say_goodbye(self) -> None:
        """The client has come for it: its request is open on the port."""
        if self._parting is not None and self.port is not None:
            self._parting = self.port.part(self._parting)
        if self._parting is None:
            self._finish()

    def give_up(self) -> None:
        """End without waiting any longer for the client to come."""
        if self.state == CLOSING:
            self._finish()

    def _finish(self) -> None:
        if self.state == CLOSED:
            return
        self.state = advance(self.state, _CLOSED)
        self.run = None
        self.port = None
        if self._intake is not None:
            self._intake.end()
            self._intake = None
        self.engine.session_closed(self)

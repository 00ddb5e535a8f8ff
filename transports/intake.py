"""What a session takes in, how fast, and what waits while it takes nothing.

Nothing that a client sends is dropped for coming too fast: reading pauses, TCP tells the client, and a POST is
answered when its packets have been taken.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntFlag
from math import inf
from typing import TYPE_CHECKING, Final

from . import catalogue, reasons
from .errors import RemoteProtocolError, RequestRefused
from .protocol.lifecycle import State
from .protocol.packets import decode_payload, packet_count

if TYPE_CHECKING:
    from .ports import Port
    from .session import Session

#: What may come at once after silence, in seconds of the rate.
BURST_S: Final = 2.0
#: What is taken of one client before the others have their turn: packets of a POST, or what a WebSocket reports to have
#: read at once. The bytes are what fills the loop's buffer, so that there may be more: uvloop reads 32 times before it
#: looks at other connections, unless it is told not to.
TURN_PACKETS: Final = 256
TURN_BYTES: Final = 250_000


class Hold(IntFlag):
    """Why nothing is read from a client just now."""

    NONE = 0
    #: It has sent more than its rates allow.
    RATE = 1
    #: Handlers of its events are still busy with what it has sent.
    HANDLERS = 2
    #: Handlers of all clients are.
    ALL_HANDLERS = 4
    #: It has had its turn of the loop.
    TURN = 8


class Rates:
    """What one client may send in a second; 0 is no limit.

    ``report_packets`` and ``report_bytes``: how much a WebSocket receives before it tells the meter, so that the usual
    message costs two additions, and a client that says little has no meter.
    """

    __slots__ = ("bytes_per_s", "packets_per_s", "report_bytes", "report_packets")

    def __init__(self, packets_per_s: float, bytes_per_s: float) -> None:
        self.packets_per_s = packets_per_s or inf
        self.bytes_per_s = bytes_per_s or inf
        self.report_packets = min(self.packets_per_s, 64)
        self.report_bytes = min(self.bytes_per_s, 64 * 1024)


class RateMeter:
    """Two token buckets, for packets and for bytes. The clock is read only where one seems to be empty."""

    __slots__ = ("_bytes_left", "_packets_left", "_rates", "_since")

    def __init__(self, rates: Rates, now: float) -> None:
        self._rates = rates
        self._since = now
        self._packets_left = rates.packets_per_s * BURST_S
        self._bytes_left = rates.bytes_per_s * BURST_S

    def spend(self, packets: int, nbytes: int) -> bool:
        """Take out of the buckets what has been received; True where ``debt_s`` is worth asking."""
        self._packets_left -= packets
        self._bytes_left -= nbytes
        return self._packets_left < 0 or self._bytes_left < 0

    def debt_s(self, now: float) -> float:
        """Seconds until both buckets are out of debt."""
        rates = self._rates
        passed = now - self._since
        self._since = now
        self._packets_left = min(self._packets_left + passed * rates.packets_per_s, rates.packets_per_s * BURST_S)
        self._bytes_left = min(self._bytes_left + passed * rates.bytes_per_s, rates.bytes_per_s * BURST_S)
        debt = 0.0
        if self._packets_left < 0:
            debt = -self._packets_left / rates.packets_per_s
        if self._bytes_left < 0:
            debt = max(debt, -self._bytes_left / rates.bytes_per_s)
        return debt


class Post:
    """One POST that was received. ``taken`` answers it, when the last of its packets has been taken.

    ``is_suspended``: the session is held, and some have not. ``failure``: what was wrong with one that was.
    """

    __slots__ = ("failure", "is_suspended", "nbytes", "packets", "port", "taken")

    def __init__(self, port: Port, body: bytes, taken: Callable[[RemoteProtocolError | None], None]) -> None:
        self.port = port
        self.packets = decode_payload(body)
        self.nbytes = len(body)
        self.taken = taken
        self.is_suspended = False
        self.failure: RemoteProtocolError | None = None


class Arriving:
    """A POST that is being received. ``shed`` answers it where its memory is needed."""

    __slots__ = ("nbytes", "shed")

    def __init__(self, shed: Callable[[], None]) -> None:
        self.shed = shed
        self.nbytes = 0


class Intake:
    """Back-pressure on one client, and its POSTs. Made for a session that needs it; most never do."""

    __slots__ = ("_meter", "_posting", "_posts", "_session", "holds", "paid_at")

    def __init__(self, session: Session) -> None:
        self._session = session
        rates = session.engine.rates
        self._meter = None if rates is None else RateMeter(rates, session.engine.now())
        self.holds = Hold.NONE
        #: When the client is within its rates again; 0 while it is.
        self.paid_at = 0.0
        self._posting: dict[Port, Arriving] = {}  # those for which a POST is being received
        self._posts: tuple[Post, ...] = ()  # those that were received, and whose packets are being taken

    # -- holding -----------------------------------------------------------------------------------------

    def hold(self, cause: Hold) -> None:
        """Read nothing from the client until ``let_go``; its heartbeat does not run out meanwhile."""
        if not self.holds and self._session.port is not None:
            self._session.port.pause_reading()
        self.holds |= cause

    def let_go(self, cause: Hold) -> None:
        """This cause to hold the client is over. Reading goes on in a later turn of the loop."""
        if self.holds & cause:
            self.holds &= ~cause
            if not self.holds:
                self._session.engine.loop.call_soon(self._resume)

    def _resume(self) -> None:
        session = self._session
        if self.holds or session.state >= State.CLOSING:
            return
        session.taken_up_again()
        for post in self._posts:
            if post.is_suspended and not self.holds:
                self._take(post)
        if session.port is not None and not self.holds:
            session.port.resume_reading()

    def _wait_for_turn(self) -> None:
        """Go on in the next turn of the loop."""
        if not self.holds & Hold.TURN:
            self.hold(Hold.TURN)
            self._session.engine.loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self.holds &= ~Hold.TURN
        self._resume()

    def spend(self, packets: int, nbytes: int) -> None:
        """So much was read: read no more in this turn where that is much, or for a while where it is over the client's
        rates.
        """
        if (packets >= TURN_PACKETS or nbytes >= TURN_BYTES) and self._session.state < State.CLOSING:
            self._wait_for_turn()
        self._pay(packets, nbytes)

    def _pay(self, packets: int, nbytes: int) -> None:
        session, meter = self._session, self._meter
        if meter is None or not meter.spend(packets, nbytes) or session.state >= State.CLOSING:
            return
        now = session.engine.now()
        debt_s = meter.debt_s(now)
        if debt_s:
            session.engine.counters.throttled += 1
            self.paid_at = now + debt_s
            self.hold(Hold.RATE)
            session.arm()

    def on_deadline(self, now: float) -> None:
        """Of the session, which may be ours."""
        if self.paid_at and now >= self.paid_at:
            self.paid_at = 0.0
            self.let_go(Hold.RATE)

    # -- POSTs -------------------------------------------------------------------------------------------

    def buffered_bytes(self) -> int:
        """Of POSTs that are not whole yet, or not taken."""
        arriving = sum([arriving.nbytes for arriving in self._posting.values()])
        return arriving + sum([post.nbytes for post in self._posts])

    def begin_post(self, port: Port, shed: Callable[[], None]) -> None:
        """A POST for ``port`` has come. ``shed`` is called where the session is shed before its body has come.

        Raises: RequestRefused where another for the same port is still being taken; the session is closed then.
        """
        if port in self._posting or any(post.port is port for post in self._posts):
            self._session.close(reasons.PARSE_ERROR)
            raise RequestRefused(catalogue.OVERLAPPING_POST)
        self._posting[port] = Arriving(shed)

    def arrive(self, port: Port, nbytes: int) -> None:
        """So much more of its body has come."""
        arriving = self._posting.get(port)
        if arriving is not None:
            arriving.nbytes += nbytes
            self._session.engine.received_in_part(nbytes)

    def end_post(self, port: Port) -> None:
        """Its body has come, or will not come."""
        self._posting.pop(port, None)

    def take(self, port: Port, body: bytes, taken: Callable[[RemoteProtocolError | None], None]) -> None:
        """The packets of one POST. ``taken`` is called once, when the last of them has been taken, with what was
        wrong with one of them; those after it are not taken.
        """
        post = Post(port, body, taken)
        self._posts += (post,)
        self._pay(packet_count(body), len(body))
        self._take(post)
        if post.is_suspended:
            self._session.engine.received_in_part(post.nbytes)

    def _take(self, post: Post) -> None:
        session = self._session
        post.is_suspended = False
        for _ in range(TURN_PACKETS):
            try:
                packet = next(post.packets, None)
            except RemoteProtocolError as error:
                post.failure = error
                session.port_failed(post.port, error)
                break
            if packet is None:
                break
            session.receive(post.port, packet)
            if post.failure is not None or session.state >= State.CLOSING:
                break
            if self.holds and post.port is session.port:
                post.is_suspended = True
                return
        else:
            post.is_suspended = True
            self._wait_for_turn()
            return
        self._posts = tuple([other for other in self._posts if other is not post])
        post.taken(post.failure)

    def port_replaced(self, old: Port, new: Port) -> None:
        """The session has gone on from ``old`` to ``new``; what it was sent before that is still to be taken."""
        for post in self._posts:
            if post.port is old and post.is_suspended:
                post.port = new

    def port_failed(self, port: Port, error: RemoteProtocolError) -> None:
        """The answer to what is being taken on ``port`` says so."""
        for post in self._posts:
            if post.port is port:
                post.failure = error

    def end(self) -> None:
        """The session ends: answer what waits for an answer. What is being taken further up the stack is not held."""
        self.holds = Hold.NONE
        if self._session.close_reason == reasons.MEMORY_SHED:
            # Others are received to their end, so that a client hears of the end of its session by its GET.
            posting, self._posting = self._posting, {}
            for arriving in posting.values():
                arriving.shed()
        posts, self._posts = self._posts, ()
        for post in posts:
            if post.is_suspended:
                post.taken(post.failure)

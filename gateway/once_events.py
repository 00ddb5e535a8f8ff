"""The event ``tidegate:once``: messages that a client sends until they are answered, and whose handlers run once.

On the wire, from the client, with an ack id::

    ["tidegate:once", stream, number, floor, event, ...args]

``docs/delivery-from-clients.md`` says what it promises; ``gateway.once`` is the machine behind it.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from transports.protocol.timing_wheel import UNSCHEDULED
from transports.timers import Timers

from . import catalogue
from .channels import as_arguments
from .codec import RESERVED_EVENTS, KeptAck
from .dispatch import CANCELLED, FAILED, NOT_HANDLED
from .members import CONNECTED, Member
from .once import MAX_OUTSTANDING, MAX_WAITING, Message, OnceTable, Refused

if TYPE_CHECKING:
    from .server import Server

logger = logging.getLogger("tidegate.once")

ONCE_EVENT: Final = "tidegate:once"
#: A client needs one for each namespace; an application that draws a new one for each message does it wrong.
MAX_STREAMS_PER_CLIENT: Final = 16
#: JavaScript's greatest safe integer.
MAX_NUMBER: Final = 2**53 - 1
#: Streams that are forgotten in one turn of the loop.
PORTION: Final = 1_000

_STREAM: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")

#: Who asks: the ack id of one copy.
Copy = tuple[Member, int]
#: What travels with an event in place of its ack id.
OnceMessage = Message[Copy, KeptAck]

#: The first value of an ack.
HANDLED, RAISED, UNHANDLED, SETTLED, REFUSED = range(5)


class _MalformedError(Exception):
    """The text of the fault."""


class OnceEvents:
    """Of one server."""

    #: For the timing wheel, in which this waits for the end of the oldest window.
    wheel_slot = UNSCHEDULED

    def __init__(self, server: Server) -> None:
        limits = server.limits
        self._server = server
        self._table: OnceTable[Copy, KeptAck] = OnceTable(
            limits.once_window_s, limits.max_once_streams, limits.max_once_bytes
        )
        self._timers: Timers | None = None

    # -- in --------------------------------------------------------------------------------------------

    def receive(self, member: Member, data: list[Any], ack_id: int | None) -> OnceMessage | None:
        """The message whose handler is to be run; None where this copy needs none, and has been seen to.

        ``data`` begins with the event's name afterwards.
        """
        try:
            stream, number, floor, event = _read(data)
            if ack_id is None:
                _fault("it has no ack id")
        except _MalformedError as malformed:
            self._refuse(member, ack_id, REFUSED, catalogue.BAD_ONCE, fault=malformed)
            return None
        if not number:
            self._server.acknowledge(member, ack_id, HANDLED)
            return None
        if stream not in member.once_streams:
            if len(member.once_streams) >= MAX_STREAMS_PER_CLIENT:
                self._refuse(member, ack_id, REFUSED, catalogue.TOO_MANY_STREAMS, limit=MAX_STREAMS_PER_CLIENT)
                return None
            member.once_streams += (stream,)
        message = self._take(member, stream, number, floor)
        if isinstance(message, Refused):
            self._refuse_message(member, ack_id, number, message)
            return None
        if message.answer is not None:
            self._answer(member, ack_id, message.answer)
            return None
        given_up = message.wait((member, ack_id))
        if given_up is not None and is_reachable(given_up[0]):
            self._server.drop(given_up[0], catalogue.COPY_GIVEN_UP, number=number, limit=MAX_WAITING)
        if message.copies:
            return None
        message.event = event
        del data[:4]
        return message

    def _take(self, member: Member, stream: str, number: int, floor: int) -> OnceMessage | Refused:
        table = self._table
        counters = self._server.eio.counters
        now = self._server.eio.now()
        self._watch(now)
        message = table.take((member.namespace, stream), number, floor, now)
        counters.once_forgotten += table.evicted
        table.evicted = 0
        if not isinstance(message, Refused) and message.copies:
            counters.once_copies += 1
        return message

    # -- out -------------------------------------------------------------------------------------------

    def settle(self, member: Member, message: OnceMessage, result: Any) -> None:
        """The handler of ``message`` has ended, with what ``Server.acknowledge`` was given: tell all who wait."""
        server = self._server
        if result is CANCELLED:
            if not any(is_reachable(asking) for asking, _ in message.askers):
                self._table.abandon(message, server.eio.now())
                self._watch(server.eio.now())
                return
            result = FAILED  # whoever is still there waits for an answer, and would do so for ever
        answer = self._kept(member, message, result)
        askers = self._table.settle(message, answer, answer.nbytes, server.eio.now())
        server.eio.counters.once_handled += 1
        for asking, ack_id in askers:
            self._answer(asking, ack_id, answer)
        self._watch(server.eio.now())

    def _kept(self, member: Member, message: OnceMessage, result: Any) -> KeptAck:
        server = self._server
        if result is not FAILED:
            if result is NOT_HANDLED:
                values = [UNHANDLED, {"message": catalogue.UNHANDLED_EVENT.text(event=shortened(message.event))}]
            else:
                values = [HANDLED, *as_arguments(result)]
            try:
                return KeptAck(server.packet_class, member.namespace, values)
            except Exception:  # the application's data, and its encoder
                logger.exception("what a handler returned cannot be sent as an ack")
        server.drop(member, catalogue.EVENT_FAILED)
        return KeptAck(server.packet_class, member.namespace, [RAISED, {"message": catalogue.EVENT_FAILED.message}])

    def _answer(self, member: Member, ack_id: int, answer: KeptAck) -> None:
        if member.state is CONNECTED:
            self._server.eio.post(member.session, answer.message(ack_id))

    def _refuse_message(self, member: Member, ack_id: int, number: int, refused: Refused) -> None:
        if refused is Refused.SETTLED:
            self._refuse(member, ack_id, SETTLED, catalogue.ONCE_SETTLED, number=number)
        elif refused is Refused.OUTSTANDING:
            self._refuse(member, ack_id, REFUSED, catalogue.ONCE_OUTSTANDING, limit=MAX_OUTSTANDING)
        else:
            self._refuse(member, ack_id, REFUSED, catalogue.ONCE_FULL)

    def _refuse(self, member: Member, ack_id: int | None, kind: int, row: Any, **fields: Any) -> None:
        self._server.drop(member, row, **fields)
        self._server.acknowledge(member, ack_id, (kind, {"message": row.text(**fields)}))

    # -- forgetting ------------------------------------------------------------------------------------

    def _watch(self, now: float) -> None:
        """Be called when a stream's time is over."""
        timers = self._server.eio.timers
        if timers is not self._timers:  # those of another loop
            if self._timers is not None:
                self._table.abandon_all(now)
            self._timers = timers
            self.wheel_slot = UNSCHEDULED
        deadline = self._table.next_deadline()
        if deadline is not None and self.wheel_slot == UNSCHEDULED:
            timers.schedule(self, deadline)

    def on_deadline(self, now: float) -> None:
        if self._table.expire(now, PORTION) == PORTION:
            self._server.eio.timers.schedule(self, now)
        else:
            self._watch(now)


def is_reachable(member: Member) -> bool:
    """Whether an answer may still reach the client over this connection."""
    return member.state is CONNECTED and not (member.session.closing or member.session.closed)


def shortened(event: Any) -> Any:
    """An event's name as it is shown."""
    return event[:100] if isinstance(event, str) else event


def _fault(text: str) -> NoReturn:
    raise _MalformedError(text)


def _read(data: list[Any]) -> tuple[str, int, int, Any]:
    """Stream, number, floor and event; number 0 asks whether anybody is there, and has no event.

    Raises: _MalformedError.
    """
    if len(data) < 4:
        _fault("it is [stream, number, floor, event, ...args]")
    _, stream, number, floor, *rest = data
    if not isinstance(stream, str) or not _STREAM.fullmatch(stream):
        _fault("the stream must be 16 to 64 characters out of A-Z a-z 0-9 _ -")
    if type(number) is not int or not 0 <= number <= MAX_NUMBER:
        _fault("the number must be an integer of 0 or more")
    if number == 0:
        if rest:
            _fault("number 0 goes without an event")
        return stream, 0, 0, None
    if type(floor) is not int or not 1 <= floor <= number:
        _fault("the floor must be an integer of 1 or more, and not above the number")
    event = rest[0] if rest else None
    if not isinstance(event, str) and type(event) is not int:
        _fault("the event's name must be text or an integer")
    if event in RESERVED_EVENTS or event == ONCE_EVENT:
        _fault(f"event name {event!r} is reserved")
    return stream, number, floor, event

"""What a server writes down so that clients can come back: its messages and members, in ``gateway.recovery``.

On the wire, with recovery on:

- An event carries an offset as its last argument: its own, or, where it is volatile and not kept, the newest.
- A conflated event that had to wait, and so comes after newer ones, carries null instead. A client takes text alone
  for an offset, so what it remembers stays right.
- An event that asks for an ack can carry neither: its handler gets the ack function last. Where a client might take
  its last argument for an offset, ``tidegate:offset`` follows with the right one.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from transports import reasons, session_ids
from transports.outbound import OutboundMessage
from transports.protocol.timing_wheel import UNSCHEDULED
from transports.session import Session
from transports.timers import Timers

from .codec import EVENT, to_outbound
from .delivery import Delivery, How
from .encoded_events import in_form_of, with_last_argument
from .members import Member
from .recovery import Place, Recovery, UnrecoverableError

if TYPE_CHECKING:
    from .server import Server

#: The event that tells a client nothing but an offset.
OFFSET_EVENT: Final = "tidegate:offset"
#: How often what is too old is dropped.
SWEEP_S: Final = 1.0

_EPOCH_LENGTH: Final = 8
#: Two ids of 120 random bits each.
_PID: Final = re.compile(r"[A-Za-z0-9_-]{40}")
#: Last arguments that no encoder turns into text.
_NEVER_TEXT: Final = (bool, int, float, list, tuple, dict, bytes, bytearray, memoryview, type(None))


class Claim(NamedTuple):
    """What a client says that comes back; ``offset`` is None where it has never seen one."""

    pid: str
    offset: str | None


def take_claim(payload: Any) -> tuple[Claim | None, Any]:
    """The claim in the payload of a CONNECT, and the rest of that, which is the application's.

    An application may have fields of these names itself: what does not look like ours is left alone.
    """
    if not isinstance(payload, dict):
        return None, payload
    pid, offset = payload.get("pid"), payload.get("offset")
    if not isinstance(pid, str) or _PID.fullmatch(pid) is None or not isinstance(offset, str | None):
        return None, payload
    return Claim(pid, offset), {name: value for name, value in payload.items() if name not in ("pid", "offset")}


class ConflatedEvent(OutboundMessage):
    """A conflated event with its offset, and its other form for clients that have to wait for it."""

    __slots__ = ("_encode_late", "_late", "_namespace", "_position", "_recorder")

    def __init__(
        self,
        message: OutboundMessage,
        recorder: Recorder,
        namespace: str,
        position: int,
        encode_late: Callable[[], OutboundMessage],
    ) -> None:
        super().__init__(message.text, message.attachments)
        self._recorder = recorder
        self._namespace = namespace
        self._position = position
        self._encode_late = encode_late
        self._late: OutboundMessage | None = None

    def waiting(self, session: Session) -> OutboundMessage:
        member = session.application.members.get(self._namespace)
        if member is not None:
            self._recorder.make_late(member, self._position)
        if self._late is None:
            self._late = self._encode_late()
        return self._late


class Recorder:
    """Of one server. An entry of its timing wheel drops what is too old."""

    def __init__(self, server: Server, recovery_s: float, max_bytes: int, max_clients: int) -> None:
        if not (recovery_s > 0 and math.isfinite(recovery_s)):
            raise ValueError(f"recovery_s must be 0 (off) or a time in seconds, not {recovery_s!r}")
        for name, value in (("recovery_max_bytes", max_bytes), ("recovery_max_clients", max_clients)):
            if not value >= 1:
                raise ValueError(f"{name} must be 1 or more, not {value!r}")
        engine = server.eio
        self._server = server
        self.recovery = Recovery(
            epoch=session_ids.draw()[:_EPOCH_LENGTH],
            window_s=recovery_s,
            notice_s=engine.ping_interval_s + engine.ping_timeout_s + SWEEP_S,
            max_bytes=max_bytes,
            max_places=max_clients,
        )
        self.wheel_slot = UNSCHEDULED
        self._timers: Timers | None = None  # in whose wheel this is
        self._late: set[Member] = set()
        self._claimants: dict[str, Member] = {}
        self._vacancies: dict[str, list[asyncio.Future[None]]] = {}

    # -- messages --------------------------------------------------------------------------------------

    def event(
        self,
        event: str,
        arguments: list[Any],
        namespace: str,
        rooms: Any,
        delivery: Delivery,
        skipped: Any = (),
        excepted: Any = (),
    ) -> OutboundMessage:
        """The event as it is sent to ``rooms`` now; kept, unless it is volatile.

        Raises: TypeError, ValueError for data that cannot be encoded.
        """
        recovery = self.recovery
        if delivery.how is How.VOLATILE:
            return self._encode(namespace, [event, *arguments, recovery.newest_offset()])
        message = self._encode(namespace, [event, *arguments, recovery.next_offset()])
        late = [event, *arguments, None]
        return self._keep(message, namespace, rooms, delivery, skipped, excepted, lambda: self._encode(namespace, late))

    def record(
        self,
        encoded: OutboundMessage,
        namespace: str,
        rooms: Any,
        delivery: Delivery,
        skipped: Any = (),
        excepted: Any = (),
    ) -> OutboundMessage:
        """As ``event``, of one that is encoded already (``gateway.encoded_events``), by this node or another."""
        recovery = self.recovery
        if delivery.how is How.VOLATILE:
            return self._with_last(encoded, namespace, recovery.newest_offset())
        message = self._with_last(encoded, namespace, recovery.next_offset())
        return self._keep(
            message, namespace, rooms, delivery, skipped, excepted, lambda: self._with_last(encoded, namespace, None)
        )

    def _with_last(self, encoded: OutboundMessage, namespace: str, value: str | None) -> OutboundMessage:
        return in_form_of(self._server.packet_class, with_last_argument(encoded, namespace, value), namespace)

    def _keep(
        self,
        message: OutboundMessage,
        namespace: str,
        rooms: Any,
        delivery: Delivery,
        skipped: Any,
        excepted: Any,
        encode_late: Callable[[], OutboundMessage],
    ) -> OutboundMessage:
        recovery = self.recovery
        recovery.append(
            self._server.eio.now(),
            message,
            namespace,
            rooms,
            skipped=skipped,
            excepted=excepted,
            key=delivery.key,
        )
        self._arm()
        if delivery.how is not How.CONFLATED:
            return message
        return ConflatedEvent(message, self, namespace, recovery.log.head, encode_late)

    def offset_event(self, namespace: str) -> OutboundMessage:
        """The newest offset, and nothing else."""
        return self._encode(namespace, [OFFSET_EVENT, self.recovery.newest_offset()])

    @staticmethod
    def may_be_taken_for_offset(arguments: list[Any]) -> bool:
        """Whether the last of these arguments may be text on the wire."""
        return bool(arguments) and not isinstance(arguments[-1], _NEVER_TEXT)

    def _encode(self, namespace: str, data: list[Any]) -> OutboundMessage:
        return to_outbound(self._server.packet_class(EVENT, namespace=namespace, data=data))

    def make_late(self, member: Member, position: int) -> None:
        """A conflated message waits for the client."""
        if member.place is not None:
            member.place.make_late(position)
            self._late.add(member)
            self._arm()

    # -- members ---------------------------------------------------------------------------------------

    def open(self, member: Member, *, is_returning: bool = False) -> None:
        """A place for a client that has none. ``is_returning``: it may remember an offset of another one."""
        pid = session_ids.draw() + session_ids.draw()
        member.place = self.recovery.open(pid, member.sid, member.namespace, member)
        if is_returning:
            member.held = self.offset_event(member.namespace)

    def recover(self, member: Member, claim: Claim) -> bool:
        """Give the client its place; whether that could be."""
        engine = self._server.eio
        try:
            place = self.recovery.recover(claim.pid, claim.offset, member.namespace, member, engine.now())
        except UnrecoverableError:
            return False
        self._arm()
        member.place = place
        member.sid = place.sid
        if place.user_session is not None:
            member.session.session[member.namespace] = place.user_session
        return True

    def admitted(self, member: Member, place: Place) -> None:
        """The client has been told that it is connected; what it has missed follows."""
        place.admitted_at = self._server.eio.now()
        missed, place.missed = place.missed, []
        if missed:
            self._server.eio.post_again(member.session, missed)

    def departs(self, member: Member, place: Place) -> None:
        """The client is out of its place."""
        self._late.discard(member)
        if place.occupant is member:
            self.recovery.depart(place, self._server.eio.now(), member.session.confirmed_at)
            self._arm()
            for vacancy in self._vacancies.pop(place.pid, ()):
                if not vacancy.done():
                    vacancy.set_result(None)

    def forget(self, member: Member) -> None:
        """The client is told to go, or goes, for good."""
        if member.place is not None:
            self.recovery.forget(member.place)

    def forget_sid(self, sid: str, namespace: str) -> None:
        """As ``forget``, for a client that is gone already."""
        place = self.recovery.of_sid(sid, namespace)
        if place is not None:
            self.recovery.forget(place)

    # -- takeover --------------------------------------------------------------------------------------

    def occupied(self, member: Member, claim: Claim) -> Place | None:
        """The place that is claimed, where somebody is in it still."""
        place = self.recovery.find(claim.pid, member.namespace, self._server.eio.now())
        return place if place is not None and place.occupant is not None else None

    async def vacate(self, place: Place, member: Member) -> None:
        """End the connection that is in ``place``, and wait until its disconnect handler has run.

        Of several who claim it, the last one gets it: the connections of the others are ended too.
        """
        rival = self._claimants.get(place.pid)
        if rival is not None:
            rival.session.close(reasons.CONNECTION_REPLACED)
        self._claimants[place.pid] = member
        occupant: Member | None = place.occupant
        if occupant is not None:  # it may have left since, or because the rival had to
            occupant.session.close(reasons.CONNECTION_REPLACED)
        try:
            while place.occupant is not None and not place.is_forgotten:
                vacancy: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._vacancies.setdefault(place.pid, []).append(vacancy)
                await vacancy
        finally:
            if self._claimants.get(place.pid) is member:
                del self._claimants[place.pid]

    # -- the timing wheel's entry ----------------------------------------------------------------------

    def _arm(self) -> None:
        engine = self._server.eio
        timers = engine.timers
        if self._timers is not timers:  # the server serves another loop
            self._timers = timers
            self.wheel_slot = UNSCHEDULED
        if self.wheel_slot == UNSCHEDULED:
            timers.schedule(self, engine.now() + SWEEP_S)

    def on_deadline(self, now: float) -> None:
        recovery = self.recovery
        for member in [member for member in self._late if _is_settled(member)]:
            self._late.discard(member)
            if member.place is not None:
                member.place.end_late(recovery.log.head, now)
        recovery.expire(now)
        if self._late or not recovery.is_empty:
            self._arm()


def _is_settled(member: Member) -> bool:
    """Whether nothing conflated waits for the client."""
    return member.session.conflated is None and member.held_conflated is None

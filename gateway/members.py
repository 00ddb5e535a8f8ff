"""Who is where: one client in one namespace, and the rooms that hold them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transports.conflation import Conflated
    from transports.outbound import Run
    from transports.session import Session

    from .recovery import Place


class MemberState(IntEnum):
    #: The connect handler has not answered yet; messages for the client are held back.
    CONNECTING = 0
    CONNECTED = 1
    #: The disconnect handler is running; nothing reaches the client any more.
    LEAVING = 2
    GONE = 3


#: By names of their own, for what is done for each client: asking the class costs a call in Python 3.11.
CONNECTING, CONNECTED, LEAVING, GONE = MemberState


class Member:
    """One client in one namespace: what the protocol calls a socket."""

    __slots__ = (
        "acks",
        "held",
        "held_conflated",
        "is_expelled",
        "namespace",
        "next_ack_id",
        "once_streams",
        "place",
        "rooms",
        "session",
        "sid",
        "state",
        "turns",
    )

    def __init__(self, sid: str, session: Session, namespace: str, state: MemberState = CONNECTING) -> None:
        self.sid = sid
        self.session = session
        self.namespace = namespace
        self.state = state
        #: Rooms entered, beside the one that is the sid.
        self.rooms: set[Any] | None = None
        #: Messages sent before the client was told that it is connected.
        self.held: Run | None = None
        #: Of those that are conflated, the newest of each key.
        self.held_conflated: Conflated | None = None
        #: Told to go, or gone, before its connect handler has answered.
        self.is_expelled = False
        #: By which it can come back, where recovery is on.
        self.place: Place | None = None
        self.acks: dict[int, PendingAck] | None = None
        self.next_ack_id = 1
        #: Those that it has sent messages of (``gateway.once``).
        self.once_streams: tuple[str, ...] = ()
        #: Handlers that wait for their turn, where events are handled one after the other.
        self.turns: deque[Callable[[], Coroutine[Any, Any, None]]] | None = None

    def expect_ack(self, pending: PendingAck) -> int:
        """The id under which the client will answer."""
        ack_id = self.next_ack_id
        self.next_ack_id += 1
        if self.acks is None:
            self.acks = {}
        self.acks[ack_id] = pending
        return ack_id

    def take_ack(self, ack_id: int) -> PendingAck | None:
        """The pending ack, which is answered by this; None for an id that nobody waits for."""
        pending = None if self.acks is None else self.acks.pop(ack_id, None)
        if pending is not None:
            pending.cancel_timer()
        return pending

    def abandon_acks(self) -> None:
        """The client is gone and will answer nothing."""
        acks, self.acks = self.acks, None
        if acks:
            for pending in acks.values():
                pending.abandon()

    def give_up_oldest_ack(self) -> None:
        """More are pending than may be."""
        if self.acks:
            self.acks.pop(next(iter(self.acks))).abandon()


class PendingAck:
    """``abandoned`` is called instead of ``answered`` when the client disconnects first."""

    __slots__ = ("abandoned", "answered", "timer")

    def __init__(self, answered: Callable[..., Any], abandoned: Callable[[], None] | None = None) -> None:
        self.answered = answered
        self.abandoned = abandoned
        self.timer: asyncio.TimerHandle | None = None

    def abandon(self) -> None:
        """It will not be answered."""
        self.cancel_timer()
        if self.abandoned is not None:
            self.abandoned()

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Room(dict[str, Member]):
    """Members by sid. ``sessions`` is the flat list a broadcast walks, made anew where one has left."""

    __slots__ = ("_sessions",)

    def __init__(self) -> None:
        super().__init__()
        self._sessions: list[Session] | None = None

    def add(self, member: Member) -> None:
        if member.sid in self:
            return
        self[member.sid] = member
        # To announce each one that comes must not cost a walk over all that have come before.
        if self._sessions is not None and member.state is CONNECTED:
            self._sessions.append(member.session)

    def remove(self, member: Member) -> None:
        if self.pop(member.sid, None) is not None:
            self._sessions = None

    def changed(self) -> None:
        """A member's state has changed."""
        self._sessions = None

    def sessions(self) -> list[Session]:
        """Of the connected members."""
        sessions = self._sessions
        if sessions is None:
            sessions = self._sessions = [member.session for member in self.values() if member.state is CONNECTED]
        return sessions

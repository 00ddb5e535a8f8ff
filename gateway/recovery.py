"""What clients that were cut off have missed: a log of the messages sent, and the places of clients that may return.

``Recovery`` is what a server needs of a store: everything is written when it changes, so a store that other processes
share could stand in its place. This one is memory. Pure: ``now`` (monotonic seconds) and what is drawn by chance come
from the caller.

A *position* numbers the messages of the log from 1 on; an *offset* is a position as clients know it: the text that each
event carries as its last argument. A client that comes back says the last offset it saw, and is given what is behind
that and was meant for it, as if it had been there:

::

    position      1     2     3     4     5     6     7
    sent to      all   room  room  all   room  all   room
    the client         ▲ entered          ▲ left      ▲ comes back with offset 3: it gets 4, 5 and 6

What it has received is known better than its offset says where nothing was sent to it for long, so that a client is not
lost because the log moved on without it: see ``Place.known`` and ``Place.confirmed_at``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from transports.outbound import OutboundMessage

from .message_log import Entry, MessageLog

#: Stays in rooms that a client has left again, kept for each client while the log still has messages from then.
MAX_STAYS: Final = 256


class Cause(StrEnum):
    """Why a client was not recovered."""

    #: The ``pid`` is not known, or not any more.
    UNKNOWN_CLIENT = "unknown client"
    #: The offset is none of this log.
    UNKNOWN_OFFSET = "unknown offset"
    #: The log does not reach back to it.
    TOO_OLD = "log does not reach back"


class Forgotten(StrEnum):
    """Why a place was given up."""

    EXPIRED = "expired"
    #: There were more clients gone than are remembered; this one had been gone for longest.
    TOO_MANY = "too many"
    #: The client or the server has ended it on purpose, or the server has refused the client.
    ENDED = "ended"
    #: The client came back, but could not be recovered.
    UNRECOVERABLE = "unrecoverable"


class UnrecoverableError(Exception):
    """What a client has missed cannot be told; it has to begin anew."""

    def __init__(self, cause: Cause) -> None:
        self.cause = cause

    def __str__(self) -> str:
        return str(self.cause)


@dataclass(slots=True)
class RecoveryCounters:
    """Totals since start."""

    recovered: int = 0
    #: Clients that asked for it in vain, by ``Cause``.
    not_recovered: Counter[Cause] = field(default_factory=Counter)
    #: Places given up, by ``Forgotten``.
    forgotten: Counter[Forgotten] = field(default_factory=Counter)
    #: Messages sent once more: one for each recipient.
    replayed: int = 0
    #: Messages dropped from the log before their time, for its bound.
    dropped_early: int = 0


class Place:
    """What is kept of one client in one namespace, so that it can come back as if it had not been away."""

    __slots__ = (
        "admitted_at",
        "began",
        "confirmed_at",
        "gone_at",
        "is_forgotten",
        "is_recovered",
        "known",
        "late_from",
        "late_until",
        "late_until_at",
        "missed",
        "namespace",
        "occupant",
        "pid",
        "rooms",
        "sid",
        "stays",
        "stays_from",
        "user_session",
    )

    def __init__(self, pid: str, sid: str, namespace: str, began: int) -> None:
        #: The secret by which the client comes back.
        self.pid = pid
        self.sid = sid
        self.namespace = namespace
        #: The position behind which messages are for it.
        self.began = began
        #: Up to this position it has everything that was for it.
        self.known = began
        #: So it has whatever was sent before this time: a heartbeat that was sent after it has been answered.
        self.confirmed_at = float("-inf")
        #: When the client was told that it is connected; what was sent before waited until then.
        self.admitted_at = 0.0
        #: Rooms it is in, and the positions behind which it is.
        self.rooms: dict[Any, int] = {}
        #: Rooms it has left again, the earliest first: behind the first position, up to the second.
        self.stays: list[tuple[Any, int, int]] = []
        #: Before this position stays may have been forgotten.
        self.stays_from = 0
        #: Conflated messages may have been overtaken by others between these positions: the first that was made to
        #: wait, and the newest when none was waiting any more (None: one may be still), and when that was.
        self.late_from: int | None = None
        self.late_until: int | None = None
        self.late_until_at = 0.0
        self.user_session: dict[str, Any] | None = None
        #: What the client has missed, until it is let in.
        self.missed: list[OutboundMessage] = []
        #: Who is in it now: the caller's own. None while the client is gone.
        self.occupant: Any = None
        self.gone_at: float | None = None
        self.is_forgotten = False
        #: Whether who is in it was recovered.
        self.is_recovered = False

    def enter(self, room: Any, position: int) -> None:
        self.rooms.setdefault(room, position)

    def leave(self, room: Any, position: int, first: int) -> None:
        """``first``: the oldest position that the log has."""
        entered = self.rooms.pop(room, None)
        if entered is None or entered >= position or position < first:
            return  # nothing was sent meanwhile, or nothing that is kept
        stays = self.stays
        while stays and stays[0][2] < first:
            stays.pop(0)
        if len(stays) >= MAX_STAYS:
            self.stays_from = stays.pop(0)[2]
        stays.append((room, entered, position))

    def make_late(self, position: int) -> None:
        """The conflated message at ``position`` waits for the client; what comes after may overtake it."""
        if self.late_from is None:
            self.late_from = position
        self.late_until = None

    def end_late(self, position: int, now: float) -> None:
        """Nothing waits any more: what is behind ``position`` comes after all that did."""
        self.late_until = position
        self.late_until_at = now


class Recovery:
    """The log and the places of one server.

    ``window_s``: how long the place of a client is kept that is gone. ``notice_s``: how much later than the client the
    server may notice that it is; the log reaches back both. At most ``max_places`` are kept of clients that are gone.
    """

    def __init__(self, epoch: str, window_s: float, notice_s: float, max_bytes: int, max_places: int) -> None:
        self.log = MessageLog(epoch, window_s + notice_s, max_bytes)
        self.counters = RecoveryCounters()
        self._window_s = window_s
        #: For how long, at most, a client that is gone can be owed messages, noticed or not.
        self.keep_s = window_s + notice_s
        self._max_places = max_places
        self._places: dict[str, Place] = {}
        self._by_sid: dict[str, Place] = {}
        self._gone: dict[str, Place] = {}  # by pid; who has been gone for longest comes first
        self._warm: list[Entry] = []

    @property
    def gone(self) -> int:
        """Places of clients that are gone."""
        return len(self._gone)

    # -- messages --------------------------------------------------------------------------------------

    def next_offset(self) -> str:
        """Of the message that will be appended next."""
        return self.log.offset(self.log.head + 1)

    def newest_offset(self) -> str:
        return self.log.offset(self.log.head)

    def append(
        self,
        now: float,
        message: OutboundMessage,
        namespace: str,
        rooms: Iterable[Any],
        *,
        skipped: Sequence[Any] = (),
        excepted: Sequence[Any] = (),
        key: Hashable = None,
    ) -> None:
        """A message, which carries ``next_offset``, goes to those who are in any of these rooms now.

        A room is also None for everybody, and a sid. ``skipped``: sids; ``excepted``: rooms.
        """
        addresses = [(namespace, room) for room in rooms]
        self.counters.dropped_early += self.log.append(
            now, message, addresses, skipped=skipped, excepted=excepted, key=key
        )

    # -- places ----------------------------------------------------------------------------------------

    def open(self, pid: str, sid: str, namespace: str, occupant: Any = None) -> Place:
        """A client has come. From now on what is sent is for it."""
        place = Place(pid, sid, namespace, self.log.head)
        place.occupant = occupant
        self._places[pid] = self._by_sid[sid] = place
        return place

    def enter(self, place: Place, room: Any) -> None:
        place.enter(room, self.log.head)

    def leave(self, place: Place, room: Any) -> None:
        place.leave(room, self.log.head, self.log.first)

    def close_room(self, namespace: str, room: Any) -> None:
        """Who is gone is in the room no more; who is not leaves by ``leave``."""
        for place in self._gone.values():
            if place.namespace == namespace and room in place.rooms:
                self.leave(place, room)

    def depart(self, place: Place, now: float, confirmed_at: float) -> None:
        """The client is gone and may come back.

        ``confirmed_at``: when the last heartbeat was sent that it has answered.
        """
        place.occupant = None
        place.missed = []
        if place.is_forgotten:
            return
        if confirmed_at > place.admitted_at:
            place.confirmed_at = confirmed_at
        place.gone_at = now
        self._gone[place.pid] = place
        while len(self._gone) > self._max_places:
            self.forget(next(iter(self._gone.values())), Forgotten.TOO_MANY)

    def find(self, pid: str, namespace: str, now: float) -> Place | None:
        """The place of that client, whether somebody is in it or not."""
        place = self._places.get(pid)
        if place is None or place.namespace != namespace:
            return None
        if place.gone_at is not None and place.gone_at + self._window_s < now:
            self.forget(place, Forgotten.EXPIRED)
            return None
        return place

    def of_sid(self, sid: str, namespace: str) -> Place | None:
        place = self._by_sid.get(sid)
        return place if place is not None and place.namespace == namespace else None

    def forget(self, place: Place, cause: Forgotten = Forgotten.ENDED) -> None:
        """The client cannot come back to it."""
        if place.is_forgotten:
            return
        place.is_forgotten = True
        self.counters.forgotten[cause] += 1
        del self._places[place.pid]
        del self._by_sid[place.sid]
        self._gone.pop(place.pid, None)

    # -- coming back -----------------------------------------------------------------------------------

    def recover(self, pid: str, offset: str | None, namespace: str, occupant: Any, now: float) -> Place:
        """The client is back: its place, in which nobody was, with what it has ``missed``, oldest first.

        ``offset``: None where it has never seen one.
        Raises: UnrecoverableError; the place is forgotten then.
        """
        place = self.find(pid, namespace, now)
        if place is None:
            self.counters.not_recovered[Cause.UNKNOWN_CLIENT] += 1
            raise UnrecoverableError(Cause.UNKNOWN_CLIENT)
        try:
            since = self._received(place, offset)
            missed = self._missed(place, since)
        except UnrecoverableError as error:
            self.counters.not_recovered[error.cause] += 1
            self.forget(place, Forgotten.UNRECOVERABLE)
            raise
        messages = [entry.message() for entry in missed]
        self._warm += missed
        place.known = since if missed else self.log.head
        if place.late_from is not None:
            place.end_late(self.log.head, now)
        place.missed = messages
        place.occupant = occupant
        place.gone_at = None
        place.is_recovered = True
        self._gone.pop(place.pid, None)
        self.counters.recovered += 1
        self.counters.replayed += len(messages)
        return place

    def _received(self, place: Place, offset: str | None) -> int:
        """The position up to which the client has everything that was for it, late conflated messages aside."""
        position = place.began if offset is None else self.log.position(offset)
        if position is None:
            raise UnrecoverableError(Cause.UNKNOWN_OFFSET)
        # An offset from before the place is one that the client remembers of an earlier one.
        since = max(position, place.began, place.known)
        until = place.late_until
        if until is not None and (position > until or place.confirmed_at > place.late_until_at):
            place.late_from = place.late_until = None
        if place.confirmed_at > self.log.dropped_at:
            since = max(since, self.log.first - 1)
        if _oldest_needed(place, since) < max(self.log.first - 1, place.stays_from):
            raise UnrecoverableError(Cause.TOO_OLD)
        return since

    def _missed(self, place: Place, since: int) -> list[Entry]:
        stays: dict[Any, list[tuple[int, int]]] = {}
        for room, entered, left in place.stays:
            stays.setdefault(room, []).append((entered, left))

        def was_in(room: Any, position: int) -> bool:
            if room is None or room == place.sid:
                return True
            entered = place.rooms.get(room)
            if entered is not None and entered < position:
                return True
            return any(first < position <= last for first, last in stays.get(room, ()))

        after = _oldest_needed(place, since)
        found: dict[int, Entry] = {}
        for room in {None, place.sid, *place.rooms, *stays}:
            for entry in self.log.to((place.namespace, room), after):
                found[entry.position] = entry
        newest: dict[Hashable, int] = {}
        chosen: list[Entry] = []
        for position, entry in sorted(found.items()):
            if place.sid in entry.skipped or any(was_in(room, position) for room in entry.excepted):
                continue
            if not any(was_in(room, position) for _, room in entry.addresses):
                continue
            if entry.key is not None:
                newest[entry.key] = position
            elif position <= since:
                continue
            chosen.append(entry)
        return [entry for entry in chosen if entry.key is None or newest[entry.key] == entry.position]

    # -- time ------------------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Drop what is too old, and the wire forms of what was sent once more."""
        warm, self._warm = self._warm, []
        for entry in warm:
            entry.cool()
        self.log.drop_old(now)
        while self._gone:
            place = next(iter(self._gone.values()))
            if place.gone_at is None or place.gone_at + self._window_s >= now:
                break
            self.forget(place, Forgotten.EXPIRED)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that can become too old."""
        return not (self._gone or self._warm or len(self.log))


def _oldest_needed(place: Place, since: int) -> int:
    """The position behind which a message may be missed: one that was overtaken may lie before ``since``."""
    return since if place.late_from is None else min(since, place.late_from - 1)

"""Rooms and who receives what: python-socketio's client manager on our sessions.

``ChannelManager`` keeps the whole public surface of ``socketio.AsyncManager``; of its inside nothing is used but
the attributes set by ``BaseManager.__init__`` and ``set_server``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from socketio import AsyncManager

from transports import reasons
from transports.conflation import Conflated
from transports.outbound import OutboundMessage, extend
from transports.session import Session

from . import catalogue
from .ack_relay import AckWanted
from .brokers.base import WhenDown
from .delivery import RELIABLE, Delivery, DeliveryPolicies, How, belongs_to
from .encoded_events import encode_event
from .members import CONNECTED, CONNECTING, GONE, LEAVING, Member, MemberState, PendingAck, Room
from .middleware import TooManyRoomsError

if TYPE_CHECKING:
    from .cluster import Cluster
    from .recorder import Recorder
    from .server import Server

logger = logging.getLogger("tidegate.channels")

#: After so many bytes in one turn of the loop, each recipient counted, ``emit`` lets the loop write them.
TURN_BYTES: Final = 256 * 1024


def as_arguments(data: Any) -> list[Any]:
    """python-socketio's rule: a tuple is several arguments, None is none, everything else is one."""
    if isinstance(data, tuple):
        return list(data)
    return [] if data is None else [data]


def as_collection(value: Any) -> Collection[Any]:
    """One room or sid, or several, as several."""
    if value is None:
        return ()
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    return (value,)


class ChannelManager(AsyncManager):
    """``rooms[namespace][room]`` are the members by sid; room None is the whole namespace."""

    server: Server

    def __init__(self) -> None:
        super().__init__()
        self.rooms: dict[str, dict[Any, Room]] = {}
        self.members: dict[str, Member] = {}
        self.policies = DeliveryPolicies()
        #: Set where clients can be recovered.
        self.recorder: Recorder | None = None
        #: Set where there are other nodes.
        self.cluster: Cluster | None = None
        self._connecting: dict[str, set[Member]] = {}

    # -- members ---------------------------------------------------------------------------------------

    def member(self, sid: str, namespace: str | None) -> Member | None:
        found = self.members.get(sid)
        return found if found is not None and found.namespace == (namespace or "/") else None

    def add_member(self, session: Session, namespace: str, state: MemberState = CONNECTING) -> Member:
        """A client asks to join ``namespace``, or with CONNECTED has been told already that it may."""
        member = Member(self.server.eio.generate_id(), session, namespace, state)
        if self.recorder is not None:
            self.recorder.open(member)
        self.enter(member)
        return member

    def enter(self, member: Member) -> None:
        """From now on it gets what is sent to its namespace; one that was recovered, also what is sent to its rooms."""
        namespace = member.namespace
        self.members[member.sid] = member
        rooms = self.rooms.get(namespace)
        if rooms is None:
            rooms = self.rooms[namespace] = {}
        self._room(namespace, None).add(member)
        if member.state is CONNECTING:
            self._connecting.setdefault(namespace, set()).add(member)
        if member.place is not None and member.place.rooms:
            member.rooms = set(member.place.rooms)
            for room in member.rooms:
                self._room(namespace, room).add(member)

    def _room(self, namespace: str, room: Any) -> Room:
        """The room, made where there is none. Raises: TypeError, ValueError for a name that a cluster cannot have."""
        rooms = self.rooms[namespace]
        found = rooms.get(room)
        if found is None:
            if self.cluster is not None:
                self.cluster.room_opens(namespace, room)
            found = rooms[room] = Room()
        return found

    def admit(self, member: Member) -> None:
        """The client has been told that it is connected; what was held back for it follows."""
        if member.state is not CONNECTING:
            return
        self._not_connecting(member)
        member.state = CONNECTED
        self._changed(member)
        held, member.held = member.held, None
        for message in () if held is None else held.messages():
            self.server.eio.post(member.session, message)
        conflated, member.held_conflated = member.held_conflated, None
        for key, message in conflated or ():
            self.server.eio.broadcast_conflated((member.session,), key, message)

    def begin_leave(self, member: Member) -> None:
        """From now on nothing is sent to the client; it is still in its rooms."""
        self._not_connecting(member)
        member.state = LEAVING
        member.held = member.held_conflated = None
        if member.session.conflated is not None:
            # They must not reach the client should it join again.
            self.server.eio.counters.dropped_closed += len(self._withdraw_conflated(member))
        self._changed(member)

    def settle(self, member: Member) -> None:
        """Put what waits conflated for the member before whatever it is sent from now on."""
        for message in self._withdraw_conflated(member):
            member.session.send(message)

    def _withdraw_conflated(self, member: Member) -> list[OutboundMessage]:
        return member.session.withdraw_conflated(belongs_to(member.namespace))

    def remove_member(self, member: Member) -> None:
        """The client is out of every room."""
        if member.state is GONE:
            return
        self._not_connecting(member)
        place, member.place = member.place, None
        if self.recorder is not None and place is not None:
            self.recorder.departs(member, place)
        if member.rooms:
            for room in list(member.rooms):
                self.basic_leave_room(member.sid, member.namespace, room)
        member.state = GONE
        del self.members[member.sid]
        namespace = self.rooms.get(member.namespace)
        if namespace is not None:
            everybody = namespace[None]
            everybody.remove(member)
            if not everybody:
                del self.rooms[member.namespace]
                if self.cluster is not None:
                    self.cluster.room_closes(member.namespace, None)
        member.abandon_acks()

    def _not_connecting(self, member: Member) -> None:
        if member.state is not CONNECTING:
            return
        connecting = self._connecting.get(member.namespace)
        if connecting is not None:
            connecting.discard(member)
            if not connecting:
                del self._connecting[member.namespace]

    def _changed(self, member: Member) -> None:
        rooms = self.rooms.get(member.namespace)
        if rooms is None:
            return
        rooms[None].changed()
        for name in member.rooms or ():
            if name in rooms:
                rooms[name].changed()

    # -- selection -------------------------------------------------------------------------------------

    def select(self, namespace: str, room: Any = None, skip_sid: Any = None, except_rooms: Any = None) -> list[Member]:
        """The members in any of the rooms (None: in the namespace), but not skipped and in no excepted room."""
        chosen: dict[str, Member] = {}
        for name in as_collection(room) if room is not None else (None,):
            chosen.update(self._room_members(namespace, name))
        for sid in as_collection(skip_sid):
            chosen.pop(sid, None)
        for name in as_collection(except_rooms):
            for sid in list(self._room_members(namespace, name)):
                chosen.pop(sid, None)
        return list(chosen.values())

    def _room_members(self, namespace: str, room: Any) -> dict[str, Member]:
        if isinstance(room, str):
            member = self.member(room, namespace)
            if member is not None:
                return {member.sid: member}
        return self.rooms.get(namespace, {}).get(room) or {}

    # -- emit ------------------------------------------------------------------------------------------

    async def emit(
        self,
        event: str,
        data: Any,
        namespace: str,
        room: Any = None,
        skip_sid: Any = None,
        callback: Callable[..., Any] | None = None,
        to: Any = None,
        *,
        except_rooms: Any = None,
        volatile: bool | None = None,
        conflate: Hashable = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of the ack, not of this coroutine
        on_timeout: Callable[[], Any] | None = None,
        ignore_queue: bool = False,
        when_down: WhenDown | None = None,
        durable: bool = False,
        **kwargs: Any,
    ) -> None:
        """Send an event to a client, a room, several, or the whole namespace.

        Returns once the messages are handed to the sessions. A single recipient that is behind is waited for
        as long as it makes progress, by reliable messages; a long burst gives the loop its turn.
        Raises: TypeError, ValueError for data that cannot be encoded, or arguments that exclude each other.
        """
        room = to or room
        if volatile is None and conflate is None and (callback is not None or not self.policies):
            delivery = RELIABLE
        else:
            has_callback = callback is not None
            delivery = self.policies.choose(
                namespace, room, event, volatile=volatile, conflate=conflate, has_callback=has_callback
            )
        arguments = as_arguments(data)
        if self.cluster is not None and not ignore_queue and self.cluster.concerns_others(room, namespace):
            ack = None if callback is None else AckWanted(callback, timeout, on_timeout)
            skip = () if skip_sid is None else as_collection(skip_sid)
            excepted = () if except_rooms is None else as_collection(except_rooms)
            rest = self.cluster.emit(
                [event, *arguments], namespace, room, skip, excepted, delivery, ack, when_down, durable
            )
            if rest is not None:
                await rest
            if self.server.eio.turn_bytes > TURN_BYTES:
                await asyncio.sleep(0)
            return
        if callback is not None:
            recipients = self.select(namespace, room, skip_sid, except_rooms)
            for member in recipients:
                pending = PendingAck(callback)
                self.send_with_ack(member, event, arguments, pending, timeout, on_timeout)
            return
        recorder = self.recorder
        if recorder is None:
            message = encode_event(self.server.packet_class, [event, *arguments], namespace)
        else:
            rooms = as_collection(room) if room is not None else (None,)
            skipped, excepted = tuple(as_collection(skip_sid)), tuple(as_collection(except_rooms))
            message = recorder.event(event, arguments, namespace, rooms, delivery, skipped, excepted)
        only = self.member(room, namespace) if isinstance(room, str) else None
        if only is not None and not skip_sid and not except_rooms:
            self.send_to(only, message, delivery)
            if delivery is RELIABLE:
                await self._after_send(only.session)
                return
        else:
            self.broadcast(message, namespace, room, skip_sid, except_rooms, delivery)
        if self.server.eio.turn_bytes > TURN_BYTES:
            await asyncio.sleep(0)

    def broadcast(
        self,
        message: OutboundMessage,
        namespace: str,
        room: Any,
        skip_sid: Any,
        except_rooms: Any,
        delivery: Delivery,
    ) -> None:
        engine = self.server.eio
        is_single = type(room) is str or not isinstance(room, (list, tuple, set, frozenset))
        connecting = self._connecting.get(namespace) if self._connecting else None
        sessions: Iterable[Session]
        if is_single and not skip_sid and not except_rooms:
            rooms = self.rooms.get(namespace)
            found = None if rooms is None else rooms.get(room)
            sessions = () if found is None else found.sessions()
            waiting = [member for member in connecting if found and member.sid in found] if connecting else []
        else:
            members = self.select(namespace, room, skip_sid, except_rooms)
            sessions = [member.session for member in members if member.state is CONNECTED]
            waiting = [member for member in members if member.state is CONNECTING] if connecting else []
        if delivery is RELIABLE:
            engine.broadcast(sessions, message)
        elif delivery.how is How.VOLATILE:
            engine.broadcast_volatile(sessions, message)
            return
        elif delivery.how is How.CONFLATED:
            engine.broadcast_conflated(sessions, delivery.key, message)
        else:
            engine.broadcast(sessions, message)
        for member in waiting:
            self._hold(member, message, delivery)

    def send_event(self, member: Member, event: str, arguments: list[Any], delivery: Delivery = RELIABLE) -> None:
        """Send an event to one client, now or once it is connected.

        Raises: TypeError, ValueError for data that cannot be encoded.
        """
        namespace = member.namespace
        if self.recorder is None:
            message = encode_event(self.server.packet_class, [event, *arguments], namespace)
        else:
            message = self.recorder.event(event, arguments, namespace, (member.sid,), delivery)
        self.send_to(member, message, delivery)

    def send_to(self, member: Member, message: OutboundMessage, delivery: Delivery = RELIABLE) -> None:
        """Send to one client, now or once it is connected."""
        engine = self.server.eio
        how = delivery.how
        if member.state is CONNECTED:
            if how is How.CONFLATED:
                engine.broadcast_conflated((member.session,), delivery.key, message)
            elif how is How.VOLATILE and not member.session.is_ready():
                engine.counters.dropped_volatile += 1
            else:
                engine.post(member.session, message)
        elif member.state is CONNECTING and how is not How.VOLATILE:
            self._hold(member, message, delivery)
        else:
            engine.counters.dropped_closed += 1

    def _hold(self, member: Member, message: OutboundMessage, delivery: Delivery) -> None:
        if delivery.how is How.CONFLATED:
            if member.held_conflated is None:
                member.held_conflated = Conflated()
            if member.held_conflated.put(delivery.key, message.waiting(member.session)):
                self.server.eio.counters.conflated += 1
        else:
            member.held = extend(member.held, message)
        nbytes = 0 if member.held is None else member.held.nbytes
        if member.held_conflated is not None:
            nbytes += member.held_conflated.nbytes
        if nbytes > self.server.eio.max_buffered_bytes:
            member.session.close(reasons.SLOW_CLIENT)

    async def _after_send(self, session: Session) -> None:
        engine = self.server.eio
        if session.backlog() * 2 > engine.max_buffered_bytes:
            await session.wait_for_room()
        elif engine.turn_bytes > TURN_BYTES:
            await asyncio.sleep(0)

    def send_with_ack(
        self,
        member: Member,
        event: str,
        arguments: list[Any],
        pending: PendingAck,
        timeout: float | None = None,
        on_timeout: Callable[[], Any] | None = None,
    ) -> None:
        """Send an event that the client answers; after ``timeout`` seconds its answer is not awaited any more.

        Raises: TypeError, ValueError for data that cannot be encoded.
        """
        recorder = self.recorder
        data = [event, *arguments]
        self.send_encoded_with_ack(
            member,
            lambda ack_id: encode_event(self.server.packet_class, data, member.namespace, ack_id),
            recorder is not None and recorder.may_be_taken_for_offset(arguments),
            pending,
            timeout,
            on_timeout,
        )

    def send_encoded_with_ack(
        self,
        member: Member,
        encode: Callable[[int], OutboundMessage],
        may_be_taken_for_offset: bool,
        pending: PendingAck,
        timeout: float | None = None,
        on_timeout: Callable[[], Any] | None = None,
    ) -> None:
        """As ``send_with_ack``, of what ``encode`` makes of an ack id."""
        ack_id = self._expect_ack(member, pending)
        try:
            message = encode(ack_id)
        except Exception:
            member.take_ack(ack_id)
            raise

        def expire() -> None:
            member.take_ack(ack_id)
            if on_timeout is not None:
                self.run_callback(on_timeout)

        if timeout is not None:
            pending.timer = self.server.eio.loop.call_later(timeout, expire)
        self.send_to(member, message)
        if may_be_taken_for_offset and self.recorder is not None:
            self.send_to(member, self.recorder.offset_event(member.namespace))

    def _expect_ack(self, member: Member, pending: PendingAck) -> int:
        limit = self.server.limits.max_pending_acks
        if member.acks is not None and len(member.acks) >= limit:
            self.server.drop(member, catalogue.ACK_GIVEN_UP, limit=limit)
            member.give_up_oldest_ack()
        return member.expect_ack(pending)

    def run_callback(self, callback: Callable[..., Any], *arguments: Any) -> None:
        """Run an application's callback, coroutine functions too."""
        try:
            result = callback(*arguments)
        except Exception:  # the application's callback; the client that answered is not to blame
            logger.exception("ack callback failed")
            return
        if inspect.isawaitable(result):

            async def wait() -> None:
                try:
                    await result
                except Exception:  # as above
                    logger.exception("ack callback failed")

            self.server.eio.spawn(wait())

    def acknowledge(self, member: Member, ack_id: int, arguments: list[Any]) -> None:
        """The client has answered. An id that nobody waits for, or no longer, is ignored."""
        pending = member.take_ack(ack_id)
        if pending is None:
            self.server.drop(member, catalogue.UNKNOWN_ACK, ack_id=ack_id)
        else:
            self.run_callback(pending.answered, *arguments)

    # -- socketio.AsyncManager's surface ---------------------------------------------------------------

    async def enter_room(self, sid: str, namespace: str, room: Any, eio_sid: str | None = None) -> None:
        """Also for clients of other nodes. Raises: as ``basic_enter_room``; NodeError."""
        if self.cluster is not None and (node_id := self.cluster.owner(sid, namespace)) is not None:
            await self.cluster.enter_room(node_id, sid, namespace, room)
        else:
            self.basic_enter_room(sid, namespace, room, eio_sid=eio_sid)

    async def leave_room(self, sid: str, namespace: str, room: Any) -> None:
        """Also for clients of other nodes. Raises: NodeError."""
        if self.cluster is not None and (node_id := self.cluster.owner(sid, namespace)) is not None:
            await self.cluster.leave_room(node_id, sid, namespace, room)
        else:
            self.basic_leave_room(sid, namespace, room)

    async def close_room(self, room: Any, namespace: str) -> None:
        """On every node. Raises: as ``basic_close_room``; as ``emit`` while the broker is down."""
        self.basic_close_room(room, namespace)
        if self.cluster is not None:
            await self.cluster.close_room(room, namespace)

    async def can_disconnect(self, sid: str, namespace: str) -> bool:
        return self.is_connected(sid, namespace)

    def get_namespaces(self) -> Iterable[str]:
        return self.rooms.keys()

    def get_participants(self, namespace: str, room: Any) -> Iterator[tuple[str, str]]:
        """Pairs of sid and Engine.IO session id."""
        for member in self.select(namespace, room):
            yield member.sid, member.session.id

    async def pre_connect(self, eio_sid: str, namespace: str) -> str | None:
        session = self.server.eio.sockets[eio_sid]
        if self.sid_from_eio_sid(eio_sid, namespace) is not None:
            return None
        return self.server.membership.join(session, namespace).sid

    async def connect(self, sid: str, namespace: str) -> str:
        member = self.member(sid, namespace)
        if member is None:
            raise ValueError("sid is not connected to requested namespace")
        self.admit(member)
        return sid

    def is_pre_connected(self, sid: str, namespace: str) -> bool:
        member = self.member(sid, namespace)
        return member is not None and member.state is CONNECTING

    def is_connected(self, sid: str | None, namespace: str) -> bool:
        member = None if sid is None else self.member(sid, namespace)
        return member is not None and member.state is CONNECTED

    def sid_from_eio_sid(self, eio_sid: str, namespace: str) -> str | None:
        session = self.server.eio.sockets.get(eio_sid)
        client = None if session is None else session.application
        member = None if client is None else client.members.get(namespace or "/")
        return None if member is None else member.sid or None

    def eio_sid_from_sid(self, sid: str, namespace: str) -> str | None:
        member = self.member(sid, namespace)
        return None if member is None else member.session.id

    def pre_disconnect(self, sid: str, namespace: str) -> str | None:
        member = self.member(sid, namespace)
        if member is None:
            return None
        self.begin_leave(member)
        return member.session.id

    async def disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        self.basic_disconnect(sid, namespace, **kwargs)

    def basic_disconnect(self, sid: str, namespace: str, **kwargs: Any) -> None:
        member = self.member(sid, namespace)
        if member is not None:
            if self.recorder is not None:
                self.recorder.forget(member)
            self.remove_member(member)

    def is_sid_room(self, namespace: str, room: Any) -> bool:
        return isinstance(room, str) and self.member(room, namespace) is not None

    def basic_enter_room(self, sid: str, namespace: str, room: Any, eio_sid: str | None = None) -> None:
        """Raises: ValueError where the client is not in the namespace, or the room is another client's own;
        TooManyRoomsError, which is one too, where it is in ``max_rooms`` already.
        """
        member = self.member(sid, namespace)
        if member is None:
            raise ValueError("sid is not connected to requested namespace")
        if room == sid or room is None:
            return
        if self.is_sid_room(namespace, room):
            raise ValueError("cannot enter a sid room")
        if member.rooms is None:
            member.rooms = set()
        limit = self.server.limits.max_rooms
        if len(member.rooms) >= limit and room not in member.rooms:
            raise TooManyRoomsError(limit)
        entered = self._room(namespace, room)
        member.rooms.add(room)
        if self.recorder is not None and member.place is not None:
            self.recorder.recovery.enter(member.place, room)
        entered.add(member)

    def basic_leave_room(self, sid: str, namespace: str, room: Any) -> None:
        member = self.member(sid, namespace)
        if member is None or room is None or member.rooms is None or room not in member.rooms:
            return
        member.rooms.discard(room)
        if self.recorder is not None and member.place is not None:
            self.recorder.recovery.leave(member.place, room)
        rooms = self.rooms.get(namespace, {})
        found = rooms.get(room)
        if found is not None:
            found.remove(member)
            if not found:
                del rooms[room]
                if self.cluster is not None:
                    self.cluster.room_closes(namespace, room)

    def basic_close_room(self, room: Any, namespace: str) -> None:
        """Raises: ValueError for a client's own room."""
        if self.is_sid_room(namespace, room):
            raise ValueError("cannot close a sid room")
        for member in list(self.rooms.get(namespace, {}).get(room, {}).values()):
            self.basic_leave_room(member.sid, namespace, room)
        if self.recorder is not None:
            self.recorder.recovery.close_room(namespace, room)

    def get_rooms(self, sid: str, namespace: str) -> list[Any]:
        """Raises: ValueError for a client of another node, whose rooms ``server.cluster.rooms`` tells."""
        member = self.member(sid, namespace)
        if member is None and self.cluster is not None and self.cluster.owner(sid, namespace) is not None:
            raise ValueError(f"{sid} is a client of another node: await server.cluster.rooms(sid)")
        return [] if member is None else [member.sid, *(member.rooms or ())]

    async def trigger_callback(self, sid: str, id: int, data: list[Any]) -> None:  # noqa: A002
        member = self.members.get(sid)
        if member is not None:
            self.acknowledge(member, id, data)

    def _generate_ack_id(self, sid: str, callback: Callable[..., Any]) -> int:
        return self._expect_ack(self.members[sid], PendingAck(callback))

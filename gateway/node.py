"""One node of a cluster: what it does when others tell it to, or ask it.

Messages come from the broker in the order of each sender and topic, and are done in that order: nothing here awaits
before an event has gone out. What may take long, a disconnect handler say, runs as a task of its own.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .ack_relay import AckRelay
from .brokers.base import Callbacks, Request
from .codec import PacketError
from .encoded_events import in_form_of, last_may_be_text, with_ack_id
from .envelope import EnvelopeError, Message, MessageKind
from .members import CONNECTED, Member
from .node_messages import (
    ACKS,
    ROOMS,
    SAVE_SESSION,
    STATUS,
    delivery_of,
    encode_value,
    encoded_event,
    failure_of,
    result_of,
)
from .remote_socket import SocketFacts

if TYPE_CHECKING:
    from transports.outbound import OutboundMessage

    from .delivery import Delivery
    from .server import Server

logger = logging.getLogger("tidegate.cluster")

#: Of an answer, what a page of clients, or of sids, may take of it.
_PAGE_SHARE: Final = 0.5


@dataclass(slots=True)
class NodeCounters:
    """Totals since start. ``malformed``: messages of other nodes that were skipped, being none."""

    emitted: int = 0
    received: int = 0
    malformed: int = 0


class ClusterNode:
    """Of one server. ``page_bytes``: how long an answer may be, asked anew each time."""

    def __init__(self, server: Server, acks: AckRelay, page_bytes: Callable[[], int]) -> None:
        self._server = server
        self._acks = acks
        self._page_bytes = page_bytes
        self.counters = NodeCounters()
        #: Handlers of server-side events by name.
        self.handlers: dict[str, Callable[..., Any]] = {}

    def attach(self, callbacks: Callbacks) -> None:
        """Take what the broker calls; what else the application has set there stays."""
        callbacks.on_message = self.receive
        callbacks.on_direct = self.receive_direct
        callbacks.on_request = self.answer

    # -- to be done ------------------------------------------------------------------------------------

    def receive(self, topic: str, sender: str, payload: bytes) -> None:
        """A publication."""
        self.counters.received += 1
        try:
            self.perform(sender, Message.decode(payload))
        except (EnvelopeError, PacketError) as error:
            self.skip(sender, error)

    def receive_direct(self, sender: str, payload: bytes) -> None:
        try:
            message = Message.decode(payload)
            if message.kind is not MessageKind.OTHER or message.arguments[:1] != (ACKS,):
                raise EnvelopeError(f"nothing is known to be done of {message.kind.name}")
            self._acks.receive(message.arguments[-1])
        except EnvelopeError as error:
            self.skip(sender, error)

    def skip(self, sender: str, error: Exception) -> None:
        self.counters.malformed += 1
        logger.warning("a message of node %s is skipped: %s", sender, error)

    def perform(self, sender: str, message: Message) -> None:
        """Do what another node says. Raises: EnvelopeError, PacketError."""
        kind = message.kind
        if kind is MessageKind.EMIT:
            self.deliver(
                encoded_event(message),
                message.namespace,
                message.rooms,
                message.skip_sids,
                message.except_rooms,
                delivery_of(message),
            )
        elif kind is MessageKind.EMIT_WITH_ACK:
            self._emit_with_ack(sender, message)
        elif kind is MessageKind.ENTER_ROOM or kind is MessageKind.LEAVE_ROOM:
            self._change_rooms(message)
        elif kind is MessageKind.CLOSE_ROOM:
            for room in message.rooms:
                self._server.manager.basic_close_room(room, message.namespace)
        elif kind is MessageKind.DISCONNECT:
            for member in self._chosen(message):
                self._server.eio.spawn(self._server.disconnect(member.sid, message.namespace, ignore_queue=True))
        elif kind is MessageKind.SERVER_SIDE_EMIT:
            self._server.eio.spawn(self._run_server_event(message))
        else:
            raise EnvelopeError(f"nothing is known to be done of {kind.name}")

    def deliver(
        self,
        encoded: OutboundMessage,
        namespace: str,
        rooms: tuple[Any, ...],
        skip_sids: Any,
        except_rooms: Any,
        delivery: Delivery,
    ) -> None:
        """Send an encoded event to clients of this node. Raises: PacketError for bytes that are no event."""
        manager = self._server.manager
        if manager.recorder is None:
            message = in_form_of(self._server.packet_class, encoded, namespace)
        else:
            message = manager.recorder.record(
                encoded, namespace, rooms or (None,), delivery, tuple(skip_sids), tuple(except_rooms)
            )
        room = None if not rooms else rooms[0] if len(rooms) == 1 else rooms
        only = manager.member(room, namespace) if isinstance(room, str) else None
        if only is not None and not skip_sids and not except_rooms:
            manager.send_to(only, message, delivery)
        else:
            manager.broadcast(message, namespace, room, skip_sids, except_rooms, delivery)

    def _chosen(self, message: Message) -> list[Member]:
        return self._server.manager.select(
            message.namespace, message.rooms or None, message.skip_sids, message.except_rooms
        )

    def _emit_with_ack(self, sender: str, message: Message) -> list[str]:
        """The sids of those who are asked. Raises: EnvelopeError."""
        encoded = encoded_event(message)
        reference, timeout_s = _ack_fields(message)
        manager = self._server.manager
        may_be_taken = manager.recorder is not None and last_may_be_text(encoded)
        members = self._chosen(message)
        for member in members:
            manager.send_encoded_with_ack(
                member,
                lambda ack_id: in_form_of(
                    self._server.packet_class, with_ack_id(encoded, message.namespace, ack_id), message.namespace
                ),
                may_be_taken,
                self._acks.pending(sender, reference, member.sid),
                timeout_s,
                partial(self._acks.expired, sender, reference, member.sid),
            )
        return [member.sid for member in members]

    def _change_rooms(self, message: Message) -> None:
        manager = self._server.manager
        for member in self._chosen(message):
            for room in message.arguments:
                try:
                    if message.kind is MessageKind.ENTER_ROOM:
                        manager.basic_enter_room(member.sid, message.namespace, room)
                    else:
                        manager.basic_leave_room(member.sid, message.namespace, room)
                except (ValueError, TypeError) as error:  # of this client or room; the others enter
                    logger.warning("client %s does not enter room %r: %s", member.sid, room, error)

    # -- to be answered --------------------------------------------------------------------------------

    async def answer(self, request: Request) -> bytes:
        """Raises: what is to be told to the other node as a failure of this one."""
        try:
            message = Message.decode(request.payload)
        except EnvelopeError as error:
            self.skip(request.sender, error)
            raise
        try:
            return result_of(await self._result(request.sender, message))
        except (LookupError, ValueError, TypeError) as error:
            return failure_of(error)

    async def _result(self, sender: str, message: Message) -> Any:
        server, namespace, kind = self._server, message.namespace, message.kind
        if kind is MessageKind.EMIT_WITH_ACK:
            return self._emit_with_ack(sender, message)
        if kind is MessageKind.FETCH_SOCKETS:
            return self._page(message)
        if kind is MessageKind.SERVER_SIDE_EMIT:
            return await self._server_event(message)
        if kind is MessageKind.OTHER and message.arguments == (STATUS,):
            return {"clients": len(server.eio.sockets), "rooms": sum(map(len, server.manager.rooms.values()))}
        if not message.rooms:
            raise EnvelopeError("a request concerns a client")
        sid = message.rooms[0]
        if kind is MessageKind.ENTER_ROOM:
            server.manager.basic_enter_room(sid, namespace, message.arguments[0])
        elif kind is MessageKind.LEAVE_ROOM:
            server.manager.basic_leave_room(sid, namespace, message.arguments[0])
        elif kind is MessageKind.DISCONNECT:
            await server.disconnect(sid, namespace, ignore_queue=True)
        elif kind is MessageKind.SESSION:
            return await server.get_session(sid, namespace)
        elif kind is MessageKind.OTHER and message.arguments[:1] == (ROOMS,):
            return server.manager.get_rooms(sid, namespace)
        elif kind is MessageKind.OTHER and message.arguments[:1] == (SAVE_SESSION,):
            await server.save_session(sid, message.arguments[1], namespace)
        else:
            raise EnvelopeError(f"no answer is known to {kind.name}")
        return None

    def _page(self, message: Message) -> list[Any]:
        """Facts of clients, in the order of their sids, those after the one given; and whether there are more."""
        after = message.arguments[0] if message.arguments else ""
        members = sorted(
            (member for member in self._chosen(message) if member.state is CONNECTED and member.sid > after),
            key=lambda member: member.sid,
        )
        page: list[Any] = []
        left = self._page_bytes() * _PAGE_SHARE
        for member in members:
            facts = SocketFacts.of_member(member).as_list()
            left -= len(encode_value(facts))
            if left < 0 and page:
                return [page, True]
            page.append(facts)
        return [page, False]

    # -- events of servers -----------------------------------------------------------------------------

    async def _server_event(self, message: Message) -> Any:
        """Raises: LookupError where nobody handles it, and what the handler raises."""
        if not message.arguments or not isinstance(message.arguments[0], str):
            raise EnvelopeError("a server-side event has a name")
        event, *arguments = message.arguments
        handler = self.handlers.get(event)
        if handler is None:
            raise LookupError(f"nothing handles the server-side event {event!r}")
        result = handler(*arguments)
        return await result if inspect.isawaitable(result) else result

    async def _run_server_event(self, message: Message) -> None:
        try:
            await self._server_event(message)
        except LookupError as error:
            logger.debug("%s", error)
        except Exception:  # the application's handler, which nobody waits for
            logger.exception("a handler of a server-side event failed")


def _ack_fields(message: Message) -> tuple[int, float]:
    """Reference and seconds. Raises: EnvelopeError."""
    fields = message.arguments
    if len(fields) != 2 or type(fields[0]) is not int or not isinstance(fields[1], (int, float)):
        raise EnvelopeError("what is wanted of acks is wrong")
    return fields[0], min(float(fields[1]), 1e6)

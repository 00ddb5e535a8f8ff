"""A server among others: what it tells them, what it asks them, and who they are.

``Server(broker=...)`` has one as ``server.cluster``. The server's own methods (``emit``, ``call``, ``disconnect``,
``enter_room`` and their like) come here for what concerns clients of other nodes.

An event goes to this node's clients first, always, whatever the state of the broker; then, encoded once, to the nodes
that have a client in any of its rooms. Nothing is awaited in between, so both have the order of the calls.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from transports.session_ids import draw_worker_id

from .ack_relay import ACK_TIMEOUT_S, AckRelay, AckWanted
from .acks import BroadcastAnswers, Gathering
from .broker_urls import broker_from_url, check_broker_url
from .brokers.base import (
    Answers,
    Broker,
    BrokerClosedError,
    BrokerConfigError,
    BrokerLimits,
    BrokerUnavailableError,
    Callbacks,
    Gap,
    Health,
    MessageTooLargeError,
    Node,
    WhenDown,
)
from .delivery import Delivery, How
from .encoded_events import encode_event, wire_class
from .envelope import EnvelopeError, Message, MessageKind
from .foreign_emitters import ForeignEmitters, ForeignListener
from .interest import Interest
from .members import Member, PendingAck
from .node import ClusterNode
from .node_info import node_info, servers_among
from .node_messages import (
    ANSWERED,
    EXPIRED,
    ROOMS,
    SAVE_SESSION,
    NodeError,
    event_message,
    names,
    read_result,
)
from .remote_socket import SocketFacts
from .topics import SERVERS, namespace_topic, node_of, node_topic, room_topic

if TYPE_CHECKING:
    from .server import Server

logger = logging.getLogger("tidegate.cluster")

#: What another node has to do or answer what concerns one of its clients.
REQUEST_TIMEOUT_S: Final = 10.0


class FoundSockets(NamedTuple):
    """``sockets``: of each client the node and what is known. ``missing_nodes``: did not answer in time, or failed."""

    sockets: list[tuple[str, SocketFacts]]
    missing_nodes: tuple[str, ...]


class Cluster:
    """Of one server. ``broker``: one that was not started, or the URL of one.

    Raises: BrokerConfigError for a URL that is none; for a broker without callbacks to set, TypeError.
    """

    def __init__(
        self,
        server: Server,
        broker: Broker | str,
        limits: BrokerLimits | None = None,
        foreign: ForeignEmitters | None = None,
    ) -> None:
        self._server = server
        self._limits = limits
        self._given = broker
        self._attached: Broker | None = None
        #: What the other nodes are told beside what ``node_info`` says.
        self.info: dict[str, Any] = {}
        self._starting = asyncio.Lock()
        #: None until ``start``, and after ``close``.
        self.broker: Broker | None = None
        if isinstance(broker, str):
            check_broker_url(broker)
        elif isinstance(broker, Broker):
            server.eio.worker_id = broker.node.id
        else:
            raise TypeError(f"broker must be a Broker or its URL, not {type(broker).__name__}")
        self._interest = Interest(self._linger_s)
        self._interest.add(SERVERS)
        self.acks = AckRelay(self._send, server.eio.spawn)
        self.node = ClusterNode(server, self.acks, lambda: self.running().limits.max_message_bytes)
        self.counters = self.node.counters
        self._gatherings: set[Gathering] = set()
        #: Where emitters of other libraries are listened to.
        self.foreign: ForeignListener | None = None
        #: Called when this server was cut off from others, or from the broker, and is back.
        self.on_gap: Callable[[Gap], object] | None = None
        if foreign is not None:
            self.foreign = ForeignListener(broker, foreign, partial(self.node.perform, ""), self.node.skip)
        self._stopped = Health(False, "not started", time.time())

    def _linger_s(self) -> float:
        recovery = self._server.recovery
        return 0.0 if recovery is None else recovery.keep_s

    # -- begin and end ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Join the cluster. Done by the application that the server is attached to; a second call does nothing.

        Returns at once where the broker cannot be reached: see ``health``.
        Raises: BrokerConfigError.
        """
        async with self._starting:
            if self.broker is not None:
                return
            engine = self._server.eio
            if isinstance(self._given, str):
                engine.worker_id = engine.worker_id or draw_worker_id()
                node = Node(engine.worker_id, {**node_info("server"), **self.info})
                broker = broker_from_url(self._given, node, Callbacks(), self._limits)
            else:
                broker = self._given
                if engine.worker_id != broker.node.id:
                    raise BrokerConfigError(
                        f"the ids of this server's clients begin with {engine.worker_id}, so that must be the id of "
                        f"the broker's node, not {broker.node.id}: give the broker's URL instead"
                    )
            if broker is not self._attached:
                self._attach(broker.callbacks)
                self._attached = broker
            self._interest.add(node_topic(broker.node.id))
            self._interest.attach(broker)
            self.broker = broker
            await broker.start()
            if self.foreign is not None:
                self.foreign.start()

    def _attach(self, callbacks: Callbacks) -> None:
        self.node.attach(callbacks)
        # The application's.
        told_left, told_gap = callbacks.on_node_left, callbacks.on_gap

        def left(node: Node) -> None:
            self._node_left(node)
            told_left(node)

        def gap(found: Gap) -> None:
            if self.on_gap is not None:
                self.on_gap(found)
            told_gap(found)

        callbacks.on_node_left, callbacks.on_gap = left, gap

    async def close(self) -> None:
        """Leave the cluster. May be called twice, and ``start`` again after it."""
        async with self._starting:
            broker, self.broker = self.broker, None
            if broker is None:
                return
            if self.foreign is not None:
                await self.foreign.close()
            self._interest.detach()
            self.acks.close()
            await broker.close()
            self._stopped = Health(False, "closed", time.time())

    def running(self) -> Broker:
        """The broker. Raises: BrokerClosedError before ``start`` and after ``close``."""
        if self.broker is None:
            raise BrokerClosedError(
                f"the server's cluster is {self._stopped.reason}: it runs while the application does that the server "
                "is attached to, or from `await server.cluster.start()` on"
            )
        return self.broker

    @property
    def health(self) -> Health:
        """Whether what this node says gets to the others, as a round trip through the broker has shown."""
        return self._stopped if self.broker is None else self.broker.health

    @property
    def node_id(self) -> str:
        """With which the sids of this server's clients begin. Raises: BrokerClosedError before ``start``."""
        return self.running().node.id

    def nodes(self) -> dict[str, Node]:
        """The servers of the cluster by id, this one included, with what each tells of itself."""
        broker = self.running()
        return servers_among({broker.node.id: broker.node, **broker.nodes()})

    async def synced(self, timeout_s: float) -> bool:
        """Wait until other nodes' events for the rooms that clients have entered come here; False when time is over."""
        return await self.running().synced(timeout_s)

    # -- from the manager ------------------------------------------------------------------------------

    def room_opens(self, namespace: str, room: Any) -> None:
        """Raises: TypeError, ValueError for a name that a cluster cannot have."""
        self._interest.room_opens(namespace, room)

    def room_closes(self, namespace: str, room: Any) -> None:
        self._interest.room_closes(namespace, room)

    def owner(self, sid: Any, namespace: str | None) -> str | None:
        """The id of the other node that a client is at; None where it is here, or nowhere that is known."""
        node_id = node_of(sid) if isinstance(sid, str) else ""
        broker = self.broker
        if not node_id or broker is None or self._server.manager.member(sid, namespace) is not None:
            return None
        return node_id if broker.has_node(node_id) else None

    def concerns_others(self, room: Any, namespace: str) -> bool:
        """Whether an event to ``room`` goes to other nodes: not where that is a client of this one."""
        if not isinstance(room, str) or self.broker is None:
            return True
        return node_of(room) != self.broker.node.id and self._server.manager.member(room, namespace) is None

    # -- emit ------------------------------------------------------------------------------------------

    def emit(
        self,
        data: list[Any],
        namespace: str,
        room: Any,
        skip_sids: Collection[Any],
        except_rooms: Collection[Any],
        delivery: Delivery,
        ack: AckWanted | None,
        when_down: WhenDown | None,
        durable: bool,
    ) -> Awaitable[None] | None:
        """Send an event to this node's clients and to others'. ``data``: its name and arguments.

        Returns what is to be awaited at once; None where the event is on its way, as it nearly always is.
        Raises: TypeError, ValueError for what cannot be encoded or cannot cross nodes, MessageTooLargeError: in these
            cases nobody is sent anything. BrokerClosedError, BrokerUnavailableError, also when awaited: this node's
            clients have got it.
        """
        if namespace[:1] != "/":
            raise ValueError(f"a namespace begins with a slash: {namespace!r}")
        rooms = (room,) if type(room) is str else _as_rooms(room)
        if not rooms and room is not None:
            return None  # to none of no rooms
        here, topics = self._split(rooms, namespace)
        encoded = encode_event(wire_class(self._server.packet_class), data, namespace)
        wanted = None if ack is None else self._expect_acks(ack, is_one=len(rooms) == 1 and not here)
        try:
            message = event_message(encoded, namespace, rooms, except_rooms, skip_sids, delivery, wanted)
            payload = message.encode()
            if self.broker is not None and len(payload) > self.broker.limits.max_message_bytes:
                raise MessageTooLargeError(len(payload), self.broker.limits.max_message_bytes)
            if here or not rooms:
                if ack is None:
                    self.node.deliver(encoded, namespace, here, skip_sids, except_rooms, delivery)
                else:
                    self._ask_here(ack, data, namespace, here, skip_sids, except_rooms)
            self.counters.emitted += 1
            if not topics or (len(topics) == 1 and not durable and self.running().publish_now(topics[0], payload)):
                return None
            if when_down is None:
                when_down = "drop" if delivery.how is How.VOLATILE else "wait"
            published = self.running().publish(topics, payload, durable=durable, when_down=when_down)
            return published if wanted is None else self._forgetting(wanted[0], published)
        except BaseException:
            if wanted is not None:
                self.acks.forget(wanted[0])
            raise

    async def _forgetting(self, reference: int, published: Awaitable[None]) -> None:
        """No acks are expected where it was not published."""
        try:
            await published
        except BaseException:
            self.acks.forget(reference)
            raise

    def _split(self, rooms: tuple[str, ...], namespace: str) -> tuple[tuple[str, ...], list[str]]:
        """Which of the rooms can have members here, and the topics under which others hear of them."""
        if not rooms:
            return (), [namespace_topic(namespace)]
        here, topics = [], []
        for room in rooms:
            node_id = self.owner(room, namespace)
            if node_id is not None:
                topics.append(node_topic(node_id))
                continue
            here.append(room)
            if len(rooms) == 1 or self.concerns_others(room, namespace):  # one alone has been looked at
                topics.append(room_topic(namespace, room))
        return tuple(here), topics

    def _expect_acks(self, ack: AckWanted, *, is_one: bool) -> tuple[int, float]:
        """What other nodes are told of the acks. ``is_one``: they are of one client, so that its end is known here."""
        run = self._server.manager.run_callback
        on_timeout = ack.on_timeout
        timeout_s = ACK_TIMEOUT_S if ack.timeout_s is None else ack.timeout_s

        def take(sid: str, outcome: int, values: list[Any]) -> None:
            if outcome == ANSWERED:
                if is_one:
                    self.acks.forget(reference)
                run(ack.callback, *values)
            elif outcome == EXPIRED and on_timeout is not None and not is_one:
                run(on_timeout)

        on_end = partial(run, on_timeout) if is_one and on_timeout is not None else None
        reference = self.acks.expect(take, timeout_s, on_end)
        return reference, timeout_s

    def _ask_here(
        self,
        ack: AckWanted,
        data: list[Any],
        namespace: str,
        rooms: tuple[str, ...],
        skip_sids: Collection[Any],
        except_rooms: Collection[Any],
    ) -> None:
        manager = self._server.manager
        for member in manager.select(namespace, rooms or None, skip_sids, except_rooms):
            pending = PendingAck(ack.callback)
            manager.send_with_ack(member, data[0], data[1:], pending, ack.timeout_s, ack.on_timeout)

    async def call_all(
        self,
        data: list[Any],
        namespace: str,
        room: Any,
        skip_sids: Collection[Any],
        except_rooms: Collection[Any],
        members: list[Member],
        timeout_s: float,
    ) -> BroadcastAnswers:
        """Ask clients of every node. ``members``: those of this one. Raises: as ``emit``, but not for the broker."""
        manager = self._server.manager
        ends = asyncio.get_running_loop().time() + timeout_s
        encoded = encode_event(wire_class(self._server.packet_class), data, namespace)
        rooms = _as_rooms(room)
        if room is not None and not rooms:
            return BroadcastAnswers({}, [])
        gathering = Gathering([member.sid for member in members], is_open=True)
        self._gatherings.add(gathering)
        reference = self.acks.expect(
            lambda sid, outcome, values: gathering.settle(sid, tuple(values) if outcome == ANSWERED else None),
            timeout_s,
        )
        try:
            message = event_message(encoded, namespace, rooms, except_rooms, skip_sids, ack=(reference, timeout_s))
            payload = self._fitting(message)
            for member in members:
                manager.send_with_ack(member, data[0], data[1:], gathering.pending(member.sid), timeout_s)
            found, missing = await self._ask_rooms(payload, rooms, namespace, timeout_s)
            for sids in found.values():
                gathering.add(sids)
            gathering.close()
            return await gathering.wait(max(0.0, ends - asyncio.get_running_loop().time()), missing)
        finally:
            self._gatherings.discard(gathering)
            self.acks.forget(reference)

    def _node_left(self, node: Node) -> None:
        for gathering in self._gatherings:
            gathering.give_up(node.id)

    def _fitting(self, message: Message) -> bytes:
        """Raises: MessageTooLargeError, and as ``Message.encode``."""
        payload = message.encode()
        limit = self.running().limits.max_message_bytes
        if len(payload) > limit:
            raise MessageTooLargeError(len(payload), limit)
        return payload

    # -- one client of another node --------------------------------------------------------------------

    async def _ask(self, node_id: str, message: Message) -> Any:
        """What the node answers. Raises: NodeError, and what it raises of the caller's arguments."""
        answers = await self.running().request(message.encode(), node_id=node_id, timeout_s=REQUEST_TIMEOUT_S)
        if node_id in answers.failed:
            raise NodeError(node_id, answers.failed[node_id])
        if node_id not in answers.answered:
            raise NodeError(node_id, "it did not answer")
        return read_result(node_id, answers.answered[node_id])

    async def enter_room(self, node_id: str, sid: str, namespace: str, room: Any) -> None:
        """Raises: ValueError as ``Server.enter_room``, TypeError for a room that is not text; NodeError."""
        names((room,), "rooms")
        await self._ask(node_id, Message(MessageKind.ENTER_ROOM, namespace, (sid,), arguments=(room,)))

    async def leave_room(self, node_id: str, sid: str, namespace: str, room: Any) -> None:
        """Raises: NodeError, TypeError."""
        names((room,), "rooms")
        await self._ask(node_id, Message(MessageKind.LEAVE_ROOM, namespace, (sid,), arguments=(room,)))

    async def close_room(self, room: Any, namespace: str) -> None:
        """On the other nodes, after what was sent to the room before."""
        message = Message(MessageKind.CLOSE_ROOM, namespace, names((room,), "rooms"))
        await self.running().publish(room_topic(namespace, room), message.encode())

    async def disconnect(self, node_id: str, sid: str, namespace: str) -> None:
        """Returns when its disconnect handler has run. Raises: NodeError."""
        await self._ask(node_id, Message(MessageKind.DISCONNECT, namespace, (sid,)))

    async def rooms(self, sid: str, namespace: str = "/") -> list[Any]:
        """The rooms of a client of any node, its own included; empty where it is unknown. Raises: NodeError."""
        node_id = self.owner(sid, namespace)
        if node_id is None:
            return self._server.manager.get_rooms(sid, namespace)
        message = Message(MessageKind.OTHER, namespace, (sid,), arguments=(ROOMS,))
        return list(await self._ask(node_id, message))

    async def get_session(self, node_id: str, sid: str, namespace: str) -> dict[str, Any]:
        """A copy of the user session. Raises: KeyError for an unknown client; NodeError.

        TypeError where the session holds what cannot leave its process.
        """
        found: dict[str, Any] = await self._ask(node_id, Message(MessageKind.SESSION, namespace, (sid,)))
        return found

    async def save_session(self, node_id: str, sid: str, session: dict[str, Any], namespace: str) -> None:
        """Raises: as ``get_session``."""
        message = Message(MessageKind.OTHER, namespace, (sid,), arguments=(SAVE_SESSION, session))
        await self._ask(node_id, message)

    # -- clients of all nodes --------------------------------------------------------------------------

    async def _ask_rooms(
        self, payload: bytes, rooms: tuple[str, ...], namespace: str, timeout_s: float
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What the nodes answer that may have clients in the rooms, and the ids of those that do not, or that fail.

        While the broker is down these are all that are known.
        """
        broker = self.running()
        topic = node_id = None
        if not rooms:
            topic = namespace_topic(namespace)
        elif len(rooms) == 1:
            node_id = self.owner(rooms[0], namespace)
            if node_id is None:
                topic = room_topic(namespace, rooms[0])
                if not self.concerns_others(rooms[0], namespace):
                    return {}, ()
        try:
            answers = await broker.request(payload, node_id=node_id, topic=topic, timeout_s=timeout_s)
        except BrokerUnavailableError as error:
            logger.warning("other nodes could not be asked: %s", error)
            return {}, tuple(node for node in self.nodes() if node != broker.node.id)
        return self._read(answers)

    def _read(self, answers: Answers) -> tuple[dict[str, Any], tuple[str, ...]]:
        found = {}
        failed = dict(answers.failed)
        for node_id, data in answers.answered.items():
            if data:  # of what is no server it is empty
                try:
                    found[node_id] = read_result(node_id, data)
                except (NodeError, ValueError, TypeError, KeyError) as error:
                    failed[node_id] = str(error)
        for node_id, text in failed.items():
            logger.warning("node %s failed to answer: %s", node_id, text)
        servers = self.nodes()
        missing = [node_id for node_id in answers.missing if node_id in servers or node_id not in answers.answered]
        return found, (*missing, *failed)

    async def find_sockets(
        self, namespace: str, rooms: tuple[str, ...], except_rooms: Collection[Any], timeout_s: float
    ) -> FoundSockets:
        """The connected clients of other nodes."""
        message = Message(MessageKind.FETCH_SOCKETS, namespace, rooms, names(except_rooms, "rooms"), arguments=("",))
        found, missing = await self._ask_rooms(message.encode(), rooms, namespace, timeout_s)
        sockets: list[tuple[str, SocketFacts]] = []
        lost = list(missing)
        for node_id, answer in found.items():
            try:
                page, has_more = answer
                while True:
                    sockets += [(node_id, SocketFacts.from_list(fields)) for fields in page]
                    if not has_more:
                        break
                    after = message._replace(arguments=(sockets[-1][1].sid,))
                    page, has_more = await self._ask(node_id, after)
            except (NodeError, BrokerUnavailableError, EnvelopeError, ValueError, TypeError) as error:
                logger.warning("the clients of node %s are not known: %s", node_id, error)
                lost.append(node_id)
        return FoundSockets(sockets, tuple(lost))

    async def _send(self, node_id: str, payload: bytes) -> None:
        await self.running().send(node_id, payload)


def _as_rooms(room: Any) -> tuple[str, ...]:
    """One, or several. Raises: TypeError, ValueError."""
    if room is None:
        return ()
    return names(room if isinstance(room, (list, tuple, set, frozenset)) else (room,), "rooms")

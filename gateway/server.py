"""The Socket.IO server: python-socketio's API on tidegate's engine.

``Server`` is a ``socketio.AsyncServer``; what its documentation says holds here. python-socketio is touched here,
in ``gateway.channels``, ``gateway.codec``, ``gateway.dispatch``, ``gateway.admin`` and, for its exceptions,
``gateway.router`` alone;
``tests/guards/test_seams.py`` names what is relied on.

Spec: Socket.IO v5.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar, overload

import socketio
from socketio import exceptions

from transports import reasons
from transports.engine import Engine
from transports.refusals import Refusal
from transports.session import Session

from . import catalogue, codec, static_files
from .acks import BroadcastAnswers, Gathering, as_answer
from .brokers.base import Broker, BrokerLimits, WhenDown
from .channels import ChannelManager, as_arguments, as_collection
from .clients import Client
from .dispatch import NOT_HANDLED, Dispatcher, NamespaceMatcher, Unanswered
from .environs import Environs, environ_of
from .foreign_emitters import ForeignEmitters
from .handlers import AckId, HandlerRunner
from .limits import Limits
from .members import CONNECTED, CONNECTING, Member
from .membership import Membership
from .middleware import ConnectMiddleware, EventMiddleware, Middlewares
from .once import Message
from .once_events import OnceEvents
from .recorder import Recorder
from .recovery import Recovery
from .remote_socket import RemoteSocket, SocketFacts
from .server_side import ServerSide

logger = logging.getLogger("tidegate.server")

#: Events above it are counted with what they take in memory while their handlers run.
LARGE_EVENT_BYTES: Final = 1024

Handler = TypeVar("Handler", bound=Callable[..., Any])


class Server(ServerSide, socketio.AsyncServer):
    """A Socket.IO server for asyncio.

    Takes what ``socketio.AsyncServer`` takes, the options of ``transports.engine.Engine``, and:

    - ``connect_timeout``: seconds a connection may stay without joining a namespace (45).
    - ``namespaces``: as in python-socketio; see ``of`` for patterns.
    - those of ``gateway.limits.Limits``: what clients may make the server keep or run.
    - ``recovery_s``: seconds for which the place of a client that is gone is kept, so that it comes back as if it had
      not been away; 0 (the default) keeps none. Every event then has an argument more: see ``docs/recovery.md``.
      ``recovery_max_bytes``: what the messages kept for them may take, all together (64 MiB).
      ``recovery_max_clients``: how many places are kept of clients that are gone (100,000).
    - ``broker``: the URL of a broker (``gateway.broker_urls``), or a ``gateway.brokers.base.Broker``, by which this
      server and others are one: see ``docs/cluster.md``. ``broker_limits``: a ``BrokerLimits`` beside a URL.
      ``foreign_emitters``: a ``gateway.ForeignEmitters``, for those of other libraries.

    Raises: TypeError for an unknown option, ValueError for one out of range.
    """

    reason = Engine.reason
    manager: ChannelManager
    eio: Engine

    def __init__(
        self,
        client_manager: ChannelManager | None = None,
        logger: bool | logging.Logger = False,
        serializer: Any = "default",
        json: Any = None,
        async_handlers: bool = True,
        always_connect: bool = False,
        namespaces: Any = None,
        connect_timeout: float = 45.0,
        recovery_s: float = 0.0,
        recovery_max_bytes: int = 64 * 1024 * 1024,
        recovery_max_clients: int = 100_000,
        broker: Broker | str | None = None,
        broker_limits: BrokerLimits | None = None,
        foreign_emitters: ForeignEmitters | None = None,
        **engine_options: Any,
    ) -> None:
        if client_manager is None:
            client_manager = ChannelManager()
        elif not isinstance(client_manager, ChannelManager):
            raise TypeError(
                f"client_manager must be a gateway.ChannelManager, not {type(client_manager).__name__}: "
                "the managers of python-socketio keep their own tables of clients"
            )
        self.limits = Limits.taken_from(engine_options)
        super().__init__(
            client_manager=client_manager,
            logger=logger,
            serializer=_packet_class(serializer, json),
            async_handlers=async_handlers,
            always_connect=always_connect,
            namespaces=namespaces,
            **engine_options,
        )
        self.not_handled = NOT_HANDLED
        #: Whether events and acks take the short way through ``gateway.codec``.
        self._reads_plain_events = self.packet_class is codec.JsonPacket
        self.connect_timeout_s = connect_timeout
        self.environ = Environs(self.eio)
        self.eio.application = self
        self.dispatcher = Dispatcher(self)
        self.connect_middlewares = Middlewares()
        self.event_middlewares = Middlewares()
        self.once = OnceEvents(self) if self.limits.once_window_s else None
        self.handler_runner = HandlerRunner(self)
        self.membership = Membership(self)
        if recovery_s != 0:
            self.manager.recorder = Recorder(self, recovery_s, recovery_max_bytes, recovery_max_clients)
        self.cluster = None
        if broker is not None:
            self.join(broker, broker_limits, foreign_emitters)
        self._max_attachments_bytes = max(self.limits.max_attachments_bytes, self.eio.max_payload_bytes)

    def _engineio_server_class(self) -> type[Engine]:
        return Engine

    # -- registration ----------------------------------------------------------------------------------

    def on(self, event: str, handler: Any = None, namespace: Any = None) -> Any:
        """Register a handler; see python-socketio. ``namespace`` may also be a pattern or a function, as in ``of``."""
        self.dispatcher.forget()
        return super().on(event, handler, namespace=self._namespace_name(namespace))

    @overload
    def event(self, handler: Handler, /) -> Handler: ...

    @overload
    def event(self, *, namespace: Any = None) -> Callable[[Handler], Handler]: ...

    def event(self, *args: Any, **kwargs: Any) -> Any:
        """Register a handler under its function's name; see python-socketio."""
        return super().event(*args, **kwargs)

    def register_namespace(self, namespace_handler: Any) -> None:
        """Register a class namespace. Its ``namespace`` may be a pattern or a function, as in ``of``."""
        matcher = getattr(namespace_handler, "namespace", None)
        super().register_namespace(namespace_handler)
        if not isinstance(matcher, str):
            self.namespace_handlers[self._namespace_name(matcher)] = self.namespace_handlers.pop(matcher)
        self.dispatcher.forget()

    def _namespace_name(self, namespace: Any) -> str | None:
        if namespace is None or isinstance(namespace, str):
            return namespace
        return self.dispatcher.add_matcher(namespace)

    def of(self, matcher: NamespaceMatcher) -> str:
        """Accept every namespace whose name matches a pattern (whole), or for which a function returns True.

        Returns a name to register handlers under; they are given the namespace before the sid::

            boards = server.of(re.compile(r"/board-\\d+"))

            @server.on("draw", namespace=boards)
            async def draw(namespace, sid, stroke): ...
        """
        return self.dispatcher.add_matcher(matcher)

    def use(self, middleware: ConnectMiddleware, namespace: str = "/") -> ConnectMiddleware:
        """Ask ``middleware(sid, environ, auth)`` before the connect handler of ``namespace`` ("*": of all).

        It refuses by returning False or raising ``ConnectionRefusedError``; several are asked in order. Coroutine
        functions welcome.
        """
        self.connect_middlewares.add(middleware, namespace)
        return middleware

    def use_event(self, middleware: EventMiddleware, namespace: str = "/") -> EventMiddleware:
        """Pass each event of ``namespace`` ("*": of all) through ``middleware(sid, event, args)`` first.

        It returns None to let the event pass, a list or tuple to replace its arguments, False to drop it, or
        raises ``EventRefusedError``, whose arguments answer a client that asked for an ack.
        """
        self.event_middlewares.add(middleware, namespace)
        return middleware

    # -- hosts -----------------------------------------------------------------------------------------

    def attach(self, app: Any, socketio_path: str = "socket.io", serve_client: bool = True) -> None:
        """Serve ``/socketio_path/`` in an aiohttp application, whatever runs it.

        ``serve_client``: also serve the browser client, as ``/socketio_path/tidegate-client.min.js`` and, like the
        Node server, ``/socketio_path/socket.io.js``.
        """
        self.eio.attach(app, socketio_path)
        self._run_cluster_with(app)
        if serve_client:
            static_files.attach(app, socketio_path)

    # -- emit ------------------------------------------------------------------------------------------

    async def emit(
        self,
        event: str,
        data: Any = None,
        to: Any = None,
        room: Any = None,
        skip_sid: Any = None,
        namespace: str | None = None,
        callback: Callable[..., Any] | None = None,
        ignore_queue: bool = False,
        *,
        except_rooms: Any = None,
        volatile: bool | None = None,
        conflate: Hashable = None,
        timeout: float | None = None,  # noqa: ASYNC109 - of the ack, not of this coroutine
        on_timeout: Callable[[], Any] | None = None,
        when_down: WhenDown | None = None,
        durable: bool = False,
    ) -> None:
        """Send an event; see python-socketio. Beyond it:

        - ``skip_sid``: one sid or several, ``except_rooms``: one room or several, that do not get it.
        - ``volatile``: clients that cannot take it at this moment never get it.
        - ``conflate``: for clients that cannot take it at this moment, only the newest message of this key waits. Keys
          are anything hashable and belong to the namespace; True stands for this event to this room.
          Neither of the two: as ``set_delivery`` says for the room. ``volatile=False``: reliable whatever it says.
        - ``timeout``: after so many seconds ``callback`` is given up, and ``on_timeout()`` called.
        - ``when_down``: what becomes of it for clients of other nodes while the broker cannot be reached: "wait" (the
          default), "fail" (``BrokerUnavailableError``) or "drop" (the default if volatile). Those of this node get it
          at once. ``durable``: other nodes that are cut off read it later, where the broker can keep it.
          ``ignore_queue``: to clients of this node alone.
        """
        await self.manager.emit(
            event,
            data,
            namespace or "/",
            room=to or room,
            skip_sid=skip_sid,
            callback=callback,
            ignore_queue=ignore_queue,
            except_rooms=except_rooms,
            volatile=volatile,
            conflate=conflate,
            timeout=timeout,
            on_timeout=on_timeout,
            when_down=when_down,
            durable=durable,
        )

    def set_delivery(self, room: Any, how: str | None, namespace: str | None = None, event: str | None = None) -> None:
        """Choose what becomes of events sent to ``room`` while a client cannot take them, where ``emit`` does not say.

        ``how``: "reliable" (they wait; the default), "volatile" (it never gets them), "conflated" (only the newest of
        each event waits, as with ``conflate=True``), or None to forget the choice; it is kept until then, whoever is
        in the room. ``room`` None: events to the whole namespace. ``event``: of this one alone, before the room's own.

        Raises: ValueError for another word, TypeError for several rooms at once.
        """
        self.manager.policies.set(namespace or "/", room, event, how)

    async def send(self, data: Any, *args: Any, **kwargs: Any) -> None:
        """``emit`` of the event ``message``."""
        await self.emit("message", data, *args, **kwargs)

    async def call(
        self,
        event: str,
        data: Any = None,
        to: Any = None,
        sid: str | None = None,
        namespace: str | None = None,
        timeout: float = 60,  # noqa: ASYNC109 - python-socketio's name
        ignore_queue: bool = False,
    ) -> Any:
        """Send an event to one client and return what it answers: one value, a tuple of several, None for none.

        Raises: gateway.TimeoutError; ValueError without ``to`` or ``sid``; RuntimeError with ``async_handlers=False``,
            where the answer could not be received while a handler waits for it.
        """
        if to is None and sid is None:
            raise ValueError("Cannot use call() to broadcast.")
        if not self.async_handlers:
            raise RuntimeError("Cannot use call() when async_handlers is False.")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answered(*values: Any) -> None:
            if not answer.done():
                answer.set_result(as_answer(values))

        await self.emit(
            event,
            data,
            to=to or sid,
            namespace=namespace,
            callback=answered,
            timeout=timeout,
            ignore_queue=ignore_queue,
        )
        await asyncio.wait((answer,), timeout=timeout)
        if not answer.done():
            raise exceptions.TimeoutError
        return answer.result()

    async def call_all(
        self,
        event: str,
        data: Any = None,
        to: Any = None,
        room: Any = None,
        skip_sid: Any = None,
        namespace: str | None = None,
        timeout: float = 60.0,  # noqa: ASYNC109 - part of the answer, not a cancellation
        *,
        except_rooms: Any = None,
        ignore_queue: bool = False,
    ) -> BroadcastAnswers:
        """Send an event to everybody it is for and gather their acks, for ``timeout`` seconds at most.

        Never raises for clients that do not answer: they are listed in ``missing``. ``ignore_queue``: as for ``emit``.
        """
        arguments = as_arguments(data)
        members = self.manager.select(namespace or "/", to or room, skip_sid, except_rooms)
        if self.cluster is not None and not ignore_queue:
            skip = as_collection(skip_sid), as_collection(except_rooms)
            return await self.cluster.call_all(
                [event, *arguments], namespace or "/", to or room, *skip, members, timeout
            )
        gathering = Gathering([member.sid for member in members])
        for member in members:
            self.manager.send_with_ack(member, event, arguments, gathering.pending(member.sid), timeout)
        return await gathering.wait(timeout)

    async def fetch_sockets(
        self,
        room: Any = None,
        namespace: str | None = None,
        except_rooms: Any = None,
        *,
        local: bool = False,
        timeout: float = 5.0,  # noqa: ASYNC109 - part of the answer, not a cancellation
    ) -> list[RemoteSocket]:
        """The connected clients of a room, of several, or of the namespace, on all nodes or with ``local`` on this one.

        Nodes that do not answer within ``timeout`` seconds are left out, which is logged; ``cluster.find_sockets``
        names them.
        """
        members = self.manager.select(namespace or "/", room, None, except_rooms)
        node = None if self.cluster is None else self.eio.worker_id
        found = [
            RemoteSocket(self, SocketFacts.of_member(member), node) for member in members if member.state is CONNECTED
        ]
        rooms = tuple(as_collection(room))
        if self.cluster is not None and not local and (rooms or room is None):
            others = await self.cluster.find_sockets(namespace or "/", rooms, as_collection(except_rooms), timeout)
            found += [RemoteSocket(self, facts, node_id) for node_id, facts in others.sockets]
        return found

    # -- sessions and requests of clients ----------------------------------------------------------------

    def _member(self, sid: str, namespace: str | None) -> Member:
        member = self.manager.member(sid, namespace)
        if member is None:
            raise KeyError(f"{sid} is not connected to {namespace or '/'}")
        return member

    async def get_session(self, sid: str, namespace: str | None = None) -> dict[str, Any]:
        """The user session; of a client of another node a copy, which ``save_session`` writes back.

        Raises: KeyError for an unknown client. Of another node's: NodeError, BrokerError, and TypeError or ValueError
            for a session with what cannot leave its process.
        """
        if self.cluster is not None and (node_id := self.cluster.owner(sid, namespace)) is not None:
            return await self.cluster.get_session(node_id, sid, namespace or "/")
        member = self._member(sid, namespace)
        session: dict[str, Any] = member.session.session.setdefault(member.namespace, {})
        if member.place is not None:
            member.place.user_session = session
        return session

    async def save_session(self, sid: str, session: dict[str, Any], namespace: str | None = None) -> None:
        """Replace the user session. Raises: as ``get_session``."""
        if self.cluster is not None and (node_id := self.cluster.owner(sid, namespace)) is not None:
            await self.cluster.save_session(node_id, sid, session, namespace or "/")
            return
        member = self._member(sid, namespace)
        member.session.session[member.namespace] = session
        if member.place is not None:
            member.place.user_session = session

    def transport(self, sid: str, namespace: str | None = None) -> str:
        """``polling``, ``xhr-streaming`` or ``websocket``. Raises: KeyError for an unknown client."""
        return self._member(sid, namespace).session.transport

    def get_environ(self, sid: str, namespace: str | None = None) -> dict[str, Any] | None:
        """The handshake request; None for an unknown client."""
        member = self.manager.member(sid, namespace)
        return None if member is None else environ_of(member)

    @property
    def recovery(self) -> Recovery | None:
        """The log and the places of clients that may come back, with ``counters``; None where recovery is off."""
        return None if self.manager.recorder is None else self.manager.recorder.recovery

    def recovered(self, sid: str, namespace: str | None = None) -> bool:
        """Whether the client has come back to its place, and was or is sent what it had missed."""
        member = self.manager.member(sid, namespace)
        return member is not None and member.place is not None and member.place.is_recovered

    async def disconnect(self, sid: str, namespace: str | None = None, ignore_queue: bool = False) -> None:
        """Disconnect a client from a namespace.

        Returns when its disconnect handler has run; with ``async_handlers=False`` that may come later, after the
        client's events that wait for their turn. A client that is gone already cannot come back to its place any more.
        One of another node is disconnected there, unless ``ignore_queue``.

        Raises: NodeError, BrokerError for one of another node.
        """
        if self.cluster is not None and not ignore_queue:
            node_id = self.cluster.owner(sid, namespace)
            if node_id is not None:
                await self.cluster.disconnect(node_id, sid, namespace or "/")
                return
        member = self.manager.member(sid, namespace)
        recorder = self.manager.recorder
        if recorder is not None:
            recorder.forget_sid(sid, namespace or "/")
        if member is not None and member.state is CONNECTING:
            member.is_expelled = True  # refused, whatever its connect handler will say
        if member is None or member.state is not CONNECTED:
            return
        self.manager.settle(member)
        self.post(member.session, codec.DISCONNECT, member.namespace)
        await self.membership.leave(member, reasons.SERVER_DISCONNECT)

    async def drain(self, timeout_s: float = 10.0) -> None:
        """Finish handlers that run, tell every client to reconnect and wait until they know; then cut what is left."""
        await self.eio.drain(timeout_s)

    async def shutdown(self) -> None:
        """Close every session, and leave the cluster. Called by the application's shutdown hook after ``attach``."""
        await super().shutdown()
        if self.cluster is not None:
            await self.cluster.close()

    def instrument(
        self,
        auth: Any = None,
        mode: str = "development",
        read_only: bool = False,
        server_id: str | None = None,
        namespace: str = "/admin",
        server_stats_interval: int = 2,
    ) -> Any:
        """Report to the Socket.IO Admin UI; see python-socketio."""
        from .admin import InstrumentedServer

        return InstrumentedServer(
            self,
            auth=auth,
            mode=mode,
            read_only=read_only,
            server_id=server_id,
            namespace=namespace,
            server_stats_interval=server_stats_interval,
        )

    # -- from the engine (transports.engine.Application) -------------------------------------------------

    def session_opens(self, session: Session) -> None:
        session.application = Client()
        session.application_deadline = self.eio.now() + self.connect_timeout_s

    def deadline_passed(self, session: Session) -> None:
        if session.application.members:  # a connect handler is still thinking
            session.application_deadline = self.eio.now() + self.connect_timeout_s
        else:
            session.close(reasons.CONNECT_TIMEOUT)

    def session_closed(self, session: Session, reason: str) -> None:
        client: Client = session.application
        client.awaited = None
        for member in list(client.members.values()):
            if member.state is not CONNECTED:
                continue
            if client.in_flight or self.dispatcher.is_told_of_end(member.namespace):
                # Not at once: its events come first, and whoever ends the session may be in the midst of a broadcast.
                self.eio.spawn(self.membership.leave(member, reason))
            else:
                self.manager.begin_leave(member)
                self.membership.forget(member)

    def message_received(self, session: Session, data: str | bytes) -> None:
        client: Client = session.application
        try:
            if self._reads_plain_events and client.awaited is None:
                event = codec.read_event(data)
                if event is not None:
                    namespace, ack_id, given = event
                    member = client.members.get(namespace)
                    if member is not None and member.state is CONNECTED:
                        nbytes = 0 if len(data) <= LARGE_EVENT_BYTES else codec.decoded_bytes(data)
                        self.handler_runner.receive(member, given, ack_id, nbytes)
                        if nbytes:
                            self.eio.received_in_part(nbytes)
                        return
            self._receive_packet(session, client, data)
        except codec.PacketError as error:
            self._fail(session, error)
        except (ValueError, TypeError, LookupError, RecursionError) as error:  # of a packet class of the application
            logger.info("packet class of the application: %s", error)
            self._fail(session, codec.PacketError(catalogue.CUSTOM_PACKET))

    def _receive_packet(self, session: Session, client: Client, data: str | bytes) -> None:
        """Raises: PacketError, and what a packet class of the application raises."""
        nbytes = 0
        packet = client.awaited
        if packet is None:
            if len(data) > LARGE_EVENT_BYTES:
                nbytes = codec.decoded_bytes(data)
            packet = self.packet_class(encoded_packet=data)
            if packet.attachment_count:
                self._expected_member(session, client, packet)
                client.awaited = packet
                client.awaited_bytes = len(data)
                self._awaits_more(session, nbytes or codec.decoded_bytes(data))
                return
        else:
            client.awaited_bytes += len(data)
            if client.awaited_bytes > self._max_attachments_bytes:
                raise codec.PacketError(catalogue.ATTACHMENTS_TOO_BIG, limit=self._max_attachments_bytes)
            if not packet.add_attachment(data):
                self._awaits_more(session, len(data))
                return
            client.awaited = None
            nbytes = len(data) + self._awaits_no_more(session, client)
        packet_type = packet.packet_type
        if packet_type == codec.EVENT or packet_type == codec.BINARY_EVENT:
            member = self._expected_member(session, client, packet)
            if member is not None:
                self.handler_runner.receive(member, packet.data, packet.id, nbytes)
                if nbytes:
                    self.eio.received_in_part(nbytes)
        elif packet_type == codec.ACK or packet_type == codec.BINARY_ACK:
            member = self._expected_member(session, client, packet)
            if member is not None:
                self.manager.acknowledge(member, packet.id, packet.data)
        elif packet_type == codec.CONNECT:
            self.membership.receive_connect(session, client, packet)
        else:
            self.membership.receive_disconnect(client, packet.namespace or "/")

    def _awaits_more(self, session: Session, nbytes: int) -> None:
        """So much more of a packet is kept until its attachments have come."""
        session.application_bytes += nbytes
        self.eio.received_in_part(nbytes)

    def _awaits_no_more(self, session: Session, client: Client) -> int:
        """The packet is whole, or given up; what was counted for it."""
        nbytes = session.application_bytes - client.in_flight_bytes  # what is not of handlers
        session.application_bytes -= nbytes
        return nbytes

    def _fail(self, session: Session, error: codec.PacketError) -> None:
        client: Client = session.application
        client.awaited = None
        self._awaits_no_more(session, client)
        if session.port is not None:
            session.port_failed(session.port, error)

    def _expected_member(self, session: Session, client: Client, packet: Any) -> Member | None:
        """The member a packet is for; None where it has just left.

        Raises: PacketError for a namespace that the client never joined.
        """
        namespace = packet.namespace or "/"
        member = client.members.get(namespace)
        if member is not None and member.state is CONNECTED:
            return member
        if namespace not in client.joined:
            raise codec.PacketError(catalogue.NOT_JOINED, namespace=namespace)
        self.note(session, catalogue.LATE_EVENT, namespace=namespace)
        return None

    def note(self, session: Session, refusal: Refusal, **fields: Any) -> None:
        """Count a refusal of what ``session`` has sent, and say so in the log."""
        self.eio.note_refusal(refusal, refusal.text(**fields), session.request, session.id)

    def drop(self, member: Member, refusal: Refusal, **fields: Any) -> None:
        """Something of a client goes nowhere: count it, and say so in the log."""
        self.note(member.session, refusal, **fields)

    def post(
        self, session: Session, packet_type: int, namespace: str, data: Any = None, ack_id: int | None = None
    ) -> None:
        """Send a packet. Raises: TypeError, ValueError for data that cannot be encoded."""
        packet = self.packet_class(packet_type, data=data, namespace=namespace, id=ack_id)
        self.eio.post(session, codec.to_outbound(packet))

    # -- events: for the handlers' runner ----------------------------------------------------------------

    async def pass_and_trigger(self, member: Member, event: Any, arguments: list[Any]) -> Any:
        """Ask the middlewares, then call the handler; ``not_handled`` where the event was dropped.

        Raises: EventRefusedError, and what the application's functions raise.
        """
        passed = await self.event_middlewares.pass_event(member.namespace, member.sid, event, arguments)
        if passed is None:
            return self.not_handled
        return await self._trigger_event(event, member.namespace, member.sid, *passed)

    def acknowledge(self, member: Member, ack_id: AckId, result: Any) -> None:
        """Answer an event with what its handler returned, where the client asked for that."""
        if type(ack_id) is not int:
            if isinstance(ack_id, Message) and self.once is not None:
                self.once.settle(member, ack_id, result)
            return
        if type(result) is Unanswered or member.state is not CONNECTED:
            return
        try:
            values = as_arguments(result)
            if self._reads_plain_events:
                self.eio.post(member.session, codec.ack(member.namespace, ack_id, values))
            else:
                self.post(member.session, codec.ACK, member.namespace, values, ack_id)
        except Exception:  # the application's data, and its encoder
            logger.exception("what a handler returned cannot be sent as an ack")

    async def _trigger_event(self, event: Any, namespace: str, *args: Any) -> Any:
        """Call the handler of an event; ``not_handled`` where there is none."""
        target = self.dispatcher.target(event, namespace)
        if target is None:
            return self.not_handled
        result = target.handler(*target.prefix, *args)
        return await result if inspect.isawaitable(result) else result

    # -- python-socketio's inner calls, kept for code that knows them -------------------------------------

    async def _send_packet(self, eio_sid: str, pkt: Any) -> None:
        session = self.eio.sockets.get(eio_sid)
        if session is not None:
            self.eio.post(session, codec.to_outbound(pkt))


def _packet_class(serializer: Any, json_module: Any) -> Any:
    if serializer == "msgpack":
        return codec.MsgpackPacket
    if serializer != "default":
        return serializer
    if json_module is None:
        return codec.JsonPacket
    return codec.json_packet_with(json_module)

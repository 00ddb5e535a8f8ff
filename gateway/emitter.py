"""Telling the clients of a cluster something, from a process that has none: a web worker, a task queue, a cron job.

::

    with gateway.Emitter("redis://localhost") as emitter:
        emitter.emit("price", {"EURUSD": 1.09}, room="forex")

    async with gateway.AsyncEmitter("redis://localhost") as emitter:
        await emitter.emit("price", {"EURUSD": 1.09}, room="forex")

Both do the same; ``Emitter`` runs the other one in a thread of its own, and may be used from any threads.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Collection, Coroutine
from types import TracebackType
from typing import Any, Final, TypeVar

from .broker_urls import broker_from_url, check_broker_url
from .brokers.base import Broker, BrokerClosedError, BrokerLimits, BrokerUnavailableError, Health, Node, WhenDown
from .channels import as_arguments, as_collection
from .codec import JsonPacket
from .delivery import DeliveryPolicies, How
from .encoded_events import encode_event
from .envelope import Message, MessageKind
from .node_info import node_info, servers_among
from .node_messages import event_message, names
from .server_side import server_event
from .topics import SERVERS, may_be_sid, namespace_topic, node_of, node_topic, room_topic

T = TypeVar("T")

#: How long ``close`` of an ``Emitter`` waits for its thread.
_CLOSE_S: Final = 5.0


def target_topics(namespace: str, rooms: Collection[str], node_ids: Collection[str]) -> list[str]:
    """Under which the nodes hear that have clients in any of the rooms (none: in the namespace), or that are one."""
    if not rooms:
        return [namespace_topic(namespace)]
    topics = []
    for room in rooms:
        # The nodes are not all known before the broker has said which there are.
        if node_of(room) in node_ids or may_be_sid(room):
            topics.append(node_topic(node_of(room)))
        topics.append(room_topic(namespace, room))
    return topics


class AsyncEmitter:
    """``url``: of the cluster's broker. Start it by ``async with``, or ``start`` and ``close``.

    ``when_down`` is as for ``Server.emit``; "wait" gives up after the limits' ``publish_timeout_s``.
    Raises: BrokerConfigError for a URL that is none.
    """

    def __init__(self, url: str, limits: BrokerLimits | None = None, kind: str = "emitter") -> None:
        check_broker_url(url)
        self._url = url
        self._limits = limits
        self._kind = kind
        self._broker: Broker | None = None
        self._policies = DeliveryPolicies()

    async def start(self) -> None:
        """Returns at once where the broker cannot be reached: see ``health``. A second call does nothing."""
        if self._broker is None:
            self._broker = broker_from_url(self._url, Node(info=node_info(self._kind)), None, self._limits)
            await self._broker.start()

    async def close(self) -> None:
        """What waits is sent first, for a second at most."""
        broker, self._broker = self._broker, None
        if broker is not None:
            await broker.close()

    async def __aenter__(self) -> AsyncEmitter:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def broker(self) -> Broker:
        """Raises: BrokerClosedError before ``start`` and after ``close``."""
        if self._broker is None:
            raise BrokerClosedError("the emitter was not started, or is closed")
        return self._broker

    @property
    def health(self) -> Health:
        """Raises: as ``broker``."""
        return self.broker.health

    async def ready(self, timeout_s: float) -> None:
        """Raises: BrokerUnavailableError where the broker cannot be reached in time."""
        if not await self.broker.synced(timeout_s):
            raise BrokerUnavailableError(self.broker.health.reason)

    def nodes(self) -> dict[str, Node]:
        """The servers that are known, by id: none right after ``start``."""
        return servers_among(self.broker.nodes())

    async def emit(
        self,
        event: str,
        data: Any = None,
        to: Any = None,
        room: Any = None,
        skip_sid: Any = None,
        namespace: str | None = None,
        *,
        except_rooms: Any = None,
        volatile: bool = False,
        conflate: Any = None,
        when_down: WhenDown | None = None,
        durable: bool = False,
    ) -> None:
        """Send an event to a client, a room, several, or the whole namespace; see ``Server.emit``.

        Raises: TypeError, ValueError for what cannot be encoded or cannot cross nodes; BrokerError.
        """
        namespace = namespace or "/"
        target = to or room
        rooms = names(as_collection(target), "rooms")
        if target is not None and not rooms:
            return  # to none of no rooms
        delivery = self._policies.choose(
            namespace, target, event, volatile=volatile, conflate=conflate, has_callback=False
        )
        encoded = encode_event(JsonPacket, [event, *as_arguments(data)], namespace)
        skipped = as_collection(skip_sid)
        message = event_message(encoded, namespace, rooms, as_collection(except_rooms), skipped, delivery)
        if when_down is None:
            when_down = "drop" if delivery.how is How.VOLATILE else "wait"
        await self._publish(message, namespace, rooms, when_down, durable)

    async def enter_room(
        self, target: Any, room: Any, namespace: str | None = None, *, when_down: WhenDown = "wait"
    ) -> None:
        """Let a client, or everybody in a room or several, enter ``room``. Raises: as ``emit``."""
        await self._change(MessageKind.ENTER_ROOM, target, namespace, names((room,), "rooms"), when_down)

    async def leave_room(
        self, target: Any, room: Any, namespace: str | None = None, *, when_down: WhenDown = "wait"
    ) -> None:
        """The reverse of ``enter_room``."""
        await self._change(MessageKind.LEAVE_ROOM, target, namespace, names((room,), "rooms"), when_down)

    async def close_room(self, room: Any, namespace: str | None = None, *, when_down: WhenDown = "wait") -> None:
        """Let everybody leave ``room``."""
        await self._change(MessageKind.CLOSE_ROOM, room, namespace, (), when_down)

    async def disconnect(self, target: Any, namespace: str | None = None, *, when_down: WhenDown = "wait") -> None:
        """Disconnect a client, or everybody in a room or several, from the namespace. Raises: as ``emit``."""
        await self._change(MessageKind.DISCONNECT, target, namespace, (), when_down)

    async def server_side_emit(
        self, event: str, *arguments: Any, when_down: WhenDown = "wait", durable: bool = False
    ) -> None:
        """See ``Server.server_side_emit``."""
        await self.broker.publish(SERVERS, server_event(event, arguments), durable=durable, when_down=when_down)

    async def _change(
        self, kind: MessageKind, target: Any, namespace: str | None, arguments: tuple[str, ...], when_down: WhenDown
    ) -> None:
        if not target:
            raise ValueError("a client or a room is needed, not nothing")
        rooms = names(as_collection(target), "rooms")
        message = Message(kind, namespace or "/", rooms, arguments=arguments)
        await self._publish(message, namespace or "/", rooms, when_down, False)

    async def _publish(
        self, message: Message, namespace: str, rooms: tuple[str, ...], when_down: WhenDown, durable: bool
    ) -> None:
        broker = self.broker
        topics = target_topics(namespace, rooms, broker.nodes())
        await broker.publish(topics, message.encode(), durable=durable, when_down=when_down)


class Emitter:
    """``AsyncEmitter`` for code without a loop. Begins with the first call; also anew in a process that was forked.

    Each call returns when the message is in line, which with "wait" takes ``publish_timeout_s`` of the limits at most.
    Raises: BrokerConfigError for a URL that is none.
    """

    def __init__(self, url: str, limits: BrokerLimits | None = None) -> None:
        check_broker_url(url)
        self._url = url
        self._limits = limits or BrokerLimits()
        self._lock = threading.Lock()
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._emitter: AsyncEmitter | None = None
        if hasattr(os, "register_at_fork"):
            # Whatever thread held it is not there in the child.
            os.register_at_fork(after_in_child=self._forget_lock)

    def _forget_lock(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> Emitter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def emit(self, event: str, data: Any = None, to: Any = None, **options: Any) -> None:
        """See ``AsyncEmitter.emit``."""
        emitter = self._started()
        self._run(emitter.emit(event, data, to, **options))

    def enter_room(self, target: Any, room: Any, namespace: str | None = None, **options: Any) -> None:
        """See ``AsyncEmitter.enter_room``."""
        emitter = self._started()
        self._run(emitter.enter_room(target, room, namespace, **options))

    def leave_room(self, target: Any, room: Any, namespace: str | None = None, **options: Any) -> None:
        """See ``AsyncEmitter.leave_room``."""
        emitter = self._started()
        self._run(emitter.leave_room(target, room, namespace, **options))

    def close_room(self, room: Any, namespace: str | None = None, **options: Any) -> None:
        """See ``AsyncEmitter.close_room``."""
        emitter = self._started()
        self._run(emitter.close_room(room, namespace, **options))

    def disconnect(self, target: Any, namespace: str | None = None, **options: Any) -> None:
        """See ``AsyncEmitter.disconnect``."""
        emitter = self._started()
        self._run(emitter.disconnect(target, namespace, **options))

    def server_side_emit(self, event: str, *arguments: Any, **options: Any) -> None:
        """See ``AsyncEmitter.server_side_emit``."""
        emitter = self._started()
        self._run(emitter.server_side_emit(event, *arguments, **options))

    @property
    def health(self) -> Health:
        """Whether what is said gets to the servers."""
        return self._started().health

    def close(self) -> None:
        """What waits is sent first, for a second at most. It begins anew with the next call."""
        with self._lock:
            loop, thread, emitter = self._loop, self._thread, self._emitter
            self._loop = self._thread = self._emitter = None
            if loop is None or thread is None or emitter is None or self._pid != os.getpid():
                return
            asyncio.run_coroutine_threadsafe(emitter.close(), loop).result(_CLOSE_S)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_CLOSE_S)

    def _started(self) -> AsyncEmitter:
        with self._lock:
            if self._emitter is None or self._pid != os.getpid():
                self._begin()
            assert self._emitter is not None  # noqa: S101 - by _begin
            return self._emitter

    def _begin(self) -> None:
        loop = self._loop = asyncio.new_event_loop()

        def serve() -> None:
            try:
                loop.run_forever()
            finally:
                loop.close()

        self._pid = os.getpid()
        self._thread = threading.Thread(target=serve, name="tidegate emitter", daemon=True)
        self._thread.start()
        emitter = AsyncEmitter(self._url, self._limits)
        asyncio.run_coroutine_threadsafe(emitter.start(), loop).result(_CLOSE_S)
        self._emitter = emitter

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None  # noqa: S101 - by _started
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

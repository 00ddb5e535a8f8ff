"""What a node subscribes to: the topics of rooms that it has clients in, or had until lately.

With recovery on, a client that is gone may come back, and is owed what was sent to its rooms meanwhile: so a topic is
kept for ``linger_s`` after its last client has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .brokers.base import Broker
from .topics import topic_of

#: At least so long between looks at what lingers.
_SWEEP_S = 1.0


class Interest:
    """Of one node. ``linger_s`` is asked anew each time."""

    def __init__(self, linger_s: Callable[[], float]) -> None:
        self._linger_s = linger_s
        self._topics: set[str] = set()
        self._lingering: dict[str, float] = {}
        self._broker: Broker | None = None
        self._timer: asyncio.TimerHandle | None = None

    def attach(self, broker: Broker) -> None:
        """Subscribe to all there is."""
        self._broker = broker
        for topic in self._topics:
            broker.subscribe(topic)

    def detach(self) -> None:
        self._broker = None
        self._topics.difference_update(self._lingering)
        self._lingering.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def add(self, topic: str) -> None:
        """One that is none of a room's, for as long as the node is there."""
        self._topics.add(topic)
        if self._broker is not None:
            self._broker.subscribe(topic)

    def room_opens(self, namespace: str, room: object) -> None:
        """A room, or with None a namespace, has its first client. Raises: TypeError, ValueError for its name."""
        topic = topic_of(namespace, room)
        self._lingering.pop(topic, None)
        self.add(topic)

    def room_closes(self, namespace: str, room: object) -> None:
        """Its last client has left."""
        topic = topic_of(namespace, room)
        linger_s = self._linger_s()
        if linger_s and self._broker is not None:
            loop = asyncio.get_running_loop()
            self._lingering[topic] = loop.time() + linger_s
            if self._timer is None:
                self._timer = loop.call_later(_SWEEP_S, self._sweep)
            return
        self._drop(topic)

    def _drop(self, topic: str) -> None:
        self._topics.discard(topic)
        if self._broker is not None:
            self._broker.unsubscribe(topic)

    def _sweep(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        # In the order in which they fall due, unless the linger time was changed.
        for topic in [topic for topic, deadline in self._lingering.items() if deadline <= now]:
            del self._lingering[topic]
            self._drop(topic)
        if self._lingering:
            self._timer = loop.call_later(_SWEEP_S, self._sweep)

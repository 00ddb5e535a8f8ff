"""What the server keeps of one connection, over all the namespaces that it joins."""

from __future__ import annotations

from typing import Any

from .members import Member


class Client:
    """What the server keeps of one connection: its member of each namespace, and a packet that waits for its
    attachments.
    """

    __slots__ = (
        "awaited",
        "awaited_bytes",
        "in_flight",
        "in_flight_bytes",
        "is_held",
        "joined",
        "members",
    )

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        #: Namespaces it has ever joined: an event for one just left is late, for another it is an error.
        self.joined: tuple[str, ...] = ()
        self.awaited: Any = None
        #: Bytes of it that have come.
        self.awaited_bytes = 0
        #: Handlers of its events that run or wait their turn.
        self.in_flight = 0
        #: Whether nothing is read until some of them have ended.
        self.is_held = False
        #: What the large ones among these events take in memory.
        self.in_flight_bytes = 0

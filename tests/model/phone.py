"""A client that loses its connection, as the stock one does: what it remembers, and what its user has seen."""

from __future__ import annotations

import json
import re
from typing import Any

import gateway
from gateway.recorder import OFFSET_EVENT
from tests.unit.gateway.conftest import InMemoryClient
from tests.unit.transports.engine_doubles import FakeLoop
from transports.protocol.packets import Packet, PacketType

_PACKET = re.compile(r"(\d)(\d*)(.*)", re.DOTALL)


class Phone:
    """``seen``: arguments of the events that came since it last began anew, without offsets.

    ``is_stock``: as the JavaScript client, whose ack function is the last argument of an event that asks for an ack.
    Others take the text before it for an offset.
    """

    def __init__(self, server: gateway.Server, loop: FakeLoop, *, is_stock: bool = True) -> None:
        self._is_stock = is_stock
        self.server = server
        self.loop = loop
        self.connection: InMemoryClient | None = None
        self.pid: str | None = None
        self.sid = ""
        self.offset: str | None = None
        self.recovered = False
        self.is_connected = False
        self.was_expelled = False
        self.seen: list[list[Any]] = []

    def dial(self, auth: dict[str, Any] | None = None) -> None:
        """Connect, or come back."""
        assert self.connection is None
        self.is_connected = False
        self.connection = InMemoryClient(self.server, self.loop)
        payload: dict[str, Any] = {} if self.pid is None else {"pid": self.pid}
        if self.pid is not None and self.offset is not None:
            payload["offset"] = self.offset
        self.connection.send("0" + json.dumps({**payload, **(auth or {})}))

    @property
    def member(self) -> Any:
        """The server's side of it; None where that has not let it in."""
        return None if self.connection is None else self.connection.session.application.members.get("/")

    @property
    def unread(self) -> int:
        return 0 if self.connection is None else len(self.connection.port.written)

    def read(self, count: int | None = None) -> None:
        """Take so many of the packets that have come, or all."""
        connection = self.connection
        assert connection is not None
        self.loop.settle()
        written = connection.port.written
        count = len(written) if count is None else min(count, len(written))
        taken, connection.port.written = written[:count], written[count:]
        for packet in taken:
            if packet == b"2":
                connection.session.receive(connection.port, Packet(PacketType.PONG, ""))  # type: ignore[arg-type]
            else:
                self._take(packet[1:].decode())

    def _take(self, text: str) -> None:
        found = _PACKET.fullmatch(text)
        assert found is not None, text
        kind, ack_id, body = found.groups()
        if kind == "0":
            answer = json.loads(body)
            self.recovered = self.pid == answer["pid"]
            if self.recovered:
                assert self.sid == answer["sid"]
            else:
                self.seen = []
            self.pid, self.sid = answer["pid"], answer["sid"]
            self.is_connected = True
        elif kind == "1":
            self.was_expelled = True
        else:
            assert kind == "2", text
            assert self.is_connected, f"{text} came before the connection was confirmed"
            name, *arguments = json.loads(body)
            if name != OFFSET_EVENT:
                self.seen.append(arguments[:2])
            if isinstance(arguments[-1], str) and not (ack_id and self._is_stock):
                self.offset = arguments[-1]

    def lose(self, *, is_noticed: bool) -> None:
        """The connection is gone, with what was not read. Unless it is noticed, the server goes on writing to it."""
        connection, self.connection = self.connection, None
        assert connection is not None
        self.is_connected = False
        if is_noticed:
            connection.session.port_lost(connection.port, "transport close")  # type: ignore[arg-type]
        self.loop.settle()

"""The far end of links: requests that other workers pass on, answered as if their clients had connected here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..engine import Engine
from ..errors import RefusedError, RemoteProtocolError, RequestRefused
from ..hosts.listener import Connection, Exchange, Listener
from ..ports import HttpExchange
from ..protocol.relaying import RELEASE, parse_peer_line

#: Links that carry nothing are closed by the worker that opened them, which is before this.
KEEPALIVE_TIMEOUT_S: Final = 120.0
_MAX_PEER_LINE: Final = 128


class RelayingEngine:
    """Marks what it is given as passed on already."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.trusted_proxies = engine.trusted_proxies

    def handle(self, exchange: HttpExchange) -> None:
        exchange.request.is_relayed = True
        self._engine.handle(exchange)


class LinkListener(Listener):
    """Serves the ends of links. They are not counted as connections of an address."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        super().__init__(engines, None, keepalive_timeout_s=KEEPALIVE_TIMEOUT_S)
        self._relaying = {path: RelayingEngine(engine) for path, engine in self._engines.items()}

    def __call__(self) -> Connection:
        return self.connection(b"")

    def connection(self, data: bytes) -> Connection:
        connection = LinkConnection(self)
        connection.begin_with(data)
        return connection

    def admit(self, connection: Connection) -> RequestRefused | None:
        self.connections.add(connection)
        return None

    def engine_for(self, target: bytes) -> Engine | None:
        return self._relaying.get(target.partition(b"?")[0])  # type: ignore[return-value]

    def release(self, session_id: str) -> None:
        """Answer what waits for the session's messages."""
        for engine in self._engines.values():
            session = engine.sockets.get(session_id)
            if session is not None and session.port is not None:
                session.port.release()

    def refuse(self, exchange: Exchange, refusal: RefusedError) -> None:
        exchange.request.is_relayed = True
        super().refuse(exchange, refusal)


class LinkConnection(Connection):
    """A line about the client stands before each request."""

    __slots__ = ("_knows_peer", "_links")

    def __init__(self, listener: LinkListener) -> None:
        super().__init__(listener)
        self._links = listener
        self._knows_peer = False

    def _read_head(self) -> None:
        if not self._knows_peer:
            self._read_release_lines()
            end = self._buffer.find(b"\r\n", 0, _MAX_PEER_LINE)
            if not self._buffer:
                self.wait_idle()
                return
            if end < 0:
                if len(self._buffer) >= _MAX_PEER_LINE:
                    self.cut()
                return
            try:
                self.peer, self._is_secure = parse_peer_line(self._buffer[:end])
            except RemoteProtocolError:
                self.cut()
                return
            self._knows_peer = True
            self._buffer = self._buffer[end + 2 :]
        size = len(self._buffer)
        super()._read_head()
        if len(self._buffer) < size:
            self._knows_peer = False

    def _read_release_lines(self) -> None:
        buffer, begins = self._buffer, 0
        while buffer.startswith(RELEASE, begins):
            end = buffer.find(b"\r\n", begins, begins + _MAX_PEER_LINE)
            if end < 0:
                break
            self._links.release(buffer[begins + len(RELEASE) : end].decode("latin-1"))
            begins = end + 2
        self._buffer = buffer[begins:]

"""A client as ``Server.fetch_sockets`` returns it, of this node or another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .envelope import EnvelopeError

if TYPE_CHECKING:
    from .members import Member
    from .server import Server


@dataclass(frozen=True, slots=True)
class SocketFacts:
    """What is known of a client at one time.

    handshake: ``address``, ``headers``, ``query`` and ``secure`` of its request
    """

    sid: str
    namespace: str
    rooms: tuple[Any, ...]
    transport: str
    handshake: dict[str, Any]

    @classmethod
    def of_member(cls, member: Member) -> SocketFacts:
        request = member.session.request
        handshake = {
            "address": request.remote,
            "headers": dict(request.headers),
            "query": request.query_string,
            "secure": request.scheme == "https",
        }
        rooms = (member.sid, *(member.rooms or ()))
        return cls(member.sid, member.namespace, rooms, member.session.transport, handshake)

    def as_list(self) -> list[Any]:
        """As it travels between nodes."""
        return [self.sid, self.namespace, list(self.rooms), self.transport, self.handshake]

    @classmethod
    def from_list(cls, fields: Any) -> SocketFacts:
        """Raises: EnvelopeError."""
        try:
            sid, namespace, rooms, transport, handshake = fields
            return cls(str(sid), str(namespace), tuple(rooms), str(transport), dict(handshake))
        except (TypeError, ValueError) as error:
            raise EnvelopeError("what is told of a client is wrong") from error


class RemoteSocket:
    """What is known of a client at the time of asking, and what can be done with it."""

    __slots__ = ("_server", "handshake", "namespace", "node", "rooms", "sid", "transport")

    def __init__(self, server: Server, facts: SocketFacts, node: str | None = None) -> None:
        self._server = server
        #: The id of the node that it is a client of; None where there is no cluster.
        self.node = node
        self.sid = facts.sid
        self.namespace = facts.namespace
        #: Rooms it is in, its own included.
        self.rooms: set[Any] = set(facts.rooms)
        self.transport = facts.transport
        #: ``address``, ``headers``, ``query`` and ``secure`` of the handshake request.
        self.handshake: dict[str, Any] = facts.handshake

    def __repr__(self) -> str:
        return f"<RemoteSocket {self.sid} {self.namespace} {self.transport}>"

    async def data(self) -> dict[str, Any]:
        """The user session. Raises: KeyError once it is gone."""
        return await self._server.get_session(self.sid, self.namespace)

    async def emit(self, event: str, data: Any = None, **options: Any) -> None:
        """``Server.emit`` to this client."""
        await self._server.emit(event, data, to=self.sid, namespace=self.namespace, **options)

    async def call(self, event: str, data: Any = None, timeout: float = 60.0) -> Any:  # noqa: ASYNC109 - as in Server
        """``Server.call`` to this client."""
        return await self._server.call(event, data, to=self.sid, namespace=self.namespace, timeout=timeout)

    async def join(self, room: Any) -> None:
        """Enter a room."""
        await self._server.enter_room(self.sid, room, namespace=self.namespace)

    async def leave(self, room: Any) -> None:
        """Leave a room."""
        await self._server.leave_room(self.sid, room, namespace=self.namespace)

    async def disconnect(self) -> None:
        """Disconnect it from the namespace."""
        await self._server.disconnect(self.sid, namespace=self.namespace)

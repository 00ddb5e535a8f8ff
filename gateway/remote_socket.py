"""A client as ``Server.fetch_sockets`` returns it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .members import Member
    from .server import Server


class RemoteSocket:
    """What is known of a client at the time of asking, and what can be done with it."""

    __slots__ = ("_server", "handshake", "namespace", "rooms", "sid", "transport")

    def __init__(self, server: Server, member: Member) -> None:
        self._server = server
        self.sid = member.sid
        self.namespace = member.namespace
        #: Rooms it is in, its own included.
        self.rooms: set[Any] = {member.sid, *(member.rooms or ())}
        self.transport = member.session.transport
        request = member.session.request
        #: ``address``, ``headers``, ``query`` and ``secure`` of the handshake request.
        self.handshake: dict[str, Any] = {
            "address": request.remote,
            "headers": dict(request.headers),
            "query": request.query_string,
            "secure": request.scheme == "https",
        }

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

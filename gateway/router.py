"""tornadio2's router: connection classes on a ``gateway.Server``.

::

    import gateway
    from aiohttp import web

    class Ping(gateway.SocketConnection):
        @gateway.event
        def ping(self, client):
            return client, time.time()

    app = web.Application()
    gateway.Router(Ping).attach(app)
    gateway.run_app(app, port=8000)
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NoReturn

from aiohttp import web
from socketio.exceptions import ConnectionRefusedError  # noqa: A004 - python-socketio's name

from transports import reasons
from transports.engine import TRANSPORTS, Engine
from transports.session import Session

from . import limits
from .connection import ConnectionInfo, Link, SocketConnection
from .dispatch import CANCELLED
from .members import Member
from .server import Server
from .settings import did_you_mean
from .stats import SAMPLE_INTERVAL_S, Reading, Stats

#: Events that may wait for the handler of one connection.
MAX_PENDING_EVENTS: Final = 1000


# -- settings ------------------------------------------------------------------------------------------

#: Transports by tornadio2's name for a protocol. Long-polling answers JSONP requests too.
_PROTOCOLS: Final = {
    "websocket": "websocket",
    "xhr-streaming": "xhr-streaming",
    "xhr-polling": "polling",
    "jsonp-polling": "polling",
    "polling": "polling",
}
_GONE_PROTOCOLS: Final = {
    "flashsocket": "needs the Flash plug-in, which browsers no longer have; use 'websocket'",
    "htmlfile": "was for Internet Explorer; use 'xhr-streaming'",
    "xhr-multipart": "was for old Firefox; use 'xhr-streaming'",
}


def _transports(protocols: Any) -> list[str]:
    names = [protocols] if isinstance(protocols, str) else list(protocols)
    chosen: set[str] = set()
    for name in names:
        if name in _GONE_PROTOCOLS:
            raise ValueError(f"protocol {name!r} {_GONE_PROTOCOLS[name]}")
        if name not in _PROTOCOLS:
            raise ValueError(f"there is no protocol {name!r}{did_you_mean(str(name), _PROTOCOLS)}")
        chosen.add(_PROTOCOLS[name])
    if not chosen:
        raise ValueError("enabled_protocols must name at least one")
    return [name for name in TRANSPORTS if name in chosen]


def _refuse(message: str) -> Callable[[Any], NoReturn]:
    def refuse(_: Any) -> NoReturn:
        raise ValueError(message)

    return refuse


def _only(accepted: bool, message: str) -> Callable[[Any], None]:
    """Takes what is so anyway, or what has no meaning any more; refuses what cannot be had."""

    def check(value: Any) -> None:
        if bool(value) is not accepted:
            raise ValueError(message)

    return check


def _seconds(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ValueError(f"must be a number of seconds above 0, not {value!r}")
    return value


#: tornadio2's settings: the option of ours (None: nothing is left to set), and what its value becomes.
_SETTINGS: Final[dict[str, tuple[str | None, Callable[[Any], Any]]]] = {
    "heartbeat_interval": ("ping_interval", _seconds),
    "client_timeout": ("ping_timeout", _seconds),
    "enabled_protocols": ("transports", _transports),
    # Expired sessions are noticed within a quarter of a second, so whatever this asks for is granted.
    "session_check_interval": (None, _seconds),
    "session_expiry": (
        None,
        _refuse("is not there: a silent client is dropped after heartbeat_interval + client_timeout; set those"),
    ),
    "xhr_polling_timeout": (
        None,
        _refuse("is not there: a poll is answered by the next heartbeat at the latest; set heartbeat_interval"),
    ),
    # Every WebSocket that takes over from another transport is probed first.
    "websocket_check": (None, bool),
    "global_heartbeats": (
        None,
        _only(True, "cannot be off: Engine.IO 4 has heartbeats on every transport; remove it"),
    ),
    "verify_remote_ip": (
        None,
        _only(False, "cannot be on: session ids are secrets of 120 random bits and not tied to an address; remove it"),
    ),
    "io_loop": (None, _refuse("is not there: the loop that runs the application is used; remove it")),
}

#: Options of ``gateway.Server`` that the router needs for itself.
_TAKEN: Final = {
    "async_handlers": "events of a connection are always handled in order",
    "always_connect": "on_open decides before the client is told that it is connected",
    "namespaces": "use __endpoints__ or get_endpoint",
}


def _server_options() -> set[str]:
    names: set[str] = set()
    for owner in (Server, Engine):
        for parameter in inspect.signature(owner.__init__).parameters.values():
            if parameter.kind is not parameter.VAR_KEYWORD and parameter.name != "self":
                names.add(parameter.name)
    return (names | set(limits.NAMES)) - set(_TAKEN)


def server_settings(user_settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of tornadio2 and of ``gateway.Server``, as those of ``gateway.Server`` and ``max_pending_events``.

    Raises: TypeError for names that are unknown, ValueError for values that cannot be had, each with all there are.
    """
    options = _server_options() | {"max_pending_events"}
    unknown: list[str] = []
    refused: list[str] = []
    result: dict[str, Any] = {}
    for name, value in user_settings.items():
        if name in _SETTINGS:
            target, convert = _SETTINGS[name]
            try:
                converted = convert(value)
            except (ValueError, TypeError) as error:
                refused.append(f"{name}: {error}")
                continue
            if target is not None:
                if target in user_settings:
                    refused.append(f"{name}: is given as {target} too; keep one of them")
                result[target] = converted
        elif name in _TAKEN:
            refused.append(f"{name}: {_TAKEN[name]}")
        elif name in options:
            result.setdefault(name, value)
        else:
            hint = did_you_mean(str(name), [*_SETTINGS, *options])
            unknown.append(f"there is no setting {name!r}{hint}")
    if unknown:
        raise TypeError("; ".join(unknown))
    if refused:
        raise ValueError("; ".join(refused))
    pending = result.setdefault("max_pending_events", MAX_PENDING_EVENTS)
    if type(pending) is not int or pending < 1:
        raise ValueError(f"max_pending_events: must be a whole number above 0, not {pending!r}")
    return result


# -- sessions ------------------------------------------------------------------------------------------


class RouterSession:
    """One client: the root connection and those of the endpoints.

    The root opens first, also where the client asks for another endpoint only, and closes last, so that what
    ``on_open`` of the root refuses is refused everywhere. It stays open until the client has left it and every
    other endpoint, or, if the client had joined it, until the client leaves it.
    """

    def __init__(self, router: Router, engine_session: Session) -> None:
        #: The router, under tornadio2's name.
        self.server = router
        self.id = engine_session.id
        #: The root connection; None while it opens, and after its end.
        self.conn: SocketConnection | None = None
        #: The other connections by namespace.
        self.endpoints: dict[str, SocketConnection] = {}
        #: The request that opened the session, and the ``auth`` payload of the first endpoint.
        self.info = ConnectionInfo(engine_session.request)
        self._engine_session = engine_session
        self._root_opens = asyncio.Lock()
        self._opening = 0
        self._root_has_left = False

    @property
    def session_id(self) -> str:
        return self.id

    @property
    def remote_ip(self) -> str:
        return self.info.ip

    @property
    def transport(self) -> str:
        """The transport in use: ``polling``, ``xhr-streaming`` or ``websocket``."""
        return self._engine_session.transport

    @property
    def is_closed(self) -> bool:
        return self._engine_session.closing or self._engine_session.closed

    def get_connection(self, endpoint: str | None = None) -> SocketConnection | None:
        """The connection of a namespace; without one, or for "/", the root."""
        return self.conn if endpoint in (None, "", "/") else self.endpoints.get(endpoint)

    def close(self, endpoint: str | None = None) -> None:
        """Disconnect the client from one endpoint, or from all, which ends the session."""
        if endpoint is not None:
            connection = self.endpoints.get(endpoint)
            if connection is not None:
                connection._tidegate_link.cut(reasons.SERVER_DISCONNECT)
                self.spawn(self._disconnect([connection._tidegate_link]))
            return
        links = self._cut(reasons.SERVER_DISCONNECT)

        async def end() -> None:
            await self._disconnect(links)
            self._engine_session.close(reasons.SERVER_DISCONNECT)

        self.spawn(end())

    # -- for the router and the links --------------------------------------------------------------------

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self.server.server.eio.spawn(coroutine)

    def fail(self, reason: str) -> None:
        """End the session at once. A stock client connects anew by itself."""
        self._cut(reason)
        self._engine_session.close(reason)

    def _cut(self, reason: str) -> list[Link]:
        connections = [*self.endpoints.values(), *([] if self.conn is None else [self.conn])]
        links = [connection._tidegate_link for connection in connections]
        for link in links:
            link.cut(reason)
        return links

    async def _disconnect(self, links: list[Link]) -> None:
        server = self.server.server
        for link in links:
            if link.member is not None:
                await server.disconnect(link.member.sid, namespace=link.member.namespace)

    async def open(self, member: Member, auth: Any) -> None:
        """The client wants to join a namespace.

        Raises: ConnectionRefusedError, and what ``on_open`` raises.
        """
        info = ConnectionInfo(self._engine_session.request, auth)
        self._opening += 1
        try:
            async with self._root_opens:
                is_root = member.namespace == "/"
                root = self.conn
                if root is None:
                    root = await self._open_root(member if is_root else None, info)
                elif is_root:
                    self._bind(root, member)
            if not is_root:
                await self._open_endpoint(root, member, info)
        finally:
            self._opening -= 1
            self._settle()

    async def _open_root(self, member: Member | None, info: ConnectionInfo) -> SocketConnection:
        self.info = info
        root = self.server.connection_class(self)
        if member is not None:
            self._bind(root, member)
        await self._ask(root, info)
        self.conn = root
        self.server._opened()
        return root

    async def _open_endpoint(self, root: SocketConnection, member: Member, info: ConnectionInfo) -> None:
        endpoint = member.namespace
        connection_class = root.get_endpoint(endpoint)
        if inspect.isawaitable(connection_class):
            connection_class = await connection_class
        if connection_class is None:
            raise ConnectionRefusedError("Invalid namespace")
        connection: SocketConnection = connection_class(self, endpoint)
        self.endpoints[endpoint] = connection
        self._bind(connection, member)
        try:
            await self._ask(connection, info)
        except BaseException:
            if self.endpoints.get(endpoint) is connection:
                del self.endpoints[endpoint]
            raise
        self.server._opened()

    def _bind(self, connection: SocketConnection, member: Member) -> None:
        connection._tidegate_link.bind(member)
        self.server._links[member.sid] = connection._tidegate_link

    async def _ask(self, connection: SocketConnection, info: ConnectionInfo) -> None:
        """Raises: as ``open``."""
        link = connection._tidegate_link
        try:
            answer = connection.on_open(info)
            if inspect.isawaitable(answer):
                answer = await answer
            if (answer is not None and not answer) or connection.is_closed:
                raise ConnectionRefusedError
        except web.HTTPException as error:
            self._refused(link)
            raise ConnectionRefusedError(_message(error), {"status": error.status}) from None
        except BaseException:
            self._refused(link)
            raise

    def _refused(self, link: Link) -> None:
        link.cut(reasons.REFUSED)
        if link.member is not None:
            self.server._links.pop(link.member.sid, None)

    def left(self, link: Link, reason: str) -> None:
        """The client is out of the connection's namespace."""
        connection = link.connection
        link.left(reason)
        if connection is self.conn:
            if self.is_closed and self.endpoints:
                self._root_has_left = True  # Its turn comes after theirs.
                return
            self.conn = None
        link.close(partial(self._closed, connection))

    def _closed(self, connection: SocketConnection) -> None:
        """``on_close`` has run."""
        self.server.stats.connection_closed()
        if self.endpoints.get(connection.namespace) is connection:
            del self.endpoints[connection.namespace]
        self._settle()

    def _settle(self) -> None:
        """Close the root if it was open for the sake of others only, and there are none; then be forgotten."""
        if self.endpoints or self._opening:
            return
        root, self.conn = self.conn, None
        if root is None:
            self.server._sessions.pop(self.id, None)
        elif self._root_has_left or root._tidegate_link.member is None:
            root._tidegate_link.left(self._engine_session.close_reason or reasons.CLIENT_DISCONNECT)
            root._tidegate_link.close(partial(self._closed, root))
        else:
            self.conn = root

    def __repr__(self) -> str:
        return f"<RouterSession {self.id} {self.transport}>"


def _message(error: web.HTTPException) -> str:
    """What the application said; the standard phrase where it said nothing."""
    text = error.text
    return error.reason if text is None or text == f"{error.status}: {error.reason}" else text


# -- the router ----------------------------------------------------------------------------------------


class Router:
    """Serves a ``SocketConnection`` class and its endpoints.

    ``user_settings``: options of ``gateway.Server``, and tornadio2's, which become those (``docs/tornadio2.md``);
    beyond them ``max_pending_events``: how many events may wait for the handler of one connection (1000). More,
    or more bytes than ``max_buffered_bytes``, ends the session.

    ``namespace``: the path, without slashes.

    Raises: TypeError for an unknown setting, ValueError for one that cannot be had.
    """

    def __init__(
        self,
        connection_class: type[SocketConnection],
        user_settings: Mapping[str, Any] | None = None,
        namespace: str = "socket.io",
    ) -> None:
        _check_class(connection_class)
        self.connection_class = connection_class
        self.namespace = namespace
        options = server_settings(user_settings or {})
        #: What was set, under the names of ``gateway.Server``.
        self.settings: Mapping[str, Any] = MappingProxyType(dict(options))
        self.max_pending_events: int = options.pop("max_pending_events")
        #: Its own handlers, rooms and ``emit`` are there as well, for code outside of connections.
        self.server = Server(**options)
        self._sessions: dict[str, RouterSession] = {}
        self._links: dict[str, Link] = {}
        self.stats = Stats(self._now, self._read)
        self._ticks = False
        everywhere = self.server.of(lambda _: True)
        self.server.on("connect", self._connect, namespace=everywhere)
        self.server.on("disconnect", self._disconnect, namespace=everywhere)
        self.server.on("*", self._receive, namespace=everywhere)

    def attach(self, app: web.Application, path: str | None = None, serve_client: bool = True) -> None:
        """Serve in an aiohttp application; see ``gateway.Server.attach``. ``path``: by default ``namespace``."""
        self.server.attach(app, self.namespace if path is None else path, serve_client)

    @property
    def urls(self) -> list[web.RouteDef]:
        """Routes for ``app.add_routes``, without what ``attach`` does beyond them: call ``shutdown`` yourself."""
        prefix = "/" + self.namespace.strip("/")

        async def serve(request: web.Request) -> web.StreamResponse:
            response: web.StreamResponse = await self.server.handle_request(request)
            return response

        return [web.route("*", prefix + "/", serve), web.route("*", prefix, serve)]

    def apply_routes(self, routes: Iterable[web.AbstractRouteDef]) -> list[web.AbstractRouteDef]:
        """``routes`` and ``urls``."""
        return [*routes, *self.urls]

    async def shutdown(self, _: Any = None) -> None:
        """Close every session: for ``app.on_shutdown``, where ``attach`` is not used."""
        await self.server.shutdown()

    def get_session(self, session_id: str) -> RouterSession | None:
        """A client's session by its Engine.IO id."""
        return self._sessions.get(session_id)

    # -- from the server -------------------------------------------------------------------------------

    async def _connect(self, namespace: str, sid: str, _: dict[str, Any], auth: Any) -> None:
        self._tick()
        member = self.server.manager.member(sid, namespace)
        if member is None:
            raise ConnectionRefusedError
        engine_session = member.session
        session = self._sessions.get(engine_session.id)
        if session is None:
            session = self._sessions[engine_session.id] = RouterSession(self, engine_session)
        await session.open(member, auth)

    def _disconnect(self, namespace: str, sid: str, reason: str) -> None:
        link = self._links.pop(sid, None)
        if link is not None:
            # Not awaited, here or by the server: a handler that runs may be waiting for this disconnect itself.
            link.connection.session.left(link, reason)

    def _receive(self, event: Any, namespace: str, sid: str, *arguments: Any) -> Any | Awaitable[Any]:
        link = self._links.get(sid)
        return CANCELLED if link is None else link.receive(event, arguments)

    # -- stats -----------------------------------------------------------------------------------------

    def _opened(self) -> None:
        self.stats.connection_opened()

    def _now(self) -> float:
        return self.server.eio.now()

    def _read(self) -> Reading:
        engine = self.server.eio
        counters, lag = engine.counters, engine.loop_lag
        return Reading(len(engine.sockets), counters.messages_out, counters.messages_in, lag.mean_s, lag.worst_s)

    def _tick(self) -> None:
        """Sample once a second, as long as there is something to see."""
        if not self._ticks:
            self._ticks = True
            self._sample()

    def _sample(self) -> None:
        self.stats.sample()
        if self.stats.is_moving:
            self.server.eio.loop.call_later(SAMPLE_INTERVAL_S, self._sample)
        else:
            self._ticks = False


def _check_class(connection_class: Any) -> None:
    """Raises: TypeError, ValueError for endpoints that no client could reach."""
    if not (isinstance(connection_class, type) and issubclass(connection_class, SocketConnection)):
        raise TypeError(f"a Router serves a subclass of gateway.SocketConnection, not {connection_class!r}")
    for endpoint, child in connection_class.__endpoints__.items():
        if not (isinstance(child, type) and issubclass(child, SocketConnection)):
            raise TypeError(f"endpoint {endpoint!r} must be a subclass of gateway.SocketConnection, not {child!r}")
        if not endpoint.startswith("/") or endpoint == "/" or set(endpoint) & set(",?"):
            raise ValueError(f'endpoint {endpoint!r} must be "/" and a name without commas and question marks')

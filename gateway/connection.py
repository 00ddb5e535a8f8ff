"""tornadio2's connections: a class whose methods are what a client can do.

``SocketConnection`` is what applications write; its ``Link`` is the router's side of it: what is sent, whose turn
it is, how it ends. ``docs/tornadio2.md`` is the guide.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, overload
from urllib.parse import parse_qs

from multidict import CIMultiDict, CIMultiDictProxy

from transports.reasons import HANDLER_FAILED, TOO_MANY_EVENTS

from .codec import EVENT, RESERVED_EVENTS, to_outbound
from .delivery import RELIABLE, VOLATILE, Delivery, conflated
from .dispatch import CANCELLED, FAILED, NOT_HANDLED
from .members import Member, PendingAck

if TYPE_CHECKING:
    from transports.request import HttpRequest

    from .router import RouterSession

logger = logging.getLogger("tidegate.router")

#: Calls to a client that are held back until it has joined.
MAX_HELD_MESSAGES: Final = 1000

_MARK: Final = "_tidegate_event"
_FAILED: Final = "%s of %s failed; its session is closed"

Method = TypeVar("Method", bound=Callable[..., Any])


class EventArgumentsError(TypeError):
    """What the client sent does not fit the parameters of its handler."""


@overload
def event(name_or_method: Method) -> Method: ...
@overload
def event(name_or_method: str) -> Callable[[Method], Method]: ...
def event(name_or_method: Any) -> Any:
    """Make a method of a ``SocketConnection`` the handler of an event, named like it or as given.

    ::

        @event
        def ping(self, client): ...

        @event("user joined")
        async def user_joined(self, name, room="lobby"): ...

    One argument that is an object becomes keyword arguments, everything else positional ones. What the method
    returns is the ack: a tuple is several values, None is none.

    Raises: ValueError for names that clients cannot send.
    """
    if callable(name_or_method):
        return event(name_or_method.__name__)(name_or_method)
    if name_or_method in RESERVED_EVENTS:
        raise ValueError(f"no client can send an event named {name_or_method!r}; there are on_open and on_close")

    def mark(method: Any) -> Any:
        setattr(method, _MARK, name_or_method)
        return method

    return mark


def _event_methods(cls: type) -> dict[str, str]:
    """Names of methods by event. A method keeps its event when a subclass overrides it without the decorator."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        own: dict[str, str] = {}
        for attribute, value in vars(base).items():
            name = getattr(value, _MARK, None)
            if name is None:
                continue
            if name in own:
                raise TypeError(f"{base.__qualname__} has two handlers of {name!r}: {own[name]} and {attribute}")
            own[name] = attribute
        renamed = set(own.values())
        found = {name: attribute for name, attribute in found.items() if attribute not in renamed} | own
    return found


class ConnectionInfo:
    """The request that opened the session, and the ``auth`` payload with which the client joins the endpoint."""

    def __init__(self, request: HttpRequest, auth: Any = None) -> None:
        self._request = request
        self.auth = auth

    @property
    def ip(self) -> str:
        """The client's address: the peer's, or what a proxy in ``trusted_proxies`` says it is."""
        return self._request.remote

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """By name, in any case; repeated ones are joined by commas."""
        return CIMultiDictProxy(CIMultiDict(self._request.headers))

    @cached_property
    def arguments(self) -> dict[str, list[str]]:
        """The query string, with the parameters of the protocol (``EIO``, ``transport``)."""
        return parse_qs(self._request.query_string, keep_blank_values=True)

    @cached_property
    def cookies(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for pair in self._request.headers.get("cookie", "").split(";"):
            name, is_pair, value = pair.strip().partition("=")
            if is_pair and name:
                found.setdefault(name, value.removeprefix('"').removesuffix('"'))
        return found

    def get_argument(self, name: str, default: str | None = None) -> str | None:
        """The first value of a parameter of the query string."""
        values = self.arguments.get(name)
        return values[0] if values else default

    def get_cookie(self, name: str, default: str | None = None) -> str | None:
        """The value of a cookie (tornadio2 gave a ``Morsel``)."""
        return self.cookies.get(name, default)

    def __repr__(self) -> str:
        return f"<ConnectionInfo {self.ip}>"


class Turns:
    """Makes calls one after the other: at once where none is under way, else in the order they came."""

    __slots__ = ("_waiting", "nbytes")

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] | None = None
        #: Of what waits, as ``run`` was told.
        self.nbytes = 0

    @property
    def is_busy(self) -> bool:
        return self._waiting is not None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting or ())

    def run(self, call: Callable[[], Any], nbytes: int = 0) -> Any:
        """The result of ``call``, or a coroutine for it, which must be made a task before the next turn of the loop."""
        if self._waiting is None:
            result = call()
            if not inspect.isawaitable(result):
                return result
            self._waiting = deque()
            return self._finish(result)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self.nbytes += nbytes
        return self._wait(turn, call, nbytes)

    async def _finish(self, result: Any) -> Any:
        try:
            return await result
        finally:
            self._next()

    async def _wait(self, turn: asyncio.Future[None], call: Callable[[], Any], nbytes: int) -> Any:
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._next()  # It was given the turn in the same moment.
            raise
        finally:
            self.nbytes -= nbytes
        try:
            result = call()
            return await result if inspect.isawaitable(result) else result
        finally:
            self._next()

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._waiting = None


def approximate_nbytes(value: Any) -> int:
    """About how much memory decoded JSON takes."""
    nbytes = 0
    rest = [value]
    while rest:
        item = rest.pop()
        nbytes += 64
        if isinstance(item, (str, bytes)):
            nbytes += len(item)
        elif isinstance(item, (list, tuple)):
            rest.extend(item)
        elif isinstance(item, dict):
            rest.extend(item)
            rest.extend(item.values())
    return nbytes


class SocketConnection:
    """One client in one endpoint (a Socket.IO namespace); subclass it.

    Callbacks and handlers may be functions or coroutine functions. Those of one connection run one after the
    other, in the order in which their causes came, ``on_open`` first and ``on_close`` last; those of different
    connections do not wait for each other.

    An exception that a handler does not catch is logged and closes the session.
    """

    #: Connection classes by namespace, read from the class that the router was given.
    __endpoints__: ClassVar[Mapping[str, type[SocketConnection]]] = {}

    _tidegate_events: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._tidegate_events = _event_methods(cls)

    def __init__(self, session: RouterSession, endpoint: str | None = None) -> None:
        #: Shared by all connections of the client.
        self.session = session
        #: The namespace; None for the root, whose namespace is "/".
        self.endpoint = endpoint
        #: Nothing reaches the client any more. Events that it sent before are still handled, and ``on_close`` called.
        self.is_closed = False
        #: Why it is closed, in the words of ``transports.reasons``; "" before.
        self.close_reason = ""
        self._tidegate_link = Link(self)

    @property
    def namespace(self) -> str:
        return self.endpoint or "/"

    @property
    def sid(self) -> str | None:
        """The client's id in this namespace; None for a root that the client has not joined."""
        member = self._tidegate_link.member
        return None if member is None else member.sid

    @property
    def is_recovered(self) -> bool:
        """Whether the client has come back and gets what it has missed; what the last object knew of it is gone."""
        member = self._tidegate_link.member
        return member is not None and member.place is not None and member.place.is_recovered

    # -- callbacks -------------------------------------------------------------------------------------

    def on_open(self, request: ConnectionInfo) -> Any:
        """The client wants to connect. It is refused by returning False, by raising an ``aiohttp.web`` error or
        ``gateway.ConnectionRefusedError``, whose message it gets, or by ``close``.
        """

    def on_message(self, message: Any) -> Any:
        """The client has sent a ``message`` event: its first argument. What is returned is the ack."""
        logger.info("%s has no on_message", type(self).__name__)
        return NOT_HANDLED

    def on_event(self, name: str, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """The client has sent another event: either ``args``, or ``kwargs`` where its only argument is an object.

        Calls the ``@event`` method of that name. What is returned is the ack.

        Raises: EventArgumentsError where the method does not take them.
        """
        attribute = type(self)._tidegate_events.get(name)
        if attribute is None:
            logger.info("%s has no handler of event %r", type(self).__name__, name)
            return NOT_HANDLED
        method = getattr(self, attribute)
        try:
            return method(*args) if args else method(**(kwargs or {}))
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:
                raise EventArgumentsError(str(error)) from None
            raise  # from within the method

    def on_close(self) -> Any:
        """The client is gone, or was closed; ``close_reason`` says why. Called once, after ``on_open`` accepted."""

    def get_endpoint(self, endpoint: str) -> Any:
        """The connection class of a namespace that the client wants to join, or None. Asked of the root."""
        return self.__endpoints__.get(endpoint)

    # -- to the client ---------------------------------------------------------------------------------

    def send(self, message: Any, callback: Callable[[Any, Any], Any] | None = None) -> None:
        """Send a ``message`` event: text, bytes or what JSON can say.

        ``callback(message, ack_data)`` is called when the client has acknowledged; ``ack_data`` is the list of what
        it said, or None. After the end of the connection nothing is sent, as with every method here.
        Raises: TypeError, ValueError for what cannot be encoded.
        """
        self._tidegate_link.emit("message", [message], callback, message)

    def emit(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """Send an event: with positional arguments, or with one object made of the keyword arguments.

        Raises: TypeError for both at once; as ``send``.
        """
        self._tidegate_link.emit(name, _arguments(args, kwargs))

    def emit_ack(self, callback: Callable[[Any, Any], Any], name: str, /, *args: Any, **kwargs: Any) -> None:
        """``emit``, with ``callback((name, args, kwargs), ack_data)`` as in ``send``."""
        self._tidegate_link.emit(name, _arguments(args, kwargs), callback, (name, args, kwargs))

    def emit_volatile(self, name: str, /, *args: Any, **kwargs: Any) -> None:
        """``emit``, but if the client cannot take the event at this moment, it never gets it."""
        self._tidegate_link.emit(name, _arguments(args, kwargs), delivery=VOLATILE)

    def emit_conflated(self, key: Hashable, name: str, /, *args: Any, **kwargs: Any) -> None:
        """``emit``, but while the client cannot take it, only the newest event of ``key`` waits for it.

        Keys belong to the endpoint, as those of ``Server.emit``; True stands for this event to this client.
        Raises: TypeError for a key that cannot be hashed; as ``emit``.
        """
        delivery = conflated(key, self.namespace, name, self.sid)
        self._tidegate_link.emit(name, _arguments(args, kwargs), delivery=delivery)

    def close(self) -> None:
        """Disconnect the client from this endpoint; from the root: end the session. Waiting events are dropped."""
        self._tidegate_link.cut("server disconnect")
        self.session.close(self.endpoint)

    # -- to others -------------------------------------------------------------------------------------

    def join(self, room: str) -> None:
        """Enter a room of the namespace. The client leaves all rooms when the connection ends."""
        self._tidegate_link.do(lambda manager, member: manager.basic_enter_room(member.sid, member.namespace, room))

    def leave(self, room: str) -> None:
        self._tidegate_link.do(lambda manager, member: manager.basic_leave_room(member.sid, member.namespace, room))

    async def broadcast(self, name: str, /, *args: Any, include_self: bool = False) -> None:
        """Send an event to everybody in this namespace."""
        await self._emit_to(None, name, args, include_self)

    async def emit_to(self, room: str, name: str, /, *args: Any, include_self: bool = False) -> None:
        """Send an event to everybody in a room of this namespace, whether in it oneself or not."""
        await self._emit_to(room, name, args, include_self)

    async def _emit_to(self, room: str | None, name: str, args: tuple[Any, ...], include_self: bool) -> None:
        skipped = None if include_self else self.sid
        await self.session.server.server.emit(name, args, room=room, skip_sid=skipped, namespace=self.namespace)


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    if args and kwargs:
        raise TypeError("an event is sent with positional or with keyword arguments, not with both")
    return [kwargs] if kwargs else list(args)


class Link:
    """What the router keeps of a connection.

    ``member`` is None for a root that is open only because the client has joined another endpoint. What it sends
    then waits for the client to join "/", the first ``MAX_HELD_MESSAGES`` of it.
    """

    __slots__ = ("_held", "connection", "drops_events", "member", "turns")

    def __init__(self, connection: SocketConnection) -> None:
        self.connection = connection
        self.member: Member | None = None
        #: The server has closed it: events that still wait are not handled.
        self.drops_events = False
        self.turns = Turns()
        self._held: dict[Hashable, Callable[[], None]] | None = None  # by the key of what is conflated

    @property
    def _session(self) -> RouterSession:
        return self.connection.session

    # -- out -------------------------------------------------------------------------------------------

    def bind(self, member: Member) -> None:
        """The client joins the connection's namespace."""
        self.member = member
        held, self._held = self._held, None
        for call in (held or {}).values():
            call()

    def do(self, call: Callable[[Any, Member], None], key: Hashable = None) -> None:
        """Call with the manager and the member, now or once there is one; not after the end.

        ``key``: instead of an earlier call of this key that waits.
        """
        if self.connection.is_closed:
            return
        if self.member is not None:
            call(self._session.server.server.manager, self.member)
            return
        if self._held is None:
            self._held = {}
        if key is None:
            key = object()
        if len(self._held) < MAX_HELD_MESSAGES or key in self._held:
            self._held[key] = lambda: self.do(call)

    def emit(
        self,
        name: str,
        arguments: list[Any],
        callback: Callable[[Any, Any], Any] | None = None,
        message: Any = None,
        delivery: Delivery = RELIABLE,
    ) -> None:
        server = self._session.server.server
        namespace = self.connection.namespace
        if callback is None:
            if self.connection.is_closed:
                return
            manager = server.manager
            if self.member is not None:
                manager.send_event(self.member, name, arguments, delivery)
                return
            outbound = to_outbound(server.packet_class(EVENT, namespace=namespace, data=[name, *arguments]))
            if delivery is VOLATILE:
                server.eio.counters.dropped_volatile += 1
            elif manager.recorder is None:
                self.do(lambda manager, member: manager.send_to(member, outbound, delivery), delivery.key)
            else:
                # Encoded once more when it gets its offset; until then the application may change its data.
                arguments = deepcopy(arguments)
                self.do(lambda manager, member: manager.send_event(member, name, arguments, delivery), delivery.key)
            return
        asked = callback

        def answered(*values: Any) -> None:
            self._answered(asked, message, list(values) or None)

        self.do(lambda manager, member: manager.send_with_ack(member, name, arguments, PendingAck(answered)))

    def _answered(self, callback: Callable[[Any, Any], Any], message: Any, ack_data: Any) -> None:
        # Not in turn: a handler that waits for the answer has the turn.
        try:
            result = callback(message, ack_data)
        except Exception:  # the application's callback
            logger.exception(_FAILED, "ack callback", type(self.connection).__name__)
            self._session.fail(HANDLER_FAILED)
            return
        if inspect.isawaitable(result):
            self._session.spawn(self._finish("ack callback", result))

    # -- in --------------------------------------------------------------------------------------------

    def receive(self, name: Any, arguments: tuple[Any, ...]) -> Any:
        """The ack of an event, or a coroutine for it."""
        turns = self.turns
        nbytes = 0
        if turns.is_busy:
            nbytes = approximate_nbytes(arguments)
            router = self._session.server
            if len(turns) >= router.max_pending_events or turns.nbytes + nbytes > router.server.eio.max_buffered_bytes:
                logger.warning(
                    "session %s closed: %d events (about %d bytes) wait for a handler of %s",
                    self._session.id,
                    len(turns),
                    turns.nbytes,
                    type(self.connection).__name__,
                )
                self._session.fail(TOO_MANY_EVENTS)
                return CANCELLED
        return turns.run(lambda: self._handle(name, arguments), nbytes)

    def _handle(self, name: Any, arguments: tuple[Any, ...]) -> Any:
        if self.drops_events:
            return CANCELLED
        try:
            result = self._call(name, arguments)
        except EventArgumentsError as error:
            logger.error("event %r does not fit its handler: %s", name, str(error).encode("unicode_escape").decode())  # noqa: TRY400 - the client's mistake
            self._session.fail(HANDLER_FAILED)
            return FAILED
        except Exception:  # the application's handler
            logger.exception(_FAILED, f"handler of {name!r}", type(self.connection).__name__)
            self._session.fail(HANDLER_FAILED)
            return FAILED
        return self._finish(f"handler of {name!r}", result) if inspect.isawaitable(result) else result

    def _call(self, name: Any, arguments: tuple[Any, ...]) -> Any:
        connection = self.connection
        if name == "message" and name not in type(connection)._tidegate_events:
            return connection.on_message(arguments[0] if arguments else None)
        if len(arguments) == 1 and isinstance(arguments[0], dict) and all(map(_is_text, arguments[0])):
            return connection.on_event(name, [], arguments[0])
        return connection.on_event(name, list(arguments), {})

    async def _finish(self, what: str, result: Any) -> Any:
        try:
            return await result
        except Exception:  # the application's
            logger.exception(_FAILED, what, type(self.connection).__name__)
            self._session.fail(HANDLER_FAILED)
            return FAILED

    # -- end -------------------------------------------------------------------------------------------

    def cut(self, reason: str) -> None:
        """The server closes the connection."""
        self.drops_events = True
        self.left(reason)

    def left(self, reason: str) -> None:
        """Nothing reaches the client any more."""
        if not self.connection.is_closed:
            self.connection.is_closed = True
            self.connection.close_reason = reason
        self._held = None

    def close(self, closed: Callable[[], None]) -> None:
        """Call ``on_close`` after the events before it, then ``closed``."""
        rest = self.turns.run(lambda: self._close(closed))
        if inspect.iscoroutine(rest):
            self._session.spawn(rest)

    def _close(self, closed: Callable[[], None]) -> Coroutine[Any, Any, None] | None:
        try:
            result = self.connection.on_close()
        except Exception:  # the application's callback; the client is gone all the same
            logger.exception("on_close of %s failed", type(self.connection).__name__)
            result = None
        if inspect.isawaitable(result):
            return self._finish_close(result, closed)
        closed()
        return None

    async def _finish_close(self, result: Any, closed: Callable[[], None]) -> None:
        try:
            await result
        except Exception:  # as above
            logger.exception("on_close of %s failed", type(self.connection).__name__)
        finally:
            closed()


def _is_text(key: Any) -> bool:
    return isinstance(key, str)

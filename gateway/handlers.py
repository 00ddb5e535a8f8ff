"""Running the application's handlers: at once, or one after the other; how many at a time.

Nothing stands between a packet and its handler: a coroutine begins at once, and gets a task only if it suspends. What
then runs, or waits its turn, is counted for each connection and in all, and so are the bytes of large events; at the
bound the connection is held (``transports.intake``), so that a client that sends faster than its events are handled is
slowed down by TCP.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from transports.eager import Suspended
from transports.intake import Hold
from transports.session import Session

from . import catalogue
from .dispatch import CANCELLED, FAILED, NOT_HANDLED, Target
from .members import Member
from .middleware import EventRefusedError
from .once_events import ONCE_EVENT, OnceMessage, shortened

if TYPE_CHECKING:
    from .clients import Client
    from .server import Server

logger = logging.getLogger("tidegate.handlers")


#: Of a plain event, or what stands in its place.
AckId = int | OnceMessage | None

_FOR_HANDLERS: Final = Hold.HANDLERS | Hold.ALL_HANDLERS

#: Of ``max_buffered_bytes``, what the large events of one connection may take. More than one, since a ``Router`` ends
#: the session of whoever makes its handlers' queue as long as that.
BYTES_FACTOR: Final = 2


class HandlerRunner:
    """Of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._max = server.limits.max_handlers
        self._max_per_connection = server.limits.max_handlers_per_connection
        self._resumes_at = self._max_per_connection // 2
        # Looked at for every event: whether it passes through middleware, or ``_trigger_event`` was replaced.
        self._middlewares = server.event_middlewares.functions
        self._own = server.__dict__
        self._once = server.once
        self._max_bytes = BYTES_FACTOR * server.eio.max_buffered_bytes
        #: Coroutine handlers that run or wait their turn.
        self.in_flight = 0
        self._held: set[Session] = set()

    def receive(self, member: Member, data: list[Any], given_id: int | None, nbytes: int = 0) -> None:
        """An event for ``member``: its name and its arguments. ``nbytes``: about what it takes in memory, where that
        is much.
        """
        server = self._server
        ack_id: AckId = given_id
        event = data[0]
        if event == ONCE_EVENT and self._once is not None:
            ack_id = self._once.receive(member, data, given_id)
            if ack_id is None:
                return
            event = data[0]
        if self._middlewares or "_trigger_event" in self._own:
            arguments = data[1:]
            pass_and_trigger = self._server.pass_and_trigger
            self._in_turn(
                member, lambda: self._finish(member, pass_and_trigger(member, event, arguments), ack_id, nbytes), nbytes
            )
            return
        target = server.dispatcher.target(event, member.namespace)
        if target is None:
            server.drop(member, catalogue.UNHANDLED_EVENT, event=shortened(event))
            server.acknowledge(member, ack_id, NOT_HANDLED)
            return
        data[0] = member.sid
        if not server.async_handlers and (target.is_coroutine or member.turns):
            self._in_turn(member, lambda: self._finish(member, _call(target, data), ack_id, nbytes), nbytes)
            return
        try:
            result = target.handler(*target.prefix, *data)
            if type(result) is CoroutineType and server.async_handlers:
                result = server.eio.starter.begin(result)
                if type(result) is Suspended:
                    self._begin(member.session, nbytes)
                    server.eio.keep(result.carry(self._finish(member, result, ack_id, nbytes)))
                    return
            elif inspect.isawaitable(result):
                self._in_turn(member, lambda: self._finish(member, result, ack_id, nbytes), nbytes)
                return
        except EventRefusedError as refused:
            self._refuse(member, ack_id, refused)
        except Exception:  # the application's handler
            logger.exception("handler of %r failed", event)
            server.acknowledge(member, ack_id, FAILED)
        except asyncio.CancelledError:
            logger.warning("handler of %r was cancelled before it had waited for anything", event)
            server.acknowledge(member, ack_id, FAILED)
        else:
            server.acknowledge(member, ack_id, result)

    def in_turn(self, member: Member, handle: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``handle`` now, or after the client's earlier events where handlers are not concurrent."""

        async def counted() -> None:
            try:
                await handle()
            finally:
                self._end(member.session)

        self._in_turn(member, counted)

    def _in_turn(self, member: Member, handle: Callable[[], Coroutine[Any, Any, None]], nbytes: int = 0) -> None:
        """As ``in_turn``; ``handle`` calls ``_end`` itself."""
        self._begin(member.session, nbytes)
        if self._server.async_handlers:
            self._server.eio.spawn(handle())
        elif member.turns:
            member.turns.append(handle)
        else:
            member.turns = deque((handle,))
            self._server.eio.spawn(self._take_turns(member))

    # -- how many ----------------------------------------------------------------------------------------

    def _begin(self, session: Session, nbytes: int) -> None:
        client: Client = session.application
        client.in_flight += 1
        self.in_flight += 1
        if nbytes:
            client.in_flight_bytes += nbytes
            session.application_bytes += nbytes
        if client.in_flight >= self._max_per_connection or client.in_flight_bytes >= self._max_bytes:
            client.is_held = True
            self._hold(session, Hold.HANDLERS)
        if self.in_flight >= self._max:
            self._held.add(session)
            self._hold(session, Hold.ALL_HANDLERS)

    def _hold(self, session: Session, cause: Hold) -> None:
        intake = session.intake
        if not intake.holds & _FOR_HANDLERS:
            self._server.eio.counters.held_for_handlers += 1
        intake.hold(cause)

    def _end(self, session: Session, nbytes: int = 0) -> None:
        client: Client = session.application
        client.in_flight -= 1
        self.in_flight -= 1
        if nbytes:
            client.in_flight_bytes -= nbytes
            session.application_bytes -= nbytes
        if client.is_held and client.in_flight <= self._resumes_at and client.in_flight_bytes <= self._max_bytes // 2:
            client.is_held = False
            session.intake.let_go(Hold.HANDLERS)
        if self._held and self.in_flight <= self._max // 2:
            held, self._held = self._held, set()
            for each in held:
                each.intake.let_go(Hold.ALL_HANDLERS)

    # -- running -----------------------------------------------------------------------------------------

    async def _take_turns(self, member: Member) -> None:
        turns = member.turns
        while turns:
            try:
                await turns[0]()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                logger.warning("a handler of %s awaited something that was cancelled", member.sid)
            finally:
                turns.popleft()

    async def _finish(self, member: Member, result: Awaitable[Any], ack_id: AckId, nbytes: int) -> None:
        try:
            self._server.acknowledge(member, ack_id, await result)
        except EventRefusedError as refused:
            self._refuse(member, ack_id, refused)
        except Exception:  # the application's handler or middleware
            logger.exception("event handler failed")
            self._server.acknowledge(member, ack_id, FAILED)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            is_told = task is not None and task.cancelling()
            self._server.acknowledge(member, ack_id, CANCELLED if is_told else FAILED)
            raise
        finally:
            self._end(member.session, nbytes)

    def _refuse(self, member: Member, ack_id: AckId, refused: EventRefusedError) -> None:
        """A middleware or a handler refuses the event: a client that asked for an ack is told so."""
        if refused.refusal is not None:
            self._server.drop(member, refused.refusal, **refused.fields)
        self._server.acknowledge(member, ack_id, refused.args)


async def _call(target: Target, given: list[Any]) -> Any:
    """``given``: the sid and the event's arguments."""
    result = target.handler(*target.prefix, *given)
    return await result if inspect.isawaitable(result) else result

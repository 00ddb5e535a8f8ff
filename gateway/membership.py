"""How clients become members of a namespace, and cease to be.

Spec: Socket.IO v5, "Connection to a namespace", "Disconnection from a namespace".
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from socketio import exceptions

from transports import reasons
from transports.session import Session

from . import catalogue, codec
from .clients import Client
from .environs import environ_of
from .members import CONNECTED, CONNECTING, GONE, Member, MemberState
from .recorder import Claim, Recorder, take_claim

if TYPE_CHECKING:
    from .recovery import Place
    from .server import Server

logger = logging.getLogger("tidegate.membership")

#: What a client gets whose connect handler raised.
_FAILED: Final = {"message": catalogue.JOIN_FAILED.message}


class Membership:
    """Of one server: from CONNECT to the answer, and from DISCONNECT or the end of a session to the last handler."""

    def __init__(self, server: Server) -> None:
        self._server = server

    # -- connect ---------------------------------------------------------------------------------------

    def _accepts(self, namespace: str) -> bool:
        return (
            namespace in self._server.handlers
            or namespace in self._server.namespace_handlers
            or self._server.namespaces == "*"
            or namespace in self._server.namespaces
            or self._server.dispatcher.matches(namespace)
        )

    def join(self, session: Session, namespace: str, state: MemberState = CONNECTING) -> Member:
        """A client asks to join ``namespace``: its member there, not yet connected unless ``state`` says so."""
        member = self._server.manager.add_member(session, namespace, state)
        session.application.members[namespace] = member
        return member

    def receive_connect(self, session: Session, client: Client, packet: Any) -> None:
        namespace = packet.namespace or "/"
        refusal = None
        if namespace.startswith("*") or not self._accepts(namespace):
            refusal = catalogue.INVALID_NAMESPACE
        elif namespace in client.members:
            refusal = catalogue.ALREADY_JOINED
        elif self._has_too_many_namespaces(client, namespace):
            refusal = catalogue.TOO_MANY_NAMESPACES
        if refusal is not None:
            message = refusal.text(limit=self._server.limits.max_namespaces)
            self._server.eio.note_refusal(refusal, f"{namespace}: {message}", session.request, session.id)
            self._server.post(session, codec.CONNECT_ERROR, namespace, {"message": message})
            return
        auth = packet.data
        if self._server.manager.recorder is not None:
            claim, auth = take_claim(auth)
            if claim is not None:
                self._receive_claim(session, namespace, self._server.manager.recorder, claim, auth)
                return
        if not self._server.connect_middlewares.functions and not self._server.dispatcher.is_told("connect", namespace):
            self._welcome(self.join(session, namespace, CONNECTED))
            return
        self._decide(self.join(session, namespace), auth)

    def _decide(self, member: Member, auth: Any) -> None:
        """Ask the application, or tell the client first and ask then."""
        if self._server.always_connect:
            self._confirm(member)
        self._server.eio.spawn(self._connect(member, auth))

    def _receive_claim(self, session: Session, namespace: str, recorder: Recorder, claim: Claim, auth: Any) -> None:
        """The client was here before."""
        member = Member("", session, namespace)
        session.application.members[namespace] = member
        place = recorder.occupied(member, claim)
        if place is None:
            self._return(member, recorder, claim)
            self._decide(member, auth)
        else:
            self._server.eio.spawn(self._take_over(member, recorder, place, claim, auth))

    async def _take_over(self, member: Member, recorder: Recorder, place: Place, claim: Claim, auth: Any) -> None:
        """Somebody is in the client's place: a connection of its own that it knows to be dead, and the server not."""
        await recorder.vacate(place, member)
        if member.session.closing or member.session.closed:
            # It has not come in, so there is nobody to be told of its end.
            member.state = GONE
            del member.session.application.members[member.namespace]
            return
        self._return(member, recorder, claim)
        self._decide(member, auth)

    def _return(self, member: Member, recorder: Recorder, claim: Claim) -> None:
        """Into its place if it can be recovered, or into a new one."""
        if not recorder.recover(member, claim):
            member.sid = self._server.eio.generate_id()
            recorder.open(member, is_returning=True)
        self._server.manager.enter(member)

    def _has_too_many_namespaces(self, client: Client, namespace: str) -> bool:
        limit = self._server.limits.max_namespaces
        if len(client.joined) + len(client.members) < limit or namespace in client.joined:
            return False
        return len({*client.joined, *client.members}) >= limit

    def _confirm(self, member: Member) -> None:
        """Tell the client that it is connected."""
        if member.state is CONNECTING:
            self._welcome(member)
            self._server.manager.admit(member)

    def _welcome(self, member: Member) -> None:
        session = member.session
        session.application_deadline = 0.0
        client: Client = session.application
        if member.namespace not in client.joined:
            client.joined += (member.namespace,)
        recorder, place = self._server.manager.recorder, member.place
        if recorder is None or place is None:
            self._server.post(session, codec.CONNECT, member.namespace, {"sid": member.sid})
            return
        self._server.post(session, codec.CONNECT, member.namespace, {"sid": member.sid, "pid": place.pid})
        recorder.admitted(member, place)

    async def _connect(self, member: Member, auth: Any) -> None:
        refusal = await self._ask_to_connect(member, auth or None)
        if member.state > CONNECTED:
            return  # with always_connect it was a member already, and has left meanwhile
        if refusal is None and member.is_expelled:
            refusal = exceptions.ConnectionRefusedError().error_args
        if refusal is None:
            self._confirm(member)
            if member.session.closing or member.session.closed:
                # It left while the handler was thinking: the handler has accepted it, so it is told of the end.
                await self.leave(member, member.session.close_reason)
            return
        row = catalogue.JOIN_FAILED if refusal == _FAILED else catalogue.JOIN_REFUSED
        self._server.note(member.session, row, text=f"{member.namespace}: {refusal.get('message')}")
        self._forget_place(member)
        self._server.manager.begin_leave(member)
        try:
            if self._server.always_connect:
                self._server.post(member.session, codec.DISCONNECT, member.namespace)
            else:
                self._server.post(member.session, codec.CONNECT_ERROR, member.namespace, refusal)
        except (TypeError, ValueError, RecursionError):
            logger.exception("the data of a refusal cannot be sent")
            self._server.post(member.session, codec.CONNECT_ERROR, member.namespace, {"message": refusal["message"]})
        finally:
            self.forget(member)

    async def _ask_to_connect(self, member: Member, auth: Any) -> Any:
        """None, or the payload of the refusal."""
        environ = environ_of(member)
        try:
            if not await self._server.connect_middlewares.admit(member.namespace, member.sid, environ, auth):
                return exceptions.ConnectionRefusedError().error_args
            answer = await self._server._trigger_event("connect", member.namespace, member.sid, environ, auth)
        except exceptions.ConnectionRefusedError as refused:
            return refused.error_args
        except ConnectionRefusedError:
            # python-socketio takes the builtin too; it may also be a back end that could not be reached.
            logger.warning("connect handler of %s raised ConnectionRefusedError", member.namespace, exc_info=True)
            return {"message": "Connection refused by server"}
        except Exception:  # the application's handler; the client gets an answer all the same
            logger.exception("connect handler of %s failed", member.namespace)
            return _FAILED
        return exceptions.ConnectionRefusedError().error_args if answer is False else None

    # -- disconnect ------------------------------------------------------------------------------------

    def receive_disconnect(self, client: Client, namespace: str) -> None:
        member = client.members.get(namespace)
        if member is not None and member.state is CONNECTING:
            member.is_expelled = True
        if member is not None and member.state is CONNECTED:
            self._forget_place(member)
            # At once: the client may send events for the namespace no more, and may join it again.
            self._server.manager.begin_leave(member)
            del client.members[namespace]
            self._server.handler_runner.in_turn(member, lambda: self._end_leave(member, reasons.CLIENT_DISCONNECT))

    async def leave(self, member: Member, reason: str) -> None:
        if member.state is not CONNECTED:
            return
        self._server.manager.begin_leave(member)
        if member.turns:
            # After the events before it. Not awaited: the caller may be the handler whose turn it is.
            self._server.handler_runner.in_turn(member, lambda: self._end_leave(member, reason))
        else:
            await self._end_leave(member, reason)

    async def _end_leave(self, member: Member, reason: str) -> None:
        try:
            await self._server._trigger_event("disconnect", member.namespace, member.sid, reason)
        except Exception:  # the application's handler; the client leaves all the same
            logger.exception("disconnect handler of %s failed", member.namespace)
        finally:
            self.forget(member)

    def _forget_place(self, member: Member) -> None:
        if self._server.manager.recorder is not None:
            self._server.manager.recorder.forget(member)

    def forget(self, member: Member) -> None:
        """The client is out of the namespace."""
        self._server.manager.remove_member(member)
        members = member.session.application.members
        if members.get(member.namespace) is member:
            del members[member.namespace]

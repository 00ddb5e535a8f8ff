"""The Socket.IO Admin UI on tidegate.

python-socketio's instrumentation watches its own sockets class for traffic; here the numbers come from the
engine's counters instead. Everything the Admin UI shows and does beyond them is python-socketio's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from socketio.admin import EventBuffer
from socketio.async_admin import InstrumentedAsyncServer

from transports.counters import Counters
from transports.outbound import MESSAGE_OVERHEAD_BYTES
from transports.session import Session

from .channels import as_arguments


class _CountingBuffer(EventBuffer):
    """What has happened since the last report; what was sent is read off the engine's counters then."""

    def __init__(self, counters: Counters) -> None:
        super().__init__()
        self._counters = counters
        self._told = (counters.messages_out, counters.bytes_out)

    def get_and_clear(self) -> Any:
        told = (self._counters.messages_out, self._counters.bytes_out)
        packets, counted = (new - old for new, old in zip(told, self._told, strict=True))
        self._told = told
        if packets:
            self.push("packetsOut", packets)
            self.push("bytesOut", counted - packets * MESSAGE_OVERHEAD_BYTES)
        return super().get_and_clear()


class InstrumentedServer(InstrumentedAsyncServer):
    """Reports connections, rooms, events and totals to the Admin UI; see ``Server.instrument``."""

    stop_stats_event: Any
    stats_task: Any

    def instrument(self) -> None:
        sio = self.sio
        self._originals: dict[str, Any] = {}
        sio.on("connect", self.admin_connect, namespace=self.admin_namespace)
        if self.mode == "development":
            self._watch_events()
        self._application = sio.eio.application
        sio.eio.application = self
        self.event_buffer = _CountingBuffer(sio.eio.counters)

    async def _emit(  # what the base class watches for, with the recipients that our manager really chose
        self, event: str, data: Any, namespace: str, room: Any = None, skip_sid: Any = None, **options: Any
    ) -> None:
        sio = self.sio
        await self._originals["emit"](event, data, namespace, room=room, skip_sid=skip_sid, **options)
        if namespace == self.admin_namespace:
            return
        room = options.get("to") or room
        arguments = [event, *as_arguments(data)]
        now = datetime.now(UTC).isoformat()
        for member in sio.manager.select(namespace, room, skip_sid, options.get("except_rooms")):
            told = (namespace, member.sid, arguments, now)
            await sio.emit("event_sent", told, namespace=self.admin_namespace)

    def _watch_events(self) -> None:
        sio = self.sio
        if not self.read_only:
            for event, handler in (
                ("emit", self.admin_emit),
                ("join", self.admin_enter_room),
                ("leave", self.admin_leave_room),
                ("_disconnect", self.admin_disconnect),
            ):
                sio.on(event, handler, namespace=self.admin_namespace)
        sio.manager._timestamps = {}
        self._replace(sio, "_trigger_event", self._trigger_event)
        self._replace(sio.manager, "basic_enter_room", self._basic_enter_room)
        self._replace(sio.manager, "basic_leave_room", self._basic_leave_room)
        self._replace(sio.manager, "emit", self._emit)

    def _replace(self, owner: Any, name: str, replacement: Any) -> None:
        self._originals[name] = getattr(owner, name)
        # The base class calls the originals by names of its own: "__emit", which Python mangles with the class.
        setattr(owner, f"_InstrumentedAsyncServer__{name.lstrip('_')}", getattr(owner, name))
        setattr(owner, name, replacement)

    # -- transports.engine.Application -------------------------------------------------------------------

    def session_opens(self, session: Session) -> Any:
        if self.stop_stats_event is None:
            self.stop_stats_event = self.sio.eio.create_event()
        if self.stats_task is None:
            self.stats_task = self.sio.start_background_task(self._emit_server_stats)
        self.event_buffer.push("rawConnection")
        return self._application.session_opens(session)

    def message_received(self, session: Session, data: str | bytes) -> None:
        self.event_buffer.push("packetsIn")
        self.event_buffer.push("bytesIn", len(data))
        self._application.message_received(session, data)

    def session_closed(self, session: Session, reason: str) -> None:
        self.event_buffer.push("rawDisconnection")
        self._application.session_closed(session, reason)

    def deadline_passed(self, session: Session) -> None:
        self._application.deadline_passed(session)

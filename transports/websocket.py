"""The WebSocket transport: one connection, served by a protocol as lean as it can be.

Each Engine.IO packet is a message of its own: text for text, binary for binary.
Spec: Engine.IO v4, "WebSocket". The connection itself is ``websocket_connection``'s.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from . import reasons
from .errors import RemoteProtocolError
from .outbound import DeflateForm, Run
from .protocol.lifecycle import CLOSING
from .protocol.packets import Packet, PacketType, decode_packet
from .protocol.permessage_deflate import DeflateAgreement
from .refusals import CloseCode
from .websocket_connection import WebSocketConnection

if TYPE_CHECKING:
    from .session import Session


class WebSocketPort(WebSocketConnection):
    """Port and asyncio protocol in one object, to spend few of them on a connection.

    ``deflate``: what was agreed in the handshake; messages go out compressed with it.
    """

    __slots__ = ("_session", "deflate")

    name = "websocket"

    def __init__(self, session: Session, max_message_bytes: int, deflate: DeflateAgreement | None = None) -> None:
        engine = session.engine
        super().__init__(max_message_bytes, engine.lingering, deflate)
        self._session: Session | None = session
        if engine.rates is not None:
            self._report_packets = engine.rates.report_packets
            self._report_bytes = engine.rates.report_bytes
        #: How messages to this client are compressed.
        self.deflate = None if deflate is None else DeflateForm(deflate.window_bits, engine.compression_threshold)

    def open(self, transport: asyncio.Transport, head: bytes, first: Run | None, unread: bytes) -> None:
        """Answer the handshake with ``head``, write ``first`` behind it, and read on."""
        self.begin(transport, head if first is None else head + self._encode(first), unread)

    # -- port ------------------------------------------------------------------------------------------

    def _encode(self, run: Run) -> bytes:
        deflate = self.deflate
        return run.frames if deflate is None else run.deflated_frames(deflate)

    def write(self, run: Run) -> Run | None:
        deflate = self.deflate
        self.send(run.frames if deflate is None else run.deflated_frames(deflate))
        return None

    def deadline(self) -> float | None:
        return None

    def on_deadline(self, now: float) -> None:
        """Never asked for."""

    def release(self) -> None:
        """Nothing upgrades from here."""

    def detach(self) -> None:
        self._leave_session()
        self.say_goodbye(CloseCode.NORMAL, "")

    def close(self, run: Run | None, *, code: int, reason: str, by_client: bool) -> Run | None:
        if self._leave_session() is not None:
            if run is not None:
                self.write(run)
            self.say_goodbye(code, reason)
        return None

    def part(self, run: Run) -> Run | None:
        return self.write(run)

    def abort(self) -> None:
        self._session = None
        if self._transport is not None:  # else it has ended already, and tells its session so
            super().abort()

    def _leave_session(self) -> Session | None:
        session, self._session = self._session, None
        return session

    # -- connection --------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        session = self._session
        if session is None or session.is_queued:
            WebSocketConnection.data_received(self, data)
            return
        session.is_queued = True  # by ourselves, below
        try:
            WebSocketConnection.data_received(self, data)
        finally:
            if session.run is None and session.conflated is None and session.replay is None:
                session.is_queued = False
            else:
                session.engine.queue_answers(session)

    def text_received(self, text: str) -> None:
        session = self._session
        if session is None:
            return
        if text[:1] == "4":
            if session.port is self and session.state < CLOSING:
                session.engine.deliver(session, text[1:])  # as receive_message does, for nearly every packet
            else:
                session.receive_message(self, text[1:])
            return
        try:
            packet = decode_packet(text)
        except RemoteProtocolError as error:
            # The framing is whole, so the peer can be waited for.
            session.flush()
            self._leave_session()
            self.say_goodbye(error.close_code, error.message)
            session.port_failed(self, error)
        else:
            session.receive(self, packet)

    def binary_received(self, data: bytes) -> None:
        session = self._session
        if session is not None:
            session.receive(self, Packet(PacketType.MESSAGE, data))

    def peer_failed(self, error: RemoteProtocolError) -> None:
        session = self._session
        if session is None:
            self.fail(error.close_code, error.message)
            return
        session.flush()  # answers to what came before; nothing may follow the close frame
        self._leave_session()
        self.fail(error.close_code, error.message)
        session.port_failed(self, error)

    def received(self, packets: int, nbytes: int) -> None:
        if self._session is not None:
            self._session.intake.spend(packets, nbytes)

    def partly_received(self, nbytes: int) -> None:
        if self._session is not None:
            self._session.engine.received_in_part(nbytes)

    def connection_ended(self, exc: BaseException | None) -> None:
        session = self._leave_session()
        if session is not None:
            session.port_lost(self, reasons.TRANSPORT_CLOSE if exc is None else reasons.TRANSPORT_ERROR)

    def writing_paused(self) -> None:
        if self._session is not None:
            self._session.port_paused(self)

    def writing_resumed(self) -> None:
        if self._session is not None:
            self._session.port_resumed(self)

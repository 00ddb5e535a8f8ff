"""The WebSocket transport: one connection, served by a protocol as lean as it can be.

Each Engine.IO packet is a message of its own: text for text, binary for binary.
Spec: Engine.IO v4, "WebSocket"; RFC 6455, section 7 for the closing handshake.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from . import reasons
from .errors import RemoteProtocolError
from .outbound import Run
from .ports import PORT_BUFFER_BYTES
from .protocol import frames
from .protocol.frames import FrameParser
from .protocol.packets import Packet, PacketType, decode_packet

if TYPE_CHECKING:
    from .session import Session

#: How long the peer may take to answer our close frame before the connection is dropped.
CLOSE_TIMEOUT_S = 5.0


class WebSocketPort(asyncio.Protocol):
    """Port and asyncio protocol in one object, to spend few of them on a connection."""

    __slots__ = ("_close_timer", "_lingering", "_parser", "_session", "_transport", "writable")

    name = "websocket"

    def __init__(self, session: Session, max_message_bytes: int) -> None:
        self._session: Session | None = session
        self._parser = FrameParser(max_message_bytes)
        self._lingering = session.engine.lingering
        self._transport: asyncio.Transport | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self.writable = False

    def open(self, transport: asyncio.Transport, head: bytes, first: Run | None, unread: bytes) -> None:
        """Answer the handshake with ``head``, write ``first`` behind it, and read on."""
        self._transport = transport
        transport.set_write_buffer_limits(PORT_BUFFER_BYTES)
        self.writable = True
        transport.write(head if first is None else head + first.frames)
        if unread:
            self.data_received(unread)

    # -- port ------------------------------------------------------------------------------------------

    def write(self, run: Run) -> Run | None:
        transport = self._transport
        if transport is not None:
            transport.write(run.frames)
        return None

    def buffered_bytes(self) -> int:
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def deadline(self) -> float | None:
        return None

    def on_deadline(self, now: float) -> None:
        """Never asked for."""

    def release(self) -> None:
        """Nothing upgrades from here."""

    def detach(self) -> None:
        self._say_goodbye(frames.NORMAL_CLOSURE, "")

    def close(self, run: Run | None, *, code: int, reason: str, by_client: bool) -> Run | None:
        if run is not None:
            self.write(run)
        self._say_goodbye(code, reason)
        return None

    def part(self, run: Run) -> Run | None:
        return self.write(run)

    def abort(self) -> None:
        transport = self._transport
        self._forget()
        if transport is not None:
            transport.abort()

    def _say_goodbye(self, code: int, reason: str) -> None:
        """Send a close frame and give the peer time to answer; what it sends meanwhile is dropped."""
        transport = self._transport
        self.writable = False
        self._session = None
        if transport is None or self._close_timer is not None:
            return
        transport.write(frames.encode_close(code, reason))
        self._lingering.add(self)
        self._close_timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self.abort)

    def _forget(self) -> None:
        self.writable = False
        self._session = None
        self._transport = None
        if self._close_timer is not None:
            self._close_timer.cancel()
            self._close_timer = None
            self._lingering.discard(self)

    # -- asyncio protocol ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        for opcode, payload in self._parser.feed(data):
            session = self._session
            if session is None:
                if opcode == frames.CLOSE:
                    self._finish()
                    return
            elif opcode == frames.TEXT:
                self._text(session, payload)  # type: ignore[arg-type]
            elif opcode == frames.BINARY:
                session.receive(self, Packet(PacketType.MESSAGE, payload))
            elif opcode == frames.PING:
                self._pong(payload)  # type: ignore[arg-type]
            elif opcode == frames.CLOSE:
                self._peer_closes(session, payload)  # type: ignore[arg-type]
                return
        if self._parser.error is not None:
            self._fail(self._parser.error)

    def _text(self, session: Session, text: str) -> None:
        if text[:1] == "4":
            session.receive_message(self, text[1:])
            return
        try:
            packet = decode_packet(text)
        except RemoteProtocolError as error:
            self._fail(error)
        else:
            session.receive(self, packet)

    def _pong(self, payload: bytes) -> None:
        # A peer that floods pings and reads nothing must not fill our buffer: the newest pong is enough
        # (RFC 6455, section 5.5.3), and none is due while it does not read.
        if self.writable and self._transport is not None:
            self._transport.write(frames.encode_frame(frames.PONG, payload))

    def _peer_closes(self, session: Session, payload: bytes) -> None:
        try:
            code, _ = frames.decode_close(payload)
        except RemoteProtocolError as error:
            self._fail(error)
            return
        if self._transport is not None:
            self._transport.write(frames.encode_close(frames.NORMAL_CLOSURE if code == 1005 else code))
        self._finish()
        session.port_lost(self, reasons.TRANSPORT_CLOSE)

    def _finish(self) -> None:
        transport = self._transport
        self._forget()
        if transport is not None:
            transport.close()

    def _fail(self, error: RemoteProtocolError) -> None:
        session = self._session
        if session is not None:
            session.flush()  # answers to what came before; nothing may follow the close frame
        self._say_goodbye(error.close_code, error.message)
        if session is not None:
            session.port_failed(self, error)

    def connection_lost(self, exc: BaseException | None) -> None:
        session = self._session
        self._forget()
        if session is not None:
            session.port_lost(self, reasons.TRANSPORT_CLOSE if exc is None else reasons.TRANSPORT_ERROR)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.writable = False
        if self._session is not None:
            self._session.port_paused(self)

    def resume_writing(self) -> None:
        session = self._session
        if session is not None:
            self.writable = True
            session.port_resumed(self)

"""One WebSocket connection, server side, from the handshake's answer to the end of TCP.

::

    OPEN ──we say good-bye──► CLOSING ──peer answers──► ENDED
      │                          └──CLOSE_TIMEOUT_S──► aborted
      ├──peer says good-bye: answered──► ENDED
      └──peer breaks the protocol──► FAILED ──peer leaves, or LINGER_S──► ENDED

What the peer sends outside of OPEN is dropped; in CLOSING its frames are still read, in search of its answer.

Spec: RFC 6455, sections 5.5 (control frames) and 7 (closing).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from enum import Enum, auto
from math import inf
from typing import Any, Final

from .errors import RemoteProtocolError
from .ports import PORT_BUFFER_BYTES
from .protocol import frames
from .protocol.frames import BINARY, CLOSE, COMPRESSED, PING, TEXT, AnyMessage, FrameParser, decode_text
from .protocol.permessage_deflate import DeflateAgreement, inflate
from .refusals import CloseCode
from .socket_writer import SocketWriter

#: How long the peer may take to answer our close frame, or to read what was sent before it.
CLOSE_TIMEOUT_S: Final = 5.0
#: How long a peer that broke the protocol has to read why. Nothing of it is read meanwhile.
LINGER_S: Final = 1.0
#: What a message that is kept costs beside its bytes: a tuple and the header of an object.
KEPT_OVERHEAD_BYTES: Final = 112
#: After inflating this much, a connection lets others have their turn: a chunk of input can inflate to a thousand
#: times its size.
INFLATE_TURN_BYTES: Final = 256 * 1024

#: After so many messages, too: one read can bring tens of thousands.
TURN_MESSAGES: Final = 256

_WAITING_FOR_TURN: Final = -1


class _Phase(Enum):
    OPEN = auto()
    CLOSING = auto()
    FAILED = auto()
    ENDED = auto()


class _Kept:
    """Messages that were read and not handed over, oldest first."""

    __slots__ = ("is_in_hand", "messages", "nbytes")

    def __init__(self) -> None:
        self.messages: deque[AnyMessage] = deque()
        self.nbytes = 0
        #: Whether they are being handed over at this moment, further up the stack.
        self.is_in_hand = False

    def add(self, messages: Iterable[AnyMessage]) -> None:
        for message in messages:
            self.messages.append(message)
            self.nbytes += len(message[1]) + KEPT_OVERHEAD_BYTES

    def take(self) -> AnyMessage:
        message = self.messages.popleft()
        self.nbytes -= len(message[1]) + KEPT_OVERHEAD_BYTES
        return message


class WebSocketConnection(SocketWriter):
    """Reads messages and hands them to ``text_received`` and ``binary_received``; pings are answered here.

    ``lingering`` holds the connection while it waits for the peer to leave. With ``deflate``, compressed messages
    are taken.
    """

    __slots__ = (
        "_inflated",
        "_is_paused",
        "_kept",
        "_lingering",
        "_nbytes",
        "_packets",
        "_parser",
        "_phase",
        "_report_bytes",
        "_report_packets",
        "_takes_messages",
        "_timer",
        "writable",
    )

    def __init__(self, max_message_bytes: int, lingering: set[Any], deflate: DeflateAgreement | None = None) -> None:
        super().__init__()
        self._parser = FrameParser(max_message_bytes, deflate is not None)
        self._lingering = lingering
        self._timer: asyncio.TimerHandle | None = None
        self._phase = _Phase.OPEN
        self._is_paused = False
        self._takes_messages = True  # in OPEN, unless paused or waiting for a turn
        self._inflated = 0  # bytes since the last turn, or _WAITING_FOR_TURN
        self._kept: _Kept | None = None
        self._packets = 0  # received and not reported, as are the bytes
        self._nbytes = 0
        self._report_packets = inf
        self._report_bytes = inf
        self.writable = False

    def begin(self, transport: asyncio.Transport, data: bytes, unread: bytes) -> None:
        """Write ``data``, the handshake's answer and what follows it, and read on behind ``unread``."""
        self.take_transport(transport)
        self.writable = True
        # May pause at once: what is unsent of an earlier answer on this connection counts.
        transport.set_write_buffer_limits(PORT_BUFFER_BYTES)
        self.send(data)
        if self._is_paused:
            self._read_socket(False)
        if unread:
            self.data_received(unread)

    # -- for subclasses --------------------------------------------------------------------------------

    def text_received(self, text: str) -> None:
        """A text message."""

    def binary_received(self, data: bytes) -> None:
        """A binary message."""

    def peer_failed(self, error: RemoteProtocolError) -> None:
        """The peer broke the protocol. Whoever overrides this says its last words, then calls ``fail``."""
        self.fail(error.close_code, error.message)

    def received(self, packets: int, nbytes: int) -> None:
        """So much has come since the last time: ``_report_packets`` or ``_report_bytes``, or more."""

    def partly_received(self, nbytes: int) -> None:
        """So much has been received that makes no whole message yet."""

    def writing_paused(self) -> None:
        """The peer does not read, and much waits for it already; ``writable`` is false."""

    def writing_resumed(self) -> None:
        """``writable`` is true again."""

    def connection_ended(self, exc: BaseException | None) -> None:
        """The peer has left or said good-bye; nothing more comes or goes. Also called after our own good-bye."""

    # -- reading, and not --------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Hand over no further message, until ``resume_reading``. May be called while one is being handed over."""
        if self._phase is _Phase.OPEN and not self._is_paused:
            self._is_paused = True
            self._takes_messages = False
            self._read_socket(False)

    def resume_reading(self) -> None:
        """Hand over what was kept, in order, then read on. May be called while a message is being handed over."""
        if not self._is_paused:
            return
        self._is_paused = False
        if self._inflated != _WAITING_FOR_TURN:
            self._go_on()

    def buffered_in(self) -> int:
        """Bytes of input that are held here: frames and messages that are not whole, and whole ones that are kept."""
        held = self._parser.buffered_bytes()
        return held if self._kept is None else held + self._kept.nbytes

    def _go_on(self) -> None:
        self._takes_messages = True
        kept = self._kept
        if kept is None:
            self._read_socket(True)
        elif not kept.is_in_hand:
            self._hand_over(kept)

    def _wait_for_turn(self) -> None:
        self._inflated = _WAITING_FOR_TURN
        self._takes_messages = False
        self._read_socket(False)
        asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._inflated = 0
        if self._phase is _Phase.OPEN and not self._is_paused:
            self._go_on()

    def _read_socket(self, wanted: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if not self._takes_messages:
            self._receive_aside(data)
            return
        found = self._parser.feed(data)
        count = len(found)
        fragment_count = self._parser.fragment_count
        if fragment_count:  # each is work, and with pings between them they are more than the rest of a message
            self._parser.fragment_count = 0
            count += fragment_count
            self.partly_received(len(data))
        elif not count:
            self.partly_received(len(data))
        self._packets += count
        self._nbytes += len(data)
        if self._packets >= self._report_packets or self._nbytes >= self._report_bytes:
            self._report()
        if count > TURN_MESSAGES:
            self._set_aside(found)
            if self._takes_messages and self._kept is not None:
                self._hand_over(self._kept)
            return
        messages = iter(found)
        for opcode, payload in messages:
            if opcode == TEXT:
                self.text_received(payload)  # type: ignore[arg-type]
            elif opcode == BINARY:
                self.binary_received(payload)  # type: ignore[arg-type]
            else:
                self._receive_other(opcode, payload)  # type: ignore[arg-type]
            if not self._takes_messages:  # whoever took the message has paused or closed
                self._set_aside(messages)  # type: ignore[unreachable]
                return
        if self._parser.error is not None:
            self.peer_failed(self._parser.error)

    def _report(self) -> None:
        packets, nbytes = self._packets, self._nbytes
        self._packets = self._nbytes = 0
        self.received(packets, nbytes)

    def _receive_other(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            # A peer that floods pings and reads nothing must not fill our buffer: the newest pong is enough
            # (RFC 6455, section 5.5.3), and none is due while it does not read.
            if self.writable:
                self.send(frames.encode_frame(frames.PONG, payload))
        elif opcode == CLOSE:
            self._peer_closes(payload)
        elif opcode & COMPRESSED:
            self._inflate(opcode, payload)

    def _inflate(self, opcode: int, payload: bytes) -> None:
        try:
            data = inflate(payload, self._parser.max_message_bytes)
            text = decode_text(data) if opcode == TEXT | COMPRESSED else None
        except RemoteProtocolError as error:
            self.peer_failed(error)
            return
        self._inflated += len(data)
        self._nbytes += max(len(data) - len(payload), 0)
        if self._nbytes >= self._report_bytes:
            self._report()
        if text is None:
            self.binary_received(data)
        else:
            self.text_received(text)
        if self._inflated > INFLATE_TURN_BYTES and self._phase is _Phase.OPEN:
            self._wait_for_turn()

    def _receive_aside(self, data: bytes) -> None:
        if self._phase in (_Phase.OPEN, _Phase.CLOSING):
            self._set_aside(self._parser.feed(data))

    def _set_aside(self, messages: Iterable[AnyMessage]) -> None:
        """Nobody takes these now: keep them, or look for the peer's answer to our close frame."""
        if self._phase is _Phase.CLOSING:
            self._look_for_answer(messages)
        elif self._phase is _Phase.OPEN:
            if self._kept is None:
                self._kept = _Kept()
            self._kept.add(messages)

    def _hand_over(self, kept: _Kept) -> None:
        kept.is_in_hand = True
        left = TURN_MESSAGES
        try:
            while self._takes_messages and kept.messages:
                if not left:
                    self._wait_for_turn()
                    break
                left -= 1
                opcode, payload = kept.take()
                if opcode == TEXT:
                    self.text_received(payload)  # type: ignore[arg-type]
                elif opcode == BINARY:
                    self.binary_received(payload)  # type: ignore[arg-type]
                else:
                    self._receive_other(opcode, payload)  # type: ignore[arg-type]
        except BaseException:
            # As the loop does where data_received raises: the next message may not pass this one, and whoever reads
            # from here is told of the end.
            WebSocketConnection.abort(self)
            raise
        kept.is_in_hand = False
        if self._takes_messages:
            self._kept = None
            self._read_socket(True)
            if self._parser.error is not None:
                self.peer_failed(self._parser.error)

    # -- closing -----------------------------------------------------------------------------------------

    def say_goodbye(self, code: int, reason: str) -> None:
        """Send a close frame and give the peer time to answer."""
        if self._phase is not _Phase.OPEN:
            return
        kept = self._stop_taking(_Phase.CLOSING)
        transport = self._transport
        if transport is None:
            return
        self.send(frames.encode_close(code, reason))
        self._await_end(transport, CLOSE_TIMEOUT_S)
        if kept is not None:
            self._look_for_answer(kept.messages)

    def fail(self, code: int, reason: str) -> None:
        """Tell a peer that broke the protocol, and close without reading any further.

        Spec: RFC 6455, section 7.1.7. A half-closed connection lets it read the close frame, which a reset could
        take from it, and lets it go at once.
        """
        if self._phase is not _Phase.OPEN:
            return
        self._stop_taking(_Phase.FAILED)
        transport = self._transport
        if transport is not None:
            self.send(frames.encode_close(code, reason))
            self._linger(transport)

    def abort(self) -> None:
        """Drop the connection at once."""
        transport = self._transport
        self._forget()
        if transport is not None:
            transport.abort()

    def _stop_taking(self, phase: _Phase) -> _Kept | None:
        """Enter ``phase``. Returns what was kept; the socket is read again, if only to learn when the peer leaves."""
        self._phase = phase
        self.writable = False
        self._takes_messages = False
        kept, self._kept = self._kept, None
        if self._is_paused or kept is not None or self._inflated == _WAITING_FOR_TURN:
            self._is_paused = False
            self._read_socket(True)
        return kept

    def _look_for_answer(self, messages: Iterable[AnyMessage]) -> None:
        if any(opcode == CLOSE for opcode, _ in messages):
            self._end()
        elif self._parser.error is not None and self._transport is not None:
            self._phase = _Phase.FAILED
            self._linger(self._transport)

    def _peer_closes(self, payload: bytes) -> None:
        try:
            code, _ = frames.decode_close(payload)
        except RemoteProtocolError as error:
            self.peer_failed(error)
            return
        self.send(frames.encode_close(CloseCode.NORMAL if code == 1005 else code))
        self._end()

    def _end(self) -> None:
        """Both sides have said good-bye."""
        transport = self._transport
        self._forget()  # first: whoever is told now may abort, which must not take our close frame
        self.connection_ended(None)
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size():
                # A peer that reads nothing would keep what was written for it, and the connection, for ever.
                self._transport = transport
                self._await_end(transport, CLOSE_TIMEOUT_S)

    def _linger(self, transport: asyncio.Transport) -> None:
        if transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()
        self._await_end(transport, LINGER_S)

    def _await_end(self, transport: asyncio.Transport, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._lingering.add(self)
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)

    def _forget(self) -> None:
        self._phase = _Phase.ENDED
        self.writable = False
        self._takes_messages = False
        self._is_paused = False
        self._kept = None
        self.drop_transport()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._lingering.discard(self)

    # -- asyncio protocol ------------------------------------------------------------------------------

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget()
        self.connection_ended(exc)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.writable = False
        self.writing_paused()

    def resume_writing(self) -> None:
        # Not from inside of the transport: asyncio's ends twice, with an error, where resume_writing leads to close
        # or abort (_SelectorSocketTransport._write_ready, in Python 3.11 to 3.13).
        asyncio.get_running_loop().call_soon(self._resume_writing)

    def _resume_writing(self) -> None:
        if self._phase is _Phase.OPEN:
            self.writable = True
            self.writing_resumed()

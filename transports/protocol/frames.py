"""WebSocket frames: bytes in, whole messages out, and back.

Spec: RFC 6455, sections 5 (framing) and 7 (closing). No extension is negotiated, so reserved bits are errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ..errors import RemoteProtocolError

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

NORMAL_CLOSURE: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
INVALID_DATA: Final = 1007
POLICY_VIOLATION: Final = 1008
MESSAGE_TOO_BIG: Final = 1009
INTERNAL_ERROR: Final = 1011
SERVICE_RESTART: Final = 1012

_FIN: Final = 0x80
_MASKED: Final = 0x80


class Message(NamedTuple):
    """``data`` is str for TEXT, bytes for every other opcode."""

    opcode: int
    data: str | bytes


#: ``Message``, or a plain tuple of the same two values where naming them would cost the hot path.
AnyMessage = Message | tuple[int, str | bytes]

_NOTHING: tuple[AnyMessage, ...] = ()


def encode_frame(opcode: int, data: bytes) -> bytes:
    """One unfragmented, unmasked frame, as servers send it."""
    size = len(data)
    if size < 126:
        return bytes((_FIN | opcode, size)) + data
    if size < 65536:
        return bytes((_FIN | opcode, 126)) + size.to_bytes(2, "big") + data
    return bytes((_FIN | opcode, 127)) + size.to_bytes(8, "big") + data


def encode_close(code: int, reason: str = "") -> bytes:
    """A close frame; the reason is cut to what a control frame can carry (123 bytes)."""
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return encode_frame(CLOSE, code.to_bytes(2, "big") + text)


def decode_close(data: bytes) -> tuple[int, str]:
    """Code and reason of a close frame's body; 1005 where the peer gave none.

    Raises: RemoteProtocolError for a body of one byte, a code that must not be sent, or a reason not UTF-8.
    Spec: RFC 6455, section 7.4.
    """
    if not data:
        return 1005, ""
    code = int.from_bytes(data[:2], "big")
    if len(data) == 1 or not ((1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999):
        raise RemoteProtocolError("invalid close frame", PROTOCOL_ERROR)
    try:
        return code, data[2:].decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("close reason is not UTF-8", INVALID_DATA) from error


def unmask(data: bytes, mask: bytes) -> bytes:
    """The payload under its mask: XOR of two long integers, the fastest way without leaving Python."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


class FrameParser:
    """Client frames become messages.

    ``max_message_bytes`` bounds one message over all its fragments and is checked on headers, before the bytes
    arrive. Whether the bytes come whole or one by one makes no difference to what is returned.

    ``error`` is None, or what the peer did wrong and the close code to answer with; the messages before it
    have been returned, and nothing is read any more.
    """

    __slots__ = ("_buffer", "_fragment_opcode", "_fragments", "_is_closed", "_max_message_bytes", "_need", "error")

    def __init__(self, max_message_bytes: int) -> None:
        self.error: RemoteProtocolError | None = None
        self._max_message_bytes = max_message_bytes
        self._buffer: bytearray | None = None
        self._need = 0  # bytes the buffer must hold before parsing is worth a try
        self._fragments: bytearray | None = None
        self._fragment_opcode = CONTINUATION
        self._is_closed = False

    def feed(self, data: bytes) -> Sequence[AnyMessage]:
        """The messages that ``data`` completes, oldest first. Look at ``error`` after reading them."""
        if self.error is not None or self._is_closed:
            return _NOTHING  # what follows a close frame is not ours to read
        buffer = self._buffer
        if buffer is not None:
            buffer += data
            if len(buffer) < self._need:
                return _NOTHING
            data = bytes(buffer)
            self._buffer = None
        messages: list[AnyMessage] = []
        try:
            self._parse(data, messages)
        except RemoteProtocolError as error:
            # Kept without its traceback, whose frames hold the session, the message and this parser itself.
            error.__cause__ = error.__context__ = None
            self.error = error.with_traceback(None)
        return messages

    def _parse(self, data: bytes, messages: list[AnyMessage]) -> None:
        start = 0
        end = len(data)
        while end - start >= 2:
            first = data[start]
            second = data[start + 1]
            # Before the length, whose bytes may still be missing: the error must not depend on how they come.
            # The common case, a whole text or binary message in one frame, passes without a call.
            if not second & _MASKED or (first != 0x81 and first != 0x82) or self._fragments is not None:
                self._check_header(first, second)
            size = second & 0x7F
            head = 6
            if size > 125:
                head = 8 if size == 126 else 14
                if end - start < head:
                    self._need = head
                    break
                size = self._long_size(data[start + 2 : start + head - 4])
            fragments = self._fragments
            if size > self._max_message_bytes or (
                fragments is not None and first & 0x0F == 0 and size + len(fragments) > self._max_message_bytes
            ):
                raise RemoteProtocolError("message too big", MESSAGE_TOO_BIG)
            stop = start + head + size
            if stop > end:
                self._need = head + size
                break
            payload = unmask(data[start + head : stop], data[start + head - 4 : start + head])
            start = stop
            if first == 0x81:
                messages.append((TEXT, _text(payload)))
            elif first == 0x82:
                messages.append((BINARY, payload))
            else:
                message = self._fragment_or_control(first, payload)
                if message is not None:
                    messages.append(message)
                    if message.opcode == CLOSE:
                        self._is_closed = True
                        return
        else:
            self._need = 2
        if start < end:
            self._buffer = bytearray(data[start:])

    def _long_size(self, encoded: bytes) -> int:
        size = int.from_bytes(encoded, "big")
        if size >> 63:
            raise RemoteProtocolError("frame length has its top bit set", PROTOCOL_ERROR)
        if size < 126 or (len(encoded) == 8 and size < 65536):
            raise RemoteProtocolError("frame length is not in its shortest form", PROTOCOL_ERROR)
        return size

    def _check_header(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            raise RemoteProtocolError("reserved bit set", PROTOCOL_ERROR)
        if not second & _MASKED:
            raise RemoteProtocolError("client frame is not masked", PROTOCOL_ERROR)
        if opcode >= CLOSE:
            if opcode > PONG:
                raise RemoteProtocolError("unknown opcode", PROTOCOL_ERROR)
            if not first & _FIN or second & 0x7F > 125:
                raise RemoteProtocolError("control frame is fragmented or too long", PROTOCOL_ERROR)
        elif opcode > BINARY:
            raise RemoteProtocolError("unknown opcode", PROTOCOL_ERROR)
        elif opcode == CONTINUATION:
            if self._fragments is None:
                raise RemoteProtocolError("continuation of nothing", PROTOCOL_ERROR)
        elif self._fragments is not None:
            raise RemoteProtocolError("new message inside a fragmented one", PROTOCOL_ERROR)

    def _fragment_or_control(self, first: int, payload: bytes) -> Message | None:
        opcode = first & 0x0F
        if opcode >= CLOSE:
            return Message(opcode, payload)
        fragments = self._fragments
        if fragments is None:
            fragments = self._fragments = bytearray()
            self._fragment_opcode = opcode
        fragments += payload
        if not first & _FIN:
            return None
        self._fragments = None
        whole = bytes(fragments)
        return Message(TEXT, _text(whole)) if self._fragment_opcode == TEXT else Message(BINARY, whole)


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("text message is not UTF-8", INVALID_DATA) from error

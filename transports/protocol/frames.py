"""WebSocket frames: bytes in, whole messages out, and back.

Spec: RFC 6455, sections 5 (framing) and 7 (closing); RFC 7692, section 6, for the bit that marks a compressed
message. Every other reserved bit is an error.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Final, NamedTuple

from .. import catalogue
from ..accelerator import accelerator
from ..errors import RemoteProtocolError

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10


#: In the first byte of a frame, and added to the opcode of a message that is still to be inflated.
COMPRESSED: Final = 0x40

#: First bytes of the usual frames: final, neither compressed nor reserved.
WHOLE_TEXT: Final = 0x81
WHOLE_BINARY: Final = 0x82

_FIN: Final = 0x80
_MASKED: Final = 0x80

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class Message(NamedTuple):
    """``data`` is str for TEXT, bytes for every other opcode; for a compressed message, as it came."""

    opcode: int
    data: str | bytes


#: ``Message``, or a plain tuple of the same two values where naming them would cost the hot path.
AnyMessage = Message | tuple[int, str | bytes]

_NOTHING: tuple[AnyMessage, ...] = ()


def encode_frame(opcode: int, data: bytes) -> bytes:
    """One unfragmented, unmasked frame, as servers send it. ``opcode`` may have COMPRESSED added."""
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
        raise RemoteProtocolError(catalogue.BAD_CLOSE)
    try:
        return code, data[2:].decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(catalogue.CLOSE_NOT_UTF8) from error


def unmask(data: bytes, mask: bytes) -> bytes:
    """The payload under its mask: XOR of two long integers, the fastest way without leaving Python."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


def scan_frames(data: bytes, start: int, max_message_bytes: int, messages: list[AnyMessage]) -> int:
    """Read frames as nearly all of them come: masked, whole, uncompressed, one to a message.

    Their messages are appended to ``messages``. Returns where the first frame begins that is not such a one, or not
    as it must be; nothing is refused here. The accelerator has the same function.
    """
    end = len(data)
    while end - start >= 6:
        first = data[start]
        size = data[start + 1] - _MASKED
        if (first != WHOLE_TEXT and first != WHOLE_BINARY) or size < 0:
            break
        head = 6
        if size > 125:
            head = 8 if size == 126 else 14
            size = int.from_bytes(data[start + 2 : start + head - 4], "big")
            if size < (126 if head == 8 else 65536):
                break
        stop = start + head + size
        if size > max_message_bytes or stop > end:
            break
        payload = unmask(data[start + head : stop], data[start + head - 4 : start + head])
        if first == WHOLE_BINARY:
            messages.append((BINARY, payload))
        else:
            try:
                messages.append((TEXT, payload.decode()))
            except UnicodeDecodeError:
                break
        start = stop
    return start


_scan: Final = scan_frames if accelerator is None else accelerator.scan_frames


class FrameParser:
    """Client frames become messages.

    ``max_message_bytes`` bounds one message over all its fragments and is checked on headers, before the bytes
    arrive. Whether the bytes come whole or one by one makes no difference to what is returned. Text in fragments
    is checked as each of them ends, other text when it is whole. With ``takes_compressed``, messages that the
    peer has compressed are returned as they came: a chunk of them, inflated at once, could be a thousand times
    its size.

    ``fragment_count`` counts the frames that have been read of messages not whole yet, until its reader sets it to 0.

    ``error`` is None, or what the peer did wrong and the close code to answer with; the messages before it
    have been returned, and nothing is read any more.
    """

    __slots__ = (
        "_buffer",
        "_fragment_opcode",
        "_fragments",
        "_is_closed",
        "_need",
        "_takes_compressed",
        "_utf8",
        "error",
        "fragment_count",
        "max_message_bytes",
    )

    def __init__(self, max_message_bytes: int, takes_compressed: bool = False) -> None:
        self.error: RemoteProtocolError | None = None
        self.max_message_bytes = max_message_bytes
        self.fragment_count = 0
        self._takes_compressed = takes_compressed
        self._buffer: bytearray | None = None
        self._need = 0  # bytes the buffer must hold before parsing is worth a try
        self._fragments: bytearray | None = None
        self._fragment_opcode = CONTINUATION
        self._utf8: codecs.IncrementalDecoder | None = None
        self._is_closed = False

    def buffered_bytes(self) -> int:
        """Bytes of frames and messages that are not whole yet."""
        buffer, fragments = self._buffer, self._fragments
        return (0 if buffer is None else len(buffer)) + (0 if fragments is None else len(fragments))

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
        start = 0 if self._fragments is not None else _scan(data, 0, self.max_message_bytes, messages)
        if start == len(data):
            return messages  # in nearly every case
        try:
            self._parse(data, start, messages)
        except RemoteProtocolError as error:
            # Kept without its traceback, whose frames hold the session, the message and this parser itself.
            error.__cause__ = error.__context__ = None
            self.error = error.with_traceback(None)
        return messages

    def _parse(self, data: bytes, start: int, messages: list[AnyMessage]) -> None:
        """Read what begins at ``start`` with anything but a usual frame."""
        end = len(data)
        while True:
            if end - start < 2:
                self._need = 2
                break
            stop = self._parse_frame(data, start, messages)
            if stop is None:
                break
            start = stop
            if self._is_closed:
                return
            if self._fragments is None:
                start = _scan(data, start, self.max_message_bytes, messages)
        if start < end:
            self._buffer = bytearray(data[start:])

    def _parse_frame(self, data: bytes, start: int, messages: list[AnyMessage]) -> int | None:
        """Read any frame at ``start``. Returns where it ends; None where it is not whole, having set ``_need``."""
        first = data[start]
        left = len(data) - start
        # Before the length, whose bytes may still be missing: the error must not depend on how they come.
        self._check_header(first, data[start + 1])
        size = data[start + 1] & 0x7F
        head = 6
        if size > 125:
            head = 8 if size == 126 else 14
            if left < head:
                self._need = head
                return None
            size = self._long_size(data[start + 2 : start + head - 4])
        fragments = self._fragments
        if size > self.max_message_bytes or (
            fragments is not None and first & 0x0F == 0 and size + len(fragments) > self.max_message_bytes
        ):
            raise RemoteProtocolError(catalogue.MESSAGE_TOO_BIG)
        stop = start + head + size
        if left < head + size:
            self._need = head + size
            return None
        payload = unmask(data[start + head : stop], data[start + head - 4 : start + head])
        if first == WHOLE_TEXT:
            messages.append((TEXT, decode_text(payload)))
        elif first == WHOLE_BINARY:
            messages.append((BINARY, payload))
        else:
            message = self._fragment_or_control(first, payload)
            if message is not None:
                messages.append(message)
                self._is_closed = message.opcode == CLOSE
        return stop

    def _long_size(self, encoded: bytes) -> int:
        size = int.from_bytes(encoded, "big")
        if size >> 63:
            raise RemoteProtocolError(catalogue.LENGTH_TOP_BIT)
        if size < 126 or (len(encoded) == 8 and size < 65536):
            raise RemoteProtocolError(catalogue.LENGTH_NOT_SHORTEST)
        return size

    def _check_header(self, first: int, second: int) -> None:
        opcode = first & 0x0F
        if first & 0x70:
            if first & 0x70 != COMPRESSED or not self._takes_compressed:
                raise RemoteProtocolError(catalogue.RESERVED_BIT)
            if opcode not in (TEXT, BINARY):
                raise RemoteProtocolError(catalogue.STRAY_COMPRESSION)
        if not second & _MASKED:
            raise RemoteProtocolError(catalogue.NOT_MASKED)
        if opcode >= CLOSE:
            if opcode > PONG:
                raise RemoteProtocolError(catalogue.UNKNOWN_OPCODE)
            if not first & _FIN or second & 0x7F > 125:
                raise RemoteProtocolError(catalogue.BAD_CONTROL_FRAME)
        elif opcode > BINARY:
            raise RemoteProtocolError(catalogue.UNKNOWN_OPCODE)
        elif opcode == CONTINUATION:
            if self._fragments is None:
                raise RemoteProtocolError(catalogue.STRAY_CONTINUATION)
        elif self._fragments is not None:
            raise RemoteProtocolError(catalogue.INTERLEAVED_MESSAGE)

    def _fragment_or_control(self, first: int, payload: bytes) -> Message | None:
        opcode = first & 0x0F
        if opcode >= CLOSE:
            return Message(opcode, payload)
        fragments = self._fragments
        if fragments is None:
            if first & _FIN:
                return Message(opcode | COMPRESSED, payload)  # any other whole message has not come here
            fragments = self._fragments = bytearray()
            self._fragment_opcode = opcode | (first & COMPRESSED)
            self._utf8 = _Utf8Decoder() if self._fragment_opcode == TEXT else None
        if self._utf8 is not None:
            try:
                self._utf8.decode(payload, final=bool(first & _FIN))
            except UnicodeDecodeError as error:
                raise RemoteProtocolError(catalogue.TEXT_NOT_UTF8) from error
        fragments += payload
        if not first & _FIN:
            self.fragment_count += 1
            return None
        self._fragments = self._utf8 = None
        whole = bytes(fragments)
        return Message(TEXT, whole.decode()) if self._fragment_opcode == TEXT else Message(self._fragment_opcode, whole)


def decode_text(payload: bytes) -> str:
    """Raises: RemoteProtocolError where it is not UTF-8."""
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(catalogue.TEXT_NOT_UTF8) from error

"""RESP2, the protocol of Redis and Valkey: commands as bytes, bytes as values."""

from __future__ import annotations

import os
from typing import Any, Final

from transports.accelerator import accelerator

#: Arrays in arrays; replies that we ask for have three levels.
_MAX_DEPTH: Final = 8
_MAX_LINE_BYTES: Final = 64 * 1024
#: With what messages of Pub/Sub begin.
_MESSAGE: Final = b"*3\r\n$7\r\nmessage\r\n$"
_SHARDED: Final = b"*3\r\n$8\r\nsmessage\r\n$"
_MAX_DIGITS: Final = 18
#: Begins what stands in the buffer for a string that is too long to be kept.
_OVERSIZED: Final = 0


class RespError(Exception):
    """An error that the server replied. ``code``: its first word, such as ``OOM``."""

    def __init__(self, text: str) -> None:
        self.code = text.partition(" ")[0]
        super().__init__(text)


class RespProtocolError(Exception):
    """What came is not RESP2: nothing behind it can be read."""


class Oversized:
    """A string of ``nbytes``, longer than allowed, that was skipped."""

    __slots__ = ("nbytes",)

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes


class _Incomplete(Exception):  # noqa: N818 - no error, it says how many bytes of the buffer are needed
    def __init__(self, needed: int) -> None:
        self.needed = needed


class _TooLong(Exception):  # noqa: N818 - where the string lies
    def __init__(self, start: int, body: int, nbytes: int) -> None:
        self.start, self.body, self.nbytes = start, body, nbytes


def encode_command(*arguments: str | bytes | int) -> bytes:
    """As an array of strings."""
    return b"*%d\r\n" % len(arguments) + encode_arguments(*arguments)


def encode_arguments(*arguments: str | bytes | int) -> bytes:
    """A part of a command, without what says how long it is."""
    parts = []
    for argument in arguments:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


def scan_values(data: bytes, start: int, max_string_bytes: int, left_out: bytes, values: list[Any]) -> int:
    """Read what nearly all is that comes: integers from 0, and messages of Pub/Sub as lists of kind, channel and body.

    They are appended to ``values``, but for messages that begin with ``left_out``, unless it is empty. Returns where
    the first value begins that is another, or too long, or not whole. The accelerator has the same function.
    """
    while True:
        if data.startswith(b":", start):
            number, at = _number_at(data, start + 1)
            if number < 0:
                return start
            values.append(number)
            start = at
            continue
        head = _MESSAGE if data.startswith(_MESSAGE, start) else _SHARDED
        if head is _SHARDED and not data.startswith(_SHARDED, start):
            return start
        nbytes, channel = _number_at(data, start + len(head))
        at = channel + nbytes
        if nbytes < 0 or nbytes > max_string_bytes or not data.startswith(b"$", at + 2):
            return start
        channel_end = at
        nbytes, body = _number_at(data, at + 3)
        at = body + nbytes
        if nbytes < 0 or nbytes > max_string_bytes or at + 2 > len(data):
            return start
        if not left_out or not data.startswith(left_out, body, at):
            kind = b"message" if head is _MESSAGE else b"smessage"
            values.append([kind, data[channel:channel_end], data[body:at]])
        start = at + 2


def _number_at(data: bytes, at: int) -> tuple[int, int]:
    """The digits up to the end of the line, and where the next line begins; -1 for anything else."""
    end = data.find(b"\r\n", at, at + _MAX_DIGITS + 2)
    digits = data[at:end]
    return (int(digits), end + 2) if end > at and digits.isdigit() else (-1, at)


_scan: Final = scan_values if accelerator is None else accelerator.scan_values


class RespReader:
    """Give it what comes; it gives back values: bytes, int, None, lists of them, ``RespError``, ``Oversized``.

    max_string_bytes: a longer string is skipped as it comes, so that one message costs nobody the connection
    left_out: messages of Pub/Sub that begin so need not be given back, and are not where they come whole
    """

    def __init__(self, max_string_bytes: int) -> None:
        self.max_string_bytes = max_string_bytes
        self.left_out = b""
        self._buffer = bytearray()
        self._needed = 0
        self._to_skip = 0
        # The server cannot write it.
        self._mark = b"\0" + os.urandom(8).hex().encode()

    def feed(self, data: bytes) -> list[Any]:
        """The values that are whole. Raises: RespProtocolError."""
        if self._to_skip:
            skipped = min(self._to_skip, len(data))
            self._to_skip -= skipped
            data = data[skipped:]
            if self._to_skip:
                return []
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        values: list[Any] = []
        at, size = _scan(data, 0, self.max_string_bytes, self.left_out, values), len(data)
        while at < size:
            try:
                value, at = self._value(data, at, 0)
            except _Incomplete as incomplete:
                self._needed = incomplete.needed - at
                self._buffer += data[at:]
                return values
            except _TooLong as found:
                rest = data[found.body :]
                marker = b"%b%d\r\n" % (self._mark, found.nbytes)
                skipped = min(found.nbytes + 2, len(rest))
                self._to_skip = found.nbytes + 2 - skipped
                data = data[: found.start] + marker + rest[skipped:]
                size = len(data)
                if self._to_skip:
                    self._needed = 0
                    self._buffer += data[at:]
                    return values
            else:
                values.append(value)
                at = _scan(data, at, self.max_string_bytes, self.left_out, values)
        return values

    def _value(self, data: bytes, at: int, depth: int) -> tuple[Any, int]:
        end = data.find(b"\r\n", at)
        if end < 0:
            if len(data) - at > _MAX_LINE_BYTES:
                raise RespProtocolError("a line without an end")
            raise _Incomplete(len(data) + 1)
        kind = data[at]
        body = end + 2
        if kind == 0x24:  # $
            return self._string(data, at, body)
        if kind == 0x2A:  # *
            count = _integer(data[at + 1 : end])
            if count < 0:
                return None, body
            if depth >= _MAX_DEPTH:
                raise RespProtocolError("arrays nested too deeply")
            items = []
            for _ in range(count):
                item, body = self._value(data, body, depth + 1)
                items.append(item)
            return items, body
        line = data[at + 1 : end]
        if kind == 0x3A:  # :
            return _integer(line), body
        if kind == 0x2B:  # +
            return line, body
        if kind == 0x2D:  # -
            return RespError(line.decode(errors="replace")), body
        if kind == _OVERSIZED and data.startswith(self._mark, at):
            return Oversized(_integer(data[at + len(self._mark) : end])), body
        raise RespProtocolError(f"a value that begins with {bytes([kind])!r}")

    def _string(self, data: bytes, at: int, body: int) -> tuple[bytes | None, int]:
        nbytes = _integer(data[at + 1 : body - 2])
        if nbytes < 0:
            return None, body
        if nbytes > self.max_string_bytes:
            raise _TooLong(at, body, nbytes)
        after = body + nbytes
        if after + 2 > len(data):
            raise _Incomplete(after + 2)
        return data[body:after], after + 2


def _integer(text: bytes) -> int:
    digits = text[1:] if text[:1] in b"+-" else text
    if not digits.isdigit() or len(digits) > 20:
        raise RespProtocolError(f"{text[:40]!r} is not a number")
    return int(text)

"""What a WebSocket server that echoes every message must do, case by case.

The numbers are those of the Autobahn test suite, whose cases these follow; sections 1 to 5, 7 and 10 are here,
6 in ``autobahn_utf8``, 9, 12 and 13 in ``autobahn_limits``. ``autobahn_run`` plays them.

Every script ends with a close frame, so that a server which lets a mistake pass shows it by its answer at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10

#: What the server is heard to say: its kind, and its payload. The close frame and the end are not among them.
Event = tuple[str, bytes]
HELLO = b"Hello, world!"


@dataclass(frozen=True)
class Hear:
    """Step: wait until this many events have come, or the end."""

    count: int


@dataclass(frozen=True)
class Linger:
    """Step: give the server a moment to close; where it does not, that is an event of this name."""

    name: str


@dataclass(frozen=True)
class Message:
    """Step: a whole message, compressed as was agreed. ``fragment``: the payload of each frame, 0 for a single one."""

    opcode: int
    data: bytes
    fragment: int = 0


Step = bytes | Hear | Linger | Message


@dataclass(frozen=True)
class Case:
    """``script`` is sent, each item of bytes by itself.

    OK is to say ``heard``, then close with one of ``codes`` (None: a close frame without a code), then to end the
    connection. Saying one of ``loosely`` instead, or ending without a close frame where the client is at fault,
    is NON-STRICT. Everything else is a failure.
    """

    id: str
    does: str
    script: Sequence[Step]
    heard: Sequence[Event] = ()
    codes: frozenset[int | None] = frozenset({1000})
    loosely: Sequence[Sequence[Event]] = ()
    #: Sec-WebSocket-Extensions of the handshake.
    offer: str | None = None

    @property
    def section(self) -> str:
        return self.id.partition(".")[0]

    @property
    def is_refused(self) -> bool:
        """Whether the client is at fault."""
        return not self.codes & {1000, None}


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A masked frame."""
    size = len(data)
    head = bytes([(0x80 if fin else 0) | rsv | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    mask = os.urandom(4)
    key = (mask * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(data, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def fragments(opcode: int, data: bytes, size: int, rsv: int = 0) -> list[bytes]:
    """The frames of a message cut into pieces of ``size`` bytes."""
    pieces = [data[start : start + size] for start in range(0, len(data), size)] or [b""]
    last = len(pieces) - 1
    return [
        frame(CONTINUATION if n else opcode, piece, fin=n == last, rsv=0 if n else rsv)
        for n, piece in enumerate(pieces)
    ]


def close_frame(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason)


def at_once(frames: Iterable[bytes]) -> list[Step]:
    return [b"".join(frames)]


def one_by_one(frames: Iterable[bytes]) -> list[Step]:
    return list(frames)


def in_chops(frames: Iterable[bytes], size: int = 1) -> list[Step]:
    wire = b"".join(frames)
    return [wire[start : start + size] for start in range(0, len(wire), size)]


#: The three ways that Autobahn has to send the same frames.
WAYS = {"in one chop": at_once, "frame by frame": one_by_one, "octet by octet": in_chops}

FAULT: dict[str, Any] = {"codes": frozenset({1002})}
BAD_TEXT: dict[str, Any] = {"codes": frozenset({1007})}


def case(id: str, does: str, script: Sequence[Step], heard: Sequence[Event] = (), **more: Any) -> Case:  # noqa: A002
    return Case(id, does, [*script, close_frame()], heard, **more)


def text(data: bytes) -> Event:
    return "text", data


def binary(data: bytes) -> Event:
    return "binary", data


def pong(data: bytes = b"") -> Event:
    return "pong", data


def framing() -> Iterator[Case]:
    for group, (opcode, kind, fill) in enumerate([(TEXT, text, b"*"), (BINARY, binary, b"\xfe")], 1):
        for n, size in enumerate([0, 125, 126, 127, 128, 65535, 65536], 1):
            data = fill * size
            yield case(f"1.{group}.{n}", f"a message of {size} bytes", [frame(opcode, data)], [kind(data)])
        data = fill * 65536
        chops = in_chops([frame(opcode, data)], 997)
        yield case(f"1.{group}.8", "a message of 65536 bytes in chops of 997", chops, [kind(data)])


def pings() -> Iterator[Case]:
    for n, data in enumerate([b"", HELLO, b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125], 1):
        yield case(f"2.{n}", f"a ping of {len(data)} bytes", [frame(PING, data)], [pong(data)])
    yield case("2.5", "a ping of 126 bytes", [frame(PING, b"\xfe" * 126)], **FAULT)
    full = b"\xfe" * 125
    yield case("2.6", "a ping of 125 bytes, octet by octet", in_chops([frame(PING, full)]), [pong(full)])
    yield case("2.7", "an empty pong that nobody asked for", [frame(PONG)])
    yield case("2.8", "a pong with a payload that nobody asked for", [frame(PONG, b"unasked")])
    unasked = [frame(PONG, b"unasked"), frame(PING, b"asked")]
    yield case("2.9", "a pong that nobody asked for, then a ping", one_by_one(unasked), [pong(b"asked")])
    names = [b"ping %d" % n for n in range(10)]
    ten = [frame(PING, name) for name in names]
    yield case("2.10", "ten pings", one_by_one(ten), [pong(name) for name in names])
    yield case("2.11", "ten pings, octet by octet", in_chops(ten), [pong(name) for name in names])


def reserved_bits() -> Iterator[Case]:
    hello = frame(TEXT, HELLO)
    yield case("3.1", "a text with RSV 1", [frame(TEXT, HELLO, rsv=RSV3)], **FAULT)
    for n, (way, send) in enumerate(WAYS.items(), 2):
        frames = [hello, frame(TEXT, HELLO, rsv=n << 4), frame(PING)]
        yield case(
            f"3.{n}", f"a text, one with RSV {n}, and a ping, {way}", send(frames), [text(HELLO)], loosely=[()], **FAULT
        )
    yield case("3.5", "a binary message with RSV 5", [frame(BINARY, b"\x00\xff\xfe", rsv=5 << 4)], **FAULT)
    yield case("3.6", "a ping with RSV 6", [frame(PING, HELLO, rsv=6 << 4)], **FAULT)
    yield case("3.7", "a close frame with RSV 7", [frame(CLOSE, rsv=7 << 4)], **FAULT)


def opcodes() -> Iterator[Case]:
    for group, first in ((1, 3), (2, 11)):
        yield case(f"4.{group}.1", f"opcode {first}", [frame(first)], **FAULT)
        yield case(f"4.{group}.2", f"opcode {first + 1} with a payload", [frame(first + 1, b"reserved")], **FAULT)
        for n, (opcode, data, way) in enumerate(
            [
                (first + 2, b"", "frame by frame"),
                (first + 3, b"reserved", "frame by frame"),
                (first + 4, b"reserved", "octet by octet"),
            ],
            3,
        ):
            frames = [frame(TEXT, HELLO), frame(opcode, data), frame(PING)]
            does = f"a text, opcode {opcode}, and a ping, {way}"
            yield case(f"4.{group}.{n}", does, WAYS[way](frames), [text(HELLO)], loosely=[()], **FAULT)


def fragmentation() -> Iterator[Case]:
    first, second = frame(TEXT, b"first", fin=False), frame(CONTINUATION, b"second")
    whole = text(b"firstsecond")
    for n, opcode in enumerate([PING, PONG], 1):
        frames = [frame(opcode, b"first", fin=False), second]
        yield case(f"5.{n}", f"opcode {opcode} in two fragments", at_once(frames), **FAULT)
    for n, (way, send) in enumerate(WAYS.items()):
        yield case(f"5.{3 + n}", f"a text in two fragments, {way}", send([first, second]), [whole])
        frames = [first, frame(PING, b"between"), second]
        heard = [pong(b"between"), whole]
        yield case(f"5.{6 + n}", f"a text in two fragments around a ping, {way}", send(frames), heard)
        for base, fin in ((9, True), (12, False)):
            frames = [frame(CONTINUATION, b"of nothing", fin=fin), frame(TEXT, HELLO)]
            does = f"a continuation of nothing, FIN {fin}, and a text, {way}"
            yield case(f"5.{base + n}", does, send(frames), **FAULT)
    frames = [first, second, frame(CONTINUATION, b"third", fin=False), frame(TEXT, b"fourth")]
    yield case("5.15", "a continuation behind the last fragment", at_once(frames), [whole], loosely=[()], **FAULT)
    for n, fin in ((16, False), (17, True)):
        frames = [frame(CONTINUATION, b"of nothing", fin=fin), first, second] * 2
        yield case(f"5.{n}", f"twice: a continuation of nothing, FIN {fin}, and a text", at_once(frames), **FAULT)
    frames = [first, frame(TEXT, b"second")]
    yield case("5.18", "two fragments that both say text", at_once(frames), **FAULT)
    for n, send in ((19, at_once), (20, one_by_one)):
        begun = [first, frame(CONTINUATION, b"2", fin=False), frame(PING, b"one")]
        ended = [
            frame(CONTINUATION, b"3", fin=False),
            frame(CONTINUATION, b"4", fin=False),
            frame(PING, b"two"),
            frame(CONTINUATION, b"5"),
        ]
        yield case(
            f"5.{n}",
            "five fragments and two pings, the first to be answered before the rest is sent",
            [*send(begun), Hear(1), *send(ended)],
            [pong(b"one"), pong(b"two"), text(b"first2345")],
        )


def closing() -> Iterator[Case]:
    bye = close_frame()
    clean = frozenset({1000, None})
    yield Case("7.1.1", "a text, then a close frame", [frame(TEXT, HELLO), bye], [text(HELLO)])
    yield Case("7.1.2", "two close frames", [bye, bye])
    yield Case("7.1.3", "a ping behind the close frame", [bye, frame(PING)])
    yield Case("7.1.4", "a text behind the close frame", [bye, frame(TEXT, HELLO)])
    split = [frame(TEXT, b"first", fin=False), bye, frame(CONTINUATION, b"second")]
    yield Case("7.1.5", "a close frame between two fragments", split)
    long = b"BAsd7&jh23" * 26214
    behind = [frame(TEXT, long), bye, frame(PING)]
    yield Case("7.1.6", "256 KiB, a close frame and a ping", at_once(behind), [text(long)], loosely=[()])
    yield Case("7.3.1", "an empty close frame", [close_frame(None)], codes=clean)
    yield Case("7.3.2", "a close frame of one byte", [frame(CLOSE, b"a")], **FAULT)
    yield Case("7.3.3", "a close frame with a code", [bye])
    yield Case("7.3.4", "a close frame with code and reason", [close_frame(1000, HELLO)])
    yield Case("7.3.5", "a close frame with a reason of 123 bytes", [close_frame(1000, b"*" * 123)])
    yield Case("7.3.6", "a close frame with a reason of 124 bytes", [close_frame(1000, b"*" * 124)], **FAULT)
    broken = "κόσμε".encode() + b"\xed\xa0\x80edited"
    either = frozenset({1002, 1007})
    yield Case("7.5.1", "a close frame whose reason is not UTF-8", [close_frame(1000, broken)], codes=either)
    valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
    for n, code in enumerate(valid, 1):
        yield Case(f"7.7.{n}", f"code {code}", [close_frame(code)], codes=frozenset({1000, code}))
    for n, code in enumerate([0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999], 1):
        yield Case(f"7.9.{n}", f"code {code}, which must not be sent", [close_frame(code)], **FAULT)
    for n, code in enumerate([5000, 65535], 1):
        any_of = frozenset({1000, 1002, code})
        yield Case(f"7.13.{n}", f"code {code}, of which nothing is said", [close_frame(code)], codes=any_of)


def fragmented_by_the_sender() -> Iterator[Case]:
    data = b"*" * 65536
    yield case("10.1.1", "65536 bytes in frames of 1300", one_by_one(fragments(TEXT, data, 1300)), [text(data)])


@dataclass(frozen=True)
class Section:
    name: str
    cases: list[Case] = field(default_factory=list)


def sections() -> dict[str, Section]:
    """By number, in the order of the table."""
    from tests.conformance import autobahn_limits, autobahn_utf8

    return {
        "1": Section("framing", [*framing()]),
        "2": Section("pings and pongs", [*pings()]),
        "3": Section("reserved bits", [*reserved_bits()]),
        "4": Section("opcodes", [*opcodes()]),
        "5": Section("fragmentation", [*fragmentation()]),
        "6": Section("UTF-8", [*autobahn_utf8.utf8()]),
        "7": Section("closing", [*closing()]),
        "9": Section("sizes and numbers", [*autobahn_limits.sizes(), *autobahn_limits.round_trips()]),
        "10": Section("fragments by size", [*fragmented_by_the_sender()]),
        "12": Section("compression", [*autobahn_limits.compressed()]),
        "13": Section("compression parameters", [*autobahn_limits.compressed_with_parameters()]),
    }

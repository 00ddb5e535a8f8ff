"""Envelopes and messages between nodes."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from gateway.envelope import (
    MAX_NODE_ID_LENGTH,
    OVERHEAD_BYTES,
    Envelope,
    EnvelopeError,
    EnvelopeKind,
    Message,
    MessageFlag,
    MessageKind,
    UnknownVersionError,
)

MESSAGE = Message(
    MessageKind.EMIT,
    "/chat",
    ("a", "b"),
    ("c",),
    ("sid",),
    b'2["x",{}]',
    (b"\0\xff",),
    (1, None, 2.5, "é", b"x", [True], {"a": {"b": 1}}),
    MessageFlag.VOLATILE | MessageFlag.BINARY_PACKET,
    "key",
)


def test_envelope_reads_as_it_was_written() -> None:
    for kind in EnvelopeKind:
        envelope = Envelope(kind, "node", 1, 2**63, 3, 4, bytes(range(256)))
        assert Envelope.decode(envelope.encode()) == envelope


def test_message_reads_as_it_was_written() -> None:
    assert Message.decode(MESSAGE.encode()) == MESSAGE
    assert Message.decode(Message(MessageKind.FETCH_SOCKETS).encode()) == Message(MessageKind.FETCH_SOCKETS)


def test_overhead_is_what_is_said() -> None:
    most = 2**64 - 1
    envelope = Envelope(EnvelopeKind.CANARY, "n" * MAX_NODE_ID_LENGTH, most, most, most, most, bytes(70_000))
    assert len(envelope.encode()) <= 70_000 + OVERHEAD_BYTES


def test_another_version_is_told_from_noise() -> None:
    with pytest.raises(UnknownVersionError, match="version 2"):
        Envelope.decode(msgpack.packb([2, "all", "else", "may", "differ"]))
    with pytest.raises(UnknownVersionError):
        Message.decode(msgpack.packb([9]))


ENVELOPE: list[Any] = [1, 0, "node", 1, 2, 3, 0, b"body"]


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, True),
        (1, 99),
        (1, -1),
        (1, True),
        (1, "0"),
        (2, ""),
        (2, "n" * 65),
        (2, b"node"),
        (3, -1),
        (4, 1.0),
        (5, None),
        (6, "1"),
        (6, True),
        (7, "body"),
    ],
)
def test_wrong_field_of_an_envelope_is_refused(at: int, value: Any) -> None:
    assert Envelope.decode(msgpack.packb(ENVELOPE)).sender == "node"
    with pytest.raises(EnvelopeError):
        Envelope.decode(msgpack.packb([*ENVELOPE[:at], value, *ENVELOPE[at + 1 :]]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb({}),
        msgpack.packb([]),
        msgpack.packb(ENVELOPE[:-1]),
        msgpack.packb([*ENVELOPE, 1]),
        msgpack.packb(ENVELOPE) + b"\0",
        msgpack.packb(ENVELOPE)[:-1],
        b"\x91" * 2000 + b"\xc0",
    ],
)
def test_what_is_no_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(EnvelopeError):
        Envelope.decode(data)
    with pytest.raises(EnvelopeError):
        Message.decode(data)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (1, 99),
        (2, "chat"),
        (2, "/" + "n" * 1024),
        (3, "a"),
        (3, [1]),
        (3, ["a"] * 10_001),
        (4, {}),
        (5, [None]),
        (6, "text"),
        (7, ["text"]),
        (8, {}),
        (9, 8),
        (9, -1),
        (9, True),
        (10, 1),
    ],
)
def test_wrong_field_of_a_message_is_refused(at: int, value: Any) -> None:
    fields = msgpack.unpackb(MESSAGE.encode(), strict_map_key=False)
    with pytest.raises(EnvelopeError):
        Message.decode(msgpack.packb([*fields[:at], value, *fields[at + 1 :]]))


def test_arguments_that_cannot_travel_are_refused_where_they_are_sent() -> None:
    with pytest.raises(TypeError):
        Message(MessageKind.OTHER, arguments=(object(),)).encode()
    with pytest.raises(ValueError, match="64 bits"):
        Message(MessageKind.OTHER, arguments=(2**64,)).encode()

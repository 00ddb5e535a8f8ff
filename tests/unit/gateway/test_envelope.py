"""Envelopes and messages between nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import envelope as module
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
    head_of_publications,
)
from transports.accelerator import accelerator

needs_accelerator = pytest.mark.skipif(accelerator is None, reason="the accelerator was not built, or is switched off")
WAYS = [
    pytest.param(None, id="python"),
    pytest.param(getattr(accelerator, "unpack_fields", None), id="compiled", marks=needs_accelerator),
]


@pytest.fixture(autouse=True, params=WAYS, scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything is read without the accelerator, and with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_unpack_fields", request.param)
        yield


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


def test_head_of_publications_is_of_no_other_envelope() -> None:
    head = head_of_publications("node")
    for kind in EnvelopeKind:
        for sender in ("node", "node2", "nod", "edon"):
            encoded = Envelope(kind, sender, 1, 2, 3, 4, b"body").encode()
            assert encoded.startswith(head) == (kind is EnvelopeKind.PUBLICATION and sender == "node")


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
    for message in (MESSAGE, MESSAGE._replace(arguments=())):
        fields = msgpack.unpackb(message.encode(), strict_map_key=False)
        with pytest.raises(EnvelopeError):
            Message.decode(msgpack.packb([*fields[:at], value, *fields[at + 1 :]]))


def test_arguments_that_cannot_travel_are_refused_where_they_are_sent() -> None:
    with pytest.raises(TypeError):
        Message(MessageKind.OTHER, arguments=(object(),)).encode()
    with pytest.raises(ValueError, match="64 bits"):
        Message(MessageKind.OTHER, arguments=(2**64,)).encode()


# -- the accelerator -----------------------------------------------------------------------------------


MESSAGES = st.builds(
    Message,
    st.sampled_from(MessageKind),
    st.text(max_size=3).map(lambda name: f"/{name}"),
    *[st.lists(st.text(max_size=40), max_size=20).map(tuple)] * 3,
    st.none() | st.binary(max_size=300),
    st.lists(st.binary(max_size=3), max_size=3).map(tuple),
    st.sampled_from([(), (), (1, "a")]),
    st.integers(0, 7),
    st.none() | st.text(max_size=3),
)


@needs_accelerator
@given(MESSAGES, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=2), st.integers(0, 3))
def test_accelerator_reads_what_is_usual_and_nothing_differently(
    message: Message, changes: list[tuple[int, int]], cut: int
) -> None:
    assert accelerator is not None
    shape = module._MESSAGE_SHAPE
    if not message.arguments:
        assert accelerator.unpack_fields(message.encode(), shape) == (module.VERSION, *message)
    data = bytearray(message.encode())
    for at, byte in changes:
        data[at % len(data)] = byte
    wire = bytes(data[: len(data) - cut])
    fields = accelerator.unpack_fields(wire, shape)
    if fields is not None:
        assert list(fields) == [
            tuple(item) if isinstance(item, list) else item for item in msgpack.unpackb(wire, strict_map_key=False)
        ]


@needs_accelerator
@pytest.mark.parametrize("number", [0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**64 - 1])
@pytest.mark.parametrize("size", [0, 1, 31, 32, 255, 256, 65535, 65536])
def test_accelerator_reads_numbers_and_lengths_of_every_width(number: int, size: int) -> None:
    assert accelerator is not None
    fields = (number, "x" * size, bytes(size), None, None, ("é" * (size // 2), ""), (b"",) * min(size, 1000), ())
    assert accelerator.unpack_fields(msgpack.packb(fields), b"usbSBtde") == fields


@needs_accelerator
def test_accelerator_leaves_what_is_unusual() -> None:
    assert accelerator is not None
    for fields, shape in (
        ((-1,), b"u"),
        ((b"x",), b"s"),
        (("x",), b"b"),
        (("x",), b"B"),
        ((b"x",), b"S"),
        (((1,),), b"t"),
        ((("x",) * 1001,), b"t"),
        ((("x",),), b"e"),
        (("x",), b"ss"),
        (("x", "x"), b"s"),
    ):
        assert accelerator.unpack_fields(msgpack.packb(fields), shape) is None
    assert accelerator.unpack_fields(b"\x91\xa1\xff", b"s") is None, "no UTF-8"
    for arguments in ((), ("", b"s"), (b"", "s"), (b"", b"s" * 16)):
        with pytest.raises(TypeError):
            accelerator.unpack_fields(*arguments)
    with pytest.raises(ValueError, match="shape"):
        accelerator.unpack_fields(b"\x91\x01", b"?")

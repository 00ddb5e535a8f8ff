"""What nodes say to each other, there and back."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.codec import JsonPacket, MsgpackPacket
from gateway.delivery import RELIABLE, VOLATILE, Delivery, conflated
from gateway.encoded_events import encode_event
from gateway.envelope import EnvelopeError, Message, MessageFlag, MessageKind
from gateway.node_messages import (
    NodeError,
    decode_value,
    delivery_of,
    encode_value,
    encoded_event,
    event_message,
    failure_of,
    read_result,
    result_of,
)

DELIVERIES = [
    RELIABLE,
    VOLATILE,
    conflated(True, "/", "x", None),
    conflated(True, "/", "x", "room"),
    conflated(True, "/", "x", ["b", "a"]),
    conflated("key", "/", "x", "room"),
    conflated(("a", 1, (2.5, None)), "/", "x", "room"),
]


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_delivery_is_the_same_at_the_other_node(delivery: Delivery) -> None:
    message = event_message(encode_event(JsonPacket, ["x"], "/"), "/", delivery=delivery)
    assert delivery_of(Message.decode(message.encode())) == delivery


def test_keys_of_policy_and_of_application_stay_apart() -> None:
    keys = [delivery.key for delivery in DELIVERIES[2:]]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("key", [object(), ("a", object()), b"bytes"])
def test_key_that_means_something_here_alone_is_refused(key: Any) -> None:
    with pytest.raises(TypeError, match="ignore_queue"):
        event_message(encode_event(JsonPacket, ["x"], "/"), "/", delivery=conflated(key, "/", "x", None))


@pytest.mark.parametrize("packet_class", [JsonPacket, MsgpackPacket])
def test_event_travels_encoded(packet_class: Any) -> None:
    encoded = encode_event(packet_class, ["x", b"1", {"b": b"2"}], "/n")
    message = event_message(encoded, "/n", ["r"], ["e"], ["s"], ack=(5, 1.5))
    found = Message.decode(message.encode())
    again = encoded_event(found)
    assert (again.text, list(again.attachments)) == (encoded.text, list(encoded.attachments))
    assert (found.kind, found.rooms, found.except_rooms, found.skip_sids, found.arguments) == (
        MessageKind.EMIT_WITH_ACK,
        ("r",),
        ("e",),
        ("s",),
        (5, 1.5),
    )


@pytest.mark.parametrize("packet", [None, b"", b"40", b"42", b'42["x"', b'2["x"]'])
def test_packet_that_is_no_event_is_refused(packet: bytes | None) -> None:
    with pytest.raises(EnvelopeError):
        encoded_event(Message(MessageKind.EMIT, packet=packet))


@pytest.mark.parametrize("key", ["", "{}", '{"set": [[{}]]}', "[{}]", "5", "[" * 100_000])
def test_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(EnvelopeError):
        delivery_of(Message(MessageKind.EMIT, flags=MessageFlag.CONFLATED, key=key))


def test_names_that_are_not_text_or_too_many_are_refused() -> None:
    encoded = encode_event(JsonPacket, ["x"], "/")
    with pytest.raises(TypeError, match=r"rooms .* text"):
        event_message(encoded, "/", [5])
    with pytest.raises(TypeError, match=r"clients .* text"):
        event_message(encoded, "/", skip_sids=[None])
    with pytest.raises(ValueError, match="10000"):
        event_message(encoded, "/", [str(number) for number in range(10_001)])


def test_results_and_errors_come_back_as_they_were() -> None:
    assert read_result("n", result_of({"a": b"1"})) == {"a": b"1"}
    for kind in (KeyError, ValueError, TypeError):
        with pytest.raises(kind) as error:
            read_result("n", failure_of(kind("why")))
        assert error.value.args == ("why",)
    with pytest.raises(NodeError, match="node n: LookupError: why"):
        read_result("n", failure_of(LookupError("why")))
    for data in (b"", b"\xc1", encode_value(5), encode_value([1, 2]), encode_value([])):
        with pytest.raises(NodeError, match="not understood"):
            read_result("n", data)


def test_values_that_cannot_be_carried_are_refused() -> None:
    with pytest.raises(TypeError):
        encode_value(object())
    with pytest.raises(ValueError, match="64 bits"):
        encode_value(1 << 70)
    with pytest.raises(EnvelopeError):
        decode_value(b"\xc1")

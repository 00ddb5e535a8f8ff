"""Events that are encoded already: what is added to them is what encoding anew would have given."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.codec import JsonPacket, MsgpackPacket, PacketError, json_packet_with
from gateway.encoded_events import (
    decode_event,
    encode_event,
    in_form_of,
    last_may_be_text,
    wire_class,
    with_ack_id,
    with_last_argument,
)
from transports.outbound import OutboundMessage

DATA: list[list[Any]] = [
    ["x"],
    ["x", 1, "text"],
    ["x", {"a": [1, None, "ü"]}],
    ["x", b"1", {"b": b"2"}],
    ['a "[{,-', '"]', "-["],
]
NAMESPACES = ["/", "/other", "/a[1]-ü"]
CLASSES = [JsonPacket, MsgpackPacket]


def parts(message: OutboundMessage) -> tuple[bytes | None, list[bytes]]:
    return message.text, list(message.attachments)


@pytest.mark.parametrize("packet_class", CLASSES)
@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("data", DATA)
def test_what_is_added_is_what_would_have_been_encoded(packet_class: Any, namespace: str, data: list[Any]) -> None:
    plain = encode_event(packet_class, data, namespace)
    for value in ("epoch-1", None):
        expected = encode_event(packet_class, [*data, value], namespace)
        assert parts(with_last_argument(plain, namespace, value)) == parts(expected)
    assert parts(with_ack_id(plain, namespace, 17)) == parts(encode_event(packet_class, data, namespace, 17))
    assert decode_event(plain) == data


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("data", DATA)
def test_event_of_another_serializer_becomes_one_of_ours(namespace: str, data: list[Any]) -> None:
    for theirs, ours in (CLASSES, CLASSES[::-1]):
        plain = encode_event(theirs, data, namespace)
        assert parts(in_form_of(ours, plain, namespace)) == parts(encode_event(ours, data, namespace))
        asking = with_ack_id(plain, namespace, 3)
        assert parts(in_form_of(ours, asking, namespace)) == parts(encode_event(ours, data, namespace, 3))
        assert in_form_of(theirs, plain, namespace) is plain


@pytest.mark.parametrize("packet_class", CLASSES)
def test_last_argument_may_be_text_where_it_is(packet_class: Any) -> None:
    for data, expected in ((["x"], False), (["x", "t"], True), (["x", 1], False), (["x", "t", {"a": "b"}], False)):
        assert last_may_be_text(encode_event(packet_class, data, "/")) is expected


def test_serializers_of_applications_travel_as_json() -> None:
    assert wire_class(json_packet_with(json)) is not JsonPacket
    assert issubclass(wire_class(json_packet_with(json)), JsonPacket)
    assert wire_class(object) is JsonPacket


@pytest.mark.parametrize("message", [OutboundMessage(b"42[", []), OutboundMessage(None, [b"\xc1"])])
def test_what_is_no_event_is_refused(message: OutboundMessage) -> None:
    with pytest.raises(PacketError):
        decode_event(message)

"""Engine.IO payloads, and Socket.IO packets in both wire forms: what can be read can be written and read again."""

from __future__ import annotations

import json
import struct
from math import isfinite
from typing import Any

from gateway.codec import (
    MAX_ATTACHMENTS,
    MAX_DEPTH,
    JsonPacket,
    MsgpackPacket,
    PacketError,
    json_packet_with,
    to_outbound,
)
from transports.errors import RemoteProtocolError
from transports.protocol.packets import (
    SEPARATOR_BYTE,
    Packet,
    PacketType,
    decode_packet,
    decode_payload,
    encode_binary,
)

from .choices import Choices, pieces

_JSON_PACKETS = (JsonPacket, json_packet_with(json))


def encode_engine_packet(packet: Packet) -> bytes:
    if isinstance(packet.data, bytes):
        return encode_binary(packet.data)
    return f"{packet.type:d}{packet.data}".encode()


def check_payload(data: bytes) -> None:
    try:
        packets = list(decode_payload(data))
    except RemoteProtocolError:
        return
    assert len(packets) == data.count(SEPARATOR_BYTE) + 1
    for packet in packets:
        assert packet.type in PacketType
        assert packet.type is PacketType.MESSAGE or isinstance(packet.data, str)
        encoded = encode_engine_packet(packet)
        assert SEPARATOR_BYTE not in encoded
        assert decode_packet(encoded.decode()) == packet
    assert list(decode_payload(SEPARATOR_BYTE.join(map(encode_engine_packet, packets)))) == packets


def read_json(packet_class: type[JsonPacket], text: str, attachments: list[bytes]) -> JsonPacket | None:
    """The packet; None where attachments are missing.

    Raises: PacketError.
    """
    packet = packet_class(encoded_packet=text)
    assert 0 <= packet.attachment_count <= MAX_ATTACHMENTS
    is_whole = not packet.attachment_count
    for attachment in attachments[: packet.attachment_count]:
        assert not is_whole
        is_whole = packet.add_attachment(attachment)
    assert is_whole == (len(attachments) >= packet.attachment_count)
    return packet if is_whole else None


def check_json(data: bytes) -> None:
    choices = Choices(data)
    packet_class = choices.pick(_JSON_PACKETS)
    attachment = bytes(choices.byte() for _ in range(choices.byte() % 4))
    count = choices.pick((0, 1, 2, 3, MAX_ATTACHMENTS, MAX_ATTACHMENTS + 1))
    text = choices.rest().decode(errors="replace")
    try:
        packet = read_json(packet_class, text, [attachment] * count)
    except PacketError:
        return
    if packet is None:
        return
    check_received(packet)
    assert packet.packet_type in (0, 1, 2, 3)
    message = to_outbound(packet)
    assert message.text is not None and message.text[:1] == b"4"
    again = read_json(packet_class, message.text[1:].decode(), list(message.attachments))
    assert again is not None
    packet.data = without_infinities(packet.data)
    check_same(again, packet)


def check_msgpack(data: bytes) -> None:
    try:
        packet = MsgpackPacket(encoded_packet=data)
    except PacketError:
        return
    check_received(packet)
    message = to_outbound(packet)
    assert message.text is None
    assert len(message.attachments) == 1
    check_same(MsgpackPacket(encoded_packet=message.attachments[0]), packet)


def check_text_is_refused_by_msgpack(text: str) -> None:
    try:
        MsgpackPacket(encoded_packet=text)
    except PacketError:
        return
    raise AssertionError("text was taken for MessagePack")


def without_infinities(value: Any) -> Any:
    """JSON has no word for them: another JSON module may read them, but they are sent on as null."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, list):
        return [without_infinities(item) for item in value]
    return {key: without_infinities(item) for key, item in value.items()} if isinstance(value, dict) else value


def check_received(packet: Any) -> None:
    assert depth(packet.data) <= MAX_DEPTH + 1
    assert packet.id is None or packet.id >= 0
    if packet.packet_type == 2:
        assert isinstance(packet.data[0], str) or type(packet.data[0]) is int


def check_same(again: Any, packet: Any) -> None:
    assert again.packet_type == packet.packet_type
    assert (again.namespace or "/") == (packet.namespace or "/")
    assert again.id == packet.id
    assert plain(again.data) == plain(packet.data), (again.data, packet.data)


def plain(value: Any) -> Any:
    """A form in which equal means equal: 1 is not True or 1.0, and a number that is none equals itself."""
    if isinstance(value, float):
        return float, "nan" if value != value else struct.pack("d", value)
    if isinstance(value, (list, tuple)):
        return type(value), [plain(item) for item in value]
    if isinstance(value, dict):
        return dict, [(key, plain(item)) for key, item in value.items()]
    return type(value), value


def depth(data: Any) -> int:
    deepest = 0
    level = [data]
    while level := [
        item
        for value in level
        if isinstance(value, (list, dict))
        for item in (value if isinstance(value, list) else value.values())
    ]:
        deepest += 1
    return deepest


def check_engine_pieces(data: bytes) -> None:
    """Several packets in one payload are what they are alone."""
    choices = Choices(data)
    cuts = choices.cuts()
    parts = pieces(choices.rest(), cuts) or [b""]
    alone: list[Packet] | None = []
    for part in parts:
        try:
            alone += decode_payload(part)
        except RemoteProtocolError:
            alone = None
            break
    try:
        together = list(decode_payload(SEPARATOR_BYTE.join(parts)))
    except RemoteProtocolError:
        together = None
    assert together == alone

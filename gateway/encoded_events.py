"""Events that are encoded already, by this node or another one, and what is added to them without encoding again.

An encoded event is an ``OutboundMessage`` without offset and without ack id. In its usual form, text with JSON, an
argument or an ack id is put in where it belongs; the binary form (MessagePack) has to be read and written once more.
"""

from __future__ import annotations

from typing import Any, Final

from transports.outbound import OutboundMessage

from . import codec
from .codec import EVENT, JsonPacket, MsgpackPacket, to_outbound

_BINARY_EVENT: Final = b"45"


def encode_event(packet_class: Any, data: list[Any], namespace: str, ack_id: int | None = None) -> OutboundMessage:
    """``data``: name and arguments. Raises: TypeError, ValueError for what cannot be encoded."""
    if packet_class is JsonPacket and ack_id is None:
        return codec.event(namespace, data)
    return to_outbound(packet_class(EVENT, namespace=namespace, data=data, id=ack_id))


def wire_class(packet_class: Any) -> Any:
    """With what a server of this ``packet_class`` encodes what goes to other nodes."""
    return packet_class if issubclass(packet_class, (JsonPacket, MsgpackPacket)) else JsonPacket


def with_last_argument(message: OutboundMessage, namespace: str, value: str | None) -> OutboundMessage:
    """The event with one argument more. ``value``: text that JSON need not escape, or None."""
    text = message.text
    if text is not None:
        last = b',"%b"]' % value.encode() if value is not None else b",null]"
        return OutboundMessage(text[:-1] + last, message.attachments)
    return encode_event(MsgpackPacket, [*decode_event(message), value], namespace)


def with_ack_id(message: OutboundMessage, namespace: str, ack_id: int) -> OutboundMessage:
    """The event as one that the client is to answer."""
    text = message.text
    if text is not None:
        start = text.index(b"-") + 1 if text.startswith(_BINARY_EVENT) else 2
        if namespace != "/":
            start += len(namespace.encode()) + 1
        return OutboundMessage(b"%b%d%b" % (text[:start], ack_id, text[start:]), message.attachments)
    return encode_event(MsgpackPacket, decode_event(message), namespace, ack_id)


def last_may_be_text(message: OutboundMessage) -> bool:
    """Whether a client may take its last argument for an offset. The name of an event without arguments is none."""
    if message.text is not None:
        return message.text.endswith(b'"]') and b"," in message.text
    data = decode_event(message)
    return len(data) > 1 and isinstance(data[-1], str)


def decode_event(message: OutboundMessage) -> list[Any]:
    """Name and arguments. Raises: PacketError for bytes that are none."""
    return list(_decode(message).data)


def _decode(message: OutboundMessage) -> Any:
    if message.text is None:
        return MsgpackPacket(encoded_packet=message.attachments[0])
    packet = JsonPacket(encoded_packet=message.text[1:].decode())
    for attachment in message.attachments:
        packet.add_attachment(attachment)
    return packet


def in_form_of(packet_class: Any, message: OutboundMessage, namespace: str) -> OutboundMessage:
    """The event as servers of this ``packet_class`` send it, where the other node's is another.

    Raises: PacketError for bytes that are no event.
    """
    if packet_class is JsonPacket or issubclass(packet_class, JsonPacket):
        if message.text is not None:
            return message
    elif issubclass(packet_class, MsgpackPacket) and message.text is None:
        return message
    packet = _decode(message)
    return encode_event(packet_class, list(packet.data), namespace, packet.id)

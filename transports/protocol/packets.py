"""Engine.IO packets: what the characters of one packet, and of a payload of several, mean.

Spec: Engine.IO v4, "Packet encoding".
"""

from __future__ import annotations

import binascii
from enum import IntEnum
from typing import NamedTuple

from .. import catalogue
from ..errors import RemoteProtocolError

SEPARATOR = "\x1e"
SEPARATOR_BYTE = b"\x1e"


class PacketType(IntEnum):
    OPEN = 0
    CLOSE = 1
    PING = 2
    PONG = 3
    MESSAGE = 4
    UPGRADE = 5
    NOOP = 6


class Packet(NamedTuple):
    """``data`` is text, or bytes for a binary message."""

    type: PacketType
    data: str | bytes


# Only ASCII digits: int() would also take the digits of every other script.
_TYPES = {str(int(packet_type)): packet_type for packet_type in PacketType}


def decode_packet(encoded: str) -> Packet:
    """One text packet. ``b`` begins a binary message in base64, as in payloads.

    Raises: RemoteProtocolError for an empty packet, an unknown type or broken base64.
    """
    if not encoded:
        raise RemoteProtocolError(catalogue.EMPTY_PACKET)
    packet_type = _TYPES.get(encoded[0])
    if packet_type is not None:
        return Packet(packet_type, encoded[1:])
    if encoded[0] == "b":
        try:
            return Packet(PacketType.MESSAGE, binascii.a2b_base64(encoded[1:], strict_mode=True))
        except ValueError as error:
            raise RemoteProtocolError(catalogue.BAD_BASE64) from error
    raise RemoteProtocolError(catalogue.UNKNOWN_PACKET_TYPE)


def decode_payload(body: bytes) -> list[Packet]:
    """The packets of one HTTP request body, oldest first.

    Raises: RemoteProtocolError as ``decode_packet``, or for a body that is not UTF-8.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(catalogue.PAYLOAD_NOT_UTF8) from error
    return [decode_packet(encoded) for encoded in text.split(SEPARATOR)]


def encode_binary(data: bytes) -> bytes:
    """A binary message as a text packet, for transports that carry text only."""
    return b"b" + binascii.b2a_base64(data, newline=False)

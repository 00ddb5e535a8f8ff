"""Engine.IO packets: what the characters of one packet, and of a payload of several, mean.

Spec: Engine.IO v4, "Packet encoding".
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
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


def packet_count(body: bytes) -> int:
    """How many packets ``decode_payload`` finds in ``body``, where none is broken."""
    return body.count(SEPARATOR_BYTE) + 1


def decode_payload(body: bytes) -> Iterator[Packet]:
    """The packets of one HTTP request body, oldest first, each decoded when it is asked for.

    A body can hold half a million of them: whoever takes them can let others have their turn in between, and those
    before a broken one are taken.

    Raises: RemoteProtocolError as ``decode_packet``, or for a packet that is not UTF-8; from ``next``.
    """
    begin = 0
    while begin >= 0:
        end = body.find(SEPARATOR_BYTE, begin)
        encoded = body[begin:] if end < 0 else body[begin:end]
        try:
            text = encoded.decode()
        except UnicodeDecodeError as error:
            raise RemoteProtocolError(catalogue.PAYLOAD_NOT_UTF8) from error
        yield decode_packet(text)
        begin = end if end < 0 else end + 1


def encode_binary(data: bytes) -> bytes:
    """A binary message as a text packet, for transports that carry text only."""
    return b"b" + binascii.b2a_base64(data, newline=False)

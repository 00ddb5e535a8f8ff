"""Compressed messages: agreeing on them, and both directions of the compression.

Every message stands for itself (no context takeover, either way): a broadcast is compressed once for all of its
recipients, and no connection keeps a compressor.

Spec: RFC 7692, section 7; RFC 6455, section 9.1 for the header's grammar.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

from .. import catalogue
from ..errors import RemoteProtocolError

_NAME: Final = "permessage-deflate"
_SYNC_FLUSH: Final = b"\x00\x00\xff\xff"
#: An empty last block. Behind the sync marker it is found at the start of a block, or the data before was cut off.
_LAST_BLOCK: Final = b"\x03\x00"
#: DEFLATE streams, one after the other, that one message may consist of. A sender that ends a message with a last
#: block makes two; each costs an inflater, and two bytes of input can make one.
_MAX_STREAMS: Final = 16

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - RFC 9110's word for it
_EXTENSION = re.compile(rf'[ \t]*({_TOKEN})((?:[ \t]*;[ \t]*{_TOKEN}(?:=(?:{_TOKEN}|"[^"\\]*"))?)*)[ \t]*(?:,|$)')
_PARAMETER = re.compile(rf';[ \t]*({_TOKEN})(?:=(?:({_TOKEN})|"([^"\\]*)"))?')
_BITS = re.compile("[89]|1[0-5]")


class DeflateAgreement(NamedTuple):
    """What was agreed with one client.

    ``window_bits``: of our compressor. ``answer``: the value of the response's Sec-WebSocket-Extensions.
    """

    window_bits: int
    answer: str


def agree(offers: str) -> DeflateAgreement | None:
    """The first offer of a Sec-WebSocket-Extensions header that can be accepted; None means no compression.

    Offers with parameters that are unknown, repeated or out of range are passed over, and so is everything behind
    a syntax error.
    """
    for name, parameters in _extensions(offers):
        if name == _NAME:
            agreement = _accept(parameters)
            if agreement is not None:
                return agreement
    return None


def _extensions(header: str) -> Iterator[tuple[str, list[tuple[str, str | None]]]]:
    position = 0
    while position < len(header) and (match := _EXTENSION.match(header, position)) is not None:
        parameters = [
            (found[1], found[2] if found[2] is not None else found[3]) for found in _PARAMETER.finditer(match[2])
        ]
        yield match[1], parameters
        position = match.end()


def _accept(parameters: list[tuple[str, str | None]]) -> DeflateAgreement | None:
    seen = dict(parameters)
    if len(seen) < len(parameters):
        return None
    window_bits = zlib.MAX_WBITS
    answer = f"{_NAME}; server_no_context_takeover; client_no_context_takeover"
    for name, value in seen.items():
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                return None
        elif name == "client_max_window_bits":
            # Our inflater takes any window, so the client need not be held to one.
            if value is not None and _BITS.fullmatch(value) is None:
                return None
        elif name == "server_max_window_bits" and value is not None and _BITS.fullmatch(value) is not None:
            window_bits = int(value)
            if window_bits == 8:
                return None  # zlib has no raw stream of this window
            answer += f"; server_max_window_bits={window_bits}"
        else:
            return None
    return DeflateAgreement(window_bits, answer)


def deflate(data: bytes, window_bits: int) -> bytes:
    """The payload of a compressed message, at the level that costs least. Spec: RFC 7692, section 7.2.1."""
    packer = zlib.compressobj(level=1, wbits=-window_bits)
    packed = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    return packed[:-4]


def inflate(data: bytes, max_bytes: int) -> bytes:
    """The message that was compressed; no more than ``max_bytes`` and one are ever made of it.

    Raises: RemoteProtocolError (1009) where it is longer, (1007) where the data is broken or cut off.
    Spec: RFC 7692, section 7.2.2.
    """
    rest = data + _SYNC_FLUSH + _LAST_BLOCK
    parts = []
    room = max_bytes + 1
    for _ in range(_MAX_STREAMS):
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            part = unpacker.decompress(rest, room)
        except zlib.error as error:
            raise RemoteProtocolError(catalogue.BAD_COMPRESSION, fault="not valid DEFLATE data") from error
        room -= len(part)
        if room <= 0:
            raise RemoteProtocolError(catalogue.INFLATED_TOO_BIG)
        parts.append(part)
        rest = unpacker.unused_data
        if not unpacker.eof:
            raise RemoteProtocolError(catalogue.BAD_COMPRESSION, fault="cut off")
        if not rest:
            return part if len(parts) == 1 else b"".join(parts)
    raise RemoteProtocolError(catalogue.BAD_COMPRESSION, fault="too many final blocks")

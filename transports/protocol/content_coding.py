"""Compressed request bodies: what they inflate to, within a bound.

Spec: RFC 9110, section 8.4; RFC 1950 to 1952.
"""

from __future__ import annotations

import zlib
from typing import Final

from .. import catalogue
from ..errors import RemoteProtocolError

#: What a refusal for another coding names in Accept-Encoding.
ACCEPTED: Final = "gzip, deflate, identity"
#: Gzip streams that may follow each other in one body, as tools that compress in parallel write them.
MAX_MEMBERS: Final = 64

_GZIP = 16 + zlib.MAX_WBITS
_NAMES = {"": "", "identity": "", "gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate"}


def content_coding(header: str) -> str | None:
    """``gzip``, ``deflate`` or empty for a Content-Encoding header; None for any other coding, and for several."""
    return _NAMES.get(header.strip().lower())


def inflate(coding: str, data: bytes, limit: int) -> bytes:
    """The body that ``data`` stands for. Stops as soon as that is over ``limit`` bytes.

    Raises: RemoteProtocolError.
    """
    if not coding:
        return data
    window = _GZIP if coding == "gzip" else _deflate_window(data)
    parts = []
    size = 0
    for _ in range(MAX_MEMBERS):
        stream = zlib.decompressobj(window)
        try:
            part = stream.decompress(data, limit - size + 1)
        except zlib.error as error:
            raise RemoteProtocolError(catalogue.BAD_BODY, fault=f"it is not in the coding {coding}") from error
        size += len(part)
        if size > limit:
            raise RemoteProtocolError(catalogue.BODY_TOO_LARGE, limit=limit)
        if not stream.eof:
            raise RemoteProtocolError(catalogue.BAD_BODY, fault=f"the coding {coding} ends too early")
        parts.append(part)
        data = stream.unused_data
        if not data:
            return b"".join(parts)
        if coding != "gzip":
            break
    raise RemoteProtocolError(catalogue.BAD_BODY, fault=f"the coding {coding} goes on behind its end")


def _deflate_window(data: bytes) -> int:
    """``deflate`` is the zlib format; some clients send the bare stream that lies in it."""
    has_header = len(data) >= 2 and data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS

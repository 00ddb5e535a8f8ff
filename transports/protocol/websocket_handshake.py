"""The opening handshake of a WebSocket, server side.

Spec: RFC 6455, section 4.2.
"""

from __future__ import annotations

import binascii
import hashlib

from .. import catalogue
from ..errors import RequestRefused
from ..request import HttpRequest

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "


def asks_for_websocket(request: HttpRequest) -> bool:
    """Whether the request wants to leave HTTP for a WebSocket, well-formed or not."""
    return "websocket" in request.headers.get("upgrade", "").lower()


def check(request: HttpRequest) -> bytes:
    """The key to answer with ``accept``.

    Raises: RequestRefused (426 for a version we do not speak, as section 4.4 asks).
    """
    headers = request.headers
    connection = headers.get("connection", "").lower()
    if connection != "upgrade" and "upgrade" not in [option.strip() for option in connection.split(",")]:
        raise RequestRefused(catalogue.NOT_AN_UPGRADE)
    if headers.get("upgrade", "").strip().lower() != "websocket":
        raise RequestRefused(catalogue.NOT_AN_UPGRADE)
    if request.method != "GET" or request.http_version < (1, 1):
        raise RequestRefused(catalogue.UPGRADE_METHOD)
    if headers.get("content-length", "0").strip("0") or "transfer-encoding" in headers:
        raise RequestRefused(catalogue.UPGRADE_BODY)
    if headers.get("sec-websocket-version") != "13":
        raise RequestRefused(catalogue.WEBSOCKET_VERSION)
    key = headers.get("sec-websocket-key", "").encode(errors="replace")
    try:
        valid = len(key) == 24 and len(binascii.a2b_base64(key, strict_mode=True)) == 16
    except binascii.Error:
        valid = False
    if not valid:
        raise RequestRefused(catalogue.WEBSOCKET_KEY)
    return key


def accept(key: bytes, extra_headers: bytes = b"") -> bytes:
    """The 101 response. ``extra_headers`` are whole lines, each ended by CR LF."""
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return b"%b%b\r\n%b\r\n" % (_SWITCHING, binascii.b2a_base64(digest, newline=False), extra_headers)

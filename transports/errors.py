"""What can go wrong below Socket.IO.

::

    EngineError
    ├── ProtocolError
    │   ├── LocalProtocolError    our own bug
    │   └── RemoteProtocolError   the peer broke the protocol
    ├── SessionError              unknown, expired or mismatched session
    └── RequestRefused            an HTTP request gets an error answer
"""

from __future__ import annotations

from enum import IntEnum


class EngineError(Exception):
    """Root of this layer's errors."""


class ProtocolError(EngineError):
    """Somebody did what the protocol does not allow."""


class LocalProtocolError(ProtocolError):
    """We were about to; nothing went out."""


class RemoteProtocolError(ProtocolError):
    """The peer did.

    ``close_code`` is the WebSocket close code (RFC 6455, section 7.4.1) that tells it so.
    """

    def __init__(self, message: str, close_code: int = 1002) -> None:
        super().__init__(message)
        self.message = message
        self.close_code = close_code


class SessionError(EngineError):
    """The session does not exist, or cannot do this now."""


class ErrorCode(IntEnum):
    """The numbers of Engine.IO's JSON error bodies, as the reference server sends them."""

    UNKNOWN_TRANSPORT = 0
    UNKNOWN_SESSION = 1
    BAD_HANDSHAKE_METHOD = 2
    BAD_REQUEST = 3
    FORBIDDEN = 4
    UNSUPPORTED_VERSION = 5


class RequestRefused(EngineError):  # noqa: N818 - said of the request, as a verb
    """An HTTP request is answered with ``status`` and ``{"code": code, "message": message}``."""

    def __init__(self, code: ErrorCode, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

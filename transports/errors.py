"""What can go wrong below Socket.IO.

::

    EngineError
    ├── LocalProtocolError        our own bug
    └── RefusedError              what a row of the catalogue says
        ├── RemoteProtocolError   the peer broke the protocol
        └── RequestRefused        an HTTP request gets an error answer
"""

from __future__ import annotations

from typing import Any

from .refusals import CloseCode, Refusal


class EngineError(Exception):
    """Root of this layer's errors."""


class LocalProtocolError(EngineError):
    """We were about to do what the protocol does not allow; nothing went out."""


class RefusedError(EngineError):
    """``refusal`` is the row of the catalogue; ``fields`` fill in its message."""

    def __init__(self, refusal: Refusal, **fields: Any) -> None:
        self.refusal = refusal
        self.message = refusal.text(**fields)
        super().__init__(self.message)

    @property
    def close_code(self) -> int:
        """What a WebSocket is closed with."""
        return self.refusal.close_code or CloseCode.PROTOCOL_ERROR


class RemoteProtocolError(RefusedError):
    """The peer did what the protocol does not allow."""


class RequestRefused(RefusedError):  # noqa: N818 - said of the request, as a verb
    """An HTTP request is answered with the row's status and ``{"code": …, "message": …}``."""

"""What a refusal is.

A *refusal* is the one answer to something that a peer did, or to a bound that it ran into. A row says what the
peer sees, what ends, whether coming back makes sense, under which name it is counted and how loudly it is logged.
The rows are in ``transports.catalogue`` and, for Socket.IO, in ``gateway.catalogue``. Whoever refuses names a row:
no status, close code or message is written down anywhere else.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Any, Final

from . import reasons


class ErrorCode(IntEnum):
    """The numbers of Engine.IO's JSON error bodies, as the reference server sends them."""

    UNKNOWN_TRANSPORT = 0
    UNKNOWN_SESSION = 1
    BAD_HANDSHAKE_METHOD = 2
    BAD_REQUEST = 3
    FORBIDDEN = 4
    UNSUPPORTED_VERSION = 5


class CloseCode(IntEnum):
    """Spec: RFC 6455, section 7.4.1, and the registry it opens."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012


class Door(StrEnum):
    """Where the peer stood."""

    HTTP = "HTTP"
    WEBSOCKET = "WebSocket"
    ENGINE = "Engine.IO"
    SOCKET = "Socket.IO"


class Ends(StrEnum):
    """What is over after the refusal."""

    MESSAGE = "nothing: the message is dropped"
    #: The ack is ``[kind, {"message": …}]``: see ``docs/delivery-from-clients.md``.
    ANSWERED = "nothing: the ack of the message says so"
    REQUEST = "the request"
    UPGRADE = "the upgrade; the session goes on"
    NAMESPACE = "the attempt to join the namespace"
    SESSION = "the session"


class Retry(StrEnum):
    """Whether the client should try again."""

    NO = "no"
    #: With a new session, after its usual back-off.
    ANEW = "anew"
    #: Not before ``RETRY_AFTER_S``.
    LATER = "later"


#: What the Retry-After header of refusals says that are over after a while.
RETRY_AFTER_S: Final = 5


@dataclass(frozen=True, slots=True)
class Refusal:
    """One row.

    ``name``: under which it is counted and logged. ``when``: the condition, for the documentation.
    ``message``: what the peer is told, with fields in braces. ``status`` and ``code``: the answer to an HTTP
    request; ``close_code``: that on a WebSocket; either is None where it cannot come to that.
    ``reason``: what the disconnect handler is told, where the session ends.
    """

    name: str
    door: Door
    when: str
    message: str
    ends: Ends
    retry: Retry
    status: int | None = None
    code: ErrorCode | None = None
    close_code: int | None = None
    reason: str | None = None
    level: int = logging.INFO

    def text(self, **fields: Any) -> str:
        """The message with its fields filled in. Raises: KeyError for a field that is missing."""
        return self.message.format(**fields) if fields else self.message


# -- the shapes that rows have -----------------------------------------------------------------------------------


def request(
    name: str,
    status: int,
    message: str,
    when: str,
    code: ErrorCode = ErrorCode.BAD_REQUEST,
    retry: Retry = Retry.NO,
    *,
    level: int = logging.INFO,
) -> Refusal:
    """A request is answered with an error, and that is all."""
    return Refusal(name, Door.HTTP, when, message, Ends.REQUEST, retry, status, code, level=level)


def ending_request(name: str, status: int, message: str, when: str) -> Refusal:
    """A request is answered with an error, and its session closed."""
    return replace(packet(name, Door.HTTP, message, when), status=status)


def frame(name: str, message: str, when: str, close_code: CloseCode = CloseCode.PROTOCOL_ERROR) -> Refusal:
    """The peer broke the framing of a WebSocket, which is closed."""
    return replace(packet(name, Door.WEBSOCKET, message, when), status=None, code=None, close_code=close_code)


def packet(name: str, door: Door, message: str, when: str) -> Refusal:
    """A packet that the protocol does not allow: the session is closed, and a POST that brought it refused."""
    return Refusal(
        name,
        door,
        when,
        message,
        Ends.SESSION,
        Retry.ANEW,
        400,
        ErrorCode.BAD_REQUEST,
        CloseCode.PROTOCOL_ERROR,
        reasons.PARSE_ERROR,
    )


def upgrade(name: str, message: str, when: str, close_code: CloseCode = CloseCode.PROTOCOL_ERROR) -> Refusal:
    """The connection that tried to take over is closed, or its request answered with an error."""
    return Refusal(name, Door.ENGINE, when, message, Ends.UPGRADE, Retry.NO, 400, ErrorCode.BAD_REQUEST, close_code)


def closing(
    name: str,
    reason: str,
    when: str,
    close_code: CloseCode | None,
    retry: Retry = Retry.ANEW,
    *,
    level: int = logging.INFO,
) -> Refusal:
    """A bound, or a decision of the server, ends the session; a WebSocket is told the reason."""
    return Refusal(
        name, Door.ENGINE, when, reason, Ends.SESSION, retry, close_code=close_code, reason=reason, level=level
    )


def rows(module: dict[str, Any]) -> tuple[Refusal, ...]:
    """The rows of a catalogue, which is a module with a name for each."""
    return tuple(value for value in module.values() if isinstance(value, Refusal))

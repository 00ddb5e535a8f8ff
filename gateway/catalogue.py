"""The catalogue of refusals, whole: the rows of Socket.IO, and with them those of ``transports.catalogue``."""

from __future__ import annotations

import logging
from typing import Final

from transports import catalogue
from transports.refusals import Door, Ends, Refusal, Retry, packet, rows


def _packet(name: str, message: str, when: str) -> Refusal:
    return packet(name, Door.SOCKET, message, when)


def _join(name: str, message: str, when: str, retry: Retry = Retry.NO, level: int = logging.INFO) -> Refusal:
    """The client is answered with CONNECT_ERROR and ``{"message": ...}``; its other namespaces are not touched."""
    return Refusal(name, Door.SOCKET, when, message, Ends.NAMESPACE, retry, level=level)


def _dropped(name: str, message: str, when: str, level: int = logging.INFO) -> Refusal:
    """Nobody is told: there is nothing that the peer could do better now."""
    return Refusal(name, Door.SOCKET, when, message, Ends.MESSAGE, Retry.NO, level=level)


def _answered(name: str, message: str, when: str, retry: Retry = Retry.NO, level: int = logging.INFO) -> Refusal:
    """The ack of a message sent with ``tidegate:once`` is a number other than 0 and ``{"message": ...}``."""
    return Refusal(name, Door.SOCKET, when, message, Ends.ANSWERED, retry, level=level)


# -- packets -----------------------------------------------------------------------------------------------------

UNKNOWN_TYPE = _packet("unknown_socket_packet", "unknown packet type", "the type is not one of the ASCII digits 0 to 6")
STRAY_BINARY = _packet(
    "stray_binary", "binary message without a packet that announces it", "a binary message that no packet announced"
)
NO_ATTACHMENT_COUNT = _packet(
    "no_attachment_count",
    "binary packet without a number of attachments",
    "types 5 and 6 without ASCII digits and a dash behind them",
)
TOO_MANY_ATTACHMENTS = _packet(
    "too_many_attachments", "more than {limit} attachments", "a packet announces more attachments than may be"
)
ATTACHMENTS_TOO_BIG = _packet(
    "attachments_too_big",
    "the attachments of a packet are over {limit} bytes together",
    "a packet and its attachments are over `max_attachments_bytes`",
)
NAMESPACE_TOO_LONG = _packet("namespace_too_long", "namespace is too long", "a namespace of more than 256 characters")
BAD_NAMESPACE = _packet("bad_namespace", "malformed namespace", "msgpack: a namespace that is no text with a slash")
BAD_JSON = _packet(
    "bad_json", "payload is not JSON", "the payload is not JSON, or has NaN, Infinity or a lone surrogate"
)
BAD_ACK_ID = _packet("bad_ack_id", "malformed ack id", "msgpack: an ack id that is no integer of 0 or more")
ACK_ID_TOO_LONG = _packet("ack_id_too_long", "ack id is too long", "an ack id of more than 16 digits")
TEXT_FOR_ATTACHMENT = _packet(
    "text_for_attachment", "text where an attachment is due", "a text message comes before all attachments have"
)
BAD_PLACEHOLDER = _packet(
    "bad_placeholder",
    "a placeholder without its attachment",
    "a placeholder whose number is no integer, out of range, or used before",
)
SPARE_ATTACHMENT = _packet(
    "spare_attachment", "an attachment without its placeholder", "more attachments than placeholders"
)
TOO_DEEP = _packet(
    "too_deep",
    "payload is nested more than {limit} levels deep",
    "arrays and objects inside each other, too many times",
)
NO_EVENT_NAME = _packet("no_event_name", "event without its name", "the payload of an event is no array, or empty")
BAD_EVENT_NAME = _packet(
    "bad_event_name", "event name must be text or an integer", "an event whose name is something else"
)
RESERVED_EVENT = _packet(
    "reserved_event", "event name {name!r} is reserved", "an event named as those that the libraries emit themselves"
)
BAD_ACK = _packet("bad_ack", "malformed ack", "an ack without an id, or whose payload is no array")
BAD_AUTH = _packet("bad_auth", "auth payload must be an object", "the payload of CONNECT is no object")
STRAY_ACK_ID = _packet("stray_ack_id", "only events and acks have an ack id", "a CONNECT or DISCONNECT with an ack id")
DISCONNECT_PAYLOAD = _packet("disconnect_payload", "disconnect with a payload", "a DISCONNECT with a payload")
CLIENT_CONNECT_ERROR = _packet(
    "client_connect_error", "only servers send CONNECT_ERROR", "a client sends CONNECT_ERROR"
)
NOT_JOINED = _packet(
    "not_joined", "packet for {namespace}, which was not joined", "an event or ack for a namespace never joined"
)
NOT_MSGPACK = _packet("not_msgpack", "packet is not MessagePack", "msgpack: the message cannot be read, or is no map")
TEXT_FOR_MSGPACK = _packet("text_for_msgpack", "text message; this server speaks msgpack", "msgpack: a text message")
CUSTOM_PACKET = _packet("custom_packet", "malformed packet", "a packet class of the application raised")

# -- joining a namespace ---------------------------------------------------------------------------------------

INVALID_NAMESPACE = _join("invalid_namespace", "Invalid namespace", "nothing is registered for the namespace")
ALREADY_JOINED = _join(
    "already_joined", "Already connected to this namespace", "CONNECT for a namespace that was joined"
)
TOO_MANY_NAMESPACES = _join(
    "too_many_namespaces",
    "Too many namespaces: {limit} are allowed",
    "a connection asks for more than `max_namespaces`",
    level=logging.WARNING,
)
JOIN_REFUSED = _join(
    "join_refused", "{text}", "the connect handler or a middleware refused, in its own words and with its own data"
)
JOIN_FAILED = _join("join_failed", "Internal server error", "the connect handler raised", Retry.LATER, logging.ERROR)

# -- messages that go nowhere ---------------------------------------------------------------------------------

UNKNOWN_ACK = _dropped(
    "unknown_ack",
    "ack {ack_id}, which nobody waits for",
    "an ack whose id was never given, answered before or given up",
)
LATE_EVENT = _dropped(
    "late_event", "packet for {namespace}, which was just left", "an event or ack for a namespace that was left"
)
UNHANDLED_EVENT = _dropped("unhandled_event", "no handler for {event!r}", "an event that no handler is registered for")
ACK_GIVEN_UP = _dropped(
    "ack_given_up",
    "the oldest ack is not awaited any more: {limit} are pending",
    "the server waits for more than `max_pending_acks` acks of one connection",
    logging.WARNING,
)
TOO_MANY_ROOMS = _dropped(
    "too_many_rooms",
    "the client is in {limit} rooms already",
    "a handler puts a connection into more than `max_rooms` rooms: it gets `TooManyRoomsError`, and the client as ack "
    'its `{"message": ...}`',
    logging.WARNING,
)

# -- messages sent with tidegate:once ----------------------------------------------------------------------------

EVENT_FAILED = _answered("event_failed", "Internal server error", "number 1: the handler of the message raised")
ONCE_SETTLED = _answered(
    "once_settled",
    "message {number} was settled before, and its answer is forgotten",
    "number 3: a copy of a message below the highest floor of its stream",
)
BAD_ONCE = _answered(
    "bad_once",
    "malformed tidegate:once: {fault}",
    "number 4: stream, number, floor or event are not as they must be. Without an ack id the message is dropped",
)
ONCE_OUTSTANDING = _answered(
    "once_outstanding",
    "{limit} messages of the stream are not settled",
    "number 4: a message is that far above the floor of its stream",
    Retry.LATER,
)
TOO_MANY_STREAMS = _answered(
    "too_many_streams",
    "{limit} streams of one client are allowed",
    "number 4: a client sends messages of more streams than that in one namespace",
    level=logging.WARNING,
)
ONCE_FULL = _answered(
    "once_full",
    "the server remembers as many messages as it may",
    "number 4: `max_once_streams` or `max_once_bytes` is reached, and handlers of all streams run",
    Retry.LATER,
    logging.WARNING,
)
COPY_GIVEN_UP = _dropped(
    "copy_given_up",
    "a copy of message {number} is not answered: {limit} newer ones wait",
    "more copies of one message wait for its handler than that: the newest are answered",
)

#: All rows, those of the layer below first.
ROWS: Final[tuple[Refusal, ...]] = (*catalogue.ROWS, *rows(globals()))

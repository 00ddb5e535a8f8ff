"""The catalogue of refusals below Socket.IO: one row for each thing that a peer can do wrong or run into.

``gateway.catalogue`` adds the rows of Socket.IO; ``docs/refusals.md`` and the table of the JavaScript client are
written from both. What the columns mean is said in ``transports.refusals``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from . import reasons
from .refusals import (
    CloseCode,
    Door,
    ErrorCode,
    Refusal,
    Retry,
    closing,
    ending_request,
    frame,
    packet,
    request,
    rows,
    upgrade,
)

# -- HTTP: the head and body of a request ----------------------------------------------------------------

BAD_REQUEST_LINE = request(
    "bad_request_line", 400, "Bad request: malformed request line", "the request line is not HTTP/1.0 or 1.1"
)
BAD_HEADER = request(
    "bad_header",
    400,
    "Bad request: malformed header",
    "a header line is folded, has a control character, no colon or a space before it",
)
REPEATED_HEADER = request(
    "repeated_header",
    400,
    "Bad request: header {name} is given more than once",
    "a header that may stand once only is repeated",
)
NO_HOST = request("no_host", 400, "Bad request: no Host header", "HTTP/1.1 without a Host header")
BAD_FRAMING = request(
    "bad_framing",
    400,
    "Bad request: unsupported or ambiguous body framing",
    "Content-Length beside Transfer-Encoding, or a transfer coding other than chunked",
)
BAD_LENGTH = request(
    "bad_length", 400, "Bad request: malformed Content-Length", "a Content-Length that is not ASCII digits"
)
BARE_LINE_END = request(
    "bare_line_end", 400, "Bad request: lines must end in CR LF", "a line of the head ends in a bare line feed"
)
TARGET_TOO_LONG = request(
    "target_too_long", 414, "The request target is over the limit of {limit} bytes", "path and query are over 8 KiB"
)
HEAD_TOO_LARGE = request(
    "head_too_large",
    431,
    "The request header is over the limit of {limit} bytes",
    "request line and headers are over 16 KiB",
)
REQUEST_TIMEOUT = request(
    "request_timeout",
    408,
    "The request took too long to arrive",
    "a request's head or body is not complete in time",
    retry=Retry.ANEW,
)
NOT_FOUND = request(
    "not_found", 404, "Not found", "the path is not the engine's, and no application stands behind the listener"
)
BODY_TOO_LARGE = ending_request(
    "body_too_large",
    413,
    "The body is over the limit of {limit} bytes",
    "a POST carries more than `max_payload_bytes`; said before the body is read",
)
BAD_BODY = ending_request(
    "bad_body", 400, "The body cannot be read: {fault}", "a chunked or compressed body is malformed"
)
UNKNOWN_CODING = ending_request(
    "unknown_coding", 415, "Content-Encoding must be one of {allowed}", "a body in another coding, or in several"
)

# -- HTTP: what the parameters ask for -------------------------------------------------------------------

BAD_QUERY = request(
    "bad_query",
    400,
    "The query string cannot be read",
    "the query is not UTF-8 after unquoting, or has more than 100 fields",
)
REPEATED_PARAMETER = request(
    "repeated_parameter", 400, "Parameter {name!r} is given more than once", "a parameter that we read is given twice"
)
BAD_PARAMETER = request(
    "bad_parameter", 400, "Parameter {name!r} must be {allowed}", "`ack`, `padding` or `j` is not a number in its range"
)
UNKNOWN_TRANSPORT = request(
    "unknown_transport",
    400,
    "Transport unknown; allowed are {allowed}",
    "`transport` is missing, or none that is offered",
    ErrorCode.UNKNOWN_TRANSPORT,
)
UNSUPPORTED_VERSION = request(
    "unsupported_version",
    400,
    "Unsupported protocol version; EIO must be 4",
    "`EIO` is missing or not 4",
    ErrorCode.UNSUPPORTED_VERSION,
)
BAD_METHOD = request(
    "bad_method",
    400,
    "Bad handshake method; it must be GET",
    "a method other than GET, POST and OPTIONS, or a POST without `sid`",
    ErrorCode.BAD_HANDSHAKE_METHOD,
)
ORIGIN_REFUSED = request(
    "origin_refused",
    403,
    "{origin} is not an accepted origin; expected {expected} ({hint})",
    "the Origin header is not among those allowed",
    ErrorCode.FORBIDDEN,
)
UNKNOWN_SESSION = request(
    "unknown_session",
    400,
    "Session ID unknown",
    "the session has ended, or never was here",
    ErrorCode.UNKNOWN_SESSION,
    Retry.ANEW,
)
WRONG_TRANSPORT = request(
    "wrong_transport",
    400,
    "The session is on transport {transport}",
    "a request names another transport than its session's",
    retry=Retry.ANEW,
)

# -- HTTP: the handshake ---------------------------------------------------------------------------------

HANDSHAKE_REFUSED = request(
    "handshake_refused", 401, "{text}", "the application refused the handshake, in its own words", ErrorCode.FORBIDDEN
)
LEFT_EARLY = request(
    "left_early",
    401,
    "The session was closed",
    "the server closed the session while the application was thinking",
    ErrorCode.FORBIDDEN,
    Retry.ANEW,
)
DRAINING = request(
    "draining",
    503,
    "The server is shutting down; connect to another",
    "a handshake comes while the server drains",
    ErrorCode.FORBIDDEN,
    Retry.LATER,
)
TOO_MANY_CONNECTIONS = request(
    "too_many_connections",
    503,
    "The server is full: it holds {limit} connections; come back later",
    "`max_connections` sessions are open",
    ErrorCode.FORBIDDEN,
    Retry.LATER,
    level=logging.WARNING,
)
TOO_MANY_FROM_ADDRESS = request(
    "too_many_from_address",
    429,
    "Too many connections from {address}: {limit} are allowed",
    "`max_connections_per_address` sessions of one client address are open",
    ErrorCode.FORBIDDEN,
    Retry.LATER,
    level=logging.WARNING,
)
TOO_MANY_HANDSHAKES = request(
    "too_many_handshakes",
    429,
    "Too many handshakes from {address}: {rate} a second are allowed",
    "one client address connects faster than `handshakes_per_second`",
    ErrorCode.FORBIDDEN,
    Retry.LATER,
    level=logging.WARNING,
)
UPGRADE_ELSEWHERE = request(
    "upgrade_elsewhere",
    400,
    "Upgrade: websocket with transport={transport}",
    "a WebSocket handshake names another transport",
)
NOT_AN_UPGRADE = request(
    "not_an_upgrade",
    400,
    "Not a WebSocket handshake: Upgrade: websocket is missing",
    "`transport=websocket` without Upgrade and Connection headers",
)
UPGRADE_METHOD = request(
    "upgrade_method", 400, "A WebSocket handshake is a GET of HTTP/1.1", "a WebSocket handshake of HTTP/1.0"
)
UPGRADE_BODY = request("upgrade_body", 400, "A WebSocket handshake has no body", "a WebSocket handshake with a body")
WEBSOCKET_VERSION = request(
    "websocket_version", 426, "Sec-WebSocket-Version must be 13", "another version of the WebSocket protocol"
)
WEBSOCKET_KEY = request(
    "websocket_key",
    400,
    "Sec-WebSocket-Key must be 16 bytes in base64",
    "the key of a WebSocket handshake is malformed",
)

# -- HTTP: requests of a session -------------------------------------------------------------------------

OVERLAPPING_GET = ending_request(
    "overlapping_get",
    400,
    "Another GET of this session is waiting",
    "two GET requests of one long-polling session at a time",
)
OVERLAPPING_POST = ending_request(
    "overlapping_post",
    400,
    "Another POST of this session is being received",
    "two POST requests of one session at a time",
)
ACK_MISSING = ending_request(
    "ack_missing",
    400,
    "No 'ack' tells where this response has to go on",
    "a second xhr-streaming response without `ack` while one is open, or after it was given once",
)
ACK_LATE = ending_request(
    "ack_late", 400, "The first request of this session did not say 'ack'", "`ack` begins in mid-session"
)
ACK_WRONG = ending_request(
    "ack_wrong",
    400,
    "'ack' is not between what was acknowledged and what was sent",
    "`ack` counts packets that were never sent, or fewer than were acknowledged",
)

# -- the internal address of a cluster ---------------------------------------------------------------------

CLUSTER_SECRET = request(
    "cluster_secret",
    401,
    "The cluster's secret is another one",
    "another host connects to `cluster_listen` and does not know `cluster_secret`",
    ErrorCode.FORBIDDEN,
    level=logging.WARNING,
)
CLUSTER_GREETING = request(
    "cluster_greeting",
    400,
    "This is an internal address of a cluster: {fault}",
    "what connects to `cluster_listen` is no gateway, or says nothing in time",
    level=logging.WARNING,
)
CLUSTER_WORKER = request(
    "cluster_worker",
    404,
    "There is no worker {worker} on this host",
    "another host asks for a worker that has ended; its client is told `unknown_session`",
    ErrorCode.UNKNOWN_SESSION,
)

# -- WebSocket: frames -----------------------------------------------------------------------------------

RESERVED_BIT = frame("reserved_bit", "reserved bit set", "a reserved bit is set that no extension gives a meaning")
NOT_MASKED = frame("not_masked", "client frame is not masked", "a frame without a mask")
UNKNOWN_OPCODE = frame("unknown_opcode", "unknown opcode", "opcode 3 to 7 or 11 to 15")
BAD_CONTROL_FRAME = frame(
    "bad_control_frame", "control frame is fragmented or too long", "a control frame without FIN, or over 125 bytes"
)
STRAY_CONTINUATION = frame(
    "stray_continuation", "continuation of nothing", "a continuation frame without a message to continue"
)
INTERLEAVED_MESSAGE = frame(
    "interleaved_message",
    "new message inside a fragmented one",
    "a data frame between the fragments of another message",
)
LENGTH_TOP_BIT = frame("length_top_bit", "frame length has its top bit set", "a 64-bit length of 2**63 or more")
LENGTH_NOT_SHORTEST = frame(
    "length_not_shortest", "frame length is not in its shortest form", "a length in more bytes than it needs"
)
MESSAGE_TOO_BIG = frame(
    "message_too_big",
    "message too big",
    "a message over `max_payload_bytes`; said on its header, before the bytes come",
    CloseCode.MESSAGE_TOO_BIG,
)
TEXT_NOT_UTF8 = frame(
    "text_not_utf8", "text message is not UTF-8", "a text message is not UTF-8", CloseCode.INVALID_DATA
)
STRAY_COMPRESSION = frame(
    "stray_compression",
    "only the first frame of a message is marked as compressed",
    "RSV1 on a control or continuation frame, where compression was agreed",
)
BAD_COMPRESSION = frame(
    "bad_compression",
    "compressed message: {fault}",
    "a compressed message cannot be inflated",
    CloseCode.INVALID_DATA,
)
INFLATED_TOO_BIG = frame(
    "inflated_too_big",
    "compressed message is too big once inflated",
    "a message over `max_payload_bytes` once inflated; inflating stops there",
    CloseCode.MESSAGE_TOO_BIG,
)
BAD_CLOSE = frame("bad_close", "invalid close frame", "a close frame of one byte, or with a code that must not be sent")
CLOSE_NOT_UTF8 = frame(
    "close_not_utf8", "close reason is not UTF-8", "a close frame whose reason is not UTF-8", CloseCode.INVALID_DATA
)

# -- Engine.IO: packets, upgrades, the life of a session -------------------------------------------------

EMPTY_PACKET = packet("empty_packet", Door.ENGINE, "empty packet", "a packet without a type, or an empty body")
UNKNOWN_PACKET_TYPE = packet(
    "unknown_packet_type", Door.ENGINE, "unknown packet type", "the type is not one of the ASCII digits 0 to 6 or `b`"
)
BAD_BASE64 = packet("bad_base64", Door.ENGINE, "binary packet is not base64", "what follows `b` is not strict base64")
PAYLOAD_NOT_UTF8 = packet("payload_not_utf8", Door.ENGINE, "payload is not UTF-8", "the body of a POST is not UTF-8")
UNEXPECTED_PACKET = packet(
    "unexpected_packet", Door.ENGINE, "unexpected {type} packet", "`open`, `ping` or `upgrade` on a transport in use"
)

UPGRADE_UNDER_WAY = upgrade(
    "upgrade_under_way",
    "Another upgrade of this session is under way",
    "a second upgrade while one is tried",
    CloseCode.POLICY_VIOLATION,
)
NO_SUCH_UPGRADE = upgrade(
    "no_such_upgrade",
    "A session on {current} cannot go on over {wanted}",
    "a step down, or one that is not offered",
    CloseCode.POLICY_VIOLATION,
)
PROBE_EXPECTED = upgrade(
    "probe_expected",
    "expected a probe, then an upgrade packet",
    "the connection that is to take over says something else first",
)
UPGRADE_TIMEOUT = upgrade(
    "upgrade_timeout", "the upgrade was not completed in time", "no upgrade packet came within `upgrade_timeout_s`"
)
UPGRADE_CUT = upgrade("upgrade_cut", "the session is closing", "the session ends in mid-upgrade")

PING_TIMEOUT = closing(
    "ping_timeout", reasons.PING_TIMEOUT, "no pong came within `ping_timeout_s`", CloseCode.GOING_AWAY
)
SLOW_CLIENT = closing(
    "slow_client",
    reasons.SLOW_CLIENT,
    "more than `max_buffered_bytes` wait for the client; it is cut off, since a good-bye would wait behind them",
    None,
    level=logging.WARNING,
)
MEMORY_SHED = closing(
    "memory_shed",
    reasons.MEMORY_SHED,
    "all buffers together passed `max_total_buffered_bytes`, and this client's was the largest",
    None,
    Retry.LATER,
    level=logging.WARNING,
)
CONNECT_TIMEOUT = closing(
    "connect_timeout",
    reasons.CONNECT_TIMEOUT,
    "no namespace was joined within `connect_timeout_s`",
    CloseCode.POLICY_VIOLATION,
)
SHUTDOWN = closing("shutdown", reasons.SERVER_SHUTDOWN, "the server drains", CloseCode.SERVICE_RESTART, Retry.LATER)

HANDLER_FAILED = closing(
    "handler_failed",
    reasons.HANDLER_FAILED,
    "a handler of a `gateway.SocketConnection` raised",
    CloseCode.INTERNAL_ERROR,
)
TOO_MANY_EVENTS = closing(
    "too_many_events",
    reasons.TOO_MANY_EVENTS,
    "more events of a `gateway.SocketConnection` wait for its handlers than may",
    CloseCode.POLICY_VIOLATION,
)
#: All of the above.
ROWS: Final[tuple[Refusal, ...]] = rows(globals())

#: Those that end a session for another reason than a broken protocol, by that reason.
CLOSINGS: Final[Mapping[str, Refusal]] = {
    row.reason: row for row in ROWS if row.reason is not None and row.reason != reasons.PARSE_ERROR
}

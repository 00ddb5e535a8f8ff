"""What emitters of other libraries say, as a ``Message`` of ours: python-socketio's ``RedisManager(write_only=True)``
and Node's ``@socket.io/redis-emitter``.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from .channels import as_collection
from .codec import JsonPacket
from .delivery import RELIABLE, VOLATILE
from .encoded_events import encode_event
from .envelope import EnvelopeError, Message, MessageKind
from .node_messages import decode_value, event_message, names

_MAX_DEPTH: Final = 128

#: Of ``@socket.io/redis-adapter``'s requests.
_NODE_REQUESTS: Final = {2: MessageKind.ENTER_ROOM, 3: MessageKind.LEAVE_ROOM, 4: MessageKind.DISCONNECT}
_NODE_SERVER_SIDE_EMIT: Final = 6

_METHODS: Final = {
    "disconnect": MessageKind.DISCONNECT,
    "enter_room": MessageKind.ENTER_ROOM,
    "leave_room": MessageKind.LEAVE_ROOM,
    "close_room": MessageKind.CLOSE_ROOM,
}


def from_python_socketio(data: bytes) -> Message:
    """What stands on the channel ``socketio``. What asks for acks is sent without: emitters take none.

    Raises: EnvelopeError.
    """
    try:
        fields = json.loads(data)
        method, namespace = fields["method"], fields.get("namespace") or "/"
        _check_namespace(namespace)
        if method == "emit":
            rooms, skipped = as_collection(fields.get("room")), as_collection(fields.get("skip_sid"))
            arguments = _arguments(fields["data"], bool(fields.get("binary")))
            encoded = encode_event(JsonPacket, [str(fields["event"]), *arguments], namespace)
            return event_message(encoded, namespace, rooms, (), skipped)
        kind = _METHODS[method]
        target = names((fields["room"] if kind is MessageKind.CLOSE_ROOM else fields["sid"],), "rooms")
        changed = () if kind in (MessageKind.CLOSE_ROOM, MessageKind.DISCONNECT) else names((fields["room"],), "rooms")
        return Message(kind, namespace, target, arguments=changed)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise EnvelopeError(f"no message of python-socketio: {type(error).__name__} {error}") from error


def _check_namespace(namespace: Any) -> None:
    if not isinstance(namespace, str) or not namespace.startswith("/"):
        raise ValueError("a namespace begins with a slash")


def _arguments(data: Any, is_binary: bool) -> list[Any]:
    """A list of arguments; or with binary data that list with placeholders, and each attachment in base64."""
    if not is_binary:
        return list(data) if isinstance(data, list) else [data]
    plain, *encoded = data
    attachments = [base64.b64decode(part, validate=True) for part in encoded]
    return list(_filled(plain, attachments, 0))


def _filled(value: Any, attachments: list[bytes], depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    if isinstance(value, list):
        return [_filled(item, attachments, depth + 1) for item in value]
    if isinstance(value, dict):
        if value.get("_placeholder") is True:
            return attachments[value["num"]]
        return {key: _filled(item, attachments, depth + 1) for key, item in value.items()}
    return value


def from_redis_emitter(data: bytes) -> Message:
    """An event of Node's emitter, on ``socket.io#<namespace>#…``. Raises: EnvelopeError."""
    try:
        _, packet, options = decode_value(data)
        namespace = packet["nsp"]
        _check_namespace(namespace)
        is_volatile = bool((options.get("flags") or {}).get("volatile"))
        event, *arguments = packet["data"]
        encoded = encode_event(JsonPacket, [str(event), *arguments], namespace)
        rooms, excepted = options.get("rooms") or (), options.get("except") or ()
        return event_message(encoded, namespace, rooms, excepted, (), VOLATILE if is_volatile else RELIABLE)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise EnvelopeError(f"no message of a redis-emitter: {type(error).__name__} {error}") from error


def from_redis_emitter_request(namespace: str, data: bytes) -> Message:
    """What it asks of servers, on ``socket.io-request#<namespace>#``. Raises: EnvelopeError."""
    try:
        _check_namespace(namespace)
        fields = json.loads(data)
        if fields["type"] == _NODE_SERVER_SIDE_EMIT:
            return Message(MessageKind.SERVER_SIDE_EMIT, namespace, arguments=tuple(fields["data"]))
        options = fields.get("opts") or {}
        return Message(
            _NODE_REQUESTS[fields["type"]],
            namespace,
            names(options.get("rooms") or (), "rooms"),
            names(options.get("except") or (), "rooms"),
            arguments=names(fields.get("rooms") or (), "rooms"),
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise EnvelopeError(f"no request of a redis-emitter: {type(error).__name__} {error}") from error

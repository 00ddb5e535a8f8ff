"""What is said between nodes, as `gateway.envelope.Message`: made and read here, by servers, emitters and the command.

Values of the application (acks, sessions, arguments of server-side events) travel as MessagePack, which carries what
JSON does, and bytes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable
from typing import Any, Final

import msgpack

from transports.outbound import OutboundMessage

from .delivery import RELIABLE, VOLATILE, Delivery, How
from .envelope import MAX_NAMES, EnvelopeError, Message, MessageFlag, MessageKind

#: Subjects of messages of the kind OTHER, in their first argument.
ACKS: Final = "acks"
ROOMS: Final = "rooms"
STATUS: Final = "status"
SAVE_SESSION: Final = "save_session"

#: How an ack that was asked for over the cluster has ended.
ANSWERED: Final = 0
EXPIRED: Final = 1
GONE: Final = 2


def names(values: Collection[Any], what: str) -> tuple[str, ...]:
    """Rooms or sids as they travel. Raises: TypeError for what is not text, ValueError for too many."""
    if not values:
        return ()
    found = tuple(values)
    for value in found:
        if not isinstance(value, str):
            raise TypeError(f"{what} of a cluster are named by text, not by {value!r}")
    if len(found) > MAX_NAMES:
        raise ValueError(f"a message names up to {MAX_NAMES} {what}, not {len(found)}")
    return found


def event_message(
    encoded: OutboundMessage,
    namespace: str,
    rooms: Collection[Any] = (),
    except_rooms: Collection[Any] = (),
    skip_sids: Collection[Any] = (),
    delivery: Delivery = RELIABLE,
    ack: tuple[Any, ...] | None = None,
) -> Message:
    """An event for the clients of other nodes. ``rooms`` empty: the whole namespace. ``ack``: as ``AckRelay`` reads it.

    Raises: TypeError, ValueError for rooms, sids or a key of conflation that only this process can know.
    """
    flags = MessageFlag.NONE
    packet, attachments = encoded.text, tuple(encoded.attachments)
    if packet is None:
        flags |= MessageFlag.BINARY_PACKET
        packet, attachments = attachments[0], ()
    key = None
    if delivery is RELIABLE:
        pass
    elif delivery.how is How.VOLATILE:
        flags |= MessageFlag.VOLATILE
    elif delivery.how is How.CONFLATED:
        flags |= MessageFlag.CONFLATED
        key = encode_key(delivery.key)
    return Message(
        MessageKind.EMIT if ack is None else MessageKind.EMIT_WITH_ACK,
        namespace,
        names(rooms, "rooms"),
        names(except_rooms, "rooms"),
        names(skip_sids, "clients"),
        packet,
        attachments,
        () if ack is None else ack,
        flags,
        key,
    )


def encoded_event(message: Message) -> OutboundMessage:
    """Raises: EnvelopeError for a message without an event."""
    packet = message.packet
    if not packet:
        raise EnvelopeError("a message to emit has no packet")
    if message.flags & MessageFlag.BINARY_PACKET:
        return OutboundMessage(None, [packet])
    if not packet.startswith((b"42", b"45")) or not packet.endswith(b"]"):
        raise EnvelopeError("the packet of a message is no event")
    return OutboundMessage(packet, message.attachments)


def delivery_of(message: Message) -> Delivery:
    """Raises: EnvelopeError for a key that is none."""
    if not message.flags:
        return RELIABLE
    if message.flags & MessageFlag.VOLATILE:
        return VOLATILE
    if message.flags & MessageFlag.CONFLATED and message.key is not None:
        return Delivery(How.CONFLATED, decode_key(message.namespace, message.key))
    return RELIABLE


# -- keys of conflation --------------------------------------------------------------------------------


def encode_key(key: Any) -> str:
    """A ``Delivery.key``, without its namespace. Raises: TypeError for one that means something here alone."""
    return json.dumps([_plain_key(item) for item in key[1:]], separators=(",", ":"))


def decode_key(namespace: str, text: str) -> Hashable:
    """Equal to the one that ``encode_key`` was given. Raises: EnvelopeError."""
    try:
        items = json.loads(text)
        if type(items) is not list or not 1 <= len(items) <= 2:
            raise ValueError("one item or two")
        key = (namespace, *(_key(item) for item in items))
        hash(key)
    except (ValueError, TypeError, RecursionError, KeyError) as error:
        raise EnvelopeError("the key of a message is wrong") from error
    return key


def _plain_key(item: Any) -> Any:
    if item is None or isinstance(item, (str, int, float, bool)):
        return item
    if isinstance(item, tuple):
        return [_plain_key(part) for part in item]
    if isinstance(item, frozenset):
        return {"set": sorted(_plain_key(part) for part in item)}
    raise TypeError(
        f"a key of conflation that crosses nodes is text, a number, or a tuple of them, not {item!r}; "
        "emit with ignore_queue=True to stay on this node"
    )


def _key(item: Any) -> Hashable:
    if isinstance(item, list):
        return tuple(_key(part) for part in item)
    if isinstance(item, dict):
        return frozenset(_key(part) for part in item["set"])
    result: Hashable = item
    return result


# -- values --------------------------------------------------------------------------------------------


def encode_value(value: Any) -> bytes:
    """Raises: TypeError, ValueError for what MessagePack cannot carry."""
    try:
        encoded: bytes = msgpack.packb(value)
    except OverflowError:
        raise ValueError("MessagePack has no integers beyond 64 bits") from None
    return encoded


def decode_value(data: bytes) -> Any:
    """Raises: EnvelopeError."""
    try:
        return msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise EnvelopeError("a value is not MessagePack") from error


class NodeError(Exception):
    """Another node could not do what it was asked to; ``node``: its id, ``text``: why."""

    def __init__(self, node: str, text: str) -> None:
        self.node = node
        self.text = text
        super().__init__(node, text)

    def __str__(self) -> str:
        return f"node {self.node}: {self.text}"


#: Errors that are raised where it was asked, as they would have been had the client been here.
_CARRIED: Final = {"KeyError": KeyError, "ValueError": ValueError, "TypeError": TypeError}


def result_of(value: Any) -> bytes:
    """What a node answers to a request that it has done. Raises: as ``encode_value``."""
    return encode_value([True, value])


def failure_of(error: Exception) -> bytes:
    """What it answers where the caller's arguments were wrong."""
    kind = next((name for name, carried in _CARRIED.items() if isinstance(error, carried)), type(error).__name__)
    return encode_value([False, kind, str(error.args[0] if error.args else error)[:1000]])


def read_result(node: str, data: bytes) -> Any:
    """What the node answered. Raises: NodeError, and the errors that were carried."""
    try:
        fields = decode_value(data)
        if type(fields) is list and len(fields) == 2 and fields[0] is True:
            return fields[1]
        _, kind, text = fields
    except (EnvelopeError, ValueError, TypeError):
        raise NodeError(node, "it answered what is not understood here; is it of another version?") from None
    raise _CARRIED[kind](text) if kind in _CARRIED else NodeError(node, f"{kind}: {text}")

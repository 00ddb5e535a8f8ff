"""What nodes send one another, as bytes.

An `Envelope` is the outside: from whom, which number, to answer or not. Brokers read it and nothing else. A
`Message` is what lies in it: what to do with which clients. Both are arrays of MessagePack whose first item is a
version; reading is strict, so any bytes are one of these or raise `EnvelopeError`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeVar

import msgpack

from transports.accelerator import accelerator

#: Raised when the meaning of a field changes. What nodes of another version say is skipped, and counted, so a cluster
#: is updated node by node at the price of what the two have to say to each other meanwhile.
VERSION: Final = 1
#: Longest envelope with all in it. Publishing more is refused: it would hold up everybody who shares the connection.
MAX_ENVELOPE_BYTES: Final = 8 * 1024 * 1024
#: What the envelope adds to its body, at most: node ids have up to 64 characters.
OVERHEAD_BYTES: Final = 128
MAX_NODE_ID_LENGTH: Final = 64
MAX_NAMESPACE_LENGTH: Final = 1024
#: Rooms of one message, and excepted ones, and skipped clients.
MAX_NAMES: Final = 10_000


class EnvelopeError(Exception):
    """The bytes are none of ours."""


class UnknownVersionError(EnvelopeError):
    """They come from a node of another version."""

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__(f"version {version} of envelopes is not known here, this is version {VERSION}")


class EnvelopeKind(IntEnum):
    #: To whoever subscribed to a topic.
    PUBLICATION = 0
    #: To one node.
    DIRECT = 1
    REQUEST = 2
    #: ``extra`` is an ``AnswerStatus``.
    ANSWER = 3
    #: A node is there, to be answered with one's own greeting. The body says who.
    HELLO = 4
    #: A node is there.
    GREETING = 5
    #: A node goes.
    BYE = 6
    #: Topics that the sender has subscribed to, or no longer, as the body says.
    INTEREST = 7
    #: To oneself, to see that it comes back.
    CANARY = 8


class AnswerStatus(IntEnum):
    ANSWERED = 0
    #: The other node's handler raised; the body is what its exception says.
    FAILED = 1


class Envelope(NamedTuple):
    """``lane`` and ``sequence`` number what a sender writes to one connection, also when it is written again.

    sequence: from 1; 0 where nothing is numbered, so nothing of it is taken for a duplicate
    reference: of a request and its answers; of a publication to several topics, its number; otherwise 0
    extra: of a request, the milliseconds it may take; of a publication, whether it is durable
    """

    kind: EnvelopeKind
    sender: str
    lane: int = 0
    sequence: int = 0
    reference: int = 0
    extra: int = 0
    body: bytes = b""

    def encode(self) -> bytes:
        return encode_envelope(*self)

    @classmethod
    def decode(cls, data: bytes) -> Envelope:
        """Raises: EnvelopeError."""
        if _unpack_fields is not None:
            usual = _unpack_fields(data, _ENVELOPE_SHAPE)
            if usual is not None:
                version, kind, sender, lane, sequence, reference, extra, body = usual
                if version == VERSION and kind < len(_ENVELOPE_KINDS) and 0 < len(sender) <= MAX_NODE_ID_LENGTH:
                    return _new(cls, (_ENVELOPE_KINDS[kind], sender, lane, sequence, reference, extra, body))
        _, kind, sender, lane, sequence, reference, extra, body = _unpack(data, 8)
        if type(kind) is not int or not 0 <= kind < len(_ENVELOPE_KINDS):
            raise EnvelopeError(f"no kind of envelope: {kind!r:.40}")
        if type(sender) is not str or not 0 < len(sender) <= MAX_NODE_ID_LENGTH or type(body) is not bytes:
            raise EnvelopeError("sender or body of an envelope is wrong")
        if not type(lane) is type(sequence) is type(reference) is type(extra) is int:
            raise EnvelopeError("a number of an envelope is wrong")
        if lane < 0 or sequence < 0 or reference < 0 or extra < 0:
            raise EnvelopeError("a number of an envelope is below 0")
        return _new(cls, (_ENVELOPE_KINDS[kind], sender, lane, sequence, reference, extra, body))


#: Makes a named tuple of one that has all its fields, in a third of the time that its class takes.
_new: Final = tuple.__new__
#: By number: asking the class costs a call.
_ENVELOPE_KINDS: Final = tuple(EnvelopeKind)
_pack: Final[Callable[[Any], bytes]] = msgpack.Packer(use_bin_type=True).pack


def head_of_publications(sender: str) -> bytes:
    """With what each publication of ``sender`` begins, and nothing else does."""
    fields = (VERSION, EnvelopeKind.PUBLICATION, sender)
    return _pack((*fields, *[0] * 5))[: len(_pack(fields))]


def encode_envelope(kind: int, sender: str, lane: int, sequence: int, reference: int, extra: int, body: bytes) -> bytes:
    """As ``Envelope.encode``, without the object."""
    return _pack((VERSION, kind, sender, lane, sequence, reference, extra, body))


class MessageKind(IntEnum):
    #: Send ``packet`` to the members of ``rooms``.
    EMIT = 0
    #: The same, and answer with what the clients acknowledge.
    EMIT_WITH_ACK = 1
    ENTER_ROOM = 2
    LEAVE_ROOM = 3
    CLOSE_ROOM = 4
    DISCONNECT = 5
    FETCH_SOCKETS = 6
    #: An event for the other servers, not for clients.
    SERVER_SIDE_EMIT = 7
    SESSION = 8
    #: What the gateway adds; ``arguments`` say what.
    OTHER = 9


class MessageFlag:
    """Plain numbers: each ``&`` of an ``IntFlag`` makes an object, and every message has some."""

    NONE: Final = 0
    VOLATILE: Final = 1
    CONFLATED: Final = 2
    #: ``packet`` is binary as a whole (MessagePack), not text with attachments.
    BINARY_PACKET: Final = 4
    ALL: Final = 7


class Message(NamedTuple):
    """What the other nodes are to do with which of their clients.

    rooms: none means the whole namespace
    packet: a Socket.IO packet, encoded once by who sends it; ``attachments`` follow it
    arguments: where there is no packet, or beside it; whatever MessagePack can carry
    key: of a conflated message
    """

    kind: MessageKind
    namespace: str = "/"
    rooms: tuple[str, ...] = ()
    except_rooms: tuple[str, ...] = ()
    skip_sids: tuple[str, ...] = ()
    packet: bytes | None = None
    attachments: tuple[bytes, ...] = ()
    arguments: tuple[Any, ...] = ()
    flags: int = MessageFlag.NONE
    key: str | None = None

    def encode(self) -> bytes:
        """Raises: TypeError, ValueError for arguments that MessagePack cannot carry."""
        if not self.arguments:
            return _pack((VERSION, *self))
        try:  # with a packer of its own: values of the application may run code of theirs, in several threads
            encoded: bytes = msgpack.packb((VERSION, *self))
        except OverflowError:
            raise ValueError("MessagePack has no integers beyond 64 bits") from None
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> Message:
        """Raises: EnvelopeError."""
        if _unpack_fields is not None:
            usual = _unpack_fields(data, _MESSAGE_SHAPE)
            if usual is not None:
                version, kind, namespace, *rest = usual
                is_known = version == VERSION and kind < len(_MESSAGE_KINDS) and usual[9] <= MessageFlag.ALL
                if is_known and namespace[:1] == "/" and len(namespace) <= MAX_NAMESPACE_LENGTH:
                    return _new(cls, (_MESSAGE_KINDS[kind], namespace, *rest))
        fields = _unpack(data, 11)
        _, kind, namespace, rooms, except_rooms, skip_sids, packet, attachments, arguments, flags, key = fields
        if type(kind) is not int or not 0 <= kind < len(_MESSAGE_KINDS):
            raise EnvelopeError(f"no kind of message: {kind!r:.40}")
        if type(namespace) is not str or namespace[:1] != "/" or len(namespace) > MAX_NAMESPACE_LENGTH:
            raise EnvelopeError("the namespace of a message is wrong")
        if packet is not None and type(packet) is not bytes:
            raise EnvelopeError("the packet of a message is wrong")
        if key is not None and type(key) is not str:
            raise EnvelopeError("the key of a message is wrong")
        if type(flags) is not int or not 0 <= flags <= MessageFlag.ALL:
            raise EnvelopeError("the flags of a message are wrong")
        if type(arguments) is not list:
            raise EnvelopeError("the arguments of a message are wrong")
        lists = (
            _all_of(str, rooms),
            _all_of(str, except_rooms),
            _all_of(str, skip_sids),
            packet,
            _all_of(bytes, attachments),
        )
        return _new(cls, (_MESSAGE_KINDS[kind], namespace, *lists, tuple(arguments), flags, key))


_MESSAGE_KINDS: Final = tuple(MessageKind)

#: Reads arrays of the usual shapes at once; None without the accelerator.
_unpack_fields: Final = None if accelerator is None else accelerator.unpack_fields
_ENVELOPE_SHAPE: Final = b"uusuuuub"
#: Of those without arguments.
_MESSAGE_SHAPE: Final = b"uustttBdeuS"


def _unpack(data: bytes, length: int) -> list[Any]:
    """The array of ``length`` items that ``data`` is. Raises: EnvelopeError."""
    try:
        fields = msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise EnvelopeError("not MessagePack") from error
    if type(fields) is not list or not fields or type(fields[0]) is not int:
        raise EnvelopeError("not an array that begins with a version")
    if fields[0] != VERSION:
        raise UnknownVersionError(fields[0])
    if len(fields) != length:
        raise EnvelopeError(f"{len(fields)} fields instead of {length}")
    return fields


_Item = TypeVar("_Item", str, bytes)


def _all_of(kind: type[_Item], values: Any) -> tuple[_Item, ...]:
    if type(values) is not list or len(values) > MAX_NAMES:
        raise EnvelopeError("a list of a message is wrong or too long")
    if not values:
        return ()
    for value in values:
        if type(value) is not kind:
            raise EnvelopeError("an item of a message's list is wrong")
    return tuple(values)

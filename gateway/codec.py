"""Socket.IO packets: what the text of one means, and back.

Two wire forms through python-socketio's ``serializer`` seam: ``JsonPacket`` (the default parser of every client)
and ``MsgpackPacket`` (``socket.io-msgpack-parser``). Decoding is strict: whatever the protocol does not allow is
a ``PacketError``, and the connection that sent it is closed.

Spec: Socket.IO v5, "Packet encoding".
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from math import isfinite
from typing import Any, Final

import msgpack
import orjson
from socketio import msgpack_packet, packet

from transports.errors import RemoteProtocolError
from transports.outbound import OutboundMessage

from . import catalogue

CONNECT: Final = 0
DISCONNECT: Final = 1
EVENT: Final = 2
ACK: Final = 3
CONNECT_ERROR: Final = 4
BINARY_EVENT: Final = 5
BINARY_ACK: Final = 6

#: Events that only the libraries themselves emit; a client that sends one would run a handler it must not.
RESERVED_EVENTS: Final = frozenset(
    ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener")
)
#: Attachments of one packet.
MAX_ATTACHMENTS: Final = 256
#: Arrays and objects inside each other: below what encoders take, so that everything received can be sent on.
MAX_DEPTH: Final = 128
MAX_NAMESPACE_LENGTH: Final = 256
#: What a value costs in memory, beside its text.
VALUE_BYTES: Final = 64
#: JavaScript numbers its acks with integers below 2**53: 16 digits.
_MAX_ACK_DIGITS: Final = 16

_TYPES: Final = {str(number): number for number in range(7)}
_DIGITS: Final = frozenset("0123456789")


class PacketError(RemoteProtocolError, ValueError):
    """The peer sent a packet that the protocol does not allow."""


class JsonPacket(packet.Packet):
    """Text packets with JSON, binary data as attachments.

    ``encode_parts`` makes one pass over the data: orjson hands back each binary value it meets, and its place is
    taken by a placeholder.
    """

    # Until a packet has its own. One is made for every message, most of them without most of these.
    data: Any = None
    namespace: str | None = None
    id: int | None = None
    attachment_count: int = 0
    attachments: Sequence[bytes] = ()

    def __init__(
        self,
        packet_type: int = EVENT,
        data: Any = None,
        namespace: str | None = None,
        id: int | None = None,  # noqa: A002 - python-socketio's name
        binary: bool | None = None,
        encoded_packet: str | bytes | None = None,
    ) -> None:
        if encoded_packet is not None:
            self.attachment_count = self.decode(encoded_packet)
            return
        self.packet_type = packet_type
        self.data = data
        self.namespace = namespace
        self.id = id

    def encode(self) -> str | list[str | bytes]:
        """python-socketio's form: text, or a list of text and attachments."""
        text, attachments = self.encode_parts()
        return [text.decode(), *attachments] if attachments else text.decode()

    def encode_parts(self) -> tuple[bytes, list[bytes]]:
        """The text packet in UTF-8, and its attachments.

        Raises: TypeError, ValueError for data that JSON cannot carry.
        """
        attachments: list[bytes] = []
        body = b"" if self.data is None else self._dumps(self.data, attachments)
        head = str(self.packet_type)
        if attachments:
            if self.packet_type in (EVENT, ACK):
                head = str(self.packet_type + 3)
            elif self.packet_type not in (BINARY_EVENT, BINARY_ACK):
                raise ValueError("only events and acks can carry binary data")
            head += f"{len(attachments)}-"
        if self.namespace is not None and self.namespace != "/":
            head += self.namespace + ","
        if self.id is not None:
            head += str(self.id)
        return head.encode() + body, attachments

    def _dumps(self, data: Any, attachments: list[bytes]) -> bytes:
        def take_binary(value: Any) -> Any:
            if isinstance(value, (bytes, bytearray, memoryview)):
                return _attach(value, attachments)
            raise TypeError(f"{type(value).__name__} cannot be sent; convert it to JSON types or bytes")

        try:
            return orjson.dumps(data, take_binary)
        except TypeError:
            # Integers beyond 64 bits, lone surrogates and keys that are not text: slow and rare, so not first.
            attachments.clear()
            plain = _plain(data, attachments)
            return json.dumps(plain, default=_by_orjson, separators=(",", ":"), allow_nan=False).encode()

    def _loads(self, body: str) -> Any:
        return orjson.loads(body)

    def decode(self, encoded_packet: str | bytes) -> int:
        """Fill this packet from its text; the number of attachments that must follow.

        Raises: PacketError.
        """
        if not isinstance(encoded_packet, str):
            raise PacketError(catalogue.STRAY_BINARY)
        packet_type = _TYPES.get(encoded_packet[:1])
        if packet_type is None:
            raise PacketError(catalogue.UNKNOWN_TYPE)
        self.packet_type = packet_type
        position = 1
        attachment_count = 0
        if packet_type >= BINARY_EVENT:
            dash = encoded_packet.find("-", 1, 12)
            digits = encoded_packet[1:dash]
            if dash < 2 or not (digits.isascii() and digits.isdigit()):
                raise PacketError(catalogue.NO_ATTACHMENT_COUNT)
            attachment_count = int(digits)
            if attachment_count > MAX_ATTACHMENTS:
                raise PacketError(catalogue.TOO_MANY_ATTACHMENTS, limit=MAX_ATTACHMENTS)
            position = dash + 1
        if encoded_packet[position : position + 1] == "/":
            comma = encoded_packet.find(",", position)
            end = len(encoded_packet) if comma < 0 else comma
            if end - position > MAX_NAMESPACE_LENGTH:
                raise PacketError(catalogue.NAMESPACE_TOO_LONG)
            self.namespace = encoded_packet[position:end].partition("?")[0]
            position = end + 1
        body = encoded_packet[position:]
        if body[:1] in _DIGITS:
            body = self._take_ack_id(body)
        if body:
            try:
                self.data = self._loads(body)
            except (ValueError, RecursionError) as error:
                raise PacketError(catalogue.BAD_JSON) from error
            if len(body) > MAX_DEPTH and body.count("[") + body.count("{") > MAX_DEPTH:
                check_depth(self.data)
        check_payload(packet_type, self.data, self.id)
        if packet_type >= BINARY_EVENT and not attachment_count:
            self.packet_type = packet_type - 3
        return attachment_count

    def _take_ack_id(self, rest: str) -> str:
        end = 1
        while rest[end : end + 1] in _DIGITS:
            end += 1
        if end > _MAX_ACK_DIGITS:
            raise PacketError(catalogue.ACK_ID_TOO_LONG)
        self.id = int(rest[:end])
        return rest[end:]

    def add_attachment(self, attachment: bytes) -> bool:
        """The next attachment; True once the packet is whole.

        Raises: PacketError for text, and for placeholders that do not name each attachment once.
        """
        if not isinstance(attachment, bytes):
            raise PacketError(catalogue.TEXT_FOR_ATTACHMENT)
        received = self.attachments
        if not isinstance(received, list):
            received = self.attachments = []
        received.append(attachment)
        if len(self.attachments) < self.attachment_count:
            return False
        used = [False] * self.attachment_count
        self.data = self._with_attachments(self.data, used)
        if not all(used):
            raise PacketError(catalogue.SPARE_ATTACHMENT)
        self.packet_type -= 3
        self.attachments = ()
        return True

    def _with_attachments(self, value: Any, used: list[bool]) -> Any:
        if isinstance(value, list):
            return [self._with_attachments(item, used) for item in value]
        if isinstance(value, dict):
            if value.get("_placeholder") is True:
                number = value.get("num")
                if type(number) is not int or not 0 <= number < len(used) or used[number]:
                    raise PacketError(catalogue.BAD_PLACEHOLDER)
                used[number] = True
                return self.attachments[number]
            return {key: self._with_attachments(item, used) for key, item in value.items()}
        return value


def read_event(text: str | bytes) -> tuple[str, int | None, list[Any]] | None:
    """Namespace, ack id and data of an event without attachments, as ``JsonPacket`` reads it, in less time.

    None for every other packet, and for every packet that is not as it should be: ``JsonPacket`` says why.
    """
    if text[:1] != "2" or not isinstance(text, str):
        return None
    start = text.find("[")
    namespace = "/"
    ack_id = None
    if start > 1:
        head = text[1:start]
        if head[0] == "/":
            namespace, comma, head = head.partition(",")
            if not comma or len(namespace) > MAX_NAMESPACE_LENGTH or "?" in namespace:
                return None
        if head:
            if not (head.isascii() and head.isdigit()) or len(head) > _MAX_ACK_DIGITS:
                return None
            ack_id = int(head)
    try:
        data = orjson.loads(text[start:])
    except ValueError:
        return None
    if type(data) is not list or not data or type(data[0]) is not str or data[0] in RESERVED_EVENTS:
        return None
    if len(text) > MAX_DEPTH and text.count("[") + text.count("{") > MAX_DEPTH:
        return None
    return namespace, ack_id, data


def event(namespace: str, data: list[Any]) -> OutboundMessage:
    """An event that asks for no ack, as ``to_outbound`` makes it of a ``JsonPacket``. ``data``: name and arguments.

    Raises: TypeError, ValueError for data that JSON cannot carry.
    """
    try:
        body = orjson.dumps(data)
    except TypeError:  # binary data, or something rarer
        return to_outbound(JsonPacket(EVENT, data, namespace))
    return OutboundMessage((b"42" if namespace == "/" else f"42{namespace},".encode()) + body)


def ack(namespace: str, ack_id: int, values: list[Any]) -> OutboundMessage:
    """The answer to an event, as ``to_outbound`` makes it of a ``JsonPacket``.

    Raises: TypeError, ValueError for data that JSON cannot carry.
    """
    try:
        body = orjson.dumps(values)
    except TypeError:  # binary data, or something rarer
        return to_outbound(JsonPacket(ACK, values, namespace, ack_id))
    head = b"43%d" % ack_id if namespace == "/" else f"43{namespace},{ack_id}".encode()
    return OutboundMessage(head + body)


class KeptAck:
    """An ack as it was when it was made, for any number of ack ids. ``nbytes``: what it takes.

    Raises: TypeError, ValueError and, with a packet class of the application, others for data that cannot be sent.
    """

    __slots__ = ("_attachments", "_body", "_head", "_packet", "nbytes")

    def __init__(self, packet_class: Any, namespace: str, values: list[Any]) -> None:
        packet = packet_class(ACK, data=values, namespace=namespace)
        if isinstance(packet, JsonPacket):
            self._packet = None
            text, self._attachments = packet.encode_parts()
            end = 1 + (len(b"%d-" % len(self._attachments)) if self._attachments else 0)
            if namespace != "/":
                end += len(namespace.encode()) + 1
            self._head, self._body = b"4" + text[:end], text[end:]
            self.nbytes = len(text) + sum(map(len, self._attachments))
        else:
            encoded = packet.encode()
            self.nbytes = sum(map(len, encoded)) if isinstance(encoded, list) else len(encoded)
            packet.data = copy.deepcopy(packet.data)  # the handler's objects may change
            self._packet = packet

    def message(self, ack_id: int) -> OutboundMessage:
        """The answer under this id."""
        if self._packet is None:
            return OutboundMessage(b"%b%d%b" % (self._head, ack_id, self._body), self._attachments)
        self._packet.id = ack_id
        return to_outbound(self._packet)


def json_packet_with(module: Any) -> type[JsonPacket]:
    """``JsonPacket`` with the ``dumps`` and ``loads`` of another JSON module, for one server only."""

    class CustomJsonPacket(JsonPacket):
        def _dumps(self, data: Any, attachments: list[bytes]) -> bytes:
            text = module.dumps(_plain(data, attachments), separators=(",", ":"))
            return text if isinstance(text, bytes) else text.encode()

        def _loads(self, body: str) -> Any:
            return module.loads(body)

    return CustomJsonPacket


def _attach(value: bytes | bytearray | memoryview, attachments: list[bytes]) -> dict[str, Any]:
    """Take a binary value out of the data; its placeholder."""
    attachments.append(bytes(value))
    return {"_placeholder": True, "num": len(attachments) - 1}


def _plain(data: Any, attachments: list[bytes]) -> Any:
    """The data with placeholders where binary values were, and null for numbers that JSON has no word for.

    Raises: ValueError for data nested too deeply, or inside itself.
    """

    def convert(value: Any) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return _attach(value, attachments)
        if isinstance(value, (list, tuple)):
            return [convert(item) for item in value]
        if isinstance(value, dict):
            return {key: convert(item) for key, item in value.items()}
        return None if isinstance(value, float) and not isfinite(value) else value

    try:
        return convert(data)
    except RecursionError:
        raise ValueError("data is nested too deeply, or inside itself") from None


def _by_orjson(value: Any) -> Any:
    """Dataclasses, dates and what else orjson knows by itself."""
    return orjson.loads(orjson.dumps(value))


class MsgpackPacket(msgpack_packet.MsgPackPacket):
    """Binary packets in MessagePack; binary data stays where it is."""

    def __init__(
        self,
        packet_type: int = EVENT,
        data: Any = None,
        namespace: str | None = None,
        id: int | None = None,  # noqa: A002 - python-socketio's name
        binary: bool | None = None,
        encoded_packet: str | bytes | None = None,
    ) -> None:
        super().__init__(packet_type, data, namespace, id, binary)
        if encoded_packet is not None:  # python-socketio would take an empty message for no message
            self.attachment_count = self.decode(encoded_packet)

    def encode(self) -> bytes:
        fields: dict[str, Any] = {"type": self.packet_type, "nsp": self.namespace or "/"}
        if self.data is not None:  # the JavaScript parser tells "no data" from null
            fields["data"] = self.data
        if self.id is not None:
            fields["id"] = self.id
        try:
            encoded: bytes = msgpack.packb(fields, default=self.__class__.dumps_default)
        except OverflowError:
            raise ValueError("MessagePack has no integers beyond 64 bits") from None
        return encoded

    def decode(self, encoded_packet: str | bytes) -> int:
        """Raises: PacketError."""
        if not isinstance(encoded_packet, bytes):
            raise PacketError(catalogue.TEXT_FOR_MSGPACK)
        try:
            fields = msgpack.unpackb(encoded_packet, ext_hook=self._ext, strict_map_key=True)
        except (ValueError, msgpack.UnpackException, TypeError, RecursionError) as error:
            raise PacketError(catalogue.NOT_MSGPACK) from error
        if not isinstance(fields, dict):
            raise PacketError(catalogue.NOT_MSGPACK)
        self.packet_type = fields.get("type")
        self.namespace = fields.get("nsp")
        self.data = fields.get("data")
        self.id = fields.get("id")
        if type(self.packet_type) is not int or not CONNECT <= self.packet_type <= CONNECT_ERROR:
            raise PacketError(catalogue.UNKNOWN_TYPE)
        if not isinstance(self.namespace, str) or not self.namespace.startswith("/"):
            raise PacketError(catalogue.BAD_NAMESPACE)
        if len(self.namespace) > MAX_NAMESPACE_LENGTH:
            raise PacketError(catalogue.NAMESPACE_TOO_LONG)
        check_depth(self.data)
        if self.id is not None and (type(self.id) is not int or self.id < 0):
            raise PacketError(catalogue.BAD_ACK_ID)
        check_payload(self.packet_type, self.data, self.id)
        return 0

    def _ext(self, code: int, data: bytes) -> Any:
        # notepack, the JavaScript side, writes undefined as extension 0.
        if code == 0 and data == b"\0":
            return None
        return self.__class__.ext_hook(code, data)


def decoded_bytes(data: str | bytes) -> int:
    """About how much memory a packet takes once decoded: each value of JSON is an object."""
    if isinstance(data, bytes):
        return len(data)
    return len(data) + VALUE_BYTES * (data.count(",") + data.count("[") + data.count("{"))


def check_depth(data: Any) -> None:
    """Raises: PacketError where arrays and objects are nested deeper than ``MAX_DEPTH``."""
    level = [data]
    for _ in range(MAX_DEPTH + 1):
        level = [
            item
            for value in level
            if isinstance(value, (list, dict))
            for item in (value if isinstance(value, list) else value.values())
        ]
        if not level:
            return
    raise PacketError(catalogue.TOO_DEEP, limit=MAX_DEPTH)


def check_payload(packet_type: int, data: Any, ack_id: int | None) -> None:
    """Whether a client may send this.

    Raises: PacketError.
    """
    if packet_type in (EVENT, BINARY_EVENT):
        if not isinstance(data, list) or not data:
            raise PacketError(catalogue.NO_EVENT_NAME)
        name = data[0]
        if not isinstance(name, str) and type(name) is not int:
            raise PacketError(catalogue.BAD_EVENT_NAME)
        if name in RESERVED_EVENTS:
            raise PacketError(catalogue.RESERVED_EVENT, name=name)
    elif packet_type in (ACK, BINARY_ACK):
        if not isinstance(data, list) or ack_id is None:
            raise PacketError(catalogue.BAD_ACK)
    elif packet_type in (CONNECT, DISCONNECT) and ack_id is not None:
        raise PacketError(catalogue.STRAY_ACK_ID)
    elif packet_type == CONNECT:
        if data is not None and not isinstance(data, dict):
            raise PacketError(catalogue.BAD_AUTH)
    elif packet_type == DISCONNECT:
        if data is not None:
            raise PacketError(catalogue.DISCONNECT_PAYLOAD)
    else:
        raise PacketError(catalogue.CLIENT_CONNECT_ERROR)


def to_outbound(packet: Any) -> OutboundMessage:
    """A Socket.IO packet, of any ``serializer``, as what sessions send."""
    if isinstance(packet, JsonPacket):
        text, binary = packet.encode_parts()
        return OutboundMessage(b"4" + text, binary)
    encoded = packet.encode()
    parts = encoded if isinstance(encoded, list) else [encoded]
    first, *rest = parts
    if isinstance(first, str):
        return OutboundMessage(b"4" + first.encode(), [bytes(part) for part in rest])
    return OutboundMessage(None, [bytes(part) for part in parts])

"""Socket.IO packets: round trips, and everything that clients may not send."""

import json
import math
import sys
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from socketio import packet as library

from gateway import codec
from gateway.codec import (
    ACK,
    BINARY_EVENT,
    CONNECT,
    CONNECT_ERROR,
    DISCONNECT,
    EVENT,
    JsonPacket,
    MsgpackPacket,
    PacketError,
    json_packet_with,
    to_outbound,
)
from transports.outbound import OutboundMessage


def decoded(*parts: str | bytes, packet_class: Any = JsonPacket) -> Any:
    """The packet that these parts make."""
    packet = packet_class(encoded_packet=parts[0])
    for index, part in enumerate(parts[1:], 1):
        assert packet.add_attachment(part) is (index == len(parts) - 1)
    return packet


def encoded(packet: Any) -> list[Any]:
    whole = packet.encode()
    return whole if isinstance(whole, list) else [whole]


# -- JSON: what the documents show ---------------------------------------------------------------------------

EXAMPLES: list[tuple[list[Any], dict[str, Any]]] = [
    (["0"], {"packet_type": CONNECT, "namespace": None, "data": None}),
    (['0{"token":"x"}'], {"packet_type": CONNECT, "data": {"token": "x"}}),
    (["0/admin,"], {"packet_type": CONNECT, "namespace": "/admin", "data": None}),
    (["0/admin"], {"packet_type": CONNECT, "namespace": "/admin", "data": None}),
    (['0/admin?x=1,{"a":1}'], {"packet_type": CONNECT, "namespace": "/admin", "data": {"a": 1}}),
    (["1"], {"packet_type": DISCONNECT}),
    (["1/admin,"], {"packet_type": DISCONNECT, "namespace": "/admin"}),
    (['2["hello",1]'], {"packet_type": EVENT, "data": ["hello", 1], "id": None}),
    (['2/admin,456["project:delete",123]'], {"packet_type": EVENT, "namespace": "/admin", "id": 456}),
    (['20["a"]'], {"packet_type": EVENT, "id": 0}),
    (["2[7]"], {"packet_type": EVENT, "data": [7]}),
    (["3/admin,456[]"], {"packet_type": ACK, "namespace": "/admin", "id": 456, "data": []}),
    (
        ['51-["hello",{"_placeholder":true,"num":0}]', b"\x01"],
        {"packet_type": EVENT, "data": ["hello", b"\x01"]},
    ),
    (
        ['52-/admin,7["hello",{"_placeholder":true,"num":1},[{"_placeholder":true,"num":0}]]', b"\x01", b"\x02"],
        {"packet_type": EVENT, "namespace": "/admin", "id": 7, "data": ["hello", b"\x02", [b"\x01"]]},
    ),
    (['61-15[{"_placeholder":true,"num":0}]', b""], {"packet_type": ACK, "id": 15, "data": [b""]}),
    (['50-["a"]'], {"packet_type": EVENT, "data": ["a"]}),
]


@pytest.mark.parametrize(("parts", "fields"), EXAMPLES)
def test_examples_of_the_protocol_are_read(parts: list[Any], fields: dict[str, Any]) -> None:
    packet = decoded(*parts)
    assert {name: getattr(packet, name) for name in fields} == fields


def test_longest_ack_id_of_javascript_is_read() -> None:
    assert decoded('29007199254740991["a"]').id == 2**53 - 1


# -- JSON: what is refused -----------------------------------------------------------------------------------

MALFORMED: dict[str, list[Any]] = {
    "empty": [""],
    "no digit": ["x"],
    "type 7": ['7["a"]'],
    "digit of another script": ['\u0662["a"]'],
    "binary first": [b"\x01"],
    "event without data": ["2"],
    "event without name": ["2[]"],
    "event that is an object": ['2{"a":1}'],
    "event that is text": ['2"a"'],
    "event name null": ["2[null]"],
    "event name boolean": ["2[true]"],
    "event name float": ["2[1.5]"],
    "event name list": ['2[["a"]]'],
    "event name object": ["2[{}]"],
    "reserved connect": ['2["connect"]'],
    "reserved connect_error": ['2["connect_error"]'],
    "reserved disconnect": ['2["disconnect"]'],
    "reserved disconnecting": ['2["disconnecting"]'],
    "reserved newListener": ['2["newListener"]'],
    "reserved removeListener": ['2["removeListener"]'],
    "reserved with attachment": ['51-["disconnect",{"_placeholder":true,"num":0}]'],
    "broken JSON": ['2["a"'],
    "JSON and more": ['2["a"]x'],
    "NaN": ['2["a",NaN]'],
    "lone surrogate": ['2["a","\\ud800"]'],
    "nested too deep": ["2" + "[" * 5000 + "]" * 5000],
    "ack without id": ["3[]"],
    "ack without data": ["312"],
    "ack that is an object": ["312{}"],
    "ack id of 17 digits": ["2" + "1" * 17 + '["a"]'],
    "connect with a list": ["0[]"],
    "connect with text": ['0"x"'],
    "connect with a number": ["0 1"],
    "disconnect with data": ['1["a"]'],
    "connect error": ['4{"message":"x"}'],
    "binary without count": ['5["a"]'],
    "binary without dash": ['51["a"]'],
    "binary with empty count": ['5-["a"]'],
    "binary with negative count": ['5-1-["a"]'],
    "binary with count of another script": ['5\u0661-["a"]'],
    "too many attachments": [f'5{codec.MAX_ATTACHMENTS + 1}-["a"]'],
    "attachments beyond counting": ['599999999999999-["a"]'],
    "binary ack without id": ['61-[{"_placeholder":true,"num":0}]'],
    "text for an attachment": ['51-["a",{"_placeholder":true,"num":0}]', "x"],
    "attachment without placeholder": ['51-["a"]', b"x"],
    "placeholder too high": ['51-["a",{"_placeholder":true,"num":1}]', b"x"],
    "placeholder negative": ['51-["a",{"_placeholder":true,"num":-1}]', b"x"],
    "placeholder not a number": ['51-["a",{"_placeholder":true,"num":"0"}]', b"x"],
    "placeholder boolean": ['51-["a",{"_placeholder":true,"num":false}]', b"x"],
    "placeholder without number": ['51-["a",{"_placeholder":true}]', b"x"],
    "placeholder twice": ['51-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]', b"x"],
    "binary nested too deep": ['51-["a",' + "[" * 900 + '{"_placeholder":true,"num":0}' + "]" * 900 + "]", b"x"],
}


@pytest.mark.parametrize("parts", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_packets_are_packet_errors(parts: list[Any]) -> None:
    with pytest.raises(PacketError):
        decoded(*parts)


@given(st.text(alphabet='0123456789-/,?[]{}"\\anul:\u0662', max_size=30))
def test_any_text_is_a_packet_or_a_packet_error(text: str) -> None:
    try:
        JsonPacket(encoded_packet=text)
    except PacketError:
        pass


@given(st.text(max_size=20), st.lists(st.binary(max_size=3) | st.text(max_size=3), max_size=3))
def test_any_attachments_make_a_packet_or_a_packet_error(body: str, attachments: list[Any]) -> None:
    try:
        packet = JsonPacket(encoded_packet='52-["a",{"_placeholder":true,"num":0},' + json.dumps(body) + "]")
        for attachment in attachments:
            if packet.add_attachment(attachment):
                break
    except PacketError:
        pass


def test_placeholders_outside_of_binary_packets_are_data() -> None:
    assert decoded('2["a",{"_placeholder":true,"num":0}]').data == ["a", {"_placeholder": True, "num": 0}]


# -- JSON: round trips ---------------------------------------------------------------------------------------

_keys = st.text(max_size=5).filter(lambda key: key != "_placeholder")
_values: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=12,
)
_names = st.text(max_size=10).filter(lambda name: name not in codec.RESERVED_EVENTS)


@pytest.mark.parametrize("packet_class", [JsonPacket, json_packet_with(json), MsgpackPacket])
@given(name=_names, arguments=st.lists(_values, max_size=4), ack_id=st.none() | st.integers(0, 2**53 - 1))
def test_events_survive_the_wire(packet_class: Any, name: str, arguments: list[Any], ack_id: int | None) -> None:
    sent = packet_class(EVENT, data=[name, *arguments], namespace="/chat", id=ack_id)
    got = decoded(*encoded(sent), packet_class=packet_class)
    assert got.data == [name, *arguments]
    assert (got.packet_type, got.namespace, got.id) == (EVENT, "/chat", ack_id)


@given(name=_names, arguments=st.lists(_values, max_size=4))
def test_python_socketio_reads_what_is_sent(name: str, arguments: list[Any]) -> None:
    first, *attachments = encoded(JsonPacket(EVENT, data=[name, *arguments], namespace="/chat", id=3))
    packet = library.Packet(encoded_packet=first)
    for attachment in attachments:
        packet.add_attachment(attachment)
    assert packet.data == [name, *arguments]
    assert (packet.namespace, packet.id) == ("/chat", 3)


@given(st.lists(_values, max_size=4))
def test_python_socketios_packets_are_read(arguments: list[Any]) -> None:
    whole = library.Packet(EVENT, data=["a", *arguments]).encode()
    parts = whole if isinstance(whole, list) else [whole]
    assert decoded(*parts).data == ["a", *arguments]


@pytest.mark.parametrize("namespace", [None, "/"])
def test_main_namespace_is_not_written(namespace: str | None) -> None:
    assert encoded(JsonPacket(EVENT, data=["a"], namespace=namespace)) == ['2["a"]']


def test_binary_of_every_kind_becomes_an_attachment_in_order() -> None:
    data = ["a", b"1", {"x": [bytearray(b"2"), memoryview(b"3")]}]
    first, *attachments = encoded(JsonPacket(EVENT, data=data, id=5))
    assert first.startswith('53-5["a",')
    assert attachments == [b"1", b"2", b"3"]
    assert all(type(attachment) is bytes for attachment in attachments)


def test_ack_with_binary_is_a_binary_ack() -> None:
    assert encoded(JsonPacket(ACK, data=[b"1"], id=2))[0].startswith("61-2[")


@pytest.mark.parametrize("packet_type", [CONNECT, CONNECT_ERROR])
def test_only_events_and_acks_carry_binary(packet_type: int) -> None:
    with pytest.raises(ValueError, match="only events and acks"):
        JsonPacket(packet_type, data={"a": b"1"}).encode()


# -- JSON: values at the edges -------------------------------------------------------------------------------


def test_big_integers_are_sent_exactly() -> None:
    assert encoded(JsonPacket(EVENT, data=["a", 2**64, -(2**200)])) == [f'2["a",{2**64},{-(2**200)}]']


def test_big_integers_of_a_client_are_read() -> None:
    assert decoded(f'2["a",{2**64 - 1},{2**70}]').data[1] == 2**64 - 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_sent_as_null_like_in_javascript(value: float) -> None:
    assert encoded(JsonPacket(EVENT, data=["a", value])) == ['2["a",null]']
    assert encoded(JsonPacket(EVENT, data=["a", value, 2**70])) == [f'2["a",null,{2**70}]']


def test_lone_surrogates_are_sent_as_escapes() -> None:
    [text] = encoded(JsonPacket(EVENT, data=["a", "x\ud800"]))
    assert text == '2["a","x\\ud800"]'
    assert to_outbound(JsonPacket(EVENT, data=["a", "x\ud800"])).text == b'42["a","x\\ud800"]'


def test_keys_that_are_no_text_become_text() -> None:
    [text] = encoded(JsonPacket(EVENT, data=["a", {2: "x", None: "y", True: "z", 1.5: "w"}]))
    assert json.loads(text[1:])[1] == {"2": "x", "null": "y", "true": "z", "1.5": "w"}


def test_slow_way_keeps_attachments_in_order() -> None:
    first, *attachments = encoded(JsonPacket(EVENT, data=["a", b"1", {1: b"2"}, 2**70, b"3"]))
    assert attachments == [b"1", b"2", b"3"]
    assert decoded(first.replace(str(2**70), "7"), *attachments).data == ["a", b"1", {"1": b"2"}, 7, b"3"]


class Unknown:
    pass


@pytest.mark.parametrize("value", [Unknown(), {1, 2}, {b"key": 1}, {(1, 2): 1}, 1j, object], ids=repr)
@pytest.mark.parametrize("packet_class", [JsonPacket, json_packet_with(json), MsgpackPacket])
def test_what_cannot_be_sent_is_a_type_or_value_error(packet_class: Any, value: Any) -> None:
    if packet_class is MsgpackPacket and isinstance(value, dict):
        return  # msgpack has such keys
    with pytest.raises((TypeError, ValueError)):
        packet_class(EVENT, data=["a", value]).encode()


@pytest.mark.parametrize("packet_class", [JsonPacket, json_packet_with(json), MsgpackPacket])
def test_data_that_holds_itself_is_a_type_or_value_error(packet_class: Any) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises((TypeError, ValueError)):
        packet_class(EVENT, data=["a", loop]).encode()


@pytest.mark.parametrize("packet_class", [JsonPacket, json_packet_with(json), MsgpackPacket])
def test_data_nested_too_deep_is_a_type_or_value_error(packet_class: Any) -> None:
    deep: list[Any] = []
    for _ in range(sys.getrecursionlimit() * 10):
        deep = [deep]
    with pytest.raises((TypeError, ValueError)):
        packet_class(EVENT, data=["a", deep]).encode()


def test_data_nested_too_deep_is_a_packet_error_with_a_json_module_too() -> None:
    with pytest.raises(PacketError):
        json_packet_with(json)(encoded_packet='2["a",' + "[" * 50_000 + "]" * 50_000 + "]")


# -- msgpack -------------------------------------------------------------------------------------------------


def packed(**fields: Any) -> bytes:
    return msgpack.packb({"type": EVENT, "nsp": "/", **fields})


def test_msgpack_is_one_binary_packet() -> None:
    packet = MsgpackPacket(EVENT, data=["a", b"\x01", {"b": None}], namespace=None, id=4)
    assert msgpack.unpackb(packet.encode()) == {"type": 2, "nsp": "/", "data": ["a", b"\x01", {"b": None}], "id": 4}
    outbound = to_outbound(packet)
    assert outbound.text is None
    assert list(outbound.attachments) == [packet.encode()]


def test_msgpack_leaves_out_what_is_not_there() -> None:
    assert msgpack.unpackb(MsgpackPacket(DISCONNECT, namespace="/x").encode()) == {"type": 1, "nsp": "/x"}


def test_msgpack_undefined_of_javascript_is_none() -> None:
    undefined = msgpack.ExtType(0, b"\0")
    packet = MsgpackPacket(encoded_packet=packed(data=["a", undefined, {"b": undefined}]))
    assert packet.data == ["a", None, {"b": None}]
    assert MsgpackPacket(encoded_packet=packed(type=DISCONNECT, data=undefined, id=undefined)).data is None


def test_msgpack_extensions_are_the_applications() -> None:
    packet = MsgpackPacket(encoded_packet=packed(data=["a", msgpack.ExtType(5, b"x")]))
    assert packet.data[1] == msgpack.ExtType(5, b"x")


@pytest.mark.parametrize("value", [2**64, -(2**64)])
def test_msgpack_integers_that_do_not_fit_are_a_type_or_value_error(value: int) -> None:
    with pytest.raises((TypeError, ValueError)):
        MsgpackPacket(EVENT, data=["a", value]).encode()


MSGPACK_MALFORMED: dict[str, Any] = {
    "text": '2["a"]',
    "not msgpack": b"\xc1",
    "cut": packed(data=["a"])[:-1],
    "two packets": packed(data=["a"]) * 2,
    "list": msgpack.packb([1, 2]),
    "keys that are no text": msgpack.packb({1: 2}),
    "no type": msgpack.packb({"nsp": "/", "data": ["a"]}),
    "type 5": packed(type=5, data=["a"]),
    "type boolean": packed(type=True, data=["a"]),
    "type float": packed(type=2.0, data=["a"]),
    "type -1": packed(type=-1),
    "no namespace": msgpack.packb({"type": 2, "data": ["a"]}),
    "namespace a number": packed(nsp=1, data=["a"]),
    "namespace without slash": packed(nsp="chat", data=["a"]),
    "id negative": packed(data=["a"], id=-1),
    "id boolean": packed(data=["a"], id=True),
    "id text": packed(data=["a"], id="1"),
    "event without data": packed(),
    "event without name": packed(data=[]),
    "reserved event": packed(data=["disconnect"]),
    "event name binary": packed(data=[b"a"]),
    "ack without id": packed(type=ACK, data=[]),
    "connect error": packed(type=CONNECT_ERROR, data={}),
    "text not UTF-8": b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa1\xff",
    "nested too deep": b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data" + b"\x91" * 100_000 + b"\x01",
    "broken timestamp": packed(data=["a", msgpack.ExtType(5, b"")]).replace(b"\xc7\x00\x05", b"\xc7\x00\xff"),
    "length beyond the data": b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\xdd\xff\xff\xff\xff",
}


@pytest.mark.parametrize("data", MSGPACK_MALFORMED.values(), ids=MSGPACK_MALFORMED.keys())
def test_malformed_msgpack_is_a_packet_error(data: Any) -> None:
    with pytest.raises(PacketError):
        MsgpackPacket(encoded_packet=data)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_packet_or_a_packet_error(data: bytes) -> None:
    try:
        MsgpackPacket(encoded_packet=data)
    except PacketError:
        pass


# -- other packet classes ------------------------------------------------------------------------------------


def test_json_module_belongs_to_one_packet_class_alone() -> None:
    class Loud:
        dumps = staticmethod(lambda data, **options: json.dumps(["loud", *data[1:]], **options))
        loads = staticmethod(lambda text: ["loud"])

    loud = json_packet_with(Loud)
    assert encoded(loud(EVENT, data=["a"])) == ['2["loud"]']
    assert loud(encoded_packet='2["a"]').data == ["loud"]
    assert encoded(JsonPacket(EVENT, data=["a"])) == ['2["a"]']
    assert library.Packet.json is not Loud


def test_python_socketios_own_packet_class_can_be_sent() -> None:
    outbound = to_outbound(library.Packet(EVENT, data=["a", b"\x01"]))
    assert outbound.text is not None
    assert outbound.text.startswith(b"451-[")
    assert list(outbound.attachments) == [b"\x01"]
    assert isinstance(to_outbound(library.Packet(EVENT, data=["a"])), OutboundMessage)


def test_packet_types_are_the_librarys() -> None:
    assert [CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR, BINARY_EVENT] == [
        library.CONNECT,
        library.DISCONNECT,
        library.EVENT,
        library.ACK,
        library.CONNECT_ERROR,
        library.BINARY_EVENT,
    ]


# -- the short way -------------------------------------------------------------------------------------------

#: Packets, nearly packets and neither, from the pieces that packets are made of.
_pieces = st.sampled_from(
    [
        *[
            "2",
            "0",
            "3",
            "5",
            "1-",
            "/",
            "/chat",
            "/a?b",
            ",",
            "12",
            "007",
            "٣",
            "[",
            '["a"',
            '"message"',
            "7",
            "]",
            '["hello",1]',
            "[[[",
            "{}",
            "true",
            '["connect"]',
            "[]",
        ],
        *(" ", "\ud800", "9" * 17, "[" * 130),
    ]
)


def check_short_way(text: str) -> None:
    short = codec.read_event(text)
    if short is None:
        return
    packet = decoded(text)
    assert packet.packet_type == EVENT
    assert packet.attachment_count == 0
    assert short == (packet.namespace or "/", packet.id, packet.data)


@given(st.lists(_pieces, max_size=8).map("".join))
def test_short_way_reads_nothing_but_events_and_as_the_long_way_does(text: str) -> None:
    check_short_way("2" + text)
    check_short_way(text)


@given(name=_names, arguments=st.lists(_values, max_size=4), ack_id=st.none() | st.integers(0, 2**53 - 1))
@pytest.mark.parametrize("namespace", [None, "/chat", "/" + "n" * 255])
def test_short_way_reads_events(namespace: str | None, name: str, arguments: list[Any], ack_id: int | None) -> None:
    text, *attachments = encoded(JsonPacket(EVENT, data=[name, *arguments], namespace=namespace, id=ack_id))
    if attachments:
        assert codec.read_event(text) is None
    else:
        check_short_way(text)
        assert codec.read_event(text) == (namespace or "/", ack_id, [name, *arguments])


@pytest.mark.parametrize(
    "packet",
    [
        *[
            "2",
            "2[]",
            "2[7]",
            '2{"0":"a"}',
            '2["connect"]',
            "2[",
            '2/chat["a"]',
            '2/a?b,["a"]',
            '21-["a"]',
            '2٣["a"]',
            '3["a"]',
            '51-["a"]',
        ],
        *("", b'2["a"]', f'2{"9" * 17}["a"]', f'2/{"n" * 256},["a"]', f'2["a",{"[" * 128}{"]" * 128}]'),
    ],
)
def test_short_way_leaves_to_the_long_way_what_is_not_a_plain_event(packet: Any) -> None:
    assert codec.read_event(packet) is None


@given(values=st.lists(_values | st.sampled_from([2**64, math.nan]), max_size=3), ack_id=st.integers(0, 2**53 - 1))
@pytest.mark.parametrize("namespace", ["/", "/chat"])
def test_acks_are_the_same_by_either_way(namespace: str, values: list[Any], ack_id: int) -> None:
    short, long = codec.ack(namespace, ack_id, values), to_outbound(JsonPacket(ACK, values, namespace, ack_id))
    assert (short.text, list(short.attachments)) == (long.text, list(long.attachments))


@pytest.mark.parametrize("value", [object(), [{1, 2}]])
def test_acks_that_cannot_be_sent_are_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        codec.ack("/", 1, [value])

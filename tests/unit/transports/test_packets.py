"""Engine.IO packets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports.errors import RemoteProtocolError
from transports.protocol.packets import Packet, PacketType, decode_packet, decode_payload, encode_binary, packet_count


@pytest.mark.parametrize("packet_type", list(PacketType))
def test_each_type_is_one_ascii_digit(packet_type: PacketType) -> None:
    assert decode_packet(f"{int(packet_type)}data") == Packet(packet_type, "data")
    assert decode_packet(f"{int(packet_type)}") == Packet(packet_type, "")


@pytest.mark.parametrize("encoded", ["7", "9x", "a", "B", " 4", "-1", "\u0664hello", "\u0967", "\ud800", "\x1e"])
def test_unknown_type_is_refused(encoded: str) -> None:
    with pytest.raises(RemoteProtocolError, match="unknown packet type"):
        decode_packet(encoded)


def test_empty_packet_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="empty packet"):
        decode_packet("")


@pytest.mark.parametrize("encoded", ["bAQ", "bAQ=", "b=", "bA===", "b####", "bAQ==AQ==", "b AQ==", "bAQ==\n", "bü"])
def test_broken_base64_is_refused(encoded: str) -> None:
    with pytest.raises(RemoteProtocolError, match="not base64"):
        decode_packet(encoded)


@given(st.binary(max_size=200))
def test_binary_survives_the_text_form(data: bytes) -> None:
    encoded = encode_binary(data)
    assert b"\x1e" not in encoded
    assert b"\n" not in encoded
    assert decode_packet(encoded.decode()) == Packet(PacketType.MESSAGE, data)


def test_payload_splits_at_separators() -> None:
    body = b"4first\x1ebAQID\x1e2probe\x1e4"
    assert list(decode_payload(body)) == [
        Packet(PacketType.MESSAGE, "first"),
        Packet(PacketType.MESSAGE, b"\x01\x02\x03"),
        Packet(PacketType.PING, "probe"),
        Packet(PacketType.MESSAGE, ""),
    ]


@pytest.mark.parametrize("body", [b"", b"\x1e", b"4a\x1e", b"\x1e4a", b"4a\x1e\x1e4b"])
def test_payload_with_an_empty_packet_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="empty packet"):
        list(decode_payload(body))


@pytest.mark.parametrize("body", [b"4\xff", b"4\xc3", b"\xed\xa0\x80", b"4\xc0\x80"])
def test_payload_that_is_not_utf8_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not UTF-8"):
        list(decode_payload(body))


@pytest.mark.parametrize("broken", [b"4\xff", b"", b"9", b"b!"])
def test_packets_before_a_broken_one_are_read(broken: bytes) -> None:
    packets = decode_payload(b"4a\x1e4b\x1e" + broken + b"\x1e4c")
    assert [next(packets).data, next(packets).data] == ["a", "b"]
    with pytest.raises(RemoteProtocolError):
        next(packets)


@given(st.binary(max_size=100))
def test_any_body_is_packets_or_a_remote_error(body: bytes) -> None:
    try:
        packets = list(decode_payload(body))
    except RemoteProtocolError:
        return
    assert len(packets) == packet_count(body)

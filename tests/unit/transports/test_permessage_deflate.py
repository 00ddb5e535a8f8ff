"""Compressed messages: what is agreed, and that no data makes more than its bound."""

import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports.errors import RemoteProtocolError
from transports.protocol.permessage_deflate import agree, deflate, inflate

ANSWER = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


@pytest.mark.parametrize(
    ("offers", "bits"),
    [
        ("permessage-deflate", 15),
        ("permessage-deflate; client_max_window_bits", 15),  # browsers
        ("permessage-deflate;client_max_window_bits=10;server_no_context_takeover", 15),
        ("permessage-deflate; client_no_context_takeover; server_no_context_takeover", 15),
        ("permessage-deflate; server_max_window_bits=10", 10),
        ('permessage-deflate; server_max_window_bits="9"', 9),
        ("permessage-deflate; server_max_window_bits=15", 15),
        ("x-webkit-deflate-frame, permessage-deflate", 15),
        ('foo; bar="a, b; c=d", permessage-deflate', 15),
        ("\tpermessage-deflate \t", 15),
        # the first is declined, the second taken
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=12", 12),
        ("permessage-deflate; unknown, permessage-deflate", 15),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", 10),
    ],
)
def test_first_acceptable_offer_is_taken(offers: str, bits: int) -> None:
    agreement = agree(offers)
    assert agreement is not None
    assert agreement.window_bits == bits
    expected = ANSWER
    if "server_max_window_bits" in offers:
        expected += f"; server_max_window_bits={bits}"
    assert agreement.answer == expected


@pytest.mark.parametrize(
    "offers",
    [
        "",
        "permessage-bzip2",
        "x-webkit-deflate-frame",
        "permessage-deflate; unknown",
        "permessage-deflate; unknown=1",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=true",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=+10",
        "permessage-deflate; server_max_window_bits=1\u0665",
        'permessage-deflate; server_max_window_bits=""',
        "permessage-deflate; client_max_window_bits=0",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=abc",
        "permessage-deflate; Client_Max_Window_Bits=10",
        "permessage-deflate;",
        "permessage-deflate; =1",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate permessage-deflate",
        "(, permessage-deflate",
        'foo; bar="open, permessage-deflate',
        ", permessage-deflate",
    ],
)
def test_other_offers_are_declined(offers: str) -> None:
    assert agree(offers) is None


@given(st.text(max_size=60), st.text(alphabet='permessage-deflate;=," 15_', max_size=60))
def test_any_header_is_agreed_to_or_declined(text: str, likely: str) -> None:
    agree(text)
    agree(likely)
    agree("permessage-deflate;" + likely)


def test_long_header_takes_no_longer_than_its_length_asks() -> None:
    assert agree("a;" * 30_000) is None
    assert agree("permessage-deflate" + ";a=1" * 15_000) is None
    assert agree("permessage-deflate; x=" + '"' * 30_000) is None
    assert agree(" \t" * 30_000) is None
    assert agree("a, " * 20_000) is None


@given(st.binary(max_size=2000), st.integers(9, 15))
def test_what_is_deflated_is_inflated(data: bytes, bits: int) -> None:
    assert inflate(deflate(data, bits), len(data)) == data


def test_example_of_the_rfc() -> None:
    # RFC 7692, section 7.2.3.1, and 7.2.3.2, where a block stands for itself.
    assert inflate(bytes.fromhex("f248cdc9c90700"), 5) == b"Hello"
    # 7.2.3.3: without compression; 7.2.3.4: with a last block; 7.2.3.5: two blocks; 7.2.3.6: an empty message.
    assert inflate(bytes.fromhex("000500faff48656c6c6f00"), 5) == b"Hello"
    assert inflate(bytes.fromhex("f348cdc9c9070000"), 5) == b"Hello"
    assert inflate(bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", "")), 5) == b"Hello"
    assert inflate(b"\x00", 0) == b""


def code_of(data: bytes, limit: int = 1000) -> int:
    with pytest.raises(RemoteProtocolError) as caught:
        inflate(data, limit)
    return caught.value.close_code


def test_bound_is_exact() -> None:
    assert inflate(deflate(b"x" * 1000, 15), 1000) == b"x" * 1000
    assert code_of(deflate(b"x" * 1001, 15)) == 1009
    several = zlib.compressobj(wbits=-15)
    first = several.compress(b"x" * 600) + several.flush()
    assert code_of(first + deflate(b"x" * 401, 15)) == 1009
    assert inflate(first + deflate(b"x" * 400, 15), 1000) == b"x" * 1000


def test_bomb_is_stopped_at_the_bound() -> None:
    packer = zlib.compressobj(9, wbits=-15)
    zeros = bytes(1 << 20)
    bomb = b"".join([packer.compress(zeros) for _ in range(200)]) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert len(bomb) < 300_000
    tracemalloc.start()
    try:
        assert code_of(bomb, 1_000_000) == 1009
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_broken_data_is_refused() -> None:
    noise = random.Random(1).randbytes(100)
    assert code_of(noise) == 1007
    assert code_of(b"") == 1007
    assert code_of(b"\xff" * 10) == 1007
    whole = deflate(bytes(range(256)) * 2, 15)
    for length in range(1, len(whole)):
        assert code_of(whole[:length]) == 1007, "cut off"
    assert code_of(whole + b"\x01") == 1007


def test_message_of_countless_streams_is_refused_at_once() -> None:
    assert code_of(b"\x03\x00" * 500_000) == 1007


@given(st.binary(max_size=200), st.integers(0, 100))
def test_any_data_is_inflated_or_refused_within_its_bound(data: bytes, limit: int) -> None:
    for each in (data, deflate(data, 15) + data, b"\x03\x00" + data):
        try:
            size, code = len(inflate(each, limit)), 1007
        except RemoteProtocolError as error:
            size, code = 0, error.close_code
        assert size <= limit
        assert code in (1007, 1009)

"""WebSocket frames: the parser gives the same messages however the bytes come."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.transports.engine_doubles import MASK, client_frame
from transports.errors import RemoteProtocolError
from transports.protocol.frames import (
    BINARY,
    CLOSE,
    COMPRESSED,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    FrameParser,
    Message,
    decode_close,
    encode_close,
    encode_frame,
    unmask,
)
from transports.refusals import CloseCode

LIMIT = 100_000


def parse(data: bytes, cuts: list[int] | None = None, limit: int = LIMIT) -> tuple[list[Message], int | None]:
    """The messages, and the close code of the error if there was one."""
    parser = FrameParser(limit)
    messages: list[Message] = []
    edges = [0, *sorted(cuts or []), len(data)]
    for start, end in pairwise(edges):
        messages += parser.feed(data[start:end])
    return messages, None if parser.error is None else parser.error.close_code


def parse_bytewise(data: bytes, limit: int = LIMIT) -> tuple[list[Message], int | None]:
    return parse(data, list(range(1, len(data))), limit)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 65535, 65536, 70000])
def test_each_length_form_is_read_whole_and_byte_by_byte(size: int) -> None:
    data = bytes(index * 7 % 256 for index in range(size))
    wire = client_frame(BINARY, data) + client_frame(TEXT, "end")
    expected = ([Message(BINARY, data), Message(TEXT, "end")], None)
    assert parse(wire) == expected
    assert parse_bytewise(wire) == expected


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536])
def test_encoded_frames_have_the_shortest_length(size: int) -> None:
    wire = encode_frame(BINARY, b"x" * size)
    assert wire[0] == 0x82
    head = 2 if size < 126 else 4 if size < 65536 else 10
    assert len(wire) == head + size
    assert wire[head:] == b"x" * size


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
def test_unmask_is_its_own_inverse(data: bytes, mask: bytes) -> None:
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    assert unmask(masked, mask) == data
    assert unmask(unmask(data, mask), mask) == data


def test_fragments_become_one_message_with_control_frames_between() -> None:
    wire = (
        client_frame(TEXT, "a\u20ac".encode()[:2], fin=False)
        + client_frame(PING, b"are you there")
        + client_frame(CONTINUATION, "a\u20ac".encode()[2:3], fin=False)
        + client_frame(PONG)
        + client_frame(CONTINUATION, "a\u20ac".encode()[3:])
        + client_frame(BINARY, b"\x00", fin=False)
        + client_frame(CONTINUATION, b"")
    )
    expected = (
        [Message(PING, b"are you there"), Message(PONG, b""), Message(TEXT, "a\u20ac"), Message(BINARY, b"\x00")],
        None,
    )
    assert parse(wire) == expected
    assert parse_bytewise(wire) == expected


REFUSED = {
    "first reserved bit": (client_frame(TEXT, "x", rsv=0x40), 1002),
    "second reserved bit": (client_frame(TEXT, "x", rsv=0x20), 1002),
    "third reserved bit": (client_frame(BINARY, "x", rsv=0x10), 1002),
    "no mask": (b"\x81\x01x", 1002),
    "no mask, long": (b"\x81\x7e\x00\x80" + b"x" * 128, 1002),
    "no mask, empty": (b"\x81\x00", 1002),
    "opcode 3": (client_frame(3, "x"), 1002),
    "opcode 7": (client_frame(7, "x"), 1002),
    "opcode 11": (client_frame(11, "x"), 1002),
    "opcode 15": (client_frame(15, "x"), 1002),
    "fragmented ping": (client_frame(PING, "x", fin=False), 1002),
    "fragmented close": (client_frame(CLOSE, "", fin=False), 1002),
    "long ping": (client_frame(PING, "x" * 126), 1002),
    "continuation of nothing": (client_frame(CONTINUATION, "x"), 1002),
    "text inside fragments": (client_frame(TEXT, "a", fin=False) + client_frame(TEXT, "b"), 1002),
    "binary inside fragments": (client_frame(TEXT, "a", fin=False) + client_frame(BINARY, "b", fin=False), 1002),
    "text not UTF-8": (client_frame(TEXT, b"\xff"), 1007),
    "text with surrogate": (client_frame(TEXT, b"\xed\xa0\x80"), 1007),
    "fragmented text not UTF-8": (
        client_frame(TEXT, b"\xe2", fin=False) + client_frame(CONTINUATION, b"\x82"),
        1007,
    ),
    "16-bit length of 125": (b"\x82\xfe\x00\x7d" + MASK + b"x" * 125, 1002),
    "64-bit length of 65535": (b"\x82\xff" + (65535).to_bytes(8, "big") + MASK, 1002),
    "64-bit length with top bit": (b"\x82\xff" + (1 << 63).to_bytes(8, "big") + MASK, 1002),
    "too big": (client_frame(BINARY, b"x" * (LIMIT + 1)), 1009),
    "fragments too big": (
        client_frame(BINARY, b"x" * (LIMIT // 2 + 1), fin=False) + client_frame(CONTINUATION, b"x" * (LIMIT // 2)),
        1009,
    ),
}


@pytest.mark.parametrize(("wire", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_protocol_forbids_is_refused_with_its_close_code(wire: bytes, code: int) -> None:
    good = client_frame(TEXT, "before")
    assert parse(good + wire + good) == ([Message(TEXT, "before")], code)
    assert parse_bytewise(good + wire) == ([Message(TEXT, "before")], code)


def test_fragmented_text_fails_with_the_fragment_that_breaks_it() -> None:
    parser = FrameParser(LIMIT)
    assert not parser.feed(client_frame(TEXT, "\u03ba".encode() + b"\xf4", fin=False))
    assert parser.error is None, "what comes next may complete the character"
    assert not parser.feed(client_frame(CONTINUATION, b"\x90", fin=False))
    assert parser.error is not None
    assert parser.error.close_code == 1007


@given(st.text(max_size=30), st.lists(st.integers(0, 120), max_size=6))
def test_text_may_be_cut_into_fragments_at_any_byte(text: str, cuts: list[int]) -> None:
    data = text.encode()
    edges = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    parts = [data[start:end] for start, end in pairwise(edges)]
    wire = b"".join(
        client_frame(CONTINUATION if index else TEXT, part, fin=index == len(parts) - 1)
        for index, part in enumerate(parts)
    )
    assert parse(wire) == ([Message(TEXT, text)], None)


def test_compressed_messages_are_returned_as_they_came() -> None:
    wire = (
        client_frame(TEXT, b"\x00", rsv=0x40)
        + client_frame(BINARY, b"\xff", rsv=0x40, fin=False)
        + client_frame(PING, b"p")
        + client_frame(CONTINUATION, b"\xfe")
        + client_frame(TEXT, "plain")
    )
    expected = [
        Message(TEXT | COMPRESSED, b"\x00"),
        Message(PING, b"p"),
        Message(BINARY | COMPRESSED, b"\xff\xfe"),
        Message(TEXT, "plain"),
    ]
    for cuts in ([], list(range(1, len(wire)))):
        parser = FrameParser(LIMIT, takes_compressed=True)
        edges = [0, *cuts, len(wire)]
        found: list[Message] = []
        for start, end in pairwise(edges):
            found += parser.feed(wire[start:end])
        assert found == expected
        assert parser.error is None


@pytest.mark.parametrize(
    "wire",
    [
        client_frame(PING, rsv=0x40),
        client_frame(CLOSE, rsv=0x40),
        client_frame(TEXT, "a", fin=False) + client_frame(CONTINUATION, "b", rsv=0x40),
        client_frame(TEXT, "a", rsv=0x20),
        client_frame(TEXT, "a", rsv=0x60),
        client_frame(CONTINUATION, "a", rsv=0x40),
        client_frame(TEXT, b"a", rsv=0x40, fin=False) + client_frame(TEXT, b"a", rsv=0x40),
    ],
)
def test_compression_is_marked_on_the_first_frame_of_a_message_alone(wire: bytes) -> None:
    parser = FrameParser(LIMIT, takes_compressed=True)
    parser.feed(wire)
    assert parser.error is not None
    assert parser.error.close_code == 1002


def test_compressed_fragments_are_bounded_as_they_come() -> None:
    parser = FrameParser(1000, takes_compressed=True)
    parser.feed(client_frame(BINARY, b"x" * 900, rsv=0x40, fin=False) + client_frame(CONTINUATION, b"x" * 101))
    assert parser.error is not None
    assert parser.error.close_code == 1009


def test_too_big_is_said_on_the_header_before_the_bytes_come() -> None:
    parser = FrameParser(1000)
    assert not parser.feed(b"\x82\xfe" + (1001).to_bytes(2, "big"))
    parser.feed(MASK)
    assert parser.error is not None
    assert parser.error.close_code == 1009


def test_fragments_too_big_together_are_refused_on_the_header_that_says_so() -> None:
    parser = FrameParser(1000)
    parser.feed(client_frame(BINARY, b"x" * 900, fin=False))
    assert parser.error is None
    parser.feed(client_frame(CONTINUATION, b"x" * 900)[:8])
    assert parser.error is not None, "900 bytes more than can be accepted would be buffered first"
    assert parser.error.close_code == 1009


def test_exactly_the_limit_is_accepted() -> None:
    assert parse(client_frame(BINARY, b"x" * 1000), limit=1000) == ([Message(BINARY, b"x" * 1000)], None)
    halves = client_frame(BINARY, b"x" * 500, fin=False) + client_frame(CONTINUATION, b"x" * 500)
    assert parse(halves, limit=1000) == ([Message(BINARY, b"x" * 1000)], None)


def test_nothing_is_read_after_an_error() -> None:
    parser = FrameParser(LIMIT)
    parser.feed(b"\x81\x00")
    error = parser.error
    assert not parser.feed(client_frame(TEXT, "late"))
    assert parser.error is error


def test_nothing_is_read_behind_a_close_frame() -> None:
    wire = client_frame(CLOSE, b"\x03\xe8") + client_frame(TEXT, "late")
    assert parse(wire) == ([Message(CLOSE, b"\x03\xe8")], None)
    assert parse_bytewise(wire) == ([Message(CLOSE, b"\x03\xe8")], None)


@given(st.binary(max_size=80), st.lists(st.integers(0, 80), max_size=6))
@settings(max_examples=300)
def test_any_bytes_end_in_messages_or_an_error_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    whole = parse(data)
    assert parse(data, [cut for cut in cuts if cut <= len(data)]) == whole
    assert parse_bytewise(data) == whole


_frames = st.builds(
    client_frame,
    st.sampled_from([CONTINUATION, TEXT, BINARY, PING, PONG, TEXT, BINARY, 3, CLOSE]),
    st.one_of(st.binary(max_size=20), st.text(max_size=10), st.binary(min_size=120, max_size=130)),
    fin=st.booleans(),
    mask=st.binary(min_size=4, max_size=4),
)


@given(st.lists(_frames, max_size=6).map(b"".join), st.lists(st.integers(0, 400), max_size=5))
@settings(max_examples=300)
def test_any_frames_are_read_the_same_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    whole = parse(data, limit=128)
    assert parse(data, [cut for cut in cuts if cut <= len(data)], limit=128) == whole
    assert parse_bytewise(data, limit=128) == whole


def test_close_frames_round_trip() -> None:
    body = encode_close(1012, "come back")[2:]
    assert decode_close(body) == (1012, "come back")
    assert decode_close(b"") == (1005, "")


def test_close_reason_is_cut_between_characters() -> None:
    wire = encode_close(1000, "\u20ac" * 50)
    assert len(wire) <= 127
    assert decode_close(wire[2:]) == (1000, "\u20ac" * 41)


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999])
def test_codes_that_may_be_sent_are_accepted(code: int) -> None:
    assert decode_close(code.to_bytes(2, "big")) == (code, "")


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535])
def test_codes_that_must_not_be_sent_are_refused(code: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_close(code.to_bytes(2, "big"))
    assert caught.value.close_code == CloseCode.PROTOCOL_ERROR


def test_close_body_of_one_byte_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        decode_close(b"\x03")


def test_close_reason_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_close(b"\x03\xe8\xff")
    assert caught.value.close_code == CloseCode.INVALID_DATA


@given(st.binary(max_size=20))
def test_any_close_body_is_decoded_or_refused(body: bytes) -> None:
    try:
        decode_close(body)
    except RemoteProtocolError:
        pass

"""Request heads, chunked bodies and response heads."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transports import catalogue
from transports.errors import RemoteProtocolError
from transports.protocol.http1 import (
    ChunkedDecoder,
    RequestHead,
    body_framing,
    encode_chunk,
    encode_response_head,
    parse_head,
)


def head(*lines: str, first: str = "GET / HTTP/1.1", host: bool = True) -> RequestHead:
    return parse_head("\r\n".join([first, *(["Host: a"] if host else []), *lines]).encode("latin-1"))


def test_head_is_read() -> None:
    parsed = head("Accept:  text/plain\t", "X-A: \xfc", first="POST /p?q=1 HTTP/1.1")
    assert (parsed.method, parsed.target, parsed.http_version) == ("POST", "/p?q=1", (1, 1))
    assert parsed.headers == {"host": "a", "accept": "text/plain", "x-a": "\xfc"}


def test_repeated_headers_are_joined_and_cookies_with_a_semicolon() -> None:
    parsed = head("Accept: a", "ACCEPT: b", "Cookie: x=1", "cookie: y=2")
    assert parsed.headers["accept"] == "a, b"
    assert parsed.headers["cookie"] == "x=1; y=2"


@pytest.mark.parametrize(
    "name", ["Host", "Content-Length", "Transfer-Encoding", "Sec-WebSocket-Key", "Origin", "Upgrade"]
)
def test_headers_that_decide_may_come_once_only(name: str) -> None:
    with pytest.raises(RemoteProtocolError, match="more than once"):
        head(f"{name}: 1", f"{name.upper()}: 1")


@pytest.mark.parametrize(
    "first",
    [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "get / HTTP/1.1",
        "GET / HTTP/2.0",
        "GET / HTTP/1.2",
        "GET / http/1.1",
        "GET /\x7f HTTP/1.1",
        "GET /\u00fc HTTP/1.1",
        "GET /",
        "",
        "GET\t/ HTTP/1.1",
        "G\0T / HTTP/1.1",
    ],
)
def test_malformed_request_lines_are_refused(first: str) -> None:
    with pytest.raises(RemoteProtocolError, match="request line"):
        head(first=first)


@pytest.mark.parametrize(
    "line",
    [
        "no colon",
        ": no name",
        "Space : x",
        " folded: x",
        "\tcontinued",
        "A: x\ny: z",
        "A: x\ry",
        "A: \0",
        "A: \x7f",
        "A(b): x",
        "",
    ],
)
def test_malformed_headers_are_refused(line: str) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed header"):
        head(line)


def test_host_is_asked_for_in_http_1_1_only() -> None:
    with pytest.raises(RemoteProtocolError, match="Host"):
        head(host=False)
    assert head(first="GET / HTTP/1.0", host=False).http_version == (1, 0)


@pytest.mark.parametrize(
    ("first", "connection", "keeps"),
    [
        ("GET / HTTP/1.1", None, True),
        ("GET / HTTP/1.1", "close", False),
        ("GET / HTTP/1.1", "Upgrade, Close", False),
        ("GET / HTTP/1.0", None, False),
        ("GET / HTTP/1.0", "Keep-Alive", True),
    ],
)
def test_connection_header_decides_whether_the_connection_stays(first: str, connection: str, keeps: bool) -> None:
    parsed = head(*([] if connection is None else [f"Connection: {connection}"]), first=first)
    assert parsed.keeps_alive is keeps


def test_body_framing_is_length_or_chunks() -> None:
    assert body_framing(head()) == (0, False)
    assert body_framing(head("Content-Length: 0012")) == (12, False)
    assert body_framing(head("Transfer-Encoding: Chunked")) == (0, True)


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 3", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: "],
        ["Content-Length: -1"],
        ["Content-Length: +1"],
        ["Content-Length: 1, 1"],
        ["Content-Length: 1 1"],
        ["Content-Length: "],
        ["Content-Length: 0x10"],
        ["Content-Length: \xb2"],
        ["Content-Length: " + "9" * 19],
    ],
)
def test_ambiguous_body_framing_is_refused(lines: list[str]) -> None:
    with pytest.raises(RemoteProtocolError):
        body_framing(head(*lines))


def test_chunked_is_not_for_http_1_0() -> None:
    with pytest.raises(RemoteProtocolError):
        body_framing(head("Transfer-Encoding: chunked", first="POST / HTTP/1.0"))


@given(st.text(max_size=80))
def test_any_head_is_read_or_refused(text: str) -> None:
    try:
        parse_head(text.encode("utf-8", "surrogatepass"))
    except RemoteProtocolError:
        pass


def decode(data: bytes, cuts: list[int] | None = None, limit: int = 1000) -> object:
    """Body and rest, None while incomplete, or the refusal."""
    decoder = ChunkedDecoder(limit)
    edges = [0, *sorted(cuts or []), len(data)]
    for start, end in pairwise(edges):
        try:
            done = decoder.feed(data[start:end])
        except RemoteProtocolError as error:
            return error.refusal
        if done is not None:
            return done[0], done[1] + data[end:]
    return None


def decode_bytewise(data: bytes, limit: int = 1000) -> object:
    return decode(data, list(range(1, len(data))), limit)


CHUNKED = {
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", (b"hello", b"")),
    "several, and what follows": (b"1\r\na\r\n0A\r\n0123456789\r\n0\r\n\r\nGET /", (b"a0123456789", b"GET /")),
    "extension": (b'3;name="v;w" \t;x\r\nabc\r\n0;last\r\n\r\n', (b"abc", b"")),
    "trailers are dropped": (b"0\r\nX-A: 1\r\nX-B: 2\r\n\r\n", (b"", b"")),
    "line ends in the data": (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", (b"\r\n\r\n", b"")),
    "incomplete": (b"5\r\nhel", None),
    "no last line": (b"0\r\n", None),
    "not a number": (b"x\r\n", catalogue.BAD_BODY),
    "negative": (b"-1\r\n", catalogue.BAD_BODY),
    "empty size": (b"\r\n", catalogue.BAD_BODY),
    "prefix": (b"0x5\r\nhello\r\n", catalogue.BAD_BODY),
    "line feed alone": (b"5\nhello\r\n0\r\n\r\n" + b"x" * 1100, catalogue.BAD_BODY),
    "chunk longer than it said": (b"3\r\nabcd\r\n", catalogue.BAD_BODY),
    "nine digits": (b"000000005\r\n", catalogue.BAD_BODY),
    "over the limit": (b"3e9\r\n", catalogue.BODY_TOO_LARGE),
    "over the limit together": (b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\n", catalogue.BODY_TOO_LARGE),
    "endless size line": (b"1;" + b"x" * 2000, catalogue.BAD_BODY),
    "long extension that ends": (b"1;" + b"x" * 2000 + b"\r\na\r\n0\r\n\r\n", catalogue.BAD_BODY),
    "long trailer that ends": (b"0\r\nX: " + b"x" * 2000 + b"\r\n\r\n", catalogue.BAD_BODY),
}


@pytest.mark.parametrize(("wire", "expected"), CHUNKED.values(), ids=CHUNKED.keys())
def test_chunked_bodies_byte_by_byte(wire: bytes, expected: object) -> None:
    assert decode_bytewise(wire) == expected


@pytest.mark.parametrize(("wire", "expected"), CHUNKED.values(), ids=CHUNKED.keys())
def test_chunked_bodies_whole(wire: bytes, expected: object) -> None:
    assert decode(wire) == expected


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.lists(st.integers(0, 60), max_size=5))
def test_encoded_chunks_are_decoded_however_they_are_cut(parts: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(map(encode_chunk, parts)) + b"0\r\n\r\nrest"
    assert decode(wire, [cut for cut in cuts if cut <= len(wire)]) == (b"".join(parts), b"rest")


@given(
    st.lists(st.sampled_from([b"1", b"0", b"\r", b"\n", b"\r\n", b"a", b";", b" "]), max_size=16).map(b"".join),
    st.lists(st.integers(0, 16), max_size=4),
)
@settings(max_examples=300)
def test_any_chunked_body_ends_the_same_however_it_is_cut(wire: bytes, cuts: list[int]) -> None:
    whole = decode(wire, limit=10)
    assert decode(wire, [cut for cut in cuts if cut <= len(wire)], limit=10) == whole


def test_response_head_is_written() -> None:
    assert (
        encode_response_head(404, [("A", "b"), ("C", "\xfc")]) == b"HTTP/1.1 404 Not Found\r\nA: b\r\nC: \xfc\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("A", "b\r\nSet-Cookie: x"), ("A", "b\n"), ("A", "b\r"), ("A\r\nB", "c"), ("A", "\0"), ("A", "\u20ac")],
)
def test_headers_that_break_out_of_their_line_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"control character|encode"):
        encode_response_head(200, [(name, value)])

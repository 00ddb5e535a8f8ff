"""HTTP/1.1 between workers: heads, ends of bodies, and the line about the client."""

from __future__ import annotations

import pytest

from transports.errors import RemoteProtocolError
from transports.protocol.relaying import (
    AnswerHead,
    BodyScanner,
    ChunkedPieces,
    answer_body,
    encode_peer_line,
    encode_request_head,
    parse_answer_head,
    parse_peer_line,
    waiting_session,
)

CHUNKED = b"5\r\nhello\r\n3;name=x\r\nyou\r\n0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("peer", ["192.0.2.7", "2001:db8::1", "fe80::1%eth0", ""])
@pytest.mark.parametrize("is_secure", [False, True])
def test_peer_line_reads_as_it_was_written(peer: str, is_secure: bool) -> None:
    line = encode_peer_line(peer, is_secure)
    assert line.endswith(b"\r\n")
    assert parse_peer_line(line[:-2]) == (peer, is_secure)


@pytest.mark.parametrize(
    "line", [b"", b"PEER ftp 1.2.3.4", b"PEER http", b"PEER http a b", b"peer http -", b"GET / HTTP/1.1"]
)
def test_peer_line_that_is_none(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_peer_line(line)


@pytest.mark.parametrize(
    ("request_line", "session_id"),
    [
        ("GET /socket.io/?EIO=4&transport=polling&sid=6tyvbdtAb_-9", "6tyvbdtAb_-9"),
        ("GET /socket.io/?sid=6tyvbdtAb&EIO=4", "6tyvbdtAb"),
        ("GET /socket.io/?EIO=4&transport=polling", None),
        ("GET /socket.io/?EIO=4&noosid=6tyvbdtAb", None),
        ("GET /socket.io/?sid=6ty%20vb", None),
        ("POST /socket.io/?EIO=4&sid=6tyvbdtAb", None),
    ],
)
def test_session_that_a_request_waits_for(request_line: str, session_id: str | None) -> None:
    method, target = request_line.split(" ")
    head = encode_peer_line("192.0.2.7", True) + encode_request_head(
        method, target, (1, 1), {"sid": "GET /?sid=other "}
    )
    assert waiting_session(head) == session_id


def test_request_head_that_would_break_out_is_refused() -> None:
    assert encode_request_head("GET", "/", (1, 0), {"a": "b"}) == b"GET / HTTP/1.0\r\na: b\r\n\r\n"
    for name, value in (("a", "b\r\nc: d"), ("a\n", "b"), ("a", "\0")):
        with pytest.raises(ValueError, match="control character"):
            encode_request_head("GET", "/", (1, 1), {name: value})


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_scanner_finds_the_end_of_a_chunked_body(step: int) -> None:
    body = CHUNKED + b"GET / HTTP/1.1"
    scanner, pieces = BodyScanner(0, chunked=True), ChunkedPieces()
    taken, found = 0, b""
    for start in range(0, len(body), step):
        part = body[start : start + step]
        count = scanner.feed(part)
        found += b"".join(pieces.feed(part[:count]))
        taken += count
        if count < len(part):
            break
    assert scanner.is_complete
    assert taken == len(CHUNKED)
    assert found == b"helloyou"
    assert scanner.feed(b"more") == 0


@pytest.mark.parametrize("body", [b"x\r\n", b"5\nhello", b"-1\r\n", b"1" * 5000])
def test_scanner_refuses_what_has_no_end(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"chunk|trailer"):
        BodyScanner(0, chunked=True).feed(body)


def test_scanner_counts_a_length() -> None:
    scanner = BodyScanner(5)
    assert (scanner.feed(b"abc"), scanner.is_complete) == (3, False)
    assert (scanner.feed(b"defg"), scanner.is_complete) == (2, True)
    assert BodyScanner(0).is_complete
    open_end = BodyScanner(-1)
    assert (open_end.feed(b"abc"), open_end.is_complete, open_end.ends_with_connection) == (3, False, True)


def test_answer_goes_on_with_what_the_client_is_to_do_next() -> None:
    head = parse_answer_head(b"HTTP/1.1 200 OK\r\nX: a\r\nConnection: close\r\nX: b")
    assert head == AnswerHead(200, "OK", [("x", "a"), ("connection", "close"), ("x", "b")])
    assert (head.closes, head.header("x")) == (True, "a, b")
    start = b"HTTP/1.1 200 OK\r\nx: a\r\nx: b\r\n"
    assert head.encode(keeps_alive=True, is_old=False) == start + b"\r\n"
    assert head.encode(keeps_alive=True, is_old=True) == start + b"Connection: keep-alive\r\n\r\n"
    assert head.encode(keeps_alive=False, is_old=False) == start + b"Connection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "status", "headers", "chunked", "length"),
    [
        ("GET", 200, [("content-length", "5")], False, 5),
        ("HEAD", 200, [("content-length", "5")], False, 0),
        ("GET", 204, [], False, 0),
        ("GET", 200, [("transfer-encoding", "chunked")], True, 0),
        ("GET", 200, [], False, -1),
    ],
)
def test_how_an_answer_ends(
    method: str, status: int, headers: list[tuple[str, str]], chunked: bool, length: int
) -> None:
    body = answer_body(method, AnswerHead(status, "", headers))
    wanted = BodyScanner(length, chunked=chunked)
    assert (body.is_complete, body.ends_with_connection) == (wanted.is_complete, wanted.ends_with_connection)
    assert body.feed(b"5\r\nhello\r\n") == wanted.feed(b"5\r\nhello\r\n")


@pytest.mark.parametrize("head", [b"", b"HTTP/2 200 OK", b"HTTP/1.1 999", b"HTTP/1.1 200 OK\r\nno colon"])
def test_answer_that_is_none(head: bytes) -> None:
    with pytest.raises(ValueError, match="malformed"):
        parse_answer_head(head)

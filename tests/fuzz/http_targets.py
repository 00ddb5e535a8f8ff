"""HTTP/1.x heads and chunked bodies."""

from __future__ import annotations

import re

import h11

from transports import catalogue
from transports.errors import RemoteProtocolError
from transports.protocol.http1 import (
    BodyFraming,
    ChunkedDecoder,
    RequestHead,
    body_framing,
    encode_chunk,
    parse_head,
)
from transports.refusals import Refusal

from .choices import Choices, pieces

LIMITS = (1 << 20, 0, 1, 10, 1000)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


def check_head(data: bytes) -> None:
    try:
        head = parse_head(data)
    except RemoteProtocolError:
        return
    assert head.method.isalpha() and head.method.isupper()
    assert head.target.isascii() and head.target.isprintable() and " " not in head.target
    for name, value in head.headers.items():
        assert name == name.lower() and name.isascii() and name.isprintable() and not set(name) & set(' :"(),/')
        assert _VALUE.fullmatch(value) and value[:1] not in (" ", "\t"), value
    assert isinstance(head.keeps_alive, bool)
    again = parse_head(as_bytes(head))
    # A repeated header whose last value is empty ends in a separator.
    stripped = {name: value.rstrip(" \t") for name, value in head.headers.items()}
    assert again == head._replace(headers=stripped), again
    try:
        framing = body_framing(head)
    except RemoteProtocolError:
        return
    if head.method != "CONNECT":  # which h11 takes for the end of HTTP on the connection
        check_with_h11(data, head, framing)
    length = head.headers.get("content-length")
    assert framing.chunked == ("transfer-encoding" in head.headers)
    assert not (framing.chunked and length is not None), "two ways to read the body"
    assert framing.length == (0 if length is None else int(length)) >= 0


def check_with_h11(data: bytes, head: RequestHead, framing: BodyFraming) -> None:
    """What we take, another strict parser takes too and finds the same end: no request hides in another's body."""
    if framing.length > 1000:
        return
    body = b"0\r\n\r\n" if framing.chunked else b"x" * framing.length
    other = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    other.receive_data(data + b"\r\n\r\n" + body + b"NEXT")
    request = other.next_event()
    assert isinstance(request, h11.Request), request
    assert (request.method.decode(), request.target.decode()) == (head.method, head.target)
    read = b""
    while not isinstance(event := other.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data), event
        read += event.data
    assert read == (b"" if framing.chunked else body)
    assert other.trailing_data[0] == b"NEXT", other.trailing_data


def as_bytes(head: RequestHead) -> bytes:
    lines = [f"{head.method} {head.target} HTTP/{head.http_version[0]}.{head.http_version[1]}"]
    lines += [f"{name}: {value}" for name, value in head.headers.items()]
    return "\r\n".join(lines).encode("latin-1")


def decode(parts: list[bytes], limit: int) -> tuple[bytes, bytes] | Refusal | None:
    """The body and what follows it, the refusal, or None while it is not complete."""
    decoder = ChunkedDecoder(limit)
    for index, part in enumerate(parts):
        try:
            done = decoder.feed(part)
        except RemoteProtocolError as error:
            return error.refusal
        if done is not None:
            return done[0], done[1] + b"".join(parts[index + 1 :])
    return None


def check_chunked(data: bytes) -> None:
    choices = Choices(data)
    limit = choices.pick(LIMITS)
    cuts = choices.cuts()
    stream = choices.rest()
    whole = decode([stream], limit)
    cut = decode(pieces(stream, cuts), limit)
    assert cut == whole, (cut, whole)
    if isinstance(whole, tuple):
        body, after = whole
        assert len(body) <= limit
        assert stream.endswith(after)
        encoded = (encode_chunk(body) if body else b"") + b"0\r\n\r\n" + after
        assert decode([encoded], limit) == whole
        if body:
            assert decode([encoded], len(body) - 1) is catalogue.BODY_TOO_LARGE
